"""Try inputs one step off the marked path, and count what becomes of them.

    python experiments/odd_inputs.py [--write]

The inputs are the rows of tests/data/odd_inputs.tsv: images in odd forms, loaders with wrong labels, wrapped networks,
places that cannot be written, options without a meaning. Each must give the right result, or be refused with a sentence
that names what to look at. `--write` puts the counts into tlcourse/measurements/data/odd_inputs.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import tempfile
import warnings
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import fuzz_images

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tlcourse" / "measurements" / "data" / "odd_inputs.json"
OUTCOMES = ("right", "refused", "WRONG", "RAW ERROR")


def table(counts: dict[str, dict[str, int]]) -> str:
    """The counts as Markdown."""
    return fuzz_images.table(counts, "kind of input", "tried", OUTCOMES)


def try_all(home: Path) -> tuple[dict[str, dict[str, int]], list[str]]:
    """The outcomes of each kind, and what went wrong."""
    sys.path.insert(0, str(ROOT / "tests"))
    os.chdir(home)
    os.environ |= {"HOME": str(home), "USERPROFILE": str(home), "TQDM_DISABLE": "1"}
    import odd

    from tlhelpers import device

    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(OUTCOMES, 0))
    space, wrong = odd.Space(home), []
    for number, kind, expected, code in odd.rows():
        device.use_profile("quick", device="cpu", precision="fp32")
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("error")
            result, what = odd.outcome(code, expected, space)
        counts[kind.lstrip("0123456789 ")][result] += 1
        wrong += [f"row {number}: {code}\n    {what}"] * (result not in OUTCOMES[:2])
    return counts, wrong


def main() -> int:
    """Run all rows; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the counts into the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        counts, wrong = try_all(Path(place))
        os.chdir(ROOT)
    print(table(counts), *wrong, sep="\n")
    if options.write:
        from tlhelpers.files import atomic_write

        machine = f"{platform.system()}, torch {version('torch')}, Pillow {version('pillow')}"
        facts = {"command": "python experiments/odd_inputs.py --write", "machine": machine, "counts": counts}
        with atomic_write(TARGET) as file:
            file.write((json.dumps(facts, indent=1) + "\n").encode())
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
