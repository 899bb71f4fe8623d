"""The command `check`, added to `python -m tlhelpers`: mark one lab's notebook, or a folder of them.

Every submission runs in processes of its own, in an empty folder, with limits on time and memory, so one that hangs or
crashes harms only itself. It runs with the rights of whoever starts the check: strangers' code belongs in a container.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tlcourse.labs.lab import MARKS, Outcome, summary
from tlhelpers.data.images import printable
from tlhelpers.errors import DataError
from tlhelpers.files import atomic_write, user_path
from tlhelpers.progress import tqdm

LABS = Path(__file__).resolve().parents[2] / "labs"
TOKEN = "TL_MARKING"  # environment variable by which a submission's processes are found, also those that hide


def add_check(commands: Any) -> None:
    """Add the command to the subparsers of `python -m tlhelpers`."""
    defaults, what = argparse.ArgumentDefaultsHelpFormatter, "mark a lab, or a folder of submissions"
    check = commands.add_parser("check", help=f"{what}, and say which exercises are right", formatter_class=defaults)
    check.set_defaults(command=_check)
    check.add_argument("path", help="a lab's notebook, or a folder of them; their code is run")
    check.add_argument("--out", help="for a folder: where marks, feedback and texts to mark go (None: marks)")
    check.add_argument("--csv", help="for a folder: write only the table of marks, to this file")
    check.add_argument("--master", default=str(LABS), help="the folder of the labs as they were given out")
    check.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="submissions that run at a time")
    check.add_argument("--seconds", type=float, default=600, help="limit for each notebook")
    check.add_argument("--gigabytes", type=float, default=4.0, help="limit of memory for each notebook")


@dataclass(frozen=True)
class Limits:
    """How long a submission may run, how much memory it may take, and how many run at a time."""

    seconds: float = 600
    gigabytes: float = 4.0
    jobs: int = 1


@dataclass
class Submission:
    """The result of marking a notebook."""

    path: str  # below the folder of submissions
    student: str = ""
    lab: str = ""  # its name; empty if the notebook did not get as far as that
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)  # by exercise: state and message
    texts: dict[str, str] = field(default_factory=dict)  # answers that people mark, by exercise
    raised: list[str] = field(default_factory=list)  # the cells that ended with an error
    review: list[str] = field(default_factory=list)  # code that a person should look at
    attempts: int = 0  # answers checked since the kernel started, as the submission says
    trouble: str = ""  # why the notebook did not run to its end; empty if it did
    seconds: float = 0.0


def _check(options: argparse.Namespace) -> int:
    from tlcourse.labs.marking import Master

    limits = Limits(options.seconds, options.gigabytes, options.jobs)
    path, labs = user_path(options.path), user_path(options.master)
    if not all(0 < limit < float("inf") for limit in asdict(limits).values()):
        raise DataError("--seconds, --gigabytes and --jobs must be numbers above 0")
    if not (masters := {each.stem: Master(each) for each in sorted(labs.glob("lab*.ipynb"))}):
        raise DataError(f"there is no lab (lab*.ipynb) in {labs}; --master names the folder of the labs you gave out")
    if path.is_dir():
        table = options.csv and user_path(options.csv)
        out = None if table and not options.out else user_path(options.out or "marks")
        if others := check_folder(path, labs, masters, limits, out=out, table=table):
            print(f"not checked, since they are no notebooks: {', '.join(others)}")
        print(f"written to {' and '.join(str(each) for each in (out, table) if each)}")
        return 0
    if options.csv or options.out:
        raise DataError(f"--csv and --out are for a folder of notebooks, and {path} is none")
    result = check_notebook(path, path.parent, labs, limits)
    exercises = masters[result.lab].exercises if result.lab else {}
    outcomes = {name: Outcome(*outcome) for name, outcome in result.outcomes.items()}
    print(f"{path.name}: {summary(outcomes, exercises) if outcomes else 'no exercise was checked'}")
    told = [f"{MARKS[outcome.state]} {exercises[n].title}: {outcome.message}" for n, outcome in outcomes.items()]
    told += [*result.raised, *(f"to be looked at: {each}" for each in result.review), result.trouble]
    print("\n".join(f"  {each}" for each in told if each))
    return 1 if result.trouble or not result.outcomes else 0


def check_notebook(path: Path, root: Path, labs: Path, limits: Limits) -> Submission:
    """Run a submission to its end, even if cells fail, and collect the outcomes of the checks.

    The file `path` is not changed. The notebook is stopped after `limits.seconds`, or when all its processes together
    use more memory than `limits.gigabytes`. Raises DataError if there is no such file.
    """
    if not path.is_file():
        raise DataError(f"there is no notebook at {path}")
    result, token = Submission(printable(path.relative_to(root))), os.urandom(8).hex()
    threads = str(max(1, (os.cpu_count() or 1) // limits.jobs))
    environment = {**os.environ, TOKEN: token, "TQDM_DISABLE": "1", "MPLBACKEND": "agg", "OMP_NUM_THREADS": threads}
    environment["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one of the same name elsewhere
    paths = [str(each.resolve()) for each in (path, root, labs)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log, errors, start = Path(folder) / "log", Path(folder) / "errors", time.perf_counter()
        (cwd := Path(folder) / "empty").mkdir()
        with log.open("w") as out, errors.open("w") as err:
            command = [sys.executable, "-m", "tlcourse.labs.marking", *paths]
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            process = psutil.Popen(command, env=environment, cwd=cwd, **streams)
            try:
                result.trouble = _wait(process, limits)
            finally:  # after Ctrl-C too: also what the notebook started and left behind
                _end_all(process, token)
        result.seconds = round(time.perf_counter() - start, 1)
        _take(result, log.read_text(encoding="utf8", errors="replace"))
        if not result.trouble and process.returncode != 0:
            last = errors.read_text(encoding="utf8", errors="replace").strip().splitlines()[-1:]
            result.trouble = f"it ended early: {last[0] if last else f'exit code {process.returncode}'}"
    return result


def _take(result: Submission, log: str) -> None:
    """Put what the marking process told, a line of JSON for each thing, into a result."""
    for line in log.splitlines():
        with contextlib.suppress(ValueError):  # it was stopped in the middle of a line
            found = json.loads(line)
            if "exercise" in found:
                result.outcomes[found["exercise"]] = (found["state"], found["message"])
            elif "raised" in found:
                result.raised.append(found["raised"])
            else:
                result.trouble = result.trouble or found.pop("trouble", "")
                vars(result).update(found)


def _end_all(process: psutil.Popen, token: str) -> None:
    """Kill a process, its descendants, and all others that have this token in their environment."""
    family = _family(process)
    for member in [*family, *psutil.process_iter()]:
        with contextlib.suppress(psutil.Error, OSError):
            if member in family or member.environ().get(TOKEN) == token:
                member.kill()
    process.wait()


def _family(process: psutil.Popen) -> list[psutil.Process]:
    """A process and its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def _wait(process: psutil.Popen, limits: Limits) -> str:
    """Wait until a process ends or it exceeds a limit; returns in words which one, if so."""
    start = time.perf_counter()
    while process.poll() is None:
        used = 0.0
        for member in _family(process):
            with contextlib.suppress(psutil.Error):
                used += member.memory_info().rss / 1e9
        if time.perf_counter() - start > limits.seconds:
            return f"it was stopped after {limits.seconds:g} s; look for a loop that does not end"
        if used > limits.gigabytes:
            return f"it was stopped when it used {used:.1f} GB of memory; {limits.gigabytes:g} GB are allowed"
        time.sleep(0.2)
    return ""


