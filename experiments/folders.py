"""Measure what docs/results.md quotes about real images; it goes to tlcourse/measurements/data/folders.json.

    make results REAL=path/to/folders      or      python experiments/folders.py path/to/folders

The folder holds hymenoptera/, flowers/, cats_dogs/ and chest_xray/, as far as they are there. What is measured
already, by the same command, is not measured again.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tlcourse" / "measurements" / "data" / "folders.json"
# What `train` is told about each folder, besides the architecture; fewer seeds and epochs where a run is long.
OPTIONS = {
    "hymenoptera": ["--seeds", "5"],
    "flowers": ["--seeds", "3"],
    "cats_dogs": ["--seeds", "3"],
    "chest_xray": ["--seeds", "3", "--epochs", "1", "--group", r"(person\d+|IM-\d+)"],
}


def main() -> int:
    """Measure every folder that is there and not measured yet; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, nargs="?", help="the folder that holds the image folders")
    parser.add_argument("--again", action="store_true", help="measure also what is measured already")
    options = parser.parse_args()
    if options.real is None:
        print("no folder of real images was named, so the results of the last run stay: make results REAL=FOLDER")
        return 0
    results = json.loads(TARGET.read_text(encoding="utf8")) if TARGET.exists() else {}
    for name, extra in OPTIONS.items():
        command = ["train", name, "--arch", "efficientnet_lite0", *extra]
        if not (options.real / name).is_dir():
            print(f"{name}: not in {options.real}, left as it is")
        elif results.get(name, {}).get("command") != _shown(command) or options.again:
            results[name] = _measure(options.real, command)
            TARGET.parent.mkdir(exist_ok=True)
            TARGET.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    return 0


def _measure(real: Path, command: list[str]) -> dict[str, Any]:
    """Run the command line on one folder and collect what it wrote."""
    out = ROOT / "runs" / "results" / command[1]
    told = [command[0], str(real / command[1]), *command[2:], "--out", str(out)]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tlhelpers", *told], check=True)
    measured = json.loads((out / "seeds.json").read_text(encoding="utf8"))
    return {
        "command": _shown(command),
        "seeds": measured["seeds"],
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "settings": measured["settings"],
        "machine": f"{platform.system()} {platform.machine()}, {measured['cores']} cores",
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "pillow")},
    }


def _shown(command: list[str]) -> str:
    """The command as a reader types it, for a folder that holds the image folders."""
    quoted = [f"'{word}'" if "\\" in word else word for word in command[2:]]
    return " ".join(["tlhelpers", command[0], f"FOLDER/{command[1]}", *quoted])


if __name__ == "__main__":
    sys.exit(main())
