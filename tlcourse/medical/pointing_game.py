"""Scores of a heat map against a mask of the region that it should point at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tlhelpers.errors import DataError


class HeatScore(NamedTuple):
    """How well a heat map agrees with a mask."""

    hit: bool  # whether the hottest pixel lies in the mask (the pointing game, Zhang et al. 2016)
    overlap: float  # fraction of the hottest pixels that lies in the mask
    iou: float  # intersection over union of the hottest pixels and the mask
    chance: float  # fraction of the image that the mask covers: what a random map scores in `hit` and `overlap`


def pointing_game(heat: ArrayLike, mask: ArrayLike, *, share: float | None = None) -> HeatScore:
    """Score a heat map against a mask. A constant map points nowhere: no hit, and 0.

    Args:
        heat: (height, width), the higher the more evidence.
        mask: (height, width), True in the region.
        share: fraction of the pixels that counts as hottest, above 0 and at most 1; None takes as many as the mask has.

    Raises:
        DataError: if shapes differ, the heat is not finite, the mask is empty, or `share` is out of range.
    """
    values, region = np.asarray(heat, dtype=np.float64), np.asarray(mask).astype(bool)
    if values.ndim != 2 or values.shape != region.shape:
        raise DataError(f"heat and mask should have the same height and width, found {values.shape} and {region.shape}")
    if not np.isfinite(values).all():
        raise DataError("the heat map is not finite")
    if not region.any():
        raise DataError("the mask is empty: there is nothing that the map could point at")
    if share is not None and not 0 < share <= 1:
        raise DataError(f"share should be above 0 and at most 1, not {share}")
    if np.ptp(values) == 0:
        return HeatScore(False, 0.0, 0.0, float(region.mean()))
    count = int(region.sum()) if share is None else max(1, round(share * values.size))
    hottest = np.argsort(-values, axis=None, kind="stable")[:count]  # of equally hot pixels the first ones
    inside = region.ravel()[hottest]
    common = int(inside.sum())
    union = count + int(region.sum()) - common
    return HeatScore(bool(inside[0]), common / count, common / union, float(region.mean()))
