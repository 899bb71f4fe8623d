"""The exercises of lab 4: a fair comparison of training from scratch with transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tlcourse.labs import fair_comparison as fair
from tlcourse.labs import time_to_accuracy as curves
from tlcourse.labs.answers import as_number, choice, compare, text
from tlcourse.labs.lab import Exercise, Wrong
from tlcourse.measurements.comparison import margin_of_error

STARTS = fair.STARTS
DIRECTIONS = ("shrinks", "grows", "not shown")
VERDICTS = ("ahead", "behind", "not shown")


def paired(mean: Any, low: Any, high: Any, verdict: Any, *, runs: pd.DataFrame) -> str:
    """Mean and 95 % t interval of pre-trained minus scratch, seed by seed, in points; and what they say."""
    wide = 100 * runs.pivot(index="seed", columns="start", values="test")
    difference = wide["pre-trained"] - wide["scratch"]
    right = float(difference.mean())
    last = runs.assign(last=[100 * curve[-1] for curve in runs["val"]]).groupby("start")["last"].mean()
    slips = {
        right / 100: "the mean is a fraction; the question asks for percentage points, so multiply by 100",
        -right: "the sign is wrong: pre-trained minus scratch",
        float(last["pre-trained"] - last["scratch"]): "that is the difference on validation images; take `test`",
        float(wide["pre-trained"].mean()): "that is one way alone; subtract the other",
    }
    compare(mean, right, "the mean difference", slips, tolerance=0.006)
    below, above = as_number(low, "the lower end"), as_number(high, "the upper end")
    if below > above:
        raise Wrong("the lower end is above the upper end")
    if abs((below + above) / 2 - right) > 0.02:
        raise Wrong("the interval does not lie around the mean: mean minus and plus the same margin")
    _margin((above - below) / 2, difference, wide)
    if verdict not in VERDICTS:
        raise Wrong(f"the verdict should be one of {', '.join(VERDICTS)}, found {verdict!r}")
    margin = margin_of_error(difference, 0.95)
    said = "not shown" if abs(right) <= margin else "ahead" if right > 0 else "behind"
    if verdict != said:
        raise Wrong(f"'{verdict}' does not follow: does the interval from {below:.1f} to {above:.1f} hold zero?")
    return f"{right:+.1f} points, from {right - margin:.1f} to {right + margin:.1f}: {said}"


def _margin(answer: float, difference: pd.Series[float], wide: pd.DataFrame) -> None:
    count, deviation = len(difference), float(difference.std())
    quantile = float(stats.t.ppf(0.975, count - 1))
    error = deviation / count**0.5
    apart = stats.ttest_ind(wide["pre-trained"], wide["scratch"], equal_var=False).confidence_interval(0.95)
    pooled = stats.ttest_ind(wide["pre-trained"], wide["scratch"]).confidence_interval(0.95)
    unpaired = "that takes the two ways as unrelated; subtract seed by seed first, then look at the differences"
    slips = {
        quantile * deviation: "the interval is that of a single run; for the mean divide by the root of the seeds",
        deviation: "that is the standard deviation of the differences; the interval is for their mean",
        error: "that is the standard error; Student's t stretches it, for so few seeds by more than twice",
        1.96 * error: "1.96 belongs to very many seeds; for so few take Student's t",
        float(stats.t.ppf(0.95, count - 1)) * error: "0.95 leaves 5 % on one side; of both sides together take 0.975",
        float(stats.t.ppf(0.975, count)) * error: "the degrees of freedom are one fewer than the seeds",
        quantile * float(difference.std(ddof=0)) / count**0.5: "the deviation of a sample divides by n - 1 (`ddof=1`)",
        float(apart.high - apart.low) / 2: unpaired,
        float(pooled.high - pooled.low) / 2: unpaired,
    }
    compare(answer, quantile * error, "the margin (half the interval)", slips, tolerance=0.006)


def gain_table(runs: pd.DataFrame, data: str, method: str = "everything") -> pd.DataFrame:
    """The gain over scratch in points: a row for each number of training images, a column for each seed."""
    rows = runs[(runs["data"] == data) & (runs["network"] == "resnet18") & runs["method"].isin([method, "scratch"])]
    wide = rows.pivot(index=["train_images", "seed"], columns="method", values="balanced_accuracy")
    gain: pd.Series[float] = 100 * (wide[method] - wide["scratch"])
    return gain.unstack("seed").sort_index()


def gains(answer: Any, *, runs: pd.DataFrame, names: Sequence[str]) -> str:
    """For each data set the mean gain by number of training images: {"safari": {80: ..., 320: ...}, ...}."""
    if isinstance(answer, pd.DataFrame):
        answer = {name: answer[name].dropna() for name in answer.columns}
    if not isinstance(answer, Mapping):
        raise Wrong(f"expected a dictionary from the data set to its gains, found {type(answer).__name__}")
    missing = [name for name in names if name not in answer]
    if missing:
        raise Wrong(f"'{missing[0]}' is missing")
    for name in names:
        found = answer[name]
        if not isinstance(found, Mapping | pd.Series):
            raise Wrong(f"{name}: expected a gain for each number of images, found {type(found).__name__}")
        _gains_of(name, {as_number(key, "a number of images"): value for key, value in found.items()}, runs)
    return "; ".join(f"{name} {_row(gain_table(runs, name).mean(axis=1))}" for name in names)


def _row(values: pd.Series[float]) -> str:
    return ", ".join(f"{count}: {value:+.1f}" for count, value in values.items())


def _gains_of(name: str, found: Mapping[float, Any], runs: pd.DataFrame) -> None:
    right = gain_table(runs, name).mean(axis=1)
    of_data = runs[runs["data"] == name]
    if set(found) != set(right.index):
        if set(found) == set(of_data["per_class"].dropna()):
            raise Wrong(f"{name}: these are images of one class; count all of them, `train_images`")
        lost = sorted(set(right.index) - set(found))
        if lost:
            raise Wrong(f"{name}: {lost[0]} images are missing; where all were taken, `per_class` is empty (NaN)")
        raise Wrong(f"{name}: no runs have {sorted(set(found) - set(right.index))[0]:g} training images")
    frozen = gain_table(runs, name, "frozen").mean(axis=1)
    means = of_data.groupby(["train_images", "method"])["balanced_accuracy"].mean()
    for count in right.index:
        slips = {
            right[count] / 100: f"{name}: these are fractions; the question asks for percentage points",
            -right[count]: f"{name}: the sign is wrong: pre-trained minus scratch",
            frozen[count]: f"{name}: that is the way 'frozen'; take 'everything', which differs in the weights only",
            100 * (means[count, "everything"] - means[count, "scratch"]): (
                f"{name}: that is averaged over all networks; take resnet18"
            ),
        }
        compare(found[count], right[count], f"{name}: the gain with {count} images", slips, tolerance=0.006)


def growth(answer: Any, *, runs: pd.DataFrame, names: Sequence[str]) -> str:
    """For each data set whether the gain shrinks from the fewest to the most images, by the seeds' t interval."""
    if not isinstance(answer, Mapping):
        raise Wrong(f"expected a dictionary from the data set to a word, found {type(answer).__name__}")
    said = []
    for name in names:
        if name not in answer:
            raise Wrong(f"'{name}' is missing")
        word, table = answer[name], gain_table(runs, name)
        if word not in DIRECTIONS:
            raise Wrong(f"{name}: expected one of {', '.join(DIRECTIONS)}, found {word!r}")
        change = table.iloc[-1] - table.iloc[0]
        margin = margin_of_error(change, 0.95)
        by_mean = "grows" if change.mean() > 0 else "shrinks"
        right = "not shown" if abs(change.mean()) <= margin else by_mean
        if word != right:
            if word == "not shown":
                raise Wrong(f"{name}: the change is larger than its margin; every seed speaks for the same direction")
            if word == by_mean:
                raise Wrong(f"{name}: the two means say '{word}'; do the changes, seed by seed, leave zero out?")
            raise Wrong(f"{name}: as it stands in textbooks perhaps, but here not even the means say '{word}'")
        said.append(f"{name} {change.mean():+.1f} ± {margin:.1f} points")
    return f"the change of the gain, with the margin of its mean: {', '.join(said)}"


