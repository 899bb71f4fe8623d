"""The frozen prefix: both pieces together are the network, and nothing below the cut can change."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy import toy_network

import tlhelpers as tl
from tlhelpers.frozen_prefix import split_at_frozen_prefix
from tlhelpers.models.families import ARCHS
from tlhelpers.models.freezing import train_mode

EVERY_ARCH = pytest.mark.parametrize("arch", list(ARCHS))


def outputs(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)  # dropout
    return net(images)


@EVERY_ARCH
@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("mode", [True, False])
def test_both_pieces_together_are_the_network_in_both_modes(arch: str, last: int, mode: bool) -> None:
    model = toy_network(arch, last)
    split = split_at_frozen_prefix(model)
    assert split is not None
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    if mode:
        train_mode(model), train_mode(split.trainable)
    else:
        model.eval(), split.trainable.eval()
    with torch.no_grad():
        below = split.frozen(images)
        assert torch.equal(outputs(split.trainable, below), outputs(model, images))
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert trainable <= {id(p) for p in split.trainable.parameters()}, "a trainable parameter lies below the cut"
    assert not any(p.requires_grad for p in split.frozen.parameters())


@EVERY_ARCH
def test_the_cut_is_as_high_as_it_can_be(arch: str) -> None:
    model = tl.freeze(toy_network(arch))
    split = split_at_frozen_prefix(model)
    assert split is not None
    weights = [p for p in split.trainable.parameters() if p.ndim > 1]
    assert [id(p) for p in weights] == [id(tl.get_head(model).weight)], "a frozen layer runs in every step"
    split.frozen.eval()
    with torch.no_grad():
        kept = split.frozen(torch.rand(1, 3, 64, 64))
    assert kept.shape == (1, tl.get_head(model).in_features), "maps are kept where their means would do"


def test_inside_a_block_too() -> None:
    model = tl.freeze(toy_network("resnet34"))
    tl.unfreeze_modules(model.layer4[1], model.layer4[2])
    split = split_at_frozen_prefix(model)
    assert split is not None
    assert split.boundary == "layer4.0.relu"
    assert not any("layer4.0" in name for name, _ in split.trainable.named_parameters())


def test_a_skip_connection_is_not_cut() -> None:
    """With only a block's second convolution trainable, its input is still needed for the shortcut."""
    model = tl.freeze(toy_network("resnet18"))
    tl.unfreeze_modules(model.layer4[1].conv2)
    split = split_at_frozen_prefix(model)
    assert split is not None
    assert split.boundary == "layer4.0.relu"


def test_what_moves_without_being_trained_lies_above() -> None:
    model = toy_network("vgg16_bn")  # frozen by hand: dropout stays on
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("classifier.6")
    split = split_at_frozen_prefix(model)
    assert split is not None
    assert split.boundary == "classifier.1", "dropout is drawn anew in every step"
    tl.freeze(model)
    split = split_at_frozen_prefix(model)
    assert split is not None
    assert split.boundary == "classifier.5"

    model = toy_network("resnet18")
    for name, parameter in model.named_parameters():  # BatchNorm whose weights do not train is put to rest by `fit`
        parameter.requires_grad = name.startswith("fc")
    split = split_at_frozen_prefix(model)
    assert split is not None
    assert split.boundary == "flatten"


def test_nothing_frozen_and_networks_that_cannot_be_followed() -> None:
    assert split_at_frozen_prefix(toy_network("resnet18")) is None

    class Depends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(images) if images.sum() > 0 else images)

    model = Depends()
    tl.freeze_modules(model.first)
    assert split_at_frozen_prefix(model) is None


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(), nn.RReLU(), nn.BatchNorm2d(3, affine=False), nn.FractionalMaxPool2d(2, output_ratio=0.5)],
    ids=lambda layer: type(layer).__name__,
)
def test_chance_and_statistics_are_never_kept(layer: nn.Module) -> None:
    first, last = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)
    model = nn.Sequential(first, nn.ReLU(), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    first.requires_grad_(False)
    split = split_at_frozen_prefix(model)
    assert split is not None
    assert split.boundary == "1"


def test_every_mode_is_given_back() -> None:
    model = tl.freeze(toy_network("resnet18"), up_to="layer3").train()
    model.layer4[0].eval()
    before = [module.training for module in model.modules()]
    split_at_frozen_prefix(model)
    assert [module.training for module in model.modules()] == before
