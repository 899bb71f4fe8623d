"""A map of images: each a point, coloured by its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlcourse.plots.over_seeds import COLOURS
from tlhelpers.plots import Chart

HUES = (*COLOURS, "black")
MARKERS = "os^Dv"


def point_map(
    maps: Mapping[str, tuple[Any, Any]], classes: Sequence[str], *, title: str, xlabel: str = "", ylabel: str = ""
) -> Chart:
    """Points in the plane, coloured by class, one panel for each map.

    Args:
        maps: panel title -> points (count, 2), and labels (count,) that are positions in `classes`.
        classes: their names; past eight of them colours come again, with another marker.
        title: of the whole figure.
        xlabel: of every panel, and all panels then have the same axes; without one each has its own, and no ticks,
            since the numbers mean nothing.
        ylabel: of every panel.
    """
    counts = ", ".join(f"{name} with {len(np.asarray(points))} points" for name, (points, _) in maps.items())
    chart = Chart(
        f"{title}: {len(maps)} scatter charts, {counts}, coloured by the classes {', '.join(classes)}.",
        figsize=(4.4 * len(maps) + 0.4, 4.6),
    )
    axes = chart.subplots(1, len(maps), squeeze=False, sharex=bool(xlabel), sharey=bool(xlabel))[0]
    for axis, (name, (points, labels)) in zip(axes, maps.items(), strict=True):
        places, numbers = np.asarray(points), np.asarray(labels)
        for number, label in enumerate(classes):
            chosen = places[numbers == number]
            style = {"color": HUES[number % len(HUES)], "marker": MARKERS[number // len(HUES) % len(MARKERS)]}
            axis.plot(chosen[:, 0], chosen[:, 1], ls="", ms=4, alpha=0.75, label=label, **style)
        axis.set_title(name, fontsize=10)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        if not xlabel:
            axis.set_xticks([])
            axis.set_yticks([])
    handles, names = axes[0].get_legend_handles_labels()
    chart.legend(handles, names, loc="outside lower center", ncols=min(len(classes), 8), fontsize=8)
    chart.suptitle(title, fontsize=11)
    return chart
