"""What was measured beforehand: the files in `data/` beside this module, each of which one command makes again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tlhelpers.errors import DataError

FOLDER = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Results:
    """A results file.

    Attributes:
        name: of the file.
        runs: a row for each run.
        facts: the command that makes the file, its settings, machine and versions.
    """

    name: str
    runs: pd.DataFrame
    facts: dict[str, Any]

    def __str__(self) -> str:
        return f"{len(self.runs)} runs, measured by `{self.facts['command']}` on {self.facts['machine']}"

    def mean(self, column: str, **where: Any) -> float:
        """The mean of a column over the runs in which every column of `where` has the value given.

        Raises:
            DataError: if there is no such run.
        """
        return float(self._chosen(column, where).mean())

    def spread(self, column: str, **where: Any) -> str:
        """Mean ± standard deviation over seeds in per cent, of a column that holds fractions."""
        values = 100 * self._chosen(column, where)
        return f"{values.mean():.1f} ± {values.std():.1f} %"

    def _chosen(self, column: str, where: dict[str, Any]) -> pd.Series[float]:
        rows = self.runs
        for name, value in where.items():
            rows = rows[rows[name] == value]
        if rows.empty:
            raise DataError(f"{self.name}: no run with {where}; `{self.facts['command']}` measures what is missing")
        return rows[column]


def load_results(name: str) -> Results:
    """What `tlcourse/measurements/data/<name>.json` holds.

    Raises:
        DataError: if there is no such file.
    """
    path = FOLDER / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json"))) or "none"
        raise DataError(f"no results named '{name}' in {FOLDER}; there are: {known}. `make results` measures them")
    facts = json.loads(path.read_text(encoding="utf8"))
    return Results(name, pd.DataFrame(facts.pop("runs")), facts)
