"""Paints the backgrounds of `safari`: soft landscapes and patterns strewn with shapes and small things.

A canvas is a float32 array (SIDE, SIDE, 3) of red, green and blue from 0 to 1. Lengths and places are fractions of
its side. In the end it is blurred and enlarged to the size of the image: out of focus, as behind a camera's subject.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from tlcourse.safari.drawing import Place, stamp, to_image

Painter = Callable[[np.random.Generator, np.ndarray], np.ndarray]

SIDE = 64  # pixels
_LINE = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
_Y, _X = _LINE[:, None], _LINE[None, :]
INK = np.array([0.08, 0.08, 0.1], dtype=np.float32)  # the colour of outlines


def palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours (count, 3) that go together: hues near one or two random ones, none of them dark."""
    hue, other = rng.uniform(size=2)
    colours = []
    for _ in range(count):
        centre = hue if rng.uniform() < 0.65 else other
        hsv = (centre + rng.normal(0, 0.05)) % 1, rng.uniform(0.12, 0.55), rng.uniform(0.68, 1.0)
        colours.append(colorsys.hsv_to_rgb(*hsv))
    return np.array(colours, dtype=np.float32)


def smooth_noise(rng: np.random.Generator, cells: int, size: int = SIDE) -> np.ndarray:
    """Soft random hills (size, size), roughly from 0 to 1, about `cells` of them along a side."""
    grid = rng.uniform(size=(cells + 1, cells + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))


