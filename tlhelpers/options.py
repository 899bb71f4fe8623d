"""What `fit` can be told: how long to train, how a step is made, and where checkpoints go."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR

from tlhelpers.errors import TrainingError

Augment = bool | Callable[[Image.Image], torch.Tensor]
Schedule = str | Callable[[Optimizer], LRScheduler]


def _at_least_one(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise TrainingError(f"{name}={value} must be at least 1")


@dataclass(frozen=True)
class Epochs:
    """How long to train, and which epoch's weights to keep."""

    count: int  # passes over the training set, at most
    patience: int | None = None  # stop after this many epochs in a row without a better validation accuracy
    keep: str = "best"  # the weights of the epoch with the highest validation accuracy, or of the "last"

    def __post_init__(self) -> None:
        _at_least_one(epochs=self.count, patience=self.patience)
        if self.keep not in ("best", "last"):
            raise TrainingError(f"keep='{self.keep}' is not known; expected 'best' or 'last'")


@dataclass(frozen=True)
class StepOptions:
    """How a training step is made.

    Attributes:
        optimizer: builds the optimizer from parameter groups: AdamW, or `functools.partial(SGD, momentum=0.9)`.
        schedule: of the learning rate: "cosine" (to zero over all epochs), "constant", "one-cycle" (Smith and Topin
            2018: from lr / 25 up to lr over the first 30 % of the steps, then down to nearly zero), or a function from
            the optimizer to a scheduler. A `OneCycleLR` steps after each batch, all others after each epoch.
        loss: a module from (logits, labels) to the mean over a batch; None is cross-entropy.
        accumulation_steps: micro-batches into which each batch is split, to save memory. Their gradients add up to the
            batch's if the loss is a plain mean, without class weights. BatchNorm that trains sees each one alone.
        max_grad_norm: the gradients' total norm is clipped to this value; None leaves it.
        ema_decay: decay of an exponential moving average of the weights, 0.999 say; the averaged weights are
            validated and kept (Polyak and Juditsky 1992; PyTorch's `AveragedModel`).
        mixup: `v2.MixUp(num_classes=n)` or `v2.CutMix(num_classes=n)` of torchvision, or another function from (images,
            labels) to (images, targets).
    """

    optimizer: Callable[..., Optimizer] = AdamW
    schedule: Schedule = "cosine"
    loss: nn.Module | None = None
    accumulation_steps: int = 1
    max_grad_norm: float | None = None
    ema_decay: float | None = None
    mixup: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None = None

    def __post_init__(self) -> None:
        _at_least_one(accumulation_steps=self.accumulation_steps)
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise TrainingError(f"max_grad_norm={self.max_grad_norm} must be positive")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise TrainingError(f"ema_decay={self.ema_decay} must be between 0 and 1")


@dataclass(frozen=True)
class Checkpoint:
    """A folder that after every epoch holds all that a run needs to go on, and its best weights."""

    folder: str | Path
    resume: bool = False  # go on from what it holds, with the same model and settings; False replaces it


@dataclass(frozen=True)
class FitOptions:
    """The arguments of `fit` besides model, data and learning rate, checked."""

    epochs: Epochs
    batch_size: int = 32
    augment: Augment = True
    step: StepOptions = StepOptions()
    seed: int = 0
    cache: bool | int = True

    def __post_init__(self) -> None:
        _at_least_one(batch_size=self.batch_size, cache=self.views)
        if self.views is not None and self.augment is False:
            raise TrainingError(f"cache={self.cache} asks for augmented views, and augment=False for none")

    @property
    def views(self) -> int | None:
        """How many augmented views of each image are cached; None makes a new one in every epoch."""
        return None if isinstance(self.cache, bool) else self.cache


def build_optimizer(build: Callable[..., Optimizer], groups: list[dict[str, Any]], device: torch.device) -> Optimizer:
    """The optimizer, in its fused form where it has one: one pass over memory for all of a step's arithmetic."""
    kind, given = (build.func, build.keywords) if isinstance(build, functools.partial) else (build, {})
    can_fuse = inspect.isclass(kind) and "fused" in inspect.signature(kind).parameters
    if can_fuse and not {"fused", "foreach", "differentiable"} & set(given) and device.type in ("cpu", "cuda"):
        return build(groups, fused=True)
    return build(groups)


def build_scheduler(schedule: Schedule, optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
    """The scheduler of the learning rate over `epochs` of `steps` batches each; a TrainingError for an unknown name."""
    if callable(schedule):
        return schedule(optimizer)
    if schedule == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, highest, total_steps=epochs * steps, cycle_momentum=False)
    if schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=epochs)
    if schedule == "constant":
        return ConstantLR(optimizer, factor=1.0, total_iters=0)
    raise TrainingError(f"schedule '{schedule}' is not known; expected 'cosine', 'constant', 'one-cycle' or a function")
