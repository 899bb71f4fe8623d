"""The HTML book: built without a warning, every link leads somewhere, and it can be read on a phone and offline."""

import re
import urllib.parse
from html.parser import HTMLParser

import pytest
from toy import ROOT, cases, run_python

import tlhelpers as tl

PAGES = ("book/index", "chapter12/12_1_concept", "labs/lab1_concepts", "docs/results", "book/api")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder of a fresh book."""
    folder = tmp_path_factory.mktemp("book")
    built = run_python("-m", "sphinx", "-q", "-W", "--keep-going", "-c", "book", ".", str(folder), cwd=ROOT)
    assert (built.returncode, built.stderr) == (0, ""), built.stderr
    return folder


class Page(HTMLParser):
    """The anchors, links and loaded files of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded, self.text = {""}, set(), set(), ""
        self.feed(path.read_text(encoding="utf8"))

    def handle_data(self, data):
        self.text += "".join(data.split())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and given.get("href"):
            self.links.add(given["href"])
        elif address := given.get("src") or given.get("href"):
            self.loaded.add(address)


def faults_of(book):
    """Links and files that are not there, and files that would be loaded from elsewhere."""
    pages = {path: Page(path) for path in book.rglob("*.html") if "_static" not in path.parts}
    for path, page in pages.items():
        for address in page.links | page.loaded:
            scheme, _, file, _, _, anchor = urllib.parse.urlparse(address)
            if scheme in ("http", "https", "mailto"):
                if address in page.loaded:
                    yield f"{path.name} loads {address}"
                continue
            target = (path.parent / urllib.parse.unquote(file)).resolve() if file else path
            if scheme != "data" and not target.is_file():
                yield f"{path.name}: no {address}"
            elif target in pages and urllib.parse.unquote(anchor) not in pages[target].anchors:
                yield f"{path.name}: no #{anchor} in {target.name}"


def test_every_link_and_anchor_leads_somewhere_and_nothing_is_loaded_from_elsewhere(book):
    assert len(list(book.rglob("*.html"))) >= 30
    assert list(faults_of(book)) == []
    page = book / "labs" / "lab1_concepts.html"
    before = page.read_text(encoding="utf8")
    planted = '<a href="gone.html"></a><a href="#gone"></a><script src="https://a.b/c.js"></script>'
    page.write_text(before + planted, encoding="utf8")
    assert len(list(faults_of(book))) == 3, "the search for faults must find them"
    page.write_text(before, encoding="utf8")


def test_labs_show_no_answer_solutions_do_and_the_reference_names_everything(book):
    for path in (ROOT / "solutions" / "source").glob("*.py"):
        lab, solution = (Page(book / kind / f"{path.stem}.html").text for kind in ("labs", "solutions"))
        answers = re.findall(r"# BEGIN ANSWER.*?\n(.*?)# END ANSWER", path.read_text(encoding="utf8"), re.DOTALL)
        for answer in map("".join, map(str.split, answers)):
            assert (answer in lab, answer in solution) == (False, True), answer
        assert "BEGINANSWER" not in solution
    named = re.findall(r"auto\w+:: tlhelpers\.(\w+)", (ROOT / "book" / "api.md").read_text(encoding="utf8"))
    assert sorted(named) == sorted(tl.__all__)


@pytest.mark.browser
@cases("width", 390, 768, 1200)
def test_five_pages_fit_every_screen_without_a_network_and_fold(book, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    elsewhere, errors = [], []
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or elsewhere.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in PAGES:
        page.goto((book / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        folded = page.locator("article details")
        assert bool(folded.count()) == name.startswith(("chapter12", "labs"))
        if folded.count():
            assert not folded.first.evaluate("each => each.open")
            folded.first.locator("summary").first.click()
            assert folded.first.evaluate("each => each.open")
    page.goto((book / "search.html").as_uri() + "?q=BatchNorm")
    page.locator("#search-results li").first.wait_for()
    assert (elsewhere, errors) == ([], [])


@pytest.mark.browser
def test_the_chapter_is_printed_with_an_outline(browser, tmp_path):
    run_python("tools/book_pdf.py", str(tmp_path / "chapter.pdf"), cwd=ROOT, check=True)
    printed = (tmp_path / "chapter.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", printed)) > 60
    assert b"/Outlines" in printed
