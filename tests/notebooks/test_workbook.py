"""The learner's copies lose nothing and follow the course; `make lab` opens them quietly and safely."""

import contextlib
import json
import os
import re
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import lab
import nbformat
import pytest
import workbook
from jupyter_lab import STARTS, jupyter_lab
from toy import ROOT, cases, refused

import tlhelpers as tl

LAB = "labs/lab2_vgg16_features.ipynb"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text, id="a")]), path)


def text_of(path):
    return str(nbformat.read(path, as_version=4).cells[0].source)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small course, in a folder with a space in its name, and copies that are up to date."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    chapter = ("chapter12/12_2_1_feature_extraction.ipynb", "chapter12/12_2_2_fine_tuning.ipynb")
    for name in (LAB, LAB.replace("labs", "solutions"), *chapter):
        write(tmp_path / "my course" / name, "first")
    assert refresh(tmp_path / "my course") == []
    return tmp_path / "my course"


def refresh(root):
    return workbook.Workbook(root).refresh()


def labs(root):
    """What a learner sees among the labs: what each file's name adds to the lab's, and its text."""
    paths = [path for path in (root / "workbook" / "labs").iterdir() if not path.name.startswith(".")]
    return {path.stem.removeprefix("lab2_vgg16_features").strip(" ()"): text_of(path) for path in paths}


def test_every_notebook_is_copied_once_and_its_source_is_not(root):
    (root / "labs" / "source").mkdir()
    (root / "labs" / "source" / "lab2_vgg16_features.py").touch()
    refresh(root)
    copies = {path.relative_to(root / "workbook").as_posix() for path in (root / "workbook").rglob("*[!y].*[bp]*")}
    assert copies == set(workbook.Workbook(root).names())
    assert (root / "workbook" / LAB).read_bytes() == (root / LAB).read_bytes()


@pytest.mark.parametrize("change", [lambda path: None, Path.unlink], ids=["unchanged", "deleted"])
def test_an_unchanged_copy_follows_the_course_and_a_deleted_one_comes_back(root, change):
    change(root / "workbook" / LAB)
    write(root / LAB, "second")
    assert refresh(root) == []
    assert labs(root) == {"": "second"}


def test_what_jupyterlab_rewrites_at_opening_is_no_change_but_outputs_are_one(root):
    copy = root / "workbook" / LAB
    book = nbformat.read(copy, as_version=4)
    book.metadata = {"language_info": {"name": "python", "version": "3.13"}}
    book.cells[0].update(id="b", execution_count=1, metadata={"trusted": True})
    copy.write_text(nbformat.writes(book, indent=2), encoding="utf8")
    write(root / LAB, "second")
    assert refresh(root) == []
    assert labs(root) == {"": "second"}
    book = nbformat.read(copy, as_version=4)
    book.cells[0].outputs = [nbformat.v4.new_output("stream", text="took an hour")]
    nbformat.write(book, copy)
    write(root / LAB, "third")
    assert len(refresh(root)) == 1
    assert nbformat.read(copy, as_version=4).cells[0].outputs


def test_a_new_version_lies_beside_a_changed_copy_and_is_named_once(root):
    write(root / "workbook" / LAB, "mine")
    assert refresh(root) == []
    assert labs(root) == {"": "mine"}
    write(root / LAB, "second")
    (sentence,) = refresh(root)
    assert "'lab2_vgg16_features (new version).ipynb'" in sentence
    assert refresh(root) == []
    write(root / LAB, "third")  # a newer one takes the place of one that nobody has changed
    assert len(refresh(root)) == 1
    assert labs(root) == {"": "mine", "new version": "third"}
    write(root / "workbook" / LAB.replace(".ipynb", " (new version).ipynb"), "mine too")
    write(root / LAB, "fourth")
    assert "(new version 2)" in refresh(root)[0]
    assert labs(root) == {"": "mine", "new version": "mine too", "new version 2": "fourth"}
    (root / "workbook" / LAB).write_text("{", encoding="utf8")  # a damaged copy stays, too
    assert refresh(root) == []
    assert (root / "workbook" / LAB).read_text(encoding="utf8") == "{"


