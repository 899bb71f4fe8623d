"""Families, heads, preprocessing and saving, for every row of the table."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.data import chelsea
from torch import nn
from torchvision.models import ResNet18_Weights, resnet34
from toy import Mischief, every_arch, refused

import tlcourse as tc
import tlhelpers as tl
from tlhelpers.models import loading
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import ARCHS, get_blocks, get_head, head_path


@every_arch
def test_blocks_and_head_hold_every_parameter_and_buffer_once(arch):
    with torch.device("meta"):
        model = loading.build(ARCHS[arch])
    parts = [*(module for block in get_blocks(model).values() for module in block), get_head(model)]
    owned = [id(tensor) for module in parts for tensor in module.state_dict(keep_vars=True).values()]
    assert len(owned) == len(set(owned)), "a tensor stands in two blocks"
    assert set(owned) == {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}


@every_arch
def test_blocks_stand_in_the_order_of_the_forward_pass_and_a_new_head_runs_last(arch):
    model = tl.load_model(arch, classes=["a", "b", "c"], weights="none", size=64)
    assert (model.card.classes, model.training) == (("a", "b", "c"), False)
    seen = []
    for name, modules in {**get_blocks(model), "head": [get_head(model)]}.items():
        for module in modules:
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    with torch.inference_mode():
        nn.init.zeros_(get_head(model).weight)
        get_head(model).bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        assert torch.equal(model(torch.rand(2, 3, 64, 64)), torch.tensor([[1.0, 2.0, 3.0]] * 2))
    assert list(dict.fromkeys(seen)) == [*get_blocks(model), "head"]


def test_table_agrees_with_torchvision():
    table = tc.arch_table()
    parameters = table["parameters"]
    assert (parameters["resnet18"], parameters["vgg16"]) == (11_689_512, 138_357_544)  # torchvision's own numbers
    assert table.loc[["resnet34", "vgg16", "vgg16_gap"], "head"].tolist() == ["fc", "classifier.6", "classifier.1"]
    features = parameters["vgg16"] - (25088 + 1) * 4096 - (4096 + 1) * 4096 - (4096 + 1) * 1000
    assert parameters["vgg16_gap"] == features + (512 + 1) * 1000


def test_a_network_built_by_hand_is_recognised():
    model = resnet34(weights=None)
    assert head_path(tl.freeze(model, up_to="layer3")) == "fc"
    refused(tl.ModelError, "has no card", get_card, model)
    model.card = tl.ModelCard("resnet34")
    assert get_card(model).preprocessing == tl.Preprocessing()


def test_a_head_that_is_not_linear_is_refused():
    model = tl.load_model("resnet18", weights="none")
    model.fc = nn.Sequential(nn.Linear(512, 2))
    refused(tl.ModelError, "the head 'fc' of this ResNet is Sequential, expected Linear", tl.replace_head, model, 3)


def test_seed_decides_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    one, same, other = (tl.load_model("efficientnet_lite0", 2, seed=s).classifier.weight for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_only_efficientnet_lite_needs_timm(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    tl.load(tl.save(tl.load_model("resnet18", classes=["ant", "bee"]), tmp_path / "net.safetensors"))
    with pytest.raises(ImportError):
        tl.load_model("efficientnet_lite0")


def test_preprocessing_is_torchvisions_own():
    ours, theirs = tl.Preprocessing().evaluation(), ResNet18_Weights.DEFAULT.transforms()
    assert torch.allclose(ours(Image.fromarray(chelsea())), theirs(Image.fromarray(chelsea())), atol=1e-6)


def test_training_views_differ_and_are_normalised_alike():
    preprocessing = tl.Preprocessing().at(64)
    assert (preprocessing.size, preprocessing.resize) == (64, 73)
    white, noisy = Image.new("RGB", (100, 80), "white"), Image.effect_noise((100, 80), 80).convert("RGB")
    training, evaluation = preprocessing.training(), preprocessing.evaluation()
    assert torch.allclose(training(white), evaluation(white))  # of white, every crop is the same
    assert not torch.equal(training(noisy), training(noisy))
    assert torch.equal(preprocessing.training(augment=False)(noisy), evaluation(noisy))
    assert torch.allclose(preprocessing.undo(training(white)), torch.ones(3, 64, 64), atol=1e-6)


@pytest.mark.parametrize("arch", [name for name in ARCHS if name != "vgg16_bn"])  # half a gigabyte; vgg16 is enough
def test_saved_and_loaded_is_the_same(arch, tmp_path):
    model = tl.freeze(tl.load_model(arch, classes=["ant", "bee"], weights="none", size=96, seed=3))
    again = tl.load(tl.save(model, tmp_path / "net.safetensors"))
    assert tl.changed(again, tl.snapshot(model)) == []
    assert again.card == model.card
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_files_that_are_not_what_was_expected(tmp_path):
    path = tl.save(tl.load_model("efficientnet_lite0", classes=["ant", "bee"]), tmp_path / "net.safetensors")

    def strange(sentence, file=path, **expected):
        refused(tl.WeightsError, sentence, tl.load, file, **expected)

    strange("holds a efficientnet_lite0, expected a resnet18", arch="resnet18")
    strange("there is no file", tmp_path / "absent.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    strange("not a whole safetensors file")
    save_file({"x": torch.zeros(1)}, path)
    strange(r"not written by tl\.save")
    for facts in ({}, {"card": "{}"}):
        save_file({"x": torch.zeros(1)}, path, metadata={"format": "tlhelpers-1", **facts})
        strange(r"card inside .* cannot be read")


def test_a_pickle_in_disguise_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.safetensors").write_bytes(pickle.dumps(Mischief()))
    with pytest.raises(tl.WeightsError):
        tl.load("net.safetensors")
    assert not Path("planted").exists()
