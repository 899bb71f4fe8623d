"""Figures of images: filters, activation maps, heat maps, outlined regions, boxes; and a detector's losses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from tlcourse.plots.tables import lines
from tlhelpers.plots import BLUE, ORANGE, Chart, image_grid

Pixels = Image.Image | np.ndarray
LIGHT_GREEN, LIGHT_ORANGE = "#00E6A8", "#FF9A3C"  # for lines on images, where darker ones are hard to see
SURE = 0.5  # smallest score of a prediction that is drawn


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

    `maps` has for each layer (channels, height, width), of which `channels` are shown, `columns` tiles in a row.
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

    Images are PIL images, or arrays (height, width, 3), 0 to 1; heat maps are arrays (height, width), 0 to 1.
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
    """Images in a grid, with a line around the region of each, if any: `masks` is bool (images, height, width)."""
    chart = image_grid(images, titles, title=title, columns=6)
    with_region = [number for number, mask in enumerate(masks) if mask.any()]
    for number in with_region:
        chart.axes[number].contour(masks[number], levels=[0.5], colors=ORANGE, linewidths=1)
    chart.alt += f". {len(with_region)} of them have an orange line around a region"
    return chart


def boxes(
    images: Sequence[Any],
    truths: Sequence[Mapping[str, Any]],
    predictions: Sequence[Mapping[str, Any]] | None = None,
    *,
    classes: Sequence[str],
    title: str,
    titles: Sequence[str] = (),
    columns: int = 3,
) -> Chart:
    """Images, in `columns` columns, with their true boxes as solid lines and predicted boxes as broken lines.

    Images are tensors (3, height, width), uint8, or floats between 0 and 1. `truths` has for each image `boxes`
    (objects, 4), left, top, right, bottom in pixels, and `labels`, which are positions in `classes`. `predictions` has
    `scores`, too; those below `SURE` are not drawn.
    """
    arrays = [torch.as_tensor(image).as_subclass(torch.Tensor).permute(1, 2, 0).numpy() for image in images]
    chart = image_grid(arrays, titles, title=title, columns=columns)
    described = []
    for number, (axis, truth) in enumerate(zip(chart.axes, truths, strict=False)):
        names = [classes[int(label)] for label in truth["labels"]]
        for box, name in zip(truth["boxes"], names, strict=True):
            _draw(axis, box, LIGHT_GREEN, "-", name, above=True)
        described.append(f"{number + 1}: {', '.join(names)}")
        if predictions is not None:
            parts = zip(*(predictions[number][name] for name in ("boxes", "labels", "scores")), strict=True)
            sure = [(box, f"{classes[int(c)]} {float(s):.0%}") for box, c, s in parts if s >= SURE]
            for box, text in sure:
                _draw(axis, box, LIGHT_ORANGE, "--", text, above=False)
            described[-1] += "; found " + (", ".join(text for _, text in sure) or "nothing")
    if predictions is not None:
        styles = [Line2D([], [], color=LIGHT_GREEN, lw=2), Line2D([], [], color=LIGHT_ORANGE, ls="--", lw=2)]
        texts = ["true", f"found, {SURE:.0%} sure or more"]
        chart.legend(styles, texts, loc="outside lower center", ncols=2, fontsize=9)
    chart.alt = f"{title}: {len(images)} images with boxes. {'. '.join(described)}."
    return chart


def _draw(axis: Axes, box: Any, colour: str, style: str, text: str, *, above: bool) -> None:
    left, top, right, bottom = (float(place) for place in box)
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, ls=style, lw=1.8))
    width, height = axis.get_xlim()[1], axis.get_ylim()[0]
    upwards = top > 0.07 * height if above else bottom > 0.93 * height  # outside the box; inside at the image's edge
    leftwards = not (left < 0.75 * width if above else right < 0.25 * width)  # so that texts of one object lie apart
    x, side = (min(right, width), "right") if leftwards else (max(left, 0), "left")
    options: Any = {"bbox": {"fc": colour, "ec": "none", "pad": 1, "alpha": 0.85}, "fontsize": 9, "clip_on": True}
    axis.text(x, top if above else bottom, text, va="bottom" if upwards else "top", ha=side, **options)


def overlap(first: Sequence[float], second: Sequence[float], *, title: str) -> Chart:
    """Two boxes (left, top, right, bottom in pixels) and their intersection."""
    chart = Chart(f"{title}: two boxes, {list(first)} and {list(second)}, and their intersection.", figsize=(4.6, 3.8))
    axis = chart.subplots()
    corners = np.array([first, second])
    shared = np.append(corners[:, :2].max(axis=0), corners[:, 2:].min(axis=0))
    looks = (("first box", BLUE, "none"), ("second box", ORANGE, "none"), ("intersection", "none", "#66666659"))
    for (left, top, right, bottom), (name, line, area) in zip((first, second, shared), looks, strict=True):
        if left < right and top < bottom:
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, ec=line, fc=area, lw=2, label=name))
    right, bottom = 1.15 * corners[:, 2:].max(axis=0)
    axis.set(title=title, xlabel="x (pixels, to the right)", ylabel="y (pixels, downwards)", aspect="equal")
    axis.set(xlim=(0, right), ylim=(bottom, 0))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower left")
    return chart


def losses(table: pd.DataFrame, *, title: str) -> Chart:
    """A detector's losses by step, averaged over ten: a column of `table` for each term, and `loss`, their sum."""
    smooth = table.rolling(10, min_periods=1).mean().rename_axis("step")
    names = [name.removeprefix("loss_").replace("_", " ") for name in table.rename(columns={"loss": "sum"})]
    long = smooth.set_axis(names, axis=1).reset_index().melt("step", var_name="term")
    ylabel = "loss, mean of 10 steps"
    return lines(long, "step", "value", "term", title=title, xlabel="step (one batch)", ylabel=ylabel, percent=False)