why_growth = choice(
    "B",
    {
        "A": "A gain that is not shown to shrink is not shown to stay either; and another budget is another question.",
        "B": "From the largest sets not even every image was seen once. The table compares ways that stop early.",
        "C": "It answers a question exactly: which way is better when so many images are seen, and no more.",
        "D": "A budget that is equal is fair. It is only not the budget at which scratch is at its best.",
    },
)


def optimism(answer: Any, *, runs: pd.DataFrame) -> str:
    """For each way the mean over seeds of the best validation accuracy minus the last one, in points."""
    if not isinstance(answer, Mapping):
        raise Wrong(f"expected a dictionary from the way to a number, found {type(answer).__name__}")
    said = []
    for start in STARTS:
        if start not in answer:
            raise Wrong(f"'{start}' is missing")
        rows = runs[runs["start"] == start]
        values = 100 * np.array(rows["val"].tolist())
        right = float((values.max(1) - values[:, -1]).mean())
        trained = 100 * np.array(rows["train_acc"].tolist())
        slips = {
            right / 100: f"{start}: that is a fraction; the question asks for points",
            -right: f"{start}: the sign is wrong; the best is never below the last",
            float(values.mean(0).max() - values.mean(0)[-1]): (
                f"{start}: that is the maximum of the mean curve; each run chooses its own best epoch, so first the "
                "maximum, then the mean"
            ),
            float(values.max() - values[:, -1].mean()): f"{start}: that is the best of all seeds; take each seed's own",
            float((values.max(1) - 100 * rows["test"].to_numpy()).mean()): (
                f"{start}: that subtracts the test accuracy; those are other images, easier or harder"
            ),
            float((values.max(1) - values[:, 0]).mean()): f"{start}: that subtracts the first epoch; take the last",
            float((trained.max(1) - trained[:, -1]).mean()): f"{start}: these are training accuracies; take `val`",
            float(values.max(1).mean()): f"{start}: that is the best itself; subtract the last",
        }
        compare(answer[start], right, f"{start}: the difference", slips, tolerance=0.006)
        said.append(f"{start} {right:.1f} points")
    return ", ".join(said)


