"""Figures. Each function returns a `Chart`."""

import base64
import functools
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter, LogFormatter, MaxNLocator
from PIL import Image

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"  # Okabe and Ito's, also for colour-blind eyes


@functools.cache
def _characters(font: str) -> frozenset[int]:
    try:
        return frozenset(get_font(font).get_charmap())
    except (OSError, RuntimeError):  # a font that cannot be read
        return frozenset()


@functools.cache
def _font_with(character: str) -> str | None:
    """The name of an installed font that can draw a character: "" for the usual one, None if there is none."""
    if ord(character) in _characters(findfont(FontProperties())):
        return ""
    others = (font for font in fontManager.ttflist if font.style == "normal" and "Last Resort" not in font.name)
    return next((font.name for font in others if ord(character) in _characters(font.fname)), None)


def shortened(name: str, length: int) -> str:
    """A name of at most `length` characters, its middle left out if it is longer."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[(1 - length) // 2 :]}"


class Chart(Figure):
    r"""A matplotlib figure that shows itself in a notebook, and has a text alternative `alt`.

    `$` starts no formula. A character is drawn in a font that has it, or else appears as its code, such as \u732b.
    """

    def __init__(self, alt: str, **options: Any) -> None:
        super().__init__(**{"layout": "constrained", "dpi": 100, **options})
        self.alt = alt.encode("utf-8", "backslashreplace").decode("utf-8")

    def draw(self, renderer: Any) -> None:
        """Draw the figure. Only the powers of ten on logarithmic axes may be formulas."""
        both = [axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)]
        logs = [axis for axis in both if isinstance(axis.get_major_formatter(), LogFormatter)]
        powers = {label for axis in logs for label in axis.get_ticklabels(which="both")}
        for axis in both:
            labels = axis.get_major_formatter()  # a FuncFormatter where names were given to the ticks
            if isinstance(labels, FuncFormatter | FixedFormatter) and not isinstance(labels, _SafeLabels):
                axis.set_major_formatter(_SafeLabels(lambda *where, names=labels: _drawable(names(*where))))
            axis.get_ticklabels()  # makes the texts of the ticks
        for text in self.findobj(Text):
            text.set_parse_math(text in powers)
            if text not in powers:
                text.set_text(_drawable(text.get_text()))
                fonts = {_font_with(character) for character in text.get_text()} - {"", None}
                text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *sorted(map(str, fonts))])))
        super().draw(renderer)

    def png(self) -> bytes:
        """A PNG file of at most 256 colours, a third of the size of one in full colour."""
        canvas = FigureCanvasAgg(self)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        flat, buffer = image.getcolors(1 << 14), io.BytesIO()  # of photographs, an octree keeps also rare colours
        palette = None if flat else image.quantize(256, Image.Quantize.FASTOCTREE)  # with it, quantize dithers
        image.quantize(256, palette=palette).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def html(self) -> str:
        """The figure as an `<img>` with its text alternative, no wider than the page."""
        data = base64.b64encode(self.png()).decode()
        return f'<img style="max-width: 100%" alt="{html.escape(self.alt)}" src="data:image/png;base64,{data}">'

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.png(), "text/plain": "<Chart>"}, {"image/png": {"alt": self.alt}}


class _SafeLabels(FuncFormatter):
    """Labels of ticks without characters that no font has."""


def _drawable(text: str) -> str:
    return "".join(c if c == "\n" or _font_with(c) is not None else ascii(c)[1:-1] for c in text)


def image_grid(images: Sequence[Any], titles: Sequence[str] = (), *, title: str = "", columns: int = 8) -> Chart:
    """Images in a grid of at most `columns` columns, each under one of the `titles`, if there are any.

    `images` are PIL images, or arrays: (height, width, 3) between 0 and 1, or (height, width), shown in false colours.
    """
    across = max(min(columns, len(images)), 1)
    down = max(-(-len(images) // across), 1)
    alt = f"{title or 'Images'}: {len(images)} images" + (f": {', '.join(titles)}" if titles else "")
    side = min(3.2, 10.8 / across)  # inches
    height = side * min(max((np.shape(image)[0] / np.shape(image)[1] for image in images), default=1.0), 3.0)
    titles = ["\n".join(shortened(line, int(15 * side)) for line in text.split("\n")) for text in titles]
    height += 0.2 * max((text.count("\n") + 1 for text in titles), default=0)
    chart = Chart(alt.replace("\n", " "), figsize=(side * across, height * down + 0.4))
    axes = chart.subplots(down, across, squeeze=False, subplot_kw={"frame_on": False, "xticks": [], "yticks": []})
    for axis, image, text in zip(axes.flat, images, list(titles) or [""] * len(images), strict=False):
        axis.imshow(image)
        axis.set_title(text, fontsize=8)
    chart.suptitle(title if len(images) else f"{title}: none", fontsize=11)
    return chart


def history(table: pd.DataFrame, *, best_epoch: int = 0) -> Chart:
    """Loss and accuracy by epoch, from a table like `Run.history`; the best epoch is marked, if there is one."""
    end = ", ".join(f"{n.replace('_', ' ')} {v:.3f}" for n, v in table.filter(like="_").tail(1).max().items())
    chart = Chart(f"Training history: two line charts over {len(table)} epochs. At the end: {end}.", figsize=(9, 3.4))
    units = {"loss": "cross-entropy (nats)", "accuracy": "correct images"}
    for axis, (name, unit) in zip(chart.subplots(1, 2), units.items(), strict=True):
        axis.plot(table[f"train_{name}"], "o-", color=GREY, ms=4, label="training, during the epoch")
        axis.plot(table[f"val_{name}"], "s-", color=BLUE, ms=4, label="validation, after the epoch")
        if best_epoch:
            axis.axvline(best_epoch, color=ORANGE, ls=":", label=f"best epoch ({best_epoch})")
        axis.set(title=name.capitalize(), xlabel="epoch", ylabel=unit)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axis.yaxis.set_major_formatter("{x:.0%}")
    chart.suptitle("Training history")
    return chart


def lr_curve(curve: pd.DataFrame, suggestion: float, highest: float) -> Chart:
    """Loss against learning rate, as `find_lr` measured it; the arguments are those of its result."""
    chart = Chart(f"Loss by learning rate: falls fastest at {suggestion:.1e}, lowest at {highest:.1e}.", figsize=(7, 4))
    axis = chart.subplots()
    axis.plot(curve["lr"], curve["loss"], color=GREY, alpha=0.4, label="each step")
    axis.plot(curve["lr"], curve["smooth"], color=BLUE, label="running mean")
    axis.axvline(suggestion, color=GREEN, ls="--", label=f"falls fastest ({suggestion:.1e})")
    axis.axvline(highest, color=ORANGE, ls=":", label=f"lowest ({highest:.1e})")
    low, fall = float(curve["smooth"].min()), float(curve["smooth"].iloc[0] - curve["smooth"].min())
    axis.set(title="Learning rate finder", xlabel="learning rate of the head", ylabel="cross-entropy (nats)")
    axis.set(xscale="log", ylim=(max(low - 0.3 * fall, 0), low + 1.8 * fall + 0.1))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return chart


def confusion(table: pd.DataFrame, *, title: str = "Confusion matrix") -> Chart:
    """A confusion matrix, from the counts of `Evaluation.confusion`; shades are fractions of the row."""
    counts = table.to_numpy()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shortened(str(name), 32) for name in table.columns]
    side = 2.2 + 0.52 * len(table) + 0.08 * max(max(map(len, names), default=0) - 16, 0)  # inches
    rows = (f"{name}: " + ", ".join(f"{c} {n}" for c, n in row.items() if n) for name, row in table.iterrows())
    chart = Chart(f"{title}. True class, then predictions: {'; '.join(rows)}.", figsize=(side + 1, side))
    axis = chart.subplots()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if share[row, column] > 0.6 else "black"
        axis.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    axis.set_xticks(range(len(table)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(table)), names)
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.set_title(title, fontsize=10, wrap=True)
    chart.colorbar(image, ax=axis, shrink=0.8, format="{x:.0%}", label="fraction of the true class")
    return chart
