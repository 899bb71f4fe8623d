"""Chest radiographs of children, normal or pneumonia (Kermany et al. 2018), divided by patient."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tlcourse.data_sets import card_of
from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.data.folder import FolderImages, divide
from tlhelpers.data.images import printable
from tlhelpers.data.layout import existing_folder, plural, some
from tlhelpers.data.scan import ScannedFile, scan_folder
from tlhelpers.errors import DataError

ADDRESS = "https://data.mendeley.com/datasets/rscbjbr9sj"
CLASSES = ("NORMAL", "PNEUMONIA")

# Version 2 has person1000_bacteria_2931, IM-0115-0001 and NORMAL2-IM-0588-0001; version 3 BACTERIA-1008087-0001.
_PATIENT = re.compile(
    r"(person\d+)_(?:bacteria|virus)(?=_\d)|(?:NORMAL2-)?(IM-\d+)(?=-\d)|(?:BACTERIA|VIRUS|NORMAL)-(\d+)(?=-\d)"
)


def load_chest_xray(
    root: str | os.PathLike[str] | None = None,
    *,
    val: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
    verbose: bool = True,
) -> ImageData:
    """The chest radiographs of Kermany et al. 2018 from a folder that you downloaded (1.2 GB) and unpacked.

    `root` is the folder that holds `train`, or the one above it. `val` and `test` are the fractions of the training
    images that become these sets, by patients that `seed` draws, the latter only where the folder has no `test`; its
    own `val` has 16 images, too few for any choice, and is not used. Person numbers of `test` occur in `train` as well,
    but mean other patients, so its groups read "test/person1"; where kind and number are the same, `report.notes` says
    so. `verbose` prints the report, which lists files that are no usable images, if it is worth reading. Raises
    DataError if there is no such folder, file names do not tell the patient, or `val` or `test` is no fraction.
    """
    if root is None:
        where = f"get it from {ADDRESS}, unpack it, and name the folder that holds train"
        raise DataError(f'chest_xray is not downloaded for you (1.2 GB): {where}: load_data("chest_xray", root="...")')
    report = scan_folder(_folder_of_splits(existing_folder(root)), progress=verbose)
    if report.classes != CLASSES:
        raise DataError(f"{printable(report.root)} should have the classes {CLASSES}, but has {report.classes}")
    images, notes = _by_split(report.images)
    report = replace(report, notes=(*report.notes, *notes))
    if verbose and (report.bad or report.notes):
        print(report)
    images |= divide(images["train"], {"val": val} if images["test"] else {"val": val, "test": test}, seed)
    splits = []
    for name, own in images.items():
        keys, labels = [image.key for image in own], [CLASSES.index(image.class_name) for image in own]
        files, groups = FolderImages(report.root, own), [str(image.group) for image in own]
        splits.append(ImageSplit(files, labels, CLASSES, keys=keys, name=name, groups=groups))
    return ImageData("chest_xray", splits[0], splits[1], splits[2], card_of("chest_xray"), report)


def patient_of(file: str) -> tuple[str, str]:
    """Patient and numbering, such as person1 and person1_virus; a DataError if the file name tells no patient."""
    match = _PATIENT.match(file.rpartition("/")[2])
    if match is None:
        keep = "Keep the names as published, or use load_folder with groups=, if your names tell it in another way."
        raise DataError(f"the file name {file} does not tell the patient, who could be in two splits. {keep}")
    return match[match.lastindex or 0], match[0]


def _folder_of_splits(folder: Path) -> Path:
    """The folder that holds `train`, or the classes: `folder`, or the one folder in it that does."""
    inside = sorted(folder.iterdir())
    holders = [p for p in (folder, *inside) if (p / "train").is_dir() or all((p / name).is_dir() for name in CLASSES)]
    if holders[:1] == [folder] or len(holders) == 1:
        return holders[0]
    found = f"{some(holders)} each hold one" if holders else f"it holds {some(path.name for path in inside)}"
    raise DataError(f"{printable(folder)} should hold a folder 'train' with {' and '.join(CLASSES)}; {found}")


def _by_split(images: Sequence[ScannedFile]) -> tuple[dict[str, list[ScannedFile]], list[str]]:
    """The images of the folder's own splits, grouped by patient, and notes about its test and validation sets."""
    splits: dict[str, list[ScannedFile]] = {"train": [], "val": [], "test": []}
    numbers: dict[str, set[str]] = {name: set() for name in splits}
    for image in images:  # those of "train" come first
        split, (name, numbering) = image.split or "train", patient_of(image.key)
        numbers[split].add(numbering)
        splits[split].append(replace(image, group=name if numbering in numbers["train"] else f"test/{name}"))
    notes: list[str] = []
    if shared := numbers["train"] & numbers["test"]:
        both = f"{plural(len(shared), 'patient')} of 'test' seem to be in 'train', too ({some(sorted(shared))})"
        notes.append(f"{both}: a result on 'test' would be too good. Nothing was dropped.")
    if splits["val"]:
        notes.append(f"the folder's own 'val' ({plural(len(splits['val']), 'image')}) is too small, and not used.")
    return splits, notes
