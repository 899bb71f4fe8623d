"""Notebook pairs: `source/NAME.py` (py:percent, what authors edit) and `NAME.ipynb` (made from it, with outputs).

    python tools/notebooks.py sync [PATTERN]    execute the sources and write the notebooks
    python tools/notebooks.py prose [PATTERN]   copy changed prose into the notebooks, without executing anything
    python tools/notebooks.py run [PATTERN]     execute the sources and write nothing
    python tools/notebooks.py check [PATTERN]   compare every pair, and look for what must not be published
    python tools/notebooks.py sizes [PATTERN]   words, visible code, trainings, drawings and seconds of each page

Only notebooks whose path contains PATTERN are taken.
"""

from __future__ import annotations

import argparse
import base64
import copy
import functools
import hashlib
import importlib.metadata
import io
import json
import math
import os
import queue
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pandas as pd
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from tlcourse.measurements import results
from tlcourse.measurements.claims import CLAIM_OUTPUTS, NOT_SO

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("chapter12", "labs", "solutions")
TIMES = ROOT / "tlcourse" / "measurements" / "data" / "run_times.json"
# The first cell of every notebook where the repository's address is set: Colab and Kaggle get nothing but the notebook.
SETUP = """try:
    import tlcourse
except ImportError:
    %pip install --quiet "tlhelpers[course,language] @ git+{address}"
    import tlcourse"""
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_LIMIT = 600  # seconds; one cell that takes longer is stuck
SIZE_LIMIT = 600_000  # bytes of a notebook's file; a larger one is slow to open, to clone and to compare
# With the course's own data and networks every finding of the notebooks must hold; with others it may turn out wrong.
COURSE_SETTINGS = not {"TL_DATA", "TL_ARCH"} & set(os.environ) and os.environ.get("TL_PROFILE", "quick") == "quick"
# Paths of whoever ran the notebook: /home/ada, /Users/ada, C:\Users\ada, temporary folders, pip's folders.
MACHINE_PATH = re.compile(r"(/home/|/Users/|/root/|/tmp/|/var/folders/|[A-Z]:\\\\?Users|site-packages)")


def main() -> int:
    """Run one of the commands; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("sync", "prose", "run", "check", "sizes"))
    parser.add_argument("pattern", nargs="?", default="")
    options = parser.parse_args()
    chosen = [path for path in sources() if options.pattern in path.relative_to(ROOT).as_posix()]
    if not chosen:
        print(f"no notebook's path contains '{options.pattern}'")
        return 1
    if options.command == "check":
        faults = [fault for path in chosen for fault in pair_faults(path)]
        print("\n".join(faults) if faults else f"{len(chosen)} pairs are in step")
        return 1 if faults else 0
    if options.command == "sizes":
        times = json.loads(TIMES.read_text(encoding="utf8"))
        rows = {
            name_of(path): {**sizes(path), "seconds": times.get(name_of(path), {}).get("seconds", 0)} for path in chosen
        }
        print(pd.DataFrame(rows).T.to_string())
        return 0
    if options.command == "prose":
        changed = [path for path in chosen if not take_over_prose(path)]
        write_claim_outputs(ROOT / "chapter12")
        print("\n".join(f"{path.name}: its code has changed too; sync it" for path in changed))
        return 1 if changed else 0
    return _execute_all(chosen, write=options.command == "sync")


def sources(root: Path = ROOT) -> list[Path]:
    """The py:percent source of every notebook of the course."""
    return sorted(path for folder in FOLDERS for path in (root / folder / "source").glob("*.py"))


def notebook_of(source: Path) -> Path:
    """The notebook that is made from a source: in the folder above it."""
    return source.parent.parent / f"{source.stem}.ipynb"


def source_of(notebook: Path) -> Path:
    """The source that a notebook is made from."""
    return notebook.parent / "source" / f"{notebook.stem}.py"


def name_of(source: Path) -> str:
    """The notebook's path without its ending, as the table of run times has it."""
    return notebook_of(source).relative_to(ROOT).with_suffix("").as_posix()


def orphans(root: Path = ROOT) -> list[Path]:
    """Notebooks without a source."""
    books = [path for folder in FOLDERS for path in (root / folder).glob("*.ipynb")]
    return sorted(path for path in books if not source_of(path).exists())


def build(source: Path) -> Any:
    """The notebook that a source describes, without outputs.

    Ids follow from contents, so that diffs stay small; those of a lab's answers and checks from the exercise's name, by
    which marking finds them.
    """
    book = jupytext.reads(source.read_text(encoding="utf8"), fmt="py:percent")
    book.metadata = _metadata()
    book.nbformat, book.nbformat_minor = 4, 5
    exercise = "none"
    for number, cell in reversed([*enumerate(book.cells)]):
        cell["id"] = hashlib.sha256(f"{number}{cell.source}".encode()).hexdigest()[:8]
        if kind := {"answer", "check"} & set(cell.metadata.get("tags", [])):
            exercise = found[1] if (found := re.search(r'lab\.check\(\s*"([\w-]+)"', cell.source)) else exercise
            cell["id"] = f"{kind.pop()}-{exercise}"
    code = [number for number, cell in enumerate(book.cells) if cell.cell_type == "code"]
    if code and source.is_relative_to(ROOT) and (address := repository()):
        book.cells.insert(code[0], nbformat.v4.new_code_cell(SETUP.format(address=address), id=f"setup-{source.stem}"))
    return book


