"""Two sets of Oxford's Visual Geometry Group: 102 kinds of flowers, and 37 breeds of cats and dogs.

The folders are laid out as for torchvision's `Flowers102` and `OxfordIIITPet`, so `root=` can name a folder that
torchvision downloaded to. The download is our own: torchvision takes any unpacked folder, even half of one, for
complete, and turns to plain http when https fails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tlhelpers.data.archives import unpack
from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.data.download import cache_folder, fetch
from tlhelpers.errors import DataError

FLOWERS_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
FLOWERS_FILES = {  # file -> MD5 (Oxford publishes no sums; these are torchvision's) and bytes
    "102flowers.tgz": ("52808999861908f626f3c1f4e79d11fa", 344_862_509),
    "imagelabels.mat": ("e0620be6f572b9609742df49c70aed4d", 502),
    "setid.mat": ("a5357ecc9cb78c4bef273ce3793fc85c", 14_989),
}
PETS_URL = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
PETS_FILES = {
    "images.tar.gz": ("5c4f3ee8e5d25df40f4fd59a7f44e54c", 791_918_971),
    "annotations.tar.gz": ("95a8c909bbe2e81eed6a22bccdf3f68f", 19_173_078),
}

FLOWERS_CARD = DataCard(
    name="flowers102",
    summary="photographs of 102 kinds of flowers: 10 a class for training, 10 for validation, 6,149 for testing",
    source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (Nilsback and Zisserman 2008)",
    licence="none given; photographs gathered from the web, for research",
    is_not=(
        "balanced: the test set is six times the training set and its classes differ in size, so the mean over "
        "classes is what papers report"
    ),
)
PETS_CARD = DataCard(
    name="oxford_pets",
    summary="photographs of 37 breeds, 12 of cats and 25 of dogs, about 200 a breed; half of them for testing",
    source="https://www.robots.ox.ac.uk/~vgg/data/pets/ (Parkhi et al. 2012)",
    licence="CC BY-SA 4.0; the photographers keep their rights",
    is_not=(
        "free of ImageNet: many breeds are ImageNet classes, so a pre-trained network has met them; the validation "
        "part is this package's choice, the authors give none"
    ),
)


@dataclass(frozen=True)
class FileImages:
    """Gives image `i` of a list of files as an RGB image, first frame and stored orientation, like torchvision.

    The lists were made by the sets' authors and every file on them decodes, GIFs under the name `.jpg` among them.
    """

    paths: tuple[Path, ...]

    def __call__(self, i: int) -> Image.Image:
        """Image `i`; a `DataError` if its file is gone or damaged."""
        try:
            with Image.open(self.paths[i]) as image:
                return image.convert("RGB")
        except OSError as error:
            raise DataError(f"the image {self.paths[i]} cannot be read: {error}") from error


def load_flowers102(*, root: str | os.PathLike[str] | None = None) -> ImageData:
    """102 kinds of flowers in the authors' parts (1,020, 1,020 and 6,149), downloaded once (345 MB).

    Args:
        root: a folder that holds `flowers-102` already, as for `torchvision.datasets.Flowers102`; None downloads
            to `cache_folder()`.

    Raises:
        DownloadError: if the download fails, or is needed in the `quick` profile.
        DataError: if `root` is no such folder, or lacks images.
    """
    parent = cache_folder() if root is None else Path(root)
    base = parent / "flowers-102"
    if root is None:
        _fetched_folder(FLOWERS_URL, "102flowers.tgz", FLOWERS_FILES, base, "jpg")
        for name in ("imagelabels.mat", "setid.mat"):
            _fetched(FLOWERS_URL, name, FLOWERS_FILES, base)
    from torchvision.datasets import Flowers102

    def part(name: str) -> ImageSplit:
        try:  # with this loader the "images" are paths: nothing is decoded
            pairs = Flowers102(parent, split=name, loader=str)
        except RuntimeError as error:
            needed = "a folder jpg and sound files imagelabels.mat and setid.mat"
            raise DataError(f"{base} should hold {needed}; torchvision says: {error}") from error
        listed = [pairs[i] for i in range(len(pairs))]
        return _split([Path(p) for p, _ in listed], [c for _, c in listed], Flowers102.classes, base, name)

    return ImageData("flowers102", part("train"), part("val"), part("test"), FLOWERS_CARD)


def load_oxford_pets(*, root: str | os.PathLike[str] | None = None, val: float = 0.15, seed: int = 0) -> ImageData:
    """37 breeds of cats and dogs, downloaded once (811 MB); the test set (3,669) is the authors'.

    Args:
        root: a folder that holds `oxford-iiit-pet` already, as for `torchvision.datasets.OxfordIIITPet`; None
            downloads to `cache_folder()`.
        val: the fraction of the authors' `trainval` (3,680) that becomes the validation set, breed by breed.
        seed: draws which images those are.

    Raises:
        DownloadError: if the download fails, or is needed in the `quick` profile.
        DataError: if `val` is not between 0 and 1, or if `root` is no such folder, or lacks images.
    """
    from tlhelpers.data.splits import split_indices

    base = (cache_folder() if root is None else Path(root)) / "oxford-iiit-pet"
    for folder in ("images", "annotations"):
        if root is None:
            _fetched_folder(PETS_URL, f"{folder}.tar.gz", PETS_FILES, base, folder)
        elif not (base / folder).is_dir():
            raise DataError(f"{base} should hold the folders images and annotations; there is no {folder}")
    paths, labels, classes = _listed_pets(base, "trainval")
    test_paths, test_labels, test_classes = _listed_pets(base, "test")
    if test_classes != classes:
        raise DataError(f"{base}: trainval.txt lists the breeds {classes}, but test.txt {test_classes}")

    def part(name: str, indices: Sequence[int]) -> ImageSplit:
        return _split([paths[i] for i in indices], [labels[i] for i in indices], classes, base, name)

    train_rows, val_rows = split_indices(labels, (1 - val, val), seed=seed)
    test = _split(test_paths, test_labels, classes, base, "test")
    return ImageData("oxford_pets", part("train", train_rows), part("val", val_rows), test, PETS_CARD)


def _fetched(url: str, name: str, files: dict[str, tuple[str, int]], folder: Path) -> Path:
    md5, size = files[name]
    return fetch(url + name, md5=md5, folder=folder, size_hint=size)


def _fetched_folder(url: str, name: str, files: dict[str, tuple[str, int]], base: Path, folder: str) -> None:
    """See to it that `base / folder` is there, from the archive `name`, which is kept beside it."""
    unpack(_fetched(url, name, files, base), base / folder, top=folder, max_bytes=3 * files[name][1])


def _listed_pets(base: Path, name: str) -> tuple[list[Path], list[int], list[str]]:
    """The images that `annotations/<name>.txt` lists, their labels, and the breeds in the order of labels."""
    paths, labels, breeds = [], [], {}
    path = base / "annotations" / f"{name}.txt"
    if not path.is_file():
        raise DataError(f"{path} is missing: it lists the images of this part")
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 4 or not fields[1].isdigit():
            raise DataError(f"{path}, line {number}: expected 'Breed_number class species breed', found {line!r}")
        paths.append(base / "images" / f"{fields[0]}.jpg")
        labels.append(int(fields[1]) - 1)
        breeds[labels[-1]] = fields[0].rpartition("_")[0].replace("_", " ").title()
    if sorted(breeds) != list(range(len(breeds))):
        raise DataError(f"{path}: the classes should be numbered 1, 2, ... without gaps; found {sorted(breeds)}")
    return paths, labels, [breeds[label] for label in range(len(breeds))]


def _split(paths: Sequence[Path], labels: Sequence[int], classes: Sequence[str], base: Path, name: str) -> ImageSplit:
    missing = [path for path in paths if not path.is_file() or path.stat().st_size == 0]
    if missing:
        raise DataError(f"{base}: {len(missing)} of {len(paths)} images are missing or empty, {missing[0]} for one")
    keys = [path.relative_to(base).as_posix() for path in paths]
    return ImageSplit(FileImages(tuple(paths)), labels, classes, keys=keys, name=name)
