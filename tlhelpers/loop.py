"""The loop: one pass of training and one of prediction, in plain PyTorch.

Everything else in this package stands around these two functions. What a notebook shows first as a bare loop is what
runs here; a test compares the weights that both give.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from tlhelpers import distributed
from tlhelpers.errors import TrainingError
from tlhelpers.models.freezing import train_mode
from tlhelpers.models.modes import evaluation_mode

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Step:
    """What a step of training does beyond the plain one.

    Attributes:
        pieces: a batch goes through the network in so many pieces, one after the other, which takes less memory;
            their gradients add up to the batch's (but BatchNorm, where it moves, sees the pieces).
        clip: the norm that all gradients together may have; larger ones are shortened. None leaves them.
        average: decay of an exponential moving average of the weights, 0.999 say, which is what is validated and
            kept (Polyak and Juditsky 1992; PyTorch's `AveragedModel`). None takes the weights as they are.
        mix: `v2.MixUp(num_classes=n)` or `v2.CutMix(num_classes=n)` of torchvision, or another function from (images,
            labels) to (images, targets).
        compile: run the network through `torch.compile`. Its start can take longer than a small training.
    """

    pieces: int = 1
    clip: float | None = None
    average: float | None = None
    mix: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.pieces < 1 or (self.clip is not None and self.clip <= 0):
            raise TrainingError(f"pieces={self.pieces} and clip={self.clip} must be positive")
        if self.average is not None and not 0 < self.average < 1:
            raise TrainingError(f"average={self.average} must be between 0 and 1")


def train_epoch(
    model: nn.Module,
    batches: Batches,
    criterion: nn.Module,
    optimizer: Optimizer,
    *,
    precision: torch.dtype = torch.float32,
    scaler: torch.amp.GradScaler | None = None,
    scheduler: LRScheduler | None = None,
    average: AveragedModel | None = None,
    step: Step = Step(),
) -> tuple[float, float]:
    """One pass over the training batches; a `scheduler` that is given here steps after each of them.

    Returns:
        loss and accuracy of the epoch: means over images, so that a short last batch counts for what it has.
        They are summed on the device and read once; reading them every step would make a GPU wait for it.

    Raises:
        TrainingError: naming the step at which the loss stopped being finite.
    """
    train_mode(model)
    device = device_of(model)
    losses, sizes, correct = [], [], torch.zeros((), device=device)
    for images, labels in batches:
        images, labels = on_device(images, device), labels.to(device, non_blocking=True)
        inputs, targets = (images, labels) if step.mix is None else step.mix(images, labels)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=device)
        for some, wanted, truth in zip(*(t.chunk(step.pieces) for t in (inputs, targets, labels)), strict=True):
            with autocast(device, precision):
                logits = model(some)
                part = criterion(logits, wanted) * (len(some) / len(images))
            (part if scaler is None else scaler.scale(part)).backward()
            loss += part.detach().float()
            correct += (logits.detach().argmax(dim=1) == truth).sum()
        losses.append(loss)
        sizes.append(len(labels))
        if device.type == "cpu":  # elsewhere looking would make the device wait; there the epoch's end will tell
            check_finite(losses[-1:], first=len(losses))
        _move(optimizer, scaler, step.clip)
        if scheduler is not None:
            scheduler.step()
        if average is not None:
            average.update_parameters(model)
    check_finite(losses)
    weights = torch.tensor(sizes, dtype=torch.float32, device=device)
    sums = torch.stack([(torch.stack(losses) * weights).sum(), correct, weights.sum()])
    loss_sum, hits, count = distributed.summed(sums).tolist()
    return loss_sum / count, hits / count


def _move(optimizer: Optimizer, scaler: torch.amp.GradScaler | None, clip: float | None) -> None:
    """The optimizer's step; with fp16 the gradients' scale is taken back first."""
    if clip is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def compute_logits(
    model: nn.Module, batches: Batches, *, precision: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (images, classes), float32, and labels (images,), both on the CPU; every mode is given back."""
    device = device_of(model)
    logits, labels = [], []
    with evaluation_mode(model), torch.inference_mode(), autocast(device, precision):
        for images, targets in batches:
            logits.append(model(on_device(images, device)).float())
            labels.append(targets)
    # Leaving inference mode behind: a clone is an ordinary tensor, with which autograd can work.
    return torch.cat(logits).cpu().clone(), torch.cat(labels).cpu().clone()


def check_finite(losses: Sequence[torch.Tensor], where: str = "step {} of the epoch", first: int = 1) -> None:
    """Refuse to go on with a loss that is no number.

    Raises:
        TrainingError: naming the first step whose loss is not finite, or because there was none.
    """
    if not losses:
        raise TrainingError("there was no training batch: the loader is empty")
    finite = torch.isfinite(torch.stack(list(losses)))
    if not finite.all():
        place = where.format(int((~finite).nonzero()[0]) + first)
        raise TrainingError(
            f"the loss is no longer finite ({place}), so training stopped; the weights of the best finished epoch, "
            "if there is one, are in the model. Usual causes: a learning rate that is too large (try a tenth), or "
            "images without normalisation."
        )


# --- what it runs on --------------------------------------------------------------------------------------------


def device_of(model: nn.Module) -> torch.device:
    """Where a network's parameters are."""
    return next(model.parameters()).device


def place(model: nn.Module, device: torch.device) -> None:
    """To the device, and there in the memory order in which convolutions are fastest; values do not change."""
    model.to(device)
    if device.type != "mps":
        model.to(memory_format=torch.channels_last)


def on_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """To the device; images and maps in the memory order in which convolutions are fastest."""
    if images.ndim != 4 or device.type == "mps":
        return images.to(device, non_blocking=True)
    return images.to(device, non_blocking=True, memory_format=torch.channels_last)


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """PyTorch's autocast, or nothing for float32."""
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=precision)
