"""Paints the backgrounds of `safari`: landscapes and patterns, with shapes and small drawings scattered over them.

A canvas is float32 (SIDE, SIDE, 3), 0 to 1; lengths are fractions of its side. At last it is blurred and enlarged.
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from tlcourse.drawn_images import smooth_noise, turned
from tlcourse.safari.drawing import Place, stamp, to_image

SIDE = 64  # pixels
_X = (np.arange(SIDE, dtype=np.float32) + 0.5)[None, :] / SIDE
_Y = _X.T
_INK = np.array([0.08, 0.08, 0.1], dtype=np.float32)  # colour of outlines


def paint_background(size: int, rng: np.random.Generator, clutter: float, scenery: Sequence[str]) -> np.ndarray:
    """Random background, float32 (size, size, 3), 0 to 1; the arguments are those of `render_scene`."""
    colours = _palette(rng, 5)
    plain = _gradient(rng, colours)
    painter = (_gradient, _hills, _contours, _stripes, _tiles)[rng.integers(5)]
    canvas = plain + min(1.0, clutter) * (painter(rng, colours) - plain)
    _scatter_shapes(canvas, rng, round(clutter * rng.uniform(5, 12)), _palette(rng, 4))
    if scenery:
        _scatter_drawings(canvas, rng, round(clutter * rng.uniform(2, 5)), scenery)
    image = to_image(canvas).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / 255


def _palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Matching colours (count, 3): hues near one of two random ones, none of them dark."""
    hue, other = rng.uniform(size=2)
    colours = []
    for _ in range(count):
        centre = hue if rng.uniform() < 0.65 else other
        hsv = (centre + rng.normal(0, 0.05)) % 1, rng.uniform(0.12, 0.55), rng.uniform(0.68, 1.0)
        colours.append(colorsys.hsv_to_rgb(*hsv))
    return np.array(colours, dtype=np.float32)


def _blend(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return low + (high - low) * np.clip(weight, 0, 1)[..., None]


def _gradient(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    canvas = _blend(colours[0], colours[1], 1.6 * smooth_noise(rng, 3, SIDE) - 0.3)
    return _blend(canvas, colours[2], 1.8 * smooth_noise(rng, 4, SIDE) - 0.7)


def _hills(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    canvas = _blend(colours[0], colours[1], np.broadcast_to(_Y * 1.3, (SIDE, SIDE)))
    for step, colour in enumerate(colours[1:]):
        ridge = np.asarray(0.3 + 0.17 * step + rng.uniform(-0.06, 0.06))
        for waves in (1.1, 2.7, 6.0):
            ridge = ridge + rng.uniform(0.01, 0.09 / waves) * np.sin(2 * np.pi * (waves * _X + rng.uniform()))
        canvas = _blend(canvas, colour * rng.uniform(0.82, 1.0), (_Y - ridge) * SIDE + 0.5)
    return canvas


def _contours(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    height = (smooth_noise(rng, 4, SIDE) + 0.35 * smooth_noise(rng, 9, SIDE)) * rng.uniform(4, 7)
    steps = np.floor(height).astype(int)
    edge = np.clip((height - steps) / 0.25, 0, 1)[..., None]
    return colours[steps % len(colours)] * edge + colours[(steps - 1) % len(colours)] * (1 - edge)


def _stripes(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    along = turned(_X, _Y, rng.uniform(0, np.pi))[0] + rng.uniform(0.05, 0.3) * smooth_noise(rng, 3, SIDE)
    wave = np.sin(2 * np.pi * rng.uniform(3, 8) * along)
    canvas = _blend(colours[0], colours[1], wave * rng.uniform(0.6, 2.0) + 0.5)
    return _blend(canvas, colours[2], 1.6 * smooth_noise(rng, 3, SIDE) - 0.6)


def _tiles(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    turn, count = rng.uniform(0, np.pi / 2), rng.uniform(2.5, 6)
    across, down = (np.sin(np.pi * count * axis + rng.uniform(0, 6)) for axis in turned(_X, _Y, turn))
    canvas = _blend(colours[0], colours[1], across * down * rng.uniform(1, 4) + 0.5)
    return _blend(canvas, colours[2], 1.6 * smooth_noise(rng, 4, SIDE) - 0.5)


# Signed distance from (x, y) to the outline of a shape around the origin with radius r: negative inside.
_SHAPES = (
    lambda x, y, r: np.hypot(x, y) - r,  # disc
    lambda x, y, r: np.maximum(np.abs(x), np.abs(y)) - 0.8 * r,  # square
    lambda x, y, r: np.maximum(np.abs(x) - r, np.abs(y) - 0.22 * r),  # bar
    lambda x, y, r: np.maximum(np.maximum(0.866 * x + 0.5 * y, 0.5 * y - 0.866 * x), -y) - 0.5 * r,  # triangle
    lambda x, y, r: np.abs(np.hypot(x, y) - 0.75 * r) - 0.25 * r,  # ring
)


def _scatter_shapes(canvas: np.ndarray, rng: np.random.Generator, count: int, colours: np.ndarray) -> None:
    """Draw outlined shapes at random places on the canvas."""
    for _ in range(count):
        (cx, cy), radius = rng.uniform(size=2), rng.uniform(0.03, 0.13)
        shape, turn = _SHAPES[rng.integers(5)], rng.uniform(0, 2 * np.pi)
        colour, opacity, stroke = colours[rng.integers(len(colours))], rng.uniform(0.5, 1), rng.uniform(0, 0.014)
        reach = radius + stroke + 1 / SIDE
        rows, columns = (slice(max(0, int((c - reach) * SIDE)), int((c + reach) * SIDE) + 1) for c in (cy, cx))
        x, y, patch = _X[:, columns] - cx, _Y[rows] - cy, canvas[rows, columns]
        distance = shape(*turned(x, y, turn), radius) * SIDE
        filled = _blend(patch, colour, opacity * np.clip(0.5 - distance, 0, 1))
        line = np.clip(0.5 + stroke * SIDE / 2 - np.abs(distance), 0, 1) * min(1.0, stroke * SIDE)
        patch[:] = _blend(filled, _INK, opacity * line)


def _scatter_drawings(canvas: np.ndarray, rng: np.random.Generator, count: int, names: Sequence[str]) -> None:
    """Draw small drawings at random places on the canvas: some faint, some cut off by the edge."""
    for _ in range(count):
        (x, y), extent, angle = rng.uniform(-0.02, 1.02, size=2), rng.uniform(0.12, 0.26), rng.uniform(-40, 40)
        place = Place(x, y, extent, angle, flip=False)
        stamp(canvas, names[int(rng.integers(len(names)))], place, opacity=rng.uniform(0.45, 1.0))
