"""Draw docs/overview.jpg, the figure of README.md: images of safari, and what transfer brings on real photographs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

import tlcourse as tc
import tlhelpers as tl

TARGET = Path(__file__).resolve().parents[1] / "docs" / "overview.jpg"
METHODS = {"everything": "fine-tuned", "frozen": "frozen", "scratch": "from scratch"}
DATA = {"flowers": "five kinds of flowers", "hymenoptera": "ants and bees"}


def main() -> int:
    """Put the two charts together; nothing is trained, the results file is read."""
    runs = tc.load_results("transfer").runs
    runs = runs[(runs["network"] == "resnet18") & runs["method"].isin(METHODS) & runs["data"].isin(DATA)]
    counts = ["all" if count != count else f"{count:g}" for count in runs["per_class"]]
    runs = runs.assign(method=runs["method"].map(METHODS), data=runs["data"].map(DATA), count=counts)
    gains = tc.plots.lines(
        runs,
        "count",
        "balanced_accuracy",
        "method",
        "data",
        title="ResNet18 on photographs that it has never seen: five seeds, 64 px",
        xlabel="training images of each class",
        ylabel="balanced accuracy, held-out images",
    )
    tl.use_profile("quick")
    train = tl.load_data("safari").train
    order = sorted(range(len(train)), key=lambda i: (train.labels[:i] == train.labels[i]).sum())[
        : 2 * len(train.classes)
    ]
    images = tl.plots.image_grid([train.image(i) for i in order], [train.classes[train.labels[i]] for i in order])
    figures = [Image.open(io.BytesIO(chart.png())).convert("RGB") for chart in (images, gains)]
    width = min(figure.width for figure in figures)
    figures = [figure.resize((width, figure.height * width // figure.width)) for figure in figures]
    page = Image.new("RGB", (width, sum(figure.height for figure in figures)), "white")
    page.paste(figures[0])
    page.paste(figures[1], (0, figures[0].height))
    page.save(TARGET, quality=90)
    return 0


if __name__ == "__main__":
    sys.exit(main())
