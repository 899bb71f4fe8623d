"""Make the labs out of their solutions: `labs/source/NAME.py` is made from `solutions/source/NAME.py`.

    python tools/labs.py                 write every lab's .py file; then `make sync` executes it
    python tools/labs.py check           only say which are not in step
    python tools/labs.py wrong [PATTERN] run solutions with every wrong answer of tests/data/wrong_answers put before
                                         the right one, and say which of them are not told what is wrong
    python tools/labs.py table           minutes, exercises, lines, points and tested wrong answers of each lab
                                         (to count these, unit tests are run)

In a solution, what the learner is to write stands between two comments:

    # BEGIN ANSWER: extractor, features
    extractor = ...the solution...
    features = ...
    # END ANSWER

The lab has in its place a comment and `name = ...` for each name. Inside a function no names are given, and the body
becomes `...`. A markdown cell tagged "solution" is left out of the lab; everything else is kept.

A file of wrong answers has, for each, a line `### EXERCISE | part of the message that it gets` and the answer's code.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import notebooks
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
BEGIN = re.compile(r"^(?P<indent> *)# BEGIN ANSWER(?:: (?P<names>\w+(?:, \w+)*))?$")
END = re.compile(r"^ *# END ANSWER$")
CELL = re.compile(r"^# %%")
ONLY_SOLUTION = re.compile(r'^# %% \[markdown\] tags=\[.*"solution".*\]$')
WRONG = re.compile(r"^### (?P<exercise>[\w-]+) \| (?P<message>.+)$", re.MULTILINE)
EXTENSION = re.compile(r"^#+ Extension", re.MULTILINE)


def main() -> int:
    """Run one of the commands; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("write", "check", "wrong", "table"), default="write")
    parser.add_argument("pattern", nargs="?", default="")
    options = parser.parse_args()
    sources = [path for path in sorted((ROOT / "solutions" / "source").glob("*.py")) if options.pattern in path.stem]
    if options.command == "wrong":
        faults = [fault for path in sources for fault in not_told(path)]
        print("\n".join(faults) or "every wrong answer is told what is wrong")
        return 1 if faults else 0
    if options.command == "table":
        tested = tested_answers()
        rows = {path.stem: measures(path) for path in sources}
        for name, row in rows.items():
            row |= {"wrong, unit tests": tested.get(name, 0), "wrong, in place": len(wrong_answers(name))}
        table = pd.DataFrame(rows).T.astype(int)
        table.loc["all"] = table.sum()
        print(table.to_string())
        return 0
    stale = []
    for source in sorted((ROOT / "solutions" / "source").glob("*.py")):
        target, text = ROOT / "labs" / "source" / source.name, lab_of(source.read_text(encoding="utf8"), source.name)
        if not target.exists() or target.read_text(encoding="utf8") != text:
            stale.append(target.name)
            if options.command == "write":
                target.parent.mkdir(exist_ok=True)
                target.write_text(text, encoding="utf8")
    said = "not in step" if options.command == "check" else "written"
    print("\n".join(f"{name}: {said}" for name in stale) or "all labs are in step with their solutions")
    return 1 if stale and options.command == "check" else 0


def lab_of(solution: str, name: str = "solution") -> str:
    """The text of a lab.

    Raises:
        SystemExit: if an answer is not closed, or one begins inside another; with the number of the line.
    """
    lines: list[str] = []
    opened = 0  # the line on which the answer began that is being left out
    hidden = False  # inside a cell that only the solution has
    for number, line in enumerate(solution.splitlines(), start=1):
        begin, end = BEGIN.match(line), END.match(line)
        if (begin and opened) or (end and not opened) or ("ANSWER" in line and not (begin or end)):
            raise SystemExit(f"{name}, line {number}: '{line.strip()}' has no place here; an answer began in {opened}")
        if CELL.match(line):
            if opened:
                raise SystemExit(f"{name}: the answer that begins in line {opened} does not end in its cell")
            hidden = bool(ONLY_SOLUTION.match(line))
        if hidden:
            continue
        if begin:
            opened = number
            lines += _blank(begin["indent"], begin["names"])
        elif end:
            opened = 0
        elif not opened:
            lines.append(line)
    if opened:
        raise SystemExit(f"{name}: the answer that begins in line {opened} does not end")
    return "\n".join(lines) + "\n"


