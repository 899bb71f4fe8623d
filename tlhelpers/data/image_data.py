"""What a data set is here: labelled pictures in a training, a validation and a test part, and a card."""

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
    """The labelled pictures of one part of a data set.

    `split[i]` is `(picture, label)`: an RGB `PIL.Image.Image`, or what `transform` makes of it, and an int.
    Each part has a transform of its own, so augmentation for training never reaches validation.

    Args:
        load: gives picture number `i` as an RGB PIL image. Must be picklable, so that worker processes of a
            `DataLoader` can use it on every operating system: a small class with `__call__`, no lambda.
        labels: class index of each picture.
        classes: class names; `classes[label]` is the name of a label.
        keys: a stable name for each picture, unique in the data set (a relative path, say).
        name: "train", "val" or "test".
        groups: for each picture the group (patient, drawing) that must not be divided, or None.
        transform: called with the PIL image when a picture is read; None leaves it as it is.
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
            raise DataError(f"part '{name}': {len(labels)} labels, {len(keys)} keys and {len(groups or ())} groups")
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
        picture = self.picture(index)
        return (picture if self.transform is None else self.transform(picture)), int(self.labels[index])

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts().items())
        return f"ImageSplit '{self.name}': {len(self)} pictures ({counts})"

    def picture(self, index: int) -> Image.Image:
        """Picture number `index` as an RGB PIL image, whatever the transform."""
        return self.load(self.rows[index])

    def counts(self) -> pd.Series[int]:
        """How many pictures each class has, as a Series indexed by class name (classes without one count 0)."""
        counts = torch.bincount(self.labels, minlength=len(self.classes))
        return pd.Series(counts.numpy(), index=list(self.classes), name=self.name)

    def with_transform(self, transform: Callable[[Image.Image], Any] | None) -> ImageSplit:
        """The same pictures seen through another transform; `self` is left as it is."""
        return self._view(range(len(self)), transform)

    def select(self, indices: Sequence[int]) -> ImageSplit:
        """The pictures at `indices`, in that order, with the same transform."""
        return self._view(indices, self.transform)

    def per_class(self, count: int, *, seed: int = 0) -> ImageSplit:
        """At most `count` pictures of each class, drawn with `seed`; a smaller count is a subset of a larger.

        Raises:
            DataError: if `count` is less than 1.
        """
        if count < 1:
            raise DataError(f"per_class needs a count of at least 1, not {count}")
        order = np.random.default_rng(seed).permutation(len(self))
        chosen = [i for c in range(len(self.classes)) for i in order[self.labels.numpy()[order] == c][:count]]
        return self.select(sorted(int(i) for i in chosen))

    def show(self, count: int = 16, *, seed: int = 0) -> Figure:
        """A figure of `count` pictures drawn with `seed`, each under its class name."""
        from tlhelpers import plots

        indices = np.random.default_rng(seed).permutation(len(self))[:count]
        titles = [self.classes[int(self.labels[i])] for i in indices]
        return plots.pictures([self.picture(int(i)) for i in indices], titles, title=f"{self.name}: a sample")

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
    """A data set: three parts over the same classes, and a card.

    Attributes:
        name: the name or folder it was loaded by.
        train, val: what a network learns from, and what choices (epoch, learning rate) are made on.
        test: what the final number is measured on; None where a folder has no such part.
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
        for part in self.parts():
            if part.classes != self.train.classes:
                raise DataError(
                    f"{self.name}: part '{part.name}' has the classes {list(part.classes)}, "
                    f"but 'train' has {list(self.train.classes)}"
                )
            if len(part) == 0:
                raise DataError(f"{self.name}: part '{part.name}' has no pictures")

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; their positions are the labels."""
        return self.train.classes

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def parts(self) -> list[ImageSplit]:
        """The parts that exist, in the order train, val, test."""
        return [part for part in (self.train, self.val, self.test) if part is not None]

    def sizes(self) -> pd.DataFrame:
        """Pictures by class (rows) and part (columns), with sums in a last row `total`."""
        table = pd.concat([part.counts() for part in self.parts()], axis=1)
        table.loc["total"] = table.sum()
        return table

    def show(self, count: int = 16, *, seed: int = 0) -> Figure:
        """A figure of `count` training pictures drawn with `seed`."""
        return self.train.show(count, seed=seed)

    def __repr__(self) -> str:
        parts = ", ".join(f"{part.name} {len(part)}" for part in self.parts())
        return f"ImageData '{self.name}': {self.num_classes} classes, {parts}"