def _blend(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return low + (high - low) * np.clip(weight, 0, 1)[..., None]


def _glow(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """Three colours that flow into each other."""
    canvas = _blend(colours[0], colours[1], 1.6 * smooth_noise(rng, 3) - 0.3)
    return _blend(canvas, colours[2], 1.8 * smooth_noise(rng, 4) - 0.7)


def _hills(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """A sky, and ridges one before the other."""
    canvas = _blend(colours[0], colours[1], np.broadcast_to(_Y * 1.3, (SIDE, SIDE)))
    for step, colour in enumerate(colours[1:]):
        ridge = np.asarray(0.3 + 0.17 * step + rng.uniform(-0.06, 0.06))
        for waves in (1.1, 2.7, 6.0):
            ridge = ridge + rng.uniform(0.01, 0.09 / waves) * np.sin(2 * np.pi * (waves * _X + rng.uniform()))
        canvas = _blend(canvas, colour * rng.uniform(0.82, 1.0), (_Y - ridge) * SIDE + 0.5)
    return canvas


def _contours(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """Bands between the contour lines of soft hills, as on a map."""
    height = (smooth_noise(rng, 4) + 0.35 * smooth_noise(rng, 9)) * rng.uniform(4, 7)
    steps = np.floor(height).astype(int)
    edge = np.clip((height - steps) / (0.25 + 0 * height), 0, 1)[..., None]
    return colours[steps % len(colours)] * edge + colours[(steps - 1) % len(colours)] * (1 - edge)


def _stripes(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """Wavering stripes in three colours."""
    turn = rng.uniform(0, np.pi)
    along = _X * np.cos(turn) + _Y * np.sin(turn) + rng.uniform(0.05, 0.3) * smooth_noise(rng, 3)
    wave = np.sin(2 * np.pi * rng.uniform(3, 8) * along)
    canvas = _blend(colours[0], colours[1], wave * rng.uniform(0.6, 2.0) + 0.5)
    return _blend(canvas, colours[2], 1.6 * smooth_noise(rng, 3) - 0.6)


def _tiles(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """A turned chequerboard with soft edges, its colours drifting."""
    turn, count = rng.uniform(0, np.pi / 2), rng.uniform(2.5, 6)
    across = np.sin(np.pi * count * (_X * np.cos(turn) + _Y * np.sin(turn)) + rng.uniform(0, 6))
    down = np.sin(np.pi * count * (_Y * np.cos(turn) - _X * np.sin(turn)) + rng.uniform(0, 6))
    canvas = _blend(colours[0], colours[1], across * down * rng.uniform(1, 4) + 0.5)
    return _blend(canvas, colours[2], 1.6 * smooth_noise(rng, 4) - 0.5)


_PAINTERS: tuple[Painter, ...] = (_glow, _hills, _contours, _stripes, _tiles)


def _distance(kind: int, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to the outline of a disc, a square, a bar, a triangle or a ring: negative inside."""
    if kind == 0:
        return np.hypot(x, y) - radius
    if kind == 1:
        return np.maximum(np.abs(x), np.abs(y)) - 0.8 * radius
    if kind == 2:
        return np.maximum(np.abs(x) - radius, np.abs(y) - 0.22 * radius)
    if kind == 3:
        return np.maximum(np.maximum(0.866 * x + 0.5 * y, 0.5 * y - 0.866 * x), -y) - 0.5 * radius
    return np.abs(np.hypot(x, y) - 0.75 * radius) - 0.25 * radius


def scatter_shapes(canvas: np.ndarray, rng: np.random.Generator, count: int, colours: np.ndarray) -> None:
    """Strew `count` outlined discs, squares, bars, triangles and rings over the canvas, in place."""
    for _ in range(count):
        (cx, cy), radius = rng.uniform(0, 1, size=2), rng.uniform(0.03, 0.13)
        kind, turn = rng.integers(5), rng.uniform(0, 2 * np.pi)
        colour, opacity, stroke = colours[rng.integers(len(colours))], rng.uniform(0.5, 1), rng.uniform(0, 0.014)
        reach = radius + stroke + 1 / SIDE
        left, top = (max(0, int((c - reach) * SIDE)) for c in (cx, cy))
        right, bottom = (min(SIDE, int((c + reach) * SIDE) + 1) for c in (cx, cy))
        x = (np.arange(left, right, dtype=np.float32)[None, :] + 0.5) / SIDE - cx
        y = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5) / SIDE - cy
        turned_x, turned_y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        distance = _distance(int(kind), turned_x, turned_y, radius) * SIDE
        patch = canvas[top:bottom, left:right]
        filled = _blend(patch, colour, opacity * np.clip(0.5 - distance, 0, 1))
        line = np.clip(0.5 + stroke * SIDE / 2 - np.abs(distance), 0, 1) * min(1.0, stroke * SIDE)
        canvas[top:bottom, left:right] = _blend(filled, INK, opacity * line)


def scatter_things(canvas: np.ndarray, rng: np.random.Generator, count: int, characters: Sequence[str]) -> None:
    """Strew `count` small drawings over the canvas, in place: some faint, some cut off by the edge."""
    for _ in range(count):
        (x, y), extent, angle = rng.uniform(-0.02, 1.02, size=2), rng.uniform(0.12, 0.26), rng.uniform(-40, 40)
        character = characters[int(rng.integers(len(characters)))]
        stamp(canvas, character, Place(x, y, extent, angle, flip=False), opacity=rng.uniform(0.45, 1.0))


def paint_background(size: int, rng: np.random.Generator, clutter: float, scenery: Sequence[str]) -> np.ndarray:
    """Paint a background: a landscape or pattern, with shapes and small things in proportion to `clutter`.

    Args:
        size: side of the background in pixels.
        rng: where the randomness comes from; it is used up.
        clutter: 0 for a soft gradient, 1 for the usual amount of pattern, shapes and things, more for more.
        scenery: characters from which the things are chosen; empty for none.

    Returns:
        Array (size, size, 3), float32, 0 to 1.
    """
    colours = palette(rng, 5)
    plain = _glow(rng, colours)
    painter = _PAINTERS[rng.integers(len(_PAINTERS))]
    canvas = plain + min(1.0, clutter) * (painter(rng, colours) - plain)
    scatter_shapes(canvas, rng, round(clutter * rng.uniform(5, 12)), palette(rng, 4))
    if scenery:
        scatter_things(canvas, rng, round(clutter * rng.uniform(2, 5)), scenery)
    image = to_image(canvas).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / 255
