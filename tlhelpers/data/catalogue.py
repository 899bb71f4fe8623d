"""The data sets that have a name, and `load_data`, which takes such a name or the path of an image folder."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pandas as pd

from tlhelpers.data.dataset import ImageData
from tlhelpers.errors import DataError


@dataclass(frozen=True)
class Entry:
    """A named data set, in short; its `DataCard` says more once it is loaded.

    Attributes:
        name: what `load_data` is given.
        what: what is on the images.
        profile: the profiles that it is for: "quick, full" or "full".
        size: what has to be downloaded.
        licence: the terms.
        loader: "module:function", imported when it is needed; the function takes options by keyword and returns an
            `ImageData`.
    """

    name: str
    what: str
    profile: str
    size: str
    licence: str
    loader: str


ENTRY_POINTS = "tlhelpers.data_sets"  # each names a sequence of `Entry`

_entries: dict[str, Entry] = {}
_announced: dict[str, Entry] = {}


def register(entry: Entry) -> None:
    """Make a data set known to `load_data`.

    Raises:
        DataError: if the name is taken, or would read as a path.
    """
    if entry.name in _entries:
        raise DataError(f"a data set named '{entry.name}' is registered already, by {_entries[entry.name].loader}")
    if not entry.name.isidentifier():
        raise DataError(f"'{entry.name}' cannot name a data set: use letters, digits and underscores")
    _entries[entry.name] = entry


def load_data(name_or_path: str | os.PathLike[str], **options: Any) -> ImageData:
    """Load a named data set, or the images of a folder.

        load_data("safari")
        load_data("pneumonia_mnist", size=64)
        load_data("photos/birds", val=0.2)

    A string that is a name of `data_names()` means that data set, even where the working directory has a folder of
    the same name: "./safari" or `Path("safari")` means the folder. Any other string is taken for a path.

    Args:
        name_or_path: a name of `data_names()`, or the path of an image folder.
        **options: passed to the loader of the data set (`load_folder` for a path), which documents them.

    Raises:
        DataError: if there is neither such a name nor such a folder, if an option is not known, or if the data is
            not as it must be.
        DownloadError: if the data must be downloaded, and the profile is `quick` or the download fails.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise DataError(f"load_data takes a name or the path of a folder, not {type(name_or_path).__name__}")
    entries = _known()
    if isinstance(name_or_path, str) and name_or_path in entries:
        loader: Callable[..., ImageData] = _imported(entries[name_or_path].loader)
        _check_options(f"data set '{name_or_path}'", loader, options)
        return loader(**options)
    from tlhelpers.data.folder import load_folder

    path = Path(name_or_path).expanduser()
    if name_or_path == "" or (isinstance(name_or_path, str) and not path.exists() and len(path.parts) < 2):
        raise DataError(
            f"there is no data set '{name_or_path}' and, in {Path.cwd()}, no folder of that name"
            f"{_did_you_mean(name_or_path, entries)}; data sets are: {', '.join(entries)}"
        )
    _check_options(f"the image folder {path}", load_folder, options, given="root")
    return load_folder(path, **options)


def data_names() -> pd.DataFrame:
    """The named data sets, one a row: name, what, profile, size (what is downloaded) and licence."""
    columns = ["name", "what", "profile", "size", "licence"]
    return pd.DataFrame([[getattr(entry, c) for c in columns] for entry in _known().values()], columns=columns)


def _known() -> dict[str, Entry]:
    """The data sets of this package, and those that installed packages announce in the group ENTRY_POINTS."""
    if not _announced:
        _announced.update({entry.name: entry for point in entry_points(group=ENTRY_POINTS) for entry in point.load()})
    return _entries | _announced


def _imported(where: str) -> Any:
    module, name = where.split(":")
    return getattr(importlib.import_module(module), name)


def _check_options(
    what: str, loader: Callable[..., ImageData], options: dict[str, Any], given: str | None = None
) -> None:
    """Refuse options that `loader` does not have; `given` is the parameter that `load_data` fills itself."""
    parameters = [p for p in inspect.signature(loader).parameters.values() if p.name != given]
    known = {p.name: p.default for p in parameters}
    unknown = [name for name in options if name not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        listed = ", ".join(f"{name}={default!r}" for name, default in known.items())
        has = f"its options are: {listed}" if listed else "it has no options"
        raise DataError(f"{what} has no option '{unknown[0]}'{_did_you_mean(unknown[0], known)}; {has}")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=2)
    return f" (did you mean {' or '.join(repr(match) for match in close)}?)" if close else ""


_HERE = "tlhelpers.data"
for _entry in (
    Entry(
        name="hymenoptera",
        what="photographs of ants and bees, few; no test set",
        profile="full",
        size="47 MB",
        licence="none given; research and teaching",
        loader=f"{_HERE}.named.hymenoptera:load_hymenoptera",
    ),
    Entry(
        name="flowers102",
        what="photographs of 102 kinds of flowers",
        profile="full",
        size="345 MB",
        licence="none given; research",
        loader=f"{_HERE}.named.oxford:load_flowers102",
    ),
    Entry(
        name="oxford_pets",
        what="photographs of 37 breeds of cats and dogs",
        profile="full",
        size="811 MB",
        licence="CC BY-SA 4.0",
        loader=f"{_HERE}.named.oxford:load_oxford_pets",
    ),
    Entry(
        name="pneumonia_mnist",
        what="chest radiographs of children, normal or pneumonia, at 28 to 224 px",
        profile="full",
        size="4 to 300 MB",
        licence="CC BY 4.0",
        loader=f"{_HERE}.named.medmnist_sets:load_pneumonia_mnist",
    ),
    Entry(
        name="retina_mnist",
        what="photographs of the retina at 28 to 224 px, graded 0 to 4",
        profile="full",
        size="3 to 240 MB",
        licence="CC BY 4.0",
        loader=f"{_HERE}.named.medmnist_sets:load_retina_mnist",
    ),
):
    register(_entry)
