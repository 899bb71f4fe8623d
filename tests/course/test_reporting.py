"""The report records every evaluation of the test set; the card says what it is not; figures show their tables."""

import numpy as np
import pandas as pd
import pytest
from toy import refused, toy_split

import tlcourse as tc
import tlhelpers as tl
from tlcourse.medical.report import NOT_A_DEVICE, ClinicalReport

PATIENTS = np.repeat(np.arange(20), 3)
LABELS = np.repeat(np.arange(20) % 2, 3)
LOG_ODDS = np.random.default_rng(0).normal(3 * LABELS - 1.5, 2.0)
TEXTS = {"intended use": "To teach.", "data": "Drawn chests, 20 of them.", "limits": "Drawings only."}


def evaluate(report, **options):
    return report.evaluate(LOG_ODDS, LABELS, PATIENTS, **{"threshold": 0.4, "repeats": 50, **options})


@pytest.fixture
def report():
    return ClinicalReport("toy network")


def test_the_first_evaluation_is_free_and_the_second_needs_a_reason(report):
    with pytest.raises(tl.DataError):
        report.evaluate(LOG_ODDS, np.ones(60), PATIENTS, threshold=0.5)
    assert str(report) == "toy network: the test set was not evaluated.", "an evaluation that failed does not count"
    first = evaluate(report)
    assert (first.reason, first.images, first.patients, first.prevalence) == ("planned", 60, 20, 0.5)
    assert "was evaluated once." in str(report)
    for reason in (None, "", "   ", "because", "just because"):
        refused(tc.ReportError, "evaluated already", evaluate, report, reason=reason)
    evaluate(report, reason="the threshold was mistyped", threshold=0.5)
    assert "evaluation 2, because: the threshold was mistyped" in str(report)
    assert "evaluated 2 times; results after the first are optimistic" in str(report)
    assert [evaluation.threshold for evaluation in report.evaluations] == [0.4, 0.5]


def test_an_evaluation_holds_the_scores_of_the_probabilities(report):
    found = evaluate(report, subgroups=["x", "y", "z"] * 20)
    probabilities = tc.to_probabilities(LOG_ODDS)
    scores = tc.clinical_scores(probabilities, LABELS, 0.4)
    assert list(found.table.index) == ["AUC", "average precision", "balanced accuracy", "sensitivity", "specificity"]
    for name, row in found.table.iterrows():
        assert row["value"] == pytest.approx(scores[str(name)])
        assert row["low"] <= row["value"] <= row["high"]
    assert found.calibration == pytest.approx(tc.calibration_error(probabilities, LABELS))
    assert found.subgroups["images"].to_dict() == {"x": 20, "y": 20, "z": 20}


def test_the_card_is_filled_from_the_report_and_has_no_gap(report):
    refused(tc.ReportError, "no evaluation of the test set yet", report.card, TEXTS)
    evaluate(report, subgroups=["x"] * 60)
    card = report.card(TEXTS)
    assert card.startswith("MODEL CARD: toy network")
    assert " ".join(NOT_A_DEVICE.split()) in " ".join(card.split())
    for text in ("Intended use\n  To teach.", "60 images of 20 patients, 50% of the images ill", "0.400"):
        assert text in card
    assert f"{report.evaluations[0].table.loc['AUC', 'value']:.3f}" in card
    assert all(len(line) <= 92 for line in card.splitlines())
    evaluate(report, reason="a reviewer wanted it")
    assert "a reviewer wanted it" in report.card(TEXTS)


def test_calibration_chart_draws_its_table():
    table = pd.DataFrame({"images": [10, 30], "predicted": [0.2, 0.9], "observed": [0.3, 0.7]})
    chart = tc.plots.calibration({"before": table, "after": table}, title="Validation set")
    above, below = chart.axes
    assert above.lines[1].get_xydata().tolist() == [[0.2, 0.3], [0.9, 0.7]]
    assert below.lines[0].get_ydata().tolist() == [10, 30]
    assert "before: 2 points, on average 18% off" in chart.alt  # (10 * 0.1 + 30 * 0.2) / 40, rounded


def test_worst_errors_are_the_farthest_from_the_threshold():
    split = toy_split(6, "val")  # labels 0, 1, 0, 1, 0, 1
    chart = tc.plots.worst_errors(split, [0.1, 0.15, 0.95, 0.9, 0.5, 0.21], 0.2, title="Errors")
    shown = [axis.get_title() for axis in chart.axes if axis.get_title()]
    # 0.95 uses 15/16 of its side, 0.5 3/8, 0.15 a quarter of its own
    assert shown == ["red\ncalled green (95%)", "red\ncalled green (50%)", "green\ncalled red (15%)"]
    assert "0 images" in tc.plots.worst_errors(split, [0, 1, 0, 1, 0, 1], 0.2, title="Errors").alt
