"""Methods over seeds, speeds in interleaved rounds, costs of architectures, and the figures of all of them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from torch import nn
from toy import cases, refused

import tlcourse as tc
import tlhelpers as tl
from tlcourse.measurements import comparison
from tlhelpers.models.families import ARCHS


def compare(**scores):
    rows = [(method, seed, score) for method, some in scores.items() for seed, score in enumerate(some)]
    return tc.compare_methods(pd.DataFrame(rows, columns=["method", "seed", "test"]), "test", "method")


def test_the_best_of_interleaved_rounds(monkeypatch):
    clock, called = [0.0], []
    costs = {"a": iter([9.0, 2.0, 4.0, 3.0]), "b": iter([9.0, 8.0, 6.0, 50.0])}

    def method(name):
        called.append(name)
        clock[0] += next(costs[name])

    monkeypatch.setattr(comparison.time, "perf_counter", lambda: clock[0])
    table = tc.benchmark_interleaved({name: lambda name=name: method(name) for name in costs}, rounds=3)
    assert called == ["a", "b"] * 4, "in turn, and not one after the other"
    assert table.index.name == "method"
    assert table.to_dict("list") == {"best": [2.0, 6.0], "median": [3.0, 8.0], "ratio": [1.0, 3.0]}
    for methods, rounds in (({"a": list}, 0), ({}, 1)):
        refused(tl.TLError, "expected a method and a round", tc.benchmark_interleaved, methods, rounds=rounds)


def test_methods_are_compared_seed_by_seed():
    # "near" varies more over seeds than it differs from "best", but it is behind with every single seed.
    table = compare(far=[0.2, 0.3, 0.4], near=[0.48, 0.58, 0.68], best=[0.50, 0.60, 0.71])
    assert list(table.index) == ["best", "near", "far"]
    assert table["no_significant_difference"].tolist() == [True, False, False]
    assert table["seeds"].tolist() == [3, 3, 3]
    assert table.loc["best", "std"] == pytest.approx(np.std([0.50, 0.60, 0.71], ddof=1))
    test = stats.ttest_rel([0.50, 0.60, 0.71], [0.48, 0.58, 0.68])
    assert table.loc["near", "mean_difference"] == pytest.approx(0.07 / 3)
    assert table.loc["near", ["low", "high"]].tolist() == pytest.approx(list(test.confidence_interval()))


@cases("a, b", ([0.5, 0.6, 0.4], [0.6, 0.4, 0.49]), ([0.9], [0.1]), ([0.5, 0.5], [0.5, 0.5]), ids=str)
def test_what_seeds_cannot_tell_apart(a, b):
    table = compare(a=a, b=b)
    assert table["no_significant_difference"].all()
    assert table["low"].isna().all() == (len(a) == 1), "one seed shows nothing"


def test_seeds_that_are_missing_or_doubled():
    table = compare(a=[0.9, 0.9, 0.9], b=[0.5, 0.6])
    assert table.loc["b", "seeds"] == 2
    assert table.loc["b", "mean_difference"] == pytest.approx(0.35)
    runs = pd.DataFrame({"method": ["a", "a"], "seed": [0, 0], "test": [0.5, 0.6]})
    refused(tl.DataError, "several runs with the same seed and method", tc.compare_methods, runs, "test", "method")
    refused(tl.DataError, "no runs", tc.compare_methods, runs.iloc[:0], "test", "method")


@cases(
    "layers, macs",
    ([nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1, bias=False)], 3 * 8 * 3 * 3 * 16 * 16),
    ([nn.Conv2d(3, 3, kernel_size=3, padding=1, groups=3, bias=False)], 3 * 3 * 3 * 32 * 32),
    ([nn.Flatten(), nn.Linear(3 * 32 * 32, 5, bias=False)], 3 * 32 * 32 * 5),
)
def test_macs_of_layers_are_those_of_the_formula(layers, macs):
    assert tc.count_macs(nn.Sequential(*layers), 32) == macs


def test_the_table_has_every_architecture_and_agrees_with_torchvision():
    table = tc.cost_table()
    assert list(table.index) == list(ARCHS)
    stated = table.dropna()
    assert set(table.index) - set(stated.index) == {"vgg16_gap", "efficientnet_lite0"}
    assert (stated["gmacs"] / stated["gmacs_stated"] - 1).abs().max() < 0.01
    assert table["parameters"].to_dict() == (tc.arch_table()["parameters"] / 1e6).to_dict()
    # a file holds every parameter as 4 bytes, and little else
    assert (stated["file"] * 2**20 / (4e6 * stated["parameters"])).between(0.98, 1.06).all()
    assert table.loc["resnet18", "top1"] == pytest.approx(0.69758)


def test_a_bar_is_the_mean_over_seeds_and_intervals_are_drawn_where_they_are():
    table = pd.DataFrame({"method": "a", "test": [0.5, 0.6, 0.7]})
    chart = tc.plots.ranking(table, "test", "method", title="T", xlabel="accuracy")
    assert chart.alt == "T: a bar chart of accuracy. a 60%."
    assert chart.axes[0].patches[0].get_width() == pytest.approx(0.6)
    rows = pd.DataFrame({"value": [0.5, 0.9], "low": [0.4, 0.8], "high": [0.6, 1.0]}, index=["cat", "dog"])
    chart = tc.plots.intervals(rows, title="Recall", xlabel="recall", line=0.7, named="all")
    assert chart.alt == "Recall: recall. cat 50% (40% to 60%); dog 90% (80% to 100%). A line marks all at 70%."
    (axis,) = chart.axes
    drawn = axis.collections[0].get_segments()
    assert [(float(s[0][0]), float(s[1][0])) for s in drawn] == [(0.4, 0.6), (0.8, 1.0)]
