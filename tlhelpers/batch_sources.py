"""Where the batches of a run come from: files, decoded pixels or cached activations, whichever costs least.

    augment       images                                   the frozen prefix
    False         decoded once, as bytes on the device     runs once over every image
    True          decoded once, cropped on the device      runs in every step, or with cache=K once over K crops of each
    a function    read and transformed in every epoch      runs in every step, or with cache=K once over K views of each

Validation images are never augmented, so the frozen prefix runs over them once in any case. Images that would take too
much memory are read again in every epoch, by worker processes.
"""

import contextlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tlhelpers.batch_checks import check_split, checked_batches
from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.errors import TrainingError
from tlhelpers.frozen_prefix import split_at_frozen_prefix
from tlhelpers.image_source import ImageSource, cache_activations
from tlhelpers.models.families import unwrapped
from tlhelpers.options import FitOptions
from tlhelpers.pixel_batches import Order


@dataclass
class BatchSources:
    """The training and validation batches of a run, and the network that each of them is fed to."""

    train: Any  # batches of (images or activations, labels)
    val: Any
    network: nn.Module  # takes the batches of `train`: the whole network, or what follows the frozen prefix
    val_network: nn.Module  # takes the batches of `val`
    augmentation: str = "your own batches"  # how images are augmented, for a checkpoint to compare
    checksum: int = 0  # of the images' names and labels, for the same
    notes: list[str] = field(default_factory=list)  # sentences that say what was done


def own_batches(model: nn.Module, batches: Mapping[str, Any]) -> BatchSources:
    """Your own batches, fed to the whole network; a TrainingError if "train" or "val" is missing, empty or wrong."""
    for split in ("train", "val"):
        size = 0
        with contextlib.suppress(KeyError, TypeError):  # a loader of an IterableDataset has no length
            size = len(batches[split])
        if not size:
            raise TrainingError(f"'{split}' has no batch; expected sized batches for the keys 'train' and 'val'")
    return BatchSources(*checked_batches(model, batches["train"], batches["val"]), model, model)


def choose_sources(
    model: nn.Module, data: Any, options: FitOptions, precision: torch.dtype, *, validates: bool = True
) -> BatchSources:
    """Choose where batches come from and what of the network runs in every step; `val` only if it `validates`."""
    if not isinstance(data, ImageData):
        if callable(options.augment) or options.views is not None:
            raise TrainingError("augment= and cache= do not apply to batches of your own, which come as they are")
        sources = own_batches(model, data)
        if options.batch_size != FitOptions.batch_size:
            sources.notes.append("Your own batches came as they are; batch_size was not used.")
        return sources
    augment, views = options.augment, options.views
    train, val = ImageSource(model, data.train, augment, options.seed), ImageSource(model, data.val)
    train_order = Order(len(data.train), options.batch_size, options.seed)
    val_order = Order(len(data.val), 2 * options.batch_size)
    kind = "a function" if callable(augment) else "True, from files" if augment and not train.num_bytes else augment
    megabytes, note = (train.num_bytes + val.num_bytes) / 1e6, f"{len(data.train):,} + {len(data.val):,} images"
    if train.num_bytes:
        notes = [f"{note} were decoded once and kept ({megabytes:,.1f} MB)." if val.num_bytes else f"{note}."]
    else:
        notes = [f"{note}; those for training were read again in every epoch."]
    checksum = zlib.crc32(repr([(split.keys, split.labels.tolist()) for split in (data.train, data.val)]).encode())
    sources = BatchSources(None, None, model, model, f"augment={kind}, views={views}", checksum, notes)
    split = split_at_frozen_prefix(unwrapped(model)) if options.cache else None
    if split is not None:
        same_images = augment is False or views is not None
        if same_images and options.epochs > (views or 1):
            sources.train = cache_activations(split.frozen, train, train_order, precision, views or 1)
        if sources.train is not None:
            sources.network = split.trainable
            over = "every image" if views is None else f"{views} augmented views of every image"
            notes.append(f"The frozen prefix, up to '{split.boundary}', ran once, over {over}.")
        elif not same_images:
            note = f"The frozen prefix, up to '{split.boundary}', ran in every step, on new augmented images."
            notes.append(f"{note} cache=4, say, keeps its activations for four views of each image.")
        if options.epochs > 1 and validates:
            sources.val = cache_activations(split.frozen, val, val_order, precision)
            sources.val_network = model if sources.val is None else split.trainable
    sources.train = sources.train or train.batches(train_order)
    sources.val = sources.val or (val.batches(val_order) if validates else None)
    return sources


def scoring_batches(model: nn.Module, split: ImageSplit, batch_size: int) -> Any:
    """Batches of a split in natural order, without augmentation."""
    check_split(split)
    return ImageSource(model, split).batches(Order(len(split), batch_size))
