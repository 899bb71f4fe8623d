"""What `fit` can be told: how long to train, how a step is made, and where checkpoints go."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
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
class FitOptions:
    """The arguments of `fit` besides model, data and learning rate, checked."""

    epochs: int = 5
    patience: int | None = None
    keep: str = "best"
    batch_size: int = 32
    augment: Augment = True
    optimizer: Callable[..., Optimizer] = AdamW
    schedule: Schedule = "cosine"
    loss: nn.Module | None = None
    seed: int = 0
    cache: bool | int = True
    minutes: float | None = None
    # How many augmented views of each image are cached; None makes a new one in every epoch.
    views = property(lambda self: None if isinstance(self.cache, bool) else self.cache)

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs, patience=self.patience, batch_size=self.batch_size, cache=self.views)
        if not (self.minutes is None or (isinstance(self.minutes, Real) and self.minutes > 0)):
            raise TrainingError(f"minutes={self.minutes!r} must be a number above 0")
        if self.keep not in ("best", "last"):
            raise TrainingError(f"keep='{self.keep}' is not known; expected 'best' or 'last'")
        if not isinstance(self.augment, bool) and not callable(self.augment):
            raise TrainingError(f"augment={self.augment!r:.80}; expected True, False or a function of an image")
        if self.views and self.augment is False:
            raise TrainingError(f"cache={self.cache} asks for augmented views, and augment=False for none")
        for name, known in {"optimizer": (), "schedule": SCHEDULES}.items():
            value = getattr(self, name)
            if not callable(value) and value not in known:
                expected = " or ".join([*map(repr, known), "a function"])
                raise TrainingError(f"{name}={value!r:.80} is not known; expected {expected}")
        if not isinstance(self.loss, nn.Module | None):
            raise TrainingError(f"loss is {describe(self.loss)}; expected a module, such as nn.CrossEntropyLoss()")
        if getattr(self.loss, "reduction", "mean") != "mean":
            raise TrainingError(f"the loss {self.loss} does not give the mean over a batch: take reduction='mean'")

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
