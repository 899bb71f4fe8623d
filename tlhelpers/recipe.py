"""The default recipe: the best network that a few minutes allow; validation says how far to fine-tune."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tlhelpers.data.dataset import ImageData
from tlhelpers.evaluation import evaluate
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import get_blocks
from tlhelpers.models.freezing import freeze, param_groups, snapshot, unfreeze
from tlhelpers.trainer import Run
from tlhelpers.training import fit

# Learning rates and stopping are those of experiments/tuned.py, at which six data sets were measured.
HEAD_RATE, RATE, VIEWS, PATIENCE, MOST = 3e-3, 3e-4, 4, 10, 60
STEP_COST = 3.5  # a training step of everything, as a multiple of a forward pass over the same images


def train_within(
    model: nn.Module,
    data: ImageData,
    minutes: float = 3.0,
    *,
    batch_size: int = 32,
    seed: int = 0,
    checkpoint: str | Path | None = None,
) -> Run:
    """Train the head, then the last blocks, then everything, as far as the time goes; keep what validates best.

    Each step begins with the weights of the one before it (Kumar et al. 2022), and no epoch begins when the time is up.
    Where the backbone is frozen it runs once, over up to four augmented views of each image. `model` is a network from
    `load_model`, changed in place; its images become smaller if the time is short. The run is that of the step that was
    kept; its `notes` say what was tried. Other arguments and errors are as in `fit`.
    """
    start, blocks, notes = time.perf_counter(), len(get_blocks(model)), list[str]()
    seconds = _fit_size(model, data, 60 * minutes, notes)
    tried: list[tuple[tuple[float, float], Run, dict[str, torch.Tensor]]] = []
    for last in sorted({0, max(1, blocks // 4), blocks}):
        begin = time.perf_counter()
        left, name = 60 * minutes - (begin - start), {0: "the head", blocks: "everything"}.get(last, f"{last} blocks")
        epochs, views = int(left / (STEP_COST * seconds)) if last == blocks else MOST, int(0.4 * left / seconds)
        if tried and (epochs < 2 or views < 1):
            notes.append(f"There was no time to train {name}: an epoch takes about {STEP_COST * seconds:.0f} s.")
            break
        unfreeze(freeze(model), last=last)
        lr = {str(group["name"]): HEAD_RATE if group["name"] == "head" else RATE for group in param_groups(model, 1.0)}
        options: dict[str, Any] = {"minutes": max(left, 1) / 60, "batch_size": batch_size, "seed": seed}
        if last < blocks:  # where everything trains, the number of epochs is known, and a cosine ends with them
            options["schedule"] = lambda optimizer: ReduceLROnPlateau(optimizer, mode="max", factor=0.2, patience=4)
            options["cache"] = max(1, min(VIEWS, views))
        run = fit(model, data, epochs=min(epochs, MOST), patience=PATIENCE, lr=lr, checkpoint=checkpoint, **options)
        if run.kept_epoch:
            kept, took = run.history.loc[run.kept_epoch], time.perf_counter() - begin
            notes.append(f"Trained {name}: {len(run.history)} epochs, {took:.0f} s, {kept['val_accuracy']:.1%}.")
            tried.append(((kept["val_accuracy"], -kept["val_loss"]), run, snapshot(model)))
        if interrupted := run.stopped if run.stopped.startswith("Interrupted") else "":
            break
    if tried:
        _, run, weights = max(tried, key=lambda each: each[0])
        model.load_state_dict(weights)
    run.notes, run.stopped = notes, interrupted
    return run


def _fit_size(model: Any, data: ImageData, seconds: float, notes: list[str]) -> float:
    """Make the images so small that a pass over them takes a tenth of the time at most; returns its seconds."""
    own, some = get_card(model).preprocessing, data.train.select(range(min(64, len(data.train))))
    for size in (own.size, round(own.size * 0.72 / 32) * 32, round(own.size * 0.58 / 32) * 32):
        model.card = replace(model.card, preprocessing=own.at(max(size, 32)))
        evaluate(model, some)  # decodes, and warms up
        begin = time.perf_counter()
        evaluate(model, some)
        took = (time.perf_counter() - begin) * (len(data.train) + len(data.val)) / len(some)
        if took < seconds / 10:
            break
    if size != own.size:
        notes.append(f"Images are {size} px wide in place of {own.size}, since the time is short.")
    return took
