"""Looking into a network: what its layers make of images, and which images make a channel answer.

A *layer* is named as torchvision's `create_feature_extractor` names it ("layer1", "layer4.0.conv1"). Where none is
named, the end of every block of the backbone is taken, under the block's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.fx.proxy import TraceError
from torchvision.models.feature_extraction import create_feature_extractor

from tlhelpers.device import current_profile
from tlhelpers.errors import ModelError
from tlhelpers.loop import autocast, on_device, place
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import family_of
from tlhelpers.models.modes import evaluation_mode, preserve_modes

Layers = Mapping[str, str] | Sequence[str] | None
BATCH = 64  # images that go through the network at a time


def activations(model: nn.Module, images: torch.Tensor, layers: Layers = None) -> dict[str, torch.Tensor]:
    """What layers make of images, whole: for a few images, since it takes much memory.

    Args:
        model: a network in any mode; it is looked at in evaluation mode, on the profile's device and in its precision.
        images: (images, 3, height, width), normalised.
        layers: their names, or {name: what to call it here}; None: the end of every block. Where an activation that
            works in place follows, a layer's output is what that has made of it: the stem of a ResNet is seen
            after its ReLU.

    Returns:
        for each layer its output, (images, channels, height, width), float32 on the CPU.

    Raises:
        ModelError: if there is no such layer.
    """
    found = list(_outputs(model, images, layers))
    return {name: torch.cat([outputs[name].cpu() for outputs in found]) for name in found[0]}


def pooled_features(model: nn.Module, images: torch.Tensor, layers: Layers = None) -> dict[str, torch.Tensor]:
    """The mean of every channel over all positions, in each layer: one pass over the images.

    Args and errors: as for `activations`.

    Returns:
        for each layer (images, channels), float32 on the CPU.
    """
    found = list(_outputs(model, images, layers, pool=_mean))
    return {name: torch.cat([outputs[name].cpu() for outputs in found]) for name in found[0]}


def channel_peaks(model: nn.Module, images: torch.Tensor, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """How strongly each channel of a layer answers to each image, and where.

    Args:
        model: as for `activations`.
        images: (images, 3, height, width), normalised.
        layer: its name, or that of a block of the backbone.

    Returns:
        the largest value over all positions, (images, channels), and its place in the image as
        (row, column) between 0 and 1, (images, channels, 2).

    Raises:
        ModelError: if there is no such layer, or its output has no positions.
    """
    values, places = [], []
    for outputs in _outputs(model, images, _one(model, layer)):
        (maps,) = outputs.values()
        if maps.ndim != 4:
            raise ModelError(f"the output of '{layer}' has the shape {tuple(maps.shape)}, so it has no positions")
        height, width = maps.shape[2:]
        best, at = maps.flatten(2).max(dim=2)
        values.append(best.cpu())
        row, column = at // width, at % width
        places.append(torch.stack([(row + 0.5) / height, (column + 0.5) / width], dim=2).cpu())
    return torch.cat(values), torch.cat(places)


def exciting_images(
    model: nn.Module, layer: str, channels: Sequence[int], *, steps: int = 60, lr: float = 0.008, seed: int = 0
) -> torch.Tensor:
    """Images made so that a channel answers strongly: gradient ascent on the pixels, from noise.

    The image is held as its Fourier coefficients, the finer the smaller, and shifted a little before each step;
    without these two the result is mostly high-frequency noise (Olah, Mordvintsev and Schubert, 2017, "Feature
    Visualization", https://doi.org/10.23915/distill.00007).

    Args:
        model: a network with a card, which gives the size in pixels and the normalisation; it is not changed.
        layer: its name, or that of a block of the backbone.
        channels: an image is made for each.
        steps: of Adam.
        lr: its learning rate.
        seed: of the noise and the shifts.

    Returns:
        (len(channels), 3, size, size), between 0 and 1, to be shown.

    Raises:
        ModelError: if there is no such layer.
    """
    look, device = get_card(model).preprocessing, current_profile().device
    place(model, device)
    network = _extractor(model, _one(model, layer))
    generator = torch.Generator().manual_seed(seed)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (look.mean, look.std))
    rows, columns = torch.fft.fftfreq(look.size).abs(), torch.fft.rfftfreq(look.size)
    damping = 1 / torch.hypot(rows[:, None], columns[None, :]).clamp(min=1 / look.size).to(device)
    noise = torch.randn(len(channels), 3, *damping.shape, 2, generator=generator) * 0.01
    waves = noise.to(device).requires_grad_()
    optimizer = torch.optim.Adam([waves], lr=lr)
    with evaluation_mode(model), evaluation_mode(network):
        for step in range(steps + 1):
            spectrum = torch.view_as_complex(waves) * damping
            pixels = torch.fft.irfft2(spectrum, s=(look.size, look.size), norm="ortho").sigmoid()
            if step == steps:
                break
            shift = torch.randint(-4, 5, (2,), generator=generator).tolist()
            (maps,) = network(((pixels - mean) / std).roll(shift, dims=(2, 3))).values()
            answer = maps.flatten(2).mean(2)[range(len(channels)), list(channels)]
            (gradient,) = torch.autograd.grad(-answer.sum(), waves)  # the network's own .grad is left alone
            waves.grad = gradient
            optimizer.step()
    return pixels.detach().cpu()


def _outputs(
    model: nn.Module, images: torch.Tensor, layers: Layers, pool: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Iterator[dict[str, torch.Tensor]]:
    """What layers give, batch by batch, on the profile's device."""
    device = current_profile().device
    place(model, device)
    network = _extractor(model, layers)
    with evaluation_mode(network), torch.no_grad(), autocast(device, current_profile().dtype):
        for batch in images.split(BATCH):
            outputs = network(on_device(batch, device))
            yield {name: (maps.float() if pool is None else pool(maps.float())) for name, maps in outputs.items()}


def _mean(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(2).mean(2) if maps.ndim > 2 else maps


def _one(model: nn.Module, layer: str) -> dict[str, str]:
    """One layer, by its own name or its block's."""
    return {name: block for name, block in block_ends(model).items() if block == layer} or {layer: layer}


def block_ends(model: nn.Module) -> dict[str, str]:
    """{the last layer of a block: the block's name} for every block of the backbone, first block first."""
    return {paths[-1]: block for block, paths in family_of(model).blocks(model).items()}


def _extractor(model: nn.Module, layers: Layers) -> nn.Module:
    """The part of a network that these layers need; it shares the network's own layers."""
    wanted = block_ends(model) if layers is None else layers
    nodes = dict(wanted) if isinstance(wanted, Mapping) else {name: name for name in wanted}
    leaves = [type(module) for module in model.modules() if type(module).__module__.startswith("timm.layers")]
    try:
        with preserve_modes(model):
            return create_feature_extractor(model, nodes, tracer_kwargs={"leaf_modules": leaves})
    except TraceError as error:  # a ValueError too
        raise ModelError(
            f"the `forward` of this {type(model).__name__} depends on its data ({error}), so it cannot be followed "
            "layer by layer; a forward hook on a module can"
        ) from error
    except ValueError as error:
        known = ", ".join(block_ends(model).values())
        names = ", ".join(f"'{name}'" for name in nodes)
        raise ModelError(
            f"this {type(model).__name__} has no layer {names}. Its blocks are {known}; "
            "torchvision.models.feature_extraction.get_graph_node_names(model) lists all layers"
        ) from error
