"""Horizontal charts with a row for each name, the first on top."""

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from tlcourse.plots.colours import METHOD_COLOURS
from tlhelpers.plots import BLUE, GREY, Chart


def ranking(table: pd.DataFrame, y: str, by: str, *, title: str, xlabel: str, percent: bool = True) -> Chart:
    """The mean of `y` over seeds for each value of `by`: a bar, one standard deviation, and a dot for each run.

    `table` has a row for each run. The bars come in the order in which the values of `by` first appear. `percent` shows
    fractions in per cent.
    """
    groups = table.groupby(by, sort=False)[y]
    means = groups.mean()
    names = [str(name) for name in means.index]
    values = "; ".join(
        f"{name} {mean:.0%}" if percent else f"{name} {mean:.3g}" for name, mean in zip(names, means, strict=True)
    )
    chart, axis = _rows(f"{title}: a bar chart of {xlabel}. {values}.", names, title, xlabel, percent)
    colours = [METHOD_COLOURS.get(name, BLUE) for name in names]
    axis.barh(range(len(names)), means, xerr=groups.std().fillna(0), color=colours, alpha=0.55, ecolor=GREY)
    for place, (_, runs) in enumerate(groups):
        axis.plot(runs, [place] * len(runs), ".", color="black", ms=4)
    return chart


def intervals(
    table: pd.DataFrame, *, title: str, xlabel: str, line: float | None = None, named: str = "", low: float = 0.0
) -> Chart:
    """A dot with its interval for each row of a table with the columns value, low and high, fractions from 0 to 1.

    A vertical line at `line` has the name `named`. The axis begins at `low`, for values that are never near 0, such as
    an AUC.
    """
    described = [f"{row.Index} {row.value:.0%} ({row.low:.0%} to {row.high:.0%})" for row in table.itertuples()]
    reference = "" if line is None else f" A line marks {named or 'a reference'} at {line:.0%}."
    names = [str(name) for name in table.index]
    chart, axis = _rows(f"{title}: {xlabel}. {'; '.join(described)}.{reference}", names, title, xlabel)
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
    chart, axis = _rows(f"{title}: {described}.", [str(name) for name in values.index], title, xlabel)
    drawn = axis.barh(range(len(values)), values.to_numpy(), color=BLUE)
    labels = [f"{value:.0%}" if value >= 0.01 else "below 1%" for value in values]
    axis.bar_label(drawn, labels, padding=3, fontsize=9)
    axis.set_xlim(0, 1.12)
    return chart


def _rows(alt: str, names: Sequence[str], title: str, xlabel: str, percent: bool = True) -> tuple[Chart, Axes]:
    """An empty chart with a named row for each bar or interval."""
    chart = Chart(alt, figsize=(7, 1.1 + 0.4 * len(names)))
    axis = chart.subplots()
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
    chart.suptitle(textwrap.fill(title, 70), fontsize=11)
    if percent:
        axis.xaxis.set_major_formatter("{x:.0%}")
    axis.grid(alpha=0.3, axis="x")
    axis.spines[["top", "right"]].set_visible(False)
    return chart, axis
