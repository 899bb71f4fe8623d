"""How the weights that the package carries are made, stored and measured (experiments/pretrain.py)."""

import io
import itertools
import zipfile

import numpy as np
import pretrain
import pytest
import torch
from PIL import Image
from tiny_imagenet import load_pixels

import tlhelpers as tl
from tlhelpers.models import weights

NAMES = ["resnet18", "resnet34", "vgg16_gap"]


def test_rounding_is_at_most_half_a_step_of_each_channels_own_scale():
    generator = torch.Generator().manual_seed(0)
    state = {
        "conv.weight": torch.randn(6, 3, 3, 3, generator=generator) * torch.logspace(-3, 2, 6).view(6, 1, 1, 1),
        "fc.weight": torch.randn(4, 5, generator=generator),
        "dead.weight": torch.zeros(2, 3),
        "bn.running_var": torch.tensor([1e-8, 3e8]),
        "bn.num_batches_tracked": torch.tensor(7),
    }
    once = weights.unpack(pretrain.pack(state))
    twice = weights.unpack(pretrain.pack(once))
    assert list(once) == list(state)
    for name, before in state.items():
        assert once[name].dtype == before.dtype
        assert torch.allclose(twice[name], once[name], rtol=1e-6, atol=0)  # rounding twice changes nothing
        if before.ndim < 2 or name == "dead.weight":
            assert torch.equal(once[name], before)
            continue
        step = before.flatten(1).abs().amax(dim=1) / 127
        error = (once[name] - before).flatten(1).abs().amax(dim=1)
        assert (error <= step / 2 * 1.001).all()
        assert (error > 0).all()


@pytest.fixture
def tiny(tmp_path):
    """Tiny ImageNet in miniature, as zip files."""
    rng = np.random.default_rng(0)
    for split, wnid, number in itertools.product(("train", "val"), ("n01", "n02"), range(3)):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
        with zipfile.ZipFile(tmp_path / f"tiny_imagenet_{split}.zip", "a") as archive:
            archive.writestr(f"{wnid}/{split}_{wnid}_{number}.JPEG", buffer.getvalue())
    (tmp_path / "words.txt").write_text("n01\tgoldfish, Carassius\nn02\tbullfrog\n", encoding="utf8")
    return tmp_path


@pytest.mark.slow
def test_the_tool_trains_writes_and_scores(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(pretrain, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(pretrain, "BATCH", 4)
    recipe = pretrain.Recipe(sizes=((1, 32), (1, 64)), lr=0.01)
    monkeypatch.setattr(pretrain, "RECIPES", dict.fromkeys(pretrain.RECIPES, recipe))
    written = None
    for name in [*NAMES, "resnet18"]:
        monkeypatch.setattr("sys.argv", ["pretrain.py", name, "--data", str(tiny)])
        assert pretrain.main() == 0
        card = tl.load_model(name, weights="embedded").card
        assert card.classes == ("goldfish", "bullfrog")
        assert "1 epoch at 32 px, then 1 epoch at 64 px" in str(card)
        assert f"{name}: top-1" in capsys.readouterr().out
        content = (tmp_path / "weights" / "resnet18.safetensors").read_bytes()
        assert content == (written or content)  # finished: nothing is trained again
        written = content
    for name, words in (("resnet34", "grown out of"), ("vgg16_gap", "grown to a VGG16")):
        assert words in " ".join(str(tl.load_model(name).card).split())


@pytest.mark.real
@pytest.mark.parametrize("name", NAMES)
def test_top1_on_the_source_is_what_the_card_says(name, real_data, tmp_path):
    if not any(real_data.glob("tiny_imagenet_val*")):
        pytest.skip(f"{real_data} holds no tiny_imagenet_val.zip")
    model, facts = tl.load_model(name), weights.read_facts(name)
    found = pretrain.accuracies(model, load_pixels(real_data, "val", tmp_path), model.card.preprocessing.size)
    assert found == pytest.approx((facts["top1"], facts["top5"]), abs=0.002)
