"""What is looked at inside a network is what is there: layers, peaks, made images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tlcourse as tc
import tlhelpers as tl
from tlcourse.looking_inside.activations import block_ends
from tlhelpers.models.families import ARCHS
from tlhelpers.models.loading import build


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return tl.load_model("resnet18")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_every_block_ends_in_what_the_network_itself_computes(network: nn.Module, images: torch.Tensor) -> None:
    maps = tc.activations(network, images)
    shapes = {name: tuple(m.shape[1:]) for name, m in maps.items()}
    assert shapes == {
        "stem": (64, 32, 32),
        "layer1": (64, 16, 16),
        "layer2": (128, 8, 8),
        "layer3": (256, 4, 4),
        "layer4": (512, 2, 2),
    }
    with torch.no_grad():
        x = network.relu(network.bn1(network.conv1(images)))
        torch.testing.assert_close(maps["stem"], x, atol=1e-4, rtol=1e-4)  # after its ReLU
        x = network.layer2(network.layer1(network.maxpool(x)))
        torch.testing.assert_close(maps["layer2"], x, atol=1e-4, rtol=1e-4)


def test_pooled_features_are_means_and_give_the_networks_answer(network: nn.Module, images: torch.Tensor) -> None:
    pooled, maps = tc.pooled_features(network, images), tc.activations(network, images)
    for name, values in pooled.items():
        torch.testing.assert_close(values, maps[name].mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(network.fc(pooled["layer4"]), network(images), atol=1e-4, rtol=1e-4)


def test_batches_make_no_difference(network: nn.Module, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tc.pooled_features(network, images, ["layer1"])["layer1"]
    monkeypatch.setattr("tlcourse.looking_inside.activations.BATCH", 2)
    torch.testing.assert_close(tc.pooled_features(network, images, ["layer1"])["layer1"], whole, atol=1e-5, rtol=1e-5)


def test_a_look_changes_nothing(images: torch.Tensor) -> None:
    model = tl.load_model("resnet18")
    model.train()
    model.layer1.eval()
    before, modes = tl.snapshot(model), [module.training for module in model.modules()]
    tc.activations(model, images)
    tc.channel_peaks(model, images, "layer1")
    tc.exciting_images(model, "layer1", [0], steps=2)
    assert tl.changed(model, before) == []
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_layers_by_name_and_by_another_name(network: nn.Module, images: torch.Tensor) -> None:
    found = tc.activations(network, images[:1], {"layer3.0.conv1": "inside", "avgpool": "end"})
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "inside": (1, 256, 4, 4),
        "end": (1, 512, 1, 1),
    }


def test_an_unknown_layer_is_named(network: nn.Module, images: torch.Tensor) -> None:
    with pytest.raises(tl.ModelError, match=r"ResNet has no layer 'layer5'.*stem, layer1, layer2, layer3, layer4"):
        tc.activations(network, images, ["layer5"])
    with pytest.raises(tl.ModelError, match=r"'flatten' has the shape \(5, 512\), so it has no positions"):
        tc.channel_peaks(network, images, "flatten")


def test_a_network_that_cannot_be_followed_is_said_to_be_so() -> None:
    from torchvision.models.resnet import ResNet

    class Choosy(ResNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.mean() > 0 else -x)

    model = Choosy(tl.load_model("resnet18").layer1[0].__class__, [1, 1, 1, 1])
    with pytest.raises(tl.ModelError, match="`forward` of this Choosy depends on its data"):
        tc.pooled_features(model, torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("name", ["resnet18", "vgg16_gap", "densenet121", "mobilenet_v3_small", "efficientnet_lite0"])
def test_blocks_of_every_family_can_be_looked_at(name: str) -> None:
    model = build(ARCHS[name]).eval()
    pooled = tc.pooled_features(model, torch.zeros(1, 3, 64, 64))
    assert list(pooled) == list(block_ends(model).values())
    assert all(values.ndim == 2 for values in pooled.values())


def test_peaks_lie_where_the_image_has_something() -> None:
    """A network whose first channel is the image's own red: the peak is the red spot."""
    model = tl.load_model("resnet18", weights="none")
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.weight[0, 0, 3, 3] = 1.0  # red, at the centre of the kernel
    images = torch.zeros(2, 3, 64, 64)
    images[0, 0, 8, 40] = 5.0
    images[1, 0, 50, 4] = 7.0
    values, places = tc.channel_peaks(model, images, "stem")
    assert values[:, 0].tolist() == pytest.approx([5.0, 7.0], rel=1e-3)
    assert (places[:, 0] * 64).tolist() == [pytest.approx([9, 41]), pytest.approx([51, 5])]  # middle of 2 x 2 pixels


def test_made_images_excite_their_own_channel(network: nn.Module) -> None:
    look, channels = network.card.preprocessing, [3, 7]
    made = tc.exciting_images(network, "layer2", channels, steps=25, seed=1)
    noise = tc.exciting_images(network, "layer2", channels, steps=0, seed=1)
    assert made.shape == (2, 3, 64, 64)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (look.mean, look.std))
    answers = {
        name: tc.pooled_features(network, (images - mean) / std, ["layer2"])["layer2"][:, channels]
        for name, images in {"made": made, "noise": noise}.items()
    }
    for own in range(2):
        assert answers["made"][own, own] > 2 * answers["noise"][own, own] + 0.1
        assert answers["made"][own, own] > answers["made"][1 - own, own]  # the other image does it less
    again = tc.exciting_images(network, "layer2", channels, steps=25, seed=1)
    assert torch.equal(made, again)
    assert not torch.equal(made, tc.exciting_images(network, "layer2", channels, steps=25, seed=2))
