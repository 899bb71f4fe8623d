"""Write thirty submissions of a lab as a class would hand them in, to try out `python -m tlhelpers check`.

    python tools/simulate_class.py lab1 FOLDER

Right ones have the solution's answers; others have wrong answers of tests/data/wrong_answers, blanks, a cell that
raises, a loop without end, too much memory, or try to mark themselves.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from pathlib import Path
from typing import Any

import nbformat
import notebooks

import labs

ROOT = Path(__file__).resolve().parents[1]
CLASS = {
    "right": 10,
    "half": 8,
    "few": 4,
    "blank": 2,
    "raising": 1,
    "hanging": 1,
    "greedy": 1,
    "cheating": 2,
    "huge": 1,
}


def main() -> int:
    """Write the submissions; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", help="how the lab's name begins")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    path = next((ROOT / "labs").glob(f"{options.lab}*.ipynb"), None)
    if path is None:
        print(f"there is no lab '{options.lab}'")
        return 1
    numbers, students = itertools.count(1), random.Random(0)
    for kind, count in CLASS.items():
        for _ in range(count):
            number = next(numbers)
            book = submission(path, kind, students)
            target = options.folder / f"Student {number:02} ({kind})_{1000 + number}_assignsubmission_file" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(book, target)
    print(f"{next(numbers) - 1} submissions of {path.stem} in {options.folder}")
    return 0


def submission(path: Path, kind: str, draws: random.Random) -> Any:
    """A notebook as a student of a certain kind would hand it in."""
    book = nbformat.read(path, as_version=4)
    solution = {
        cell.id: cell.source for cell in notebooks.build(ROOT / "solutions" / "source" / f"{path.stem}.py").cells
    }
    answers = [cell for cell in book.cells if cell.id.startswith("answer-")]
    wrong = labs.wrong_answers(path.stem)
    share = {"blank": 0.0, "half": 0.5, "few": 0.2}.get(kind, 1.0)
    for number, cell in enumerate(answers):
        slips = [code for exercise, _, code in wrong if cell.id == f"answer-{exercise}"]
        if number < share * len(answers):
            cell.source = solution[cell.id]
        elif kind != "blank" and slips and draws.random() < 0.7:
            cell.source = draws.choice(slips)
    last = answers[len(answers) // 2]
    if kind == "cheating":
        last.source = draws.choice([code for _, _, code in labs.wrong_answers("cheats")])
    last.source += {
        "raising": "\nraise ValueError('my mistake')",
        "hanging": "\nwhile True:\n    pass",
        "greedy": "\nblocks = [bytearray(b'x') * 10**9 for _ in range(20)]",
    }.get(kind, "")
    if kind == "huge":
        book.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="x" * 25_000_000)]
    return book


if __name__ == "__main__":
    sys.exit(main())
