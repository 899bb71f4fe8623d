"""Grad-CAM: against Captum, for every architecture, and against a mark planted in the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional

import tlhelpers as tl
from tlhelpers.errors import ModelError
from tlhelpers.gradcam import last_maps
from tlhelpers.models.families import ARCHS


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def captums(model: nn.Module, image: torch.Tensor, layer: nn.Module, target: int) -> np.ndarray:
    """The same map by an independent library."""
    heat = LayerGradCam(model, layer).attribute(image, target=target, relu_attributions=True)
    full = functional.interpolate(heat.detach(), image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    return (full / full.max().clamp(min=1e-12)).numpy()


@pytest.mark.parametrize("arch", list(ARCHS))
def test_every_architecture_has_the_map_that_captum_computes(arch: str, image: torch.Tensor) -> None:
    model = tl.load_model(arch, 3, weights="none", seed=1)
    heats = [tl.grad_cam(model, image, target=target) for target in range(3)]
    assert all(heat.shape == (64, 96) and heat.dtype == np.float32 for heat in heats)
    assert all(heat.min() >= 0 and heat.max() <= 1 for heat in heats)
    assert any(heat.max() > 0 for heat in heats)
    for target, heat in enumerate(heats):
        np.testing.assert_allclose(heat, captums(model, image, last_maps(model), target), atol=1e-3)


def test_the_default_class_is_the_predicted_one(image: torch.Tensor) -> None:
    model = tl.load_model("resnet18")
    predicted = int(model(image).argmax())
    np.testing.assert_array_equal(tl.grad_cam(model, image), tl.grad_cam(model, image, target=predicted))
    assert np.abs(tl.grad_cam(model, image) - tl.grad_cam(model, image, target=predicted - 1)).max() > 0.1


def test_a_layer_is_named_or_given(image: torch.Tensor) -> None:
    model = tl.load_model("resnet18")
    by_name = tl.grad_cam(model, image, layer="layer3", target=0)
    np.testing.assert_array_equal(by_name, tl.grad_cam(model, image, layer=model.layer3, target=0))
    assert np.abs(by_name - tl.grad_cam(model, image, target=0)).max() > 0.1


def test_nothing_is_left_behind(image: torch.Tensor) -> None:
    model = tl.freeze(tl.load_model("resnet18", 3)).train()
    before, modes = tl.snapshot(model), [module.training for module in model.modules()]
    with torch.inference_mode():
        frozen = tl.grad_cam(model, image, target=1)
    assert tl.changed(model, before) == []
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not image.requires_grad
    np.testing.assert_allclose(frozen, tl.grad_cam(tl.unfreeze(model), image, target=1), atol=1e-5)


class Brightness(nn.Module):
    """Two classes: bright and dark; what speaks for "bright" is where the image is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 3, padding=1)
        nn.init.constant_(self.maps.weight, 1.0)
        with torch.no_grad():
            self.maps.weight[1] *= -1
        nn.init.zeros_(self.maps.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps(images).relu().mean(dim=(2, 3))


@pytest.mark.parametrize(("top", "left"), [(4, 4), (4, 40), (40, 4), (36, 44)])
def test_a_bright_patch_is_where_the_evidence_for_bright_is(top: int, left: int) -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[..., top : top + 12, left : left + 12] = 1
    heat = tl.grad_cam(Brightness(), image, layer="maps", target=0)
    patch = heat[top : top + 12, left : left + 12].sum()
    assert patch > 0.7 * heat.sum()
    assert tl.grad_cam(Brightness(), image, layer="maps", target=1).max() <= 1
    nothing = tl.grad_cam(Brightness(), torch.zeros(1, 3, 64, 64), layer="maps", target=0)
    assert nothing.max() == 0, "no evidence, no heat"


def test_a_trained_network_points_at_the_object() -> None:
    """On plain grey around a drawing the map of the shipped weights is warmer on the drawing than beside it."""
    data = tl.load_data("safari", size=96, per_class=1, val_per_class=3, test_per_class=1, clutter=0)
    model = tl.load_model("efficientnet_lite0", size=96)
    transform = model.card.preprocessing.evaluation()
    inside = []
    for i in range(len(data.val)):
        x0, y0, x1, y1 = (int(v) for v in data.val.load.boxes(i)[0])  # type: ignore[attr-defined]
        heat = tl.grad_cam(model, transform(data.val.image(i))[None])
        where = np.zeros_like(heat, dtype=bool)
        where[y0:y1, x0:x1] = True
        inside.append(heat[where].mean() > heat[~where].mean())
    assert np.mean(inside) > 0.6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image": torch.zeros(3, 64, 64)}, r"batch \(1, 3, height, width\); got \(3, 64, 64\)"),
        ({"image": torch.zeros(2, 3, 64, 64)}, r"got \(2, 3, 64, 64\)"),
        ({"layer": "layer9"}, "no layer 'layer9'; its parts are conv1"),
        ({"layer": "fc"}, "needs maps"),
        ({"target": 3}, "target=3, but this ResNet has the classes 0 to 2"),
        ({"target": -1}, "target=-1"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, expected: str) -> None:
    options = {"image": torch.zeros(1, 3, 64, 64), **change}
    with pytest.raises(ModelError, match=expected):
        tl.grad_cam(tl.load_model("resnet18", 3, weights="none"), **options)
