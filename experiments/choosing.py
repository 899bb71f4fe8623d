"""Which network to transfer, and how far a data set is from the network's source, judged before any training.

    python experiments/choosing.py FOLDER      FOLDER holds tiny_imagenet_val.zip; first: experiments/transfer.py

For every network, data set and seed of transfer.py three scores that cost one pass over the training images: the
accuracy of five nearest neighbours (each image against all others, cosine similarity), LogME (You et al. 2021: the
evidence of a Bayesian linear model of the labels) and the validation accuracy of the frozen network's head. For
resnet18 also the Fréchet distance between its features of Tiny ImageNet's validation images and of the data set, in the
64 principal directions of the former.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import numpy as np
import torch
from grid import Cell, Grid
from prepared import _splits, load, prepare
from scipy.linalg import sqrtm
from tiny_imagenet import load_pixels
from tuned import NETWORKS, SEEDS, SIZES, options

from tlcourse.measurements.results import FOLDER, in_points, load_results
from tlhelpers.data.dataset import ImageSplit

SCORES = ("neighbours", "logme", "validation accuracy of a frozen head")
NEIGHBOURS, DIRECTIONS, SOURCE_IMAGES = 5, 64, 2000
SETTINGS = {"sizes": SIZES, "neighbours": NEIGHBOURS, "directions": DIRECTIONS, "source_images": SOURCE_IMAGES}
GRID = Grid(FOLDER / "choosing.json", "python experiments/choosing.py FOLDER", SETTINGS, ("network", "data", "seed"))


def main() -> int:
    """Measure what is missing; returns the exit code."""
    chosen = options(__doc__)
    tl.use_profile("quick")
    names = [name for name in prepare(None) if name != "shift"]
    jobs = [(network, name, seed) for network in NETWORKS for name in names for seed in SEEDS]
    GRID.fill(jobs, functools.partial(run, source=chosen.real))
    return 0


def run(network: str, name: str, seed: int, *, source: Path) -> Cell:
    """The scores of one network on the training images of one seed."""
    data = load(name, seed)
    known = features(network, name)
    own = torch.stack([known[key] for key in data.train.keys]).numpy().astype(np.float64)
    labels = data.train.labels.numpy()
    cell = {"network": network, "data": name, "seed": seed}
    cell |= {"neighbours": round(neighbours(own, labels), 4), "logme": round(logme(own, labels), 4)}
    if network == "resnet18":
        cell["distance"] = round(frechet(source_features(source), own), 3)
    return cell


@functools.lru_cache(maxsize=1)
def features(network: str, name: str) -> dict[str, torch.Tensor]:
    """The features of all images that are not for testing, by name."""
    model = tl.load_model(network, size=SIZES[network])
    found = {}
    for part in ("pool", "train", "val"):
        if split := _splits(name).get(part):
            found |= dict(zip(split.keys, tl.compute_features(model, split), strict=True))
    return found


def neighbours(values: np.ndarray, labels: np.ndarray) -> float:
    """How often most of the nearest others have an image's label."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    near = labels[np.argsort(-alike, axis=1)[:, :NEIGHBOURS]]
    votes = np.stack([(near == label).sum(axis=1) for label in range(labels.max() + 1)], axis=1)
    return float((votes.argmax(axis=1) == labels).mean())


def logme(values: np.ndarray, labels: np.ndarray) -> float:
    """LogME of features (images, features): the mean over classes of the log evidence for one image.

    The weights have a Gaussian prior of precision `alpha`, the noise has precision `beta`; both are set to what makes
    the labels most probable, by the fixed point of MacKay (1992).
    """
    images, size = values.shape
    left, singular, _ = np.linalg.svd(values, full_matrices=False)
    eigenvalues, found = singular**2, []
    for label in range(labels.max() + 1):
        target = (labels == label).astype(np.float64)
        projected = left.T @ target
        outside, alpha, beta = float(target @ target - projected @ projected), 1.0, 1.0
        for _ in range(50):
            shrink = alpha + beta * eigenvalues
            weights = float(((beta * singular * projected / shrink) ** 2).sum())
            error = float(((alpha * projected / shrink) ** 2).sum()) + outside
            used = float((beta * eigenvalues / shrink).sum())
            alpha, beta = used / weights, (images - used) / error
        evidence = size * np.log(alpha) + images * np.log(beta) - images * np.log(2 * np.pi)
        evidence -= np.log(shrink).sum() + (size - len(singular)) * np.log(alpha)
        found.append((evidence - beta * error - alpha * weights) / 2 / images)
    return float(np.mean(found))


