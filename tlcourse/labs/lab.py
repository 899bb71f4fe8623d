"""What a lab's cells call: `Lab.check` prints ✓ right, ○ not started, ✗ wrong and what to look at, ✎ a text to mark.

Each lab has a module here, `tlcourse.labs.<name>`, with a function for each exercise. The function takes the learner's
answers, returns a sentence if they are right, and raises `Wrong` if they are not. It never shows the solution.
"""

import dis
import importlib
import sysconfig
import textwrap
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlhelpers.errors import TLError

LIBRARIES = [*Path(__file__).parents[2].glob("tl*"), *(Path(p) for n, p in sysconfig.get_paths().items() if "lib" in n)]
MARKS = {"right": "✓", "wrong": "✗", "blank": "○", "text": "✎"}


class Wrong(Exception):
    """An answer is wrong; the message says what to look at."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lab."""

    name: str  # the first argument of `Lab.check`
    title: str  # as in the notebook
    check: Callable[..., str]  # from the answers to a sentence on what is right about them; or raises `Wrong`
    function: bool = False  # whether the first answer must be a function
    extension: bool = False  # whether it belongs to the part after the core
    text: bool = False  # whether people mark it; the check only sees whether it is a text on the subject
    vary: tuple[str, ...] = ()  # tables from which the answer is computed; marking changes them and runs it again


@dataclass
class Outcome:
    """The result of an exercise."""

    state: str = "blank"  # or another of MARKS
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
        self.attempts = 0  # checks of something that was begun

    def check(self, exercise: str, *answers: Any, **given: Any) -> None:
        """Print and record whether an exercise is solved.

        While one of the learner's `answers` is `...`, it is not finished. `given` is what the check needs besides.
        Raises TLError if the lab has no such exercise.
        """
        if exercise not in self.exercises:
            raise TLError(f"{self.name} has no exercise '{exercise}'; its exercises: {', '.join(self.exercises)}")
        self.outcomes[exercise] = outcome = judge(self.exercises[exercise], answers, given)
        self.attempts += outcome.state != "blank"
        text = f"{MARKS[outcome.state]} {self.exercises[exercise].title}: {outcome.message}"
        print(textwrap.fill(text, 96, subsequent_indent="  ", break_on_hyphens=False))

    def ready(self, *exercises: str) -> bool:
        """True if these exercises are right, for cells that build on them; prints for which one the cell waits if not.

        Raises TLError if the lab has no such exercise.
        """
        for name in exercises:
            if name not in self.exercises:
                raise TLError(f"{self.name} has no exercise '{name}'; its exercises: {', '.join(self.exercises)}")
            if self.outcomes[name].state not in ("right", "text"):
                print(f"{MARKS[self.outcomes[name].state]} This cell waits for exercise {self.exercises[name].title}.")
                return False
        return True

    def progress(self) -> None:
        """Print a line on the whole lab."""
        print(summary(self.outcomes, self.exercises))
        if self.attempts:
            print(f"{self.attempts} answers checked since the kernel started")


def summary(outcomes: Mapping[str, Outcome], exercises: Mapping[str, Exercise]) -> str:
    """One line on a lab: a mark for each exercise, core + extension, how many are right, and which one comes next."""
    states = [[o.state for n, o in outcomes.items() if exercises[n].extension is extra] for extra in (False, True)]
    marks = " + ".join("".join(MARKS[state] for state in own) for own in states if own)
    parts = [f"{own.count('right')} of {len(own)} right" for own in states if own]
    texts = sum(own.count("text") for own in states)
    parts += [f"{texts} for your teacher to mark"] if texts else []
    open_ = (exercises[name].title for name, o in outcomes.items() if o.state in ("blank", "wrong"))
    parts.append(next((f"next: {title}" for title in open_), "all done"))
    return f"{marks}  {', '.join(parts)}"


def is_blank(answer: Any) -> bool:
    """True for an answer that was not begun: `...`, or a function whose body is still `...`."""
    if answer is ...:
        return True
    if not hasattr(answer, "__code__"):
        return False
    # the bytecode of `...`, `pass` or a docstring alone differs between versions of Python, but only returns None
    steps = [step for step in dis.get_instructions(answer) if step.opname not in ("RESUME", "NOP", "COPY_FREE_VARS")]
    names = [step.opname for step in steps]
    return names in (["LOAD_CONST", "RETURN_VALUE"], ["RETURN_CONST"]) and steps[0].argval is None


def judge(exercise: Exercise, answers: tuple[Any, ...], given: dict[str, Any]) -> Outcome:
    """The outcome of an exercise for its answers; `given` is what its check needs besides."""
    blank = [is_blank(answer) for answer in answers]
    if any(blank):
        return Outcome() if all(blank) else Outcome("blank", "begun, but something is still `...`")
    if any(answer is None for answer in answers):
        return Outcome("wrong", "the answer is None: your function returned nothing; is `return` missing?")
    if exercise.function and not callable(answers[0]):
        return Outcome("wrong", f"expected a function, found {type(answers[0]).__name__}")
    try:
        return Outcome("text" if exercise.text else "right", exercise.check(*answers, **given))
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
