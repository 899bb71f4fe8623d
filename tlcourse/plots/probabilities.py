"""Figures of a classifier with two classes: threshold, calibration, worst errors."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tlcourse.plots.tables import COLOURS
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.plots import BLUE, GREY, ORANGE, Chart, image_grid


def threshold(scores: np.ndarray, labels: np.ndarray, at: float, *, classes: Sequence[str], title: str) -> Chart:
    """Histograms of scores (images,) with labels 0 and 1, the ROC curve, and a threshold `at`: class 1 from it on."""
    from sklearn.metrics import roc_auc_score, roc_curve

    false_rates, true_rates, _ = roc_curve(labels, scores)
    area = float(roc_auc_score(labels, scores))
    sensitivity, false_alarms = (float((scores[labels == label] >= at).mean()) for label in (1, 0))
    found = f"{sensitivity:.0%} of {classes[1]} are found, and {false_alarms:.0%} of {classes[0]} called so"
    alt = f"{title}: on the left histograms of the scores of {classes[0]} and {classes[1]} with a threshold; "
    alt += f"on the right the ROC curve, area {area:.2f}; at the threshold {found}."
    chart = Chart(alt, figsize=(9, 3.6))
    left, right = chart.subplots(1, 2)
    edges = np.histogram_bin_edges(scores, 24)
    for label, colour in ((0, GREY), (1, BLUE)):
        left.hist(scores[labels == label], edges, color=colour, alpha=0.6, label=classes[label])
    left.axvline(at, color=ORANGE, ls="--", label="threshold")
    left.set(title="Scores", xlabel="score (log-odds)", ylabel="images")
    left.set_ylim(top=1.35 * left.get_ylim()[1])  # room for the legend
    left.legend(fontsize=8, loc="upper left")
    right.plot(false_rates, true_rates, color=BLUE, label=f"ROC curve, area {area:.2f}")
    right.plot([0, 1], [0, 1], color=GREY, ls=":", label="guessing, area 0.50")
    right.plot(false_alarms, sensitivity, "o", color=ORANGE, label="threshold")
    right.set(title="ROC curve", xlabel=f"{classes[0]} called {classes[1]}", ylabel=f"{classes[1]} found")
    right.xaxis.set_major_formatter("{x:.0%}")
    right.yaxis.set_major_formatter("{x:.0%}")
    right.legend(fontsize=8, loc="lower right")
    right.grid(alpha=0.3)
    chart.suptitle(title, fontsize=11)
    return chart


def calibration(tables: Mapping[str, pd.DataFrame], *, title: str, ill: str = "ill") -> Chart:
    """Frequency of `ill`, class 1, against its predicted probability, from `calibration_table`s by the lines' names."""
    gaps = {name: np.average((t["predicted"] - t["observed"]).abs(), weights=t["images"]) for name, t in tables.items()}
    described = "; ".join(f"{name}: {len(tables[name])} points, on average {gap:.0%} off" for name, gap in gaps.items())
    alt = f"{title}: frequency of {ill} against its predicted probability, with a diagonal for perfect calibration. "
    chart = Chart(f"{alt}{described}. Below, the images behind each point.", figsize=(5.6, 5.2))
    above, below = chart.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, ls=":", label="perfect")
    for (name, table), colour, marker in zip(tables.items(), COLOURS, "os^Dv", strict=False):
        above.plot(table["predicted"], table["observed"], color=colour, marker=marker, label=name)
        below.plot(table["predicted"], table["images"], color=colour, marker=marker, ls="")
    above.set(title=title, ylabel=f"frequency of {ill}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    below.set(xlabel=f"predicted probability of {ill} (mean)", ylabel="images", ylim=(0, None))
    above.legend(fontsize=8, loc="upper left")
    above.xaxis.set_major_formatter("{x:.0%}")
    above.yaxis.set_major_formatter("{x:.0%}")
    above.grid(alpha=0.3)
    below.grid(alpha=0.3)
    return chart


def worst_errors(split: ImageSplit, probabilities: Sequence[float] | np.ndarray, at: float, *, title: str) -> Chart:
    """The eight images farthest on the wrong side of the threshold `at` of class 1's probabilities (images,)."""
    values, labels = np.asarray(probabilities, dtype=float), split.labels.numpy()
    called = (values >= at).astype(int)
    # The two sides of the threshold differ in width, so each distance is measured in the width of its side.
    order = np.argsort(-np.abs(values - at) / np.where(called == 1, max(1 - at, 1e-9), max(at, 1e-9)), kind="stable")
    order = order[(called != labels)[order]][:8]
    titles = [f"{split.classes[labels[i]]}\ncalled {split.classes[called[i]]} ({values[i]:.0%})" for i in order]
    return image_grid([split.image(int(i)) for i in order], titles, title=title, columns=4)
