"""Lab 5's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import types
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from lab_answers import prove
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from torch.nn import functional

import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs import xray_reporting

proved = partial(prove, "lab5_xray_pneumonia")


def divide(patients, labels, seed):
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(patients, labels, patients)
    fifths = [chosen for _, chosen in folds]
    return np.concatenate(fifths[2:]), fifths[1], fifths[0]


def by_image(patients, labels, seed):
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    return *train_test_split(rest, test_size=0.25, stratify=labels[rest], random_state=seed), test


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
        "not names, not True": lambda p, y, seed: np.split(np.unique(p), [48, 64]),
        "'train' has": but(lambda a, b, c: (c, b, a)),
        "'test' has images of one class only": one_class,
        "every seed gives the same split": lambda p, y, seed: divide(p, y, 0),
        "the same seed gives another split": lambda p, y, seed: divide(p, y, next(drifting)),
    }
    proved("divide", divide, wrongs)


def test_numbers():
    def but(name, change):
        return lambda x, y, at: {**tc.clinical_scores(x, y, at), name: change(x, y, at)}

    def swapped(x, y, at):
        right = tc.clinical_scores(x, y, at)
        return right | {"sensitivity": right["specificity"], "specificity": right["sensitivity"]}

    wrongs = {
        "sensitivity and specificity are swapped": swapped,
        "AUC: it was computed from decisions": but("AUC", lambda x, y, at: roc_auc_score(y, x >= at)),
        "that is the accuracy": but("balanced accuracy", lambda x, y, at: ((x >= at) == y).mean()),
        "it is turned round": but("AUC", lambda x, y, at: roc_auc_score(y, -x)),
        "compare with `>=`": lambda x, y, at: tc.clinical_scores(x, y, at + 1e-9),
        "is `threshold` used?": lambda x, y, at: tc.clinical_scores(x, y, 0.5),
        "that is the precision": but("sensitivity", lambda x, y, at: y[x >= at].mean()),
        "is right, sensitivity is too large": but("sensitivity", lambda *_: 0.999),
        "is right, specificity is too small": but("specificity", lambda *_: 0.001),
        "is right, balanced accuracy is too small": but("balanced accuracy", lambda *_: 0.1),
        "is right, AUC is too small": but("AUC", lambda *_: 0.002),
        "give fractions": lambda x, y, at: {k: 100 * v for k, v in tc.clinical_scores(x, y, at).items()},
    }
    proved("numbers", tc.clinical_scores, wrongs)


def test_weights():
    counts = torch.bincount
    wrongs = {
        "both weights are equal": lambda y: torch.ones(2),
        "the frequent class weighs more": lambda y: counts(y).float(),
        "that is the root": lambda y: (1 / counts(y)).sqrt(),
        "the square of the right ratio": lambda y: 1 / counts(y) ** 2,
        "a weight for each image": lambda y: (1 / counts(y))[y],
        "it returned 1": lambda y: torch.tensor([4.0]),
        "above zero and finite": lambda y: 1 - counts(y) / 5,
        "is 3 times the second; count the labels": lambda y: torch.tensor([3.0, 1.0]),
    }
    proved("weights", lambda y: len(y) / (2 * counts(y)), wrongs)


def trained(data, last=2, moved=1.01, by=(2.0, 2.0), epochs=8, start=None):
    """A network whose last block has moved, and a run that says what training with class weights `by` would give."""
    model = tl.load_model("resnet18", num_classes=2, size=64, weights=start)
    for parameter in tl.unfreeze(tl.freeze(model), last=last).layer4.parameters():
        parameter.data *= moved
    found = tl.evaluate(model, data.val)
    loss = functional.cross_entropy(found.logits, found.labels, by and torch.tensor(by))
    row = {"val_accuracy": found.accuracy, "val_loss": float(loss), "seconds": 1.0}
    return model, tl.Run(model, pd.DataFrame([row] * epochs, index=range(1, epochs + 1)), epochs, epochs)


def test_train():
    data = tl.load_data("phantom", size=64, patients=12, val_patients=12, test_patients=1)
    scores, _ = xray_reporting.scored(trained(data)[0], data.val)
    data.val.labels = torch.as_tensor(scores > np.median(scores)).long()  # so that it ranks them rightly
    data.train.labels = torch.tensor([0] * 6 + [1] * 18)
    right = trained(data, by=(4.0, 4 / 3))
    wrongs = {
        "only the head trains": trained(data, last=0),
        "everything trains": trained(data, last=5),
        "these train: layer4, head": trained(data, last=1),
        "frozen weights are not the pre-trained ones": trained(data, start="none"),
        "another network than `model`": (right[0], trained(data)[1]),
        "1 epochs, too few": trained(data, epochs=1),
        "learning rate 0?": trained(data, moved=1),
        "the loss has no class weights": trained(data),
        "the class weights are swapped": trained(data, by=(4 / 3, 4.0)),
        "which loss is it?": trained(data, by=(9.0, 1.0)),
    }
    proved("train", right, wrongs, data=data)


def split(seed, count=80):
    """Log-odds, labels and patients."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(count), 2)
    labels = (patients % 3 != 0).astype(int)
    return 3 * rng.normal(1.5 * labels - 0.7, 1.0), labels, patients


VAL, TEST = split(0), split(1)