parts = choice(
    "C",
    {
        "A": "The best of many noisy numbers is above a usual one, whichever other images are looked at besides.",
        "B": "Whoever chooses the epoch on test images has no images left that chose nothing.",
        "C": "The parts show other drawings. Optimism can be told only by images as hard as those that chose.",
        "D": "No drawing of the test set is in training. Easier images need not be images that were seen.",
    },
)

conclusions = text(
    [
        (r"same|equal|fair|budget|images seen", "what was equal between the two ways"),
        (r"rate|tun|tried|tries|chosen", "how the learning rates were chosen"),
        (r"seed|spread|interval|±|paired|deviation", "how far the seeds agree"),
        (r"epoch|fast|soon|early|earlier|never|time", "how soon an accuracy is reached, and who never reached it"),
        (r"more (data|images)|number of images|set size|data set grows|grow|shrink|amount", "what more data does"),
        (r"not|only|unless|whether|cannot|limit|other (data|network)", "what the comparison does not show"),
    ],
    least=60,
)

EXERCISES = (
    Exercise("equal", "1 What must be equal", fair.settings),
    Exercise("budget", "2 Count the budget", fair.epochs_for),
    Exercise("networks", "3a Two beginnings", fair.beginnings),
    Exercise("rates", "3b A rate for each way", fair.rates),
    Exercise("live", "3c Run both", fair.live),
    Exercise("at", "4a Accuracy at a time", curves.accuracy_at),
    Exercise("first", "4b Time to accuracy", curves.first_epoch),
    Exercise("median", "4c Those who never arrive", curves.median_epoch),
    Exercise("long", "5a Curves of five seeds", curves.long_table),
    Exercise("paired", "5b Seed by seed", paired),
    Exercise("gains", "6a The gain by number of images", gains),
    Exercise("growth", "6b Does it shrink?", growth),
    Exercise("why", "6c What the budget does", why_growth),
    Exercise("optimism", "7a The best epoch", optimism),
    Exercise("parts", "7b Validation and test", parts),
    Exercise("text", "8 Conclude", conclusions),
)
