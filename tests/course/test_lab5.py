"""Lab 5's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from lab_answers import prove, said
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from torch import nn

import tlcourse as tc

proved = functools.partial(prove, "lab5_xray_pneumonia")


# --- 1 audit ----------------------------------------------------------------------------------------------------


def audit(table: pd.DataFrame, images: list[Any]) -> dict[str, Any]:
    parts = table.groupby("patient")["part"].nunique()
    content = pd.Series([(image.size, image.tobytes()) for image in images])
    sizes = [image.size for image in images]
    usual = Counter(sizes).most_common(1)[0][0]
    return {
        "patients in two parts": list(parts[parts > 1].index),
        "copies": list(table["file"][content.duplicated()]),
        "odd sizes": list(table["file"][[size != usual for size in sizes]]),
        "share of pneumonia": table["label"].eq("PNEUMONIA").groupby(table["part"]).mean().to_dict(),
    }


def audited(name: str, change: Callable[[pd.DataFrame, list[Any], Any], Any]) -> Any:
    """The right audit, but one finding is what `change` makes of (table, images, right finding)."""

    def changed(table: pd.DataFrame, images: list[Any]) -> dict[str, Any]:
        right = audit(table, images)
        return {**right, name: change(table, images, right[name])}

    return changed


def only_train_and_test(table: pd.DataFrame, _: Any, __: Any) -> list[str]:
    return sorted(set(table["patient"][table["part"] == "train"]) & set(table["patient"][table["part"] == "test"]))


def within_parts(table: pd.DataFrame, images: list[Any], _: Any) -> list[str]:
    content = table.assign(content=[image.tobytes() for image in images])
    return list(content["file"][content.duplicated(["part", "content"])])


def test_audit() -> None:
    two, copies, odd, share = "patients in two parts", "copies", "odd sizes", "share of pneumonia"
    everyone = audited(two, lambda t, p, r: [n for n, count in t["patient"].value_counts().items() if count > 1])
    both = audited(copies, lambda t, p, r: list(t["file"][pd.Series([x.tobytes() for x in p]).duplicated(keep=False)]))
    first = audited(copies, lambda t, p, r: list(t["file"][pd.Series([x.tobytes()[1:] for x in p]).duplicated()]))
    wrongs = [
        ((everyone,), "several images are no fault"),
        ((audited(two, only_train_and_test),), "one who is in train and val is missed"),
        ((audited(two, lambda t, p, r: []),), "it names none"),
        ((both,), "the first of equal files is no copy"),
        ((audited(copies, within_parts),), "only those inside of parts are found"),
        ((audited(copies, lambda t, p, r: [f for f in r if f != "5.png"]),), "only those across parts are found"),
        ((audited(copies, lambda t, p, r: list(t["file"][pd.Series([id(x) for x in p]).duplicated()])),), "none found"),
        ((first,), "differs from another in one pixel"),
        ((audited(odd, lambda t, p, r: [f for f in r if f == "7.png"]),), "width and height, both"),
        ((audited(share, lambda t, p, r: {k: 1 - v for k, v in r.items()}),), "those of the normal images"),
        ((audited(share, lambda t, p, r: {k: 100 * v for k, v in r.items()}),), "counts or per cent"),
        ((audited(share, lambda t, p, r: {k: 8 / 12 for k in r}),), "that of 'train' is 0.667"),
        ((lambda t, p: {two: [], copies: [], odd: []},), "no 'share of pneumonia'"),
        ((lambda t, p: [1],), "it returned list"),
    ]
    proved("audit", (audit,), wrongs)


# --- 2 marker ---------------------------------------------------------------------------------------------------


def test_marker() -> None:
    plain = np.full((6, 64, 64), 100, dtype=np.uint8)
    marked = plain.copy()
    marked[:4, 5:12, 6:13] = 240
    wrongs = [
        (((8, 9),), "give fractions of height and width"),
        (((0.13, 0.86),), "is it the other side?"),
        (((0.87, 0.15),), "row 0 is the top"),
        (((0.6, 0.3),), "that is in the chest"),
        (((0.95, 0.95),), "by chance only"),
        (((-0.1, 0.1),), "they are not negative"),
        ((0.13,), "expected a pair"),
    ]
    proved("marker", ((0.13, 0.15),), wrongs, marked=marked, plain=plain)


# --- 3 divide ---------------------------------------------------------------------------------------------------


def divide(patients: Any, labels: Any, seed: int) -> tuple[Any, Any, Any]:
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(patients, labels, patients)
    fifths = [chosen for _, chosen in folds]
    return np.concatenate(fifths[2:]), fifths[1], fifths[0]


def by_image(patients: Any, labels: Any, seed: int) -> tuple[Any, Any, Any]:
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    train, val = train_test_split(rest, test_size=0.25, stratify=labels[rest], random_state=seed)
    return train, val, test


def half_by_patient(patients: Any, labels: Any, seed: int) -> tuple[Any, Any, Any]:
    """The test set by patient, the validation set by image."""
    a, b, test = divide(patients, labels, seed)
    train, val = train_test_split(np.r_[a, b], test_size=0.25, random_state=seed)
    return train, val, test


def one_class(patients: Any, labels: Any, seed: int) -> tuple[Any, Any, Any]:
    ill = np.unique(patients[labels == 1])
    test = np.flatnonzero(np.isin(patients, ill[:16]))
    train, val, other = divide(patients, labels, seed)
    return np.setdiff1d(np.r_[train, other], test), np.setdiff1d(val, test), test


def test_divide() -> None:
    def altered(change: Callable[..., Any]) -> Callable[..., Any]:
        return lambda patients, labels, seed: change(*divide(patients, labels, seed))

    drifting = iter(range(100))
    wrongs = [
        ((by_image,), "train and val: images were divided, not patients"),
        ((altered(lambda a, b, c: (a, c, c)),), "is in two parts"),
        ((altered(lambda a, b, c: (a[5:], b, c)),), "5 of "),
        ((altered(lambda a, b, c: (a, b)),), "three lists of row numbers"),
        ((lambda p, y, seed: np.split(np.unique(p), [48, 64]),), "not names"),
        ((altered(lambda a, b, c: (c, b, a)),), "'train' has"),
        ((one_class,), "'test' has images of one class only"),
        ((lambda p, y, seed: divide(p, y, 0),), "every seed gives the same division"),
        ((lambda p, y, seed: divide(p, y, next(drifting)),), "the same seed gives another division"),
    ]
    proved("divide", (divide,), wrongs)
    proved("divide", (divide,), [((half_by_patient,), "is in train and val"), *wrongs[1:4]])


# --- 4 numbers --------------------------------------------------------------------------------------------------


def numbers(scores: Any, labels: Any, threshold: float, **change: Any) -> dict[str, float]:
    right = tc.clinical_scores(scores, labels, threshold)
    return {name: right[name] for name in ("AUC", "balanced accuracy", "sensitivity", "specificity")} | change


def test_numbers() -> None:
    def swapped(x: Any, y: Any, at: float) -> dict[str, float]:
        right = numbers(x, y, at)
        return right | {"sensitivity": right["specificity"], "specificity": right["sensitivity"]}

    def precision(x: Any, y: Any, at: float) -> dict[str, float]:
        return numbers(x, y, at, sensitivity=y[x >= at].mean())

    def accuracy(x: Any, y: Any, at: float) -> dict[str, float]:
        return numbers(x, y, at, **{"balanced accuracy": ((x >= at) == y).mean()})

    def hard(x: Any, y: Any, at: float) -> dict[str, float]:
        return numbers(x, y, at, AUC=roc_auc_score(y, x >= at))

    wrongs = [
        ((swapped,), "sensitivity and specificity are swapped"),
        ((hard,), "the AUC was computed from decisions"),
        ((accuracy,), "that is the accuracy"),
        ((lambda x, y, at: numbers(x, y, at, AUC=roc_auc_score(y, -x)),), "the AUC is turned round"),
        ((lambda x, y, at: numbers(x, y, at + 1e-9),), "compare with `>=`"),
        ((lambda x, y, at: numbers(x, y, 0.5),), "is the threshold used?"),
        ((precision,), "that is the precision"),
        ((lambda x, y, at: {k: 100 * v for k, v in numbers(x, y, at).items()},), "give fractions"),
        ((lambda x, y, at: numbers(x, y, at)["AUC"],), "it returned float"),
    ]
    proved("numbers", (numbers,), wrongs)


# --- 5 grey, 6 weights ------------------------------------------------------------------------------------------


def grey(conv: Any, weigh: Any = None, bias: bool = True, **change: Any) -> nn.Conv2d:
    size = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding, **change}
    new = nn.Conv2d(1, conv.out_channels, bias=bias, **size)
    with torch.no_grad():
        new.weight.copy_((weigh or (lambda w: w.sum(1, keepdim=True)))(conv.weight))
        if bias:
            new.bias.copy_(conv.bias)  # type: ignore[union-attr]
    return new


def test_grey() -> None:
    def in_place(conv: Any) -> Any:
        conv.weight = nn.Parameter(conv.weight.sum(1, keepdim=True))
        conv.in_channels = 1
        return conv

    wrongs = [
        ((lambda c: grey(c, lambda w: w.mean(1, keepdim=True)),), "that is the mean of the three"),
        ((lambda c: grey(c, lambda w: w[:, :1]),), "one colour's weights"),
        ((lambda c: grey(c, lambda w: torch.ones_like(w[:, :1])),), "do not come from the old layer"),
        ((lambda c: grey(c, bias=False),), "the old layer has a bias"),
        ((lambda c: grey(c, stride=1),), "kernel size, stride or padding differ"),
        ((copy.deepcopy,), "it takes 3 channels"),
        ((in_place,), "make a new one"),
        ((lambda c: c.weight.sum(1),), "it returned Tensor"),
    ]
    proved("grey", (grey,), wrongs)


def test_weights() -> None:
    def counts(labels: Any) -> Any:
        return torch.bincount(labels).float()

    wrongs = [
        ((lambda y: torch.ones(2),), "both weights are equal"),
        ((counts,), "the frequent class weighs more"),
        ((lambda y: (1 / counts(y)).sqrt(),), "that is the root"),
        ((lambda y: counts(y) ** -2,), "the square of the right ratio"),
        ((lambda y: (1 / counts(y))[y],), "a weight for each image"),
        ((lambda y: 4.0,), "it returned 1"),
        ((lambda y: 1 - counts(y) / 10,), "above zero and finite"),
    ]
    proved("weights", (lambda y: len(y) / (2 * counts(y)),), wrongs)


# --- 7 threshold ------------------------------------------------------------------------------------------------


def part(seed: int, count: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds, labels and patients."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(count), 2)
    labels = (patients % 3 != 0).astype(int)
    return 3 * rng.normal(1.5 * labels - 0.7, 1.0), labels, patients


def chance(seed: int) -> tuple[np.ndarray, np.ndarray]:
    log_odds, labels, _ = part(seed)
    return tc.to_probabilities(log_odds), labels


def choose(scores: Any, labels: Any, sensitivity: float) -> float:
    return tc.threshold_for(scores, labels, sensitivity=sensitivity)


def best_balanced(scores: Any, labels: Any, sensitivity: float) -> float:
    return max(np.unique(scores), key=lambda s: tc.clinical_scores(scores, labels, s)["balanced accuracy"])


def test_threshold() -> None:
    val, test = chance(0), chance(1)
    right = choose(*val, 0.95)
    too_few = lambda x, y, s: np.sort(x[y == 1])[::-1][int(s * (y == 1).sum()) - 1]  # noqa: E731
    wrongs = [
        ((choose, choose(*test, 0.95)), "that of the test set"),
        ((choose, 0.5), "which it did not choose"),
        ((choose, right + 0.01), "not what it gives for the validation set"),
        ((lambda x, y, s: 0.5, 0.5), "it returns 0.5 whatever"),
        ((lambda x, y, s: x.min(), right), "everybody is called ill"),
        ((best_balanced, right), "the best balanced accuracy"),
        ((lambda x, y, s: np.quantile(x[y == 0], s), right), "chosen among those who are not ill"),
        ((lambda x, y, s: np.quantile(x, 1 - s), right), "a quantile of all scores"),
        ((too_few, right), "round towards finding more"),
        ((lambda x, y, s: np.sort(x[y == 1])[0], right), "more than needed"),
        ((0.3, 0.3), "expected a function"),
    ]
    given = {"val": val, "test": test, "sensitivity": 0.95}
    proved("threshold", (choose, right), wrongs, **given)
    lower = lambda x, y, s: np.quantile(x[y == 1], 1 - s, method="lower")  # noqa: E731
    assert said(tc.Lab("lab5_xray_pneumonia"), "threshold", lower, lower(*val, 0.95), **given)[0] == "right"


# --- 8 interval -------------------------------------------------------------------------------------------------


def bootstrap(
    measure: Any,
    scores: Any,
    labels: Any,
    patients: Any,
    repeats: int,
    seed: int,
    *,
    rows: Callable[[Any, Any], Any] | None = None,
    ends: Callable[[Any], Iterable[float]] = lambda v: np.quantile(v, [0.025, 0.975]),
) -> tuple[float, ...]:
    names = np.unique(patients)
    rng = np.random.default_rng(seed)

    def usual(rng: Any, patients: Any) -> Any:
        return np.concatenate([np.flatnonzero(patients == name) for name in rng.choice(names, len(names))])

    drawn = [(rows or usual)(rng, patients) for _ in range(repeats)]
    return tuple(float(end) for end in ends(np.array([measure(scores[i], labels[i]) for i in drawn])))


def unmatched(measure: Any, scores: Any, labels: Any, patients: Any, repeats: int, seed: int) -> tuple[float, ...]:
    return bootstrap(lambda x, y: measure(x, y[::-1]), scores, labels, patients, repeats, seed)


def test_interval() -> None:
    def made(**change: Any) -> tuple[Any]:
        return (functools.partial(bootstrap, **change),)

    def alone(measure: Any, *rest: Any) -> tuple[float, ...]:
        return bootstrap(measure, *rest[:3], 20, rest[4])

    fresh = iter(range(1000))
    wrongs = [
        (made(rows=lambda rng, p: rng.choice(len(p), len(p))), "images are drawn, not patients"),
        (made(rows=lambda rng, p: rng.permutation(len(p))), "draw with replacement"),
        (made(rows=lambda rng, p: np.flatnonzero(np.isin(p, rng.choice(25, 25)))), "`np.isin` forgets how often"),
        (made(ends=lambda v: np.quantile(v, [0.05, 0.95])), "the middle 90 %"),
        (made(ends=lambda v: (v.min(), v.max())), "the smallest and the largest"),
        (made(ends=lambda v: v.mean() + 1.96 * v.std() / len(v) ** 0.5 * np.array([-1, 1])), "the root of the number"),
        (made(ends=lambda v: v.mean() + v.std() * np.array([-1, 1])), "one standard deviation"),
        (made(ends=lambda v: np.quantile(v, [0.975, 0.025])), "swapped"),
        (made(ends=lambda v: v[:3]), "it should return two numbers"),
        ((unmatched,), "do not belong together"),
        ((alone,), "was called 20 times"),
        ((lambda *given: bootstrap(*given[:-1], 0),), "another seed gives the same interval"),
        ((lambda *given: bootstrap(*given[:-1], next(fresh)),), "another interval the second time"),
    ]
    proved("interval", (bootstrap,), wrongs)


# --- 9 temperature ----------------------------------------------------------------------------------------------


def test_temperature() -> None:
    val, test = part(0)[:2], part(1)[:2]
    right = tc.fit_temperature(*val)

    def by_accuracy(x: Any, y: Any) -> float:
        loss = lambda t: ((tc.to_probabilities(x, t) > 0.5) != y).mean()  # noqa: E731
        return float(minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x)

    wrongs = [
        ((tc.fit_temperature, tc.fit_temperature(*test)), "was fitted on the test set"),
        ((tc.fit_temperature, 2 * right), "not what it gives for the validation set"),
        ((lambda x, y: 1 / tc.fit_temperature(x, y), right), "divided by it, not multiplied"),
        ((lambda x, y: np.log(tc.fit_temperature(x, y)), right), "the temperature's logarithm"),
        ((lambda x, y: 1.0, right), "does the optimisation start there"),
        ((lambda x, y: -tc.fit_temperature(x, y), right), "above zero"),
        ((by_accuracy, right), "has the least cross-entropy"),
        ((right, right), "expected a function"),
    ]
    proved("temperature", (tc.fit_temperature, right), wrongs, val=val, test=test)


# --- 10 report --------------------------------------------------------------------------------------------------

TEST = part(1)


def reported(looks: int = 1, **change: Any) -> tc.ClinicalReport:
    report = tc.ClinicalReport("toy")
    given = {"log_odds": TEST[0], "labels": TEST[1], "patients": TEST[2], "threshold": 0.3, "temperature": 2.0}
    given |= {"subgroups": np.where(TEST[1] == 1, "ill", "none"), "repeats": 20}
    for _ in range(looks):
        report.evaluate(**{**given, **change}, reason="to see what is said")  # type: ignore[arg-type]
    return report


def test_report() -> None:
    other = part(0, count=50)
    elsewhere = reported(log_odds=other[0], labels=other[1], patients=other[2], subgroups=None)
    wrongs = [
        ((tc.ClinicalReport("toy"),), "was not evaluated yet"),
        ((reported(looks=2),), "was evaluated 2 times"),
        ((elsewhere,), "100 images were evaluated, and the test set has 160"),
        ((reported(threshold=0.5),), "the threshold was 0.5"),
        ((reported(temperature=1.0),), "the temperature was 1"),
        ((reported(patients=np.arange(160)),), "each image stands as a patient"),
        ((reported(log_odds=-TEST[0]),), "the AUC is turned round"),
        ((reported(log_odds=tc.to_probabilities(TEST[0])),), "were probabilities handed over?"),
        ((reported(subgroups=None),), "nobody sees whom the network fails"),
        ((reported().looks[0],), "expected the report, found Look"),
    ]
    proved("report", (reported(),), wrongs, threshold=0.3, temperature=2.0, test=TEST)


# --- 11 heat, 12 shortcut, 13 card ------------------------------------------------------------------------------


def scored(heat: Any, mask: Any) -> tuple[bool, float]:
    found = tc.pointing_game(heat, mask)
    return found.hit, found.iou


def test_heat() -> None:
    def above_half(heat: Any, mask: Any) -> tuple[bool, float]:
        hot = heat > 0.5 * heat.max()
        return scored(heat, mask)[0], float((hot & mask).sum() / (hot | mask).sum())

    def any_overlap(heat: Any, mask: Any) -> tuple[bool, float]:
        return tc.pointing_game(heat, mask).overlap > 0, scored(heat, mask)[1]

    def turned(heat: Any, mask: Any) -> tuple[bool, float]:
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        return bool(mask[column % 9, row]), scored(heat, mask)[1]

    def careless(heat: Any, mask: Any) -> tuple[bool, float]:
        return bool(mask.ravel()[heat.argmax()]), scored(heat, mask)[1]

    wrongs = [
        ((careless,), "a map of zeros counts for the upper left corner"),
        ((above_half,), "only pixels above one half were taken"),
        ((any_overlap,), "only the one hottest pixel decides"),
        ((turned,), "are row and column in their order?"),
        ((lambda h, m: (not scored(h, m)[0], scored(h, m)[1]),), "the hit is turned round"),
        ((lambda h, m: (scored(h, m)[0], tc.pointing_game(h, m).overlap),), "divide by the union"),
        ((lambda h, m: (scored(h, m)[0], float(m.mean())),), "the share of the image that the mask covers"),
        ((lambda h, m: scored(h, m)[1],), "it should return two things"),
        ((lambda h, m: (int(scored(h, m)[0]), 0.1),), "True or False, found int"),
    ]
    proved("heat", (scored,), wrongs)


def test_shortcut() -> None:
    marked, labels, _ = part(2)
    plain = marked - 2.0 * labels + np.random.default_rng(0).normal(0, 1, len(labels))
    a, b = roc_auc_score(labels, marked), roc_auc_score(labels, plain)
    hard = [roc_auc_score(labels, scores >= 0) for scores in (marked, plain)]
    wrongs = [
        ((b - a,), "the sign is turned round"),
        ((100 * (a - b),), "not points"),
        ((a,), "subtract the one without"),
        ((b,), "it is the difference that is asked for"),
        ((hard[0] - hard[1],), "that came from decisions"),
        (((a - b) / a,), "the loss relative to the AUC"),
        ((3.0,), "too large"),
    ]
    proved("shortcut", (a - b,), wrongs, marked=marked, plain=plain, labels=labels)


CARD = {
    "intended use": "It is meant for teaching the methods of a study, and must never be used to judge a patient.",
    "data": "Drawn chests, no people; two images of each patient, and the parts were divided by patient.",
    "limits": "Another hospital, another device or another prevalence changes the numbers; a letter was a shortcut.",
}


def test_card() -> None:
    wrongs = [
        (({k: v for k, v in CARD.items() if k != "limits"},), "the section 'limits' is missing"),
        (({**CARD, "licence": "MIT"},), "no section 'licence'"),
        (({**CARD, "limits": "None that we know of."},), "'limits': 5 words"),
        (({**CARD, "limits": CARD["limits"].replace("prevalence", "season")},), "another prevalence"),
        (({**CARD, "data": CARD["data"].replace("Drawn chests", "Chests")},), "whom or what the images show"),
        (({**CARD, "intended use": CARD["intended use"].replace("never", "gladly")},), "what it must not be used for"),
        (({**CARD, "data": CARD["data"] + " It is clinically proven."},), "more than this report can carry"),
        (("It is good.",), "expected a dictionary"),
    ]
    proved("card", (CARD,), wrongs, report=reported())
