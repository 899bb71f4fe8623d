"""The epochs around the loop: train, validate, keep the best weights, save, stop, and explain what went wrong."""

import random
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

import tlhelpers
from tlhelpers.batch_sources import BatchSources
from tlhelpers.checkpoints import CheckpointFolder
from tlhelpers.loop import check_finite, compute_logits, compute_loss, device_of, explained, train_epoch
from tlhelpers.models.freezing import evaluation_mode, snapshot
from tlhelpers.progress import tqdm


@dataclass
class Run:
    """What `fit` returns.

    `history` has a row for each finished epoch (index from 1) and the columns train_loss, train_accuracy (both measured
    during the epoch, on augmented images), val_loss, val_accuracy, lr (the head's, at the epoch's start) and seconds.
    """

    model: nn.Module  # in evaluation mode, with the weights of `kept_epoch`
    history: pd.DataFrame
    best_epoch: int = 0  # the highest validation accuracy, the lower loss deciding ties; 0 if no epoch was finished
    kept_epoch: int = 0  # the best; the last one with keep="last", unless training was interrupted
    stopped: str = ""  # why training ended early
    notes: list[str] = field(default_factory=list)  # sentences about what was computed once

    def plot(self) -> "tlhelpers.plots.Chart":
        """Loss and accuracy by epoch, as a figure."""
        return tlhelpers.plots.history(self.history, best_epoch=self.best_epoch)

    def __repr__(self) -> str:
        if self.history.empty:
            return f"Run without a finished epoch. {self.stopped}".strip()
        kept, seconds = self.history.loc[self.kept_epoch], self.history["seconds"].sum()
        text = f"Run of {len(self.history)} epochs in {seconds:.0f} s; kept epoch {self.kept_epoch}: validation "
        text += f"accuracy {kept['val_accuracy']:.1%}, loss {kept['val_loss']:.3f}{'. ' * bool(self.stopped)}"
        return "\n".join([text + self.stopped, *(textwrap.fill(note, 100) for note in self.notes)])


@dataclass
class RunProgress:
    """What a run has reached; `history` and the best epoch are as in `Run`."""

    rows: list[list[float]] = field(default_factory=list)  # of `history`
    best_epoch: int = 0
    best: tuple[float, ...] = (-1.0, 0.0)  # its validation accuracy and negative loss
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)  # as `state_dict()` gives them

    @property
    def history(self) -> pd.DataFrame:
        """A row for each finished epoch."""
        columns = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
        return pd.DataFrame(self.rows, columns=columns, index=pd.RangeIndex(1, len(self.rows) + 1, name="epoch"))


