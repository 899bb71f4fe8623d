"""Scores of a heat map against a mask of the region that it should point at."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tlhelpers.errors import DataError


class HeatScore(NamedTuple):
    """How well a heat map agrees with a mask."""

    hit: bool  # whether the hottest pixel lies in the mask (the pointing game, Zhang et al. 2016)
    overlap: float  # fraction of the hottest pixels, as many as the mask has, that lies in the mask
    iou: float  # intersection over union of the hottest pixels and the mask
    chance: float  # fraction of the image that the mask covers: what a random map scores in `hit` and `overlap`


def pointing_game(heat: ArrayLike, mask: ArrayLike) -> HeatScore:
    """Score a heat map (height, width) against a mask of this shape. A constant map points nowhere: no hit, and 0.

    Raises DataError if shapes differ, the heat is not finite, or the mask is empty.
    """
    values, region = np.asarray(heat, dtype=np.float64), np.asarray(mask).astype(bool)
    if values.ndim != 2 or values.shape != region.shape:
        raise DataError(f"heat and mask should have the same height and width, found {values.shape} and {region.shape}")
    if not np.isfinite(values).all():
        raise DataError("the heat map is not finite")
    if not region.any():
        raise DataError("the mask is empty: there is nothing that the map could point at")
    if np.ptp(values) == 0:
        return HeatScore(False, 0.0, 0.0, float(region.mean()))
    count = int(region.sum())  # as many hottest pixels as the mask has
    inside = region.ravel()[np.argsort(-values, axis=None, kind="stable")[:count]]  # equally hot: the first ones
    common = int(inside.sum())
    return HeatScore(bool(inside[0]), common / count, common / (2 * count - common), float(region.mean()))
