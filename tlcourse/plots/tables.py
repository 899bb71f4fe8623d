"""Figures of tables: lines over seeds, rows of bars and intervals, points."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter, ScalarFormatter

from tlhelpers.plots import BLUE, GREEN, GREY, ORANGE, Chart

SKY = "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, GREY, "#CC79A7", "#E69F00", SKY)

METHOD_COLOURS = {  # one colour for one training method, in every figure of the course
    **dict.fromkeys(("from scratch", "scratch"), ORANGE),
    **dict.fromkeys(("frozen", "frozen features", "frozen embeddings", "head", "head only", "the head alone"), BLUE),
    **dict.fromkeys(("last block", "last layer"), SKY),
    **dict.fromkeys(("last blocks", "last two blocks", "two blocks"), "#CC79A7"),
    **dict.fromkeys(("everything", "fine-tuned"), GREEN),
    **dict.fromkeys(("random control", "random"), GREY),
    "LoRA": "#E69F00",
}
POINTS = [{"color": colour, "marker": marker} for marker in "os^Dv" for colour in (*COLOURS, "black")]


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: that of its method, or else the next that no method here has."""
    names = list(names)
    methods = {METHOD_COLOURS[name] for name in names if name in METHOD_COLOURS}
    others = cycle([colour for colour in COLOURS if colour not in methods])
    return {name: METHOD_COLOURS.get(name) or next(others) for name in names}


def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    by: str | None = None,
    panel: str | None = None,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    percent: bool = True,
    levels: Mapping[str, float] | None = None,
) -> Chart:
    """The mean of `y` over seeds against `x`, with a band of one standard deviation and a dot for each run.

    `table` has a row for each run. Its column `x` holds numbers, or words in the order of their first appearance; each
    value of the column `by` has a line, and each value of `panel` a panel. `log` makes the x axis logarithmic, with a
    tick at every measured value; `percent` shows fractions in per cent. `levels` holds the accuracy of guessing for
    values of `panel`, drawn as a dotted line.
    """
    single, numeric = lambda _row: "", pd.api.types.is_numeric_dtype(table[x])
    panels = dict(list(table.groupby(panel or single, sort=False)))
    colours = colours_of(map(str, table[by].unique())) if by else {"": COLOURS[0]}
    down, across = -(-len(panels) // 2), min(2, len(panels))
    chart = Chart("", figsize=(max(4.3 * across, 6.5), 2.9 * down + 0.9))
    axes = chart.subplots(down, across, squeeze=False, sharey=True)
    described, number, place = [], ".0%" if percent else ".3g", "g" if numeric else ""
    for axis, (name, rows) in zip(axes.flat, panels.items(), strict=False):
        for line, runs in rows.groupby(by or single, sort=False):
            means = draw_runs(axis, runs, x, y, colours[str(line)], str(line))
            ends = (f"{means.iloc[i]:{number}} at {means.index[i]:{place}}" for i in (0, -1))
            what = ", ".join(filter(None, (str(name), str(line)))) or ylabel
            described.append(f"{what} from {' to '.join(ends)}")
        if levels and name in levels:
            axis.axhline(levels[str(name)], color="black", ls=":", lw=1, label="guessing")
        axis.set_title(str(name), fontsize=10)
        axis.grid(alpha=0.3)
        if log:
            ticks = sorted(rows[x].unique())
            axis.set_xscale("log")
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_xticks([], minor=True)
        elif pd.api.types.is_integer_dtype(table[x]):  # epochs, say
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if percent:
            axis.yaxis.set_major_formatter("{x:.0%}")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    if by:
        handles = {str(line.get_label()): line for axis in axes.flat for line in axis.get_legend_handles_labels()[0]}
        columns = max(1, min(len(handles), 4, 100 // (6 + max(map(len, handles)))))  # of a figure 6.5 inches wide
        chart.legend(handles=list(handles.values()), loc="outside lower center", ncols=columns, fontsize=8)
    for axis in axes.flat[max(0, len(panels) - across) : len(panels)]:  # supxlabel would be under the legend
        axis.set_xlabel(xlabel)
    chart.supylabel(ylabel, fontsize=10)
    if "seed" in table:
        title += f" ({table['seed'].nunique()} seeds)"
    chart.suptitle(title, fontsize=11)
    kind = "a line chart" if len(panels) == 1 else f"{len(panels)} line charts"
    chart.alt = f"{title}: {kind} of {ylabel} against {xlabel}. {'; '.join(described)}."
    return chart


def draw_runs(axis: Axes, runs: pd.DataFrame, x: str, y: str, colour: str, label: str) -> "pd.Series[float]":
    """Draw one line on an axis: mean, standard deviation and single runs. Returns the means by `x`."""
    groups = runs.groupby(x, sort=pd.api.types.is_numeric_dtype(runs[x]))[y]
    means, spread = groups.mean(), groups.std().fillna(0)
    axis.plot(means.index, means, color=colour, marker="o" if len(means) < 40 else "", ms=4, label=label)
    if len(runs) > len(means):
        axis.fill_between(means.index, means - spread, means + spread, color=colour, alpha=0.2, lw=0)
        axis.plot(runs[x], runs[y], ".", color=colour, ms=3, alpha=0.5)
    return means


def ranking(table: pd.DataFrame, y: str, by: str, *, title: str, xlabel: str, percent: bool = True) -> Chart:
    """Bars of the mean of `y` over runs by values of `by`, a standard deviation, and a dot for each row of `table`."""
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
    """Accuracy `y` against costs, a panel for each of `xs` (columns: labels), a point for each row, coloured `by`."""
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
