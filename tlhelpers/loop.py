"""The loop: one pass of training and one of prediction, in plain PyTorch.

What a notebook shows first as a bare loop is what runs here. A test checks that both give the same weights.
"""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from tlhelpers.errors import TrainingError
from tlhelpers.models.freezing import evaluation_mode, train_mode
from tlhelpers.options import StepOptions

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


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
    step: StepOptions = StepOptions(),  # noqa: B008 (it cannot change)
) -> tuple[float, float]:
    """Train for one pass over the batches.

    Args:
        model: a classifier, images (batch, 3, height, width) to logits (batch, classes).
        batches: pairs of images and labels (batch,).
        criterion: the loss, a module from (logits, labels) to a mean.
        optimizer: over the parameters that train.
        precision: autocast type of the forward pass.
        scaler: of the loss, for fp16.
        scheduler: of the learning rate; steps after each batch.
        average: of the weights; updated after each batch.
        step: accumulation, clipping and mixing.

    Returns:
        loss and accuracy of the epoch: means over images, so that a short last batch counts less. They are summed on
        the device and read once: reading them in every step would make a GPU wait.

    Raises:
        TrainingError: naming the step at which the loss stopped being finite.
    """
    train_mode(model)
    device = device_of(model)
    losses, sizes, correct = [], [], torch.zeros((), device=device)
    for images, labels in batches:
        images, labels = to_device(images, device), labels.to(device, non_blocking=True)
        inputs, targets = (images, labels) if step.mixup is None else step.mixup(images, labels)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=device)
        pieces = (tensor.chunk(step.accumulation_steps) for tensor in (inputs, targets, labels))
        for piece, target, label in zip(*pieces, strict=True):
            with autocast(device, precision):
                logits = model(piece)
                piece_loss = criterion(logits, target) * (len(piece) / len(images))
            (piece_loss if scaler is None else scaler.scale(piece_loss)).backward()
            loss += piece_loss.detach().float()
            correct += (logits.detach().argmax(dim=1) == label).sum()
        losses.append(loss)
        sizes.append(len(labels))
        if device.type == "cpu":  # a GPU would have to wait for it; there the losses are checked after the epoch
            check_finite(losses[-1:], first=len(losses))
        _update(optimizer, scaler, step.max_grad_norm)
        if scheduler is not None:
            scheduler.step()
        if average is not None:
            average.update_parameters(model)
    check_finite(losses)
    weights = torch.tensor(sizes, dtype=torch.float32, device=device)
    sums = torch.stack([(torch.stack(losses) * weights).sum(), correct, weights.sum()])
    loss_sum, hits, count = sums.tolist()
    return loss_sum / count, hits / count


def _update(optimizer: Optimizer, scaler: torch.amp.GradScaler | None, max_grad_norm: float | None) -> None:
    """The optimizer's step; with fp16 the gradients are unscaled first."""
    if max_grad_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def compute_logits(
    model: nn.Module, batches: Batches, *, precision: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (images, classes), float32, and labels (images,), both on the CPU; every module keeps its mode."""
    device = device_of(model)
    logits, labels = [], []
    with evaluation_mode(model), torch.inference_mode(), autocast(device, precision):
        for images, targets in batches:
            logits.append(model(to_device(images, device)).float())
            labels.append(targets)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


def check_finite(losses: Sequence[torch.Tensor], where: str = "step {} of the epoch", first: int = 1) -> None:
    """Raise a TrainingError that names the first step whose loss is not finite."""
    if not losses:
        raise TrainingError("there was no training batch: the loader is empty")
    bad = (~torch.isfinite(torch.stack(list(losses)))).nonzero()
    if len(bad):
        place = where.format(int(bad[0]) + first)
        raise TrainingError(
            f"the loss is no longer finite ({place}), so training stopped; the model has the weights of its best "
            "finished epoch, if there is one. Usual causes: a learning rate that is too large (try a tenth), or images "
            "that are not normalised."
        )


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's parameters."""
    return next(model.parameters()).device


def place(model: nn.Module, device: torch.device) -> None:
    """Move the model to `device` in channels-last format, in which convolutions are fastest."""
    model.to(device)
    if device.type != "mps":
        model.to(memory_format=torch.channels_last)


def to_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move images or maps to `device`, in channels-last format."""
    if images.ndim != 4 or device.type == "mps":
        return images.to(device, non_blocking=True)
    return images.to(device, non_blocking=True, memory_format=torch.channels_last)


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """PyTorch's autocast, or nothing for float32."""
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=precision)
