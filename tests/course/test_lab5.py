"""Lab 5's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import copy
from functools import partial

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
proved = partial(prove, NAME)


def audit(table, images):
    splits = table.groupby("patient")["split"].nunique()
    content = pd.Series([(image.size, image.tobytes()) for image in images])
    sizes = pd.Series([image.size for image in images])
    return {
        "patients in two splits": list(splits[splits > 1].index),
        "copies": list(table["file"][content.duplicated()]),
        "odd sizes": list(table["file"][sizes != sizes.mode()[0]]),
        "share of pneumonia": table["label"].eq("PNEUMONIA").groupby(table["split"]).mean().to_dict(),
    }


def test_audit():
    def but(finding, change):
        """The right audit, except one finding: what `change` makes of (table, images, right finding)."""
        return lambda t, images: {**(right := audit(t, images)), finding: change(t, images, right[finding])}

    def repeated(table, images, key=Image.Image.tobytes, **options):
        return list(table["file"][pd.Series([key(image) for image in images]).duplicated(**options)])

    def train_and_test(t, *_):
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
    }
    proved("audit", audit, wrongs)


def test_marker():
    plain, marked = np.full((2, 6, 64, 64), 100, dtype=np.uint8)
    marked[:4, 5:12, 6:13] = 240
    wrongs = {
        "give fractions of height and width": [8, 9],
        "is it the other side?": [0.13, 0.86],
        "row 0 is the top": [0.87, 0.15],
        "that is in the chest": [0.6, 0.3],
        "by chance only": [0.95, 0.95],
        "they are not negative": [-0.1, 0.1],
    }
    proved("marker", [0.13, 0.15], wrongs, marked=marked, plain=plain)


def divide(patients, labels, seed):
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(patients, labels, patients)
    fifths = [chosen for _, chosen in folds]
    return np.concatenate(fifths[2:]), fifths[1], fifths[0]


def by_image(patients, labels, seed):
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    return *train_test_split(rest, test_size=0.25, stratify=labels[rest], random_state=seed), test


def validation_by_image(patients, labels, seed):
    a, b, test = divide(patients, labels, seed)
    return *train_test_split(np.r_[a, b], test_size=0.25, random_state=seed), test


def one_class(patients, labels, seed):
    test = np.flatnonzero(np.isin(patients, np.unique(patients[labels == 1])[:16]))
    train, val, other = divide(patients, labels, seed)
    return np.setdiff1d(np.r_[train, other], test), np.setdiff1d(val, test), test


def test_divide():
    def but(change):
        return lambda patients, labels, seed: change(*divide(patients, labels, seed))

    drifting = iter(range(100))
    wrongs = {
        "train and val: images were divided, not patients": by_image,
        "is in two splits": but(lambda a, b, c: (a, c, c)),
        "5 of ": but(lambda a, b, c: (a[5:], b, c)),
        "not names": lambda p, y, seed: np.split(np.unique(p), [48, 64]),
        "'train' has": but(lambda a, b, c: (c, b, a)),
        "'test' has images of one class only": one_class,
        "every seed gives the same division": lambda p, y, seed: divide(p, y, 0),
        "the same seed gives another division": lambda p, y, seed: divide(p, y, next(drifting)),
    }
    proved("divide", divide, wrongs)
    assert "is in train and val" in outcome(NAME, "divide", validation_by_image)[1]


def test_numbers():
    def but(name, change):
        return lambda x, y, at: {**tc.clinical_scores(x, y, at), name: change(x, y, at)}

    def swapped(x, y, at):
        right = tc.clinical_scores(x, y, at)
        return right | {"sensitivity": right["specificity"], "specificity": right["sensitivity"]}

    wrongs = {
        "sensitivity and specificity are swapped": swapped,
        "the AUC was computed from decisions": but("AUC", lambda x, y, at: roc_auc_score(y, x >= at)),
        "that is the accuracy": but("balanced accuracy", lambda x, y, at: ((x >= at) == y).mean()),
        "the AUC is turned round": but("AUC", lambda x, y, at: roc_auc_score(y, -x)),
        "compare with `>=`": lambda x, y, at: tc.clinical_scores(x, y, at + 1e-9),
        "is the threshold used?": lambda x, y, at: tc.clinical_scores(x, y, 0.5),
        "that is the precision": but("sensitivity", lambda x, y, at: y[x >= at].mean()),
        "6 of 10 ill are found the sensitivity is too large": but("sensitivity", lambda *_: 0.9),
        "3 of 4 well are called well the specificity is too small": but("specificity", lambda *_: 0.1),
        "the balanced accuracy, the mean of": but("balanced accuracy", lambda *_: 0.1),
        "0.8625 is right the AUC is too small": but("AUC", lambda *_: 0.2),
        "give fractions": lambda x, y, at: {k: 100 * v for k, v in tc.clinical_scores(x, y, at).items()},
    }
    proved("numbers", tc.clinical_scores, wrongs)


def grey(conv, weigh=lambda w: w.sum(1, keepdim=True), bias=True, **change):
    size = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding, **change}
    new = nn.Conv2d(1, conv.out_channels, bias=bias, **size)
    values = {"weight": weigh(conv.weight), "bias": conv.bias}
    new.load_state_dict(values if bias else {"weight": values["weight"]})
    return new


def test_grey():
    def in_place(conv):
        conv.weight = nn.Parameter(conv.weight.sum(1, keepdim=True))
        conv.in_channels = 1
        return conv

    wrongs = {
        "that is the mean of the three": partial(grey, weigh=lambda w: w.mean(1, keepdim=True)),
        "these are the weights of red": partial(grey, weigh=lambda w: w[:, :1]),
        "these are the weights of blue": partial(grey, weigh=lambda w: w[:, 2:]),
        "do not come from the old layer": partial(grey, weigh=lambda w: torch.ones_like(w[:, :1])),
        "the old layer has a bias": partial(grey, bias=False),
        "kernel size, stride or padding differ": partial(grey, stride=1),
        "it takes 3 channels": copy.deepcopy,
        "make a new one": in_place,
    }
    proved("grey", grey, wrongs)


def test_weights():
    counts = torch.bincount
    wrongs = {
        "both weights are equal": lambda y: torch.ones(2),
        "the frequent class weighs more": counts,
        "that is the root": lambda y: (1 / counts(y)).sqrt(),
        "the square of the right ratio": lambda y: 1 / counts(y) ** 2,
        "a weight for each image": lambda y: (1 / counts(y))[y],
        "it returned 1": lambda y: 4.0,
        "above zero and finite": lambda y: 1 - counts(y) / 10,
        "the first weight is 3 times the second": lambda y: torch.tensor([3.0, 1.0]),
    }
    proved("weights", lambda y: len(y) / (2 * counts(y)), wrongs)


def split(seed, count=80):
    """Log-odds, labels and patients."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(count), 2)
    labels = (patients % 3 != 0).astype(int)
    return 3 * rng.normal(1.5 * labels - 0.7, 1.0), labels, patients


