"""Make the book's page that needs no Python: the network as ONNX, its runtime for browsers, and ten drawings.

    python tools/browser_page.py [FOLDER]    default: build/extra/browser, from where `make book` takes it

The runtime is onnxruntime-web, from the npm registry, checked against the digest below. Without npm or a network the
page is left out, and the exit code is 0. What is large is made once.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import torch

import tlhelpers as tl

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = "onnxruntime-web@1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
EXAMPLES = {"bird": 5, "vehicle": 5}  # to train on; two more of each are new


class LastMaps(torch.nn.Module):
    """A network up to its last feature maps: (n, 3, s, s) -> (n, c, s/32, s/32); their means are the features."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The feature maps."""
        return self.network.forward_features(images)


def main() -> int:
    """Make the folder; returns the exit code."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "extra" / "browser"
    stamp, this = folder / "made-by.txt", hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text(encoding="utf8") != this:
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as scratch:
            if not fetch_runtime(Path(scratch)):
                return 0
            export_network(Path(scratch))
            write_examples(Path(scratch) / "examples")
            shutil.copytree(scratch, folder)
        stamp.write_text(this, encoding="utf8")
    shutil.copytree(ROOT / "book" / "browser", folder, dirs_exist_ok=True)
    return 0


def fetch_runtime(folder: Path) -> bool:
    """Fetch the runtime with npm; returns False, and says why, where that cannot be done."""
    if (npm := shutil.which("npm")) is None:
        print("The browser page is left out: npm is not installed.")
        return False
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", RUNTIME, "--silent", "--fetch-retries=1", "--pack-destination", scratch]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=300)
        archive = next(Path(scratch).glob("*.tgz"), None)
        if archive is None:
            print(f"The browser page is left out: npm could not fetch {RUNTIME}.")
            return False
        if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != SHA512:
            raise SystemExit(f"what npm fetched is not the {RUNTIME} that was checked; nothing of it is used")
        with tarfile.open(archive) as packed:
            for name in FILES:
                file = packed.extractfile(f"package/dist/{name}")
                assert file is not None
                (folder / name).write_bytes(file.read())
    return True


def export_network(folder: Path) -> None:
    """Write the frozen network, and what the page has to know of it."""
    network = tl.load_model("efficientnet_lite0")
    facts = network.card.preprocessing
    images = torch.zeros(1, 3, facts.size, facts.size)
    program = torch.onnx.export(LastMaps(network).eval(), (images,), dynamo=True, verbose=False, output_names=["map"])
    program.save(str(folder / "network.onnx"))
    (folder / "network.json").write_text(json.dumps(dataclasses.asdict(facts)), encoding="utf8")


def write_examples(folder: Path) -> None:
    """Draw the examples, and list them."""
    folder.mkdir(exist_ok=True)
    data = tl.load_data("safari", size=256, per_class=8, val_per_class=1, test_per_class=1)
    listed: list[dict[str, Any]] = []
    new: list[str] = []
    for name, count in EXAMPLES.items():
        rows = [i for i, label in enumerate(data.train.labels.tolist()) if data.classes[label] == name]
        files = [f"{name}{number}.png" for number in range(1, count + 3)]
        for file, row in zip(files, rows, strict=False):
            data.train.image(row).save(folder / file)
        listed.append({"name": name, "files": files[:count]})
        new += files[count:]
    listed.append({"name": "new", "files": new})
    (folder / "list.json").write_text(json.dumps(listed), encoding="utf8")


if __name__ == "__main__":
    sys.exit(main())
