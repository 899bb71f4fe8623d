"""Results files: what was measured beforehand, each file by one command."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from tlcourse.measurements.comparison import clustered_interval
from tlhelpers.errors import DataError

FOLDER = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Results:
    """A results file."""

    name: str
    runs: pd.DataFrame  # a row for each run
    facts: dict[str, Any]  # the command that makes the file, its settings, machine and versions

    def __str__(self) -> str:
        text = f"{len(self.runs)} runs, measured by `{self.facts['command']}` on {self.facts['machine']}"
        for name, test in self.facts.get("tests", {}).items():
            images, clusters = len(test["labels"]), max(test["clusters"]) + 1
            text += f"\ntest set {name}: {images} images" + f" of {clusters} subjects" * (clusters < images)
        return text

    def where(self, **values: Any) -> pd.DataFrame:
        """The runs in which the columns have these values. Raises DataError if there is no such run."""
        runs = self.runs
        for name, value in values.items():
            runs = runs[runs[name] == value]
        if runs.empty:
            raise DataError(f"{self.name}: no run with {values}; `{self.facts['command']}` measures what is missing")
        return runs

    @property
    def scored(self) -> pd.DataFrame:
        """The runs that were scored on a test set; others, of seed 100 and above, served to choose learning rates."""
        return self.runs[self.runs["seed"] < 100]

    def gain(
        self, test: str, better: Mapping[str, Any], than: Mapping[str, Any] | None = None, right: str = "right"
    ) -> tuple[float, float, float]:
        """Mean gain in balanced accuracy on a test set, and its 95 % interval as of `clustered_interval`.

        `better` and `than` are columns and the values that they must have, such as {"method": "frozen"}; with None for
        `than` it is the accuracy itself. `right` is the column that says which images of the test set were right.
        """

        def runs(wanted: Mapping[str, Any]) -> pd.DataFrame:
            return self._tested(test, wanted).assign(right=lambda found: found[right])

        facts, rivals = self.facts["tests"][test], None if than is None else runs(than)
        return clustered_interval(runs(better), rivals, facts["labels"], facts["clusters"])

    def against(self, test: str, than: str, *, by: str = "method", right: str = "right", **where: Any) -> pd.DataFrame:
        """Each method beside the method `than`, on one test set: a row for each value of the column `by`.

        Columns: accuracy (balanced), std (over seeds), gain over `than` and its interval from low to high (see `gain`);
        the last three are NaN for `than` itself. `where` holds columns and the values that they must have.
        """
        rows = {}
        for name, runs in self._tested(test, where).groupby(by, sort=False):
            scores = runs[right.replace("right", "test")]
            gain = self.gain(test, {**where, by: name}, {**where, by: than}, right) if name != than else 3 * (nan,)
            rows[name] = scores.mean(), scores.std(), *gain
        columns = ["accuracy", "std", "gain", "low", "high"]
        return pd.DataFrame.from_dict(rows, "index", columns=columns).sort_values("accuracy", ascending=False)

    def _tested(self, test: str, where: Mapping[str, Any]) -> pd.DataFrame:
        """The runs of `where` that were scored on a test set."""
        return self.where(**where, **({"data": test} if "data" in self.runs else {})).query("seed < 100")

    def mean(self, column: str, **values: Any) -> float:
        """Mean of a column over the runs of `where`."""
        return float(self.where(**values)[column].mean())

    def spread(self, column: str, **values: Any) -> str:
        """Mean ± standard deviation over the runs of `where`, as text in per cent ("57.8 ± 1.2 %")."""
        percent = 100 * self.where(**values)[column]
        return f"{percent.mean():.1f} ± {percent.std():.1f} %"


def in_points(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `Results.against` to read: accuracy in per cent, gains in percentage points."""
    points = 100 * table
    accuracy = [f"{mean:.1f} ± {std:.1f}" for mean, std in zip(points["accuracy"], points["std"], strict=True)]
    triples = zip(points["gain"], points["low"], points["high"], strict=True)
    gains = ["–" if gain != gain else f"{gain:+.1f} ({low:+.1f} to {high:+.1f})" for gain, low, high in triples]
    return pd.DataFrame({"accuracy, %": accuracy, "gain, points (95 % interval)": gains}, index=table.index)


def load_results(name: str) -> Results:
    """The results file `tlcourse/measurements/data/<name>.json`. Raises DataError if there is no such file."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json"))) or "none"
        raise DataError(f"no results named '{name}' in {FOLDER}; there are: {known}. `make results` measures them")
    facts = json.loads(path.read_text(encoding="utf8"))
    return Results(name, pd.DataFrame(facts.pop("runs")), facts)
