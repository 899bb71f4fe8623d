"""Calibration of predicted probabilities."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from tlcourse.medical.clinical import check_scores
from tlhelpers.errors import DataError


def to_probabilities(log_odds: ArrayLike) -> NDArray[Any]:
    """Probabilities of "ill" from log-odds."""
    return np.asarray(expit(np.asarray(log_odds, dtype=np.float64)))


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance, by image, of `calibration_table`'s columns."""
    table = calibration_table(probabilities, labels, bins=bins)
    return float(np.average((table["predicted"] - table["observed"]).abs(), weights=table["images"]))


def calibration_table(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> pd.DataFrame:
    """Images, predicted (mean probability), observed (fraction of ill) by bin; a DataError as in `clinical_scores`."""
    values, truth = check_scores(probabilities, labels)
    if values.min() < 0 or values.max() > 1:
        raise DataError(f"probabilities are from 0 to 1, found {values.min():.3g} to {values.max():.3g}; log-odds?")
    # A value on an edge belongs to the bin above it, as in torchmetrics.
    number = np.searchsorted(np.linspace(0, 1, bins + 1), values, side="right")
    groups = pd.DataFrame({"value": values, "ill": truth}).groupby(number)
    return groups.agg(images=("ill", "size"), predicted=("value", "mean"), observed=("ill", "mean"))
