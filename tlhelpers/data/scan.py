"""Scanning an image folder: every file is decoded once, before training, and every bad one is named."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from PIL import ImageFile

from tlhelpers.data.images import BadImageError, ImageFacts, inspect_image, printable
from tlhelpers.data.layout import SPLIT_NAMES, Layout, find_layout, is_image_name
from tlhelpers.data.report import BadFile, ScannedImage, ScanReport, listed_bad, plural, some
from tlhelpers.errors import DataError

__all__ = ["BadFile", "ScanReport", "ScannedImage", "scan_folder"]

_SHOWN = 20  # bad files that an error lists


def scan_folder(
    root: str | os.PathLike[str], *, on_bad: Literal["skip", "refuse"] = "skip", progress: bool = True
) -> ScanReport:
    """Decode every image of a folder, and report what is good, bad or doubtful.

    Two arrangements are understood: root/<class>/files, and root/<split>/<class>/files with the splits train
    (or training), val (valid, validation) and test (testing), in capitals or not. Files deeper inside a class
    folder count for the class. Hidden files, __MACOSX, Thumbs.db and the like are passed over and counted.
    A folder without a good image does not become a class.

    Args:
        root: the folder.
        on_bad: "skip" leaves bad files out and lists them; "refuse" raises if there is one.
        progress: show a progress bar if the scan takes longer than two seconds.

    Raises:
        DataError: if the folder does not exist, is not arranged as above, has fewer than two classes with good
            images, or has bad files while `on_bad` is "refuse".
    """
    if on_bad not in ("skip", "refuse"):
        raise DataError(f"on_bad must be 'skip' or 'refuse', not {on_bad!r}.")
    layout = find_layout(root)
    images, bad = _decode_all(layout, progress)
    if bad and on_bad == "refuse":
        lines = "\n".join(listed_bad(bad, _SHOWN))
        raise DataError(f"{printable(layout.root)} holds {plural(len(bad), 'bad file')}:\n{lines}")
    filled = {(image.split, image.class_name) for image in images}
    empty = [folder for key, (folder, _) in layout.folders.items() if key not in filled]
    empty = [folder.relative_to(layout.root) for folder in empty]
    classes = tuple(sorted({image.class_name for image in images}))
    if len(classes) < 2:
        raise DataError(_too_few_good(layout.root, classes, empty, bad))
    duplicates = _duplicates(images)
    return ScanReport(
        root=layout.root,
        layout=layout.kind,
        classes=classes,
        images=tuple(images),
        bad=tuple(bad),
        empty_folders=tuple(empty),
        duplicates=duplicates,
        ignored=layout.ignored,
        strays=tuple(stray.relative_to(layout.root) for stray in layout.strays),
        notes=(*_class_notes(classes, filled), *_duplicate_notes(duplicates), *_layout_notes(layout)),
    )


def _decode_all(layout: Layout, progress: bool) -> tuple[list[ScannedImage], list[BadFile]]:
    from tlhelpers.progress import tqdm

    files = [(*key, file) for key, (_, below) in layout.folders.items() for file in below]
    bad = [BadFile(None, "", folder.relative_to(layout.root), reason) for folder, reason in layout.unreadable]
    images: list[ScannedImage] = []
    pool = ThreadPoolExecutor(os.cpu_count())  # threads suffice: Pillow decodes without holding Python's lock
    try:
        results = pool.map(_inspect, [file for *_, file in files])  # in the order of the files
        bar = tqdm(results, "checking images", len(files), leave=False, delay=2, disable=not progress)
        for (split, name, file), facts in zip(files, bar, strict=True):
            path = file.relative_to(layout.root)
            if isinstance(facts, str):
                bad.append(BadFile(split, name, path, facts))
            else:
                images.append(ScannedImage(split, name, path, facts.size, facts.num_bytes, facts.sha256))
    finally:
        pool.shutdown(cancel_futures=True)  # after an interrupt, what has not begun is not begun
    return images, bad


def _inspect(file: Path) -> ImageFacts | str:
    try:
        return inspect_image(file)
    except BadImageError as error:
        return error.reason


def _duplicates(images: Iterable[ScannedImage]) -> tuple[tuple[ScannedImage, ...], ...]:
    same: dict[str, list[ScannedImage]] = defaultdict(list)
    for image in images:
        same[image.sha256].append(image)
    return tuple(tuple(group) for group in same.values() if len(group) > 1)


def _too_few_good(root: Path, classes: Sequence[str], empty: Sequence[Path], bad: Sequence[BadFile]) -> str:
    found = f"only the class '{printable(classes[0])}' has" if classes else "no class folder has"
    lines = [f"{printable(root)}: two classes are needed, but {found} good images."]
    lines += [f"No good image is in {some(empty)}."] if empty else []
    lines += [f"{plural(len(bad), 'bad file')}:", *listed_bad(bad, _SHOWN)] if bad else []
    return "\n".join(lines)


def _class_notes(classes: Sequence[str], filled: set[tuple[str | None, str]]) -> list[str]:
    notes = []
    for split in ("train", "val", "test"):
        missing = [name for name in classes if (split, name) not in filled]
        if missing and len(missing) < len(classes):
            notes.append(f"'{split}' has no image of the class {some(missing)}.")
    alike = defaultdict(list)
    for name in classes:
        alike[" ".join(unicodedata.normalize("NFC", name).casefold().split())].append(repr(name))
    clashes = [names for names in alike.values() if len(names) > 1]
    return notes + [f"the classes {some(names)} differ in capitals or spaces only." for names in clashes]


def _duplicate_notes(duplicates: Sequence[Sequence[ScannedImage]]) -> list[str]:
    """Of each sort of duplicate, worst first, how many images it concerns and an example."""
    sorts: dict[str, list[Sequence[ScannedImage]]] = {
        "stands in two classes, so one label is wrong": [],
        "stands in two splits, so what is tested was also trained on": [],
        "is there more than once in its class": [],
    }
    classes, splits, copies = sorts.values()
    for group in duplicates:
        if len({image.class_name for image in group}) > 1:
            classes.append(group)
        if len({image.split for image in group}) > 1:
            splits.append(group)
        if len({(image.class_name, image.split) for image in group}) < len(group):
            copies.append(group)
    return [
        f"the same file {what}: {plural(len(groups), 'case')}, such as {some(image.key for image in groups[0])}."
        for what, groups in sorts.items()
        if groups
    ]


def _layout_notes(layout: Layout) -> list[str]:
    notes = []
    strays = [(stray.relative_to(layout.root), stray.is_dir()) for stray in layout.strays]
    images = [path for path, is_dir in strays if not is_dir and is_image_name(path)]
    if images:
        notes.append(f"{plural(len(images), 'image')} in no class folder: {some(images)}.")
    beside = [path for path, is_dir in strays if is_dir]
    if beside:
        notes.append(f"beside the splits, these folders were not used: {some(beside)}.")
    if layout.unlabelled:
        folders = some(folder.relative_to(layout.root) for folder in layout.unlabelled)
        notes.append(f"without class folders, and so not used: {folders}.")
    inner = [folder for folder, files in layout.folders.values() if _holds_splits(folder, files)]
    if inner:
        notes.append(
            f"folders named as splits stand inside classes ({some(folder.name for folder in inner)}) and were taken "
            "together; for a division that is kept, the splits must be the outer folders."
        )
    if layout.looped:
        links = some(folder.relative_to(layout.root) for folder in layout.looped)
        notes.append(f"links that lead back to a folder already seen were not followed: {links}.")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        notes.append("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so truncated images passed as good.")
    return notes


def _holds_splits(folder: Path, files: Iterable[Path]) -> bool:
    return any(file.relative_to(folder).parts[0].casefold() in SPLIT_NAMES for file in files if file.parent != folder)
