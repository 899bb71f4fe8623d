"""Looking into a network: outputs of its layers, each named by its path; images that excite a channel; Grad-CAM."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tlhelpers.device import current_profile
from tlhelpers.errors import ModelError
from tlhelpers.loop import autocast, device_of, place, to_device
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import block_paths, get_blocks
from tlhelpers.models.freezing import evaluation_mode

Layers = Mapping[str, str] | Sequence[str] | None
BATCH = 64  # images that go through the network at a time


def activations(model: nn.Module, images: torch.Tensor, layers: Layers = None) -> dict[str, torch.Tensor]:
    """The outputs of layers; for a few images, since they take much memory.

    Evaluation mode, the profile's device and its precision are used. `images` is (images, 3, height, width),
    normalised; `layers` are names, or {name: name in the result}; None: the end of every block of the backbone, under
    the block's name. Returns for each layer (images, channels, height, width), float32 on the CPU, and an output that a
    following layer overwrites in place as overwritten. Raises ModelError if there is no such layer.
    """
    return _collect(model, images, layers, lambda maps: maps)


def pooled_features(model: nn.Module, images: torch.Tensor, layers: Layers = None) -> dict[str, torch.Tensor]:
    """The mean of every channel over all positions, (images, channels) for each layer; otherwise as `activations`."""
    return _collect(model, images, layers, lambda maps: maps.flatten(2).mean(2) if maps.ndim > 2 else maps)


def exciting_images(
    model: nn.Module, layer: str, channels: Sequence[int], *, steps: int = 60, seed: int = 0
) -> torch.Tensor:
    """Images that excite a channel, made from noise by gradient ascent: (len(channels), 3, size, size), 0 to 1.

    The image is optimised as Fourier coefficients, damped by frequency, and shifted a little before each step; without
    both the result is mostly high-frequency noise (Olah et al., 2017, https://doi.org/10.23915/distill.00007).

    The network needs a card, which gives size and normalisation, and is not changed. `layer` is the name of a layer or
    of a block; `steps` are Adam's; `seed` is that of the noise and the shifts. Raises ModelError if it is unknown.
    """
    preprocessing, device = get_card(model).preprocessing, current_profile().device
    size = preprocessing.size
    place(model, device)
    path = {block: path for path, block in block_ends(model).items()}.get(layer, layer)
    generator = torch.Generator().manual_seed(seed)
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    frequencies = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :])
    damping = 1 / frequencies.clamp(min=1 / size).to(device)
    waves = (torch.randn(len(channels), 3, *damping.shape, 2, generator=generator) * 0.01).to(device).requires_grad_()
    optimizer = torch.optim.Adam([waves], lr=0.008)

    def pixels() -> torch.Tensor:
        return torch.fft.irfft2(torch.view_as_complex(waves) * damping, s=(size, size), norm="ortho").sigmoid()

    with evaluation_mode(model):
        for _ in range(steps):
            shift = torch.randint(-4, 5, (2,), generator=generator).tolist()
            shifted = ((pixels() - mean) / std).roll(shift, dims=(2, 3))
            maps = layer_outputs(model, shifted, [path])[path]
            answer = maps.flatten(2).mean(2)[range(len(channels)), list(channels)]
            (waves.grad,) = torch.autograd.grad(-answer.sum(), waves)  # leaves the network's own .grad alone
            optimizer.step()
    return pixels().detach().cpu()


def block_ends(model: nn.Module) -> dict[str, str]:
    """{last layer of a block: name of the block} for every block of the backbone, first block first."""
    return {paths[-1]: block for block, paths in block_paths(model).items()}


def _collect(
    model: nn.Module, images: torch.Tensor, layers: Layers, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """What `reduce` makes of the outputs of layers, computed batch by batch."""
    device = current_profile().device
    place(model, device)
    layers = block_ends(model) if layers is None else layers
    names = layers if isinstance(layers, Mapping) else dict(zip(layers, layers, strict=True))
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names.values()}
    with evaluation_mode(model), torch.no_grad(), autocast(device, current_profile().dtype):
        for batch in images.split(BATCH):
            for path, maps in layer_outputs(model, to_device(batch, device), names).items():
                found[names[path]].append(reduce(maps.float()).cpu())
    return {name: torch.cat(batches) for name, batches in found.items()}


def layer_outputs(
    model: nn.Module, images: torch.Tensor, layers: Iterable[str], *, copy: bool = False
) -> dict[str, Any]:
    """{path: output} of layers in a forward pass, the last if used twice; `copy` keeps them from in-place changes."""
    known, found = dict(model.named_modules()), dict[str, Any]()

    def keep(path: str, _module: nn.Module, _inputs: object, output: Any) -> None:
        found[path] = output.clone() if copy and isinstance(output, torch.Tensor) else output

    with contextlib.ExitStack() as hooks:
        for path in layers:
            if path not in known:
                text = f"this {type(model).__name__} has no layer '{path}'; `named_modules()` lists them"
                raise ModelError(f"{text}. Its blocks are {', '.join(block_ends(model).values())}")
            hooks.enter_context(known[path].register_forward_hook(functools.partial(keep, path)))
        model(images)
    return found


def grad_cam(
    model: nn.Module, image: torch.Tensor, *, layer: str | nn.Module | None = None, target: int | None = None
) -> np.ndarray[Any, Any]:
    """A heat map of the evidence for a class (Selvaraju et al. 2017), float32 (height, width), 0 to 1.

    The layer's feature maps are added up, each weighted by the mean gradient of the class's logit, without negative
    values, and enlarged to the image's size. The highest value is always 1. The classifier does not change.

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
