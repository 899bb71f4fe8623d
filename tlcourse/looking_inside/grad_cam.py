"""Grad-CAM: which regions of an image support a prediction."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tlhelpers.errors import ModelError
from tlhelpers.loop import device_of
from tlhelpers.models.families import get_blocks
from tlhelpers.models.freezing import evaluation_mode


def grad_cam(
    model: nn.Module, image: torch.Tensor, *, layer: str | nn.Module | None = None, target: int | None = None
) -> np.ndarray[Any, Any]:
    """A heat map of the evidence for a class (Selvaraju et al. 2017).

    The layer's feature maps are added up, each weighted by the mean gradient of the class's logit. Negative values
    become 0, and the sum is enlarged to the image's size: float32 (height, width), the highest value 1, so that heat
    maps of two images cannot be compared in strength. The classifier runs in fp32 and does not change.

    `image` is one normalised image, float (1, 3, height, width); `layer` the layer, or its path ("layer3"), that
    outputs feature maps (None: `last_maps`); `target` the class that the evidence is for (None: the predicted class). A
    ModelError says that the image is no batch of one, or that the layer or class does not exist.
    """
    if image.ndim != 4 or len(image) != 1:
        raise ModelError(f"grad_cam takes one image as a batch (1, 3, height, width); got {tuple(image.shape)}")
    if isinstance(layer, str) and layer not in dict(model.named_modules()):
        known = ", ".join(name for name, _ in model.named_children())
        raise ModelError(f"this {type(model).__name__} has no layer '{layer}'; its parts are {known}")
    layer = model.get_submodule(layer) if isinstance(layer, str) else last_maps(model) if layer is None else layer
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        kept.append(output)
        return output.clone()  # so that a ReLU that works in place leaves the kept maps as they are

    with layer.register_forward_hook(keep), torch.inference_mode(False), torch.enable_grad(), evaluation_mode(model):
        logits = model(image.detach().clone().to(device_of(model)).requires_grad_())[0]
        number = int(logits.argmax()) if target is None else target
        if not 0 <= number < len(logits):
            raise ModelError(f"target={target}: this {type(model).__name__} has the classes 0 to {len(logits) - 1}")
        if not kept or kept[-1].ndim != 4:
            shape = tuple(kept[-1].shape) if kept else "nothing"
            raise ModelError(f"the layer's output is {shape}; Grad-CAM needs maps (1, channels, height, width)")
        (gradient,) = torch.autograd.grad(logits[number], kept[-1])
    heat = (gradient.mean(dim=(2, 3), keepdim=True) * kept[-1].detach()).sum(dim=1, keepdim=True).relu()
    full = functional.interpolate(heat, image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    return (full / full.max().clamp(min=1e-12)).cpu().numpy()


def last_maps(model: nn.Module) -> nn.Module:
    """The last layer of the last convolutional block; of VGG the one before the pooling, whose maps are larger."""
    blocks = get_blocks(model)
    blocks.pop("classifier", None)  # linear layers have no maps
    *_, modules = blocks.values()
    return modules[-2] if isinstance(modules[-1], nn.MaxPool2d) else modules[-1]
