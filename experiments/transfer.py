"""Measure what transfer brings: four networks, four training methods, four data sets, three sizes, five seeds.

    python experiments/transfer.py [FOLDER]      measure what is missing and write the results file
    python experiments/transfer.py --table       print the table

FOLDER holds hymenoptera/, flowers/ and chest_xray/, as far as they are there; safari needs nothing. Every run sees the
same number of images (VGG16 half as many), whichever way it trains and however few there are. A seed decides which
training images are drawn, their order and augmentation, the new head and, from scratch, all weights; the test set
is always the same. Nothing is chosen on it: the weights are those after the last step.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import numpy as np
import torch
from grid import Grid, side_by_side, spread
from sklearn.metrics import balanced_accuracy_score

from tlcourse.epoch_order import EpochOrder
from tlhelpers.loop import compute_logits
from tlhelpers.pixel_batches import Order, PixelBatches
from tlhelpers.progress import tqdm

TARGET = Path(__file__).resolve().parents[1] / "tlcourse" / "measurements" / "data" / "transfer.json"
SIDE = 64  # pixels
BUDGET = 1280  # images that a run sees, whichever way it trains
BUDGETS = {"vgg16": 640}  # of networks that take much longer than the others
BATCH = 32
SEEDS = range(5)
NETWORKS = ("resnet18", "efficientnet_lite0", "resnet34", "vgg16")
DATA: dict[str, tuple[int | None, ...]] = {  # training images of each class; None: all there are
    "safari": (10, 40, 200),
    "hymenoptera": (10, 50, None),
    "flowers": (10, 50, None),
    "chest_xray": (10, 50, None),
}


@dataclass(frozen=True)
class Method:
    """A training method: which blocks train, and the learning rates of head and backbone (AdamW, one cycle).

    The rates of the first three methods were chosen among three each by the score on safari's validation set, with
    resnet18, 40 images a class and two seeds that the table does not use. That of "scratch" is a usual one.
    """

    head: float
    backbone: float
    last: int | None = None  # blocks that are trained; None: all
    weights: str | None = None


METHODS = {
    "frozen": Method(1e-2, 0.0, last=0),
    "last two blocks": Method(3e-3, 1e-4, last=2),
    "everything": Method(3e-3, 3e-4),
    "scratch": Method(1e-3, 1e-3, weights="none"),
}


@dataclass(frozen=True)
class Pixels:
    """A split of a data set at 64 px: uint8 (images, 3, 64, 64) and labels."""

    pixels: torch.Tensor
    labels: torch.Tensor


def main() -> int:
    """Measure what is missing, or print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, nargs="?", help="the folder that holds the image folders")
    parser.add_argument("--table", action="store_true", help="print the table and measure nothing")
    parser.add_argument("--networks", nargs="*", default=NETWORKS, choices=NETWORKS, help="only these")
    options = parser.parse_args()
    if not options.table:
        tl.use_profile("quick")
        measure(options.real, options.networks, side_by_side())
    print(table())
    return 0


def measure(real: Path | None, networks: Sequence[str], processes: int = 1) -> None:
    """Run every cell that is not in the results yet."""
    there = [name for name in DATA if _is_there(name, real)]
    jobs = [
        (network, method, name, count, seed)
        for network, seed, name in itertools.product(networks, SEEDS, there)
        for count, method in itertools.product(DATA[name], METHODS)
    ]
    grid().fill(jobs, functools.partial(_run_job, real=real), processes)


def grid() -> Grid:
    """The results file."""
    methods = {name: [method.head, method.backbone, method.last, method.weights] for name, method in METHODS.items()}
    seen = {"others": BUDGET, **BUDGETS}
    settings = {"side": SIDE, "images_seen": seen, "batch": BATCH, "methods": methods}
    keys = ("network", "method", "data", "per_class", "seed")
    return Grid(TARGET, "python experiments/transfer.py FOLDER", settings, keys)


def _run_job(
    network: str, method: str, name: str, count: int | None, seed: int, *, real: Path | None
) -> dict[str, Any]:
    return run(network, method, name, count, seed, *_load(name, real))


