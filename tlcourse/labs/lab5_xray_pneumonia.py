"""The exercises of lab 5: the data, the scores and the network; `xray_reporting` has those after training."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from tlcourse.labs import xray_reporting as reporting
from tlcourse.labs.answers import about, as_number, compare, expect, expect_keys, expect_len, match, wrong_any, wrong_if
from tlcourse.labs.lab import Exercise, Wrong

SHARES = {"train": 5 / 6, "val": 2 / 3, "test": 1 / 3}  # of pneumonia in the toy data set


def toy_dataset() -> tuple[pd.DataFrame, list[Image.Image]]:
    """Twelve images: patients c and d in two splits each, two copies and one that nearly is, two odd sizes."""
    split = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    label = ["PNEUMONIA" if ill else "NORMAL" for ill in (1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0)]
    names = [f"{i}.png" for i in range(12)]
    table = pd.DataFrame({"file": names, "split": split, "patient": list("aabcdbcefdgh"), "label": label})
    arrays = [np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8) for i in range(12)]
    arrays[5] = arrays[2].copy()  # in the same split
    arrays[11] = arrays[0].copy()  # in another
    arrays[8] = arrays[1].copy()
    arrays[8][0, 0] ^= 1  # one pixel differs: no copy
    images = [Image.fromarray(array) for array in arrays]
    images[7], images[10] = images[7].resize((4, 4)), images[10].resize((8, 6))
    return table, images


def audit(function: Any) -> str:
    """A function (table, images) that returns a dictionary with four findings."""
    table, images = toy_dataset()
    found = function(table.copy(), list(images))
    expect_keys(found, ("patients in two splits", "copies", "odd sizes", "share of pneumonia"))
    mistakes = {
        ("a", "b", "c", "d"): "several images are no fault; look for patients whose images are in several splits",
        ("d",): "one who is in train and val is missed; every pair of splits counts",
    }
    patients = sorted(set(map(str, found["patients in two splits"])))
    _right_names("patients", patients, ["c", "d"], mistakes, "in a test two patients are in two splits each")
    copies = sorted(map(str, found["copies"]))
    wrong_if("8.png" in copies, "copies: it names a file that differs from another in one pixel; compare all bytes")
    mistakes = {
        ("0.png", "11.png", "2.png", "5.png"): "the first of equal files is no copy; name those that come after it",
        ("11.png",): "only those across splits are found; there are both",
        ("5.png",): "only those inside of splits are found; there are both",
        (): "none found; are contents compared, or names, or the objects themselves?",
    }
    _right_names("copies", copies, ["11.png", "5.png"], mistakes, "in a test two files repeat an earlier one")
    mistakes = {("7.png",): "compare width and height, both; it names 7.png only"}
    odd, usual = sorted(set(map(str, found["odd sizes"]))), "name the files that differ from the usual size; in a test"
    _right_names("odd sizes", odd, ["10.png", "7.png"], mistakes, f"{usual} of 12 images")
    with about("shares"):
        given = dict(found["share of pneumonia"])
        wrong_if(set(given) != set(SHARES), f"expected one for {', '.join(SHARES)}, found {sorted(map(str, given))}")
        shares = {split: as_number(given[split], f"that of '{split}'") for split in SHARES}
        wrong_if(min(shares["train"], shares["val"]) > 1, "these are counts or per cent; give fractions of each split")
        for split, right in SHARES.items():
            normal = {"these are those of the normal images": 1 - right}
            compare(shares[split], right, f"in a test where {right:.3f} is right, that of '{split}'", normal, 1e-3)
    return "it finds patients in two splits, copies under other names, odd sizes, and the classes' shares"


def _right_names(finding: str, names: list[str], right: list[str], mistakes: dict[Any, str], what: str) -> None:
    with about(finding):
        wrong_if(names != right, mistakes.get(tuple(names), f"{what}; it names {names or 'none'}"))


def marker(place: Any, *, marked: np.ndarray, plain: np.ndarray) -> str:
    """The place (row, column), as fractions of height and width; `marked` and `plain` are (images, height, width)."""
    expect_len(place, 2, "expected a pair (row, column)")
    row, column = as_number(place[0], "the row"), as_number(place[1], "the column")
    wrong_if(max(row, column) > 1, "give fractions of height and width, from 0 to 1, not pixels")
    wrong_if(min(row, column) < 0, "row and column are counted from the upper left corner, so they are not negative")
    differs = np.abs(marked.astype(float) - plain.astype(float)).mean(axis=0) > 0.5
    pixels, size = np.argwhere(differs), np.array(differs.shape)
    low, high = (pixels.min(axis=0) - 1) / size, (pixels.max(axis=0) + 2) / size

    def inside(*position: float) -> bool:
        return bool((low <= position).all() and (position <= high).all())

    if not inside(row, column):
        wrong_if(inside(row, 1 - column), "the height is right; is it the other side? Columns count from the left")
        wrong_if(inside(1 - row, column), "the side is right; row 0 is the top of an image")
        chest = 0.25 < row < 0.85 and 0.15 < column < 0.85
        wrong_if(chest, "that is in the chest, where the disease makes the classes differ; look outside of it")
        raise Wrong("there the classes differ by chance only; look for the strongest difference outside of the chest")
    return "there it lies: a letter of the hospital, no part of the patient"


def divide(function: Any) -> str:
    """A function (patients, labels, seed) that returns three lists of row numbers: train, val and test."""
    rng = np.random.default_rng(3)
    counts, ill = rng.integers(1, 6, 80), rng.permutation(np.arange(80) < 56)
    order = rng.permutation(int(counts.sum()))
    patients = np.repeat([f"p{i:02d}" for i in range(80)], counts)[order]
    labels = np.repeat(ill.astype(int), counts)[order]
    splits = function(patients.copy(), labels.copy(), 0)
    expect_len(splits, 3, "it should return three lists of row numbers: train, val and test")
    rows = [np.asarray(split) for split in splits]
    whole = all(split.dtype.kind in "iu" for split in rows)
    wrong_if(not whole, "it should return row numbers, not names of patients and not True and False")
    together, count = np.concatenate(rows), len(patients)
    wrong_if(len(set(together.tolist())) < len(together), "an image is in two splits, or twice in one")
    wrong_if(len(together) < count, f"{count - len(together)} of {count} images are in no split")
    for (a, one), (b, other) in itertools.combinations(zip(SHARES, rows, strict=True), 2):
        both = sorted(set(patients[one]) & set(patients[other]))
        wrong_any(both, f"patient {{}} is in {a} and {b}: images were divided, not patients")
    for name, split, expected in zip(SHARES, rows, (0.6, 0.2, 0.2), strict=True):
        share = len(split) / count
        wrong_if(abs(share - expected) > 0.12, f"'{name}' has {share:.0%} of the images, expected about {expected:.0%}")
        wrong_if(len(set(labels[split])) < 2, f"'{name}' has images of one class only; divide each class")

    def same(seed: int) -> bool:
        again = function(patients.copy(), labels.copy(), seed)
        return all(set(np.asarray(a).tolist()) == set(b.tolist()) for a, b in zip(again, rows, strict=True))

    wrong_if(not same(0), "the same seed gives another division the second time, so nobody can repeat it")
    wrong_if(same(1) and same(2), "every seed gives the same division; the seed is not used")
    return "no patient is divided, each split has its share and both classes, and the seed decides"


SCORES = ("sensitivity", "specificity", "balanced accuracy", "AUC")


def scores(function: Any) -> str:
    """A function (scores, labels, threshold) that returns a dictionary of four scores."""
    probabilities = np.array([0.05, 0.1, 0.3, 0.7, 0.2, 0.6, 0.65, 0.7, 0.8, 0.9, 0.95, 0.97, 0.4, 0.99])
    found = function(probabilities.copy(), np.array([0] * 4 + [1] * 10), 0.7)
    expect_keys(found, SCORES)
    sensitivity, specificity, balanced, auc = (as_number(found[name], name) for name in SCORES)
    wrong_if(max(sensitivity, specificity, balanced, auc) > 1, "some numbers are above 1: give fractions, not per cent")
    swapped = abs(sensitivity - 0.75) < 1e-4 and abs(specificity - 0.6) < 1e-4
    wrong_if(swapped, "sensitivity and specificity are swapped: sensitivity is the share of the ill that is found")
    mistakes = {
        "sensitivity: a score equal to the threshold means ill; compare with `>=`": 0.5,
        "the sensitivity is that at 0.5; is the threshold used?": 0.8,
        "that is the precision: of those called ill. Sensitivity is the share of those who are ill": 6 / 7,
    }
    compare(sensitivity, 0.6, "in a test where 6 of 10 ill are found the sensitivity", mistakes, 1e-4)
    compare(specificity, 0.75, "in a test where 3 of 4 well are called well the specificity", {}, 1e-4)
    accuracy = {"that is the accuracy; balanced accuracy is the mean of sensitivity and specificity": 9 / 14}
    compare(balanced, 0.675, "the balanced accuracy, the mean of sensitivity and specificity,", accuracy, 1e-4)
    mistakes = {
        "the AUC was computed from decisions; it takes the scores themselves, without a threshold": 0.675,
        "the AUC is turned round: high scores should mean ill": 1 - 34.5 / 40,
    }
    compare(auc, 34.5 / 40, f"in a test where {34.5 / 40:.4f} is right the AUC", mistakes, 1e-4)
    return "all four are right, at a threshold of your choice"


def grey(function: Any) -> str:
    """A function from a colour network's first convolution to one that takes a single channel and gives the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = nn.Conv2d(3, 4, 5, stride=2, padding=2)
    before = first.weight.detach().clone()
    new = function(first)
    expect(new, nn.Conv2d, "it should return a convolution")
    changed = new is first or not torch.equal(first.weight, before)
    wrong_if(changed, "the colour network's own layer was changed; make a new one")
    channels = new.weight.shape[1]
    wrong_if((new.in_channels, channels) != (1, 1), f"it takes {channels} channels; a grey image has one")
    geometry = [(layer.kernel_size, layer.stride, layer.padding) for layer in (new, first)]
    wrong_if(geometry[0] != geometry[1], "kernel size, stride or padding differ, so maps have another size or place")
    total, colours = before.sum(1), zip(("red", "green", "blue"), before.unbind(1), strict=True)
    mean = "that is the mean of the three; a convolution adds up its channels, so what follows sees a third"
    mistakes = {f"these are the weights of {name}; the other two are lost": weight for name, weight in colours}
    otherwise = "these weights do not come from the old layer; a new layer's own are random"
    match(new.weight.detach()[:, 0], total, {mean: total / 3, **mistakes}, otherwise)
    without = new.bias is None or not torch.allclose(new.bias, first.bias)  # type: ignore[arg-type]
    wrong_if(without, "the weights are right; the old layer has a bias, which the new one needs too")
    return "three equal channels through the old layer, or one through the new: the same"


