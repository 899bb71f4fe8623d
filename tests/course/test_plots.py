"""Figures show what they are given, say it in words, and are small files."""

import io
import itertools

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
import skimage.data
import torch
from PIL import Image

import tlcourse as tc
from tlhelpers import plots


def test_powers_of_ten_stay_powers_on_logarithmic_axes_alone():
    curve = pd.DataFrame({"lr": [1e-4, 1e-2, 1.0], "loss": [2.0, 1.0, 3.0], "smooth": [2.0, 1.0, 3.0]})
    chart = plots.lr_curve(curve, 1e-3, 1e-2)
    chart.png()
    (axis,) = chart.axes
    assert all(label.get_parse_math() for label in axis.get_xticklabels())
    assert not any(label.get_parse_math() for label in [*axis.get_yticklabels(), axis.title])
    assert "falls fastest at 1.0e-03" in chart.alt


def test_photographs_become_a_third_of_the_file_and_look_the_same():
    photos = [Image.fromarray(photo) for photo in (skimage.data.astronaut(), skimage.data.chelsea())]
    chart = plots.image_grid(photos, ["$5_bill$", "a_b^c"], title="Two photographs", columns=2)
    full = io.BytesIO()
    chart.savefig(full, format="png")
    data, metadata = chart._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == "Two photographs: 2 images: $5_bill$, a_b^c"
    image = Image.open(io.BytesIO(data["image/png"]))
    assert image.mode == "P"
    assert len(data["image/png"]) < 0.4 * len(full.getvalue())
    small, large = (np.asarray(picture.convert("RGB").reduce(4), float) for picture in (image, Image.open(full)))
    assert np.abs(small - large).mean() < 3  # of 255, at the distance from which dithering is not seen


def test_history_marks_the_best_epoch_and_says_how_it_ends():
    columns = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    table = pd.DataFrame([[2, 0.1, 2, 0.2, 1, 1], [1, 0.6, 1.5, 0.5, 1, 1]], columns=columns, index=[1, 2])
    chart = plots.history(table, best_epoch=2)
    assert chart.alt.endswith("At the end: train loss 1.000, train accuracy 0.600, val loss 1.500, val accuracy 0.500.")
    for axis, name in zip(chart.axes, ("loss", "accuracy"), strict=True):
        for line, split in zip(axis.lines[:2], ("train", "val"), strict=True):
            assert line.get_ydata().tolist() == table[f"{split}_{name}"].tolist()
        assert axis.lines[2].get_xdata() == [2, 2]


def test_lines_have_a_panel_for_each_task_and_a_band_for_the_spread():
    each = itertools.product((("near", 0.2), ("far", 0.5)), ("ours", "random"), ("stem", "deep"), range(3))
    rows = [(layer, base + 0.1 * seed, net, task) for (task, base), net, layer, seed in each]
    runs = pd.DataFrame(rows, columns=["layer", "score", "net", "task"])
    names = {"title": "T", "xlabel": "depth", "ylabel": "right"}
    chart = tc.plots.lines(runs, "layer", "score", "net", "task", levels={"far": 0.1}, **names)
    near, far = chart.axes
    assert near.lines[0].get_ydata() == pytest.approx([0.3, 0.3])  # means over seeds
    band = near.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.2, 0.4))  # one standard deviation
    assert len(far.lines) == len(near.lines) + 1  # the level
    assert "near, ours from 30% at stem to 30% at deep" in chart.alt


def test_filters_are_shown_in_their_own_range_around_grey():
    weights = torch.zeros(17, 3, 7, 7)
    weights[1, 0, 2, 3] = 0.01  # red, weak: shown at full strength
    weights[16, :, 0, 0] = -5.0
    chart = tc.plots.filters({"a": weights, "b": weights}, title="T")
    assert chart.alt == "T: filters as colour images. a, 17 filters; b, 17 filters."
    sheet = chart.axes[0].images[0].get_array()
    assert sheet.shape == (2 * 8 + 1, 16 * 8 + 1, 3)  # a pixel between and around
    assert sheet[1, 1].tolist() == [0.5, 0.5, 0.5]  # filter 0, all zero
    assert sheet[1 + 2, 9 + 3].tolist() == [1.0, 0.5, 0.5]
    assert sheet[9, 1].tolist() == [0.0, 0.0, 0.0]  # filter 16 begins the second row
    assert sheet[9, 9].tolist() == [1.0, 1.0, 1.0]  # nothing there


