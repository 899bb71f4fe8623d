"""Sphinx's settings for the HTML book: `make book` makes it out of the notebooks as they are stored, executed.

The pages need no network: fonts are the system's, there are no formulas to typeset, and all scripts lie in the book.
"""

import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "tools")]

from notebooks import repository  # noqa: E402 (it lies there)

project = "Transfer Learning and Fine-Tuning in PyTorch"
author = "The authors of the course"
copyright = f"{author}, MIT licence"
release = metadata.version("tlhelpers")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "course_pages"]
root_doc = "book/index"
include_patterns = ["book/*.md", "chapter12/*.ipynb", "labs/*.ipynb", "solutions/*.ipynb", "docs/*.md"]
# The glossary's terms are small headings, and follow its title directly; a class may get a copy without solutions.
suppress_warnings = ["myst.header", "toc.empty_glob"]
default_role = "py:obj"  # docstrings write `names` so

nb_execution_mode = "off"  # the outputs that tests compare are shown
nb_custom_formats = {".ipynb": "course_pages.read_notebook"}
nb_ipywidgets_js = {}  # explorers need Python; no script is loaded for them
nb_code_prompt_show = "Show the {type}"
nb_code_prompt_hide = "Hide the {type}"
myst_heading_anchors = 4
myst_heading_slug_func = "course_pages.slug"

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["book.css"]
html_extra_path = ["extra"]
if (HERE.parent / "build" / "extra" / "browser" / "index.html").is_file():  # made by tools/browser_page.py
    html_extra_path.append("../build/extra")
    tags.add("browser")  # noqa: F821 (Sphinx defines it)
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which a browser refuses for files
html_theme_options = {
    "home_page_in_toc": True,
    "show_toc_level": 1,
    "use_download_button": False,
    "use_source_button": False,
}
if address := repository():  # links to it are left out where it is not set
    html_theme_options |= {
        "repository_url": address,
        "repository_branch": "main",
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"},
    }
