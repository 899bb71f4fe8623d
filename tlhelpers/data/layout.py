"""Which folders of an image folder are splits and which are classes, told from their names."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlhelpers.data.images import printable
from tlhelpers.errors import DataError
from tlhelpers.files import user_path

_SPLITS = {"train": {"train", "training"}, "val": {"val", "valid", "validation"}, "test": {"test", "testing"}}
_CLUTTER = re.compile(  # left by operating systems and tools
    r"(?is)\..*|__macosx|__pycache__|\$recycle\.bin|@eadir|desktop\.ini|(eh)?thumbs\.db|icon\r|lost\+found"
    r"|system volume information"
)
IMAGE_SUFFIX = re.compile(r"\.(jpe?g|jpe|jfif|png|webp|tiff?|bmp|p[bgp]m|gif|jp2|avif|hei[cf])", re.IGNORECASE)


@dataclass
class Layout:
    """The class folders of an image folder, and what else is in it; all other paths are relative to `root`."""

    root: Path
    class_folders: dict[tuple[str | None, str], Path] = field(default_factory=dict)  # by split (or None) and class
    strays: list[Path] = field(default_factory=list)  # files and folders that are in no class folder
    unreadable: dict[Path, str] = field(default_factory=dict)  # folders that cannot be listed, and why
    looped: list[Path] = field(default_factory=list)  # links that lead back to a folder already visited
    ignored: set[Path] = field(default_factory=set)  # hidden files, thumbnails and the like

    def walk(self, top: Path, seen: set[Path]) -> Iterator[tuple[list[Path], list[Path]]]:
        """The folders and files in `top`, then in each folder below it, sorted; folders in `seen` are left out."""

        def note(error: OSError) -> None:
            folder = Path(error.filename).relative_to(self.root)
            self.unreadable[folder] = f"the folder cannot be opened ({error.strerror or error})"

        for place, folders, files in os.walk(self.root / top, onerror=note, followlinks=True):
            here, real = Path(place).relative_to(self.root), Path(place).resolve()
            if real in seen:
                self.looped.append(here)
                folders.clear()
                continue
            seen.add(real)
            clutter = {name for name in (*folders, *files) if _CLUTTER.fullmatch(name)}
            self.ignored |= {here / name for name in clutter}
            folders[:] = sorted(set(folders) - clutter)
            yield [here / name for name in folders], [here / name for name in sorted(set(files) - clutter)]

    def listing(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The folders and files in `folder`, sorted, without clutter."""
        return next(self.walk(folder, set()), ([], []))

    def files_below(self, folder: Path) -> list[Path]:
        """The files in a class folder at any depth; each folder counts once, even if links lead in circles."""
        seen = {self.root.resolve(), (self.root / folder.parent).resolve()}
        return [file for _, files in self.walk(folder, seen) for file in files]


def find_layout(root: str | os.PathLike[str]) -> Layout:
    """The class folders of an image folder, and their splits; a DataError if it is not as `scan_folder` says."""
    layout = Layout(existing_folder(root))
    where = printable(layout.root)
    folders, layout.strays = layout.listing(Path())
    if not folders:
        images = any(IMAGE_SUFFIX.fullmatch(file.suffix) for file in layout.strays)
        found = "images but no class folders" if images else "no class folders"
        advice = f"it holds {found}: make one for each class, such as {where}/cats, and put its images there"
        raise DataError(f"{where}: {layout.unreadable.get(Path(), advice)}.")
    splits = _find_splits(layout, folders)
    if splits:
        layout.strays += [folder for folder in folders if folder not in splits.values()]
    else:
        layout.class_folders = {(None, printable(folder.name)): folder for folder in folders}
    for split, parent in splits.items():
        classes, files = layout.listing(parent)
        layout.class_folders |= {(split, printable(folder.name)): folder for folder in classes}
        layout.strays += files if classes else [parent]
    if len({name for _, name in layout.class_folders}) < 2:
        only, hint = next(iter(layout.class_folders.values())), "Make one folder for each class."
        if inner := some(folder.name for folder in layout.listing(only)[0]):
            hint = f"It holds the folders {inner}: if those are the splits or classes, give {where}/{printable(only)}."
        raise DataError(f"{where} has only one class, '{printable(only.name)}', and needs two or more. {hint}")
    return layout


def _find_splits(layout: Layout, folders: Sequence[Path]) -> dict[str, Path]:
    """The folder of each split, in the order train, val, test; empty if the folders are classes."""
    found = {split: [folder for folder in folders if split_name(folder) == split] for split in _SPLITS}
    others, train = [folder for folder in folders if split_name(folder) is None], found["train"]
    classes, files = layout.listing(train[0]) if train else ([], [])
    if others and (not classes or any(IMAGE_SUFFIX.fullmatch(file.suffix) for file in files)):
        return {}  # one of the classes may be called "train"
    if not train:
        problem = "no folder 'train' to learn from"
    elif not classes:
        problem = f"'{train[0]}' holds no class folders: make one for each class, and put its images there"
    elif others and not found["val"] and not found["test"]:
        problem = "'train' may be a split or a class: add val or test and move other folders elsewhere, or rename it"
    elif any(len(same) > 1 for same in found.values()):
        problem = "two of them name the same split: keep one"
    else:
        return {split: same[0] for split, same in found.items() if same}
    raise DataError(f"{printable(layout.root)} holds the folders {some(folders)}, but {problem}.")


def existing_folder(root: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder; `~` stands for the home folder. A DataError if there is none, or it is a file."""
    path = user_path(root).absolute()
    if path.is_dir():
        return path.resolve() if ".." in path.parts else path
    if path.exists():
        raise DataError(f"{printable(path)} is a file: give the folder of the class folders; unpack an archive first.")
    parent = next(folder for folder in path.parents if folder.is_dir())
    raise DataError(f"There is no folder {printable(path)}. The nearest folder that exists is {printable(parent)}.")


def split_name(folder: Path) -> str | None:
    """The split that a folder is named as: "train", "val" or "test"; None for any other name."""
    return next((split for split, names in _SPLITS.items() if folder.name.strip().casefold() in names), None)


def some(names: Iterable[str | Path]) -> str:
    """The first five names, and how many more there are."""
    shown = [printable(name) for name in names]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5:,} more" if len(shown) > 5 else "")


def plural(count: int, noun: str) -> str:
    """`count` with its noun: "1 image", "2,000 images", "2 classes"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")
