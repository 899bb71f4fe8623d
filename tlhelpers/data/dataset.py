"""A data set: labelled images in a training, a validation and a test set, and a card that describes them."""

from __future__ import annotations

import copy
import hashlib
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import Dataset

import tlhelpers
from tlhelpers.data.images import AnyImage, open_image
from tlhelpers.data.scan import ScanReport
from tlhelpers.errors import DataError, at_least, quoted


@dataclass(frozen=True)
class DataCard:
    """Source and licence of a data set, and what it must not be taken for."""

    name: str
    summary: str  # what it shows, and how much
    source: str  # address or citation
    licence: str
    is_not: str  # completes "this data set is not ..."

    def __str__(self) -> str:
        rows = (("source", self.source), ("licence", self.licence), ("is not", self.is_not))
        lines = (textwrap.fill(f"  {key:8}{value}", 92, subsequent_indent=10 * " ") for key, value in rows)
        return "\n".join([f"{self.name}: {self.summary}", *lines])


class ImageSplit(Dataset[tuple[Any, int]]):
    """The labelled images of one split of a data set; each split has a transform of its own.

    `split[i]` is `(image, label)`: an RGB `PIL.Image.Image`, or what `transform` makes of it, and an int. `load(i)`
    returns image number `i`, in any form that `open_image` takes; it must be picklable for the worker processes of a
    `DataLoader`: a small class with `__call__`, no lambda.
    """

    def __init__(
        self,
        load: Callable[[int], AnyImage],
        labels: Sequence[int],  # class index of each image, shape (n,)
        classes: Sequence[str],  # class names; `classes[label]` is the name of a label
        *,
        keys: Sequence[str],  # a stable name for each image, unique in the data set, such as a relative path
        name: str,  # "train", "val" or "test"
        groups: Sequence[str] | None = None,  # for each image the group (patient, drawing) that must stay in one split
        transform: Callable[[Image.Image], Any] | None = None,  # called with each PIL image; None: the image itself
        workers: int | None = None,  # processes that read its images where they are not kept in memory; None chooses
    ) -> None:
        if len({len(labels), len(keys), len(labels if groups is None else groups)}) != 1:
            raise DataError(f"split '{name}': {len(labels)} labels, {len(keys)} keys and {len(groups or ())} groups")
        self.load, self.name, self.transform, self.workers = load, name, transform, workers
        self.labels = torch.as_tensor(np.asarray(labels, dtype=np.int64))
        self.classes, self.keys = tuple(classes), tuple(keys)
        self.groups = None if groups is None else tuple(groups)
        self.rows: tuple[int, ...] = tuple(range(len(self.labels)))  # the numbers that `load` takes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.image(index)
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts().items())
        return f"ImageSplit '{self.name}': {len(self)} images ({counts})"

    def image(self, index: int) -> Image.Image:
        """Image number `index` as an RGB PIL image, without the transform."""
        return open_image(self.load(self.rows[index]))

    def counts(self) -> pd.Series[int]:
        """Number of images of each class, indexed by class name; 0 for a class without images."""
        counts = torch.bincount(self.labels, minlength=len(self.classes))
        return pd.Series(counts.numpy(), index=list(self.classes), name=self.name)

    def with_transform(self, transform: Callable[[Image.Image], Any] | None) -> ImageSplit:
        """The same images with another transform; `self` does not change."""
        view = copy.copy(self)
        view.transform = transform
        return view

    def select(self, indices: Sequence[int]) -> ImageSplit:
        """The images at `indices`, in that order, with the same transform."""
        view, indices = copy.copy(self), [int(i) for i in indices]
        view.labels = self.labels[indices]
        view.keys, view.rows = tuple(self.keys[i] for i in indices), tuple(self.rows[i] for i in indices)
        view.groups = None if self.groups is None else tuple(self.groups[i] for i in indices)
        return view

    def per_class(self, count: int, *, seed: int = 0) -> ImageSplit:
        """At most `count` (1 or more) images of each class, drawn with `seed`; a smaller count gives a subset."""
        at_least(1, count=count)
        order = np.random.default_rng(seed).permutation(len(self))
        labels = self.labels.numpy()[order]
        return self.select(sorted(i for c in range(len(self.classes)) for i in order[labels == c][:count]))

    def show(self, count: int = 16, *, seed: int = 0) -> tlhelpers.plots.Chart:
        """A figure of `count` images drawn with `seed`, each with its class name."""
        at_least(1, count=count)
        indices = np.random.default_rng(seed).permutation(len(self))[:count].tolist()
        titles = [self.classes[int(self.labels[i])] for i in indices]
        return tlhelpers.plots.image_grid([self.image(i) for i in indices], titles, title=f"{self.name}: a sample")


@dataclass
class ImageData:
    """A data set: two or three splits over the same classes, and a card."""

    name: str  # the name or folder it was loaded by
    train: ImageSplit
    val: ImageSplit  # on which epoch and learning rate are chosen
    test: ImageSplit | None  # None if there is no test set
    card: DataCard
    report: ScanReport | None = field(default=None, repr=False)  # of the scan of a folder, bad files included

    def __post_init__(self) -> None:
        for split in self.splits():
            if split.classes != self.classes:
                own, trained = quoted(split.classes, self.classes), quoted(self.classes, split.classes)
                raise DataError(f"{self.name}: split '{split.name}' has the classes {own}, but 'train' has {trained}")
            if len(split) == 0:
                raise DataError(f"{self.name}: split '{split.name}' has no images")

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; their positions are the labels."""
        return self.train.classes

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def fingerprint(self) -> str:
        """A digest that tells which image is in which split."""
        keys = repr([(split.name, split.keys) for split in self.splits()])
        return hashlib.sha256(keys.encode("utf8", "replace")).hexdigest()

    def splits(self) -> list[ImageSplit]:
        """The splits that exist, in the order train, val, test."""
        return [split for split in (self.train, self.val, self.test) if split is not None]

    def sizes(self) -> pd.DataFrame:
        """Number of images by class (rows) and split (columns), with sums in a last row `total`."""
        table = pd.concat([split.counts() for split in self.splits()], axis=1)
        total = table.sum().to_frame("total").T.rename_axis(table.index.name)
        return pd.concat([table, total])  # and not table.loc["total"], which may be a class

    def show(self, count: int = 16, *, seed: int = 0) -> tlhelpers.plots.Chart:
        """A figure of `count` training images drawn with `seed`."""
        return self.train.show(count, seed=seed)

    def __repr__(self) -> str:
        splits = ", ".join(f"{split.name} {len(split)}" for split in self.splits())
        return f"ImageData '{self.name}': {self.num_classes} classes, {splits}"
