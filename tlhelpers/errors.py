"""The errors that this package raises; a message says what was expected, what was found, where, and what to do."""

import difflib
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any


def closest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the closest known one, and all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return (f"Did you mean '{near[0]}'? " if near else "") + f"Known: {', '.join(known)}."


def at_least(smallest: int, **values: Any) -> None:
    """Raise a TrainingError that names the first value that is not a whole number of this size; None passes."""
    for name, value in values.items():
        if value is not None and not (isinstance(value, Integral) and int(value) >= smallest):
            raise TrainingError(f"{name}={value!r} must be at least {smallest}, and a whole number")


def distinct(names: Iterable[str], others: Iterable[str], show: Callable[[str], str] = str) -> list[str]:
    """Names for a message; one that is not among `others` shows its codes and spaces, since names can look alike."""
    known = set(others)
    return [show(name) if name in known or ascii(name.strip())[1:-1] == name else ascii(name) for name in names]


def quoted(names: Iterable[str], others: Iterable[str]) -> str:
    """A list of names in quotes, as `distinct` shows them."""
    return f"[{', '.join(distinct(names, others, repr))}]"


def describe(value: Any) -> str:
    """Data type and shape of an array or tensor; the type of anything else."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{value.dtype} {tuple(shape)}".removeprefix("torch.")


class TLError(Exception):
    """Base of all errors of this package: catch it to catch them all."""


class DataError(TLError, ValueError):
    """Images, labels or a folder are missing, damaged or do not fit together."""


class OutputError(TLError, OSError):
    """A file or folder for results cannot be written."""


class DownloadError(TLError, OSError):
    """A file could not be fetched, or what arrived is not what was asked for."""


class WeightsError(TLError, ValueError):
    """Weights are missing, damaged, or do not fit the model."""


class ModelError(TLError, ValueError):
    """A model, block or layer is not known, or not of the kind that was asked for."""


class TrainingError(TLError, RuntimeError):
    """Training cannot start or cannot go on."""


class CheckpointError(TLError, RuntimeError):
    """A checkpoint is damaged, or belongs to another run."""
