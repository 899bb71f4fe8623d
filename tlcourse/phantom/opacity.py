"""Opacities: where the lungs of a made-up patient with pneumonia hold fluid instead of air.

Bacterial pneumonia is drawn as one or two dense patches, viral as many faint ones in both lungs. That is the
schoolbook's distinction, drawn more clearly than it is in patients. Centres and sizes of the patches follow the mean
and the standard deviation of the 9,555 boxes that radiologists drew around opacities in the RSNA Pneumonia Detection
Challenge (`kaggle_stage_2_train_labels.csv.zip` in torchxrayvision 1.5.7), for each half of the image; viral ones
are half as large as a box.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tlcourse.phantom.anatomy import Chest, Grid, lung_radius
from tlcourse.safari.background import smooth_noise

SUBTYPES = ("bacterial", "viral")
# x, y, width, height of a box in the left and the right half of the image: mean and standard deviation.
BOXES = (
    ((0.313, 0.059), (0.517, 0.114), (0.208, 0.056), (0.307, 0.150)),
    ((0.697, 0.059), (0.522, 0.111), (0.220, 0.060), (0.338, 0.157)),
)
EDGE = 0.4  # of an opacity's largest depth: from there on a pixel belongs to its mask


class Opacity(NamedTuple):
    """A patch of fluid: its place and half axes as fractions of the image, its turn in radians.

    Attributes:
        fill: share of the air that is replaced in its middle.
        rough: how ragged its edge is.
        seed: of the raggedness.
    """

    x: float
    y: float
    across: float
    down: float
    turn: float
    fill: float
    rough: float
    seed: int


def draw_opacities(rng: np.random.Generator, chest: Chest, subtype: str, difficulty: float) -> tuple[Opacity, ...]:
    """The opacities of a patient.

    Args:
        rng: where the randomness comes from; it is used up.
        chest: in whose lungs they lie.
        subtype: one of `SUBTYPES`.
        difficulty: 1 is the usual one; twice as much halves the fluid.
    """
    if subtype == "bacterial":
        sides = [int(rng.integers(2))] * (1 if rng.uniform() < 0.65 else 2)
        if len(sides) == 2 and rng.uniform() < 0.5:
            sides[1] = 1 - sides[0]
        return tuple(_one(rng, chest, side, 0.85, rng.uniform(0.28, 0.58) / difficulty, 0.5) for side in sides)
    sides = [i % 2 for i in range(int(rng.integers(6, 11)))]
    return tuple(_one(rng, chest, side, 0.5, rng.uniform(0.07, 0.17) / difficulty, 0.9) for side in sides)


def _one(rng: np.random.Generator, chest: Chest, side: int, size: float, fill: float, rough: float) -> Opacity:
    x, y, width, height = BOXES[side]
    across, down = (0.5 * size * max(rng.normal(*axis), 0.6 * axis[0]) for axis in (width, height))
    for _ in range(40):  # some boxes of the statistics would lie half outside of this patient's lung
        place = rng.normal(x[0], 1.3 * x[1]), rng.normal(y[0], 1.3 * y[1])
        if _inside(chest, side, *place):
            break
    else:
        place = x[0], y[0]
    down = min(down, 1.8 * across)
    return Opacity(*place, across, down, rng.normal(0, 0.3), min(fill, 0.95), rough, int(rng.integers(1 << 31)))


def _inside(chest: Chest, side: int, x: float, y: float) -> bool:
    point = Grid(np.full((1, 1), x, np.float32), np.full((1, 1), y, np.float32), np.zeros((2, 3)))
    return bool(lung_radius(point, chest)[side][0, 0] < 0.8)


def fluid_depth(grid: Grid, opacities: tuple[Opacity, ...], lung: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How deep the fluid of the opacities is, and where they are.

    Args:
        grid: of the image.
        opacities: of the patient.
        lung: depth of both lungs in cm, (side, side).

    Returns:
        The depth of fluid in cm, float32 (side, side), and the mask, bool (side, side): where an opacity has at least
        `EDGE` of its largest depth.
    """
    depth, mask = np.zeros_like(lung), np.zeros(lung.shape, dtype=bool)
    for opacity in opacities:
        dx, dy = grid.x - opacity.x, grid.y - opacity.y
        cos, sin = np.cos(opacity.turn), np.sin(opacity.turn)
        distance = np.hypot((cos * dx + sin * dy) / opacity.across, (cos * dy - sin * dx) / opacity.down)
        rng = np.random.default_rng(opacity.seed)
        ragged = smooth_noise(rng, 8, grid.side) + 0.6 * smooth_noise(rng, 17, grid.side) - 0.8
        shape = ((1.15 - distance - opacity.rough * ragged) / 0.55).clip(0, 1)
        own = opacity.fill * shape * lung
        if own.max() > 0:
            mask |= own > EDGE * own.max()
        depth = np.maximum(depth, own) + 0.3 * np.minimum(depth, own)
    return np.minimum(depth, 0.95 * lung), mask
