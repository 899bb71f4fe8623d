"""Figures of boxes: on images, the truth beside what was found, and two that overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tlhelpers.plots import BLUE, GREEN, GREY, ORANGE, Chart

LIGHT_GREEN, LIGHT_ORANGE = "#00E6A8", "#FF9A3C"  # for lines on images, where the darker ones drown


def boxes(
    images: Sequence[Any],
    truths: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]] | None = None,
    *,
    classes: Sequence[str],
    title: str,
    least: float = 0.5,
    titles: Sequence[str] = (),
    columns: int = 4,
) -> Chart:
    """Images with their true boxes as solid lines and, if there are any, those that were found as broken lines.

    Args:
        images: tensors (3, height, width), uint8, or floats between 0 and 1.
        truths: for each image `boxes` (objects, 4), left, top, right, bottom in pixels, and `labels`.
        found: the same with `scores`; None where there is nothing to compare.
        classes: names by label.
        title: of the whole figure.
        least: what is found with a lower score is not drawn.
        titles: one for each image, or none.
        columns: images in a row, at most.
    """
    across = min(columns, len(images))
    down = -(-len(images) // across)
    chart = Chart("", figsize=(2.7 * across, (2.75 + 0.2 * bool(titles)) * down + (0.4 if found is None else 0.8)))
    axes = chart.subplots(down, across, squeeze=False).flatten()
    said = []
    for axis in axes:
        axis.axis("off")
    for number, (axis, image, truth) in enumerate(zip(axes, images, truths, strict=False)):
        axis.imshow(_shown(image))
        for box, label in zip(_rows(truth["boxes"]), truth["labels"], strict=True):
            _draw(axis, box, LIGHT_GREEN, "-", classes[int(label)], above=True)
        told = ", ".join(classes[int(label)] for label in truth["labels"])
        if found is not None:
            answers = [each for each in _answers(found[number]) if each[2] >= least]
            for box, label, score in answers:
                _draw(axis, box, LIGHT_ORANGE, "--", f"{classes[label]} {score:.0%}", above=False)
            told += "; found " + (", ".join(f"{classes[c]} {score:.0%}" for _, c, score in answers) or "nothing")
        if titles:
            axis.set_title(titles[number], fontsize=9)
        said.append(f"{number + 1}: {told}")
    chart.suptitle(title, fontsize=11)
    if found is not None:
        lines = [Line2D([], [], color=GREEN), Line2D([], [], color=ORANGE, ls="--")]
        texts = ["true", f"found, with a confidence of {least:.0%} or more"]
        chart.legend(lines, texts, loc="outside lower center", ncols=2, fontsize=9)
    chart.alt = f"{title}: {len(images)} images with boxes. {'. '.join(said)}."
    return chart


def overlap(first: Sequence[float], second: Sequence[float], *, title: str) -> Chart:
    """Two boxes and the area that they share.

    Args:
        first: left, top, right, bottom in pixels.
        second: the same.
        title: of the figure.
    """
    chart = Chart("", figsize=(4.6, 3.8))
    axis = chart.subplots()
    for box, colour, name in ((first, BLUE, "first box"), (second, ORANGE, "second box")):
        left, top, right, bottom = box
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, lw=2, label=name))
    left, top = (max(a, b) for a, b in zip(first[:2], second[:2], strict=True))
    right, bottom = (min(a, b) for a, b in zip(first[2:], second[2:], strict=True))
    if left < right and top < bottom:
        shared = Rectangle((left, top), right - left, bottom - top, color=GREY, alpha=0.35, lw=0, label="intersection")
        axis.add_patch(shared)
    far = [max(a, b) for a, b in zip(first[2:], second[2:], strict=True)]
    axis.set(title=title, xlabel="x (pixels, to the right)", ylabel="y (pixels, downwards)", aspect="equal")
    axis.set(xlim=(0, 1.15 * far[0]), ylim=(1.15 * far[1], 0))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower left")
    chart.alt = f"{title}: two boxes, {list(first)} and {list(second)}, and the rectangle that they share."
    return chart


def losses(table: Any, *, title: str, window: int = 10) -> Chart:
    """The parts of a detector's loss over the steps of training, each smoothed.

    Args:
        table: a row for each step, a column for each part and `loss`, their sum.
        title: of the figure.
        window: steps that are averaged for the lines.
    """
    smooth = table.rolling(window, min_periods=1).mean()
    first, last = (smooth["loss"].iloc[i] for i in (min(window, len(smooth)) - 1, -1))
    chart = Chart(
        f"{title}: a line chart of the loss and its {len(table.columns) - 1} parts over {len(table)} steps. "
        f"The sum falls from {first:.2f} to {last:.2f}.",
        figsize=(7, 3.6),
    )
    axis = chart.subplots()
    for name, style in zip(table.columns, ("-", "--", "-.", ":", "-"), strict=False):
        wide = name == "loss"
        label = "sum" if wide else name.removeprefix("loss_").replace("_", " ")
        axis.plot(smooth.index, smooth[name], style, label=label, lw=2 if wide else 1.2, color=GREY if wide else None)
    axis.set(title=title, xlabel="step (one batch each)", ylabel=f"loss, mean of {window} steps")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return chart


def _draw(axis: Axes, box: list[float], colour: str, style: str, text: str, *, above: bool) -> None:
    left, top, right, bottom = box
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, ls=style, lw=1.8))
    height = axis.get_ylim()[0]
    if above:  # just outside the box; inside where the image ends
        place, end = top, "bottom" if top > 0.06 * height else "top"
    else:
        place, end = bottom, "top" if bottom < 0.94 * height else "bottom"
    label = axis.text(max(left, 0), place, text, color="black", fontsize=7, va=end, clip_on=True)
    label.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1, "alpha": 0.85})


def _answers(found: Mapping[str, Any]) -> list[tuple[list[float], int, float]]:
    """Boxes, labels and scores, row by row."""
    labels, scores = (np.asarray(found[name]).tolist() for name in ("labels", "scores"))
    return list(zip(_rows(found["boxes"]), labels, scores, strict=True))


def _rows(given: Any) -> list[list[float]]:
    return torch.as_tensor(given).reshape(-1, 4).tolist()


def _shown(image: Any) -> Any:
    """A tensor (3, height, width) as an array that matplotlib shows."""
    return torch.as_tensor(image).as_subclass(torch.Tensor).permute(1, 2, 0).numpy()
