"""What `fit` can be told: how long to train, how a step is made, and where checkpoints go."""

import copy
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

from tlhelpers.errors import TrainingError, at_least, describe

Augment = bool | Callable[[Image.Image], torch.Tensor]
Schedule = str | Callable[[Optimizer], LRScheduler]
SCHEDULES = ("cosine", "constant", "one-cycle")


@dataclass(frozen=True)
class Epochs:
    """How long to train, and which epoch's weights to keep."""

    count: int  # passes over the training set, at most
    patience: int | None = None  # stop after this many epochs in a row without a better validation accuracy
    keep: str = "best"  # the weights of the epoch with the highest validation accuracy, or of the "last"

    def __post_init__(self) -> None:
        at_least(1, epochs=self.count, patience=self.patience)
        if self.keep not in ("best", "last"):
            raise TrainingError(f"keep='{self.keep}' is not known; expected 'best' or 'last'")


@dataclass(frozen=True)
class StepOptions:
    """How a training step is made.

    `schedule` is "cosine" (to zero over all epochs), "constant", "one-cycle" (Smith and Topin 2018: from lr / 25 up to
    lr over the first 30 % of the steps, then down to nearly zero), or a function from the optimizer to a scheduler.
    `OneCycleLR` and `CyclicLR` step after each batch, others after each epoch; `ReduceLROnPlateau` is told the
    validation loss, or with mode="max" the accuracy. The gradients of `accumulation_steps` micro-batches add up to the
    batch's if the loss is a plain mean, without class weights; BatchNorm that trains sees each one alone. With
    `ema_decay` the averaged weights are validated and kept (Polyak and Juditsky 1992). `mixup` is torchvision's
    `v2.MixUp(num_classes=n)` or `v2.CutMix(num_classes=n)`, or another function.
    """

    optimizer: Callable[..., Optimizer] = AdamW  # from parameter groups; `functools.partial(SGD, momentum=0.9)`, say
    schedule: Schedule = "cosine"  # of the learning rate
    loss: nn.Module | None = None  # a module from (logits, labels) to the mean over a batch; None is cross-entropy
    accumulation_steps: int = 1  # micro-batches into which each batch is split, to save memory
    max_grad_norm: float | None = None  # the gradients' total norm is clipped to this value; None leaves it
    ema_decay: float | None = None  # of an exponential moving average of the weights, 0.999 say
    mixup: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None = None  # (images, labels) -> (images, targets)

    def __post_init__(self) -> None:
        at_least(1, accumulation_steps=self.accumulation_steps)
        for name, known in {"optimizer": (), "schedule": SCHEDULES, "mixup": (None,)}.items():
            value = getattr(self, name)
            if not callable(value) and value not in known:
                expected = " or ".join([*map(repr, known), "a function"])
                raise TrainingError(f"{name}={value!r:.80} is not known; expected {expected}")
        if not isinstance(self.loss, nn.Module | None):
            raise TrainingError(f"loss is {describe(self.loss)}; expected a module, such as nn.CrossEntropyLoss()")
        if getattr(self.loss, "reduction", "mean") != "mean":
            raise TrainingError(f"the loss {self.loss} does not give the mean over a batch: take reduction='mean'")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise TrainingError(f"max_grad_norm={self.max_grad_norm} must be positive")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise TrainingError(f"ema_decay={self.ema_decay} must be between 0 and 1")

    def build_optimizer(self, groups: list[dict[str, Any]], device: torch.device) -> Optimizer:
        """The optimizer, in its fused form where it has one: one pass over memory for all of a step's arithmetic."""
        kind, given = getattr(self.optimizer, "func", self.optimizer), getattr(self.optimizer, "keywords", {})
        can_fuse = inspect.isclass(kind) and "fused" in inspect.signature(kind).parameters
        fused = can_fuse and not {"fused", "foreach", "differentiable"} & set(given) and device.type in ("cpu", "cuda")
        return self.optimizer(groups, fused=True) if fused else self.optimizer(groups)

    def build_criterion(self, device: torch.device) -> nn.Module:
        """The loss, as a copy on `device` whose weights of the classes are float32, as the logits are."""
        return (nn.CrossEntropyLoss() if self.loss is None else copy.deepcopy(self.loss)).to(device, torch.float32)

    def build_scheduler(self, optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
        """The scheduler of the learning rate over `epochs` of `steps` batches each."""
        if callable(self.schedule):
            built = self.schedule(optimizer)
            if isinstance(built, LRScheduler) and built.optimizer is optimizer:
                if isinstance(built, OneCycleLR) and built.total_steps < epochs * steps:
                    raise TrainingError(f"OneCycleLR steps after each batch: give it total_steps={epochs * steps}")
                return built
            found = f"a {type(built).__name__}" + " of another optimizer" * isinstance(built, LRScheduler)
            raise TrainingError(f"the function given as schedule= made {found}; expected a scheduler of its argument")
        if self.schedule == "one-cycle":
            highest = [group["lr"] for group in optimizer.param_groups]
            return OneCycleLR(optimizer, highest, total_steps=epochs * steps, cycle_momentum=False)
        cosine = self.schedule == "cosine"
        return CosineAnnealingLR(optimizer, T_max=epochs) if cosine else ConstantLR(optimizer, 1.0, total_iters=0)


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
    # How many augmented views of each image are cached; None makes a new one in every epoch.
    views = property(lambda self: None if isinstance(self.cache, bool) else self.cache)

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size, cache=self.views)
        if not isinstance(self.augment, bool) and not callable(self.augment):
            raise TrainingError(f"augment={self.augment!r:.80}; expected True, False or a function of an image")
        if self.views and self.augment is False:
            raise TrainingError(f"cache={self.cache} asks for augmented views, and augment=False for none")
        if self.views and self.step.mixup is not None:
            raise TrainingError(f"cache={self.cache} keeps activations, but mixup needs the images: leave one out")
