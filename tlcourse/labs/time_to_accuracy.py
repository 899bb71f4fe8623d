"""Checks of reading a learning curve: accuracy at a time, time to an accuracy, and what to do with "never"."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tlcourse.labs.answers import as_number, compare
from tlcourse.labs.lab import Wrong

CURVE = (0.20, 0.35, 0.30, 0.50, 0.45)  # it falls twice, so the first crossing is not the last


def is_never(value: Any) -> bool:
    """None, NaN or infinity."""
    return value is None or (isinstance(value, float | np.floating) and not math.isfinite(value))


def _said(function: Callable[..., Any], *given: Any) -> Any:
    """What a function returns; an error is an answer too."""
    try:
        return function(*given)
    except Exception as error:
        return error


def _function(answer: Any) -> Callable[..., Any]:
    if not callable(answer):
        raise Wrong(f"expected a function, found {type(answer).__name__}")
    return answer


def accuracy_at(function: Any) -> str:
    """A function (curve, epoch), epochs counted from 1; None or NaN for an epoch that the curve does not have."""
    function = _function(function)
    values = [_said(function, list(CURVE), epoch) for epoch in range(1, 6)]
    for epoch, value in enumerate(values, start=1):
        if isinstance(value, Exception):
            if epoch == 5 and isinstance(value, IndexError):
                raise Wrong("at the last epoch it fails: epochs are counted from 1, places in a list from 0")
            raise Wrong(f"at epoch {epoch} of 5 it fails with {type(value).__name__}")
        if is_never(value):
            raise Wrong(f"at epoch {epoch} of 5 it says that there is none, and there is one")
    numbers = [as_number(value, "the accuracy") for value in values]
    if numbers[:4] == list(CURVE[1:]):
        raise Wrong("it gives the accuracy one epoch too late: epochs are counted from 1, places in a list from 0")
    if numbers == list(np.maximum.accumulate(CURVE)):
        raise Wrong("it gives the best so far; the question is how good the network is at that epoch")
    if numbers != list(CURVE):
        wrong = next(epoch for epoch in range(5) if numbers[epoch] != CURVE[epoch])
        raise Wrong(f"at epoch {wrong + 1} of {list(CURVE)} it gives {numbers[wrong]:g}")
    before, after = _said(function, list(CURVE), 0), _said(function, list(CURVE), 6)
    if isinstance(after, Exception):
        raise Wrong(f"after the end of the curve it fails with {type(after).__name__}; there it should return None")
    if not is_never(after):
        raise Wrong("after the end it makes up an accuracy; nobody knows what would have come, so return None")
    if isinstance(before, Exception) or not is_never(before):
        raise Wrong("epoch 0 does not exist; -1 in a list means the last, so look at what it returns there")
    return "the right epoch, and None where nothing was measured"


def first_epoch(function: Any) -> str:
    """A function (curve, mark), epochs counted from 1: the first at or above the mark; None or NaN if there is none."""
    function = _function(function)
    never = _said(function, list(CURVE), 0.9)
    crossings = [_said(function, list(CURVE), mark) for mark in (0.32, 0.42, 0.10)]
    for value in crossings:
        if isinstance(value, Exception):
            raise Wrong(f"for a mark that is reached it fails with {type(value).__name__}: {value}")
        if is_never(value):
            raise Wrong("it says never where the curve does reach the mark")
    found = [as_number(value, "the epoch") for value in crossings]
    slips = {
        (1.0, 3.0, 0.0): "it counts from 0; the first epoch is epoch 1",
        (5.0, 5.0, 5.0): "it gives the last epoch at or above the mark; the question is the first",
        (4.0, 4.0, 4.0): "it gives the epoch of the highest accuracy, whatever the mark is",
        (4.0, 4.0, 1.0): "it waits until the curve stays above; the question is the first time that it is there",
    }
    if found != [2, 4, 1]:
        wanted = "for the curve 0.20, 0.35, 0.30, 0.50, 0.45 and the mark 0.32"
        raise Wrong(slips.get((found[0], found[1], found[2]), f"{wanted} it gives {found[0]:g}"))
    _says_never(never)
    exactly = _said(function, list(CURVE), 0.35)
    if exactly != 2:
        raise Wrong("a curve that comes to exactly the mark has reached it: `>=` and not `>`")
    return "the first epoch at or above the mark; never is never"


def _says_never(value: Any) -> None:
    if is_never(value):
        return
    if isinstance(value, Exception):
        raise Wrong(f"for a mark that is never reached it fails with {type(value).__name__}; it should return None")
    number = as_number(value, "what it returns for never")
    if number == len(CURVE):
        raise Wrong("never reached, and it says the last epoch; that would be reached just in time")
    if number == len(CURVE) + 1:
        raise Wrong("never reached, and it says one after the last epoch; nobody knows that it would be so soon")
    if number == 1:
        raise Wrong("never reached, and it says epoch 1: `argmax` of only False is 0. Ask `any` first")
    raise Wrong(f"never reached, and it says {number:g}; a number goes into means unseen, None does not")


def median_epoch(function: Any) -> str:
    """A function (epochs, some None or NaN) that gives their median; None or NaN if the median seed never arrived."""
    function = _function(function)

    def ask(*epochs: Any) -> Any:
        value = _said(function, list(epochs))
        if isinstance(value, Exception):
            shown = ", ".join("never" if is_never(epoch) else str(epoch) for epoch in epochs)
            raise Wrong(f"for {shown} it fails with {type(value).__name__}: {value}")
        return value

    full = ask(12, 3, 4, 8, 11)
    if is_never(full):
        raise Wrong("it says never although every seed arrived")
    value = as_number(full, "the median")
    if abs(value - 7.6) < 1e-9:
        raise Wrong("that is the mean; a mean needs every number, a median only their order")
    if value == 4:
        raise Wrong("that is the middle of the list as it stands; put it in order first")
    compare(value, 8, "the median of 12, 3, 4, 8, 11", {})
    for never in (None, float("nan")):
        _mostly_reached(ask(8, never, 10, never, 9))
        _mostly_never(ask(never, never, 8, 10, never))
    if not is_never(ask(None, None, None)):
        raise Wrong("no seed arrived, and it gives a number")
    return "a median that knows of those who never arrived"


def _mostly_reached(value: Any) -> None:
    if is_never(value):
        raise Wrong("two of five never arrived, and it gives up; the third in order did arrive, and that is the median")
    number = as_number(value, "the median of 8, 9, 10, never, never")
    if number == 9:
        raise Wrong("it leaves out the seeds that never arrived; that flatters the way that fails most often")
    if number == 8:
        raise Wrong("it counts never as very early; never comes after every number")
    compare(number, 10, "the median of 8, 9, 10, never, never", {})


def _mostly_never(value: Any) -> None:
    if not is_never(value):
        raise Wrong(
            f"of 8, 10, never, never, never it says {as_number(value, 'the median'):g}; the median seed never arrived, "
            "and only that is known"
        )


def long_table(answer: Any, *, runs: pd.DataFrame) -> str:
    """A table with the columns start, seed, epoch (from 1), val out of `runs`, whose column val holds lists."""
    if not isinstance(answer, pd.DataFrame):
        raise Wrong(f"expected a DataFrame, found {type(answer).__name__}")
    names: Sequence[str] = ("start", "seed", "epoch", "val")
    if "seed" not in answer.columns and len(answer) < len(runs) * len(runs["val"].iloc[0]):
        raise Wrong("the seeds are averaged away; without them there is no spread to show")
    absent = [name for name in names if name not in answer.columns]
    if absent:
        raise Wrong(f"the column '{absent[0]}' is missing")
    if any(isinstance(value, list) for value in answer["val"]):
        raise Wrong("`val` still holds lists; one row for each epoch (`explode`)")
    rows = [
        (run["start"], run["seed"], epoch, value)
        for run in runs.to_dict("records")
        for epoch, value in enumerate(run["val"], start=1)
    ]
    right = pd.DataFrame(rows, columns=list(names)).sort_values(list(names[:3]), ignore_index=True)
    if len(answer) != len(right):
        raise Wrong(f"{len(answer)} rows; expected one for each epoch of each run")
    epochs = answer["epoch"]
    if epochs.min() == 0:
        raise Wrong("epochs are counted from 1")
    if epochs.max() > right["epoch"].max():
        raise Wrong("the epochs go on counting from one run to the next; each run begins at 1")
    if answer.duplicated(list(names[:3])).any():
        raise Wrong("an epoch appears twice in one run; does every run count on its own?")
    found = answer[list(names)].sort_values(list(names[:3]), ignore_index=True)
    values = found["val"].astype(float)
    if values.max() > 1:
        raise Wrong("give fractions, not per cent")
    if not np.allclose(values, right["val"]):
        trained = [value for run in runs.sort_values(["start", "seed"])["train_acc"] for value in run]
        if np.allclose(values, trained):
            raise Wrong("these are the training accuracies; take the column `val`")
        raise Wrong("the accuracies do not belong to their epochs: compare the first row with the list it came from")
    return f"{len(right)} rows, one for each epoch of each run"
