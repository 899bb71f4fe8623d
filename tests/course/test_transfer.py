"""The table of transfer: equal budgets, the same numbers from the same seed, nothing measured twice."""

import importlib

import claims
import pytest
import torch
import transfer as tool
from toy import cases

import tlhelpers as tl


@pytest.fixture
def transfer(monkeypatch, tmp_path):
    """The module, with a small budget and a results file of its own."""
    for name, value in (("TARGET", tmp_path / "transfer.json"), ("BUDGET", 24), ("BATCH", 8)):
        monkeypatch.setattr(tool, name, value)
    return tool


@pytest.fixture
def splits(transfer):
    """Three classes of noise: 7, 4 and 5 training images, 6 test images."""
    pixels = torch.randint(0, 255, (22, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 7 + [1] * 4 + [2] * 5 + [0, 1, 2] * 2)
    return transfer.Pixels(pixels[:16], labels[:16]), transfer.Pixels(pixels[16:], labels[16:])


def test_the_same_seed_gives_the_same_cell_and_the_file_keeps_it(transfer, splits, monkeypatch):
    monkeypatch.setattr(transfer, "_load", lambda name, real: splits)
    methods = {name: transfer.METHODS[name] for name in ("frozen", "everything")}
    for name, value in (("DATA", {"safari": (2, None)}), ("SEEDS", range(2)), ("METHODS", methods)):
        monkeypatch.setattr(transfer, name, value)
    transfer.measure(None, ("resnet18",))
    cells = transfer.grid().read()
    assert len(cells) == 2 * 2 * 2
    assert {(cell["per_class"], cell["train_images"]) for cell in cells} == {(2, 6), (None, 16)}
    one = next(cell for cell in cells if cell["method"] == "everything" and cell["seed"] == 1)
    again = transfer.run("resnet18", "everything", "safari", one["per_class"], 1, *splits)
    assert again | {"seconds": 0} == one | {"seconds": 0}
    monkeypatch.setattr(transfer, "run", lambda *_: pytest.fail("measured again"))
    transfer.measure(None, ("resnet18",))
    monkeypatch.setattr(transfer, "BUDGET", 48)
    assert transfer.grid().read() == [], "cells of another budget are not mixed in"


@cases(
    "method, moving",
    ("frozen", {"fc"}),
    ("last two blocks", {"layer3", "layer4", "fc"}),
    ("everything", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}),
    ("scratch", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}),
)
def test_every_method_sees_as_many_images_and_trains_what_it_says(transfer, splits, monkeypatch, method, moving):
    fit, seen = tl.fit, {}

    def watched(model, data, **options):
        before = tl.snapshot(model)
        seen["images"] = sum(len(labels) for _, labels in data["train"])
        run = fit(model, data, **options)
        seen["moved"] = {name.split(".")[0] for name in tl.changed(model, before)}
        return run

    monkeypatch.setattr(tl, "fit", watched)
    transfer.run("resnet18", method, "safari", None, 0, *splits)
    assert seen == {"images": 24, "moved": moving}


def test_fewer_images_are_some_of_the_more(transfer, splits):
    labels = splits[0].labels
    few, more, every = (set(transfer._drawn(labels, count, 3).tolist()) for count in (2, 4, None))
    assert few < more < every == set(range(16))
    assert torch.bincount(labels[sorted(few)]).tolist() == [2, 2, 2]
    assert torch.bincount(labels[sorted(more)]).tolist() == [4, 4, 4]
    assert few != set(transfer._drawn(labels, 2, 4).tolist())


def test_experiments_find_all_that_was_measured():
    """A grid ignores what was measured with other settings, so a renamed setting would measure all of it again."""
    for name in ("transfer", "pneumonia", "language", "detection"):
        grid = importlib.import_module(name).grid()
        assert len({grid.key(cell) for cell in grid.read()}) == len(grid.read()) > 10, name
    for name, experiment in claims.EXPERIMENTS.items():
        grid = claims.grid_of(name)
        assert {grid.key(cell) for cell in grid.read()} == set(experiment.jobs), name
