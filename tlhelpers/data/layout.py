"""Which folders are classes and which are splits: what can be told from names alone, before a file is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tlhelpers.data.images import printable
from tlhelpers.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_CLUTTER = {  # left by operating systems and tools; names that begin with a dot are ignored as well
    "__macosx",
    "__pycache__",
    "$recycle.bin",
    "@eadir",
    "desktop.ini",
    "ehthumbs.db",
    "icon\r",
    "lost+found",
    "system volume information",
    "thumbs.db",
}
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".gif", ".jp2"}
_IMAGE_SUFFIXES |= {".avif", ".heic", ".heif"}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}


@dataclass
class Layout:
    """Where the images of each split and class should be.

    Attributes:
        root: the folder, absolute.
        kind: "splits" for root/train/cats/..., "classes" for root/cats/...
        folders: for each (split, class) its folder and the files in it at any depth, sorted. The split is "train",
            "val" or "test", or None where the folder is not divided.
        ignored: how many hidden files, thumbnails and the like were passed over.
        strays: files that lie outside the class folders, and folders beside the splits.
        unlabelled: split folders without class folders.
        unreadable: folders that could not be listed, each with a reason.
        looped: links to folders that were not followed, because they lead back.
    """

    root: Path
    kind: Literal["classes", "splits"] = "classes"
    folders: dict[tuple[str | None, str], tuple[Path, list[Path]]] = field(default_factory=dict)
    ignored: int = 0
    strays: list[Path] = field(default_factory=list)
    unlabelled: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    looped: list[Path] = field(default_factory=list)


def find_layout(root: str | os.PathLike[str]) -> Layout:
    """Tell splits and classes of an image folder from its folder names.

    Raises:
        DataError: if there is no such folder, or its arrangement is not one that `scan_folder` describes.
    """
    layout = Layout(existing_folder(root))
    folders, layout.strays = _listing(layout, layout.root)
    if not folders:
        raise DataError(_no_classes(layout))
    splits = _splits(layout, folders)
    if splits is None:
        _add_classes(layout, None, layout.root, folders)
    else:
        layout.kind = "splits"
        layout.strays += [folder for folder in folders if folder not in splits.values()]
        for split, folder in splits.items():
            classes, files = _listing(layout, folder)
            layout.strays += files
            if classes:
                _add_classes(layout, split, folder, classes)
            else:
                layout.unlabelled.append(folder)
    if len({name for _, name in layout.folders}) < 2:
        raise DataError(_one_class(layout))
    return layout


def is_image_name(path: Path) -> bool:
    """Whether a file's name ends as the names of images do."""
    return path.suffix.lower() in _IMAGE_SUFFIXES


def existing_folder(root: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder that exists; `~` stands for the home folder.

    Raises:
        DataError: if there is none, or it is a file.
    """
    if not os.fspath(root):
        raise DataError("The path of the folder is empty: give the folder that holds the class folders.")
    path = Path(root).expanduser().absolute()
    if path.is_dir():
        return path.resolve() if ".." in path.parts else path
    if not path.exists():
        parent = next(folder for folder in path.parents if folder.is_dir())
        raise DataError(f"There is no folder {printable(path)}. The nearest folder that exists is {printable(parent)}.")
    if path.suffix.lower() in _ARCHIVES:
        raise DataError(f"{printable(path)} is an archive: unpack it first, and give the folder that comes out.")
    raise DataError(f"{printable(path)} is a file: give the folder that holds the class folders.")


def _listing(layout: Layout, folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files in `folder`, each sorted by name, without clutter."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _leads_to_folder(entry)) for entry in entries)
    except OSError as error:
        layout.unreadable.append((folder, f"the folder cannot be opened ({error.strerror or error})"))
        return [], []
    kept = [(name, is_dir) for name, is_dir in found if name[0] != "." and name.casefold() not in _CLUTTER]
    layout.ignored += len(found) - len(kept)
    return [folder / name for name, is_dir in kept if is_dir], [folder / name for name, is_dir in kept if not is_dir]


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: as a file it will be found bad, with a reason
        return False


def _add_classes(layout: Layout, split: str | None, parent: Path, folders: Sequence[Path]) -> None:
    for folder in folders:
        seen = {layout.root.resolve(), parent.resolve()}
        layout.folders[split, folder.name] = folder, _files_below(layout, folder, seen)


def _files_below(layout: Layout, folder: Path, seen: set[Path]) -> list[Path]:
    """All files at any depth; `seen` holds the folders that were visited, so a link that leads back ends there."""
    files: list[Path] = []
    pending = [folder]
    while pending:
        folder = pending.pop()
        if folder.resolve() in seen:
            layout.looped.append(folder)
            continue
        seen.add(folder.resolve())
        deeper, here = _listing(layout, folder)
        files += here
        pending += reversed(deeper)
    return files


def _splits(layout: Layout, folders: Sequence[Path]) -> dict[str, Path] | None:
    """The folder of each split, in the order train, val, test; None if the folders are classes."""
    named = [(SPLIT_NAMES[folder.name.casefold()], folder) for folder in folders if _is_split_name(folder)]
    others = [folder.name for folder in folders if not _is_split_name(folder)]
    names = [split for split, _ in named]
    where = printable(layout.root)
    if "train" not in names:
        if others or not named:
            return None
        raise DataError(f"{where} holds {_quoted([f.name for _, f in named])} but no folder 'train' to learn from.")
    train = named[names.index("train")][1]
    deeper, direct = _listing(Layout(layout.root), train)  # a look ahead: nothing is counted twice
    if others and (not deeper or any(is_image_name(file) for file in direct)):
        return None  # a class that happens to be called "train"
    if not deeper:
        raise DataError(
            f"{printable(train)} holds no class folders: make one folder for each class in it, "
            "named as the class, and put the images there."
        )
    if others and set(names) == {"train"}:
        raise DataError(
            f"{where}: 'train' holds folders, as a training set does, but beside it stand {_quoted(others)}. "
            "Name the splits train, val and test, and move other folders elsewhere; if 'train' is a class, rename it."
        )
    twice = [folder.name for split, folder in named if names.count(split) > 1]
    if twice:
        raise DataError(f"{where}: {_quoted(twice)} name the same split: keep one of them.")
    return {split: folder for wanted in ("train", "val", "test") for split, folder in named if split == wanted}


def _is_split_name(folder: Path) -> bool:
    return folder.name.casefold() in SPLIT_NAMES


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{printable(name)}'" for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _one_class(layout: Layout) -> str:
    folder, _ = next(iter(layout.folders.values()))
    inner = [deeper.name for deeper in _listing(Layout(layout.root), folder)[0]]
    hint = (
        f"It holds folders itself ({_quoted(inner)}): if those are the splits or classes, give {printable(folder)}."
        if inner
        else "Make one folder for each class."
    )
    return f"{printable(layout.root)} has only one class, '{printable(folder.name)}', and needs two or more. {hint}"


def _no_classes(layout: Layout) -> str:
    where = printable(layout.root)
    if layout.unreadable:
        return f"{where}: {layout.unreadable[0][1]}."
    wanted = f"make one folder for each class in it, such as {where}/cats and {where}/dogs"
    if any(is_image_name(file) for file in layout.strays):
        return f"{where} holds images but no class folders: {wanted}, and move each image into its class."
    return f"{where} holds no class folders: {wanted}, and put the images there."
