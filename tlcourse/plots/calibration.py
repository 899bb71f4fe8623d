"""Figures of a clinical report: calibration, and the worst errors as images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from tlhelpers.data.dataset import ImageSplit
from tlhelpers.plots import BLUE, GREEN, GREY, ORANGE, Chart, image_grid

COLOURS = (ORANGE, BLUE, GREEN)
MARKERS = ("s", "o", "^")


def calibration(tables: Mapping[str, pd.DataFrame], *, title: str, ill: str = "ill") -> Chart:
    """Probability that was said against the share that was found, and below how many images each point stands for.

    Args:
        tables: for each line its name, and a table as from `calibration_table`; three at most.
        title: of the figure.
        ill: name of class 1.
    """
    gaps = {
        name: float((table["images"] * (table["said"] - table["found"]).abs()).sum() / table["images"].sum())
        for name, table in tables.items()
    }
    said = "; ".join(f"{name}: {len(tables[name])} points, on average {gap:.0%} off" for name, gap in gaps.items())
    chart = Chart(
        f"{title}: share that is {ill} against the probability that was said, with a diagonal for perfect "
        f"calibration. {said}. Below, the images behind each point.",
        figsize=(5.6, 5.2),
    )
    above, below = chart.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, ls=":", label="perfect")
    styles = zip(COLOURS, MARKERS, strict=True)
    for (name, table), (colour, marker) in zip(tables.items(), styles, strict=False):
        above.plot(table["said"], table["found"], color=colour, marker=marker, label=name)
        below.plot(table["said"], table["images"], color=colour, marker=marker, ls="")
    above.set(title=title, ylabel=f"share that is {ill}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    below.set(xlabel=f"mean probability of {ill} that was said", ylabel="images")
    below.set_ylim(bottom=0)
    above.legend(fontsize=8, loc="upper left")
    for axis in (above.xaxis, above.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for axes in (above, below):
        axes.grid(alpha=0.3)
    return chart


def worst_errors(
    split: ImageSplit, probabilities: Sequence[float] | np.ndarray, at: float, *, count: int = 8, title: str
) -> Chart:
    """The images that are on the wrong side of the threshold, the farthest from it first.

    Args:
        split: the images, with two classes.
        probabilities: (images,) of the second class.
        at: the threshold; a probability of `at` or more is called the second class.
        count: images, at most.
        title: of the figure.
    """
    values, labels = np.asarray(probabilities, dtype=float), split.labels.numpy()
    called = (values >= at).astype(int)
    wrong = np.flatnonzero(called != labels)
    # Missed and false alarms have different room on their side of the threshold, so each is measured by its own.
    room = np.where(called[wrong] == 1, max(1 - at, 1e-9), max(at, 1e-9))
    order = wrong[np.argsort(-np.abs(values[wrong] - at) / room, kind="stable")][:count]
    titles = [f"{split.classes[labels[i]]}\ncalled {split.classes[called[i]]} ({values[i]:.0%})" for i in order]
    return image_grid([split.image(int(i)) for i in order], titles, title=title, columns=4)
