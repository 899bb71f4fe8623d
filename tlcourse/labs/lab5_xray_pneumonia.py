"""The exercises of lab 5, first half: the data, the numbers, the network; the second half is in `xray_reporting`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from tlcourse.labs import xray_reporting as later
from tlcourse.labs.answers import as_number
from tlcourse.labs.lab import Exercise, Wrong

# --- 1 audit ----------------------------------------------------------------------------------------------------

FINDINGS = ("patients in two parts", "copies", "odd sizes", "share of pneumonia")


def toy_dataset() -> tuple[pd.DataFrame, list[Image.Image]]:
    """Twelve images: patients c and d in two parts each, two copies and one that nearly is, two odd sizes."""
    part = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    rows = list(zip(part, "aabcdbcefdgh", [1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0], strict=True))
    names = ["NORMAL", "PNEUMONIA"]
    table = pd.DataFrame([(f"{i}.png", part, who, names[ill]) for i, (part, who, ill) in enumerate(rows)])
    table.columns = pd.Index(["file", "part", "patient", "label"])
    arrays = [np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8) for i in range(12)]
    arrays[5] = arrays[2].copy()  # in the same part
    arrays[11] = arrays[0].copy()  # in another
    arrays[8] = arrays[1].copy()
    arrays[8][0, 0] ^= 1  # one pixel differs: no copy
    images = [Image.fromarray(array) for array in arrays]
    images[7], images[10] = images[7].resize((4, 4)), images[10].resize((8, 6))
    return table, images


def audit(function: Any) -> str:
    """A function (table, images) that returns a dictionary with the four findings."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    table, images = toy_dataset()
    found = function(table.copy(), list(images))
    if not isinstance(found, Mapping):
        raise Wrong(f"it should return a dictionary, and it returned {type(found).__name__}")
    missing = [name for name in FINDINGS if name not in found]
    if missing:
        raise Wrong(f"the dictionary has no '{missing[0]}'")
    _audited_patients({str(name) for name in found["patients in two parts"]})
    _audited_copies([str(name) for name in found["copies"]])
    odd = {str(name) for name in found["odd sizes"]}
    if odd != {"7.png", "10.png"}:
        hint = (
            "compare width and height, both" if odd == {"7.png"} else "name the files that differ from the usual size"
        )
        raise Wrong(f"odd sizes: {hint}; in a test of 12 images it names {sorted(odd) or 'none'}")
    _audited_shares(dict(found["share of pneumonia"]))
    return "it finds patients in two parts, copies under other names, odd sizes, and the classes' shares"


def _audited_patients(found: set[str]) -> None:
    if found == {"a", "b", "c", "d"}:
        raise Wrong("patients: several images are no fault; look for patients whose images are in several parts")
    if found == {"d"}:
        raise Wrong("patients: one who is in train and val is missed; every pair of parts counts")
    if found != {"c", "d"}:
        raise Wrong(f"patients: in a test two of them are in two parts each; it names {sorted(found) or 'none'}")


def _audited_copies(found: list[str]) -> None:
    if sorted(found) == ["0.png", "11.png", "2.png", "5.png"]:
        raise Wrong("copies: the first of equal files is no copy; name those that come after it")
    if found == ["11.png"] or found == ["5.png"]:
        raise Wrong(
            f"copies: only those {'across' if found == ['11.png'] else 'inside of'} parts are found; there are both"
        )
    if "8.png" in found:
        raise Wrong("copies: it names a file that differs from another in one pixel; compare all bytes")
    if not found:
        raise Wrong("copies: none found; are contents compared, or names, or the objects themselves?")
    if sorted(found) != ["11.png", "5.png"]:
        raise Wrong(f"copies: it names {sorted(found)}; in a test two files repeat an earlier one")


