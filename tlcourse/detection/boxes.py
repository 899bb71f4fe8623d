"""Images with boxes: what a detector learns from."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from tlhelpers.data.dataset import DataCard
from tlhelpers.errors import DataError

BACKGROUND = "background"
ROUNDING = 1e-3  # pixels by which an edge may leave the image
Load = Callable[[int], tuple[Image.Image, np.ndarray]]
Target = dict[str, Any]
Transform = Callable[[Any, Target], tuple[Any, Target]]


class BoxedSplit(Dataset[tuple[Any, Target]]):
    """One split of a detection data set.

    `split[i]` is `(image, target)`: a `tv_tensors.Image`, uint8 (3, height, width), and a dictionary with `boxes`,
    `tv_tensors.BoundingBoxes`, float32 (objects, 4): left, top, right, bottom in pixels, right and bottom exclusive;
    and `labels`, int64 (objects). Transforms v2 move boxes and image together.

    `load`, which must be picklable, returns image number `i` as RGB and its boxes; `labels` are those of each image's
    objects, positions in `classes`, the first of which is the background, or a DataError is raised.
    """

    def __init__(self, load: Load, labels: Sequence[Sequence[int]], classes: Sequence[str], *, name: str) -> None:
        if not classes or classes[0] != BACKGROUND:
            raise DataError(f"class 0 of a detector is '{BACKGROUND}', so the classes begin with it; got {classes}")
        self.load, self.labels, self.classes, self.name = load, labels, tuple(classes), name
        self.transform: Transform | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Target]:
        if not 0 <= index < len(self):  # this also ends a `for` loop over the split
            raise IndexError(f"split '{self.name}' has {len(self)} images, and no number {index}")
        (loaded, boxes), labels = self.load(index), self.labels[index]
        boxes = check_boxes(boxes, labels, loaded.size, len(self.classes), f"image {index} of '{self.name}'")
        image, size = functional.to_image(loaded), (loaded.height, loaded.width)
        xyxy = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        boxed = tv_tensors.BoundingBoxes(xyxy, format="XYXY", canvas_size=size)
        target = {"boxes": boxed, "labels": torch.tensor(labels, dtype=torch.int64)}
        return (image, target) if self.transform is None else self.transform(image, target)

    def with_transform(self, transform: Transform | None) -> "BoxedSplit":
        """The same images with a transform of `(image, target)`; `self` does not change."""
        view = copy.copy(self)
        view.transform = transform
        return view


class BoxedData(NamedTuple):
    """A detection data set."""

    train: BoxedSplit
    test: BoxedSplit
    classes: tuple[str, ...]  # names by label; number 0 is the background
    card: DataCard


def check_boxes(boxes: Any, labels: Sequence[int], size: tuple[int, int], classes: int, where: str) -> np.ndarray:
    """The boxes (left, top, right, bottom in pixels) of an image, checked, float64 (objects, 4).

    `size` is width and height in pixels; `classes` include the background. An edge a thousandth of a pixel outside is
    moved to the image's. Raises DataError, which says `where`, if a box is empty or outside, or a label is no object's.
    """
    if np.size(boxes) % 4:
        raise DataError(f"{where}: the boxes have the shape {np.shape(boxes)}; expected four numbers for each object")
    rows = np.asarray(boxes, dtype=float).reshape(-1, 4)
    if len(rows) != len(labels):
        raise DataError(f"{where} has {len(rows)} boxes and {len(labels)} labels; each box needs one label")
    width, height = size
    if rows.size and rows.max() <= 1 < min(size):
        raise DataError(f"{where}: no box is larger than a pixel; expected pixels, not fractions of the image's sides")
    for (left, top, right, bottom), label in zip(rows.tolist(), labels, strict=True):
        box = f"[{left:g}, {top:g}, {right:g}, {bottom:g}]"
        if not (left < right and top < bottom):
            wanted = "expected left, top, right, bottom with left < right and top < bottom"
            advice = "Is it x, y, width, height instead? torchvision.ops.box_convert translates"
            raise DataError(f"{where}: the box {box} is empty; {wanted}. {advice}")
        if min(left, top) < -ROUNDING or right > width + ROUNDING or bottom > height + ROUNDING:
            raise DataError(f"{where}: the box {box} leaves the image of {width} x {height} pixels")
        if not 1 <= label < classes:
            raise DataError(f"{where}: label {label}; objects have labels from 1 to {classes - 1}, 0 is the background")
    return rows.clip(0, [width, height, width, height])


def collate_boxes(pairs: Sequence[tuple[Any, Target]]) -> tuple[list[Any], list[Target]]:
    """Batch for torchvision's detectors: two lists, since images differ in size and in number of boxes."""
    images, targets = zip(*pairs, strict=True)
    return list(images), list(targets)
