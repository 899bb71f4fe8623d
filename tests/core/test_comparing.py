"""Speeds in interleaved rounds, ways over seeds, and the figure of two settings."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

import tlcourse as tc
import tlhelpers as tl
from tlhelpers import timing


def runs(**scores: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"method": method, "seed": seed, "test": s} for method, some in scores.items() for seed, s in enumerate(some)]
    )


def test_the_best_of_interleaved_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    called: list[str] = []
    costs = {"a": iter([9.0, 2.0, 4.0, 3.0]), "b": iter([9.0, 8.0, 6.0, 50.0])}

    def method(name: str) -> None:
        called.append(name)
        clock[0] += next(costs[name])

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    table = tc.benchmark_interleaved({name: lambda name=name: method(name) for name in costs}, rounds=3)
    assert called == ["a", "b"] * 4, "in turn, and not one after the other"
    assert table["best"].tolist() == [2.0, 6.0], "the warm-up does not count"
    assert table["median"].tolist() == [3.0, 8.0]
    assert table["ratio"].tolist() == [1.0, 3.0]


def test_the_clock_is_real() -> None:
    table = tc.benchmark_interleaved({"sleeps": lambda: time.sleep(0.02), "does nothing": lambda: None}, rounds=2)
    assert table.loc["sleeps", "best"] >= 0.015
    assert table.loc["does nothing", "ratio"] < 0.5


@pytest.mark.parametrize("options", [{"rounds": 0}, {"warm_up": -1}])
def test_nothing_to_time_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(tl.TLError, match="needs a way and a round"):
        tc.benchmark_interleaved({"a": lambda: None}, **options)
    with pytest.raises(tl.TLError, match="got 0 ways"):
        tc.benchmark_interleaved({})


def test_standings_compare_seed_by_seed() -> None:
    # "near" varies more over seeds than it differs from "best", but it is behind with every single seed.
    table = tc.compare_methods(
        runs(far=[0.2, 0.3, 0.4], near=[0.48, 0.58, 0.68], best=[0.50, 0.60, 0.71]), "test", "method"
    )
    assert list(table.index) == ["best", "near", "far"]
    assert table.loc["near", "behind"] == pytest.approx(0.07 / 3)
    differences = np.array([0.02, 0.02, 0.03])
    assert table.loc["near", "margin"] == pytest.approx(4.3027 * differences.std(ddof=1) / 3**0.5, rel=1e-4)
    assert table["tie"].tolist() == [True, False, False]
    assert table["seeds"].tolist() == [3, 3, 3]
    assert table.loc["best", "std"] == pytest.approx(np.std([0.50, 0.60, 0.71], ddof=1))


def test_what_seeds_cannot_tell_apart_is_a_tie() -> None:
    noisy = tc.compare_methods(runs(a=[0.5, 0.6, 0.4], b=[0.6, 0.4, 0.49]), "test", "method")
    assert noisy["tie"].all()
    single = tc.compare_methods(runs(a=[0.9], b=[0.1]), "test", "method")
    assert single["tie"].all(), "one seed shows nothing"
    assert np.isnan(single.loc["b", "margin"])
    same = tc.compare_methods(runs(a=[0.5, 0.5], b=[0.5, 0.5]), "test", "method")
    assert same["tie"].all()


def test_seeds_that_are_missing_or_doubled() -> None:
    table = tc.compare_methods(runs(a=[0.9, 0.9, 0.9], b=[0.5, 0.6]), "test", "method")
    assert table.loc["b", "seeds"] == 2
    assert table.loc["b", "behind"] == pytest.approx(0.35)
    with pytest.raises(tl.DataError, match="several runs with the same seed and way"):
        tc.compare_methods(pd.concat([runs(a=[0.5]), runs(a=[0.6])]), "test", "method")
    with pytest.raises(tl.DataError, match="no runs"):
        tc.compare_methods(runs(a=[0.5]).iloc[:0], "test", "method")


def test_a_heat_map_says_and_writes_every_cell() -> None:
    table = pd.DataFrame([[0.5, 0.75], [np.nan, 1.0]], index=["head", "all"], columns=[10, 40])
    marked = pd.DataFrame([[False, True], [False, True]])
    names = {"title": "T", "xlabel": "images", "ylabel": "trains", "label": "accuracy"}
    chart = tc.plots.heat_map(table, spread=table / 10, marked=marked, **names)
    assert chart.alt == "T: a heat map of accuracy. head: 10 50%, 40 75%; all: 40 100%."
    axis = chart.axes[0]
    assert [text.get_text() for text in axis.texts] == ["50.0\n± 5.0", "75.0\n± 7.5", "100.0\n± 10.0"]
    assert [patch.get_xy() for patch in axis.patches] == [(0.53, -0.46), (0.53, 0.54)]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["10", "40"]
    plain = tc.plots.heat_map(table, **names)
    assert [text.get_text() for text in plain.axes[0].texts] == ["50.0", "75.0", "100.0"]
