"""Make the labs out of their solutions: `labs/source/NAME.py` is made from `solutions/source/NAME.py`.

    python tools/labs.py            write every lab's .py file; then `make sync` executes it
    python tools/labs.py --check    only say which are not in step

In a solution, what the learner is to write stands between two comments:

    # BEGIN ANSWER: extractor, features
    extractor = ...the solution...
    features = ...
    # END ANSWER

The lab has in its place a comment and `name = ...` for each name. Inside a function no names are given, and the body
becomes `...`. A markdown cell tagged "solution" is left out of the lab; everything else is kept.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN = re.compile(r"^(?P<indent> *)# BEGIN ANSWER(?:: (?P<names>\w+(?:, \w+)*))?$")
END = re.compile(r"^ *# END ANSWER$")
CELL = re.compile(r"^# %%")
ONLY_SOLUTION = re.compile(r'^# %% \[markdown\] tags=\[.*"solution".*\]$')


def main() -> int:
    """Write or compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    stale = []
    for source in sorted((ROOT / "solutions" / "source").glob("*.py")):
        target, text = ROOT / "labs" / "source" / source.name, lab_of(source.read_text(encoding="utf8"), source.name)
        if not target.exists() or target.read_text(encoding="utf8") != text:
            stale.append(target.name)
            if not options.check:
                target.parent.mkdir(exist_ok=True)
                target.write_text(text, encoding="utf8")
    said = "not in step" if options.check else "written"
    print("\n".join(f"{name}: {said}" for name in stale) or "all labs are in step with their solutions")
    return 1 if stale and options.check else 0


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


if __name__ == "__main__":
    sys.exit(main())
