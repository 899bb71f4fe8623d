"""What `fit` feeds to a network: images or activations, from memory, disk or files, whichever costs least.

    augment       images                                 the frozen part
    False         decoded once, as bytes on the device     runs once over every image
    True          decoded once, cropped on the device      runs in every step; with `views=K` once over K crops of each
    a function    read and transformed again every epoch   runs in every step; with `views=K` once over K views of each

Validation images are never augmented, so that the frozen part runs over them once in any case. Images that would
take too much memory are read again every epoch, by worker processes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from tlhelpers import distributed
from tlhelpers.activation_cache import MEMORY_LIMIT, ActivationBatches, compute_activations, key_of, read_activations
from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.decoded_pixels import decode, pixel_limit, size_in_bytes
from tlhelpers.errors import DataError, TrainingError
from tlhelpers.frozen_prefix import Halves, split_at_boundary
from tlhelpers.loop import autocast, device_of, on_device
from tlhelpers.models.cards import get_card
from tlhelpers.models.modes import evaluation_mode
from tlhelpers.pixel_batches import SMALLEST_CROP, Order, PixelBatches

Augment = bool | Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class Wish:
    """What `fit` was asked for; its docstring says what each means. `mixes`: images are mixed with each other."""

    epochs: int
    batch_size: int
    augment: Augment = True
    views: int | None = None
    cache: bool | str | Path = True
    workers: int | None = None
    seed: int = 0
    mixes: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.views is not None and self.views < 1):
            raise TrainingError(f"batch_size={self.batch_size} and views={self.views} must be at least 1")
        if self.views is not None and self.augment is False:
            raise TrainingError(f"views={self.views} asks for augmented views, and augment=False for none")


@dataclass
class Inputs:
    """What training reads.

    Attributes:
        train, val: batches of (images or activations, labels).
        network: what takes those of `train`: the whole network, or what lies above the freeze boundary.
        scored: what takes those of `val`.
        seen: how images are augmented, for a checkpoint to compare.
        notes: sentences that say what was done.
        kept: folders of this run alone, to be removed at its end.
    """

    train: Any
    val: Any
    network: nn.Module
    scored: nn.Module
    seen: str = "batches of one's own"
    notes: list[str] = field(default_factory=list)
    kept: list[TemporaryDirectory[str]] = field(default_factory=list)

    def close(self) -> None:
        """Remove what was kept on disk for this run alone."""
        self.train = self.val = None  # Windows keeps a file that is mapped
        for folder in self.kept:
            folder.cleanup()


def prepare(model: nn.Module, data: ImageData, wish: Wish, precision: torch.dtype, *, validates: bool = True) -> Inputs:
    """Choose where images come from, and which part of the network must run in every step.

    Without `validates` nothing is computed for the validation set in advance.
    """
    train = _Images(model, data.train, wish, training=True)
    val = _Images(model, data.val, wish, training=False)
    share = distributed.rank(), distributed.world()
    orders = (
        Order(len(data.train), wish.batch_size, wish.seed, share),
        Order(len(data.val), 2 * wish.batch_size, share=share),
    )
    kind = "a function" if callable(wish.augment) else wish.augment
    inputs = Inputs(None, None, model, model, f"augment={kind}, views={wish.views}", [_where_from(train, val)])
    halves = split_at_boundary(model) if wish.cache is not False else None
    views = wish.views or 1
    repeats = (wish.augment is False or wish.views is not None) and not wish.mixes and wish.epochs > views
    if halves is not None and repeats:
        inputs.train = _activations(inputs, halves, train, orders[0], precision, views)
        if inputs.train is not None:
            inputs.network = halves.upper
            inputs.notes.append(_what_ran_once(halves, wish))
    elif halves is not None and wish.augment is not False and wish.views is None:
        inputs.notes.append(
            f"The frozen part, up to '{halves.boundary}', ran in every step, since augmentation shows it new images "
            "each time; views=4, say, keeps what it makes of four views of each image."
        )
    if halves is not None and wish.epochs > 1 and validates:
        inputs.val = _activations(inputs, halves, val, orders[1], precision)
        inputs.scored = model if inputs.val is None else halves.upper
    inputs.train = inputs.train or train.batches(orders[0])
    inputs.val = inputs.val or val.batches(orders[1])
    return inputs


def scoring_batches(model: nn.Module, split: ImageSplit, batch_size: int, workers: int | None = None) -> Any:
    """Batches of a split in natural order, seen without augmentation."""
    wish = Wish(epochs=1, batch_size=batch_size, workers=workers)
    return _Images(model, split, wish, training=False).batches(Order(len(split), batch_size))


class StreamBatches:
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
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        loader: DataLoader[Any] = DataLoader(
            self.split,
            batch_sampler=_Lists(self.order),
            num_workers=self.workers,
            generator=generator,
            pin_memory=self.pinned,
        )
        try:
            yield from loader
        except DataError as error:
            said = str(error).strip().splitlines()[-1]  # from a worker it comes with the worker's whole traceback
            raise DataError(said.partition("Error: ")[2] if self.workers else str(error)) from error


class _Lists:
    """The batches of an order as lists of numbers, as `DataLoader` wants them."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[list[int]]:
        return (chosen.tolist() for chosen in self.order)


