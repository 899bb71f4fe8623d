"""What a network is: the card that every loaded network carries as `model.card`."""

import textwrap
from dataclasses import dataclass

from torch import nn

from tlhelpers.errors import ModelError
from tlhelpers.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class ModelCard:
    """What a loaded network is: `model.card`."""

    arch: str  # its row in the table of architectures
    weights: str = "by hand"  # those it was loaded with: "embedded", "imagenet" or "none"
    sentence: str = "A network that was built by hand."  # what those weights are and where they came from
    licence: str = "unknown"  # the terms of the weights
    preprocessing: Preprocessing = Preprocessing()  # noqa: RUF009 (it cannot change); what it expects of an image
    classes: tuple[str, ...] = ()  # the names of its outputs; empty if they have none
    details: tuple[tuple[str, str], ...] = ()  # what else is known of its training, as (name, text)

    def __str__(self) -> str:
        outputs = f"{len(self.classes)} classes" if self.classes else "classes not named"
        p = self.preprocessing
        rows = [("input", f"{p.size} px, mean {p.mean}, std {p.std}"), ("outputs", outputs), ("terms", self.licence)]
        rows += list(self.details)
        width = max(len(name) for name, _ in rows) + 2
        indent = " " * (width + 2)
        lines = [textwrap.fill(f"  {name:{width}}{text}", 100, subsequent_indent=indent) for name, text in rows]
        return "\n".join([textwrap.fill(self.sentence, 100), *lines])


def get_card(model: nn.Module) -> ModelCard:
    """The card of a network; a ModelError, which says how to give it one, if it has none."""
    if not isinstance(card := getattr(model, "card", None), ModelCard):
        raise ModelError(
            f"this {type(model).__name__} has no card, so its preprocessing is not known. Load it with "
            "tl.load_model(...), or give it one: model.card = tl.ModelCard(arch=..., preprocessing=...)"
        )
    return card
