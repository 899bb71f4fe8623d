"""Figures of object detection: boxes on images, two boxes that overlap, losses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tlcourse.plots.seeds import lines
from tlhelpers.plots import BLUE, ORANGE, Chart, image_grid

LIGHT_GREEN, LIGHT_ORANGE = "#00E6A8", "#FF9A3C"  # for lines on images, where darker ones are hard to see


def boxes(
    images: Sequence[Any],
    truths: Sequence[Mapping[str, Any]],
    predictions: Sequence[Mapping[str, Any]] | None = None,
    *,
    classes: Sequence[str],
    title: str,
    min_score: float = 0.5,
    titles: Sequence[str] = (),
    columns: int = 3,
) -> Chart:
    """Images, in `columns` columns, with their true boxes as solid lines and predicted boxes as broken lines.

    Images are tensors (3, height, width), uint8, or floats between 0 and 1. `truths` has for each image `boxes`
    (objects, 4), left, top, right, bottom in pixels, and `labels`, which are positions in `classes`. `predictions` has
    `scores`, too; those with less than `min_score` are not drawn.
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
            sure = [(box, f"{classes[int(c)]} {float(s):.0%}") for box, c, s in parts if s >= min_score]
            for box, text in sure:
                _draw(axis, box, LIGHT_ORANGE, "--", text, above=False)
            described[-1] += "; found " + (", ".join(text for _, text in sure) or "nothing")
    if predictions is not None:
        styles = [Line2D([], [], color=LIGHT_GREEN, lw=2), Line2D([], [], color=LIGHT_ORANGE, ls="--", lw=2)]
        texts = ["true", f"found, {min_score:.0%} sure or more"]
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
    options: Any = {"fontsize": 9, "va": "bottom" if upwards else "top", "ha": side, "clip_on": True}
    background = {"facecolor": colour, "edgecolor": "none", "pad": 1, "alpha": 0.85}
    axis.text(x, top if above else bottom, text, bbox=background, **options)


def overlap(first: Sequence[float], second: Sequence[float], *, title: str) -> Chart:
    """Two boxes (left, top, right, bottom in pixels) and their intersection."""
    chart = Chart(f"{title}: two boxes, {list(first)} and {list(second)}, and their intersection.", figsize=(4.6, 3.8))
    axis = chart.subplots()
    corners = np.array([first, second])
    shared = np.append(corners[:, :2].max(axis=0), corners[:, 2:].min(axis=0))
    for name, box, line, area in (
        ("first box", first, BLUE, "none"),
        ("second box", second, ORANGE, "none"),
        ("intersection", shared, "none", "#66666659"),
    ):
        left, top, right, bottom = box
        if left < right and top < bottom:
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, ec=line, fc=area, lw=2, label=name))
    right, bottom = 1.15 * corners[:, 2:].max(axis=0)
    axis.set(title=title, xlabel="x (pixels, to the right)", ylabel="y (pixels, downwards)", aspect="equal")
    axis.set(xlim=(0, right), ylim=(bottom, 0))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower left")
    return chart


def losses(table: pd.DataFrame, *, title: str) -> Chart:
    """The terms of a detector's loss over the steps of training, averaged over ten steps.

    `table` has a row for each step, a column for each term, and `loss`, their sum.
    """
    smooth = table.rolling(10, min_periods=1).mean().rename_axis("step")
    names = [name.removeprefix("loss_").replace("_", " ") for name in table.rename(columns={"loss": "sum"})]
    long = smooth.set_axis(names, axis=1).reset_index().melt("step", var_name="term")
    ylabel = "loss, mean of 10 steps"
    return lines(long, "step", "value", "term", title=title, xlabel="step (one batch)", ylabel=ylabel, percent=False)
