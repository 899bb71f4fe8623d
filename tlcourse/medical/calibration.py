"""Calibration of predicted probabilities, and temperature scaling."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tlcourse.medical.clinical import check_scores
from tlhelpers.errors import DataError


def to_probabilities(log_odds: ArrayLike, temperature: float = 1.0) -> NDArray[Any]:
    """Probabilities of "ill" from log-odds divided by a temperature; above 1 it moves them towards one half."""
    from scipy.special import expit

    if not temperature > 0:
        raise DataError(f"a temperature is above 0, not {temperature}")
    return np.asarray(expit(np.asarray(log_odds, dtype=np.float64) / temperature))


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error of the probability of "ill" (Naeini et al. 2015).

    It is the mean over images of the distance, in their bin, between mean probability and fraction of ill. With few
    images it is above zero by chance alone. Errors are those of `calibration_table`.
    """
    table = calibration_table(probabilities, labels, bins=bins)
    return float(np.average((table["predicted"] - table["observed"]).abs(), weights=table["images"]))


def calibration_table(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> pd.DataFrame:
    """Images, predicted (mean probability) and observed (fraction of ill) of each bin, equally wide, that is not empty.

    Raises DataError as in `clinical_scores`, or if a probability is not between 0 and 1.
    """
    values, truth = check_scores(probabilities, labels)
    if values.min() < 0 or values.max() > 1:
        raise DataError(f"probabilities are from 0 to 1, found {values.min():.3g} to {values.max():.3g}; log-odds?")
    # A value on an edge belongs to the bin above it, as in torchmetrics.
    number = np.searchsorted(np.linspace(0, 1, bins + 1), values, side="right")
    groups = pd.DataFrame({"value": values, "ill": truth}).groupby(number)
    return groups.agg(images=("ill", "size"), predicted=("value", "mean"), observed=("ill", "mean"))


def fit_temperature(log_odds: ArrayLike, labels: ArrayLike) -> float:
    """The temperature with the lowest cross-entropy, from 0.02 to 50 (Guo et al. 2017). Fit it on the validation set.

    Dividing log-odds by it keeps the order of the images, and so the AUC. It lies at an end of its range where scores
    separate the classes without error, or carry no information. Raises DataError as in `clinical_scores`.
    """
    from scipy.optimize import minimize_scalar

    values, truth = check_scores(log_odds, labels, both_classes=True)
    signed = np.where(truth == 1, values, -values)  # log-odds of the true class
    bounds, options = (np.log(0.02), np.log(50)), {"xatol": 1e-6}
    found = minimize_scalar(
        lambda log_t: np.logaddexp(0, -signed / np.exp(log_t)).mean(), bounds=bounds, options=options
    )
    return float(np.exp(found.x))
