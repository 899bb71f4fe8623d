"""Lab 4's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import copy
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
from lab_answers import copied, outcome, prove
from scipy import stats

import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs.fair_comparison import STARTS, TRANSFER, UNFAIR
from tlcourse.measurements.comparison import margin_of_error

NAME = "lab4_scratch_vs_transfer"
proved = partial(prove, NAME)


def test_equal():
    but = partial(dict, TRANSFER, weights="none", learning_rates=[3e-4, 1e-3, 3e-3])
    wrongs = {
        "both start from the same weights": but(weights="pre-trained"),
        "'imagenet' is not from scratch": but(weights="imagenet"),
        "384 images seen from scratch, 192 with transfer; scratch is favoured": but(epochs=4),
        "96 images seen from scratch, 192 with transfer; transfer is favoured": but(epochs=1),
        "from a set of another size": but(epochs=1, images=192),
        "one method tries 3, the other 1": but(learning_rates=[1e-3]),
        "the same learning rate twice": but(learning_rates=[1e-3, 1e-3, 3e-3]),
        "expected a list of learning rates": but(learning_rates=1e-3),
        "nothing to keep": but(learning_rates=TRANSFER["learning_rates"]),
        "far below 1": but(learning_rates=[1, 2, 3]),
        "is compared too": but(tuning_seed=0),
        "'momentum' is something that only this method has": but(momentum=0.9),
        "'architecture' is missing": {"weights": "none"},
    }
    changes = {"chosen_by": "test accuracy", "tuning_seed": 7, "seeds": [2, 3], "architecture": "resnet34", "size": 96}
    changes |= {"batch_size": 8, "augment": False, "schedule": None, "optimizer": "SGD"}
    for key, value in changes.items():
        wrongs[f"{key}: {value!r} here, {TRANSFER[key]!r} there; {UNFAIR[key]}"] = but(**{key: value})
    proved("equal", but(), wrongs, transfer=TRANSFER)


def test_an_alias_of_the_settings_and_changes_to_the_given_ones_are_named():
    right = {**copy.deepcopy(TRANSFER), "weights": "none"}
    assert "a second name of `transfer`" in outcome(NAME, "equal", right, transfer=right)[1]
    right["learning_rates"].append(3e-3)
    given = {**TRANSFER, "learning_rates": right["learning_rates"]}
    assert "hold the same list of learning rates" in outcome(NAME, "equal", right, transfer=given)[1]
    assert "'epochs' was changed" in outcome(NAME, "equal", right, transfer={**TRANSFER, "epochs": 6})[1]


@copied
def network(start, seed, arch="resnet18", **options):
    weights = "none" if start == "scratch" else None
    return tl.load_model(arch, **{"num_classes": 8, "size": 64, "weights": weights, **options}, seed=seed)


def test_networks():
    def reset(start, seed):
        model = network(start, seed)
        model.layer4[0].conv1.reset_parameters()
        return model

    same = network("scratch", 0)
    wrongs = {
        "'scratch' prepares images differently": lambda s, seed: network(s, seed, size=96 if s == "scratch" else 64),
        "'scratch' starts from the pre-trained weights": partial(network, weights=None),
        "'pre-trained' starts from random numbers": partial(network, weights="none"),
        "they are swapped": lambda s, seed: network("pre-trained" if s == "scratch" else "scratch", seed),
        "every seed starts from the same random numbers": lambda start, seed: network(start, 0),
        "the new head of 'pre-trained' is the same": lambda s, seed: network(s, seed if s == "scratch" else 0),
        "the head of 'pre-trained' has 202 outputs": partial(network, num_classes=None),
        "here both methods train everything": lambda start, seed: tl.freeze(network(start, seed)),
        "'layer4.0.conv1.weight' of 'pre-trained' is not what was learned": reset,
        "is no ResNet18": partial(network, arch="resnet34"),
        "one network several times": lambda start, seed: same,
    }
    proved("networks", network, wrongs)


def table_of(scratch, trained):
    """The table `tries` with five learning rates for each start, from columns."""
    each = {"pre-trained": trained, "scratch": scratch}
    tables = [pd.DataFrame({"start": s, "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], **x}) for s, x in each.items()]
    return pd.concat(tables, ignore_index=True)


def chosen(scratch, trained=3e-4):
    return {"pre-trained": trained, "scratch": scratch}


def test_rates():
    loss, train = {"val_loss": [2.9, 2.0, 2.5, 2.7, 3.0]}, {"train_loss": [2.0, 1.5, 0.9, 1.7, 2.1]}
    scratch = {"val_loss": [3.9, 3.8, 3.7, 3.1, 3.5], "val_accuracy": [0.12, 0.13, 0.14, 0.20, 0.25]}
    tries = table_of({**train, **scratch}, {**train, **loss, "val_accuracy": [0.31, 0.40, 0.35, 0.33, 0.30]})
    wrongs = {
        "the two are swapped": chosen(3e-4, 3e-3),
        "both have the learning rate of the best row of all": chosen(3e-4),
        "pre-trained: 0.001: that is the best on the training images": chosen(3e-3, 1e-3),
        "scratch: 0.0001: that is the worst": chosen(1e-4),
        "scratch: 0.01: that has the highest validation accuracy": chosen(1e-2),
        "pre-trained: 0.0001: another learning rate has a lower validation loss": chosen(3e-3, 1e-4),
        "scratch: 0.5: it was not tried": chosen(0.5),
        "should be a number, found str": chosen("best"),
        "expected the keys": {"scratch": 3e-3},
    }
    proved("rates", chosen(3e-3), wrongs, also=[pd.Series(chosen(3e-3))], tries=tries)
    tries.loc[(tries["start"] == "scratch") & (tries["learning_rate"] == 1e-3), "val_loss"] = 3.1  # of a tie, either
    assert [outcome(NAME, "rates", chosen(rate), tries=tries)[0] for rate in (1e-3, 3e-3)] == ["right"] * 2
    tries["val_loss"] = 2 * [2.9, 2.0, 2.5, 2.7, 3.0]  # one learning rate is best for both, which is legitimate
    assert outcome(NAME, "rates", chosen(3e-4), tries=tries)[0] == "right"
    assert "exercises 1 and 2 come first" in outcome(NAME, "rates", chosen(3e-4), tries=pd.DataFrame())[1]


@pytest.fixture(scope="module")
def runs():
    return tc.load_results("curves").runs


@pytest.fixture
def live(runs):
    """Two epochs of the first three seeds, as tables of `one_run`; and the table of tries that chose for them."""
    table = runs[["start", "seed", "val"]].explode("val", ignore_index=True)
    table["epoch"] = table.groupby(["start", "seed"]).cumcount() + 1
    table = table[(table["epoch"] <= 2) & (table["seed"] < 3)].astype({"val": float})
    table = table.rename(columns={"val": "val_accuracy"}).assign(seconds=1.0 + 0.1 * table["epoch"] + table["seed"])
    table["seconds"] += 0.5 * (table["start"] == "scratch")
    table["train_accuracy"] = 0.9 * table["val_accuracy"]
    loss = {"val_loss": [5, 1, 5, 5, 5]}, {"val_loss": [5, 5, 1, 5, 5]}
    return table.assign(learning_rate=table["start"].map(chosen(3e-4, 1e-3))), table_of(*loss)


def test_live(live):
    every, tries = live
    right = every[every["seed"] < 2]
    scratch = right["start"] == "scratch"
    wrongs = {
        "the column 'seed' is missing": right.drop(columns="seed"),
        "`start` should hold": right[scratch],
        "seed 100 is there": every.replace({"seed": {2: 100}}),
        "both methods should have the seeds [0, 1], found {'pre-trained': [5, 6": every.assign(seed=every["seed"] + 5),
        "'pre-trained': [0]": right[scratch | (right["seed"] == 0)],
        "one has 1": right[scratch | (right["epoch"] < 2)],
        "a run is there twice": pd.concat([right, right]),
        "'scratch' was trained with the learning rate chosen for 'pre-trained'": right.assign(learning_rate=1e-3),
        "the learning rate 0.01, which was not chosen": right.assign(learning_rate=1e-2),
        "is the seed passed on": right.assign(val_accuracy=0.01 * right["epoch"] + 0.1 * scratch),
        "both methods give the same rows": right.assign(val_accuracy=0.01 * right["epoch"] + 0.1 * right["seed"]),
        "'val_accuracy' should hold one number in each row": right.assign(val_accuracy="high"),
        "`pd.concat` makes one table": [right],
    }
    proved("live", right, wrongs, tries=tries)


def test_cost(live):
    table = live[0][live[0]["seed"] < 2]

    def by_start(column, of, over="mean"):
        return table.groupby(["start", "seed"])[column].agg(of).groupby("start").agg(over)

    seconds, accuracy = by_start("seconds", "sum"), by_start("val_accuracy", "last")
    wrongs = {
        "that is an epoch": (by_start("seconds", "mean"), accuracy),
        "that is the sum over the seeds": (by_start("seconds", "sum", "sum"), accuracy),
        "that is the time of the other method": (dict(zip(STARTS, seconds[::-1], strict=True)), accuracy),
        "'scratch' is missing in seconds": (seconds.drop("scratch"), accuracy),
        "that is the mean over all epochs": (seconds, by_start("val_accuracy", "mean")),
        "scratch: the accuracy is too small": (seconds, {**accuracy, "scratch": 0.01}),
        "accuracy should be a dictionary or Series": (seconds, list(accuracy)),
    }
    proved("cost", (seconds, accuracy), wrongs, also=[(dict(seconds), accuracy.round(3))], live=table)


def first(curve, mark, never=None):
    return next((epoch for epoch, accuracy in enumerate(curve, start=1) if accuracy >= mark), never)


def test_first():
    wrongs = {
        "it says the last epoch": lambda c, m: first(c, m, len(c)),
        "one after the last epoch": lambda c, m: first(c, m, len(c) + 1),
        "it says 0;": partial(first, never=0),
        "`argmax` of only False is 0": lambda c, m: int(np.argmax(np.array(c) >= m)) + 1,
        "it fails with StopIteration": lambda c, m: next(e for e, a in enumerate(c, 1) if a >= m),
        "for a mark it reaches it fails with TypeError": lambda c, m: first(c, m) + "",
        "it counts from 0": lambda c, m: next((e for e, a in enumerate(c) if a >= m), None),
        "`>=`, not `>`": lambda c, m: next((e for e, a in enumerate(c, 1) if a > m), None),
        "the last epoch at or above": lambda c, m: max((e for e, a in enumerate(c, 1) if a >= m), default=None),
        "the epoch of the highest accuracy": lambda c, m: c.index(max(c)) + 1 if max(c) >= m else None,
        "it waits until the curve stays above": lambda c, m: len(c) + 1 - [*(a < m for a in c[::-1]), True].index(True),
        "it says never, or returns nothing": lambda c, m: first(c, m + 1),
    }
    proved("first", first, wrongs, also=[partial(first, never=never) for never in (math.nan, math.inf)])


def median(epochs, never=math.inf):
    middle = float(np.median([never if pd.isna(epoch) else epoch for epoch in epochs]))
    return middle if math.isfinite(middle) else None


def test_median():
    wrongs = {
        "it leaves out the seeds that never arrived": lambda all: median([e for e in all if not pd.isna(e)] or [None]),
        "it says 30; the median seed never arrived": partial(median, never=30),
        "it counts never as very early": partial(median, never=0),
        "it gives up": lambda epochs: None if any(map(pd.isna, epochs)) else median(epochs),
        "that is the mean": lambda epochs: float(np.mean(epochs)),
        "it fails with TypeError": lambda epochs: float(np.median(epochs)),
        "put it in order first": lambda epochs: epochs[len(epochs) // 2],
        "it says never although every seed arrived": lambda epochs: math.nan,
        "no seed arrived, and it gives a number": lambda epochs: median(epochs) if any(epochs) else 1,
        "the median of 19, 10, 11, 15, 18 is too small": min,
        "never, 16 is too small": partial(median, never=16.5),
    }
    proved("median", median, wrongs)


def differences(table):
    """Scores of both methods in points, their difference by seed, its mean and the margin of that."""
    wide = 100 * table.pivot(index="seed", columns="start", values="test")
    difference = wide["pre-trained"] - wide["scratch"]
    return wide, difference, difference.mean(), margin_of_error(difference, 0.95)


def test_paired(runs):
    runs = runs.assign(test=runs["test"] + 0.01 * runs["seed"])  # luck that the methods share, so that pairing helps
    wide, difference, mean, margin = differences(runs)
    deviation, error = difference.std(), difference.sem()
    apart = stats.ttest_ind(wide["pre-trained"], wide["scratch"], equal_var=False).confidence_interval(0.95)
    last = 100 * runs.groupby("start")["val"].apply(lambda curves: np.mean([curve[-1] for curve in curves]))

    def around(half, verdict="ahead"):
        return mean, mean - half, mean + half, verdict

    wrongs = {
        "the mean is a fraction": (mean / 100, 0, 1, "ahead"),
        "the sign is wrong": (-mean, -mean - margin, -mean + margin, "behind"),
        "take `test`": (last["pre-trained"] - last["scratch"], 0, 1, "ahead"),
        "that is one method alone": (wide["pre-trained"].mean(), 0, 1, "ahead"),
        "the lower end is above": around(-margin),
        "is not centred at the mean": (mean, 0, margin, "ahead"),
        "of a single run": around(margin * 5**0.5),
        "standard deviation of the differences": around(deviation),
        "that is the standard error": around(error),
        "1.96 belongs to very many seeds": around(1.96 * error),
        "of both sides together take 0.975": around(stats.t.ppf(0.95, 4) * error),
        "one fewer than the seeds": around(stats.t.ppf(0.975, 5) * error),
        "`ddof=1`": around(difference.std(ddof=0) * margin / deviation),
        "as unrelated": around((apart.high - apart.low) / 2),
        "'behind' does not follow": around(margin, "behind"),
        "'not shown' does not follow": around(margin, "not shown"),
        "the verdict should be one of": around(margin, "better"),
    }
    proved("paired", around(margin), wrongs, runs=runs)
    assert "no longer holds" in outcome(NAME, "paired", around(margin), runs=runs.assign(test=50 * runs["test"]))[1]
    even = runs.assign(test=[0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.5])
    *_, mean, margin = differences(even)  # a difference within its margin is not shown
    for verdict, state in {"not shown": "right", "behind": "wrong", "ahead": "wrong"}.items():
        assert outcome(NAME, "paired", around(margin, verdict), runs=even)[0] == state


TEXT = (
    "With the same network and an equal budget, transfer was ahead on test by twenty points, and the interval over "
    "five seeds leaves zero out. Each method had three tries for its learning rate. Every epoch took as many seconds, "
    "but the lower mark was reached in the first epoch, while most runs from scratch never arrived at the higher one. "
    "Unless it is measured elsewhere, this holds for this drawn set and one small network."
)


def test_text():
    wrongs = {
        "3 words; write at least 60": "Transfer is better.",
        "what was equal": TEXT.replace("same", "small").replace("equal", "small").replace("budget", "cost"),
        "how the learning rates were chosen": TEXT.replace("tries", "goes").replace("rate", "step"),
        "the interval of the difference": TEXT.replace("interval", "band"),
        "training time, or how soon": TEXT.replace("epoch", "pass").replace("seconds", "steps"),
    }
    proved("text", TEXT, wrongs)
