"""Chest radiographs of children, normal or pneumonia (Kermany et al. 2018), divided by patient."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.data.folder import FolderImages
from tlhelpers.data.images import printable
from tlhelpers.data.layout import existing_folder
from tlhelpers.data.report import ScannedImage, ScanReport, plural, some
from tlhelpers.data.scan import scan_folder
from tlhelpers.data.splits import joined_groups, split_indices
from tlhelpers.errors import DataError

ADDRESS = "https://data.mendeley.com/datasets/rscbjbr9sj"
CLASSES = ("NORMAL", "PNEUMONIA")

CARD = DataCard(
    name="chest_xray",
    summary="chest radiographs of children of one to five years, normal or pneumonia; divided by patient",
    source=f"Kermany, Zhang and Goldbaum 2018, {ADDRESS}; Guangzhou Women and Children's Medical Center",
    licence="CC BY 4.0",
    is_not=(
        "a diagnostic device, nor a step to one: children of one hospital, labels from the radiographs alone, and "
        "a test set that differs from the training set in more than chance"
    ),
)

# Version 2 of the set names its files person1000_bacteria_2931, IM-0115-0001 and NORMAL2-IM-0588-0001, version 3
# BACTERIA-1008087-0001. The bracket is what `Patient.name` takes, the whole match `Patient.numbering`.
_PATIENT = re.compile(
    r"(person\d+)_(?:bacteria|virus)(?=_\d)|(?:NORMAL2-)?(IM-\d+)(?=-\d)|(?:BACTERIA|VIRUS|NORMAL)-(\d+)(?=-\d)"
)


class Patient(NamedTuple):
    """What a file name says about the patient.

    Whether person1 with bacteria is person1 with a virus, or IM-0588 is NORMAL2-IM-0588, the authors do not say. In
    the files, each kind is numbered by itself, from 1 and in one ascending row, which speaks against it. To be
    safe, `name` is the same for both, so that the two are never divided; `numbering` tells them apart.
    """

    name: str
    numbering: str


def load_chest_xray(
    root: str | os.PathLike[str] | None = None,
    *,
    val: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
    on_bad: Literal["skip", "refuse"] = "skip",
    verbose: bool = True,
) -> ImageData:
    """The chest radiographs of Kermany et al. 2018 from a folder that you downloaded (1.2 GB) and unpacked.

    The validation set is taken from `train` by patient: the folder's own `val` holds 16 images, too few to choose
    anything by, and is not used. The folder's `test` is the test set, whole, so that results compare with others';
    where there is none, a test set is taken from `train` by patient, too.

    Person numbers of the published test set occur in the training set as well. They mean other patients: within
    each kind of file (bacteria, virus, IM, NORMAL2-IM) the test set has numbers that the training set skips. So
    nothing is dropped, and `groups` of the test set read "test/person1". Should a patient of the same kind and
    number be in both, as in a folder that somebody divided anew, `report.notes` says so, and both carry the same
    group.

    Args:
        root: the folder that holds `train`, or the one above it.
        val: share of the training images that becomes the validation set.
        test: the same for the test set; not used where the folder has one.
        seed: another seed gives another division.
        on_bad: "skip" leaves out files that are no usable images and lists them in `report`; "refuse" raises.
        verbose: show a progress bar for the scan, and print what is to know about the folder.

    Returns:
        The data set; `groups` are patients, as far as file names tell.

    Raises:
        DataError: if `root` is missing or not such a folder, if file names do not tell the patient, or if `val` and
            `test` are no shares.
    """
    if root is None:
        raise DataError(
            f"chest_xray is not downloaded for you (1.2 GB): get it from {ADDRESS}, unpack it, and name the folder "
            f'that holds train: load_data("chest_xray", root="...")'
        )
    report = scan_folder(_folder_of_parts(root), on_bad=on_bad, progress=verbose)
    if report.classes != CLASSES:
        raise DataError(f"{printable(report.root)} should have the classes {CLASSES}, but has {report.classes}")
    patients = _patients(report)
    given = {name: [i for i in report.images if (i.split or "train") == name] for name in ("train", "val", "test")}
    if not given["train"]:
        raise DataError(f"{printable(report.root)}: the part 'train' has no good image.")
    shares = {"val": val} if given["test"] else {"val": val, "test": test}
    parts = _carved(given["train"], shares, patients, seed)
    parts.setdefault("test", given["test"])
    groups, notes = _groups(given, patients)
    if given["val"]:
        notes.append(f"the folder's own 'val' ({plural(len(given['val']), 'image')}) is too small, and not used.")
    report = replace(report, notes=(*report.notes, *notes))
    if verbose and report.noteworthy:
        print(report)
    splits = {name: _split(name, images, report.root, groups) for name, images in parts.items()}
    return ImageData("chest_xray", splits["train"], splits["val"], splits["test"], CARD, report)


def patient_of(file_name: str) -> Patient | None:
    """The patient that a file name tells: `IM-0115-0001.jpeg` IM-0115; None if it tells none."""
    match = _PATIENT.match(file_name)
    return None if match is None else Patient(match[match.lastindex or 0], match[0])


def _folder_of_parts(root: str | os.PathLike[str]) -> Path:
    """The folder that holds `train`: `root`, or the one folder in it that does."""
    folder = existing_folder(root)
    if _holds_parts(folder):
        return folder
    below = sorted(path for path in folder.iterdir() if path.is_dir() and _holds_parts(path))
    if len(below) == 1:
        return below[0]
    found = f"{some(below)} each hold one" if below else f"it holds {some(sorted(p.name for p in folder.iterdir()))}"
    raise DataError(f"{printable(folder)} should hold a folder 'train' with {' and '.join(CLASSES)}; {found}")


def _holds_parts(folder: Path) -> bool:
    return (folder / "train").is_dir() or all((folder / name).is_dir() for name in CLASSES)


def _patients(report: ScanReport) -> dict[str, Patient]:
    """The patient of each image, by key."""
    found = {image.key: patient_of(image.path.name) for image in report.images}
    unknown = [key for key, patient in found.items() if patient is None]
    if unknown:
        raise DataError(
            f"{printable(report.root)}: {plural(len(unknown), 'file name')} of {len(found):,} do not tell the "
            f"patient, so images of one patient could be divided: {some(unknown)}. Keep the names as they were "
            f"published, or use load_folder with groups=, if your names tell it in another way."
        )
    return {key: patient for key, patient in found.items() if patient is not None}


def _carved(
    images: Sequence[ScannedImage], shares: Mapping[str, float], patients: Mapping[str, Patient], seed: int
) -> dict[str, list[ScannedImage]]:
    """`images` divided into train and the parts of `shares`; a patient's images and equal files stay together."""
    joined = joined_groups([patients[image.key].name for image in images], [image.sha256 for image in images])
    classes = [image.class_name for image in images]
    rows = split_indices(classes, [1 - sum(shares.values()), *shares.values()], groups=joined, seed=seed)
    return {part: [images[i] for i in chosen] for part, chosen in zip(["train", *shares], rows, strict=True)}


def _groups(
    given: Mapping[str, Sequence[ScannedImage]], patients: Mapping[str, Patient]
) -> tuple[dict[str, str], list[str]]:
    """The group of each image, by key, and notes about patients in both of the folder's parts."""
    groups = {image.key: patients[image.key].name for image in given["train"]}
    trained = {patients[image.key].numbering for image in given["train"]}
    shared = set()
    for image in given["test"]:
        patient = patients[image.key]
        if patient.numbering in trained:
            shared.add(patient.numbering)
        groups[image.key] = patient.name if patient.numbering in trained else f"test/{patient.name}"
    if not shared:
        return groups, []
    return groups, [
        f"{plural(len(shared), 'patient')} of 'test' seem to be in 'train', too ({some(sorted(shared))}): a result on "
        f"'test' would be too good. Nothing was dropped."
    ]


def _split(name: str, images: Sequence[ScannedImage], root: Path, groups: Mapping[str, str]) -> ImageSplit:
    keys = [image.key for image in images]
    labels = [CLASSES.index(image.class_name) for image in images]
    return ImageSplit(
        FolderImages(root, images), labels, CLASSES, keys=keys, name=name, groups=[groups[key] for key in keys]
    )
