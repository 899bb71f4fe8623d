"""The explorers in a real JupyterLab, in a real browser: a reader opens the notebook, runs it, and moves a control."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "12_7_explorers.ipynb"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
STARTS = 120  # seconds for JupyterLab to start, on a busy machine
RUNS = 420  # seconds for the notebook to run, there
ANSWERS = 60  # seconds for a control to be answered, there
HARMLESS = re.compile(r"favicon|ResizeObserver loop|Autofill|source map", re.IGNORECASE)

pytestmark = pytest.mark.browser


def browser_path() -> str:
    """Chromium's program."""
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    found = os.environ.get("TL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: none of " + ", ".join(NAMES) + " is there, and TL_CHROMIUM names none")
    return found


class Lab:
    """A JupyterLab that was opened in the way of `make lab`, on a copy of the notebook."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "lab.log"
        self.root = folder / "course"
        (self.root / "chapter12").mkdir(parents=True)
        shutil.copy(ROOT / "chapter12" / NOTEBOOK, self.root / "chapter12")
        own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        own |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "work")}
        own |= {"IPYTHONDIR": str(folder / "ipython"), "TL_PROFILE": "quick", "PYTHONPATH": str(ROOT), "CI": "1"}
        start = "import sys; sys.path.insert(0, sys.argv.pop(1)); import lab, pathlib; "
        start += "lab.ROOT = pathlib.Path(sys.argv.pop(1)); lab.main()"  # Jupyter takes only one root
        command = [sys.executable, "-c", start, str(ROOT / "tools"), str(self.root)]
        with self.log.open("w", encoding="utf8") as log:
            self.process = subprocess.Popen(
                [*command, "--ServerApp.port=0", "--no-browser"],
                env={**os.environ, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self.runtime = folder / "runtime"

    def address(self) -> str:
        """Of the notebook, with the token."""
        end = time.monotonic() + STARTS
        while time.monotonic() < end:
            for path in self.runtime.glob("jpserver-*.json"):
                facts = json.loads(path.read_text(encoding="utf8") or "{}")
                if facts:
                    assert facts["token"], "JupyterLab was started without a token"
                    return f"{facts['url']}lab/tree/chapter12/{NOTEBOOK}?token={facts['token']}"
            assert self.process.poll() is None, self.log.read_text(encoding="utf8")
            time.sleep(0.2)
        raise AssertionError(f"JupyterLab did not start in {STARTS} s:\n{self.log.read_text(encoding='utf8')}")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    browser_path()
    started = Lab(tmp_path_factory.mktemp("lab"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """What the browser logs as errors."""
    return []


@pytest.fixture(scope="module")
def page(lab: Lab, complaints: list[str]) -> Iterator[Any]:
    """The notebook, opened and run to its end."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    options.append("--disable-dev-shm-usage")  # containers have little of it
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=options)
        opened = browser.new_page(viewport={"width": 900 + 330, "height": 1400})  # 900 for the notebook itself
        opened.set_default_timeout(1000 * ANSWERS)
        opened.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        opened.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        opened.goto(lab.address(), timeout=1000 * STARTS)
        opened.locator(".jp-Notebook").wait_for(timeout=1000 * STARTS)
        opened.locator(".jp-Notebook .jp-RenderedMarkdown h1", has_text="Explorers").wait_for()
        run_all(opened)
        yield opened
        browser.close()


def run_all(page: Any) -> None:
    """Run > Run All Cells, and wait until the last cell has printed its seconds in this session."""
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=1000 * STARTS)
    page.locator("li.lm-MenuBar-item", has_text=re.compile("^Run$")).click()
    page.locator("li.lm-Menu-item", has_text=re.compile("^Run All Cells$")).click()
    end = time.monotonic() + RUNS
    while time.monotonic() < end:
        indicator = page.locator(".jp-Notebook-ExecutionIndicator").get_attribute("data-status")
        waiting = page.locator(".jp-InputPrompt", has_text="[*]").count()
        if indicator == "idle" and not waiting and page.locator(".tl-explorer").count() == 4:
            return
        time.sleep(0.5)
    raise AssertionError(f"the notebook did not end in {RUNS} s")


