"""The figure that all others are made of, with its text alternative, and pictures in a grid."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
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


def pictures(
    images: Sequence[Image.Image | np.ndarray[Any, Any]],
    titles: Sequence[str] = (),
    *,
    title: str = "",
    columns: int = 8,
) -> Chart:
    """Pictures in a grid, each under its title.

    Args:
        images: PIL images, or arrays (height, width, 3) between 0 and 1.
        titles: one for each picture, or none.
        title: of the whole figure.
        columns: pictures in a row, at most.
    """
    across = max(min(columns, len(images)), 1)
    down = max(-(-len(images) // across), 1)
    lines = max((text.count("\n") + 1 for text in titles), default=0)
    alt = f"{title or 'Pictures'}: {len(images)} pictures" + (f": {', '.join(titles)}" if titles else "")
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
