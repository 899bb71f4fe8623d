"""The table of transfer: equal budgets, the same numbers from the same seed, nothing measured twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tlhelpers as tl
from tlhelpers.models import freezing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import transfer

    monkeypatch.setattr(transfer, "TARGET", tmp_path / "transfer.json")
    monkeypatch.setattr(transfer, "BUDGET", 24)
    monkeypatch.setattr(transfer, "BATCH", 8)
    return transfer


def parts(transfer: Any) -> tuple[Any, Any]:
    """Three classes of noise: 7, 4 and 5 training images, 6 test images."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (22, 3, 64, 64), dtype=torch.uint8, generator=generator)
    labels = torch.tensor([0] * 7 + [1] * 4 + [2] * 5 + [0, 1, 2] * 2)
    return transfer.Pixels(pixels[:16], labels[:16]), transfer.Pixels(pixels[16:], labels[16:])


def test_the_same_seed_gives_the_same_cell_and_the_file_keeps_it(
    transfer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_load", lambda name, real: parts(transfer))
    monkeypatch.setattr(transfer, "DATA", {"safari": (2, None)})
    monkeypatch.setattr(transfer, "SEEDS", range(2))
    transfer.measure(None, ("resnet18",))
    cells = transfer.grid().read()
    assert len(cells) == 2 * 2 * len(transfer.METHODS)
    assert {cell["train_images"] for cell in cells if cell["per_class"] == 2} == {6}
    assert {cell["train_images"] for cell in cells if cell["per_class"] is None} == {16}
    one = next(cell for cell in cells if cell["method"] == "everything" and cell["seed"] == 1)
    again = transfer.run("resnet18", "everything", "safari", one["per_class"], 1, *parts(transfer))
    assert again | {"seconds": 0} == one | {"seconds": 0}
    rows = transfer.table().splitlines()
    assert rows[0] == "| network | trained | safari 2 | safari all |"
    assert len(rows) == 2 + len(transfer.METHODS), "a network that was not measured has no rows"
    assert all(" ± " in row for row in rows[2:])

    monkeypatch.setattr(transfer, "run", lambda *_: pytest.fail("measured again"))
    transfer.measure(None, ("resnet18",))
    monkeypatch.setattr(transfer, "BUDGET", 48)
    assert transfer.grid().read() == [], "cells of another budget are not mixed in"


def test_every_method_sees_as_many_images_and_moves_what_it_says(
    transfer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}
    moved: dict[str, set[str]] = {}
    fit = tl.fit
    current = ""

    def counted(model: Any, data: Any, **options: Any) -> Any:
        before = freezing.snapshot(model)
        seen[current] = sum(len(labels) for _, labels in data["train"])
        run = fit(model, data, **options)
        names = freezing.changed(model, before)
        moved[current] = {name.split(".")[0] for name in names}
        return run

    monkeypatch.setattr(tl, "fit", counted)
    for current in transfer.METHODS:
        transfer.run("resnet18", current, "safari", None, 0, *parts(transfer))
    assert set(seen.values()) == {24}
    assert moved["frozen"] == {"fc"}
    assert moved["last two blocks"] == {"layer3", "layer4", "fc"}
    assert moved["everything"] == moved["scratch"] == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}


def test_fewer_images_are_some_of_the_more(transfer: Any) -> None:
    labels = parts(transfer)[0].labels
    few, more, every = (set(transfer._drawn(labels, count, 3).tolist()) for count in (2, 4, None))
    assert few < more < every == set(range(16))
    assert torch.bincount(labels[sorted(few)]).tolist() == [2, 2, 2]
    assert torch.bincount(labels[sorted(more)]).tolist() == [4, 4, 4]
    assert few != set(transfer._drawn(labels, 2, 4).tolist())


def test_steps_are_as_many_as_asked_for_and_passes_differ(transfer: Any) -> None:
    from tlhelpers.pixel_batches import EpochOrder, PixelBatches

    train = parts(transfer)[0]
    batches = PixelBatches(train.pixels, train.labels, tl.Preprocessing(), EpochOrder(16, 8, 0))
    steps = list(transfer.Steps(batches, 5))
    assert len(steps) == len(transfer.Steps(batches, 5)) == 5
    orders = [torch.cat([labels for _, labels in steps[i : i + 2]]).tolist() for i in (0, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == train.labels.tolist()
    assert orders[0] != orders[1]


RESULTS = ROOT / "tlcourse" / "measurements" / "data" / "transfer.json"


@pytest.mark.skipif(not RESULTS.exists(), reason="not measured yet")
def test_transfer_beats_scratch_clearly_where_images_are_few() -> None:
    runs = json.loads(RESULTS.read_text(encoding="utf8"))["runs"]

    def mean(network: str, method: str, data: str, count: int) -> float:
        asked = (network, method, data, count)
        found = [
            r["balanced_accuracy"] for r in runs if (r["network"], r["method"], r["data"], r["per_class"]) == asked
        ]
        assert len(found) == 5, f"{asked}: {len(found)} seeds"
        return sum(found) / len(found)

    for network in sorted({run["network"] for run in runs}):
        methods = ("frozen", "last two blocks", "everything")
        best = max(mean(network, method, "safari", 40) for method in methods)
        assert best >= mean(network, "scratch", "safari", 40) + 0.15, network
