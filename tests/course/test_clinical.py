"""Clinical numbers against values worked out by hand, and against those who compute them otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

import tlhelpers as tl
from tlcourse.medical.calibration import calibration_error, calibration_table, fit_temperature, to_probabilities
from tlcourse.medical.clinical import clinical_scores, patient_bootstrap, subgroup_table, threshold_for
from tlcourse.medical.pointing_game import pointing_game

SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.8, 0.9])
LABELS = np.array([0, 0, 1, 1, 0, 1])


def many(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return rng.normal(labels, 1.0), labels


def test_scores_by_hand() -> None:
    found = clinical_scores(SCORES, LABELS, 0.8)
    assert found["sensitivity"] == pytest.approx(2 / 3)  # 0.8 counts as ill, 0.35 is missed
    assert found["specificity"] == pytest.approx(2 / 3)  # the well one at 0.8 is called ill
    assert found["balanced accuracy"] == pytest.approx(2 / 3)
    assert found["AUC"] == pytest.approx((1 + 2.5 + 3) / 9)  # a tie counts one half
    assert found["prevalence"] == 0.5
    assert clinical_scores(SCORES, LABELS, 0.36)["sensitivity"] == pytest.approx(2 / 3)
    assert clinical_scores(SCORES, LABELS, 0.36)["specificity"] == pytest.approx(1 / 3)


def test_scores_agree_with_torchmetrics() -> None:
    scores, labels = many()
    found = clinical_scores(scores, labels, 0.5)
    # ranks are not changed by the sigmoid, which torchmetrics would apply to scores beyond 0 and 1
    squeezed, truth = torch.from_numpy(scores).sigmoid(), torch.from_numpy(labels)
    assert found["AUC"] == pytest.approx(float(binary_auroc(squeezed, truth)), abs=1e-6)
    assert found["average precision"] == pytest.approx(float(binary_average_precision(squeezed, truth)), abs=1e-6)


def test_always_ill_says_nothing() -> None:
    found = clinical_scores(np.ones(10), [1] * 7 + [0] * 3, 0.5)
    assert (found["accuracy"], found["sensitivity"], found["specificity"]) == (0.7, 1.0, 0.0)
    assert found["balanced accuracy"] == found["AUC"] == 0.5


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.1, 0.2], [0], "shapes"),
        ([[0.1, 0.9]], [[0, 1]], "take that of the ill"),
        ([0.1, np.nan], [0, 1], "1 of 2 scores are not finite"),
        ([0.1, 0.2], [0, 2], r"labels should be 0 or 1, found \[2\]"),
        ([0.1, 0.2], [1, 1], "all 2 labels are 1"),
        ([], [], "shapes"),
    ],
)
def test_what_cannot_be_scored(scores: Any, labels: Any, expected: str) -> None:
    with pytest.raises(tl.DataError, match=expected):
        clinical_scores(scores, labels, 0.5)


@pytest.mark.parametrize("needed", [0.01, 0.5, 0.9, 0.95, 1.0])
def test_threshold_is_the_highest_that_does_it(needed: float) -> None:
    scores, labels = many(200)
    at = threshold_for(scores, labels, sensitivity=needed)
    assert clinical_scores(scores, labels, at)["sensitivity"] >= needed
    assert clinical_scores(scores, labels, np.nextafter(at, np.inf))["sensitivity"] < needed


def test_threshold_is_not_led_astray_by_rounding() -> None:
    assert threshold_for(np.arange(20), np.ones(20), sensitivity=0.95) == 1.0  # 19 of 20
    assert threshold_for(np.arange(10) / 10, [1] * 10, sensitivity=0.7) == 0.3  # 0.7 * 10 is above 7 in floats
    with pytest.raises(tl.DataError, match="give a fraction"):
        threshold_for(SCORES, LABELS, sensitivity=95)
    with pytest.raises(tl.DataError, match="nobody is ill"):
        threshold_for(SCORES, np.zeros(6), sensitivity=0.9)


def test_patients_are_drawn_whole() -> None:
    patients = np.repeat(["a", "b", "c", "d"], [1, 2, 3, 4])
    scores, labels = np.arange(10.0), np.repeat([0, 1, 0, 1], [1, 2, 3, 4])
    seen = []

    def watch(drawn: Any, truth: Any) -> dict[str, float]:
        counts = np.bincount(drawn.astype(int), minlength=10)
        for name in np.unique(patients):
            assert len(set(counts[patients == name])) == 1, "a patient was divided"
        assert (labels[drawn.astype(int)] == truth).all()
        assert set(truth) == {0, 1}
        seen.append(tuple(counts[[0, 1, 3, 6]]))
        return {"n": float(len(drawn))}

    patient_bootstrap(watch, scores, labels, patients, repeats=200)
    assert all(sum(counts) == 4 for counts in seen)  # as many patients as there are
    assert max(max(counts) for counts in seen) >= 3  # with replacement


def test_interval_is_wider_by_patient_than_by_image() -> None:
    scores, labels = many(60, seed=1)
    scores, labels, patients = (np.repeat(values, 6) for values in (scores, labels, np.arange(60)))

    def auc(x: Any, y: Any) -> dict[str, float]:
        return {"AUC": clinical_scores(x, y, 0.5)["AUC"]}

    wide = patient_bootstrap(auc, scores, labels, patients, repeats=300).loc["AUC"]
    narrow = patient_bootstrap(auc, scores, labels, np.arange(360), repeats=300).loc["AUC"]
    assert wide["low"] < wide["value"] < wide["high"]
    assert 1.8 < (wide["high"] - wide["low"]) / (narrow["high"] - narrow["low"]) < 3.2  # the root of 6 is 2.4
    assert wide.equals(patient_bootstrap(auc, scores, labels, patients, repeats=300).loc["AUC"])


def test_interval_covers_as_often_as_it_says() -> None:
    truth = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        shares = np.repeat(rng.random(50) < 0.3, 3)  # all images of a patient alike
        table = patient_bootstrap(
            lambda x, y: {"mean": float(x.mean())}, shares, np.tile([0, 1, 1], 50), np.repeat(range(50), 3), repeats=200
        )
        truth.append(bool(table.loc["mean", "low"] <= 0.3 <= table.loc["mean", "high"]))
    assert 0.86 <= np.mean(truth) <= 0.99  # by image it would be near 0.74


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(tl.DataError, match="1 patients with 2 classes"):
        patient_bootstrap(lambda x, y: {}, SCORES, LABELS, ["a"] * 6)
    with pytest.raises(tl.DataError, match="6 scores, but 2 names"):
        patient_bootstrap(lambda x, y: {}, SCORES, LABELS, ["a", "b"])


def test_subgroups_are_compared_with_all_others_of_the_other_class() -> None:
    table = subgroup_table(SCORES, LABELS, ["none", "none", "viral", "bacterial", "none", "bacterial"], 0.5)
    assert table["images"].to_dict() == {"none": 3, "viral": 1, "bacterial": 2}
    assert table["ill"].to_dict() == {"none": 0, "viral": 1, "bacterial": 2}
    assert table["sensitivity"].fillna(-1).to_dict() == {"none": -1, "viral": 0, "bacterial": 1}
    assert table["specificity"].fillna(-1).to_dict() == {"none": pytest.approx(2 / 3), "viral": -1, "bacterial": -1}
    assert table.loc["viral", "AUC"] == pytest.approx(1 / 3)
    assert table.loc["bacterial", "AUC"] == pytest.approx((2.5 + 3) / 6)
    mixed = subgroup_table(SCORES, LABELS, ["a", "a", "a", "b", "b", "b"], 0.5)
    assert mixed.loc["a", "AUC"] == 0.5  # within the group alone


# --- calibration ------------------------------------------------------------------------------------------------


def test_calibration_error_by_hand() -> None:
    probabilities, labels = [0.15, 0.15, 0.85, 0.85], [0, 1, 1, 1]
    assert calibration_error(probabilities, labels) == pytest.approx((2 * 0.35 + 2 * 0.15) / 4)
    table = calibration_table(probabilities, labels)
    assert table.to_dict("list") == {"images": [2, 2], "said": [0.15, 0.85], "found": [0.5, 1.0]}
    assert calibration_error([0.0, 1.0], [0, 1]) == 0
    assert calibration_error([0.0, 1.0], [1, 0]) == 1
    with pytest.raises(tl.DataError, match="are these log-odds"):
        calibration_error([-2.0, 3.0], [0, 1])


def test_the_error_follows_from_the_table() -> None:
    scores, labels = many()
    probabilities = to_probabilities(scores)
    table = calibration_table(probabilities, labels)
    gap = (table["images"] * (table["said"] - table["found"]).abs()).sum() / len(labels)
    assert calibration_error(probabilities, labels) == pytest.approx(gap, abs=1e-6)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(true: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, 20000)
    labels = (rng.random(20000) < to_probabilities(honest)).astype(int)
    found = fit_temperature(true * honest, labels)
    assert found == pytest.approx(true, rel=0.05)
    assert calibration_error(to_probabilities(true * honest, found), labels) < 0.015


def test_temperature_at_the_ends() -> None:
    assert fit_temperature([-1, -2, 1, 2], [0, 0, 1, 1]) == pytest.approx(0.02, rel=0.01)  # no mistake at all
    assert fit_temperature([-1, -2, 1, 2], [1, 1, 0, 0]) == pytest.approx(50, rel=0.01)  # worse than nothing
    with pytest.raises(tl.DataError, match="needs both classes"):
        fit_temperature([1, 2], [1, 1])
    with pytest.raises(tl.DataError, match="above 0, not -1"):
        to_probabilities([1.0], -1)


def test_probabilities_do_not_overflow() -> None:
    assert to_probabilities([-1e9, 0.0, 1e9]).tolist() == [0.0, 0.5, 1.0]
    assert to_probabilities([2.0], 2.0)[0] == pytest.approx(1 / (1 + np.exp(-1)))


# --- heat maps --------------------------------------------------------------------------------------------------


def region() -> np.ndarray:
    mask = np.zeros((8, 8), dtype=bool)
    mask[1:3, 1:5] = True  # 8 of 64 pixels
    return mask


def test_heat_on_the_mask_and_beside_it() -> None:
    mask = region()
    assert pointing_game(mask.astype(float), mask) == (True, 1.0, 1.0, 0.125)
    assert pointing_game(1.0 - mask, mask) == (False, 0.0, 0.0, 0.125)
    half = np.zeros((8, 8))
    half[1:3, 3:7] = 1
    half[2, 6] = 2  # the hottest is outside
    assert pointing_game(half, mask) == (False, 0.5, pytest.approx(4 / 12), 0.125)
    assert pointing_game(half, mask, share=1 / 64) == (False, 0.0, 0.0, 0.125)
    assert pointing_game(half, mask, share=1.0) == (False, 0.125, 0.125, 0.125)


def test_a_map_that_is_the_same_everywhere_points_nowhere() -> None:
    mask = region()
    mask[0, 0] = True  # the first pixel, which argmax would take
    assert pointing_game(np.zeros((8, 8)), mask)[:3] == (False, 0.0, 0.0)
    assert pointing_game(np.ones((8, 8)), mask, share=0.5)[:3] == (False, 0.0, 0.0)


def test_a_map_at_random_hits_as_often_as_chance() -> None:
    rng = np.random.default_rng(0)
    scores = [pointing_game(rng.random((8, 8)), region()) for _ in range(2000)]
    assert np.mean([score.hit for score in scores]) == pytest.approx(0.125, abs=0.03)
    assert np.mean([score.overlap for score in scores]) == pytest.approx(0.125, abs=0.02)


@pytest.mark.parametrize(
    ("heat", "mask", "share", "expected"),
    [
        (np.ones((4, 4)), np.ones((8, 8)), None, r"\(4, 4\) and \(8, 8\)"),
        (np.ones((8, 8)), np.zeros((8, 8)), None, "the mask is empty"),
        (np.full((8, 8), np.nan), np.ones((8, 8)), None, "not finite"),
        (np.eye(8), np.ones((8, 8)), 5, "not 5"),
    ],
)
def test_heat_that_cannot_be_scored(heat: Any, mask: Any, share: Any, expected: str) -> None:
    with pytest.raises(tl.DataError, match=expected):
        pointing_game(heat, mask, share=share)
