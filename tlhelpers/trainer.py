"""The epochs around the loop: train, validate, keep the best weights, save, stop, and explain what went wrong."""

import contextlib
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tlhelpers.batch_sources import BatchSources, at_epoch
from tlhelpers.checkpoints import CheckpointFolder
from tlhelpers.errors import TLError, TrainingError
from tlhelpers.loop import Batches, check_finite, compute_logits, device_of, train_epoch
from tlhelpers.models.freezing import evaluation_mode
from tlhelpers.options import Epochs, StepOptions
from tlhelpers.progress import tqdm

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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

    def plot(self) -> "Figure":
        """Loss and accuracy by epoch, as a figure."""
        from tlhelpers import plots

        return plots.history(self.history, best_epoch=self.best_epoch)

    def __repr__(self) -> str:
        if self.history.empty:
            return f"Run without a finished epoch. {self.stopped}".strip()
        kept = self.history.loc[self.kept_epoch]
        text = f"Run of {len(self.history)} epochs in {self.history['seconds'].sum():.0f} s; kept epoch "
        text += f"{self.kept_epoch}: validation accuracy {kept['val_accuracy']:.1%}, loss {kept['val_loss']:.3f}"
        text += f". {self.stopped}" if self.stopped else ""
        return "\n".join([text, *(textwrap.fill(note, 100) for note in self.notes)])


def history_table(rows: list[list[float]]) -> pd.DataFrame:
    """The rows of finished epochs as `Run.history`."""
    columns = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))


@dataclass
class RunProgress:
    """What a run has reached."""

    rows: list[list[float]] = field(default_factory=list)  # one for each finished epoch, as in `Run.history`
    best_epoch: int = 0  # as in `Run`
    best: tuple[float, ...] = (-1.0, 0.0)  # its validation accuracy and negative loss
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)  # its weights, as `state_dict()` gives them

    @property
    def epochs_since_best(self) -> int:
        """How many epochs in a row were no better than the best."""
        return len(self.rows) - self.best_epoch if self.best_epoch else 0

    def update_best(self, model: nn.Module, loss: float, accuracy: float) -> bool:
        """Keep a copy of the weights if the validation of the last row's epoch is the best so far; True if it is."""
        if (accuracy, -loss) <= self.best:
            return False
        self.best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.best_epoch, self.best = len(self.rows), (accuracy, -loss)
        return True


