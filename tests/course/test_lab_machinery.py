"""Labs are made from solutions; checks say ✓, ○ or ✗; submissions are run at arm's length."""

import ast
import csv
import html
import json
import re
import shutil
import sys
import types

import nbformat
import notebooks
import numpy as np
import pandas as pd
import psutil
import pytest
from lab_answers import outcome, prove
from toy import ROOT, cases, refused

import labs
import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs.answers import wrong_if
from tlcourse.labs.command import Limits, check_notebook
from tlcourse.labs.lab import Exercise, is_blank
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
    monkeypatch.setattr(sys, "argv", ["labs.py", "check"])
    assert labs.main() == 0, "python tools/labs.py"
    names = [{path.name for path in (labs.ROOT / folder).glob("source/*.py")} for folder in ("solutions", "labs")]
    assert names[0] == names[1] != set()


SOLUTIONS = pytest.mark.parametrize(
    "source", sorted((ROOT / "solutions" / "source").glob("*.py")), ids=lambda s: s.stem
)


@SOLUTIONS
def test_a_lab_has_the_form_that_students_and_marking_need(source):
    cells, exercises = notebooks.build(source).cells, tc.Lab(source.stem).exercises
    ids = [each.id for each in cells if each.id.startswith(("answer-", "check-"))]
    assert ids == [f"{kind}-{name}" for name in exercises for kind in ("answer", "check")]
    headings = [line.lstrip("# ") for each in cells for line in each.source.splitlines() if re.match("##+ ", line)]
    titles = [exercise.title for exercise in exercises.values()]
    extension = headings.index("Extension")
    assert [heading for heading in headings if heading in titles] == titles
    assert [headings.index(title) > extension for title in titles] == [e.extension for e in exercises.values()]
    found = labs.measures(source)
    assert (found["core minutes"] <= 90, 25 <= found["core lines"] <= 50) == (True, True), found
    stated = re.findall(
        r"^\*\*Difficulty\*\* ●+○* · \*\*\d+ minutes\*\* · \*\*(\d+) points?\*\*", text_of(cells), re.MULTILINE
    )
    assert stated == [str(each.metadata["points"]) for each in cells if each.id.startswith("check-")]
    for each in cells:  # a given cell shows no answer, and a check is one call
        given = re.sub("# BEGIN ANSWER.*?# END ANSWER", "", each.source, flags=re.DOTALL)
        if each.id.startswith("answer-"):
            assert len(ast.parse(given).body) <= 1, given
        assert ("lab.check(" in given) == each.id.startswith("check-"), given


def text_of(cells):
    return "\n".join(each.source for each in cells if each.cell_type == "markdown")


@pytest.mark.slow
@SOLUTIONS
def test_every_wrong_answer_typed_into_the_lab_is_told_what_is_wrong(source):
    assert labs.not_told(source) == []


def blank(x): ...


def blank_with_docstring(x):
    """Not begun."""
    ...


def begun(x):
    return x


def test_what_is_blank():
    assert all(is_blank(answer) for answer in (..., blank, blank_with_docstring))
    assert not any(is_blank(answer) for answer in (None, 0, False, "", [], 0.0, begun, lambda: 5, len, tc.Lab))


def is_two(answer):
    wrong_if(answer == 3, "one too many")
    return f"{2 / (answer == 2)} is right"


@pytest.fixture
def lab(monkeypatch):
    module = types.ModuleType("tlcourse.labs.lab0_test")
    both = Exercise("both", "2 Both", lambda a, b: "good", function=True)
    own = Exercise("own", "3 In your own words", lambda text: f"{len(text)} signs", text=True, extension=True)
    module.EXERCISES = (Exercise("two", "1 Two", is_two), both, own)
    monkeypatch.setitem(sys.modules, "tlcourse.labs.lab0_test", module)
    return tc.Lab("lab0_test")


