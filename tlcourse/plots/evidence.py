"""Figures of heat maps: where in an image a network found its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image

from tlhelpers.plots import Chart

COLOURS = "inferno"


def evidence(
    images: Sequence[Image.Image | np.ndarray[Any, Any]],
    heats: Sequence[np.ndarray[Any, Any]],
    titles: Sequence[str],
    *,
    title: str,
    columns: int = 4,
) -> Chart:
    """Images, each with its heat map beside it on top of a grey copy, under a common title.

    Args:
        images: PIL images, or arrays (height, width, 3) between 0 and 1, as the network saw them.
        heats: for each of them an array (height, width) between 0 and 1, as from `explain.grad_cam`.
        titles: one for each pair.
        title: of the whole figure.
        columns: pairs in a row, at most.
    """
    across = min(columns, len(images))
    down = -(-len(images) // across)
    lines = max(text.count("\n") + 1 for text in titles)
    said = "; ".join(f"{text}: strongest {_place(heat)}" for text, heat in zip(titles, heats, strict=True)).replace(
        "\n", " "
    )
    chart = Chart(f"{title}. {said}.", figsize=(2.7 * across + 0.9, (1.45 + 0.17 * lines) * down + 0.4))
    axes = chart.subplots(down, 2 * across, squeeze=False)
    for axis in axes.flatten():
        axis.axis("off")
    for number, (image, heat, text) in enumerate(zip(images, heats, titles, strict=True)):
        row, column = divmod(number, across)
        left, right = axes[row, 2 * column], axes[row, 2 * column + 1]
        left.imshow(image)
        left.set_title(text, fontsize=8, loc="left")
        right.imshow(_grey(image), cmap="gray", vmin=0, vmax=1)
        right.imshow(heat, cmap=COLOURS, alpha=0.65, vmin=0, vmax=1)
    scale = ScalarMappable(Normalize(0, 1), COLOURS)
    chart.colorbar(scale, ax=axes, shrink=0.7, label="evidence (1: the image's highest)")
    chart.suptitle(title, fontsize=11)
    return chart


def _grey(image: Image.Image | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values = np.asarray(image)
    return values.mean(axis=2) / (255 if values.dtype == np.uint8 else 1)


def _place(heat: np.ndarray[Any, Any]) -> str:
    """Where the highest value is, in words, for the text alternative."""
    if heat.max() <= 0:
        return "nowhere"
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    down = ("at the top", "in the middle", "at the bottom")[3 * int(row) // heat.shape[0]]
    across = ("left", "centre", "right")[3 * int(column) // heat.shape[1]]
    return f"{down}, {across}"
