"""Horizontal charts with a row for each name, the first on top."""

import textwrap
from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tlcourse.plots.colours import METHOD_COLOURS
from tlhelpers.plots import BLUE, GREY, Chart


def ranking(table: pd.DataFrame, y: str, by: str, *, title: str, xlabel: str, percent: bool = True) -> Chart:
    """The mean of `y` over seeds for each value of `by`: a bar, one standard deviation, and a dot for each run.

    `table` has a row for each run; bars are in the order in which values of `by` appear. `percent` shows per cent.
    """
    groups = table.groupby(by, sort=False)[y]
    means = groups.mean()
    values = "; ".join(f"{name} {mean:{'.0%' if percent else '.3g'}}" for name, mean in means.items())
    chart, axis = _rows(f"{title}: a bar chart of {xlabel}. {values}.", means.index, title, xlabel, percent)
    colours = [METHOD_COLOURS.get(str(name), BLUE) for name in means.index]
    axis.barh(range(len(means)), means, xerr=groups.std().fillna(0), color=colours, alpha=0.55, ecolor=GREY)
    for place, (_, runs) in enumerate(groups):
        axis.plot(runs, [place] * len(runs), ".", color="black", ms=4)
    return chart


def intervals(
    table: pd.DataFrame, *, title: str, xlabel: str, line: float | None = None, named: str = "", low: float = 0.0
) -> Chart:
    """A dot with its interval for each row of a table with the columns value, low and high, fractions from 0 to 1.

    A vertical line at `line` has the name `named`. The axis begins at `low`, for values never near 0, as an AUC.
    """
    described = [f"{row.Index} {row.value:.0%} ({row.low:.0%} to {row.high:.0%})" for row in table.itertuples()]
    reference = "" if line is None else f" A line marks {named or 'a reference'} at {line:.0%}."
    chart, axis = _rows(f"{title}: {xlabel}. {'; '.join(described)}.{reference}", table.index, title, xlabel)
    axis.hlines(range(len(table)), table["low"], table["high"], color=BLUE, lw=3, alpha=0.45)
    axis.plot(table["value"], range(len(table)), "o", color=BLUE)
    axis.set_xlim(low - 0.02, 1.02)
    if line is not None:
        axis.axvline(line, color=GREY, ls="--", label=named)
        if named:
            axis.legend(fontsize=8)
    return chart


def bars(values: "pd.Series[float]", *, title: str, xlabel: str) -> Chart:
    """Bars of fractions, each with its number; for example the probabilities of classes."""
    described = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    chart, axis = _rows(f"{title}: {described}.", values.index, title, xlabel)
    colours = [METHOD_COLOURS.get(str(name), BLUE) for name in values.index]
    drawn = axis.barh(range(len(values)), values.to_numpy(), color=colours)
    axis.bar_label(drawn, [f"{v:.0%}" if v >= 0.01 else "below 1%" for v in values], padding=3, fontsize=9)
    axis.set_xlim(0, 1.12)
    return chart


def _rows(alt: str, names: Iterable[object], title: str, xlabel: str, percent: bool = True) -> tuple[Chart, Axes]:
    """An empty chart with a named row for each bar or interval."""
    rows = list(map(str, names))
    chart = Chart(alt, figsize=(7, 1.1 + 0.4 * len(rows)))
    axis = chart.subplots()
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), yticklabels=rows)
    chart.suptitle(textwrap.fill(title, 70), fontsize=11)
    if percent:
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(alpha=0.3, axis="x")
    axis.spines[["top", "right"]].set_visible(False)
    return chart, axis