def test_what_a_check_says(lab, capsys):
    lab.progress()
    lab.check("two", ...)
    lab.check("two", 3)
    lab.check("two", None)
    lab.check("both", 1, ...)
    lab.check("both", 1, 1)
    lab.progress()
    lab.check("two", 2)
    lab.check("both", begun, 1)
    lab.check("own", "text")
    lab.progress()
    assert capsys.readouterr().out.splitlines() == [
        "○○ + ○  0 of 2 right, 0 of 1 right, next: 1 Two",
        "○ 1 Two: not started",
        "✗ 1 Two: one too many",
        "✗ 1 Two: the answer is None: your function returned nothing; is `return` missing?",
        "○ 2 Both: begun, but something is still `...`",
        "✗ 2 Both: expected a function, found int",
        "✗✗ + ○  0 of 2 right, 0 of 1 right, next: 1 Two",
        "3 answers checked since the kernel started",
        "✓ 1 Two: 2.0 is right",
        "✓ 2 Both: good",
        "✎ 3 In your own words: 4 signs",
        "✓✓ + ✎  2 of 2 right, 0 of 1 right, 1 for your teacher to mark, all done",
        "6 answers checked since the kernel started",
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
    assert not lab.ready("two", "both")
    lab.check("two", 2)
    lab.check("both", 1, 1)
    assert lab.ready("two")
    assert not lab.ready("two", "both")
    waiting = [line for line in capsys.readouterr().out.splitlines() if "waits" in line]
    assert waiting == ["○ This cell waits for exercise 1 Two.", "✗ This cell waits for exercise 2 Both."]


def test_unknown_names_are_refused(lab):
    refused(tl.TLError, "no exercise 'three'; its exercises: two, both", lab.check, "three", 1)
    refused(tl.TLError, "no exercise 'three'", lab.ready, "three")
    refused(tl.TLError, "there is no lab 'lab9'; expected one of lab1_concepts", tc.Lab, "lab9")


CHOICES = [("lab1_concepts", "why", "C"), ("lab1_concepts", "freezing", "B"), ("lab1_concepts", "unfreezing", "D")]
CHOICES += [("lab2_vgg16_features", "reading", "C"), ("lab3_resnet34_last_two_blocks", "conclude", "B")]
CHOICES += [("lab4_scratch_vs_transfer", "why", "B"), ("lab1_concepts", "smaller", "C")]


@pytest.mark.parametrize(("name", "exercise", "right"), CHOICES)
def test_choices(name, exercise, right):
    wrongs = {f"{letter} is not it. ": letter for letter in "ABCD" if letter != right}
    wrongs |= {"expected one of the letters A, B, C, D, found 'E'": "E", "found ''": ""}
    prove(name, exercise, right, wrongs)
    assert outcome(name, exercise, f" {right.lower()}")[0] == "right"


GAIN = """
means = scores.groupby(["start", "per_class"])["accuracy"].mean()
gain = 100 * (means["pre-trained", 10] - means["random", 10])
"""
TEXT = """A network trained on a source task is used for a target task of our own. Its layers learned features that are
useful there too, so it needs fewer images. Either the backbone is frozen and a new head is trained, or it is fine-tuned
with a small rate. It helps little when the domains differ a lot, or when there are very many images anyway."""
RIGHT = {"gain": GAIN, "why": "answer_why = 'C'", "text": f'explanation = """{TEXT}"""'}
HONEST = """
import torch  # an optimizer changes its own class when it is first made, and `torch._dynamo` changes torch
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
import torch._dynamo
def letter(): return 'C'
"""
HIDING = """
import os, subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(120)"]
found = [subprocess.Popen(sleep, start_new_session=True).pid]
orphan = f"import subprocess; print(subprocess.Popen({sleep}, stdout=-3, start_new_session=True, env={{}}).pid)"
found.append(int(subprocess.run([sys.executable, "-c", orphan], capture_output=True, text=True).stdout))
open(%r, "w").write(repr(found))
"""


@pytest.fixture(scope="module")
def labs_given_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("master")
    (folder / "source").mkdir()
    shutil.copy(ROOT / "tests" / "data" / "toy_lab.txt", source := folder / "source" / "lab1_concepts.py")
    nbformat.write(notebooks.build(source), notebooks.notebook_of(source))
    return folder


@pytest.fixture(scope="module")
def submit(labs_given_out):
    """A function that writes a submission: a path, the answers, and further changes of the notebook."""

    def write(path, answers=RIGHT, change=lambda book: None):
        book = nbformat.read(labs_given_out / "lab1_concepts.ipynb", as_version=4)
        for cell in book.cells:
            cell.source = answers.get(cell.id.removeprefix("answer-"), cell.source)
        change(book)
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(book, path)
        return path

    return write


def cell(source):
    return nbformat.v4.new_code_cell(source)


def edited(name, source):
    """The change that gives another source to one cell."""
    return lambda book: next(each for each in book.cells if each.id == name).update(source=source)


def marked(folder, labs, *options, path=None):
    """The rows of the table of marks, by notebook."""
    out = folder.parent / "marks"
    assert main(["check", str(path or folder), "--master", str(labs), "--out", str(out), "--jobs", "2", *options]) == 0
    with (out / "marks.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["notebook"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_class_is_marked(tmp_path, submit, labs_given_out, capsys):
    folder, pids = tmp_path / "in", tmp_path / "pids.txt"
    submit(folder / "Ada Lovelace_123_assignsubmission_file" / "lab.ipynb")
    submit(folder / "hopper_4711_99_lab.ipynb", {**RIGHT, "gain": "gain = 99.0"})
    submit(folder / "typed.ipynb", {**RIGHT, "gain": "gain = 20.0"})
    submit(folder / "greedy.ipynb", {**RIGHT, "gain": f"scores['accuracy'] = 0.0\n{GAIN}"})
    name = next(
        each.id for each in nbformat.read(labs_given_out / "lab1_concepts.ipynb", 4).cells if "STUDENT" in each.source
    )
    submit(folder / "blank.ipynb", {}, edited(name, "STUDENT = '=eve@uni'"))
    submit(
        folder / "helper.ipynb",
        {**RIGHT, "why": "answer_why = letter()"},
        lambda book: book.cells.insert(3, cell(HONEST)),
    )
    submit(folder / "dead.ipynb", {**RIGHT, "why": f"{HIDING % str(pids)}\nos._exit(3)"})
    submit(
        folder / "one cell.ipynb",
        {},
        lambda book: book.update(
            cells=[cell("import tlcourse as tc\nlab = tc.Lab('lab1_concepts')\nlab.check('why', 'C')")]
        ),
    )
    (folder / "dan.ipynb").write_text("not a notebook", encoding="utf8")
    (folder / "HUGE.IPYNB").write_bytes(b" " * 20_600_000)
    (folder / "folder.ipynb").mkdir()
    (folder / "link.ipynb").symlink_to(folder / "nowhere.ipynb")
    (folder / "essay.docx").touch()
    rows = marked(folder, labs_given_out)
    assert len(rows) == 12
    ada = rows["Ada Lovelace_123_assignsubmission_file/lab.ipynb"]
    assert [ada[key] for key in ("student", "points", "of", "to mark", "right", "exercises")] == [
        "Ada Lovelace",
        "3.0",
        "8.0",
        "5.0",
        "2",
        "3",
    ]
    assert (ada["gain"], ada["text"], rows["blank.ipynb"]["gain"]) == ("✓", "✎", "○")
    points = {name: row["points"] for name, row in rows.items()}
    assert (
        points["hopper_4711_99_lab.ipynb"],
        points["typed.ipynb"],
        points["greedy.ipynb"],
        points["helper.ipynb"],
    ) == ("1.0", "1.0", "1.0", "3.0")
    assert (rows["blank.ipynb"]["student"], rows["hopper_4711_99_lab.ipynb"]["student"]) == ("'=eve@uni", "4711")
    troubles = {
        "dead": "its kernel died",
        "one cell": "no cell of it is from a lab",
        "dan": "not a notebook",
        "folder": "it is a folder",
        "link": "whose target is missing",
    }
    for name, trouble in {**troubles, "HUGE": "20 at most"}.items():
        assert trouble in rows[f"{name}.{'IPYNB' if name == 'HUGE' else 'ipynb'}"]["trouble"]
    assert (rows["dead.ipynb"]["gain"], rows["dead.ipynb"]["points"]) == ("✓", "2.0")
    assert "essay.docx" in capsys.readouterr().out
    left = ast.literal_eval(pids.read_text())[
        : 2 if sys.platform == "linux" else 1
    ]  # elsewhere one that hides is not found
    assert not [pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    marks = folder.parent / "marks"
    page = (marks / "feedback" / "hopper_4711_99_lab.html").read_text(encoding="utf8")
    assert "1 of 8 points" in page.replace("<strong>", "")
    assert "the gain is too large" in page
    assert "Hint: Group by start &amp; number." in page
    assert json.loads((marks / "gradescope" / "typed.json").read_text())["tests"][0]["score"] == 0
    assert "was the answer typed in?" in (marks / "feedback" / "typed.html").read_text(encoding="utf8")
    assert "<code>scores</code> is given" in (marks / "feedback" / "greedy.html").read_text(encoding="utf8")
    canvas = (marks / "canvas-lab1_concepts.csv").read_text(encoding="utf-8-sig").splitlines()
    assert canvas[:2] == ["Student,ID,SIS User ID,SIS Login ID,Section,lab1_concepts", "    Points Possible,,,,,8.0"]
    assert "4711,4711,,,,1.0" in canvas
    assert any(
        line.startswith("Ada Lovelace,3.0,3 of 8 points")
        for line in (marks / "moodle-lab1_concepts.csv").read_text(encoding="utf-8-sig").splitlines()
    )

    texts = pd.read_csv(
        marks / "texts.csv", encoding="utf-8-sig", dtype=str
    )  # a person marks Ada's text; nothing runs again
    texts.loc[texts["student"] == "Ada Lovelace", "points"] = "4"
    texts.to_csv(marks / "texts.csv", index=False)
    monkey = {path: path.stat().st_mtime_ns for path in (marks / "results").iterdir()}
    again = marked(folder, labs_given_out)[ada["notebook"]]
    assert (again["points"], again["to mark"]) == ("7.0", "0.0")
    assert monkey == {path: path.stat().st_mtime_ns for path in (marks / "results").iterdir()}


@pytest.mark.slow
def test_a_submission_cannot_mark_itself(tmp_path, submit, labs_given_out):
    cheats = {name: (message, code) for name, message, code in labs.wrong_answers("cheats")}
    for name, (_, code) in cheats.items():
        submit(tmp_path / "in" / f"{name}.ipynb", {**RIGHT, "why": code})
    change = edited("check-why", "lab.check('why', 'C')\nprint('✓')")
    submit(tmp_path / "in" / "edits.ipynb", {**RIGHT, "why": cheats["raises"][1]}, change)
    rows = marked(tmp_path / "in", labs_given_out)
    for name, message in {**{name: message for name, (message, _) in cheats.items()}, "edits": "A is not it"}.items():
        page = (tmp_path / "marks" / "feedback" / f"{name}.html").read_text(encoding="utf8")
        page = html.unescape(re.sub("</?code>", "`", page))
        assert (rows[f"{name}.ipynb"]["why"], message in page) == ("✗", True), (name, page)
    assert "tlcourse.labs" in rows["patches-a-check.ipynb"]["review"]
    assert "the answer to 2 Why" in rows["raises.ipynb"]["raised"]


@pytest.mark.slow
def test_a_submission_that_hangs_or_takes_all_memory_is_stopped_and_what_it_had_counts(
    tmp_path, submit, labs_given_out
):
    labs = {"labs": labs_given_out, "root": tmp_path}
    hanging = submit(tmp_path / "bob.ipynb", {**RIGHT, "why": "while True: pass"})
    result = check_notebook(hanging, **labs, limits=Limits(seconds=40))
    assert "stopped after 40 s" in result.trouble
    assert result.outcomes["gain"][0] == "right"
    greedy = submit(tmp_path / "greedy.ipynb", {**RIGHT, "why": "x = [bytearray(b'x') * 10**8 for _ in range(15)]"})
    result = check_notebook(greedy, **labs, limits=Limits(seconds=60, gigabytes=1.2))
    assert "GB of memory; 1.2 GB are allowed" in result.trouble


def test_one_notebook_is_told_in_words_and_nothing_to_check_is_said(tmp_path, submit, labs_given_out, capsys):
    path = submit(tmp_path / "mine.ipynb", {**RIGHT, "gain": "gain = None"})
    before = path.read_bytes()
    assert main(["check", str(path), "--master", str(labs_given_out)]) == 0
    printed = capsys.readouterr().out
    assert "✗✓✎" in printed
    assert "✗ 1 The gain: the answer is None: your function returned nothing" in printed
    assert path.read_bytes() == before
    (tmp_path / "empty").mkdir()
    for words, *given in (
        ("there is no notebook at", "none.ipynb"),
        ("no notebook", "empty"),
        ("no lab", "mine.ipynb", "--master", "empty"),
    ):
        assert main(["check", *[each if each.startswith("-") else str(tmp_path / each) for each in given]]) != 0
        assert words in capsys.readouterr().err
