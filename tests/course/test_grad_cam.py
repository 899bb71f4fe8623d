"""Grad-CAM: against Captum, for every architecture; and it leaves no trace."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional
from toy import ARCHS, cases, refused, untouched

import tlcourse as tc
import tlhelpers as tl
from tlcourse.looking_inside.activations import last_maps


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def captums(model, image, layer, target):
    """The same map by an independent library."""
    heat = LayerGradCam(model, layer).attribute(image, target=target, relu_attributions=True)
    full = functional.interpolate(heat.detach(), image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    return (full / full.max().clamp(min=1e-12)).numpy()


@cases("arch", *(name for name in ARCHS if name != "vit_b_16"))  # a transformer has no maps
def test_every_architecture_has_the_map_that_captum_computes(arch, image):
    model = tl.load_model(arch, 3, weights="none", seed=1)
    heats = [tc.grad_cam(model, image, target=target) for target in range(3)]
    for target, heat in enumerate(heats):
        np.testing.assert_allclose(heat, captums(model, image, last_maps(model), target), atol=1e-3)
        assert (heat.shape, heat.dtype) == ((64, 96), np.float32)
        assert 0 <= heat.min() <= heat.max() <= 1
    assert any(heat.max() > 0 for heat in heats)
    nn.init.zeros_(tl.get_head(model).weight)
    assert tc.grad_cam(model, image, target=1).max() == 0, "nothing speaks for the class"


def test_the_defaults_are_the_predicted_class_and_the_last_layer_with_maps(image):
    model = tl.load_model("resnet18")
    predicted, heat = int(model(image).argmax()), tc.grad_cam(model, image)
    for layer in ("layer4", model.layer4):
        np.testing.assert_array_equal(heat, tc.grad_cam(model, image, target=predicted, layer=layer))
    for others in ({"target": predicted - 1}, {"target": predicted, "layer": "layer3"}):
        assert np.abs(heat - tc.grad_cam(model, image, **others)).max() > 0.1


def test_nothing_is_left_behind(image):
    model = tl.freeze(tl.load_model("resnet18", 3)).train()
    with untouched(model), torch.inference_mode():
        frozen = tc.grad_cam(model, image, target=1)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not image.requires_grad
    np.testing.assert_allclose(frozen, tc.grad_cam(tl.unfreeze(model), image, target=1), atol=1e-5)


@cases(
    "change, expected",
    ({"image": torch.zeros(3, 64, 64)}, r"batch \(1, 3, height, width\); got \(3, 64, 64\)"),
    ({"layer": "layer9"}, "no layer 'layer9'; its parts are conv1"),
    ({"layer": "fc"}, "needs maps"),
    ({"target": 3}, "target=3.* this ResNet has the classes 0 to 2"),
)
def test_what_cannot_be_is_refused(change, expected):
    options = {"image": torch.zeros(1, 3, 64, 64), **change}
    refused(tl.ModelError, expected, tc.grad_cam, tl.load_model("resnet18", 3, weights="none"), **options)
