"""The frozen prefix: both pieces together are the network, and nothing below the cut can change."""

import pytest
import torch
from torch import nn
from toy import cases, every_arch, toy_network, untouched

import tlhelpers as tl
from tlhelpers.frozen_prefix import split_at_frozen_prefix
from tlhelpers.models.freezing import train_mode


def outputs(net, images):
    torch.manual_seed(3)  # dropout
    return net(images)


def boundary(model, *trainable):
    """Where the frozen prefix ends after the modules have been unfrozen."""
    tl.unfreeze_modules(*trainable)
    return split_at_frozen_prefix(model).boundary


@every_arch
@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("mode", [train_mode, nn.Module.eval])
def test_both_pieces_together_are_the_network_in_both_modes(arch, last, mode):
    model = toy_network(arch, last)
    split = split_at_frozen_prefix(model)
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mode(model), mode(split.trainable)
    with torch.no_grad():
        assert torch.equal(outputs(split.trainable, split.frozen(images)), outputs(model, images))
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert trainable <= {id(p) for p in split.trainable.parameters()}, "a trainable parameter lies below the cut"
    assert not any(p.requires_grad for p in split.frozen.parameters())


@every_arch
def test_the_cut_is_as_high_as_it_can_be(arch):
    model = tl.freeze(toy_network(arch))
    split = split_at_frozen_prefix(model)
    weights = [p for p in split.trainable.parameters() if p.ndim > 1]
    assert [id(p) for p in weights] == [id(tl.get_head(model).weight)], "a frozen layer runs in every step"
    with torch.no_grad():
        kept = split.frozen.eval()(torch.rand(1, 3, 64, 64))
    assert kept.shape == (1, tl.get_head(model).in_features), "maps are kept where their means would do"


def test_inside_a_block_but_not_across_a_skip_connection():
    model = tl.freeze(toy_network("resnet34"))
    assert boundary(model, model.layer4[1], model.layer4[2]) == "layer4.0.relu"
    model = tl.freeze(toy_network("resnet18"))  # the input of the trainable convolution is needed for the shortcut, too
    assert boundary(model, model.layer4[1].conv2) == "layer4.0.relu"


def test_what_moves_without_being_trained_lies_above():
    model = toy_network("vgg16_bn").requires_grad_(False)  # frozen by hand: dropout stays on
    model.classifier[6].requires_grad_(True)
    assert boundary(model) == "classifier.1", "dropout is drawn anew in every step"
    assert boundary(tl.freeze(model)) == "classifier.5"
    model = toy_network("resnet18").requires_grad_(False)  # `fit` puts BatchNorm whose weights do not train to rest
    model.fc.requires_grad_(True)
    assert boundary(model) == "flatten"


def test_nothing_frozen_and_networks_that_cannot_be_followed():
    assert split_at_frozen_prefix(toy_network("resnet18")) is None

    class Depends(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, images):
            return self.last(self.first(images) if images.sum() > 0 else images)

    model = Depends()
    tl.freeze_modules(model.first)
    assert split_at_frozen_prefix(model) is None


UNSTEADY = nn.Dropout(), nn.RReLU(), nn.BatchNorm2d(3, affine=False), nn.FractionalMaxPool2d(2, output_ratio=0.5)


@cases("layer", *UNSTEADY, ids=lambda layer: type(layer).__name__)
def test_chance_and_statistics_are_never_kept(layer):
    first, last = nn.Conv2d(3, 3, 1).requires_grad_(False), nn.Linear(3, 2)
    assert boundary(nn.Sequential(first, nn.ReLU(), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)) == "1"


def test_every_mode_is_given_back():
    model = tl.freeze(toy_network("resnet18"), up_to="layer3").train()
    model.layer4[0].eval()
    with untouched(model):
        split_at_frozen_prefix(model)
