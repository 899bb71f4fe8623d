"""The claims of the chapter, as textbooks make them, and what this course's measurements say of each."""

import re
from pathlib import Path

from tlcourse.measurements.claims import Claim, Gain

# By section: the name of each claim, the claim, and below them the conclusion.
_TEXT = (Path(__file__).parent / "data" / "chapter_claims.txt").read_text(encoding="utf8")


def _transfer(better: str, than: str, data: str, per_class: int) -> Gain:
    where = {"network": "resnet18", "data": data, "per_class": per_class}
    return Gain("transfer", better, than, where, column="balanced_accuracy")


GAINS = {
    "less-data": _transfer("everything", "scratch", "safari", 40),
    "less-data-xray": _transfer("frozen", "scratch", "chest_xray", 50),
    "generalisation": Gain("curves", "pre-trained", "scratch", by="start"),
    "batchnorm-held": Gain("batchnorm", "held", "drifting", {"batch_size": 4}),
    "momentum-steplr": Gain("recipes", "SGD with momentum, StepLR", "AdamW, constant"),
    "gradual": Gain("stages", "gradual unfreezing", "everything at once"),
    "discriminative": Gain("stages", "discriminative rates", "everything at once"),
    "regularisation": Gain("regularisation", "all four", "nothing"),
    "fine-tuning-pays": _transfer("last two blocks", "frozen", "safari", 40),
}

CLAIMS = tuple(
    Claim(name, sentence, conclusion, GAINS.get(name))
    for name, sentence, conclusion in re.findall(r"^([a-z-]+): (.+)\n +(.+)$", _TEXT, re.MULTILINE)
)
