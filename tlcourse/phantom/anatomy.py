"""The chest of a made-up patient: the depth of each tissue along an X-ray, for each pixel of an image.

Positions are fractions of the image's side, x to the right and y downwards, as in a radiograph on a screen: the
patient's right lung is on the left. Depths are float32 arrays (side, side) in centimetres.

The outlines and boxes of the lungs are medians over 435 of the lung masks that come with torchxrayvision 1.5.7
(`semantic_masks_v7labs_lungs.zip`, Apache License 2.0): each lung was scaled to a square, the masks averaged, and the
distance from the centre to where half of them agree read off in 32 directions. All other shapes were chosen by hand.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tlcourse.drawn_images import smooth_noise, turned

# Distance from the centre of the lung's box to its outline, as a fraction of the box's side, clockwise from the right.
RIGHT_OUTLINE = (
    *(0.46, 0.46, 0.48, 0.52, 0.53, 0.48, 0.42, 0.38, 0.37, 0.38, 0.41, 0.48, 0.69, 0.55, 0.46, 0.41),
    *(0.38, 0.36, 0.35, 0.35, 0.35, 0.36, 0.38, 0.40, 0.43, 0.47, 0.53, 0.59, 0.64, 0.59, 0.52, 0.48),
)
LEFT_OUTLINE = (
    *(0.39, 0.42, 0.47, 0.56, 0.69, 0.51, 0.44, 0.41, 0.40, 0.42, 0.45, 0.52, 0.57, 0.54, 0.50, 0.47),
    *(0.47, 0.48, 0.52, 0.58, 0.63, 0.59, 0.53, 0.48, 0.44, 0.41, 0.39, 0.38, 0.37, 0.36, 0.36, 0.37),
)
LUNG_BOXES = ((0.070, 0.109, 0.453, 0.812), (0.547, 0.109, 0.922, 0.844))  # left, top, right, bottom


class Chest(NamedTuple):
    """What all images of a patient share; `width` to `vessels`, but for `breast`, are factors of the usual size."""

    depth: float  # from front to back, in cm
    width: float  # of the lungs
    height: float  # of the lungs
    heart: float
    tilt: float  # of the ribs
    gap: float  # between ribs
    breast: float  # soft tissue in front of the lower lungs, in cm
    vessels: float  # visibility of the lungs' vessels
    spine: float  # its lean, as a fraction of the image
    stomach: float  # air under the left diaphragm, in cm
    seed: int  # of the vessels and the lungs' texture


class Grid(NamedTuple):
    """Position in the chest of each pixel, x and y (side, side), and the (2, 3) matrix from chest to image."""

    x: np.ndarray
    y: np.ndarray
    matrix: np.ndarray


def random_chest(rng: np.random.Generator) -> Chest:
    """Draw a patient."""

    def normal(mean: float, deviation: float, low: float, high: float = np.inf) -> float:
        return float(np.clip(rng.normal(mean, deviation), low, high))

    return Chest(
        depth=normal(19, 2, 15, 24),
        width=normal(1, 0.035, 0.92, 1.05),
        height=normal(1, 0.06, 0.86, 1.1),
        heart=normal(1, 0.1, 0.8, 1.25),
        tilt=normal(1, 0.25, 0.4, 1.6),
        gap=normal(1, 0.06, 0.88, 1.12),
        breast=normal(0.8, 1.2, 0),
        vessels=float(rng.uniform(0.6, 1.5)),
        spine=normal(0, 0.006, -np.inf),
        stomach=normal(1, 2.5, 0),
        seed=int(rng.integers(1 << 31)),
    )


def make_grid(side: int, *, shift: tuple[float, float], turn: float, zoom: float) -> Grid:
    """The grid of an image of a chest that is shifted, turned (radians) and zoomed about its middle."""
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    forward = np.array([[cos, -sin], [sin, cos]])
    offset = np.array([0.5, 0.5]) + shift - forward @ np.array([0.5, 0.5])
    back = np.linalg.inv(forward).astype(np.float32)
    line = ((np.arange(side) + 0.5) / side).astype(np.float32)
    x, y = line[None, :] - np.float32(offset[0]), line[:, None] - np.float32(offset[1])
    return Grid(back[0, 0] * x + back[0, 1] * y, back[1, 0] * x + back[1, 1] * y, np.column_stack([forward, offset]))


def body(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of the body: thinner at the sides, none above the shoulders."""
    across = np.abs(grid.x - 0.5)
    depth = chest.depth * np.sqrt((1 - (across / 0.62) ** 4).clip(0.02))
    shoulder = 0.30 * (across - 0.15).clip(0) ** 1.5 - 0.7 * (0.15 - across).clip(0)
    depth *= 0.55 + 0.45 * ((grid.y - shoulder) / 0.16).clip(0, 1)
    depth *= ((grid.y - shoulder) / 0.05).clip(0, 1) ** 0.5
    low = np.exp(-(((across - 0.22) / 0.13) ** 2 + ((grid.y - 0.66) / 0.14) ** 2) * 1.5)
    return depth + chest.breast * low + 2.0 * ((grid.y - 0.72) / 0.2).clip(0, 1)  # the belly is thicker


