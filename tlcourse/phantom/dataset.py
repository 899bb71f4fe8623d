"""The data set `phantom`: chest radiographs drawn by a simple physical model, with opacities at known places."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image

from tlcourse.data_sets import card_of
from tlcourse.drawn_images import SPLITS, DrawnImages, check_range
from tlcourse.phantom.anatomy import SUBTYPES
from tlcourse.phantom.film import Drawing, Radiograph, draw_radiograph
from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.errors import DataError

CLASSES = ("NORMAL", "PNEUMONIA")


class PhantomImages(DrawnImages[Drawing]):
    """Loads the images of a split; `size` and `difficulty` as in `load_phantom`."""

    def __init__(self, recipes: Sequence[Radiograph], size: int, difficulty: float) -> None:
        super().__init__(size)
        self.recipes, self.difficulty = tuple(recipes), difficulty

    def __call__(self, index: int) -> Image.Image:
        """Image number `index`, RGB with three equal channels, (size, size)."""
        return Image.fromarray(self.drawn(index).grey).convert("RGB")

    def draw(self, index: int) -> Drawing:
        """Draw image number `index` and its masks."""
        return draw_radiograph(self.recipes[index], self.size, self.difficulty)


def load_phantom(
    *,
    size: int = 128,
    patients: int = 160,
    val_patients: int = 80,
    test_patients: int = 120,
    per_patient: int = 2,
    prevalence: float | Mapping[str, float] = 0.5,
    marker: float | None = None,
    difficulty: float = 1.0,
    seed: int = 0,
) -> ImageData:
    """Load drawn chest radiographs: normal, or with the opacities of a pneumonia. They are no medical data.

    The images of a patient show the same chest and the same opacities in another pose and with another dose. The splits
    share no patient, and `groups` of each split are its patients. Half of the ill ones have few dense patches
    ("bacterial"), half many faint ones ("viral"). The seed fixes the chests: `size`, `prevalence`, `marker` and
    `difficulty` do not change them, nor do more patients. Raises DataError if a number is out of range.

    `size` is the side of the square images in pixels, from 48 to 512. `patients`, `val_patients` and `test_patients`
    are those of the splits, with `per_patient` images each. `prevalence` is the fraction of patients who are ill,
    rounded to whole patients, or one for each split, such as {"train": 0.5, "test": 0.1}; 0.5 for splits that are not
    named. `marker` is None, or the strength of a shortcut, from -1 to 1: a lead letter on all images of one of two
    hospitals, from which (1 + marker) / 2 of the ill patients come and (1 - marker) / 2 of the others. `difficulty`,
    from 0.25 to 10, divides the fluid of the opacities. `seed`, 0 or more, is that of everything random.
    """
    counts = {"patients": patients, "val_patients": val_patients, "test_patients": test_patients}
    check_range(1, **counts, per_patient=per_patient)
    check_range(48, 512, " pixels", size=size)
    check_range(0.25, 10, difficulty=difficulty)
    check_range(0, seed=seed)
    check_range(-1, 1, marker=marker or 0.0)
    ill = prevalence if isinstance(prevalence, Mapping) else dict.fromkeys(SPLITS, prevalence)
    if unknown := [split for split in ill if split not in SPLITS]:
        raise DataError(f"prevalence: there is no split '{unknown[0]}'; the splits are {', '.join(SPLITS)}")
    check_range(0, 1, **{f"prevalence of '{split}'": value for split, value in ill.items()})
    splits = []
    for split, count in zip(SPLITS, counts.values(), strict=True):
        people = _patients(split, count, ill.get(split, 0.5), marker, seed)
        recipes = [person._replace(seed=(*person.seed, i)) for person in people for i in range(per_patient)]
        images, patients_of = PhantomImages(recipes, size, difficulty), [recipe.patient for recipe in recipes]
        labels = [int(recipe.subtype != "none") for recipe in recipes]
        keys = [f"{split}/{CLASSES[c]}/{r.patient}-{r.seed[-1]}" for r, c in zip(recipes, labels, strict=True)]
        splits.append(ImageSplit(images, labels, CLASSES, keys=keys, name=split, groups=patients_of))
    return ImageData("phantom", splits[0], splits[1], splits[2], card_of("phantom"))


def phantom_table(split: ImageSplit) -> pd.DataFrame:
    """A row for each image of a split; raises DataError if the images are not phantoms.

    The columns are key, patient, label (class name), subtype ("none", "bacterial", "viral"), hospital ("A", "B"),
    marker (whether the letter is on it), and opacity (fraction of the lungs that opacities cover).
    """
    load = _loader(split)
    table = pd.DataFrame([load.recipes[row] for row in split.rows]).drop(columns="seed")
    table.insert(0, "key", split.keys)
    table.insert(2, "label", [split.classes[label] for label in split.labels.tolist()])
    table["opacity"] = [drawing.opacity.sum() / drawing.lung.sum() for drawing in map(load.drawn, split.rows)]
    return table


def phantom_masks(split: ImageSplit) -> np.ndarray:
    """Masks of each image's opacities, bool (images, size, size), empty if normal; a DataError if it is no phantom."""
    return np.stack([_loader(split).drawn(row).opacity for row in split.rows])


def _loader(split: ImageSplit) -> PhantomImages:
    if not isinstance(split.load, PhantomImages):
        raise DataError(f"the images of '{split.name}' are not those of the data set 'phantom', so nothing is known")
    return split.load


def _patients(split: str, count: int, prevalence: float, marker: float | None, seed: int) -> list[Radiograph]:
    """A recipe for each patient of a split; who is ill is random, how many are is not."""
    base, ill, strength = (seed, SPLITS.index(split)), round(prevalence * count), marker or 0.0
    order = np.random.default_rng((*base, 0)).permutation(count)  # the first are ill: more prevalence adds to them
    subtypes = {patient: SUBTYPES[rank % 2] for rank, patient in enumerate(order[:ill].tolist())}
    hospitals = ["A"] * count
    for group, fraction in ((order[:ill], (1 + strength) / 2), (order[ill:], (1 - strength) / 2)):
        # Shuffled, since neighbours in `order` differ in subtype, which must not go with the hospital.
        for patient in np.random.default_rng(len(group)).permutation(group)[: round(fraction * len(group))]:
            hospitals[patient] = "B"
    return [
        Radiograph(f"{split}-{i:04d}", subtypes.get(i, "none"), at, marker is not None and at == "B", (*base, 1, i))
        for i, at in enumerate(hospitals)
    ]
