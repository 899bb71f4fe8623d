"""Normal or pneumonia on radiographs of children: training methods, leaks and shortcuts, and another hospital.

    python experiments/pneumonia.py FOLDER       measure what is missing and write the results file
    python experiments/pneumonia.py --table      print the table

FOLDER holds the radiographs of Kermany et al. (2018): `chest_xray`, or the folder in it that holds `train`. A seed
divides the patients of `train` into training, validation and held-out ones (65, 15 and 20 %). If the folder has
`test`, its images are scored too, by the same models, and the fifth of the patients is still held out. Everything
that is chosen (regularisation, temperature, threshold) is chosen on validation patients, but for the methods whose
names say "own": they use the images that are judged, without their labels.

Where the backbone stays frozen, what it makes of each image is computed once for all seeds, and kept in
runs/pneumonia. The last blocks are trained anew for every seed (minutes on two cores); their scores are kept there too.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import numpy as np
from grid import Cell, Grid, spread
from radiograph_tuning import EPOCHS, LAST, LR, tuned_odds
from radiographs import ARCH, PREPARED, READINGS, VIEWS, Pool, load
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlcourse.medical.calibration import calibration_error, to_probabilities
from tlcourse.medical.clinical import clinical_scores
from tlhelpers.data.splits import split_indices

TARGET = Path(__file__).resolve().parents[1] / "tlcourse" / "measurements" / "data" / "pneumonia.json"
SEEDS = range(5)
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2)  # C of the logistic regression


def fit_temperature(log_odds: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, by which log-odds are divided, with the lowest cross-entropy: 0.02 to 50 (Guo et al. 2017)."""
    signed = np.where(labels == 1, log_odds, -log_odds)  # log-odds of the true class
    loss, bounds = lambda log_t: np.logaddexp(0, -signed / np.exp(log_t)).mean(), np.log([0.02, 50])
    return float(np.exp(minimize_scalar(loss, bounds=bounds, options={"xatol": 1e-6}).x))


# --- one method, one seed ---------------------------------------------------------------------------------------

ALL_VARIED = tuple(name for name in PREPARED if name.startswith("varied ") and "equalised" not in name)
ALL_BOTH = tuple(name for name in PREPARED if "varied" in name and "equalised" in name)
# A member reads the network in one way, is trained on several preparations of each image, and judges by the first;
# or it is the network whose last blocks were trained.
Member = tuple[str, tuple[str, ...]]
VARIED: Member = "last", ("plain", *ALL_VARIED)
EQUALISED: Member = "last", ("equalised", *ALL_BOTH)
DEEP: Member = "depths", ("plain", "mirrored", *ALL_VARIED)
TUNED: Member = "tuned", ("plain",)
METHODS: dict[str, tuple[Member, ...]] = {  # of several members the calibrated log-odds are averaged
    "frozen": (("last", ("plain",)),),
    "frozen, equalised": (("last", ("equalised",)),),
    "frozen, varied": (VARIED,),
    "frozen, equalised, varied": (EQUALISED,),
    "ensemble": (VARIED, EQUALISED),
    "four depths": (("depths", ("plain",)),),
    "four depths, mirrored": (("depths", ("plain", "mirrored")),),
    "four depths, varied": (DEEP,),
    "last blocks": (TUNED,),
    "last blocks and four depths": (TUNED, DEEP),
}


@dataclass(frozen=True)
class Unlabelled:
    """What a place's own images, without labels, repair of a head that was trained elsewhere.

    Attributes:
        method: the method of training.
        statistics: features are standardised by mean and deviation of the images that are judged.
        threshold: it lies between the two hills of the judged images' scores, and does not come from validation.
    """

    method: str
    statistics: bool = False
    threshold: bool = False


OWN = {
    "frozen, varied, own statistics": Unlabelled("frozen, varied", statistics=True),
    "four depths, varied, own statistics": Unlabelled("four depths, varied", statistics=True),
    "four depths, varied, own threshold": Unlabelled("four depths, varied", threshold=True),
    "four depths, varied, both own": Unlabelled("four depths, varied", statistics=True, threshold=True),
    "last blocks, own threshold": Unlabelled("last blocks", threshold=True),
    "last blocks and four depths, own threshold": Unlabelled("last blocks and four depths", threshold=True),
}
Parts = tuple[np.ndarray, np.ndarray, np.ndarray]
Head = Any  # a pipeline of scikit-learn: StandardScaler, LogisticRegression
Judge = Callable[[str, np.ndarray], np.ndarray]


def divided(pool: Pool, seed: int, by: str = "patient") -> Parts:
    """Rows of training, validation and held-out images of `train`."""
    labels = pool.labels[: pool.trains]
    groups = pool.patients[: pool.trains] if by == "patient" else None
    train, val, held = split_indices(labels, (0.65, 0.15, 0.2), groups=groups, seed=seed)
    return np.array(train), np.array(val), np.array(held)


