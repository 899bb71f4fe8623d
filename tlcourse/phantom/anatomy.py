"""The chest of a made-up patient: how many centimetres of what an X-ray passes at each point of an image.

Places are fractions of the image's side, x to the right and y downwards, as in a radiograph on a screen: the
patient's right lung is on the left. Maps are float32 arrays (side, side) in centimetres along the ray.

The outlines of the lungs, and where they lie, are medians over 435 of the lung masks that come with torchxrayvision
1.5.7 (`semantic_masks_v7labs_lungs.zip`, Apache License 2.0): each lung was scaled to a square, the masks averaged, and
the distance from the square's centre to where half of them agree read off in 32 directions. All other shapes were
chosen by hand, to look like a chest.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tlcourse.safari.background import smooth_noise

# Distance from the centre of the lung's box, as a fraction of its side, clockwise from the direction of x.
RIGHT_OUTLINE = (
    *(0.46, 0.46, 0.48, 0.52, 0.53, 0.48, 0.42, 0.38, 0.37, 0.38, 0.41, 0.48, 0.69, 0.55, 0.46, 0.41),
    *(0.38, 0.36, 0.35, 0.35, 0.35, 0.36, 0.38, 0.40, 0.43, 0.47, 0.53, 0.59, 0.64, 0.59, 0.52, 0.48),
)
LEFT_OUTLINE = (
    *(0.39, 0.42, 0.47, 0.56, 0.69, 0.51, 0.44, 0.41, 0.40, 0.42, 0.45, 0.52, 0.57, 0.54, 0.50, 0.47),
    *(0.47, 0.48, 0.52, 0.58, 0.63, 0.59, 0.53, 0.48, 0.44, 0.41, 0.39, 0.38, 0.37, 0.36, 0.36, 0.37),
)
LUNG_BOXES = ((0.070, 0.109, 0.453, 0.812), (0.547, 0.109, 0.922, 0.844))  # left, top, right, bottom
HILA = ((0.415, 0.46), (0.585, 0.44))  # where vessels enter the lungs
RIBS, FRONT_RIBS = 10, 7  # pairs, and those of them whose front half shows


class Chest(NamedTuple):
    """What is the same on all images of a patient: lengths as factors of the usual ones, or in cm.

    Attributes:
        depth: from front to back, in cm.
        width, height: of the lungs.
        heart: size of the heart.
        tilt: how steeply the ribs fall.
        gap: between ribs.
        breast: soft tissue before the lower lungs, in cm.
        vessels: how much of the lungs' vessels shows.
        spine: how far the spine leans, as a fraction of the image.
        stomach: of the air under the left diaphragm, in cm.
        seed: from which the vessels and the lungs' texture are drawn.
    """

    depth: float
    width: float
    height: float
    heart: float
    tilt: float
    gap: float
    breast: float
    vessels: float
    spine: float
    stomach: float
    seed: int


class Grid(NamedTuple):
    """Where each pixel lies in the chest, (side, side), and the way back: `to_image` maps the chest's (x, y)."""

    x: np.ndarray
    y: np.ndarray
    matrix: np.ndarray  # (2, 3): chest to image

    @property
    def side(self) -> int:
        """Pixels along a side."""
        return len(self.x)

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the chest, as fractions of the image's side."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]


def draw_chest(rng: np.random.Generator) -> Chest:
    """A random patient."""
    return Chest(
        depth=float(np.clip(rng.normal(19, 2), 15, 24)),
        width=float(np.clip(rng.normal(1, 0.035), 0.92, 1.05)),
        height=float(np.clip(rng.normal(1, 0.06), 0.86, 1.1)),
        heart=float(np.clip(rng.normal(1, 0.1), 0.8, 1.25)),
        tilt=float(np.clip(rng.normal(1, 0.25), 0.4, 1.6)),
        gap=float(np.clip(rng.normal(1, 0.06), 0.88, 1.12)),
        breast=float(max(rng.normal(0.8, 1.2), 0)),
        vessels=float(rng.uniform(0.6, 1.5)),
        spine=float(rng.normal(0, 0.006)),
        stomach=float(max(rng.normal(1, 2.5), 0)),
        seed=int(rng.integers(1 << 31)),
    )


