"""Figures of section 12.4.3: what they draw is what they are given, and they say it in words."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tlhelpers import plots


def test_outlines_only_where_there_is_a_region() -> None:
    masks = np.zeros((3, 16, 16), dtype=bool)
    masks[1, 4:9, 5:11] = True
    images = [Image.new("RGB", (16, 16))] * 3
    chart = plots.outlined(images, masks, ["a", "b", "c"], title="Regions")
    outlines = [len(axis.collections) for axis in chart.axes]
    assert outlines == [0, 1, 0]
    (line,) = chart.axes[1].collections
    corners = np.concatenate([path.vertices for path in line.get_paths()])
    assert corners.min(axis=0).tolist() == [4.5, 3.5]
    assert corners.max(axis=0).tolist() == [10.5, 8.5]
    assert chart.alt == "Regions: 3 images: a, b, c. 1 of them have an orange line around a region"


def test_threshold_marks_its_place_on_the_curve() -> None:
    scores, labels = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0, 0, 1, 0, 1, 1])
    chart = plots.threshold(scores, labels, 3.0, classes=("well", "ill"), title="Test")
    left, right = chart.axes
    assert left.lines[0].get_xdata() == [3.0, 3.0]
    alarms, found = (float(np.ravel(values)[0]) for values in right.lines[2].get_data())
    assert (alarms, found) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert "area 0.89" in chart.alt  # 8 of 9 pairs are in order
    assert "67% of ill are found, and 33% of well called so" in chart.alt
    assert [axis.get_xlabel() for axis in chart.axes] == ["score (log-odds)", "share of well called ill"]