def _audited_shares(found: dict[str, Any]) -> None:
    right = {"train": 5 / 6, "val": 2 / 3, "test": 1 / 3}
    if set(found) != set(right):
        raise Wrong(f"shares: expected one for each of train, val and test, found {sorted(map(str, found))}")
    shares = {part: as_number(value, f"the share of '{part}'") for part, value in found.items()}
    if all(math.isclose(shares[part], 1 - value) for part, value in right.items()):
        raise Wrong("shares: these are those of the normal images")
    if all(shares[part] > 1 for part in ("train", "val")):
        raise Wrong("shares: these are counts or per cent; give fractions of the part's images")
    off = [part for part, value in right.items() if not math.isclose(shares[part], value, abs_tol=1e-3)]
    if off:
        raise Wrong(f"shares: that of '{off[0]}' is {shares[off[0]]:.3f} in a test where {right[off[0]]:.3f} is right")


# --- 2 marker ---------------------------------------------------------------------------------------------------


def marker(place: Any, *, marked: np.ndarray, plain: np.ndarray) -> str:
    """The place (row, column), as fractions of height and width; `marked` and `plain` are (images, height, width)."""
    if not isinstance(place, list | tuple | np.ndarray) or len(place) != 2:
        raise Wrong(f"expected a pair (row, column), found {type(place).__name__}")
    row, column = (as_number(value, what) for value, what in zip(place, ("the row", "the column"), strict=True))
    if row > 1 or column > 1:
        raise Wrong("give fractions of height and width, from 0 to 1, not pixels")
    if row < 0 or column < 0:
        raise Wrong("row and column are counted from the upper left corner, so they are not negative")
    differs = np.abs(marked.astype(float) - plain.astype(float)).mean(axis=0) > 0.5
    rows, columns = np.nonzero(differs)
    height, width = differs.shape
    top, bottom = (rows.min() - 1) / height, (rows.max() + 2) / height
    left, right = (columns.min() - 1) / width, (columns.max() + 2) / width

    def inside(r: float, c: float) -> bool:
        return bool(top <= r <= bottom and left <= c <= right)

    if inside(row, column):
        return "there it lies: a letter of the hospital, no part of the patient"
    if inside(row, 1 - column):
        raise Wrong("the height is right; is it the other side? Columns are counted from the left")
    if inside(1 - row, column):
        raise Wrong("the side is right; row 0 is the top of an image")
    if 0.25 < row < 0.85 and 0.15 < column < 0.85:
        raise Wrong("that is in the chest, where the classes should differ: it may be the disease. Look outside of it")
    raise Wrong("there the classes differ by chance only; look for the strongest difference outside of the chest")


# --- 3 divide ---------------------------------------------------------------------------------------------------


def _toy_patients() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 6, 80)
    ill = rng.permutation(np.arange(80) < 56)
    order = rng.permutation(int(counts.sum()))
    return np.repeat([f"p{i:02d}" for i in range(80)], counts)[order], np.repeat(ill.astype(int), counts)[order]


