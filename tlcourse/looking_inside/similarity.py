"""What is in features, in numbers: a linear probe, the similarity of two layers, how oriented filters are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tlhelpers.errors import DataError

Features = torch.Tensor | np.ndarray[Any, Any]


def linear_probe(
    train: Features, train_labels: Features, test: Features, test_labels: Features, *, c: float = 0.1
) -> float:
    """How well a linear classifier on fixed features does: its accuracy on the test set.

    Features are standardised by the mean and standard deviation of the training set, then scikit-learn's
    logistic regression is fitted (Alain and Bengio, 2016, "Understanding intermediate layers using linear
    classifier probes").

    Args:
        train: (images, features).
        train_labels: (images,).
        test: (other images, features).
        test_labels: (other images,).
        c: 1 / strength of the L2 penalty.

    Raises:
        DataError: if shapes do not fit or a feature is not finite.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, x_test, y_test = (_array(part) for part in (train, train_labels, test, test_labels))
    if len(x) != len(y) or len(x_test) != len(y_test) or x.shape[1:] != x_test.shape[1:] or x.ndim != 2:
        raise DataError(
            "a probe needs features (images, features) and as many labels, with as many features in both parts; got "
            f"{x.shape} with {len(y)} labels and {x_test.shape} with {len(y_test)} labels"
        )
    if not (np.isfinite(x).all() and np.isfinite(x_test).all()):
        raise DataError("a probe needs finite features; some are not: look at the network's weights and its input")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
    return float(probe.fit(x, y).score(x_test, y_test))


def linear_cka(a: Features, b: Features, *, debiased: bool = True) -> float:
    """How alike two sets of features of the same images are: linear centred kernel alignment.

    1: the same up to rotation, scale and shift. It asks which images are near to which, so the two may have
    different numbers of features (Kornblith et al., 2019, "Similarity of Neural Network Representations Revisited").
    With few images and many features even unrelated features seem alike; `debiased` takes the estimator of Song et
    al. (2012), for which unrelated features score about 0, a little below it half of the time.

    Args:
        a: (images, features).
        b: (the same images, other features).
        debiased: False is the formula of Kornblith et al. as it stands in their paper, between 0 and 1.

    Raises:
        DataError: if the numbers of images differ, there are fewer than 4, or all features are constant.
    """
    kernels = [_kernel(part) for part in (a, b)]
    if len(kernels[0]) != len(kernels[1]) or len(kernels[0]) < 4:
        raise DataError(
            f"linear_cka needs the same images twice, 4 or more; got {len(kernels[0])} and {len(kernels[1])}"
        )
    hsic = _unbiased_hsic if debiased else _hsic
    norms = [hsic(kernel, kernel) for kernel in kernels]
    if min(norms) <= 1e-12:
        raise DataError("linear_cka needs features that differ between images; in one of the two all are constant")
    return float(hsic(*kernels) / np.sqrt(norms[0] * norms[1]))


def _kernel(features: Features) -> np.ndarray[Any, Any]:
    """Inner products of the centred features, (images, images), brought to a mean square of 1."""
    flat = _array(features).astype(np.float64).reshape(len(features), -1)
    largest = np.abs(flat).max(initial=0)
    flat = flat - flat.mean(axis=0)
    products = flat @ flat.T
    size = np.sqrt(np.mean(products**2))
    # Rounding leaves a trace of features that are constant but not zero.
    return products / size if size > 1e-12 * largest**2 * flat.shape[1] else np.zeros_like(products)


def _hsic(k: np.ndarray[Any, Any], m: np.ndarray[Any, Any]) -> float:
    return float(np.sum(k * m))


def _unbiased_hsic(k: np.ndarray[Any, Any], m: np.ndarray[Any, Any]) -> float:
    """Equation 5 of Song et al. (2012), "Feature Selection via Dependence Maximization"."""
    n = len(k)
    k, m = (kernel * (1 - np.eye(n)) for kernel in (k, m))
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    crossed = 2 / (n - 2) * float(k.sum(axis=0) @ m.sum(axis=0))
    return float((np.sum(k * m) + sums - crossed) / (n * (n - 3)))


def orientation_selectivity(filters: Features) -> np.ndarray[Any, Any]:
    """How much each filter prefers one orientation: 0 for a blob or a ring, 1 for a perfect grating.

    The filter's Fourier energy is added up as vectors of twice its direction, so that opposite directions are one
    (the measure of Ringach et al., 2002, for cells of the visual cortex: 1 - circular variance).

    Args:
        filters: (filters, channels, height, width), as `conv1.weight`; colours are added up.

    Returns:
        (filters,), between 0 and 1.
    """
    weights = _array(filters).astype(np.float64)
    weights = weights - weights.mean(axis=(2, 3), keepdims=True)  # a constant has no orientation
    energy = (np.abs(np.fft.fft2(weights, s=(32, 32))) ** 2).sum(axis=1)
    frequencies = np.fft.fftfreq(32)
    down, across = np.meshgrid(frequencies, frequencies, indexing="ij")
    # Corners of the square hold frequencies for diagonals only; within the circle all directions count alike.
    energy = np.where(np.hypot(down, across) < 0.5, energy, 0)
    turned = np.exp(2j * np.arctan2(down, across))
    total = energy.sum(axis=(1, 2))
    return np.asarray(np.abs((energy * turned).sum(axis=(1, 2))) / np.maximum(total, np.finfo(float).tiny))


def class_agreement(values: Features, labels: Features, *, top: int = 10) -> np.ndarray[Any, Any]:
    """For each channel: of the `top` images that it answers to most, the share that has their commonest class.

    Args:
        values: (images, channels), as from `channel_peaks`.
        labels: (images,), whole numbers from 0.
        top: images for each channel.

    Returns:
        (channels,), between 1 / top and 1; NaN for a channel that answers alike to all images.
    """
    scores, classes = _array(values), _array(labels)
    best = np.argsort(-scores, axis=0, kind="stable")[:top]
    shares = [np.bincount(classes[column]).max() / len(column) for column in best.T]
    return np.where(np.ptp(scores, axis=0) > 0, shares, np.nan)


def _array(values: Features) -> np.ndarray[Any, Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
