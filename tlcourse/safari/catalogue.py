"""Which OpenMoji drawings show what: the classes of the data set `safari`, read from `drawings.txt`, made by hand.

A group is a species or a make: "dog" holds the dog, its face, the poodle and the guide dog. It lies in one split only.
Most groups of the test set have a relative in training: the leopard the tiger, the goose the swan. The code points are
in OpenMoji 16 and later, those from E000 to E2FF in OpenMoji alone. The scenery shows no member of any class.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tlcourse.drawn_images import SPLITS

CLASSES = ("mammal", "bird", "sea", "bug", "plant", "food", "vehicle", "building")


class Drawing(NamedTuple):
    """One OpenMoji character, the group that it must stay with and its class."""

    character: str
    group: str
    category: str


_TABLES = dict(re.findall(r"^(\w+):\n((?: .+\n)+)", (Path(__file__).parent / "drawings.txt").read_text("utf8"), re.M))


def _parse(category: str, table: str) -> dict[str, tuple[Drawing, ...]]:
    """The drawings of one class, by split."""
    return {
        split: tuple(
            Drawing(chr(int(code, 16)), group, category)
            for group, codes in re.findall(r"([a-z-]+)((?: [0-9A-F]+)+)", groups)
            for code in codes.split()
        )
        for split, groups in zip(SPLITS, table.split("|"), strict=True)
    }


# DRAWINGS["bird"]["test"] are the birds of the test set; SCENERY["test"] is scattered over its backgrounds.
DRAWINGS = {name: _parse(name, _TABLES[name]) for name in CLASSES}
_SCENERY = [chr(int(code, 16)) for code in _TABLES["scenery"].split()]
SCENERY = {split: tuple(_SCENERY[i::3]) for i, split in enumerate(SPLITS)}
