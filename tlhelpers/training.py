"""Training: `fit`, and `train_model` as older tutorials write it."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from tlhelpers.batch_sources import choose_sources, own_batches
from tlhelpers.checkpoints import CheckpointFolder
from tlhelpers.data.dataset import ImageData
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.evaluation import check_fits
from tlhelpers.loop import place
from tlhelpers.models.freezing import param_groups
from tlhelpers.options import Augment, Checkpoint, Epochs, FitOptions, StepOptions, build_optimizer, build_scheduler
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
    and keeps the best epoch. With `augment=False` or `cache=K` the frozen first part of the network (the frozen prefix)
    runs once instead of in every epoch; `Run.notes` says what was done.

    Args:
        model: a network from `load_model`, its head as wide as the data has classes; changed in place.
        data: from `load_data`; or batches of your own, {"train": ..., "val": ...}, each a `DataLoader` or another sized
            iterable of (images, labels), for which `augment`, `batch_size` and `cache` are not used. A method
            `set_epoch` is called with the number of each epoch, from 1.
        epochs: passes over the training set; `Epochs` also says when to stop and which epoch to keep.
        lr: learning rate, or one for each trainable block by name ({"layer4": 1e-4, "head": 1e-3}).
        batch_size: images in a step.
        augment: True for random crops and flips, False for the split's own transform (not a random one) or none, or a
            function from an RGB PIL image to a normalised tensor (3, size, size), called anew in every epoch.
        step: optimizer, schedule, loss and the like.
        seed: of shuffling, augmentation and dropout. The same seed gives the same weights on the same machine; a GPU's
            own libraries may differ in the last digits. Global generators are left as they were.
        cache: True runs the frozen prefix once if `augment=False`, with the same result; False never does; a number K
            runs it once over K augmented views of each image, one of which each epoch shows.
        checkpoint: a folder to save to after each epoch. A path starts anew; `Checkpoint(path, resume=True)` goes on.

    Raises:
        CheckpointError: if the checkpoint is damaged, in use, from a run with other settings, or cannot be written.
        DataError: naming an image that can no longer be read.
        ModelError: if the network has no card or no known family, or `lr` does not match the trainable blocks.
        TrainingError: if nothing can train, the head does not fit, the loss is not finite, or a step lacks memory.
    """
    epochs = Epochs(epochs) if isinstance(epochs, int) else epochs
    checkpoint = Checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
    options = FitOptions(epochs, batch_size, augment, step, seed, cache)
    profile = current_profile()
    groups = trainable_groups(model, data, lr, profile.device)
    optimizer = build_optimizer(step.optimizer, groups, profile.device)
    with seeded(seed, profile.device):
        try:
            sources = choose_sources(model, data, options, profile.dtype)
        except KeyboardInterrupt:
            return Run(model.eval(), history_table([]), stopped="Interrupted by hand before the first epoch.")
        criterion = (nn.CrossEntropyLoss() if step.loss is None else step.loss).to(profile.device)
        scheduler = build_scheduler(step.schedule, optimizer, epochs.count, len(sources.train))
        trainer = Trainer(model, sources, criterion, optimizer, scheduler, profile.dtype, step)
        settings = {"seed": seed, "epochs": epochs.count, "keep": epochs.keep, "schedule": type(scheduler).__name__}
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
        model: any classifier; changed in place, and returned with the weights of its best epoch on "val", and with
            `model.history`, a table as `Run.history`.
        dataloaders: "train" and "val".
        criterion: the loss, a module from (logits, labels) to a mean.
        optimizer: over the parameters that are to train.
        scheduler: steps after each epoch, a `OneCycleLR` after each batch.
        num_epochs: passes over `dataloaders["train"]`.

    Raises:
        TrainingError: if a loader is missing or empty, or the loss stops being finite.
    """
    run = Trainer(model, own_batches(model, dataloaders), criterion, optimizer, scheduler).run(Epochs(num_epochs))
    model.history = run.history  # type: ignore[assignment]
    return model


def trainable_groups(
    model: nn.Module, data: ImageData | Mapping[str, Any], lr: float | dict[str, float], device: torch.device
) -> list[dict[str, Any]]:
    """Check that the model fits the data, move it to `device`, and return its parameter groups."""
    if isinstance(data, ImageData):
        check_fits(model, data.train)
    place(model, device)
    groups = param_groups(model, lr)
    if not groups:
        raise TrainingError("nothing to train: every parameter is frozen. Call tl.unfreeze(model, last=0) for the head")
    return groups


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators; restore them on exit."""
    kind = device.type if device.type != "cpu" else "cuda"
    devices = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(devices=devices, device_type=kind):
        torch.manual_seed(seed)
        yield
