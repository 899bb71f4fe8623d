"""Run a submission for marks: given cells and checks come from the course's own lab, only answers from the submission.

Run as a module, in a process of its own, with the paths of a submission and of the folder of labs; it prints a line of
JSON for everything that it finds, so that what was found before a submission hangs or crashes is not lost.
"""

import ast
import contextlib
import ctypes
import json
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import nbformat
import psutil
from jupyter_client.manager import start_new_kernel

from tlcourse.labs import referee
from tlcourse.labs.lab import Exercise, Lab
from tlhelpers.errors import DataError

SEEDS = [1, 2, 3]  # of the hidden variants of each check
SIZE_LIMIT = 20  # megabytes of a submission
REFEREE = Path(referee.__file__)
# What an honest answer to these exercises has no use for: a person should read such a cell.
ODD = r"\b(?:tlcourse\.labs|lab\.(?!check|ready|progress)\w+|tc\.Lab|sys\.modules|setattr|__\w+__|_getframe|settrace"
ODD += r"|gc\.|inspect\.|ctypes|builtins|threading|subprocess|socket|urllib|requests|os\.environ|solutions|nbformat"
ODD += r"|read_text|open\(|exec\(|(?<!\.)eval\()"


class Master:
    """A lab as it was given out: its cells, and what each exercise is worth."""

    def __init__(self, path: Path) -> None:
        self.name, self.cells = path.stem, nbformat.read(path, as_version=4).cells
        self.exercises: dict[str, Exercise] = Lab(self.name).exercises
        self.checks, self.points = dict[str, str](), dict[str, int]()  # source of the check, and points
        self.hints, self.rubrics = dict[str, str](), dict[str, str]()  # the first hint; what texts are marked by
        hint = name = ""
        for cell in self.cells:
            if match := re.search(r"<summary>Hint 1</summary>(.*?)</details>", cell.source, re.DOTALL):
                hint = match[1].strip()
            if cell.source.startswith("**Rubric") and self.exercises[name].text:
                self.rubrics[name] = cell.source
            if cell.id.startswith("check-"):
                name = cell.id.removeprefix("check-")
                self.checks[name], self.points[name] = cell.source, int(cell.metadata.get("points", 1))
                self.hints[name], hint = hint, ""

    def call(self, exercise: str) -> tuple[str, list[str]]:
        """An expression for the answers and what is given with them, and the names of what is given."""
        source = self.checks[exercise].strip()
        call: Any = ast.parse(source).body[-1]
        used = {node.id for each in call.value.keywords for node in ast.walk(each.value) if isinstance(node, ast.Name)}
        arguments = re.sub(r"^lab\.check\(\s*\"[^\"]+\",", "", source)
        return f"(lambda *a, **k: (a, k))({arguments}", sorted(used)


@dataclass(frozen=True)
class Step:
    """A cell to run: a `given` one, an `answer`, an `extra` one of the student's, or a `check`."""

    kind: str
    source: str
    place: str  # in words, for reports
    exercise: str = ""


def read_submission(path: Path) -> Any:
    """The cells of a submission. Raises DataError if the file is no usable notebook."""
    if (size := path.stat().st_size / 1e6) > SIZE_LIMIT:
        raise DataError(f"it has {size:.0f} MB, {SIZE_LIMIT} at most: clear its outputs and hand it in again")
    try:
        return nbformat.reads(path.read_text(encoding="utf8"), as_version=4).cells
    except Exception as error:  # nbformat raises many kinds
        raise DataError(f"it is not a notebook: {str(error).strip().splitlines()[0][:200]}") from error


def master_for(cells: Any, folder: Path) -> Master:
    """The lab with which these cells have most in common. Raises DataError if there is none."""
    masters = [Master(path) for path in sorted(folder.glob("lab*.ipynb"))]
    ids = {cell.get("id", "") for cell in cells}
    common = [len(ids & {cell.id for cell in master.cells}) for master in masters]
    if not max(common):
        raise DataError("no cell of it is from a lab; expected the notebook that was given out, not copied cells")
    return masters[common.index(max(common))]


def assemble(master: Master, cells: Any) -> list[Step]:
    """The master's cells, with the submission's answers, and its additional cells behind the cell that they follow."""
    known, last = {cell.id for cell in master.cells}, ""
    own, extra = dict[str, str](), dict[str, list[Step]]()
    for number, cell in enumerate(cells, start=1):
        if (name := cell.get("id", "")) in known:
            own.setdefault(name, cell.source)
            last = name
        elif cell.cell_type == "code":
            extra.setdefault(last, []).append(Step("extra", cell.source, f"the additional cell {number}"))
    steps = extra.get("", [])
    for cell in master.cells:
        if cell.cell_type == "code":
            kind, _, exercise = cell.id.partition("-")
            kind = kind if kind in ("answer", "check") else "given"
            source = own.get(cell.id, cell.source) if kind == "answer" else cell.source
            place = f"the answer to {master.exercises[exercise].title}" if exercise else "a given cell"
            steps.append(Step(kind, source, place, exercise))
        steps += extra.get(cell.id, [])
    return steps


def student_of(cells: Any, path: Path, root: Path) -> str:
    """Who handed it in: as a cell says, or the folder or file that Moodle or Canvas made of it, or the file's name."""
    for cell in cells:
        if found := re.search(r"^STUDENT = ([\"'])(.+?)\1", cell.source, re.MULTILINE):
            return found[2].strip()
    first = path.relative_to(root).parts[0]
    moodle = re.match(r"(.+)_\d+_assignsubmission_", first)
    canvas = re.match(r"[^_]+(?:_LATE)?_(\d+)_\d+_", path.name)
    return moodle[1] if moodle else canvas[1] if canvas else first.removesuffix(path.suffix)


