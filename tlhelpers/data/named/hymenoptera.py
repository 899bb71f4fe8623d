"""Ants and bees: the small data set of PyTorch's own transfer-learning tutorial."""

from __future__ import annotations

import os

from tlhelpers.data.archives import unpack
from tlhelpers.data.dataset import DataCard, ImageData
from tlhelpers.data.download import cache_folder, fetch

URL = "https://download.pytorch.org/tutorial/hymenoptera_data.zip"
SHA256 = "fbc41b31d544714d18dd1230b1e2b455e1557766e13e67f9f5a7a23af7c02209"
NUM_BYTES = 47_286_322

CARD = DataCard(
    name="hymenoptera",
    summary="photographs of ants and bees: 244 for training, 153 for validation, no test set",
    source="https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html, a small part of ImageNet",
    licence="none given; research and teaching",
    is_not=(
        "a benchmark: 153 images cannot tell 93 % from 96 %, ImageNet networks may have seen them, and with no "
        "test set any choice made on the validation set flatters the result"
    ),
)


def load_hymenoptera(*, root: str | os.PathLike[str] | None = None, verbose: bool = True) -> ImageData:
    """Ants and bees, downloaded once (47 MB); `test` is None, since the set has no such part.

    Args:
        root: a folder with `train` and `val` that is there already; None downloads to `cache_folder()`.
        verbose: whether to print what the scan of the images found. The set has files that are no photographs.

    Raises:
        DownloadError: if the download fails, or is needed in the `quick` profile.
        DataError: if `root` is no such folder.
    """
    from tlhelpers.data.folder import load_folder

    if root is None:
        archive = fetch(URL, sha256=SHA256, folder=cache_folder() / "downloads", size_hint=NUM_BYTES)
        root = unpack(archive, cache_folder() / "hymenoptera_data", top="hymenoptera_data", max_bytes=150_000_000)
    return load_folder(root, name="hymenoptera", card=CARD, verbose=verbose)
