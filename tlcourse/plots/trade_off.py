"""Figures of a trade: what networks achieve against what they cost."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.ticker import NullFormatter, PercentFormatter, ScalarFormatter

from tlcourse.plots.over_seeds import COLOURS
from tlhelpers.plots import Chart


def trade_off(table: pd.DataFrame, xs: Mapping[str, str], y: str, by: str, *, title: str, ylabel: str) -> Chart:
    """A point for each row, against one cost after the other, in panels beside each other.

    Args:
        table: a row for each network, its name in the index.
        xs: column -> label of the axis with its unit; the axes are logarithmic.
        y: column with fractions, shown as per cent.
        by: column whose values get a colour each.
        title: of the whole figure.
        ylabel: what `y` is.
    """
    said = "; ".join(
        f"{name} {row[y]:.0%} at {', '.join(f'{row[x]:.3g} {label}' for x, label in xs.items())}"
        for name, row in table.iterrows()
    )
    chart = Chart(f"{title}: {len(xs)} scatter charts. {said}.", figsize=(4.6 * len(xs), 4))
    axes = chart.subplots(1, len(xs), sharey=True, squeeze=False)[0]
    colours = dict(zip(table[by].unique(), COLOURS, strict=False))
    for axis, (x, label) in zip(axes, xs.items(), strict=True):
        for group, rows in table.groupby(by, sort=False):
            axis.plot(rows[x], rows[y], "o", color=colours[group], label=str(group))
        for name, row in table.iterrows():
            right = row[x] > (table[x].min() * table[x].max()) ** 0.5  # of the middle: the name goes to the left
            at = {"xytext": (-6 if right else 6, -3), "ha": "right" if right else "left"}
            axis.annotate(str(name), (row[x], row[y]), textcoords="offset points", fontsize=8, **at)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(ylabel)
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    chart.suptitle(title, fontsize=11)
    return chart
