"""Composes a picture of `safari`: drawings on a cluttered background, with the box of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from tlhelpers.data.safari_background import paint_background, smooth_noise
from tlhelpers.data.safari_drawing import draw_character
from tlhelpers.errors import DataError

SIZES = (32, 512)  # smallest and largest side of a picture, in pixels
VISIBLE = 0.25  # alpha from which a pixel counts as part of a drawing


class _Place(NamedTuple):
    """Where and how a drawing lies: centre and extent as fractions of the side, angle in degrees."""

    x: float
    y: float
    extent: float
    angle: float
    flip: bool


def render_scene(
    characters: Sequence[str],
    *,
    seed: int | Sequence[int],
    size: int = 128,
    clutter: float = 1.0,
    scenery: Sequence[str] = (),
) -> tuple[Image.Image, np.ndarray]:
    """Draw OpenMoji characters on a made-up background; the same arguments give the same pixels.

    The seed fixes the scene, and `size` only how finely it is drawn. `clutter` changes the background and leaves
    the drawings where they are. Later drawings cover earlier ones where they overlap.

    Args:
        characters: the characters to draw, one or more; none gives the background alone.
        seed: a whole number, or several, from which all randomness comes.
        size: side of the square picture in pixels, from 32 to 512.
        clutter: 0 for a soft gradient behind the drawings, 1 for the usual clutter, up to 3.
        scenery: characters from which the small objects in the background are chosen; empty for none.

    Returns:
        The RGB picture, and the boxes: int64 array (len(characters), 4) of left, top, right, bottom in pixels,
        right and bottom exclusive, tight around each drawing and inside the picture.

    Raises:
        DataError: if size or clutter is out of range, or the drawings are not installed.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise DataError(f"size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size}")
    if not 0 <= clutter <= 3:
        raise DataError(f"clutter must be from 0 to 3, not {clutter}")
    streams = np.random.SeedSequence(seed).spawn(3)
    layout, surroundings, light = (np.random.Generator(np.random.PCG64(stream)) for stream in streams)
    canvas = paint_background(size, surroundings, clutter)
    _add_scenery(canvas, surroundings, clutter, scenery)
    boxes = []
    for layer in drawing_layers(characters, layout, size):
        _cast_shadow(canvas, layer[..., 3])
        canvas *= 1 - layer[..., 3:]
        canvas += layer[..., :3]
        boxes.append(box_of(layer[..., 3]))
    _light(canvas, light)
    pixels = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels), np.array(boxes, dtype=np.int64).reshape(-1, 4)


def drawing_layers(characters: Sequence[str], rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """Each drawing alone, in place: arrays (size, size, 4) of premultiplied colour and alpha, 0 to 1."""
    layers = []
    for character, place in zip(characters, _places(rng, len(characters)), strict=True):
        layer = np.zeros((size, size, 4), dtype=np.float32)
        tint = np.append(rng.uniform(0.9, 1.06, size=3), 1).astype(np.float32)
        _stamp(layer, np.minimum(_draw(character, place, size) * tint, 1), place)
        layers.append(layer)
    return layers


def box_of(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (both exclusive) of what is visible in an alpha channel (height, width)."""
    rows, columns = ((alpha >= VISIBLE).any(axis=axis).nonzero()[0] for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _places(rng: np.random.Generator, count: int) -> list[_Place]:
    """Places for the drawings: large where there is one, smaller and apart from each other where there are more."""
    places: list[_Place] = []
    shrink = max(1, count) ** -0.45
    for _ in range(count):
        extent = rng.uniform(0.5, 0.82) * shrink
        margin = 0.47 * extent
        tries = rng.uniform(margin, 1 - margin, size=(16, 2))
        gaps = [
            min((np.hypot(x - p.x, y - p.y) - (extent + p.extent) / 2 for p in places), default=0) for x, y in tries
        ]
        x, y = tries[int(np.argmax(gaps))]
        places.append(_Place(x, y, extent, rng.normal(0, 12), bool(rng.uniform() < 0.5)))
    return places


def _draw(character: str, place: _Place, size: int) -> np.ndarray:
    return draw_character(character, place.extent * size, angle=place.angle, flip=place.flip)


def _stamp(layer: np.ndarray, drawing: np.ndarray, place: _Place, opacity: float = 1.0) -> None:
    """Lay a premultiplied drawing over a layer (size, size, 3 or 4), in place; what lies outside is cut off."""
    size, (height, width) = len(layer), drawing.shape[:2]
    left, top = round(place.x * size - width / 2), round(place.y * size - height / 2)
    inside = drawing[max(0, -top) : size - top, max(0, -left) : size - left] * opacity
    top, left = max(0, top), max(0, left)
    patch = layer[top : top + inside.shape[0], left : left + inside.shape[1]]
    patch *= 1 - inside[..., 3:]
    patch += inside[..., : layer.shape[2]]


def _add_scenery(canvas: np.ndarray, rng: np.random.Generator, clutter: float, scenery: Sequence[str]) -> None:
    """Small things that belong to no class, some of them faint, some cut off by the edge."""
    for _ in range(round(clutter * rng.uniform(2, 5)) if scenery else 0):
        (x, y), extent, angle = rng.uniform(-0.02, 1.02, size=2), rng.uniform(0.12, 0.26), rng.uniform(-40, 40)
        place = _Place(x, y, extent, angle, False)
        character = scenery[rng.integers(len(scenery))]
        _stamp(canvas, _draw(character, place, len(canvas)), place, opacity=rng.uniform(0.45, 1.0))


def _cast_shadow(canvas: np.ndarray, alpha: np.ndarray) -> None:
    """Darken the canvas softly below and to the right of a drawing, in place."""
    size = len(canvas)
    mask = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(0.02 * size))
    shadow = np.asarray(mask, dtype=np.float32) / 255
    shift = round(0.02 * size)
    canvas[shift:, shift:] *= 1 - 0.35 * shadow[: size - shift, : size - shift, None]


def _light(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Light from one side, a cast of colour and a little grain, in place."""
    size = len(canvas)
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    dx, dy = rng.uniform(-0.25, 0.25, size=2)
    canvas *= ((1 + dx * line[None, :] + dy * line[:, None]) * rng.uniform(0.88, 1.06))[..., None]
    canvas *= rng.uniform(0.93, 1.05, size=3).astype(np.float32)
    canvas += (rng.uniform(0.02, 0.09) * (smooth_noise(size, rng, 95) - 0.5))[..., None]
