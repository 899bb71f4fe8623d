"""The explorers: figures of a setting, controls that redraw them, and errors that are said and not swallowed."""

from __future__ import annotations

import datetime
import io
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tlcourse as tc
import tlhelpers as tl
from tlcourse.explorers import Explorer, shell, views
from tlhelpers.plots import Chart

PARTS, COUNTS, RATES, SEEDS = ("head", "layer4", "layer3", "everything"), (10, 40, 200), (1e-4, 3e-4, 1e-3), range(3)


@pytest.fixture(autouse=True)
def no_errors_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A callback that fails raises nothing, so the log is looked at; a test that expects an error clears it."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def table() -> pd.DataFrame:
    """A made-up grid in which every number tells its setting: test = 0.1 + 0.1 * part + 0.02 * count + ... ± 0.01."""
    rows = []
    for p, part in enumerate(PARTS):
        for c, count in enumerate(COUNTS):
            for r, rate in enumerate(RATES):
                for seed in SEEDS:
                    test = 0.10 + 0.20 * p + 0.04 * c + 0.01 * r + 0.01 * (seed - 1)
                    curve = [test / 3, test / 2, test]
                    rows.append((part, count, rate, seed, curve, [2 * value / 3 for value in curve], test))
    return pd.DataFrame(rows, columns=["trains", "per_class", "lr", "seed", "val", "train_acc", "test"])


def trial() -> tl.LRFinderResult:
    """A trial whose loss falls from 2 to 1 around 1e-3, and rises from 1e-1 on until it is 5."""
    lr = np.logspace(-5, 0, 51)
    place = np.log10(lr)
    smooth = 2 - 1 / (1 + np.exp(-4 * (place + 3))) + 4.3 * np.clip(place + 1, 0, None) ** 2
    return tl.LRFinderResult(pd.DataFrame({"lr": lr, "loss": smooth, "smooth": smooth}), 1e-3, 1e-1)


@pytest.fixture(scope="module")
def network() -> Any:
    tl.use_profile("quick", device="cpu", precision="fp32")
    return tl.load_model("resnet18", classes=["red", "green", "blue"], size=64)


