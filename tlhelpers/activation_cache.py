"""What a frozen part computes, computed once: activations at the freeze boundary, kept in memory or on disk.

An entry is found by a key over everything that decides its numbers: the images' bytes, the frozen part's weights
and program, precision, device, and the versions of torch and of this file. So an entry that does not belong is never
used, and none needs to be deleted by hand when something changes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tlhelpers.errors import TrainingError
from tlhelpers.files import atomic_write, digest_of
from tlhelpers.loop import autocast, on_device
from tlhelpers.models.modes import evaluation_mode
from tlhelpers.pixel_batches import Order, batches_on
from tlhelpers.progress import tqdm

VERSION = 1  # of what this file computes and writes
MEMORY_LIMIT = 512 * 2**20  # bytes of activations that are kept in memory; more goes to disk


@dataclass(frozen=True)
class Activations:
    """What a frozen part makes of images.

    Attributes:
        values: (views * images, ...) in the frozen part's own precision, maps with their channels last.
        labels: int64 (images,).
    """

    values: torch.Tensor
    labels: torch.Tensor


class ActivationBatches:
    """Batches of (activations, labels) in place of (images, labels)."""

    def __init__(self, kept: Activations, order: Order) -> None:
        self.kept = Activations(kept.values, kept.labels.to(kept.values.device))
        self.order, self.epoch = order, 1
        self.views = len(kept.values) // len(kept.labels)

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.order.batch_size

    @property
    def generator(self) -> torch.Generator:
        """What the order is drawn from."""
        return self.order.generator

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """What follows is epoch number `epoch`, from 1; each shows the next view of every image."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        first = (self.epoch - 1) % self.views * len(self.kept.labels)
        for chosen in batches_on(self.kept.values.device, self.order):
            values = self.kept.values[first + chosen]
            yield (values.permute(0, 3, 1, 2) if values.ndim == 4 else values), self.kept.labels[chosen]


def compute_activations(
    lower: nn.Module,
    batches: Any,
    labels: torch.Tensor,
    views: int = 1,
    *,
    precision: torch.dtype,
    entry: tuple[Path, str] | None = None,
) -> Activations:
    """Run the frozen part over `views` epochs of batches in natural order.

    Args:
        lower: the frozen part, images -> activations.
        batches: of (images, labels), told the epoch by `set_epoch` if it has that.
        labels: of all images.
        views: epochs; each sees other random crops, if there are any.
        precision: of the forward pass.
        entry: folder and key under which to keep the values on disk; None keeps them in memory, on the device.

    Raises:
        TrainingError: if the disk is full.
    """
    device = next(lower.parameters()).device
    target: _InMemory | _OnDisk = _InMemory(views * len(labels)) if entry is None else _OnDisk(*entry)
    bar = tqdm(total=views * len(batches), desc="frozen part, once", unit="batch", leave=False, delay=1)
    with target, bar, evaluation_mode(lower), torch.no_grad(), autocast(device, precision):
        for view in range(1, views + 1):
            if hasattr(batches, "set_epoch"):
                batches.set_epoch(view)
            for images, _ in batches:
                values = lower(on_device(images, device))
                target.write(values.permute(0, 2, 3, 1) if values.ndim == 4 else values)
                bar.update()
    return Activations(target.finish(), labels)


class _InMemory:
    """Collects values in one tensor, so that they are never there twice."""

    def __init__(self, count: int) -> None:
        self.count, self.written = count, 0
        self.values = torch.empty(0)

    def __enter__(self) -> _InMemory:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, values: torch.Tensor) -> None:
        if self.written == 0:
            self.values = torch.empty(self.count, *values.shape[1:], dtype=values.dtype, device=values.device)
        self.values[self.written : self.written + len(values)] = values
        self.written += len(values)

    def finish(self) -> torch.Tensor:
        return self.values


def key_of(lower: Any, precision: torch.dtype, *images: Any) -> str:
    """The key of an entry: SHA-256, in hexadecimal digits.

    Args:
        lower: the frozen part, a `torch.fx.GraphModule`.
        precision: of the forward pass.
        images: what decides the images: tensors, numbers, texts.
    """
    digest = hashlib.sha256()
    device = next(lower.parameters()).device
    kinds = {"cpu": torch.backends.cpu.get_cpu_capability, "cuda": torch.cuda.get_device_name}
    where = kinds.get(device.type, lambda: device.type)()
    for part in (VERSION, torch.__version__, where, str(precision), lower.code, *images):
        _feed(digest, part)
    for name, tensor in lower.state_dict().items():
        _feed(digest, name)
        _feed(digest, tensor)
    return digest.hexdigest()


def _feed(digest: Any, part: Any) -> None:
    if isinstance(part, torch.Tensor):
        digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
        digest.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    else:
        digest.update(repr(part).encode() + b"\n")


# --- on disk ----------------------------------------------------------------------------------------------------


def read_activations(folder: Path, key: str, labels: torch.Tensor) -> Activations | None:
    """The entry with this key, mapped from disk; None if there is none, or it is not whole."""
    card, path = folder / f"{key}.json", folder / f"{key}.bin"
    try:
        facts = json.loads(card.read_text(encoding="utf8"))
        if path.stat().st_size != facts["bytes"] or digest_of(path) != facts["sha256"]:
            return None
        values = _mapped(path, facts)
        return Activations(values, labels) if len(values) % len(labels) == 0 else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


class _OnDisk:
    """Writes values as they come; they get their name only when all are there."""

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.card = folder / f"{key}.bin", folder / f"{key}.json"
        self.shape: list[int] = []
        self.count, self.dtype, self.digest = 0, torch.float32, hashlib.sha256()

    def __enter__(self) -> _OnDisk:
        self.opened = atomic_write(self.path)
        self.file = self.opened.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.opened.__exit__(*error)

    def write(self, values: torch.Tensor) -> None:
        self.shape, self.dtype = list(values.shape[1:]), values.dtype
        self.count += len(values)
        content = values.cpu().contiguous().view(-1).view(torch.uint8).numpy().data
        try:
            self.file.write(content)
        except OSError as error:
            free = shutil.disk_usage(self.path.parent).free
            raise TrainingError(
                f"the activations of the frozen part could not be written to {self.path.parent} ({error.strerror}; "
                f"{free / 1e9:.1f} GB are free). Make room, name another folder with cache=, or take cache=False"
            ) from error
        self.digest.update(content)

    def finish(self) -> torch.Tensor:
        facts = {
            "shape": [self.count, *self.shape],
            "dtype": str(self.dtype).removeprefix("torch."),
            "bytes": self.path.stat().st_size,
            "sha256": self.digest.hexdigest(),
        }
        with atomic_write(self.card) as file:  # last: without it there is no entry
            file.write(json.dumps(facts).encode())
        return _mapped(self.path, facts)


def _mapped(path: Path, facts: dict[str, Any]) -> torch.Tensor:
    shape = [int(side) for side in facts["shape"]]
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[facts["dtype"]]
    count = torch.Size(shape).numel()
    return torch.from_file(str(path), shared=False, size=count, dtype=dtype).view(shape)
