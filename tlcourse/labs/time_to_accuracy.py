"""Lab 4's checks of time: seconds and accuracy of a run, the time to an accuracy, a mark that is never reached."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tlcourse.labs.answers import as_number, compare, draws, expect, wrong_any, wrong_if
from tlcourse.labs.fair_comparison import STARTS
from tlcourse.labs.lab import Wrong


def cost(seconds: Any, accuracy: Any, *, live: pd.DataFrame) -> str:
    """For each start the mean time of a run in seconds, and the mean accuracy after the last epoch."""
    for name, answer in (("seconds", seconds), ("accuracy", accuracy)):
        expect(answer, Mapping | pd.Series, f"{name} should be a dictionary or Series by start")
        wrong_any((start for start in STARTS if start not in answer), f"'{{}}' is missing in {name}")
    names = ("seconds", "val_accuracy", "train_accuracy")
    times, curves, train = (live.pivot(index="epoch", columns=["start", "seed"], values=name) for name in names)
    for start, other in (STARTS, STARTS[::-1]):
        runs, last = times[start].sum(), curves[start].iloc[-1]
        mistakes = {
            "that is an epoch; a run takes the sum of its epochs": times[start].mean().mean(),
            "that is the sum over the seeds; take the mean": runs.sum(),
            "that is one seed; take the mean over both": runs.iloc[0],
            "that is the time of the other method": times[other].sum().mean(),
        }
        compare(seconds[start], runs.mean(), f"{start}: the time of a run", mistakes, tolerance=0.006)
        mistakes = {
            "that is in per cent; give a fraction": 100 * last.mean(),
            "that is the best epoch; the last one was not chosen by its score": curves[start].max().mean(),
            "that is the mean over all epochs; take the last": curves[start].mean().mean(),
            "that is on training images; take `val_accuracy`": train[start].iloc[-1].mean(),
        }
        compare(accuracy[start], last.mean(), f"{start}: the accuracy", mistakes, tolerance=0.0006)
    return "; ".join(f"{start} {times[start].sum().mean():.1f} s, {accuracy[start]:.1%}" for start in STARTS)


def is_never(value: Any) -> bool:
    """True for None, NaN and infinity."""
    return value is None or (isinstance(value, float | np.floating) and not math.isfinite(value))


def _result(function: Callable[..., Any], *given: Any) -> Any:
    """What a function returns, or the error that it raises."""
    try:
        return function(*given)
    except Exception as error:
        return error


def first_epoch(function: Any) -> str:
    """A function (curve, mark), epochs counted from 1: the first at or above the mark; None or NaN if there is none."""
    up, late = draws().uniform(0, 0.04), int(draws().integers(4))
    # It falls twice, so that the first epoch at a mark is not the last one; `late` low epochs come before.
    curve = [round(up + rise, 3) for rise in (*np.linspace(0, 0.1, late), 0.20, 0.35, 0.30, 0.50, 0.45)]
    marks, right, last = [round(up + rise, 3) for rise in (0.32, 0.42, 0.15)], [late + n for n in (2, 4, 1)], late + 5
    values = [_result(function, list(curve), mark) for mark in marks]
    for value in values:
        wrong_if(isinstance(value, Exception), f"for a mark it reaches it fails with {type(value).__name__}: {value}")
    inside = is_never(values[0]) and _result(function, [0.9, 0.8], 0.5) == 1
    wrong_if(inside, "it gives up after the first epoch: is `return None` inside the loop? It belongs after it")
    wrong_if(any(map(is_never, values)), "it says never, or returns nothing, where the curve does reach the mark")
    found = [as_number(value, "the epoch") for value in values]
    mistakes = {
        "it gives the accuracy; the question is the number of the epoch": [curve[epoch - 1] for epoch in right],
        "it counts from 0; the first epoch is epoch 1": [epoch - 1 for epoch in right],
        "it gives the last epoch at or above the mark; the question is the first": [last] * 3,
        "it gives the epoch of the highest accuracy, whatever the mark is": [last - 1] * 3,
        "it counts the epochs at or above the mark; the question is the first": [3, 2, 5],
        "it waits until the curve stays above; the question is the first time": [last - 1, last - 1, late + 1],
    }
    wrong_any((text for text, those in mistakes.items() if found == those != right), "{}")
    wrong_if(found != right, f"for the curve {curve} and the mark {marks[0]:g} it gives {found[0]:g}")
    never = _result(function, list(curve), 0.9)
    wrong_if(isinstance(never, Exception), f"for a mark that is never reached it fails with {type(never).__name__}")
    if not is_never(never):
        number, says = as_number(never, "what it returns for never"), "never reached, and it says"
        wrong_if(number == last, f"{says} the last epoch; that would be reached just in time")
        wrong_if(number == last + 1, f"{says} one after the last epoch; nobody knows that it would be so soon")
        wrong_if(number == 1, f"{says} epoch 1: `argmax` of only False is 0. Ask `any` first")
        raise Wrong(f"{says} {number:g}; a number goes into means unseen, None does not")
    exact = function(list(curve), curve[late + 1])
    wrong_if(exact != late + 2, "a curve that is exactly at the mark has reached it: `>=`, not `>`")
    return "the first epoch at or above the mark; never is never"


def median_epoch(function: Any) -> str:
    """A function (epochs, some None or NaN) that returns their median; None or NaN if the median seed never arrived."""

    def ask(*epochs: Any) -> tuple[Any, str]:
        value, shown = _result(function, list(epochs)), ", ".join("never" if is_never(e) else str(e) for e in epochs)
        wrong_if(isinstance(value, Exception), f"for {shown} it fails with {type(value).__name__}: {value}")
        return value, f"the median of {shown}"

    more = int(draws().integers(9))
    values = [epoch + more for epoch in (12, 3, 4, 8, 11)]
    full, what = ask(*values)
    wrong_if(is_never(full), "it says never although every seed arrived")
    mistakes = {
        "that is the mean; a mean needs every number, a median only their order": 7.6 + more,
        "that is the middle of the list as it stands; put it in order first": 4 + more,
    }
    compare(full, 8 + more, what, mistakes)
    early, middle, late = (epoch + more for epoch in (8, 9, 10))
    mistakes = {
        "it leaves out the seeds that never arrived; that flatters the method that fails most often": middle,
        "it counts never as very early; never comes after every number": early,
    }
    for never in (None, math.nan):
        value, what = ask(early, never, late, never, middle)
        wrong_if(is_never(value), "two of five never arrived, and it gives up; the third in order did arrive")
        compare(value, late, what, mistakes)
        value, what = ask(never, never, early, late, never)
        found = "" if is_never(value) else f"{as_number(value, 'the median'):g}"
        wrong_if(found, f"as {what} it says {found}; the median seed never arrived, and only that is known")
    wrong_if(not is_never(ask(None, None, None)[0]), "no seed arrived, and it gives a number")
    return "a median that knows of those who never arrived"
