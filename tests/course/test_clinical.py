"""Clinical scores against values worked out by hand, and against other implementations."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error
from toy import refused

import tlhelpers as tl
from tlcourse.medical.calibration import calibration_error, calibration_table, to_probabilities
from tlcourse.medical.clinical import clinical_scores, patient_bootstrap, subgroup_table, threshold_for

SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.8, 0.9])
LABELS = np.array([0, 0, 1, 1, 0, 1])


def many(count=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return rng.normal(labels, 1.0), labels


def mean(scores, _):
    return {"mean": float(scores.mean())}


def test_scores_by_hand():
    found = clinical_scores(SCORES, LABELS, 0.8)
    for name in ("sensitivity", "specificity", "balanced accuracy", "accuracy"):
        assert found[name] == pytest.approx(2 / 3), name  # 0.8 counts as ill, 0.35 is missed
    assert found["AUC"] == pytest.approx((1 + 2.5 + 3) / 9)  # equal scores count one half
    assert found["average precision"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)  # precision where each is found
    assert found["prevalence"] == 0.5
    assert clinical_scores(SCORES, LABELS, 0.36)["specificity"] == pytest.approx(1 / 3)
    always = clinical_scores(np.ones(10), [1] * 7 + [0] * 3, 0.5)
    assert (always["accuracy"], always["sensitivity"], always["specificity"]) == (0.7, 1.0, 0.0)
    assert always["balanced accuracy"] == always["AUC"] == 0.5


@pytest.mark.parametrize("needed", [0.01, 0.5, 0.9, 0.95, 1.0])
def test_threshold_is_the_highest_that_does_it(needed):
    scores, labels = many(200)
    at = threshold_for(scores, labels, sensitivity=needed)
    assert clinical_scores(scores, labels, at)["sensitivity"] >= needed
    assert clinical_scores(scores, labels, np.nextafter(at, np.inf))["sensitivity"] < needed


def test_threshold_is_not_led_astray_by_rounding():
    assert threshold_for(np.arange(20), np.ones(20), sensitivity=0.95) == 1.0  # 19 of 20
    assert threshold_for(np.arange(10) / 10, [1] * 10, sensitivity=0.7) == 0.3  # 0.7 * 10 is above 7 in floats
    refused(tl.DataError, "a fraction", threshold_for, SCORES, LABELS, sensitivity=95)
    refused(tl.DataError, "nobody is ill", threshold_for, SCORES, np.zeros(6), sensitivity=0.9)


def test_the_bootstrap_draws_whole_patients():
    patients = np.repeat(["a", "b", "c", "d"], [1, 2, 3, 4])
    scores, labels = np.arange(10.0), np.repeat([0, 1, 0, 1], [1, 2, 3, 4])
    seen = []

    def watch(drawn, truth):
        counts = np.bincount(drawn.astype(int), minlength=10)
        assert all(len(set(counts[patients == name])) == 1 for name in "abcd"), "a patient was divided"
        assert (labels[drawn.astype(int)] == truth).all()
        assert set(truth) == {0, 1}
        seen.append(counts[[0, 1, 3, 6]])
        return {"n": float(len(drawn))}

    patient_bootstrap(watch, scores, labels, patients, repeats=200)
    assert all(counts.sum() == 4 for counts in seen), "as many patients as there are"
    assert max(counts.max() for counts in seen) >= 3, "with replacement"


def test_interval_covers_as_often_as_it_says():
    covered, labels, patients = [], np.tile([0, 1, 1], 50), np.repeat(range(50), 3)
    for seed in range(120):
        values = np.repeat(np.random.default_rng(seed).random(50) < 0.3, 3)  # all images of a patient alike
        table = patient_bootstrap(mean, values, labels, patients, repeats=200)
        covered.append(table.loc["mean", "low"] <= 0.3 <= table.loc["mean", "high"])
    assert 0.86 <= np.mean(covered) <= 0.99  # by image it would be near 0.74
    assert table.equals(patient_bootstrap(mean, values, labels, patients, repeats=200)), "the same seed"


def test_subgroups_are_compared_with_all_others_of_the_other_class():
    table = subgroup_table(SCORES, LABELS, ["none", "none", "viral", "bacterial", "none", "bacterial"], 0.5)
    assert list(table.columns) == ["images", "ill", "sensitivity", "specificity", "AUC"]
    assert table.loc["none"].fillna(-1).tolist() == pytest.approx([3, 0, -1, 2 / 3, 6.5 / 9])
    assert table.loc["viral"].fillna(-1).tolist() == pytest.approx([1, 1, 0, -1, 1 / 3])
    assert table.loc["bacterial"].fillna(-1).tolist() == pytest.approx([2, 2, 1, -1, 5.5 / 6])
    mixed = subgroup_table(SCORES, LABELS, ["a", "a", "a", "b", "b", "b"], 0.5)
    assert mixed.loc["a", "AUC"] == 0.5, "a subgroup with both classes is scored alone"


def test_calibration_error_by_hand():
    probabilities, labels = [0.15, 0.15, 0.85, 0.85], [0, 1, 1, 1]
    assert calibration_error(probabilities, labels) == pytest.approx((2 * 0.35 + 2 * 0.15) / 4)
    table = calibration_table(probabilities, labels)
    assert table.to_dict("list") == {"images": [2, 2], "predicted": [0.15, 0.85], "observed": [0.5, 1.0]}
    assert calibration_error([0.0, 1.0], [0, 1]) == 0
    assert calibration_error([0.0, 1.0], [1, 0]) == 1


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_calibration_error_agrees_with_torchmetrics(bins):
    scores, labels = many()
    probabilities = np.append(to_probabilities(scores), [0.0, 0.2, 0.5, 1.0])  # on edges too
    labels = np.append(labels, [0, 1, 0, 1])
    expected = binary_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), n_bins=bins)
    assert calibration_error(probabilities, labels, bins=bins) == pytest.approx(float(expected), abs=1e-6)


def test_probabilities_do_not_overflow():
    assert to_probabilities([-1e9, 0.0, 1e9]).tolist() == [0.0, 0.5, 1.0]
