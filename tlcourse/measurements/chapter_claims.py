"""The claims of the chapter, as textbooks make them, and what this course's measurements say of each."""

import re
from pathlib import Path

from tlcourse.measurements.claims import Claim, Gain

# By section: the name of each claim, the claim, and below them the conclusion.
_TEXT = (Path(__file__).parent / "data" / "chapter_claims.txt").read_text(encoding="utf8")

_RESNET = {"network": "resnet18"}
GAINS = {
    "less-data": Gain("transfer", "everything", "scratch", _RESNET, test="safari"),
    "less-data-xray": Gain("transfer", "frozen", "scratch", _RESNET, test="chest_xray"),
    "generalisation": Gain("curves", "pre-trained", "scratch", by="start"),
    "batchnorm-held": Gain("batchnorm", "frozen", "updated", {"batch_size": 32}),
    "momentum-steplr": Gain(
        "refinements", "SGD with momentum, StepLR", "AdamW, cosine", {"topic": "recipe"}, test="safari"
    ),
    "gradual": Gain("refinements", "gradual unfreezing", "plain", {"topic": "refinement"}, test="safari"),
    "discriminative": Gain("refinements", "discriminative rates", "plain", {"topic": "refinement"}, test="safari"),
    "fine-tuning-pays": Gain("transfer", "everything", "frozen", {"network": "efficientnet_lite0"}, test="safari"),
    "few-images-head-only": Gain(
        "refinements", "head", "everything", {"topic": "depth", "per_class": 10}, test="safari"
    ),
    "bigger-transfers": Gain("transfer", "resnet34", "resnet18", {"method": "everything"}, by="network", test="safari"),
}

CLAIMS = tuple(
    Claim(name, sentence, conclusion, GAINS.get(name))
    for name, sentence, conclusion in re.findall(r"^([a-z-]+): (.+)\n +(.+)$", _TEXT, re.MULTILINE)
)
