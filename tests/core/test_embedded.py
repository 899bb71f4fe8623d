"""The weights that the package carries: they load with no network, are what their cards say, and damage is noticed."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tlhelpers as tl
from tlhelpers.models import embedded
from tlhelpers.models.families import ARCHS

ROOT = Path(__file__).resolve().parents[2]
NAMES = [name for name, row in ARCHS.items() if row.offline == "embedded"]
EACH = pytest.mark.parametrize("name", NAMES)
LEAST = {"resnet18": 0.44, "resnet34": 0.45, "vgg16_gap": 0.35}  # top-1; the cards say what it is


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refused)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one network's files, where a test may spoil them."""
    for kind in ("json", "safetensors"):
        shutil.copy(embedded.FOLDER / f"resnet18.{kind}", tmp_path)
    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("asked", ["resnet18", "resnet34", "vgg16"])
def test_the_chapters_networks_need_no_network(asked: str, no_network: None) -> None:
    model = tl.load_model(asked, num_classes=5)
    assert "trained by us on" in model.card.sentence
    assert "Tiny ImageNet" in model.card.sentence
    assert model.card.weights == "embedded"
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_they_are_torchvisions_own_architectures(no_network: None) -> None:
    import torchvision

    for name in ("resnet18", "resnet34"):
        model = tl.load_model(name)
        theirs = torchvision.models.get_model(name, num_classes=len(model.card.classes))
        assert type(model) is type(theirs)
        theirs.load_state_dict(model.state_dict())
        images = torch.rand(2, 3, 64, 64)
        with torch.inference_mode():
            assert torch.equal(model(images), theirs.eval()(images))


def test_vgg16_has_torchvisions_features_and_its_head_where_tutorials_look(no_network: None) -> None:
    from torchvision.models import vgg16

    model = tl.load_model("vgg16")
    with torch.device("meta"):
        theirs = vgg16(weights=None)
    assert [str(layer) for layer in model.features] == [str(layer) for layer in theirs.features]
    assert model.classifier[-1].in_features == 512
    model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, 2)
    with torch.inference_mode():
        for side in (64, 224):
            assert model(torch.rand(1, 3, side, side)).shape == (1, 2)


def test_vgg16_is_torchvisions_where_its_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tl.WeightsError, match="ImageNet weights of vgg16 must be downloaded"):
        tl.load_model("vgg16", weights="imagenet")
    assert tl.load_model("vgg16", weights="none").card.arch == "vgg16_gap"
    tl.use_profile("full", device="cpu", precision="fp32")
    assert tl.load_model("vgg16", weights="none").card.arch == "vgg16"
    assert tl.load_model("vgg16", 2, weights="embedded").card.arch == "vgg16_gap"
    with pytest.raises(tl.WeightsError, match="no ImageNet weights of vgg16_gap"):
        tl.load_model("vgg16_gap", weights="imagenet")


def test_networks_that_are_not_carried_are_named() -> None:
    with pytest.raises(tl.WeightsError, match="no weights of resnet50; it has resnet18, resnet34, vgg16_gap"):
        tl.load_model("resnet50", weights="embedded")


@EACH
def test_the_card_says_what_it_must(name: str) -> None:
    card = tl.load_model(name).card
    details = dict(card.details)
    assert set(details) == {"source", "not for", "trained", "command", "took", "rounding", "measured", "file"}
    assert len(card.classes) == len(set(card.classes)) == 202
    assert f"experiments/pretrain.py {name} " in details["command"]
    assert embedded.sha256_of(embedded.FOLDER / f"{name}.safetensors") in details["file"]
    facts = embedded.read_facts(name)
    assert f"top-1 {facts['top1']:.2%}, top-5 {facts['top5']:.2%}" in details["measured"]
    assert facts["top1"] >= LEAST[name]
    assert facts["top5"] > facts["top1"] + 0.15
    printed = str(card)
    assert all(text.split()[0] in printed for text in details.values())
    assert max(len(line) for line in printed.splitlines()) <= 100


def test_they_are_small_together() -> None:
    assert sum(path.stat().st_size for path in embedded.FOLDER.iterdir()) < 60e6


# --- damage ------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_noticed(copies: Path) -> None:
    path = copies / "resnet18.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        tl.WeightsError, match=r"resnet18\.safetensors is damaged: .* bytes with the SHA-256 .*git checkout"
    ):
        tl.load_model("resnet18")


def test_a_truncated_file_is_noticed(copies: Path) -> None:
    path = copies / "resnet18.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(tl.WeightsError, match=r"is damaged: 5,000 bytes with .*, expected 1\d,\d{3},\d{3} bytes"):
        tl.load_model("resnet18")


