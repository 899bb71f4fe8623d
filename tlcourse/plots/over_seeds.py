"""Figures of measurements over several seeds: every seed a dot, the mean a line, the standard deviation a band."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from tlhelpers.plots import BLUE, GREEN, GREY, ORANGE, Chart

COLOURS = (BLUE, ORANGE, GREEN, GREY, "#CC79A7", "#E69F00", "#56B4E9")


def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    by: str | None = None,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    percent: bool = True,
    colours: Mapping[str, str] | None = None,
) -> Chart:
    """The mean of `y` over seeds against `x`, a line for each value of `by`, with a band of one standard deviation.

    Args:
        table: a row for each run.
        x: name of the column along the axis.
        y: name of the column that was measured.
        by: name of the column with a line for each of its values; None for one line.
        title: of the figure.
        xlabel: with its unit.
        ylabel: with its unit.
        log: a logarithmic x axis with a tick at every measured value.
        percent: `y` are fractions, and shown as per cent.
        colours: for values of `by`; others are taken in turn.
    """
    chart = Chart("", figsize=(6.5, 3.8))
    axis = chart.subplots()
    said = []
    for number, (name, rows) in enumerate(table.groupby(by, sort=False) if by else [("", table)]):
        colour = (colours or {}).get(str(name), COLOURS[number % len(COLOURS)])
        means = rows.groupby(x)[y].mean()
        deviations = rows.groupby(x)[y].std().fillna(0)
        axis.plot(means.index, means, color=colour, marker="o", ms=4, label=str(name))
        axis.fill_between(means.index, means - deviations, means + deviations, color=colour, alpha=0.2, lw=0)
        axis.plot(rows[x], rows[y], ".", color=colour, ms=3, alpha=0.5)
        first, last = (_said(float(means.iloc[i]), percent) for i in (0, -1))
        said.append(f"{str(name) or ylabel} from {first} at {means.index[0]:g} to {last} at {means.index[-1]:g}")
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if log:
        places = sorted(table[x].unique())
        axis.set_xscale("log")
        axis.set_xticks(places, [f"{place:g}" for place in places])
        axis.xaxis.set_minor_locator(NullLocator())
    elif pd.api.types.is_integer_dtype(table[x]):  # epochs, say
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if percent:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(alpha=0.3)
    if by:
        axis.legend(fontsize=8)
    chart.alt = f"{title}: a line chart of {ylabel} against {xlabel}. {'; '.join(said)}."
    return chart


def ranking(table: pd.DataFrame, y: str, by: str, *, title: str, xlabel: str, percent: bool = True) -> Chart:
    """The mean of `y` over seeds for each value of `by`: a bar, a line of one standard deviation, every seed a dot.

    Args:
        table: a row for each run.
        y: name of the column that was measured.
        by: name of the column with a bar for each of its values, in their order, the first on top.
        title: of the figure.
        xlabel: with its unit.
        percent: `y` are fractions, and shown as per cent.
    """
    groups = table.groupby(by, sort=False)[y]
    means, deviations = groups.mean(), groups.std().fillna(0)
    said = "; ".join(f"{name} {_said(float(value), percent)}" for name, value in means.items())
    chart = Chart(f"{title}: a bar chart of {xlabel}. {said}.", figsize=(7, 1.1 + 0.42 * len(means)))
    axis = chart.subplots()
    axis.barh([str(name) for name in means.index], means, xerr=deviations, color=BLUE, alpha=0.55, ecolor=GREY)
    for place, (_, values) in enumerate(groups):
        axis.plot(values, [place] * len(values), ".", color="black", ms=4)
    axis.invert_yaxis()
    axis.set(title=title, xlabel=xlabel)
    if percent:
        axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(alpha=0.3, axis="x")
    axis.spines[["top", "right"]].set_visible(False)
    return chart


def _said(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else f"{value:.3g}"
