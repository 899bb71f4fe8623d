"""Whether a heat map points at what it should: scored against a mask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tlhelpers.errors import DataError


class HeatScore(NamedTuple):
    """How a heat map lies on a mask.

    Attributes:
        hit: whether the hottest pixel lies in the mask (the pointing game, Zhang et al. 2016).
        overlap: of the hottest pixels, the share that lies in the mask.
        iou: intersection over union of the hottest pixels and the mask.
        chance: share of the image that the mask covers: what `hit` and `overlap` would be for a map at random.
    """

    hit: bool
    overlap: float
    iou: float
    chance: float


def pointing_game(heat: ArrayLike, mask: ArrayLike, *, share: float | None = None) -> HeatScore:
    """Score a heat map against the region that it should point at.

    Args:
        heat: (height, width), the higher the more evidence.
        mask: (height, width), True in the region.
        share: which share of the pixels counts as hottest, above 0 and at most 1; None takes as many as the mask has.

    Returns:
        the scores; of a map that is the same everywhere, and so points nowhere, no hit, and 0.

    Raises:
        DataError: if shapes differ, the heat is not finite, the mask is empty, or `share` is out of range.
    """
    warm, region = np.asarray(heat, dtype=np.float64), np.asarray(mask).astype(bool)
    if warm.ndim != 2 or warm.shape != region.shape:
        raise DataError(f"heat and mask should have the same height and width, found {warm.shape} and {region.shape}")
    if not np.isfinite(warm).all():
        raise DataError("the heat map is not finite")
    if not region.any():
        raise DataError("the mask is empty: there is nothing that the map could point at")
    if share is not None and not 0 < share <= 1:
        raise DataError(f"share should be above 0 and at most 1, not {share}")
    chance = float(region.mean())
    if np.ptp(warm) == 0:
        return HeatScore(False, 0.0, 0.0, chance)
    count = int(region.sum()) if share is None else max(1, round(share * warm.size))
    order = np.argsort(-warm, axis=None, kind="stable")  # where pixels are equally hot, the first ones
    hottest = np.zeros(warm.size, dtype=bool)
    hottest[order[:count]] = True
    common = int((hottest & region.ravel()).sum())
    union = count + int(region.sum()) - common
    return HeatScore(bool(region.ravel()[order[0]]), common / count, common / union, chance)
