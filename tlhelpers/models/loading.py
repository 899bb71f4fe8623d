"""Load a network with its weights, and give it a head for a new task."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model, vgg
from torchvision.models.vision_transformer import interpolate_embeddings

from tlhelpers.device import current_profile
from tlhelpers.errors import ModelError, WeightsError
from tlhelpers.models.cards import ModelCard
from tlhelpers.models.families import Arch, find_arch, get_head, head_path, unwrapped
from tlhelpers.models.weights import pretrained, pretrained_preprocessing


def load_model(
    arch: str | None = None,
    num_classes: int | None = None,
    *,
    classes: Sequence[str] | None = None,
    weights: str | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Any:
    """Load a network; it is torchvision's or timm's own class, with a `card` added.

    Args:
        arch: a name in `families.ARCHS`; None takes `current_profile().arch`. "vgg16" means `vgg16_gap`, which comes
            with the package, if `weights` is "embedded", and in the quick profile unless `weights` is "imagenet".
        num_classes: outputs of a new head; None keeps the old one.
        classes: names of the outputs, instead of their number.
        weights: "embedded" (ours, trained on Tiny ImageNet), "imagenet", "none" (random numbers), or None for the
            pre-trained ones of this profile.
        size: side of the images in pixels; None takes the size that the weights were trained on.
        seed: of the random numbers of a new head, and of all weights with "none". The global generator stays as it is.

    The network, (batch, 3, size, size) -> logits (batch, classes), is on the CPU in evaluation mode. A ModelError says
    that the architecture is unknown, the size below 32 pixels, or the number of classes below 2; a WeightsError, that
    `weights` are unknown, not available in this profile, damaged, or cannot be downloaded.
    """
    if weights not in (None, "embedded", "imagenet", "none"):
        raise WeightsError(f"weights '{weights}' are not known; expected 'embedded', 'imagenet', 'none' or None")
    name = arch if arch is not None else current_profile().arch
    if name == "vgg16" and (weights == "embedded" or (weights != "imagenet" and current_profile().name == "quick")):
        name = "vgg16_gap"
    row = find_arch(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(row, size)
    if weights == "none":
        card = ModelCard(name, "none", f"{name} with random weights (seed {seed}).", "-", pretrained_preprocessing(row))
    else:
        state, card = pretrained(row, weights, model)
        replace_head(model, len(card.classes))
        if row.family == "vit":  # its weights include a position for each patch of the image
            state = interpolate_embeddings(model.image_size, model.patch_size, state)
        model.load_state_dict(state)
    model.card = card if size is None else replace(card, preprocessing=card.preprocessing.at(size))
    if classes is not None or num_classes is not None:
        replace_head(model, num_classes, classes=classes, seed=seed)
    return model.eval()


def build(row: Arch, size: int | None = None) -> Any:
    """A network with random weights, of torchvision's or timm's own class; 1000 outputs. A ViT takes `size` px only."""
    sized = {"image_size": size or 224} if row.family == "vit" else {}
    if sized.get("image_size", 0) % 16:
        raise ModelError(f"{row.name} cuts images into patches of 16 pixels: expected a multiple of 16, got {size}")
    if row.name == "efficientnet_lite0":
        import timm

        return timm.create_model("tf_efficientnet_lite0")
    return _vgg16_gap() if row.name == "vgg16_gap" else get_model(row.name, weights=None, **sized)


def _vgg16_gap() -> Any:
    """Torchvision's VGG16 with average pooling and one linear layer in place of its three large ones."""
    with torch.device("meta"):  # the large linear layers are not even allocated
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
    """Replace the last linear layer by a new, trainable one; changes the model and its card in place, and returns it.

    The new layer, initialised with `seed`, has `num_classes` outputs, 2 or more, or one for each of `classes`.
    """
    count = num_classes if classes is None else None if isinstance(classes, str | int) else len(classes)
    if count is None or count < 2 or (num_classes is not None and num_classes != count):
        raise ModelError(f"a head needs 2 or more classes; got num_classes={num_classes}, classes={classes}")
    old = get_head(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = nn.Linear(old.in_features, count).to(old.weight.device, old.weight.dtype)
    parent, _, name = head_path(model).rpartition(".")
    network: Any = unwrapped(model)
    setattr(network.get_submodule(parent), name, new)
    if isinstance(card := getattr(network, "card", None), ModelCard):
        network.card = replace(card, classes=tuple(classes or ()))
    return model
