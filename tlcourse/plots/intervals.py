"""Figures of proportions with their intervals."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.ticker import PercentFormatter

from tlhelpers.plots import BLUE, GREY, Chart


def intervals(
    table: pd.DataFrame, *, title: str, xlabel: str, line: float | None = None, named: str = "", low: float = 0.0
) -> Chart:
    """A dot with its interval for each row, the first on top.

    Args:
        table: columns value, low and high, fractions between 0 and 1; the index names the rows.
        title: of the figure.
        xlabel: what the values are.
        line: a vertical line at this value, for what the rows are to be compared with.
        named: what that line is.
        low: where the axis begins, for numbers that are never near 0, such as an AUC.
    """
    rows = [f"{name} {row['value']:.0%} ({row['low']:.0%} to {row['high']:.0%})" for name, row in table.iterrows()]
    reference = "" if line is None else f" A line marks {named or 'a reference'} at {line:.0%}."
    chart = Chart(f"{title}: {xlabel}. {'; '.join(rows)}.{reference}", figsize=(6.5, 1.2 + 0.32 * len(table)))
    axis = chart.subplots()
    places = range(len(table))
    axis.hlines(places, table["low"], table["high"], color=BLUE, lw=3, alpha=0.45)
    axis.plot(table["value"], places, "o", color=BLUE)
    if line is not None:
        axis.axvline(line, color=GREY, ls="--", label=named)
        if named:
            axis.legend(fontsize=8)
    axis.set_yticks(places, [str(name) for name in table.index])
    axis.set(title=title, xlabel=xlabel, xlim=(low - 0.02, 1.02), ylim=(len(table) - 0.4, -0.6))  # the first on top
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(alpha=0.3, axis="x")
    axis.spines[["top", "right"]].set_visible(False)
    return chart


def bars(values: pd.Series[float], *, title: str, xlabel: str) -> Chart:
    """Horizontal bars, the first value on top; for the classes that a network sees in an image."""
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