class Run:
    """A kernel that takes a submission's steps one by one."""

    def __init__(self, master: Master) -> None:
        self.master, self.given, self.answer, self.over = master, dict[str, str](), "", False
        self.manager, self.client = start_new_kernel(kernel_name="python3", stdout=DEVNULL, stderr=DEVNULL)
        threading.Thread(target=self._watch, daemon=True).start()
        self.names = sorted({name for exercise in master.checks for name in master.call(exercise)[1]})
        for module in ("torch._dynamo", f"tlcourse.labs.{master.name}"):  # the first one patches torch, once
            self._ask(f"bool(importlib.import_module({module!r}))")
        self.before = self._ask("survey()")

    def _watch(self) -> None:
        while self.manager.is_alive():
            time.sleep(1)
        if not self.over:  # whoever waits for the kernel would wait for ever
            print(json.dumps({"trouble": "it ended early: its kernel died"}), flush=True)
            os._exit(1)

    def _send(self, source: str, **options: Any) -> Any:
        options |= {"allow_stdin": False, "output_hook": lambda _: None}
        return self.client.execute_interactive(source, **options)["content"]

    def execute(self, source: str) -> str:
        """Run a cell; returns the error that it ended with, in a line, or nothing."""
        reply = self._send(source, stop_on_error=False)
        return f"{reply['ename']}: {reply['evalue']}"[:300] if reply["status"] == "error" else ""

    def _ask(self, expression: str) -> Any:
        """The value of an expression of the referee's. `space` is the submission's namespace."""
        secret = secrets.token_hex(16)
        body = f"{REFEREE.read_text(encoding='utf8')}\nresult = signed({expression}, {secret!r})"
        code = f"(lambda own: (exec({body!r}, own), own['result'])[1])({{'space': globals(), '__name__': 'referee'}})"
        reply = self._send("", silent=True, store_history=False, user_expressions={"it": code})
        try:
            text = ast.literal_eval(reply["user_expressions"]["it"]["data"]["text/plain"])
            value = json.loads(text[64:])
            if referee.signed(value, secret) == text:
                return value
        except Exception:  # whatever came instead of a result
            value = reply.get("user_expressions")
        raise DataError(f"the checks cannot work in this submission; instead of their result came {str(value)[:200]}")

    def check(self, exercise: str) -> tuple[str, str]:
        """State and message of an exercise, after a look at what the submission may have done to be called right."""
        call, used = self.master.call(exercise)
        after = self._ask("survey()")
        changed = [name for name, value in self.before.items() if after.get(name) != value]
        if changed:
            return "wrong", f"this submission changes the course's package or Python: {changed[0]}"
        now = self._ask(f"prints({used!r}, space)")
        changed = [name for name in now if self.given.get(name, now[name]) != now[name]]
        if changed:
            return "wrong", f"`{changed[0]}` is given, and an answer has changed it; work on a copy of it"
        state, message = self._mark(exercise, call)
        varied = list(self.master.exercises[exercise].vary)
        if state == "right" and varied:
            self._ask(f"vary({varied!r}, space)")
            self.execute(self.answer)
            again, _ = self._mark(exercise, call)
            self._ask("restore(space)")
            self.execute(self.answer)
            if again != "right":
                return "wrong", f"right here, not when `{varied[0]}` holds other numbers: was the answer typed in?"
        return state, message

    def _mark(self, exercise: str, call: str) -> tuple[str, str]:
        state, message = self._ask(f"mark({self.master.name!r}, {exercise!r}, {call!r}, {SEEDS!r}, space)")
        return str(state), str(message)

    def steps(self, steps: list[Step]) -> Iterator[dict[str, Any]]:
        """Run all steps; yields what is found: an exercise's outcome, or a cell that raised."""
        for step in steps:
            if step.kind == "answer":
                self.answer = step.source
            if step.kind == "check":
                try:
                    state, message = self.check(step.exercise)
                except DataError as error:
                    state, message = "wrong", str(error)
                yield {"exercise": step.exercise, "state": state, "message": message}
            if ended := self.execute(step.source):
                yield {"raised": f"{step.place}: {ended}"}
            if step.kind == "given":
                self.given |= self._ask(f"prints({self.names!r}, space)")


def main(path: Path, root: Path, folder: Path) -> None:
    """Print what is found about a submission in the folder `root`, a line of JSON for each thing."""

    def tell(**what: Any) -> None:
        print(json.dumps(what), flush=True)

    tell(student=student_of([], path, root))
    master = master_for(cells := read_submission(path), folder)
    steps = assemble(master, cells)
    own = [step for step in steps if step.kind in ("answer", "extra")]
    odd = [f"{step.place} uses `{found[0]}`" for step in own for found in [re.search(ODD, step.source)] if found]
    said = [re.findall(r"(\d+) answers checked", str(cell.get("outputs"))) for cell in cells]
    tell(lab=master.name, student=student_of(cells, path, root), review=odd, attempts=int(sum(said, ["0"])[-1]))
    tell(texts={step.exercise: step.source for step in own if step.exercise in master.rubrics})
    if sys.platform == "linux":  # orphans become this process's children (PR_SET_CHILD_SUBREAPER)
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    run = Run(master)
    try:
        for found in run.steps(steps):
            tell(**found)
    finally:
        run.over = True
        run.manager.shutdown_kernel(now=True)
        for process in psutil.Process().children(recursive=True):  # what it started and left behind
            with contextlib.suppress(psutil.Error):
                process.kill()


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except DataError as error:
        print(json.dumps({"trouble": str(error)}), flush=True)