def test_missing_files_are_named(copies: Path) -> None:
    (copies / "resnet18.safetensors").unlink()
    with pytest.raises(tl.WeightsError, match="there is no such file; reinstall"):
        tl.load_model("resnet18")
    (copies / "resnet18.json").unlink()
    with pytest.raises(tl.WeightsError, match=r"the card of resnet18, .*, cannot be read"):
        tl.load_model("resnet18")


def test_a_card_for_a_broken_file(copies: Path) -> None:
    path = copies / "resnet18.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    facts = json.loads((copies / "resnet18.json").read_text(encoding="utf8"))
    facts["sha256"] = embedded.sha256_of(path)
    (copies / "resnet18.json").write_text(json.dumps(facts), encoding="utf8")
    with pytest.raises(tl.WeightsError, match="cannot be read"):
        tl.load_model("resnet18")


# --- the format --------------------------------------------------------------------------------------------------


def state(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(6, 3, 3, 3, generator=generator) * torch.logspace(-3, 2, 6).view(6, 1, 1, 1),
        "fc.weight": torch.randn(4, 5, generator=generator),
        "bn.running_var": torch.tensor([1e-8, 3e8]),
        "bn.num_batches_tracked": torch.tensor(7),
        **more,
    }


def test_rounding_is_at_most_half_a_step_of_each_channels_own_scale() -> None:
    before = state()
    after = embedded.unpack(embedded.pack(before))
    assert list(after) == list(before)
    for name in ("bn.running_var", "bn.num_batches_tracked"):
        assert torch.equal(after[name], before[name])
        assert after[name].dtype == before[name].dtype
    for name in ("conv.weight", "fc.weight"):
        step = before[name].flatten(1).abs().amax(dim=1) / 127
        error = (after[name] - before[name]).flatten(1).abs().amax(dim=1)
        assert after[name].dtype == torch.float32
        assert (error <= step / 2 * 1.001).all()
        assert (error > 0).all()


def test_a_channel_of_zeros_stays_zero_and_rounding_twice_changes_nothing() -> None:
    once = embedded.unpack(embedded.pack(state(dead=torch.zeros(2, 3))))
    assert torch.equal(once["dead"], torch.zeros(2, 3))
    twice = embedded.unpack(embedded.pack(once))
    assert all(torch.allclose(twice[name], once[name], rtol=1e-6, atol=0) for name in once)


def test_what_is_written_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "FOLDER", tmp_path / "weights")
    path = embedded.write_embedded("net", state(), {"arch": "net"})
    read, facts = embedded.read_embedded("net")
    expected = embedded.unpack(embedded.pack(state()))
    assert all(torch.equal(read[name], expected[name]) for name in expected)
    assert facts == {"arch": "net", "bytes": path.stat().st_size, "sha256": embedded.sha256_of(path)}


# --- how they are made -------------------------------------------------------------------------------------------


