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
    """A good picture of a folder.

    Attributes:
        part: "train", "val" or "test"; None where the folder is not divided.
        class_name: the name of its class folder.
        path: relative to the scanned folder.
        size: upright (width, height) in px.
        num_bytes: size of the file.
        sha256: of the file's bytes.
    """

    part: str | None
    class_name: str
    path: Path
    size: tuple[int, int]
    num_bytes: int
    sha256: str

    @property
    def key(self) -> str:
        """The relative path with forward slashes: the picture's name on every operating system."""
        return printable(self.path)


@dataclass(frozen=True)
class BadFile:
    """A file in a class folder that is no usable picture, and the reason in a phrase."""

    part: str | None
    class_name: str
    path: Path
    reason: str


@dataclass(frozen=True)
class ScanReport:
    """What an image folder holds. `print(report)` summarises it.

    Attributes:
        root: the folder, absolute; all other paths are relative to it.
        layout: "parts" for root/train/cats/..., "classes" for root/cats/...
        classes: the classes that have at least one good picture, sorted.
        images: the good pictures, sorted by part (train, val, test), class and path.
        bad: the files that were left out.
        empty_folders: class folders in which no good picture is left.
        duplicates: groups of pictures whose files are the same byte for byte.
        ignored: how many hidden files, thumbnails and the like were passed over.
        strays: files outside the class folders, and folders beside the parts; they are not used.
        notes: sentences about what a reader should know before training.
    """

    root: Path
    layout: Literal["classes", "parts"]
    classes: tuple[str, ...]
    images: tuple[ScannedImage, ...]
    bad: tuple[BadFile, ...] = ()
    empty_folders: tuple[Path, ...] = ()
    duplicates: tuple[tuple[ScannedImage, ...], ...] = ()
    ignored: int = 0
    strays: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str | None, ...]:
        """The parts that have pictures, in the order train, val, test; (None,) where the folder is not divided."""
        return tuple(dict.fromkeys(image.part for image in self.images))

    @property
    def noteworthy(self) -> bool:
        """Whether a picture or class was left out, or `notes` says anything."""
        return bool(self.bad or self.empty_folders or self.notes)

    def table(self) -> pd.DataFrame:
        """The bad files, one a row, with the columns part, class, file and reason."""
        rows = [(bad.part or "", printable(bad.class_name), printable(bad.path), bad.reason) for bad in self.bad]
        return pd.DataFrame(rows, columns=["part", "class", "file", "reason"], dtype=object)

    def counts(self) -> pd.DataFrame:
        """Good pictures by class (rows) and part (columns; one column "all" where the folder is not divided)."""
        count = Counter((image.class_name, image.part) for image in self.images)
        rows = [[count[name, part] for part in self.parts] for name in self.classes]
        return pd.DataFrame(rows, index=list(self.classes), columns=[part or "all" for part in self.parts])

    def __str__(self) -> str:
        parts = [f"{part} {count}" for part, count in self.counts().sum().items() if part != "all"]
        lines = [
            f"{printable(self.root)}: {plural(len(self.images), 'picture')} in {len(self.classes)} classes"
            + (f" ({', '.join(parts)})" if parts else "")
        ]
        if self.bad:
            lines.append(f"  left out: {plural(len(self.bad), 'bad file')}")
            lines += listed_bad(self.bad, _BAD_SHOWN, rest="in the report's .table()")
        if self.empty_folders:
            lines.append(f"  no class, for want of good pictures: {some(self.empty_folders)}")
        if self.ignored:
            lines.append(f"  ignored: {self.ignored} hidden or system files and folders")
        if self.strays:
            lines.append(f"  not used, in no class folder: {some(self.strays)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def plural(count: int, noun: str) -> str:
    """`count` with its noun: "1 picture", "2,000 pictures"."""
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
