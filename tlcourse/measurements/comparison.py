"""Which of several ways was best over seeds, and which others cannot be told from it."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from tlhelpers.errors import DataError


def compare_methods(runs: pd.DataFrame, y: str, by: str, *, confidence: float = 0.95) -> pd.DataFrame:
    """Ways in the order of their mean over seeds, each compared with the best one, seed by seed.

    Runs with the same seed saw the same images in the same order, so what a seed's luck does to both is not counted
    against either (a paired comparison). Two ways are a *tie* where Student's t interval for the mean of these
    differences holds zero, or where there are too few seeds to say. The interval speaks for other seeds, not for other
    images: every run was scored on the same test set. And the best of many is partly the luckiest of many.

    Args:
        runs: one row for each run, with a column `seed`; at most one for each seed and way.
        y: name of the column that was measured; more is better.
        by: name of the column that says which way it was.
        confidence: of the interval.

    Returns:
        one row for each way (index `by`), the best first: `mean`, `std` over seeds, `seeds`, `behind` (mean difference
        to the best), `margin` (half the interval's width; NaN with fewer than two seeds in common), `tie`.

    Raises:
        DataError: if there are no runs, or several with one seed and way.
    """
    if runs.empty or runs.duplicated([by, "seed"]).any():
        problem = "no runs" if runs.empty else f"several runs with the same seed and {by}"
        raise DataError(f"a comparison by '{by}' needs one run for each seed and {by}, and found {problem}")
    wide = runs.pivot(index="seed", columns=by, values=y)
    table = wide.agg(["mean", "std", "count"]).T.set_axis(["mean", "std", "seeds"], axis=1)
    table = table.sort_values("mean", ascending=False, kind="stable").astype({"seeds": int})
    differences = wide[[table.index[0]]].to_numpy() - wide[table.index]
    table["behind"] = differences.mean()
    table["margin"] = [margin_of_error(differences[method].dropna(), confidence) for method in table.index]
    table["tie"] = ~(table["behind"] > table["margin"].fillna(float("inf")))
    return table


def margin_of_error(differences: pd.Series[float], confidence: float) -> float:
    """Half the width of Student's t interval for the mean."""
    count = len(differences)
    if count < 2:
        return float("nan")
    return float(stats.t.ppf((1 + confidence) / 2, count - 1) * differences.std() / count**0.5)
