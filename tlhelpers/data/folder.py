"""A reader's own image folder as a data set."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image

from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.data.images import BadImageError, open_image, printable
from tlhelpers.data.report import ScannedImage, ScanReport, some
from tlhelpers.data.scan import scan_folder
from tlhelpers.data.splits import groups_from, joined_groups, split_indices
from tlhelpers.errors import DataError

_FEW = 10  # a validation set with fewer images of a class than this cannot guide choices


def load_folder(
    root: str | os.PathLike[str],
    *,
    groups: str | re.Pattern[str] | Callable[[str], str] | None = None,
    val: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    on_bad: Literal["skip", "refuse"] = "skip",
    name: str | None = None,
    card: DataCard | None = None,
    verbose: bool = True,
) -> ImageData:
    """Load a folder of images, one folder for each class, as training, validation and test sets.

    root/<class>/files is divided here. root/<split>/<class>/files with train, val and test is used as it stands.
    Where val is missing it is taken from train; where only train is given, val and test both are; train and val
    without test stay as they are, and the data set then has no test set. Files that are the same byte for byte
    always stay together when images are divided. Every file is decoded once here, so a damaged one cannot
    stop a training run.

    Args:
        root: the folder.
        groups: which images belong together (one patient's, one drawing's) and must stay in one split: a regular
            expression for the path below `root` ("train/NORMAL/IM-0115-0001.jpeg"), or a function from that path
            to the group's name; see `groups_from`. None: images are independent.
        val: share of the divided images that becomes the validation set, if the folder has none.
        test: the same for the test set; 0 for none. Not used where the folder has both train and val.
        seed: another seed gives another division.
        on_bad: "skip" leaves out files that are no usable images and lists them in `report`; "refuse" raises.
        name: of the data set; None for the folder's name.
        card: source and licence, if you can say more than the folder does.
        verbose: show a progress bar for a long scan, and print the report if there is something to know.

    Returns:
        The data set. `report` holds the bad files and notes, `card` how the splits came about.

    Raises:
        DataError: as `scan_folder`, `groups_from` and `split_indices`; if a group stands in two of the folder's
            splits; if a class has no image to train on.
    """
    report = scan_folder(root, on_bad=on_bad, progress=verbose)
    keys = [image.key for image in report.images]
    group_of = None if groups is None else dict(zip(keys, groups_from(keys, groups), strict=True))
    splits, how, notes = _divided(report, group_of, val, test, seed)
    _check_training(report, splits["train"])
    if group_of is not None:
        _check_groups(splits, group_of)
    report = replace(report, notes=(*report.notes, *notes))
    if verbose and report.noteworthy:
        print(report)
    name = name or printable(report.root.resolve().name)
    made = {split: _split(split, images, report, group_of) for split, images in splits.items()}
    card = card or _card(name, report, how)
    return ImageData(name, made["train"], made["val"], made.get("test"), card, report)


class FolderImages:
    """Opens image number `i` of a scanned folder; can be pickled, so worker processes can use it."""

    def __init__(self, root: Path, images: Sequence[ScannedImage]) -> None:
        self.root = root
        self.paths = [image.path for image in images]
        self.num_bytes = [image.num_bytes for image in images]

    def __call__(self, index: int, needed: int | None = None) -> Image.Image:
        """The image as upright RGB; see `open_image` for `needed`.

        Raises:
            BadImageError: a `DataError`, if the file has vanished or changed since the scan.
        """
        path = self.root / self.paths[index]
        try:
            size = path.stat().st_size
        except OSError as error:
            raise BadImageError(
                f"The image {printable(path)} was there when its folder was scanned, and is not now "
                f"({error.strerror}). Put it back, or load the folder again.",
                "vanished",
            ) from error
        if size != self.num_bytes[index]:
            raise BadImageError(
                f"The image {printable(path)} has changed since its folder was scanned: it had "
                f"{self.num_bytes[index]} bytes, and has {size}. Load the folder again.",
                "changed",
            )
        return open_image(path, needed=needed)


def _divided(
    report: ScanReport, group_of: Mapping[str, str] | None, val: float, test: float, seed: int
) -> tuple[dict[str, list[ScannedImage]], str, list[str]]:
    """The images of each split, a phrase that says how they came there, and notes for the report."""
    given: dict[str, list[ScannedImage]] = defaultdict(list)
    for image in report.images:
        given[image.split or "train"].append(image)
    if "train" not in given:
        raise DataError(f"{printable(report.root)}: the split 'train' has no good image.")
    notes = []
    if "val" in given:
        counts = {name: sum(image.class_name == name for image in given["val"]) for name in report.classes}
        few = [f"{name} {count}" for name, count in counts.items() if count < _FEW]
        if few:
            notes.append(
                f"'val' has fewer than {_FEW} images of a class ({some(few)}), too few to choose an epoch or a "
                "learning rate by; move them into 'train', and a part of it will be set aside instead."
            )
        if "test" not in given:
            notes.append(
                "there is no split 'test': a result on 'val' is then also what choices were made on, and so looks "
                "better than new images would."
            )
        return dict(given), "the splits are the folder's own", notes
    shares = {"val": val} if "test" in given or test == 0 else {"val": val, "test": test}
    divided = _carved(given.pop("train"), shares, group_of, seed)
    if "test" not in {*given, *divided}:
        notes.append("no split is set aside as 'test', so nothing measures the final model on unseen images.")
    source = "the folder" if report.layout == "classes" else "its split train"
    splits = {**divided, **given}
    percent = ", ".join(f"{split} {share:.0%}" for split, share in shares.items())
    together = "images" if group_of is None else "groups"
    return splits, f"divided at random by {together} (seed {seed}), taken from {source}: {percent}", notes


def _carved(
    images: Sequence[ScannedImage], shares: Mapping[str, float], group_of: Mapping[str, str] | None, seed: int
) -> dict[str, list[ScannedImage]]:
    """The images divided into train and the splits of `shares`; same files and same groups stay together."""
    stay_together = [[image.sha256 for image in images]]
    if group_of is not None:
        stay_together.append([group_of[image.key] for image in images])
    joined = joined_groups(*stay_together)
    classes = [image.class_name for image in images]
    fractions = [1 - sum(shares.values()), *shares.values()]
    alone = len(set(joined.tolist())) == len(images)
    rows = split_indices(classes, fractions, groups=None if alone else joined, seed=seed)
    return {split: [images[i] for i in chosen] for split, chosen in zip(["train", *shares], rows, strict=True)}


def _check_training(report: ScanReport, train: Sequence[ScannedImage]) -> None:
    missing = sorted(set(report.classes) - {image.class_name for image in train})
    if missing:
        raise DataError(
            f"{printable(report.root)}: the split 'train' has no good image of the class {some(missing)}, which "
            f"another split has. The classes of 'train' are {some(sorted({image.class_name for image in train}))}."
        )


def _check_groups(splits: Mapping[str, Sequence[ScannedImage]], group_of: Mapping[str, str]) -> None:
    """Refuse folders whose own splits divide a group: what is tested would have been trained on."""
    where: dict[str, dict[str, str]] = defaultdict(dict)  # group -> split -> an image
    for split, images in splits.items():
        for image in images:
            where[group_of[image.key]].setdefault(split, image.key)
    divided = {group: keys for group, keys in where.items() if len(keys) > 1}
    if divided:
        examples = "; ".join(f"'{group}' ({', '.join(keys.values())})" for group, keys in list(divided.items())[:3])
        raise DataError(
            f"{len(divided)} of {len(where)} groups stand in more than one split: {examples}. Results would be too "
            "good. Move each group into one split; or, if the same name means different groups in different splits, "
            "let the rule take in the split, which the path begins with."
        )


def _split(
    split: str, images: Sequence[ScannedImage], report: ScanReport, group_of: Mapping[str, str] | None
) -> ImageSplit:
    keys = [image.key for image in images]
    return ImageSplit(
        FolderImages(report.root, images),
        [report.classes.index(image.class_name) for image in images],
        report.classes,
        keys=keys,
        name=split,
        groups=None if group_of is None else [group_of[key] for key in keys],
    )


def _card(name: str, report: ScanReport, how: str) -> DataCard:
    return DataCard(
        name=name,
        summary=f"{len(report.images):,} images in {len(report.classes)} classes; {how}",
        source=printable(report.root),
        licence="unknown: the folder does not say, so it is yours to know",
        is_not="checked beyond being readable: whether the labels are right, and the use allowed, is yours to know",
    )
