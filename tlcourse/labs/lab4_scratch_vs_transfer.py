"""The exercises of lab 4: a fair comparison of training from scratch with transfer, and its statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tlcourse.labs import fair_comparison as fair
from tlcourse.labs import time_to_accuracy as curves
from tlcourse.labs.answers import about, as_number, choice, compare, expect, expect_keys, text, wrong_any, wrong_if
from tlcourse.labs.lab import Exercise, Wrong
from tlcourse.measurements.comparison import margin_of_error

DIRECTIONS = ("shrinks", "grows", "not shown")
VERDICTS = ("ahead", "behind", "not shown")


def paired(mean: Any, low: Any, high: Any, verdict: Any, *, runs: pd.DataFrame) -> str:
    """Mean and 95 % t interval of pre-trained minus scratch, seed by seed, in points, and a verdict."""
    wide = 100 * runs.pivot(index="seed", columns="start", values="test")
    difference = wide["pre-trained"] - wide["scratch"]
    right, margin = difference.mean(), margin_of_error(difference, 0.95)
    last = runs.assign(last=[100 * curve[-1] for curve in runs["val"]]).groupby("start")["last"].mean()
    mistakes = {
        "the mean is a fraction; the question asks for percentage points, so multiply by 100": right / 100,
        "the sign is wrong: pre-trained minus scratch": -right,
        "that is the difference on validation images; take `test`": last["pre-trained"] - last["scratch"],
        "that is one method alone; subtract the other": wide["pre-trained"].mean(),
    }
    compare(mean, right, "the mean difference", mistakes, tolerance=0.006)
    below, above = as_number(low, "the lower end"), as_number(high, "the upper end")
    wrong_if(below > above, "the lower end is above the upper end")
    wrong_if(abs((below + above) / 2 - right) > 0.02, "the interval is not centred at the mean: mean ± one margin")
    count, deviation, error = len(difference), difference.std(), difference.sem()
    apart = [stats.ttest_ind(wide["pre-trained"], wide["scratch"], equal_var=equal) for equal in (False, True)]
    welch, student = ((end.high - end.low) / 2 for end in (test.confidence_interval(0.95) for test in apart))
    pair = "subtract seed by seed first, then look at the differences"
    mistakes = {
        "the interval is that of a single run; for the mean divide by the root of the seeds": margin * count**0.5,
        "that is the standard deviation of the differences; the interval is for their mean": deviation,
        "that is the standard error; Student's t stretches it, for so few seeds by more than twice": error,
        "1.96 belongs to very many seeds; for so few take Student's t": 1.96 * error,
        "0.95 leaves 5 % on one side; of both sides together take 0.975": stats.t.ppf(0.95, count - 1) * error,
        "the degrees of freedom are one fewer than the seeds": stats.t.ppf(0.975, count) * error,
        "the deviation of a sample divides by n - 1 (`ddof=1`)": margin * (1 - 1 / count) ** 0.5,
        f"that takes the two methods as unrelated; {pair}": welch,
        f"that takes the two methods as unrelated samples of equal variance; {pair}": student,
    }
    compare((above - below) / 2, margin, "the margin (half the interval)", mistakes, tolerance=0.006)
    wrong_if(verdict not in VERDICTS, f"the verdict should be one of {', '.join(VERDICTS)}, found {verdict!r}")
    shown = "not shown" if abs(right) <= margin else "ahead" if right > 0 else "behind"
    ends = f"from {below:.1f} to {above:.1f}"
    wrong_if(verdict != shown, f"'{verdict}' does not follow: does the interval {ends} contain zero?")
    return f"{right:+.1f} points, from {right - margin:.1f} to {right + margin:.1f}: {shown}"


def gain_table(runs: pd.DataFrame, data: str, method: str = "everything", column: str = "test") -> pd.DataFrame:
    """The gain over scratch in points: a row for each number of images of a class, a column for each seed."""
    wide = runs[runs["data"] == data].pivot(index=["per_class", "seed"], columns="method", values=column)
    return (wide[method] - wide["scratch"]).mul(100).unstack("seed").sort_index()


def gains(answer: Any, *, runs: pd.DataFrame, names: Sequence[str]) -> str:
    """For each data set the mean gain by number of images of a class: {"safari": {10: ..., 20: ...}, ...}."""
    if isinstance(answer, pd.DataFrame):
        answer = {name: answer[name].dropna() for name in answer.columns}
    expect_keys(answer, names, "expected a dictionary from the data set to its gains")
    for name in names:
        with about(name):
            expect(answer[name], Mapping | pd.Series, "expected a gain for each number of images")
            _right_gains({as_number(key, "a number of images"): gain for key, gain in answer[name].items()}, runs, name)
    means = {name: gain_table(runs, name).mean(axis=1) for name in names}
    return "; ".join(f"{name} {', '.join(f'{n}: {gain:+.1f}' for n, gain in means[name].items())}" for name in names)


def _right_gains(found: Mapping[Any, Any], runs: pd.DataFrame, name: str) -> None:
    kinds = (("everything", "test"), ("head", "test"), ("everything", "val"))
    tables: list[Any] = [gain_table(runs, name, *kind).mean(axis=1) for kind in kinds]
    right, head, val = tables
    means: Any = 100 * runs.groupby(["per_class", "method"])["test"].mean().unstack()
    missing, extra = sorted(set(right.index).difference(found)), sorted(set(found).difference(right.index))
    of_all = len(missing) == len(extra) == len(right) and len({a / b for a, b in zip(extra, missing, strict=True)}) == 1
    wrong_if(of_all, "these are images of all classes; count those of one, `per_class`")
    wrong_any(missing, "{:g} images of each class are missing")
    wrong_any(extra, "no runs have {:g} training images of each class")
    for count, gain in right.items():
        mistakes = {
            "these are fractions; the question asks for percentage points": gain / 100,
            "the sign is wrong: pre-trained minus scratch": -gain,
            "that is the method 'head'; take 'everything', which differs in the weights only": head[count],
            "that is on validation images, which stopped the training; take `test`": val[count],
            "that is averaged over the data sets": (means["everything"] - means["scratch"])[count],
        }
        compare(found[count], gain, f"the gain with {count} images", mistakes, tolerance=0.006)


def growth(answer: Any, *, runs: pd.DataFrame, names: Sequence[str]) -> str:
    """For each data set whether the gain shrinks from the fewest to the most images, by the seeds' t interval."""
    expect_keys(answer, names, "expected a dictionary from the data set to a word")
    changes = []
    for name in names:
        word, table = answer[name], gain_table(runs, name)
        change = table.iloc[-1] - table.iloc[0]
        margin = margin_of_error(change, 0.95)
        by_mean = "grows" if change.mean() > 0 else "shrinks"
        right = "not shown" if abs(change.mean()) <= margin else by_mean
        with about(name):
            wrong_if(word not in DIRECTIONS, f"expected one of {', '.join(DIRECTIONS)}, found {word!r}")
            if word != right:
                wrong_if(word == "not shown", "the change is larger than its margin; every seed points the same way")
                wrong_if(word == by_mean, "the means say so; does the interval of the changes by seed exclude zero?")
                raise Wrong(f"as it stands in textbooks perhaps, but here not even the means say '{word}'")
        changes.append(f"{name} {change.mean():+.1f} ± {margin:.1f} points")
    return f"the change of the gain, with the margin of its mean: {', '.join(changes)}"


