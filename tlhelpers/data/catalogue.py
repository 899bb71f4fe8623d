"""`load_data`, which loads a data set by name or an image folder by its path, and the table of the names."""

import functools
import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pandas as pd

from tlhelpers.data.dataset import ImageData
from tlhelpers.data.folder import load_folder
from tlhelpers.errors import DataError, closest


@dataclass(frozen=True)
class DataSetEntry:
    """A named data set; the entry points of the group `tlhelpers.data_sets` give sequences of these."""

    name: str
    what: str  # what it shows, in a phrase
    size: str  # of the download
    licence: str
    module: str  # where its loader is: `load_<name>` takes options and returns `ImageData`
    profile: str = "full"  # "quick, full" if it needs no download


def load_data(name_or_path: str | os.PathLike[str], **options: Any) -> ImageData:
    """Load a named data set, as in `load_data("pneumonia_mnist", size=64)`, or an image folder.

    Args:
        name_or_path: a name of `data_names()`, or the path of an image folder. A name means the data set even where
            there is a folder of that name; "./safari" or `Path("safari")` means the folder.
        **options: for the data set's loader, or for `load_folder`.

    Raises:
        DataError: for an unknown name, path or option, or data that are not as they must be.
        DownloadError: if a download is needed in the quick profile, or fails.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise DataError(f"load_data takes a name or the path of a folder, not {type(name_or_path).__name__}")
    entries = _entries()
    if isinstance(name_or_path, str) and (entry := entries.get(name_or_path)):
        loader = getattr(importlib.import_module(entry.module), f"load_{entry.name}")
        _check_options(f"data set '{entry.name}'", loader, options)
        return loader(**options)
    path = Path(name_or_path).expanduser()
    if isinstance(name_or_path, str) and len(path.parts) < 2 and (name_or_path == "" or not path.exists()):
        nothing = f"there is no data set '{name_or_path}', and no folder of that name in {Path.cwd()}"
        raise DataError(f"{nothing}. {closest(name_or_path, entries)}")
    _check_options(f"the image folder {path}", load_folder, options)
    return load_folder(path, **options)


def data_names() -> pd.DataFrame:
    """The named data sets, one a row: name, what, profile, size (of the download) and licence."""
    return pd.DataFrame(list(_entries().values()), columns=["name", "what", "profile", "size", "licence"])


@functools.cache
def _entries() -> dict[str, DataSetEntry]:
    """The data sets that installed packages add, by name."""
    return {entry.name: entry for point in entry_points(group="tlhelpers.data_sets") for entry in point.load()}


def _check_options(what: str, loader: Callable[..., Any], options: dict[str, Any]) -> None:
    known = [p.name for p in inspect.signature(loader).parameters.values() if p.default is not p.empty]
    for name in options:
        if name not in known:
            raise DataError(f"{what} has no option '{name}'. {closest(name, known)}")
