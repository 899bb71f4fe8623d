"""Training: `fit`, and `train_model` as older tutorials write it."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from tlhelpers.batch_checks import check_fits
from tlhelpers.batch_sources import choose_sources, own_batches
from tlhelpers.checkpoints import CheckpointFolder
from tlhelpers.data.dataset import ImageData
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.loop import place, seeded
from tlhelpers.models.families import unwrapped
from tlhelpers.models.freezing import param_groups
from tlhelpers.options import Augment, Checkpoint, Epochs, FitOptions, StepOptions
from tlhelpers.trainer import Run, RunProgress, Trainer


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
    and keeps the best epoch. `Run.notes` says what was computed once.

    Args:
        model: a network from `load_model`, its head as wide as the data has classes; changed in place. It may be inside
            of `torch.compile` or `DataParallel`; `Run.model` is the network inside.
        data: from `load_data`; or your own {"train": ..., "val": ...}, each a `DataLoader` or another sized iterable of
            (images, labels), to which `augment`, `batch_size` and `cache` do not apply; its method `set_epoch`, if it
            has one, is called with the number of each epoch, from 1.
        epochs: passes over the training set; `Epochs` also says when to stop and which epoch to keep.
        lr: learning rate, or one for each trainable block by name ({"layer4": 1e-4, "head": 1e-3}).
        batch_size: images in a step.
        augment: True for random crops and flips, False for the split's own transform (not a random one) or none, or a
            function from an RGB PIL image to a normalised tensor (3, size, size), called anew in every epoch.
        step: optimizer, schedule, loss and the like.
        seed: of all that draws from the global generators of Python, NumPy and PyTorch, which are left as they were.
            One seed gives one result on one machine; on a GPU the last digits may differ.
        cache: True runs the network's frozen first part (the frozen prefix) once if `augment=False`, with the same
            result; False never does; K runs it once over K augmented views of each image, and each epoch shows one.
        checkpoint: a folder to save to after each epoch. A path starts anew; `Checkpoint(path, resume=True)` goes on.

    A CheckpointError says that the checkpoint is damaged, in use, of other settings, or cannot be written; a DataError,
    which image cannot be read or transformed; a ModelError, that the network has no card or known family, or that `lr`
    does not match it; a TrainingError, that something does not fit, memory is lacking, or the loss is not finite.
    """
    epochs = epochs if isinstance(epochs, Epochs) else Epochs(epochs)
    checkpoint = Checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
    options, profile = FitOptions(epochs, batch_size, augment, step, seed, cache), current_profile()
    groups = trainable_groups(model, data, lr, profile.device)
    optimizer = step.build_optimizer(groups, profile.device)
    settings: dict[str, Any] = {"seed": seed, "epochs": epochs.count, "keep": epochs.keep}
    folder = None if checkpoint is None else CheckpointFolder(checkpoint, settings)
    with folder or contextlib.nullcontext(), seeded(seed, profile.device):
        try:
            sources = choose_sources(model, data, options, profile.dtype)
        except KeyboardInterrupt:
            return Run(model.eval(), RunProgress().history, stopped="Interrupted by hand before the first epoch.")
        criterion = step.build_criterion(profile.device)
        scheduler = step.build_scheduler(optimizer, epochs.count, len(sources.train))
        settings |= {"schedule": type(scheduler).__name__, "batches": len(sources.train)}
        settings |= {"images": sources.augmentation, "data": sources.checksum}
        trainer = Trainer(unwrapped(model), sources, criterion, optimizer, scheduler, profile.dtype, step)
        return trainer.run(epochs, folder)


def train_model(
    model: nn.Module,
    dataloaders: Mapping[str, DataLoader[Any]],
    criterion: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    num_epochs: int = 25,
) -> nn.Module:
    """Train as older tutorials do, from parts that you build by hand, in fp32 on the model's own device.

    Returns the model itself with the weights of its best epoch on "val"; its attribute `history` is as `Run.history`.
    The loaders are "train" and "val"; the criterion gives the mean over a batch; `OneCycleLR` and `CyclicLR` step after
    each batch, others after each epoch. A TrainingError is as in `fit`, or names a loader that is missing or empty.
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
    elif not isinstance(data, Mapping):
        raise TrainingError(f"data is {type(data).__name__}; expected that of tl.load_data, or batches by split's name")
    groups = param_groups(model, lr)
    place(model, device)
    if not groups:
        raise TrainingError("nothing to train: every parameter is frozen. Call tl.unfreeze(model, last=0) for the head")
    return groups