@pytest.fixture
def given(monkeypatch):
    """A network and data, of which the checks find VAL and TEST to be the scores."""
    monkeypatch.setattr(xray_reporting, "scored", lambda model, part: model[part.name])
    parts = {n: types.SimpleNamespace(name=n, groups=each[2].tolist()) for n, each in (("val", VAL), ("test", TEST))}
    return {"model": {"val": VAL[:2], "test": TEST[:2]}, "data": types.SimpleNamespace(**parts)}


def test_threshold(given):
    val, test = ((tc.to_probabilities(log_odds), labels) for log_odds, labels, _ in (VAL, TEST))

    def choose(scores, labels, sensitivity):
        return tc.threshold_for(scores, labels, sensitivity=sensitivity)

    def best_balanced(scores, labels, _):
        return max(np.unique(scores), key=lambda s: tc.clinical_scores(scores, labels, s)["balanced accuracy"])

    right, tried = choose(*val, 0.9), lambda x, y, s: max(t for t in x if (x[y == 1] >= t).mean() >= s)
    wrongs = {
        "that of the test set": (choose, choose(*test, 0.9)),
        "which it did not choose": (choose, 0.5),
        "not what it gives for the validation set": (choose, right + 0.01),
        "it returns 0.5 whatever": (lambda x, y, s: 0.5, 0.5),
        "everybody is called ill": (lambda x, y, s: x.min(), right),
        "that has the best balanced accuracy": (best_balanced, right),
        "chosen among those who are not ill": (lambda x, y, s: np.quantile(x[y == 0], s), right),
        "that is a quantile of all scores": (lambda x, y, s: np.quantile(x, 1 - s), right),
        "round towards finding more": (lambda x, y, s: np.sort(x[y == 1])[-int(s * y.sum())], right),
        "more than needed": (lambda x, y, s: np.sort(x[y == 1])[0], right),
    }
    given |= {"val_scores": val[0], "val_labels": val[1]}
    proved("threshold", (choose, right), wrongs, also=[(tried, right)], **given)


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
        "by the root of the number": partial(
            bootstrap, ends=lambda v: v.mean() + 1.96 * v.std() / len(v) ** 0.5 * sides
        ),
        "one standard deviation": partial(bootstrap, ends=lambda v: v.mean() + v.std() * sides),
        "the ends are not the 2.5 %": partial(bootstrap, ends=partial(middle, low=0.2, high=0.8)),
        "swapped": partial(bootstrap, ends=partial(middle, low=0.975, high=0.025)),
        "do not belong together": lambda measure, *rest: bootstrap(lambda x, y: measure(x, y[::-1]), *rest),
        "called 20 times": lambda *given: bootstrap(*given[:4], 20, given[5]),
        "another seed gives the same interval": lambda *given: bootstrap(*given[:-1], 0),
        "another interval the second time": lambda *given: bootstrap(*given[:-1], next(fresh)),
    }
    proved("interval", bootstrap, wrongs)


def test_heat():
    corner, away = np.indices((6, 6)).sum(axis=0) < 2, np.eye(6)[::-1]
    maps = [np.eye(6), away, away, away], [np.eye(6), np.eye(6), away, np.eye(6)]
    wrongs = {
        "by heat: the sign": [-0.5, 0.5],
        "that is the misled head's fraction": [0.75, 0.5],
        "by heat: the difference is too small": [0.25, 0.5],
        "by removal: the sign": [0.5, -0.75],
        "that is with the letter": [0.5, 0.25],
        "what the misled head loses": [0.5, 0.5],
        "by removal: the difference is too large": [0.5, 0.9],
    }
    scores = {"maps": maps, "there": ([1, 1, 1, -1], [1, 1, -1, -1]), "gone": ([1, 1, 1, -1], [-1, -1, -1, -1])}
    pairs = {name: dict(zip(("honest", "misled"), pair, strict=True)) for name, pair in scores.items()}
    proved("heat", [0.5, 0.75], wrongs, corner=corner, **pairs)


def reported(times=1, log_odds=TEST[0], labels=TEST[1], patients=TEST[2], **change):
    report = tc.ClinicalReport("toy")
    options = {"subgroups": np.where(labels == 1, "ill", "none"), "threshold": 0.3, **change}
    for _ in range(times):
        report.evaluate(log_odds, labels, patients=patients, repeats=20, reason="to see what is said", **options)
    return report


def test_report(given):
    wrongs = {
        "was not evaluated yet": tc.ClinicalReport("toy"),
        "was evaluated 2 times": reported(times=2),
        "100 images were evaluated, and the test set has 160": reported(1, *split(0, count=50)),
        "not those of the test set": reported(1, *VAL),
        "the threshold was 0.5": reported(threshold=0.5),
        "each image stands as a patient": reported(patients=np.arange(160)),
        "40 patients, and the test set has 80": reported(patients=TEST[2] // 2),
        "the AUC is turned round": reported(log_odds=-TEST[0]),
        "the labels are swapped": reported(labels=1 - TEST[1]),
        "are they probabilities?": reported(log_odds=tc.to_probabilities(TEST[0])),
        "nobody sees for whom the network fails": reported(subgroups=None),
    }
    proved("report", reported(), wrongs, threshold=0.3, **given)


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
        "more than this report can show": but("data", "patient.", "patient. It is clinically proven."),
    }
    proved("card", CARD, wrongs)