@dataclass(eq=False)
class Trainer:
    """Trains `model` on the batches of `sources`."""

    model: nn.Module
    sources: BatchSources
    criterion: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None = None
    precision: torch.dtype = torch.float32
    end: float = float("inf")  # the reading of `time.perf_counter` from which on no further epoch begins

    def __post_init__(self) -> None:
        self.progress, device_type = RunProgress(), device_of(self.model).type
        self.scaler = torch.amp.GradScaler(device_type) if self.precision == torch.float16 else None
        self.steps_after_batch = isinstance(self.scheduler, OneCycleLR | CyclicLR)

    def run(
        self, epochs: int, patience: int | None = None, keep: str = "best", folder: CheckpointFolder | None = None
    ) -> Run:
        """Train and validate. Then the model has the weights of the best or last epoch; after an error, of the best."""
        if folder is not None:
            folder.begin(self)
        stopped, steps, patience = "", len(self.sources.train), patience or epochs + 1
        progress, begun = self.progress, len(self.progress.rows)
        with tqdm(total=epochs * steps, initial=begun * steps, desc="train", unit="batch") as bar:
            try:
                while (count := len(progress.rows)) < epochs and count - progress.best_epoch < patience:
                    if count > begun and time.perf_counter() >= self.end:
                        break
                    bar.set_description(f"epoch {count + 1}/{epochs}")
                    with explained(self.sources.train):
                        self._epoch(bar, folder)
                    if folder is not None:
                        folder.save(self)
            except KeyboardInterrupt:
                stopped = f"Interrupted by hand in epoch {len(progress.rows) + 1}."
            except Exception:
                self._load(progress.best_weights)  # the best epoch stays usable
                raise
        count, best = len(progress.rows), progress.best_epoch
        kept = count if keep == "last" and not stopped else best
        if not stopped and count < epochs:
            why = f"none was better than epoch {best} since" if count - best >= patience else "the time was up"
            stopped = f"Stopped after epoch {count}: {why}."
        self._load(progress.best_weights if kept == best else {})
        return Run(self.model, progress.history, best, kept, stopped, self.sources.notes)

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during training, as tensors, numbers, strings, lists and dictionaries."""
        states = {name: part.state_dict() for name, part in self._parts().items()}
        generators = {name: get() for name, (get, _) in self._generators().items()}
        return {**states, "generators": generators, "progress": vars(self.progress)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was called."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name, (_, put) in self._generators().items():
            put(state["generators"][name])
        self.progress = RunProgress(**state["progress"])

    def _parts(self) -> dict[str, Any]:
        names = ("model", "optimizer", "scheduler", "scaler")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    def _generators(self) -> dict[str, tuple[Any, Any]]:
        """How to get and set the state of every random generator that training draws from."""

        def numpy_state() -> list[Any]:  # without arrays, which a checkpoint does not take
            name, keys, *rest = np.random.get_state()
            return [name, np.asarray(keys).tolist(), *rest]

        found: dict[str, Any] = {"cpu": (torch.get_rng_state, torch.set_rng_state)}
        found |= {"python": (random.getstate, random.setstate), "numpy": (numpy_state, np.random.set_state)}
        device = device_of(self.model)
        if device.type != "cpu":
            module, which = torch.get_device_module(device), (device,) if device.type == "cuda" else ()
            found[device.type] = lambda: module.get_rng_state(*which), lambda state: module.set_rng_state(state, *which)
        if (shuffle := self.sources.train.generator) is not None:
            found["shuffle"] = shuffle.get_state, shuffle.set_state
        return found

    def _epoch(self, bar: Any, folder: CheckpointFolder | None) -> None:
        progress, start, lr = self.progress, time.perf_counter(), self.optimizer.param_groups[-1]["lr"]
        epoch, sources, device = len(progress.rows) + 1, self.sources, device_of(self.model)
        options: Any = {"precision": self.precision, "scaler": self.scaler}
        options["scheduler"] = self.scheduler if self.steps_after_batch else None
        trained = train_epoch(sources.network, self._batches(epoch, bar), self.criterion, self.optimizer, **options)
        logits, labels = compute_logits(sources.val_network, sources.val.set_epoch(epoch), precision=self.precision)
        with torch.no_grad(), evaluation_mode(self.criterion):
            loss = float(compute_loss(self.criterion, logits.to(device), labels.to(device)))
        check_finite([torch.tensor(loss)], "validation")
        accuracy = float((logits.argmax(dim=1) == labels).float().mean())
        progress.rows.append([*trained, loss, accuracy, lr, time.perf_counter() - start])
        if (accuracy, -loss) > progress.best:
            progress.best_weights = snapshot(self.model)
            progress.best, progress.best_epoch = (accuracy, -loss), epoch
            if folder is not None:
                folder.save_best(self.model)
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(accuracy if self.scheduler.mode == "max" else loss)
        elif self.scheduler is not None and not self.steps_after_batch:
            self.scheduler.step()
        bar.set_postfix(val_loss=f"{loss:.3f}", val_accuracy=f"{accuracy:.1%}")

    def _batches(self, epoch: int, bar: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in self.sources.train.set_epoch(epoch):
            yield batch
            bar.update()

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        if weights:
            self.model.load_state_dict(weights)
        self.model.eval()
