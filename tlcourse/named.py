"""Named data sets that the full profile downloads once; the quick profile takes what is there already.

`root` holds a copy, as torchvision or MedMNIST arrange it; None: `cache_folder()`. A DataError says what is missing.
"""

import functools
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pooch
from PIL import Image
from torchvision.datasets import Flowers102, OxfordIIITPet

from tlcourse.data_sets import card_of
from tlcourse.download import cache_folder, explain_failures, fetch
from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.data.folder import load_folder
from tlhelpers.data.splits import split_indices
from tlhelpers.errors import DataError
from tlhelpers.files import user_path

Folder = str | os.PathLike[str] | None

HYMENOPTERA = "https://download.pytorch.org/tutorial/hymenoptera_data.zip"
HYMENOPTERA_SHA256 = "fbc41b31d544714d18dd1230b1e2b455e1557766e13e67f9f5a7a23af7c02209"


def load_hymenoptera(*, root: Folder = None, verbose: bool = True) -> ImageData:
    """Ants and bees (47 MB), no test set; `verbose` prints which files could not be used."""
    if root is None:
        archive = fetch(HYMENOPTERA, HYMENOPTERA_SHA256, size_hint=47_286_322)
        with explain_failures(archive):
            pooch.Unzip(extract_dir="hymenoptera")(str(archive), "fetch", None)
        root = archive.with_name("hymenoptera") / "hymenoptera_data"
    return load_folder(root, name="hymenoptera", card=card_of("hymenoptera"), verbose=verbose)


def load_flowers102(*, root: Folder = None) -> ImageData:
    """102 kinds of flowers (345 MB) in the authors' splits: 1,020, 1,020 and 6,149 images."""
    files = {Flowers102._download_url_prefix + name: md5 for name, md5 in Flowers102._file_dict.values()}
    splits = []
    for name in ("train", "val", "test"):
        found = _torchvision(Flowers102, "flowers-102", root, files, 345e6, split=name)
        splits.append(_split(name, found.classes, found._image_files, found._labels))
    return ImageData("flowers102", splits[0], splits[1], splits[2], card_of("flowers102"))


def load_oxford_pets(*, root: Folder = None, val: float = 0.15, seed: int = 0) -> ImageData:
    """37 breeds of cats and dogs (811 MB); `val` is the fraction of the training images for validation, by breed."""
    source = OxfordIIITPet, "oxford-iiit-pet", root, dict(OxfordIIITPet._RESOURCES), 811e6
    both, last = (_torchvision(*source, split=name) for name in ("trainval", "test"))
    splits = []
    for name, rows in zip(("train", "val"), split_indices(both._labels, (1 - val, val), seed=seed), strict=True):
        paths, labels = ([values[i] for i in rows] for values in (both._images, both._labels))
        splits.append(_split(name, both.classes, paths, labels))
    test = _split("test", both.classes, last._images, last._labels)
    return ImageData("oxford_pets", splits[0], splits[1], test, card_of("oxford_pets"))


def _torchvision(dataset: Any, name: str, root: Folder, files: dict[str, str], size: float, *, split: str) -> Any:
    """A data set of torchvision's in folder `name`; `files` (address -> MD5) are downloaded if nothing is there."""
    parent = cache_folder() if root is None else user_path(root)
    try:
        return dataset(parent, split=split)
    except RuntimeError as error:  # torchvision found no folder
        if root is not None:
            raise DataError(f"{parent / name} is not a copy of {name}; torchvision says: {error}") from error
        for url, md5 in files.items():
            fetch(url, f"md5:{md5}", folder=parent / name, size_hint=size)
        with explain_failures(parent / name):
            return dataset(parent, split=split, download=True)  # all files are there, so this only unpacks
    except (OSError, ValueError) as error:
        raise DataError(f"{parent / name} is incomplete ({error}); delete it and load again") from error


def _split(name: str, classes: Sequence[str], paths: Sequence[Path], labels: Sequence[int]) -> ImageSplit:
    """A split of image files, all of which must be there: torchvision accepts a folder that is unpacked by half."""
    base = paths[0].parents[1]
    missing = [path for path in paths if not path.is_file() or path.stat().st_size == 0]
    if missing:
        found = f"{len(missing)} of {len(paths)} images are missing or empty, {missing[0]} for one"
        raise DataError(f"{base}: {found}; unpack its archive again, or delete {paths[0].parent} and load again")
    keys = [path.relative_to(base).as_posix() for path in paths]
    return ImageSplit(functools.partial(_open_file, paths), labels, classes, keys=keys, name=name)


def _open_file(paths: Sequence[Path], i: int) -> Image.Image:
    """Image `i` as RGB, first frame and stored orientation, as torchvision opens it."""
    try:
        with Image.open(paths[i]) as image:
            return image.convert("RGB")
    except OSError as error:
        raise DataError(f"the image {paths[i]} cannot be read: {error}") from error


def load_pneumonia_mnist(*, size: int = 224, root: Folder = None) -> ImageData:
    """PneumoniaMNIST (4 to 300 MB) in its authors' splits; `size` is 28, 64, 128 or 224 px. Grey is given as RGB."""
    try:
        from medmnist import INFO, PneumoniaMNIST
    except ImportError as error:
        raise DataError('pneumonia_mnist needs the package medmnist: pip install "tlhelpers[full]"') from error
    if size not in PneumoniaMNIST.available_sizes:
        raise DataError(f"PneumoniaMNIST has the sizes {PneumoniaMNIST.available_sizes} px, not {size!r}")
    info, suffix = INFO["pneumoniamnist"], "" if size == 28 else f"_{size}"
    folder = None if root is None else user_path(root)
    if folder is not None and not (file := folder / f"pneumoniamnist{suffix}.npz").is_file():
        raise DataError(f"there is no file {file}")
    most = sum(info["n_samples"].values()) * size**2  # bytes; the file is compressed
    path = fetch(info[f"url{suffix}"], f"md5:{info[f'MD5{suffix}']}", folder=folder, size_hint=most)
    splits = []
    for split in ("train", "val", "test"):
        images = PneumoniaMNIST(split, root=path.parent, size=size)
        keys = [f"{split}/{i}" for i in range(len(images))]
        load: Any = functools.partial(operator.getitem, images.imgs)
        splits.append(ImageSplit(load, images.labels[:, 0], tuple(info["label"].values()), keys=keys, name=split))
    return ImageData("pneumonia_mnist", splits[0], splits[1], splits[2], card_of("pneumonia_mnist"))
