"""Measurements over settings and seeds, kept in a results file: what is there is not measured again."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import torch

from tlhelpers.files import atomic_write
from tlhelpers.progress import tqdm

Cell = dict[str, Any]
Job = tuple[Any, ...]


@dataclass(frozen=True)
class Grid:
    """A results file.

    Attributes:
        target: the file.
        command: what makes it.
        settings: what all cells share; cells measured with others are not read.
        keys: the columns that tell one cell from another, in the order of a job.
    """

    target: Path
    command: str
    settings: dict[str, Any]
    keys: tuple[str, ...]

    def read(self) -> list[Cell]:
        """The cells that were measured with these settings."""
        if not self.target.exists():
            return []
        found = json.loads(self.target.read_text(encoding="utf8"))
        return found["runs"] if found["settings"] == self.settings else []

    def fill(self, jobs: Iterable[Job], one: Callable[..., Cell], processes: int = 1) -> None:
        """Run every job whose cell is not there yet; each cell is written as soon as it is measured.

        Args:
            jobs: values of `keys`.
            one: measures one job; with several processes a function of a module, or a partial of one.
            processes: how many jobs run side by side, each with its share of the cores. Short runs of small networks
                take less time so than one after the other with all cores.
        """
        cells = self.read()
        known = {self.key(cell) for cell in cells}
        missing = [job for job in jobs if job not in known]
        for cell in tqdm(_all(missing, one, processes), total=len(missing), desc=self.target.stem, unit="run"):
            cells.append(cell)
            self._write(cells)

    def key(self, cell: Cell) -> Job:
        """What tells a cell from others."""
        return tuple(cell[name] for name in self.keys)

    def _write(self, cells: Sequence[Cell]) -> None:
        cells = sorted(cells, key=lambda cell: [str(part) for part in self.key(cell)])
        facts = {
            "command": self.command,
            "settings": self.settings,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "profile": str(tl.current_profile()).splitlines(),
            "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "pillow")},
        }
        rows = ",\n".join("  " + json.dumps(cell) for cell in cells)
        with atomic_write(self.target) as file:
            file.write(f'{json.dumps(facts, indent=1)[:-2]},\n "runs": [\n{rows}\n ]\n}}\n'.encode())


def spread(values: Sequence[float], wanted: int) -> str:
    """Mean ± standard deviation; how many values there are, if fewer than wanted."""
    if len(values) < 2:
        return "–"
    fewer = "" if len(values) == wanted else f" ({len(values)})"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}{fewer}"


def side_by_side() -> int:
    """How many short runs to start side by side: without a GPU one for each core."""
    return 1 if tl.current_profile().device.type != "cpu" else os.cpu_count() or 1


def _all(jobs: list[Job], one: Callable[..., Cell], processes: int) -> Iterator[Cell]:
    """The cells of all jobs, in their order."""
    if processes == 1:
        yield from (one(*job) for job in jobs)
        return
    found = tl.current_profile()
    settings = found.name, str(found.device), found.precision, max((os.cpu_count() or 1) // processes, 1)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_start, initargs=settings)
    try:
        yield from pool.map(one, *zip(*jobs, strict=True)) if jobs else ()
    finally:
        pool.shutdown(cancel_futures=True)


def _start(name: str, device: str, precision: str, threads: int) -> None:
    torch.set_num_threads(threads)
    tl.use_profile(name, device=device, precision=precision)