def explorer(page: Any, number: int) -> Any:
    """One of the explorers, scrolled into view, once it shows a figure."""
    found = page.locator(".tl-explorer").nth(number)
    found.scroll_into_view_if_needed()
    found.locator("img").wait_for()
    return found


def changed(shown: Any, before: str, folder: Path, name: str) -> str:
    """Wait until the figure is another one, take an image of the explorer, and return the figure."""
    end = time.monotonic() + ANSWERS
    while time.monotonic() < end:
        now = shown.locator("img").get_attribute("src")
        if now != before:
            shown.screenshot(path=folder / f"{name}.png")
            return now
        time.sleep(0.1)
    shown.screenshot(path=folder / f"{name}_stuck.png")
    raise AssertionError(f"{name}: the figure stayed the same; see {folder}")


def upload(page: Any, shown: Any, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        shown.get_by_role("button", name="Upload").click()
    chooser.value.set_files(path)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screenshots")


def test_depth_answers_to_its_buttons(page: Any, shots: Path) -> None:
    shown = explorer(page, 0)
    before = shown.locator("img").get_attribute("src")
    shown.screenshot(path=shots / "depth_first.png")
    shown.get_by_role("button", name="everything").click()
    changed(shown, before, shots, "depth")
    assert "Trained: everything" in shown.locator("img").get_attribute("alt")


def test_layers_of_a_image_and_uploads_good_and_bad(page: Any, shots: Path, tmp_path: Path) -> None:
    from PIL import Image

    shown = explorer(page, 1)
    before = shown.locator("img").get_attribute("src")
    shown.get_by_label("Layer").select_option(index=7)
    before = changed(shown, before, shots, "feature_maps")
    bad = tmp_path / "notes.png"
    bad.write_text("no image", encoding="utf8")
    upload(page, shown, bad)
    shown.get_by_role("alert").get_by_text("'notes.png' cannot be used: not an image.").wait_for()
    shown.screenshot(path=shots / "bad_upload.png")
    assert shown.locator("img").get_attribute("src") == before
    good = tmp_path / "mine.png"
    Image.effect_mandelbrot((200, 160), (-2.0, -1.2, 1.0, 1.2), 60).convert("RGB").save(good)
    upload(page, shown, good)
    changed(shown, before, shots, "upload")
    assert shown.get_by_role("alert").count() == 0


def test_the_slider_of_learning_rates(page: Any, shots: Path) -> None:
    shown = explorer(page, 2)
    before = shown.locator("img").get_attribute("src")
    handle = shown.locator(".noUi-handle")
    handle.focus()
    for _ in range(5):
        handle.press("ArrowLeft")
    changed(shown, before, shots, "learning_rate")


def test_grad_cam_of_another_class(page: Any, shots: Path) -> None:
    shown = explorer(page, 3)
    before = shown.locator("img").get_attribute("src")
    shown.get_by_label("Class").select_option(index=3)
    before = changed(shown, before, shots, "grad_cam")
    shown.get_by_label("Image").select_option(label="a cup of coffee (photograph)")
    changed(shown, before, shots, "grad_cam_image")


def test_nothing_is_wider_than_the_page(page: Any) -> None:
    for number in range(4):
        shown = explorer(page, number)
        assert shown.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), f"explorer {number} is cut off"


def test_nobody_complained(page: Any, lab: Lab, complaints: list[str]) -> None:
    """Last, after all controls were moved: neither the browser nor the server nor a kernel has logged an error."""
    assert page.locator(".jp-OutputArea [data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.locator(".tl-explorer").get_by_role("alert").filter(has_text=re.compile(r"\w")).count() == 0
    assert [text for text in complaints if not HARMLESS.search(text)] == []
    log = lab.log.read_text(encoding="utf8")
    assert not re.search(r"Traceback|^\[E ", log, re.MULTILINE), log
