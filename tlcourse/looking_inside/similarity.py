"""Features in numbers: linear probes, similarity of two layers, orientation of filters."""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlhelpers.errors import DataError

Features = torch.Tensor | np.ndarray[Any, Any]


def linear_probe(train: Features, train_labels: Features, test: Features, test_labels: Features) -> float:
    """Test accuracy of a linear classifier on fixed features (images, features) with labels (images,).

    It is scikit-learn's logistic regression with C = 0.1 on standardised features (Alain and Bengio, 2016). Raises
    DataError if shapes do not fit or a feature is not finite.
    """
    x, y, x_test, y_test = (_array(given) for given in (train, train_labels, test, test_labels))
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    try:
        return float(probe.fit(x, y).score(x_test, y_test))
    except ValueError as error:  # scikit-learn has looked at shapes and for NaN
        raise DataError(f"a linear probe cannot be fitted and tested on these features: {error}") from error


def linear_cka(a: Features, b: Features) -> float:
    """Similarity of two sets of features (images, features) of the same images: linear centred kernel alignment.

    1 means the same up to rotation, scale and shift (Kornblith et al., 2019); the debiased estimator of Song et al.
    (2012), used here, is about 0 for unrelated features, even where images are few and features many. Raises DataError
    if the numbers of images differ, there are fewer than 4, or all features are constant.
    """
    if len(a) != len(b) or len(a) < 4:
        raise DataError(f"linear_cka needs the same images twice, 4 or more; got {len(a)} and {len(b)}")
    k, m = _kernel(a), _kernel(b)
    norms = _unbiased_hsic(k, k), _unbiased_hsic(m, m)
    if min(norms) <= 1e-12:
        raise DataError("linear_cka needs features that differ between images; in one of the two all are constant")
    return float(_unbiased_hsic(k, m) / np.sqrt(norms[0] * norms[1]))


def _kernel(features: Features) -> np.ndarray[Any, Any]:
    """Inner products of the centred features, (images, images), scaled to a mean square of 1."""
    flat = _array(features).astype(np.float64).reshape(len(features), -1)
    largest = np.abs(flat).max(initial=0)
    flat = flat - flat.mean(axis=0)
    products = flat @ flat.T
    size = np.sqrt(np.mean(products**2))
    # Rounding leaves a trace of features that are constant but not zero.
    return products / size if size > 1e-12 * largest**2 * flat.shape[1] else np.zeros_like(products)


def _unbiased_hsic(k: np.ndarray[Any, Any], m: np.ndarray[Any, Any]) -> float:
    """Equation 5 of Song et al. (2012), "Feature Selection via Dependence Maximization"."""
    n = len(k)
    k, m = (kernel * (1 - np.eye(n)) for kernel in (k, m))
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float((np.sum(k * m) + sums - 2 / (n - 2) * float(k.sum(axis=0) @ m.sum(axis=0))) / (n * (n - 3)))


def orientation_selectivity(filters: Features) -> np.ndarray[Any, Any]:
    """How much each filter prefers one orientation, (filters,): 0 for a blob or a ring, 1 for a perfect grating.

    This is 1 - circular variance of the Fourier energy over orientations (Ringach et al., 2002), summed over channels.
    `filters` is (filters, channels, height, width), as `conv1.weight`.
    """
    weights = _array(filters).astype(np.float64)
    weights = weights - weights.mean(axis=(2, 3), keepdims=True)  # a constant has no orientation
    energy = (np.abs(np.fft.fft2(weights, s=(32, 32))) ** 2).sum(axis=1)
    frequency = np.fft.fftfreq(32)[None, :] + 1j * np.fft.fftfreq(32)[:, None]
    energy = np.where(np.abs(frequency) < 0.5, energy, 0)  # the square's corners would favour diagonals
    doubled = np.exp(2j * np.angle(frequency))  # opposite directions are one orientation
    total = energy.sum(axis=(1, 2))
    return np.asarray(np.abs((energy * doubled).sum(axis=(1, 2))) / np.maximum(total, np.finfo(float).tiny))


def _array(values: Features) -> np.ndarray[Any, Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
