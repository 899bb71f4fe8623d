"""Tools for the checks: say what is wrong with an answer, compare it with the values of known mistakes."""

import contextlib
import contextvars
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tlcourse.labs.lab import Wrong

TEXTS: dict[str, Any] = json.loads((Path(__file__).parent / "texts.json").read_text(encoding="utf8"))
VARIANT = contextvars.ContextVar("variant", default=0)  # 0 in a lab; marking repeats each check with others
NOTHING = "your function returned nothing; is `return` missing?"


def draws() -> np.random.Generator:
    """A generator for a check's inputs: always the same in a lab, other ones when the check is repeated for marks."""
    return np.random.default_rng(VARIANT.get())


def torch_draws() -> torch.Generator:
    """The same for tensors: a generator on the CPU."""
    return torch.Generator().manual_seed(VARIANT.get())


def wrong_if(condition: Any, message: str) -> None:
    """Raise `Wrong` with a message if a condition is true."""
    if condition:
        raise Wrong(message)


def wrong_any(items: Iterable[Any], message: str) -> None:
    """Raise `Wrong` if there are any items; `{}` in the message stands for the first of them."""
    for item in items:
        raise Wrong(message.format(item))


@contextlib.contextmanager
def about(what: Any) -> Iterator[None]:
    """Prefix the message of a `Wrong` that is raised inside with `what` and a colon."""
    try:
        yield
    except Wrong as wrong:
        raise Wrong(f"{what}: {wrong}") from None


def expect(answer: Any, kind: Any, text: str) -> None:
    """Raise `Wrong` unless `isinstance(answer, kind)`; the message is `text` and the type that was found."""
    wrong_if(answer is None, NOTHING)
    wrong_if(not isinstance(answer, kind), f"{text}, found {type(answer).__name__}")


def expect_len(answer: Any, length: int, text: str) -> None:
    """Raise `Wrong` unless the answer is a list, tuple or array of `length`; `text` says what was expected."""
    expect(answer, list | tuple | np.ndarray, text)
    wrong_if(len(answer) != length, f"{text}, found {len(answer)}")


def expect_keys(answer: Any, keys: Iterable[Any], text: str = "it should return a dictionary") -> None:
    """Raise `Wrong` unless the answer is a dictionary that has all `keys`; there may be more."""
    expect(answer, Mapping, text)
    wrong_any((key for key in keys if key not in answer), "'{}' is missing")


def expect_names(answer: Any, example: str) -> None:
    """Raise `Wrong` unless the answer is a collection of strings."""
    expect(answer, list | tuple | set, f"expected a list of names such as '{example}'")
    other = {type(name).__name__ for name in answer} - {"str"}
    wrong_if(bool(other), f"expected a list of names such as '{example}', found a list of {', '.join(sorted(other))}")


def expect_scores(table: Any, *columns: str) -> None:
    """Raise `Wrong` unless the answer is a data frame with certain columns, the last one for accuracies from 0 to 1."""
    expect(table, pd.DataFrame, "expected a DataFrame")
    wrong_any((name for name in columns if name not in table.columns), "the column '{}' is missing")
    scores = table[columns[-1]].infer_objects()
    numeric = pd.api.types.is_numeric_dtype(scores) and scores.notna().all()
    wrong_if(not numeric, f"the column '{columns[-1]}' should hold one number in each row")
    wrong_if((scores > 1).any(), "some accuracies are above 1: give fractions, not per cent")


def expect_runs(table: Any, column: str, groups: Iterable[Any], seeds: int, what: str) -> None:
    """Raise `Wrong` unless the answer is a data frame (`column`, seed, accuracy), every group with the same seeds."""
    expect_scores(table, column, "seed", "accuracy")
    found = {group: sorted(table.loc[table[column] == group, "seed"]) for group in groups}
    wrong_any((group for group, own in found.items() if not own), f"no row has {{!r}} in the column '{column}'")
    wrong_if(table.duplicated([column, "seed"]).any(), f"a seed appears twice for one {what}")
    few, different = min(len(own) for own in found.values()) < seeds, len(set(map(tuple, found.values()))) > 1
    wrong_if(few, f"one {what} has fewer than {seeds} seeds, so its spread is not known")
    wrong_if(different, f"one {what} has different seeds from another; only equal seeds make a fair comparison")


