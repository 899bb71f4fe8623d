"""Comparing the speed of several ways of doing something, on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pandas as pd
import torch

from tlhelpers.device import current_profile
from tlhelpers.errors import TLError


def benchmark_interleaved(
    methods: Mapping[str, Callable[[], object]], *, rounds: int = 7, warm_up: int = 1
) -> pd.DataFrame:
    """Time several ways in turn, round after round, so that a busy moment slows all of them and not only one.

    The best of all rounds is what to compare, as a ratio: whatever else runs on the machine makes a round slower and
    never faster.

    Args:
        methods: functions without arguments, by name; the first is what the others are compared with.
        rounds: how often each is timed, 1 or more.
        warm_up: rounds before that are not counted.

    Returns:
        one row for each way (index `way`): `best` and `median` in seconds, and `ratio`, the way's best over the
        first one's.

    Raises:
        TLError: if there is nothing to time.
    """
    if not methods or rounds < 1 or warm_up < 0:
        raise TLError(f"interleaved needs a way and a round or more; got {len(methods)} ways, {rounds} rounds")
    device = current_profile().device
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(warm_up + rounds):
        for name, method in methods.items():
            taken = _seconds(method, device)
            if number >= warm_up:
                seconds[name].append(taken)
    table = pd.DataFrame(seconds).agg(["min", "median"]).T.set_axis(["best", "median"], axis=1)
    table.index.name = "method"
    return table.assign(ratio=table["best"] / table["best"].iloc[0])


def _seconds(method: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    method()
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # its work is queued: without this only the queueing is timed
    return time.perf_counter() - start
