"""Figures. Each function takes data and returns a `Chart`, a matplotlib figure that carries a text alternative."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

# Okabe and Ito's colours, told apart also by readers who are colour-blind.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


class Chart(Figure):
    """A figure that a notebook shows by itself, with alternative text for those who do not see it.

    It is not known to pyplot, so it needs no closing and is never shown twice.
    """

    def __init__(self, alt: str, **options: Any) -> None:
        super().__init__(**{"layout": "constrained", "dpi": 100, **options})
        self.alt = alt

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return {"image/png": buffer.getvalue(), "text/plain": "<Chart>"}, {"image/png": {"alt": self.alt}}


def image_grid(
    images: Sequence[Image.Image | np.ndarray[Any, Any]],
    titles: Sequence[str] = (),
    *,
    title: str = "",
    columns: int = 8,
) -> Chart:
    """Images in a grid, each under its title.

    Args:
        images: PIL images, or arrays (height, width, 3) between 0 and 1.
        titles: one for each image, or none.
        title: of the whole figure.
        columns: images in a row, at most.
    """
    across = max(min(columns, len(images)), 1)
    down = max(-(-len(images) // across), 1)
    lines = max((text.count("\n") + 1 for text in titles), default=0)
    alt = f"{title or 'Images'}: {len(images)} images" + (f": {', '.join(titles)}" if titles else "")
    side = min(3.2, 10.8 / across)  # inches
    height = side * max((_aspect(image) for image in images), default=1.0)
    chart = Chart(alt.replace("\n", " "), figsize=(side * across, (height + 0.2 * lines) * down + 0.4))
    axes = chart.subplots(down, across, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, image, text in zip(axes, images, list(titles) or [""] * len(images), strict=False):
        axis.imshow(image)
        axis.set_title(text, fontsize=8)
    if not images:
        axes[0].text(0.5, 0.5, "none", ha="center")
    chart.suptitle(title, fontsize=11)
    return chart


def _aspect(image: Image.Image | np.ndarray[Any, Any]) -> float:
    """Height over width."""
    height, width = np.asarray(image).shape[:2]
    return height / width


def history(table: pd.DataFrame, *, best_epoch: int = 0, title: str = "Training history") -> Chart:
    """Loss and accuracy by epoch, training and validation, side by side.

    Args:
        table: as in `Run.history`.
        best_epoch: marked by a vertical line; 0 marks none.
        title: of the whole figure.
    """
    last = table.iloc[-1]
    chart = Chart(
        f"{title}: two line charts over {len(table)} epochs. Training loss ends at {last['train_loss']:.3f}, "
        f"validation loss at {last['val_loss']:.3f}; training accuracy at {last['train_accuracy']:.1%}, "
        f"validation accuracy at {last['val_accuracy']:.1%}.",
        figsize=(9, 3.4),
    )
    left, right = chart.subplots(1, 2)
    for axis, name, unit in ((left, "loss", "cross-entropy (nats)"), (right, "accuracy", "images right")):
        for part, colour, marker in (("train", GREY, "o"), ("val", BLUE, "s")):
            label = {"train": "training, measured on the way", "val": "validation"}[part]
            axis.plot(table.index, table[f"{part}_{name}"], color=colour, marker=marker, ms=4, label=label)
        if best_epoch:
            axis.axvline(best_epoch, color=ORANGE, ls=":", label=f"best epoch ({best_epoch})")
        axis.set(title=name.capitalize(), xlabel="epoch", ylabel=unit)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    left.legend(fontsize=8)
    chart.suptitle(title)
    return chart


def rate_trial(curve: pd.DataFrame, suggestion: float, highest: float) -> Chart:
    """Loss against learning rate, as `find_lr` measured it.

    Args:
        curve: columns lr, loss, smooth.
        suggestion: the rate at which the loss falls fastest; marked.
        highest: the rate at which it is lowest; marked.
    """
    title = "Learning rate trial"
    chart = Chart(
        f"{title}: a line chart of the loss over learning rates from {curve['lr'].min():.1e} to "
        f"{curve['lr'].max():.1e}. It falls fastest at {suggestion:.1e} and is lowest at {highest:.1e}.",
        figsize=(6.5, 3.6),
    )
    axis = chart.subplots()
    axis.plot(curve["lr"], curve["loss"], color=GREY, alpha=0.4, label="each step")
    axis.plot(curve["lr"], curve["smooth"], color=BLUE, label="running mean")
    axis.axvline(suggestion, color=GREEN, ls="--", label=f"falls fastest ({suggestion:.1e})")
    axis.axvline(highest, color=ORANGE, ls=":", label=f"lowest ({highest:.1e})")
    low, high = float(curve["smooth"].min()), float(curve["smooth"].iloc[0])
    axis.set(title=title, xlabel="learning rate of the head", ylabel="cross-entropy (nats)", xscale="log")
    axis.set_ylim(max(low - 0.3 * (high - low), 0), high + 0.8 * (high - low) + 0.1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return chart


def confusion(table: pd.DataFrame, *, title: str = "Confusion matrix") -> Chart:
    """A confusion matrix: rows are true classes, columns predicted ones; the shade is the share of the row.

    Args:
        table: counts, as from `Evaluation.confusion`.
        title: of the figure.
    """
    counts = table.to_numpy()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.52 * len(table)
    rows = (f"{name}: " + ", ".join(f"{c} {n}" for c, n in row.items() if n) for name, row in table.iterrows())
    chart = Chart(f"{title}. True class, then predictions: {'; '.join(rows)}.", figsize=(side + 1.0, side))
    axis = chart.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[row, column] > 0.6 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    places = range(len(table))
    axis.set_xticks(places, list(table.columns), rotation=45, ha="right")
    axis.set_yticks(places, list(table.index))
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.set_title(title, fontsize=10, wrap=True)
    bar = chart.colorbar(image, ax=axis, shrink=0.8, format=PercentFormatter(1.0, decimals=0))
    bar.set_label("share of the true class")
    return chart
