"""Figures of layers and small multiples show what they were given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import tlcourse as tc


def test_filters_are_shown_in_their_own_range_around_grey() -> None:
    weights = torch.zeros(3, 3, 7, 7)
    weights[1, 0, 2, 3] = 0.01  # red, weak: shown at full strength
    weights[2, :, 0, 0] = -5.0
    chart = tc.plots.filters({"a": weights, "b": weights}, title="T", columns=2)
    assert chart.alt == "T: filters as colour images. a, 3 filters; b, 3 filters."
    sheet = chart.axes[0].images[0].get_array()
    assert sheet.shape == (15, 15, 3)
    assert sheet[0, 0].tolist() == [0.5, 0.5, 0.5]  # filter 0, all zero
    assert sheet[2, 8 + 3].tolist() == [1.0, 0.5, 0.5]  # filter 1 begins at column 8
    assert sheet[8, 0].tolist() == [0.0, 0.0, 0.0]  # filter 2 begins the second row
    assert sheet[8, 8].tolist() == [1.0, 1.0, 1.0]  # nothing there


def test_activation_maps_shows_the_strongest_channels_first() -> None:
    maps = torch.arange(4.0).view(4, 1, 1).expand(4, 2, 2)
    chart = tc.plots.activation_maps(Image.new("RGB", (8, 8)), {"stem": maps, "deep": maps[:1]}, channels=2)
    assert chart.alt == "Activation maps: stem has 4 maps of 2 x 2; deep has 1 maps of 2 x 2."
    titles = [axis.get_title() for axis in chart.axes]
    assert titles == ["the image", "channel 3", "channel 2", "", "channel 0", ""]


@pytest.fixture
def runs() -> pd.DataFrame:
    rows = [
        {"layer": layer, "score": base + 0.1 * seed, "net": net, "task": task, "count": count}
        for task, base in (("near", 0.2), ("far", 0.5))
        for net in ("ours", "random")
        for layer, count in (("stem", 10), ("deep", 100))
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_panels_with_words_along_the_axis(runs: pd.DataFrame) -> None:
    chart = tc.plots.panels(
        runs, "layer", "score", "net", "task", title="T", xlabel="depth", ylabel="right", levels={"far": 0.1}
    )
    near, far = chart.axes
    assert [near.get_title(), far.get_title()] == ["near", "far"]
    assert [text.get_text() for text in near.get_xticklabels()] == ["stem", "deep"]
    assert near.lines[0].get_ydata() == pytest.approx([0.3, 0.3])  # means over seeds
    assert len(far.lines) == len(near.lines) + 1  # the level
    assert "near, ours: from 30% to 30%" in chart.alt
    assert "far, random: from 60% to 60%" in chart.alt


def test_panels_with_numbers_on_a_logarithmic_axis(runs: pd.DataFrame) -> None:
    chart = tc.plots.panels(
        runs, "count", "score", "net", "task", title="T", xlabel="images", ylabel="y", log=True, percent=False
    )
    assert chart.axes[0].get_xscale() == "log"
    assert [text.get_text() for text in chart.axes[0].get_xticklabels()] == ["10", "100"]
    assert np.allclose(chart.axes[1].lines[0].get_xdata(), [10, 100])
    assert "from 0.30 to 0.30" in chart.alt


def test_epochs_have_whole_numbers_along_the_axis() -> None:
    table = pd.DataFrame({"epoch": range(1, 21), "score": 0.5, "net": "a"})
    chart = tc.plots.lines(table, "epoch", "score", "net", title="T", xlabel="epoch", ylabel="y")
    assert all(tick == round(tick) for tick in chart.axes[0].get_xticks())
