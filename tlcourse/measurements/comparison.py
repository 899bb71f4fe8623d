"""Compare methods: scores over seeds, and speed."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import stats

from tlhelpers.device import current_profile
from tlhelpers.errors import DataError, TLError


def compare_methods(runs: pd.DataFrame, y: str, by: str) -> pd.DataFrame:
    """Methods ordered by their mean over seeds, each compared with the best one seed by seed (a paired comparison).

    Runs with the same seed saw the same images in the same order, so their differences vary less than their scores. The
    intervals hold for other seeds, not for other images: every run was scored on the same test set. The best of many
    methods is partly the luckiest of many.

    `runs` has one row for each seed and method at most, with a column `seed`; `y` names the column that was measured
    (more is better), `by` that of the method. The result has one row for each method (index `by`), the best first:
    mean, std, seeds; mean_difference (best minus method) with its 95 % interval from low to high (Student's t; NaN with
    fewer than two common seeds); no_significant_difference, True if the interval contains zero or is NaN. Raises
    DataError if there are no runs, or several with the same seed and method.
    """
    if runs.empty or runs.duplicated([by, "seed"]).any():
        problem = "no runs" if runs.empty else f"several runs with the same seed and {by}"
        raise DataError(f"a comparison by '{by}' needs one run for each seed and {by}, and found {problem}")
    wide = runs.pivot(index="seed", columns=by, values=y)
    table = wide.agg(["mean", "std", "count"]).T.set_axis(["mean", "std", "seeds"], axis=1)
    table = table.sort_values("mean", ascending=False, kind="stable").astype({"seeds": int})
    differences = wide[[table.index[0]]].to_numpy() - wide[table.index]
    mean, margin = differences.mean(), differences.apply(margin_of_error, confidence=0.95)
    table = table.assign(mean_difference=mean, low=mean - margin, high=mean + margin)
    return table.assign(no_significant_difference=~((table["low"] > 0) | (table["high"] < 0)))


def clustered_interval(
    better: pd.DataFrame, than: pd.DataFrame | None, labels: Sequence[int], clusters: Sequence[int], draws: int = 1000
) -> tuple[float, float, float]:
    """Mean gain in balanced accuracy and its 95 % interval, for other seeds *and* other drawings or patients.

    Images of one drawing or patient are right or wrong together, so of each class whole clusters are drawn anew, and
    seeds too (percentile bootstrap, Efron 1979). `better` and `than` have a row for each seed, with columns seed and
    right: which test images were right, as hexadecimal digits of four images each. With None for `than` it is the
    accuracy itself. `labels` and `clusters` (numbers from 0) belong to the test images.
    """
    hits = _hits(better, len(labels))
    if than is not None:
        hits = hits - _hits(than, len(labels)).loc[hits.index]
    rng, cluster, values = np.random.default_rng(0), np.asarray(clusters), hits.to_numpy()
    seeds = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws) / len(values)
    weights = np.zeros((draws, len(labels)))
    for label in set(labels):  # class by class, so that none is ever empty
        rows = np.flatnonzero(np.asarray(labels) == label)
        _, own = np.unique(cluster[rows], return_inverse=True)
        count = own.max() + 1
        weights[:, rows] = rng.multinomial(count, np.full(count, 1 / count), size=draws)[:, own]
    of_class = np.eye(max(labels) + 1)[np.asarray(labels)]
    means = (weights * (seeds @ values)) @ of_class / (weights @ of_class)
    low, high = np.percentile(means.mean(axis=1), [2.5, 97.5])
    return float((values.mean(axis=0) @ of_class / of_class.sum(axis=0)).mean()), float(low), float(high)


def _hits(runs: pd.DataFrame, count: int) -> pd.DataFrame:
    """A row for each seed, a column for each test image: 1 if it was right."""
    packed = (np.frombuffer(bytes.fromhex(r + "0" * (len(r) % 2)), np.uint8) for r in runs["right"])
    return pd.DataFrame([np.unpackbits(each)[:count].astype(float) for each in packed], index=runs["seed"])


def margin_of_error(differences: "pd.Series[float]", confidence: float) -> float:
    """Half the width of Student's t interval for the mean; NaN with fewer than two values."""
    return float(stats.t.ppf((1 + confidence) / 2, differences.count() - 1) * differences.sem())


def benchmark_interleaved(methods: Mapping[str, Callable[[], object]], *, rounds: int = 7) -> pd.DataFrame:
    """Time several functions in turn, round after round, so that other work on the machine slows all of them.

    `methods` are functions without arguments. A first round is not counted. The result has a row for each method (index
    `method`): `best` and `median` in seconds, and `ratio` of the best to that of the first method. Compare the best
    rounds: other work makes a round slower and never faster. Raises TLError if there is nothing to time.
    """
    if not methods or rounds < 1:
        raise TLError(f"expected a method and a round or more; found {len(methods)} methods, {rounds} rounds")
    device = current_profile().device
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(1 + rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # without this only the queueing of its work is timed
            seconds[name].append(time.perf_counter() - start)
    table = pd.DataFrame(seconds)[1:].agg(["min", "median"]).T.set_axis(["best", "median"], axis=1)
    return table.assign(ratio=table["best"] / table["best"].iloc[0]).rename_axis("method")
