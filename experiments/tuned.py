"""Training until validation stops improving, at learning rates that validation chooses: one rule for every method.

A *cell* is what is compared (a network, a training method, a data set). A run keeps the epoch with the best validation
accuracy. A cell's learning rate is the one with the lowest cross-entropy on the validation set in the mean over two
seeds, which is less noisy than the accuracy of few images. Then five other seeds train at that rate and are scored on
the test set, which plays no part in any choice.
"""

import argparse
import functools
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import torch
from grid import Cell, Grid, Job
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.flop_counter import FlopCounterMode

from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.frozen_prefix import split_at_frozen_prefix

SIZES = {"resnet18": 64, "resnet34": 64, "vgg16": 64, "efficientnet_lite0": 128}  # pixels
NETWORKS = tuple(SIZES)
LAST = {"efficientnet_lite0": 2}  # blocks that "last block" trains; of the others one. Lite0's very last is one layer
# Training stops after 10 epochs or 60 steps, whichever is longer, without a better one, and after six times as many in
# all; the learning rate falls to a fifth after 0.4 times as many without a better one.
PATIENCE, PATIENT_STEPS, CAP, PLATEAU, BATCH = 10, 60, 6, 0.4, 32
VIEWS = 4  # augmented views of each image over which a frozen prefix runs once
TUNING_SEEDS, SEEDS = (100, 101), range(5)
HEAD = 10  # a new head's learning rate is this many times the backbone's
# Tried by every method; "frozen": rates of the head. VGG16 has no BatchNorm and needs a tenth.
RATES = {
    "frozen": (3e-3, 1e-2, 3e-2),
    "last block": (1e-4, 3e-4, 1e-3),
    "everything": (1e-4, 3e-4, 1e-3),
    "probe first": (1e-4, 3e-4, 1e-3),
    "scratch": (3e-4, 1e-3, 3e-3),
}
METHODS = tuple(RATES)
SETTINGS = {
    "sizes": SIZES,
    "rates": {method: list(rates) for method, rates in RATES.items()},
    "stopping": [PATIENCE, PATIENT_STEPS, CAP, PLATEAU],
    "batch": BATCH,
}


def rates_of(network: str, method: str) -> list[float]:
    """The learning rates that are tried."""
    scale = 0.1 if network == "vgg16" and method != "frozen" else 1
    return [float(f"{scale * rate:g}") for rate in RATES[method]]


def built(network: str, method: str, rate: float, classes: Sequence[str], seed: int) -> tuple[Any, dict[str, float]]:
    """The network with what trains, and a learning rate for each trainable block."""
    weights = "none" if method == "scratch" else None
    model = tl.load_model(network, classes=classes, weights=weights, size=SIZES[network], seed=seed)
    if method in ("frozen", "probe first"):
        tl.freeze(model)
    elif method == "last block":
        tl.unfreeze(tl.freeze(model), last=LAST.get(network, 1))
    return model, learning_rates(model, method, rate)


def learning_rates(model: nn.Module, method: str, rate: float) -> dict[str, float]:
    """One rate for the backbone, a larger one for a new head."""
    head = HEAD * rate if method in ("last block", "everything") else rate
    return {str(group["name"]): head if group["name"] == "head" else rate for group in tl.param_groups(model, 1.0)}


def train(
    model: nn.Module, data: ImageData, lr: Any, seed: int, *, augment: Any = True, cached: bool = False, **step: Any
) -> tl.Run:
    """Train until validation stops improving; the learning rate falls before that, and the best epoch is kept."""
    patience = max(PATIENCE, round(PATIENT_STEPS * BATCH / len(data.train)))
    plateau = functools.partial(ReduceLROnPlateau, mode="max", factor=0.2, patience=round(PLATEAU * patience))
    options = {"optimizer": functools.partial(AdamW, weight_decay=1e-2), "schedule": plateau, **step}
    return tl.fit(
        model,
        data,
        epochs=CAP * patience,
        patience=patience,
        lr=lr,
        batch_size=BATCH,
        augment=augment,
        cache=VIEWS if cached else True,
        **options,
        seed=seed,
    )


def train_method(
    network: str, method: str, data: ImageData, rate: float, seed: int, probed: dict[str, torch.Tensor] | None = None
) -> tuple[Any, tl.Run, float]:
    """Train a network by a method; returns it, its last run and the compute in 10^12 floating-point operations.

    `probed`, if given, receives the weights that "probe first" has after its first part.
    """
    first = "frozen" if method == "probe first" else method
    model, lr = built(network, first, 3e-3 if method == "probe first" else rate, data.classes, seed)
    cached = method in ("frozen", "last block", "probe first")
    run = train(model, data, lr, seed, cached=cached)
    compute = operations(network, first, data, len(run.history))
    if method == "probe first":
        if probed is not None:
            probed |= tl.snapshot(model)
        tl.unfreeze(model)
        run = train(model, data, learning_rates(model, method, rate), seed)
        compute += operations(network, "everything", data, len(run.history))
    return model, run, compute