def sample(colour: str = "red", size: int = 80) -> Image.Image:
    image = Image.new("RGB", (size, size), colour)
    image.paste("white", (size // 4, size // 4, size // 2, size // 2))
    return image


def uploaded(name: str, content: bytes) -> tuple[dict[str, Any], ...]:
    """What the browser's half of a FileUpload sends."""
    when = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    return ({"name": name, "type": "", "size": len(content), "content": memoryview(content), "last_modified": when},)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# --- depth, images, rate --------------------------------------------------------------------------------------


def test_depth_shows_its_setting_and_frames_it_among_all() -> None:
    chart = tc.explorers.depth_view(table(), trains="layer3", per_class=40, lr=3e-4)
    assert chart.get_suptitle().endswith("test accuracy 55.0 ± 1.0 % over 3 seeds")
    above, below = chart.axes
    lines = {line.get_label(): line for line in above.lines}
    assert lines["validation, mean of 3 seeds"].get_ydata() == pytest.approx([0.55 / 3, 0.55 / 2, 0.55])
    assert lines["training, mean of 3 seeds"].get_ydata()[-1] == pytest.approx(2 * 0.55 / 3)
    (frame,) = below.patches
    column, row = frame.get_x() + 0.47, frame.get_y() + 0.45
    assert (round(row), round(column)) == (2, 4)
    assert [text.get_text() for text in below.texts][2 * 9 + 4] == "55 ± 1"
    assert "Learning" not in chart.alt
    assert "validation accuracy from 18% to 55% in 3 epochs" in chart.alt


def test_the_band_is_one_standard_deviation_over_seeds() -> None:
    chart = tc.explorers.depth_view(table(), trains="head", per_class=10, lr=1e-4)
    band = chart.axes[0].collections[1].get_paths()[0].vertices
    last = band[np.isclose(band[:, 0], 3), 1]
    assert (last.min(), last.max()) == pytest.approx((0.09, 0.11))


def test_depth_has_the_same_axis_for_every_setting() -> None:
    runs = table()
    limits = {
        tc.explorers.depth_view(runs, trains=part, per_class=10, lr=1e-3).axes[0].get_ylim()
        for part in ("head", "everything")
    }
    assert len(limits) == 1


@pytest.mark.parametrize("setting", [{"trains": "layer1"}, {"per_class": 11}, {"lr": 0.5}])
def test_depth_refuses_what_was_not_measured(setting: dict[str, Any]) -> None:
    with pytest.raises(tl.DataError, match="was measured"):
        tc.explorers.depth_view(table(), **{"trains": "head", "per_class": 10, "lr": 1e-3, **setting})


def test_depth_names_a_missing_column() -> None:
    with pytest.raises(tl.DataError, match="has no column val"):
        tc.explorers.depth_view(table().drop(columns="val"), trains="head", per_class=10, lr=1e-3)


def test_depth_of_one_seed_has_no_band_and_does_not_fail() -> None:
    runs = table()
    chart = tc.explorers.depth_view(runs[runs["seed"] == 0], trains="head", per_class=10, lr=1e-3)
    assert "± 0" in chart.axes[1].texts[0].get_text()


def test_a_setting_that_is_not_measured_yet_is_left_empty() -> None:
    runs = table()
    some = runs[(runs["trains"] != "everything") | (runs["per_class"] != 10)]
    chart = tc.explorers.depth_view(some, trains="head", per_class=10, lr=1e-3)
    assert len(chart.axes[1].texts) == 4 * 9 - 3
    assert "highest is 80%" in chart.alt


def test_the_buttons_of_depth_change_the_figure() -> None:
    explorer = tc.explorers.depth(table())
    shown = {explorer._figure.value}
    for name, value in (("trains", "everything"), ("per_class", 200), ("lr", 1e-4)):
        explorer.controls[name].value = value
        assert explorer._figure.value not in shown
        shown.add(explorer._figure.value)
    assert (
        "Trained: everything; 200 images a class; the backbone's learning rate 0.0001" in explorer.chart.get_suptitle()
    )
    assert explorer.message == ""


# --- learning rate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (2e-5, "Far below"),
        (5e-4, "a good place to begin"),
        (1e-3, "a good place to begin"),
        (1e-2, "near the edge"),
        (0.3, "jumps about"),
        (1.5, "never came this far: the loss had grown too much"),
    ],
)
def test_words_for_a_rate(rate: float, expected: str) -> None:
    assert expected in tc.explorers.rate_words(trial(), rate)
    chart = tc.explorers.rate_view(trial(), rate=rate)
    assert expected in chart.alt
    assert [line.get_xdata()[0] for line in chart.axes[0].lines][-1] == rate


def test_a_trial_that_ended_well_is_not_said_to_have_failed() -> None:
    found = trial()
    calm = tl.LRFinderResult(found.curve[found.curve["lr"] < 0.1], found.suggestion, found.highest)
    assert tc.explorers.rate_words(calm, 1.0) == "The trial never came this far."


def test_no_rate_at_or_below_zero() -> None:
    with pytest.raises(tl.DataError, match="above 0"):
        tc.explorers.rate_words(trial(), 0.0)


def test_the_slider_moves_the_mark() -> None:
    explorer = tc.explorers.learning_rate(trial())
    assert "1.0e-03" in explorer.chart.get_suptitle()
    explorer.controls["rate"].value = 0.2
    assert "2.0e-01" in explorer.chart.get_suptitle()
    assert "jumps about" in explorer._figure.value


# --- images ---------------------------------------------------------------------------------------------------


SCORES, TRUTH = np.array([0.1, 0.3, 0.6, 0.4, 0.7, 0.9, 0.8]), np.array([0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("threshold", "prevalence", "expected"),
    [
        (0.5, 0.1, "finds 75% of ill, spares 67% of well\nOf 1,000 people, 100 of them ill: 75 found, 25 missed, 300"),
        (0.4, 0.5, "finds 100% of ill, spares 67% of well\nOf 1,000 people, 500 of them ill: 500 found, 0 missed, 167"),
        (0.95, 0.1, "0 false alarms; nobody is called"),
        (0.65, 0.1, "0 false alarms; 100% of the calls are right"),
    ],
)
def test_words_for_a_threshold(threshold: float, prevalence: float, expected: str) -> None:
    words = views.threshold_words(SCORES, TRUTH, classes=("well", "ill"), threshold=threshold, prevalence=prevalence)
    assert expected in words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.0}, "the threshold is a number between 0 and 1"),
        ({"prevalence": 0.0}, "the prevalence is a number between 0 and 1"),
        ({"labels": np.ones(7)}, "images of both classes"),
    ],
)
def test_thresholds_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"labels": TRUTH, "classes": ("well", "ill"), "threshold": 0.5, "prevalence": 0.1}
    with pytest.raises(tl.DataError, match=message):
        views.threshold_words(SCORES, **{**given, **change})


