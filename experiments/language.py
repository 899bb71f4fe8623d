"""Measure what transfer brings for language: two data sets of sentences, four methods, three sizes, five seeds.

    python experiments/language.py [ARCHIVE]     measure what is missing and write the results file

ARCHIVE is hutto_ICWSM_2014.tar.gz, the real reviews (its address is in tlcourse/language/reviews.py); without it only
the sentences that were written for this course are measured. A seed decides which training sentences are drawn, their
order, the head's first weights and dropout; the test set is always the same. Every method that trains the network
takes the same number of steps. Nothing is chosen on the test set: the weights are those after the last step.

The learning rates in `tlcourse.language.METHODS` were set beforehand, once, to usual values, and not searched for; a
search could move every row.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import tlcourse as tc
import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
from grid import Grid, side_by_side

from tlcourse.language import training

TARGET = Path(__file__).resolve().parents[1] / "tlcourse" / "measurements" / "data" / "language.json"
SIZES = (16, 64, None)  # training sentences; None: all there are
SEEDS = range(5)
COUNTING = "bag of words"
ALL_METHODS = (COUNTING, *tc.language.METHODS)


def main() -> int:
    """Measure what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?", help="hutto_ICWSM_2014.tar.gz")
    parser.add_argument("--processes", type=int, default=0, help="runs side by side; 0: one for each core")
    options = parser.parse_args()
    tl.use_profile("quick")
    names = ["written", *(["movies"] if options.archive else [])]
    jobs = [
        (name, method, size, seed)
        for seed, name in itertools.product(SEEDS, names)
        for size, method in itertools.product(SIZES, ALL_METHODS)
    ]
    one = functools.partial(run, archive=options.archive)
    grid().fill(jobs, one, options.processes or side_by_side())
    return 0


def grid() -> Grid:
    """The results file."""
    methods = {name: [method.head, method.encoder, method.last] for name, method in tc.language.METHODS.items()}
    settings = {"steps": training.STEPS, "batch": training.BATCH, "methods": methods, "data": 1}
    return Grid(TARGET, "python experiments/language.py ARCHIVE", settings, ("data", "method", "sentences", "seed"))


def run(name: str, method: str, size: int | None, seed: int, *, archive: Path | None = None) -> dict[str, Any]:
    """Train once and score once."""
    start = time.perf_counter()
    reviews = load(name, archive)
    chosen = reviews.train.draw(size, seed=seed)
    if method == COUNTING:
        answers = tc.language.bag_of_words(chosen).predict(list(reviews.test.texts))
    else:
        model = tc.language.load_classifier(seed=seed)
        tc.language.train(model, chosen, method, seed=seed)
        answers = model.predict(reviews.test.texts).argmax(dim=1).numpy()
    right = answers == reviews.test.labels.numpy()
    turned = [bool(hit) for hit, flag in zip(right, reviews.test.turned, strict=False) if flag]
    return {
        "data": name,
        "method": method,
        "sentences": size,
        "seed": seed,
        "train_sentences": len(chosen),
        "test_sentences": len(right),
        "accuracy": round(float(right.mean()), 4),
        "turned": round(sum(turned) / len(turned), 4) if turned else None,
        "seconds": round(time.perf_counter() - start, 1),
    }


@functools.cache
def load(name: str, archive: Path | None) -> tc.language.Reviews:
    """A data set by name."""
    return tc.language.load_template_reviews() if name == "written" else tc.language.load_movies(archive=archive)


if __name__ == "__main__":
    sys.exit(main())
