"""Measure what sections 12.1 and 12.2 claim: one experiment for each question, one results file each.

    python experiments/claims.py [FOLDER]              what is missing of all of them
    python experiments/claims.py --only rates stages   only these

All runs train the embedded resnet18 on safari at 64 px, with 40 images a class unless the experiment varies it. A
seed decides which training images are drawn, their order and crops, and the new weights. `test` is the balanced
accuracy on safari's test set after the last step; nothing was chosen on it. Learning rates are those of
experiments/transfer.py and were not tuned for each method, so a small difference between two means nothing. Only
`curves` gives each method its own, by equally many tries: `tuning` has them.

FOLDER holds tiny_imagenet_val.zip (or Tiny ImageNet as it is downloaded), on which `rates` asks how much of the source
task is forgotten. Without it `rates` is left out.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
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
from grid import Cell, Grid, Job, side_by_side
from PIL import Image
from tiny_imagenet import load_pixels
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import StepLR

from tlhelpers.batch_sources import scoring_batches
from tlhelpers.loop import compute_logits

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tlcourse" / "measurements" / "data"
SIDE, PER_CLASS, BATCH = 64, 40, 32
HEAD_RATE, RATE = 3e-3, 3e-4
EPOCHS = {10: 24, 40: 6, 200: 3}  # by images a class: the fewer, the more often each is seen
SEEDS = range(5)
DEPTHS: dict[str, int | None] = {"head": 0, "layer4": 1, "layer3": 2, "everything": None}  # last blocks that train


# --- data and networks ------------------------------------------------------------------------------------------


class Stored:
    """Gives images that were drawn once."""

    def __init__(self, split: tl.ImageSplit) -> None:
        self.pixels = np.stack([np.asarray(split.image(i)) for i in range(len(split))])

    def __call__(self, index: int) -> Image.Image:  # noqa: D102
        return Image.fromarray(self.pixels[index])


@functools.cache
def safari() -> tl.ImageData:
    """Safari with 200 training images of each class, drawn once in a process."""
    data = tl.load_data("safari", size=SIDE, per_class=max(EPOCHS))

    def stored(split: tl.ImageSplit) -> tl.ImageSplit:
        return tl.ImageSplit(Stored(split), split.labels.tolist(), split.classes, keys=split.keys, name=split.name)

    train, val, test = (stored(part) for part in data.splits())
    return tl.ImageData(data.name, train, val, test, data.card)


def drawn(per_class: int, seed: int) -> tl.ImageData:
    """Safari with training images drawn with the seed."""
    data = safari()
    return tl.ImageData(data.name, data.train.per_class(per_class, seed=seed), data.val, data.test, data.card)


def network(seed: int, last: int | None, weights: str | None = None) -> Any:
    """ResNet18 with a new head, its last blocks trainable (None: everything)."""
    model = tl.load_model("resnet18", classes=safari().classes, weights=weights, size=SIDE, seed=seed)
    return model if last is None else tl.unfreeze(tl.freeze(model), last=last)


def rates(model: Any, backbone: float = RATE, head: float = HEAD_RATE) -> dict[str, float]:
    """A learning rate for every trainable block: one for the backbone, one for the head."""
    names = [str(group["name"]) for group in tl.param_groups(model, 1.0)]
    return {name: head if name == "head" else backbone for name in names}


STEP_OPTIONS = ("optimizer", "schedule", "loss")  # options that belong to a step


def fitted(model: Any, data: tl.ImageData, seed: int, epochs: int = EPOCHS[PER_CLASS], **options: Any) -> Cell:
    """Train with the common settings, but for `options`, and score."""
    start = time.perf_counter()
    return scored(trained(model, data, seed, epochs, **options), start)


def trained(model: Any, data: tl.ImageData, seed: int, epochs: int, **options: Any) -> tl.Run:
    """Train with the common settings, but for `options`."""
    step = {"schedule": "one-cycle", **{name: options.pop(name) for name in STEP_OPTIONS if name in options}}
    count = tl.Epochs(epochs, keep="last")
    return tl.fit(model, data, epochs=count, batch_size=BATCH, seed=seed, step=tl.StepOptions(**step), **options)


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


# The backbone's rates that are tried; what starts from random numbers has one rate for everything.
TRIED = {"pre-trained": (1e-4, 3e-4, 1e-3), "scratch": (3e-4, 1e-3, 3e-3)}


def tuning(start: str, rate: float, seed: int) -> Cell:
    """All of the network for 20 epochs, from pre-trained weights or from scratch, at one of the rates."""
    scratch = start == "scratch"
    model = network(seed, None, weights="none" if scratch else None)
    data = drawn(PER_CLASS, seed)
    lr: Any = rate if scratch else rates(model, rate)
    cell = fitted(model, data, seed, lr=lr, epochs=20, schedule="cosine")
    return {**cell, "train_clean": round(tl.evaluate(model, data.train).accuracy, 4)}


def curves(start: str, seed: int) -> Cell:
    """Less time, a smaller gap? The same, with other seeds, at the rate that was best in `tuning`."""
    rate = best_rate(start, grid_of("tuning").read())
    return {"rate": rate, **tuning(start, rate, seed)}


def best_rate(start: str, runs: list[Cell]) -> float:
    """The rate with the best validation accuracy after the last epoch, in the mean over the seeds of `tuning`."""
    ends = {rate: [r["val"][-1] for r in runs if (r["start"], r["rate"]) == (start, rate)] for rate in TRIED[start]}
    if not all(ends.values()):
        raise SystemExit("first: python experiments/claims.py --only tuning")
    return max(ends, key=lambda rate: statistics.mean(ends[rate]))


def depth(trains: str, per_class: int, lr: float, seed: int) -> Cell:
    """Which blocks to train, with how many images, at which learning rate of the backbone."""
    model = network(seed, DEPTHS[trains])
    return fitted(model, drawn(per_class, seed), seed, lr=rates(model, lr), epochs=EPOCHS[per_class])


def forgetting(lr: float, seed: int, *, source: Path) -> Cell:
    """A sweep of the backbone's rate (0 freezes it); what is left of the source task, with the old head put back.

    Weights forget, and so do BatchNorm's statistics, which follow the new images at any rate. To tell the two apart
    the source task is scored a second time with the old statistics on the new weights.
    """
    model, original = network(seed, None if lr else 0), tl.load_model("resnet18", size=SIDE)
    test = safari().test
    before = answers(original, test)
    cell = fitted(model, drawn(PER_CLASS, seed), seed, lr=rates(model, lr))
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


MOMENTUM = functools.partial(SGD, momentum=0.9)
STEP = functools.partial(StepLR, step_size=2, gamma=0.1)
RECIPES: dict[str, dict[str, Any]] = {
    "AdamW, one cycle": {},
    "AdamW, constant": {"schedule": "constant"},
    "AdamW, cosine": {"schedule": "cosine"},
    "SGD with momentum, StepLR": {"optimizer": MOMENTUM, "schedule": STEP},
    "SGD with momentum, cosine": {"optimizer": MOMENTUM, "schedule": "cosine"},
    "SGD without momentum, StepLR": {"optimizer": SGD, "schedule": STEP},
}


def recipes(method: str, seed: int) -> Cell:
    """Optimizers and schedules, for the last block and the head; SGD's rates are ten times AdamW's."""
    model, options = network(seed, 1), RECIPES[method]
    scale = 10 if "optimizer" in options else 1
    lr = {name: scale * rate for name, rate in rates(model).items()}
    return fitted(model, drawn(PER_CLASS, seed), seed, lr=lr, **options)


def stages(method: str, seed: int) -> Cell:
    """Everything at once or block by block, one rate for the backbone or smaller ones towards the input."""
    data, start = drawn(PER_CLASS, seed), time.perf_counter()
    model = network(seed, 0)

    def chosen() -> dict[str, float]:
        if "discriminative" in method:  # ULMFiT divides by 2.6 (Howard and Ruder 2018)
            return {str(g["name"]): float(g["lr"]) for g in tl.param_groups(model, HEAD_RATE, factor=1 / 2.6)}
        return rates(model)

    if not method.startswith("gradual"):
        tl.unfreeze(model)
        return fitted(model, data, seed, lr=chosen())
    for last, epochs in ((0, 1), (1, 1), (2, 1), (5, 3)):
        tl.unfreeze(model, last=last)
        run = trained(model, data, seed + 100 * last, epochs, lr=chosen())  # the stages draw other crops
    return scored(run, start)


REGULARISERS = ("nothing", "augmentation", "weight decay", "dropout", "label smoothing", "all four")


def regularisation(method: str, seed: int) -> Cell:
    """Against over-fitting: ten images a class, 24 epochs, the last two blocks."""

    def has(name: str) -> bool:
        return method in (name, "all four")

    model = network(seed, 2)
    if has("dropout"):
        model.avgpool = nn.Sequential(model.avgpool, nn.Dropout(0.5))
    return fitted(
        model,
        drawn(10, seed),
        seed,
        lr=rates(model),
        epochs=EPOCHS[10],
        augment=has("augmentation"),
        optimizer=functools.partial(AdamW, weight_decay=0.1 if has("weight decay") else 0.0),
        loss=nn.CrossEntropyLoss(label_smoothing=0.1 if has("label smoothing") else 0.0),
    )


def batchnorm(method: str, batch_size: int, seed: int) -> Cell:
    """A frozen backbone whose BatchNorm is held, or drifts because the loop calls `model.train()`: the bare loop."""
    start, data = time.perf_counter(), drawn(PER_CLASS, seed)
    model = network(seed, 0)
    if method == "drifting":
        tl.unfreeze(model)
        for parameter in model.parameters():
            parameter.requires_grad = False
        model.fc.requires_grad_(True)
    transform = model.card.preprocessing.evaluation()
    images = torch.stack([transform(data.train.image(i)) for i in range(len(data.train))])
    optimizer = AdamW(model.fc.parameters(), lr=HEAD_RATE)
    order, accuracies = torch.Generator().manual_seed(seed), []
    for _ in range(EPOCHS[PER_CLASS]):
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
    "tuning": Experiment(
        tuning,
        ("start", "rate", "seed"),
        [(start, rate, seed) for seed in range(100, 103) for start, tried in TRIED.items() for rate in tried],
    ),
    "curves": Experiment(curves, ("start", "seed"), over(("pre-trained", "scratch"))),
    "rates": Experiment(forgetting, ("lr", "seed"), over((0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)), True),
    "recipes": Experiment(recipes, ("method", "seed"), over(RECIPES)),
    "stages": Experiment(
        stages,
        ("method", "seed"),
        over(("everything at once", "discriminative rates", "gradual unfreezing", "gradual, discriminative")),
    ),
    "regularisation": Experiment(regularisation, ("method", "seed"), over(REGULARISERS)),
    "batchnorm": Experiment(batchnorm, ("method", "batch_size", "seed"), over(("held", "drifting"), (4, 32))),
    "depth": Experiment(
        depth, ("trains", "per_class", "lr", "seed"), over(DEPTHS, EPOCHS, (1e-4, 3e-4, 1e-3), seeds=range(3))
    ),
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
        grid_of(name).fill(experiment.jobs, functools.partial(_measured, name, options.source), side_by_side())
    return 0


def _measured(name: str, source: Path | None, *job: Any) -> Cell:
    """One cell of an experiment, with the job that it belongs to."""
    experiment = EXPERIMENTS[name]
    extra = {"source": source} if experiment.needs_source else {}
    return {**dict(zip(experiment.keys, job, strict=True)), **experiment.one(*job, **extra)}


def grid_of(name: str) -> Grid:
    """The results file of an experiment."""
    epochs = {str(per_class): count for per_class, count in EPOCHS.items()}
    settings = {"side": SIDE, "per_class": PER_CLASS, "batch": BATCH, "epochs": epochs, "head_rate": HEAD_RATE}
    return Grid(
        RESULTS / f"{name}.json", f"python experiments/claims.py --only {name}", settings, EXPERIMENTS[name].keys
    )


if __name__ == "__main__":
    sys.exit(main())
