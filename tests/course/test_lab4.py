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
from lab_answers import prove, said
from scipy import stats

import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs.lab4_scratch_vs_transfer import STARTS, gain_table
from tlcourse.measurements.comparison import margin_of_error

NAME = "lab4_scratch_vs_transfer"
proved = functools.partial(prove, NAME)

# --- 1 and 2 ----------------------------------------------------------------------------------------------------

TRANSFER = {
    "architecture": "resnet18",
    "weights": "pre-trained",
    "size": 64,
    "resize": 64,
    "images": 160,
    "epochs": 4,
    "augment": True,
    "rates": [1e-4, 3e-4, 1e-3],
    "chosen_on": "val",
    "tuning_seed": 100,
    "seeds": [0, 1],
}
SCRATCH = {**TRANSFER, "weights": "none", "rates": [3e-4, 1e-3, 3e-3]}


def but(**change: Any) -> tuple[dict[str, Any]]:
    return ({**SCRATCH, **change},)


def test_equal() -> None:
    wrongs = [
        (but(weights="pre-trained"), "both begin from the same weights"),
        (but(weights="imagenet"), "'imagenet' is not from scratch"),
        (but(epochs=8), "1280 images seen from scratch, 640 with transfer; scratch is favoured"),
        (but(epochs=2), "320 images seen from scratch, 640 with transfer; transfer is favoured"),
        (but(epochs=2, images=320), "of a set of another size"),
        (but(rates=[1e-3]), "one way tries 3 rates, the other 1"),
        (but(rates=[1e-3, 1e-3, 3e-3]), "the same rate twice"),
        (but(rates=1e-3), "expected a list of learning rates"),
        (but(rates=TRANSFER["rates"]), "nothing to keep"),
        (but(rates=[1, 2, 3]), "far below 1"),
        (but(chosen_on="test"), "chosen on 'test'"),
        (but(tuning_seed=0), "is compared too"),
        (but(tuning_seed=7), "chosen on different seeds"),
        (but(seeds=[2, 3]), "subtracted seed by seed"),
        (but(augment=False), "augmentation helps by itself"),
        (but(resize=73), "the other on their centre"),
        (but(architecture="resnet34"), "another network may be better"),
        (but(momentum=0.9), "'momentum' is something that only this way has"),
        (({"weights": "none"},), "'architecture' is missing"),
        ((["none"],), "expected a dictionary such as `transfer`, found list"),
    ]
    proved("equal", (SCRATCH,), wrongs, transfer=TRANSFER)


