"""Checkpoints: what a training run needs so that it can go on in another process as if nothing had happened.

After each epoch one file, `last.pt`, takes the place of the one before, whole or not at all. It holds the weights,
the state of optimizer, scheduler and loss scaling, every random generator that training draws from, the history,
and the best epoch's weights.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tlhelpers.errors import CheckpointError
from tlhelpers.files import atomic_write

FORMAT = "tlhelpers-checkpoint-1"


@dataclass
class Progress:
    """What a run has reached.

    Attributes:
        rows: one for each finished epoch, as in `Run.history`.
        best_epoch: the epoch with the highest validation accuracy, the lower loss deciding ties; 0 if there is none.
        best: its accuracy and its negative loss.
        best_weights: its weights, as `state_dict()` gives them.
    """

    rows: list[tuple[float, ...]] = field(default_factory=list)
    best_epoch: int = 0
    best: tuple[float, float] = (-1.0, 0.0)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def note_best(self, model: nn.Module, epoch: int, validated: tuple[float, float]) -> None:
        """Keep a copy of the weights if this epoch's (loss, accuracy) is the best so far."""
        loss, accuracy = validated
        if (accuracy, -loss) > self.best:
            self.best, self.best_epoch = (accuracy, -loss), epoch
            self.best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@dataclass
class State:
    """Everything that changes while a network trains."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    scaler: torch.amp.GradScaler | None
    batches: Any

    def pack(self) -> dict[str, Any]:
        """All of it as tensors, numbers, strings, lists and dictionaries."""
        return {
            "model": self.model.state_dict(),
            **{name: part.state_dict() for name, part in self._parts().items()},
            "generators": {name: get() for name, (get, _) in self._generators().items()},
        }

    def unpack(self, packed: Mapping[str, Any]) -> None:
        """Put everything back in place."""
        self.model.load_state_dict(packed["model"])
        for name, part in self._parts().items():
            part.load_state_dict(packed[name])
        for name, (_, put) in self._generators().items():
            put(packed["generators"][name])

    def _parts(self) -> dict[str, Any]:
        parts = {"optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.scaler}
        return {name: part for name, part in parts.items() if part is not None}

    def _generators(self) -> dict[str, tuple[Callable[[], torch.Tensor], Callable[[torch.Tensor], Any]]]:
        """How to get and put back the state of every generator that training draws from."""
        found: dict[str, Any] = {"torch": (torch.get_rng_state, torch.set_rng_state)}
        device = next(self.model.parameters()).device
        if device.type == "cuda":
            get, put = torch.cuda.get_rng_state, torch.cuda.set_rng_state
            found["cuda"] = functools.partial(get, device), functools.partial(put, device=device)
        if device.type == "mps":
            found["mps"] = torch.mps.get_rng_state, torch.mps.set_rng_state
        shuffle = getattr(self.batches, "generator", None)
        if shuffle is not None:
            found["shuffle"] = shuffle.get_state, shuffle.set_state
        return found


class Checkpoints:
    """The folder of one run.

    Args:
        folder: made if it is not there.
        resume: go on from what the folder holds; without it, a new run replaces what is there.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        self.path = folder / "last.pt"
        self.resume = resume
        self.settings: dict[str, Any] = {}

    def begin(self, state: State, settings: dict[str, Any]) -> Progress:
        """The progress to go on from, with `state` put back to it; none at all where there is nothing.

        Raises:
            CheckpointError: if the file is damaged, or of a run with other settings.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.settings = {**settings, "network": type(state.model).__mro__[-3].__name__, **_groups(state.optimizer)}
        if not (self.resume and self.path.exists()):
            return Progress()
        packed = self._read()
        self._compare(packed["settings"])
        try:
            state.unpack(packed)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint {self.path} does not fit this run: {error}") from error
        kept = packed["progress"]
        rows = [tuple(row) for row in kept["rows"]]
        return Progress(rows, kept["best_epoch"], tuple(kept["best"]), kept["best_weights"])

    def save(self, state: State, progress: Progress) -> None:
        """Replace the checkpoint; a process killed here leaves the old one."""
        kept = {
            "rows": [list(row) for row in progress.rows],
            "best_epoch": progress.best_epoch,
            "best": list(progress.best),
            "best_weights": progress.best_weights,
        }
        with atomic_write(self.path) as file:
            torch.save({"format": FORMAT, "settings": self.settings, "progress": kept, **state.pack()}, file)

    def _read(self) -> dict[str, Any]:
        try:
            packed = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"the checkpoint {self.path} is damaged ({reason}). Delete it to begin again"
            ) from error
        if not isinstance(packed, dict) or packed.get("format") != FORMAT:
            raise CheckpointError(f"{self.path} was not written by tl.fit. Name another folder as checkpoint=")
        return packed

    def _compare(self, old: Mapping[str, Any]) -> None:
        different = [name for name in self.settings if old.get(name) != self.settings[name]]
        if different:
            said = "; ".join(f"{name} was {old.get(name)} and is now {self.settings[name]}" for name in different)
            raise CheckpointError(
                f"the checkpoint {self.path} belongs to another run: {said}. Give the same settings again, name "
                "another folder, or take resume=False to begin anew"
            )


def _groups(optimizer: Optimizer) -> dict[str, Any]:
    """What tells one optimizer from another: its kind, and of each group the size and the learning rate to start at."""
    groups = [[len(group["params"]), float(group.get("initial_lr", group["lr"]))] for group in optimizer.param_groups]
    return {"optimizer": type(optimizer).__name__, "groups": groups}
