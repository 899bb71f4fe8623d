"""Figures of a yes-or-no question: images with outlined regions, scores with a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import PercentFormatter
from PIL import Image

from tlhelpers.plots import BLUE, GREY, ORANGE, Chart, image_grid


def outlined(
    images: Sequence[Image.Image], masks: np.ndarray, titles: Sequence[str] = (), *, title: str = "", columns: int = 6
) -> Chart:
    """Images in a grid, with a line around the region of each.

    Args:
        images: PIL images.
        masks: bool (images, height, width), of the same sizes; a mask without a pixel draws no line.
        titles: one for each image, or none.
        title: of the whole figure.
        columns: images in a row, at most.
    """
    chart = image_grid(images, titles, title=title, columns=columns)
    with_region = [number for number, mask in enumerate(masks) if mask.any()]
    for number in with_region:
        chart.axes[number].contour(masks[number], levels=[0.5], colors=ORANGE, linewidths=1)
    chart.alt += f". {len(with_region)} of them have an orange line around a region"
    return chart


def threshold(scores: np.ndarray, labels: np.ndarray, at: float, *, classes: Sequence[str], title: str) -> Chart:
    """How the scores of two classes are spread, with a threshold; and the ROC curve, with the threshold's place on it.

    Args:
        scores: (images,); the higher, the more the second class.
        labels: (images,), 0 or 1.
        at: the threshold; a score of `at` or more is called the second class.
        classes: names of class 0 and class 1.
        title: of the whole figure.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    false, true, _ = roc_curve(labels, scores)
    area = float(roc_auc_score(labels, scores))
    found, alarms = float((scores[labels == 1] >= at).mean()), float((scores[labels == 0] >= at).mean())
    chart = Chart(
        f"{title}: on the left two histograms of scores, of {classes[0]} and {classes[1]}, overlapping, with a "
        f"threshold. On the right the ROC curve, area {area:.2f}; at the threshold {found:.0%} of {classes[1]} are "
        f"found, and {alarms:.0%} of {classes[0]} called so.",
        figsize=(9, 3.6),
    )
    left, right = chart.subplots(1, 2)
    edges = np.histogram_bin_edges(scores, 24)
    for label, colour in ((0, GREY), (1, BLUE)):
        left.hist(scores[labels == label], edges, color=colour, alpha=0.6, label=classes[label])
    left.axvline(at, color=ORANGE, ls="--", label="threshold")
    left.set(title="Scores", xlabel="score (log-odds)", ylabel="images")
    left.legend(fontsize=8)
    right.plot(false, true, color=BLUE, label=f"ROC curve, area {area:.2f}")
    right.plot([0, 1], [0, 1], color=GREY, ls=":", label="guessing, area 0.50")
    right.plot(alarms, found, "o", color=ORANGE, label="the threshold")
    right.set(title="ROC curve", xlabel=f"share of {classes[0]} called {classes[1]}")
    right.set_ylabel(f"share of {classes[1]} found")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.legend(fontsize=8, loc="lower right")
    right.grid(alpha=0.3)
    chart.suptitle(title, fontsize=11)
    return chart
