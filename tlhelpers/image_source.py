"""What a run feeds on: images, decoded once or read again in every epoch, or activations of the frozen prefix."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from tlhelpers.batch_checks import PreparedImages, collate_images, read_batches
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.data.folder import FolderImages
from tlhelpers.loop import autocast, device_of, explained, to_device
from tlhelpers.models.cards import Preprocessing, get_card
from tlhelpers.models.freezing import evaluation_mode
from tlhelpers.options import Augment
from tlhelpers.pixel_batches import SMALLEST_CROP, EpochBatches, Order, PixelBatches, batches_on
from tlhelpers.progress import in_threads, tqdm

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
            images = PreparedImages(self.split, self.transform)
            return FileBatches(images, order, self.workers, self.seed, pinned=self.device.type == "cuda")
        pixels, aspects = decode(self.split, self.preprocessing, self.side if self.crops else None)
        pixels, labels = pixels.to(self.device), self.split.labels.to(self.device)
        options: Any = {"crop": SMALLEST_CROP if self.crops else None, "sizes": self.preprocessing.size}
        return PixelBatches(pixels, labels, self.preprocessing, order, aspects=aspects, seed=self.seed, **options)


def memory_limit(device: torch.device) -> int:
    """Bytes that images or activations of a split may take: a quarter of the free memory, on a CPU at most 1 GiB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return min(psutil.virtual_memory().available // 4, 2**30)


def decode(split: ImageSplit, preprocessing: Preprocessing, whole: int | None = None) -> Pixels:
    """Decode every image of a split, once in its life, and do what `preprocessing.evaluation()` does but normalise.

    With `whole`, the whole image is squeezed to a square of this side instead, for random crops. DataError: a bad file.
    """
    known, key = _decoded.setdefault(split, {}), (whole or 0, repr(preprocessing))
    if key in known:
        return known[key]
    side, needed = whole or preprocessing.size, whole or preprocessing.resize
    mode = v2.InterpolationMode(preprocessing.interpolation)
    resize = v2.Resize((side, side), mode) if whole else v2.Compose(preprocessing.centre())
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


@dataclass(eq=False)
class FileBatches(EpochBatches):
    """Batches of images that are read and transformed when they are asked for, by a `DataLoader`."""

    images: PreparedImages
    order: Any  # an `Order`: it gives index tensors, where a DataLoader's type hints ask for lists
    workers: int
    seed: int  # the workers' random numbers begin from it and the epoch
    pinned: bool  # in memory from which a GPU can copy by itself

    def __iter__(self) -> Iterator[Any]:
        random = torch.Generator().manual_seed((self.seed * 100_003 + self.epoch) % 2**63)
        options: Any = {"batch_sampler": self.order, "num_workers": self.workers, "pin_memory": self.pinned}
        loader: DataLoader[Any] = DataLoader(self.images, collate_fn=collate_images, generator=random, **options)
        yield from read_batches(loader, self.workers, f"the images of '{self.images.split.name}'")


@dataclass(eq=False)
class ActivationBatches(EpochBatches):
    """Batches of (activations, labels)."""

    values: torch.Tensor  # (views * images, features), or (views * images, height, width, channels)
    labels: torch.Tensor  # (images,), on the same device
    order: Order

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        first = (self.epoch - 1) * len(self.labels) % len(self.values)  # each epoch shows the next view
        for chosen in batches_on(self.values.device, self.order):
            values = self.values[first + chosen]
            yield (values.permute(0, 3, 1, 2) if values.ndim == 4 else values), self.labels[chosen]


def cache_activations(
    prefix: nn.Module, images: ImageSource, order: Order, precision: torch.dtype, views: int = 1
) -> ActivationBatches | None:
    """Run the frozen prefix over every image, `views` times; None if its outputs exceed `memory_limit`."""
    device, labels = device_of(prefix), images.split.labels
    batches = images.batches(Order(len(labels), order.batch_size))
    values, written = torch.empty(0), 0
    bar = tqdm(total=views * len(batches), desc="frozen prefix", unit="batch", leave=False, delay=1)
    with bar, explained(order), evaluation_mode(prefix), torch.no_grad(), autocast(device, precision):
        for view in range(1, views + 1):
            for pixels, _ in batches.set_epoch(view):
                found = prefix(to_device(pixels, device))
                found = found.permute(0, 2, 3, 1) if found.ndim == 4 else found
                if not written:
                    if views * len(labels) * found[0].nbytes > memory_limit(device):
                        return None
                    values = found.new_empty(views * len(labels), *found.shape[1:])
                values[written : written + len(found)] = found
                written += len(found)
                bar.update()
    return ActivationBatches(values, labels.to(values.device), order)
