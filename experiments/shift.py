"""What fine-tuning does to images of another style: probe first, fine-tune at once, and averages of weights.

    python experiments/shift.py      measure what is missing and write the results file

Networks learn from 40 images a class of Fluent's drawings, and are tuned and validated on other species by the same
artists. Four test sets show species that are in neither: `fluent` again, and the drawings of other artists, `openmoji`,
`noto` and `twemoji`, on which nothing was chosen. *probe first* trains the head alone, then everything (Kumar et al.
2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution"). `curve` of its runs holds the
scores of averages of the weights after the probe and after fine-tuning (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models"), BatchNorm's statistics averaged too.
"""

import sys
from typing import Any

from grid import Cell, Grid
from prepared import load, prepare, split_of
from tuned import SETTINGS, counted, fill_tuned, measured, options, rates_of, scored, train_method

import tlhelpers as tl
from tlcourse.measurements.results import FOLDER, in_points, load_results

NETWORKS = ("resnet18", "efficientnet_lite0")
METHODS = ("frozen", "everything", "probe first")
TESTS = ("fluent", "openmoji", "noto", "twemoji")
SHARES = [i / 10 for i in range(11)]  # of the fine-tuned weights in an average
KEYS = ("network", "method", "rate", "seed")
GRID = Grid(FOLDER / "shift.json", "python experiments/shift.py", {**SETTINGS, "shares": SHARES}, KEYS)


def main() -> int:
    """Measure what is missing; returns the exit code."""
    chosen = options(__doc__)
    tl.use_profile("quick")
    prepare(None)
    data = load("shift", 0)
    for name in TESTS:
        data.test = split_of("shift", name)
        GRID.facts.setdefault("tests", {})[name] = counted(data)
    cells = [(network, method) for network in NETWORKS for method in METHODS]
    fill_tuned(GRID, cells, rates_of, run, chosen.processes)
    return 0


def run(network: str, method: str, rate: float, seed: int) -> Cell:
    """Train once; score with and without shift unless the run serves for tuning."""
    data, before = load("shift", seed), {}
    model, fitted, compute = train_method(network, method, data, rate, seed, probed=before)
    cell = {"network": network, "method": method, "rate": rate, "seed": seed, **measured(fitted, data.val, compute)}
    if seed >= 100:
        return cell
    tests = {name: split_of("shift", name) for name in TESTS}
    for name, split in tests.items():
        cell |= {f"{key}_{name}": value for key, value in scored(model, split).items()}
    if before:
        cell["curve"] = curve(model, before, {"val": data.val, **tests})
    return cell


def curve(model: Any, before: dict[str, Any], splits: dict[str, tl.ImageSplit]) -> dict[str, list[float]]:
    """Balanced accuracy on each split by the share of the fine-tuned weights."""
    after, found = tl.snapshot(model), {name: [] for name in splits}
    for share in SHARES:
        model.load_state_dict({name: averaged(before[name], after[name], share) for name in after})
        for name, split in splits.items():
            found[name].append(scored(model, split)["test"])
    return found


def averaged(first: Any, second: Any, share: float) -> Any:
    """`share` of the second tensor, the rest of the first; counts of batches are taken as they are."""
    return second if not second.is_floating_point() else first + share * (second - first)


def table() -> str:
    """For each network, style and method accuracy and the gain over fine-tuning at once, as Markdown."""
    results, lines = (
        load_results("shift"),
        ["| network | trained | fluent | openmoji | noto | twemoji |", "|---|---|" + "---|" * 4],
    )
    for network in NETWORKS:
        found = {s: results.against(s, "everything", right=f"right_{s}", network=network) for s in TESTS}
        rows = {style: in_points(table).agg("; ".join, axis=1) for style, table in found.items()}
        for method in METHODS:
            cells = (rows[style][method].removesuffix("; –") for style in TESTS)
            lines.append(f"| {network} | {method} | {' | '.join(cells)} |")
        curves = results.scored[(results.scored["network"] == network)]["curve"].dropna()
        means = {style: sum(curve[style][7] for curve in curves) / len(curves) for style in TESTS}
        cells = (f"{100 * means[style]:.1f}" for style in TESTS)
        lines.append(f"| {network} | average, 0.7 of the fine-tuned weights | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