equal_compute = choice(
    "B",
    A="Every run went on until validation had stopped improving, and scratch took the most compute of all.",
    B="On safari transfer is ahead either way. On the X-rays both arrive equally high, scratch with more compute.",
    C="From scratch took more than fine-tuning; with less it would have had to stop before it was at its best.",
    D="It is the cheapest by far, and on both data sets its accuracy is below that of fine-tuning.",
)


def optimism(answer: Any, *, runs: pd.DataFrame) -> str:
    """For each start the mean over seeds of the best validation accuracy minus the last one, in points."""
    expect_keys(answer, fair.STARTS, "expected a dictionary from the start to a number")
    points = []
    for start in fair.STARTS:
        rows = runs[runs["start"] == start]
        val, train = (100 * np.array(rows[column].tolist()) for column in ("val", "train_acc"))
        best, last, mean = val.max(1), val[:, -1], val.mean(0)
        right, on_test = (best - last).mean(), (best - 100 * rows["test"].to_numpy()).mean()
        mistakes = {
            "that is a fraction; the question asks for points": right / 100,
            "the sign is wrong; the best is never below the last": -right,
            "that is the maximum of the mean curve; first take each run's maximum, then the mean": max(mean) - mean[-1],
            "that is the best of all seeds; take each seed's own": val.max() - last.mean(),
            "that subtracts the test accuracy; those are other images, easier or harder": on_test,
            "that subtracts the first epoch; take the last": (best - val[:, 0]).mean(),
            "these are training accuracies; take `val`": (train.max(1) - train[:, -1]).mean(),
            "that is the best itself; subtract the last": best.mean(),
        }
        compare(answer[start], right, f"{start}: the difference", mistakes, tolerance=0.006)
        points.append(f"{start} {right:.1f} points")
    return ", ".join(points)


splits = choice(
    "C",
    A="The images differ as well as the choice; how much of the difference each of them makes is not known.",
    B="If test images choose the epoch, no images are left that played no part in the choice.",
    C="The sets show other styles. Only images as hard as those that chose can show the optimism.",
    D="No drawing of the validation set is in training. Easier images need not be images that were seen.",
)

conclusions = text(
    (r"same|equal|fair|budget|images seen", "what was equal between the two methods"),
    (r"rate|tun|tried|tries|chosen", "how the learning rates were chosen"),
    (r"seed|spread|interval|±|paired|deviation", "how far the seeds agree"),
    (r"epoch|fast|soon|early|earlier|never|time", "how soon an accuracy is reached, and who never reached it"),
    (r"more (data|images)|number of images|set size|data set grows|grow|shrink|amount", "what more data does"),
    (r"not|only|unless|whether|cannot|limit|other (data|network)", "what the comparison does not show"),
    least=60,
)

EXERCISES = (
    Exercise("equal", "1 What must be equal", fair.settings),
    Exercise("budget", "2 Count the budget", fair.epochs_for, function=True),
    Exercise("networks", "3a Two beginnings", fair.beginnings, function=True),
    Exercise("rates", "3b A learning rate for each method", fair.rates),
    Exercise("live", "3c Run both", fair.live),
    Exercise("at", "4a Accuracy at a time", curves.accuracy_at, function=True),
    Exercise("first", "4b Time to accuracy", curves.first_epoch, function=True),
    Exercise("median", "4c Those who never arrive", curves.median_epoch, function=True),
    Exercise("long", "5a Curves of five seeds", curves.long_table),
    Exercise("paired", "5b Seed by seed", paired),
    Exercise("gains", "6a The gain by number of images", gains),
    Exercise("growth", "6b Does it shrink?", growth),
    Exercise("why", "6c Equal compute, or trained to the end?", equal_compute),
    Exercise("optimism", "7a The best epoch", optimism),
    Exercise("splits", "7b Validation and test", splits),
    Exercise("text", "8 Conclude", conclusions),
)
