"""Composes the images of `safari`: drawings on a cluttered background, with the box of each drawing."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from tlcourse.drawn_images import DrawnImages, check_range, smooth_noise
from tlcourse.safari.background import paint_background
from tlcourse.safari.drawing import Place, stamp, to_image

VISIBLE = 0.25  # smallest alpha of a pixel that belongs to a drawing
Scenes = Sequence[tuple[Sequence[str], tuple[int, ...]]]  # for each image its drawings and its seed


class SceneImages(DrawnImages[tuple[Image.Image, np.ndarray]]):
    """Loads images by `render_scene`; a DataError if `size` is not from 32 to 512, or `clutter` not from 0 to 3."""

    def __init__(self, scenes: Scenes, size: int, clutter: float, scenery: Sequence[str]) -> None:
        check_range(32, 512, " pixels", size=size)
        check_range(0, 3, clutter=clutter)
        super().__init__(size)
        self.scenes, self.clutter, self.scenery = scenes, clutter, scenery

    def __call__(self, index: int) -> Image.Image:
        """Image number `index`, RGB, (size, size)."""
        return self.drawn(index)[0].copy()

    def boxes(self, index: int) -> np.ndarray:
        """Boxes of the drawings on image `index`, int64 (drawings, 4), as `render_scene` returns them."""
        return self.drawn(index)[1].copy()

    def draw(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Draw image number `index` and find its boxes."""
        return render_scene(*self.scenes[index], self.size, self.clutter, self.scenery)


def render_scene(
    names: Sequence[str], seed: Sequence[int], size: int, clutter: float = 1.0, scenery: Sequence[str] = ()
) -> tuple[Image.Image, np.ndarray]:
    """Draw emoji, each named as "noto/1F405", on a made-up background; the same arguments give the same pixels.

    The seed fixes the scene; `size` is its resolution in pixels. `clutter` changes only the background: 0 for a soft
    gradient, 1 for the usual pattern, shapes and small drawings of the `scenery`. Later drawings cover earlier ones.
    Returns the RGB image, and the boxes: int64 array (drawings, 4) of left, top, right, bottom in pixels, right and
    bottom exclusive, tight around each drawing and inside the image.
    """
    layout, surroundings, light = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    canvas = paint_background(size, surroundings, clutter, scenery)
    towards = light.uniform(0.25, 0.75) * np.pi  # the light comes from above: left, middle or right
    boxes = []
    for layer in drawing_layers(names, layout, size):
        colour, alpha = layer[..., :3], layer[..., 3]
        canvas *= 1 - 0.35 * _shifted(_blurred(alpha, 0.02), towards, 0.03)[..., None]  # a soft shadow
        canvas *= 1 - alpha[..., None]
        height = _blurred(alpha, 0.04)  # shaded like a cushion: bright where it faces the light
        slope = _shifted(height, towards, -0.03) - _shifted(height, towards, 0.03)
        canvas += np.minimum(colour * (1 - 0.55 * slope[..., None]), alpha[..., None])
        visible = alpha >= min(VISIBLE, alpha.max())  # of a faint speck, at least its most opaque pixel
        rows, columns = (visible.any(axis=axis).nonzero()[0] for axis in (1, 0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    _light(canvas, light)
    return to_image(canvas), np.array(boxes, dtype=np.int64).reshape(-1, 4)


def drawing_layers(names: Sequence[str], rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """Each drawing on a layer of its own: arrays (size, size, 4) of premultiplied colour and alpha, 0 to 1."""
    layers = []
    for name, place in zip(names, _places(rng, len(names)), strict=True):
        layer = np.zeros((size, size, 4), dtype=np.float32)
        stamp(layer, name, place)
        layer[..., :3] *= rng.uniform(0.9, 1.0, size=3).astype(np.float32)
        layers.append(layer)
    return layers


def _places(rng: np.random.Generator, count: int) -> list[Place]:
    """Random places: large for one drawing, smaller and apart from each other for several."""
    places: list[Place] = []
    for _ in range(count):
        extent = rng.uniform(0.55, 0.85) * count**-0.45
        tries = rng.uniform(0.47 * extent, 1 - 0.47 * extent, size=(16, 2))
        gaps = [[np.hypot(x - p.x, y - p.y) - (extent + p.extent) / 2 for p in places] for x, y in tries]
        x, y = tries[int(np.argmax([min(gap, default=0) for gap in gaps]))]
        places.append(Place(x, y, extent, rng.normal(0, 9), bool(rng.uniform() < 0.5)))
    return places


def _blurred(alpha: np.ndarray, radius: float) -> np.ndarray:
    """A blurred alpha channel; the radius is a fraction of its side."""
    soft = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius * len(alpha)))
    return np.asarray(soft, dtype=np.float32) / 255


def _shifted(field: np.ndarray, towards: float, distance: float) -> np.ndarray:
    """A field moved away from the light by `distance`, a fraction of its side."""
    dx, dy = round(-np.cos(towards) * distance * len(field)), round(np.sin(towards) * distance * len(field))
    return ndimage.shift(field, (dy, dx), order=0)


def _light(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Add, in place, light that fades across the image, a colour cast and a little grain."""
    size = len(canvas)
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    dx, dy = rng.uniform(-0.25, 0.25, size=2)
    canvas *= ((1 + dx * line[None, :] + dy * line[:, None]) * rng.uniform(0.92, 1.08))[..., None]
    canvas *= rng.uniform(0.94, 1.04, size=3).astype(np.float32)
    canvas += (rng.uniform(0.02, 0.07) * (smooth_noise(rng, 95, size) - 0.5))[..., None]
