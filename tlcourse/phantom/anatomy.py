"""The chest of a made-up patient: the depth of each tissue, and of fluid, along an X-ray, for each pixel of an image.

Positions are fractions of the image's side, x to the right and y downwards: the patient's right lung is on the left.
Depths are float32 arrays (side, side) in centimetres. The outlines and boxes of the lungs are medians over 435 of the
lung masks of torchxrayvision 1.5.7 (`semantic_masks_v7labs_lungs.zip`, Apache License 2.0): each lung was scaled to a
square, the masks averaged, and the distance from the centre to where half of them agree read off in 32 directions. The
centres and sizes of opacities follow the 9,555 boxes that radiologists drew around them in the RSNA Pneumonia Detection
Challenge (`kaggle_stage_2_train_labels.csv.zip` in torchxrayvision 1.5.7). All else was chosen by hand.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tlcourse.drawn_images import smooth_noise, turned

# "chest": mean, standard deviation, lowest and highest value, or two values between which all are equally frequent.
# "lung boxes": left, top, right, bottom of the right and the left lung. "lung outlines": distances from their centres,
# in units of the box's side, clockwise from the right. "heart", "great vessels": centre, half axes, turn in radians,
# fraction of the lungs' depth. "opacity boxes": mean and deviation of x, y, width, height, for each half of the image.
SHAPES: dict[str, Any] = json.loads((Path(__file__).parent / "shapes.json").read_text("utf8"))
LUNG_BOXES = SHAPES["lung boxes"]
SUBTYPES = ("bacterial", "viral")
EDGE = 0.4  # smallest depth in the mask of an opacity, as a fraction of its largest depth


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
    values = {}
    for name, (first, second, *limits) in SHAPES["chest"].items():
        values[name] = float(np.clip(rng.normal(first, second), *limits) if limits else rng.uniform(first, second))
    return Chest(**values, seed=int(rng.integers(1 << 31)))


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
    for (left, top, right, bottom), outline in zip(LUNG_BOXES, SHAPES["lung outlines"], strict=True):
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
    lung = np.ones_like(grid.x)
    for part, size in (("heart", chest.heart), ("great vessels", 1.0)):
        for x, y, across, down, turn, fraction in SHAPES[part].values():
            u, v = turned(grid.x - x, grid.y - y, turn)
            ball = (1.5 * (1 - (u / (across * size)) ** 2 - (v / (down * size)) ** 2)).clip(0, 1)
            lung *= 1 - fraction * np.sqrt(ball)
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


class Opacity(NamedTuple):
    """A patch of fluid; positions and half axes are fractions of the image's side."""

    x: float
    y: float
    across: float
    down: float
    turn: float  # radians
    fill: float  # fraction of the air that is replaced in its middle
    rough: float  # how ragged its edge is
    seed: int  # of its edge


def draw_opacities(rng: np.random.Generator, chest: Chest, subtype: str, difficulty: float) -> tuple[Opacity, ...]:
    """The opacities of a patient; twice the difficulty halves the fluid.

    Bacterial pneumonia is one or two dense patches, viral many faint ones, more clearly than it is in patients.
    """
    if subtype == "none":
        return ()
    if subtype == "bacterial":
        sides = [int(rng.integers(2))] * (1 if rng.uniform() < 0.65 else 2)
        if len(sides) == 2 and rng.uniform() < 0.5:
            sides[1] = 1 - sides[0]
        return tuple(_one(rng, chest, side, 0.85, rng.uniform(0.28, 0.58) / difficulty, 0.5) for side in sides)
    sides = [i % 2 for i in range(int(rng.integers(6, 11)))]
    return tuple(_one(rng, chest, side, 0.5, rng.uniform(0.07, 0.17) / difficulty, 0.9) for side in sides)


def _one(rng: np.random.Generator, chest: Chest, side: int, size: float, fill: float, rough: float) -> Opacity:
    x, y, width, height = SHAPES["opacity boxes"][side]
    across, down = (0.5 * size * max(rng.normal(*axis), 0.6 * axis[0]) for axis in (width, height))
    for _ in range(40):  # some boxes of the statistics would lie half outside of this patient's lung
        place = rng.normal(x[0], 1.3 * x[1]), rng.normal(y[0], 1.3 * y[1])
        point_x, point_y = np.array([place], np.float32).T
        if lung_radius(point_x, point_y, chest)[side] < 0.8:
            break
    else:
        place = x[0], y[0]
    down = min(down, 1.8 * across)
    return Opacity(*place, across, down, rng.normal(0, 0.3), min(fill, 0.95), rough, int(rng.integers(1 << 31)))


def fluid_depth(grid: Grid, opacities: tuple[Opacity, ...], lung: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth of fluid in cm, float32, and mask, bool, both (side, side); `lung` is the depth of both lungs."""
    depth, mask = np.zeros_like(lung), np.zeros(lung.shape, dtype=bool)
    for opacity in opacities:
        across, down = turned(grid.x - opacity.x, grid.y - opacity.y, opacity.turn)
        distance = np.hypot(across / opacity.across, down / opacity.down)
        rng = np.random.default_rng(opacity.seed)
        ragged = smooth_noise(rng, 8, len(grid.x)) + 0.6 * smooth_noise(rng, 17, len(grid.x)) - 0.8
        own = opacity.fill * ((1.15 - distance - opacity.rough * ragged) / 0.55).clip(0, 1) * lung
        if own.max() > 0:
            mask |= own > EDGE * own.max()
        depth = np.maximum(depth, own) + 0.3 * np.minimum(depth, own)
    return np.minimum(depth, 0.95 * lung), mask
