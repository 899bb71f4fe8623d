"""A figure of a measurement over two settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from tlhelpers.plots import ORANGE, Chart


def heat_map(
    table: pd.DataFrame,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    label: str,
    spread: pd.DataFrame | None = None,
    marked: pd.DataFrame | None = None,
) -> Chart:
    """Fractions over two settings, as shades and as numbers in per cent.

    Args:
        table: a row and a column for each value of the two settings; NaN where nothing was measured.
        title: of the figure.
        xlabel: what the columns are, with unit.
        ylabel: what the rows are, with unit.
        label: what the numbers are.
        spread: of the same shape: standard deviations, written below the numbers.
        marked: of the same shape: True where a cell gets a frame.
    """
    values = table.to_numpy(dtype=float)
    deviations = None if spread is None else spread.to_numpy(dtype=float)
    frames = np.zeros(values.shape, dtype=bool) if marked is None else marked.to_numpy(dtype=bool)
    said = "; ".join(_said(row, table.columns, cells) for row, cells in zip(table.index, values, strict=True))
    size = (3.2 + 1.15 * len(table.columns), 1.6 + 0.7 * len(table))
    chart = Chart(f"{title}: a heat map of {label}. {said}.", figsize=size)
    axis = chart.subplots()
    image = axis.imshow(values, cmap="viridis", aspect="auto")
    bright = np.nanmin(values) + 0.6 * (np.nanmax(values) - np.nanmin(values))
    for row, column in np.argwhere(~np.isnan(values)):
        text = f"{100 * values[row, column]:.1f}"
        if deviations is not None:
            text += f"\n± {100 * deviations[row, column]:.1f}"
        colour = "black" if values[row, column] > bright else "white"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
        if frames[row, column]:
            corner = (column - 0.47, row - 0.46)
            axis.add_patch(Rectangle(corner, 0.94, 0.92, fill=False, edgecolor=ORANGE, linewidth=3))
    axis.set_xticks(range(len(table.columns)), [str(name) for name in table.columns])
    axis.set_yticks(range(len(table)), [str(name) for name in table.index])
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    chart.colorbar(image, ax=axis, format=PercentFormatter(1.0, decimals=0)).set_label(label)
    return chart


def _said(row: Any, columns: Iterable[Any], cells: np.ndarray[Any, Any]) -> str:
    known = [f"{name} {value:.0%}" for name, value in zip(columns, cells, strict=True) if not np.isnan(value)]
    return f"{row}: {', '.join(known)}"
