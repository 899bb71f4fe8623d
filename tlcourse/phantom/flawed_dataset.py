"""Phantoms as a hospital might send them: a table and images, with planted faults to find."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from tlcourse.phantom.dataset import load_phantom

PLANTED = {"patients": 3, "copies": 4, "odd sizes": 2}
PREVALENCE = {"train": 0.7, "val": 0.7, "test": 0.5}


class FlawedDataset(NamedTuple):
    """A table of images, the images, and what they would be without their most harmful fault."""

    table: pd.DataFrame  # a row for each image with the columns file, split, patient and label
    images: list[Image.Image]  # grey, in the order of the table
    plain: list[Image.Image]  # the same without the hospital's letter, unknown for real ones


def flawed_dataset(*, size: int = 64, patients: int = 40, seed: int = 0) -> FlawedDataset:
    """Draw chest radiographs, already split, with planted faults.

    Three test patients have an image in the training set. Four training images are in the test set again under another
    name and patient. Two images have half the size. Splits differ in prevalence. A lead letter goes with one class.
    `size`, `seed` and the errors are those of `load_phantom`. The training set has 12 `patients` or more, each of the
    other splits half as many.
    """
    options: dict[str, Any] = {"size": size, "prevalence": PREVALENCE, "seed": seed, "patients": patients}
    options |= {"val_patients": patients // 2, "test_patients": patients // 2}
    splits = load_phantom(marker=0.9, **options).splits()
    rows = [
        (split.name, f"P{number}{patient[-4:]}", split.classes[label])
        for number, split in enumerate(splits, start=1)
        for patient, label in zip(split.groups or (), split.labels.tolist(), strict=True)
    ]
    table = pd.DataFrame(rows, columns=["split", "patient", "label"])
    rng = np.random.default_rng((seed, 5))
    leaked = rng.choice(table.index[table["split"] == "test"][::2], PLANTED["patients"], replace=False)
    chosen = rng.choice(table.index[table["split"] == "train"], PLANTED["copies"] + PLANTED["odd sizes"], replace=False)
    copied, small = np.split(chosen, [PLANTED["copies"]])
    table.loc[leaked, "split"] = "train"
    copies = table.loc[copied].assign(split="test", patient=[f"P9{number:04d}" for number in range(len(copied))])
    order = rng.permutation(len(table) + len(copies))  # so that the file names say nothing
    sources = np.concatenate([table.index, copied])[order]
    table = pd.concat([table, copies]).iloc[order].reset_index(drop=True)
    table.insert(0, "file", [f"{number:04d}.png" for number in range(len(table))])
    versions = []
    for version in (splits, load_phantom(marker=None, **options).splits()):
        grey = [split.image(i).convert("L") for split in version for i in range(len(split))]
        versions.append([grey[row].reduce(2) if row in small else grey[row] for row in sources])
    return FlawedDataset(table, *versions)
