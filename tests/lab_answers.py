"""What the tests of the labs' exercises share: right passes, blank is not started, each wrong answer is told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tlcourse as tc


def outcome(name: str, exercise: str, answers: Any, **given: Any) -> tuple[str, str]:
    """The state of an exercise after a check of its answer, or of a tuple of answers, and the message."""
    lab = tc.Lab(name)
    lab.check(exercise, *(answers if isinstance(answers, tuple) else (answers,)), **given)
    return lab.outcomes[exercise].state, lab.outcomes[exercise].message


def prove(name: str, exercise: str, right: Any, wrongs: Mapping[str, Any], **given: Any) -> None:
    """Prove an exercise's check with four wrong answers or more; `wrongs` maps a part of the message to the answer."""
    state, text = outcome(name, exercise, right, **given)
    assert state == "right", text
    blank = (...,) * (len(right) if isinstance(right, tuple) else 1)
    assert outcome(name, exercise, blank, **given) == ("blank", "not started")
    messages = set()
    for expected, answers in wrongs.items():
        state, text = outcome(name, exercise, answers, **given)
        assert state == "wrong", f"{answers} passed: {text}"
        assert expected in text, f"{answers}: {text}"
        assert "could not be checked" not in text, text
        assert "your code ends at its line" not in text, text
        messages.add(text)
    assert len(messages) == len(wrongs) >= 4, messages