def test_the_sliders_of_the_threshold_change_the_words() -> None:
    explorer = tc.explorers.threshold(SCORES, TRUTH, classes=("well", "ill"), at=0.5)
    assert explorer.chart is not None
    before = explorer.chart.alt
    assert "finds 75% of ill" in before
    explorer.controls["threshold"].value = 0.4
    assert "finds 100% of ill" in explorer.chart.alt
    explorer.controls["prevalence"].value = 0.5
    assert "500 of them ill" in explorer.chart.alt
    assert explorer.message == ""


def test_layers_come_in_the_order_of_the_forward_pass(network: Any) -> None:
    layers = tc.explorers.map_layers(network)
    assert next(iter(layers.items())) == ("conv1", (64, 32, 32))
    assert layers["layer3"] == (256, 4, 4)
    assert "fc" not in layers
    assert "avgpool" not in layers
    assert list(layers).index("layer1") < list(layers).index("layer4")


def test_feature_maps_are_those_of_the_layer_before_a_relu_in_place(network: Any) -> None:
    import torch

    batch = network.card.preprocessing.evaluation()(sample())[None]
    with torch.no_grad():
        expected = network.bn1(network.conv1(batch))
    assert torch.allclose(views._outputs(network, batch, "bn1")["bn1"], expected, atol=1e-5)
    assert expected.min() < 0


def test_feature_maps_leave_the_network_as_it_was(network: Any) -> None:
    before, network.training = tl.snapshot(network), True
    chart = tc.explorers.feature_maps_view(network, sample(), layer="layer1", count=7)
    assert network.training
    network.eval()
    assert tl.changed(network, before) == []
    assert not any(module._forward_hooks for module in network.modules())
    assert sum(bool(axis.get_title().startswith("channel")) for axis in chart.axes) == 7
    assert chart.alt.startswith("layer1: the 7 of its 64 channels that vary most")


def test_an_unknown_layer_is_named(network: Any) -> None:
    with pytest.raises(tl.ModelError, match=r"'layer9' is no layer .* conv1"):
        tc.explorers.feature_maps_view(network, sample(), layer="layer9")
    with pytest.raises(tl.ModelError, match="'fc' is no layer with maps"):
        tc.explorers.feature_maps(network, {"red": sample()}, layer="fc")