def folds(rng: np.random.Generator, side: int) -> np.ndarray:
    """Depth of what differs between images: clothes, skin folds, an arm, a tilted tube; also below 0."""
    line = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    along, down = rng.normal(0, 1.5, size=2)
    tilted = np.float32(along) * line[None, :] + np.float32(down) * line[:, None]
    return tilted + np.float32(rng.uniform(0.5, 3.0)) * (smooth_noise(rng, 4, side) - 0.5)


def lung_radius(x: np.ndarray, y: np.ndarray, chest: Chest) -> list[np.ndarray]:
    """Distance from the middle of the right and left lung as a fraction of that to its outline: below 1 inside."""
    radii = []
    for (left, top, right, bottom), outline in zip(LUNG_BOXES, (RIGHT_OUTLINE, LEFT_OUTLINE), strict=True):
        width, height = (right - left) * chest.width, (bottom - top) * chest.height
        # The size of the lungs changes outwards and downwards.
        middle = right - width / 2 if right < 0.5 else left + width / 2
        dx, dy = (x - middle) / width, (y - top - height / 2) / height
        angle = np.arctan2(dy, dx) * (len(outline) / (2 * np.pi))
        reach = np.interp(angle, np.arange(len(outline)), outline, period=len(outline)).astype(np.float32)
        radii.append(np.hypot(dx, dy) / reach)
    return radii