def divide(function: Any) -> str:
    """A function (patients, labels, seed) that returns three lists of row numbers: train, val and test."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    patients, labels = _toy_patients()
    parts = function(patients.copy(), labels.copy(), 0)
    if not isinstance(parts, list | tuple) or len(parts) != 3:
        raise Wrong("it should return three lists of row numbers: train, val and test")
    rows = [np.asarray(part) for part in parts]
    if any(part.dtype.kind not in "iu" for part in rows):
        raise Wrong("it should return row numbers, not names of patients and not True and False")
    together = np.concatenate(rows)
    if len(set(together.tolist())) < len(together):
        raise Wrong("an image is in two parts, or twice in one")
    if len(together) < len(patients):
        raise Wrong(f"{len(patients) - len(together)} of {len(patients)} images are in no part")
    names = [set(patients[part]) for part in rows]
    for a, b, what in ((0, 1, "train and val"), (0, 2, "train and test"), (1, 2, "val and test")):
        if names[a] & names[b]:
            raise Wrong(f"patient {min(names[a] & names[b])} is in {what}: images were divided, not patients")
    return _divided_well(function, rows, patients, labels)


def _divided_well(function: Any, rows: list[np.ndarray], patients: np.ndarray, labels: np.ndarray) -> str:
    for name, part, wanted in zip(("train", "val", "test"), rows, (0.6, 0.2, 0.2), strict=True):
        share = len(part) / len(patients)
        if abs(share - wanted) > 0.12:
            raise Wrong(f"'{name}' has {share:.0%} of the images; about {wanted:.0%} is wanted")
        if len(np.unique(labels[part])) < 2:
            raise Wrong(f"'{name}' has images of one class only; divide each class")

    def same(seed: int) -> bool:
        again = function(patients.copy(), labels.copy(), seed)
        return all(set(np.asarray(a).tolist()) == set(b.tolist()) for a, b in zip(again, rows, strict=True))

    if not same(0):
        raise Wrong("the same seed gives another division the second time, so nobody can repeat it")
    if same(1) and same(2):
        raise Wrong("every seed gives the same division; the seed is not used")
    return "no patient is divided, each part has its share and both classes, and the seed decides"


# --- 4 numbers --------------------------------------------------------------------------------------------------

NUMBERS = ("AUC", "balanced accuracy", "sensitivity", "specificity")


def numbers(function: Any) -> str:
    """A function (scores, labels, threshold) that returns a dictionary of four numbers."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    scores = np.array([0.05, 0.1, 0.3, 0.7, 0.2, 0.6, 0.65, 0.7, 0.8, 0.9, 0.95, 0.97, 0.4, 0.99])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    found = function(scores.copy(), labels.copy(), 0.7)
    if not isinstance(found, Mapping):
        raise Wrong(f"it should return a dictionary, and it returned {type(found).__name__}")
    missing = [name for name in NUMBERS if name not in found]
    if missing:
        raise Wrong(f"the dictionary has no '{missing[0]}'")
    value = {name: as_number(found[name], name) for name in NUMBERS}
    if any(number > 1 for number in value.values()):
        raise Wrong("some numbers are above 1: give fractions, not per cent")

    def near(name: str, number: float) -> bool:
        return math.isclose(value[name], number, abs_tol=1e-4)

    if near("sensitivity", 0.75) and near("specificity", 0.6):
        raise Wrong("sensitivity and specificity are swapped: sensitivity is the share of the ill that is found")
    if near("sensitivity", 0.5):
        raise Wrong("sensitivity: a score equal to the threshold means ill; compare with `>=`")
    if near("sensitivity", 0.8):
        raise Wrong("the sensitivity is that at 0.5; is the threshold used?")
    if near("sensitivity", 6 / 7):
        raise Wrong("that is the precision: of those called ill. Sensitivity is the share of those who are ill")
    if not near("sensitivity", 0.6):
        raise Wrong(
            f"in a test 6 of 10 ill are found at the threshold, and the sensitivity is {value['sensitivity']:.3f}"
        )
    if not near("specificity", 0.75):
        raise Wrong(f"in a test 3 of 4 well are left in peace, and the specificity is {value['specificity']:.3f}")
    if near("balanced accuracy", 9 / 14):
        raise Wrong("that is the accuracy; balanced accuracy is the mean of sensitivity and specificity")
    if not near("balanced accuracy", 0.675):
        raise Wrong(f"balanced accuracy is {value['balanced accuracy']:.3f}, and not the mean of the two shares")
    if near("AUC", 0.675):
        raise Wrong("the AUC was computed from decisions; it takes the scores themselves, without a threshold")
    if near("AUC", 1 - 34.5 / 40):
        raise Wrong("the AUC is turned round: high scores should mean ill")
    if not near("AUC", 34.5 / 40):
        raise Wrong(f"in a test the AUC is {34.5 / 40:.4f}, and the function says {value['AUC']:.4f}")
    return "all four are right, at a threshold of your choice"


# --- 5 grey, 6 weights ------------------------------------------------------------------------------------------


