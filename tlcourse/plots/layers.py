"""Figures of what is inside a network: the filters of its first layer, what its layers make of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from tlhelpers.plots import Chart


def filters(weights: Mapping[str, torch.Tensor], *, title: str, columns: int = 16) -> Chart:
    """The filters of a first layer as small colour images, networks one above the other.

    Each filter is brought to the whole range of brightness by itself, 0 becoming mid-grey: what is shown is its form,
    not its strength.

    Args:
        weights: for each name of a network (filters, 3, height, width).
        title: of the figure.
        columns: filters in a row.
    """
    rows = {name: -(-len(kernels) // columns) for name, kernels in weights.items()}
    said = "; ".join(f"{name}, {len(kernels)} filters" for name, kernels in weights.items())
    chart = Chart(
        f"{title}: filters as colour images. {said}.",
        figsize=(7.5, 0.4 + 0.3 * len(rows) + 0.48 * sum(rows.values())),
    )
    axes = chart.subplots(len(weights), 1, squeeze=False, height_ratios=list(rows.values()))[:, 0]
    for axis, (name, kernels) in zip(axes, weights.items(), strict=True):
        axis.imshow(_sheet(_shown(kernels), columns, background=1.0))
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    chart.suptitle(title, fontsize=11)
    return chart


def _shown(kernels: torch.Tensor) -> np.ndarray[Any, Any]:
    """(filters, height, width, 3) between 0 and 1; 0.5 stands for a weight of 0."""
    weights = kernels.detach().cpu().float()
    largest = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    shown: np.ndarray[Any, Any] = (0.5 + 0.5 * weights / largest).permute(0, 2, 3, 1).numpy()
    return shown


def _sheet(tiles: np.ndarray[Any, Any], columns: int, background: float) -> np.ndarray[Any, Any]:
    """Tiles (count, height, width, 3) on one sheet, a pixel between them."""
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), background)
    for number, tile in enumerate(tiles):
        top, left = (number // columns) * (height + 1), (number % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def activation_maps(
    image: Image.Image, maps: Mapping[str, torch.Tensor], *, channels: int = 6, title: str = "Activation maps"
) -> Chart:
    """What layers make of one image: a row for each layer, with those channels that answer most strongly on average.

    Each map is scaled by itself: dark is 0, or its smallest value, bright its largest.

    Args:
        image: as the network sees it.
        maps: for each layer (channels, height, width).
        channels: maps in a row, at most.
        title: of the figure.
    """
    said = "; ".join(f"{name} has {m.shape[0]} maps of {m.shape[1]} x {m.shape[2]}" for name, m in maps.items())
    chart = Chart(f"{title}: {said}.", figsize=(1.15 * (channels + 1) + 0.4, 1.3 * len(maps) + 0.4))
    axes = chart.subplots(len(maps), channels + 1, squeeze=False)
    for axis in axes.flatten():
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    axes[0, 0].imshow(image)
    axes[0, 0].set_title("the image", fontsize=8)
    for number, (row, (name, layer)) in enumerate(zip(axes, maps.items(), strict=True)):
        strongest = layer.mean(dim=(1, 2)).argsort(descending=True)[:channels].tolist()
        row[0].set_ylabel(f"{name}\n{layer.shape[1]} × {layer.shape[2]}", fontsize=9)
        if number:
            row[0].imshow(np.ones((1, 1, 3)))
        for axis, channel in zip(row[1:], strongest, strict=False):
            axis.imshow(layer[channel].detach().cpu().float().numpy(), cmap="viridis")
            axis.set_title(f"channel {channel}", fontsize=7)
    chart.suptitle(title, fontsize=11)
    return chart
