"""Compare methods: scores over seeds, speed, and what architectures cost."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tlhelpers.device import current_profile
from tlhelpers.errors import DataError, TLError
from tlhelpers.models.families import ARCHS, get_blocks, get_head, head_path
from tlhelpers.models.freezing import evaluation_mode
from tlhelpers.models.loading import build

DRAWS = 1000  # of the bootstrap


def compare_methods(runs: pd.DataFrame, y: str, by: str) -> pd.DataFrame:
    """Methods ordered by their mean over seeds, each compared with the best one seed by seed (a paired comparison).

    Runs with the same seed saw the same images in the same order, so their differences vary less than their scores. The
    intervals hold for other seeds, not for other images. The best of many methods is partly the luckiest of many.

    `runs` has a column `seed`; `y` names the column that was measured (more is better), `by` that of the method. The
    result has a row for each method, the best first: mean, std, seeds; mean_difference (best minus method) with its 95
    % interval from low to high (Student's t; NaN with fewer than two common seeds); no_significant_difference, True if
    that contains zero or is NaN. Raises DataError if there are no runs, or several with the same seed and method.
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
    better: pd.DataFrame, than: pd.DataFrame | None, labels: Sequence[int], clusters: Sequence[int]
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
    seeds = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=DRAWS) / len(values)
    weights = np.zeros((DRAWS, len(labels)))
    for label in set(labels):  # class by class, so that none is ever empty
        rows = np.flatnonzero(np.asarray(labels) == label)
        _, own = np.unique(cluster[rows], return_inverse=True)
        count = own.max() + 1
        weights[:, rows] = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)[:, own]
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

    The first round does not count. The result has for each method `best` and `median` in seconds, and `ratio` of the
    best to that of the first method. Raises TLError if there is nothing to time.
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


def count_macs(model: nn.Module, size: int = 224) -> int:
    """Multiply-accumulate operations of convolutions and products for one image (3, size, size), also on "meta"."""
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with evaluation_mode(model), torch.no_grad(), counter:
        model(torch.zeros(1, 3, size, size, device=device))
    return counter.get_total_flops() // 2


def cost_table(size: int = 224) -> pd.DataFrame:
    """A row for each architecture: family, parameters (millions), gmacs (10⁹ MACs for one image of side `size`).

    The columns gmacs_stated (at 224 px), file (MB) and top1 (on ImageNet) are torchvision's, and NaN where it has none.
    """
    from torchvision.models import get_model_weights

    rows = {}
    for row in ARCHS.values():
        with torch.device("meta"):
            model = build(row)
        meta = get_model_weights(row.name).DEFAULT.meta if row.weights else {}
        rows[row.name] = {
            "family": row.family,
            "parameters": sum(p.numel() for p in model.parameters()) / 1e6,
            "gmacs": count_macs(model, size) / 1e9,
            "gmacs_stated": meta.get("_ops", math.nan),
            "file": meta.get("_file_size", math.nan),
            "top1": meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100 if meta else math.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arch")


def arch_table() -> pd.DataFrame:
    """The table of architectures: head, its input features, blocks and number of parameters; reads no weights."""
    rows = []
    for row in ARCHS.values():
        with torch.device("meta"):
            model = build(row)
        count = sum(math.prod(p.shape) for p in model.parameters())
        rows.append((row.name, head_path(model), get_head(model).in_features, ", ".join(get_blocks(model)), count))
    return pd.DataFrame(rows, columns=["arch", "head", "features", "blocks", "parameters"]).set_index("arch")