def lungs(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of both lungs together, 0 outside."""
    radii = lung_radius(grid.x, grid.y, chest)
    right, left = (0.74 * chest.depth * np.sqrt((1 - radius**4).clip(0)) for radius in radii)
    return np.maximum(right, left)


def heart(grid: Grid, chest: Chest) -> np.ndarray:
    """Fraction of the lungs' depth that the heart and the great vessels take, 0 to 1."""
    size, lung = chest.heart, np.ones_like(grid.x)
    for x, y, across, down, turn, fraction in (  # centre, half axes, turn in radians, fraction of the depth
        (0.560, 0.640, 0.190 * size, 0.130 * size, 0.55, 0.75),  # left ventricle
        (0.460, 0.650, 0.105 * size, 0.135 * size, 0.1, 0.65),  # right atrium
        (0.552, 0.335, 0.052, 0.065, 0.0, 0.65),  # aortic arch
        (0.500, 0.290, 0.080, 0.260, 0.0, 0.50),  # upper mediastinum
        (0.555, 0.490, 0.072, 0.150, 0.35, 0.55),  # pulmonary trunk
        (0.425, 0.470, 0.045, 0.085, -0.3, 0.40),  # hila
        (0.590, 0.440, 0.045, 0.070, 0.4, 0.40),
    ):
        u, v = turned(grid.x - x, grid.y - y, turn)
        lung *= 1 - fraction * np.sqrt((1.5 * (1 - (u / across) ** 2 - (v / down) ** 2)).clip(0, 1))
    return 1 - lung


def airways(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of the air in the windpipe, the main bronchi and the stomach."""
    x = grid.x - 0.5 - chest.spine
    pipe = 1.8 * np.sqrt((1 - (x / 0.024) ** 2).clip(0)) * ((0.36 - grid.y) / 0.03).clip(0, 1)
    down = (grid.y - 0.35).clip(0)
    for slope, width in ((-0.75, 0.017), (1.0, 0.015)):
        reach = ((0.45 - grid.y) / 0.03).clip(0, 1) * (down > 0)
        pipe += 1.2 * np.sqrt((1 - ((x - slope * down) / width) ** 2).clip(0)) * reach
    bubble = 1 - ((grid.x - 0.69) / 0.10) ** 2 - ((grid.y - 0.11 - 0.81 * chest.height) / 0.055) ** 2
    return pipe + chest.stomach * np.sqrt(bubble.clip(0))


def bones(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of bone: spine, ribs, collar bones and shoulder blades."""
    return _spine(grid, chest) + _ribs(grid, chest) + _shoulders(grid)


def _spine(grid: Grid, chest: Chest) -> np.ndarray:
    x = (grid.x - 0.5 - chest.spine * np.sin(4 * grid.y)) / 0.052
    discs = np.abs(np.sin(np.pi * grid.y / (0.062 * chest.gap)))
    column = np.sqrt((1 - x**2).clip(0)) * (0.55 + 0.55 * np.sqrt(discs))
    return column + 0.45 * np.exp(-(((np.abs(x) - 0.6) / 0.16) ** 2) - ((discs - 0.75) / 0.35) ** 2)  # pedicles


def _tube(distance: np.ndarray, radius: float) -> np.ndarray:
    """Depth of the wall of a hollow bone, in units of its radius: largest at its edges."""
    q = (distance / radius) ** 2
    return 2 * np.sqrt((1 - q).clip(0)) - 1.3 * np.sqrt((0.6 - q).clip(0))


def _ribs(grid: Grid, chest: Chest) -> np.ndarray:
    total = np.zeros_like(grid.x)
    aside = np.abs(grid.x - 0.5 - chest.spine)
    for rib in range(10):
        half = (0.27 + 0.155 * (1 - np.exp(-rib / 2.0))) * chest.width
        start, steep = 0.095 + 0.067 * chest.gap * rib, chest.tilt * (0.6 + 0.07 * rib)
        rows = _rows(grid, start - 0.06, start + 0.17 * steep + 0.05)
        u, y = aside[rows] / half, grid.y[rows]
        within, u2 = u < 1, u * u
        back = start - 0.030 * np.sin((np.pi / 0.75) * u.clip(0, 0.9)) + 0.17 * steep * (u2 * np.sqrt(u)).clip(0, 1)
        rim = np.sqrt(1 - (u2 * u2 * u2).clip(0, 0.7))  # where it turns, the rib runs along the ray
        depth = _tube((y - back) / (1 + 1.6 * steep * u2), 0.0145) / rim
        total[rows] += 0.6 * depth * ((u - 0.08) / 0.06).clip(0, 1) * within
        if rib < 7:  # the front halves of the others are hidden
            top = start + 0.17 * steep + 0.035
            rows = _rows(grid, top - 0.03, top + 0.2)
            u, y = aside[rows] / half, grid.y[rows]
            front = top + 0.22 * (1 - u) * (1 + 0.25 * u)
            total[rows] += 0.33 * _tube((y - front) / 1.35, 0.0155) * ((u - 0.42) / 0.25).clip(0, 1) * (u < 1)
    return total


def _rows(grid: Grid, top: float, bottom: float) -> slice:
    """The rows of pixels between two heights of the chest."""
    first, last = np.minimum(grid.y[:, 0], grid.y[:, -1]), np.maximum(grid.y[:, 0], grid.y[:, -1])
    return slice(int(np.searchsorted(last, top)), int(np.searchsorted(first, bottom)))


def _shoulders(grid: Grid) -> np.ndarray:
    across = np.abs(grid.x - 0.5)
    u = ((across - 0.045) / 0.36).clip(-0.2, 1.2)
    collar = 0.20 - 0.115 * u - 0.022 * np.sin(2 * np.pi * u)
    bone = 0.95 * _tube((grid.y - collar) / 1.1, 0.019) * ((u + 0.02) / 0.06).clip(0, 1) * (u < 1.1)
    blade = 0.395 + 0.05 * np.sin(7 * (grid.y - 0.12))  # inner edge of the shoulder blade
    high = ((grid.y - 0.12) / 0.03).clip(0, 1) * ((0.44 - grid.y) / 0.1).clip(0, 1)
    plate = ((across - blade) / 0.012).clip(0, 1) * high
    return bone + 0.28 * plate


def vessels(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of the lungs' vessels, a tree from each hilum, drawn at twice the resolution of the image."""
    tree, side = _tree(chest.seed), 2 * len(grid.x)
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    turn, shift = grid.matrix[:, :2].T, grid.matrix[:, 2]
    ends = np.hstack([tree[:, :2] @ turn + shift, tree[:, 2:4] @ turn + shift]) * side
    for line, width in zip(ends.tolist(), tree[:, 4].tolist(), strict=True):
        pen.line(line, fill=int(min(255, 22000 * width)), width=max(1, round(width * side)))
    soft = canvas.reduce(2).filter(ImageFilter.GaussianBlur(0.002 * side))
    return np.asarray(soft, dtype=np.float32) * np.float32(2.2 / 255 * chest.vessels)


@functools.lru_cache(maxsize=64)
def _tree(seed: int) -> np.ndarray:
    """Vessels (n, 5): x and y of both ends, and width; the widest last, so that they are drawn over the others."""
    rng = np.random.default_rng(seed)
    vessels: list[tuple[float, ...]] = []
    for hilum, outwards in (((0.415, 0.46), np.pi), ((0.585, 0.44), 0.0)):  # where they enter the lungs
        for angle in np.linspace(-1.25, 1.35, 7):
            turn = outwards + (angle if outwards == 0 else -angle) + rng.normal(0, 0.1)
            vessels += _branch(rng, hilum, turn, 0.1 * rng.uniform(0.7, 1.1), 0.011 * rng.uniform(0.7, 1.2), 4)
    return np.array(sorted(vessels, key=lambda vessel: vessel[4]))


def _branch(
    rng: np.random.Generator, start: tuple[float, float], angle: float, length: float, width: float, levels: int
) -> Iterator[tuple[float, ...]]:
    """A vessel and its branches, each as in `_tree`."""
    end = start[0] + length * np.cos(angle), start[1] + length * np.sin(angle)
    yield (*start, *end, width)
    if levels > 1:
        for turn in (-0.38, 0.38):
            turned = angle + turn + rng.normal(0, 0.18)
            yield from _branch(rng, end, turned, length * rng.uniform(0.65, 0.9), width * 0.66, levels - 1)