def test_temperature():
    val, test = split(0)[:2], split(1)[:2]
    fit = tc.fit_temperature
    right = fit(*val)

    def by_accuracy(x, y):
        return minimize_scalar(lambda t: ((tc.to_probabilities(x, t) > 0.5) != y).mean(), bounds=(0.1, 10)).x

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


def test_threshold():
    val, test = ((tc.to_probabilities(log_odds), labels) for log_odds, labels, _ in (split(0), split(1)))

    def choose(scores, labels, sensitivity):
        return tc.threshold_for(scores, labels, sensitivity=sensitivity)

    def best_balanced(scores, labels, _):
        return max(np.unique(scores), key=lambda s: tc.clinical_scores(scores, labels, s)["balanced accuracy"])

    def lower(x, y, s):
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
        "round towards finding more": (lambda x, y, s: np.sort(x[y == 1])[-int(s * y.sum())], right),
        "more than needed": (lambda x, y, s: np.sort(x[y == 1])[0], right),
    }
    given = {"val": val, "test": test, "sensitivity": 0.95}
    proved("threshold", (choose, right), wrongs, also=[(lower, lower(*val, 0.95))], **given)


def whole_patients(rng, patients):
    names = np.unique(patients)
    return np.concatenate([np.flatnonzero(patients == name) for name in rng.choice(names, len(names))])


def middle(values, low=0.025, high=0.975):
    return np.quantile(values, [low, high])


def bootstrap(measure, scores, labels, patients, repeats, seed, rows=whole_patients, ends=middle):
    rng = np.random.default_rng(seed)
    drawn = [rows(rng, patients) for _ in range(repeats)]
    return tuple(ends(np.array([measure(scores[i], labels[i]) for i in drawn])))


def test_interval():
    sides, fresh = np.array([-1, 1]), iter(range(1000))
    wrongs = {
        "images are drawn, not patients": partial(bootstrap, rows=lambda rng, p: rng.choice(len(p), len(p))),
        "draw with replacement": partial(bootstrap, rows=lambda rng, p: rng.permutation(len(p))),
        "`np.isin` forgets": partial(bootstrap, rows=lambda rng, p: np.flatnonzero(np.isin(p, rng.choice(25, 25)))),
        "as many patients as there are": partial(bootstrap, rows=lambda rng, p: whole_patients(rng, np.r_[p, p]) % 100),
        "the middle 90 %": partial(bootstrap, ends=partial(middle, low=0.05, high=0.95)),
        "the smallest and the largest": partial(bootstrap, ends=partial(middle, low=0, high=1)),
        "the root of the number": partial(bootstrap, ends=lambda v: v.mean() + 1.96 * v.std() / len(v) ** 0.5 * sides),
        "one standard deviation": partial(bootstrap, ends=lambda v: v.mean() + v.std() * sides),
        "the ends are not the 2.5 %": partial(bootstrap, ends=partial(middle, low=0.2, high=0.8)),
        "swapped": partial(bootstrap, ends=partial(middle, low=0.975, high=0.025)),
        "do not belong together": lambda measure, *rest: bootstrap(lambda x, y: measure(x, y[::-1]), *rest),
        "was called 20 times": lambda *given: bootstrap(*given[:4], 20, given[5]),
        "another seed gives the same interval": lambda *given: bootstrap(*given[:-1], 0),
        "another interval the second time": lambda *given: bootstrap(*given[:-1], next(fresh)),
    }
    proved("interval", bootstrap, wrongs)


