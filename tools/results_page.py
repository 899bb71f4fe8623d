"""Fill the tables of README.md and docs/ from the results files and the labs: no number in them is typed by hand.

python tools/results_page.py            rewrite the tables
python tools/results_page.py --check    only say whether they are up to date
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tlcourse" / "measurements" / "data"
ABOUT = {
    "00_start_here": ("Start here", "a check of the machine, a first prediction"),
    "12_1_concept": (
        "12.1 The concept",
        "what transfers, and how much data and time it saves",
    ),
    "12_2_1_feature_extraction": ("12.2.1 Feature extraction", "a frozen backbone whose features are computed once"),
    "12_2_2_fine_tuning": ("12.2.2 Fine-tuning", "how fast, how deep and for how long to train the backbone"),
    "12_2_3_modern_practice": (
        "12.2.3 Modern practice",
        "probe first, averaged weights, LoRA, choosing a network, transformers",
    ),
    "12_3_pretrained_models": (
        "12.3 Pre-trained models",
        "five families of networks, their costs, their preprocessing",
    ),
    "12_4_1_image_classification": (
        "12.4.1 Image classification",
        "a project with baselines, data leaks and a rare class",
    ),
    "12_4_2_object_detection": ("12.4.2 Object detection", "boxes, a small Faster R-CNN, mean average precision"),
    "12_4_3_medical_imaging": ("12.4.3 Medical imaging", "a distant domain, and why accuracy misleads"),
    "12_4_4_language": ("12.4.4 Language", "the same method with a sentence encoder"),
    "12_5_practical_example": (
        "12.5 A worked example",
        "from a folder of images to a saved model, usual mistakes included",
    ),
    "12_6_takeaways": ("12.6 What to remember", "a decision guide, fifteen claims and what was measured, a self-test"),
    "12_7_explorers": ("12.7 Explorers", "three questions, and controls to answer them with"),
    "glossary": ("Glossary", "the terms of the chapter, one sentence each"),
    "lab1_concepts": ("Lab 1: the concepts", "four questions, four small experiments"),
    "lab2_vgg16_features": (
        "Lab 2: VGG16 as a feature extractor",
        "compute features once; classify, compare and plot them",
    ),
    "lab3_resnet34_last_two_blocks": (
        "Lab 3: ResNet34's last two blocks",
        "train exactly two blocks, and prove it",
    ),
    "lab4_scratch_vs_transfer": (
        "Lab 4: from scratch or with transfer",
        "a fair comparison of time and accuracy, over several seeds",
    ),
    "lab5_xray_pneumonia": (
        "Lab 5: pneumonia on chest X-rays",
        "fine-tuning, threshold, intervals by patient, one look at the test set",
    ),
}


def main() -> int:
    """Rewrite or compare; returns the exit code."""
    stale = []
    for page in PAGES:
        old = page.read_text(encoding="utf8")
        new = filled(page, old)
        if old != new:
            stale.append(page.name)
            if "--check" not in sys.argv[1:]:
                page.write_text(new, encoding="utf8")
    print(f"tables changed: {', '.join(stale)}" if stale else "all tables are up to date")
    return int(bool(stale) and "--check" in sys.argv[1:])


def filled(page: Path, text: str) -> str:
    """The text of a page with its tables made anew.

    Raises:
        SystemExit: if the page lacks the comments between which a table stands.
    """
    for name, table in PAGES[page]().items():
        pattern = rf"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)"
        text, count = re.subn(pattern, lambda match, table=table: match[1] + table + match[2], text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{page.name} needs '<!-- {name}: ... -->' and '<!-- end of {name} -->' once each")
    return text


def results_tables() -> dict[str, str]:
    """The tables of docs/results.md; most are made beside the code that measures."""
    sys.path.insert(0, str(ROOT / "experiments"))
    import benchmark
    import choosing
    import fuzz_images
    import hospitals
    import kill_test
    import lora
    import odd_inputs
    import pneumonia
    import recipes
    import refinements
    import shift
    import transfer

    distance, ranks = choosing.tables()
    return {
        "networks": networks_table(),
        "transfer": transfer.tables(),
        "distance": distance,
        "ranks": ranks,
        "refinements": refinements.table(),
        "shift": shift.table(),
        "lora": lora.table(),
        "recipes": recipes.table(),
        "hospitals": hospitals.table(),
        "choices": hospitals.choices(),
        "pneumonia": pneumonia.table(),
        "benchmark": benchmark.tables(),
        "kills": kill_test.table(_read("kills.json").get("rows", [])),
        "odd": odd_inputs.table(_read("odd_inputs.json").get("counts", {})),
        "fuzz": fuzz_images.table(_read("fuzz.json").get("counts", {})),
    }


def notebooks_table() -> str:
    """A row for each notebook: what it is about and how long it takes; for a lab, with its answers in place."""
    lines = ["| notebook | what it is about | seconds |", "|---|---|---|"]
    times = _read("run_times.json")
    for path in times:
        folder, _, name = path.partition("/")
        if folder != "solutions":  # a lab's own time is that of its solution: blank it computes nothing
            title, text = ABOUT[name]
            seconds = times[f"solutions/{name}" if folder == "labs" else path]["seconds"]
            lines.append(f"| [{title}]({path}.ipynb) | {text} | {seconds} |")
    return "\n".join(lines) + "\n"


def labs_table() -> str:
    """A row for each lab: minutes, exercises, lines to write and points of the core, and of the extension."""
    import labs

    kinds = ("minutes", "exercises", "lines", "points")
    lines = [f"| lab | {' | '.join(kinds)} | extension: {' | '.join(kinds)} |", "|---" * 9 + "|"]
    for source in sorted((ROOT / "solutions" / "source").glob("*.py")):
        found = labs.measures(source)
        cells = [str(found.get(f"{part} {kind}", 0)) for part in ("core", "extension") for kind in kinds]
        lines.append(f"| {ABOUT[source.stem][0]} | " + " | ".join(cells) + " |")
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


PAGES: dict[Path, Callable[[], dict[str, str]]] = {
    ROOT / "README.md": lambda: {"notebooks": notebooks_table()},
    ROOT / "docs" / "results.md": results_tables,
    ROOT / "docs" / "teaching.md": lambda: {"labs": labs_table()},
}


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf8")) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
