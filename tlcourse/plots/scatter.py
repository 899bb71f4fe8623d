"""Scatter charts: images as points, and accuracy against cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter, ScalarFormatter

from tlcourse.plots.colours import COLOURS
from tlhelpers.plots import Chart

POINTS = [{"color": colour, "marker": marker} for marker in "os^Dv" for colour in (*COLOURS, "black")]


def point_map(
    maps: Mapping[str, tuple[Any, Any]], classes: Sequence[str], *, title: str, xlabel: str = "", ylabel: str = ""
) -> Chart:
    """Points in the plane, coloured by class, one panel for each map.

    `maps` holds for each panel's title points (count, 2) and labels (count,), which are positions in `classes`. Panels
    with an `xlabel` share their axes; without it the axes have no numbers.
    """
    counts = ", ".join(f"{name} with {len(np.asarray(points))} points" for name, (points, _) in maps.items())
    alt = f"{title}: {len(maps)} scatter charts, {counts}, coloured by the classes {', '.join(classes)}."
    chart = Chart(alt, figsize=(4.4 * len(maps) + 0.4, 4.6))
    axes = chart.subplots(1, len(maps), squeeze=False, sharex=bool(xlabel), sharey=bool(xlabel))
    for axis, (name, (points, labels)) in zip(axes.flat, maps.items(), strict=True):
        for number, label in enumerate(classes):
            x, y = np.asarray(points)[np.asarray(labels) == number].T
            axis.plot(x, y, ls="", ms=4, alpha=0.75, label=label, **POINTS[number % len(POINTS)])
        axis.set_title(name, fontsize=10)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        if not xlabel:
            axis.set(xticks=[], yticks=[])
    handles = axes.flat[0].get_legend_handles_labels()
    chart.legend(*handles, loc="outside lower center", ncols=min(len(classes), 8), fontsize=8)
    chart.suptitle(title, fontsize=11)
    return chart


def trade_off(table: pd.DataFrame, xs: Mapping[str, str], y: str, by: str, *, title: str, ylabel: str) -> Chart:
    """Accuracy against several costs, a panel for each, a point for each network, named by the table's index.

    `xs` holds for columns of costs the labels of the logarithmic axes; `y` has fractions, each value of `by` a colour.
    """
    described = "; ".join(
        f"{name} {row[y]:.0%} at {', '.join(f'{row[x]:.3g} {label}' for x, label in xs.items())}"
        for name, row in table.iterrows()
    )
    chart = Chart(f"{title}: {len(xs)} scatter charts. {described}.", figsize=(4.6 * len(xs), 4))
    axes = chart.subplots(1, len(xs), sharey=True, squeeze=False)
    for axis, (x, label) in zip(axes.flat, xs.items(), strict=True):
        for (_, rows), colour in zip(table.groupby(by, sort=False), COLOURS, strict=False):
            axis.plot(rows[x], rows[y], "o", color=colour)
        for name, row in table.iterrows():
            right = row[x] > (table[x].min() * table[x].max()) ** 0.5  # of the middle: the name goes to the left
            at = {"xytext": (-6 if right else 6, -3), "ha": "right" if right else "left"}
            axis.annotate(str(name), (row[x], row[y]), textcoords="offset points", fontsize=8, **at)
        axis.set(xscale="log", xlabel=label)
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter("{x:.0%}")
        axis.grid(alpha=0.3)
    axes.flat[0].set_ylabel(ylabel)
    chart.suptitle(title, fontsize=11)
    return chart
