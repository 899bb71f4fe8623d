"""Checkpoints: what a training run needs so that it can go on in another process as if nothing had happened.

After each epoch one file, `last.pt`, takes the place of the one before, whole or not at all. It holds the weights,
the state of optimizer, scheduler, loss scaling and averaging, every random generator that training draws from, the
history, and the best epoch's weights. `best.safetensors` has those too, for `tl.load`.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors
import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from tlhelpers import distributed
from tlhelpers.errors import CheckpointError
from tlhelpers.files import atomic_write, remove_leftovers
from tlhelpers.models.cards import ModelCard
from tlhelpers.models.saving import save

FORMAT = "tlhelpers-checkpoint-2"
COLUMNS = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"]


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

    def note_best(self, model: nn.Module, epoch: int, validated: tuple[float, float]) -> bool:
        """Keep a copy of the weights if this epoch's (loss, accuracy) is the best so far, and say whether it is."""
        loss, accuracy = validated
        if (accuracy, -loss) <= self.best:
            return False
        weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.best_weights, self.best_epoch, self.best = weights, epoch, (accuracy, -loss)
        return True

    def table(self) -> pd.DataFrame:
        """The rows as `Run.history`."""
        index = pd.RangeIndex(1, len(self.rows) + 1, name="epoch")
        return pd.DataFrame(self.rows, columns=COLUMNS, index=index)


@dataclass
class State:
    """Everything that changes while a network trains."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    scaler: torch.amp.GradScaler | None
    average: AveragedModel | None
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
        parts = {
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
            "average": self.average,
        }
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
    """The folder of one run; as a context manager it keeps other runs out.

    Args:
        folder: made if it is not there.
        resume: go on from what the folder holds; without it, a new run replaces what is there.
        seed: of the run.
    """

    def __init__(self, folder: Path, *, resume: bool, seed: int) -> None:
        self.path, self.best_path = folder / "last.pt", folder / "best.safetensors"
        self.resume = resume
        self.settings: dict[str, Any] = {"seed": seed}
        self.writes = distributed.rank() == 0
        self._lock = FileLock(folder / "in_use.lock")

    def __enter__(self) -> Checkpoints:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.writes:
                self._lock.acquire(timeout=0)
        except Timeout as error:
            raise CheckpointError(
                f"another run is writing to {self.path.parent} just now. Wait for its end, or name another folder"
            ) from error
        except OSError as error:
            raise CheckpointError(f"{self.path.parent} cannot hold checkpoints: {error}") from error
        if self.writes:
            for path in (self.path, self.best_path):
                remove_leftovers(path, older_than=0)  # nobody else writes here
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def begin(self, state: State, settings: dict[str, Any]) -> Progress:
        """The progress to go on from, with `state` put back to it; none at all where there is nothing.

        Raises:
            CheckpointError: if the file is damaged, or of a run with other settings.
        """
        self.settings |= {**settings, **_network(state.model), **_groups(state.optimizer)}
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
        """Replace the checkpoint; a process killed here leaves the old one.

        Raises:
            CheckpointError: if it cannot be written.
        """
        kept = {
            "rows": [list(row) for row in progress.rows],
            "best_epoch": progress.best_epoch,
            "best": list(progress.best),
            "best_weights": progress.best_weights,
        }
        if self.writes:
            with _ctrl_c_waits(), self._explained(), atomic_write(self.path) as file:
                torch.save({"format": FORMAT, "settings": self.settings, "progress": kept, **state.pack()}, file)

    def save_best(self, model: nn.Module) -> None:
        """Replace the file with the best weights, if the network has a card to say what they are."""
        if self.writes and hasattr(model, "card"):
            with _ctrl_c_waits(), self._explained():
                save(model, self.best_path)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
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

    def _compare(self, old: Mapping[str, Any]) -> None:
        different = [name for name in self.settings if old.get(name) != self.settings[name]]
        if different:
            said = "; ".join(f"{name} was {old.get(name)} and is now {self.settings[name]}" for name in different)
            raise CheckpointError(
                f"the checkpoint {self.path} belongs to another run: {said}. Give the same settings again, name "
                "another folder, or take resume=False to begin anew"
            )


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C takes effect when the `with` block has ended: inside `torch.save` it would come out as another error."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives it
        return
    held: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *happened: held.append(happened))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
    if held and callable(before):
        before(*held[0])


def _network(model: nn.Module) -> dict[str, Any]:
    """What tells one network from another."""
    card = getattr(model, "card", None)
    known = {"arch": card.arch, "classes": list(card.classes)} if isinstance(card, ModelCard) else {}
    return {"network": type(model).__mro__[-3].__name__, **known}


def _groups(optimizer: Optimizer) -> dict[str, Any]:
    """What tells one optimizer from another: its kind, and of each group the size and the learning rate to start at."""
    groups = [[len(group["params"]), float(group.get("initial_lr", group["lr"]))] for group in optimizer.param_groups]
    return {"optimizer": type(optimizer).__name__, "groups": groups}
