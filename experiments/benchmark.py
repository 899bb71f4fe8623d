"""Time training with this package against its peers: the same data, weights, seeds, epochs and augmentation.

    python experiments/benchmark.py                          what is missing of its results file
    python experiments/benchmark.py --cases a10 b --rounds 5
    python experiments/benchmark.py --data FOLDER            the small cases on FOLDER/train and FOLDER/val
    python experiments/benchmark.py --table                  print the tables

Every training runs in a process of its own. In a round each contestant has one turn, so that what else the machine does
hits all alike; the seed is the number of the round. The clock runs from the folder of JPEGs to the trained network:
imports and loading of weights are outside, everything else (scanning, decoding, precomputing) is inside. Afterwards
one and the same code scores the validation images, in fp32.

The peers come with `pip install -e '.[bench]'`; those that are not there are left out. Without --data the images are
the data set safari, written as JPEGs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tlcourse" / "measurements" / "data" / "benchmark.json"
RUNS = ROOT / "runs" / "benchmark"
OURS, PLAIN = "tlhelpers", "plain loop"

# case -> what it is, and the job; "images" are training images
HEAD, LAST_TWO = ("fc.",), ("layer4.1.", "layer4.2.", "fc.")
CASES: dict[str, dict[str, Any]] = {
    "a10": {"text": "frozen ResNet18, 10 epochs", "arch": "resnet18", "trainable": HEAD, "epochs": 10},
    "a25": {"text": "frozen ResNet18, 25 epochs", "arch": "resnet18", "trainable": HEAD, "epochs": 25},
    "b": {"text": "last two blocks of ResNet34, 10 epochs", "arch": "resnet34", "trainable": LAST_TWO, "epochs": 10},
    "c": {"text": "all of ResNet18, 5 epochs", "arch": "resnet18", "trainable": (), "epochs": 5, "augment": True},
    "d": {
        **{"text": "all of ResNet18, 5,000 images, 2 epochs", "arch": "resnet18", "trainable": (), "epochs": 2},
        **{"augment": True, "images": 5000, "size": 64},
    },
}
GROWTH = {
    f"g{images}x{epochs}": {
        **{"text": f"{images} images, {epochs} epochs", "arch": "resnet18", "trainable": HEAD},
        **{"epochs": epochs, "images": images, "size": 64, "only": (OURS, PLAIN)},
    }
    for images, epochs in ((250, 1), (250, 5), (250, 25), (1000, 5), (5000, 5))
}
ALL = CASES | GROWTH
SMALL, VALIDATION = 244, 153  # images, as many as in the ants and bees of PyTorch's tutorial


def main() -> int:
    """Measure, or print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=list(ALL), choices=list(ALL))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="only these contestants")
    parser.add_argument("--data", type=Path, help="a folder of JPEGs with train and val, for the cases a, b and c")
    parser.add_argument("--table", action="store_true", help="print the tables and measure nothing")
    parser.add_argument("--plot", type=Path, help="write the figure of how time and memory grow to this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(json.loads(options.one))))
        return 0
    if options.plot:
        growth_chart().savefig(options.plot)
        return 0
    if not options.table:
        measure(options.cases, options.rounds, options.only, options.data)
    print(tables())
    return 0


def measure(cases: Sequence[str], rounds: int, only: Sequence[str] | None, data: Path | None) -> None:
    """Run what is missing; every result is written as soon as it is there."""
    from peers import CONTESTANTS, NEEDS

    found = read()
    known = {(row["case"], row["contestant"], row["round"]) for row in found}
    there = [name for name in CONTESTANTS if name not in NEEDS or find_spec(NEEDS[name]) is not None]
    for name in set(CONTESTANTS) - set(there):
        print(f"{name}: not installed, left out")
    for case in cases:
        folder = images_for(case, data)
        for number in range(rounds):
            for name in there:
                wanted = name in (only or there) and name in ALL[case].get("only", there)
                if not wanted or (case, name, number) in known:
                    continue
                row = _in_a_process(case, name, number, folder)
                print(f"{case} round {number} {name}: {row['seconds']:.1f} s, {row['accuracy']:.1%}", flush=True)
                found.append(row)
                write(found)


def _in_a_process(case: str, name: str, number: int, folder: Path) -> dict[str, Any]:
    asked = json.dumps({"case": case, "contestant": name, "round": number, "folder": str(folder)})
    command = [sys.executable, str(Path(__file__).resolve()), "--one", asked]
    environment = {**os.environ, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{case}, {name}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_one(asked: dict[str, Any]) -> dict[str, Any]:
    """Train once; what libraries print goes to the void."""
    import contextlib
    import io
    import warnings

    import peers
    import torch
    from torch.utils.data import DataLoader

    case = ALL[asked["case"]]
    job = peers.Job(
        folder=Path(asked["folder"]),
        arch=case["arch"],
        size=case.get("size", 224),
        epochs=case["epochs"],
        batch_size=32,
        lr=1e-2 if case["trainable"] == HEAD else 3e-3,
        seed=asked["round"],
        trainable=tuple(case["trainable"]),
        augment=case.get("augment", False),
    )
    torch.manual_seed(asked["round"])
    warnings.simplefilter("ignore")
    model = job.network()
    train = peers.CONTESTANTS[asked["contestant"]]
    _import_what_it_needs(asked["contestant"])
    before = peak_memory()
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train(job, model)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds, memory = time.perf_counter() - start, peak_memory()
    model.eval().float()
    right = count = 0
    with torch.inference_mode():
        for images, labels in DataLoader(job.folders()[1], 64):
            there = next(model.parameters()).device
            right += int((model(images.to(there)).argmax(1).cpu() == labels).sum())
            count += len(labels)
    return {
        **{key: asked[key] for key in ("case", "contestant", "round")},
        "seconds": round(seconds, 2),
        "accuracy": round(right / count, 4),
        "peak_mb": round(memory),
        "peak_mb_before": round(before),
        "train_images": len(job.folders()[0]),
    }


def _import_what_it_needs(contestant: str) -> None:
    import importlib

    names = {
        OURS: ["tlhelpers.training", "tlhelpers.data.folder"],
        "fastai": ["fastai.vision.all"],
        "Lightning": ["lightning"],
        "Hugging Face Trainer": ["transformers.trainer"],
    }
    for name in names.get(contestant, []):
        importlib.import_module(name)
    if contestant == OURS:
        import tlhelpers as tl

        tl.current_profile()  # the probe of the machine, once in a process


def peak_memory() -> float:
    """The most memory that this process has had so far, in MB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def images_for(case: str, data: Path | None) -> Path:
    """The folder of JPEGs for a case, written if it is not there."""
    count, size = ALL[case].get("images", SMALL), ALL[case].get("size", 224)
    if "images" not in ALL[case] and data is not None:
        return data
    folder = RUNS / f"safari_{count}_{size}"
    if not (folder / "whole").exists():
        _write_images(folder, count, round(size * 1.4))
        (folder / "whole").touch()
    return folder


def _write_images(folder: Path, count: int, side: int) -> None:
    import tlhelpers as tl

    data = tl.load_data("safari", size=side, per_class=-(-count // 8))
    for split, wanted in ((data.train, count), (data.val, VALIDATION)):
        # The first of each class, then the second of each, and so on, so that the classes are of equal size.
        of_class = [(split.labels == label).nonzero().flatten().tolist() for label in range(8)]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*of_class))
        for index in itertools.islice((index for index in turns if index is not None), wanted):
            path = folder / split.name / split.classes[int(split.labels[index])] / f"{index:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            split.image(index).save(path, quality=90)


# --- results ----------------------------------------------------------------------------------------------------


def read() -> list[dict[str, Any]]:
    """What has been measured."""
    return json.loads(TARGET.read_text(encoding="utf8"))["runs"] if TARGET.exists() else []


def write(rows: list[dict[str, Any]]) -> None:
    """Put the results into their file, with the machine beside them."""
    import tlhelpers as tl
    from tlhelpers.files import atomic_write

    names = ("torch", "torchvision", "fastai", "lightning", "transformers")
    facts = {
        "command": "python experiments/benchmark.py",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "profile": str(tl.current_profile()).splitlines(),
        "versions": {name: version(name) for name in names if find_spec(name) is not None},
    }
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    with atomic_write(TARGET) as file:
        file.write(f'{json.dumps(facts, indent=1)[:-2]},\n "runs": [\n{lines}\n ]\n}}\n'.encode())


def tables() -> str:
    """For each case: seconds (best and median), how many times faster ours is, accuracy, memory."""
    rows = read()
    if not rows:
        return "Not measured yet.\n"
    lines = [
        "| case | loop | rounds | seconds, best (median) | tlhelpers is faster by | accuracy | memory, ÷ plain's |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        mine = [row for row in rows if row["case"] == case]
        names = sorted({row["contestant"] for row in mine}, key=lambda name: (name != OURS, name != PLAIN, name))
        memory = {name: max(row["peak_mb"] for row in mine if row["contestant"] == name) for name in names}
        for name in names:
            turns = [row for row in mine if row["contestant"] == name]
            seconds = [row["seconds"] for row in turns]
            best = min(row["seconds"] for row in mine if row["contestant"] == OURS)
            scores = [100 * row["accuracy"] for row in turns]
            spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
            cells = (
                CASES[case]["text"] if name == names[0] else "",
                name,
                str(len(turns)),
                f"{min(seconds):.1f} ({statistics.median(seconds):.1f})",
                f"{min(seconds) / best:.1f} ×" if name != OURS else "",
                f"{statistics.mean(scores):.1f}{spread} %",
                f"{memory[name]:,} MB" + (f", {memory[name] / memory[PLAIN]:.2f}" if PLAIN in memory else ""),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def growth_chart() -> Any:
    """Seconds and memory, against images (5 epochs) and against epochs (250 images)."""
    from tlhelpers.plots import BLUE, GREY, Chart

    rows = [row for row in read() if row["case"] in GROWTH]
    chart = Chart("How time and memory grow with images and epochs, for tl.fit and the plain loop", figsize=(9, 6))
    axes = chart.subplots(2, 2)
    for column, (kind, fixed) in enumerate((("images", ("epochs", 5)), ("epochs", ("images", 250)))):
        cases = {name: case for name, case in GROWTH.items() if case[fixed[0]] == fixed[1]}
        for line, (key, unit) in enumerate((("seconds", "seconds"), ("peak_mb", "peak memory (MB)"))):
            axis = axes[line][column]
            for contestant, colour in ((PLAIN, GREY), (OURS, BLUE)):
                turns = [
                    (cases[row["case"]][kind], row[key])
                    for row in rows
                    if row["contestant"] == contestant and row["case"] in cases
                ]
                best = sorted({at: min(value for a, value in turns if a == at) for at, _ in turns}.items())
                axis.plot(*zip(*best, strict=True), marker="o", color=colour, label=contestant)
            axis.set(
                xlabel=kind,
                ylabel=unit,
                ylim=(0, 1.1 * axis.get_ylim()[1]),
                title=f"{fixed[1]} {fixed[0]}" if line == 0 else "",
            )
            axis.grid(alpha=0.3)
    axes[0][0].legend()
    chart.suptitle("A frozen ResNet18 with a new head, 64 px, on the CPU: the best of all rounds")
    return chart


if __name__ == "__main__":
    sys.exit(main())
