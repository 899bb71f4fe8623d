"""Figures of images: filters, activation maps, heat maps, outlined regions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from tlhelpers.plots import ORANGE, Chart, image_grid

Pixels = Image.Image | np.ndarray


def filters(weights: Mapping[str, Tensor], *, title: str) -> Chart:
    """The filters of a first layer as small colour images, networks one above the other.

    `weights` holds for each network (filters, 3, height, width). Each filter is scaled by its own largest weight, and 0
    is mid-grey: the figure shows form, not strength.
    """
    sheets = []
    for kernels in weights.values():
        largest = kernels.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
        shades = 0.5 + 0.5 * kernels.detach() / largest
        sheets.append(make_grid(shades, 16, padding=1, pad_value=1.0).permute(1, 2, 0).float().cpu().numpy())
    chart = image_grid(sheets, list(weights), title=title, columns=1)
    chart.set_size_inches(7.5, 0.4 + sum(0.3 + 7.5 * len(sheet) / sheet.shape[1] for sheet in sheets))
    described = "; ".join(f"{name}, {len(kernels)} filters" for name, kernels in weights.items())
    chart.alt = f"{title}: filters as colour images. {described}."
    return chart


def activation_maps(
    image: Pixels, maps: Mapping[str, Tensor], *, channels: int = 6, columns: int = 7, title: str = "Activation maps"
) -> Chart:
    """An image and, for each layer, the maps of the channels that vary most over it, each scaled by itself.

    `maps` holds for each layer (channels, height, width), of which `channels` are shown. A row has `columns` tiles;
    `channels` + 1 gives each layer its own row.
    """
    tiles: list[Any] = []
    titles: list[str] = []
    for layer in maps.values():
        order = layer.flatten(1).std(dim=1, correction=0).argsort(descending=True)[:channels].tolist()
        tiles += [np.ones((1, 1, 3)) if tiles else image, *layer[order].detach().float().cpu().numpy()]
        titles += ["" if titles else "the image", *(f"channel {channel}" for channel in order)]
    chart = image_grid(tiles, titles, title=title, columns=columns)
    for axis, (name, layer) in zip(chart.axes[::columns], maps.items(), strict=False):
        axis.set_ylabel(f"{name}\n{layer.shape[1]} × {layer.shape[2]}", fontsize=9)
    described = "; ".join(f"{name} has {m.shape[0]} maps of {m.shape[1]} x {m.shape[2]}" for name, m in maps.items())
    chart.alt = f"{title}: {described}."
    return chart


def evidence(
    images: Sequence[Pixels], heats: Sequence[np.ndarray], titles: Sequence[str], *, title: str, columns: int = 4
) -> Chart:
    """Images, each with its heat map beside it, on top of a grey copy; `columns` pairs in a row, at most.

    Images are PIL images, or arrays (height, width, 3) between 0 and 1, as the network saw them; heat maps are arrays
    (height, width) between 0 and 1, as from `tc.grad_cam`.
    """
    arrays = [np.asarray(image) for image in images]
    greys = [array.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(array.dtype) for array in arrays]
    pairs = [tile for pair in zip(arrays, greys, strict=True) for tile in pair]
    chart = image_grid(pairs, [text for name in titles for text in (name, "")], title=title, columns=2 * columns)
    for left, right, heat, text in zip(chart.axes[::2], chart.axes[1::2], heats, titles, strict=False):
        left.set_title("")
        left.set_title(text, fontsize=8, loc="left")  # over both
        shown = right.imshow(heat, cmap="inferno", alpha=0.65, vmin=0, vmax=1)
    chart.colorbar(shown, ax=chart.axes, shrink=0.7, label="evidence (1: the image's highest)")
    places = (f"{text}: strongest {_place(heat)}" for text, heat in zip(titles, heats, strict=True))
    chart.alt = f"{title}. {'; '.join(places)}.".replace("\n", " ")
    return chart


def _place(heat: np.ndarray) -> str:
    """Where the highest value is, in words."""
    if heat.max() <= 0:
        return "nowhere"
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    down = ("at the top", "in the middle", "at the bottom")[3 * int(row) // heat.shape[0]]
    across = ("left", "centre", "right")[3 * int(column) // heat.shape[1]]
    return f"{down}, {across}"


def outlined(images: Sequence[Image.Image], masks: np.ndarray, titles: Sequence[str] = (), *, title: str = "") -> Chart:
    """Images in a grid, with a line around the region of each.

    `masks` is bool (images, height, width), of the images' size; a mask without a pixel draws no line.
    """
    chart = image_grid(images, titles, title=title, columns=6)
    with_region = [number for number, mask in enumerate(masks) if mask.any()]
    for number in with_region:
        chart.axes[number].contour(masks[number], levels=[0.5], colors=ORANGE, linewidths=1)
    chart.alt += f". {len(with_region)} of them have an orange line around a region"
    return chart
