"""The learner's copies lose nothing and follow the course; `make lab` opens them quietly and safely."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbformat.sign import NotebookNotary

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import lab  # noqa: E402 (found beside the tools)
import workbook  # noqa: E402

LAB = "labs/lab2_vgg16_features.ipynb"
STARTS = 120  # seconds that JupyterLab may take to start on a busy machine


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text, id="a")]), path)


def text_of(path: Path) -> str:
    return str(nbformat.read(path, as_version=4).cells[0].source)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small course, in a folder with a space in its name, and copies that are up to date."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    names = (
        LAB,
        "solutions/lab2_vgg16_features.ipynb",
        "chapter12/12_2_1_feature_extraction.ipynb",
        "chapter12/12_2_2_fine_tuning.ipynb",
    )
    for name in names:
        write(tmp_path / "my course" / name, "first")
    assert workbook.Workbook(tmp_path / "my course").refresh() == []
    return tmp_path / "my course"


def files(root: Path) -> set[str]:
    """What a learner sees beside the lab."""
    return {path.name for path in (root / "workbook" / "labs").iterdir() if not path.name.startswith(".")}


def test_every_notebook_is_copied_once_and_its_source_is_not(root: Path) -> None:
    (root / "labs" / "source").mkdir()
    (root / "labs" / "source" / "lab2_vgg16_features.py").touch()
    workbook.Workbook(root).refresh()
    copies = {path.relative_to(root / "workbook") for path in (root / "workbook").rglob("*[!y].*[bp]*")}
    assert {path.as_posix() for path in copies} == set(workbook.Workbook(root).names())
    assert (root / "workbook" / LAB).read_bytes() == (root / LAB).read_bytes()


def test_an_unchanged_copy_follows_the_course(root: Path) -> None:
    write(root / LAB, "second")
    assert workbook.Workbook(root).refresh() == []
    assert text_of(root / "workbook" / LAB) == "second"
    assert files(root) == {"lab2_vgg16_features.ipynb"}


def test_what_jupyterlab_rewrites_at_opening_is_no_change(root: Path) -> None:
    book = nbformat.read(root / "workbook" / LAB, as_version=4)
    book.metadata = {"language_info": {"name": "python", "version": "3.13"}}
    book.cells[0].update(id="b", execution_count=1, metadata={"trusted": True})
    (root / "workbook" / LAB).write_text(nbformat.writes(book, indent=2), encoding="utf8")
    write(root / LAB, "second")
    assert workbook.Workbook(root).refresh() == []
    assert text_of(root / "workbook" / LAB) == "second"


def test_outputs_are_the_learners_too(root: Path) -> None:
    book = nbformat.read(root / "workbook" / LAB, as_version=4)
    book.cells[0].outputs = [nbformat.v4.new_output("stream", text="took an hour")]
    nbformat.write(book, root / "workbook" / LAB)
    write(root / LAB, "second")
    assert len(workbook.Workbook(root).refresh()) == 1
    assert nbformat.read(root / "workbook" / LAB, as_version=4).cells[0].outputs


def test_a_damaged_copy_stays(root: Path) -> None:
    (root / "workbook" / LAB).write_text("{", encoding="utf8")
    assert len(workbook.Workbook(root).refresh()) == 0
    assert (root / "workbook" / LAB).read_text(encoding="utf8") == "{"


def test_a_changed_copy_stays_while_the_course_stays(root: Path) -> None:
    write(root / "workbook" / LAB, "mine")
    assert workbook.Workbook(root).refresh() == []
    assert files(root) == {"lab2_vgg16_features.ipynb"}
    assert text_of(root / "workbook" / LAB) == "mine"


def test_a_new_version_lies_beside_a_changed_copy_and_is_named_once(root: Path) -> None:
    write(root / "workbook" / LAB, "mine")
    write(root / LAB, "second")
    (sentence,) = workbook.Workbook(root).refresh()
    assert "'lab2_vgg16_features (new version).ipynb'" in sentence
    assert workbook.Workbook(root).refresh() == []
    write(root / LAB, "third")  # a newer one takes the place of one that nobody has changed
    assert len(workbook.Workbook(root).refresh()) == 1
    assert text_of(root / "workbook" / LAB) == "mine"
    assert text_of(root / "workbook" / "labs" / "lab2_vgg16_features (new version).ipynb") == "third"
    assert len(files(root)) == 2


def test_work_in_the_new_version_is_not_lost_either(root: Path) -> None:
    write(root / "workbook" / LAB, "mine")
    write(root / LAB, "second")
    workbook.Workbook(root).refresh()
    write(root / "workbook" / "labs" / "lab2_vgg16_features (new version).ipynb", "mine too")
    write(root / LAB, "third")
    assert "(new version 2)" in workbook.Workbook(root).refresh()[0]
    assert {text_of(root / "workbook" / "labs" / name) for name in files(root)} == {"mine", "mine too", "third"}


def test_a_deleted_copy_comes_back(root: Path) -> None:
    (root / "workbook" / LAB).unlink()
    workbook.Workbook(root).refresh()
    assert text_of(root / "workbook" / LAB) == "first"


@pytest.mark.parametrize("content", ["", "{", "[1]", None])
def test_without_a_record_every_file_counts_as_the_learners(root: Path, content: str | None) -> None:
    manifest = root / "workbook" / ".course.json"
    manifest.unlink() if content is None else manifest.write_text(content, encoding="utf8")
    write(root / "workbook" / LAB, "mine")
    write(root / "chapter12" / "12_2_2_fine_tuning.ipynb", "second")
    assert len(workbook.Workbook(root).refresh()) == 2
    assert text_of(root / "workbook" / LAB) == "mine"


@pytest.mark.parametrize("kill_at", range(8))
def test_an_interruption_at_any_moment_loses_nothing(root: Path, kill_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "workbook" / LAB, "mine")
    write(root / LAB, "second")
    calls = iter(range(100))

    def interrupted(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if next(calls) == kill_at:
                raise KeyboardInterrupt
            return method(*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("write_bytes", "replace", "rename"):
            patch.setattr(Path, name, interrupted(getattr(Path, name)))
        try:
            workbook.Workbook(root).refresh()
            workbook.Workbook(root).again("lab2")
        except KeyboardInterrupt:
            pass
    workbook.Workbook(root).refresh()
    texts = [text_of(root / "workbook" / "labs" / name) for name in files(root)]
    assert set(texts) == {"mine", "second"}
    assert texts.count("mine") == 1


def test_a_lab_starts_again_and_the_learners_version_stays(root: Path) -> None:
    for work in ("mine", "mine again"):
        write(root / "workbook" / LAB, work)
        told = workbook.Workbook(root).again("lab2")
    assert text_of(root / "workbook" / LAB) == "first"
    assert {text_of(root / "workbook" / "labs" / name) for name in files(root)} == {"first", "mine", "mine again"}
    kept = files(root) - {"lab2_vgg16_features.ipynb"}
    pattern = r"lab2_vgg16_features \(yours, \d{4}-\d\d-\d\d \d\d\.\d\d(, 2)?\)\.ipynb"
    assert all(re.fullmatch(pattern, name) for name in kept)
    assert any(f"'{name}'" in told for name in kept)
    assert text_of(root / "workbook" / "solutions" / "lab2_vgg16_features.ipynb") == "first"


def test_starting_again_what_was_not_changed_leaves_one_file(root: Path) -> None:
    assert "as the course has it" in workbook.Workbook(root).again("lab2")
    assert files(root) == {"lab2_vgg16_features.ipynb"}


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("lab2", LAB),
        ("lab2_vgg16_features.ipynb", LAB),
        (f"workbook/{LAB}", LAB),
        (r"workbook\labs\lab2_vgg16_features.ipynb", LAB),
        ("solutions/lab2", "solutions/lab2_vgg16_features.ipynb"),
        ("12.2.1", "chapter12/12_2_1_feature_extraction.ipynb"),
        ("12_2_2", "chapter12/12_2_2_fine_tuning.ipynb"),
    ],
)
def test_a_notebook_is_found_by_what_a_reader_calls_it(root: Path, word: str, name: str) -> None:
    assert workbook.Workbook(root)._find(word) == name


@pytest.mark.parametrize(("word", "why"), [("12.2", "several"), ("", "several"), ("lab9", "no notebook")])
def test_a_name_that_fits_none_or_several_is_refused_with_a_list(root: Path, word: str, why: str) -> None:
    with pytest.raises(SystemExit, match=f"(?s)fits {why}.*12_2_1_feature_extraction"):
        workbook.Workbook(root).again(word)


def test_only_the_courses_own_outputs_are_trusted(root: Path) -> None:
    def trusted(path: Path) -> bool:
        return bool(NotebookNotary().check_signature(nbformat.read(path, as_version=4)))

    assert trusted(root / "workbook" / LAB)
    write(root / "workbook" / LAB, "from a stranger")
    workbook.Workbook(root).refresh()
    assert not trusted(root / "workbook" / LAB)


# tools/lab.py -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "platform", "reason"),
    [
        ({}, "linux", "neither DISPLAY nor WAYLAND_DISPLAY"),
        ({"DISPLAY": ":0"}, "linux", None),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", None),
        ({}, "darwin", None),
        ({}, "win32", None),
        ({"SSH_CONNECTION": "a b"}, "darwin", "ssh"),
        ({"SSH_TTY": "/dev/pts/1", "DISPLAY": ":10"}, "linux", "ssh"),
        ({"CI": "true", "DISPLAY": ":0"}, "linux", "CI"),
    ],
)
def test_when_there_is_no_screen(environment: dict[str, str], platform: str, reason: str | None) -> None:
    found = lab.no_screen(environment, platform)
    assert (found is None) if reason is None else (reason in str(found))


@pytest.mark.parametrize(
    ("prefix", "environment", "platform", "command"),
    [
        (ROOT / ".venv", {}, "linux", "source .venv/bin/activate"),
        (ROOT / ".venv", {}, "win32", r".venv\Scripts\activate"),
        (Path("/opt/my env"), {}, "darwin", "source '/opt/my env/bin/activate'"),
        (Path("/opt/x"), {"CONDA_PREFIX": "/opt/x", "CONDA_DEFAULT_ENV": "tl"}, "linux", "conda activate tl"),
    ],
)
def test_how_to_activate_the_environment(prefix: Path, environment: Any, platform: str, command: str) -> None:
    assert lab.activation(str(prefix), environment, platform) == command


@pytest.mark.parametrize("root_user", [False, True])
@pytest.mark.parametrize("reason", [None, "you are logged in over ssh"])
def test_jupyter_keeps_its_safeguards(
    reason: str | None, root_user: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(lab.os, "geteuid", lambda: 0 if root_user else 1000, raising=False)
    monkeypatch.setattr(lab, "no_screen", lambda environment, platform: reason)
    monkeypatch.setattr(lab, "Workbook", lambda root: SimpleNamespace(refresh=lambda: ["one has changed"]))
    monkeypatch.setattr(lab, "print_troubles", lambda: None)
    monkeypatch.setattr(lab, "run_jupyter", started.append)
    monkeypatch.setattr(sys, "argv", ["lab.py", "--port=9999"])
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/theirs")
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "")
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH")
    lab.main()
    told, (options,) = capsys.readouterr().out, started
    assert "one has changed" in told
    assert options[-1] == "--port=9999"
    assert ("--allow-root" in options) is ("You are root" in told) is root_user
    assert ("--no-browser" in options) is ("open the address" in told) is (reason is not None)
    assert ("ssh -L" in told) is (reason is not None)
    assert not [option for option in options if re.search("token|password|ip=|allow_origin|xsrf", option)]
    assert os.environ["JUPYTER_PREFER_ENV_PATH"] == "1"
    assert os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep) == [str(ROOT / "tools"), "/theirs"]


@pytest.mark.parametrize(("troubles", "told"), [((), ""), (("kernel: elsewhere",), "kernel: elsewhere\n")])
def test_troubles_are_printed_and_nothing_else(
    troubles: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tlhelpers as tl

    class Report:
        def __init__(self, troubles: tuple[str, ...]) -> None:
            self.troubles, self.ok = troubles, not troubles

        def __str__(self) -> str:
            return "\n".join(self.troubles)

    monkeypatch.setattr(tl, "doctor", lambda quick: Report(troubles))
    lab.print_troubles()
    assert capsys.readouterr().out == told


def test_the_first_notebook_is_one_of_the_course() -> None:
    assert lab.START in workbook.Workbook().names()


@pytest.mark.slow
def test_the_server_answers_and_says_where_it_is_and_how_to_stop_it(root: Path, tmp_path: Path) -> None:
    write(root / lab.START, "print('Welcome')")
    program = f"import sys, pathlib; sys.path.insert(0, {str(ROOT / 'tools')!r}); import lab; "
    program += f"lab.ROOT = pathlib.Path({str(root)!r}); lab.main()"
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    log, answers = tmp_path / "log.txt", {}
    with log.open("w", encoding="utf8") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "--ServerApp.port=0", "--no-browser"],
            env={**os.environ, **folders, "IPYTHONDIR": str(tmp_path / "ipython"), "CI": "1"},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + STARTS
        while not (found := re.search(r"JupyterLab is open at (\S+)\s", log.read_text(encoding="utf8"))):
            assert process.poll() is None, log.read_text(encoding="utf8")
            assert time.monotonic() < end, log.read_text(encoding="utf8")
            time.sleep(0.2)
        start, token = found[1].split("?")
        settings = start.replace(f"tree/{lab.START}", "api/settings/@jupyterlab/apputils-extension:notification")
        contents = start.replace(f"lab/tree/{lab.START}", "api/contents/chapter12")
        for page in (start, settings, contents):
            with urllib.request.urlopen(f"{page}?{token}", timeout=STARTS) as answer:
                assert answer.status == 200
                answers[page] = answer.read().decode()
    finally:
        process.terminate()
        process.wait(60)
    asks = json.loads(answers[settings])["schema"]["properties"]
    assert (asks["fetchNews"]["default"], asks["checkForUpdates"]["default"]) == ("false", False)
    assert {entry["name"] for entry in json.loads(answers[contents])["content"]} == {
        "00_start_here.ipynb",
        "12_2_1_feature_extraction.ipynb",
        "12_2_2_fine_tuning.ipynb",
    }
    told = log.read_text(encoding="utf8")
    assert "Ctrl-C twice" in told
    assert "activate" in told
    assert told.count("token=") == 1, told
    assert not re.search(r"Traceback|^\[E ", told, re.MULTILINE), told
