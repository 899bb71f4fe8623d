"""`load_data`, which loads a data set by name or an image folder by its path, and the table of the names."""

import functools
import importlib
import inspect
import os
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pandas as pd

from tlhelpers.data.dataset import ImageData
from tlhelpers.data.folder import load_folder
from tlhelpers.errors import DataError, closest
from tlhelpers.files import user_path


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
    """A named data set, as in `load_data("pneumonia_mnist", size=64)`, or an image folder.

    `name_or_path` is a name of `data_names()` or the path of a folder. A name means the data set even where there is a
    folder of that name; "./safari" or `Path("safari")` means the folder. `options` are those of the data set's loader,
    or of `load_folder`. A DataError says that name, path or option is not known, or what is wrong with the data; a
    DownloadError, that a download is needed in the quick profile, or failed.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise DataError(f"load_data takes a name or the path of a folder, not {type(name_or_path).__name__}")
    entries = _entries()
    if isinstance(name_or_path, str) and (entry := entries.get(name_or_path)):
        loader = getattr(importlib.import_module(entry.module), f"load_{entry.name}")
        what = f"data set '{entry.name}'"
    else:
        path = user_path(name_or_path or ".")
        if isinstance(name_or_path, str) and len(path.parts) < 2 and (name_or_path == "" or not path.exists()):
            nothing = f"there is no data set '{name_or_path}', and no folder of that name in {Path.cwd()}"
            raise DataError(f"{nothing}. {closest(name_or_path, entries)}")
        what, loader = f"the image folder {path}", functools.partial(load_folder, path)
    known = inspect.signature(loader).parameters
    if unknown := [name for name in options if name not in known]:
        raise DataError(f"{what} has no option '{unknown[0]}'. {closest(unknown[0], known)}")
    return loader(**options)


def data_names() -> pd.DataFrame:
    """The named data sets, one a row: name, what, profile, size (of the download) and licence."""
    return pd.DataFrame(list(_entries().values()), columns=["name", "what", "profile", "size", "licence"])


@functools.cache
def _entries() -> dict[str, DataSetEntry]:
    """The data sets that installed packages add, by name."""
    return {entry.name: entry for point in entry_points(group="tlhelpers.data_sets") for entry in point.load()}
