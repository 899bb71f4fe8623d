"""Lab 5's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from lab_answers import outcome, prove
from PIL import Image
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from torch import nn

import tlcourse as tc

NAME = "lab5_xray_pneumonia"
proved = functools.partial(prove, NAME)


def audit(table: pd.DataFrame, images: list[Any]) -> dict[str, Any]:
    splits = table.groupby("patient")["split"].nunique()
    content = pd.Series([(image.size, image.tobytes()) for image in images])
    sizes = [image.size for image in images]
    usual = Counter(sizes).most_common(1)[0][0]
    return {
        "patients in two splits": list(splits[splits > 1].index),
        "copies": list(table["file"][content.duplicated()]),
        "odd sizes": list(table["file"][[size != usual for size in sizes]]),
        "share of pneumonia": table["label"].eq("PNEUMONIA").groupby(table["split"]).mean().to_dict(),
    }


def test_audit() -> None:
    def but(finding: str, change: Callable[[pd.DataFrame, list[Any], Any], Any]) -> Callable[..., Any]:
        """The right audit, except one finding: what `change` makes of (table, images, right finding)."""
        return lambda t, images: {**(right := audit(t, images)), finding: change(t, images, right[finding])}

    def repeated(table: pd.DataFrame, images: list[Any], key: Any = Image.Image.tobytes, **options: Any) -> list[str]:
        return list(table["file"][pd.Series([key(image) for image in images]).duplicated(**options)])

    def train_and_test(t: pd.DataFrame, *_: Any) -> set[str]:
        return set(t["patient"][t["split"] == "train"]) & set(t["patient"][t["split"] == "test"])

    two, copies, odd, share = "patients in two splits", "copies", "odd sizes", "share of pneumonia"
    wrongs = {
        "several images are no fault": but(two, lambda t, *_: t["patient"][t["patient"].duplicated()]),
        "one who is in train and val is missed": but(two, train_and_test),
        "it names none": but(two, lambda *_: []),
        "the first of equal files is no copy": but(copies, lambda t, p, _: repeated(t, p, keep=False)),
        "only those inside of splits are found": but(copies, lambda *_: ["5.png"]),
        "only those across splits are found": but(copies, lambda *_: ["11.png"]),
        "none found": but(copies, lambda t, p, _: repeated(t, p, id)),
        "differs from another in one pixel": but(copies, lambda t, p, _: repeated(t, p, lambda i: i.tobytes()[1:])),
        "copies: in a test two files repeat an earlier one": but(copies, lambda *_: ["3.png"]),
        "width and height, both": but(odd, lambda *_: ["7.png"]),
        "those of the normal images": but(share, lambda t, p, r: {k: 1 - v for k, v in r.items()}),
        "counts or per cent": but(share, lambda t, p, r: {k: 100 * v for k, v in r.items()}),
        "0.833 is right, that of 'train' is too small": but(share, lambda t, p, r: {k: 8 / 12 for k in r}),
        "expected one for train, val, test": but(share, lambda *_: {"train": 5 / 6}),
        "'share of pneumonia' is missing": lambda t, p: {two: [], copies: [], odd: []},
        "found list": lambda t, p: [1],
    }
    proved("audit", audit, wrongs)


def test_marker() -> None:
    plain = np.full((6, 64, 64), 100, dtype=np.uint8)
    marked = plain.copy()
    marked[:4, 5:12, 6:13] = 240
    wrongs = {
        "give fractions of height and width": [8, 9],
        "is it the other side?": [0.13, 0.86],
        "row 0 is the top": [0.87, 0.15],
        "that is in the chest": [0.6, 0.3],
        "by chance only": [0.95, 0.95],
        "they are not negative": [-0.1, 0.1],
        "expected a pair": 0.13,
    }
    proved("marker", [0.13, 0.15], wrongs, marked=marked, plain=plain)


def divide(patients: Any, labels: Any, seed: int) -> tuple[Any, Any, Any]:
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(patients, labels, patients)
    fifths = [chosen for _, chosen in folds]
    return np.concatenate(fifths[2:]), fifths[1], fifths[0]


def by_image(patients: Any, labels: Any, seed: int) -> tuple[Any, Any, Any]:
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    return *train_test_split(rest, test_size=0.25, stratify=labels[rest], random_state=seed), test


def half_by_patient(patients: Any, labels: Any, seed: int) -> tuple[Any, Any, Any]:
    """The test set by patient, the validation set by image."""
    a, b, test = divide(patients, labels, seed)
    return *train_test_split(np.r_[a, b], test_size=0.25, random_state=seed), test


def one_class(patients: Any, labels: Any, seed: int) -> tuple[Any, Any, Any]:
    ill = np.unique(patients[labels == 1])
    test = np.flatnonzero(np.isin(patients, ill[:16]))
    train, val, other = divide(patients, labels, seed)
    return np.setdiff1d(np.r_[train, other], test), np.setdiff1d(val, test), test


def test_divide() -> None:
    def but(change: Callable[..., Any]) -> Callable[..., Any]:
        return lambda patients, labels, seed: change(*divide(patients, labels, seed))

    drifting = iter(range(100))
    wrongs = {
        "train and val: images were divided, not patients": by_image,
        "is in two splits": but(lambda a, b, c: (a, c, c)),
        "5 of ": but(lambda a, b, c: (a[5:], b, c)),
        "three lists of row numbers": but(lambda a, b, c: (a, b)),
        "not names": lambda p, y, seed: np.split(np.unique(p), [48, 64]),
        "'train' has": but(lambda a, b, c: (c, b, a)),
        "'test' has images of one class only": one_class,
        "every seed gives the same division": lambda p, y, seed: divide(p, y, 0),
        "the same seed gives another division": lambda p, y, seed: divide(p, y, next(drifting)),
    }
    proved("divide", divide, wrongs)
    assert "is in train and val" in outcome(NAME, "divide", half_by_patient)[1]


def numbers(scores: Any, labels: Any, threshold: float) -> dict[str, float]:
    right = tc.clinical_scores(scores, labels, threshold)
    return {name: right[name] for name in ("AUC", "balanced accuracy", "sensitivity", "specificity")}


def test_numbers() -> None:
    def but(name: str, change: Callable[[Any, Any, float], Any]) -> Callable[..., Any]:
        return lambda x, y, at: {**numbers(x, y, at), name: change(x, y, at)}

    def swapped(x: Any, y: Any, at: float) -> dict[str, float]:
        right = numbers(x, y, at)
        return right | {"sensitivity": right["specificity"], "specificity": right["sensitivity"]}

    wrongs = {
        "sensitivity and specificity are swapped": swapped,
        "the AUC was computed from decisions": but("AUC", lambda x, y, at: roc_auc_score(y, x >= at)),
        "that is the accuracy": but("balanced accuracy", lambda x, y, at: ((x >= at) == y).mean()),
        "the AUC is turned round": but("AUC", lambda x, y, at: roc_auc_score(y, -x)),
        "compare with `>=`": lambda x, y, at: numbers(x, y, at + 1e-9),
        "is the threshold used?": lambda x, y, at: numbers(x, y, 0.5),
        "that is the precision": but("sensitivity", lambda x, y, at: y[x >= at].mean()),
        "6 of 10 ill are found the sensitivity is too large": but("sensitivity", lambda *_: 0.9),
        "3 of 4 well are called well the specificity is too small": but("specificity", lambda *_: 0.1),
        "the balanced accuracy, the mean of": but("balanced accuracy", lambda *_: 0.1),
        "0.8625 is right the AUC is too small": but("AUC", lambda *_: 0.2),
        "give fractions": lambda x, y, at: {k: 100 * v for k, v in numbers(x, y, at).items()},
        "found float": lambda x, y, at: numbers(x, y, at)["AUC"],
    }
    proved("numbers", numbers, wrongs)


def grey(conv: Any, weigh: Any = lambda w: w.sum(1, keepdim=True), bias: bool = True, **change: Any) -> nn.Conv2d:
    size = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding, **change}
    new = nn.Conv2d(1, conv.out_channels, bias=bias, **size)
    with torch.no_grad():
        new.weight.copy_(weigh(conv.weight))
        if bias:
            new.bias.copy_(conv.bias)  # type: ignore[union-attr]
    return new


def test_grey() -> None:
    def in_place(conv: Any) -> Any:
        conv.weight = nn.Parameter(conv.weight.sum(1, keepdim=True))
        conv.in_channels = 1
        return conv

    wrongs = {
        "that is the mean of the three": lambda c: grey(c, lambda w: w.mean(1, keepdim=True)),
        "these are the weights of red": lambda c: grey(c, lambda w: w[:, :1]),
        "these are the weights of blue": lambda c: grey(c, lambda w: w[:, 2:]),
        "do not come from the old layer": lambda c: grey(c, lambda w: torch.ones_like(w[:, :1])),
        "the old layer has a bias": lambda c: grey(c, bias=False),
        "kernel size, stride or padding differ": lambda c: grey(c, stride=1),
        "it takes 3 channels": copy.deepcopy,
        "make a new one": in_place,
        "found Tensor": lambda c: c.weight.sum(1),
    }
    proved("grey", grey, wrongs)


def test_weights() -> None:
    def counts(labels: Any) -> Any:
        return torch.bincount(labels).float()

    wrongs = {
        "both weights are equal": lambda y: torch.ones(2),
        "the frequent class weighs more": counts,
        "that is the root": lambda y: (1 / counts(y)).sqrt(),
        "the square of the right ratio": lambda y: counts(y) ** -2,
        "a weight for each image": lambda y: (1 / counts(y))[y],
        "it returned 1": lambda y: 4.0,
        "above zero and finite": lambda y: 1 - counts(y) / 10,
        "the first weight is 3 times the second": lambda y: torch.tensor([3.0, 1.0]),
    }
    proved("weights", lambda y: len(y) / (2 * counts(y)), wrongs)


def split(seed: int, count: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds, labels and patients."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(count), 2)
    labels = (patients % 3 != 0).astype(int)
    return 3 * rng.normal(1.5 * labels - 0.7, 1.0), labels, patients


def test_temperature() -> None:
    val, test = split(0)[:2], split(1)[:2]
    fit = tc.fit_temperature
    right = fit(*val)

    def by_accuracy(x: Any, y: Any) -> float:
        def errors(t: float) -> float:
            return ((tc.to_probabilities(x, t) > 0.5) != y).mean()

        return float(minimize_scalar(errors, bounds=(0.1, 10), method="bounded").x)

    wrongs = {
        "was fitted on the test set": (fit, fit(*test)),
        "not what it gives for the validation set": (fit, 2 * right),
        "that is 1 / temperature": (lambda x, y: 1 / fit(x, y), right),
        "the temperature's logarithm": (lambda x, y: np.log(fit(x, y)), right),
        "does the optimisation start there": (lambda x, y: 1.0, right),
        "above zero": (lambda x, y: -fit(x, y), right),
        "has the least cross-entropy": (by_accuracy, right),
    }
    proved("temperature", (fit, right), wrongs, val=val, test=test)


def test_threshold() -> None:
    val, test = ((tc.to_probabilities(log_odds), labels) for log_odds, labels, _ in (split(0), split(1)))

    def choose(scores: Any, labels: Any, sensitivity: float) -> float:
        return tc.threshold_for(scores, labels, sensitivity=sensitivity)

    def best_balanced(scores: Any, labels: Any, sensitivity: float) -> float:
        return max(np.unique(scores), key=lambda s: tc.clinical_scores(scores, labels, s)["balanced accuracy"])

    def too_few(x: Any, y: Any, s: float) -> float:
        return np.sort(x[y == 1])[::-1][int(s * (y == 1).sum()) - 1]

    def lower(x: Any, y: Any, s: float) -> float:
        return np.quantile(x[y == 1], 1 - s, method="lower")

    right = choose(*val, 0.95)
    wrongs = {
        "that of the test set": (choose, choose(*test, 0.95)),
        "which it did not choose": (choose, 0.5),
        "not what it gives for the validation set": (choose, right + 0.01),
        "it returns 0.5 whatever": (lambda x, y, s: 0.5, 0.5),
        "everybody is called ill": (lambda x, y, s: x.min(), right),
        "the best balanced accuracy": (best_balanced, right),
        "chosen among those who are not ill": (lambda x, y, s: np.quantile(x[y == 0], s), right),
        "a quantile of all scores": (lambda x, y, s: np.quantile(x, 1 - s), right),
        "round towards finding more": (too_few, right),
        "more than needed": (lambda x, y, s: np.sort(x[y == 1])[0], right),
    }
    given = {"val": val, "test": test, "sensitivity": 0.95}
    proved("threshold", (choose, right), wrongs, **given)
    assert outcome(NAME, "threshold", (lower, lower(*val, 0.95)), **given)[0] == "right"


def whole_patients(rng: Any, patients: Any) -> Any:
    names = np.unique(patients)
    return np.concatenate([np.flatnonzero(patients == name) for name in rng.choice(names, len(names))])


def bootstrap(measure: Any, scores: Any, labels: Any, patients: Any, repeats: int, seed: int, **change: Any) -> Any:
    rng, rows = np.random.default_rng(seed), change.get("rows", whole_patients)
    drawn = [rows(rng, patients) for _ in range(repeats)]
    values = np.array([measure(scores[i], labels[i]) for i in drawn])
    return tuple(float(end) for end in change.get("ends", lambda v: np.quantile(v, [0.025, 0.975]))(values))


def test_interval() -> None:
    def draws(rows: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        return functools.partial(bootstrap, rows=rows)

    def ends(of: Callable[[Any], Any]) -> Callable[..., Any]:
        return functools.partial(bootstrap, ends=of)

    sides, fresh = np.array([-1, 1]), iter(range(1000))
    wrongs = {
        "images are drawn, not patients": draws(lambda rng, p: rng.choice(len(p), len(p))),
        "draw with replacement": draws(lambda rng, p: rng.permutation(len(p))),
        "`np.isin` forgets how often": draws(lambda rng, p: np.flatnonzero(np.isin(p, rng.choice(25, 25)))),
        "as many patients as there are": draws(lambda rng, p: np.r_[whole_patients(rng, p), whole_patients(rng, p)]),
        "the middle 90 %": ends(lambda v: np.quantile(v, [0.05, 0.95])),
        "the smallest and the largest": ends(lambda v: (v.min(), v.max())),
        "the root of the number": ends(lambda v: v.mean() + 1.96 * v.std() / len(v) ** 0.5 * sides),
        "one standard deviation": ends(lambda v: v.mean() + v.std() * sides),
        "the ends are not the 2.5 %": ends(lambda v: np.quantile(v, [0.2, 0.8])),
        "swapped": ends(lambda v: np.quantile(v, [0.975, 0.025])),
        "it should return two numbers": ends(lambda v: v[:3]),
        "do not belong together": lambda measure, *rest: bootstrap(lambda x, y: measure(x, y[::-1]), *rest),
        "was called 20 times": lambda *given: bootstrap(*given[:4], 20, given[5]),
        "another seed gives the same interval": lambda *given: bootstrap(*given[:-1], 0),
        "another interval the second time": lambda *given: bootstrap(*given[:-1], next(fresh)),
    }
    proved("interval", bootstrap, wrongs)


def test_shortcut() -> None:
    marked, labels, _ = split(2)
    plain = marked - 2.0 * labels + np.random.default_rng(0).normal(0, 1, len(labels))
    a, b = roc_auc_score(labels, marked), roc_auc_score(labels, plain)
    wrongs = {
        "the sign is turned round": b - a,
        "not points": 100 * (a - b),
        "subtract the one without": a,
        "the question asks for the difference": b,
        "that came from decisions": roc_auc_score(labels, marked >= 0) - roc_auc_score(labels, plain >= 0),
        "the difference of two accuracies": ((marked >= 0) == labels).mean() - ((plain >= 0) == labels).mean(),
        "the loss relative to the AUC": (a - b) / a,
        "too large": 3.0,
    }
    proved("shortcut", a - b, wrongs, marked=marked, plain=plain, labels=labels)


def pointed(heat: Any, mask: Any, hit: Any = None, iou: Any = None) -> tuple[Any, Any]:
    found = tc.pointing_game(heat, mask)
    return found.hit if hit is None else hit, found.iou if iou is None else iou


def test_heat() -> None:
    def turned(heat: Any, mask: Any) -> tuple[bool, float]:
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        return pointed(heat, mask, hit=bool(mask[column % 9, row]))

    def above_half(heat: Any, mask: Any) -> tuple[bool, float]:
        hot = heat > 0.5 * heat.max()
        return pointed(heat, mask, iou=float((hot & mask).sum() / (hot | mask).sum()))

    game = tc.pointing_game
    wrongs = {
        "a map of zeros counts for the upper left corner": lambda h, m: pointed(h, m, hit=bool(m.ravel()[h.argmax()])),
        "only pixels above one half were taken": above_half,
        "only the one hottest pixel decides": lambda h, m: pointed(h, m, hit=game(h, m).overlap > 0),
        "are row and column in their order?": turned,
        "the hit is turned round": lambda h, m: pointed(h, m, hit=not game(h, m).hit),
        "divide by the union": lambda h, m: pointed(h, m, iou=game(h, m).overlap),
        "the share of the image that the mask covers": lambda h, m: pointed(h, m, iou=float(m.mean())),
        "it should return two things": lambda h, m: pointed(h, m)[1],
        "True or False, found int": lambda h, m: pointed(h, m, hit=1),
    }
    proved("heat", pointed, wrongs)


TEST = split(1)


def reported(times: int = 1, **change: Any) -> tc.ClinicalReport:
    report = tc.ClinicalReport("toy")
    given = {"log_odds": TEST[0], "labels": TEST[1], "patients": TEST[2], "threshold": 0.3, "temperature": 2.0}
    given |= {"subgroups": np.where(TEST[1] == 1, "ill", "none"), "repeats": 20}
    for _ in range(times):
        report.evaluate(**{**given, **change}, reason="to see what is said")  # type: ignore[arg-type]
    return report


def test_report() -> None:
    other = dict(zip(("log_odds", "labels", "patients"), split(0, count=50), strict=True))
    wrongs = {
        "was not evaluated yet": tc.ClinicalReport("toy"),
        "was evaluated 2 times": reported(times=2),
        "100 images were evaluated, and the test set has 160": reported(**other, subgroups=None),
        "the threshold was 0.5": reported(threshold=0.5),
        "the temperature was 1": reported(temperature=1.0),
        "each image stands as a patient": reported(patients=np.arange(160)),
        "40 patients, and the test set has 80": reported(patients=TEST[2] // 2),
        "the AUC is turned round": reported(log_odds=-TEST[0]),
        "were probabilities handed over?": reported(log_odds=tc.to_probabilities(TEST[0])),
        "nobody sees for whom the network fails": reported(subgroups=None),
        "expected the report": reported().evaluations[0],
    }
    proved("report", reported(), wrongs, threshold=0.3, temperature=2.0, test=TEST)


CARD = {
    "intended use": "It is meant for teaching the methods of a study, and must never be used to judge a patient.",
    "data": "Drawn chests, no people; two images of each patient, and the sets were divided by patient.",
    "limits": "Another hospital, another device or another prevalence changes the numbers; a letter was a shortcut.",
}


def test_card() -> None:
    def but(section: str, old: str, new: str) -> dict[str, str]:
        return {**CARD, section: CARD[section].replace(old, new)}

    wrongs = {
        "'limits' is missing": {name: text for name, text in CARD.items() if name != "limits"},
        "no section 'licence'": {**CARD, "licence": "MIT"},
        "'limits': 5 words": {**CARD, "limits": "None that we know of."},
        "another prevalence": but("limits", "prevalence", "season"),
        "whom or what the images show": but("data", "Drawn chests", "Chests"),
        "what it must not be used for": but("intended use", "never", "gladly"),
        "more than this report can show": {**CARD, "data": CARD["data"] + " It is clinically proven."},
        "expected a dictionary": "It is good.",
    }
    proved("card", CARD, wrongs, report=reported())