def head(x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray) -> Head:
    """Logistic regression, both classes of equal weight; how strong, the validation images decide."""
    best: tuple[float, Any] | None = None
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=300))
        model.fit(x, y)
        balanced = np.where(y_val == 1, 1 / y_val.sum(), 1 / (1 - y_val).sum())
        loss = log_loss(y_val, model.predict_proba(x_val)[:, 1], sample_weight=balanced)
        if best is None or loss < best[0]:
            best = (float(loss), model)
    assert best is not None
    return best[1]


@functools.lru_cache(maxsize=1)  # the places of a method come one after another
def trained(pool: Pool, method: str, by: str, seed: int) -> Judge:
    """Train a method; the result maps a place and rows to log-odds of pneumonia."""
    parts = train, val, _ = divided(pool, seed, by)
    y, y_val = pool.labels[train], pool.labels[val]
    if method == "always pneumonia":
        return lambda place, rows: np.full(len(rows), 5.0)
    if method == "thumbnails":
        judge = head(pool.thumbnails[train], y, pool.thumbnails[val], y_val).decision_function
        return lambda place, rows: judge(pool.thumbnails[rows])
    if method == "nearest neighbour":
        near = KNeighborsClassifier(1).fit(pool.features("here", "plain")[train], y)
        return lambda place, rows: 5.0 * (2 * near.predict(pool.features(place, "plain")[rows]) - 1)
    if method == "letter planted":
        return misled(pool, parts)
    if method in OWN and OWN[method].statistics:
        ((reading, prepared),) = METHODS[OWN[method].method]
        _, regression = member(pool, (reading, prepared), by, seed)
        return lambda place, rows: regression.decision_function(
            StandardScaler().fit_transform(pool.features(place, prepared[0], reading)[rows])
        )
    members = [judge_of(pool, each, by, seed) for each in METHODS[OWN[method].method if method in OWN else method]]
    if len(members) == 1:
        return members[0]
    temperatures = [fit_temperature(judge("here", val), y_val) for judge in members]
    return lambda place, rows: np.mean(
        [judge(place, rows) / t for judge, t in zip(members, temperatures, strict=True)], axis=0
    )


def judge_of(pool: Pool, how: Member, by: str, seed: int) -> Judge:
    """One member, trained."""
    reading, prepared = how
    if reading == "tuned":
        odds = tuned_odds(pool, divided(pool, seed, by), by, seed)
        return lambda place, rows: odds[place][rows]
    head = member(pool, how, by, seed)
    return lambda place, rows: head.decision_function(pool.features(place, prepared[0], reading)[rows])


@functools.lru_cache(maxsize=8)  # an ensemble takes the members that were trained before it
def member(pool: Pool, how: Member, by: str, seed: int) -> Head:
    """Trained on several preparations of each image; the first of them decides how strongly it is held."""
    train, val, _ = divided(pool, seed, by)
    reading, prepared = how
    views = [pool.features("here", name, reading) for name in prepared]
    x, y = np.concatenate([view[train] for view in views]), np.tile(pool.labels[train], len(views))
    return head(x, y, views[0][val], pool.labels[val])


def misled(pool: Pool, parts: Parts) -> Judge:
    """Trained where nine of ten pneumonias carry a letter, and no normal image does."""
    bare, marked = (pool.features(place, "plain") for place in ("here", "lettered"))
    with_letter = (pool.labels == 1) & (np.random.default_rng(0).random(len(pool.labels)) < 0.9)
    source = np.where(with_letter[:, None], marked, bare)
    train, val, _ = parts
    judge = head(source[train], pool.labels[train], source[val], pool.labels[val]).decision_function
    normal_marked = np.where(pool.labels[:, None] == 0, marked, bare)
    seen = {"here": source, "letter gone": bare, "letter on the normal": normal_marked}
    return lambda place, rows: judge(seen[place][rows])


# What is measured: a method, how the images are divided, and where it is judged. `here` is the held-out fifth.
FEW = "elsewhere, few ill"  # two of five, and not three of four
ALL = ("here", "elsewhere", "test")
MIXED = {*OWN, *(own.method for own in OWN.values())}  # where it is measured what fewer ill do
MEASURED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("always pneumonia", "patient", ("here", "test")),
    ("thumbnails", "patient", ("here", "test")),
    *((method, "patient", (*ALL, FEW) if method in MIXED else ALL) for method in (*METHODS, *OWN)),
    ("frozen", "image", ("here",)),
    ("nearest neighbour", "patient", ("here",)),
    ("nearest neighbour", "image", ("here",)),
    ("letter planted", "patient", ("here", "letter gone", "letter on the normal")),
)