class _Images:
    """The images of a split, as this training sees them."""

    def __init__(self, model: nn.Module, split: ImageSplit, wish: Wish, *, training: bool) -> None:
        self.split, self.wish = split, wish
        self.device = device_of(model)
        given = (wish.augment if callable(wish.augment) else None) if training else split.transform
        self.whole = training and wish.augment is True
        self.look = get_card(model).preprocessing if given is None else None
        if self.look is not None and size_in_bytes(split, self.look, whole=self.whole) > pixel_limit(self.device):
            given = self.look.training(self.whole)
            self.workers = min(4, max((os.cpu_count() or 1) - 1, 1)) if wish.workers is None else wish.workers
        else:
            self.workers = wish.workers or 0
        self.transform = given

    def batches(self, order: Order) -> PixelBatches | StreamBatches:
        """Batches in this order."""
        if self.transform is not None or self.look is None:
            split, pinned = self.split.with_transform(self.transform), self.device.type == "cuda"
            return StreamBatches(split, order, workers=self.workers, seed=self.wish.seed, pinned=pinned)
        pixels = decode(self.split, self.look, whole=self.whole)
        return PixelBatches(
            pixels.bytes.to(self.device),
            self.split.labels.to(self.device),
            self.look,
            order,
            crop=SMALLEST_CROP if self.whole else None,
            aspects=pixels.aspects,
            sizes=self.look.size,
            seed=self.wish.seed,
        )

    def content(self) -> list[Any]:
        """What decides the images, for a key."""
        if self.transform is not None or self.look is None:
            raise TrainingError(
                f"cache='{self.wish.cache}' keeps activations for later runs, which needs images whose bytes can be "
                "compared: augment=True or False, no transform on the validation set, and images that fit into "
                "memory. Take cache=True"
            )
        pixels = decode(self.split, self.look, whole=self.whole)
        return [pixels.bytes, pixels.aspects, repr(self.look), self.whole, self.wish.seed if self.whole else 0]

    @property
    def size(self) -> int:
        """Bytes of the decoded images; 0 if they are not kept."""
        kept = self.transform is None and self.look is not None
        return size_in_bytes(self.split, self.look, whole=self.whole) if kept and self.look is not None else 0


def _where_from(train: _Images, val: _Images) -> str:
    count = f"{len(train.split):,} + {len(val.split):,} images"
    if train.size and val.size:
        return f"{count} were decoded once and kept ({_megabytes(train.size + val.size)})."
    return f"{count}; those for training were read again every epoch." if not train.size else count + "."


def _what_ran_once(halves: Halves, wish: Wish) -> str:
    shown = "every image" if wish.views is None else f"{wish.views} augmented views of every image"
    return (
        f"Nothing up to '{halves.boundary}' trains, so that part ran once, over {shown}; the rest ran in every epoch."
    )


def _activations(
    inputs: Inputs, halves: Halves, images: _Images, order: Order, precision: torch.dtype, views: int = 1
) -> Any:
    """Activations of a split, found on disk, or computed now and kept in memory or on disk; None without room."""
    split, cache = images.split, images.wish.cache
    natural = images.batches(Order(len(split), order.batch_size))
    entry = None
    if not isinstance(cache, bool):
        entry = Path(cache), key_of(halves.lower, precision, *images.content(), views)
        found = read_activations(*entry, split.labels)
        if found is not None:
            inputs.notes.append(f"The activations of '{split.name}' were found in {cache}.")
            return ActivationBatches(found, order)
    elif (size := views * len(split) * _bytes_each(halves.lower, natural, precision)) > MEMORY_LIMIT:
        if size > shutil.disk_usage(gettempdir()).free / 2:
            inputs.notes.append(f"Activations of '{split.name}' would take {_megabytes(size)}, too much to be kept.")
            return None
        folder = TemporaryDirectory(prefix="tlhelpers-", ignore_cleanup_errors=True)
        inputs.kept.append(folder)
        entry = Path(folder.name), split.name
        inputs.notes.append(f"The activations of '{split.name}' ({_megabytes(size)}) were on disk while it ran.")
    kept = compute_activations(halves.lower, natural, split.labels, views, precision=precision, entry=entry)
    return ActivationBatches(kept, order)


def _bytes_each(lower: nn.Module, batches: Any, precision: torch.dtype) -> int:
    """Size of one image's activations, found by trying one image."""
    device = device_of(lower)
    images = next(iter(batches))[0][:1]
    with evaluation_mode(lower), torch.no_grad(), autocast(device, precision):
        values = lower(on_device(images, device))
    return values.numel() * values.element_size()


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"
