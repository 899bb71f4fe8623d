"""What a data set is here: labelled images in a training, a validation and a test set, and a card."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import Dataset

from tlhelpers.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tlhelpers.data.scan import ScanReport


@dataclass(frozen=True)
class DataCard:
    """Where a data set comes from, under which terms, and what it must not be taken for."""

    name: str
    summary: str
    source: str
    licence: str
    is_not: str

    def __str__(self) -> str:
        rows = (("source", self.source), ("licence", self.licence), ("is not", self.is_not))
        lines = (textwrap.fill(f"  {key:8}{value}", 92, subsequent_indent=10 * " ") for key, value in rows)
        return "\n".join([f"{self.name}: {self.summary}", *lines])


class ImageSplit(Dataset[tuple[Any, int]]):
    """The labelled images of one split of a data set.

    `split[i]` is `(image, label)`: an RGB `PIL.Image.Image`, or what `transform` makes of it, and an int.
    Each split has a transform of its own, so augmentation for training never reaches validation.

    Args:
        load: gives image number `i` as an RGB PIL image. Must be picklable, so that worker processes of a
            `DataLoader` can use it on every operating system: a small class with `__call__`, no lambda.
        labels: class index of each image.
        classes: class names; `classes[label]` is the name of a label.
        keys: a stable name for each image, unique in the data set (a relative path, say).
        name: "train", "val" or "test".
        groups: for each image the group (patient, drawing) that must not be divided, or None.
        transform: called with the PIL image when an image is read; None leaves it as it is.
    """

    def __init__(
        self,
        load: Callable[[int], Image.Image],
        labels: Sequence[int],
        classes: Sequence[str],
        *,
        keys: Sequence[str],
        name: str,
        groups: Sequence[str] | None = None,
        transform: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        counts = {len(labels), len(keys), len(labels if groups is None else groups)}
        if len(counts) != 1:
            raise DataError(f"split '{name}': {len(labels)} labels, {len(keys)} keys and {len(groups or ())} groups")
        self.load = load
        self.labels = torch.as_tensor(np.asarray(labels, dtype=np.int64))
        self.classes = tuple(classes)
        self.keys = tuple(keys)
        self.name = name
        self.groups = None if groups is None else tuple(groups)
        self.transform = transform
        self.rows: tuple[int, ...] = tuple(range(len(self.labels)))  # numbers that `load` understands

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.image(index)
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts().items())
        return f"ImageSplit '{self.name}': {len(self)} images ({counts})"

    def image(self, index: int) -> Image.Image:
        """Image number `index` as an RGB PIL image, whatever the transform."""
        return self.load(self.rows[index])

    def counts(self) -> pd.Series[int]:
        """How many images each class has, as a Series indexed by class name (classes without one count 0)."""
        counts = torch.bincount(self.labels, minlength=len(self.classes))
        return pd.Series(counts.numpy(), index=list(self.classes), name=self.name)

    def with_transform(self, transform: Callable[[Image.Image], Any] | None) -> ImageSplit:
        """The same images seen through another transform; `self` is left as it is."""
        return self._view(range(len(self)), transform)

    def select(self, indices: Sequence[int]) -> ImageSplit:
        """The images at `indices`, in that order, with the same transform."""
        return self._view(indices, self.transform)

    def per_class(self, count: int, *, seed: int = 0) -> ImageSplit:
        """At most `count` images of each class, drawn with `seed`; a smaller count is a subset of a larger.

        Raises:
            DataError: if `count` is less than 1.
        """
        if count < 1:
            raise DataError(f"per_class needs a count of at least 1, not {count}")
        order = np.random.default_rng(seed).permutation(len(self))
        chosen = [i for c in range(len(self.classes)) for i in order[self.labels.numpy()[order] == c][:count]]
        return self.select(sorted(int(i) for i in chosen))

    def show(self, count: int = 16, *, seed: int = 0) -> Figure:
        """A figure of `count` images drawn with `seed`, each under its class name."""
        from tlhelpers import plots

        indices = np.random.default_rng(seed).permutation(len(self))[:count]
        titles = [self.classes[int(self.labels[i])] for i in indices]
        return plots.image_grid([self.image(int(i)) for i in indices], titles, title=f"{self.name}: a sample")

    def _view(self, indices: Sequence[int], transform: Callable[[Image.Image], Any] | None) -> ImageSplit:
        view = ImageSplit(
            self.load,
            [int(self.labels[i]) for i in indices],
            self.classes,
            keys=[self.keys[i] for i in indices],
            name=self.name,
            groups=None if self.groups is None else [self.groups[i] for i in indices],
            transform=transform,
        )
        view.rows = tuple(self.rows[i] for i in indices)
        return view


@dataclass
class ImageData:
    """A data set: three splits over the same classes, and a card.

    Attributes:
        name: the name or folder it was loaded by.
        train, val: what a network learns from, and what choices (epoch, learning rate) are made on.
        test: what the final number is measured on; None where a folder has no such split.
        card: source, licence, what the data is not.
        report: what the scan of a folder found, bad files included; None for data that is not a folder.
    """

    name: str
    train: ImageSplit
    val: ImageSplit
    test: ImageSplit | None
    card: DataCard
    report: ScanReport | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for split in self.splits():
            if split.classes != self.train.classes:
                raise DataError(
                    f"{self.name}: split '{split.name}' has the classes {list(split.classes)}, "
                    f"but 'train' has {list(self.train.classes)}"
                )
            if len(split) == 0:
                raise DataError(f"{self.name}: split '{split.name}' has no images")

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; their positions are the labels."""
        return self.train.classes

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def splits(self) -> list[ImageSplit]:
        """The splits that exist, in the order train, val, test."""
        return [split for split in (self.train, self.val, self.test) if split is not None]

    def sizes(self) -> pd.DataFrame:
        """Images by class (rows) and split (columns), with sums in a last row `total`."""
        table = pd.concat([split.counts() for split in self.splits()], axis=1)
        table.loc["total"] = table.sum()
        return table

    def show(self, count: int = 16, *, seed: int = 0) -> Figure:
        """A figure of `count` training images drawn with `seed`."""
        return self.train.show(count, seed=seed)

    def __repr__(self) -> str:
        splits = ", ".join(f"{split.name} {len(split)}" for split in self.splits())
        return f"ImageData '{self.name}': {self.num_classes} classes, {splits}"
