"""Save a trained network in one safetensors file that says what it is, and read it back with checks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from tlhelpers.errors import WeightsError
from tlhelpers.files import atomic_write
from tlhelpers.models.cards import ModelCard, get_card, set_card
from tlhelpers.models.families import find_arch, get_head
from tlhelpers.models.loading import build, replace_head
from tlhelpers.models.preprocessing import Preprocessing

FORMAT = "tlhelpers-1"


def save(model: nn.Module, path: str | Path) -> Path:
    """Write weights and card to a `.safetensors` file, which holds numbers and text only and cannot run code.

    A crash leaves the old file or the new one, never a torn one.

    Args:
        model: a network with a card.
        path: where to; its folder must exist. It is returned.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    facts = {**dataclasses.asdict(get_card(model)), "outputs": get_head(model).out_features}
    with atomic_write(path) as file:
        file.write(to_bytes(state, metadata={"format": FORMAT, "card": json.dumps(facts)}))
    return Path(path)


def load(path: str | Path, *, arch: str | None = None, classes: tuple[str, ...] | None = None) -> Any:
    """A network that `save` wrote, with its card, on the CPU in evaluation mode; everything in it can train.

    Args:
        path: the file.
        arch: the expected architecture; None accepts any.
        classes: the expected classes, in order; None accepts any.

    Raises:
        WeightsError: if the file is missing, damaged, not from `save`, or not what was expected; both sides are named.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}): damaged, or of another kind") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} was not written by tl.save: it does not say which network its weights are of")
    card, outputs = _read_card(path, metadata.get("card", ""))
    if arch is not None and arch != card.arch:
        raise WeightsError(f"{path} holds a {card.arch}, expected a {arch}")
    if classes is not None and tuple(classes) != card.classes:
        raise WeightsError(f"{path} has the classes {list(card.classes)}, expected {list(classes)}")
    with torch.random.fork_rng(devices=[]):  # its random numbers are replaced at once
        model = replace_head(build(find_arch(card.arch)), outputs)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} says that it is a {card.arch}, but its tensors do not fit one: {error}") from error
    set_card(model, card)
    return model.eval()


def _read_card(path: Path, text: str) -> tuple[ModelCard, int]:
    try:
        facts = json.loads(text)
        outputs = int(facts.pop("outputs"))
        facts["preprocessing"] = Preprocessing(**facts["preprocessing"])
        facts["classes"], facts["details"] = tuple(facts["classes"]), tuple(map(tuple, facts.get("details", ())))
        return ModelCard(**facts), outputs
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the card inside {path} cannot be read: {error!r}") from error
