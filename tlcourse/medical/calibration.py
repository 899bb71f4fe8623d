"""Whether probabilities mean what they say, and one number that makes them do so better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from tlcourse.medical.clinical import checked
from tlhelpers.errors import DataError

TEMPERATURES = (0.02, 50.0)  # between which a temperature is sought


def to_probabilities(log_odds: ArrayLike, temperature: float = 1.0) -> NDArray[Any]:
    """Probabilities of "ill" from log-odds, divided by a temperature; above 1 it makes them more modest."""
    from scipy.special import expit

    if not temperature > 0:
        raise DataError(f"a temperature is above 0, not {temperature}")
    return np.asarray(expit(np.asarray(log_odds, dtype=np.float64) / temperature))


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error of the probability of "ill" (Naeini et al. 2015; computed by torchmetrics).

    The images are put into bins of equal width by their probability. The error is the mean over images of the
    distance, in its bin, of the mean probability from the share that is ill. With few images it is above zero by
    chance alone.

    Args:
        probabilities: (images,) of being ill, from 0 to 1.
        labels: (images,) 1 for ill, 0 for not.
        bins: how many.

    Raises:
        DataError: as in `clinical_scores`, or if a probability is not between 0 and 1.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    values, truth = _checked_probabilities(probabilities, labels)
    # float64 is as exact as it gets; float32 would put values that lie on an edge into another bin
    return float(binary_calibration_error(torch.from_numpy(values), torch.from_numpy(truth), n_bins=bins, norm="l1"))


def calibration_table(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> pd.DataFrame:
    """For each bin that is not empty: images, mean probability ("said"), share that is ill ("found").

    Raises:
        DataError: as in `calibration_error`.
    """
    values, truth = _checked_probabilities(probabilities, labels)
    # As torchmetrics has them: a value on an edge belongs to the bin above it.
    number = np.searchsorted(np.linspace(0, 1, bins + 1), values, side="right") - 1
    table = pd.DataFrame({"bin": number, "said": values, "found": truth})
    return table.groupby("bin").agg(images=("said", "size"), said=("said", "mean"), found=("found", "mean"))


def fit_temperature(log_odds: ArrayLike, labels: ArrayLike) -> float:
    """The temperature with the least cross-entropy (Guo et al. 2017). Fit it on the validation set.

    It leaves the order of the images as it is, so AUC, and which images a fitting threshold calls ill, stay.

    Args:
        log_odds: (images,) of being ill: of two logits, the second minus the first.
        labels: (images,) 1 for ill, 0 for not; both occur.

    Returns:
        the number that log-odds are to be divided by, from 0.02 to 50; at an end of that range when the classes are
        told apart without a mistake, or when the scores say nothing.

    Raises:
        DataError: as in `clinical_scores`.
    """
    from scipy.optimize import minimize_scalar

    values, truth = checked(log_odds, labels)
    if truth.min() == truth.max():
        raise DataError(f"all {len(truth)} labels are {truth[0]}: a temperature needs both classes")
    signed = np.where(truth == 1, values, -values)  # the log-odds of what is true

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -signed / np.exp(log_temperature)).mean())

    bounds = (float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[1])))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def _checked_probabilities(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    values, truth = checked(probabilities, labels)
    if values.min() < 0 or values.max() > 1:
        raise DataError(
            f"probabilities are from 0 to 1, found {values.min():.3g} to {values.max():.3g}: are these log-odds?"
        )
    return values, truth
