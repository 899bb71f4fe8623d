"""The data sets that the course adds to `tl.load_data`, as pyproject.toml announces; and a choice of their classes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from tlcourse.drawn_images import SPLITS
from tlhelpers.data.catalogue import DataSetEntry
from tlhelpers.data.dataset import ImageData
from tlhelpers.errors import DataError, closest

NAMED = "tlcourse.named"
DRAWN = "drawings of eight kinds of things on made-up backgrounds, also at other sizes"
DRAWN_XRAYS = "drawn chest radiographs, normal or with opacities whose place is known; no medical data"
FULL_XRAYS = "chest radiographs of children in full size, divided by patient; root= names your copy"
ANTS = "photographs of ants and bees, few; no test set"
RETINA = "photographs of the retina, graded 0 to 4; 28 to 224 px"
SMALL_XRAYS = "children's chest radiographs, normal or ill; 28 to 224 px"

DATA_SETS = (
    DataSetEntry("safari", DRAWN, "nothing", "CC BY-SA 4.0", "tlcourse.safari.dataset", "quick, full"),
    DataSetEntry("phantom", DRAWN_XRAYS, "nothing", "MIT", "tlcourse.phantom.dataset", "quick, full"),
    DataSetEntry("chest_xray", FULL_XRAYS, "1,200 MB, by hand", "CC BY 4.0", "tlcourse.medical.chest_xray"),
    DataSetEntry("hymenoptera", ANTS, "47 MB", "none given; research", NAMED),
    DataSetEntry("flowers102", "photographs of 102 kinds of flowers", "345 MB", "none given; research", NAMED),
    DataSetEntry("oxford_pets", "photographs of 37 breeds of cats and dogs", "811 MB", "CC BY-SA 4.0", NAMED),
    DataSetEntry("pneumonia_mnist", SMALL_XRAYS, "300 MB", "CC BY 4.0", NAMED),
    DataSetEntry("retina_mnist", RETINA, "240 MB", "CC BY 4.0", NAMED),
)


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