@functools.cache
def source_features(folder: Path) -> np.ndarray:
    """Features of Tiny ImageNet's validation images."""
    part = load_pixels(folder, "val", Path(__file__).resolve().parents[1] / "runs" / "claims")
    rows = torch.arange(0, len(part.labels), max(len(part.labels) // SOURCE_IMAGES, 1))[:SOURCE_IMAGES]
    images = part.pixels[rows].permute(0, 2, 3, 1).numpy()
    keys = [str(int(row)) for row in rows]
    split = ImageSplit(images.__getitem__, [0] * len(rows), ["a", "b"], keys=keys, name="val")
    return tl.compute_features(tl.load_model("resnet18", size=64), split).numpy().astype(np.float64)


def frechet(source: np.ndarray, target: np.ndarray) -> float:
    """Fréchet distance of two Gaussians (Dowson and Landau 1982), in the source's whitened principal directions."""
    mean = source.mean(axis=0)
    _, singular, directions = np.linalg.svd(source - mean, full_matrices=False)
    whiten = directions[:DIRECTIONS].T / (singular[:DIRECTIONS] / np.sqrt(len(source)))
    values = (target - mean) @ whiten
    covariance = np.cov(values, rowvar=False)
    trace = np.trace(covariance) + DIRECTIONS - 2 * np.trace(sqrtm(covariance).real)
    return float((values.mean(axis=0) ** 2).sum() + trace)


def tables() -> tuple[str, str]:
    """How far each data set is and what transfer brought there; and how well the scores rank the networks."""
    transfer, scores = load_results("transfer"), load_results("choosing").runs
    distance = scores.groupby("data")["distance"].mean().sort_values()
    far = [
        "| data | distance | frozen over scratch | fine-tuned over scratch | fine-tuned over frozen |",
        "|---|---|---|---|---|",
    ]
    for name, value in distance.items():
        pairs = (("frozen", "scratch"), ("everything", "scratch"), ("everything", "frozen"))
        gains = [
            in_points(transfer.against(str(name), than, network="resnet18")).loc[method].iloc[1]
            for method, than in pairs
        ]
        far.append(f"| {name} | {value:.0f} | {' | '.join(gains)} |")
    runs = transfer.scored
    tuned = (
        runs[runs["method"] == "everything"]
        .pivot_table(index=["data", "seed"], columns="network", values="test")
        .dropna()
    )
    known = {name: scores.pivot_table(index=["data", "seed"], columns="network", values=name) for name in SCORES[:2]}
    frozen = runs[runs["method"] == "frozen"]
    known[SCORES[2]] = frozen.pivot_table(index=["data", "seed"], columns="network", values="val")
    names = list(dict.fromkeys(tuned.index.get_level_values("data")))
    rank = [f"| score | {' | '.join(names)} | mean (95 % interval) |", "|---|" + "---|" * (len(names) + 1)]
    for title, table in known.items():
        rng, drawn = np.random.default_rng(0), []
        for _ in range(300):  # other data sets and other seeds
            seeds = rng.choice(len(SEEDS), len(SEEDS))
            drawn.append(np.mean([_agreement(table, tuned, name, seeds) for name in rng.choice(names, len(names))]))
        own = [_agreement(table, tuned, name, list(SEEDS)) for name in names]
        low, high = np.percentile(drawn, [2.5, 97.5])
        cells = (*(f"{value:.2f}" for value in own), f"{np.mean(own):.2f} ({low:.2f} to {high:.2f})")
        rank.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(far) + "\n", "\n".join(rank) + "\n"


def _agreement(table: Any, tuned: Any, name: str, seeds: Any) -> float:
    """Kendall's rank correlation over the networks, of means over the seeds."""
    first, second = (rows.loc[name].loc[seeds].mean() for rows in (table[tuned.columns], tuned))
    return float(first.corr(second, method="kendall"))


if __name__ == "__main__":
    sys.exit(main())