def as_number(answer: Any, what: str) -> float:
    """The answer, a Python, NumPy or one-element torch number, as a float; raises `Wrong` if it is not finite."""
    kind = type(answer).__name__
    wrong_if(answer is None, NOTHING)
    wrong_if(isinstance(answer, bool) or not hasattr(answer, "__float__"), f"{what} should be a number, found {kind}")
    try:
        value = float(answer)
    except (TypeError, ValueError) as error:
        raise Wrong(f"{what} should be one number, found {kind} with several") from error
    wrong_if(not math.isfinite(value), f"{what} is {value}; look for a division by zero or a loss that diverged")
    return value


def is_close(found: Any, expected: Any, tolerance: float = 1e-6) -> bool:
    """True if two numbers or arrays have the same shape and nowhere differ by more than the tolerance."""
    a, b = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=tolerance)


def reject(found: Any, mistakes: Mapping[str, Any], tolerance: float = 1e-6) -> None:
    """Raise `Wrong` if a known mistake leads to the number or array found; `mistakes` maps messages to such values."""
    wrong_any((message for message, value in mistakes.items() if is_close(found, value, tolerance)), "{}")


def match(found: Any, right: Any, mistakes: Mapping[str, Any], otherwise: str, tolerance: float = 1e-6) -> None:
    """Raise `Wrong` unless a number or array is right: with a known mistake's message, as `reject`, or `otherwise`."""
    if not is_close(found, right, tolerance):
        reject(found, mistakes, tolerance)
        raise Wrong(otherwise)


def compare(answer: Any, right: float, what: str, mistakes: Mapping[str, float], tolerance: float = 1e-6) -> float:
    """The answer as a number; raises `Wrong`, as `match` does, unless it is the right one. `what` is its name."""
    value = as_number(answer, what)
    match(value, right, mistakes, f"{what} is too {'large' if value > right else 'small'}: found {value:g}", tolerance)
    return value


def choice(lab: str, exercise: str) -> Callable[[Any], str]:
    """A check of a multiple choice: texts.json has the right letter, and for every letter why it is right or wrong."""
    why = {key: text for key, text in TEXTS[lab][exercise].items() if key != "right"}
    right, letters = TEXTS[lab][exercise]["right"], f"expected one of the letters {', '.join(why)}"

    def check(answer: Any) -> str:
        expect(answer, str, f"{letters} in quotation marks")
        letter = answer.strip().upper()
        wrong_if(letter not in why, f"{letters}, found {answer!r}")
        wrong_if(letter != right, f"{letter} is not it. {why.get(letter)}")
        return f"{letter}. {why[letter]}"

    return check


LITTLE_WORDS = r"\b(an?|and|are|as|at|be|but|by|for|from|has|have|if|in|is|it|not|of|on|or|so|than|that|the|their|them|"
LITTLE_WORDS += r"then|there|these|they|this|to|was|we|were|what|when|which|while|with)\b"


def text(lab: str, exercise: str) -> Callable[[Any], str]:
    """A check that a text has some words, in sentences, and matches every point (pattern, topic): see texts.json.

    It only keeps empty texts from being handed in. Whether a text is good, a person decides.
    """
    least, points = TEXTS[lab][exercise]["least"], TEXTS[lab][exercise]["points"]

    def check(answer: Any) -> str:
        expect(answer, str, "expected a text in triple quotation marks")
        words = re.findall(r"[^\W\d_]+", answer.lower())
        count, longest = len(words), max(len(re.findall(r"\w+", each)) for each in re.split(r"[.!?]", answer))
        wrong_if(count < least, f"{count} words; write at least {least}, as if you explained it to a fellow student")
        wrong_if(len(set(words)) < least / 2, "the same few words again and again; write sentences")
        listed = len(re.findall(LITTLE_WORDS, answer.lower())) < 0.2 * count or longest > 60
        wrong_if(listed, "that is a list of words; write sentences that say how the things hang together")
        missing = (point for pattern, point in points if not re.search(pattern, answer, flags=re.IGNORECASE))
        wrong_any(missing, "it says nothing about {}")
        return f"{count} words, on every point. Your teacher marks it; compare it with the rubric yourself"

    return check
