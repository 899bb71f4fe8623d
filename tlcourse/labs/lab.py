"""What a lab's cells call: `Lab.check` says ✓, ○ not started, or ✗ and what to look at.

Each lab has a module here, `tlcourse.labs.<name>`, with a function for each exercise. Such a function takes what the
learner made, returns a sentence if it is right, and raises `Wrong` with the thing to look at if it is not. It never
shows the solution.
"""

from __future__ import annotations

import dis
import importlib
import json
import os
import sysconfig
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlhelpers.errors import TLError

REPORT_VARIABLE = "TL_CHECK_REPORT"  # names a file into which every check writes what is known so far
PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
MARKS = {"right": "✓", "wrong": "✗", "blank": "○"}


class Wrong(Exception):
    """An answer is not right; the message names what to look at."""


def _where(error: Exception) -> str:
    """At which line of the learner's own code it went wrong, if it was there."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parents = Path(frame.filename).parents
        if not any(folder in parents for folder in (PACKAGE, *LIBRARIES)):
            return f"your code ends at its line {frame.lineno}, `{frame.line}`, with"
    return "your answer could not be checked; it led to"


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lab.

    Attributes:
        name: short, as `Lab.check` is told it.
        title: as in the notebook.
        check: from the answers to a sentence that says what is right about them; raises `Wrong`.
    """

    name: str
    title: str
    check: Callable[..., str]


@dataclass
class Outcome:
    """How an exercise stands: state "right", "wrong" or "blank", and the sentence about it."""

    state: str = "blank"
    said: str = ""


def is_blank(answer: Any) -> bool:
    """Whether an answer was not begun: `...`, None, or a function whose body is still `...`."""
    if answer is ... or answer is None:
        return True
    code = getattr(answer, "__code__", None)
    return code is not None and _does_nothing(code)


def _does_nothing(code: Any) -> bool:
    """Whether a function only returns None, whatever this version of Python makes of `...`, `pass` or a docstring."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("RESUME", "NOP", "COPY_FREE_VARS")]
    names = [step.opname for step in steps]
    return names in (["LOAD_CONST", "RETURN_VALUE"], ["RETURN_CONST"]) and steps[0].argval is None


class Lab:
    """The exercises of a lab and how each of them stands.

    Args:
        name: of the lab's module in `tlcourse.labs`, "lab2_vgg16_features" for instance.

    Raises:
        TLError: if there is no such lab.
    """

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
        """Print what is to be said about answers, and remember it.

        Args:
            exercise: its name.
            answers: what the learner made; while one of them is `...`, the exercise is not started.
            given: what the check needs besides.

        Raises:
            TLError: if the lab has no such exercise.
        """
        if exercise not in self.exercises:
            raise TLError(f"{self.name} has no exercise '{exercise}'; its exercises: {', '.join(self.exercises)}")
        self.outcomes[exercise] = outcome = self._judged(exercise, answers, given)
        text = f"{MARKS[outcome.state]} {self.exercises[exercise].title}: {outcome.said}"
        print(textwrap.fill(text, 96, subsequent_indent="  "))
        self._report()

    def _judged(self, exercise: str, answers: tuple[Any, ...], given: dict[str, Any]) -> Outcome:
        if any(is_blank(answer) for answer in answers):
            begun = any(not is_blank(answer) for answer in answers)
            return Outcome("blank", "begun, but something is still `...`" if begun else "not started")
        try:
            return Outcome("right", self.exercises[exercise].check(*answers, **given))
        except Wrong as wrong:
            return Outcome("wrong", str(wrong))
        except Exception as error:  # an answer of an unforeseen kind must not stop the notebook
            first = (str(error).strip() or "no message").splitlines()[0]
            return Outcome("wrong", f"{_where(error)} {type(error).__name__}: {first}")

    def ready(self, *answers: Any) -> bool:
        """Whether answers are there, for cells that build on them; says so if not."""
        if any(is_blank(answer) for answer in answers):
            print("○ This cell waits for an exercise above.")
            return False
        return True

    def progress(self) -> None:
        """Print a line on the whole lab."""
        print(self.summary())

    def summary(self) -> str:
        """How many exercises are right, wrong and not started; and which is next."""
        return summary_of(asdict_all(self.outcomes))

    def _report(self) -> None:
        target = os.environ.get(REPORT_VARIABLE)
        if target:
            content = {"lab": self.name, "outcomes": asdict_all(self.outcomes)}
            Path(target).write_text(json.dumps(content), encoding="utf8")


def asdict_all(outcomes: dict[str, Outcome]) -> dict[str, dict[str, str]]:
    """Outcomes as plain dictionaries."""
    return {name: asdict(outcome) for name, outcome in outcomes.items()}


def summary_of(outcomes: dict[str, dict[str, str]]) -> str:
    """One line on a lab: a mark for each exercise, how many are right, and what comes next."""
    states = [outcome["state"] for outcome in outcomes.values()]
    marks = "".join(MARKS[state] for state in states)
    open_ones = [name for name, outcome in outcomes.items() if outcome["state"] != "right"]
    rest = f"next: {open_ones[0]}" if open_ones else "all done"
    return f"{marks}  {states.count('right')} of {len(states)} right, {rest}"