@pytest.mark.parametrize("content", ["", "{", "[1]", None])
def test_without_a_record_every_file_counts_as_the_learners(root, content):
    manifest = root / "workbook" / ".course.json"
    manifest.unlink() if content is None else manifest.write_text(content, encoding="utf8")
    write(root / "workbook" / LAB, "mine")
    write(root / "chapter12" / "12_2_2_fine_tuning.ipynb", "second")
    assert len(refresh(root)) == 2
    assert text_of(root / "workbook" / LAB) == "mine"


@pytest.mark.parametrize("kill_at", range(8))
def test_an_interruption_at_any_moment_loses_nothing(root, kill_at, monkeypatch):
    write(root / "workbook" / LAB, "mine")
    write(root / LAB, "second")
    calls = iter(range(100))

    def interrupted(method):
        def call(*arguments):
            if next(calls) == kill_at:
                raise KeyboardInterrupt
            return method(*arguments)

        return call

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        for name in ("write_bytes", "replace", "rename"):
            patch.setattr(Path, name, interrupted(getattr(Path, name)))
        refresh(root)
        workbook.Workbook(root).again("lab2")
    refresh(root)
    assert set(labs(root).values()) == {"mine", "second"}
    assert list(labs(root).values()).count("mine") == 1


def test_a_lab_starts_again_and_the_learners_version_stays(root):
    assert "as the course has it" in workbook.Workbook(root).again("lab2")
    assert labs(root) == {"": "first"}
    for work in ("mine", "mine again"):
        write(root / "workbook" / LAB, work)
        told = workbook.Workbook(root).again("lab2")
    assert sorted(labs(root).values()) == ["first", "mine", "mine again"]
    kept = sorted(labs(root))[1:]
    assert all(re.fullmatch(r"yours, \d{4}-\d\d-\d\d \d\d\.\d\d(, 2)?", name) for name in kept)
    assert any(f"'lab2_vgg16_features ({name}).ipynb'" in told for name in kept)
    assert text_of(root / "workbook" / LAB) == text_of(root / "workbook" / LAB.replace("labs", "solutions")) == "first"


@cases(
    "word, name",
    ("lab2", LAB),
    (f"workbook/{LAB}", LAB),
    (r"workbook\labs\lab2_vgg16_features.ipynb", LAB),
    ("solutions/lab2", "solutions/lab2_vgg16_features.ipynb"),
    ("12.2.1", "chapter12/12_2_1_feature_extraction.ipynb"),
)
def test_a_notebook_is_found_by_what_a_reader_calls_it(root, word, name):
    assert workbook.Workbook(root)._find(word) == name


@pytest.mark.parametrize(("word", "why"), [("12.2", "several"), ("", "several"), ("lab9", "no notebook")])
def test_a_name_that_fits_none_or_several_is_refused_with_a_list(root, word, why):
    refused(SystemExit, f"(?s)fits {why}.*12_2_1_feature_extraction", workbook.Workbook(root).again, word)


def test_only_the_courses_own_outputs_are_trusted(root):
    def trusted(path):
        with workbook.notary() as notary:
            return bool(notary.check_signature(nbformat.read(path, as_version=4)))

    assert trusted(root / "workbook" / LAB)
    write(root / "workbook" / LAB, "from a stranger")
    refresh(root)
    assert not trusted(root / "workbook" / LAB)


@cases(
    "environment, platform, reason",
    ({}, "linux", "neither DISPLAY nor WAYLAND_DISPLAY"),
    ({"DISPLAY": ":0"}, "linux", None),
    ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", None),
    ({}, "darwin", None),
    ({"SSH_CONNECTION": "a b"}, "darwin", "ssh"),
    ({"SSH_TTY": "/dev/pts/1", "DISPLAY": ":10"}, "linux", "ssh"),
    ({"CI": "true", "DISPLAY": ":0"}, "linux", "CI"),
)
def test_when_there_is_no_screen(environment, platform, reason):
    found = lab.no_screen(environment, platform)
    assert (found is None) if reason is None else (reason in str(found))