def make_grid(side: int, *, shift: tuple[float, float], turn: float, zoom: float) -> Grid:
    """Where the pixels of an image lie in a chest that is shifted, turned (radians) and zoomed about its middle."""
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    forward = np.array([[cos, -sin], [sin, cos]])
    offset = np.array([0.5, 0.5]) + shift - forward @ np.array([0.5, 0.5])
    back = np.linalg.inv(forward).astype(np.float32)
    line = ((np.arange(side) + 0.5) / side).astype(np.float32)
    x, y = line[None, :] - np.float32(offset[0]), line[:, None] - np.float32(offset[1])
    return Grid(back[0, 0] * x + back[0, 1] * y, back[1, 0] * x + back[1, 1] * y, np.column_stack([forward, offset]))


def body(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of the body: thick in the middle, thinner at the sides, none above the shoulders."""
    across = np.abs(grid.x - 0.5)
    depth = chest.depth * np.sqrt((1 - (across / 0.62) ** 4).clip(0.02))
    shoulder = 0.30 * (across - 0.15).clip(0) ** 1.5 - 0.7 * (0.15 - across).clip(0)
    depth *= 0.55 + 0.45 * ((grid.y - shoulder) / 0.16).clip(0, 1)
    depth *= ((grid.y - shoulder) / 0.05).clip(0, 1) ** 0.5
    low = np.exp(-(((across - 0.22) / 0.13) ** 2 + ((grid.y - 0.66) / 0.14) ** 2) * 1.5)
    return depth + chest.breast * low + 2.0 * ((grid.y - 0.72) / 0.2).clip(0, 1)  # the belly is thicker


def folds(rng: np.random.Generator, side: int) -> np.ndarray:
    """Depth of what differs from image to image: clothes, skin folds, an arm, the tube aslant; also below 0."""
    line = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    along, down = rng.normal(0, 1.5, size=2)
    aslant = np.float32(along) * line[None, :] + np.float32(down) * line[:, None]
    return aslant + np.float32(rng.uniform(0.5, 3.0)) * (smooth_noise(rng, 4, side) - 0.5)


def lung_radius(grid: Grid, chest: Chest) -> tuple[np.ndarray, np.ndarray]:
    """For each lung, the distance from its middle as a fraction of that to its outline: below 1 inside."""
    found = []
    for (left, top, right, bottom), outline in zip(LUNG_BOXES, (RIGHT_OUTLINE, LEFT_OUTLINE), strict=True):
        width, height = (right - left) * chest.width, (bottom - top) * chest.height
        inner = right if right < 0.5 else left  # the lungs grow away from the middle, and downwards
        middle = inner - width / 2 if right < 0.5 else inner + width / 2
        dx, dy = (grid.x - middle) / width, (grid.y - top - height / 2) / height
        angle = np.arctan2(dy, dx) * (len(outline) / (2 * np.pi))
        reach = np.interp(angle, np.arange(len(outline)), outline, period=len(outline)).astype(np.float32)
        found.append(np.hypot(dx, dy) / reach)
    return found[0], found[1]


def lungs(grid: Grid, chest: Chest) -> tuple[np.ndarray, np.ndarray]:
    """Depth of each lung, 0 outside it."""
    most = 0.74 * chest.depth
    right, left = (most * np.sqrt((1 - radius**4).clip(0)) for radius in lung_radius(grid, chest))
    return right, left


def heart(grid: Grid, chest: Chest) -> np.ndarray:
    """How much of the lungs' depth heart and great vessels take, 0 to 1."""
    size = chest.heart
    left = np.ones_like(grid.x)
    # x, y, half width, half height, turn in radians, share; of the left ventricle, right atrium, aortic arch, upper
    # mediastinum, pulmonary trunk, hila
    for x, y, across, down, turn, share in (
        (0.560, 0.640, 0.190 * size, 0.130 * size, 0.55, 0.75),
        (0.460, 0.650, 0.105 * size, 0.135 * size, 0.1, 0.65),
        (0.552, 0.335, 0.052, 0.065, 0.0, 0.65),
        (0.500, 0.290, 0.080, 0.260, 0.0, 0.50),
        (0.555, 0.490, 0.072, 0.150, 0.35, 0.55),
        (0.425, 0.470, 0.045, 0.085, -0.3, 0.40),
        (0.590, 0.440, 0.045, 0.070, 0.4, 0.40),
    ):
        dx, dy = grid.x - x, grid.y - y
        u, v = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
        inside = (1 - (u / across) ** 2 - (v / down) ** 2).clip(0)
        left *= 1 - share * np.sqrt((1.5 * inside).clip(0, 1))
    return 1 - left


def airways(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of the air in windpipe, main bronchi and stomach."""
    x = grid.x - 0.5 - chest.spine
    pipe = 1.8 * np.sqrt((1 - (x / 0.024) ** 2).clip(0)) * ((0.36 - grid.y) / 0.03).clip(0, 1)
    down = (grid.y - 0.35).clip(0)
    for slope, width in ((-0.75, 0.017), (1.0, 0.015)):
        reach = ((0.45 - grid.y) / 0.03).clip(0, 1) * (down > 0)
        pipe += 1.2 * np.sqrt((1 - ((x - slope * down) / width) ** 2).clip(0)) * reach
    bubble = 1 - ((grid.x - 0.69) / 0.10) ** 2 - ((grid.y - 0.11 - 0.81 * chest.height) / 0.055) ** 2
    return pipe + chest.stomach * np.sqrt(bubble.clip(0))


def bones(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of bone: spine, ribs, collar bones, the edges of the shoulder blades."""
    return _spine(grid, chest) + _ribs(grid, chest) + _shoulders(grid)


def _spine(grid: Grid, chest: Chest) -> np.ndarray:
    x = (grid.x - 0.5 - chest.spine * np.sin(4 * grid.y)) / 0.052
    discs = np.abs(np.sin(np.pi * grid.y / (0.062 * chest.gap)))
    column = np.sqrt((1 - x**2).clip(0)) * (0.55 + 0.55 * np.sqrt(discs))
    pedicles = np.exp(-(((np.abs(x) - 0.6) / 0.16) ** 2) - ((discs - 0.75) / 0.35) ** 2)
    return column + 0.45 * pedicles


def _tube(distance: np.ndarray, radius: float) -> np.ndarray:
    """Depth of the wall of a hollow bone, in units of its radius: most at its two edges."""
    q = (distance / radius) ** 2
    return 2 * np.sqrt((1 - q).clip(0)) - 1.3 * np.sqrt((0.6 - q).clip(0))


def _ribs(grid: Grid, chest: Chest) -> np.ndarray:
    total = np.zeros_like(grid.x)
    aside = np.abs(grid.x - 0.5 - chest.spine)
    for rib in range(RIBS):
        half = (0.27 + 0.155 * (1 - np.exp(-rib / 2.0))) * chest.width
        start, steep = 0.095 + 0.067 * chest.gap * rib, chest.tilt * (0.6 + 0.07 * rib)
        rows = _rows(grid, start - 0.06, start + 0.17 * steep + 0.05)
        u, y = aside[rows] / half, grid.y[rows]
        within, u2 = u < 1, u * u
        back = start - 0.030 * np.sin((np.pi / 0.75) * u.clip(0, 0.9)) + 0.17 * steep * (u2 * np.sqrt(u)).clip(0, 1)
        rim = np.sqrt(1 - (u2 * u2 * u2).clip(0, 0.7))  # towards its turn the rib runs along the ray
        depth = _tube((y - back) / (1 + 1.6 * steep * u2), 0.0145) / rim
        total[rows] += 0.6 * depth * ((u - 0.08) / 0.06).clip(0, 1) * within
        if rib < FRONT_RIBS:
            top = start + 0.17 * steep + 0.035
            rows = _rows(grid, top - 0.03, top + 0.2)
            u, y = aside[rows] / half, grid.y[rows]
            front = top + 0.22 * (1 - u) * (1 + 0.25 * u)
            total[rows] += 0.33 * _tube((y - front) / 1.35, 0.0155) * ((u - 0.42) / 0.25).clip(0, 1) * (u < 1)
    return total


def _rows(grid: Grid, top: float, bottom: float) -> slice:
    """The rows of pixels that hold what lies between two heights of the chest."""
    first, last = np.minimum(grid.y[:, 0], grid.y[:, -1]), np.maximum(grid.y[:, 0], grid.y[:, -1])
    return slice(int(np.searchsorted(last, top)), int(np.searchsorted(first, bottom)))


def _shoulders(grid: Grid) -> np.ndarray:
    across = np.abs(grid.x - 0.5)
    u = ((across - 0.045) / 0.36).clip(-0.2, 1.2)
    collar = 0.20 - 0.115 * u - 0.022 * np.sin(2 * np.pi * u)
    bone = 0.95 * _tube((grid.y - collar) / 1.1, 0.019) * ((u + 0.02) / 0.06).clip(0, 1) * (u < 1.1)
    blade = 0.395 + 0.05 * np.sin(7 * (grid.y - 0.12))  # the inner edge of the shoulder blade, drawn aside
    high = ((grid.y - 0.12) / 0.03).clip(0, 1) * ((0.44 - grid.y) / 0.1).clip(0, 1)
    plate = ((across - blade) / 0.012).clip(0, 1) * high
    return bone + 0.28 * plate


def vessels(grid: Grid, chest: Chest) -> np.ndarray:
    """Depth of the lungs' vessels, a tree from each hilum, drawn as lines twice as fine as the image."""
    tree = _tree(chest.seed)
    side = 2 * grid.side
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    ends = np.hstack([grid.to_image(tree[:, :2]), grid.to_image(tree[:, 2:4])]) * side
    for line, width in zip(ends.tolist(), tree[:, 4].tolist(), strict=True):
        pen.line(line, fill=int(min(255, 22000 * width)), width=max(1, round(width * side)))
    soft = canvas.reduce(2).filter(ImageFilter.GaussianBlur(0.004 * grid.side))
    return np.asarray(soft, dtype=np.float32) * np.float32(2.2 / 255 * chest.vessels)


@functools.lru_cache(maxsize=64)
def _tree(seed: int) -> np.ndarray:
    """Vessels (n, 5) as x, y, x, y and width, the thick ones last, so that they are drawn over the thin ones."""
    rng = np.random.default_rng(seed)
    segments: list[tuple[float, float, float, float, float]] = []
    for hilum, outwards in zip(HILA, (np.pi, 0.0), strict=True):
        for angle in np.linspace(-1.25, 1.35, 7):
            turn = outwards + (angle if outwards == 0 else -angle) + rng.normal(0, 0.1)
            _branch(rng, segments, *hilum, turn, 0.1 * rng.uniform(0.7, 1.1), 0.011 * rng.uniform(0.7, 1.2), 4)
    return np.array(sorted(segments, key=lambda segment: segment[4]))


def _branch(
    rng: np.random.Generator,
    segments: list[tuple[float, float, float, float, float]],
    x: float,
    y: float,
    angle: float,
    length: float,
    width: float,
    levels: int,
) -> None:
    """Add a vessel and its branches as (x, y, x, y, width), all fractions of the image."""
    end = x + length * np.cos(angle), y + length * np.sin(angle)
    segments.append((x, y, *end, width))
    if levels > 1:
        for turn in (-0.38, 0.38):
            turned = angle + turn + rng.normal(0, 0.18)
            _branch(rng, segments, *end, turned, length * rng.uniform(0.65, 0.9), width * 0.66, levels - 1)
