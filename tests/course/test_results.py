"""Results files are read into tables, and what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tlcourse as tc
import tlhelpers as tl
from tlhelpers import results

RUNS = [{"method": "a", "seed": seed, "test": 0.5 + 0.1 * seed} for seed in range(3)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one results file."""
    facts = {"command": "python tools/x.py", "machine": "Linux", "settings": {}, "runs": RUNS}
    (tmp_path / "x.json").write_text(json.dumps(facts), encoding="utf8")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return tmp_path


def test_mean_and_spread(folder: Path) -> None:
    found = tc.load_results("x")
    assert str(found) == "3 runs, measured by `python tools/x.py` on Linux"
    assert found.mean("test", method="a") == pytest.approx(0.6)
    assert found.spread("test", method="a") == "60.0 ± 10.0 %"
    assert found.mean("test", method="a", seed=2) == pytest.approx(0.7)


def test_what_is_missing_is_said(folder: Path) -> None:
    with pytest.raises(tl.DataError, match=r"no run with \{'way': 'b'\}; `python tools/x.py` measures"):
        tc.load_results("x").mean("test", method="b")
    with pytest.raises(tl.DataError, match=r"no results named 'y' .* there are: x"):
        tc.load_results("y")


def test_figures_say_what_they_show() -> None:
    import pandas as pd

    table = pd.DataFrame([{**run, "lr": lr} for run in RUNS for lr in (0.1, 1.0)])
    chart = tc.plots.lines(table, "lr", "test", "method", title="T", xlabel="rate", ylabel="accuracy", log=True)
    assert chart.alt == "T: a line chart of accuracy against rate. a from 60% at 0.1 to 60% at 1."
    assert [label.get_text() for label in chart.axes[0].get_xticklabels()] == ["0.1", "1"]
    chart = tc.plots.ranking(table, "test", "method", title="T", xlabel="accuracy")
    assert chart.alt == "T: a bar chart of accuracy. a 60%."
    assert chart.axes[0].patches[0].get_width() == pytest.approx(0.6)
