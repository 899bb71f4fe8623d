"""Figures of what a network says: its confusions, its classes for a picture."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from tlhelpers.plots.chart import BLUE, Chart


def confusion(table: pd.DataFrame, *, title: str = "Confusion matrix") -> Chart:
    """A confusion matrix: rows are true classes, columns predicted ones; the shade is the share of the row.

    Args:
        table: counts, as from `Evaluation.confusion`.
        title: of the figure.
    """
    counts = table.to_numpy()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.52 * len(table)
    rows = (f"{name}: " + ", ".join(f"{c} {n}" for c, n in row.items() if n) for name, row in table.iterrows())
    chart = Chart(f"{title}. True class, then predictions: {'; '.join(rows)}.", figsize=(side + 1.0, side))
    axis = chart.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[row, column] > 0.6 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    places = range(len(table))
    axis.set_xticks(places, list(table.columns), rotation=45, ha="right")
    axis.set_yticks(places, list(table.index))
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.set_title(title, fontsize=10, wrap=True)
    bar = chart.colorbar(image, ax=axis, shrink=0.8, format=PercentFormatter(1.0, decimals=0))
    bar.set_label("share of the true class")
    return chart


def bars(values: pd.Series[float], *, title: str, xlabel: str) -> Chart:
    """Horizontal bars, the first value on top; for the classes that a network sees in a picture."""
    said = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    chart = Chart(f"{title}: {said}.", figsize=(6, 0.8 + 0.35 * len(values)))
    axis = chart.subplots()
    drawn = axis.barh([str(name) for name in values.index], values.to_numpy(), color=BLUE)
    labels = [f"{value:.0%}" if value >= 0.01 else "below 1%" for value in values]
    axis.bar_label(drawn, labels, padding=3, fontsize=9)
    axis.invert_yaxis()
    axis.set(title=textwrap.fill(title, 48), xlabel=xlabel, xlim=(0, 1.12))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.spines[["top", "right"]].set_visible(False)
    return chart
