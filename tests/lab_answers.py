"""What the tests of the labs' exercises share: right passes, blank is not started, each wrong answer is told apart."""

import copy
import functools
import itertools
import os
from pathlib import Path

import tlcourse as tc
from tlcourse.labs.answers import VARIANT


def copied(build):
    """The same function, which builds each of its results once and gives a fresh copy at each call."""
    once = functools.cache(build)
    return lambda *given, **options: copy.deepcopy(once(*given, **options))


class Junk:
    """What no exercise asks for."""


def outcome(name, exercise, answers, **given):
    """The state of an exercise after a check of its answer, or of a tuple of answers, and the message."""
    lab = tc.Lab(name)
    lab.check(exercise, *(answers if isinstance(answers, tuple) else (answers,)), **given)
    return lab.outcomes[exercise].state, lab.outcomes[exercise].message


def prove(name, exercise, right, wrongs, *, also=(), **given):
    """Prove an exercise's check: `right` and each answer of `also` pass, each of `wrongs` has its part of the message.

    Besides, an answer of another type, or a function that returns one, is wrong, and the message names the type.
    """

    def wrong(answers):
        state, message = outcome(name, exercise, answers, **given)
        assert state == "wrong", f"{answers} passed: {message}"
        return message

    fine = "text" if tc.Lab(name).exercises[exercise].text else "right"
    for answer, variant in itertools.product((right, *also), range(4)):  # with the hidden inputs of marking too
        token = VARIANT.set(variant)
        state, text = outcome(name, exercise, answer, **given)
        VARIANT.reset(token)
        assert state == fine, text
    answers = right if isinstance(right, tuple) else (right,)
    assert outcome(name, exercise, (...,) * len(answers), **given) == ("blank", "not started")
    for place in range(len(answers)):
        assert "Junk" in wrong((*answers[:place], Junk(), *answers[place + 1 :]))
    if tc.Lab(name).exercises[exercise].function:
        assert "Junk" in wrong((lambda *inputs: (answers[0](*inputs), Junk())[1], *answers[1:]))
    messages = {expected: wrong(answer) for expected, answer in wrongs.items()}
    for expected, text in messages.items():
        assert expected in text, text
        assert "could not be checked" not in text, text
        assert "your code ends at its line" not in text, text
    assert len(set(messages.values())) == len(wrongs) >= 3, messages
    if target := os.environ.get("TL_COUNT_WRONG"):  # tools/labs.py counts them
        with Path(target).open("a", encoding="utf8") as file:
            file.write(f"{name} {len(wrongs)}\n")
