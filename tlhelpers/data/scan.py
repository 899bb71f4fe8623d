"""Scanning an image folder: every file is decoded once, before training, and every bad one is named."""

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from PIL import ImageFile

from tlhelpers.data.images import BadImageError, printable, read_image
from tlhelpers.data.layout import IMAGE_SUFFIX, Layout, find_layout, plural, some, split_name
from tlhelpers.errors import DataError
from tlhelpers.progress import in_threads

_BAD_SHOWN = 50  # bad files that a report lists
_MASKS = re.compile(
    r"(?i)(.*[_ -])?(masks?|labels?|annotations?|segmentations?(class|object)?|(ground[_ -]?)?truths?|gt|trimaps?)"
)
_IMAGES = re.compile(r"(?i)(.*[_ -])?(images?|imgs?|inputs?|photos?|pictures?|jpegimages|rgb)")


@dataclass(frozen=True)
class ScannedFile:
    """A file in a class folder: a good image, or a bad file and the reason."""

    split: str | None  # "train", "val" or "test"; None if the folder is not divided
    class_name: str
    path: Path  # relative to the folder
    num_bytes: int = 0
    sha256: str = ""  # of a good image's file
    reason: str = ""  # why a bad file cannot be used
    plain: bool = False  # a good image whose pixels are all of one colour
    group: str | None = None  # the group (patient, drawing) that must not be divided, if the reader names one

    @property
    def key(self) -> str:
        """The relative path with forward slashes: the file's name on every operating system."""
        return printable(self.path)


@dataclass(frozen=True)
class ScanReport:
    """What an image folder holds; `print(report)` summarises it. Paths are relative to `root`."""

    root: Path
    classes: tuple[str, ...]  # those with a good image, sorted
    images: tuple[ScannedFile, ...]  # the good images, sorted by split (train, val, test), class and path
    bad: tuple[ScannedFile, ...] = ()  # the files that were left out
    ignored: int = 0  # number of hidden files, thumbnails and the like
    strays: tuple[Path, ...] = ()  # files and folders that are not used, because they are in no class folder
    notes: tuple[str, ...] = ()  # what a reader should know before training

    def table(self) -> pd.DataFrame:
        """The bad files, one a row, with the columns split, class, file and reason."""
        rows = [(bad.split or "", printable(bad.class_name), bad.key, bad.reason) for bad in self.bad]
        return pd.DataFrame(rows, columns=["split", "class", "file", "reason"], dtype=object)

    def __str__(self) -> str:
        counts = Counter(image.split for image in self.images if image.split)
        splits = f" ({', '.join(f'{split} {count}' for split, count in counts.items())})" if counts else ""
        images, classes = plural(len(self.images), "image"), plural(len(self.classes), "class")
        lines = [f"{printable(self.root)}: {images} in {classes}{splits}"]
        lines += [f"  left out: {plural(len(self.bad), 'bad file')}"] if self.bad else []
        lines += [f"    {file.key}: {file.reason}" for file in self.bad[:_BAD_SHOWN]]
        more = len(self.bad) - _BAD_SHOWN
        lines += [f"    and {more:,} more, in the report's .table()"] if more > 0 else []
        lines += [f"  ignored: {self.ignored} hidden or system files and folders"] if self.ignored else []
        lines += [f"  not used, in no class folder: {some(self.strays)}"] if self.strays else []
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def scan_folder(
    root: str | os.PathLike[str], *, on_bad: Literal["skip", "refuse"] = "skip", progress: bool = True
) -> ScanReport:
    """A report on what is good, bad or doubtful in a folder, whose images are all decoded once.

    Args:
        root: holds root/<class>/files, or root/<split>/<class>/files with the splits train (or training), val (valid,
            validation) and test (testing), in capitals or not. Files deeper inside a class folder belong to the class;
            hidden files, __MACOSX, Thumbs.db and the like are passed over and counted.
        on_bad: "skip" leaves bad files out and lists them; "refuse" raises an error.
        progress: show a progress bar if the scan takes longer than two seconds.

    A DataError says: not arranged as above, fewer than two classes with good images, or bad files to be refused.
    """
    if on_bad not in ("skip", "refuse"):
        raise DataError(f"on_bad must be 'skip' or 'refuse', not {on_bad!r}.")
    layout = find_layout(root)
    files = _decode_all(layout, progress)
    images, bad = (tuple(file for file in files if bool(file.reason) == is_bad) for is_bad in (False, True))
    classes = tuple(sorted({image.class_name for image in images}))
    same_file = defaultdict(list)
    for image in images:
        same_file[image.sha256].append(image)
    notes = _notes(layout, images, [same for same in same_file.values() if len(same) > 1])
    report = ScanReport(layout.root, classes, images, bad, len(layout.ignored), tuple(layout.strays), notes)
    if bad and on_bad == "refuse":
        raise DataError(f"There are bad files, and on_bad is 'refuse'.\n{report}")
    if len(classes) < 2:
        found = f"only '{printable(classes[0])}' has" if classes else "no class has"
        raise DataError(f"Two classes with good images are needed, but {found} any.\n{report}")
    return report


