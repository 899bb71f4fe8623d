"""Damaged images: right pixels or a reason, never a crash; and a folder full of them can be trained on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_more_than_500_damaged_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "experiments"))
    import fuzz_images

    counts, wrong = fuzz_images.fuzz(tmp_path)
    assert sum(sum(row.values()) for row in counts.values()) >= 500
    assert wrong == []
    assert counts["cut short"]["refused"] == sum(counts["cut short"].values())
    assert counts["odd name"]["right pixels"] >= 20
    for kind in ("mode", "16 bits", "EXIF rotation", "wrong extension"):
        assert counts[kind]["right pixels"] == sum(counts[kind].values()), kind
    report = fuzz_images.train_on(tmp_path)
    good = sum(row["right pixels"] + row["other pixels, undetectable"] for row in counts.values())
    assert f"{good} images in 2 classes" in report
