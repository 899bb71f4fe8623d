"""The explorers in a real JupyterLab, in a real browser: a reader opens the notebook, runs it, and moves a control."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "chapter12/12_7_explorers.ipynb"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
STARTS, RUNS, ANSWERS = 120, 420, 60  # seconds, on a busy machine: JupyterLab, the notebook, a control
HARMLESS = re.compile(r"favicon|ResizeObserver loop|Autofill|source map", re.IGNORECASE)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def until(condition: Callable[[], Any], seconds: float, failure: Callable[[], str]) -> Any:
    """The first true value of a condition; fails after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(failure())


@pytest.fixture(scope="module")
def chromium() -> str:
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    found = os.environ.get("TL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: none of " + ", ".join(NAMES) + " is there, and TL_CHROMIUM names none")
    return found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file to which JupyterLab logs; everything else of it lies beside."""
    return tmp_path_factory.mktemp("lab") / "lab.log"


@pytest.fixture(scope="module")
def address(chromium: str, log: Path) -> Iterator[str]:
    """Of the notebook in a JupyterLab that was opened as by `make lab`, with the token."""
    root, runtime = log.parent / "course", log.parent / "runtime"
    (root / "chapter12").mkdir(parents=True)
    shutil.copy(ROOT / NOTEBOOK, root / NOTEBOOK)
    own = {f"JUPYTER_{name.upper()}_DIR": str(log.parent / name) for name in ("config", "data", "runtime")}
    own |= {f"JUPYTERLAB_{name.upper()}_DIR": str(log.parent / name) for name in ("settings", "workspaces")}
    own |= {"IPYTHONDIR": str(log.parent / "ipython"), "TL_PROFILE": "quick", "PYTHONPATH": str(ROOT), "CI": "1"}
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); import lab, pathlib; "
    start += "lab.ROOT = pathlib.Path(sys.argv.pop(1)); lab.main()"  # Jupyter takes only one root
    command = [sys.executable, "-c", start, str(ROOT / "tools"), str(root), "--ServerApp.port=0", "--no-browser"]
    with log.open("w", encoding="utf8") as file:
        lab = subprocess.Popen(
            command, env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )

    def facts() -> Any:
        assert lab.poll() is None, log.read_text(encoding="utf8")
        return [json.loads(text) for path in runtime.glob("jpserver-*.json") if (text := path.read_text("utf8"))]

    try:
        (server,) = until(facts, STARTS, lambda: log.read_text(encoding="utf8"))
        assert server["token"], "JupyterLab was started without a token"
        yield f"{server['url']}lab/tree/{NOTEBOOK}?token={server['token']}"
    finally:
        lab.terminate()
        try:
            lab.wait(30)
        except subprocess.TimeoutExpired:
            lab.kill()


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """What the browser logs as errors."""
    return []


@pytest.fixture(scope="module")
def page(chromium: str, address: str, complaints: list[str]) -> Iterator[Any]:
    """The notebook, opened and run to its end."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    options.append("--disable-dev-shm-usage")  # containers have little of it
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        opened = browser.new_page(viewport={"width": 900 + 330, "height": 1400})  # 900 for the notebook itself
        opened.set_default_timeout(1000 * ANSWERS)
        opened.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        opened.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        opened.goto(address, timeout=1000 * STARTS)
        opened.locator(".jp-Notebook .jp-RenderedMarkdown h1", has_text="Explorers").wait_for(timeout=1000 * STARTS)
        idle = opened.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        idle.wait_for(timeout=1000 * STARTS)
        waiting = opened.locator(".jp-InputPrompt", has_text="[*]")

        def started() -> bool:  # JupyterLab may miss the command while it is still opening the notebook
            opened.locator("li.lm-MenuBar-item", has_text=re.compile("^Run$")).click()
            opened.locator("li.lm-Menu-item", has_text=re.compile("^Run All Cells$")).click()
            opened.wait_for_timeout(3000)
            return bool(waiting.count())

        def ended() -> bool:
            assert (errors := outputs(opened, "error").all_inner_texts()) == [], errors
            return (idle.count(), waiting.count(), explorers(opened).count()) == (1, 0, 4)

        until(started, STARTS, lambda: "the notebook did not start")
        until(ended, RUNS, lambda: f"the notebook did not end in {RUNS} s")
        yield opened
        browser.close()


def explorers(page: Any) -> Any:
    return page.locator(".tl-explorer")


def outputs(page: Any, kind: str) -> Any:
    return page.locator(f".jp-OutputArea [data-mime-type='application/vnd.jupyter.{kind}']")


def explorer(page: Any, number: int) -> Any:
    """One of the explorers, once it shows a figure."""
    found = explorers(page).nth(number)
    found.scroll_into_view_if_needed()
    found.locator("img").wait_for()
    return found


def figure(shown: Any) -> str:
    return str(shown.locator("img").get_attribute("src"))


@pytest.mark.parametrize(
    ("number", "act"),
    [
        (0, lambda shown: shown.get_by_role("button", name="everything").click()),
        (1, lambda shown: shown.get_by_label("Layer").select_option(index=7)),
        (2, lambda shown: shown.locator(".noUi-handle").press("ArrowLeft")),
        (3, lambda shown: shown.get_by_label("Class").select_option(index=3)),
        (3, lambda shown: shown.get_by_label("Image").select_option(label="a cup of coffee (photograph)")),
    ],
    ids=["depth", "layer", "learning rate", "class", "image"],
)
def test_a_control_changes_the_figure(page: Any, number: int, act: Callable[[Any], Any]) -> None:
    shown = explorer(page, number)
    before = figure(shown)
    act(shown)
    until(lambda: figure(shown) != before, ANSWERS, lambda: "the figure stayed the same")
    assert shown.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "the explorer is wider than the page"


def test_uploads_good_and_bad(page: Any, tmp_path: Path) -> None:
    def upload(path: Path) -> None:
        with page.expect_file_chooser() as chooser:
            shown.get_by_role("button", name="Upload").click()
        chooser.value.set_files(path)

    shown = explorer(page, 1)
    before = figure(shown)
    bad, good = tmp_path / "notes.png", tmp_path / "mine.png"
    bad.write_text("no image", encoding="utf8")
    upload(bad)
    shown.get_by_role("alert").get_by_text("'notes.png' cannot be used: not an image.").wait_for()
    assert figure(shown) == before
    Image.effect_mandelbrot((200, 160), (-2.0, -1.2, 1.0, 1.2), 60).convert("RGB").save(good)
    upload(good)
    until(lambda: figure(shown) != before, ANSWERS, lambda: "the figure stayed the same")
    assert shown.get_by_role("alert").count() == 0


def test_nobody_complained(page: Any, log: Path, complaints: list[str]) -> None:
    """Last, after all controls were moved: neither the browser nor the server nor a kernel has logged an error."""
    assert outputs(page, "stderr").count() == outputs(page, "error").count() == 0
    assert explorers(page).get_by_role("alert").count() == 0
    assert [text for text in complaints if not HARMLESS.search(text)] == []
    assert not re.search(r"Traceback|^\[E ", log.read_text(encoding="utf8"), re.MULTILINE)
