"""Results files: what was measured beforehand, each file by one command."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tlhelpers.errors import DataError

FOLDER = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Results:
    """A results file."""

    name: str
    runs: pd.DataFrame  # a row for each run
    facts: dict[str, Any]  # the command that makes the file, its settings, machine and versions

    def __str__(self) -> str:
        return f"{len(self.runs)} runs, measured by `{self.facts['command']}` on {self.facts['machine']}"

    def where(self, **values: Any) -> pd.DataFrame:
        """The runs in which the columns have these values. Raises DataError if there is no such run."""
        runs = self.runs
        for name, value in values.items():
            runs = runs[runs[name] == value]
        if runs.empty:
            raise DataError(f"{self.name}: no run with {values}; `{self.facts['command']}` measures what is missing")
        return runs

    def mean(self, column: str, **values: Any) -> float:
        """Mean of a column over the runs of `where`."""
        return float(self.where(**values)[column].mean())

    def spread(self, column: str, **values: Any) -> str:
        """Mean ± standard deviation over the runs of `where`, as text in per cent ("57.8 ± 1.2 %")."""
        percent = 100 * self.where(**values)[column]
        return f"{percent.mean():.1f} ± {percent.std():.1f} %"


def load_results(name: str) -> Results:
    """The results file `tlcourse/measurements/data/<name>.json`. Raises DataError if there is no such file."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json"))) or "none"
        raise DataError(f"no results named '{name}' in {FOLDER}; there are: {known}. `make results` measures them")
    facts = json.loads(path.read_text(encoding="utf8"))
    return Results(name, pd.DataFrame(facts.pop("runs")), facts)
