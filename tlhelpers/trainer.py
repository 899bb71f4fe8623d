"""The epochs around the loop: train, validate, keep the best weights, save, stop, and explain what went wrong."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tlhelpers.batch_sources import BatchSources
from tlhelpers.checkpoints import CheckpointFolder, CheckpointState, RunProgress
from tlhelpers.errors import TLError, TrainingError
from tlhelpers.loop import Batches, check_finite, compute_logits, device_of, train_epoch
from tlhelpers.models.modes import evaluation_mode
from tlhelpers.options import Epochs, StepOptions
from tlhelpers.progress import tqdm

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass
class Run:
    """What `fit` returns.

    `history` has a row for each finished epoch (index from 1) and the columns train_loss, train_accuracy (measured
    during the epoch, on augmented images), val_loss, val_accuracy, lr (the head's) and seconds.
    """

    model: nn.Module  # in evaluation mode, with the weights of `kept_epoch`
    history: pd.DataFrame
    best_epoch: int = 0  # the highest validation accuracy, the lower loss deciding ties; 0 if no epoch was finished
    kept_epoch: int = 0  # the best or, with keep="last", the last one
    stopped: str = ""  # why training ended early
    notes: list[str] = field(default_factory=list)  # what was decoded or computed once

    def plot(self) -> Figure:
        """Loss and accuracy by epoch, as a figure."""
        from tlhelpers import plots

        return plots.history(self.history, best_epoch=self.best_epoch)

    def __repr__(self) -> str:
        if self.history.empty:
            return f"Run without a finished epoch. {self.stopped}".strip()
        kept = self.history.loc[self.kept_epoch]
        text = (
            f"Run of {len(self.history)} epochs in {self.history['seconds'].sum():.0f} s; kept epoch "
            f"{self.kept_epoch}: validation accuracy {kept['val_accuracy']:.1%}, loss {kept['val_loss']:.3f}"
        )
        notes = [textwrap.fill(note, 100) for note in self.notes]
        return "\n".join([f"{text}. {self.stopped}".removesuffix(". "), *notes])


def history_table(rows: list[list[float]]) -> pd.DataFrame:
    """The rows of finished epochs as `Run.history`."""
    import pandas as pd

    columns = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))


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
        self.scheduler, self.precision, self.step = scheduler, precision, step
        self.steps_after_batch = isinstance(scheduler, OneCycleLR)
        self.scaler = torch.amp.GradScaler(device_of(model).type) if precision == torch.float16 else None
        self.average: AveragedModel | None = None
        if step.ema_decay is not None:
            average = get_ema_multi_avg_fn(step.ema_decay)
            self.average = AveragedModel(sources.network, multi_avg_fn=average, use_buffers=True)

    def run(self, epochs: Epochs, folder: CheckpointFolder | None = None) -> Run:
        """Train and validate; the model ends with the weights of the best or of the last epoch.

        Raises:
            TrainingError: if the loss stops being finite or memory runs out; the best weights so far are in the model.
        """
        progress, stopped, steps = RunProgress(), "", len(self.sources.train)
        names = ("model", "optimizer", "scheduler", "scaler", "average")
        parts = {name: part for name in names if (part := getattr(self, name)) is not None}
        state = CheckpointState(parts, device_of(self.model), getattr(self.sources.train, "generator", None))
        with contextlib.ExitStack() as stack:
            if folder is not None:
                progress = stack.enter_context(folder).begin(state)
            done = len(progress.rows) * steps
            bar = stack.enter_context(tqdm(total=epochs.count * steps, initial=done, desc="train", unit="batch"))
            try:
                while len(progress.rows) < epochs.count and not _out_of_patience(progress, epochs.patience):
                    bar.set_description(f"epoch {len(progress.rows) + 1}/{epochs.count}")
                    self._epoch(progress, bar, folder)
                    if folder is not None:
                        folder.save(state, progress)
            except KeyboardInterrupt:
                stopped = f"Interrupted by hand in epoch {len(progress.rows) + 1}."
            except Exception as error:
                self._load(progress.best_weights)  # the best epoch stays usable
                known = _explained(error, getattr(self.sources.train, "batch_size", None))
                if known is None:
                    raise
                raise known from error
        count = len(progress.rows)
        kept = count if epochs.keep == "last" and not stopped else progress.best_epoch
        if not stopped and count < epochs.count:
            stopped = f"Stopped after epoch {count}: none was better than epoch {progress.best_epoch} since."
        if kept == progress.best_epoch:
            self._load(progress.best_weights)
        else:
            self._swap_average()
        self.model.eval()
        return Run(self.model, history_table(progress.rows), progress.best_epoch, kept, stopped, self.sources.notes)

    def _epoch(self, progress: RunProgress, bar: Any, folder: CheckpointFolder | None) -> None:
        """Train, validate, keep what was reached."""
        start, epoch, lr = time.perf_counter(), len(progress.rows) + 1, self.optimizer.param_groups[-1]["lr"]
        trained = train_epoch(
            self.sources.network,
            _advancing(_at_epoch(self.sources.train, epoch), bar),
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
            if progress.update_best(self.model, epoch, loss, accuracy) and folder is not None:
                folder.save_best(self.model)
        finally:
            self._swap_average()
        if self.scheduler is not None and not self.steps_after_batch:
            self.scheduler.step()
        progress.rows.append([*trained, loss, accuracy, lr, time.perf_counter() - start])
        bar.set_postfix(val_loss=f"{loss:.3f}", val_accuracy=f"{accuracy:.1%}")

    def _validate(self, epoch: int) -> tuple[float, float]:
        """Loss and accuracy on the validation batches."""
        batches, network = _at_epoch(self.sources.val, epoch), self.sources.val_network
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


def _at_epoch(batches: Any, epoch: int) -> Any:
    if hasattr(batches, "set_epoch"):
        batches.set_epoch(epoch)
    return batches


def _advancing(batches: Batches, bar: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in batches:
        yield batch
        bar.update()


def _out_of_patience(progress: RunProgress, patience: int | None) -> bool:
    return patience is not None and progress.best_epoch > 0 and len(progress.rows) - progress.best_epoch >= patience


def _explained(error: Exception, batch_size: int | None) -> TrainingError | None:
    """A sentence for the reader where it is known what an error means."""
    if isinstance(error, TLError):
        return None
    if "DataLoader worker" in str(error):  # raised wherever this process happens to be
        return TrainingError(
            "one of the processes that read images ended without a word, as one does that is killed because memory ran "
            "out. Load the data with workers=0, or fewer"
        )
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        smaller = max((batch_size or 2) // 2, 1)
        return TrainingError(
            f"memory ran out with {batch_size} images in a batch. Try batch_size={smaller}, or "
            "step=tl.StepOptions(accumulation_steps=2), which runs each batch in two halves; or load the model with a "
            "smaller size=, or freeze more of it."
        )
    return None
