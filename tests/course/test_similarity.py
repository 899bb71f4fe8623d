"""Probes, CKA and selectivity, against what can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

import tlcourse as tc
import tlhelpers as tl

RNG = np.random.default_rng(0)
BOTH = pytest.mark.parametrize("debiased", [True, False])


# --- linear CKA -------------------------------------------------------------------------------------------------


def test_cka_by_hand() -> None:
    a = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    b = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    # Kornblith et al.: |B'A|^2 / (|A'A| |B'B|), all columns centred. A'A = 4; B'B = diag(2, 8); B'A = (2, 4).
    expected = (2**2 + 4**2) / (4 * np.sqrt(2**2 + 8**2))
    assert tc.linear_cka(a, b, debiased=False) == pytest.approx(expected)


def test_debiased_cka_agrees_with_the_mean_over_quadruples() -> None:
    """Song et al. define the estimator as a mean over all ordered choices of 4 different images."""
    from itertools import permutations

    a, b = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))

    def slow(k: np.ndarray, m: np.ndarray) -> float:
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(6), 4)]
        return float(np.mean(terms))

    kernels = [(x - x.mean(0)) @ (x - x.mean(0)).T for x in (a, b)]
    expected = slow(*kernels) / np.sqrt(slow(kernels[0], kernels[0]) * slow(kernels[1], kernels[1]))
    assert tc.linear_cka(a, b) == pytest.approx(expected)


@BOTH
def test_cka_ignores_rotation_scale_and_shift_and_nothing_else(debiased: bool) -> None:
    a, b = RNG.normal(size=(30, 8)), RNG.normal(size=(30, 5))
    b[:, :3] += a[:, :3]
    rotation, _ = np.linalg.qr(RNG.normal(size=(8, 8)))
    value = tc.linear_cka(a, b, debiased=debiased)
    assert 0.1 < value < 0.9
    assert tc.linear_cka(3 * a @ rotation + 5, b, debiased=debiased) == pytest.approx(value)
    assert tc.linear_cka(b, a, debiased=debiased) == pytest.approx(value)
    assert tc.linear_cka(a, 3 * a @ rotation + 5, debiased=debiased) == pytest.approx(1)
    order = RNG.permutation(30)
    assert tc.linear_cka(a[order], b[order], debiased=debiased) == pytest.approx(value)
    assert abs(tc.linear_cka(a[order], b, debiased=debiased) - value) > 0.05  # other images beside each other
    stretched = a * np.array([10, *[1] * 7])  # not a rotation: Kornblith et al. want this to count
    assert abs(tc.linear_cka(stretched, a, debiased=debiased) - 1) > 0.05


def test_unrelated_features_look_alike_only_with_the_bias() -> None:
    pairs = [(RNG.normal(size=(40, 400)), RNG.normal(size=(40, 400))) for _ in range(5)]
    assert min(tc.linear_cka(a, b, debiased=False) for a, b in pairs) > 0.8
    assert abs(np.mean([tc.linear_cka(a, b) for a, b in pairs])) < 0.05


@BOTH
def test_what_cannot_be_compared_is_refused(debiased: bool) -> None:
    a = RNG.normal(size=(6, 3))
    with pytest.raises(tl.DataError, match="the same images twice, 4 or more; got 6 and 5"):
        tc.linear_cka(a, a[:5], debiased=debiased)
    with pytest.raises(tl.DataError, match="all are constant"):
        tc.linear_cka(a, np.full((6, 2), 1e6 / 3), debiased=debiased)


# --- probes -----------------------------------------------------------------------------------------------------


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three kinds of points, apart from each other in the first two of six features."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    points = rng.normal(size=(count, 6))
    points[:, :2] += 6 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    return points, labels


def test_a_probe_finds_what_is_there_and_nothing_that_is_not() -> None:
    (x, y), (x_test, y_test) = blobs(90, 0), blobs(300, 1)
    assert tc.linear_probe(x, y, x_test, y_test) > 0.97
    assert tc.linear_probe(x[:, 2:], y, x_test[:, 2:], y_test) < 0.5  # only noise is left: about a third
    assert tc.linear_probe(x, y, x_test, (y_test + 1) % 3) < 0.03


def test_a_probe_ignores_each_features_scale() -> None:
    (x, y), (x_test, y_test) = blobs(60, 0), blobs(60, 1)
    x[:, 2:] *= 3  # so that something is lost without standardising
    scale = np.array([1e-3, 1e3, 1, 1e4, 1, 1])
    assert tc.linear_probe(x * scale, y, x_test * scale, y_test) == tc.linear_probe(x, y, x_test, y_test)


def test_a_probe_refuses_what_does_not_fit() -> None:
    x, y = blobs(30, 0)
    with pytest.raises(tl.DataError, match="with 29 labels"):
        tc.linear_probe(x, y[:29], x, y)
    with pytest.raises(tl.DataError, match="as many features in both parts"):
        tc.linear_probe(x, y, x[:, :3], y)
    x[3, 2] = np.nan
    with pytest.raises(tl.DataError, match="finite"):
        tc.linear_probe(x, y, blobs(30, 1)[0], y)


# --- filters and channels ---------------------------------------------------------------------------------------


def grating(angle: float, side: int = 7) -> np.ndarray:
    down, across = np.mgrid[:side, :side] - side // 2
    wave = np.cos(2 * np.pi * 0.25 * (across * np.cos(angle) + down * np.sin(angle)))
    return wave * np.exp(-(down**2 + across**2) / 8)


def test_selectivity_of_stripes_is_high_whatever_their_direction_and_of_blobs_low() -> None:
    down, across = np.mgrid[:7, :7] - 3
    blob = np.exp(-(down**2 + across**2) / 4.0)
    stripes = np.stack([grating(angle) for angle in np.linspace(0, np.pi, 8)])
    found = tc.orientation_selectivity(np.stack([stripes] * 3, axis=1))
    assert found.min() > 0.8
    assert np.ptp(found) < 0.1  # a square grid hardly prefers a direction
    assert tc.orientation_selectivity(blob[None, None])[0] < 0.02
    cross = grating(0) + grating(np.pi / 2)
    assert tc.orientation_selectivity(cross[None, None])[0] < 0.02  # two directions are none
    assert tc.orientation_selectivity(np.zeros((1, 3, 7, 7)))[0] == 0
    assert tc.orientation_selectivity(1e-6 * stripes[:, None]) == pytest.approx(found)


def test_agreement_counts_the_commonest_class_of_the_strongest() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    values = np.array([[9, 0, 1], [8, 1, 1], [7, 9, 1], [0, 8, 1], [1, 2, 1], [2, 7, 1.0]])
    found = tc.class_agreement(values, labels, top=3)
    assert found[:2] == pytest.approx([2 / 3, 2 / 3])
    assert np.isnan(found[2])  # a dead channel has no strongest image
    assert tc.class_agreement(values[:, :1], labels, top=2) == pytest.approx([1.0])


def test_tensors_do_as_well_as_arrays() -> None:
    import torch

    (x, y), (x_test, y_test) = blobs(30, 0), blobs(30, 1)
    parts = [torch.from_numpy(part) for part in (x, y, x_test, y_test)]
    parts[0].requires_grad_()
    assert tc.linear_probe(*parts) == tc.linear_probe(x, y, x_test, y_test)
    assert tc.linear_cka(parts[0], parts[2]) == pytest.approx(tc.linear_cka(x, x_test))
    assert tc.class_agreement(parts[0], parts[1]).tolist() == tc.class_agreement(x, y).tolist()
    filters = torch.randn(2, 3, 7, 7)
    assert tc.orientation_selectivity(filters) == pytest.approx(tc.orientation_selectivity(filters.numpy()))
