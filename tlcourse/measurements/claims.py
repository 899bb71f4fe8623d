"""The table of claims: each with its cell, tagged `claim-<name>`, its gain or what the cell printed, and a verdict."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tlcourse.measurements import results
from tlcourse.measurements.comparison import margin_of_error
from tlhelpers.errors import DataError

NOT_SO = "Not so here: "  # what a sentence begins with that does not hold
CLAIM_OUTPUTS = "claim_outputs.json"


def report_finding(sentence: str, *facts: object) -> None:
    """Print a finding, after "Not so here: " unless all facts that it rests on are true; a ValueError without facts."""
    if not facts:
        raise ValueError("report_finding needs at least one fact that the sentence rests on")
    print(sentence if all(bool(fact) for fact in facts) else f"{NOT_SO}{sentence}")


@dataclass(frozen=True)
class Gain:
    """The gain of one method over another, from a results file."""

    file: str  # name of the results file
    better: str
    than: str
    where: Mapping[str, Any] = field(default_factory=dict)  # columns, and the values that they must have
    by: str = "method"  # the column that holds `better` and `than`
    test: str = ""  # the test set, where the file says which of its images were right; "": column `test` alone

    def interval(self) -> tuple[float, float, float]:
        """Mean and 95 % interval in percentage points: see `Results.gain`, or Student's t over seeds alone."""
        found = results.load_results(self.file)
        if self.test:
            better, than = ({**self.where, self.by: name} for name in (self.better, self.than))
            mean, low, high = found.gain(self.test, better, than)
            return 100 * mean, 100 * low, 100 * high
        wide = 100 * found.where(**self.where).pivot(index="seed", columns=self.by, values="test")
        differences = (wide[self.better] - wide[self.than]).dropna()
        margin = margin_of_error(differences, 0.95)
        return float(differences.mean()), float(differences.mean() - margin), float(differences.mean() + margin)

    def verdict(self) -> str:
        """What the interval says: "holds", "does not hold here", or that too little was tested if it contains zero."""
        _, low, high = self.interval()
        return "holds" if low > 0 else "does not hold here" if high < 0 else "not adequately tested here"

    def __str__(self) -> str:
        return "{:+.1f} points ({:+.1f} to {:+.1f})".format(*self.interval())


@dataclass(frozen=True)
class Claim:
    """A sentence that can be checked."""

    name: str  # the tag of the cell that tests it, without "claim-"
    sentence: str  # as textbooks say it
    conclusion: str  # the verdict, and after a colon what it depends on or what is true instead
    gain: Gain | None = None

    @property
    def verdict(self) -> str:
        """One of "holds", "holds when", "does not hold here", "not adequately tested here"."""
        return self.conclusion.partition(":")[0]


def table_of_claims(claims: tuple[Claim, ...]) -> pd.DataFrame:
    """A row for each claim: columns claim, tested in, measured, verdict. Raises DataError if no cell tests a claim."""
    outputs = json.loads((results.FOLDER / CLAIM_OUTPUTS).read_text(encoding="utf8"))
    rows = []
    for claim in claims:
        if claim.name not in outputs:
            raise DataError(f"no cell has the tag 'claim-{claim.name}'; execute its notebook: tools/notebooks.py sync")
        notebook, printed = outputs[claim.name]
        rows.append((claim.sentence, notebook, str(claim.gain or printed), claim.conclusion))
    return pd.DataFrame(rows, columns=["claim", "tested in", "measured", "verdict"])
