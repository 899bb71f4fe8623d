"""The report remembers every look at the test set; the card says what it is not; figures show what they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from toy import toy_split

import tlcourse as tc
import tlhelpers as tl
from tlcourse.medical.report import NOT_A_DEVICE, ClinicalReport
from tlhelpers import plots

PATIENTS = np.repeat(np.arange(20), 3)
LABELS = np.repeat(np.arange(20) % 2, 3)
LOG_ODDS = np.random.default_rng(0).normal(3 * LABELS - 1.5, 2.0)
TEXTS = {"intended use": "To teach.", "data": "Drawn chests, 20 of them.", "limits": "Drawings only."}


def look(report: ClinicalReport, **options: Any) -> Any:
    return report.evaluate(LOG_ODDS, LABELS, PATIENTS, **{"threshold": 0.4, "repeats": 50, **options})


def test_the_first_look_is_free_and_the_second_asks_for_a_reason() -> None:
    report = ClinicalReport("toy")
    assert str(report) == "toy: the test set was not evaluated."
    first = look(report)
    assert (first.number, first.reason, first.images, first.patients, first.prevalence) == (1, "planned", 60, 20, 0.5)
    assert "was evaluated once." in str(report)
    for reason in (None, "", "   ", "because", "just because"):
        with pytest.raises(tl.ReportError, match="evaluated once already"):
            look(report, reason=reason)
    assert len(report.looks) == 1
    second = look(report, reason="the threshold was mistyped", threshold=0.5)
    assert second.number == 2
    assert "look 2, because: the threshold was mistyped" in str(report)
    assert "evaluated twice; what follows the first is flattered" in str(report)
    with pytest.raises(tl.ReportError, match="evaluated twice already"):
        look(report)


def test_a_look_holds_what_the_parts_say() -> None:
    found = look(ClinicalReport("toy"), temperature=2.0, subgroups=["x", "y", "z"] * 20)
    probabilities = tc.to_probabilities(LOG_ODDS, 2.0)
    numbers = tc.clinical_scores(probabilities, LABELS, 0.4)
    assert list(found.table.index) == ["AUC", "average precision", "balanced accuracy", "sensitivity", "specificity"]
    for name, row in found.table.iterrows():
        assert row["value"] == pytest.approx(numbers[str(name)])
        assert row["low"] <= row["value"] <= row["high"]
    assert found.calibration == pytest.approx(tc.calibration_error(probabilities, LABELS))
    assert found.subgroups["images"].to_dict() == {"x": 20, "y": 20, "z": 20}


def test_a_failed_look_is_none() -> None:
    report = ClinicalReport("toy")
    with pytest.raises(tl.DataError):
        report.evaluate(LOG_ODDS, np.ones(60), PATIENTS, threshold=0.5)
    assert report.looks == []


def test_the_card_is_filled_from_the_report() -> None:
    report = ClinicalReport("toy network")
    with pytest.raises(tl.ReportError, match="no evaluation of the test set yet"):
        report.card(TEXTS)
    look(report, temperature=1.5, subgroups=["x"] * 60)
    card = report.card(TEXTS)
    assert card.startswith("MODEL CARD: toy network")
    assert " ".join(NOT_A_DEVICE.split()) in " ".join(card.split())
    for part in ("Intended use\n  To teach.", "60 images of 20 patients, 50% of the images ill", "0.400", "1.50"):
        assert part in card
    assert f"{report.looks[0].table.loc['AUC', 'value']:.3f}" in card
    assert all(len(line) <= 92 for line in card.splitlines())
    look(report, reason="a reviewer wanted it")
    assert "a reviewer wanted it" in report.card(TEXTS)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"limits": "  "}, "'limits' is missing or empty"),
        ({"data": ""}, "'data' is missing or empty"),
        ({"licence": "MIT"}, "no section 'licence'; a card has the sections intended use, data, limits"),
    ],
)
def test_a_card_with_gaps_is_refused(change: dict[str, str], expected: str) -> None:
    report = ClinicalReport("toy")
    look(report)
    with pytest.raises(tl.ReportError, match=expected):
        report.card({**TEXTS, **change})


def test_calibration_chart_draws_its_table() -> None:
    table = pd.DataFrame({"images": [10, 30], "said": [0.2, 0.9], "found": [0.3, 0.7]})
    chart = plots.calibration({"before": table, "after": table}, title="Validation set")
    above, below = chart.axes
    assert above.lines[1].get_xdata().tolist() == [0.2, 0.9]
    assert above.lines[1].get_ydata().tolist() == [0.3, 0.7]
    assert below.lines[0].get_ydata().tolist() == [10, 30]
    assert "before: 2 points, on average 18% off" in chart.alt  # (10 * 0.1 + 30 * 0.2) / 40, rounded


def test_worst_errors_are_the_farthest_from_the_threshold() -> None:
    split = toy_split(6, "val")  # labels 0, 1, 0, 1, 0, 1
    chart = plots.worst_errors(split, [0.1, 0.15, 0.95, 0.9, 0.5, 0.21], 0.2, title="Errors")
    shown = [axis.get_title() for axis in chart.axes if axis.get_title()]
    # 0.95 uses 15/16 of its side, 0.5 3/8, 0.15 a quarter of its own
    assert shown == ["red\ncalled green (95%)", "red\ncalled green (50%)", "green\ncalled red (15%)"]
    none = plots.worst_errors(split, [0, 1, 0, 1, 0, 1], 0.2, title="Errors")
    assert "0 images" in none.alt
