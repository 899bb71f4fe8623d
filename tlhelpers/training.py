"""Training: `fit`."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from tlhelpers.batch_checks import check_fits
from tlhelpers.batch_sources import choose_sources
from tlhelpers.checkpoints import CheckpointFolder
from tlhelpers.data.dataset import ImageData
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.loop import place, seeded
from tlhelpers.models.families import unwrapped
from tlhelpers.models.freezing import param_groups
from tlhelpers.options import Augment, FitOptions, Schedule
from tlhelpers.trainer import Run, RunProgress, Trainer


def fit(
    model: nn.Module,
    data: ImageData | Mapping[str, Any],
    *,
    epochs: int = 5,
    patience: int | None = None,
    minutes: float | None = None,
    keep: str = "best",
    lr: float | dict[str, float] = 1e-3,
    batch_size: int = 32,
    augment: Augment = True,
    optimizer: Callable[..., Optimizer] = AdamW,
    schedule: Schedule = "cosine",
    loss: nn.Module | None = None,
    seed: int = 0,
    cache: bool | int = True,
    checkpoint: str | Path | None = None,
    resume: bool = False,
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
        epochs: passes over the training set, at most.
        patience: stop after this many epochs in a row without a better validation accuracy; None never does.
        minutes: stop after the epoch in which this time, counted from the call, has passed; None never does.
        keep: the weights of the "best" epoch, of the highest validation accuracy, or of the "last".
        lr: learning rate, or one for each trainable block by name ({"layer4": 1e-4, "head": 1e-3}).
        batch_size: images in a step.
        augment: True for random crops and flips, False for the split's own transform (not a random one) or none, or a
            function from an RGB PIL image to a normalised tensor (3, size, size), called anew in every epoch.
        optimizer: makes one from parameter groups; `functools.partial(SGD, momentum=0.9)`, say.
        schedule: "cosine" (to zero over all epochs), "constant", "one-cycle" (Smith and Topin 2018: from lr / 25 up to
            lr over the first 30 % of the steps, then down to nearly zero), or a function from the optimizer to a
            scheduler. `OneCycleLR` and `CyclicLR` step after each batch, others after each epoch; `ReduceLROnPlateau`
            is told the validation loss, or with mode="max" the accuracy.
        loss: a module from (logits, labels) to the mean over a batch; None is cross-entropy.
        seed: of all that draws from the global generators of Python, NumPy and PyTorch, which are left as they were.
            One seed gives one result on one machine; on a GPU the last digits may differ.
        cache: True runs the network's frozen first part (the frozen prefix) once if `augment=False`, with the same
            result; False never does; K runs it once over K augmented views of each image, and each epoch shows one.
        checkpoint: a folder that after each epoch holds all that a run needs to go on, and its best weights.
        resume: go on from what the checkpoint holds, with the same model and settings; False replaces it.

    A CheckpointError says that the checkpoint is damaged, in use, of other settings, or cannot be written; a DataError,
    which image cannot be read or transformed; a ModelError, that the network has no card or known family, or that `lr`
    does not match it; a TrainingError, that something does not fit, memory is lacking, or the loss is not finite.
    """
    options = FitOptions(epochs, patience, keep, batch_size, augment, optimizer, schedule, loss, seed, cache, minutes)
    profile, end = current_profile(), time.perf_counter() + 60 * (minutes or float("inf"))
    groups = trainable_groups(model, data, lr, profile.device)
    steps_with = options.build_optimizer(groups, profile.device)
    settings: dict[str, Any] = {"seed": seed, "epochs": epochs, "keep": keep}
    folder = None if checkpoint is None else CheckpointFolder(checkpoint, settings, resume)
    with folder or contextlib.nullcontext(), seeded(seed, profile.device):
        try:
            sources = choose_sources(model, data, options, profile.dtype)
        except KeyboardInterrupt:
            return Run(model.eval(), RunProgress().history, stopped="Interrupted by hand before the first epoch.")
        criterion = options.build_criterion(profile.device)
        scheduler = options.build_scheduler(steps_with, epochs, len(sources.train))
        settings |= {"schedule": type(scheduler).__name__, "batches": len(sources.train)}
        settings |= {"images": sources.augmentation, "data": sources.checksum}
        trainer = Trainer(unwrapped(model), sources, criterion, steps_with, scheduler, profile.dtype, end)
        return trainer.run(epochs, patience, keep, folder)


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
