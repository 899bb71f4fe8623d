"""Lab 4's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
from lab_answers import copied, outcome, prove
from scipy import stats

import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs.fair_comparison import STARTS, UNFAIR
from tlcourse.labs.lab4_scratch_vs_transfer import gain_table
from tlcourse.measurements.comparison import margin_of_error

NAME = "lab4_scratch_vs_transfer"
proved = partial(prove, NAME)
TRANSFER = {
    **{"architecture": "resnet18", "weights": "pre-trained", "size": 64, "resize": 64, "images": 160, "epochs": 4},
    **{"augment": True, "rates": [1e-4, 3e-4, 1e-3], "chosen_on": "val", "tuning_seed": 100, "seeds": [0, 1]},
    **{"batch_size": 32, "schedule": "cosine", "optimizer": "AdamW"},
}


def test_equal():
    but = partial(dict, TRANSFER, weights="none", rates=[3e-4, 1e-3, 3e-3])
    wrongs = {
        "both begin from the same weights": but(weights="pre-trained"),
        "'imagenet' is not from scratch": but(weights="imagenet"),
        "1280 images seen from scratch, 640 with transfer; scratch is favoured": but(epochs=8),
        "320 images seen from scratch, 640 with transfer; transfer is favoured": but(epochs=2),
        "of a set of another size": but(epochs=2, images=320),
        "one method tries 3 rates, the other 1": but(rates=[1e-3]),
        "the same rate twice": but(rates=[1e-3, 1e-3, 3e-3]),
        "expected a list of learning rates": but(rates=1e-3),
        "nothing to keep": but(rates=TRANSFER["rates"]),
        "far below 1": but(rates=[1, 2, 3]),
        "is compared too": but(tuning_seed=0),
        "'momentum' is something that only this method has": but(momentum=0.9),
        "'architecture' is missing": {"weights": "none"},
    }
    changes = {"chosen_on": "test", "tuning_seed": 7, "seeds": [2, 3], "architecture": "resnet34", "size": 96}
    changes |= {"resize": 73, "batch_size": 8, "augment": False, "schedule": None, "optimizer": "SGD"}
    for key, value in changes.items():
        wrongs[f"{key}: {value!r} here, {TRANSFER[key]!r} there; {UNFAIR[key]}"] = but(**{key: value})
    proved("equal", but(), wrongs, transfer=TRANSFER)


def epochs(images, seen):
    return max(1, round(seen / images))


def test_budget():
    wrongs = {
        "gets as many epochs": lambda n, seen: 20,
        "fewer images get fewer epochs": lambda n, seen: epochs(16, n),
        "it multiplies": lambda n, seen: n * seen,
        "these are steps": lambda n, seen: seen // 32 if n == 320 else 1,
        "it gives 0 epochs": lambda n, seen: round(seen / n),
        "6.4 epochs?": lambda n, seen: max(1, seen / n),
        "it rounds 6.4 up": lambda n, seen: max(1, math.ceil(seen / n)),
        "round, do not cut off": lambda n, seen: max(1, seen // n),
        "it returns float": lambda n, seen: float(epochs(n, seen)),
        "40 epochs would see 12800": lambda n, seen: 2 * epochs(n, seen),
        "160 images and a budget of 640: found 5 epochs": lambda n, seen: epochs(n, seen) + (n == 160),
    }
    proved("budget", epochs, wrongs)


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
        "'scratch' begins from the pre-trained weights": partial(network, weights=None),
        "'pre-trained' begins from random numbers": partial(network, weights="none"),
        "they are swapped": lambda s, seed: network("pre-trained" if s == "scratch" else "scratch", seed),
        "every seed begins from the same random numbers": lambda start, seed: network(start, 0),
        "the new head of 'pre-trained' is the same": lambda s, seed: network(s, seed if s == "scratch" else 0),
        "the head of 'pre-trained' has 202 outputs": partial(network, num_classes=None),
        "here both methods train everything": lambda start, seed: tl.freeze(network(start, seed)),
        "'layer4.0.conv1.weight' of 'pre-trained' is not what was learned": reset,
        "is no ResNet18": partial(network, arch="resnet34"),
        "one network several times": lambda start, seed: same,
    }
    proved("networks", network, wrongs, classes=8, size=64)


def test_rates():
    rates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    trained = {"train": [0.5, 0.6, 0.9, 0.7, 0.4], "val": [0.31, 0.40, 0.35, 0.33, 0.30]}
    scratch = {"train": [0.3, 0.2, 0.4, 0.2, 0.1], "val": [0.12, 0.13, 0.14, 0.20, 0.15]}
    each = [pd.DataFrame({"start": s, "rate": rates, **x}) for s, x in zip(STARTS, (trained, scratch), strict=True)]
    tries = pd.concat(each, ignore_index=True)

    def chosen(scratch, trained=3e-4):
        return {"pre-trained": trained, "scratch": scratch}

    wrongs = {
        "scratch: 0.0003: that is the best rate of the other method": chosen(3e-4),
        "pre-trained: 0.001: that is the best on the training images": chosen(3e-3, 1e-3),
        "scratch: 0.0001: that is the worst": chosen(1e-4),
        "scratch: 0.01: that is the largest rate": chosen(1e-2),
        "pre-trained: 0.0001: another rate has a higher validation accuracy": chosen(3e-3, 1e-4),
        "scratch: 0.5: it was not tried": chosen(0.5),
        "should be a number, found str": chosen("best"),
        "expected the keys": {"scratch": 3e-3},
    }
    proved("rates", chosen(3e-3), wrongs, tries=tries)
    tries.loc[(tries["start"] == "scratch") & (tries["rate"] == 1e-3), "val"] = 0.20  # of two that tie, either
    assert [outcome(NAME, "rates", chosen(rate), tries=tries)[0] for rate in (1e-3, 3e-3)] == ["right"] * 2


@pytest.fixture(scope="module")
def runs():
    return tc.load_results("curves").runs


@pytest.fixture(scope="module")
def curves(runs):
    table = runs[["start", "seed", "val"]].explode("val", ignore_index=True)
    return table.assign(epoch=len(runs) * [*range(1, len(table) // len(runs) + 1)])


def test_live(curves):
    right = curves[curves["seed"] < 2]
    scratch = right["start"] == "scratch"
    wrongs = {
        "the column 'seed' is missing": right.drop(columns="seed"),
        "`start` should hold": right[scratch],
        "seed 100 is there": curves[curves["seed"] < 3].replace({"seed": {2: 100}}),
        "both methods should have the seeds [0, 1]": curves[curves["seed"] > 2],
        "'pre-trained': [0]": right[scratch | (right["seed"] == 0)],
        "epochs are counted from 1": right.assign(epoch=right["epoch"] - 1),
        "one has 3 rows": right[scratch | (right["epoch"] < 4)],
        "an epoch appears twice": pd.concat([right, right]),
        "is the seed passed on": right.assign(val=0.01 * right["epoch"] + 0.1 * scratch),
        "is `start` passed on": right.assign(val=0.01 * right["epoch"] + 0.1 * right["seed"]),
        "'val' should hold one number in each row": right.assign(val="high"),
    }
    proved("live", right, wrongs, seeds=[0, 1], epochs=right["epoch"].max(), tuning_seed=100)


def at(curve, epoch):
    return curve[epoch - 1] if 1 <= epoch <= len(curve) else None


def test_at():
    wrongs = {
        "at the last epoch it fails": lambda c, e: c[e],
        "one epoch too late": lambda c, e: c[e] if e < len(c) else c[-1],
        "after the end of the curve it fails with IndexError": lambda c, e: c[e - 1],
        "makes up an accuracy": lambda c, e: c[min(e, len(c)) - 1],
        "epoch 0 does not exist": lambda c, e: c[e - 1] if e <= len(c) else None,
        "the best so far": lambda c, e: max(c[:e], default=None),
        "at epoch 1 of [0.2": lambda c, e: at(c, 6 - e),
        "it says that there is no accuracy": lambda c, e: None if e > 4 else at(c, e),
        "it fails with TypeError": lambda c, e: c["epoch"],
    }
    proved("at", at, wrongs)


def first(curve, mark, never=None):
    return next((epoch for epoch, accuracy in enumerate(curve, start=1) if accuracy >= mark), never)


def test_first():
    wrongs = {
        "it says the last epoch": partial(first, never=5),
        "one after the last epoch": partial(first, never=6),
        "it says 0;": partial(first, never=0),
        "`argmax` of only False is 0": lambda c, m: int(np.argmax(np.array(c) >= m)) + 1,
        "it fails with StopIteration": lambda c, m: next(e for e, a in enumerate(c, 1) if a >= m),
        "for a mark it reaches it fails with TypeError": lambda c, m: first(c, m) + "",
        "it counts from 0": lambda c, m: next((e for e, a in enumerate(c) if a >= m), None),
        "`>=`, not `>`": lambda c, m: next((e for e, a in enumerate(c, 1) if a > m), None),
        "the last epoch at or above": lambda c, m: max((e for e, a in enumerate(c, 1) if a >= m), default=None),
        "the epoch of the highest accuracy": lambda c, m: c.index(max(c)) + 1 if max(c) >= m else None,
        "it waits until the curve stays above": lambda c, m: next((i + 1 for i in range(5) if min(c[i:]) >= m), None),
        "it says never where the curve does reach": lambda c, m: first(c, m + 1),
    }
    proved("first", first, wrongs, also=[partial(first, never=never) for never in (math.nan, math.inf)])


def median(epochs, never=math.inf):
    middle = float(np.median([never if pd.isna(epoch) else epoch for epoch in epochs]))
    return middle if math.isfinite(middle) else None


def test_median():
    wrongs = {
        "it leaves out the seeds that never arrived": lambda all: median([e for e in all if not pd.isna(e)] or [None]),
        "it says 20; the median seed never arrived": partial(median, never=20),
        "it counts never as very early": partial(median, never=0),
        "it gives up": lambda epochs: None if any(map(pd.isna, epochs)) else median(epochs),
        "that is the mean": lambda epochs: float(np.mean(epochs)),
        "for 8, never, 10, never, 9 it fails with TypeError": lambda epochs: float(np.median(epochs)),
        "put it in order first": lambda epochs: epochs[len(epochs) // 2],
        "it says never although every seed arrived": lambda epochs: math.nan,
        "no seed arrived, and it gives a number": lambda epochs: median(epochs) if any(epochs) else 1,
        "the median of 12, 3, 4, 8, 11 is too small": min,
        "the median of 8, 9, 10, never, never is too small": partial(median, never=9.5),
    }
    proved("median", median, wrongs)


def test_long(runs, curves):
    wrongs = {
        "epochs are counted from 1": curves.assign(epoch=curves["epoch"] - 1),
        "the seeds are averaged away": curves.groupby(["start", "epoch"], as_index=False)["val"].mean(),
        "the column 'epoch' is missing": curves.drop(columns="epoch"),
        "`val` still holds lists": runs.assign(epoch=1),
        "the epochs count on": curves.assign(epoch=curves.index + 1),
        "an epoch appears twice": curves.assign(epoch=1),
        "give fractions": curves.assign(val=100 * curves["val"]),
        "these are the training accuracies": curves.assign(val=np.concatenate(runs["train_acc"])),
        "do not belong to their epochs": curves.assign(val=curves["val"].to_numpy()[::-1]),
        "7 rows; expected one for each epoch": curves.head(7),
    }
    proved("long", curves, wrongs, also=[curves.sample(frac=1, random_state=0).astype({"val": float})], runs=runs)


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
    even = runs.assign(test=[0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.5])
    *_, mean, margin = differences(even)  # a difference within its margin is not shown
    for verdict, state in {"not shown": "right", "behind": "wrong", "ahead": "wrong"}.items():
        assert outcome(NAME, "paired", around(margin, verdict), runs=even)[0] == state


SETS = ("safari", "flowers")


@pytest.fixture(scope="module")
def sizes():
    return tc.load_results("refinements").scored.query("topic == 'depth'")


def test_gains(sizes):
    right = {name: gain_table(sizes, name).mean(axis=1) for name in SETS}
    safari = right["safari"].to_dict()
    means = 100 * sizes.groupby(["per_class", "method"])["test"].mean().unstack("method")
    wrongs = {
        "these are fractions": {name: gain / 100 for name, gain in right.items()},
        "the sign is wrong": {name: -gain for name, gain in right.items()},
        "that is the method 'head'": {name: gain_table(sizes, name, "head").mean(axis=1) for name in SETS},
        "that is on validation images": {name: gain_table(sizes, name, column="val").mean(axis=1) for name in SETS},
        "averaged over the data sets": dict.fromkeys(SETS, means["everything"] - means["scratch"]),
        "of all classes": {**right, "safari": {8 * count: gain for count, gain in safari.items()}},
        "flowers: 40 images of each class are missing": {**right, "flowers": right["flowers"].iloc[:2]},
        "no runs have 5 training images": {**right, "safari": {**safari, 5: 1.0}},
        "with 10 images is too large": {**right, "safari": {**safari, 10: 99.0}},
        "'flowers' is missing": {"safari": safari},
        "found list": {**right, "safari": [1, 2, 3]},
    }
    also = [{name: gain.to_dict() for name, gain in right.items()}, pd.DataFrame(right)]
    proved("gains", right, wrongs, also=also, runs=sizes, names=SETS)


def test_growth(sizes):
    growing = sizes["method"].eq("everything") & sizes["per_class"].eq(40) & sizes["data"].eq("safari")
    sizes = sizes.assign(test=sizes["test"] + 0.3 * growing)
    gains = gain_table(sizes, "flowers").mean(axis=1)
    by_mean, other = ("grows", "shrinks") if gains.iloc[-1] > gains.iloc[0] else ("shrinks", "grows")
    right = {"safari": "grows", "flowers": "not shown"}
    wrongs = {
        "flowers: the means say so": {**right, "flowers": by_mean},
        f"not even the means say '{other}'": {**right, "flowers": other},
        "larger than its margin": {**right, "safari": "not shown"},
        "expected one of shrinks, grows, not shown": {**right, "safari": "up"},
        "'flowers' is missing": {"safari": "grows"},
    }
    proved("growth", right, wrongs, runs=sizes, names=SETS)


def test_optimism(runs):
    def each(of):
        """For each start, `of` validation and training curves (seeds, epochs) and test accuracies, in points."""
        tables = {start: runs[runs["start"] == start] for start in STARTS}
        columns = ("val", "train_acc", "test")
        return {s: of(*(100 * np.array(table[c].tolist()) for c in columns)) for s, table in tables.items()}

    right = each(lambda val, train, test: (val.max(1) - val[:, -1]).mean())
    wrongs = {
        "that is a fraction": each(lambda val, train, test: (val.max(1) - val[:, -1]).mean() / 100),
        "the sign is wrong": each(lambda val, train, test: (val[:, -1] - val.max(1)).mean()),
        "the maximum of the mean curve": each(lambda val, train, test: val.mean(0).max() - val.mean(0)[-1]),
        "the best of all seeds": each(lambda val, train, test: val.max() - val[:, -1].mean()),
        "subtracts the test accuracy": each(lambda val, train, test: (val.max(1) - test).mean()),
        "subtracts the first epoch": each(lambda val, train, test: (val.max(1) - val[:, 0]).mean()),
        "these are training accuracies": each(lambda val, train, test: (train.max(1) - train[:, -1]).mean()),
        "that is the best itself": each(lambda val, train, test: val.max(1).mean()),
        "scratch: the difference is too large": {**right, "scratch": 90.0},
        "'pre-trained' is missing": {"scratch": right["scratch"]},
    }
    proved("optimism", right, wrongs, runs=runs)


TEXT = (
    "With the same network and an equal budget, transfer was ahead on test by twenty points, and the interval over "
    "five seeds leaves zero out. Each way had three tries for its learning rate. It was also sooner: at the lower mark "
    "in the first epoch, whereas for the higher one most runs from scratch never arrived. Whether more data make it "
    "shrink was impossible to tell. Unless it is measured elsewhere, it holds for this drawn set and one small network."
)


def test_text():
    wrongs = {
        "3 words; write at least 60": "Transfer is better.",
        "what was equal": TEXT.replace("same", "small").replace("equal", "small").replace("budget", "cost"),
        "how the learning rates were chosen": TEXT.replace("tries", "goes").replace("rate", "step"),
        "how far the seeds agree": TEXT.replace("seeds", "goes").replace("interval", "band"),
        "what more data does": TEXT.replace("more data make it shrink", "it is so elsewhere"),
    }
    proved("text", TEXT, wrongs)
