"""Save a trained network in one safetensors file that says what it is, and read it back with checks."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from tlhelpers.errors import WeightsError, quoted
from tlhelpers.files import atomic_write, user_path
from tlhelpers.models.cards import ModelCard, Preprocessing, get_card
from tlhelpers.models.families import find_arch, get_head, unwrapped
from tlhelpers.models.loading import build, replace_head

FORMAT = "tlhelpers-1"


def save(model: nn.Module, path: str | Path) -> Path:
    """Write weights and card to a `.safetensors` file, which holds numbers and text only and cannot run code.

    A crash leaves the old file or the new one. The folder must exist; the path is returned. Raises ModelError if the
    network has no card with an `arch` of the table, OutputError if the file cannot be written.
    """
    find_arch(get_card(model).arch)  # `load` could not build another
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in unwrapped(model).state_dict().items()}
    facts = {**dataclasses.asdict(get_card(model)), "outputs": get_head(model).out_features}
    with atomic_write(path) as file:
        file.write(to_bytes(state, metadata={"format": FORMAT, "card": json.dumps(facts)}))
    return user_path(path)


def load(path: str | Path, *, arch: str | None = None, classes: tuple[str, ...] | None = None) -> Any:
    """A network that `save` wrote, with its card, on the CPU in evaluation mode; all parameters are trainable.

    A WeightsError says if the file is not whole, or not of the expected architecture or classes (None accepts any).
    """
    path = user_path(path)
    if not path.is_file():
        raise WeightsError(f"{path} is a folder; name a file in it" if path.is_dir() else f"there is no file {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}): damaged, or of another kind") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} was not written by tl.save: it does not say which network its weights are of")
    try:
        facts = json.loads(metadata.get("card", ""))
        outputs = int(facts.pop("outputs"))
        facts["preprocessing"] = Preprocessing(**facts["preprocessing"])
        facts["classes"], facts["details"] = tuple(facts["classes"]), tuple(map(tuple, facts.get("details", ())))
        card = ModelCard(**facts)
        row = find_arch(card.arch)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"the card inside {path} cannot be read: {error!r}") from error
    if arch is not None and arch != card.arch:
        raise WeightsError(f"{path} holds a {card.arch}, expected a {arch}")
    if classes is not None and tuple(classes) != card.classes:
        own, expected = quoted(card.classes, classes), quoted(classes, card.classes)
        raise WeightsError(f"{path} has the classes {own}, expected {expected}")
    with torch.random.fork_rng(devices=[]):  # its random numbers are replaced at once
        model: Any = replace_head(build(row, card.preprocessing.size), outputs)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} says that it is a {card.arch}, but its tensors do not fit one: {error}") from error
    model.card = card
    return model.eval()
