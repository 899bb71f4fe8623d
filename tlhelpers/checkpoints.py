"""Checkpoints: all that a run needs to resume, in another process, exactly where it stopped.

After each epoch the file `last.pt` is replaced, in one step. It holds the weights, the state of optimizer, scheduler,
loss scaling and averaging, every random generator that training draws from, the history, and the best epoch's weights.
`best.safetensors` has only those, for `tl.load`.
"""

import contextlib
import pickle
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from filelock import FileLock, Timeout
from torch import nn

from tlhelpers.errors import CheckpointError
from tlhelpers.files import atomic_write, remove_leftovers
from tlhelpers.models.cards import ModelCard
from tlhelpers.models.saving import save
from tlhelpers.options import Checkpoint

if TYPE_CHECKING:
    from tlhelpers.trainer import Trainer

FORMAT = "tlhelpers-checkpoint-3"


class CheckpointFolder:
    """The folder of one run; as a context manager it keeps other runs out. A run goes on with the same `settings`."""

    def __init__(self, checkpoint: Checkpoint, settings: dict[str, Any]) -> None:
        folder = Path(checkpoint.folder)
        self.path, self.best_path, self.resume = folder / "last.pt", folder / "best.safetensors", checkpoint.resume
        self.settings, self._lock = settings, FileLock(folder / "in_use.lock")

    def __enter__(self) -> "CheckpointFolder":
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

    def begin(self, trainer: "Trainer") -> None:
        """Put the state that the folder holds back into `trainer`, if it is to resume and there is one."""
        self.settings |= _identity(trainer.model, trainer.optimizer)
        if not (self.resume and self.path.exists()):
            return
        packed = self._read()
        old = packed["settings"]
        new = {name: value for name, value in self.settings.items() if old.get(name) != value}
        if new:
            changes = "; ".join(f"{name} was {old.get(name)} and is now {value}" for name, value in new.items())
            raise CheckpointError(
                f"the checkpoint {self.path} belongs to another run: {changes}. Give the same settings again, name "
                "another folder, or take resume=False to begin anew"
            )
        try:
            trainer.load_state_dict(packed)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint {self.path} does not fit this run: {error}") from error

    def save(self, trainer: "Trainer") -> None:
        """Replace the checkpoint; a process killed here leaves the old one."""
        packed = {"format": FORMAT, "settings": self.settings, **trainer.state_dict()}
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
