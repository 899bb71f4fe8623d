"""Every notebook is what its source says, executed, clean; and the check itself finds what it is for."""

import json
import re

import nbformat
import notebooks
import pytest
import results_page
from toy import ROOT, cases

SOURCES = notebooks.sources()
EVERY_PAIR = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def test_every_notebook_has_a_source_and_its_line_in_the_table():
    assert {source.stem for source in SOURCES} == set(results_page.ABOUT)
    assert notebooks.orphans() == []


def prose_of(source):
    return [cell.source for cell in notebooks.build(source).cells if cell.cell_type == "markdown"]


@EVERY_PAIR
def test_pair_is_in_step_and_clean(source):
    assert notebooks.pair_faults(source) == []


@EVERY_PAIR
def test_measured_time_is_within_what_is_promised(source):
    times = json.loads(notebooks.TIMES.read_text(encoding="utf8"))
    limit = 60 if source.stem == "00_start_here" else 90
    assert 1 < times[notebooks.name_of(source)]["seconds"] <= limit


@pytest.mark.parametrize("page", results_page.PAGES, ids=lambda page: page.name)
def test_generated_tables_are_those_of_the_results_files(page):
    text = page.read_text(encoding="utf8")
    assert results_page.filled(page, text) == text, "python tools/results_page.py writes them anew"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "LICENSES.md", "docs/results.md", "docs/teaching.md"])
def test_documents_name_only_files_that_exist(name):
    text = (ROOT / name).read_text(encoding="utf8").replace("\\", "/")
    paths = re.findall(r"(?<![\w/.])(?:chapter12|docs|experiments|labs|solutions|tests|tl\w+|tools)/[\w./-]*\w/?", text)
    assert [path for path in paths if not re.search("NAME|labN", path) and not (ROOT / path).exists()] == []


def test_numbers_in_the_text_of_the_results_stand_in_its_tables():
    lines = (ROOT / "docs" / "results.md").read_text(encoding="utf8").splitlines()
    tables = "\n".join(line for line in lines if line.startswith("|"))
    prose = "\n".join(line for line in lines if not line.startswith("|"))
    assert [number for number in re.findall(r"(\d+\.\d) %", prose) if number not in tables] == []


@EVERY_PAIR
def test_opens_with_what_is_learned_and_ends_with_a_summary(source):
    first, *_, last = prose_of(source)
    assert first.startswith("# ")
    assert "**Time:**" in first
    assert "## Summary" in last
    assert "**What to try next" in last


@pytest.mark.parametrize("source", [s for s in SOURCES if s.parts[-3] == "chapter12"], ids=lambda s: s.stem)
def test_a_page_of_the_chapter_is_short_and_has_the_words_of_the_field(source):
    size = notebooks.sizes(source)
    assert (size["words"] <= 1700, size["code lines"] <= 200, size["longest cell"] <= 15) == (True, True, True), size
    prose = " ".join(re.sub(r"`[^`]*`|<[^>]*>|\]\([^)]*\)|https\S+", "", "\n".join(prose_of(source))).split())
    rows = (ROOT / "tests" / "data" / "private_words.txt").read_text(encoding="utf8").splitlines()
    assert [row for row in rows if re.search(row.rpartition(" = ")[0], prose, re.IGNORECASE)] == []


def test_every_term_of_the_glossary_is_linked_and_every_link_finds_its_term():
    texts = {source.stem: "\n".join(prose_of(source)) for source in SOURCES}
    terms = [term.replace(" ", "-") for term in re.findall("^#### (.+)$", texts["glossary"], re.MULTILINE)]
    assert set(re.findall(r"\(glossary\.ipynb#([^)]*)\)", "\n".join(texts.values()))) == set(terms)


@EVERY_PAIR
def test_links_lead_somewhere(source):
    for target in re.findall(r"\]\(([^)#]+)\)", "\n".join(prose_of(source))):
        linked = (source.parent.parent / target).resolve()  # only notebooks are copied for the learner
        assert target.startswith("https://") or notebooks.source_of(linked) in SOURCES, target


@EVERY_PAIR
def test_no_output_is_compared_that_cannot_be_the_same_everywhere(source):
    """Accuracies and seconds differ between machines, so a cell that shows one must be marked as not compared."""
    for number, cell in enumerate(nbformat.read(notebooks.notebook_of(source), as_version=4).cells, start=1):
        if cell.cell_type == "code" and "nbval-ignore-output" not in cell.metadata.get("tags", []):
            shown = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs]
            assert not re.search(r"\d s\b", "".join(shown)), f"cell {number} shows a time"


# A number with such a unit was measured, unless the cell says where it was taken from.
MEASURED = re.compile(
    r"\d(?:[\d.,]*\d)?[\s-]*(?:%|per\s?cent|percent|percentage|points?\b|times\b|×|seconds?\b|minutes?\b|hours?\b|ms\b|s\b"
    r"|KB\b|MB\b|GB\b)"
)
GIVEN = re.compile(r"<!-- given: \S.*? -->", re.DOTALL)


