"""Sets of MedMNIST v2 (Yang et al. 2023): medical images, shrunk to a square, with given parts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.data.download import cache_folder, fetch
from tlhelpers.errors import DataError

SIZES = (28, 64, 128, 224)  # px
PARTS = ("train", "val", "test")

PNEUMONIA_CARD = DataCard(
    name="pneumonia_mnist",
    summary="chest radiographs of children, normal or pneumonia: 4,708 for training, 524 validation, 624 test",
    source="MedMNIST v2 (Yang et al. 2023, https://medmnist.com), made from Kermany et al. 2018",
    licence="CC BY 4.0",
    is_not=(
        "a diagnostic device, nor a step to one: children of one hospital, cropped to a square and shrunk; training "
        "and validation were divided without regard to the patient, as far as is known, so validation flatters"
    ),
)
RETINA_CARD = DataCard(
    name="retina_mnist",
    summary=(
        "photographs of the retina, graded from 0 to 4 by the damage of diabetes: 1,080 for training, 120 validation, "
        "400 test"
    ),
    source="MedMNIST v2 (Yang et al. 2023, https://medmnist.com), made from DeepDRiD (Liu et al. 2022)",
    licence="CC BY 4.0",
    is_not=(
        "a diagnostic device, nor a step to one: several photographs of a person are in it, and training and "
        "validation were divided without regard to the person, as far as is known, so validation flatters"
    ),
)


@dataclass(frozen=True)
class ArrayImages:
    """Gives image `i` of a uint8 array of shape (number, height, width), or (..., 3), as an RGB image."""

    array: NDArray[np.uint8]

    def __call__(self, i: int) -> Image.Image:
        """Image `i`; a grey value stands in all three channels."""
        return Image.fromarray(self.array[i]).convert("RGB")


def load_pneumonia_mnist(*, size: int = 224, root: str | os.PathLike[str] | None = None) -> ImageData:
    """PneumoniaMNIST in the parts that its authors made, downloaded once (4 to 300 MB, by `size`).

    All images are held in memory: at 224 px, 294 MB. The grey images are given as RGB.

    Args:
        size: 28, 64, 128 or 224, the side of the images in px.
        root: a folder that holds the file `pneumoniamnist_224.npz` (28 px: `pneumoniamnist.npz`) already; None
            downloads to `cache_folder()`.

    Raises:
        DataError: for another size, if `medmnist` is not installed, or if the file is missing from `root` or not as
            described.
        DownloadError: if the download fails, or is needed in the `quick` profile.
    """
    return _load("pneumoniamnist", size, root, PNEUMONIA_CARD)


def load_retina_mnist(*, size: int = 224, root: str | os.PathLike[str] | None = None) -> ImageData:
    """RetinaMNIST in the parts that its authors made, downloaded once (3 to 240 MB, by `size`).

    The classes are "grade 0" to "grade 4", in this order. All images are held in memory: at 224 px, 241 MB.

    Args:
        size: 28, 64, 128 or 224, the side of the images in px.
        root: a folder that holds the file `retinamnist_224.npz` (28 px: `retinamnist.npz`) already; None downloads to
            `cache_folder()`.

    Raises:
        DataError: for another size, if `medmnist` is not installed, or if the file is missing from `root` or not as
            described.
        DownloadError: if the download fails, or is needed in the `quick` profile.
    """
    return _load("retinamnist", size, root, RETINA_CARD, prefix="grade ")


def _load(flag: str, size: int, root: str | os.PathLike[str] | None, card: DataCard, *, prefix: str = "") -> ImageData:
    """A set by MedMNIST's own name for it; `prefix` goes before the names of its classes."""
    info, suffix = _info(flag, card), "" if size == 28 else f"_{size}"
    if size not in SIZES:
        raise DataError(f"{info['python_class']} has the sizes {', '.join(map(str, SIZES))} px, not {size!r}")
    filename = f"{flag}{suffix}.npz"
    if root is not None and not (Path(root) / filename).is_file():
        raise DataError(f"{Path(root)} has no file {filename}")
    channels = info["n_channels"]
    path = fetch(
        info[f"url{suffix}"],
        md5=info[f"MD5{suffix}"],
        folder=cache_folder() / "downloads" if root is None else root,
        filename=filename,
        size_hint=sum(info["n_samples"].values()) * size**2 * channels,  # uncompressed; the file is smaller
    )
    shape = (size, size) if channels == 1 else (size, size, channels)
    classes = [prefix + info["label"][str(label)] for label in range(len(info["label"]))]
    with np.load(path, allow_pickle=False) as arrays:
        train, val, test = (_part(arrays, name, (info["n_samples"][name], *shape), classes, path) for name in PARTS)
    return ImageData(card.name, train, val, test, card)


def _info(flag: str, card: DataCard) -> dict[str, Any]:
    try:
        from medmnist import INFO
    except ImportError as error:
        raise DataError(
            f'{card.name} needs the package medmnist, which is not installed: pip install "tlhelpers[full]"'
        ) from error
    info: dict[str, Any] = INFO[flag]
    return info


def _part(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], classes: list[str], path: Path
) -> ImageSplit:
    images, labels = arrays.get(f"{name}_images"), arrays.get(f"{name}_labels")
    found = [f"{a.dtype} {a.shape}" if a is not None else "nothing" for a in (images, labels)]
    count = shape[0]
    if images is None or labels is None or images.dtype != np.uint8 or images.shape != shape:
        raise DataError(f"{path}: {name}_images should be uint8 {shape}, found {found[0]}")
    if labels.shape != (count, 1) or not np.isin(labels, range(len(classes))).all():
        raise DataError(
            f"{path}: {name}_labels should be {(count, 1)} with classes 0 to {len(classes) - 1}, found {found[1]}"
        )
    keys = [f"{name}/{i}" for i in range(count)]
    return ImageSplit(ArrayImages(images), labels[:, 0].tolist(), classes, keys=keys, name=name)
