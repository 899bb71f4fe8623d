"""Opacities: where the lungs of a patient with pneumonia hold fluid instead of air.

Bacterial pneumonia is drawn as one or two dense patches, viral pneumonia as many faint ones in both lungs: the
textbook's distinction, drawn more clearly than it is in patients. Centres and sizes follow the mean and the standard
deviation of the 9,555 boxes that radiologists drew around opacities in the RSNA Pneumonia Detection Challenge
(`kaggle_stage_2_train_labels.csv.zip` in torchxrayvision 1.5.7), for each half of the image; viral patches are half as
large as a box.
"""

from typing import NamedTuple

import numpy as np

from tlcourse.drawn_images import smooth_noise, turned
from tlcourse.phantom.anatomy import Chest, Grid, lung_radius

SUBTYPES = ("bacterial", "viral")
# x, y, width, height of a box in the left and the right half of the image: mean and standard deviation.
BOXES = (
    ((0.313, 0.059), (0.517, 0.114), (0.208, 0.056), (0.307, 0.150)),
    ((0.697, 0.059), (0.522, 0.111), (0.220, 0.060), (0.338, 0.157)),
)
EDGE = 0.4  # smallest depth in the mask, as a fraction of the opacity's largest depth


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
    """The opacities of a patient; twice the difficulty halves the fluid."""
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
    x, y, width, height = BOXES[side]
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
    """The depth of fluid in cm, float32 (side, side), and the mask of the opacities, bool (side, side).

    `lung` is the depth of both lungs in cm, (side, side).
    """
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
