"""Lab 4's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lab_answers import outcome, prove
from scipy import stats

import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs.lab4_scratch_vs_transfer import STARTS, gain_table
from tlcourse.measurements.comparison import margin_of_error

NAME = "lab4_scratch_vs_transfer"
proved = functools.partial(prove, NAME)

TRANSFER = {
    **{"architecture": "resnet18", "weights": "pre-trained", "size": 64, "resize": 64, "images": 160, "epochs": 4},
    **{"augment": True, "rates": [1e-4, 3e-4, 1e-3], "chosen_on": "val", "tuning_seed": 100, "seeds": [0, 1]},
}
SCRATCH = {**TRANSFER, "weights": "none", "rates": [3e-4, 1e-3, 3e-3]}


def but(**change: Any) -> dict[str, Any]:
    return {**SCRATCH, **change}


def test_equal() -> None:
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
        "chosen_on: 'test' here": but(chosen_on="test"),
        "is compared too": but(tuning_seed=0),
        "chosen on different seeds": but(tuning_seed=7),
        "subtracted seed by seed": but(seeds=[2, 3]),
        "augmentation helps by itself": but(augment=False),
        "the other on their centre": but(resize=73),
        "another network may be better": but(architecture="resnet34"),
        "'momentum' is something that only this method has": but(momentum=0.9),
        "'architecture' is missing": {"weights": "none"},
        "expected a dictionary such as `transfer`, found list": ["none"],
    }
    proved("equal", SCRATCH, wrongs, transfer=TRANSFER)


def test_budget() -> None:
    wrongs = {
        "gets as many epochs": lambda n, seen: 20,
        "fewer images get fewer epochs": lambda n, seen: max(1, round(n / 16)),
        "it multiplies": lambda n, seen: n * seen,
        "these are steps": lambda n, seen: seen // 32 if n == 320 else 1,
        "it gives 0 epochs": lambda n, seen: round(seen / n),
        "6.4 epochs?": lambda n, seen: max(1, seen / n),
        "it rounds 6.4 up": lambda n, seen: max(1, math.ceil(seen / n)),
        "round, do not cut off": lambda n, seen: max(1, seen // n),
        "it returns float": lambda n, seen: float(max(1, round(seen / n))),
        "40 epochs would see 12800": lambda n, seen: 2 * round(seen / n),
        "160 images and a budget of 640: found 5 epochs": lambda n, seen: max(1, round(seen / n)) + (n == 160),
    }
    proved("budget", lambda n, seen: max(1, round(seen / n)), wrongs)


@functools.cache
def built(**options: Any) -> Any:
    return tl.load_model(**options)


def network(start: str, seed: int, **options: Any) -> Any:
    given = {"arch": "resnet18", "num_classes": 8, "size": 64, "seed": seed}
    given["weights"] = "none" if start == "scratch" else None
    return copy.deepcopy(built(**{**given, **options}))


def test_networks() -> None:
    def reset(start: str, seed: int) -> Any:
        model = network(start, seed)
        if start == "pre-trained":
            model.layer4[0].conv1.reset_parameters()
        return model

    same = network("scratch", 0)
    other = {"scratch": "pre-trained", "pre-trained": "scratch"}
    wrongs = {
        "'scratch' prepares images differently": lambda s, seed: network(s, seed, size=96 if s == "scratch" else 64),
        "'scratch' begins from the pre-trained weights": functools.partial(network, weights=None),
        "'pre-trained' begins from random numbers": functools.partial(network, weights="none"),
        "they are swapped": lambda start, seed: network(other[start], seed),
        "every seed begins from the same random numbers": lambda start, seed: network(start, 0),
        "the new head of 'pre-trained' is the same": lambda s, seed: network(s, seed if s == "scratch" else 0),
        "the head of 'pre-trained' has 202 outputs": functools.partial(network, num_classes=None),
        "here both methods train everything": lambda start, seed: tl.freeze(network(start, seed)),
        "'layer4.0.conv1.weight' of 'pre-trained' is not what was learned": reset,
        "is no ResNet18": functools.partial(network, arch="resnet34"),
        "one network several times": lambda start, seed: same,
        "should return a network, found str": lambda start, seed: start,
    }
    proved("networks", network, wrongs, classes=8, size=64)


def tries() -> pd.DataFrame:
    rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    trained = ((0.5, 0.31), (0.6, 0.40), (0.9, 0.35), (0.7, 0.33), (0.4, 0.30))
    scratch = ((0.3, 0.12), (0.2, 0.13), (0.4, 0.14), (0.2, 0.20), (0.1, 0.15))
    rows = [("pre-trained", rate, *pair) for rate, pair in zip(rates, trained, strict=True)]
    rows += [("scratch", rate, *pair) for rate, pair in zip(rates, scratch, strict=True)]
    return pd.DataFrame(rows, columns=["start", "rate", "train", "val"])


def chosen(scratch: Any, trained: Any = 3e-4) -> dict[str, Any]:
    return {"pre-trained": trained, "scratch": scratch}


def test_rates() -> None:
    wrongs = {
        "scratch: 0.0003: that is the best rate of the other method": chosen(3e-4),
        "pre-trained: 0.003: that is the best rate of the other method": chosen(3e-4, 3e-3),
        "pre-trained: 0.001: that is the best on the training images": chosen(3e-3, 1e-3),
        "scratch: 0.0001: that is the worst": chosen(1e-4),
        "scratch: 0.01: that is the largest rate": chosen(1e-2),
        "pre-trained: 0.0001: another rate has a higher validation accuracy": chosen(3e-3, 1e-4),
        "scratch: 0.5: it was not tried": chosen(0.5),
        "should be a number, found str": chosen("best"),
        "expected the keys": {"scratch": 3e-3},
        "found float": 3e-3,
    }
    proved("rates", chosen(3e-3), wrongs, tries=tries())


@pytest.mark.parametrize("rate", [1e-3, 3e-3])
def test_rates_that_tie_are_both_right(rate: float) -> None:
    table = tries()
    table.loc[(table["start"] == "scratch") & (table["rate"] == 1e-3), "val"] = 0.20
    assert outcome(NAME, "rates", chosen(rate), tries=table)[0] == "right"


def live(seeds: tuple[int, ...] = (0, 1), epochs: int = 4, **change: Any) -> pd.DataFrame:
    rows = [
        (start, seed, epoch, 0.2 + 0.1 * (start == "pre-trained") + 0.001 * seed + 0.03 * epoch)
        for start, seed, epoch in itertools.product(STARTS, seeds, range(1, epochs + 1))
    ]
    return pd.DataFrame(rows, columns=["start", "seed", "epoch", "val"]).assign(**change)


def test_live() -> None:
    right = live()
    scratch = right["start"] == "scratch"
    wrongs = {
        "the column 'seed' is missing": right.drop(columns="seed"),
        "`start` should hold": right[scratch],
        "give fractions": live(val=100 * right["val"]),
        "seed 100 is there": live(seeds=(0, 1, 100)),
        "both methods should have the seeds [0, 1]": live(seeds=(2, 3)),
        "'pre-trained': [0]": right[scratch | (right["seed"] == 0)],
        "epochs are counted from 1": live(epoch=right["epoch"] - 1),
        "one has 3 rows": right[scratch | (right["epoch"] < 4)],
        "an epoch appears twice": pd.concat([right, right]),
        "is the seed passed on": live(val=0.1 * right["epoch"] + 0.1 * scratch),
        "is `start` passed on": live(val=0.1 * right["epoch"] + 0.1 * right["seed"]),
        "one number in each row": live(val="high"),
        "expected a DataFrame, found dict": right.to_dict(),
    }
    proved("live", right, wrongs, seeds=[0, 1], epochs=4, tuning_seed=100)


def at(curve: list[float], epoch: int) -> float | None:
    return curve[epoch - 1] if 1 <= epoch <= len(curve) else None


def test_at() -> None:
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


def first(curve: list[float], mark: float) -> int | None:
    return next((epoch for epoch, accuracy in enumerate(curve, start=1) if accuracy >= mark), None)


def or_else(value: Any) -> Callable[[list[float], float], Any]:
    return lambda curve, mark: first(curve, mark) or value


def test_first() -> None:
    wrongs = {
        "it says the last epoch": or_else(5),
        "one after the last epoch": or_else(6),
        "it says 0;": or_else(0),
        "it says -1;": or_else(-1),
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
    proved("first", first, wrongs)


@pytest.mark.parametrize("never", [None, math.nan, math.inf])
def test_never_may_be_said_in_three_ways(never: float | None) -> None:
    assert outcome(NAME, "first", or_else(never))[0] == "right"


def median(epochs: list[Any], never: float = math.inf) -> float | None:
    middle = float(np.median([never if pd.isna(epoch) else epoch for epoch in epochs]))
    return middle if math.isfinite(middle) else None


def test_median() -> None:
    def dropped(epochs: list[Any]) -> float | None:
        arrived = [epoch for epoch in epochs if not pd.isna(epoch)]
        return float(np.median(arrived)) if arrived else None

    def gives_up(epochs: list[Any]) -> float | None:
        return None if any(pd.isna(epoch) for epoch in epochs) else float(np.median(epochs))

    wrongs = {
        "it leaves out the seeds that never arrived": dropped,
        "it says 20; the median seed never arrived": functools.partial(median, never=20),
        "it counts never as very early": functools.partial(median, never=0),
        "it gives up": gives_up,
        "that is the mean": lambda epochs: float(np.mean(epochs)),
        "for 8, never, 10, never, 9 it fails with TypeError": lambda epochs: float(np.median(epochs)),
        "put it in order first": lambda epochs: epochs[len(epochs) // 2],
        "it says never although every seed arrived": lambda epochs: math.nan,
        "no seed arrived, and it gives a number": lambda epochs: median(epochs) if any(epochs) else 1,
        "the median of 12, 3, 4, 8, 11 is too small": lambda epochs: min(epochs),
        "the median of 8, 9, 10, never, never is too small": functools.partial(median, never=9.5),
    }
    proved("median", median, wrongs)


@functools.cache
def runs() -> pd.DataFrame:
    """Two methods, five seeds, six epochs; the test images are easier than the validation images."""
    generator = np.random.default_rng(3)
    rows = []
    for (number, start), seed in itertools.product(enumerate(STARTS), range(5)):
        val = (0.45 - 0.2 * number + 0.05 * generator.random(6)).round(4).tolist()
        train = (0.3 + 0.1 * np.arange(6) + 0.05 * generator.random(6)).round(4).tolist()
        test = round(0.6 - 0.12 * number + 0.02 * seed + 0.05 * generator.random(), 4)
        rows.append((start, seed, val, train, test))
    return pd.DataFrame(rows, columns=["start", "seed", "val", "train_acc", "test"])


def test_long() -> None:
    right = pd.DataFrame({"start": np.repeat(runs()["start"], 6), "seed": np.repeat(runs()["seed"], 6)})
    right = right.reset_index(drop=True).assign(epoch=10 * list(range(1, 7)), val=np.concatenate(runs()["val"]))
    wrongs = {
        "epochs are counted from 1": right.assign(epoch=right["epoch"] - 1),
        "the seeds are averaged away": right.groupby(["start", "epoch"], as_index=False)["val"].mean(),
        "the column 'epoch' is missing": right.drop(columns="epoch"),
        "`val` still holds lists": runs().assign(epoch=1),
        "the epochs count on": right.assign(epoch=range(1, 61)),
        "an epoch appears twice": right.assign(epoch=1),
        "give fractions": right.assign(val=100 * right["val"]),
        "these are the training accuracies": right.assign(val=np.concatenate(runs()["train_acc"])),
        "do not belong to their epochs": right.assign(val=right["val"].to_numpy()[::-1]),
        "7 rows; expected one for each epoch": right.head(7),
        "found Series": right["val"],
    }
    proved("long", right, wrongs, runs=runs())
    shuffled = right.sample(frac=1, random_state=0).astype({"val": object})
    assert outcome(NAME, "long", shuffled, runs=runs())[0] == "right"


def test_paired() -> None:
    wide = 100 * runs().pivot(index="seed", columns="start", values="test")
    trained, scratch = wide["pre-trained"], wide["scratch"]
    difference = trained - scratch
    mean, margin = float(difference.mean()), margin_of_error(difference, 0.95)
    deviation, error = float(difference.std()), float(difference.std()) / 5**0.5
    apart = stats.ttest_ind(trained, scratch, equal_var=False).confidence_interval(0.95)
    last = 100 * runs().groupby("start")["val"].apply(lambda curves: np.mean([curve[-1] for curve in curves]))

    def around(half: float, verdict: str = "ahead") -> tuple[Any, ...]:
        return mean, mean - half, mean + half, verdict

    wrongs = {
        "the mean is a fraction": (mean / 100, 0, 1, "ahead"),
        "the sign is wrong": (-mean, -mean - margin, -mean + margin, "behind"),
        "take `test`": (float(last["pre-trained"] - last["scratch"]), 0, 1, "ahead"),
        "that is one method alone": (float(trained.mean()), 0, 1, "ahead"),
        "the lower end is above": (mean, mean + margin, mean - margin, "ahead"),
        "is not centred at the mean": (mean, 0, margin, "ahead"),
        "of a single run": around(margin * 5**0.5),
        "standard deviation of the differences": around(deviation),
        "that is the standard error": around(error),
        "1.96 belongs to very many seeds": around(1.96 * error),
        "of both sides together take 0.975": around(float(stats.t.ppf(0.95, 4)) * error),
        "one fewer than the seeds": around(float(stats.t.ppf(0.975, 5)) * error),
        "`ddof=1`": around(float(difference.std(ddof=0)) * margin / deviation),
        "as unrelated": around(float(apart.high - apart.low) / 2),
        "'behind' does not follow": around(margin, "behind"),
        "'not shown' does not follow": around(margin, "not shown"),
        "the verdict should be one of": around(margin, "better"),
    }
    proved("paired", around(margin), wrongs, runs=runs())


@pytest.mark.parametrize(("verdict", "state"), [("not shown", "right"), ("behind", "wrong"), ("ahead", "wrong")])
def test_a_difference_within_its_margin_is_not_shown(verdict: str, state: str) -> None:
    even = runs().assign(test=[0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.5])
    wide = 100 * even.pivot(index="seed", columns="start", values="test")
    difference = wide["pre-trained"] - wide["scratch"]
    mean, margin = float(difference.mean()), margin_of_error(difference, 0.95)
    assert outcome(NAME, "paired", (mean, mean - margin, mean + margin, verdict), runs=even)[0] == state


SETS = {"safari": (80, 320, 1600), "chest_xray": (20, 100, 3652)}
CLASSES = {"safari": 8, "chest_xray": 2}


def grid(change: dict[str, float], noise: float = 0.01) -> pd.DataFrame:
    """Runs whose gain changes by so much from each size to the next."""
    generator, rows = np.random.default_rng(1), []
    levels = {"scratch": 0.3, "frozen": 0.45, "everything": 0.5}
    networks = ("resnet18", "vgg16")
    for network, (name, sizes), method, seed in itertools.product(networks, SETS.items(), levels, range(5)):
        better = 0.1 * (network == "vgg16" and method == "scratch")
        growth = {"scratch": 0.0, "frozen": 0.02, "everything": change[name]}[method]
        for step, count in enumerate(sizes):
            score = levels[method] + better + growth * step + noise * generator.random()
            per_class = count / CLASSES[name] if count < 3000 else math.nan
            rows.append((network, method, name, per_class, seed, count, score))
    columns = ["network", "method", "data", "per_class", "seed", "train_images", "balanced_accuracy"]
    return pd.DataFrame(rows, columns=columns)


def test_gains() -> None:
    table = grid({"safari": 0.05, "chest_xray": -0.03})
    right = {name: gain_table(table, name).mean(axis=1).to_dict() for name in SETS}
    safari, chest = right["safari"], right["chest_xray"]

    def times(factor: float) -> dict[str, Any]:
        return {name: {count: factor * gain for count, gain in row.items()} for name, row in right.items()}

    means = 100 * table.groupby(["data", "train_images", "method"])["balanced_accuracy"].mean().unstack("method")
    of_all = means["everything"] - means["scratch"]
    wrongs = {
        "these are fractions": times(0.01),
        "the sign is wrong": times(-1),
        "that is the method 'frozen'": {name: gain_table(table, name, "frozen").mean(axis=1) for name in SETS},
        "averaged over all networks": {name: of_all[name] for name in SETS},
        "of one class": {**right, "safari": dict(zip((10, 40, 200), safari.values(), strict=True))},
        "3652 images are missing": {**right, "chest_xray": {n: chest[n] for n in (20, 100)}},
        "no runs have 5 training images": {**right, "safari": {**safari, 5: 1.0}},
        "with 80 images is too large": {**right, "safari": {**safari, 80: 99.0}},
        "'chest_xray' is missing": {"safari": safari},
        "found list": {**right, "safari": [1, 2, 3]},
        "found float": 3.0,
    }
    proved("gains", right, wrongs, runs=table, names=tuple(SETS))
    assert outcome(NAME, "gains", pd.DataFrame(right), runs=table, names=tuple(SETS))[0] == "right"


def test_growth() -> None:
    table = grid({"safari": 0.05, "chest_xray": 0.004}, noise=0.1)
    gains = gain_table(table, "chest_xray").mean(axis=1)
    by_mean, other = ("grows", "shrinks") if gains.iloc[-1] > gains.iloc[0] else ("shrinks", "grows")
    right = {"safari": "grows", "chest_xray": "not shown"}
    wrongs = {
        "chest_xray: the means say so": {**right, "chest_xray": by_mean},
        f"not even the means say '{other}'": {**right, "chest_xray": other},
        "larger than its margin": {**right, "safari": "not shown"},
        "safari: as it stands in textbooks": {**right, "safari": "shrinks"},
        "expected one of shrinks, grows, not shown": {**right, "safari": "up"},
        "'chest_xray' is missing": {"safari": "grows"},
        "found list": ["grows", "not shown"],
    }
    proved("growth", right, wrongs, runs=table, names=tuple(SETS))


def test_optimism() -> None:
    of_start = dict(list(runs().groupby("start")))

    def each(of: Callable[[Any, Any, Any], Any]) -> dict[str, float]:
        """What a function makes of validation and training curves (seeds, epochs) and test accuracies, in points."""
        columns = ("val", "train_acc", "test")
        return {s: float(of(*(100 * np.array(of_start[s][name].tolist()) for name in columns))) for s in STARTS}

    right = each(lambda val, train, test: (val.max(1) - val[:, -1]).mean())
    wrongs = {
        "that is a fraction": {start: value / 100 for start, value in right.items()},
        "the sign is wrong": {start: -value for start, value in right.items()},
        "the maximum of the mean curve": each(lambda val, train, test: val.mean(0).max() - val.mean(0)[-1]),
        "the best of all seeds": each(lambda val, train, test: val.max() - val[:, -1].mean()),
        "subtracts the test accuracy": each(lambda val, train, test: (val.max(1) - test).mean()),
        "subtracts the first epoch": each(lambda val, train, test: (val.max(1) - val[:, 0]).mean()),
        "these are training accuracies": each(lambda val, train, test: (train.max(1) - train[:, -1]).mean()),
        "that is the best itself": each(lambda val, train, test: val.max(1).mean()),
        "scratch: the difference is too large": {**right, "scratch": 90.0},
        "'pre-trained' is missing": {"scratch": right["scratch"]},
        "found float": 1.0,
    }
    proved("optimism", right, wrongs, runs=runs())


TEXT = (
    "With the same network and an equal budget, transfer was ahead on test by twenty points, and the interval over "
    "five seeds leaves zero out. Each way had three tries for its learning rate. It was also sooner: at the lower mark "
    "in the first epoch, whereas for the higher one most runs from scratch never arrived. Whether more data make it "
    "shrink was impossible to tell. Unless it is measured elsewhere, it holds for this drawn set and one small network."
)


def test_text() -> None:
    wrongs = {
        "3 words; write at least 60": "Transfer is better.",
        "the same few words": "transfer " * 80,
        "what was equal": TEXT.replace("same", "small").replace("equal", "small").replace("budget", "cost"),
        "how the learning rates were chosen": TEXT.replace("tries", "goes").replace("rate", "step"),
        "how far the seeds agree": TEXT.replace("seeds", "goes").replace("interval", "band"),
        "what more data does": TEXT.replace("more data make it shrink", "it is so elsewhere"),
        "found int": 5,
    }
    proved("text", TEXT, wrongs)


def test_the_results_files_have_what_the_lab_asks_for() -> None:
    curves = tc.load_results("curves").runs
    assert set(curves["start"]) == set(STARTS)
    assert (curves.groupby("start")["seed"].nunique() >= 5).all()
    table = tc.load_results("transfer").runs
    assert all(gain_table(table, name).shape == (3, 5) for name in SETS)
    assert gain_table(table, "safari").notna().all(axis=None)
