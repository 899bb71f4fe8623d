"""Loading a network with its weights, and giving it a head for a new task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from tlhelpers.device import current_profile
from tlhelpers.errors import ModelError, WeightsError
from tlhelpers.models.cards import ModelCard, set_card
from tlhelpers.models.families import ARCHS, Arch, find_arch, get_blocks, get_head, head_path
from tlhelpers.models.weights import pretrained, twin_preprocessing

WEIGHTS = (None, "embedded", "imagenet", "none")


def load_model(
    arch: str | None = None,
    num_classes: int | None = None,
    *,
    classes: Sequence[str] | None = None,
    weights: str | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Any:
    """Load a network; it is the library's own class, with a `card` added.

    Args:
        arch: a row of the table (`arch_table()`); None takes the profile's own: see `profile.DEFAULT_ARCH`.
            In the quick profile "vgg16" means `vgg16_gap`, the VGG16 that the package carries, unless ImageNet's
            weights are asked for.
        num_classes: puts a new head with this many outputs in place of the old one; None keeps the old one.
        classes: names of the outputs, instead of their number.
        weights: "embedded" (trained by us on Tiny ImageNet, part of this package), "imagenet", "none" (random
            numbers), or None for the pre-trained ones of this profile.
        size: side of the images in pixels, instead of the size that the weights were trained on.
        seed: of the random numbers of a new head (and of all weights, with "none"). The global generator is not
            touched.

    Returns:
        the network on the CPU in evaluation mode, (batch, 3, size, size) -> logits (batch, classes).

    Raises:
        ModelError: for an unknown architecture, or sizes and classes that make no sense.
        WeightsError: where the weights are not to be had in this profile, are damaged, or cannot be downloaded.
    """
    if weights not in WEIGHTS:
        raise WeightsError(
            f"weights '{weights}' are not known; expected 'embedded', 'imagenet', 'none' or None (the default)"
        )
    row = _row(arch if arch is not None else current_profile().arch, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(row)
    if weights == "none":
        card = ModelCard(
            row.name, "none", f"{row.name} with random weights (seed {seed}).", "-", twin_preprocessing(row)
        )
    else:
        state, card = pretrained(row, weights, model)
        replace_head(model, len(card.classes))
        model.load_state_dict(state)
    set_card(model, card if size is None else replace(card, preprocessing=card.preprocessing.at(size)))
    if classes is not None or num_classes is not None:
        replace_head(model, num_classes, classes=classes, seed=seed)
    return model.eval()


def _row(name: str, weights: str | None) -> Arch:
    """The row that a name means: the VGG16 that needs no download has another end than torchvision's."""
    carried = weights == "embedded" or (weights != "imagenet" and current_profile().name == "quick")
    return find_arch("vgg16_gap" if name == "vgg16" and carried else name)


def build(row: Arch) -> Any:
    """A network with random weights, of torchvision's or timm's own class; 1000 outputs."""
    if row.name == "efficientnet_lite0":
        import timm

        return timm.create_model("tf_efficientnet_lite0")
    import torchvision

    if row.name == "vgg16_gap":
        return _vgg16_gap()
    return torchvision.models.get_model(row.name, weights=None)


def _vgg16_gap() -> Any:
    """Torchvision's VGG16 with the mean over positions and one linear layer after its convolutions.

    The original's three linear layers have 124 of its 138 million parameters.
    """
    from torchvision.models import vgg

    with torch.device("meta"):  # its large linear layers are not even allocated
        model: Any = vgg.vgg16(weights=None)
    model.features = vgg.make_layers(vgg.cfgs["D"])
    for name, parameter in model.features.named_parameters():  # as torchvision's VGG does it
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.zeros_(parameter)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(512, 1000))
    return model


def replace_head(
    model: nn.Module, num_classes: int | None = None, *, classes: Sequence[str] | None = None, seed: int = 0
) -> nn.Module:
    """Put a new, trainable linear layer in place of the last one, changing the model in place.

    Args:
        model: a network of a known family, its last layer `Linear(in_features, ...)`.
        num_classes: outputs of the new layer, 2 or more.
        classes: their names; makes `num_classes` unnecessary.
        seed: of the new layer's random numbers (PyTorch's own initialisation of `nn.Linear`).

    Returns:
        the model; its card, if it has one, names the new classes.
    """
    count = num_classes if classes is None else len(classes)
    if count is None or count < 2 or (num_classes is not None and num_classes != count):
        raise ModelError(f"a head needs 2 or more classes; got num_classes={num_classes}, classes={classes}")
    old = get_head(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = nn.Linear(old.in_features, count).to(old.weight.device, old.weight.dtype)
    parent, _, name = head_path(model).rpartition(".")
    setattr(model.get_submodule(parent), name, new)
    card = getattr(model, "card", None)
    if isinstance(card, ModelCard):
        set_card(model, replace(card, classes=tuple(classes or ())))
    return model


def arch_table() -> pd.DataFrame:
    """The table of architectures as a data frame: head, blocks, parameters; builds each once, without weights."""
    rows = []
    for row in ARCHS.values():
        with torch.device("meta"):
            model = build(row)
        count = sum(math.prod(p.shape) for p in model.parameters())
        rows.append((row.name, head_path(model), get_head(model).in_features, ", ".join(get_blocks(model)), count))
    return pd.DataFrame(rows, columns=["arch", "head", "features", "blocks", "parameters"]).set_index("arch")
