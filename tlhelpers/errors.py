"""The errors that this package raises.

Each message is written for the reader of a notebook: what was expected, what was found, where, what to do.
"""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the closest known one, and all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return (f"Did you mean '{near[0]}'? " if near else "") + f"Known: {', '.join(known)}."


class TLError(Exception):
    """Base of all errors of this package: catch it to catch them all."""


class DataError(TLError, ValueError):
    """Images, labels or a folder are missing, damaged or do not fit together."""


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


class ReportError(TLError, RuntimeError):
    """A report cannot be written as asked, or the test set would be looked at again without a reason."""
