"""The data set `phantom`: chest radiographs drawn by a simple physical model, with opacities whose place is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from tlcourse.phantom import anatomy, film
from tlcourse.phantom.opacity import SUBTYPES, draw_opacities, fluid_depth
from tlcourse.safari.background import smooth_noise
from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.errors import DataError

CLASSES = ("NORMAL", "PNEUMONIA")
PARTS = ("train", "val", "test")
HOSPITALS = ("A", "B")
SIZES = (48, 512)
CACHE_BYTES = 100_000_000  # how much memory the images of one part may take

CARD = DataCard(
    name="phantom",
    summary="drawn chest radiographs, normal or with opacities whose place is known; the parts share no patient",
    source="drawn by this package from a physical model; shapes of lungs and opacities after summary numbers of "
    "lung masks and RSNA boxes in torchxrayvision 1.5.7",
    licence="MIT, as this package",
    is_not=(
        "patients: drawings, which no radiologist would take for radiographs. No score on them is a medical result, "
        "and none says how a network does on people. Their difficulty was chosen to teach"
    ),
)


class Film(NamedTuple):
    """One image of a patient, before it is drawn.

    Attributes:
        patient: "train-0007", say.
        subtype: "none", or one of `SUBTYPES`.
        hospital: one of `HOSPITALS`.
        marker: whether the second hospital's letter lies on it.
        seed: of the patient, then of this image.
    """

    patient: str
    subtype: str
    hospital: str
    marker: bool
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """An image and what it shows: arrays (side, side); `grey` uint8, `opacity` and `lung` bool."""

    grey: np.ndarray
    opacity: np.ndarray
    lung: np.ndarray
    photons: float


class PhantomLoader:
    """Gives image number `i` of a part: draws it when it is first asked for, and keeps it while memory lasts.

    Pickling keeps the recipe and leaves the kept images behind, so that it travels quickly to worker processes.

    Args:
        films: the images.
        size: side in pixels.
        difficulty: as in `load_phantom`.
        healthy: leave the opacities out, and all else as it is.
        cache_bytes: how much memory images may take; those beyond are drawn anew each time.
    """

    def __init__(
        self,
        films: Sequence[Film],
        *,
        size: int,
        difficulty: float,
        healthy: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.films = tuple(films)
        self.size = size
        self.difficulty = difficulty
        self.healthy = healthy
        self.cache_bytes = cache_bytes
        self._kept: dict[int, Drawn] = {}

    def __call__(self, index: int) -> Image.Image:
        """Image number `index`, RGB with three equal channels, (size, size)."""
        return Image.fromarray(self.drawn(index).grey).convert("RGB")

    def drawn(self, index: int) -> Drawn:
        """Image number `index` and its masks; not to be written to."""
        kept = self._kept.get(index)
        if kept is None:
            kept = draw_film(self.films[index], self.size, self.difficulty, healthy=self.healthy)
            if (len(self._kept) + 1) * 3 * self.size**2 <= self.cache_bytes:
                self._kept[index] = kept
        return kept

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": {}}


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
    """Drawn chest radiographs: normal, or with the opacities of a pneumonia. They are no medical data.

    A patient has `per_patient` images: the same chest and the same opacities, taken in another pose and with another
    dose. The parts share no patient. Half of the ill patients have dense patches ("bacterial"), half many faint ones
    ("viral"). Images are drawn when they are first read, the same ones for the same arguments. The seed fixes the
    chests: `size`, `prevalence`, `marker` and `difficulty` leave them as they are, and so does a larger number of
    patients.

    `phantom_table` says what is known of each image, `phantom_masks` where the opacities are, and `phantom_healthy`
    shows the same chests without them.

    Args:
        size: side of the square images in pixels, from 48 to 512.
        patients: of the training set.
        val_patients: of the validation set.
        test_patients: of the test set.
        per_patient: images of each patient.
        prevalence: share of patients who are ill, or one for each part, such as {"train": 0.5, "test": 0.1}; the
            number of patients is rounded.
        marker: None for none. A number plants a shortcut: a lead letter in the corner, on every image of one of the
            two hospitals. It is how strongly the letter goes with the class, from -1 to 1: of the ill patients
            (1 + marker) / 2 have it, of the others (1 - marker) / 2. At 0 it says nothing, at 1 everything. A
            mapping, such as {"train": 0.9, "test": 0.0}, gives one to each part, 0 to parts that it does not name.
        difficulty: by which the fluid of opacities is divided, from 0.25 to 10.
        seed: from which everything is drawn; 0 or more.

    Returns:
        The data set. `groups` of each part are the patients.

    Raises:
        DataError: if a number is out of range.
    """
    counts = dict(zip(PARTS, (patients, val_patients, test_patients), strict=True))
    _check(size, counts, per_patient, difficulty, seed)
    shares = _by_part("prevalence", prevalence, 0.0, 1.0, 0.5)
    strengths = None if marker is None else _by_part("marker", marker, -1.0, 1.0, 0.0)
    train, val, test = (
        _make_split(
            _films(part, counts[part], per_patient, shares[part], None if strengths is None else strengths[part], seed),
            part,
            size,
            difficulty,
        )
        for part in PARTS
    )
    return ImageData("phantom", train, val, test, CARD)


def phantom_table(split: ImageSplit) -> pd.DataFrame:
    """What is known of each image of a part, in its order.

    Returns:
        columns key, patient, label (the class's name), subtype ("none", "bacterial", "viral"), hospital ("A", "B"),
        marker (whether the letter shows), photons (the dose: that would reach a pixel without a patient), opacity
        (share of the lungs that opacities cover).

    Raises:
        DataError: if the images are not phantoms.
    """
    load = _loader(split)
    rows = []
    for key, label, row in zip(split.keys, split.labels.tolist(), split.rows, strict=True):
        shot, drawn = load.films[row], load.drawn(row)
        covered = float(drawn.opacity.sum() / drawn.lung.sum())
        rows.append(
            (key, shot.patient, split.classes[label], shot.subtype, shot.hospital, shot.marker, drawn.photons, covered)
        )
    return pd.DataFrame(
        rows, columns=["key", "patient", "label", "subtype", "hospital", "marker", "photons", "opacity"]
    )


def phantom_masks(split: ImageSplit, *, of: str = "opacities") -> np.ndarray:
    """Where the opacities of each image are, or its lungs.

    Args:
        split: a part of the data set `phantom`, or some of its images.
        of: "opacities" or "lungs".

    Returns:
        bool array (images, size, size); of normal images no pixel is in an opacity.

    Raises:
        DataError: if the images are not phantoms, or `of` is neither.
    """
    fields = {"opacities": "opacity", "lungs": "lung"}
    if of not in fields:
        raise DataError(f"there are masks of 'opacities' and of 'lungs', not of {of!r}")
    load = _loader(split)
    return np.stack([getattr(load.drawn(row), fields[of]) for row in split.rows])


def phantom_healthy(split: ImageSplit) -> ImageSplit:
    """The same images without their opacities: the same chests, poses, noise and letters, and the same labels.

    What a network says of both shows what the opacity does to its answer, with all else equal.

    Raises:
        DataError: if the images are not phantoms.
    """
    load = _loader(split)
    view = split.select(range(len(split)))
    view.load = PhantomLoader(load.films, size=load.size, difficulty=load.difficulty, healthy=True)
    return view


def draw_film(shot: Film, size: int, difficulty: float, *, healthy: bool = False) -> Drawn:
    """Draw an image: the chest, its attenuation, the light, the photons, the letter."""
    person, place = np.random.default_rng(shot.seed[:-1]), np.random.default_rng(shot.seed)
    chest = anatomy.draw_chest(person)
    opacities = () if shot.subtype == "none" else draw_opacities(person, chest, shot.subtype, difficulty)
    exposure, grid = _pose(place, size)
    breath = _breathing(chest, place)
    right, left = anatomy.lungs(grid, breath)
    lung_field = np.maximum(right, left)
    lung = lung_field * (1 - anatomy.heart(grid, breath))
    texture = 1 + 0.10 * (smooth_noise(np.random.default_rng(chest.seed + 1), 24, size) - 0.5)
    vessels = np.minimum(anatomy.vessels(grid, breath), 0.6 * lung)
    maps = (
        anatomy.body(grid, breath) + anatomy.folds(place, size),
        lung * texture,
        anatomy.airways(grid, breath),
        anatomy.bones(grid, breath),
    )
    signal = film.signal_of(film.attenuation(*maps, vessels))
    window = film.window_of(signal)
    fluid, mask = fluid_depth(grid, opacities, lung)
    if opacities and not healthy:
        signal = film.signal_of(film.attenuation(*maps, np.minimum(vessels + fluid, 0.97 * lung)))
    x, y = place.uniform(0.13, 0.16), place.uniform(0.12, 0.15)  # inside of what the usual crop leaves
    lead = film.letter(size, x, y) if shot.marker else None
    grey = film.develop(signal, exposure, window, lead=lead)
    return Drawn(grey, np.zeros_like(mask) if healthy else mask, lung_field > 0, exposure.photons)


def _breathing(chest: anatomy.Chest, rng: np.random.Generator) -> anatomy.Chest:
    """The chest at another breath: lungs a little longer or shorter, the heart the other way round."""
    breath = float(rng.normal(0, 0.025))
    return chest._replace(height=chest.height * (1 + breath), heart=chest.heart * (1 - breath))


def _pose(rng: np.random.Generator, size: int) -> tuple[film.Exposure, anatomy.Grid]:
    shift = (float(rng.normal(0, 0.025)), float(rng.normal(0.02, 0.025)))
    grid = anatomy.make_grid(size, shift=shift, turn=float(rng.normal(0, 0.045)), zoom=float(rng.normal(0.97, 0.04)))
    exposure = film.Exposure(
        photons=float(np.exp(rng.uniform(np.log(3000), np.log(25000)))),
        brightness=float(rng.normal(0, 0.035)),
        contrast=float(rng.normal(1, 0.08)),
        seed=int(rng.integers(1 << 31)),
    )
    return exposure, grid


def _films(
    part: str, patients: int, per_patient: int, prevalence: float, strength: float | None, seed: int
) -> list[Film]:
    """The images of a part, patient by patient; who is ill is drawn, how many is not."""
    base = (seed, PARTS.index(part))
    ill = round(prevalence * patients)
    order = np.random.default_rng((*base, 0)).permutation(patients)
    rank = np.empty(patients, dtype=int)
    rank[order] = np.arange(patients)  # the first `ill` in this order are ill, so more prevalence adds to them
    second = _second_hospital(order, ill, 0.0 if strength is None else strength)
    films = []
    for number in range(patients):
        subtype = SUBTYPES[rank[number] % 2] if rank[number] < ill else "none"
        hospital = HOSPITALS[number in second]
        marker = strength is not None and hospital == HOSPITALS[1]
        name = f"{part}-{number:04d}"
        films += [Film(name, subtype, hospital, marker, (*base, 1, number, i)) for i in range(per_patient)]
    return films


def _second_hospital(order: np.ndarray, ill: int, strength: float) -> set[int]:
    """The patients of the second hospital: (1 + strength) / 2 of the ill, (1 - strength) / 2 of the others."""
    chosen: set[int] = set()
    for group, share in ((order[:ill], (1 + strength) / 2), (order[ill:], (1 - strength) / 2)):
        # Shuffled, since neighbours in `order` differ in subtype, and the letter must not go with that.
        shuffled = np.random.default_rng(len(group)).permutation(group)
        chosen.update(int(number) for number in shuffled[: round(share * len(group))])
    return chosen


def _make_split(films: Sequence[Film], part: str, size: int, difficulty: float) -> ImageSplit:
    labels = [int(shot.subtype != "none") for shot in films]
    return ImageSplit(
        PhantomLoader(films, size=size, difficulty=difficulty),
        labels,
        CLASSES,
        keys=[f"{part}/{CLASSES[label]}/{s.patient}-{s.seed[-1]}" for s, label in zip(films, labels, strict=True)],
        name=part,
        groups=[shot.patient for shot in films],
    )


def _loader(split: ImageSplit) -> PhantomLoader:
    if not isinstance(split.load, PhantomLoader):
        raise DataError(f"the images of '{split.name}' are not those of the data set 'phantom', so nothing is known")
    return split.load


def _by_part(
    what: str, given: float | Mapping[str, float], low: float, high: float, missing: float
) -> dict[str, float]:
    values = dict(given) if isinstance(given, Mapping) else dict.fromkeys(PARTS, given)
    for part, value in values.items():
        if part not in PARTS:
            raise DataError(f"{what}: there is no part '{part}'; the parts are {', '.join(PARTS)}")
        if not low <= value <= high:
            raise DataError(f"{what} of '{part}' must be from {low:g} to {high:g}, not {value}")
    return {part: float(values.get(part, missing)) for part in PARTS}


def _check(size: int, counts: Mapping[str, int], per_patient: int, difficulty: float, seed: int) -> None:
    if not SIZES[0] <= size <= SIZES[1]:
        raise DataError(f"size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size}")
    for part, count in counts.items():
        if count < 1:
            raise DataError(f"phantom needs at least 1 patient in '{part}', not {count}")
    if per_patient < 1:
        raise DataError(f"per_patient must be 1 or more, not {per_patient}")
    if not 0.25 <= difficulty <= 10:
        raise DataError(f"difficulty must be from 0.25 to 10, not {difficulty}")
    if seed < 0:
        raise DataError(f"seed must be 0 or more, not {seed}")