def operations(network: str, method: str, data: ImageData, epochs: int) -> float:
    """Floating-point operations of a run, in 10^12: what `fit` computes, its cached activations once."""
    step, forward, prefix = _operations_of_an_image(network, method, len(data.classes))
    train, val = len(data.train), len(data.val)
    return ((step * train + forward * val) * epochs + prefix * (VIEWS * train + val)) / 1e12


@functools.cache
def _operations_of_an_image(network: str, method: str, classes: int) -> tuple[float, float, float]:
    """For one image: a training step and an evaluation of what runs in every epoch, and what runs once."""
    model, _ = built(network, method, 0.0, [str(i) for i in range(classes)], 0)
    images = torch.zeros(2, 3, SIZES[network], SIZES[network])
    split = split_at_frozen_prefix(model) if method in ("frozen", "last block") else None
    once, inputs, part = 0.0, images, model
    if split is not None:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            inputs = split.frozen.eval()(images)
        once, part = counter.get_total_flops() / 2, split.trainable
    with FlopCounterMode(display=False) as counter:
        part.train()(inputs).sum().backward()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        part.eval()(inputs)
    return counter.get_total_flops() / 2, forward.get_total_flops() / 2, once


def measured(run: tl.Run, val: ImageSplit, compute: float) -> Cell:
    """What is kept of every run."""
    found = tl.evaluate(run.model, val)
    return {
        "val": round(found.accuracy, 4),
        "val_loss": round(found.loss, 4),
        "train": round(float(run.history.loc[run.best_epoch, "train_accuracy"]), 4),
        "epochs": len(run.history),
        "best_epoch": run.best_epoch,
        "compute": float(f"{compute:.3g}"),
    }


def scored(model: nn.Module, split: ImageSplit) -> Cell:
    """The score of a network on a test set."""
    return score_of(split.labels.tolist(), tl.evaluate(model, split).predictions.tolist())


def score_of(labels: Sequence[int], predictions: Sequence[int]) -> Cell:
    """Balanced accuracy, and which images were right, as hexadecimal digits of four images each."""
    hits = [label == found for label, found in zip(labels, predictions, strict=True)]
    bits = "".join(str(int(hit)) for hit in hits).ljust(-(-len(hits) // 4) * 4, "0")
    digits = "".join(f"{int(bits[i : i + 4], 2):x}" for i in range(0, len(bits), 4))
    return {"test": round(float(balanced_accuracy_score(labels, predictions)), 4), "right": digits}


def counted(data: ImageData) -> dict[str, Any]:
    """Numbers of images, the labels of the test images, and for each the number of its drawing, species or patient."""
    assert data.test is not None
    groups = data.test.groups or data.test.keys
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    sizes = {"train": len(data.train), "val": len(data.val)}
    return {**sizes, "labels": data.test.labels.tolist(), "clusters": [numbers[group] for group in groups]}


def best_rate(runs: Sequence[Cell], column: str = "rate") -> Any:
    """The setting with the lowest validation loss in the mean over the tuning seeds."""
    found: dict[Any, list[float]] = {}
    for run in runs:
        found.setdefault(run[column], []).append(run["val_loss"])
    return min(found, key=lambda setting: statistics.mean(found[setting]))


def fill_tuned(
    grid: Grid, cells: Sequence[Job], settings: Callable[..., Sequence[Any]], one: Callable[..., Cell], processes: int
) -> None:
    """Tune every cell, then measure it with each of `SEEDS`; a job is (*cell, setting, seed)."""

    def follow_up(found: Sequence[Cell]) -> list[Job]:
        tuning: dict[Job, list[Cell]] = {}
        for run in found:
            if run["seed"] in TUNING_SEEDS:
                tuning.setdefault(grid.key(run)[:-2], []).append(run)
        tried, chosen = [], []
        for cell in cells:
            values, runs = settings(*cell), tuning.get(cell, [])
            if len(runs) < len(values) * len(TUNING_SEEDS):
                tried += [(*cell, value, seed) for value in values for seed in TUNING_SEEDS]
            else:
                chosen += [(*cell, best_rate(runs, grid.keys[-2]), seed) for seed in SEEDS]
        return [*chosen, *tried]

    grid.fill_in_turn(follow_up, one, processes)


def options(doc: str | None) -> argparse.Namespace:
    """The command line that the experiments share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, nargs="?", help="the folder that holds the image folders")
    cores = max(1, (os.cpu_count() or 2) // 2) if torch.cuda.is_available() else os.cpu_count() or 1
    parser.add_argument("--processes", type=int, default=cores, help="runs side by side (%(default)s)")
    parser.add_argument("--only", nargs="*", default=[], help="only these data sets, networks or methods")
    return parser.parse_args()
