"""Finding settings: a learning rate from a short trial, and unfreezing in stages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from tlhelpers.batch_sources import Augment, Inputs, Wish, prepare
from tlhelpers.data.dataset import ImageData
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.evaluation import check_fits
from tlhelpers.loop import place, train_epoch
from tlhelpers.models.freezing import freeze, param_groups, unfreeze
from tlhelpers.models.modes import preserve_modes
from tlhelpers.progress import tqdm
from tlhelpers.training import Run, fit, made, seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOO_FAR = 4.0  # times the lowest loss: there the trial ends (as fastai's finder does)
SMOOTH = 0.9  # how much of the running mean each step keeps


@dataclass(frozen=True)
class LRFinderResult:
    """What `find_lr` saw.

    Attributes:
        curve: one row for each step: columns lr (the head's), loss, smooth (its running mean).
        suggestion: the rate at which the smoothed loss falls most steeply.
        highest: the rate at which it was lowest; from about there on it rises.
    """

    curve: pd.DataFrame
    suggestion: float
    highest: float

    def plot(self) -> Figure:
        """Loss against learning rate, as a figure."""
        from tlhelpers import plots

        return plots.rate_trial(self.curve, self.suggestion, self.highest)

    def __repr__(self) -> str:
        return (
            f"LRFinderResult of {len(self.curve)} steps: the loss falls fastest at {self.suggestion:.1e}, was lowest "
            f"at {self.highest:.1e}. The weights are as they were."
        )


def find_lr(
    model: nn.Module,
    data: ImageData | Mapping[str, Any],
    *,
    lr: float | dict[str, float] = 1.0,
    lowest: float = 1e-5,
    steps: int = 80,
    batch_size: int = 32,
    augment: Augment = True,
    optimizer: Callable[..., Optimizer] = AdamW,
    loss: nn.Module | None = None,
    seed: int = 0,
) -> LRFinderResult:
    """Train for a few steps with a learning rate that grows from step to step, and watch the loss (Smith 2017).

    Weights, BatchNorm statistics and modes are as before afterwards, whatever happens.

    Args:
        model: as in `fit`, and so the next five.
        data: see there.
        batch_size: see there.
        augment: see there.
        optimizer: see there.
        loss: see there.
        seed: see there.
        lr: the highest rate; or one for each trainable block, whose proportions are kept all the way.
        lowest: what share of it the trial begins with.
        steps: how many at most; it ends early when the loss is four times its lowest value, or no number.

    Raises:
        TrainingError: if nothing is trainable, or the loss is no number from the start.
    """
    if steps < 10 or not 0 < lowest < 1:
        raise TrainingError(f"a trial needs 10 steps or more and lowest between 0 and 1; got {steps} and {lowest}")
    settings = current_profile()
    if isinstance(data, ImageData):
        check_fits(model, data.train)
    place(model, settings.device)
    groups = param_groups(model, lr)
    if not groups:
        raise TrainingError("nothing to train: every parameter is frozen. Call tl.unfreeze(model, last=0) for the head")
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    with preserve_modes(model), seeded(seed, settings.device):
        try:
            if isinstance(data, ImageData):
                wish = Wish(steps, batch_size, augment, seed=seed)
                inputs = prepare(model, data, wish, settings.dtype, validates=False)
            else:
                inputs = Inputs(data["train"], data["val"], model, model)
            criterion = loss if loss is not None else nn.CrossEntropyLoss()
            curve = _trial(inputs, criterion, made(optimizer, groups, settings.device), lowest, steps, settings.dtype)
        finally:
            model.load_state_dict(before)
            model.zero_grad(set_to_none=True)
    return _judged(curve)


def _trial(
    inputs: Inputs, criterion: nn.Module, optimizer: Optimizer, lowest: float, steps: int, precision: torch.dtype
) -> pd.DataFrame:
    """The losses, step by step."""
    highest = [group["lr"] for group in optimizer.param_groups]
    rows: list[tuple[float, float, float]] = []
    mean = 0.0
    batches = itertools.islice(_endless(inputs.train), steps)
    for number, batch in enumerate(tqdm(batches, total=steps, desc="learning rates", leave=False, delay=1)):
        factor = lowest ** (1 - number / (steps - 1))
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * factor
        try:
            value, _ = train_epoch(inputs.network, [batch], criterion, optimizer, precision=precision)
        except TrainingError:
            if not rows:
                raise
            break  # the loss is no number any more
        mean = SMOOTH * mean + (1 - SMOOTH) * value
        rows.append((optimizer.param_groups[-1]["lr"], value, mean / (1 - SMOOTH ** (number + 1))))
        if rows[-1][2] > TOO_FAR * min(row[2] for row in rows):
            break
    return pd.DataFrame(rows, columns=["lr", "loss", "smooth"])


def _endless(batches: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for epoch in itertools.count(1):
        if hasattr(batches, "set_epoch"):
            batches.set_epoch(epoch)
        yield from batches


def _judged(curve: pd.DataFrame) -> LRFinderResult:
    lowest = int(curve["smooth"].argmin())
    falling = curve.iloc[: max(lowest + 1, 3)]
    slopes = np.gradient(falling["smooth"].to_numpy(), np.log(falling["lr"].to_numpy()))
    return LRFinderResult(curve, float(falling["lr"].iloc[int(slopes.argmin())]), float(curve["lr"].iloc[lowest]))


def fit_in_stages(
    model: nn.Module,
    data: ImageData | Mapping[str, Any],
    *,
    stages: Sequence[int] = (0, 1, 2),
    epochs: int | Sequence[int] = 1,
    lr: float = 1e-3,
    factor: float = 1 / 2.6,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Run:
    """Gradual unfreezing (Howard and Ruder 2018): train the head, then the last block too, then one more, and so on.

    Args:
        model: a network of a known family; it is frozen first.
        data: as in `fit`.
        stages: how many of the last blocks train in each stage.
        epochs: of each stage.
        lr: the head's learning rate.
        factor: each block's rate is the one after it times this.
        checkpoint: a folder; each stage has one of its own in it.
        options: passed on to `fit`.

    Returns:
        the run: its history has the epochs of all stages and a column `stage`; best and kept epoch are the last
        stage's. Each stage begins with the weights that the one before kept.
    """
    counts = [epochs] * len(stages) if isinstance(epochs, int) else list(epochs)
    if len(counts) != len(stages) or not stages:
        raise TrainingError(f"{len(stages)} stages, but epochs for {len(counts)}")
    freeze(model)
    tables, done = [], 0
    for number, (last, count) in enumerate(zip(stages, counts, strict=True), start=1):
        unfreeze(model, last=last)
        rates = {str(group["name"]): float(group["lr"]) for group in param_groups(model, lr, factor=factor)}
        folder = None if checkpoint is None else Path(checkpoint) / f"stage{number}"
        run = fit(model, data, epochs=count, lr=rates, checkpoint=folder, **options)
        tables.append(run.history.assign(stage=number).set_index(run.history.index + done))
        done += len(run.history)
        if run.stopped.startswith("Interrupted"):
            break
    before = done - len(run.history)
    best, kept = (epoch + before if epoch else 0 for epoch in (run.best_epoch, run.kept_epoch))
    return Run(model, pd.concat(tables), best, kept, run.stopped, run.notes)