def test_grad_cam_is_asked_for_the_class_that_is_chosen(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(model: Any, image: Any, *, layer: Any = None, target: Any = None) -> np.ndarray:
        asked.append((layer, target))
        return np.eye(64, dtype=np.float32)

    monkeypatch.setattr(views, "grad_cam", spy)
    explorer = tc.explorers.grad_cam(network, {"red": sample(), "blue": sample("blue")})
    explorer.controls["target"].value = 2
    explorer.controls["layer"].value = "layer2"
    assert asked[-1] == ("layer2", 2)
    assert "Evidence for 'blue'" in explorer.chart.get_suptitle()
    assert asked[0] == ("layer4", explorer.controls["target"].options[0][1])


def test_grad_cam_itself_draws(network: Any) -> None:
    chart = tc.explorers.grad_cam_view(network, sample(), target=1)
    assert chart.alt.startswith("Evidence for 'green'")


def test_another_image_brings_its_own_likely_classes(network: Any) -> None:
    explorer = tc.explorers.grad_cam(network, {"red": sample(), "noise": noise()})
    explorer.choice.value = "noise"
    chances = views.class_chances(network, noise())
    assert [number for _, number in explorer.controls["target"].options] == list(np.argsort(-chances))
    assert explorer.controls["target"].value == int(chances.argmax())
    assert explorer.message == ""


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


def test_no_images_at_all(network: Any) -> None:
    with pytest.raises(tl.DataError, match="one image or more"):
        tc.explorers.feature_maps(network, {})


# --- uploads ----------------------------------------------------------------------------------------------------


def test_an_upload_is_shown_and_stays_in_the_list(network: Any) -> None:
    explorer = tc.explorers.feature_maps(network, {"red": sample()})
    before = explorer._figure.value
    explorer.upload.value = uploaded("noise.png", png(noise()))
    assert explorer.choice.value == "noise.png"
    assert explorer._figure.value != before
    explorer.choice.value = "red"
    assert explorer._figure.value == before
    assert explorer.message == ""


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.png", b"", "zero bytes"),
        ("page.jpg", b"<!doctype html><html></html>", "a web page"),
        ("<b>.png", png(sample())[:60], "truncated or damaged PNG"),
        ("../../etc/notes.txt", b"hello", "not an image"),
    ],
)
def test_a_bad_upload_gets_a_sentence(
    network: Any, name: str, content: bytes, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    explorer = tc.explorers.feature_maps(network, {"red": sample()})
    before = explorer._figure.value, explorer.choice.options
    explorer.upload.value = uploaded(name, content)
    assert explorer.message.startswith(f"'{name.rpartition('/')[2]}' cannot be used: ")
    assert expected in explorer.message
    assert "/tmp" not in explorer.message
    assert "<b>" not in explorer._message.value
    assert (explorer._figure.value, explorer.choice.options) == before
    assert capsys.readouterr() == ("", "")
    explorer.upload.value = uploaded("good.png", png(noise()))
    assert explorer.message == ""


# --- the shell --------------------------------------------------------------------------------------------------


def drawn(value: int) -> Chart:
    if value == 13:
        raise ZeroDivisionError("planted <error>")
    if value == 14:
        raise tl.DataError("Take another number.")
    chart = Chart(f'The number {value} & "more"')
    chart.subplots()
    return chart


def small() -> Explorer:
    import ipywidgets

    return Explorer(drawn, {"value": ipywidgets.IntSlider(value=1, description="Number")})


def test_an_error_in_a_callback_is_said_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    explorer = small()
    before = explorer._figure.value
    explorer.controls["value"].value = 13
    assert "ZeroDivisionError: planted <error>" in explorer.message
    assert "<error>" not in explorer._message.value
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is ZeroDivisionError
    caplog.clear()
    assert explorer._figure.value == before
    explorer.controls["value"].value = 2
    assert explorer.message == ""
    assert "The number 2" in explorer._figure.value


def test_the_readers_error_is_said_and_not_logged() -> None:
    explorer = small()
    explorer.controls["value"].value = 14
    assert explorer.message.startswith("Take another number.")


def test_the_figure_has_its_text_alternative_and_fits_the_page() -> None:
    shown = small()._figure.value
    assert 'alt="The number 1 &amp; &quot;more&quot;"' in shown
    assert "max-width: 100%" in shown


def test_every_control_has_a_label_and_a_description(network: Any) -> None:
    explorers = [
        tc.explorers.depth(table()),
        tc.explorers.learning_rate(trial()),
        tc.explorers.feature_maps(network, {"red": sample()}),
        tc.explorers.grad_cam(network, {"red": sample()}),
        tc.explorers.threshold(SCORES, TRUTH, classes=("well", "ill")),
    ]
    for explorer in explorers:
        controls = [
            *explorer.controls.values(),
            *(getattr(explorer, n) for n in ("choice", "upload") if hasattr(explorer, n)),
        ]
        for control in controls:
            assert control.description
            assert control.tooltip or all(control.tooltips)
        assert explorer.layout.max_width == shell.WIDTH
        assert repr(explorer) == "Run this cell to use the explorer."


def test_figures_are_no_wider_than_the_page(network: Any) -> None:
    width = int(shell.WIDTH.removesuffix("px"))
    for chart in (
        tc.explorers.depth_view(table(), trains="head", per_class=10, lr=1e-3),
        tc.explorers.rate_view(trial(), rate=1e-3),
        tc.explorers.feature_maps_view(network, sample(), layer="layer1"),
        tc.explorers.grad_cam_view(network, sample()),
        tc.explorers.threshold_view(SCORES, TRUTH, classes=("well", "ill"), threshold=0.5, prevalence=0.1),
    ):
        assert round(chart.get_figwidth() * chart.dpi) <= width
