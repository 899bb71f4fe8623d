"""The exercises of lab 4: a fair comparison of training from scratch with transfer, and its statistics."""

from typing import Any

import pandas as pd
from scipy import stats

from tlcourse.labs import fair_comparison as fair
from tlcourse.labs import time_to_accuracy as clock
from tlcourse.labs.answers import as_number, choice, compare, text, wrong_if
from tlcourse.labs.lab import Exercise
from tlcourse.measurements.comparison import margin_of_error

VERDICTS = ("ahead", "behind", "not shown")


def paired(mean: Any, low: Any, high: Any, verdict: Any, *, runs: pd.DataFrame) -> str:
    """Mean and 95 % t interval of pre-trained minus scratch, seed by seed, in points, and a verdict."""
    wrong_if(runs["test"].max() > 1, "the given `runs` no longer holds fractions. Load it again, and work on a copy")
    wide = 100 * runs.pivot(index="seed", columns="start", values="test")
    trained, scratch = wide["pre-trained"], wide["scratch"]
    difference = trained - scratch
    right, margin = difference.mean(), margin_of_error(difference, 0.95)
    last = runs.assign(last=[100 * curve[-1] for curve in runs["val"]]).groupby("start")["last"].mean()
    mistakes = {
        "the mean is a fraction; the question asks for percentage points": right / 100,
        "the sign is wrong: pre-trained minus scratch": -right,
        "that is the difference on validation images; take `test`": last["pre-trained"] - last["scratch"],
        "that is one method alone; subtract the other": trained.mean(),
        "that is the median of the differences; the question asks for the mean": difference.median(),
        "that is relative to scratch; points are a difference": 100 * (trained.mean() / scratch.mean() - 1),
    }
    compare(mean, right, "the mean difference", mistakes, tolerance=0.006)
    wrong_if(low != low, "the ends are nan; `margin_of_error` takes the confidence as a fraction, 0.95")
    below, above = as_number(low, "the lower end"), as_number(high, "the upper end")
    wrong_if(below > above, "the lower end is above the upper end")
    wrong_if(abs((below + above) / 2 - right) > 0.02, "the interval is not centred at the mean: mean ± one margin")
    count, error, pair = len(difference), difference.sem(), "subtract seed by seed first, then look at the differences"
    apart = stats.ttest_ind(trained, scratch, equal_var=False).confidence_interval(0.95)
    together = stats.ttest_ind(trained, scratch).confidence_interval(0.95)
    mistakes = {
        "the margin is a fraction; the question asks for percentage points": margin / 100,
        "the interval is that of a single run; for the mean divide by the root of the seeds": margin * count**0.5,
        "that is the standard deviation of the differences; the interval is for their mean": difference.std(),
        "that is the standard error; Student's t stretches it, for so few seeds by more than twice": error,
        "1.96 belongs to very many seeds; for so few take Student's t": 1.96 * error,
        "0.95 leaves 5 % on one side; of both sides together take 0.975": stats.t.ppf(0.95, count - 1) * error,
        "the degrees of freedom are one fewer than the seeds": stats.t.ppf(0.975, count) * error,
        "the deviation of a sample divides by n - 1 (`ddof=1`)": margin * (1 - 1 / count) ** 0.5,
        f"that takes the two methods as unrelated; {pair}": (apart.high - apart.low) / 2,
        f"that takes the two methods as unrelated samples; {pair}": (together.high - together.low) / 2,
    }
    compare((above - below) / 2, margin, "the margin (half the interval)", mistakes, tolerance=0.006)
    wrong_if(verdict not in VERDICTS, f"the verdict should be one of {', '.join(VERDICTS)}, found {verdict!r}")
    shown = "not shown" if abs(right) <= margin else "ahead" if right > 0 else "behind"
    wrong_if(verdict != shown, f"'{verdict}' does not follow: is zero inside, from {below:.1f} to {above:.1f}?")
    return f"{right:+.1f} points, from {right - margin:.1f} to {right + margin:.1f}: {shown}"


EXERCISES = (
    Exercise("equal", "1 What must be equal", fair.settings),
    Exercise("networks", "2 Two starting points", fair.beginnings, function=True),
    Exercise("rates", "3 A learning rate for each method", fair.rates, vary=("tries",)),
    Exercise("live", "4 Run both", fair.live),
    Exercise("cost", "5 Time and accuracy of your runs", clock.cost, vary=("live",)),
    Exercise("first", "6 Time to an accuracy", clock.first_epoch, function=True),
    Exercise("paired", "7 Accuracy, seed by seed", paired, vary=("runs",)),
    Exercise("text", "8 Conclude", text("lab4", "text"), text=True),
    Exercise("median", "9 Seeds that never arrive", clock.median_epoch, function=True, extension=True),
    Exercise("why", "10 Equal compute, or trained to the end?", choice("lab4", "why"), extension=True),
)
