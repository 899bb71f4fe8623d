"""Print the chapter to a PDF: Sphinx makes one page of it, and Chromium prints that.

`python tools/book_pdf.py [FILE]` writes build/chapter.pdf, or another file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def launch(playwright: Any) -> Any:
    """The browser that the variable TL_CHROMIUM names, or Chromium, Chrome or Edge; None if there is none."""
    options = ["--disable-dev-shm-usage"]  # containers have little of it
    options += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    if found := os.environ.get("TL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None):
        return playwright.chromium.launch(executable_path=found, args=options)
    for channel in ("chrome", "msedge"):  # where they are not on the path, as on Windows and macOS
        with contextlib.suppress(Exception):  # playwright's own error says only that it is not there
            return playwright.chromium.launch(channel=channel, args=options)
    return None


def main() -> int:
    """Make the file; returns the exit code."""
    from playwright.sync_api import sync_playwright

    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "chapter.pdf"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        if (browser := launch(playwright)) is None:
            print(
                "A PDF needs Chromium or Chrome: install it, or name it in the variable TL_CHROMIUM.", file=sys.stderr
            )
            return 1
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "singlehtml", "-c", "book", "-D", "root_doc=book/pdf"]
        command += ["-D", "include_patterns=book/pdf.md,chapter12/*.ipynb", ".", folder]
        subprocess.run(command, cwd=ROOT, check=True)
        whole = Path(folder) / "chapter.html"  # its links are relative to this folder
        shutil.move(Path(folder) / "book" / "pdf.html", whole)
        page = browser.new_page()
        page.goto(whole.as_uri())
        page.evaluate("document.querySelectorAll('details:not(.hide)').forEach((answer) => (answer.open = true))")
        sides = dict.fromkeys(("top", "bottom", "left", "right"), "15mm")
        page.pdf(path=target, format="A4", scale=0.75, print_background=True, outline=True, tagged=True, margin=sides)
    print(f"{target}, {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
