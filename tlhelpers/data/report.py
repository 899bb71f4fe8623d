"""What the scan of an image folder found, as data and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import pandas as pd

from tlhelpers.data.images import printable

_SHOWN = 5  # names of one sort that a printed report lists
_BAD_SHOWN = 50  # bad files that it lists: each is somebody's work to mend, so seldom fewer than all


@dataclass(frozen=True)
class ScannedImage:
    """A good image of a folder.

    Attributes:
        split: "train", "val" or "test"; None where the folder is not divided.
        class_name: the name of its class folder.
        path: relative to the scanned folder.
        size: upright (width, height) in px.
        num_bytes: size of the file.
        sha256: of the file's bytes.
    """

    split: str | None
    class_name: str
    path: Path
    size: tuple[int, int]
    num_bytes: int
    sha256: str

    @property
    def key(self) -> str:
        """The relative path with forward slashes: the image's name on every operating system."""
        return printable(self.path)


@dataclass(frozen=True)
class BadFile:
    """A file in a class folder that is no usable image, and the reason in a phrase."""

    split: str | None
    class_name: str
    path: Path
    reason: str


@dataclass(frozen=True)
class ScanReport:
    """What an image folder holds. `print(report)` summarises it.

    Attributes:
        root: the folder, absolute; all other paths are relative to it.
        layout: "splits" for root/train/cats/..., "classes" for root/cats/...
        classes: the classes that have at least one good image, sorted.
        images: the good images, sorted by split (train, val, test), class and path.
        bad: the files that were left out.
        empty_folders: class folders in which no good image is left.
        duplicates: groups of images whose files are the same byte for byte.
        ignored: how many hidden files, thumbnails and the like were passed over.
        strays: files outside the class folders, and folders beside the splits; they are not used.
        notes: sentences about what a reader should know before training.
    """

    root: Path
    layout: Literal["classes", "splits"]
    classes: tuple[str, ...]
    images: tuple[ScannedImage, ...]
    bad: tuple[BadFile, ...] = ()
    empty_folders: tuple[Path, ...] = ()
    duplicates: tuple[tuple[ScannedImage, ...], ...] = ()
    ignored: int = 0
    strays: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str | None, ...]:
        """The splits that have images, in the order train, val, test; (None,) where the folder is not divided."""
        return tuple(dict.fromkeys(image.split for image in self.images))

    @property
    def noteworthy(self) -> bool:
        """Whether an image or class was left out, or `notes` says anything."""
        return bool(self.bad or self.empty_folders or self.notes)

    def table(self) -> pd.DataFrame:
        """The bad files, one a row, with the columns split, class, file and reason."""
        rows = [(bad.split or "", printable(bad.class_name), printable(bad.path), bad.reason) for bad in self.bad]
        return pd.DataFrame(rows, columns=["split", "class", "file", "reason"], dtype=object)

    def counts(self) -> pd.DataFrame:
        """Good images by class (rows) and split (columns; one column "all" where the folder is not divided)."""
        count = Counter((image.class_name, image.split) for image in self.images)
        rows = [[count[name, split] for split in self.splits] for name in self.classes]
        return pd.DataFrame(rows, index=list(self.classes), columns=[split or "all" for split in self.splits])

    def __str__(self) -> str:
        splits = [f"{split} {count}" for split, count in self.counts().sum().items() if split != "all"]
        lines = [
            f"{printable(self.root)}: {plural(len(self.images), 'image')} in {len(self.classes)} classes"
            + (f" ({', '.join(splits)})" if splits else "")
        ]
        if self.bad:
            lines.append(f"  left out: {plural(len(self.bad), 'bad file')}")
            lines += listed_bad(self.bad, _BAD_SHOWN, rest="in the report's .table()")
        if self.empty_folders:
            lines.append(f"  no class, for want of good images: {some(self.empty_folders)}")
        if self.ignored:
            lines.append(f"  ignored: {self.ignored} hidden or system files and folders")
        if self.strays:
            lines.append(f"  not used, in no class folder: {some(self.strays)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def plural(count: int, noun: str) -> str:
    """`count` with its noun: "1 image", "2,000 images"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def some(names: Iterable[str | Path]) -> str:
    """The first few names, and how many more there are."""
    shown = [printable(name) for name in names]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else "")


def listed_bad(bad: Sequence[BadFile], limit: int, *, rest: str = "") -> list[str]:
    """A line for each of the first `limit` bad files, and one that counts the rest and says where they are."""
    lines = [f"    {printable(file.path)}: {file.reason}" for file in islice(bad, limit)]
    if len(bad) > limit:
        lines.append(f"    and {len(bad) - limit:,} more" + (f", {rest}" if rest else ""))
    return lines
