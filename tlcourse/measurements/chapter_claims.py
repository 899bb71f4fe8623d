"""The claims of the chapter, as textbooks make them, and what this course's measurements say of each."""

import json
import re
from pathlib import Path

from tlcourse.measurements.claims import Claim, Gain

_DATA = Path(__file__).parent / "data"
# By section: the name of each claim, the claim, and below them the conclusion; and the gains that decide some of them.
_TEXT = (_DATA / "chapter_claims.txt").read_text(encoding="utf8")
_GAINS = json.loads((_DATA / "claim_gains.json").read_text(encoding="utf8"))

CLAIMS = tuple(
    Claim(name, sentence, conclusion, Gain(**_GAINS[name]) if name in _GAINS else None)
    for name, sentence, conclusion in re.findall(r"^([a-z-]+): (.+)\n +(.+)$", _TEXT, re.MULTILINE)
)
