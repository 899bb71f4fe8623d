"""Checkpoints: what a training run needs so that it can go on in another process as if nothing had happened.

After each epoch one file, `last.pt`, takes the place of the one before, whole or not at all. It holds the weights, the
state of optimizer, scheduler, loss scaling and averaging, every random generator that training draws from, the history,
and the best epoch's weights. `best.safetensors` has those too, for `tl.load`.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from filelock import FileLock, Timeout
from torch import nn

from tlhelpers.errors import CheckpointError
from tlhelpers.files import atomic_write, remove_leftovers
from tlhelpers.models.cards import ModelCard
from tlhelpers.models.saving import save
from tlhelpers.options import Checkpoint

FORMAT = "tlhelpers-checkpoint-3"


@dataclass
class RunProgress:
    """What a run has reached."""

    rows: list[list[float]] = field(default_factory=list)  # one for each finished epoch, as in `Run.history`
    best_epoch: int = 0  # the highest validation accuracy, the lower loss deciding ties; 0 if there is none
    best: tuple[float, ...] = (-1.0, 0.0)  # its accuracy and its negative loss
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)  # its weights, as `state_dict()` gives them

    def update_best(self, model: nn.Module, epoch: int, loss: float, accuracy: float) -> bool:
        """Keep a copy of the weights if this epoch's validation is the best so far; True if it is."""
        if (accuracy, -loss) <= self.best:
            return False
        self.best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.best_epoch, self.best = epoch, (accuracy, -loss)
        return True


@dataclass
class CheckpointState:
    """Everything that changes while a network trains."""

    parts: Mapping[str, Any]  # model, optimizer, scheduler ...: objects with `state_dict` and `load_state_dict`
    device: torch.device  # whose random generator is part of the state, besides the CPU's
    shuffle: torch.Generator | None  # of the order of images, if there is one

    def pack(self) -> dict[str, Any]:
        """All of it as tensors, numbers, strings, lists and dictionaries."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        return {**states, "generators": {name: get() for name, (get, _) in self._generators().items()}}

    def unpack(self, packed: Mapping[str, Any]) -> None:
        """Put everything back in place."""
        for name, part in self.parts.items():
            part.load_state_dict(packed[name])
        for name, (_, put) in self._generators().items():
            put(packed["generators"][name])

    def _generators(self) -> dict[str, tuple[Any, Any]]:
        """How to get and set the state of every generator that training draws from."""
        found: dict[str, Any] = {"cpu": (torch.get_rng_state, torch.set_rng_state)}
        if self.device.type != "cpu":
            module = torch.get_device_module(self.device)
            found[self.device.type] = module.get_rng_state, module.set_rng_state
        if self.shuffle is not None:
            found["shuffle"] = self.shuffle.get_state, self.shuffle.set_state
        return found


class CheckpointFolder:
    """The folder of one run; as a context manager it keeps other runs out. A run goes on with the same `settings`."""

    def __init__(self, checkpoint: Checkpoint, settings: dict[str, Any]) -> None:
        folder = Path(checkpoint.folder)
        self.path, self.best_path, self.resume = folder / "last.pt", folder / "best.safetensors", checkpoint.resume
        self.settings, self._lock = settings, FileLock(folder / "in_use.lock")

    def __enter__(self) -> CheckpointFolder:
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            for path in (self.path, self.best_path):
                remove_leftovers(path)  # nobody else writes here
        except Timeout as error:
            raise CheckpointError(
                f"another run is writing to {folder} just now. Wait for its end, or name another folder"
            ) from error
        except OSError as error:
            raise CheckpointError(f"{folder} cannot hold checkpoints: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def begin(self, state: CheckpointState) -> RunProgress:
        """The progress to go on from, with `state` put back to it; an empty one where there is nothing.

        Raises:
            CheckpointError: if the file is damaged, or of a run with other settings.
        """
        self.settings |= _identity(state.parts["model"], state.parts["optimizer"])
        if not (self.resume and self.path.exists()):
            return RunProgress()
        packed = self._read()
        old = packed["settings"]
        different = [name for name, value in self.settings.items() if old.get(name) != value]
        if different:
            listed = "; ".join(f"{name} was {old.get(name)} and is now {self.settings[name]}" for name in different)
            raise CheckpointError(
                f"the checkpoint {self.path} belongs to another run: {listed}. Give the same settings again, name "
                "another folder, or take resume=False to begin anew"
            )
        try:
            state.unpack(packed)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint {self.path} does not fit this run: {error}") from error
        return RunProgress(**packed["progress"])

    def save(self, state: CheckpointState, progress: RunProgress) -> None:
        """Replace the checkpoint; a process killed here leaves the old one.

        Raises:
            CheckpointError: if it cannot be written.
        """
        packed = {"format": FORMAT, "settings": self.settings, "progress": vars(progress), **state.pack()}
        with self._writing(), atomic_write(self.path) as file:
            torch.save(packed, file)

    def save_best(self, model: nn.Module) -> None:
        """Replace the file with the best weights, if the network has a card to say what they are."""
        if hasattr(model, "card"):
            with self._writing():
                save(model, self.best_path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with _interrupt_waits():
                yield
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:  # torch.save wraps what the disk says
            free = shutil.disk_usage(self.path.parent).free
            raise CheckpointError(
                f"the checkpoint could not be written to {self.path.parent} ({error}; {free / 1e9:.1f} GB are free). "
                "The one before is whole: make room and go on with resume=True"
            ) from error

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


@contextlib.contextmanager
def _interrupt_waits() -> Iterator[None]:
    """Delay Ctrl-C until the `with` block has ended: inside `torch.save` it would come out as another error."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives it
        return
    delayed: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *received: delayed.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
    if delayed and callable(before):
        before(*delayed[0])


def _identity(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What tells one network and optimizer from another; of each parameter group, size and first learning rate."""
    card = getattr(model, "card", None)
    known = {"arch": card.arch, "classes": list(card.classes)} if isinstance(card, ModelCard) else {}
    groups = [[len(group["params"]), float(group.get("initial_lr", group["lr"]))] for group in optimizer.param_groups]
    return {**known, "optimizer": type(optimizer).__name__, "groups": groups}
