"""What every test of a lab's exercises proves: right passes, blank is not started, each wrong answer is told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tlcourse as tc

Wrong = tuple[tuple[Any, ...], str]  # answers, and a part of the message


def said(lab: tc.Lab, exercise: str, *answers: Any, **given: Any) -> tuple[str, str]:
    """The state of an exercise after a check, and what was said."""
    lab.check(exercise, *answers, **given)
    outcome = lab.outcomes[exercise]
    return outcome.state, outcome.said


def prove(name: str, exercise: str, right: tuple[Any, ...], wrongs: Sequence[Wrong], **given: Any) -> None:
    """Prove an exercise's check: four wrong answers or more, each with a message of its own."""
    lab = tc.Lab(name)
    state, text = said(lab, exercise, *right, **given)
    assert state == "right", text
    assert said(lab, exercise, *[...] * len(right), **given) == ("blank", "not started")
    messages = []
    for answers, expected in wrongs:
        state, text = said(lab, exercise, *answers, **given)
        assert state == "wrong", f"{answers} passed: {text}"
        assert expected in text, f"{answers}: {text}"
        assert "could not be checked" not in text, text
        assert "your code ends at its line" not in text, text
        messages.append(text)
    assert len(set(messages)) == len(messages) >= 4, messages
