"""Small multiples: one panel for each data set or task, with the same axes, so that they can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from tlcourse.plots.over_seeds import COLOURS
from tlhelpers.plots import Chart


def panels(
    table: pd.DataFrame,
    x: str,
    y: str,
    by: str,
    panel: str,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    percent: bool = True,
    columns: int = 2,
    levels: Mapping[str, float] | None = None,
) -> Chart:
    """The mean of `y` over seeds against `x`, a line for each value of `by`, a panel for each value of `panel`.

    The band is one standard deviation over the runs, each run a dot.

    Args:
        table: a row for each run.
        x: name of the column along the axis: numbers, or texts in the order of their first appearance.
        y: name of the column that was measured.
        by: name of the column with a line for each of its values.
        panel: name of the column with a panel for each of its values.
        title: of the figure.
        xlabel: with its unit.
        ylabel: with its unit.
        log: a logarithmic x axis, for numbers.
        percent: `y` are fractions, and shown as per cent.
        columns: panels in a row.
        levels: for values of `panel`, a height that is marked by a dotted line: that of guessing.
    """
    names, lines = list(table[panel].unique()), list(table[by].unique())
    across = min(columns, len(names))
    down = -(-len(names) // across)
    chart = Chart("", figsize=(max(4.3 * across, 6.5), 2.9 * down + 0.9))
    axes = chart.subplots(down, across, squeeze=False, sharey=True).flatten()
    words = not pd.api.types.is_numeric_dtype(table[x])
    places = {value: place for place, value in enumerate(table[x].unique())} if words else {}
    said = []
    for number, (axis, name) in enumerate(zip(axes, names, strict=False)):
        rows = table[table[panel] == name]
        for line, part in rows.groupby(by, sort=False):
            colour = COLOURS[lines.index(line) % len(COLOURS)]
            runs = part.assign(at=part[x].map(places) if words else part[x])
            means, spread = runs.groupby("at")[y].mean(), runs.groupby("at")[y].std().fillna(0)
            axis.plot(means.index, means, color=colour, marker="o", ms=4, label=str(line))
            axis.fill_between(means.index, means - spread, means + spread, color=colour, alpha=0.2, lw=0)
            axis.plot(runs["at"], runs[y], ".", color=colour, ms=3, alpha=0.5)
            said.append(f"{name}, {line}: from {_said(means.iloc[0], percent)} to {_said(means.iloc[-1], percent)}")
        if levels is not None and name in levels:
            axis.axhline(levels[name], color="black", ls=":", lw=1, label="guessing")
        axis.set_title(str(name), fontsize=10)
        axis.grid(alpha=0.3)
        if number >= len(names) - across:  # nothing below it
            axis.set_xlabel(xlabel)
        _ticks(axis, sorted(rows[x].unique()) if log else None, places)
    for axis in axes[len(names) :]:
        axis.axis("off")
    if percent:
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    handles = {str(artist.get_label()): artist for axis in axes for artist in axis.get_legend_handles_labels()[0]}
    chart.legend(handles=list(handles.values()), loc="outside lower center", ncols=min(len(handles), 4), fontsize=8)
    chart.supylabel(ylabel, fontsize=10)
    chart.suptitle(title, fontsize=11)
    chart.alt = f"{title}: {len(names)} line charts of {ylabel} against {xlabel}. {'; '.join(said)}."
    return chart


def _ticks(axis: Any, logarithmic: list[float] | None, words: Mapping[Any, int]) -> None:
    if words:
        axis.set_xticks(list(words.values()), [str(word) for word in words])
    elif logarithmic is not None:
        axis.set_xscale("log")
        axis.set_xticks(logarithmic, [f"{place:g}" for place in logarithmic])
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _said(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else f"{value:.2f}"
