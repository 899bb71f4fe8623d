"""The data sets that the course adds to `tl.load_data`, what each is and must not be taken for; a choice of classes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tlcourse.drawn_images import SPLITS
from tlhelpers.data.catalogue import DataSetEntry
from tlhelpers.data.dataset import DataCard, ImageData
from tlhelpers.errors import DataError, closest

_HERE = Path(__file__).parent
_CARDS = json.loads((_HERE / "cards.json").read_text("utf8"))
DATA_SETS = tuple(DataSetEntry(**entry) for entry in json.loads((_HERE / "data_sets.json").read_text("utf8")))


def card_of(name: str, *, drawn: str = "") -> DataCard:
    """The card of a data set, from `cards.json`; all that are made of emoji share one, which says what is `drawn`."""
    texts = _CARDS["emoji" if drawn else name]
    return DataCard(name, **{part: text.replace("DRAWN", drawn) for part, text in texts.items()})


def select_classes(data: ImageData, names: Sequence[str]) -> ImageData:
    """The images of some classes, whose labels are their positions in `names`; a DataError if a name is not known."""
    if unknown := sorted(set(names) - set(data.classes)):
        raise DataError(f"'{unknown[0]}' is no class of {data.name}. {closest(unknown[0], data.classes)}")
    chosen: dict[str, Any] = {}
    for name, split in zip(SPLITS, data.splits(), strict=False):
        view = split.select([i for i, label in enumerate(split.labels) if split.classes[label] in names])
        view.labels = torch.tensor([names.index(split.classes[label]) for label in view.labels])
        view.classes, chosen[name] = tuple(names), view
    return replace(data, **chosen)