class Trainer:
    """Trains `model` on the batches of `sources`; criterion, optimizer and scheduler as in a plain loop."""

    def __init__(
        self,
        model: nn.Module,
        sources: BatchSources,
        criterion: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None = None,
        precision: torch.dtype = torch.float32,
        step: StepOptions = StepOptions(),  # noqa: B008 (it cannot change)
    ) -> None:
        self.model, self.sources, self.criterion, self.optimizer = model, sources, criterion, optimizer
        self.scheduler, self.precision, self.step, self.progress = scheduler, precision, step, RunProgress()
        self.steps_after_batch = isinstance(scheduler, OneCycleLR)
        self.scaler = torch.amp.GradScaler(device_of(model).type) if precision == torch.float16 else None
        self.average: AveragedModel | None = None
        if step.ema_decay is not None:
            average = get_ema_multi_avg_fn(step.ema_decay)
            self.average = AveragedModel(sources.network, multi_avg_fn=average, use_buffers=True)

    def run(self, epochs: Epochs, folder: CheckpointFolder | None = None) -> Run:
        """Train and validate. Then the model has the weights of the best or last epoch; after an error, of the best."""
        stopped, steps, patience = "", len(self.sources.train), epochs.patience or epochs.count + 1
        with contextlib.ExitStack() as stack:
            if folder is not None:
                stack.enter_context(folder).begin(self)
            progress = self.progress
            done = len(progress.rows) * steps
            bar = stack.enter_context(tqdm(total=epochs.count * steps, initial=done, desc="train", unit="batch"))
            try:
                while len(progress.rows) < epochs.count and progress.epochs_since_best < patience:
                    bar.set_description(f"epoch {len(progress.rows) + 1}/{epochs.count}")
                    self._epoch(bar, folder)
                    if folder is not None:
                        folder.save(self)
            except KeyboardInterrupt:
                stopped = f"Interrupted by hand in epoch {len(progress.rows) + 1}."
            except Exception as error:
                self._load(progress.best_weights)  # the best epoch stays usable
                if known := _explained(error, getattr(self.sources.train, "batch_size", None)):
                    raise known from error
                raise
        count = len(progress.rows)
        kept = count if epochs.keep == "last" and not stopped else progress.best_epoch
        if not stopped and count < epochs.count:
            stopped = f"Stopped after epoch {count}: none was better than epoch {progress.best_epoch} since."
        if kept != progress.best_epoch:
            self._swap_average()
        self._load(progress.best_weights if kept == progress.best_epoch else {})
        return Run(self.model, history_table(progress.rows), progress.best_epoch, kept, stopped, self.sources.notes)

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
        names = ("model", "optimizer", "scheduler", "scaler", "average")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _generators(self) -> dict[str, tuple[Any, Any]]:
        """How to get and set the state of every random generator that training draws from."""
        found: dict[str, Any] = {"cpu": (torch.get_rng_state, torch.set_rng_state)}
        device = device_of(self.model)
        if device.type != "cpu":
            module, which = torch.get_device_module(device), (device,) if device.type == "cuda" else ()
            found[device.type] = lambda: module.get_rng_state(*which), lambda state: module.set_rng_state(state, *which)
        if (shuffle := getattr(self.sources.train, "generator", None)) is not None:
            found["shuffle"] = shuffle.get_state, shuffle.set_state
        return found

    def _epoch(self, bar: Any, folder: CheckpointFolder | None) -> None:
        """Train, validate, keep what was reached."""
        progress, start, lr = self.progress, time.perf_counter(), self.optimizer.param_groups[-1]["lr"]
        epoch = len(progress.rows) + 1
        trained = train_epoch(
            self.sources.network,
            _advancing(at_epoch(self.sources.train, epoch), bar),
            self.criterion,
            self.optimizer,
            precision=self.precision,
            scaler=self.scaler,
            scheduler=self.scheduler if self.steps_after_batch else None,
            average=self.average,
            step=self.step,
        )
        self._swap_average()
        try:
            loss, accuracy = self._validate(epoch)
            progress.rows.append([*trained, loss, accuracy, lr, time.perf_counter() - start])
            if progress.update_best(self.model, loss, accuracy) and folder is not None:
                folder.save_best(self.model)
        finally:
            self._swap_average()
        if self.scheduler is not None and not self.steps_after_batch:
            self.scheduler.step()
        bar.set_postfix(val_loss=f"{loss:.3f}", val_accuracy=f"{accuracy:.1%}")

    def _validate(self, epoch: int) -> tuple[float, float]:
        """Loss and accuracy on the validation batches."""
        batches, network = at_epoch(self.sources.val, epoch), self.sources.val_network
        logits, labels = compute_logits(network, batches, precision=self.precision)
        device = device_of(network)
        with torch.no_grad(), evaluation_mode(self.criterion):
            loss = float(self.criterion(logits.to(device), labels.to(device)))
        check_finite([torch.tensor(loss)], "validation")
        return loss, float((logits.argmax(dim=1) == labels).float().mean())

    def _swap_average(self) -> None:
        """Exchange the network's weights with their moving average, if there is one."""
        if self.average is not None:
            own, mean = ([*net.parameters(), *net.buffers()] for net in (self.sources.network, self.average.module))
            for here, there in zip(own, mean, strict=True):
                here.data, there.data = there.data, here.data

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        if weights:
            self.model.load_state_dict(weights)
        self.model.eval()


def _advancing(batches: Batches, bar: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in batches:
        yield batch
        bar.update()


def _explained(error: Exception, batch_size: int | None) -> TrainingError | None:
    """An error that explains running out of memory or a dead reading process; None for any other."""
    if isinstance(error, TLError):
        return None
    if "DataLoader worker" in str(error):  # raised wherever this process happens to be
        return TrainingError(
            "a process that reads images ended without a word, probably killed because memory ran out. Load the data "
            "with workers=0, or fewer"
        )
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        half = (batch_size or 2) // 2 or 1
        return TrainingError(
            f"memory ran out with {batch_size or 'so many'} images in a batch. Try batch_size={half}"
            ", or step=tl.StepOptions(accumulation_steps=2), which runs each batch in two halves; or load the model "
            "with a smaller size=, or freeze more of it."
        )
    return None