def test_budget() -> None:
    wrongs = [
        ((lambda n, seen: 20,), "gets as many epochs"),
        ((lambda n, seen: max(1, round(n / 16)),), "fewer images get fewer epochs"),
        ((lambda n, seen: n * seen,), "it multiplies"),
        ((lambda n, seen: seen // 32 if n == 320 else 1,), "these are steps"),
        ((lambda n, seen: round(seen / n),), "it gives 0 epochs"),
        ((lambda n, seen: max(1, seen / n),), "6.4 epochs?"),
        ((lambda n, seen: max(1, math.ceil(seen / n)),), "it rounds 6.4 up"),
        ((lambda n, seen: max(1, seen // n),), "round, do not cut off"),
        ((lambda n, seen: float(max(1, round(seen / n))),), "it returns float"),
        ((lambda n, seen: 2 * round(seen / n),), "40 epochs would see 12800"),
        ((20,), "expected a function, found int"),
    ]
    proved("budget", (lambda n, seen: max(1, round(seen / n)),), wrongs)


# --- 3 ----------------------------------------------------------------------------------------------------------


@functools.cache
def built(**options: Any) -> Any:
    return tl.load_model(**options)


def network(start: str, seed: int, **options: Any) -> Any:
    given = {"arch": "resnet18", "num_classes": 8, "size": 64, "seed": seed}
    given["weights"] = "none" if start == "scratch" else None
    return copy.deepcopy(built(**{**given, **options}))


def test_networks() -> None:
    def another_size(start: str, seed: int) -> Any:
        weights = "none" if start == "scratch" else None
        size = 96 if start == "scratch" else 64
        return tl.load_model("resnet18", num_classes=8, size=size, weights=weights, seed=seed)

    def frozen(start: str, seed: int) -> Any:
        return tl.freeze(network(start, seed))

    def reset(start: str, seed: int) -> Any:
        model = network(start, seed)
        if start == "pre-trained":
            model.layer4[0].conv1.reset_parameters()
        return model

    def head_of_0(start: str, seed: int) -> Any:
        return network(start, seed if start == "scratch" else 0)

    same = network("scratch", 0)
    other = {"scratch": "pre-trained", "pre-trained": "scratch"}
    wrongs = [
        ((another_size,), "'scratch' sees images in another way"),
        ((functools.partial(network, weights=None),), "'scratch' begins from the pre-trained weights"),
        ((functools.partial(network, weights="none"),), "'pre-trained' begins from random numbers"),
        ((lambda start, seed: network(other[start], seed),), "the two are swapped"),
        ((lambda start, seed: network(start, 0),), "every seed begins from the same random numbers"),
        ((head_of_0,), "the new head of 'pre-trained' is the same"),
        ((functools.partial(network, num_classes=None),), "the head of 'pre-trained' has 202 outputs"),
        ((frozen,), "here both ways train everything"),
        ((reset,), "'layer4.0.conv1.weight' of 'pre-trained' is not what was learned"),
        ((functools.partial(network, arch="resnet34"),), "is no ResNet18"),
        ((lambda start, seed: same,), "one network several times"),
        ((lambda start, seed: start,), "it returned str"),
    ]
    proved("networks", (network,), wrongs, classes=8, size=64)


def tries() -> pd.DataFrame:
    rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    seen = {
        "pre-trained": ((0.5, 0.31), (0.6, 0.40), (0.9, 0.35), (0.7, 0.33), (0.4, 0.30)),
        "scratch": ((0.3, 0.12), (0.2, 0.13), (0.4, 0.14), (0.2, 0.20), (0.1, 0.15)),
    }
    rows = [(s, rate, *pair) for s, pairs in seen.items() for rate, pair in zip(rates, pairs, strict=True)]
    return pd.DataFrame(rows, columns=["start", "rate", "train", "val"])


def test_rates() -> None:
    def chosen(scratch: Any, trained: Any = 3e-4) -> tuple[dict[str, Any]]:
        return ({"pre-trained": trained, "scratch": scratch},)

    wrongs = [
        (chosen(3e-4), "scratch: 0.0003 is the best rate of the other way"),
        (chosen(3e-4, 3e-3), "pre-trained: 0.003 is the best rate of the other way"),
        (chosen(3e-3, 1e-3), "pre-trained: 0.001 is the best on the training images"),
        (chosen(1e-4), "scratch: 0.0001 is the worst"),
        (chosen(1e-2), "scratch: 0.01 is the largest rate"),
        (chosen(3e-3, 1e-4), "pre-trained: another rate has a higher validation accuracy"),
        (chosen(0.5), "scratch: 0.5 was not tried"),
        (chosen("best"), "should be a number, found str"),
        (({"scratch": 3e-3},), "expected the keys"),
        ((3e-3,), "found float"),
    ]
    proved("rates", chosen(3e-3), wrongs, tries=tries())
    assert said(tc.Lab(NAME), "rates", *chosen(3e-3), tries=tries())[0] == "right"


def test_rates_that_tie_are_both_right() -> None:
    table = tries()
    table.loc[(table["start"] == "scratch") & (table["rate"] == 1e-3), "val"] = 0.20
    for rate in (1e-3, 3e-3):
        state, text = said(tc.Lab(NAME), "rates", {"pre-trained": 3e-4, "scratch": rate}, tries=table)
        assert state == "right", text


def live(seeds: tuple[int, ...] = (0, 1), epochs: int = 4, **change: Any) -> pd.DataFrame:
    rows = [
        (start, seed, epoch, 0.2 + 0.1 * (start == "pre-trained") + 0.001 * seed + 0.03 * epoch)
        for start, seed, epoch in itertools.product(STARTS, seeds, range(1, epochs + 1))
    ]
    return pd.DataFrame(rows, columns=["start", "seed", "epoch", "val"]).assign(**change)


def test_live() -> None:
    right = live()
    one_seed_less = right[(right["start"] == "scratch") | (right["seed"] == 0)]
    cut = right[(right["start"] == "scratch") | (right["epoch"] < 4)]
    wrongs = [
        ((right.drop(columns="seed"),), "the column 'seed' is missing"),
        ((right[right["start"] == "scratch"],), "`start` should hold"),
        ((live(val=100 * right["val"]),), "give fractions"),
        ((live(seeds=(0, 1, 100)),), "seed 100 is there"),
        ((live(seeds=(2, 3)),), "both ways should have the seeds [0, 1]"),
        ((one_seed_less,), "'pre-trained': [0]"),
        ((live(epoch=right["epoch"] - 1),), "epochs are counted from 1"),
        ((cut,), "one has 3 rows"),
        ((pd.concat([right, right]),), "an epoch appears twice"),
        ((live(val=0.1 * right["epoch"] + 0.1 * (right["start"] == "scratch")),), "is the seed passed on"),
        ((live(val=0.1 * right["epoch"] + 0.1 * right["seed"]),), "is `start` passed on"),
        ((live(val="high"),), "one number in each row"),
        ((right.to_dict(),), "expected a DataFrame, found dict"),
    ]
    proved("live", (right,), wrongs, seeds=[0, 1], epochs=4, tuning_seed=100)


# --- 4 ----------------------------------------------------------------------------------------------------------


def at(curve: list[float], epoch: int) -> float | None:
    return curve[epoch - 1] if 1 <= epoch <= len(curve) else None


def test_at() -> None:
    wrongs = [
        ((lambda c, e: c[e],), "at the last epoch it fails"),
        ((lambda c, e: c[e] if e < len(c) else c[-1],), "one epoch too late"),
        ((lambda c, e: c[e - 1],), "after the end of the curve it fails with IndexError"),
        ((lambda c, e: c[min(e, len(c)) - 1],), "makes up an accuracy"),
        ((lambda c, e: c[e - 1] if e <= len(c) else None,), "epoch 0 does not exist"),
        ((lambda c, e: max(c[:e], default=None),), "the best so far"),
        ((lambda c, e: at(c, 6 - e),), "at epoch 1 of [0.2"),
        ((lambda c, e: None if e > 4 else at(c, e),), "it says that there is none"),
        ((lambda c, e: c["epoch"],), "it fails with TypeError"),
        ((0.35,), "expected a function, found float"),
    ]
    proved("at", (at,), wrongs)


def first(curve: list[float], mark: float) -> int | None:
    return next((epoch for epoch, accuracy in enumerate(curve, start=1) if accuracy >= mark), None)


def or_else(value: Any) -> Callable[[list[float], float], Any]:
    return lambda curve, mark: first(curve, mark) or value


def test_first() -> None:
    def stays(curve: list[float], mark: float) -> int | None:
        return next((e for e in range(1, len(curve) + 1) if min(curve[e - 1 :]) >= mark), None)

    wrongs = [
        ((or_else(5),), "it says the last epoch"),
        ((or_else(6),), "one after the last epoch"),
        ((or_else(0),), "it says 0;"),
        ((or_else(-1),), "it says -1;"),
        ((lambda c, m: int(np.argmax(np.array(c) >= m)) + 1,), "`argmax` of only False is 0"),
        ((lambda c, m: next(e for e, a in enumerate(c, 1) if a >= m),), "it fails with StopIteration"),
        ((lambda c, m: next((e for e, a in enumerate(c) if a >= m), None),), "it counts from 0"),
        ((lambda c, m: next((e for e, a in enumerate(c, 1) if a > m), None),), "`>=` and not `>`"),
        ((lambda c, m: max((e for e, a in enumerate(c, 1) if a >= m), default=None),), "the last epoch at or above"),
        ((lambda c, m: c.index(max(c)) + 1 if max(c) >= m else None,), "the epoch of the highest accuracy"),
        ((stays,), "it waits until the curve stays above"),
        ((lambda c, m: first(c, m + 1),), "it says never where the curve does reach"),
        ((3,), "expected a function, found int"),
    ]
    proved("first", (first,), wrongs)


@pytest.mark.parametrize("never", [None, math.nan, math.inf])
def test_never_may_be_said_in_three_methods(never: float | None) -> None:
    assert said(tc.Lab(NAME), "first", or_else(never))[0] == "right"


def median(epochs: list[Any], never: float = math.inf) -> float | None:
    middle = float(np.median([never if pd.isna(epoch) else epoch for epoch in epochs]))
    return middle if math.isfinite(middle) else None


def test_median() -> None:
    def dropped(epochs: list[Any]) -> float | None:
        kept = [epoch for epoch in epochs if not pd.isna(epoch)]
        return float(np.median(kept)) if kept else None

    def gives_up(epochs: list[Any]) -> float | None:
        return None if any(pd.isna(epoch) for epoch in epochs) else float(np.median(epochs))

    def middle_place(epochs: list[Any]) -> Any:
        return epochs[len(epochs) // 2]

    wrongs = [
        ((dropped,), "it leaves out the seeds that never arrived"),
        ((functools.partial(median, never=20),), "it says 20; the median seed never arrived"),
        ((functools.partial(median, never=0),), "it counts never as very early"),
        ((gives_up,), "it gives up"),
        ((lambda epochs: float(np.mean(epochs)),), "that is the mean"),
        ((lambda epochs: float(np.median(epochs)),), "for 8, never, 10, never, 9 it fails with TypeError"),
        ((middle_place,), "put it in order first"),
        ((lambda epochs: min(epochs),), "the median of 12, 3, 4, 8, 11 is too small"),
        ((functools.partial(median, never=9.5),), "the median of 8, 9, 10, never, never is too small"),
        ((8,), "expected a function, found int"),
    ]
    proved("median", (median,), wrongs)


# --- 5 ----------------------------------------------------------------------------------------------------------


@functools.cache
def runs() -> pd.DataFrame:
    """Two ways, five seeds, six epochs; the tests are easier than the validation images."""
    generator = np.random.default_rng(3)
    rows = []
    for (number, start), seed in itertools.product(enumerate(STARTS), range(5)):
        val = (0.45 - 0.2 * number + 0.05 * generator.random(6)).round(4).tolist()
        train = (0.3 + 0.1 * np.arange(6) + 0.05 * generator.random(6)).round(4).tolist()
        test = round(0.6 - 0.12 * number + 0.02 * seed + 0.05 * generator.random(), 4)
        rows.append((start, seed, val, train, test))
    return pd.DataFrame(rows, columns=["start", "seed", "val", "train_acc", "test"])


def exploded(column: str = "val") -> pd.DataFrame:
    rows = [
        (run["start"], run["seed"], epoch, value)
        for run in runs().to_dict("records")
        for epoch, value in enumerate(run[column], start=1)
    ]
    return pd.DataFrame(rows, columns=["start", "seed", "epoch", "val"])


def test_long() -> None:
    right = exploded()
    mixed = right.assign(val=right["val"].to_numpy()[::-1])
    wrongs = [
        ((right.assign(epoch=right["epoch"] - 1),), "epochs are counted from 1"),
        ((right.groupby(["start", "epoch"], as_index=False)["val"].mean(),), "the seeds are averaged away"),
        ((right.drop(columns="epoch"),), "the column 'epoch' is missing"),
        ((runs().assign(epoch=1),), "`val` still holds lists"),
        ((right.assign(epoch=range(1, 61)),), "the epochs go on counting"),
        ((right.assign(epoch=1),), "an epoch appears twice"),
        ((right.assign(val=100 * right["val"]),), "give fractions"),
        ((exploded("train_acc"),), "these are the training accuracies"),
        ((mixed,), "do not belong to their epochs"),
        ((right.head(7),), "7 rows; expected one for each epoch"),
        ((right["val"],), "found Series"),
    ]
    proved("long", (right,), wrongs, runs=runs())
    shuffled = right.sample(frac=1, random_state=0).astype({"val": object})
    assert said(tc.Lab(NAME), "long", shuffled, runs=runs())[0] == "right"


def test_paired() -> None:
    wide = 100 * runs().pivot(index="seed", columns="start", values="test")
    difference = wide["pre-trained"] - wide["scratch"]
    mean, margin = float(difference.mean()), margin_of_error(difference, 0.95)
    deviation, error = float(difference.std()), float(difference.std()) / 5**0.5
    apart = stats.ttest_ind(wide["pre-trained"], wide["scratch"], equal_var=False).confidence_interval(0.95)
    last = 100 * runs().groupby("start")["val"].apply(lambda curves: np.mean([curve[-1] for curve in curves]))

    def around(half: float, verdict: str = "ahead") -> tuple[Any, ...]:
        return mean, mean - half, mean + half, verdict

    wrongs = [
        ((mean / 100, 0, 1, "ahead"), "the mean is a fraction"),
        ((-mean, -mean - margin, -mean + margin, "behind"), "the sign is wrong"),
        ((float(last["pre-trained"] - last["scratch"]), 0, 1, "ahead"), "take `test`"),
        ((float(wide["pre-trained"].mean()), 0, 1, "ahead"), "that is one way alone"),
        ((mean, mean + margin, mean - margin, "ahead"), "the lower end is above"),
        ((mean, 0, margin, "ahead"), "does not lie around the mean"),
        (around(margin * 5**0.5), "of a single run"),
        (around(deviation), "standard deviation of the differences"),
        (around(error), "that is the standard error"),
        (around(1.96 * error), "1.96 belongs to very many seeds"),
        (around(float(stats.t.ppf(0.95, 4)) * error), "of both sides together take 0.975"),
        (around(float(stats.t.ppf(0.975, 5)) * error), "one fewer than the seeds"),
        (around(float(difference.std(ddof=0)) * margin / deviation), "`ddof=1`"),
        (around(float(apart.high - apart.low) / 2), "as unrelated"),
        (around(margin, "behind"), "'behind' does not follow"),
        (around(margin, "not shown"), "'not shown' does not follow"),
        (around(margin, "better"), "the verdict should be one of"),
    ]
    proved("paired", around(margin), wrongs, runs=runs())


def test_a_difference_within_its_margin_is_not_shown() -> None:
    even = runs().assign(test=[0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.5])
    wide = 100 * even.pivot(index="seed", columns="start", values="test")
    difference = wide["pre-trained"] - wide["scratch"]
    mean, margin = float(difference.mean()), margin_of_error(difference, 0.95)
    for verdict, state in (("not shown", "right"), ("behind", "wrong"), ("ahead", "wrong")):
        answers = (mean, mean - margin, mean + margin, verdict)
        assert said(tc.Lab(NAME), "paired", *answers, runs=even)[0] == state


# --- 6 ----------------------------------------------------------------------------------------------------------

SETS = {"safari": (80, 320, 1600), "chest_xray": (20, 100, 3652)}
CLASSES = {"safari": 8, "chest_xray": 2}


def grid(change: dict[str, float], noise: float = 0.01) -> pd.DataFrame:
    """Runs whose gain changes by so much from each size to the next."""
    generator, rows = np.random.default_rng(1), []
    levels = {"scratch": 0.3, "frozen": 0.45, "everything": 0.5}
    for network, (name, sizes), method, seed in itertools.product(
        ("resnet18", "vgg16"), SETS.items(), levels, range(5)
    ):
        for step, count in enumerate(sizes):
            extra = change[name] * step if method == "everything" else 0.02 * (method == "frozen") * step
            score = (
                levels[method] + extra + 0.1 * (network == "vgg16") * (method == "scratch") + noise * generator.random()
            )
            per_class = count / CLASSES[name] if count < 3000 else math.nan
            rows.append((network, method, name, per_class, seed, count, score))
    columns = ["network", "method", "data", "per_class", "seed", "train_images", "balanced_accuracy"]
    return pd.DataFrame(rows, columns=columns)


def of_grid(table: pd.DataFrame) -> dict[str, dict[float, float]]:
    return {name: gain_table(table, name).mean(axis=1).to_dict() for name in SETS}


def test_gains() -> None:
    table = grid({"safari": 0.05, "chest_xray": -0.03})
    right = of_grid(table)

    def all_of(change: Callable[[dict[float, float]], Any]) -> tuple[Any]:
        return ({name: change(row) for name, row in right.items()},)

    frozen = {name: gain_table(table, name, "frozen").mean(axis=1) for name in SETS}
    means = table.groupby(["data", "train_images", "method"])["balanced_accuracy"].mean().unstack("method")
    networks = 100 * (means["everything"] - means["scratch"])
    wrongs = [
        (all_of(lambda row: {count: value / 100 for count, value in row.items()}), "these are fractions"),
        (all_of(lambda row: {count: -value for count, value in row.items()}), "the sign is wrong"),
        ((frozen,), "that is the way 'frozen'"),
        (({name: networks[name] for name in SETS},), "averaged over all networks"),
        (({**right, "safari": dict(zip((10, 40, 200), right["safari"].values(), strict=True))},), "of one class"),
        (({**right, "chest_xray": {n: right["chest_xray"][n] for n in (20, 100)}},), "3652 images are missing"),
        (({**right, "safari": {**right["safari"], 5: 1.0}},), "no runs have 5 training images"),
        (({**right, "safari": {**right["safari"], 80: 99.0}},), "with 80 images is too large"),
        (({"safari": right["safari"]},), "'chest_xray' is missing"),
        (({**right, "safari": [1, 2, 3]},), "found list"),
        ((3.0,), "found float"),
    ]
    proved("gains", (right,), wrongs, runs=table, names=tuple(SETS))
    as_frame = (pd.DataFrame(right),)
    assert said(tc.Lab(NAME), "gains", *as_frame, runs=table, names=tuple(SETS))[0] == "right"


def test_growth() -> None:
    table = grid({"safari": 0.05, "chest_xray": 0.004}, noise=0.1)
    assert gain_table(table, "chest_xray").mean(axis=1).diff().iloc[1:].sum() != 0
    change = gain_table(table, "chest_xray").iloc[-1] - gain_table(table, "chest_xray").iloc[0]
    by_mean, other = ("grows", "shrinks") if change.mean() > 0 else ("shrinks", "grows")
    right = {"safari": "grows", "chest_xray": "not shown"}
    wrongs = [
        (({**right, "chest_xray": by_mean},), f"the two means say '{by_mean}'"),
        (({**right, "chest_xray": other},), f"not even the means say '{other}'"),
        (({**right, "safari": "not shown"},), "larger than its margin"),
        (({**right, "safari": "shrinks"},), "safari: as it stands in textbooks"),
        (({**right, "safari": "up"},), "expected one of shrinks, grows, not shown"),
        (({"safari": "grows"},), "'chest_xray' is missing"),
        ((["grows", "not shown"],), "found list"),
    ]
    proved("growth", (right,), wrongs, runs=table, names=tuple(SETS))


@pytest.mark.parametrize(("exercise", "right"), [("why", "B"), ("parts", "C")])
def test_choices(exercise: str, right: str) -> None:
    others = [((letter,), f"{letter} is not it.") for letter in "ABCD" if letter != right]
    proved(exercise, (right,), [*others, (("E",), "found 'E'"), ((3,), "found int")])


# --- 7 and 8 ----------------------------------------------------------------------------------------------------


def test_optimism() -> None:
    values = {start: 100 * np.array(rows["val"].tolist()) for start, rows in runs().groupby("start")}
    trained = {start: 100 * np.array(rows["train_acc"].tolist()) for start, rows in runs().groupby("start")}
    test = {start: 100 * rows["test"].to_numpy() for start, rows in runs().groupby("start")}

    def each(of: Callable[[str], Any]) -> dict[str, float]:
        return {start: float(of(start)) for start in STARTS}

    right = each(lambda s: (values[s].max(1) - values[s][:, -1]).mean())
    wrongs = [
        (({start: value / 100 for start, value in right.items()},), "that is a fraction"),
        (({start: -value for start, value in right.items()},), "the sign is wrong"),
        ((each(lambda s: values[s].mean(0).max() - values[s].mean(0)[-1]),), "the maximum of the mean curve"),
        ((each(lambda s: values[s].max() - values[s][:, -1].mean()),), "the best of all seeds"),
        ((each(lambda s: (values[s].max(1) - test[s]).mean()),), "subtracts the test accuracy"),
        ((each(lambda s: (values[s].max(1) - values[s][:, 0]).mean()),), "subtracts the first epoch"),
        ((each(lambda s: (trained[s].max(1) - trained[s][:, -1]).mean()),), "these are training accuracies"),
        ((each(lambda s: values[s].max(1).mean()),), "that is the best itself"),
        (({**right, "scratch": 90.0},), "scratch: the difference is too large"),
        (({"scratch": right["scratch"]},), "'pre-trained' is missing"),
        ((1.0,), "found float"),
    ]
    proved("optimism", (right,), wrongs, runs=runs())


TEXT = (
    "With the same network and an equal budget, transfer was ahead on test by twenty points, and the interval over "
    "five seeds leaves zero out. Each way had three tries for its learning rate. It was also sooner: at the lower mark "
    "in the first epoch, whereas for the higher one most runs from scratch never arrived. Whether more data make it "
    "shrink was impossible to tell. Unless it is measured elsewhere, it holds for this drawn set and one small network."
)


def test_text() -> None:
    wrongs = [
        (("Transfer is better.",), "3 words; write at least 60"),
        (("transfer " * 80,), "the same few words"),
        ((TEXT.replace("same", "small").replace("equal", "small").replace("budget", "cost"),), "what was equal"),
        ((TEXT.replace("tries", "goes").replace("rate", "step"),), "how the learning rates were chosen"),
        ((TEXT.replace("seeds", "goes").replace("interval", "band"),), "how far the seeds agree"),
        ((TEXT.replace("more data make it shrink", "it is so elsewhere"),), "what more data does"),
        ((5,), "found int"),
    ]
    proved("text", (TEXT,), wrongs)


# --- what the lab takes for granted -----------------------------------------------------------------------------


def test_the_results_files_have_what_the_lab_asks_for() -> None:
    curves = tc.load_results("curves").runs
    assert set(curves["start"]) == set(STARTS)
    assert (curves.groupby("start")["seed"].nunique() >= 5).all()
    table = tc.load_results("transfer").runs
    assert all(gain_table(table, name).shape == (3, 5) for name in SETS)
    assert gain_table(table, "safari").notna().all(axis=None)
