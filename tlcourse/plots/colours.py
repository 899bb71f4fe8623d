"""One colour for one training method, in every figure of the course."""

from collections.abc import Iterable
from itertools import cycle

from tlhelpers.plots import BLUE, GREEN, GREY, ORANGE

SKY = "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, GREY, "#CC79A7", "#E69F00", SKY)

METHOD_COLOURS = {
    **dict.fromkeys(("from scratch", "scratch"), ORANGE),
    **dict.fromkeys(("frozen", "frozen features", "frozen embeddings", "head", "head only", "the head alone"), BLUE),
    **dict.fromkeys(("last block", "last layer"), SKY),
    **dict.fromkeys(("last blocks", "last two blocks", "two blocks"), "#CC79A7"),
    **dict.fromkeys(("everything", "fine-tuned"), GREEN),
    **dict.fromkeys(("random control", "random"), GREY),
    "LoRA": "#E69F00",
}


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: that of its method, or else the next that no method here has."""
    names = list(names)
    methods = {METHOD_COLOURS[name] for name in names if name in METHOD_COLOURS}
    others = cycle([colour for colour in COLOURS if colour not in methods])
    return {name: METHOD_COLOURS.get(name) or next(others) for name in names}
