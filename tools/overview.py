"""Draw docs/overview.jpg, the figure of README.md: images of safari, and what transfer brings on real photographs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from matplotlib.ticker import PercentFormatter
from PIL import Image

import tlcourse as tc
import tlhelpers as tl

TARGET = Path(__file__).resolve().parents[1] / "docs" / "overview.jpg"
METHODS = {"scratch": "from scratch", "frozen": "frozen backbone", "everything": "fine-tuned"}
COLOURS = {"scratch": tl.plots.ORANGE, "frozen": tl.plots.BLUE, "everything": tl.plots.GREEN}
DATA = {
    "cats_dogs": "cats, dogs",
    "hymenoptera": "ants, bees",
    "flowers": "5 flowers",
    "safari": "drawings",
    "chest_xray": "chest X-rays",
}


def main() -> int:
    """Put the two charts together; nothing is trained, the results file is read."""
    gains = accuracies()
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
    page.save(TARGET, quality=92)
    return 0


def accuracies() -> tl.plots.Chart:
    """Three bars for each data set: mean and standard deviation over the seeds."""
    runs = tc.load_results("transfer").scored
    score = runs[runs["network"] == "resnet18"].groupby(["method", "data"])["test"].agg(["mean", "std"])
    chart = tl.plots.Chart("Balanced accuracy from scratch, frozen and fine-tuned on five data sets.", figsize=(8, 3.4))
    axis = chart.subplots()
    for place, (method, name) in enumerate(METHODS.items()):
        rows = score.loc[method].loc[list(DATA)]
        left = [i + 0.27 * (place - 1) for i in range(len(DATA))]
        bars = axis.bar(left, rows["mean"], 0.25, yerr=rows["std"], label=name, color=COLOURS[method], ecolor="grey")
        axis.bar_label(bars, [f"{value:.0%}" for value in rows["mean"]], label_type="center", color="white", fontsize=8)
    axis.set_xticks(range(len(DATA)), DATA.values())
    axis.set(ylabel="balanced accuracy", title="ResNet18 at 64 px, on test images that it has never seen (five seeds)")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(ncols=3, loc="upper left", bbox_to_anchor=(0, -0.1), frameon=False)
    return chart


if __name__ == "__main__":
    sys.exit(main())