def repository() -> str:
    """The address of the course's repository, which pyproject.toml sets as [project.urls] Repository; "" if not."""
    links = importlib.metadata.metadata("tlhelpers").get_all("Project-URL") or []
    return dict(link.split(", ", 1) for link in links).get("Repository", "")


def sizes(source: Path) -> dict[str, int]:
    """How long a page is: what a reader sees of it. Folded code and comments for authors do not count."""
    cells = build(source).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    words = len(re.sub(r"<!--.*?-->|[#*|`>-]", " ", prose, flags=re.DOTALL).split())
    code = [cell for cell in cells if cell.cell_type == "code"]
    seen = [cell.source for cell in code if not cell.metadata.get("jupyter", {}).get("source_hidden")]
    lines = [sum(bool(line.strip()) for line in text.splitlines()) for text in seen]
    every = "\n".join(cell.source for cell in code)
    trainings, drawings = (
        len(re.findall(pattern, every))
        for pattern in (r"tl\.(?:fit|train_within)\(", r"plots\.(?:blocks|flow|overlap)\(")
    )
    found = {"words": words, "minutes": round(words / 150 + sum(lines) / 20)}  # 150 words or 20 lines of code a minute
    found |= {
        "code lines": sum(lines),
        "longest cell": max(lines, default=0),
        "trainings": trainings,
        "drawings": drawings,
    }
    return found


def take_over_prose(source: Path) -> bool:
    """Copy a source's prose into its notebook and keep all outputs; False if code has changed and must be executed."""
    new, old = build(source), nbformat.read(notebook_of(source), as_version=4)
    new_code, old_code = ([cell for cell in book.cells if cell.cell_type == "code"] for book in (new, old))
    if [(cell.source, cell.metadata) for cell in new_code] != [(cell.source, cell.metadata) for cell in old_code]:
        return False
    for target, origin in zip(new_code, old_code, strict=True):
        target.update(outputs=origin.outputs, execution_count=origin.execution_count)
    nbformat.write(new, notebook_of(source))
    return True


class _Client(NotebookClient):
    """A client that asks for messages every second: with widgets it can miss the wake-up for one, and wait for ever."""

    async def async_start_new_kernel_client(self) -> Any:
        client = await super().async_start_new_kernel_client()
        for channel in (client.shell_channel, client.iopub_channel):
            channel.get_msg = functools.partial(_asking, channel.get_msg)
        return client


async def _asking(get_message: Callable[..., Any], timeout: float | None = None) -> Any:
    """The next message of a channel; `queue.Empty` after `timeout` seconds without one."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return await get_message(timeout=1)
        except queue.Empty:
            if time.monotonic() >= end:
                raise


def execute(book: Any, folder: Path) -> tuple[Any, float]:
    """An executed copy of a notebook and the seconds it took, run in `folder` by this interpreter.

    Raises:
        CellExecutionError: naming the cell that failed.
    """
    book = copy.deepcopy(book)
    os.environ["TQDM_DISABLE"] = "1"  # a finished progress bar is not worth storing
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # why: tlhelpers/__init__.py
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one of the same name elsewhere
    resources = {"metadata": {"path": str(folder)}}
    client = _Client(book, timeout=CELL_LIMIT, kernel_name="python3", resources=resources, record_timing=False)
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    book.metadata = _metadata()
    for cell in book.cells:  # a widget ends with its kernel: its stored view would show an error; its text stays
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return book, seconds


def fit_size(book: Any) -> Any:
    """The notebook with fewer colours, then fewer pixels in its larger figures, as far as SIZE_LIMIT asks for."""
    outputs = [
        output for cell in book.cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})
    ]
    full = [output.data["image/png"] for output in outputs]
    for colours, scale in ((96, 1.0), (64, 0.85), (48, 0.7), (32, 0.55)):
        if len(nbformat.writes(book).encode()) <= SIZE_LIMIT:
            break
        for output, figure in zip(outputs, full, strict=True):
            if len(figure) > 40_000:
                output.data["image/png"] = _reduced(figure, colours, scale)
    return book


def _reduced(figure: str, colours: int, scale: float) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGB")
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _metadata() -> Any:
    return nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})


def _execute_all(chosen: list[Path], *, write: bool) -> int:
    times = json.loads(TIMES.read_text(encoding="utf8")) if TIMES.exists() else {}
    failed = 0
    for source in chosen:
        name = name_of(source)
        try:
            book, seconds = execute(build(source), source.parent.parent)
        except CellExecutionError as error:
            print(f"✗ {name}\n{error}")
            failed += 1
            continue
        unconfirmed = untrue(book)
        wrong = bool(unconfirmed) and COURSE_SETTINGS  # then the prose that goes on from these sentences is wrong
        print(f"{'✗' if wrong else '✓'} {name}  {seconds:.0f} s", *unconfirmed, sep="\n  ")
        if wrong:
            failed += 1
            continue
        if write:
            nbformat.write(fit_size(book), notebook_of(source))
            write_claim_outputs(ROOT / "chapter12")  # section 12.6, which comes after the others, reads them
            times[name] = {"seconds": round(seconds), "cores": os.cpu_count()}
    if write:
        TIMES.parent.mkdir(exist_ok=True)
        TIMES.write_text(json.dumps(dict(sorted(times.items())), indent=1) + "\n", encoding="utf8")
    return 1 if failed else 0


def write_claim_outputs(folder: Path) -> None:
    """Store what the tagged cells of a folder's notebooks printed, for `table_of_claims`."""
    text = json.dumps(claim_outputs(folder), indent=1, sort_keys=True)
    (results.FOLDER / CLAIM_OUTPUTS).write_text(text + "\n", encoding="utf8", newline="\n")


