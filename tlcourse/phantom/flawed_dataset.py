"""Phantoms as a hospital might deliver them: a table and images, with faults that somebody has to find."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from tlcourse.phantom.dataset import load_phantom

PLANTED = {"patients": 3, "copies": 4, "odd sizes": 2}
PREVALENCE = {"train": 0.7, "val": 0.7, "test": 0.5}


class FlawedDataset(NamedTuple):
    """Images and what is said of them.

    Attributes:
        table: a row for each image, with the columns file, part, patient and label.
        images: grey PIL images, in the order of the table.
        plain: the same images without the hospital's letter; nobody has these in life.
    """

    table: pd.DataFrame
    images: list[Image.Image]
    plain: list[Image.Image]


def flawed_dataset(*, size: int = 64, patients: int = 40, marker: float = 0.9, seed: int = 0) -> FlawedDataset:
    """Drawn chest radiographs in parts that somebody made, with planted faults.

    Three patients of the test set have an image in the training set, four training images are in the test set
    again under another name and another patient's, two images have half the size, the classes are not as frequent
    in all parts, and a lead letter lies on most images of one class. Which ones the seed decides.

    Args:
        size: side of the images in pixels, from 48 to 512.
        patients: of the training set; half as many in each of the others; 12 or more.
        marker: how strongly the letter goes with pneumonia, from 0 to 1.
        seed: from which everything is drawn.

    Raises:
        DataError: if a number is out of range.
    """
    counts = {"patients": patients, "val_patients": patients // 2, "test_patients": patients // 2}
    options = {"size": size, "prevalence": PREVALENCE, "seed": seed, **counts}
    rows: list[tuple[str, str, str]] = []
    shown: list[Image.Image] = []
    plain: list[Image.Image] = []
    with_letter, without = (load_phantom(marker=value, **options) for value in (marker, None))  # type: ignore[arg-type]
    for number, (part, twin) in enumerate(zip(with_letter.splits(), without.splits(), strict=True), start=1):
        names = [f"P{number}{name[-4:]}" for name in part.groups or ()]  # the parts count from 0, each by itself
        rows += [(part.name, name, part.classes[part.labels[i]]) for i, name in enumerate(names)]
        shown += [part.image(i).convert("L") for i in range(len(part))]
        plain += [twin.image(i).convert("L") for i in range(len(twin))]
    table = pd.DataFrame(rows, columns=["part", "patient", "label"])
    return _spoiled(table, shown, plain, np.random.default_rng((seed, 5)))


def _spoiled(
    table: pd.DataFrame, shown: list[Image.Image], plain: list[Image.Image], rng: np.random.Generator
) -> FlawedDataset:
    """Plant the faults, then number the files in a drawn order, so that their names tell nothing."""
    first_of = table[table["part"] == "test"].drop_duplicates("patient").index.to_numpy()
    moved = rng.choice(first_of, PLANTED["patients"], replace=False)
    train = table.index[table["part"] == "train"].to_numpy()
    chosen = rng.choice(train, PLANTED["copies"] + PLANTED["odd sizes"], replace=False)
    copied, small = chosen[: PLANTED["copies"]], chosen[PLANTED["copies"] :]
    table.loc[moved, "part"] = "train"
    again = table.loc[copied].assign(part="test", patient=[f"P9{number:04d}" for number in range(len(copied))])
    table = pd.concat([table, again], ignore_index=True)
    for images in (shown, plain):
        for row in small:
            images[row] = images[row].reduce(2)
        images += [images[row].copy() for row in copied]
    order = rng.permutation(len(table))
    table = table.loc[order].reset_index(drop=True)
    table.insert(0, "file", [f"{number:04d}.png" for number in range(len(table))])
    return FlawedDataset(table, [shown[row] for row in order], [plain[row] for row in order])