def check_folder(
    folder: Path, labs: Path, masters: dict[str, Any], limits: Limits, *, out: Path | None, table: Path | None
) -> list[str]:
    """Mark every notebook below a folder.

    `out` is a folder for marks, feedback and texts, in which a marking that was interrupted goes on; `table` is a file
    for the table of marks; either may be None. Both are written anew after every notebook. Returns the files that are
    no notebooks. Raises DataError if there is no notebook, OutputError if a place cannot be written.
    """
    below = sorted(p for p in folder.rglob("*") if "/." not in f"/{p.relative_to(folder).as_posix()}")  # none hidden
    found = [p for p in below if out is None or not p.is_relative_to(out)]
    paths = [p for p in found if p.suffix.casefold() == ".ipynb"]
    if not paths:
        raise DataError(f"there is no notebook (*.ipynb) below {folder}")
    from tlcourse.labs.marksheet import Sheet, write_table

    results, sheet = dict[Path, Submission](), Sheet(masters, out)

    def write() -> None:
        ordered = [results[path] for path in paths if path in results]
        if table:
            write_table(sheet.marks(ordered), table)
        if out:
            sheet.write(ordered)

    write()
    with ThreadPoolExecutor(limits.jobs) as pool:
        jobs = {pool.submit(_one, path, folder, labs, limits, out): path for path in paths}
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="submissions", unit="notebook"):
                results[jobs[job]] = job.result()
                write()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    known = {*paths, table}
    return [printable(p.relative_to(folder)) for p in found if p not in known and (p.is_symlink() or not p.is_dir())]


def _one(path: Path, folder: Path, labs: Path, limits: Limits, out: Path | None) -> Submission:
    """The result of a submission: of an earlier marking with the same files and limits, or a new one."""
    name = printable(path.relative_to(folder))
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a link whose target is missing" if path.is_symlink() else "no file"
        return Submission(name, path.stem, trouble=f"it is {what}, not a notebook")
    code = [*sorted(labs.glob("lab*.ipynb")), *sorted(Path(__file__).parent.glob("*.py")), path]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in code) + repr((name, limits)).encode()).hexdigest()
    kept = out and out / "results" / f"{digest[:32]}.json"
    if kept and kept.exists():
        return Submission(**json.loads(kept.read_text(encoding="utf8")))
    result = check_notebook(path, folder, labs, limits)
    if kept:
        with atomic_write(kept) as file:
            file.write(json.dumps(asdict(result), indent=1).encode())
    return result
