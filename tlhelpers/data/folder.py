"""A reader's own image folder as a data set."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image

from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.data.images import BadImageError, open_image, printable
from tlhelpers.data.layout import some
from tlhelpers.data.scan import ScannedFile, ScanReport, scan_folder
from tlhelpers.data.splits import groups_from, joined_groups, split_indices
from tlhelpers.errors import DataError, distinct

_FEW = 10  # a validation set with fewer images of a class cannot guide choices


def load_folder(
    root: str | os.PathLike[str],
    *,
    groups: str | re.Pattern[str] | Callable[[str], str] | None = None,
    val: float | None = None,
    test: float | None = None,
    seed: int | None = None,
    on_bad: Literal["skip", "refuse"] = "skip",
    name: str | None = None,
    card: DataCard | None = None,
    verbose: bool = True,
    workers: int | None = None,
) -> ImageData:
    """A folder of images, one folder for each class, as training, validation and test sets.

    root/<class>/files is divided at random into train, val and test. In root/<split>/<class>/files the folder's own
    splits are kept: only a missing val is taken from train at random, and a test set too if there is nothing but train.
    Files that are the same byte for byte stay together in a random division; between the folder's own splits they are
    only reported. Every file is decoded once here, so that a damaged one cannot stop a training run.

    Args:
        root: the folder.
        groups: which images belong together (to a patient, a drawing) and must stay in one split: a rule of
            `groups_from` for the path below `root`, such as "train/NORMAL/IM-0115-0001.jpeg". None: none do.
        val: fraction of the divided images that becomes the validation set, if the folder has none; None: 0.15.
        test: the same for the test set, 0 for none. Used only if the folder has neither val nor test.
        seed: another seed gives another division; None: 0.
        on_bad: "skip" leaves out files that are no usable images and lists them in `report`; "refuse" raises.
        name: of the data set; None for the folder's name.
        card: source and licence; None makes one from the folder's path and counts.
        verbose: show a progress bar for a long scan, and print the report if a file was left out or there are notes.
        workers: processes that read images which are not kept in memory; None chooses.

    A DataError is raised as by `scan_folder`, `groups_from` and `split_indices`, and if the folder's splits divide a
    group, or a class has no training image.
    """
    report = scan_folder(root, on_bad=on_bad, progress=verbose)
    if groups is not None:
        names = groups_from([image.key for image in report.images], groups)
        grouped = (replace(image, group=group) for image, group in zip(report.images, names, strict=True))
        report = replace(report, images=tuple(grouped))
    splits, notes, origin = _own_splits(report), [*report.notes], "the splits are the folder's own"
    if "val" not in splits:
        fractions = {"val": 0.15 if val is None else val}
        notes += ["test= not used, since the folder has its own test set."] * ("test" in splits and test is not None)
        if "test" not in splits and test != 0:
            fractions["test"] = 0.15 if test is None else test
        splits |= divide(splits["train"], fractions, seed or 0)
        source = "the folder" if report.images[0].split is None else "its training set"
        percent = ", ".join(f"{split} {fraction:.0%}" for split, fraction in fractions.items())
        unit = "images" if groups is None else "groups"
        origin = f"divided at random by {unit} (seed {seed or 0}), taken from {source}: {percent}"
    else:
        given = {"val=": val, "test=": test, "seed=": seed}
        if unused := [name for name, value in given.items() if value is not None]:
            notes.append(f"{', '.join(unused)} not used, since the folder has its own validation set.")
        counts = Counter(image.class_name for image in splits["val"])
        if few := [f"{name} {counts[name]}" for name in report.classes if counts[name] < _FEW]:
            note = (
                f"the validation set has fewer than {_FEW} images of a class ({some(few)}), too few to choose an epoch"
            )
            notes.append(f"{note} or a learning rate by. Move them into 'train', and one is taken from there.")
    if "test" not in splits:
        note = "there is no test set; results on the validation set, used for choices, look better than on new images."
        notes.append(note)
    report = replace(report, notes=tuple(notes))
    if verbose and (report.bad or report.notes):
        print(report)
    name = name or printable(report.root.resolve().name)
    if card is None:
        summary = f"{len(report.images):,} images in {len(report.classes)} classes; {origin}"
        licence = "unknown: the folder states none; find out before you share images or a network"
        is_not = "checked, except that every file opens: check the labels, and that you may use the images, yourself"
        card = DataCard(name, summary, printable(report.root), licence, is_not)
    data = {}
    for split, images in splits.items():
        files, keys = FolderImages(report.root, images), [image.key for image in images]
        labels = [report.classes.index(image.class_name) for image in images]
        own = None if groups is None else [str(image.group) for image in images]
        data[split] = ImageSplit(files, labels, report.classes, keys=keys, name=split, groups=own, workers=workers)
    return ImageData(name, data["train"], data["val"], data.get("test"), card, report)


class FolderImages:
    """Opens image number `i` of a scanned folder; can be pickled for worker processes."""

    def __init__(self, root: Path, images: Sequence[ScannedFile]) -> None:
        self.root, self.files = root, [(image.path, image.num_bytes) for image in images]

    def __call__(self, index: int, needed: int | None = None) -> Image.Image:
        """The image as upright RGB (see `open_image`), or a `DataError` if its file has changed since the scan."""
        path, expected = self.root / self.files[index][0], self.files[index][1]
        try:
            size = path.stat().st_size
        except OSError:
            size = -1
        if size != expected:
            change = "vanished" if size < 0 else f"changed, from {expected} to {size} bytes,"
            message = f"The image {printable(path)} has {change} since its folder was scanned."
            raise BadImageError(f"{message} Put it back, or load the folder again.", change)
        return open_image(path, needed=needed)


def _own_splits(report: ScanReport) -> dict[str, list[ScannedFile]]:
    """The images of each of the folder's own splits; all are in "train" if it is not divided."""
    splits: dict[str, list[ScannedFile]] = defaultdict(list)
    where: dict[str, dict[str, str]] = defaultdict(dict)  # group -> split -> an image
    for image in report.images:
        split = image.split or "train"
        splits[split].append(image)
        where[image.group or image.key].setdefault(split, image.key)
    trained = {image.class_name for image in splits["train"]}
    if missing := [name for name in report.classes if name not in trained]:
        lacks, has = some(distinct(missing, trained)), some(distinct(sorted(trained), missing)) or "none"
        problem = f"has no good image of the class {lacks}, which another split has. The classes of 'train' are: {has}."
        raise DataError(f"{printable(report.root)}: the split 'train' {problem}")
    if divided := {group: keys for group, keys in where.items() if len(keys) > 1}:
        examples = "; ".join(f"'{group}' ({', '.join(keys.values())})" for group, keys in list(divided.items())[:3])
        raise DataError(
            f"{len(divided)} of {len(where)} groups are in more than one split: {examples}. Results would be too good. "
            "Move each group into one split; or, if they only share a name, let the rule match the split's folder, too."
        )
    return splits


def divide(images: Sequence[ScannedFile], fractions: Mapping[str, float], seed: int) -> dict[str, list[ScannedFile]]:
    """Divide images into train and the splits of `fractions`; equal files and whole groups stay in one split."""
    together = joined_groups([image.sha256 for image in images], [image.group or image.key for image in images])
    classes = [image.class_name for image in images]
    rows = split_indices(classes, [1 - sum(fractions.values()), *fractions.values()], groups=together, seed=seed)
    return {split: [images[i] for i in row] for split, row in zip(["train", *fractions], rows, strict=True)}
