"""Images decoded once, as bytes in one tensor, so that no epoch waits for files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import torch
from PIL import Image

from tlhelpers.data.dataset import ImageSplit
from tlhelpers.data.folder import FolderImages
from tlhelpers.models.preprocessing import Preprocessing
from tlhelpers.progress import tqdm

SPARE = 1.25  # images to crop from are kept this many times larger than the crops


@dataclass(frozen=True)
class Pixels:
    """The images of a split.

    Attributes:
        bytes: uint8 (images, 3, side, side), on the CPU.
        aspects: float32 (images,), width / height before they were made square.
    """

    bytes: torch.Tensor
    aspects: torch.Tensor


_kept: WeakKeyDictionary[ImageSplit, dict[tuple[bool, int, int, str], Pixels]] = WeakKeyDictionary()


def size_in_bytes(split: ImageSplit, look: Preprocessing, *, whole: bool) -> int:
    """How much memory `decode` would take."""
    return 3 * len(split) * _side(look, whole) ** 2


def pixel_limit(device: torch.device) -> int:
    """Bytes of decoded images of one split that are kept: a quarter of the free memory, on a CPU at most 1 GiB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return min(psutil.virtual_memory().available // 4, 2**30)


def decode(split: ImageSplit, look: Preprocessing, *, whole: bool) -> Pixels:
    """Decode every image of a split, once in the life of the split.

    Args:
        split: its transform is not applied.
        look: gives size and interpolation.
        whole: True keeps the whole image, squeezed to a square somewhat larger than `look.size`, to take random crops
            from. False does what `look.evaluation()` does before it normalises.

    Raises:
        DataError: naming a file that cannot be read, or has changed since it was scanned.
    """
    key = whole, look.size, look.resize, look.interpolation
    kept = _kept.setdefault(split, {})
    if key not in kept:
        kept[key] = _decode(split, look, whole)
    return kept[key]


def _decode(split: ImageSplit, look: Preprocessing, whole: bool) -> Pixels:
    from torchvision.transforms import v2

    side = _side(look, whole)
    pixels = torch.empty(len(split), 3, side, side, dtype=torch.uint8)
    aspects = torch.ones(len(split))
    mode = v2.InterpolationMode(look.interpolation)
    shape = v2.Resize((side, side), mode) if whole else v2.Compose([v2.Resize(look.resize, mode), v2.CenterCrop(side)])
    needed = side if whole else look.resize

    def one(index: int) -> None:
        image = _image(split, index, needed)
        aspects[index] = image.width / image.height
        pixels[index] = torch.from_numpy(np.asarray(shape(image)).copy()).permute(2, 0, 1)

    # Pillow lets go of Python's lock while it decodes, so threads help; what draws its images may not be up to it.
    threads = min(8, os.cpu_count() or 1) if isinstance(split.load, FolderImages) else 1
    with ThreadPoolExecutor(threads) as pool:
        todo = pool.map(one, range(len(split)))
        try:
            for _ in tqdm(todo, total=len(split), desc=f"decode {split.name}", unit="image", leave=False, delay=1):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Pixels(pixels, aspects)


def _image(split: ImageSplit, index: int, needed: int) -> Image.Image:
    if isinstance(split.load, FolderImages):
        return split.load(split.rows[index], needed)
    return split.image(index)


def _side(look: Preprocessing, whole: bool) -> int:
    return round(SPARE * look.size) if whole else look.size