def claim_outputs(folder: Path) -> dict[str, list[str]]:
    """For each claim the notebook whose cell tests it, and what the cell printed when it was last executed."""
    found = {}
    for path in sorted(folder.glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
            for tag in cell["metadata"].get("tags", []):
                if tag.startswith("claim-"):
                    printed = "".join("".join(o["text"]) for o in cell.get("outputs", ()) if o.get("name") == "stdout")
                    found[tag.removeprefix("claim-")] = [path.stem, " ".join(printed.split())]
    return found


def untrue(book: Any) -> list[str]:
    """The findings in a notebook's outputs that its results do not confirm; see `tc.report_finding`."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    lines = [line for output in outputs for line in output.get("text", "").splitlines()]
    return [line for line in lines if line.startswith(NOT_SO)]


def pair_faults(source: Path) -> list[str]:
    """What is wrong with a pair, as sentences; empty if all is well."""
    stored = notebook_of(source)
    name = stored.name
    if not stored.exists():
        return [f"{name}: missing; `make sync` makes it"]
    try:
        book = nbformat.read(stored, as_version=4)
    except (nbformat.reader.NotJSONError, KeyError) as error:
        return [f"{name}: not a readable notebook ({error})"]
    faults = [*_differences(build(source), book), *_output_faults(book), *untrue(book)]
    if (size := stored.stat().st_size) > SIZE_LIMIT:
        faults.append(f"has {size / 1000:,.0f} kB, {SIZE_LIMIT / 1000:.0f} at most: fewer or smaller figures")
    return [f"{name}: {fault}" for fault in faults]


def _differences(expected: Any, found: Any) -> Iterator[str]:
    if found.metadata.get("kernelspec") != expected.metadata["kernelspec"]:
        yield f"its kernel is {found.metadata.get('kernelspec')}, expected {KERNEL['name']}"
    if len(found.cells) != len(expected.cells):
        yield f"has {len(found.cells)} cells, its source has {len(expected.cells)}; `make sync`"
    for number, (new, old) in enumerate(zip(expected.cells, found.cells, strict=False), start=1):
        for part in ("cell_type", "source", "metadata"):
            if new[part] != old[part]:
                yield f"cell {number} differs from the source in its {part.replace('_', ' ')}; `make sync`"
                return


def _output_faults(book: Any) -> Iterator[str]:
    expected = 0
    for number, cell in enumerate(book.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        expected += 1
        if cell.get("execution_count") is None:
            yield f"cell {number} was never executed, so nothing in it is compared"
        elif cell["execution_count"] != expected:
            yield f"cell {number} was executed out of order ({cell['execution_count']}, expected {expected})"
        for output in cell.outputs:
            yield from (f"cell {number} {fault}" for fault in _faults_of(output))


def _faults_of(output: Any) -> Iterator[str]:
    if output.output_type == "error":
        yield f"holds an error: {output.get('ename')}"
    if output.get("name") == "stderr":
        yield f"holds text from stderr: {output.text[:60]!r}"
    data = output.get("data", {})
    text = output.get("text", "") + "".join(str(v) for k, v in data.items() if not k.startswith("image/"))
    path = MACHINE_PATH.search(text)
    if path:
        yield f"shows a path of one machine: {text[path.start() : path.start() + 40]!r}"
    for kind in data:
        if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt"):
            yield f"has an image without alternative text ({kind})"


if __name__ == "__main__":
    sys.exit(main())