def weights(function: Any) -> str:
    """A function from labels to a weight for each class, such that both classes weigh the same in the loss."""
    labels = torch.tensor([0] * 20 + [1] * 80)
    found = torch.as_tensor(function(labels)).detach().double().flatten()
    wrong_if(len(found) == len(labels), "that is a weight for each image; the loss takes one for each class")
    wrong_if(len(found) != 2, f"it should return two weights, one for each class, and it returned {len(found)}")
    wrong_if(not (found.isfinite() & (found > 0)).all(), "weights should be above zero and finite")
    ratio = float(found[0] / found[1])
    mistakes = {
        "both weights are equal, so the frequent class still decides": 1,
        "the frequent class weighs more: turn the frequencies round, or the order of the classes": 0.25,
        "that is the root of the right ratio: the classes come nearer to each other, and do not balance": 2,
        "that is the square of the right ratio: was it divided twice?": 16,
    }
    times = f"with 20 normal and 80 ill images the first weight is {ratio:.3g} times the second; what should it be?"
    match(ratio, 4, mistakes, times, 1e-3)
    return "the rare class weighs more, so that both count the same"


EXERCISES = (
    Exercise("audit", "1 Audit", audit, function=True),
    Exercise("marker", "2 What gives the class away", marker),
    Exercise("divide", "3 Divide by patient", divide, function=True),
    Exercise("numbers", "4 Numbers", scores, function=True),
    Exercise("grey", "5 Grey images, colour network", grey, function=True),
    Exercise("weights", "6 Class weights", weights, function=True),
    Exercise("temperature", "7 Calibration", reporting.temperature, function=True),
    Exercise("threshold", "8 The threshold", reporting.threshold, function=True),
    Exercise("interval", "9 An interval by patient", reporting.interval, function=True),
    Exercise("shortcut", "10 The shortcut", reporting.shortcut),
    Exercise("heat", "11 Does a heat map find the shortcut?", reporting.heat),
    Exercise("report", "12 The test set, once", reporting.report),
    Exercise("card", "13 The model card", reporting.card),
)
