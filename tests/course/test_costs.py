"""Costs of architectures, features of backbones, and the figures of both."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn
from toy import toy_split

import tlcourse as tc
import tlhelpers as tl
from tlhelpers import plots
from tlhelpers.models.families import ARCHS


def test_macs_of_layers_are_those_of_the_formula() -> None:
    convolution = nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1, bias=False)
    assert tc.count_macs(convolution, 32) == 3 * 8 * 3 * 3 * 16 * 16
    depthwise = nn.Conv2d(3, 3, kernel_size=3, padding=1, groups=3, bias=False)
    assert tc.count_macs(depthwise, 32) == 3 * 3 * 3 * 32 * 32
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5, bias=False))
    assert tc.count_macs(linear, 32) == 3 * 32 * 32 * 5


def test_counting_leaves_no_trace() -> None:
    model = tl.load_model("resnet18", 3).train()
    before = tl.snapshot(model)
    whole = tc.count_macs(model, 64)
    assert tl.changed(model, before) == []
    assert model.training
    assert tc.count_macs(model.to("meta"), 64) == whole


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return tc.cost_table()


def test_the_table_has_every_architecture_and_agrees_with_torchvision(table: pd.DataFrame) -> None:
    assert list(table.index) == list(ARCHS)
    stated = table.dropna()
    assert set(table.index) - set(stated.index) == {"vgg16_gap", "efficientnet_lite0"}
    assert (stated["gmacs"] / stated["gmacs_stated"] - 1).abs().max() < 0.01
    assert table["parameters"].to_dict() == (tl.arch_table()["parameters"] / 1e6).to_dict()
    # a file holds every parameter as 4 bytes, and little else
    assert (stated["file"] * 2**20 / (4e6 * stated["parameters"])).between(0.98, 1.06).all()
    assert table.loc["resnet18", "top1"] == pytest.approx(0.69758)


def test_features_are_what_the_head_is_given() -> None:
    model = tl.load_model("resnet18", 3, size=64, weights="none").train()
    split = toy_split(5, "val")
    features = tl.compute_features(model, split, batch_size=2)
    assert features.shape == (5, 512)
    assert model.training
    assert not tl.get_head(model)._forward_pre_hooks, "the hook is gone"
    look = model.card.preprocessing.evaluation()
    images = torch.stack([look(split.image(i)) for i in range(5)])
    head, model.fc = model.fc, nn.Identity()
    torch.testing.assert_close(features, model.eval()(images).detach(), rtol=1e-4, atol=1e-5)
    model.fc = head
    seen = tl.compute_features(model, split.with_transform(lambda p: look(p).flip(2)))
    assert (seen - features).abs().max() > 1e-3, "a transform of the split is used"


def test_the_hook_is_removed_when_a_image_cannot_be_read() -> None:
    model = tl.load_model("resnet18", 3, size=64, weights="none")
    with pytest.raises(ZeroDivisionError):
        tl.compute_features(model, toy_split(2, "val").with_transform(lambda _: torch.zeros(3, 64, 64) * (1 / 0)))
    assert not tl.get_head(model)._forward_pre_hooks


def test_the_trade_off_names_every_network(table: pd.DataFrame) -> None:
    chosen = table.dropna().loc[["resnet18", "vgg16"]]
    xs = {"parameters": "parameters (million)", "file": "file (MB)"}
    chart = plots.trade_off(chosen, xs, "top1", "family", title="Trade", ylabel="top-1")
    assert "resnet18 70% at 11.7 parameters (million), 44.7 file (MB)" in chart.alt
    axes = chart.axes
    assert [axis.get_xlabel() for axis in axes] == list(xs.values())
    assert all(len(axis.lines) == 2 and axis.get_xscale() == "log" for axis in axes)
    assert chart._repr_mimebundle_()[0]["image/png"].startswith(b"\x89PNG")


def test_intervals_are_drawn_where_they_are() -> None:
    rows = pd.DataFrame({"value": [0.5, 0.9], "low": [0.4, 0.8], "high": [0.6, 1.0]}, index=["cat", "dog"])
    chart = plots.intervals(rows, title="Recall", xlabel="recall", line=0.7, named="all")
    assert chart.alt == "Recall: recall. cat 50% (40% to 60%); dog 90% (80% to 100%). A line marks all at 70%."
    (axis,) = chart.axes
    drawn = axis.collections[0].get_segments()
    assert [(float(s[0][0]), float(s[1][0])) for s in drawn] == [(0.4, 0.6), (0.8, 1.0)]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "dog"]
