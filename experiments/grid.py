"""Measurements over settings and seeds, kept in a results file: what is there is not measured again."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
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
        facts: what else the file says.
    """

    target: Path
    command: str
    settings: dict[str, Any]
    keys: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

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
        jobs = list(jobs)
        self.fill_in_turn(lambda _: jobs, one, processes)

    def fill_in_turn(
        self, wanted: Callable[[Sequence[Cell]], Sequence[Job]], one: Callable[..., Cell], processes: int = 1
    ) -> None:
        """The same for jobs of which some depend on others: after each cell `wanted` says anew which there are."""
        cells, running = self.read(), {}
        with _pool(processes) as pool, tqdm(desc=self.target.stem, unit="run") as bar:
            while True:
                known = {self.key(cell) for cell in cells} | set(running.values())
                missing = [job for job in dict.fromkeys(wanted(cells)) if job not in known]
                bar.total = bar.n + len(running) + len(missing)
                for job in missing[: max(0, 2 * processes - 1 - len(running))]:
                    running[pool.submit(one, *job)] = job
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    running.pop(done)
                    cells.append(done.result())
                    bar.update()
                self._write(cells)

    def key(self, cell: Cell) -> Job:
        """What tells a cell from others."""
        return tuple(cell[name] for name in self.keys)

    def _write(self, cells: Sequence[Cell]) -> None:
        cells = sorted(cells, key=lambda cell: [str(part) for part in self.key(cell)])
        gpu = f", {torch.cuda.get_device_name()}" if tl.current_profile().device.type == "cuda" else ""
        facts = {
            "command": self.command,
            "settings": self.settings,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{gpu}",
            "profile": str(tl.current_profile()).splitlines(),
            "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "pillow")},
        }
        more = "".join(f',\n "{name}": {json.dumps(value)}' for name, value in self.facts.items())
        rows = ",\n".join("  " + json.dumps(cell) for cell in cells)
        with atomic_write(self.target) as file:
            file.write(f'{json.dumps(facts, indent=1)[:-2]}{more},\n "runs": [\n{rows}\n ]\n}}\n'.encode())


def spread(values: Sequence[float], wanted: int) -> str:
    """Mean ± standard deviation; how many values there are, if fewer than wanted."""
    if len(values) < 2:
        return "–"
    fewer = "" if len(values) == wanted else f" ({len(values)})"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}{fewer}"


def side_by_side() -> int:
    """How many short runs to start side by side: without a GPU one for each core."""
    return 1 if tl.current_profile().device.type != "cpu" else os.cpu_count() or 1


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[Executor]:
    """Processes of their own, or this one; what has not begun is dropped when an error or Ctrl-C ends the work."""
    found, threads = tl.current_profile(), max((os.cpu_count() or 1) // processes, 1)
    settings = found.name, str(found.device), found.precision, threads
    spawn = multiprocessing.get_context("spawn")
    os.environ["TQDM_DISABLE"] = "1"  # their bars would overwrite each other; this process has read it already
    pool = _InTurn() if processes == 1 else ProcessPoolExecutor(processes, spawn, _start, settings)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class _InTurn(Executor):
    """Runs each job at once, in this process."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **options))
        return future


def _start(name: str, device: str, precision: str, threads: int) -> None:
    torch.set_num_threads(threads)
    tl.use_profile(name, device=device, precision=precision)