def typed_numbers(text):
    """Numbers in prose that look measured and name no source; an exercise's minutes are an estimate, and called so."""
    estimate = r"^\*\*Difficulty\*\* ●*○* · \*\*\d+ minutes\*\*( · \*\*\d+ points?\*\*)?"
    text = re.sub(estimate, "", text, flags=re.MULTILINE)
    return [] if GIVEN.search(text) else MEASURED.findall(re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL))


@EVERY_PAIR
def test_no_measured_number_is_typed_into_prose(source):
    assert [text for text in prose_of(source) if typed_numbers(text)] == []


@cases("text", "reaches 92.8 %", "3 times faster", "gains 5 points", "in 12 s.", "takes 11.4 MB", "1,280 seconds", "2×")
def test_a_typed_number_is_found(text):
    assert len(typed_numbers(text)) == 1
    assert typed_numbers(f"{text} <!-- given: torchvision's page of weights -->") == []
    assert len(typed_numbers(f"{text} <!-- given:  -->")) == 1


SOURCE = "# %% [markdown]\n# # Title\n\n# %%\nprint('hello')\n"


@pytest.fixture
def pair(tmp_path):
    """A small sound pair."""
    source = tmp_path / "source" / "pair.py"
    source.parent.mkdir()
    source.write_text(SOURCE, encoding="utf8")
    book = notebooks.build(source)
    book.cells[1].update(execution_count=1, outputs=[stream("stdout", "hello\n")])
    nbformat.write(book, notebooks.notebook_of(source))
    assert notebooks.pair_faults(source) == []
    return source


def output(added):
    """The change that adds an output to the second cell."""
    return lambda book: book.cells[1].outputs.append(added)


def stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


@cases(
    "change, expected",
    (lambda b: b.cells[1].update(source="print('other')"), "cell 2 differs from the source in its source"),
    (lambda b: b.cells.pop(0), "has 1 cells, its source has 2"),
    (lambda b: b.metadata.kernelspec.update(name="other"), "its kernel is"),
    (lambda b: b.cells[1].update(execution_count=None), "cell 2 was never executed"),
    (lambda b: b.cells[1].update(execution_count=7), "cell 2 was executed out of order"),
    (output(nbformat.v4.new_output("error", ename="ValueError", evalue="")), "holds an error: ValueError"),
    (output(stream("stderr", "Warning!")), "text from stderr: 'Warning!'"),
    (output(stream("stdout", "/home/ada/x")), "a path of one machine: '/home/ada/x'"),
    (output(stream("stdout", r"C:\Users\ada")), "a path of one machine"),
    (output(nbformat.v4.new_output("display_data", {"image/png": ""})), "image without alternative text"),
    (output(stream("stdout", "Not so here: it fell.")), "Not so here: it fell."),
    (output(stream("stdout", "x" * 600_000)), "has 601 kB, 600 at most"),
)
def test_a_planted_fault_is_found(pair, change, expected):
    book = nbformat.read(notebooks.notebook_of(pair), as_version=4)
    change(book)
    nbformat.write(book, notebooks.notebook_of(pair))
    faults = notebooks.pair_faults(pair)
    assert any(expected in fault for fault in faults), faults


def test_a_pages_size_counts_what_a_reader_sees(tmp_path):
    text = "# %% [markdown]\n# # Two words\n# <!-- given: not for readers -->\n\n# %%\na = 1\n\nb = 2\n\n"
    (source := tmp_path / "page.py").write_text(text + '# %% jupyter={"source_hidden": true}\ntl.fit(model, data)\n')
    assert [*notebooks.sizes(source).values()][:5] == [2, 0, 2, 2, 1]  # words, minutes, lines of code, trainings


def test_prose_alone_is_taken_over_without_executing(pair):
    pair.write_text(SOURCE.replace("Title", "Other title"), encoding="utf8")
    assert notebooks.take_over_prose(pair)
    assert notebooks.pair_faults(pair) == []
    prose, code = nbformat.read(notebooks.notebook_of(pair), as_version=4).cells
    assert (prose.source, code.outputs[0].text) == ("# Other title", "hello\n")
    pair.write_text(SOURCE.replace("hello", "bye"), encoding="utf8")
    assert not notebooks.take_over_prose(pair)
    assert notebooks.pair_faults(pair) != []


def test_a_missing_or_broken_notebook_is_named(pair):
    notebooks.notebook_of(pair).write_text("{", encoding="utf8")
    assert "not a readable notebook" in notebooks.pair_faults(pair)[0]
    notebooks.notebook_of(pair).unlink()
    assert "missing" in notebooks.pair_faults(pair)[0]


def test_where_the_repository_is_known_a_notebook_can_install_the_course(monkeypatch):
    source = ROOT / "labs" / "source" / "lab1_concepts.py"
    address = ""
    monkeypatch.setattr(notebooks, "repository", lambda: address)
    before = notebooks.build(source).cells
    address = "https://example.org/course"
    after = notebooks.build(source).cells
    first = next(number for number, cell in enumerate(after) if cell.cell_type == "code")
    assert after[first].source.endswith('@ git+https://example.org/course"\n    import tlcourse')
    assert [cell.id for cell in after[:first] + after[first + 1 :]] == [cell.id for cell in before]
