"""Which drawings show what, from `drawings.txt`, made by hand: four artists' sets, one of them in two variants."""

import re
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlcourse.drawn_images import SPLITS

CLASSES = ("mammal", "bird", "sea", "bug", "plant", "food", "vehicle", "building")
STYLES = ("openmoji", "noto", "twemoji", "fluent-flat", "fluent")
# The two variants of Fluent share their outlines, so a network that is tested on one has met neither in training.
STYLES_OF = {"train": STYLES[:3], "val": STYLES[3:4], "test": STYLES[4:]}


class Drawing(NamedTuple):
    """An emoji as one set draws it."""

    style: str
    code: str  # the Unicode code point, in hexadecimal digits
    species: str

    @property
    def name(self) -> str:
        """What `drawing.stamp` takes: "noto/1F405"."""
        return f"{self.style}/{self.code}"


TABLES = dict(re.findall(r"^(\w+):\n((?: .+\n)+)", (Path(__file__).parent / "drawings.txt").read_text("utf8"), re.M))
# For each class its species, and for each species its code points.
SPECIES: dict[str, dict[str, list[str]]] = {
    name: {species: codes.split() for species, codes in re.findall(r"([a-z-]+)((?: [0-9A-F]+)+)", TABLES[name])}
    for name in CLASSES
}
CODES = [code for species in SPECIES.values() for codes in species.values() for code in codes]
SCENERY_CODES = TABLES["scenery"].split()
SCENERY = {split: [f"scenery/{code}" for code in SCENERY_CODES[i::3]] for i, split in enumerate(SPLITS)}


def species_of(category: str, split: str) -> list[str]:
    """The species of a class that a division by species puts into a split: drawn once, 60, 15 and 25 in a hundred."""
    names = list(SPECIES[category])
    order = np.random.default_rng(0).permutation(len(names))
    first, second = round(0.6 * len(names)), round(0.75 * len(names))
    return [names[i] for i in dict(zip(SPLITS, np.split(order, [first, second]), strict=True))[split]]


def drawings(category: str, species: list[str], styles: tuple[str, ...]) -> list[Drawing]:
    """All drawings of these species in these styles: the species in turn, each time in the next style."""
    columns = []
    for i, name in enumerate(species):
        own = [Drawing(style, code, name) for code in SPECIES[category][name] for style in styles]
        columns.append(own[i % len(own) :] + own[: i % len(own)])  # each begins with the next style
    return [drawing for row in zip_longest(*columns) for drawing in row if drawing]