def run(
    network: str, method: str, name: str, count: int | None, seed: int, train: Pixels, test: Pixels
) -> dict[str, Any]:
    """Train once and score once."""
    start = time.perf_counter()
    chosen = _drawn(train.labels, count, seed)
    how = METHODS[method]
    model = tl.load_model(network, int(train.labels.max()) + 1, weights=how.weights, seed=seed)
    if how.last is not None:
        tl.unfreeze(tl.freeze(model), last=how.last)
    rates = {str(group["name"]): how.backbone for group in tl.param_groups(model, 1.0)} | {"head": how.head}
    preprocessing = _preprocessing(network)
    device = tl.current_profile().device
    batch = min(BATCH, len(chosen))
    data = train.pixels[chosen].to(device), train.labels[chosen].to(device)
    batches = PixelBatches(*data, preprocessing, EpochOrder(len(chosen), batch, seed), crop=0.5, seed=seed)
    scored = PixelBatches(test.pixels.to(device), test.labels.to(device), preprocessing, Order(len(test.labels), 128))
    steps = Steps(batches, BUDGETS.get(network, BUDGET) // batch)
    tl.fit(
        model,
        {"train": steps, "val": [next(iter(scored))]},  # fit wants some validation; nothing is chosen by it
        epochs=tl.Epochs(1, keep="last"),
        lr=rates,
        step=tl.StepOptions(
            optimizer=functools.partial(torch.optim.AdamW, weight_decay=1e-2, fused=True), schedule="one-cycle"
        ),
        seed=seed,
    )
    logits, labels = compute_logits(model, scored, precision=tl.current_profile().dtype)
    answers = logits.argmax(dim=1)
    return {
        "network": network,
        "method": method,
        "data": name,
        "per_class": count,
        "seed": seed,
        "train_images": len(chosen),
        "test_images": len(labels),
        "accuracy": round(float((answers == labels).float().mean()), 4),
        "balanced_accuracy": round(float(balanced_accuracy_score(labels, answers)), 4),
        "seconds": round(time.perf_counter() - start, 1),
    }


@functools.cache
def _preprocessing(network: str) -> tl.Preprocessing:
    """A network's own normalisation; one that starts from random numbers gets that of its trained twin."""
    return tl.load_model(network).card.preprocessing


class Steps:
    """As many batches as asked for, passing over the images as often as that takes; one "epoch" for `fit`."""

    def __init__(self, batches: PixelBatches, steps: int) -> None:
        self.batches, self.steps, self.batch_size = batches, steps, batches.batch_size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return itertools.islice(itertools.chain.from_iterable(map(self._pass, itertools.count(1))), self.steps)

    def _pass(self, number: int) -> PixelBatches:
        self.batches.set_epoch(number)
        return self.batches


def _drawn(labels: torch.Tensor, count: int | None, seed: int) -> torch.Tensor:
    """Numbers of `count` images of each class (or all there are, if there are fewer), drawn with `seed`."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    if count is None:
        return order
    return torch.cat([order[labels[order] == label][:count] for label in labels.unique()])


def _is_there(name: str, real: Path | None) -> bool:
    there = name == "safari" or (real is not None and (real / name).is_dir())
    if not there:
        print(f"{name}: not there, left out")
    return there


@functools.cache
def _load(name: str, real: Path | None) -> tuple[Pixels, Pixels]:
    """Training and test set at 64 px."""
    if name == "safari":
        data = tl.load_data("safari", size=SIDE, per_class=200)
    else:
        groups = r"(person\d+|IM-\d+)" if name == "chest_xray" else None
        data = tl.load_folder(real / name, groups=groups, verbose=False)
    # Nothing is chosen on the validation set; where there is no test set it takes its place.
    test = data.test if data.test is not None else data.val
    return _pixels(data.train), _pixels(test)


def _pixels(split: tl.ImageSplit) -> Pixels:
    """The centre of each image, shrunk to 64 px."""
    from torchvision.transforms import v2

    shrink = v2.Compose([v2.Resize(SIDE), v2.CenterCrop(SIDE), v2.PILToTensor()])
    images = [shrink(split.image(i)) for i in tqdm(range(len(split)), desc=f"read {split.name}", leave=False)]
    return Pixels(torch.stack(images), split.labels)


def table() -> str:
    """Balanced accuracy in per cent, mean ± standard deviation over the seeds, as Markdown."""
    cells, key = grid().read(), grid().key
    columns = [(name, count) for name, counts in DATA.items() for count in counts]
    titles = [f"{name} {'all' if count is None else count}" for name, count in columns]
    lines = [f"| network | trained | {' | '.join(titles)} |", "|---|---|" + "---|" * len(columns)]
    measured = [network for network in NETWORKS if any(cell["network"] == network for cell in cells)]
    if not measured:
        return "Not measured yet.\n"
    for network, method in itertools.product(measured, METHODS):
        found = [
            [100 * cell["balanced_accuracy"] for cell in cells if key(cell)[:4] == (network, method, *column)]
            for column in columns
        ]
        shown = [spread(values, len(SEEDS)) for values in found]
        lines.append(f"| {network} | {method} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
