"""Labs are made from solutions; checks say ✓, ○ or ✗; submissions are run at arm's length."""

import ast
import csv
import sys
import types

import nbformat
import numpy as np
import psutil
import pytest
from lab_answers import outcome, prove
from toy import cases, refused

import labs
import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs.answers import wrong_if
from tlcourse.labs.command import check_folder, check_notebook
from tlcourse.labs.lab import REPORT_VARIABLE, Exercise, is_blank
from tlhelpers.__main__ import main

SOLUTION = '''\
# %%
# BEGIN ANSWER: a, b
a = 1
b = 2
# END ANSWER
after = 3


# %%
def f(x):
    """Double."""
    # BEGIN ANSWER
    return 2 * x
    # END ANSWER

# %% [markdown] tags=["solution"]
# Only the solution says this.

# %%
last = 4
'''
LAB = '''\
# %%
# your code here; it defines a, b
a = ...
b = ...
after = 3


# %%
def f(x):
    """Double."""
    # your code here
    ...

# %%
last = 4
'''


def test_answers_are_cut_out_and_all_else_is_kept():
    assert labs.lab_of(SOLUTION) == LAB


@cases(
    "text, expected",
    ("# %%\n# BEGIN ANSWER: a\na = 1\n", "begins in line 2 does not end"),
    ("# %%\n# BEGIN ANSWER: a\na = 1\n# %%\n# END ANSWER\n", "line 2 does not end in its cell"),
    ("# %%\n# END ANSWER\n", "line 2: '# END ANSWER' has no place here"),
    ("# %%\n# BEGIN ANSWER: a\n# BEGIN ANSWER: b\n# END ANSWER\n", "line 3: '# BEGIN ANSWER: b' has no place"),
)
def test_a_mark_in_the_wrong_place_is_refused(text, expected):
    refused(SystemExit, expected, labs.lab_of, text)


def test_labs_are_in_step_with_their_solutions(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["labs.py", "--check"])
    assert labs.main() == 0, "python tools/labs.py"
    names = [{path.name for path in (labs.ROOT / folder).glob("source/*.py")} for folder in ("solutions", "labs")]
    assert names[0] == names[1] != set()


def blank(x): ...


def blank_with_docstring(x):
    """Not begun."""
    ...


def begun(x):
    return x


def test_what_is_blank():
    assert all(is_blank(answer) for answer in (..., None, blank, blank_with_docstring))
    assert not any(is_blank(answer) for answer in (0, False, "", [], 0.0, begun, lambda: 5, len, tc.Lab))


def is_two(answer):
    wrong_if(answer == 3, "one too many")
    return f"{2 / (answer == 2)} is right"


@pytest.fixture
def lab(monkeypatch):
    module = types.ModuleType("tlcourse.labs.lab0_test")
    both = Exercise("both", "2 Both", lambda a, b: "good", function=True)
    module.EXERCISES = (Exercise("two", "1 Two", is_two), both)
    monkeypatch.setitem(sys.modules, "tlcourse.labs.lab0_test", module)
    return tc.Lab("lab0_test")


def test_what_a_check_says(lab, capsys):
    lab.progress()
    lab.check("two", ...)
    lab.check("two", 3)
    lab.check("both", 1, ...)
    lab.check("both", 1, 1)
    lab.progress()
    lab.check("two", 2)
    lab.check("both", begun, 1)
    lab.progress()
    assert capsys.readouterr().out.splitlines() == [
        "○○  0 of 2 right, next: two",
        "○ 1 Two: not started",
        "✗ 1 Two: one too many",
        "○ 2 Both: begun, but something is still `...`",
        "✗ 2 Both: expected a function, found int",
        "✗✗  0 of 2 right, next: two",
        "✓ 1 Two: 2.0 is right",
        "✓ 2 Both: good",
        "✓✓  2 of 2 right, all done",
    ]


def test_an_error_names_the_line_if_it_is_the_learners(lab):
    lab.check("two", 4)
    message = lab.outcomes["two"].message
    assert message.startswith("your code ends at its line ")
    assert message.endswith('`return f"{2 / (answer == 2)} is right"`, with ZeroDivisionError: division by zero')
    lab.exercises["three"] = Exercise("three", "3 Three", np.linalg.inv)
    lab.check("three", 1.0)
    assert lab.outcomes["three"].message.startswith("your answer could not be checked; it led to LinAlgError: ")


def test_cells_that_wait(lab, capsys):
    assert lab.ready(1, "a")
    assert capsys.readouterr().out == ""
    assert not lab.ready(1, ...)
    assert capsys.readouterr().out == "○ This cell waits for an exercise above.\n"


def test_unknown_names_are_refused(lab):
    refused(tl.TLError, "no exercise 'three'; its exercises: two, both", lab.check, "three", 1)
    refused(tl.TLError, "there is no lab 'lab9'; expected one of lab1_concepts", tc.Lab, "lab9")


CHOICES = [("lab1_concepts", "why", "C"), ("lab1_concepts", "freezing", "B"), ("lab1_concepts", "unfreezing", "D")]
CHOICES += [("lab2_vgg16_features", "reading", "C"), ("lab3_resnet34_last_two_blocks", "conclude", "B")]
CHOICES += [("lab4_scratch_vs_transfer", "why", "B"), ("lab4_scratch_vs_transfer", "splits", "C")]


