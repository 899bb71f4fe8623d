"""Draws emoji: finds one on the sheet of its style, as an array, and pastes it on an image."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tlcourse.safari.catalogue import CODES, SCENERY_CODES
from tlhelpers.errors import DataError

SHEETS = Path(__file__).parent / "sheets"  # tools/drawings.py made them
COLUMNS = 16  # drawings in a row of a sheet
CELL, SCENERY_CELL = 160, 40  # pixels, side of a drawing's square on the sheet


class Place(NamedTuple):
    """Where a drawing lies: centre and longer side as fractions of the image's side, angle in degrees."""

    x: float
    y: float
    extent: float
    angle: float
    flip: bool


@cache
def _sheet(style: str) -> Image.Image:
    path = SHEETS / f"{style}.webp"
    try:
        # Premultiplied colours prevent dark fringes in rotation and resizing.
        return Image.open(path).convert("RGBa")
    except OSError as error:
        problem = f"the drawings {path} cannot be read ({type(error).__name__})"
        raise DataError(f"{problem}; reinstall the course, or fetch the file again: git checkout") from error


def _ink(name: str) -> Image.Image:
    """The drawing "style/code", premultiplied, without margins."""
    style, _, code = name.partition("/")
    codes, cell = (SCENERY_CODES, SCENERY_CELL) if style == "scenery" else (CODES, CELL)
    row, column = divmod(codes.index(code), COLUMNS)
    ink = _sheet(style).crop((column * cell, row * cell, (column + 1) * cell, (row + 1) * cell))
    return ink.crop(ink.getchannel("a").getbbox())


def draw(name: str, extent: float, angle: float = 0.0, flip: bool = False) -> np.ndarray:
    """A drawing `extent` pixels long, without margins: float32 (height, width, 4), premultiplied RGBA, 0 to 1."""
    ink = _ink(name)
    scale = extent / max(ink.size)
    if flip:
        ink = ink.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if angle:
        ink = ink.rotate(angle, resample=Image.Resampling.BICUBIC, expand=True)
        ink = ink.crop(ink.getchannel("a").getbbox())
    width, height = (max(1, round(side * scale)) for side in ink.size)
    return np.asarray(ink.resize((width, height), Image.Resampling.HAMMING), dtype=np.float32) / 255


def stamp(layer: np.ndarray, name: str, place: Place, *, opacity: float = 1.0) -> None:
    """Paste a drawing on an array (side, side, 3), or one with alpha (side, side, 4) and premultiplied colours."""
    side = len(layer)
    drawing = draw(name, place.extent * side, place.angle, place.flip)
    height, width = drawing.shape[:2]
    left, top = round(place.x * side - width / 2), round(place.y * side - height / 2)
    inside = drawing[max(0, -top) : max(0, side - top), max(0, -left) : max(0, side - left)] * opacity
    patch = layer[max(0, top) :, max(0, left) :][: inside.shape[0], : inside.shape[1]]
    patch *= 1 - inside[..., 3:]
    patch += inside[..., : layer.shape[2]]


def to_image(canvas: np.ndarray) -> Image.Image:
    """RGB image of a canvas (height, width, 3); values are clipped to the range 0 to 1."""
    return Image.fromarray(np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8))
