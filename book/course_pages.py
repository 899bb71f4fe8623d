"""What makes pages of the course out of its notebooks."""

from __future__ import annotations

import re
from typing import Any

import nbformat
from docutils import nodes
from sphinx import addnodes


def read_notebook(text: str) -> nbformat.NotebookNode:
    """A notebook whose folded cells are folded on the page, whose tables link to pages, without marks for tools."""
    book = nbformat.reads(text, as_version=4)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if "text/html" in (data := output.get("data", {})):
                data["text/html"] = re.sub(r'(href="[^":]+)\.ipynb\b', r"\1.html", "".join(data["text/html"]))
        cell.source = re.sub(r"^ *# (BEGIN|END) ANSWER.*\n?", "", cell.source, flags=re.MULTILINE).rstrip()
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata.setdefault("tags", []).append("hide-input")
    return book


def slug(title: str) -> str:
    """The anchor of a heading, as JupyterLab makes it, so that one link serves both."""
    return title.replace(" ", "-")


def index_glossary(app: Any, document: nodes.document) -> None:
    """Name the glossary's terms in the index."""
    if app.env.docname == "chapter12/glossary":
        for section in list(document.findall(nodes.section))[1:]:
            term, anchor = section[0].astext(), section["ids"][0]
            section.insert(0, addnodes.index(entries=[("single", term, anchor, "", None)]))


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("doctree-read", index_glossary)
    return {"parallel_read_safe": True}
