"""The images of a split, as a training run sees them: decoded once and kept, or read again in every epoch."""

import os
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from tlhelpers.data.dataset import ImageSplit
from tlhelpers.data.folder import FolderImages
from tlhelpers.errors import DataError
from tlhelpers.loop import device_of
from tlhelpers.models.cards import get_card
from tlhelpers.models.preprocessing import Preprocessing
from tlhelpers.options import Augment
from tlhelpers.pixel_batches import SMALLEST_CROP, Order, PixelBatches
from tlhelpers.progress import in_threads

SPARE = 1.25  # images to crop at random are kept with a side this many times the crop's

Pixels = tuple[torch.Tensor, torch.Tensor]  # uint8 (images, 3, side, side); width / height (images,) of the originals
_decoded: WeakKeyDictionary[ImageSplit, dict[tuple[int, str], Pixels]] = WeakKeyDictionary()


class ImageSource:
    """Batches of a split's images, prepared by `augment`, the split's transform or the model's card, in this order."""

    def __init__(self, model: nn.Module, split: ImageSplit, augment: Augment = False, seed: int = 0) -> None:
        self.split, self.seed, self.device, self.crops = split, seed, device_of(model), augment is True
        self.transform = augment if callable(augment) else None if self.crops else split.transform
        self.workers = split.workers or 0
        self.num_bytes = 0  # of the decoded images; 0 if they are not kept
        if self.transform is None:
            self.preprocessing = get_card(model).preprocessing
            self.side = round(SPARE * self.preprocessing.size) if self.crops else self.preprocessing.size
            self.num_bytes = 3 * len(split) * self.side**2
            if self.num_bytes > memory_limit(self.device):
                self.num_bytes, self.transform = 0, self.preprocessing.training(self.crops)
                self.workers = min(4, max((os.cpu_count() or 1) - 1, 1)) if split.workers is None else split.workers

    def batches(self, order: Order) -> "PixelBatches | FileBatches":
        """Batches in this order."""
        if self.transform is not None:
            split, pinned = self.split.with_transform(self.transform), self.device.type == "cuda"
            return FileBatches(split, order, workers=self.workers, seed=self.seed, pinned=pinned)
        pixels, aspects = decode(self.split, self.preprocessing, self.side if self.crops else None)
        return PixelBatches(
            pixels.to(self.device),
            self.split.labels.to(self.device),
            self.preprocessing,
            order,
            crop=SMALLEST_CROP if self.crops else None,
            aspects=aspects,
            sizes=self.preprocessing.size,
            seed=self.seed,
        )


def memory_limit(device: torch.device) -> int:
    """Bytes that images or activations of a split may take: a quarter of the free memory, on a CPU at most 1 GiB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return min(psutil.virtual_memory().available // 4, 2**30)


def decode(split: ImageSplit, preprocessing: Preprocessing, whole: int | None = None) -> Pixels:
    """Decode every image of a split, once in the life of the split; a DataError names a file that cannot be read.

    What `preprocessing.evaluation()` does before it normalises is done here. With `whole`, the whole image is squeezed
    to a square of this side instead, to take random crops from.
    """
    known, key = _decoded.setdefault(split, {}), (whole or 0, repr(preprocessing))
    if key in known:
        return known[key]
    side, mode = whole or preprocessing.size, v2.InterpolationMode(preprocessing.interpolation)
    needed = whole or preprocessing.resize
    resize = v2.Resize((side, side), mode) if whole else v2.Compose([v2.Resize(needed, mode), v2.CenterCrop(side)])
    pixels, aspects = torch.empty(len(split), 3, side, side, dtype=torch.uint8), torch.ones(len(split))
    load: Any = split.load
    from_files = isinstance(load, FolderImages)

    def one(index: int) -> None:
        image = load(split.rows[index], needed) if from_files else split.image(index)
        aspects[index] = image.width / image.height
        pixels[index] = torch.from_numpy(np.asarray(resize(image)).copy()).permute(2, 0, 1)

    threads = min(8, os.cpu_count() or 1) if from_files else 1  # any other `load` may not be thread-safe
    in_threads(one, range(len(split)), threads, desc=f"decode {split.name}", unit="image", delay=1)
    known[key] = pixels, aspects
    return known[key]


class FileBatches:
    """Batches of images that are read and transformed when they are asked for, by a `DataLoader`."""

    def __init__(self, split: ImageSplit, order: Order, *, workers: int, seed: int, pinned: bool) -> None:
        self.split, self.order, self.workers, self.seed, self.epoch = split, order, workers, seed, 1
        self.batch_size, self.generator, self.pinned = order.batch_size, order.generator, pinned

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """What follows is epoch number `epoch`, from 1: the workers' random numbers begin from it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        order: Any = self.order  # it gives index tensors, where the type hints ask for lists
        loader: DataLoader[Any] = DataLoader(
            self.split,
            batch_sampler=order,
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(self.seed * 100_003 + self.epoch),
            pin_memory=self.pinned,
        )
        try:
            yield from loader
        except DataError as error:
            last = str(error).strip().splitlines()[-1]  # from a worker it comes with the worker's whole traceback
            raise DataError(last.partition("Error: ")[2] if self.workers else str(error)) from error