def grey(function: Any) -> str:
    """A function from a colour network's first convolution to one that takes a single channel and gives the same."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = nn.Conv2d(3, 4, 5, stride=2, padding=2)
    before = first.weight.detach().clone()
    made = function(first)
    if not isinstance(made, nn.Conv2d):
        raise Wrong(f"it should return a convolution, and it returned {type(made).__name__}")
    if made is first or first.weight.shape != before.shape or not torch.equal(first.weight, before):
        raise Wrong("the colour network's own layer was changed; make a new one")
    if made.in_channels != 1 or made.weight.shape[1] != 1:
        raise Wrong(f"it takes {made.in_channels} channels; a grey image has one")
    if (made.kernel_size, made.stride, made.padding) != (first.kernel_size, first.stride, first.padding):
        raise Wrong(
            "kernel size, stride or padding differ from the old layer's, so the maps have another size or place"
        )
    found, total = made.weight.detach()[:, 0], before.sum(1)
    if torch.allclose(found, total, atol=1e-6):
        if made.bias is None or not torch.allclose(made.bias, first.bias if first.bias is not None else torch.zeros(4)):
            raise Wrong("the weights are right; the old layer has a bias, which the new one needs too")
        return "three equal channels through the old layer, or one through the new: the same"
    if torch.allclose(found, total / 3, atol=1e-6):
        raise Wrong("that is the mean of the three; a convolution adds up its channels, so what follows sees a third")
    if any(torch.allclose(found, before[:, i], atol=1e-6) for i in range(3)):
        raise Wrong("these are one colour's weights; the other two are lost")
    raise Wrong("these weights do not come from the old layer; a new layer's own are random")


def weights(function: Any) -> str:
    """A function from labels to a weight for each class, such that both classes weigh the same in the loss."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    labels = torch.tensor([0] * 20 + [1] * 80)
    found = torch.as_tensor(function(labels)).detach().double().flatten()
    if len(found) == len(labels):
        raise Wrong("that is a weight for each image; the loss takes one for each class")
    if len(found) != 2:
        raise Wrong(f"it should return two weights, one for each class, and it returned {len(found)}")
    if not torch.isfinite(found).all() or (found <= 0).any():
        raise Wrong("weights should be above zero and finite")
    ratio = float(found[0] / found[1])
    if math.isclose(ratio, 4, rel_tol=1e-3):
        return "the rare class weighs more, so that both count the same"
    if math.isclose(ratio, 1, rel_tol=1e-3):
        raise Wrong("both weights are equal, so the frequent class still decides")
    if math.isclose(ratio, 0.25, rel_tol=1e-3):
        raise Wrong("the frequent class weighs more: turn the frequencies round, or the order of the classes")
    if math.isclose(ratio, 2, rel_tol=1e-3):
        raise Wrong("that is the root of the right ratio: the classes come nearer to each other, and do not balance")
    if math.isclose(ratio, 16, rel_tol=1e-3):
        raise Wrong("that is the square of the right ratio: was it divided twice?")
    raise Wrong(
        f"with 20 normal and 80 ill images the first weight is {ratio:.3g} times the second; what should it be?"
    )


EXERCISES = (
    Exercise("audit", "1 Audit", audit),
    Exercise("marker", "2 What gives the class away", marker),
    Exercise("divide", "3 Divide by patient", divide),
    Exercise("numbers", "4 Numbers", numbers),
    Exercise("grey", "5 Grey images, colour network", grey),
    Exercise("weights", "6 Class weights", weights),
    Exercise("temperature", "7 Calibration", later.temperature),
    Exercise("threshold", "8 The threshold", later.threshold),
    Exercise("interval", "9 An interval by patient", later.interval),
    Exercise("shortcut", "10 The shortcut", later.shortcut),
    Exercise("heat", "11 Does the heat lie on the disease?", later.heat),
    Exercise("report", "12 The test set, once", later.report),
    Exercise("card", "13 The model card", later.card),
)
