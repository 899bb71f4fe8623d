"""Figures of measurements over several seeds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tlcourse.plots.colours import COLOURS, colours_of
from tlhelpers.plots import ORANGE, Chart


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


def draw_cells(axis: Axes, table: pd.DataFrame, spread: pd.DataFrame, marked: pd.DataFrame) -> None:
    """Draw fractions over two settings on an axis, as shades and in per cent.

    `table` has a row and a column for each value of the two settings, and NaN where nothing was measured. Of the same
    shape are `spread`, the standard deviations, and `marked`, True where a cell gets a frame.
    """
    values = table.to_numpy(dtype=float)
    axis.imshow(values, cmap="viridis", aspect="auto")
    bright = np.nanmin(values) + 0.6 * (np.nanmax(values) - np.nanmin(values))
    for row, column in np.argwhere(~np.isnan(values)):
        text = f"{100 * values[row, column]:.1f}\n± {100 * spread.iloc[row, column]:.1f}"
        colour = "black" if values[row, column] > bright else "white"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
        if marked.iloc[row, column]:
            axis.add_patch(Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, edgecolor=ORANGE, lw=3))
    axis.set_xticks(range(table.shape[1]), [str(name) for name in table.columns])
    axis.set_yticks(range(len(table)), [str(name) for name in table.index])
