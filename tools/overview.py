"""Draw docs/overview.jpg, the image in the README: the data set safari, a training history, a confusion matrix."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

import tlhelpers as tl
from tlhelpers.plots import Chart

TARGET = Path(__file__).resolve().parents[1] / "docs" / "overview.jpg"


def main() -> int:
    """Train as section 12.5 does, and put the figures together."""
    tl.use_profile("quick")
    data = tl.load_data("safari")
    model = tl.freeze(tl.load_model(classes=data.classes, size=96))
    tl.fit(model, data, epochs=4, lr=3e-3)
    run = tl.fit(tl.unfreeze(model, last=1), data, epochs=4, lr={"layer4": 3e-4, "head": 1e-3})
    result = tl.evaluate(model, data.test)
    top, left, right = (_drawn(chart) for chart in (data.show(24), run.plot(), result.plot_confusion()))
    right = right.resize((round(right.width * left.height / right.height * 1.35), round(left.height * 1.35)))
    width = max(top.width, left.width + right.width)
    page = Image.new("RGB", (width, top.height + max(left.height, right.height) + 10), "white")
    page.paste(top, ((width - top.width) // 2, 0))
    page.paste(left, (0, top.height + 10 + (right.height - left.height) // 2))
    page.paste(right, (width - right.width, top.height + 10))
    TARGET.parent.mkdir(exist_ok=True)
    page.save(TARGET, quality=88)
    return 0


def _drawn(chart: Chart) -> Image.Image:
    buffer = io.BytesIO()
    chart.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


if __name__ == "__main__":
    sys.exit(main())
