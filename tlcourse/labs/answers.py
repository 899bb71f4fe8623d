"""Kinds of answers that several labs ask for: a choice, a number, a text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tlcourse.labs.lab import Wrong


def choice(right: str, why: Mapping[str, str]) -> Callable[[Any], str]:
    """A check of one letter.

    Args:
        right: the right letter.
        why: for every letter what is to be said to whoever chose it.
    """

    def check(answer: Any) -> str:
        letters = ", ".join(why)
        if not isinstance(answer, str):
            raise Wrong(f"expected one of the letters {letters} in quotation marks, found {type(answer).__name__}")
        letter = answer.strip().upper()
        if letter not in why:
            raise Wrong(f"expected one of the letters {letters}, found {answer!r}")
        if letter != right:
            raise Wrong(f"{letter} is not it. {why[letter]}")
        return f"{letter}. {why[letter]}"

    return check


def as_number(answer: Any, what: str) -> float:
    """A number out of a Python, NumPy or one-element torch number.

    Raises:
        Wrong: if it is none, or not finite.
    """
    if isinstance(answer, bool) or not hasattr(answer, "__float__"):
        raise Wrong(f"{what} should be a number, found {type(answer).__name__}")
    try:
        value = float(answer)
    except (TypeError, ValueError) as error:
        raise Wrong(f"{what} should be one number, found {type(answer).__name__} with several") from error
    if not math.isfinite(value):
        raise Wrong(f"{what} is {value}; look for a division by zero or a loss that diverged")
    return value


def compare(answer: Any, expected: float, what: str, slips: Mapping[float, str], tolerance: float = 1e-6) -> float:
    """A number that must be `expected`.

    Args:
        answer: the learner's.
        expected: the right value.
        what: what the number is, for messages.
        slips: values that a known slip leads to, and what to say then.
        tolerance: how far off a value may be, absolutely.

    Raises:
        Wrong: with the slip's own message where one fits.
    """
    value = as_number(answer, what)
    if abs(value - expected) <= tolerance:
        return value
    for slip, message in slips.items():
        if abs(value - slip) <= tolerance:
            raise Wrong(message)
    raise Wrong(f"{what} is {'too large' if value > expected else 'too small'}: found {value:g}")


def text(points: Sequence[tuple[str, str]], least: int = 40) -> Callable[[Any], str]:
    """A check of a free text: that it is one, and that it touches every point. Whether it is right, the rubric says.

    Args:
        points: pairs of a regular expression, and what the text says nothing about if it does not match.
        least: words.
    """

    def check(answer: Any) -> str:
        if not isinstance(answer, str):
            raise Wrong(f"expected a text in quotation marks, found {type(answer).__name__}")
        words = re.findall(r"\w+", answer)
        if len(words) < least:
            raise Wrong(f"{len(words)} words; write at least {least}, as if you explained it to a fellow student")
        if len({word.lower() for word in words}) < least / 2:
            raise Wrong("the same few words again and again; write sentences")
        for pattern, point in points:
            if not re.search(pattern, answer, flags=re.IGNORECASE):
                raise Wrong(f"it says nothing about {point}")
        return f"{len(words)} words that touch every point. Now grade it yourself with the rubric below"

    return check
