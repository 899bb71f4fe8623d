"""Lab 4's checks of reading a learning curve: accuracy at a time, time to an accuracy, and a mark never reached."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tlcourse.labs.answers import as_number, compare, expect, expect_scores, is_close, wrong_if
from tlcourse.labs.lab import Wrong

CURVE = (0.20, 0.35, 0.30, 0.50, 0.45)  # it falls twice, so the first crossing is not the last


def is_never(value: Any) -> bool:
    """True for None, NaN and infinity."""
    return value is None or (isinstance(value, float | np.floating) and not math.isfinite(value))


def _result(function: Callable[..., Any], *given: Any) -> Any:
    """What a function returns, or the error that it raises."""
    try:
        return function(*given)
    except Exception as error:
        return error


def accuracy_at(function: Any) -> str:
    """A function (curve, epoch), epochs counted from 1; None or NaN for an epoch that the curve does not have."""
    before, *values, after = (_result(function, list(CURVE), epoch) for epoch in range(7))
    late = "epochs are counted from 1, places in a list from 0"
    for epoch, value in enumerate(values, start=1):
        wrong_if(epoch == 5 and isinstance(value, IndexError), f"at the last epoch it fails: {late}")
        wrong_if(isinstance(value, Exception), f"at epoch {epoch} of 5 it fails with {type(value).__name__}")
        wrong_if(is_never(value), f"at epoch {epoch} of 5 it says that there is no accuracy, and there is one")
    found = [as_number(value, "the accuracy") for value in values]
    wrong_if(found[:4] == list(CURVE[1:]), f"it gives the accuracy one epoch too late: {late}")
    wrong_if(found == list(np.maximum.accumulate(CURVE)), "it gives the best so far, not the accuracy at that epoch")
    for epoch, (value, right) in enumerate(zip(found, CURVE, strict=True), start=1):
        wrong_if(value != right, f"at epoch {epoch} of {list(CURVE)} it gives {value:g}")
    failed = f"after the end of the curve it fails with {type(after).__name__}; there it should return None"
    wrong_if(isinstance(after, Exception), failed)
    wrong_if(not is_never(after), "after the end it makes up an accuracy; nobody knows what comes, so return None")
    wrong_if(not is_never(before), "epoch 0 does not exist; what does it return there? In a list, -1 means the last")
    return "the right epoch, and None where nothing was measured"


def first_epoch(function: Any) -> str:
    """A function (curve, mark), epochs counted from 1: the first at or above the mark; None or NaN if there is none."""
    crossings = [_result(function, list(CURVE), mark) for mark in (0.32, 0.42, 0.10)]
    for value in crossings:
        wrong_if(isinstance(value, Exception), f"for a mark it reaches it fails with {type(value).__name__}: {value}")
        wrong_if(is_never(value), "it says never where the curve does reach the mark")
    found = tuple(as_number(value, "the epoch") for value in crossings)
    mistakes: dict[Any, str] = {
        (1, 3, 0): "it counts from 0; the first epoch is epoch 1",
        (5, 5, 5): "it gives the last epoch at or above the mark; the question is the first",
        (4, 4, 4): "it gives the epoch of the highest accuracy, whatever the mark is",
        (4, 4, 1): "it waits until the curve stays above; the question is the first time that it is there",
    }
    other = f"for the curve 0.20, 0.35, 0.30, 0.50, 0.45 and the mark 0.32 it gives {found[0]:g}"
    wrong_if(found != (2, 4, 1), mistakes.get(found, other))
    never = _result(function, list(CURVE), 0.9)
    failed = f"for a mark that is never reached it fails with {type(never).__name__}; it should return None"
    wrong_if(isinstance(never, Exception), failed)
    if not is_never(never):
        number, says = as_number(never, "what it returns for never"), "never reached, and it says"
        wrong_if(number == len(CURVE), f"{says} the last epoch; that would be reached just in time")
        wrong_if(number == len(CURVE) + 1, f"{says} one after the last epoch; nobody knows that it would be so soon")
        wrong_if(number == 1, f"{says} epoch 1: `argmax` of only False is 0. Ask `any` first")
        raise Wrong(f"{says} {number:g}; a number goes into means unseen, None does not")
    wrong_if(function(list(CURVE), 0.35) != 2, "a curve that is exactly at the mark has reached it: `>=`, not `>`")
    return "the first epoch at or above the mark; never is never"


def median_epoch(function: Any) -> str:
    """A function (epochs, some None or NaN) that returns their median; None or NaN if the median seed never arrived."""

    def ask(*epochs: Any) -> Any:
        value = _result(function, list(epochs))
        shown = ", ".join("never" if is_never(epoch) else str(epoch) for epoch in epochs)
        wrong_if(isinstance(value, Exception), f"for {shown} it fails with {type(value).__name__}: {value}")
        return value

    full = ask(12, 3, 4, 8, 11)
    wrong_if(is_never(full), "it says never although every seed arrived")
    mistakes = {
        "that is the mean; a mean needs every number, a median only their order": 7.6,
        "that is the middle of the list as it stands; put it in order first": 4,
    }
    compare(full, 8, "the median of 12, 3, 4, 8, 11", mistakes)
    mistakes = {
        "it leaves out the seeds that never arrived; that flatters the method that fails most often": 9,
        "it counts never as very early; never comes after every number": 8,
    }
    gives_up = "two of five never arrived, and it gives up; the third in order did arrive, and that is the median"
    for never in (None, math.nan):
        value = ask(8, never, 10, never, 9)
        wrong_if(is_never(value), gives_up)
        compare(value, 10, "the median of 8, 9, 10, never, never", mistakes)
        value = ask(never, never, 8, 10, never)
        if not is_never(value):
            text = f"of 8, 10, never, never, never it says {as_number(value, 'the median'):g};"
            raise Wrong(f"{text} the median seed never arrived, and only that is known")
    wrong_if(not is_never(ask(None, None, None)), "no seed arrived, and it gives a number")
    return "a median that knows of those who never arrived"


def long_table(answer: Any, *, runs: pd.DataFrame) -> str:
    """A table with the columns start, seed, epoch (from 1), val out of `runs`, whose column val holds lists."""
    expect(answer, pd.DataFrame, "expected a DataFrame")
    right = runs.explode("val", ignore_index=True)
    keys = ["start", "seed", "epoch"]
    right["epoch"] = right.groupby(keys[:2]).cumcount() + 1
    averaged = "seed" not in answer.columns and len(answer) < len(right)
    wrong_if(averaged, "the seeds are averaged away; without them there is no spread to show")
    lists = "val" in answer.columns and any(isinstance(value, list) for value in answer["val"])
    wrong_if(lists, "`val` still holds lists; one row for each epoch (`explode`)")
    expect_scores(answer, *keys, "val")
    wrong_if(len(answer) != len(right), f"{len(answer)} rows; expected one for each epoch of each run")
    epochs = answer["epoch"]
    wrong_if(epochs.min() == 0, "epochs are counted from 1")
    wrong_if(epochs.max() > right["epoch"].max(), "the epochs count on from run to run; each run begins at 1")
    wrong_if(answer.duplicated(keys).any(), "an epoch appears twice in one run; does every run count on its own?")
    found, right = (table.sort_values(keys)["val"].tolist() for table in (answer, right))
    if not is_close(found, right):
        trained = runs.sort_values(keys[:2])["train_acc"].explode().tolist()
        wrong_if(is_close(found, trained), "these are the training accuracies; take the column `val`")
        raise Wrong("the accuracies do not belong to their epochs: compare the first row with the list it came from")
    return f"{len(right)} rows, one for each epoch of each run"
