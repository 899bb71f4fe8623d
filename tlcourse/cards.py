"""What each data set is, and what it must not be taken for."""

import json
from pathlib import Path

from tlhelpers.data.dataset import DataCard

_TEXTS = json.loads((Path(__file__).parent / "cards.json").read_text(encoding="utf8"))


def card_of(name: str, *, drawn: str = "") -> DataCard:
    """The card of a data set, from `cards.json`; all that are made of emoji share one, which says what is `drawn`."""
    texts = _TEXTS["emoji" if drawn else name]
    return DataCard(name, **{part: text.replace("DRAWN", drawn) for part, text in texts.items()})
