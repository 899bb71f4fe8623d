"""The explorers in a real JupyterLab, in a real browser: a reader opens the notebook, runs it, and moves a control."""

import re
import shutil
import time

import pytest
from jupyter_lab import STARTS, jupyter_lab
from PIL import Image
from toy import ROOT, cases

NOTEBOOK = "chapter12/12_7_explorers.ipynb"
RUNS, ANSWERS = 420, 60  # seconds, on a busy machine: the notebook, a control
HARMLESS = re.compile(r"favicon|ResizeObserver loop|Autofill|source map", re.IGNORECASE)

COMPLAINTS = []  # what the browser logs as errors

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def until(condition, seconds, failure):
    """The first true value of a condition; fails after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(failure())


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The file to which JupyterLab logs; everything else of it lies beside."""
    return tmp_path_factory.mktemp("lab") / "lab.log"


@pytest.fixture(scope="module")
def address(browser, log):
    """Of the notebook in a JupyterLab that was opened as by `make lab`, with the token."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    course = log.parent / "course"
    (course / "chapter12").mkdir(parents=True)
    shutil.copy(ROOT / NOTEBOOK, course / NOTEBOOK)
    with jupyter_lab(course, log.parent) as first:
        yield re.sub(r"(?<=/tree/)[^?]+", NOTEBOOK, first)


@pytest.fixture(scope="module")
def page(browser, address):
    """The notebook, opened and run to its end."""
    opened = browser.new_page(viewport={"width": 900 + 330, "height": 1400})  # 900 for the notebook itself
    opened.set_default_timeout(1000 * ANSWERS)
    opened.on("pageerror", lambda error: COMPLAINTS.append(f"uncaught: {error}"))
    opened.on("console", lambda m: COMPLAINTS.append(m.text) if m.type == "error" else None)
    opened.goto(address, timeout=1000 * STARTS)
    opened.locator(".jp-Notebook .jp-RenderedMarkdown h1", has_text="Explorers").wait_for(timeout=1000 * STARTS)
    idle = opened.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    idle.wait_for(timeout=1000 * STARTS)
    waiting = opened.locator(".jp-InputPrompt", has_text="[*]")

    def started():  # JupyterLab may miss the command while it is still opening the notebook
        opened.locator("li.lm-MenuBar-item", has_text=re.compile("^Run$")).click()
        opened.locator("li.lm-Menu-item", has_text=re.compile("^Run All Cells$")).click()
        opened.wait_for_timeout(3000)
        return bool(waiting.count())

    def ended():
        assert (errors := outputs(opened, "error").all_inner_texts()) == [], errors
        return (idle.count(), waiting.count(), explorers(opened).count()) == (1, 0, 3)

    until(started, STARTS, lambda: "the notebook did not start")
    until(ended, RUNS, lambda: f"the notebook did not end in {RUNS} s")
    return opened


def explorers(page):
    return page.locator(".tl-explorer")


def outputs(page, kind):
    return page.locator(f".jp-OutputArea [data-mime-type='application/vnd.jupyter.{kind}']")


def explorer(page, number):
    """One of the explorers, once it shows a figure."""
    found = explorers(page).nth(number)
    found.scroll_into_view_if_needed()
    found.locator("img").wait_for()
    return found


def figure(shown):
    return str(shown.locator("img").get_attribute("src"))


@cases(
    "number, act",
    (0, lambda shown: shown.get_by_role("button", name="everything").click()),
    (1, lambda shown: shown.get_by_label("Layer").select_option(index=7)),
    (2, lambda shown: shown.get_by_label("Class").select_option(index=3)),
    (2, lambda shown: shown.get_by_label("Image").select_option(label="a cup of coffee (photograph)")),
    ids=["depth", "layer", "class", "image"],
)
def test_a_control_changes_the_figure(page, number, act):
    shown = explorer(page, number)
    before = figure(shown)
    act(shown)
    until(lambda: figure(shown) != before, ANSWERS, lambda: "the figure stayed the same")
    assert shown.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "the explorer is wider than the page"


def test_uploads_good_and_bad(page, tmp_path):
    def upload(path):
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


def test_nobody_complained(page, log):
    """Last, after all controls were moved: neither the browser nor the server nor a kernel has logged an error."""
    assert outputs(page, "stderr").count() == outputs(page, "error").count() == 0
    assert explorers(page).get_by_role("alert").count() == 0
    assert [text for text in COMPLAINTS if not HARMLESS.search(text)] == []
    assert not re.search(r"Traceback|^\[E ", log.read_text(encoding="utf8"), re.MULTILINE)
