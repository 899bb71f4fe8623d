"""The table of claims: every checkable sentence of the chapter, the cell that tests it, what was measured, the verdict.

A cell that tests a claim carries the tag `claim-<name>`. Its printed output is what the table quotes, unless the claim
has a gain that is computed from a results file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tlcourse.measurements.comparison import margin_of_error
from tlcourse.measurements.results import load_results
from tlhelpers.errors import DataError

NOT_SO = "Not so here: "  # what a sentence begins with that does not hold

VERDICTS = ("holds", "holds when", "not shown", "does not hold")


def report_finding(sentence: str, *facts: object) -> None:
    """Print a sentence if all that it rests on is so, and else that it is not so here.

    What a notebook says was measured with the data and weights that come with the course; there the stored output tells
    if it is no longer so. With other data, other weights or another device a sentence may turn out wrong, which is a
    finding and no reason to stop.

    Args:
        sentence: what the prose goes on from.
        facts: comparisons, each true or false; one at least.

    Raises:
        ValueError: if there is nothing that it rests on.
    """
    if not facts:
        raise ValueError("a sentence needs something that it rests on")
    print(sentence if all(bool(fact) for fact in facts) else f"{NOT_SO}{sentence}")


@dataclass(frozen=True)
class Gain:
    """One way against another, compared seed by seed.

    Attributes:
        results: name of the results file.
        column: what was measured, as fractions.
        better: values of columns that pick the runs of the way that is said to be better.
        than: the same for the other way.
        where: the same for both.
    """

    results: str
    column: str
    better: Mapping[str, Any]
    than: Mapping[str, Any]
    where: Mapping[str, Any]

    def differences(self) -> pd.Series[float]:
        """In points, one for each seed.

        Raises:
            DataError: if the results file has no such pair of runs.
        """
        runs = load_results(self.results).runs
        for name, value in self.where.items():
            runs = runs[runs[name] == value]
        sides = []
        for method in (self.better, self.than):
            side = runs
            for name, value in method.items():
                side = side[side[name] == value]
            if side.empty or side["seed"].duplicated().any():
                raise DataError(
                    f"{self.results}: {len(side)} runs with {dict(method)}, {dict(self.where)}; expected one a seed"
                )
            sides.append(100 * side.set_index("seed")[self.column])
        return (sides[0] - sides[1]).dropna()

    def verdict(self) -> str:
        """What Student's t interval (95 %) for the mean says: "holds", "not shown" or "does not hold"."""
        found = self.differences()
        margin = margin_of_error(found, 0.95)
        if abs(found.mean()) <= margin:
            return "not shown"
        return "holds" if found.mean() > 0 else "does not hold"

    def __str__(self) -> str:
        found = self.differences()
        return f"{found.mean():+.1f} ± {found.std():.1f} points, {len(found)} seeds"


@dataclass(frozen=True)
class Claim:
    """A sentence that can be checked.

    Attributes:
        name: the tag of the cell that tests it, without "claim-".
        sentence: as textbooks say it.
        verdict: one of `VERDICTS`.
        because: what the verdict depends on, or what is true instead; may be empty where it simply holds.
        gain: the measured effect, where it is one way against another in a results file.
    """

    name: str
    sentence: str
    verdict: str
    because: str = ""
    gain: Gain | None = None


def table_of_claims(claims: tuple[Claim, ...], folder: Path) -> pd.DataFrame:
    """A row for each claim: columns claim, cell, measured, verdict.

    Args:
        claims: in the order of the table.
        folder: holds the notebooks.

    Raises:
        DataError: if no notebook has a cell that tests a claim.
    """
    cells = tagged_cells(folder)
    rows = []
    for claim in claims:
        if claim.name not in cells:
            raise DataError(f"no cell in {folder} has the tag 'claim-{claim.name}'; is the notebook executed?")
        notebook, printed = cells[claim.name]
        effect = str(claim.gain) if claim.gain else printed
        verdict = f"{claim.verdict}: {claim.because}" if claim.because else claim.verdict
        rows.append((claim.sentence, notebook, effect, verdict))
    return pd.DataFrame(rows, columns=["claim", "tested in", "measured", "verdict"])


def tagged_cells(folder: Path) -> dict[str, tuple[str, str]]:
    """For each claim's name the notebook whose cell tests it, and what that cell printed when it was last executed."""
    import nbformat

    found = {}
    for path in sorted(folder.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for tag in cell.metadata.get("tags", []):
                if tag.startswith("claim-"):
                    printed = "".join(o.get("text", "") for o in cell.outputs if o.get("name") == "stdout")
                    found[tag.removeprefix("claim-")] = (path.stem, " ".join(printed.split()))
    return found