@pytest.fixture
def pretrain(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import pretrain

    return pretrain


def test_growing_a_resnet_changes_nothing_at_first(pretrain: Any) -> None:
    small = tl.load_model("resnet18")
    large = tl.load_model("resnet34", len(small.card.classes), weights="none")
    pretrain.grow_resnet(large, small)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(large(images), small(images))
    small.train(), large.train()
    with torch.no_grad():  # nor while BatchNorm sees batches
        torch.testing.assert_close(large(images), small(images), rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in large.parameters())


def moved_norms(model: Any) -> list[nn.BatchNorm2d]:
    """BatchNorm as after some training, and not as it starts."""
    norms = [layer for layer in model.features if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(tensor, std=0.3)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return norms


def test_growing_a_vgg_changes_nothing_at_first(pretrain: Any) -> None:
    small, large = (pretrain.vgg_with_batchnorm(layout, 5, 0) for layout in "AD")
    assert len(moved_norms(small)) == 8
    assert len(moved_norms(large)) == 13
    images = torch.rand(4, 3, 64, 64)
    pretrain.grow_vgg(large, small, images)
    with torch.inference_mode():
        torch.testing.assert_close(large.eval()(images), small.eval()(images), rtol=1e-4, atol=1e-5)
        other = torch.rand(4, 3, 64, 64)  # not only for the images that it was grown with
        torch.testing.assert_close(large(other), small(other), rtol=1e-4, atol=1e-5)


def test_folding_batchnorm_changes_nothing(pretrain: Any) -> None:
    model = pretrain.vgg_with_batchnorm("D", 3, 0)
    moved_norms(model)
    images = torch.rand(2, 3, 64, 64)
    plain = pretrain.folded(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), model.eval()(images), rtol=1e-4, atol=1e-5)


def make_tiny(folder: Path, *, zipped: bool) -> None:
    """Tiny ImageNet in miniature, in either layout; the same images."""
    import io
    import zipfile

    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = []
    for part, count in (("train", 3), ("val", 2)):
        for wnid in ("n01", "n02"):
            for number in range(count):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
                name = f"{part}_{wnid}_{number}.JPEG"
                if zipped:
                    place = "tiny_imagenet_train_0.zip" if part == "train" else "tiny_imagenet_val.zip"
                    with zipfile.ZipFile(folder / place, "a") as archive:
                        archive.writestr(f"{wnid}/{name}", buffer.getvalue())
                else:
                    home = folder / ("train/" + wnid if part == "train" else "val") / "images"
                    home.mkdir(parents=True, exist_ok=True)
                    (home / name).write_bytes(buffer.getvalue())
                    if part == "val":
                        rows.append(f"{name}\t{wnid}\t0\t0\t63\t63\n")
    if rows:
        (folder / "val" / "val_annotations.txt").write_text("".join(rows), encoding="utf8")
    (folder / "words.txt").write_text("n01\tgoldfish, Carassius\nn02\tbullfrog\n", encoding="utf8")


def test_both_layouts_of_the_source_give_the_same(pretrain: Any, tmp_path: Path) -> None:
    from tiny_imagenet import load_pixels

    for name, zipped in (("zips", True), ("folders", False)):
        (tmp_path / name).mkdir()
        make_tiny(tmp_path / name, zipped=zipped)
    for part, count in (("train", 6), ("val", 4)):
        zips, folders = (load_pixels(tmp_path / name, part, tmp_path / "cache" / name) for name in ("zips", "folders"))
        assert zips.pixels.shape == (count, 3, 64, 64)
        assert zips.classes == folders.classes == ("goldfish", "bullfrog")
        assert torch.equal(zips.pixels, folders.pixels)
        assert torch.equal(zips.labels, folders.labels)
        again = load_pixels(tmp_path / "zips", part, tmp_path / "cache" / "zips")
        assert torch.equal(again.pixels, zips.pixels)
    with pytest.raises(SystemExit, match="holds neither"):
        load_pixels(tmp_path / "cache", "train", tmp_path / "cache")


def test_the_tool_trains_writes_and_scores(
    pretrain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny(tmp_path, zipped=True)
    monkeypatch.setattr(embedded, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(pretrain, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(pretrain, "BATCH", 4)
    recipe = pretrain.Recipe(sizes=((1, 32), (1, 64)), lr=0.01)
    monkeypatch.setattr(pretrain, "RECIPES", dict.fromkeys(pretrain.RECIPES, recipe))
    for name in NAMES:
        monkeypatch.setattr("sys.argv", ["pretrain.py", name, "--data", str(tmp_path)])
        assert pretrain.main() == 0
        model = tl.load_model(name, weights="embedded")
        assert model.card.classes == ("goldfish", "bullfrog")
        assert "1 epoch at 32 px, then 1 epoch at 64 px" in str(model.card)
        assert f"{name}: top-1" in capsys.readouterr().out
    for name, words in (("resnet34", "grown out of"), ("vgg16_gap", "grown to a VGG16")):
        assert words in " ".join(str(tl.load_model(name).card).split())
    written = (tmp_path / "weights" / "resnet18.safetensors").read_bytes()
    monkeypatch.setattr("sys.argv", ["pretrain.py", "resnet18", "--data", str(tmp_path)])
    assert pretrain.main() == 0  # finished: nothing is trained again
    assert (tmp_path / "weights" / "resnet18.safetensors").read_bytes() == written


@pytest.mark.real
@EACH
def test_top1_on_the_source_is_what_the_card_says(name: str, pretrain: Any, real_data: Path, tmp_path: Path) -> None:
    from tiny_imagenet import load_pixels

    if not any(real_data.glob("tiny_imagenet_val*")):
        pytest.skip(f"{real_data} holds no tiny_imagenet_val.zip")
    val = load_pixels(real_data, "val", tmp_path)
    model = tl.load_model(name)
    top1, top5 = pretrain.accuracies(model, val, model.card.preprocessing.size)
    facts = embedded.read_facts(name)
    assert top1 == pytest.approx(facts["top1"], abs=0.002)
    assert top5 == pytest.approx(facts["top5"], abs=0.002)
