"""The learning-rate finder: a short trial whose learning rate grows from step to step."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim import AdamW, Optimizer

import tlhelpers
from tlhelpers.batch_sources import BatchSources, choose_sources
from tlhelpers.data.dataset import ImageData
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.loop import device_of, explained, seeded, train_epoch
from tlhelpers.models.freezing import preserve_modes, snapshot
from tlhelpers.options import Augment, FitOptions
from tlhelpers.progress import tqdm
from tlhelpers.training import trainable_groups

TOO_FAR = 4.0  # times the lowest loss: there the trial ends (as fastai's finder does)
SMOOTH = 0.9  # how much of the running mean each step keeps


@dataclass(frozen=True)
class LRFinderResult:
    """What `find_lr` measured."""

    curve: pd.DataFrame  # one row for each step: columns lr (the head's), loss, smooth (its moving average)
    suggestion: float  # the learning rate at which the smoothed loss falls most steeply
    highest: float  # a bound for the learning rate: there the smoothed loss was lowest, and beyond it rises

    def plot(self) -> "tlhelpers.plots.Chart":
        """Loss against learning rate, as a figure."""
        return tlhelpers.plots.lr_curve(self.curve, self.suggestion, self.highest)

    def __repr__(self) -> str:
        found = f"the loss falls fastest at {self.suggestion:.1e} and was lowest at {self.highest:.1e}"
        return f"Learning-rate finder, {len(self.curve)} steps: {found}. The weights are as they were."


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
    """Train for a few steps with a growing learning rate, and record the loss (Smith 2017); then restore the network.

    `lr` is the learning rate of the last step, or one for each trainable block; their ratios stay. The first step's is
    the fraction `lowest` of it. The trial has at most `steps` steps, and ends early when the smoothed loss is 4 times
    its minimum, or not finite. Other arguments and errors are as in `fit`.
    """
    if steps < 10 or not 0 < lowest < 1:
        raise TrainingError(f"a trial needs 10 steps or more and lowest between 0 and 1; got {steps} and {lowest}")
    profile = current_profile()
    groups = trainable_groups(model, data, lr, profile.device)
    before = snapshot(model)
    with preserve_modes(model), seeded(seed, profile.device):
        try:
            options = FitOptions(steps, None, "best", batch_size, augment, optimizer, loss=loss, seed=seed)
            sources = choose_sources(model, data, options, profile.dtype, validates=False)
            criterion, built = options.build_criterion(profile.device), options.build_optimizer(groups, profile.device)
            curve = _trial(sources, criterion, built, lowest, steps, profile.dtype)
        finally:
            model.load_state_dict(before)
            model.zero_grad(set_to_none=True)
    best = int(curve["smooth"].argmin())
    falling = curve.iloc[: max(best + 1, 3)]
    slopes = np.gradient(falling["smooth"].to_numpy(), np.log(falling["lr"].to_numpy()))
    return LRFinderResult(curve, float(falling["lr"].iloc[int(slopes.argmin())]), float(curve["lr"].iloc[best]))


def _trial(
    sources: BatchSources, criterion: nn.Module, optimizer: Optimizer, lowest: float, steps: int, precision: torch.dtype
) -> pd.DataFrame:
    """The losses, step by step."""
    highest, network = [group["lr"] for group in optimizer.param_groups], sources.network
    rows: list[tuple[float, float, float]] = []
    mean = 0.0
    batches = itertools.chain.from_iterable(map(sources.train.set_epoch, itertools.count(1)))
    scaler = torch.amp.GradScaler(device_of(network).type) if precision == torch.float16 else None
    bar = tqdm(itertools.islice(batches, steps), total=steps, desc="learning rates", leave=False, delay=1)
    for number, batch in enumerate(bar):
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * lowest ** (1 - number / (steps - 1))
        try:
            with explained(sources.train):
                loss, _ = train_epoch(network, [batch], criterion, optimizer, precision=precision, scaler=scaler)
        except TrainingError as error:
            if len(rows) < 2 or "finite" not in str(error):  # a slope needs two points
                raise
            break
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
        rows.append((optimizer.param_groups[-1]["lr"], loss, mean / (1 - SMOOTH ** (number + 1))))
        if rows[-1][2] > TOO_FAR * min(row[2] for row in rows):
            break
    return pd.DataFrame(rows, columns=["lr", "loss", "smooth"])
