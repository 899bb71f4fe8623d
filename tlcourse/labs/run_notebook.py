"""Run a notebook in this process's place: `python -m tlcourse.labs.run_notebook NOTEBOOK`. Cells may fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(path: Path) -> None:
    """Execute every cell, those after a failed one included, and keep nothing."""
    import nbformat
    from nbclient import NotebookClient

    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one of the same name elsewhere
    book = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(book, timeout=None, kernel_name="python3", resources=resources, allow_errors=True).execute()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
