"""Looking into a network: the outputs of its layers, and the images that excite a channel.

A layer is named as by torchvision's `create_feature_extractor` ("layer1", "layer4.0.conv1").
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.fx.proxy import TraceError
from torchvision.models.feature_extraction import create_feature_extractor

from tlhelpers.device import current_profile
from tlhelpers.errors import ModelError
from tlhelpers.loop import autocast, place, to_device
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import block_paths
from tlhelpers.models.freezing import evaluation_mode, preserve_modes

Layers = Mapping[str, str] | Sequence[str] | None
BATCH = 64  # images that go through the network at a time


def activations(model: nn.Module, images: torch.Tensor, layers: Layers = None) -> dict[str, torch.Tensor]:
    """The outputs of layers; for a few images, since they take much memory.

    Whatever the model's mode, evaluation mode, the profile's device and its precision are used. `images` is (images, 3,
    height, width), normalised; `layers` are names, or {name: name in the result}; None: the end of every block of the
    backbone, under the block's name.

    Returns for each layer (images, channels, height, width), float32 on the CPU, and an output that a following layer
    overwrites in place as overwritten: a ResNet's stem after its ReLU. Raises ModelError if there is no such layer.
    """
    return _collect(model, images, layers, lambda maps: maps)


def pooled_features(model: nn.Module, images: torch.Tensor, layers: Layers = None) -> dict[str, torch.Tensor]:
    """The mean of every channel over all positions, (images, channels) for each layer; otherwise as `activations`."""
    return _collect(model, images, layers, lambda maps: maps.flatten(2).mean(2) if maps.ndim > 2 else maps)


def exciting_images(
    model: nn.Module, layer: str, channels: Sequence[int], *, steps: int = 60, seed: int = 0
) -> torch.Tensor:
    """Images that excite a channel, made from noise by gradient ascent on the pixels.

    The image is optimised as Fourier coefficients, damped by frequency, and shifted a little before each step; without
    both the result is mostly high-frequency noise (Olah et al., 2017, https://doi.org/10.23915/distill.00007).

    The network needs a card, which gives size and normalisation, and is not changed. `layer` is the name of a layer or
    of a block of the backbone; `steps` are Adam's; `seed` is that of the noise and the shifts. The result is
    (len(channels), 3, size, size), between 0 and 1. Raises ModelError if there is no such layer.
    """
    preprocessing, device = get_card(model).preprocessing, current_profile().device
    size = preprocessing.size
    place(model, device)
    ends = {block: name for name, block in block_ends(model).items()}
    network = _extractor(model, [ends.get(layer, layer)])
    generator = torch.Generator().manual_seed(seed)
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    frequencies = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :])
    damping = 1 / frequencies.clamp(min=1 / size).to(device)
    waves = (torch.randn(len(channels), 3, *damping.shape, 2, generator=generator) * 0.01).to(device).requires_grad_()
    optimizer = torch.optim.Adam([waves], lr=0.008)

    def pixels() -> torch.Tensor:
        return torch.fft.irfft2(torch.view_as_complex(waves) * damping, s=(size, size), norm="ortho").sigmoid()

    with evaluation_mode(model), evaluation_mode(network):
        for _ in range(steps):
            shift = torch.randint(-4, 5, (2,), generator=generator).tolist()
            (maps,) = network(((pixels() - mean) / std).roll(shift, dims=(2, 3))).values()
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
    network = _extractor(model, layers)
    with evaluation_mode(network), torch.no_grad(), autocast(device, current_profile().dtype):
        outputs = (network(to_device(batch, device)) for batch in images.split(BATCH))
        found = [{name: reduce(maps.float()).cpu() for name, maps in output.items()} for output in outputs]
    return {name: torch.cat([batch[name] for batch in found]) for name in found[0]}


def _extractor(model: nn.Module, layers: Layers) -> nn.Module:
    """The part of a network that these layers need; it shares the network's own layers."""
    layers = block_ends(model) if layers is None else layers
    nodes = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
    leaves = [type(module) for module in model.modules() if type(module).__module__.startswith("timm.layers")]
    try:
        with preserve_modes(model):
            return create_feature_extractor(model, nodes, tracer_kwargs={"leaf_modules": leaves})
    except TraceError as error:  # a ValueError too
        reason = f"the `forward` of this {type(model).__name__} depends on its data ({error}), so it"
        raise ModelError(f"{reason} cannot be followed layer by layer; a forward hook on a module can") from error
    except ValueError as error:
        known, names = ", ".join(block_ends(model).values()), ", ".join(f"'{name}'" for name in nodes)
        all_of_them = "torchvision.models.feature_extraction.get_graph_node_names(model) lists all layers"
        text = f"this {type(model).__name__} has no layer {names}. Its blocks are {known}"
        raise ModelError(f"{text}; {all_of_them}") from error
