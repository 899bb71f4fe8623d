"""Composes an image of `safari`: drawings on a cluttered background, with the box of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from tlcourse.safari.background import paint_background, smooth_noise
from tlcourse.safari.drawing import Place, stamp, to_image
from tlhelpers.errors import DataError

SIZES = (32, 512)  # smallest and largest side of an image, in pixels
VISIBLE = 0.25  # alpha from which a pixel counts as part of a drawing


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
        size: side of the square image in pixels, from 32 to 512.
        clutter: 0 for a soft gradient behind the drawings, 1 for the usual clutter, up to 3.
        scenery: characters from which the small things in the background are chosen; empty for none.

    Returns:
        The RGB image, and the boxes: int64 array (len(characters), 4) of left, top, right, bottom in pixels,
        right and bottom exclusive, tight around each drawing and inside the image.

    Raises:
        DataError: if size or clutter is out of range, or the drawings are not installed.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise DataError(f"size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size}")
    if not 0 <= clutter <= 3:
        raise DataError(f"clutter must be from 0 to 3, not {clutter}")
    layout, surroundings, light = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    canvas = paint_background(size, surroundings, clutter, scenery)
    towards = light.uniform(0.25, 0.75) * np.pi  # the light comes from above: left, middle or right
    boxes = []
    for layer in drawing_layers(characters, layout, size):
        colour, alpha = layer[..., :3], layer[..., 3:]
        canvas *= 1 - 0.35 * _shifted(_blurred(layer[..., 3], 0.02), towards, 0.03)[..., None]  # a soft shadow
        canvas *= 1 - alpha
        canvas += np.minimum(colour * _relief(layer[..., 3], towards), alpha)
        boxes.append(box_of(layer[..., 3]))
    _light(canvas, light)
    return to_image(canvas), np.array(boxes, dtype=np.int64).reshape(-1, 4)


def drawing_layers(characters: Sequence[str], rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """Each drawing alone, in place: arrays (size, size, 4) of premultiplied colour and alpha, 0 to 1."""
    layers = []
    for character, place in zip(characters, _places(rng, len(characters)), strict=True):
        layer = np.zeros((size, size, 4), dtype=np.float32)
        stamp(layer, character, place)
        layer[..., :3] *= rng.uniform(0.9, 1.0, size=3).astype(np.float32)
        layers.append(layer)
    return layers


def box_of(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (both exclusive) of what is visible in an alpha channel (height, width)."""
    visible = alpha >= min(VISIBLE, alpha.max())  # of a speck of a drawing, at least its darkest pixel
    rows, columns = (visible.any(axis=axis).nonzero()[0] for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _places(rng: np.random.Generator, count: int) -> list[Place]:
    """Places for the drawings: large where there is one, smaller and apart from each other where there are more."""
    places: list[Place] = []
    shrink = max(1, count) ** -0.45
    for _ in range(count):
        extent = rng.uniform(0.55, 0.85) * shrink
        margin = 0.47 * extent
        tries = rng.uniform(margin, 1 - margin, size=(16, 2))
        gaps = [
            min((np.hypot(x - p.x, y - p.y) - (extent + p.extent) / 2 for p in places), default=0) for x, y in tries
        ]
        x, y = tries[int(np.argmax(gaps))]
        places.append(Place(x, y, extent, rng.normal(0, 9), bool(rng.uniform() < 0.5)))
    return places


def _blurred(alpha: np.ndarray, radius: float) -> np.ndarray:
    """A soft copy of an alpha channel; the radius is a fraction of its side."""
    soft = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius * len(alpha)))
    return np.asarray(soft, dtype=np.float32) / 255


def _shifted(field: np.ndarray, towards: float, distance: float) -> np.ndarray:
    """A field moved away from the light by `distance`, a fraction of its side."""
    side = len(field)
    dx, dy = round(-np.cos(towards) * distance * side), round(np.sin(towards) * distance * side)
    padded = np.pad(field, ((abs(dy), abs(dy)), (abs(dx), abs(dx))))
    return padded[abs(dy) - dy : abs(dy) - dy + side, abs(dx) - dx : abs(dx) - dx + side]


def _relief(alpha: np.ndarray, towards: float) -> np.ndarray:
    """Factors (side, side, 1) that brighten what faces the light and darken what does not, as if it were padded."""
    height = _blurred(alpha, 0.04)
    slope = _shifted(height, towards, -0.03) - _shifted(height, towards, 0.03)
    return 1 - 0.55 * slope[..., None]


def _light(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Light that fades across the image, a cast of colour and a little grain, in place."""
    size = len(canvas)
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    dx, dy = rng.uniform(-0.25, 0.25, size=2)
    canvas *= ((1 + dx * line[None, :] + dy * line[:, None]) * rng.uniform(0.92, 1.08))[..., None]
    canvas *= rng.uniform(0.94, 1.04, size=3).astype(np.float32)
    canvas += (rng.uniform(0.02, 0.07) * (smooth_noise(rng, 95, size) - 0.5))[..., None]
