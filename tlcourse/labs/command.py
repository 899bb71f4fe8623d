"""The command `check`, added to `python -m tlhelpers`: run one lab's notebook, or a folder of them into a CSV.

Every notebook runs in a process of its own with limits on time and memory, so one that hangs, crashes or takes all
memory harms only itself. It runs with the rights of whoever starts the check: check strangers' code in a container.
"""

import argparse
import contextlib
import csv
import ctypes
import io
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
from tlhelpers.data.images import printable
from tlhelpers.errors import DataError
from tlhelpers.files import atomic_write, user_path
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
    check.add_argument("--csv", help="for a folder: where the table goes (None: checks.csv)")
    check.add_argument("--seconds", type=float, default=600, help="limit for each notebook")
    check.add_argument("--gigabytes", type=float, default=4.0, help="limit of memory for each notebook")


def _check(options: argparse.Namespace) -> int:
    limits = {"limit_seconds": options.seconds, "limit_gigabytes": options.gigabytes}
    path = user_path(options.path)
    if not all(0 < limit < float("inf") for limit in limits.values()):
        raise DataError("--seconds and --gigabytes must be numbers above 0")
    if path.is_dir():
        target = user_path(options.csv or "checks.csv")
        if others := check_folder(path, target, **limits):
            print(f"not checked, since they are no notebooks: {', '.join(others)}")
        print(f"written to {target}")
        return 0
    if options.csv:
        raise DataError(f"--csv is for a folder of notebooks, and {path} is none")
    result = check_notebook(path, **limits)
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
    raised: list[str] = field(default_factory=list)  # the cells that ended with an error: "cell 3: NameError"

    def __str__(self) -> str:
        lines = [f"{self.path.name}: {summary(self.outcomes) if self.outcomes else 'no exercise was checked'}"]
        lines += [f"  {MARKS[outcome.state]} {name}: {outcome.message}" for name, outcome in self.outcomes.items()]
        return "\n".join([*lines, *(f"  {each}" for each in [*self.raised, self.trouble] if each)])


