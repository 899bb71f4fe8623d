"""Measure whether a pre-trained backbone helps a detector: three starts, two budgets, several seeds.

    python experiments/detection.py              measure what is missing and write the results file
    python experiments/detection.py --table      print the table

Each start has three tries for its learning rates, with a seed that is not used again; scored on new scenes of the
training drawings, the best is taken. Within a budget every run sees the same number of images. A seed decides
the training scenes, their order and augmentation, the new layers and, from scratch, all weights; the test set is
always the same. Nothing is chosen on it: the weights are those after the last step.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import tlcourse as tc
import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
from grid import Cell, Grid, side_by_side, spread

RESULTS = Path(__file__).resolve().parents[1] / "tlcourse" / "measurements" / "data"
SIDE = 96  # pixels
IMAGES = 200
TEST = 100
BATCH = 8
STEPS = (60, 180)
SEEDS = range(3)
COMMAND = "python experiments/detection.py"
TUNING_SEED = 100
# The highest learning rates of new layers and of the backbone, AdamW with one cycle, that are tried.
TRIED = {
    "fine-tuned": ((1e-3, 1e-4), (1e-3, 3e-4), (1e-3, 1e-3)),
    "scratch": ((3e-4, 3e-4), (1e-3, 1e-3), (3e-3, 3e-3)),
    "frozen": ((3e-4, 0.0), (1e-3, 0.0), (3e-3, 0.0)),
}


def main() -> int:
    """Measure what is missing, or print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table and measure nothing")
    options = parser.parse_args()
    if not options.table:
        tl.use_profile("quick", precision="fp32")
        measure(side_by_side())
    print(table())
    return 0


def measure(processes: int = 1) -> None:
    """Run every cell that is not in the results yet: first the tries, then the runs at the best of them."""
    tries = [(start, *pair, TUNING_SEED) for start, pairs in TRIED.items() for pair in pairs]
    tuning_grid().fill(tries, attempt, processes)
    jobs = [(start, steps, seed) for seed, steps, start in itertools.product(SEEDS, STEPS, TRIED)]
    grid().fill(jobs, run, processes)


def grid() -> Grid:
    """The results file."""
    return Grid(RESULTS / "detection.json", COMMAND, shared(), ("start", "steps", "seed"))


def tuning_grid() -> Grid:
    """The file of the tries."""
    return Grid(RESULTS / "detection_tuning.json", COMMAND, shared(), ("start", "lr", "backbone_lr", "seed"))


def shared() -> dict[str, Any]:
    """What all runs share."""
    return {"side": SIDE, "train_images": IMAGES, "test_images": TEST, "batch": BATCH}


def best_rates(start: str) -> tuple[float, float]:
    """Of the tries of a start, the rates with the highest mAP 50."""
    tries = [cell for cell in tuning_grid().read() if cell["start"] == start]
    best = max(tries, key=lambda cell: cell["map_50"])
    return best["lr"], best["backbone_lr"]


def attempt(start: str, lr: float, backbone_lr: float, seed: int) -> Cell:
    """The longer training, scored on new scenes in which the drawings of the training set appear."""
    scenes = tc.load_vehicles(size=SIDE, train=TEST, seed=seed + 1).train
    cell = {"start": start, "lr": lr, "backbone_lr": backbone_lr, "seed": seed}
    return {**cell, **trained(start, max(STEPS), seed, (lr, backbone_lr), scenes)}


def run(start: str, steps: int, seed: int) -> Cell:
    """Train once, at the best rates, and score once on the test set."""
    test = tc.load_vehicles(size=SIDE, test=TEST, seed=0).test
    lr, backbone_lr = best_rates(start)
    rates = {"lr": lr, "backbone_lr": backbone_lr}
    return {
        "start": start,
        "steps": steps,
        "seed": seed,
        **rates,
        **trained(start, steps, seed, (lr, backbone_lr), test),
    }


def trained(start: str, steps: int, seed: int, rates: tuple[float, float], scored_on: Any) -> Cell:
    """Scores after the last step."""
    begin = time.perf_counter()
    train = tc.load_vehicles(size=SIDE, train=IMAGES, seed=seed).train
    model = tc.small_detector(len(train.classes), start=start, size=SIDE, seed=seed)
    lr, backbone_lr = rates
    tc.train_detector(model, train, steps=steps, batch_size=BATCH, lr=lr, backbone_lr=backbone_lr, seed=seed)
    answers = tc.detect(model, scored_on)
    scores = tc.mean_average_precision(*answers)
    scores["map_50_any_class"] = tc.mean_average_precision(*answers, any_class=True)["map_50"]
    rounded = {name: round(score, 4) for name, score in scores.items()}
    return {**rounded, "seconds": round(time.perf_counter() - begin, 1)}


def table() -> str:
    """Mean average precision in per cent, mean ± standard deviation over the seeds, as Markdown."""
    cells = grid().read()
    if not cells:
        return "Not measured yet.\n"
    columns = ("map", "map_50", "map_50_any_class")
    lines = ["| start | steps | mAP | mAP 50 | mAP 50, any class |", "|---|---|---|---|---|"]
    for steps, start in itertools.product(STEPS, TRIED):
        found = [cell for cell in cells if (cell["start"], cell["steps"]) == (start, steps)]
        shown = [spread([100 * cell[name] for cell in found], len(SEEDS)) for name in columns]
        lines.append(f"| {start} | {steps} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
