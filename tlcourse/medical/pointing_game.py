"""Scores of a heat map against a mask of the region that it should point at."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tlhelpers.errors import DataError


class HeatScore(NamedTuple):
    """How well a heat map agrees with a mask."""

    hit: bool  # whether the hottest pixel lies in the mask (the pointing game, Zhang et al. 2016)
    chance: float  # fraction of the image that the mask covers: how often a random map hits


def pointing_game(heat: ArrayLike, mask: ArrayLike) -> HeatScore:
    """Score a heat map (height, width) against a mask of this shape. A constant map points nowhere, and hits nothing.

    Raises DataError if shapes differ, the heat is not finite, or the mask is empty.
    """
    values, region = np.asarray(heat, dtype=np.float64), np.asarray(mask).astype(bool)
    if values.ndim != 2 or values.shape != region.shape:
        raise DataError(f"heat and mask should have the same height and width, found {values.shape} and {region.shape}")
    if not np.isfinite(values).all():
        raise DataError("the heat map is not finite")
    if not region.any():
        raise DataError("the mask is empty: there is nothing that the map could point at")
    return HeatScore(bool(np.ptp(values) > 0 and region.flat[values.argmax()]), float(region.mean()))