@pytest.mark.parametrize(("name", "exercise", "right"), CHOICES)
def test_choices(name, exercise, right):
    wrongs = {f"{letter} is not it. ": letter for letter in "ABCD" if letter != right}
    wrongs |= {"expected one of the letters A, B, C, D, found 'E'": "E", "found ''": ""}
    prove(name, exercise, right, wrongs)
    assert outcome(name, exercise, f" {right.lower()}")[0] == "right"


OPENED = "import tlcourse as tc\nlab = tc.Lab('lab1_concepts')\nlab.check('why', 'C')\nlab.check('freezing', 'a')"


def notebook(path, *cells):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


def test_a_notebook_is_checked_from_outside(tmp_path, capsys):
    path = notebook(tmp_path / "mine.ipynb", OPENED, "1 / 0", "lab.check('unfreezing', 'D')")
    before = path.read_bytes()
    assert main(["check", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "✓ why: C. The features exist already" in printed
    assert "✗ freezing: A is not it." in printed
    assert "✓ unfreezing:" in printed, "a cell that fails must not keep the next from being checked"
    assert "○ gain: not started" in printed
    assert path.read_bytes() == before


HIDING = """
import os, subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(120)"]
found = [subprocess.Popen(sleep, start_new_session=True).pid]
orphan = f"import subprocess; print(subprocess.Popen({sleep}, stdout=-3, start_new_session=True, env={{}}).pid)"
found.append(int(subprocess.run([sys.executable, "-c", orphan], capture_output=True, text=True).stdout))
open("pids.txt", "w").write(repr(found))
"""


def test_a_folder_of_submissions_becomes_a_table(tmp_path, capsys):
    folder, target = tmp_path / "in", tmp_path / "out.csv"
    notebook(folder / "ada" / "lab.ipynb", OPENED)
    notebook(folder / "cyd.ipynb", "import os; os._exit(3)")
    (folder / "dan.ipynb").write_text("not a notebook", encoding="utf8")
    notebook(folder / "=eve.ipynb", "x = 1", "1 / 0", HIDING)
    notebook(folder / ".ipynb_checkpoints" / "old.ipynb", "x = 1")
    (folder / "folder.ipynb").mkdir()
    (folder / "link.ipynb").symlink_to(folder / "nowhere.ipynb")
    (folder / "LOUD.IPYNB").write_text("{}", encoding="utf8")
    (folder / "essay.docx").touch()
    forged = '{"lab": "x", "outcomes": {"why": {"state": "perfect"}}}'
    notebook(folder / "forger.ipynb", f"import os\nopen(os.environ['{REPORT_VARIABLE}'], 'w').write({forged!r})")
    assert main(["check", str(folder), "--csv", str(target)]) == 0
    with target.open(encoding="utf-8-sig", newline="") as file:
        rows = {row["notebook"]: row for row in csv.DictReader(file)}
    names = ["'=eve", "ada/lab", "cyd", "dan", "folder", "forger", "link"]
    assert set(rows) == {"LOUD.IPYNB", *(f"{name}.ipynb" for name in names)}
    ada, eve = rows["ada/lab.ipynb"], rows["'=eve.ipynb"]
    assert (ada["lab"], ada["right"], ada["exercises"], ada["trouble"]) == ("lab1_concepts", "1", "9", "")
    assert (ada["why"], ada["freezing"], ada["gain"]) == ("✓", "✗", "○")
    assert all(rows[name]["trouble"].startswith("it ended early") for name in ("cyd.ipynb", "dan.ipynb"))
    assert (eve["lab"], eve["right"], eve["raised"]) == ("", "0", "cell 2: ZeroDivisionError")
    assert rows["folder.ipynb"]["trouble"] == "it is a folder, not a notebook"
    assert rows["link.ipynb"]["trouble"] == "it is a link whose target is missing, not a notebook"
    assert rows["LOUD.IPYNB"]["trouble"].startswith("it ended early")
    assert "cannot be read" in rows["forger.ipynb"]["trouble"]
    assert "essay.docx" in capsys.readouterr().out
    pids = ast.literal_eval((folder / "pids.txt").read_text())
    if sys.platform != "linux":
        pids = pids[:1]  # elsewhere a process that drops its environment, and whose parent has ended, is not found
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_a_submission_that_hangs_is_stopped_and_what_it_checked_before_counts(tmp_path):
    report = '{"lab": "x", "outcomes": {"why": {"state": "right", "message": "C"}}}'
    checked = f"import os\nopen(os.environ['{REPORT_VARIABLE}'], 'w').write({report!r})"
    result = check_notebook(notebook(tmp_path / "bob.ipynb", checked, "import time; time.sleep(600)"), limit_seconds=20)
    assert "stopped after 20 s" in result.trouble
    assert result.seconds < 60
    assert result.outcomes["why"].state == "right"


def test_a_submission_that_takes_all_memory_is_stopped(tmp_path):
    greedy = "import time\nblocks = [bytearray(b'x') * 10**8 for _ in range(15)]\ntime.sleep(60)"
    result = check_notebook(notebook(tmp_path / "greedy.ipynb", greedy), limit_seconds=60, limit_gigabytes=1.0)
    assert "GB of memory; 1 GB are allowed" in result.trouble


def test_nothing_to_check_is_said(tmp_path):
    refused(tl.DataError, "there is no notebook at", check_notebook, tmp_path / "none.ipynb")
    below = r"there is no notebook \(\*.ipynb\) below"
    refused(tl.DataError, below, check_folder, tmp_path, tmp_path / "out.csv")