def _decode_all(layout: Layout, progress: bool) -> list[ScannedFile]:
    def decode(file: ScannedFile) -> ScannedFile:
        try:
            image, data = read_image(layout.root / file.path)
        except BadImageError as error:
            return replace(file, reason=error.reason)
        plain = image.getcolors(1) is not None
        return replace(file, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), plain=plain)

    folders = layout.class_folders.items()
    files = [ScannedFile(*key, file) for key, folder in folders for file in layout.files_below(folder)]
    bar: dict[str, Any] = {"desc": "checking images", "delay": 2} if progress else {"disable": True}
    files = in_threads(decode, files, os.cpu_count(), **bar)
    return [ScannedFile(None, "", folder, reason=reason) for folder, reason in layout.unreadable.items()] + files


def _notes(
    layout: Layout, images: Sequence[ScannedFile], duplicates: Sequence[Sequence[ScannedFile]]
) -> tuple[str, ...]:
    """What a reader should know before training."""
    found: dict[str, list[str | Path]] = defaultdict(list)  # what is said of which files, folders or classes
    filled = {(image.split, image.class_name) for image in images}
    classes = sorted({name for _, name in filled})
    for split in dict.fromkeys(image.split for image in images):
        found[f"'{split}' has no image of the class"] += [name for name in classes if (split, name) not in filled]
    plain = {name: " ".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in classes}
    counts, alike = Counter(plain.values()), sorted(classes, key=plain.__getitem__)
    found["classes that differ in capitals or spaces only"] += [ascii(c) for c in alike if counts[plain[c]] > 1]
    if any(map(_IMAGES.fullmatch, classes)):
        found[
            "classes that are named as the masks or labels of a segmentation set, whose images are no class either"
        ] += [name for name in classes if _MASKS.fullmatch(name)]
    copies = defaultdict(list)
    for same in duplicates:
        equal = " = ".join([*(image.key for image in same[:5]), "..."][: len(same)])
        if len({image.class_name for image in same}) > 1:
            copies["in two classes, so one label is wrong"].append(equal)
        if len({image.split for image in same}) > 1:
            copies["in two splits, so scores on one of them are too good"].append(equal)
        if len({(image.split, image.class_name) for image in same}) < len(same):
            copies["in its class more than once"].append(equal)
    for where, cases in copies.items():
        found[f"the same file is {where} ({plural(len(cases), 'case')}), such as"] += cases[:1]
    folders = layout.class_folders
    found["class folders without a good image"] += [folder for key, folder in folders.items() if key not in filled]
    found["class folders that hold folders named as splits; to count as such, splits must be the outer folders"] += [
        folder for folder in folders.values() if any(split_name(inner) for inner in layout.listing(folder)[0])
    ]
    found["images and folders that are not used, because they are in no class folder"] += [
        stray for stray in layout.strays if IMAGE_SUFFIX.fullmatch(stray.suffix) or (layout.root / stray).is_dir()
    ]
    found["links not followed, because they lead back to a folder already seen"] += layout.looped
    found["images of a single colour, such as white drawings on transparent ground, which becomes white"] += [
        image.key for image in images if image.plain
    ]
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        found["truncated images passed as good, because this is set"] += ["PIL.ImageFile.LOAD_TRUNCATED_IMAGES"]
    return tuple(f"{what}: {some(names)}." for what, names in found.items() if names)
