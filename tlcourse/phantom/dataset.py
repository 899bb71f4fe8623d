"""The data set `phantom`: chest radiographs drawn by a simple physical model, with opacities at known places."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image

from tlcourse.drawn_images import SPLITS, DrawnImages, check_range
from tlcourse.phantom.film import Drawing, Radiograph, draw_radiograph
from tlcourse.phantom.opacity import SUBTYPES
from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.errors import DataError

CLASSES = ("NORMAL", "PNEUMONIA")

CARD = DataCard(
    name="phantom",
    summary="drawn chest radiographs, normal or with opacities at known places; the splits share no patient",
    source="drawn by this package from a physical model; shapes of lungs and opacities after summary numbers of "
    "lung masks and RSNA boxes in torchxrayvision 1.5.7",
    licence="MIT, as this package",
    is_not="patients: drawings, which no radiologist would take for radiographs. No score on them is a medical result, "
    "and none says how a network does on people. Their difficulty was chosen to teach",
)


class PhantomImages(DrawnImages[Drawing]):
    """Loads the images of a split; `size` and `difficulty` as in `load_phantom`, `healthy` leaves out the opacities."""

    def __init__(self, recipes: Sequence[Radiograph], size: int, difficulty: float, healthy: bool = False) -> None:
        super().__init__(size)
        self.recipes, self.difficulty, self.healthy = tuple(recipes), difficulty, healthy

    def __call__(self, index: int) -> Image.Image:
        """Image number `index`, RGB with three equal channels, (size, size)."""
        return Image.fromarray(self.drawn(index).grey).convert("RGB")

    def draw(self, index: int) -> Drawing:
        """Draw image number `index` and its masks."""
        return draw_radiograph(self.recipes[index], self.size, self.difficulty, self.healthy)


def load_phantom(
    *,
    size: int = 128,
    patients: int = 160,
    val_patients: int = 80,
    test_patients: int = 120,
    per_patient: int = 2,
    prevalence: float | Mapping[str, float] = 0.5,
    marker: float | Mapping[str, float] | None = None,
    difficulty: float = 1.0,
    seed: int = 0,
) -> ImageData:
    """Load drawn chest radiographs: normal, or with the opacities of a pneumonia. They are no medical data.

    The images of a patient show the same chest and the same opacities in another pose and with another dose. The splits
    share no patient, and `groups` of each split are its patients. Half of the ill ones have few dense patches
    ("bacterial"), half many faint ones ("viral"). The seed fixes the chests: `size`, `prevalence`, `marker` and
    `difficulty` do not change them, nor do more patients. Raises DataError if a number is out of range.

    Args:
        size: side of the square images in pixels, from 48 to 512.
        patients: of the training set.
        val_patients: of the validation set.
        test_patients: of the test set.
        per_patient: images of each patient.
        prevalence: fraction of patients who are ill, rounded to whole patients, or one for each split, such as
            {"train": 0.5, "test": 0.1}; 0.5 for splits that are not named.
        marker: None, or the strength of a shortcut, from -1 to 1: a lead letter on all images of one of two hospitals,
            from which (1 + marker) / 2 of the ill patients come and (1 - marker) / 2 of the others. Or one for each
            split, such as {"train": 0.9}; 0 for splits that are not named.
        difficulty: divides the fluid of the opacities; from 0.25 to 10.
        seed: of everything random, 0 or more.
    """
    counts = {"patients": patients, "val_patients": val_patients, "test_patients": test_patients}
    for name, count in {**counts, "per_patient": per_patient}.items():
        check_range(name, count, 1)
    check_range("size", size, 48, 512, " pixels")
    check_range("difficulty", difficulty, 0.25, 10)
    check_range("seed", seed, 0)
    ill = _by_split("prevalence", prevalence, 0, 0.5)
    strength = dict.fromkeys(SPLITS) if marker is None else _by_split("marker", marker, -1, 0.0)
    splits = []
    for split, count in zip(SPLITS, counts.values(), strict=True):
        people = _patients(split, count, ill[split], strength[split], seed)
        recipes = [person._replace(seed=(*person.seed, i)) for person in people for i in range(per_patient)]
        images, patients_of = PhantomImages(recipes, size, difficulty), [recipe.patient for recipe in recipes]
        labels = [int(recipe.subtype != "none") for recipe in recipes]
        keys = [f"{split}/{CLASSES[c]}/{r.patient}-{r.seed[-1]}" for r, c in zip(recipes, labels, strict=True)]
        splits.append(ImageSplit(images, labels, CLASSES, keys=keys, name=split, groups=patients_of))
    return ImageData("phantom", splits[0], splits[1], splits[2], CARD)


def phantom_table(split: ImageSplit) -> pd.DataFrame:
    """A row for each image of a split, to describe it.

    The columns are key, patient, label (class name), subtype ("none", "bacterial", "viral"), hospital ("A", "B"),
    marker (whether the letter is on it), photons (dose: photons that would reach a pixel without a patient), and
    opacity (fraction of the lungs that opacities cover). Raises DataError if the images are not phantoms.
    """
    load = _loader(split)
    table = pd.DataFrame([load.recipes[row] for row in split.rows]).drop(columns="seed")
    drawings = [load.drawn(row) for row in split.rows]
    table.insert(0, "key", split.keys)
    table.insert(2, "label", [split.classes[label] for label in split.labels.tolist()])
    table["photons"] = [drawing.photons for drawing in drawings]
    table["opacity"] = [drawing.opacity.sum() / drawing.lung.sum() for drawing in drawings]
    return table


def phantom_masks(split: ImageSplit, *, of: str = "opacities") -> np.ndarray:
    """Masks of each image, bool (images, size, size): `of` its "opacities", none in a normal image, or of its "lungs".

    Raises DataError if the images are not phantoms, or `of` is neither.
    """
    fields = {"opacities": "opacity", "lungs": "lung"}
    if of not in fields:
        raise DataError(f"there are masks of 'opacities' and of 'lungs', not of {of!r}")
    return np.stack([getattr(_loader(split).drawn(row), fields[of]) for row in split.rows])


def phantom_healthy(split: ImageSplit) -> ImageSplit:
    """The same images without opacities: the same chests, poses, noise and letters, and the same labels.

    A network's outputs for both differ by the effect of the opacities alone. Raises DataError if they are no phantoms.
    """
    load, view = _loader(split), copy.copy(split)
    view.load = PhantomImages(load.recipes, load.size, load.difficulty, healthy=True)
    return view


def _loader(split: ImageSplit) -> PhantomImages:
    if not isinstance(split.load, PhantomImages):
        raise DataError(f"the images of '{split.name}' are not those of the data set 'phantom', so nothing is known")
    return split.load


def _by_split(what: str, given: float | Mapping[str, float], low: float, default: float) -> dict[str, float]:
    """The value for each split, from `low` to 1; `default` for a split that is not named."""
    values = given if isinstance(given, Mapping) else dict.fromkeys(SPLITS, given)
    for split, value in values.items():
        if split not in SPLITS:
            raise DataError(f"{what}: there is no split '{split}'; the splits are {', '.join(SPLITS)}")
        check_range(f"{what} of '{split}'", value, low, 1)
    return {split: values.get(split, default) for split in SPLITS}


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