@cases(
    "prefix, environment, platform, command",
    (ROOT / ".venv", {}, "linux", "source .venv/bin/activate"),
    (ROOT / ".venv", {}, "win32", r".venv\Scripts\activate"),
    (Path("/opt/my env"), {}, "darwin", "source '/opt/my env/bin/activate'"),
    (Path("/opt/x"), {"CONDA_PREFIX": "/opt/x", "CONDA_DEFAULT_ENV": "tl"}, "linux", "conda activate tl"),
)
def test_how_to_activate_the_environment(prefix, environment, platform, command):
    assert lab.activation(str(prefix), environment, platform) == command


@pytest.mark.parametrize("root_user", [False, True])
@pytest.mark.parametrize("reason", [None, "you are logged in over ssh"])
def test_jupyter_keeps_its_safeguards(reason, root_user, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(lab.os, "geteuid", lambda: 0 if root_user else 1000, raising=False)
    book = SimpleNamespace(refresh=lambda: ["one has changed"])
    fakes = {"no_screen": lambda *_: reason, "Workbook": lambda root: book, "print_troubles": lambda: None}
    for name, fake in (fakes | {"run_jupyter": started.append}).items():
        monkeypatch.setattr(lab, name, fake)
    monkeypatch.setattr(sys, "argv", ["lab.py", "--port=9999"])
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/theirs")
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "")
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH")
    lab.main()
    assert lab.START in workbook.Workbook().names()
    told, (options,) = capsys.readouterr().out, started
    assert "one has changed" in told
    assert options[-1] == "--port=9999"
    assert ("--allow-root" in options) is ("You are root" in told) is root_user
    assert ("--no-browser" in options) is ("open the address" in told) is (reason is not None)
    assert ("ssh -L" in told) is (reason is not None)
    assert not [option for option in options if re.search("token|password|ip=|allow_origin|xsrf", option)]
    assert os.environ["JUPYTER_PREFER_ENV_PATH"] == "1"
    assert os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep) == [str(ROOT / "tools"), "/theirs"]


@pytest.mark.parametrize("told", ["", "kernel: elsewhere\n"])
def test_troubles_are_printed_and_nothing_else(told, monkeypatch, capsys):
    troubles = tuple(told.splitlines())
    report = mock.MagicMock(troubles=troubles, ok=not troubles)
    report.__str__.return_value = "\n".join(troubles)
    monkeypatch.setattr(tl, "doctor", lambda quick: report)
    lab.print_troubles()
    assert capsys.readouterr().out == told


@pytest.mark.slow
def test_the_server_answers_and_says_where_it_is_and_how_to_stop_it(root, tmp_path):
    write(root / lab.START, "print('Welcome')")
    answers = {}
    with jupyter_lab(root, tmp_path) as address:
        start, token = address.split("?")
        settings = start.replace(f"tree/{lab.START}", "api/settings/@jupyterlab/apputils-extension:notification")
        contents = start.replace(f"lab/tree/{lab.START}", "api/contents/chapter12")
        for page in (start, settings, contents):
            with urllib.request.urlopen(f"{page}?{token}", timeout=STARTS) as answer:
                assert answer.status == 200
                answers[page] = answer.read().decode()
    asks = json.loads(answers[settings])["schema"]["properties"]
    assert (asks["fetchNews"]["default"], asks["checkForUpdates"]["default"]) == ("false", False)
    listed = {entry["name"] for entry in json.loads(answers[contents])["content"]}
    assert listed == {"00_start_here.ipynb", "12_2_1_feature_extraction.ipynb", "12_2_2_fine_tuning.ipynb"}
    told = (tmp_path / "lab.log").read_text(encoding="utf8")
    assert "Ctrl-C twice" in told
    assert "activate" in told
    assert told.count("token=") == 1, told
    assert not re.search(r"Traceback|^\[E ", told, re.MULTILINE), told
