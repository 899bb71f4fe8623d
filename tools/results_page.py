"""Fill the README's tables from the results files, so that no number in it is typed by hand.

python tools/results_page.py            rewrite the tables
python tools/results_page.py --check    only say whether they are in step
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import benchmark
import fuzz_images
import kill_test
import pneumonia
import transfer

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "tlcourse" / "measurements" / "data"
ABOUT = {
    "00_start_here": ("Start here", "checks the machine, shows the map, makes a first prediction"),
    "12_1_concept": (
        "12.1 The concept",
        "looks inside a network; measures less data, less time, better generalisation",
    ),
    "12_2_1_feature_extraction": ("12.2.1 Feature extraction", "freezing that is proved, features computed once"),
    "12_2_2_fine_tuning": ("12.2.2 Fine-tuning", "rates, depth, data, domains, schedules: measured, with a guide"),
    "12_3_pretrained_models": ("12.3 Pre-trained models", "five families, what they cost, and how to use them rightly"),
    "12_4_1_image_classification": ("12.4.1 Image classification", "a project with baselines, leaks and a rare class"),
    "12_4_2_object_detection": ("12.4.2 Object detection", "boxes, a small Faster R-CNN, mean average precision"),
    "12_4_3_medical_imaging": ("12.4.3 Medical imaging", "when the domain is far, and why accuracy misleads"),
    "12_4_4_language": ("12.4.4 Language", "the same recipe with a sentence encoder"),
    "12_5_practical_example": ("12.5 A worked example", "from a folder of images to a saved model, mistakes included"),
    "12_6_takeaways": ("12.6 What to remember", "a recipe, the table of claims, a self-test"),
    "12_7_explorers": ("Explorers", "depth, data and rate; feature maps; learning rates; heat maps: to play with"),
    "lab1_concepts": ("Lab 1: the concepts", "three questions, answered by small experiments"),
    "lab2_vgg16_features": (
        "Lab 2: VGG16 as a feature extractor",
        "features computed once: classified, compared, drawn",
    ),
    "lab3_resnet34_last_two_blocks": (
        "Lab 3: ResNet34's last two blocks",
        "exactly two blocks train, and you prove it",
    ),
    "lab4_scratch_vs_transfer": (
        "Lab 4: from scratch or by transfer",
        "a comparison that is fair, with its spread",
    ),
    "lab5_xray_pneumonia": (
        "Lab 5: pneumonia on chest X-rays",
        "audit, threshold, intervals, heat maps, a model card",
    ),
}


def main() -> int:
    """Rewrite or compare; returns the exit code."""
    old = README.read_text(encoding="utf8")
    new = filled(old)
    if "--check" in sys.argv[1:]:
        print("README.md is in step" if old == new else "README.md is not in step: python tools/results_page.py")
        return int(old != new)
    README.write_text(new, encoding="utf8")
    return 0


def filled(text: str) -> str:
    """The README with its tables made anew."""
    tables = {
        "notebooks": notebooks_table(),
        "networks": networks_table(),
        "transfer": transfer.table(),
        "folders": folders_table(),
        "pneumonia": pneumonia.table(),
        "benchmark": benchmark.tables(),
        "kills": kill_test.table(_read("kills.json").get("rows", [])),
        "fuzz": fuzz_images.table(_read("fuzz.json").get("counts", {})),
    }
    for name, table in tables.items():
        pattern = rf"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)"
        text, count = re.subn(pattern, lambda match, table=table: match[1] + table + match[2], text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"README.md needs the lines '<!-- {name}: ... -->' and '<!-- end of {name} -->' once each")
    return text


def notebooks_table() -> str:
    """A row for each notebook: what it is and how long it takes, for a lab with its answers in place."""
    lines = ["| notebook | what it does | seconds |", "|---|---|---|"]
    times = _read("run_times.json")
    for path in times:
        folder, _, name = path.partition("/")
        if folder != "solutions":  # a lab's own time is that of its solution: blank it computes nothing
            title, text = ABOUT[name]
            seconds = times[f"solutions/{name}" if folder == "labs" else path]["seconds"]
            lines.append(f"| [{title}]({path}.ipynb) | {text} | {seconds} |")
    return "\n".join(lines) + "\n"


def networks_table() -> str:
    """A row for each network that the package carries."""
    lines = ["| network | parameters | file | top-1 | top-5 | trained for | command |", "|---|---|---|---|---|---|---|"]
    for path in sorted((ROOT / "tlhelpers" / "weights").glob("*.json")):
        facts = json.loads(path.read_text(encoding="utf8"))
        count, size = f"{facts['parameters'] / 1e6:.1f} million", f"{facts['bytes'] / 1e6:.1f} MB"
        scores, details = (f"{facts[key]:.1%}" for key in ("top1", "top5")), facts["details"]
        cells = (path.stem, count, size, *scores, details["took"].partition(";")[0] + ")", f"`{details['command']}`")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def folders_table() -> str:
    """A row for each real folder: accuracy over seeds with its spread, time, and the command."""
    results = _read("folders.json")
    lines = [
        "| data | scored on | seeds | accuracy | balanced | seconds a run | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        seeds = row["seeds"]
        has_test = "test_accuracy" in seeds[0]
        key = "test_accuracy" if has_test else "val_accuracy_last"
        part = f"test, {seeds[0]['test_images']}" if has_test else f"val, {seeds[0]['val_images']}, last epoch"
        balanced = _spread(seeds, "test_balanced_accuracy") if has_test else "–"
        seconds = f"{statistics.mean(s['seconds'] for s in seeds):.0f}"
        cells = (name, part, len(seeds), _spread(seeds, key), balanced, seconds, f"`{row['command']}`")
        # A bar ends a cell of a table, also inside `code`.
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _spread(seeds: list[dict[str, Any]], key: str) -> str:
    values = [100 * seed[key] for seed in seeds]
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} %"


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf8")) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
