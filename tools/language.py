"""Measure what transfer brings for language: two data sets of sentences, four ways, three sizes, five seeds.

    python tools/language.py [ARCHIVE]     measure what is missing and write chapter12/results/language.json

ARCHIVE is hutto_ICWSM_2014.tar.gz, the real reviews (tlhelpers/text/movies.py says where it is from); without it only
the sentences that were written for this course are measured. A seed decides which training sentences are drawn, their
order, the head's first weights and dropout; the test part is always the same. Every way that trains the network takes
the same number of steps. Nothing is chosen on the test part: the weights are those after the last step.

The learning rates in `tlhelpers.text.WAYS` were set beforehand, once, to usual values, and not searched for; a search
could move every row.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
from grid import Grid, side_by_side

from tlhelpers.text import training

TARGET = Path(__file__).resolve().parents[1] / "chapter12" / "results" / "language.json"
SIZES = (16, 64, None)  # training sentences; None: all there are
SEEDS = range(5)
COUNTING = "bag of words"
ALL_WAYS = (COUNTING, *tl.text.WAYS)


def main() -> int:
    """Measure what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?", help="hutto_ICWSM_2014.tar.gz")
    parser.add_argument("--processes", type=int, default=0, help="runs side by side; 0: one for each core")
    options = parser.parse_args()
    tl.use_profile("quick")
    names = ["written", *(["movies"] if options.archive else [])]
    jobs = [
        (name, way, size, seed)
        for seed, name in itertools.product(SEEDS, names)
        for size, way in itertools.product(SIZES, ALL_WAYS)
    ]
    one = functools.partial(run, archive=options.archive)
    grid().fill(jobs, one, options.processes or side_by_side())
    return 0


def grid() -> Grid:
    """The results file."""
    ways = {name: [way.head, way.encoder, way.last] for name, way in tl.text.WAYS.items()}
    settings = {"steps": training.STEPS, "batch": training.BATCH, "ways": ways, "data": 1}
    return Grid(TARGET, "python tools/language.py ARCHIVE", settings, ("data", "way", "sentences", "seed"))


def run(name: str, way: str, size: int | None, seed: int, *, archive: Path | None = None) -> dict[str, Any]:
    """Train once and score once."""
    start = time.perf_counter()
    reviews = load(name, archive)
    chosen = reviews.train.draw(size, seed=seed)
    if way == COUNTING:
        answers = tl.text.bag_of_words(chosen).predict(list(reviews.test.texts))
    else:
        model = tl.text.load_classifier(seed=seed)
        tl.text.train(model, chosen, way, seed=seed)
        answers = model.predict(reviews.test.texts).argmax(dim=1).numpy()
    right = answers == reviews.test.labels.numpy()
    turned = [bool(hit) for hit, flag in zip(right, reviews.test.turned, strict=False) if flag]
    return {
        "data": name,
        "way": way,
        "sentences": size,
        "seed": seed,
        "train_sentences": len(chosen),
        "test_sentences": len(right),
        "accuracy": round(float(right.mean()), 4),
        "turned": round(sum(turned) / len(turned), 4) if turned else None,
        "seconds": round(time.perf_counter() - start, 1),
    }


@functools.cache
def load(name: str, archive: Path | None) -> tl.text.Reviews:
    """A data set by name."""
    return tl.text.load_written() if name == "written" else tl.text.load_movies(archive=archive)


if __name__ == "__main__":
    sys.exit(main())