def _blank(indent: str, names: str | None) -> list[str]:
    if names is None:
        return [f"{indent}# your code here", f"{indent}..."]
    return [f"{indent}# your code here; it defines {names}", *(f"{indent}{n} = ..." for n in names.split(", "))]


def wrong_answers(name: str) -> list[tuple[str, str, str]]:
    """The wrong answers of a lab: (exercise, part of the message, code)."""
    pieces = WRONG.split((ROOT / "tests" / "data" / "wrong_answers" / f"{name}.txt").read_text(encoding="utf8"))[1:]
    return [(e, message.strip(), code.strip()) for e, message, code in zip(*[iter(pieces)] * 3, strict=True)]


def not_told(source: Path) -> list[str]:
    """Execute a solution with its wrong answers before the right ones; a sentence for each without its message."""
    book, wrong, probes = notebooks.build(source), wrong_answers(source.stem), []
    checks = {cell.id.removeprefix("check-"): cell for cell in book.cells if cell.id.startswith("check-")}
    cells = []
    for cell in book.cells:
        exercise = cell.id.removeprefix("answer-")
        for _, message, code in (each for each in wrong if cell.id.startswith("answer-") and each[0] == exercise):
            answer, check = nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell(checks[exercise].source)
            answer.metadata["tags"] = check.metadata["tags"] = ["raises-exception"]
            probes.append((exercise, message, check))
            cells += [answer, check]
        cells.append(cell)
    book.cells = cells
    order = {id(cell): number for number, cell in enumerate(cells)}
    done, _ = notebooks.execute(book, source.parent.parent)
    faults = [f"no exercise '{e}'" for e in sorted({e for e, *_ in wrong} - set(checks))]
    for exercise, message, check in probes:
        said = " ".join(_text(done.cells[order[id(check)]]).split())
        if not said.startswith("✗") or message not in said:
            faults.append(f"{source.stem}, {exercise}: expected '{message}', found: {said}")
    rights = [_text(cell) for cell in done.cells if cell.id.startswith("check-")]
    return faults + [f"{source.stem}: not right: {said}" for said in rights if not said.startswith(("✓", "✎"))]


def _text(cell: Any) -> str:
    return "".join(output.get("text", "") or output.get("evalue", "") for output in cell.outputs)


def measures(source: Path) -> dict[str, int]:
    """Numbers of a lab for its table, of the core and of the extension."""
    text = source.read_text(encoding="utf8")
    parts, found = re.split(EXTENSION.pattern.replace("^", "^# "), text, maxsplit=1, flags=re.MULTILINE), {}
    for name, part in zip(("core", "extension"), parts, strict=False):
        answers = re.findall(r"# BEGIN ANSWER.*?\n(.*?)# END ANSWER", part, re.DOTALL)
        found[f"{name} minutes"] = sum(
            map(int, re.findall(r"^# \*\*Difficulty\*\*.*?\*\*(\d+) minutes", part, re.MULTILINE))
        )
        found[f"{name} exercises"] = len(re.findall(r"^lab\.check\(", part, re.MULTILINE))
        found[f"{name} lines"] = sum(bool(line.strip()) for answer in answers for line in answer.splitlines())
        found[f"{name} points"] = sum(map(int, re.findall(r"^# %% .*points=(\d+)", part, re.MULTILINE)))
    return found


def tested_answers() -> dict[str, int]:
    """How many wrong answers the unit tests of each lab prove to be told apart; runs these tests."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "counts"
        target.touch()
        tests = [str(path) for path in sorted((ROOT / "tests" / "course").glob("test_lab[0-9].py"))]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "not slow", *tests]
        environment = {**os.environ, "TL_COUNT_WRONG": str(target), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found = Counter[str]()
        for line in target.read_text(encoding="utf8").splitlines():
            name, count = line.split()
            found[name] += int(count)
    return dict(found)


if __name__ == "__main__":
    sys.exit(main())
