"""Checking labs from outside: `python -m tlhelpers check NOTEBOOK`, or a folder of submissions into a CSV.

Every notebook runs in a process of its own, with a limit on its time and memory, so that one which hangs, crashes or
asks for all memory costs only itself. It runs with the rights of whoever starts the check: code of strangers belongs
into a container or a virtual machine.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tlcourse.labs.lab import MARKS, REPORT_VARIABLE, summary_of
from tlhelpers.errors import DataError
from tlhelpers.progress import tqdm

PAUSE = 0.2  # seconds between two looks at a process


@dataclass
class Submission:
    """What became of a notebook.

    Attributes:
        path: of the notebook.
        lab: the lab's name; empty if the notebook did not get as far as naming it.
        outcomes: by exercise, as `Lab` reports them.
        trouble: why the notebook did not run to its end; empty if it did.
        seconds: how long it ran.
    """

    path: Path
    lab: str = ""
    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)
    trouble: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.path.name}: {summary_of(self.outcomes) if self.outcomes else 'no exercise was checked'}"]
        lines += [f"  {MARKS[o['state']]} {name}: {o['said'] or 'not started'}" for name, o in self.outcomes.items()]
        return "\n".join(lines + ([f"  {self.trouble}"] if self.trouble else []))


def check_notebook(path: Path, *, limit_seconds: float = 600, limit_gigabytes: float = 4.0) -> Submission:
    """Run a lab's notebook from top to bottom, whatever its cells do, and collect what its checks say.

    Args:
        path: of the notebook, which is not changed.
        limit_seconds: then it is stopped.
        limit_gigabytes: of memory, all its processes together; beyond it is stopped.

    Raises:
        DataError: if there is no such file.
    """
    if not path.is_file():
        raise DataError(f"there is no notebook at {path}")
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder) / "report.json", Path(folder) / "log.txt"
        environment = {**os.environ, REPORT_VARIABLE: str(report), "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
        command = [sys.executable, "-m", "tlcourse.labs.run_notebook", str(path.resolve())]
        start = time.perf_counter()
        with log.open("w", encoding="utf8") as sink:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=path.resolve().parent
            )
            trouble = _watched(process, start, limit_seconds, limit_gigabytes)
        if not trouble and process.returncode != 0:
            last = log.read_text(encoding="utf8", errors="replace").strip().splitlines()[-1:]
            trouble = f"it ended early: {last[0] if last else f'exit code {process.returncode}'}"
        found = json.loads(report.read_text(encoding="utf8")) if report.exists() else {}
    seconds = round(time.perf_counter() - start, 1)
    return Submission(path, found.get("lab", ""), found.get("outcomes", {}), trouble, seconds)


def _watched(process: subprocess.Popen[bytes], start: float, seconds: float, gigabytes: float) -> str:
    """Wait for the end; stop the process and all that it started if it goes beyond a limit, and say why."""
    while process.poll() is None:
        family = _family(process.pid)
        if time.perf_counter() - start > seconds:
            _stop(family, process)
            return f"it was stopped after {seconds:g} s; look for a loop that does not end"
        used = sum(_memory(member) for member in family) / 1e9
        if used > gigabytes:
            _stop(family, process)
            return f"it was stopped when it used {used:.1f} GB of memory; {gigabytes:g} GB are allowed"
        time.sleep(PAUSE)
    return ""


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _stop(family: list[psutil.Process], process: subprocess.Popen[bytes]) -> None:
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def check_folder(folder: Path, target: Path, *, limit_seconds: float = 600, limit_gigabytes: float = 4.0) -> None:
    """Check every notebook below a folder and write a row for each: exercises as columns, with ✓, ✗ or ○.

    Args:
        folder: of submissions, in subfolders if you like.
        target: the CSV, rewritten after every notebook.
        limit_seconds: for each notebook.
        limit_gigabytes: for each notebook.

    Raises:
        DataError: if there is no notebook.
    """
    paths = sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    if not paths:
        raise DataError(f"there is no notebook (*.ipynb) below {folder}")
    found = []
    for path in tqdm(paths, desc="submissions", unit="notebook"):
        found.append(check_notebook(path, limit_seconds=limit_seconds, limit_gigabytes=limit_gigabytes))
        _write_csv(found, folder, target)


def _write_csv(found: list[Submission], folder: Path, target: Path) -> None:
    names = list(dict.fromkeys(name for one in found for name in one.outcomes))
    with target.open("w", encoding="utf-8-sig", newline="") as file:  # the signature lets Excel read ✓
        rows = csv.writer(file)
        rows.writerow(["notebook", "lab", "right", "exercises", "seconds", "trouble", *names])
        for one in found:
            states = {name: outcome["state"] for name, outcome in one.outcomes.items()}
            right = sum(state == "right" for state in states.values())
            path = one.path.relative_to(folder).as_posix()
            cells = [MARKS[states[name]] if name in states else "" for name in names]
            rows.writerow([_harmless(path), one.lab, right, len(states), one.seconds, one.trouble, *cells])


def _harmless(text: str) -> str:
    """A spreadsheet takes a cell that begins so for a formula, and file names are the submitters'."""
    return f"'{text}" if text[:1] in "=+-@" else text
