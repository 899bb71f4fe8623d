"""Measure which method is safe on radiographs of other hospitals, where nothing could be chosen.

    python experiments/hospitals.py FOLDER      measure what is missing and write the results file

FOLDER is as for pneumonia.py, which trains the same methods on all radiographs; here 500 are drawn once, and divided
by patient anew with each seed. The held-out ones are changed in eight ways, by exposure, framing, sharpness, borders
and labels (see radiographs.py), and once the proportion of ill patients is. Nothing is chosen on changed images;
methods whose names say "own" use them without their labels. A method's worst shift is what a new hospital may bring.
"""

import dataclasses
import functools
import itertools
import sys

import numpy as np

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
from grid import Cell, Grid
from pneumonia import FEW, SEEDS, run
from radiographs import SHIFTS, Pool, load
from tuned import options

from tlcourse.measurements.results import FOLDER, load_results

METHODS = (
    "thumbnails",
    "frozen",
    "frozen, varied",
    "four depths, varied",
    "last blocks",
    "last blocks and four depths",
    "four depths, varied, own threshold",
    "last blocks, own threshold",
    "last blocks and four depths, own threshold",
)
COUNT = 500  # radiographs
PLACES = ("here", *(shift.__name__ for shift in SHIFTS), FEW)
GRID = Grid(
    FOLDER / "hospitals.json",
    "python experiments/hospitals.py FOLDER",
    {"radiographs": COUNT, "places": list(PLACES)},
    ("method", "place", "seed"),
)


def main() -> int:
    """Measure what is missing; returns the exit code."""
    chosen = options(__doc__)
    tl.use_profile("quick")
    jobs = [(method, place, seed) for seed, method, place in itertools.product(SEEDS, METHODS, PLACES)]
    if chosen.real is not None:
        GRID.fill(
            [job for job in jobs if job[0] != "thumbnails" or job[1] == "here"],
            functools.partial(one, drawn(load(chosen.real))),
        )
    print(table())
    return 0


def drawn(pool: Pool) -> Pool:
    """Some radiographs of `train`, and none of the folder's own test set."""
    rows = np.sort(np.random.default_rng(0).permutation(pool.trains)[:COUNT])
    paths = tuple(pool.paths[row] for row in rows)
    some = {name: getattr(pool, name)[rows] for name in ("labels", "patients", "kinds")}
    return dataclasses.replace(pool, paths=paths, **some, trains=COUNT, stamp=f"{pool.stamp}_{COUNT}")


def one(pool: Pool, method: str, place: str, seed: int) -> Cell:
    """Train, or take what was trained last, and score at one place."""
    cell = run(pool, method, "patient", place, seed)
    wanted = ("method", "place", "seed", "AUC", "accuracy", "balanced accuracy", "sensitivity", "specificity")
    return {name: cell[name] for name in wanted}


def table() -> str:
    """For each method the scores here, in the mean over the shifts and at the worst, as Markdown."""
    runs = load_results("hospitals").runs
    scores = 100 * runs.groupby(["method", "place"])[["AUC", "balanced accuracy"]].mean()
    lines = ["| method | scored | here | mean of shifts | worst shift |", "|---|---|---|---|---|"]
    for method, name in itertools.product(METHODS, scores.columns):
        own = scores.loc[method][name]
        cells = [f"{own['here']:.1f}"]
        if len(shifted := own.drop("here")):
            cells += [f"{shifted.mean():.1f}", f"{shifted.min():.1f} ({shifted.idxmin()})"]
        lines.append(f"| {method} | {name} | {' | '.join([*cells, *['–'] * (3 - len(cells))])} |")
    return "\n".join(lines) + "\n"


def choices() -> str:
    """What the method that is best at one place costs at the others, in points of balanced accuracy, as Markdown."""
    runs = load_results("hospitals").runs
    score = 100 * runs.pivot_table(index="place", columns="method", values="balanced accuracy").dropna(axis=1)
    lines = ["| chosen at | method | points lost elsewhere, mean | at most |", "|---" * 4 + "|"]
    for place in PLACES:
        method = score.loc[place].idxmax()
        lost = (score.max(axis=1) - score[method]).drop(place)
        lines.append(f"| {place} | {method} | {lost.mean():.1f} | {lost.max():.1f} ({lost.idxmax()}) |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
