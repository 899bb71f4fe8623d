"""Training: `fit`, `train_model` as older tutorials write it, and gradual unfreezing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from tlhelpers.batch_sources import BatchSources, choose_sources
from tlhelpers.checkpoints import CheckpointFolder
from tlhelpers.data.dataset import ImageData
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.evaluation import check_fits
from tlhelpers.loop import place
from tlhelpers.models.freezing import freeze, param_groups, unfreeze
from tlhelpers.options import (
    Augment,
    Checkpoint,
    Epochs,
    FitOptions,
    StepOptions,
    build_optimizer,
    build_scheduler,
)
from tlhelpers.trainer import Run, Trainer, history_table


def fit(
    model: nn.Module,
    data: ImageData | Mapping[str, Any],
    *,
    epochs: int | Epochs = 5,
    lr: float | dict[str, float] = 1e-3,
    batch_size: int = 32,
    augment: Augment = True,
    step: StepOptions = StepOptions(),  # noqa: B008 (it cannot change)
    seed: int = 0,
    cache: bool | int = True,
    checkpoint: str | Path | Checkpoint | None = None,
) -> Run:
    """Train what is trainable of `model` on `data.train`, and validate on `data.val` after each epoch.

    It runs on the profile's device and in its precision, and never touches the test set. Ctrl-C ends training early
    and keeps what was reached. The frozen prefix of the network runs once instead of in every epoch, wherever that
    gives the same result; `Run.notes` says what was done.

    Args:
        model: a network from `load_model`, its head as wide as the data has classes; changed in place.
        data: from `load_data`; or batches of your own, {"train": ..., "val": ...}, each a `DataLoader` or another sized
            iterable of (images, labels), for which `augment`, `batch_size` and `cache` are not used. A method
            `set_epoch` is called with the number of each epoch, from 1.
        epochs: passes over the training set; `Epochs` also says when to stop and which epoch to keep.
        lr: learning rate, or one for each trainable block by name ({"layer4": 1e-4, "head": 1e-3}).
        batch_size: images in a step.
        augment: True for random crops and flips, False for none, or a transform of your own from an RGB PIL image to a
            normalised tensor (3, size, size), called for every image in every epoch.
        step: optimizer, schedule, loss, gradient accumulation and the like: see `StepOptions`.
        seed: of shuffling, augmentation and dropout. The same seed gives the same weights on the same machine; a GPU's
            own libraries may differ in the last digits. Global generators are left as they were.
        cache: True computes what is frozen once, where that changes nothing; False runs the whole network in every
            step. A number K also runs the frozen prefix once over K augmented views of each image, which the epochs
            show in turn.
        checkpoint: a folder that after every epoch holds all that is needed to go on; `Checkpoint` says whether to.

    Raises:
        CheckpointError: if what `checkpoint` holds is damaged, belongs to other settings or is in use, or cannot be
            written.
        DataError: naming an image that can no longer be read.
        TrainingError: if nothing is trainable, the head does not fit, the loss stops being finite, or memory runs out.
    """
    epochs = Epochs(epochs) if isinstance(epochs, int) else epochs
    checkpoint = Checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
    options = FitOptions(epochs, batch_size, augment, step, seed, cache)
    profile = current_profile()
    groups = trainable_groups(model, data, lr, profile.device)
    optimizer = build_optimizer(step.optimizer, groups, profile.device)
    with seeded(seed, profile.device):
        try:
            sources = sources_of(model, data, options, profile.dtype)
        except KeyboardInterrupt:
            return Run(model.eval(), history_table([]), stopped="Interrupted by hand before the first epoch.")
        criterion = step.loss if step.loss is not None else nn.CrossEntropyLoss()
        scheduler = build_scheduler(step.schedule, optimizer, epochs.count, len(sources.train))
        trainer = Trainer(model, sources, criterion, optimizer, scheduler, profile.dtype, step)
        settings = {"seed": seed, "epochs": epochs.count, "keep": epochs.keep}
        settings |= {"batches": len(sources.train), "images": sources.augmentation}
        return trainer.run(epochs, CheckpointFolder(checkpoint, settings) if checkpoint else None)


def train_model(
    model: nn.Module,
    dataloaders: Mapping[str, DataLoader[Any]],
    criterion: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    num_epochs: int = 25,
) -> nn.Module:
    """Train as older tutorials do, from parts that you build by hand, in fp32 on the model's own device.

    Args:
        model: any classifier; changed in place, and returned with the weights of its best epoch on "val".
        dataloaders: "train" and "val".
        criterion: from (logits, labels) to a mean.
        optimizer: over the parameters that are to train.
        scheduler: steps after each epoch, a `OneCycleLR` after each batch.
        num_epochs: passes over `dataloaders["train"]`; `model.history` is the table that `Run.history` describes.

    Raises:
        TrainingError: if a loader is missing or empty, or the loss stops being finite.
    """
    epochs = Epochs(num_epochs)
    run = Trainer(model, _own_batches(dataloaders, model), criterion, optimizer, scheduler).run(epochs)
    model.history = run.history  # type: ignore[assignment]
    return model


def fit_in_stages(
    model: nn.Module,
    data: ImageData | Mapping[str, Any],
    *,
    stages: Sequence[int] = (0, 1, 2),
    epochs: int | Sequence[int] = 1,
    lr: float = 1e-3,
    factor: float = 1 / 2.6,
    keep: str = "best",
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Run:
    """Gradual unfreezing (Howard and Ruder 2018): train the head, then the last block too, then one more, and so on.

    Args:
        model: a network of a known family; it is frozen first.
        data: as in `fit`.
        stages: how many of the last blocks train in each stage.
        epochs: of each stage.
        lr: the head's learning rate.
        factor: each block's learning rate is that of the block after it times this.
        keep: the epoch of each stage whose weights are kept, "best" or "last".
        checkpoint: a folder; each stage has one of its own in it.
        options: passed on to `fit`.

    Each stage begins with the weights that the one before kept. The history has a column `stage`; best and kept epoch
    are the last stage's.
    """
    import pandas as pd

    counts = [epochs] * len(stages) if isinstance(epochs, int) else list(epochs)
    if len(counts) != len(stages) or not stages:
        raise TrainingError(f"{len(stages)} stages, but epochs for {len(counts)}")
    freeze(model)
    tables, done = [], 0
    for number, (last, count) in enumerate(zip(stages, counts, strict=True), start=1):
        unfreeze(model, last=last)
        rates = {str(group["name"]): float(group["lr"]) for group in param_groups(model, lr, factor=factor)}
        folder = None if checkpoint is None else Path(checkpoint) / f"stage{number}"
        run = fit(model, data, epochs=Epochs(count, keep=keep), lr=rates, checkpoint=folder, **options)
        tables.append(run.history.assign(stage=number).set_index(run.history.index + done))
        done += len(run.history)
        if run.stopped.startswith("Interrupted"):
            break
    before = done - len(run.history)
    best, kept = (epoch + before if epoch else 0 for epoch in (run.best_epoch, run.kept_epoch))
    return Run(model, pd.concat(tables), best, kept, run.stopped, run.notes)


def trainable_groups(
    model: nn.Module, data: ImageData | Mapping[str, Any], lr: float | dict[str, float], device: torch.device
) -> list[dict[str, Any]]:
    """Parameter groups of what trains in a model that fits the data, moved to `device`."""
    if isinstance(data, ImageData):
        check_fits(model, data.train)
    place(model, device)
    groups = param_groups(model, lr)
    if not groups:
        raise TrainingError("nothing to train: every parameter is frozen. Call tl.unfreeze(model, last=0) for the head")
    return groups


def sources_of(
    model: nn.Module, data: ImageData | Mapping[str, Any], options: FitOptions, precision: torch.dtype, **more: bool
) -> BatchSources:
    """The batches of a data set, or the reader's own."""
    if isinstance(data, ImageData):
        return choose_sources(model, data, options, precision, **more)
    return _own_batches(data, model)


def _own_batches(batches: Mapping[str, Any], model: nn.Module) -> BatchSources:
    missing = {"train", "val"} - set(batches)
    if missing:
        raise TrainingError(f"the batches lack {sorted(missing)}; expected the keys 'train' and 'val'")
    for split in ("train", "val"):
        if len(batches[split]) == 0:
            raise TrainingError(f"the loader of '{split}' has no batch")
    return BatchSources(batches["train"], batches["val"], model, model)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators; restore them on exit."""
    kind = device.type if device.type != "cpu" else "cuda"
    devices = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(devices=devices, device_type=kind):
        torch.manual_seed(seed)
        yield
