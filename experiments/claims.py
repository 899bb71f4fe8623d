"""Measure three questions of sections 12.1 and 12.2, one results file each.

    python experiments/claims.py [FOLDER]                  what is missing of all of them
    python experiments/claims.py --only rates batchnorm    only these

All runs train the embedded resnet18 on safari at 64 px, with 40 drawings a class in three styles; it is tested on a
fourth. A seed decides the order of the images, their crops and the new weights. `test` is the balanced accuracy on the
test set after the last step; nothing was chosen on it.

FOLDER holds tiny_imagenet_val.zip (or Tiny ImageNet as it is downloaded), on which `rates` asks how much of the source
task is forgotten. Without it `rates` is left out.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import numpy as np
import torch
import transfer
from grid import Cell, Grid, Job, side_by_side
from PIL import Image
from tiny_imagenet import load_pixels
from torch import nn
from torch.optim import AdamW
from tuned import TUNING_SEEDS, best_rate, counted, learning_rates

from tlhelpers.batch_sources import scoring_batches
from tlhelpers.loop import compute_logits

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tlcourse" / "measurements" / "data"
SIDE, PER_CLASS, BATCH = 64, 40, 32
HEAD_RATE, RATE = 3e-3, 3e-4
EPOCHS, CURVE_EPOCHS = 8, 25
SEEDS = range(5)


# --- data and networks ------------------------------------------------------------------------------------------


class Stored:
    """Gives images that were drawn once."""

    def __init__(self, split: tl.ImageSplit) -> None:
        self.pixels = np.stack([np.asarray(split.image(i)) for i in range(len(split))])

    def __call__(self, index: int) -> Image.Image:  # noqa: D102
        return Image.fromarray(self.pixels[index])


@functools.cache
def safari() -> tl.ImageData:
    """Safari, drawn once in a process."""
    data = tl.load_data("safari", size=SIDE, per_class=PER_CLASS)

    def stored(split: tl.ImageSplit) -> tl.ImageSplit:
        return tl.ImageSplit(Stored(split), split.labels.tolist(), split.classes, keys=split.keys, name=split.name)

    train, val, test = (stored(part) for part in data.splits())
    return tl.ImageData(data.name, train, val, test, data.card)


def network(seed: int, last: int | None, weights: str | None = None) -> Any:
    """ResNet18 with a new head, its last blocks trainable (None: everything)."""
    model = tl.load_model("resnet18", classes=safari().classes, weights=weights, size=SIDE, seed=seed)
    return model if last is None else tl.unfreeze(tl.freeze(model), last=last)


def rates(model: Any, backbone: float = RATE, head: float = HEAD_RATE) -> dict[str, float]:
    """A learning rate for every trainable block: one for the backbone, one for the head."""
    names = [str(group["name"]) for group in tl.param_groups(model, 1.0)]
    return {name: head if name == "head" else backbone for name in names}


def fitted(model: Any, data: tl.ImageData, seed: int, epochs: int = EPOCHS, **options: Any) -> Cell:
    """Train with the common settings, but for `options`, and score."""
    start = time.perf_counter()
    return scored(trained(model, data, seed, epochs, **options), start)


def trained(model: Any, data: tl.ImageData, seed: int, epochs: int, **options: Any) -> tl.Run:
    """Train with the common settings, but for `options`."""
    options = {"schedule": "one-cycle", **options}
    return tl.fit(model, data, epochs=epochs, keep="last", batch_size=BATCH, seed=seed, **options)


def scored(run: tl.Run, start: float) -> Cell:
    """What is kept of a run."""
    test = tl.evaluate(run.model, safari().test)
    table = run.history.round(4)
    return {
        "test": round(test.balanced_accuracy, 4),
        "val": table["val_accuracy"].tolist(),
        "train_acc": table["train_accuracy"].tolist(),
        "train_loss": table["train_loss"].tolist(),
        "epoch_seconds": round(float(run.history["seconds"].median()), 2),
        "seconds": round(time.perf_counter() - start, 1),
    }


# --- the experiments --------------------------------------------------------------------------------------------


METHOD = {"pre-trained": "everything", "scratch": "scratch"}  # their names in tuned.py


def curves(start: str, seed: int) -> Cell:
    """Less time, a smaller gap? All of the network for 25 epochs, at the rate that validation chose in transfer.py."""
    method = METHOD[start]
    wanted = {"network": "resnet18", "method": method, "data": "safari"}
    runs = [run for run in transfer.GRID.read() if wanted.items() <= run.items() and run["seed"] in TUNING_SEEDS]
    if not runs:
        raise SystemExit("first: python experiments/transfer.py")
    rate, data = best_rate(runs), safari()
    model = network(seed, None, weights="none" if start == "scratch" else None)
    cell = fitted(model, data, seed, lr=learning_rates(model, method, rate), epochs=CURVE_EPOCHS, schedule="cosine")
    return {"rate": rate, **cell, "train_clean": round(tl.evaluate(model, data.train).accuracy, 4)}


def forgetting(lr: float, seed: int, *, source: Path) -> Cell:
    """A sweep of the backbone's rate (0 freezes it); what is left of the source task, with the old head put back.

    Weights forget, and so do BatchNorm's statistics, which follow the new images at any rate. To tell the two apart
    the source task is scored a second time with the old statistics on the new weights.
    """
    model, original = network(seed, None if lr else 0), tl.load_model("resnet18", size=SIDE)
    test = safari().test
    before = answers(original, test)
    cell = fitted(model, safari(), seed, lr=rates(model, lr))
    model.fc = original.fc
    cell["old_answers_kept"] = round(float((answers(model, test) == before).float().mean()), 4)
    cell["source_accuracy"] = source_accuracy(model, source)
    with torch.no_grad():
        for buffer, old in zip(model.buffers(), original.buffers(), strict=True):
            buffer.copy_(old)
    return {**cell, "source_accuracy_old_statistics": source_accuracy(model, source)}


def source_accuracy(model: Any, folder: Path) -> float:
    """How often the network is right about 1,000 photographs of its source task."""
    photographs, labels = source_images(folder)
    return round(float((compute_logits(model, photographs)[0].argmax(1) == labels).float().mean()), 4)


def answers(model: Any, split: tl.ImageSplit) -> torch.Tensor:
    """The number of the class that a network gives to each image."""
    return compute_logits(model, scoring_batches(model, split, 64))[0].argmax(1)


@functools.cache
def source_images(folder: Path, count: int = 1000) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """Validation photographs of the source task, evenly taken, normalised, in batches; and their labels."""
    part = load_pixels(folder, "val", ROOT / "runs" / "claims")
    chosen = torch.arange(0, len(part.labels), max(len(part.labels) // count, 1))[:count]
    expected = tl.load_model("resnet18", size=SIDE).card.preprocessing
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (expected.mean, expected.std))
    images = (part.pixels[chosen] / 255 - mean) / std
    return list(zip(images.split(100), part.labels[chosen].split(100), strict=True)), part.labels[chosen]


def batchnorm(method: str, batch_size: int, seed: int) -> Cell:
    """A frozen backbone whose BatchNorm is held, or drifts because the loop calls `model.train()`: the bare loop."""
    start, data = time.perf_counter(), safari()
    model = network(seed, 0)
    if method == "updated":
        tl.unfreeze(model)
        for parameter in model.parameters():
            parameter.requires_grad = False
        model.fc.requires_grad_(True)
    transform = model.card.preprocessing.evaluation()
    images = torch.stack([transform(data.train.image(i)) for i in range(len(data.train))])
    optimizer = AdamW(model.fc.parameters(), lr=HEAD_RATE)
    order, accuracies = torch.Generator().manual_seed(seed), []
    for _ in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(images), generator=order).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), data.train.labels[rows]).backward()
            optimizer.step()
        accuracies.append(round(tl.evaluate(model, data.val).accuracy, 4))
    test = tl.evaluate(model, safari().test)
    return {
        "test": round(test.balanced_accuracy, 4),
        "val": accuracies,
        "seconds": round(time.perf_counter() - start, 1),
    }


# --- the command ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experiment:
    """A function of a job, the names of what a job says, and the jobs."""

    one: Callable[..., Cell]
    keys: tuple[str, ...]
    jobs: Iterable[Job]
    needs_source: bool = False


def over(*values: Iterable[Any], seeds: Iterable[int] = SEEDS) -> list[Job]:
    """All combinations; a seed is complete before the next begins."""
    return [(*job, seed) for seed, job in itertools.product(seeds, list(itertools.product(*values)))]


EXPERIMENTS = {
    "curves": Experiment(curves, ("start", "seed"), over(("pre-trained", "scratch"))),
    "rates": Experiment(forgetting, ("lr", "seed"), over((0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)), True),
    "batchnorm": Experiment(batchnorm, ("method", "batch_size", "seed"), over(("frozen", "updated"), (4, 32))),
}


def main() -> int:
    """Measure what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", help="the folder that holds Tiny ImageNet's validation set")
    parser.add_argument("--only", nargs="*", default=list(EXPERIMENTS), choices=list(EXPERIMENTS))
    options = parser.parse_args()
    tl.use_profile("quick")
    for name in options.only:
        experiment = EXPERIMENTS[name]
        if experiment.needs_source and options.source is None:
            print(f"{name}: left out, since no folder with Tiny ImageNet was named")
            continue
        grid = grid_of(name)
        grid.facts["tests"] = {"safari": counted(tl.load_data("safari", size=SIDE, per_class=PER_CLASS))}
        grid.fill(experiment.jobs, functools.partial(_measured, name, options.source), side_by_side())
    return 0


def _measured(name: str, source: Path | None, *job: Any) -> Cell:
    """One cell of an experiment, with the job that it belongs to."""
    experiment = EXPERIMENTS[name]
    extra = {"source": source} if experiment.needs_source else {}
    return {**dict(zip(experiment.keys, job, strict=True)), **experiment.one(*job, **extra)}


def grid_of(name: str) -> Grid:
    """The results file of an experiment."""
    epochs = CURVE_EPOCHS if name == "curves" else EPOCHS
    settings = {"side": SIDE, "per_class": PER_CLASS, "batch": BATCH, "epochs": epochs, "head_rate": HEAD_RATE}
    return Grid(
        RESULTS / f"{name}.json", f"python experiments/claims.py --only {name}", settings, EXPERIMENTS[name].keys
    )


if __name__ == "__main__":
    sys.exit(main())