def test_shortcut():
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


def test_heat():
    corner, away, flat = np.indices((6, 6)).sum(axis=0) < 2, np.eye(6)[::-1], np.zeros((6, 6))
    maps = [np.eye(6), away, flat, away], [np.eye(6), np.eye(6), away, np.eye(6)]
    wrongs = {
        "by heat: the sign": [-0.5, 0.5],
        "that is the misled head's share": [0.75, 0.5],
        "by heat: the difference is too small": [0.25, 0.5],  # a flat map's first pixel is in the corner
        "by removal: the sign": [0.5, -0.75],
        "that is with the letter": [0.5, 0.25],
        "what the misled head loses": [0.5, 0.5],
        "by removal: the difference is too large": [0.5, 0.9],
    }
    given = {"marked": ([1, 1, 1, -1], [1, 1, -1, -1]), "plain": ([1, 1, 1, -1], [-1, -1, -1, -1])}
    proved("heat", [0.5, 0.75], wrongs, maps=maps, corner=corner, **given)


TEST = split(1)


def reported(times=1, log_odds=TEST[0], labels=TEST[1], patients=TEST[2], **change):
    report = tc.ClinicalReport("toy")
    options = {"subgroups": np.where(labels == 1, "ill", "none"), "threshold": 0.3, "temperature": 2.0, **change}
    for _ in range(times):
        report.evaluate(log_odds, labels, patients=patients, repeats=20, reason="to see what is said", **options)
    return report


def test_report():
    val, temperatures = split(0)[:2], (1.0, 2.0, 0.5)
    before, after, sharper = (tc.calibration_error(tc.to_probabilities(TEST[0], t), TEST[1]) for t in temperatures)
    on_val = tc.calibration_error(tc.to_probabilities(val[0], 2.0), val[1])
    said = {"fitted on": "validation", "before": before, "after": after, "helped": True}
    wrongs = {
        "was not evaluated yet": tc.ClinicalReport("toy"),
        "was evaluated 2 times": reported(times=2),
        "100 images were evaluated, and the test set has 160": reported(1, *split(0, count=50)),
        "the threshold was 0.5": reported(threshold=0.5),
        "the temperature was 1": reported(temperature=1.0),
        "each image stands as a patient": reported(patients=np.arange(160)),
        "40 patients, and the test set has 80": reported(patients=TEST[2] // 2),
        "the AUC is turned round": reported(log_odds=-TEST[0]),
        "were probabilities handed over?": reported(log_odds=tc.to_probabilities(TEST[0])),
        "nobody sees for whom the network fails": reported(subgroups=None),
        "helped, so 'helped' should be True": {"helped": False},
        "on which set was it?": {"fitted on": "test"},
        "not the set on which exercise 7": {"fitted on": "train"},
        "'before' is the other one": {"before": after},
        "'after' is that of the validation set": {"after": on_val},
        "the calibration error on the test set, is too large": {"after": 0.9},
    }
    for expected, wrong in wrongs.items():
        wrongs[expected] = (reported(), said | wrong) if isinstance(wrong, dict) else (wrong, said)
    given = {"threshold": 0.3, "val": val, "test": TEST}
    proved("report", (reported(), said), wrongs, temperature=2.0, **given)
    answers = reported(temperature=0.5), said | {"after": sharper}
    assert "did not help, so 'helped' should be False" in outcome(NAME, "report", answers, temperature=0.5, **given)[1]


CARD = {
    "intended use": "It is meant for teaching the methods of a study, and must never be used to judge a patient.",
    "data": "Drawn chests, no people; two images of each patient, and the sets were divided by patient.",
    "limits": "Another hospital, another device or another prevalence changes the numbers; a letter was a shortcut.",
}


def test_card():
    def but(section, old, new):
        return {**CARD, section: CARD[section].replace(old, new)}

    wrongs = {
        "'limits' is missing": {name: text for name, text in CARD.items() if name != "limits"},
        "no section 'licence'": {**CARD, "licence": "MIT"},
        "'limits': 5 words": {**CARD, "limits": "None that we know of."},
        "another prevalence": but("limits", "prevalence", "season"),
        "whom or what the images show": but("data", "Drawn chests", "Chests"),
        "what it must not be used for": but("intended use", "never", "gladly"),
        "more than this report can show": but("data", "patient.", "patient. It is clinically proven."),
    }
    proved("card", CARD, wrongs, report=reported())