def test_activation_maps_shows_the_channels_that_vary_most_first():
    maps = torch.arange(4.0).view(4, 1, 1) * torch.tensor([[1.0, 2.0]])
    chart = tc.plots.activation_maps(Image.new("RGB", (8, 8)), {"stem": maps, "deep": maps[:2]}, channels=2, columns=3)
    assert chart.alt == "Activation maps: stem has 4 maps of 1 x 2; deep has 2 maps of 1 x 2."
    titles = [axis.get_title() for axis in chart.axes]
    assert titles == ["the image", "channel 3", "channel 2", "", "channel 1", "channel 0"]
    assert chart.axes[1].images[0].get_array().tolist() == [[3.0, 6.0]]


def test_evidence_says_where_it_is():
    heat = np.zeros((60, 60), dtype=np.float32)
    heat[5, 50] = 1
    photo = Image.new("RGB", (60, 60), (30, 60, 90))
    images = [photo, np.asarray(photo) / 255]
    chart = tc.plots.evidence(images, [heat, 0 * heat], ["cat\ncalled dog", "dog"], title="Why")
    assert chart.alt == "Why. cat called dog: strongest at the top, right; dog: strongest nowhere."
    greys = [np.asarray(chart.axes[place].images[0].get_array(), float).max() for place in (1, 3)]
    assert greys == pytest.approx([60, 60 / 255])
    assert chart.axes[1].images[1].get_array().argmax() == heat.argmax()


def test_losses_are_averaged_over_ten_steps():
    table = pd.DataFrame({"loss": np.r_[np.zeros(10), np.ones(10)], "loss_box_reg": 0.5})
    chart = tc.plots.losses(table, title="T")
    assert chart.alt.endswith("sum from 0 at 0 to 1 at 19; box reg from 0.5 at 0 to 0.5 at 19.")
    assert chart.axes[0].lines[0].get_ydata()[14] == pytest.approx(0.5)


def test_threshold_marks_its_place_on_the_curve():
    scores, labels = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0, 0, 1, 0, 1, 1])
    chart = tc.plots.threshold(scores, labels, 3.0, classes=("well", "ill"), title="Test")
    left, right = chart.axes
    assert left.lines[0].get_xdata() == [3.0, 3.0]
    assert [np.ravel(values).item() for values in right.lines[2].get_data()] == pytest.approx([1 / 3, 2 / 3])
    assert "area 0.89" in chart.alt  # 8 of 9 pairs are in order
    assert "67% of ill are found, and 33% of well called so" in chart.alt


def test_blocks_that_train_have_their_methods_colour_and_frozen_ones_are_grey():
    chart = tc.plots.blocks({"from scratch": tc.plots.BLOCKS, "frozen": ["head"]}, title="What learns")
    boxes = chart.axes[0].patches
    grey = [matplotlib.colors.to_hex(box.get_facecolor()) == "#dddddd" for box in boxes]
    assert grey == [False] * 6 + [True] * 5 + [False]
    assert [box.get_linestyle() for box in boxes] == ["--"] * 6 + ["-"] * 5 + ["--"]
    assert chart.alt.endswith("train: from scratch: stem, layer1, layer2, layer3, layer4, head; frozen: head.")


def test_a_drawing_has_its_boxes_and_arrows_and_says_them():
    boxes = {"x": tc.plots.Box("input", 0, 0, "none"), "f": tc.plots.Box("two\nlayers", 2, 0, "#000000", 1.5)}
    chart = tc.plots.flow({"A": (boxes, [("x", "f"), ("f", "x", 0.4)]), "B": (boxes, [])}, title="T")
    arrows = "Arrows: input to two layers, two layers to input"
    assert chart.alt == f"T. A: input; two layers. {arrows}. B: input; two layers."
    left, right = chart.axes
    assert [text.get_color() for text in left.texts] == ["black", "white"], "legible on a dark box"
    assert (len(left.patches), len(right.patches)) == (4, 2)
    assert left.get_xlim()[0] < -0.5 < 2.75 < left.get_xlim()[1]
