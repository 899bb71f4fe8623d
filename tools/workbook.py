"""The learner's own copies of the notebooks, in the folder `workbook`: made, brought up to date, started again.

python tools/workbook.py                bring the copies up to date, as `make lab` does before it opens them
python tools/workbook.py again lab2     start a notebook again; the learner's version stays beside it
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("chapter12", "labs", "solutions")


class Workbook:
    """The copies, and for each file that was put there the hash of its contents.

    A file whose hash is still the recorded one holds nothing of the learner's, and may be replaced. Any other stays.
    Only cells and outputs count: JupyterLab rewrites a notebook's metadata as soon as it is opened.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root, self.folder = root, root / "workbook"
        self.manifest = self.folder / ".course.json"
        try:
            self.written: dict[str, str] = dict(json.loads(self.manifest.read_text(encoding="utf8")))
        except (OSError, ValueError, TypeError):  # none yet, or damaged: then every file may be the learner's
            self.written = {}

    def names(self) -> list[str]:
        """Paths of the course's notebooks below the project's folder, with forward slashes."""
        paths = (path for folder in FOLDERS for path in sorted((self.root / folder).glob("*.ipynb")))
        return [path.relative_to(self.root).as_posix() for path in paths]

    def refresh(self) -> list[str]:
        """Bring the copies up to date.

        Returns:
            A sentence for each notebook that the learner and the course have both changed.
        """
        sentences = []
        for name in self.names():
            content = (self.root / name).read_bytes()
            new = _hash(content)
            if self._may_replace(name) or _hash_of(self.folder / name) == new:
                self._put(name, content)
            elif self.written.get(name) != new:  # both have changed it
                sentences += self._offer(name, content)
        return sentences

    def again(self, word: str) -> str:
        """Put the course's version of a notebook in place, and keep the learner's under a name with the time.

        Args:
            word: how the notebook's name or path begins: "lab2" (the lab, not its solution), "12.1", "solutions/lab2".

        Returns:
            What was done, as text.

        Raises:
            SystemExit: if that fits no notebook, or several.
        """
        name = self._find(word)
        copy, told = self.folder / name, f"workbook/{name} is as the course has it."
        if not self._may_replace(name):
            stem = f"{copy.stem} (yours, {datetime.now():%Y-%m-%d %H.%M}"
            counted = (f"{stem}{f', {n}' if n > 1 else ''}).ipynb" for n in itertools.count(1))
            kept = next(copy.with_name(each) for each in counted if not copy.with_name(each).exists())
            copy.rename(kept)
            told += (
                f" Your version is kept beside it as '{kept.name}'.\n"
                "If it is open in JupyterLab: File > Reload Notebook from Disk, then Kernel > Restart Kernel."
            )
        self._put(name, (self.root / name).read_bytes())
        return told

    def _find(self, word: str) -> str:
        asked = word.replace("\\", "/").removeprefix("workbook/").removesuffix(".ipynb").replace(".", "_")
        names = [name.removesuffix(".ipynb") for name in self.names()]
        found = [name for name in names if asked and asked in (name, Path(name).name)]
        found = found or [name for name in names if name.startswith(asked) or Path(name).name.startswith(asked)]
        if len({Path(name).name for name in found}) != 1:
            fits = "fits several notebooks" if found else "fits no notebook"
            sys.exit(f"'{word}' {fits}. Name one, such as make again LAB=lab2, of:\n  " + "\n  ".join(found or names))
        return f"{found[0]}.ipynb"

    def _may_replace(self, name: str) -> bool:
        return _hash_of(self.folder / name) in (None, self.written.get(name))

    def _offer(self, name: str, content: bytes) -> list[str]:
        """Put the course's new version beside the learner's, once; nothing is said of it again."""
        stem = name.removesuffix(".ipynb")
        for number in itertools.count(1):
            beside = f"{stem} (new version{f' {number}' if number > 1 else ''}).ipynb"
            if self.written.get(beside) == _hash(content):
                return []
            if self._may_replace(beside):
                self._put(beside, content)
                return [f"{name} has changed in the course; yours stays, the new one is '{Path(beside).name}'."]
        raise AssertionError("there is always another number")

    def _put(self, name: str, content: bytes) -> None:
        """Write a copy and record it. Each file is replaced at once, so an interruption leaves no half of one."""
        if _hash_of(self.folder / name) != _hash(content):
            _write(self.folder / name, content)
        if self.written.get(name) != _hash(content):
            self.written[name] = _hash(content)
            _write(self.manifest, json.dumps(self.written, indent=1).encode())
        self._sign(content)

    def _sign(self, content: bytes) -> None:
        """Tell Jupyter that these outputs are the course's own, so that it trusts them without asking."""
        import nbformat

        book = nbformat.reads(content.decode("utf8"), as_version=4)
        with notary() as keeper:
            if not keeper.check_signature(book):
                keeper.sign(book)


@contextlib.contextmanager
def notary() -> Iterator[Any]:
    """Jupyter's record of trusted outputs, closed at the end: by itself it leaves its database open."""
    from nbformat.sign import NotebookNotary

    keeper = NotebookNotary()
    try:
        yield keeper
    finally:
        keeper.store.close()


def _hash(content: bytes) -> str:
    """Hash of what a notebook's cells and outputs say; of the bytes, where it is not a readable notebook."""
    try:
        cells = [
            [cell["cell_type"], cell["source"], [{**out, "execution_count": None} for out in cell.get("outputs", [])]]
            for cell in json.loads(content)["cells"]
        ]
    except (ValueError, KeyError, TypeError):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(json.dumps(_joined(cells), sort_keys=True).encode()).hexdigest()


def _joined(value: Any) -> Any:
    """Text that a notebook file holds as a list of lines, as one string; so it may be stored either way."""
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return "".join(value)
    if isinstance(value, list):
        return [_joined(each) for each in value]
    return {key: _joined(each) for key, each in value.items()} if isinstance(value, dict) else value


def _hash_of(path: Path) -> str | None:
    return _hash(path.read_bytes()) if path.exists() else None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def main() -> int:
    """Refresh all copies, or start one again; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("refresh", "again"), default="refresh")
    parser.add_argument("notebook", nargs="?", default="", help="for again: lab2, 12.1, or solutions/lab2")
    options = parser.parse_args()
    workbook = Workbook()
    told = [workbook.again(options.notebook)] if options.command == "again" else workbook.refresh()
    print(*told, sep="\n", end="\n" if told else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
