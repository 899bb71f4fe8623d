"""What a lab's cells call: `Lab.check` prints ✓ right, ○ not started, or ✗ wrong and what to look at.

Each lab has a module here, `tlcourse.labs.<name>`, with a function for each exercise. The function takes the learner's
answers, returns a sentence if they are right, and raises `Wrong` if they are not. It never shows the solution.
"""

import dis
import importlib
import json
import os
import sysconfig
import textwrap
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlhelpers.errors import TLError

REPORT_VARIABLE = "TL_CHECK_REPORT"  # environment variable: the file into which every check writes all outcomes so far
LIBRARIES = [*Path(__file__).parents[2].glob("tl*"), *(Path(p) for n, p in sysconfig.get_paths().items() if "lib" in n)]
MARKS = {"right": "✓", "wrong": "✗", "blank": "○"}


class Wrong(Exception):
    """An answer is wrong; the message says what to look at."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lab."""

    name: str  # the first argument of `Lab.check`
    title: str  # as in the notebook
    check: Callable[..., str]  # from the answers to a sentence on what is right about them; or raises `Wrong`
    function: bool = False  # whether the first answer must be a function


@dataclass
class Outcome:
    """The result of an exercise."""

    state: str = "blank"  # or "right", or "wrong"
    message: str = "not started"


class Lab:
    """The exercises of a lab and their outcomes; `name` is its module, for example "lab2_vgg16_features"."""

    def __init__(self, name: str) -> None:
        try:
            module = importlib.import_module(f"tlcourse.labs.{name}")
        except ModuleNotFoundError as error:
            known = ", ".join(sorted(path.stem for path in Path(__file__).parent.glob("lab[0-9]*.py")))
            raise TLError(f"there is no lab '{name}'; expected one of {known}") from error
        self.name = name
        self.exercises: dict[str, Exercise] = {exercise.name: exercise for exercise in module.EXERCISES}
        self.outcomes = {exercise: Outcome() for exercise in self.exercises}
        self._report()

    def check(self, exercise: str, *answers: Any, **given: Any) -> None:
        """Print and record whether an exercise is solved.

        While one of the learner's `answers` is `...`, it is not finished. `given` is what the check needs besides.
        """
        if exercise not in self.exercises:
            raise TLError(f"{self.name} has no exercise '{exercise}'; its exercises: {', '.join(self.exercises)}")
        self.outcomes[exercise] = outcome = _outcome(self.exercises[exercise], answers, given)
        text = f"{MARKS[outcome.state]} {self.exercises[exercise].title}: {outcome.message}"
        print(textwrap.fill(text, 96, subsequent_indent="  "))
        self._report()

    def ready(self, *answers: Any) -> bool:
        """True if all answers are there, for cells that build on them; prints a line if not."""
        missing = any(is_blank(answer) for answer in answers)
        if missing:
            print("○ This cell waits for an exercise above.")
        return not missing

    def progress(self) -> None:
        """Print a line on the whole lab."""
        print(summary(self.outcomes))

    def _report(self) -> None:
        if target := os.environ.get(REPORT_VARIABLE):
            content = {"lab": self.name, "outcomes": {name: asdict(o) for name, o in self.outcomes.items()}}
            Path(target).write_text(json.dumps(content), encoding="utf8")


def summary(outcomes: Mapping[str, Outcome]) -> str:
    """One line on a lab: a mark for each exercise, the number of right ones, and the next exercise."""
    marks = "".join(MARKS[outcome.state] for outcome in outcomes.values())
    unsolved = [name for name, outcome in outcomes.items() if outcome.state != "right"]
    rest = f"next: {unsolved[0]}" if unsolved else "all done"
    return f"{marks}  {len(outcomes) - len(unsolved)} of {len(outcomes)} right, {rest}"


def is_blank(answer: Any) -> bool:
    """True for an answer that was not begun: `...`, None, or a function whose body is still `...`."""
    if answer is ... or answer is None:
        return True
    if not hasattr(answer, "__code__"):
        return False
    # the bytecode of `...`, `pass` or a docstring alone differs between versions of Python, but only returns None
    steps = [step for step in dis.get_instructions(answer) if step.opname not in ("RESUME", "NOP", "COPY_FREE_VARS")]
    names = [step.opname for step in steps]
    return names in (["LOAD_CONST", "RETURN_VALUE"], ["RETURN_CONST"]) and steps[0].argval is None


def _outcome(exercise: Exercise, answers: tuple[Any, ...], given: dict[str, Any]) -> Outcome:
    blank = [is_blank(answer) for answer in answers]
    if any(blank):
        return Outcome() if all(blank) else Outcome("blank", "begun, but something is still `...`")
    if exercise.function and not callable(answers[0]):
        return Outcome("wrong", f"expected a function, found {type(answers[0]).__name__}")
    try:
        return Outcome("right", exercise.check(*answers, **given))
    except Wrong as wrong:
        return Outcome("wrong", str(wrong))
    except Exception as error:  # an unforeseen kind of answer must not stop the notebook
        first_line = (str(error).strip() or "no message").splitlines()[0]
        return Outcome("wrong", f"{_where(error)} {type(error).__name__}: {first_line}")


def _where(error: Exception) -> str:
    """The line of the learner's own code at which an error came up, if it came up there."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(folder in Path(frame.filename).parents for folder in LIBRARIES):
            return f"your code ends at its line {frame.lineno}, `{frame.line}`, with"
    return "your answer could not be checked; it led to"
