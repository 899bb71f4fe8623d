"""The exercises of lab 5: data, scores, fine-tuning; `xray_reporting` has the checks of what follows training."""

import itertools
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tlcourse.labs import xray_reporting as reporting
from tlcourse.labs.answers import as_number, compare, draws, expect, expect_keys, expect_len, match, wrong_any, wrong_if
from tlcourse.labs.lab import Exercise
from tlcourse.labs.xray_reporting import called, first_fault
from tlcourse.medical.clinical import clinical_scores
from tlhelpers import Run, evaluate, load_model, trainable_table
from tlhelpers.models.freezing import changed

SPLITS = {"train": 0.6, "val": 0.2, "test": 0.2}  # the fraction of images in each
SCORES = ("sensitivity", "specificity", "balanced accuracy", "AUC")


def divide(function: Any) -> str:
    """A function (patients, labels, seed) that returns three lists of row numbers: train, val and test."""
    rng = draws()
    counts, ill = rng.integers(1, 6, 80), rng.permutation(np.arange(80) < 56)
    order = rng.permutation(int(counts.sum()))
    patients = np.repeat([f"p{i:02d}" for i in rng.permutation(80)], counts)[order]
    labels = np.repeat(ill.astype(int), counts)[order]
    splits = called(function, patients, labels, 0)
    expect_len(splits, 3, "it should return three lists of row numbers: train, val and test")
    rows = [np.asarray(split) for split in splits]
    wrong_if(any(each.dtype.kind not in "iu" for each in rows), "return row numbers, not names, not True and False")
    together, count = np.concatenate(rows), len(patients)
    wrong_if(len(set(together.tolist())) < len(together), "an image is in two splits, or twice in one")
    wrong_if(len(together) < count, f"{count - len(together)} of {count} images are in no split")
    for (a, one), (b, other) in itertools.combinations(zip(SPLITS, rows, strict=True), 2):
        both = sorted(set(patients[one]) & set(patients[other]))
        wrong_any(both, f"patient {{}} is in {a} and {b}: images were divided, not patients")
    for (name, expected), split in zip(SPLITS.items(), rows, strict=True):
        part = len(split) / count
        wrong_if(abs(part - expected) > 0.12, f"'{name}' has {part:.0%} of the images, expected about {expected:.0%}")
        wrong_if(len(set(labels[split])) < 2, f"'{name}' has images of one class only; divide each class")

    def same(seed: int) -> bool:
        again = called(function, patients, labels, seed)
        return all(set(np.asarray(a).tolist()) == set(b.tolist()) for a, b in zip(again, rows, strict=True))

    wrong_if(not same(0), "the same seed gives another split the second time, so nobody can repeat it")
    wrong_if(same(1) and same(2), "every seed gives the same split; the seed is not used")
    return "no patient is divided, each split has its proportion and both classes, and the seed decides"


def scores(function: Any) -> str:
    """A function (scores, labels, threshold) that returns a dictionary of four scores."""
    rng = draws()
    labels = rng.permutation(np.repeat([0, 1], [rng.integers(9, 13), rng.integers(15, 20)]))
    values = np.round(rng.normal(3 + labels, 0.8), 2)
    at = np.sort(values[labels == 1])[5]  # a score that occurs
    found, right = called(function, values, labels, at), clinical_scores(values, labels, at)
    expect_keys(found, SCORES)
    own = {name: as_number(found[name], name) for name in SCORES}
    wrong_if(max(own.values()) > 1, "some numbers are above 1: give fractions, not per cent")
    ill, positive, (sensitivity, specificity, balanced, auc) = labels == 1, values >= at, [right[n] for n in SCORES]
    swapped = np.allclose([own["sensitivity"], own["specificity"]], [specificity, sensitivity])
    wrong_if(swapped, "sensitivity and specificity are swapped: sensitivity is the fraction of the ill that is found")
    mistakes = {
        "sensitivity: a score equal to the threshold means ill; compare with `>=`": (values > at)[ill].mean(),
        "sensitivity: that is at the threshold 0.5; is `threshold` used?": (values >= 0.5)[ill].mean(),
        "sensitivity: that is the precision, of those called ill; divide by the ill": ill[positive].mean(),
        "sensitivity: it is divided by all images; divide by the number of the ill": (positive & ill).mean(),
        "specificity: that is the fraction of false alarms; specificity is 1 minus it": 1 - specificity,
        "specificity: that is among those called normal; divide by the normal": (~ill)[~positive].mean(),
        "balanced accuracy: that is the accuracy; take the mean of sensitivity and specificity": right["accuracy"],
        "AUC: it was computed from decisions; it takes the scores themselves": balanced,
        "AUC: it is turned round: high scores should mean ill": 1 - auc,
    }
    for name in SCORES:
        known = {text: value for text, value in mistakes.items() if text.startswith(name)}
        compare(own[name], right[name], f"in a test where {right[name]:.4f} is right, {name}", known, 1e-4)
    return "all four are right, at a threshold of your choice"


