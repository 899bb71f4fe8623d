"""The explorers: figures of a setting, controls that redraw them, and errors that are said."""

import html
import io
import re
from datetime import datetime, timezone

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch
from junk import noise
from PIL import Image
from toy import cases, refused

import tlcourse as tc
import tlhelpers as tl
from tlcourse.explorers import views, widgets
from tlhelpers.plots import Chart


@pytest.fixture
def runs():
    """A grid in which every accuracy tells its setting: test is 0.09 + 0.05 * data + 0.15 * method + 0.04 * count."""
    table = pd.DataFrame(np.ndindex(2, 5, 3, 3), columns=["data", "method", "per_class", "seed"])
    table["test"] = 0.08 + table @ [0.05, 0.15, 0.04, 0.01]
    settings = {"data": ["flowers", "safari"], "method": list(views.METHODS), "per_class": [10, 20, 40]}
    named = {name: table[name].map(dict(enumerate(values))) for name, values in settings.items()}
    return table.assign(train=table["test"] + 0.1, setting="0.003", **named)


@pytest.fixture(scope="module")
def network():
    tl.use_profile("quick", device="cpu", precision="fp32")
    return tl.load_model("resnet18", classes=["red", "green", "blue"], size=64)


@pytest.fixture
def shown(monkeypatch):
    """What explorers display, as HTML."""
    displayed = []
    monkeypatch.setattr(widgets, "display", lambda html: displayed.append(html.data))
    return displayed


def square(colour="red"):
    image = Image.new("RGB", (80, 80), colour)
    image.paste("white", (20, 20, 40, 40))
    return image


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_depth_shows_its_setting_and_all_others(runs):
    chart = tc.explorers.depth_view(runs, data="safari", method="layer3", per_class=20)
    assert "learning rate 0.003\ntest accuracy 48.0 ± 1.0 % over 3 seeds" in chart.get_suptitle()
    lines = {line.get_label(): line.get_ydata() for line in chart.axes[0].lines}
    assert lines["test: layer3 and above 48%"] == pytest.approx([0.44, 0.48, 0.52])
    assert lines["training"] == pytest.approx([0.54, 0.58, 0.62])
    assert "layer3 and above 48%" in chart.alt


def test_settings_that_were_not_measured_or_cannot_be_are_refused(runs, network):
    for setting in ({"method": "layer1"}, {"per_class": 11}, {"data": "pets"}):
        given = {"data": "safari", "method": "head", "per_class": 10, **setting}
        refused(tl.DataError, "was measured", tc.explorers.depth_view, runs, **given)
    for show, image in ((tc.explorers.feature_maps_view, square()), (tc.explorers.feature_maps, {"red": square()})):
        refused(tl.ModelError, "'fc' is no layer with maps; the first are conv1, ", show, network, image, layer="fc")


def test_maps_are_those_of_the_layer_before_a_relu_in_place(network):
    batch = network.card.preprocessing.evaluation()(square())[None]
    with torch.no_grad():
        expected = network.bn1(network.conv1(batch))[0]
    assert expected.min() < 0
    torch.testing.assert_close(views.layer_maps(network, batch)["bn1"], expected, atol=1e-5, rtol=1e-4)


def test_every_control_redraws_the_figure_and_has_a_label(runs, network, shown):
    images = {"red": square(), "noise": noise()}
    for explorer, changes in (
        (tc.explorers.depth(runs), {"data": "flowers", "method": "everything", "per_class": 40}),
        (tc.explorers.feature_maps(network, images), {"layer": "layer4", "image": "noise"}),
        (tc.explorers.grad_cam(network, images), {"target": 2, "layer": "layer2", "image": "noise"}),
    ):
        assert set(explorer.controls) == set(changes)
        for name, value in changes.items():
            before = shown[-1]
            explorer.controls[name].value = value
            assert shown[-1] != before, name
            assert explorer.message.value == ""
        for control in [child for child in explorer.children if hasattr(child, "description") and child.description]:
            assert control.tooltip, control.description


def test_grad_cam_is_asked_for_the_class_and_the_block_that_are_chosen(network, shown, monkeypatch):
    asked = []
    monkeypatch.setattr(views, "grad_cam", lambda *_, **options: asked.append(options) or np.eye(64))
    explorer = tc.explorers.grad_cam(network, {"red": square(), "noise": noise()})
    assert asked == [{"layer": "layer4", "target": explorer.controls["target"].options[0][1]}]
    explorer.controls["target"].value = 2
    explorer.controls["layer"].value = "layer2"
    assert asked[-1] == {"layer": "layer2", "target": 2}
    assert "Evidence for &#x27;blue&#x27;" in shown[-1]
    explorer.controls["image"].value = "noise"
    order = np.argsort(-views.class_chances(network, noise())).tolist()
    assert [number for _, number in explorer.controls["target"].options] == order
    assert asked[-1] == {"layer": "layer2", "target": order[0]}


@pytest.fixture
def explorer(shown):
    """One whose figure is as simple as can be: its text alternative is the colour of the image."""
    return widgets.ImageExplorer(lambda image: Chart(str(image.getpixel((0, 0)))), {"red": square()}, {})


def upload(explorer, name, content):
    """What the browser's half of a FileUpload sends."""
    when = datetime(2024, 1, 1, tzinfo=timezone.utc)
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content), "last_modified": when}
    explorer.upload.value = (file,)


def test_an_upload_is_shown_and_stays_in_the_list(explorer, shown):
    for colour, expected in (("blue", "(0, 0, 255)"), ("lime", "(0, 255, 0)")):
        upload(explorer, "mine.png", png(square(colour)))
        assert expected in shown[-1]
    assert explorer.choice.options == ("mine.png (2)", "mine.png", "red")
    explorer.choice.value = "red"
    assert "(255, 0, 0)" in shown[-1]


@cases(
    "name, content, expected",
    ("<b>.png", png(square())[:60], "truncated or damaged PNG"),
    ("../../etc/notes.txt", b"hello", "not an image"),
)
def test_a_bad_upload_gets_a_sentence(explorer, shown, name, content, expected):
    upload(explorer, name, content)
    message = html.unescape(explorer.message.value)
    assert f"'{name.rpartition('/')[2]}' cannot be used: " in message
    assert expected in message
    assert "/tmp" not in message
    assert "<b>" not in explorer.message.value
    assert (explorer.choice.options, len(shown)) == (("red",), 1)
    upload(explorer, "good.png", png(square("blue")))
    assert explorer.message.value == ""


def test_errors_are_said_and_those_that_are_not_the_readers_logged(shown, caplog):
    def view(value):
        if value == 13:
            raise ZeroDivisionError("planted <error>")
        if value == 14:
            raise tl.DataError("Take another number.")
        return Chart(f'The number {value} & "more"')

    explorer = widgets.Explorer(view, {"value": ipywidgets.IntSlider(value=1, description="Number")})
    assert 'alt="The number 1 &amp; &quot;more&quot;"' in shown[-1]
    explorer.controls["value"].value = 13
    assert re.search(r'role="alert".*ZeroDivisionError: planted &lt;error&gt;', explorer.message.value)
    explorer.controls["value"].value = 14
    assert "Take another number. The figure is still the one from before." in explorer.message.value
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]
    assert len(shown) == 1
    explorer.controls["value"].value = 2
    assert explorer.message.value == ""
    assert "The number 2" in shown[-1]