def run(pool: Pool, method: str, by: str, place: str, seed: int) -> Cell:
    """Train, or take what was trained last, and score at one place."""
    _, val, held = divided(pool, seed, by)
    judge = trained(pool, method, by, seed)
    rows = np.arange(pool.trains, len(pool.labels)) if place == "test" else held
    if place == FEW:
        rows = fewer_ill(held, pool.labels[held], seed)
    odds = judge({"test": "here", FEW: "elsewhere"}.get(place, place), rows)
    at = valley(odds) if method in OWN and OWN[method].threshold else None
    cell = scored(odds, pool.labels[rows], judge("here", val), pool.labels[val], pool.kinds[rows], at)
    return {"method": method, "divided_by": by, "place": place, "seed": seed, **cell}


def fewer_ill(rows: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """All rows of the well, and so many of the ill that they are two of five."""
    ill, well = rows[labels == 1], rows[labels == 0]
    count = min(round(len(well) * 2 / 3), len(ill))
    return np.concatenate([np.random.default_rng(seed).choice(ill, count, replace=False), well])


def scored(
    odds: np.ndarray,
    labels: np.ndarray,
    val_odds: np.ndarray,
    val_labels: np.ndarray,
    kinds: np.ndarray,
    at: float | None = None,
) -> Cell:
    """The numbers of a report; the threshold is `at`, in log-odds, or comes from the validation images."""
    threshold = even_threshold(val_odds, val_labels) if at is None else at
    numbers = clinical_scores(odds, labels, threshold)
    wanted = ("AUC", "average precision", "accuracy", "balanced accuracy", "sensitivity", "specificity")
    cell = {name: round(float(numbers[name]), 4) for name in wanted}
    cell["validation AUC"] = round(float(roc_auc_score(val_labels, val_odds)), 4)  # by this a method would be chosen
    for kind in sorted({"bacteria", "virus"} & set(kinds)):
        cell[f"sensitivity, {kind}"] = round(float((odds[kinds == kind] >= threshold).mean()), 4)
    found = to_probabilities(odds / fit_temperature(val_odds, val_labels))
    return {**cell, "calibration error": round(calibration_error(found, labels), 4), "images": len(labels)}


def even_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Where sensitivity and specificity are nearest to each other, so that neither is bought with the other."""
    found = np.unique(scores)
    ill, well = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    sensitivity = 1 - np.searchsorted(ill, found) / len(ill)
    specificity = np.searchsorted(well, found) / len(well)
    return float(found[np.abs(sensitivity - specificity).argmin()])


def valley(odds: np.ndarray) -> float:
    """Where a score is as likely to be of the upper hill as of the lower: two normal distributions, fitted to all."""
    hills = GaussianMixture(2, n_init=3, random_state=0).fit(odds[:, None])
    low, high = np.argsort(hills.means_.ravel())
    between = np.linspace(hills.means_[low, 0], hills.means_[high, 0], 2001)[:, None]
    return float(between[np.abs(hills.predict_proba(between)[:, high] - 0.5).argmin(), 0])


# --- the command ------------------------------------------------------------------------------------------------


def main() -> int:
    """Measure what is missing, or print the tables; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="Kermany's folder, or the one above it")
    parser.add_argument("--table", action="store_true", help="print the table and measure nothing")
    options = parser.parse_args()
    if options.folder is None or options.table:
        print(table())
        return 0
    tl.use_profile("quick")
    pool = load(options.folder)
    jobs = [
        (method, by, place, seed)
        for seed in SEEDS
        for method, by, places in MEASURED
        for place in places
        if place != "test" or pool.trains < len(pool.labels)
    ]
    grid().fill(jobs, functools.partial(run, pool))
    print(table())
    return 0


def grid() -> Grid:
    """The results file."""
    sides = {name: reading.side for name, reading in READINGS.items()}
    settings = {"network": ARCH, "sides": sides, "views": VIEWS, "parts": [0.65, 0.15, 0.2]}
    settings["tuned"] = {"blocks": LAST, "epochs": EPOCHS, "rate": LR}
    return Grid(TARGET, "python experiments/pneumonia.py FOLDER", settings, ("method", "divided_by", "place", "seed"))


def table() -> str:
    """Per cent, mean ± standard deviation over the seeds, as Markdown."""
    cells = grid().read()
    if not cells:
        return "Not measured yet.\n"
    columns = ("validation AUC", "AUC", "accuracy", "balanced accuracy", "sensitivity", "specificity")
    lines = [f"| method | divided by | scored | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    for method, by, places in MEASURED:
        for place in places:
            found = [c for c in cells if (c["method"], c["divided_by"], c["place"]) == (method, by, place)]
            if found:
                shown = [spread([100 * cell[name] for cell in found], len(SEEDS)) for name in columns]
                lines.append(f"| {method} | {by} | {place} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
