"""Calibration of predicted probabilities, and temperature scaling."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from tlcourse.medical.clinical import check_scores
from tlhelpers.errors import DataError


def to_probabilities(log_odds: ArrayLike, temperature: float = 1.0) -> NDArray[Any]:
    """Probabilities of "ill" from log-odds divided by a temperature; above 1 it moves them towards one half."""
    if not temperature > 0:
        raise DataError(f"a temperature is above 0, not {temperature}")
    return np.asarray(expit(np.asarray(log_odds, dtype=np.float64) / temperature))


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


def fit_temperature(log_odds: ArrayLike, labels: ArrayLike) -> float:
    """The temperature with the lowest cross-entropy, from 0.02 to 50 (Guo et al. 2017). Fit it on the validation set.

    It is at an end of its range where scores separate the classes or tell nothing. Errors are as in `clinical_scores`.
    """
    values, truth = check_scores(log_odds, labels, both_classes=True)
    signed = np.where(truth == 1, values, -values)  # log-odds of the true class
    loss, bounds = lambda log_t: np.logaddexp(0, -signed / np.exp(log_t)).mean(), np.log([0.02, 50])
    return float(np.exp(minimize_scalar(loss, bounds=bounds, options={"xatol": 1e-6}).x))
