"""The command `check`, added to `python -m tlhelpers`: run one lab's notebook, or a folder of them into a CSV.

Every notebook runs in a process of its own with limits on time and memory, so one that hangs, crashes or takes all
memory harms only itself. It runs with the rights of whoever starts the check: check strangers' code in a container.
"""

import argparse
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
from typing import Any

import psutil

from tlcourse.labs.lab import MARKS, REPORT_VARIABLE, Outcome, summary
from tlhelpers.errors import DataError
from tlhelpers.progress import tqdm


def add_check(commands: Any) -> None:
    """Add the command to the subparsers of `python -m tlhelpers`."""
    check = commands.add_parser(
        "check",
        help="run a lab, or a folder of submissions, and say which exercises are right",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    check.set_defaults(command=_check)
    check.add_argument("path", type=Path, help="a lab's notebook, or a folder of them; their code is run")
    check.add_argument("--csv", type=Path, default=Path("checks.csv"), help="for a folder: where the table goes")
    check.add_argument("--seconds", type=float, default=600, help="limit for each notebook")
    check.add_argument("--gigabytes", type=float, default=4.0, help="limit of memory for each notebook")


def _check(options: argparse.Namespace) -> int:
    limits = {"limit_seconds": options.seconds, "limit_gigabytes": options.gigabytes}
    if options.path.is_dir():
        check_folder(options.path, options.csv, **limits)
        print(f"written to {options.csv}")
        return 0
    result = check_notebook(options.path, **limits)
    print(result)
    return 1 if result.trouble or not result.outcomes else 0


@dataclass
class Submission:
    """The result of checking a notebook."""

    path: Path
    lab: str = ""  # its name; empty if the notebook did not get as far as naming it
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by exercise
    trouble: str = ""  # why the notebook did not run to its end; empty if it did
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.path.name}: {summary(self.outcomes) if self.outcomes else 'no exercise was checked'}"]
        lines += [f"  {MARKS[outcome.state]} {name}: {outcome.message}" for name, outcome in self.outcomes.items()]
        return "\n".join(lines + ([f"  {self.trouble}"] if self.trouble else []))


def check_notebook(path: Path, *, limit_seconds: float = 600, limit_gigabytes: float = 4.0) -> Submission:
    """Run a lab's notebook to its end, even if cells fail, and collect the outcomes of its checks.

    Args:
        path: of the notebook, which is not changed.
        limit_seconds: after which it is stopped.
        limit_gigabytes: of memory for all its processes together; if it uses more, it is stopped.

    Raises:
        DataError: if there is no such file.
    """
    if not path.is_file():
        raise DataError(f"there is no notebook at {path}")
    result, path = Submission(path), path.resolve()
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder) / "report.json", Path(folder) / "log.txt"
        environment = {**os.environ, REPORT_VARIABLE: str(report), "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
        environment["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one of the same name elsewhere
        command = [sys.executable, "-m", "tlcourse.labs.command", str(path)]
        start = time.perf_counter()
        with log.open("w", encoding="utf8") as sink:
            streams = {"stdin": subprocess.DEVNULL, "stdout": sink, "stderr": sink}
            process = psutil.Popen(command, env=environment, cwd=path.parent, **streams)
            result.trouble = _stop_beyond_limits(process, limit_seconds, limit_gigabytes)
        result.seconds = round(time.perf_counter() - start, 1)
        if not result.trouble and process.returncode != 0:
            last = log.read_text(encoding="utf8", errors="replace").strip().splitlines()[-1:]
            result.trouble = f"it ended early: {last[0] if last else f'exit code {process.returncode}'}"
        with contextlib.suppress(OSError, ValueError):  # no check ran, or the notebook was stopped while one reported
            found = json.loads(report.read_text(encoding="utf8"))
            result.lab = found["lab"]
            result.outcomes = {name: Outcome(**outcome) for name, outcome in found["outcomes"].items()}
    return result


def _stop_beyond_limits(process: psutil.Popen, seconds: float, gigabytes: float) -> str:
    """Wait for a process to end, or kill it and its children when it exceeds a limit; returns the reason if so."""
    start, reason = time.perf_counter(), ""
    while process.poll() is None:
        family, used = [process], 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.Error):
                used += member.memory_info().rss / 1e9
        if time.perf_counter() - start > seconds:
            reason = f"it was stopped after {seconds:g} s; look for a loop that does not end"
        elif used > gigabytes:
            reason = f"it was stopped when it used {used:.1f} GB of memory; {gigabytes:g} GB are allowed"
        if reason:
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()
            break
        time.sleep(0.2)
    return reason


def check_folder(folder: Path, target: Path, **limits: float) -> None:
    """Check every notebook below a folder and write a row for each: exercises as columns, with ✓, ✗ or ○.

    `target` is the CSV, rewritten after every notebook; `limits` are those of `check_notebook`.
    """
    paths = sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    if not paths:
        raise DataError(f"there is no notebook (*.ipynb) below {folder}")
    results = []
    for path in tqdm(paths, desc="submissions", unit="notebook"):
        results.append(check_notebook(path, **limits))
        _write_csv(results, folder, target)


def _write_csv(results: list[Submission], folder: Path, target: Path) -> None:
    exercises = list(dict.fromkeys(name for result in results for name in result.outcomes))
    with target.open("w", encoding="utf-8-sig", newline="") as file:  # the signature lets Excel read ✓
        rows = csv.writer(file)
        rows.writerow(["notebook", "lab", "right", "exercises", "seconds", "trouble", *exercises])
        for result in results:
            marks = {name: MARKS[outcome.state] for name, outcome in result.outcomes.items()}
            right = list(marks.values()).count(MARKS["right"])
            path = result.path.relative_to(folder).as_posix()
            path = f"'{path}" if path[0] in "=+-@" else path  # a spreadsheet would take it for a formula
            row = [path, result.lab, right, len(marks), result.seconds, result.trouble]
            rows.writerow(row + [marks.get(name, "") for name in exercises])


if __name__ == "__main__":  # execute every cell of a notebook, also those after a failed one; keep nothing
    import nbformat
    from nbclient import NotebookClient

    book, resources = nbformat.read(sys.argv[1], as_version=4), {"metadata": {"path": str(Path(sys.argv[1]).parent)}}
    NotebookClient(book, timeout=None, kernel_name="python3", resources=resources, allow_errors=True).execute()
