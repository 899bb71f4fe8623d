"""Where in an image a network found its evidence: Grad-CAM, computed by Captum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tlhelpers.errors import ModelError
from tlhelpers.loop import device_of
from tlhelpers.models.families import get_blocks
from tlhelpers.models.modes import evaluation_mode


def grad_cam(
    model: nn.Module,
    image: torch.Tensor,
    *,
    layer: str | nn.Module | None = None,
    target: int | None = None,
) -> np.ndarray[Any, Any]:
    """A heat map of what speaks for a class, as Grad-CAM sees it (Selvaraju et al. 2017; computed by Captum).

    The maps that the layer gives are added up, each weighted by how much the class's logit would rise with it; what is
    negative becomes zero, and the sum is enlarged to the image's size. The highest value is set to 1, so maps of two
    images say nothing about which evidence was stronger. The network's modes, gradients and weights stay as they are.

    Args:
        model: a classifier, frozen or not; seen in evaluation mode and fp32, on its own device.
        image: one normalised image, float (1, 3, height, width).
        layer: the layer, or its path ("layer3"), with maps as output; None is the last one with maps: `last_maps`.
        target: the class that the evidence is for; None is the predicted class.

    Returns:
        float32 (height, width) between 0 and 1; zero everywhere if nothing speaks for the class.

    Raises:
        ModelError: if the image is no batch of one, or layer or class do not exist.
    """
    from captum.attr import LayerGradCam

    if image.ndim != 4 or len(image) != 1:
        raise ModelError(f"grad_cam takes one image as a batch (1, 3, height, width); got {tuple(image.shape)}")
    chosen = last_maps(model) if layer is None else _layer(model, layer)
    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(model):
        seen = image.detach().clone().to(device_of(model)).requires_grad_()
        logits = model(seen)[0]
        wanted = int(logits.argmax()) if target is None else target
        if not 0 <= wanted < len(logits):
            raise ModelError(f"target={target}, but this {type(model).__name__} has the classes 0 to {len(logits) - 1}")
        heat: Any = LayerGradCam(model, chosen).attribute(seen, target=wanted, relu_attributions=True)
    if heat.ndim != 4:
        raise ModelError(
            f"the layer's output has the shape {tuple(heat.shape)}; Grad-CAM needs maps (1, channels, h, w)"
        )
    full = functional.interpolate(heat.detach(), image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    return (full / full.max().clamp(min=1e-12)).cpu().numpy()


def last_maps(model: nn.Module) -> nn.Module:
    """The last layer of the last convolutional block; of VGG the one before the pooling, whose maps are finer.

    Raises:
        ModelError: if the network is of no family in the table.
    """
    blocks = get_blocks(model)
    blocks.pop("classifier", None)  # linear layers: they have no maps
    *_, modules = blocks.values()
    return modules[-2] if isinstance(modules[-1], nn.MaxPool2d) else modules[-1]


def _layer(model: nn.Module, layer: str | nn.Module) -> nn.Module:
    if isinstance(layer, nn.Module):
        return layer
    try:
        return model.get_submodule(layer)
    except AttributeError as error:
        known = ", ".join(name for name, _ in model.named_children())
        raise ModelError(f"this {type(model).__name__} has no layer '{layer}'; its parts are {known}") from error