def weights(function: Any) -> str:
    """A function from labels to a weight for each class, such that both classes weigh the same in the loss."""
    normal, ill = (int(draws().integers(*ends)) for ends in ((10, 30), (70, 140)))
    labels = torch.tensor([0] * normal + [1] * ill)
    found = called(function, labels)
    expect(found, torch.Tensor, "it should return a tensor, as the loss wants it")
    wrong_if(found.numel() == len(labels), "that is a weight for each image; the loss takes one for each class")
    wrong_if(found.shape != (2,), f"it should return two weights, one for each class, and it returned {found.numel()}")
    wrong_if(not (found.isfinite() & (found > 0)).all(), "weights should be above zero and finite")
    ratio, right = float(found[0] / found[1]), ill / normal
    mistakes = {
        "both weights are equal, so the frequent class still decides": 1,
        "the frequent class weighs more: turn the frequencies round, or the order of the classes": 1 / right,
        "that is the root of the right ratio: the classes come nearer to each other, and do not balance": right**0.5,
        "that is the square of the right ratio: was it divided twice?": right**2,
    }
    times = f"{normal} normal and {ill} ill images: the first weight is {ratio:.3g} times the second; count the labels"
    match(ratio, right, mistakes, times, 1e-3)
    wrong_if(found.dtype != torch.float32, f"the loss wants weights of the type float32, found {found.dtype}")
    return "the rare class weighs more, so that both count the same"


def fine_tune(model: Any, run: Any, *, data: Any) -> str:
    """A pre-trained network and the run that trained its last two blocks and the head, with class weights."""
    expect(model, nn.Module, "expected the network")
    expect(run, Run, "expected what `tl.fit` returns")
    table, parameters = trainable_table(model).iloc[:-1], dict(model.named_parameters())
    names, trains = list(table.index), list(table.index[table["trainable"] > 0])
    before = load_model(model.card.arch, size=model.card.preprocessing.size).state_dict()
    moved = [n for n in changed(model, before) if n in parameters and parameters[n].shape == before[n].shape]
    norms = [name for name in names[:-3] if table["batchnorm"][name] == "moves"]
    val, kept = evaluate(model, data.val), run.history.iloc[run.kept_epoch - 1]
    faults = {
        "nothing trains: was everything frozen at the end?": not trains,
        "the head does not train; it was frozen with the rest": "head" not in trains,
        "only the head trains: that is feature extraction. Unfreeze the last two blocks, too": trains == ["head"],
        "everything trains; freeze the network first": trains == names,
        f"these train: {', '.join(trains)}. The last two blocks and the head should": trains != names[-3:],
        f"BatchNorm still moves in {norms}: `requires_grad = False` alone does not freeze its statistics": norms,
        "frozen weights are not the pre-trained ones": any(not parameters[name].requires_grad for name in moved),
        "`run` has trained another network than `model`": run.model is not model,
        f"the run has {len(run.history)} epochs, too few to judge fine-tuning; train 8": len(run.history) < 5,
        "no weight of the last two blocks has moved: is the learning rate 0?": not moved,
        "the epoch was not chosen on `data.val`": abs(val.accuracy - kept["val_accuracy"]) > 1.5 / len(data.val),
    }
    first_fault(faults)
    count = torch.bincount(data.train.labels, minlength=2).float()
    options = {"right": 1 / count, "the loss has no class weights": None, "the class weights are swapped": count}
    losses = {name: float(functional.cross_entropy(val.logits, val.labels, w)) for name, w in options.items()}
    right, said = losses.pop("right"), f"on validation the loss was {kept['val_loss']:.3f}, with class weights it is"
    match(kept["val_loss"], right, losses, f"{said} {right:.3f}: which loss is it?", 0.004 * right)
    auc = clinical_scores(val.logits.diff()[:, 0], val.labels, 0.0)["AUC"]
    wrong_if(auc < 0.65, f"validation AUC {auc:.2f}, hardly better than guessing (0.5): check the learning rate")
    return f"the last two blocks have learned; validation AUC {auc:.3f}, balanced accuracy {val.balanced_accuracy:.1%}"


EXERCISES = (
    Exercise("divide", "1 Split by patient", divide, function=True),
    Exercise("numbers", "2 Four numbers", scores, function=True),
    Exercise("weights", "3 Class weights", weights, function=True),
    Exercise("train", "4 Fine-tune", fine_tune),
    Exercise("threshold", "5 The threshold", reporting.threshold, function=True, vary=("val_scores",)),
    Exercise("report", "6 The test set, once", reporting.report),
    Exercise("observe", "7 Observations", reporting.observe, text=True),
    Exercise("interval", "8 An interval by patient", reporting.interval, function=True, extension=True),
    Exercise("heat", "9 Does a heat map find the shortcut?", reporting.heat, extension=True),
    Exercise("card", "10 The model card", reporting.card, text=True, extension=True),
)
