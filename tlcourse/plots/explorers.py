"""Figures of the explorers: one setting among all that were measured, the maps of a layer, evidence on an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tlhelpers.plots import BLUE, GREY, ORANGE, Chart

Array = np.ndarray[Any, Any]


def learning_curves(
    curves: dict[str, Array],
    grid: pd.DataFrame,
    deviations: pd.DataFrame,
    marked: tuple[int, int],
    *,
    title: str,
    ylim: tuple[float, float],
    groups: Sequence[str],
) -> Chart:
    """The learning curves of one setting, and below them the test accuracy of every setting, this one framed.

    Args:
        curves: "training" and "validation": accuracies (seeds, epochs) between 0 and 1.
        grid: mean test accuracies, a row for each value of one setting; its columns come in groups.
        deviations: of the same shape: the standard deviations over seeds.
        marked: row and column of the setting.
        title: of the whole figure.
        ylim: of the curves, the same for every setting, so that two of them can be compared.
        groups: what each group of columns is; the columns are divided evenly.
    """
    said = "; ".join(
        f"{name} accuracy from {values.mean(0)[0]:.0%} to {values.mean(0)[-1]:.0%} in {values.shape[1]} epochs"
        for name, values in curves.items()
    )
    row, column = divmod(int(np.nanargmax(grid.to_numpy(dtype=float))), grid.shape[1])
    chart = Chart(
        f"{title}. Above, two learning curves: {said}. Below, a table of the test accuracies of all settings; the "
        f"highest is {grid.to_numpy(dtype=float)[row, column]:.0%}, at {grid.index[row]}, column {column + 1}.",
        figsize=(8.8, 6.2),
    )
    above, below = chart.subplots(2, 1, height_ratios=(1.15, 1))
    for (name, values), colour, marker in zip(curves.items(), (GREY, BLUE), "os", strict=False):
        epochs = np.arange(1, values.shape[1] + 1)
        mean, deviation = values.mean(0), _deviation(values)
        above.plot(epochs, mean, color=colour, marker=marker, ms=4, label=f"{name}, mean of {len(values)} seeds")
        above.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.2, lw=0)
        above.plot(epochs, values.T, color=colour, lw=0.7, alpha=0.5)
    above.set(xlabel="epoch", ylabel="images right", ylim=ylim)
    above.xaxis.set_major_locator(MaxNLocator(integer=True))
    above.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    above.grid(alpha=0.3)
    above.legend(fontsize=8, loc="upper left")
    _table(below, grid, deviations, marked, groups)
    chart.suptitle(title, fontsize=11)
    return chart


def _deviation(values: Array) -> Array:
    """Over seeds, by epoch; of a single seed there is none."""
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


def _table(axis: Any, grid: pd.DataFrame, deviations: pd.DataFrame, marked: tuple[int, int], groups: Any) -> None:
    values, spreads = grid.to_numpy(dtype=float), deviations.to_numpy(dtype=float)
    axis.imshow(values, cmap="Blues", aspect="auto", vmin=np.nanmin(values) - 0.05, vmax=np.nanmax(values) + 0.05)
    dark = np.nanmin(values) + 0.6 * np.ptp(values[~np.isnan(values)])
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue  # not measured
        text = f"{100 * value:.0f} ± {100 * spreads[row, column]:.0f}"
        colour = "white" if value > dark else "black"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    row, column = marked
    axis.add_patch(Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor=ORANGE, lw=3.5))
    width = values.shape[1] // len(groups)
    names = [str(name) for name in grid.columns]
    for number, group in enumerate(groups):
        names[number * width + width // 2] += f"\n{group}"
        if number:
            axis.axvline(number * width - 0.5, color="white", lw=5)
    axis.set_xticks(range(values.shape[1]), names, fontsize=9)
    axis.set_yticks(range(len(grid)), [str(name) for name in grid.index], fontsize=9)
    axis.set_title("Test accuracy in per cent, mean ± standard deviation over seeds; the setting above is framed")
    axis.title.set_fontsize(9)
    axis.set(xlabel="learning rate of the backbone, in groups by the number of training images", ylabel="what trains")


def feature_maps(image: Array, maps: Sequence[Array], numbers: Sequence[int], *, title: str) -> Chart:
    """An image, and beside it what channels of a layer make of it, each map in shades of its own.

    Args:
        image: (height, width, 3) between 0 and 1, as the network sees it.
        maps: (height, width) each.
        numbers: of their channels.
        title: of the whole figure.
    """
    columns = 6
    rows = max(-(-len(maps) // columns), 2)
    height, width = maps[0].shape
    chart = Chart(
        f"{title}: the image, and {len(maps)} maps of {height} by {width} values, of the channels "
        f"{', '.join(map(str, numbers))}; bright is high.",
        figsize=(8.8, 1.05 * rows + 0.7),
    )
    halves: Any = chart.subfigures(1, 2, width_ratios=(1, 2))
    left, right = halves
    axis = left.subplots()
    axis.imshow(image)
    axis.set_title("what the network sees", fontsize=9)
    axis.axis("off")
    axes = right.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, values, number in zip(axes, maps, numbers, strict=False):
        axis.imshow(values, cmap="viridis")
        axis.set_title(f"channel {number}", fontsize=7, pad=2)
    chart.suptitle(title, fontsize=11)
    return chart


def overlay(image: Array, heat: Array, *, title: str) -> Chart:
    """An image, and beside it the same with a heat map on top.

    Args:
        image: (height, width, 3) between 0 and 1, as the network sees it.
        heat: (height, width) between 0 and 1, as from `grad_cam`.
        title: of the whole figure.
    """
    place = np.unravel_index(int(heat.argmax()), heat.shape)
    where = (
        "nowhere" if heat.max() <= 0 else f"{place[0] / len(heat):.0%} down and {place[1] / len(heat[0]):.0%} across"
    )
    chart = Chart(f"{title}: the image, and a heat map on it; the strongest evidence is {where}.", figsize=(8.0, 3.8))
    left, right = chart.subplots(1, 2)
    left.imshow(image)
    left.set_title("what the network sees", fontsize=9)
    right.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=1)
    shown = right.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
    right.set_title("bright: what speaks for the class", fontsize=9)
    for axis in (left, right):
        axis.axis("off")
    bar = chart.colorbar(shown, ax=right, shrink=0.85)
    bar.set_label("evidence (1: the highest here)", fontsize=9)
    chart.suptitle(title, fontsize=11)
    return chart
