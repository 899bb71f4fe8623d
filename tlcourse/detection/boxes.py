"""Images with boxes: what a detector learns from. Each image comes with a target that moves with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from tlhelpers.data.dataset import DataCard
from tlhelpers.errors import DataError

BACKGROUND = "background"
Target = dict[str, Any]
Load = Callable[[int], tuple[Image.Image, np.ndarray, Sequence[int]]]


class BoxedSplit(Dataset[tuple[Any, Target]]):
    """One part of a detection data set.

    `split[i]` is `(image, target)`: a `tv_tensors.Image`, uint8 (3, height, width), and a dictionary with
    `boxes`, `tv_tensors.BoundingBoxes`, float32 (objects, 4): left, top, right, bottom in pixels, right and bottom
    exclusive; and `labels`, int64 (objects): 1 or more, since 0 is the background. Transforms v2 know both types,
    and so move boxes and image together.

    Args:
        load: gives image number `i` as RGB, its boxes (objects, 4) and its labels; must be picklable.
        count: how many images there are.
        classes: names by label, `classes[0]` being "background".
        name: "train", "val" or "test".
        transform: called with `(image, target)` when an image is read; None leaves both as they are.

    Raises:
        DataError: if the first class is not the background; on reading, if a box is empty or leaves its image, or
            a label is none of the objects'.
    """

    def __init__(
        self,
        load: Load,
        count: int,
        classes: Sequence[str],
        *,
        name: str,
        transform: Callable[[Any, Target], tuple[Any, Target]] | None = None,
    ) -> None:
        if not classes or classes[0] != BACKGROUND:
            raise DataError(f"class 0 of a detector is '{BACKGROUND}', so the classes begin with it; got {classes}")
        self.load = load
        self.count = count
        self.classes = tuple(classes)
        self.name = name
        self.transform = transform

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, Target]:
        if not 0 <= index < self.count:  # also what ends a `for` loop over the part
            raise IndexError(f"part '{self.name}' has {self.count} images, and no number {index}")
        loaded, boxes, labels = self.load(index)
        check_boxes(boxes, labels, loaded.size, len(self.classes), f"image {index} of '{self.name}'")
        from torchvision import tv_tensors
        from torchvision.transforms.v2 import functional

        image = functional.to_image(loaded)
        inside: Any = functional.get_size(image)
        target = {
            "boxes": tv_tensors.BoundingBoxes(
                torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                format=tv_tensors.BoundingBoxFormat.XYXY,
                canvas_size=tuple(inside),
            ),
            "labels": torch.as_tensor(np.asarray(labels, dtype=np.int64)),
        }
        return (image, target) if self.transform is None else self.transform(image, target)

    def with_transform(self, transform: Callable[[Any, Target], tuple[Any, Target]] | None) -> BoxedSplit:
        """The same images seen through another transform; `self` is left as it is."""
        return BoxedSplit(self.load, self.count, self.classes, name=self.name, transform=transform)

    def counts(self) -> dict[str, int]:
        """How many objects of each class there are; reads every image."""
        labels = torch.cat([torch.as_tensor(np.asarray(self.load(i)[2], dtype=np.int64)) for i in range(self.count)])
        found = torch.bincount(labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes[1:], found[1:], strict=True))


@dataclass(frozen=True)
class BoxedData:
    """A data set with boxes: its parts, the names of its classes (the background first) and its card."""

    name: str
    train: BoxedSplit
    test: BoxedSplit
    card: DataCard

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label; number 0 is the background."""
        return self.train.classes


def check_boxes(boxes: Any, labels: Sequence[int], size: tuple[int, int], classes: int, where: str) -> None:
    """Refuse boxes that are no boxes, and labels that are none.

    Args:
        boxes: (objects, 4), left, top, right, bottom in pixels.
        labels: one for each box.
        size: width and height of the image in pixels.
        classes: how many classes there are, the background included.
        where: named in the error.

    Raises:
        DataError: naming the first box or label that is wrong, and what may be the reason.
    """
    rows = np.asarray(boxes, dtype=float).reshape(-1, 4)
    if len(rows) != len(labels):
        raise DataError(f"{where} has {len(rows)} boxes and {len(labels)} labels; each box needs one label")
    width, height = size
    for (left, top, right, bottom), label in zip(rows.tolist(), labels, strict=True):
        box = f"[{left:g}, {top:g}, {right:g}, {bottom:g}]"
        if not (left < right and top < bottom):
            raise DataError(
                f"{where}: the box {box} is empty; expected left, top, right, bottom with left < right and "
                "top < bottom. Is it x, y, width, height instead? torchvision.ops.box_convert translates"
            )
        if left < 0 or top < 0 or right > width or bottom > height:
            raise DataError(f"{where}: the box {box} leaves the image of {width} x {height} pixels")
        if not 1 <= label < classes:
            raise DataError(f"{where}: label {label}; objects have labels from 1 to {classes - 1}, 0 is the background")


def collate_boxes(pairs: Sequence[tuple[Any, Target]]) -> tuple[list[Any], list[Target]]:
    """A batch for torchvision's detectors: two lists, since images differ in size and in how many boxes they have."""
    images, targets = zip(*pairs, strict=True)
    return list(images), list(targets)
