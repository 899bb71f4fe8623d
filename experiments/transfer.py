"""Measure what transfer brings: four networks, five training methods, six data sets, five seeds.

    python experiments/transfer.py [FOLDER]      measure what is missing and write the results file

FOLDER holds hymenoptera/, flowers/, cats_dogs/ and chest_xray/, as far as they are there; safari and phantom need
nothing. Every run trains until validation stops improving, at a learning rate that validation chose (see tuned.py).
Some cells are left out: EfficientNet-Lite0 from scratch, which learns hardly anything from so few images at a great
cost, and of resnet34 and vgg16 what the other two networks show as well.
"""

import sys

from grid import Cell, Grid
from prepared import load, prepare
from tuned import METHODS, NETWORKS, SETTINGS, counted, fill_tuned, measured, options, rates_of, scored, train_method

import tlhelpers as tl
from tlcourse.measurements.comparison import clustered_interval
from tlcourse.measurements.results import FOLDER, load_results

GRID = Grid(
    FOLDER / "transfer.json",
    "python experiments/transfer.py FOLDER",
    SETTINGS,
    ("network", "method", "data", "rate", "seed"),
)


def main() -> int:
    """Measure what is missing; returns the exit code."""
    chosen = options(__doc__)
    tl.use_profile("quick")
    there = [name for name in prepare(chosen.real) if name != "shift"]
    cells = [
        (network, method, name)
        for name in there
        for network in NETWORKS
        for method in METHODS
        if _teaches(network, method, name) and all(word in (network, method, name) for word in chosen.only)
    ]
    GRID.facts["tests"] = {name: counted(load(name, 0)) for name in there}
    fill_tuned(GRID, cells, lambda network, method, _: rates_of(network, method), run, chosen.processes)
    return 0


def _teaches(network: str, method: str, name: str) -> bool:
    if (network, method) == ("efficientnet_lite0", "scratch"):
        return False
    return network in ("resnet18", "efficientnet_lite0") or (method != "probe first" and name != "phantom")


def run(network: str, method: str, name: str, rate: float, seed: int) -> Cell:
    """Train once; score on the test set unless the run serves for tuning."""
    data = load(name, seed)
    model, fitted, compute = train_method(network, method, data, rate, seed)
    cell = {"network": network, "method": method, "data": name, "rate": rate, "seed": seed}
    cell |= measured(fitted, data.val, compute)
    assert data.test is not None
    return cell | (scored(model, data.test) if seed < 100 else {})


def tables() -> str:
    """For each data set its counts, and a row for each network and method, as Markdown."""
    results = load_results("transfer")
    texts = []
    for name, facts in results.facts["tests"].items():
        runs = results.runs[(results.runs["data"] == name) & results.runs["right"].notna()]
        clusters, images = max(facts["clusters"]) + 1, len(facts["labels"])
        independent = {"safari": "drawings", "chest_xray": "patients", "phantom": "patients"}.get(name, "images")
        independent = f"{images} images of {clusters} {independent}" if clusters < images else f"{images} images"
        text = f"**{name}**: {facts['train']} images to train on, {facts['val']} to validate, test set {independent}."
        lines = [f"{text}\n", "| network | trains | accuracy | 95 % interval | over scratch | computed | epochs |"]
        lines.append("|---|---|---|---|---|---|---|")
        for (network, method), own in runs.groupby(["network", "method"], sort=False):
            rivals = runs[(runs["network"] == network) & (runs["method"] == "scratch")]
            _, low, high = clustered_interval(own, None, facts["labels"], facts["clusters"])
            gain = "–"
            if method != "scratch" and len(rivals):
                mean, *ends = clustered_interval(own, rivals, facts["labels"], facts["clusters"])
                gain = f"{100 * mean:+.1f} ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
            accuracy = f"{100 * own['test'].mean():.1f} ± {100 * own['test'].std():.1f}"
            cells = (network, method, accuracy, f"{100 * low:.1f} to {100 * high:.1f}", gain)
            lines.append(f"| {' | '.join(cells)} | {own['compute'].mean():.3g} | {own['epochs'].mean():.0f} |")
        texts.append("\n".join(lines) + "\n")
    return "\n".join(texts)


if __name__ == "__main__":
    sys.exit(main())