def check_notebook(path: Path, *, limit_seconds: float = 600, limit_gigabytes: float = 4.0) -> Submission:
    """Run a lab's notebook to its end, even if cells fail, and collect the outcomes of its checks.

    The file `path` is not changed. The notebook is stopped after `limit_seconds`, or when all its processes together
    use more memory than `limit_gigabytes`. Raises DataError if there is no such file.
    """
    if not path.is_file():
        raise DataError(f"there is no notebook at {path}")
    result, path = Submission(path), path.resolve()
    with tempfile.TemporaryDirectory() as folder:
        report, log, raised = (Path(folder) / name for name in ("report.json", "log.txt", "raised.json"))
        environment = {**os.environ, REPORT_VARIABLE: str(report), "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
        environment["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one of the same name elsewhere
        command = [sys.executable, "-m", "tlcourse.labs.command", str(path), str(raised)]
        start = time.perf_counter()
        with log.open("w", encoding="utf8") as sink:
            streams = {"stdin": subprocess.DEVNULL, "stdout": sink, "stderr": sink}
            process = psutil.Popen(command, env=environment, cwd=path.parent, **streams)
            try:
                result.trouble = _wait(process, limit_seconds, limit_gigabytes)
            finally:  # after Ctrl-C too: also what the notebook started and left behind
                _end_all(process, str(report))
        result.seconds = round(time.perf_counter() - start, 1)
        if not result.trouble and process.returncode != 0:
            last = log.read_text(encoding="utf8", errors="replace").strip().splitlines()[-1:]
            result.trouble = f"it ended early: {last[0] if last else f'exit code {process.returncode}'}"
        with contextlib.suppress(OSError, ValueError):  # the notebook was stopped
            result.raised = json.loads(raised.read_text(encoding="utf8"))
        try:
            found = json.loads(report.read_text(encoding="utf8"))
            outcomes = {str(name): Outcome(**outcome) for name, outcome in found["outcomes"].items()}
            if unknown := {outcome.state for outcome in outcomes.values()} - set(MARKS):
                raise ValueError(unknown)
            result.lab, result.outcomes = str(found["lab"]), outcomes
        except FileNotFoundError:
            pass  # no check ran
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # stopped meanwhile, or tampered with
            result.trouble = result.trouble or "its report of the checks cannot be read"
    return result


def _end_all(process: psutil.Popen, report: str) -> None:
    """Kill a process, its descendants, and all others that have this report in their environment."""
    for member in _family(process):
        with contextlib.suppress(psutil.Error):
            member.kill()
    for hidden in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if hidden.environ().get(REPORT_VARIABLE) == report:
                hidden.kill()
    process.wait()


def _family(process: psutil.Popen) -> list[psutil.Process]:
    """A process and its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def _wait(process: psutil.Popen, seconds: float, gigabytes: float) -> str:
    """Wait until a process ends or it exceeds a limit; returns in words which one, if so."""
    start = time.perf_counter()
    while process.poll() is None:
        used = 0.0
        for member in _family(process):
            with contextlib.suppress(psutil.Error):
                used += member.memory_info().rss / 1e9
        if time.perf_counter() - start > seconds:
            return f"it was stopped after {seconds:g} s; look for a loop that does not end"
        if used > gigabytes:
            return f"it was stopped when it used {used:.1f} GB of memory; {gigabytes:g} GB are allowed"
        time.sleep(0.2)
    return ""


def check_folder(folder: Path, target: Path, **limits: float) -> list[str]:
    """Check every notebook below a folder and write a row for each: exercises as columns, with ✓, ✗ or ○.

    `target` is the CSV, rewritten after every notebook; `limits` are those of `check_notebook`. Returns the files that
    are no notebooks. Raises DataError if there is no notebook, OutputError if `target` cannot be written.
    """
    found = sorted(p for p in folder.rglob("*") if "/." not in f"/{p.relative_to(folder).as_posix()}")  # none hidden
    paths = [p for p in found if p.suffix.casefold() == ".ipynb"]
    if not paths:
        raise DataError(f"there is no notebook (*.ipynb) below {folder}")
    results: list[Submission] = []
    _write_csv(results, folder, target)
    for path in tqdm(paths, desc="submissions", unit="notebook"):
        if path.is_file():
            results.append(check_notebook(path, **limits))
        else:
            what = "a folder" if path.is_dir() else "a link whose target is missing" if path.is_symlink() else "no file"
            results.append(Submission(path, trouble=f"it is {what}, not a notebook"))
        _write_csv(results, folder, target)
    known = {*paths, target}
    return [printable(p.relative_to(folder)) for p in found if p not in known and (p.is_symlink() or not p.is_dir())]


def _write_csv(results: list[Submission], folder: Path, target: Path) -> None:
    exercises = list(dict.fromkeys(name for result in results for name in result.outcomes))
    table: list[list[Any]] = [["notebook", "lab", "right", "exercises", "seconds", "trouble", "raised", *exercises]]
    for result in results:
        marks = {name: MARKS[outcome.state] for name, outcome in result.outcomes.items()}
        right, path = list(marks.values()).count(MARKS["right"]), printable(result.path.relative_to(folder))
        row = [path, result.lab, right, len(marks), result.seconds, result.trouble, "; ".join(result.raised)]
        table.append([*row, *(marks.get(name, "") for name in exercises)])
    text = io.StringIO(newline="")
    # A spreadsheet would take some texts for formulas.
    csv.writer(text).writerows([f"'{v}" if str(v)[:1] in tuple("=+-@") else v for v in row] for row in table)
    with atomic_write(target) as file:
        file.write(text.getvalue().encode("utf-8-sig", "backslashreplace"))  # the signature lets Excel read ✓


def _execute(path: Path, raised: Path) -> None:
    """Execute every cell of a notebook, also those after a failed one; keep which failed, and end its processes."""
    import nbformat
    from nbclient import NotebookClient

    if sys.platform == "linux":  # orphans below become this process's children (PR_SET_CHILD_SUBREAPER)
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    book, resources = nbformat.read(path, as_version=4), {"metadata": {"path": str(path.parent)}}
    try:
        NotebookClient(book, timeout=None, kernel_name="python3", resources=resources, allow_errors=True).execute()
    finally:
        cells = enumerate((cell for cell in book.cells if cell.cell_type == "code"), start=1)
        meant = "raises-exception"
        failed = [(n, each) for n, cell in cells if meant not in cell.metadata.get("tags", []) for each in cell.outputs]
        errors = [f"cell {number}: {each.ename}" for number, each in failed if each.output_type == "error"]
        raised.write_text(json.dumps(errors), encoding="utf8")
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()


if __name__ == "__main__":
    _execute(Path(sys.argv[1]), Path(sys.argv[2]))
