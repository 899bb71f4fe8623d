"""What a network is: the card that every loaded network carries as `model.card`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tlhelpers.errors import ModelError
from tlhelpers.models.families import FAMILIES, family_of, find_arch
from tlhelpers.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class ModelCard:
    """What a loaded network is: `model.card`.

    Attributes:
        arch: its row in the table of architectures.
        weights: "embedded", "imagenet", "none", or what its last training is called.
        sentence: what the weights are and where they came from.
        licence: the terms of the weights.
        preprocessing: what it expects of an image.
        classes: the names of its outputs; empty if they have none.
        details: what else is known of its training, as (name, text).
    """

    arch: str
    weights: str
    sentence: str
    licence: str
    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()
    details: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        outputs = f"{len(self.classes)} classes" if self.classes else "classes not named"
        p = self.preprocessing
        rows = [("input", f"{p.size} px, mean {p.mean}, std {p.std}"), ("outputs", outputs), ("terms", self.licence)]
        rows += list(self.details)
        width = max(len(name) for name, _ in rows) + 2
        indent = " " * (width + 2)
        lines = [textwrap.fill(f"  {name:{width}}{text}", 100, subsequent_indent=indent) for name, text in rows]
        return "\n".join([textwrap.fill(self.sentence, 100), *lines])


def set_card(model: Any, card: ModelCard) -> None:
    """Put a card on a network."""
    model.card = card


def get_card(model: nn.Module) -> ModelCard:
    """The card of a network; a ModelError, which says how to give it one, if it has none."""
    card = getattr(model, "card", None)
    if not isinstance(card, ModelCard):
        raise ModelError(
            f"this {type(model).__name__} has no card, so its preprocessing is not known. Load it with "
            "tl.load_model(...), or describe it: model.card = tl.describe(model, arch=..., preprocessing=...)"
        )
    return card


def describe(model: nn.Module, *, arch: str, preprocessing: Preprocessing, classes: Sequence[str] = ()) -> ModelCard:
    """A card for a network that was built by hand; assign it to `model.card`."""
    if family_of(model) is not FAMILIES[find_arch(arch).family]:
        raise ModelError(f"a {type(model).__name__} is not of the family of {arch}")
    return ModelCard(arch, "by hand", f"{arch} built by hand.", "unknown", preprocessing, tuple(classes))
