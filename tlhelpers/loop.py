"""The loop: one pass of training and one of prediction. A test compares its weights with those of a bare loop."""

import contextlib
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tlhelpers.errors import TLError, TrainingError, describe
from tlhelpers.models.freezing import evaluation_mode, train_mode

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
WORKER_DIED = "DataLoader worker (pid"  # the beginning of what PyTorch says then


def train_epoch(
    model: nn.Module,
    batches: Batches,
    criterion: nn.Module,
    optimizer: Optimizer,
    *,
    precision: torch.dtype = torch.float32,
    scaler: torch.amp.GradScaler | None = None,
    scheduler: LRScheduler | None = None,
) -> tuple[float, float]:
    """Train for one pass over the batches; returns loss and accuracy, means over all images.

    The model maps images (batch, 3, height, width) to logits (batch, classes), and the criterion maps logits and labels
    (batch,) to a mean. `precision` is the autocast type of the forward pass; fp16 needs a scaler of the loss. The
    scheduler steps after each batch. A TrainingError names the step whose loss was not finite, or what does not fit.
    """
    train_mode(model)
    device, scaler = device_of(model), scaler or torch.amp.GradScaler(enabled=False)
    # Sums stay on the device and are read once: reading them in every step would make a GPU wait.
    losses, sizes, correct = [], [], torch.zeros((), device=device)
    for images, labels in batches:
        images, labels = to_device(images, device), labels.to(device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            logits = model(images)
            loss = compute_loss(criterion, logits, labels)
        scaler.scale(loss).backward()
        correct += (logits.detach().argmax(dim=1) == labels).sum()
        losses.append(loss.detach().float())
        sizes.append(len(labels))
        if device.type == "cpu":  # a GPU would have to wait for it; there the losses are checked after the epoch
            check_finite(losses[-1:], first=len(losses))
        scaler.step(optimizer)
        scaler.update()
        if scheduler is not None:
            scheduler.step()
    check_finite(losses)
    weights = torch.tensor(sizes, dtype=torch.float32, device=device)
    loss, hits, count = torch.stack([(torch.stack(losses) * weights).sum(), correct, weights.sum()]).tolist()
    return loss / count, hits / count


def compute_loss(criterion: nn.Module, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of a batch; a TrainingError says what does not fit."""
    given = f"the loss {criterion} got logits {describe(logits)} and labels {describe(targets)}"
    try:
        loss = criterion(logits, targets)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if memory_ran_out(error):
            raise
        raise TrainingError(f"{given}, which do not fit it: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        raise TrainingError(f"{given}, and gave {describe(loss)}; expected one number, the mean over the batch")
    return loss


def compute_logits(
    model: nn.Module, batches: Batches, *, precision: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (images, classes), float32, and labels (images,), both on the CPU; every module keeps its mode."""
    device, logits, labels = device_of(model), [], []
    with explained(batches), evaluation_mode(model), torch.inference_mode(), autocast(device, precision):
        for images, targets in batches:
            logits.append(model(to_device(images, device)).float())
            labels.append(targets)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


def check_finite(losses: Sequence[torch.Tensor], where: str = "step {} of the epoch", first: int = 1) -> None:
    """Raise a TrainingError that names the first step whose loss is not finite."""
    if not losses:
        raise TrainingError("there was no training batch: the loader is empty")
    if len(bad := (~torch.isfinite(torch.stack(list(losses)))).nonzero()):
        text = f"the loss is no longer finite ({where.format(int(bad[0]) + first)}); the weights are of the best epoch "
        text += "before, if any. Usual causes: a learning rate that is too large (try a tenth), images not normalised."
        raise TrainingError(text)


@contextlib.contextmanager
def explained(batches: Any) -> Iterator[None]:
    """Explain, as a TrainingError, what PyTorch says where memory, a reading process or BatchNorm gives up."""
    try:
        yield
    except Exception as error:
        if WORKER_DIED in str(error) and not isinstance(error, TLError):  # raised wherever this process happens to be
            text = "a process that reads images ended (for lack of memory, probably). Load the data with workers=0 or 1"
        elif "more than 1 value per channel" in str(error):
            text = "BatchNorm cannot normalise a single value for each channel. Take a batch_size of 2 or more (and no "
            text += "last batch of one image), larger images, or freeze the BatchNorm layers"
        elif memory_ran_out(error):
            size = getattr(batches, "batch_size", None)
            text = f"memory ran out with {size or 'so many'} images in a batch. Try batch_size={(size or 2) // 2 or 1}"
            text += ", a model of smaller size=, or freeze more of it."
        else:
            raise
        raise TrainingError(text) from error


def memory_ran_out(error: Exception) -> bool:
    """True if there was not enough memory, on a GPU or elsewhere; PyTorch says the latter in a RuntimeError."""
    said = any(words in str(error) for words in ("allocate memory", "not enough memory", "out of memory"))
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch; restore them on exit."""
    devices = [] if device.type == "cpu" else [device.index or 0]
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices, device_type=device.type):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


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
    layout = torch.channels_last if images.ndim == 4 and device.type != "mps" else torch.preserve_format
    return images.to(device, non_blocking=True, memory_format=layout)


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """PyTorch's autocast, or nothing for float32."""
    return contextlib.nullcontext() if precision == torch.float32 else torch.autocast(device.type, dtype=precision)
