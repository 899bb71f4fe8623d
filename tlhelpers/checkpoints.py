"""Checkpoints: after each epoch `last.pt` gets all that a run needs to resume exactly where it stopped.

Each replaces the one before in one step. `best.safetensors` has only the best epoch's weights, for `tl.load`.
"""

import contextlib
import pickle
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import torch
from filelock import FileLock, Timeout
from torch import nn

from tlhelpers.errors import CheckpointError
from tlhelpers.files import atomic_write, make_folder, user_path
from tlhelpers.models.cards import ModelCard
from tlhelpers.models.families import ARCHS
from tlhelpers.models.saving import save

FORMAT = "tlhelpers-checkpoint-3"


class CheckpointFolder:
    """The folder of one run; as a context manager it keeps other runs out. A run goes on with the same `settings`."""

    def __init__(self, folder: str | Path, settings: dict[str, Any], resume: bool = False) -> None:
        self.folder, self.resume, self.settings = user_path(folder), resume, settings
        self.path, self.best_path = self.folder / "last.pt", self.folder / "best.safetensors"
        self._lock = FileLock(self.folder / "in_use.lock")

    def __enter__(self) -> "CheckpointFolder":
        try:
            make_folder(self.folder)
            self._lock.acquire(timeout=0)
            for path in (self.path, self.best_path):
                for part in self.folder.glob(f".{path.name}.*.part"):  # of a killed process: nobody else writes here
                    part.unlink(missing_ok=True)
        except Timeout as error:
            raise CheckpointError(f"another run is writing to {self.folder} just now: wait, or name another") from error
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot hold checkpoints: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def begin(self, trainer: Any) -> None:
        """Put the state that the folder holds back into `trainer`, if it is to resume and there is one."""
        card, groups = getattr(trainer.model, "card", None), trainer.optimizer.param_groups
        if isinstance(card, ModelCard):
            self.settings |= {"arch": card.arch, "classes": list(card.classes)}
        rates = [[len(group["params"]), float(group.get("initial_lr", group["lr"]))] for group in groups]
        self.settings |= {"optimizer": type(trainer.optimizer).__name__, "groups": rates}
        if not (self.resume and self.path.exists()):
            return
        packed = self._read()
        pairs = [(name, packed["settings"].get(name), now) for name, now in self.settings.items()]
        if changes := "; ".join(f"{name} was {old} and is now {now}" for name, old, now in pairs if old != now):
            found = f"the checkpoint {self.path} belongs to another run: {changes}"
            raise CheckpointError(f"{found}. Give the same settings, name another folder, or take resume=False")
        try:
            trainer.load_state_dict(packed)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint {self.path} does not fit this run: {error}") from error

    def save(self, trainer: Any) -> None:
        """Replace the checkpoint; a process killed here leaves the old one."""
        packed = {"format": FORMAT, "settings": self.settings, **trainer.state_dict()}
        with self._writing(), atomic_write(self.path) as file:
            torch.save(packed, file)

    def save_best(self, model: nn.Module) -> None:
        """Replace the file with the best weights, if the network has a card to say what they are."""
        if getattr(getattr(model, "card", None), "arch", None) in ARCHS:
            with self._writing():
                save(model, self.best_path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with _interrupt_waits():
                yield
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:  # torch.save wraps what the disk says
            free = f"{shutil.disk_usage(self.folder).free / 1e9:.1f} GB are free"
            text = f"the checkpoint could not be written to {self.folder} ({error}; {free}). The one before is whole:"
            raise CheckpointError(f"{text} make room and go on with resume=True") from error

    def _read(self) -> dict[str, Any]:
        try:
            packed = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{self.path} is damaged ({reason}). Delete it to begin again") from error
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
