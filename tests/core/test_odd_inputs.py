"""Inputs one step off the marked path: each row of data/odd_inputs.tsv gives the right result, or a sentence."""

import odd
import pytest
from toy import ROOT, cases, run_python

from tlhelpers import device


@pytest.mark.parametrize("kind", dict.fromkeys(row[1] for row in odd.rows()))
def test_nothing_silent_and_nothing_raw(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    space, wrong = odd.Space(tmp_path), []
    for number, row_kind, expected, code in odd.rows():
        if row_kind == kind:
            result, what = odd.outcome(code, expected, space)
            wrong += [f"row {number}, {expected}: {code}\n    {result}: {what}"] * (result not in odd.OUTCOMES[:2])
            device.use_profile("quick", device="cpu", precision="fp32")
    assert not wrong, "\n".join(wrong)


def test_the_rows_are_as_many_as_the_page_says_and_all_differ():
    assert len({row[3] for row in odd.rows()}) == len(odd.rows()) >= 300


@cases(
    "code, expected, result",
    ("1 == 2", "right", "WRONG"),
    ("1", "right", "WRONG"),
    ("[][0]", "refused: ", "RAW ERROR"),
    ("tl.load_data('')", "refused: a word that is not in it", "WRONG"),
    ("tl.load_data('')", "right", "WRONG"),
    ("True", "refused: x", "WRONG"),
)
def test_a_fault_would_be_noticed(code, expected, result):
    assert odd.outcome(code, expected, vars(odd))[0] == result


def test_the_takeaways_run_wherever_they_are_started(tmp_path):
    done = run_python(ROOT / "chapter12" / "source" / "12_6_takeaways.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
