"""The tuned comparisons: one rule for all, nothing chosen on the test set, the same numbers again, nothing twice."""

import functools
import importlib

import claims
import numpy as np
import pytest
import tuned
from grid import Grid
from toy import cases

import tlhelpers as tl
from tlcourse.measurements.results import load_results


@pytest.fixture
def data():
    """Three classes of coloured noise: 12 training, 6 validation and 6 test images."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 64, 64, 3), dtype=np.uint8)
    labels = [i % 3 for i in range(24)]
    parts = {"train": range(12), "val": range(12, 18), "test": range(18, 24)}
    whole = tl.ImageSplit(pixels.__getitem__, labels, "abc", keys=[str(i) for i in range(24)], name="all")
    return tl.ImageData("noise", *(whole.select(rows) for rows in parts.values()), None)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    for name, value in (("PATIENCE", 1), ("PATIENT_STEPS", 1), ("CAP", 2), ("BATCH", 6), ("VIEWS", 2)):
        monkeypatch.setattr(tuned, name, value)


RESNET = {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}


@cases(
    "method, moving, rates",
    ("frozen", {"fc"}, {1e-3}),
    ("last block", {"layer4", "fc"}, {1e-3, 1e-2}),
    ("everything", RESNET, {1e-3, 1e-2}),
    ("probe first", RESNET, {1e-3}),
    ("scratch", RESNET, {1e-3}),
)
def test_a_method_trains_what_it_says_and_counts_what_it_computes(data, monkeypatch, method, moving, rates):
    fit, seen = tl.fit, {}

    def watched(model, data, **options):
        before, seen["rates"] = tl.snapshot(model), {round(lr, 9) for lr in options["lr"].values()}
        run = fit(model, data, **options)
        seen["moved"] = {name.split(".")[0] for name in tl.changed(model, before)}
        return run

    monkeypatch.setattr(tl, "fit", watched)
    probed = {}
    model, run, compute = tuned.train_method("resnet18", method, data, 1e-3, 0, probed)
    assert seen["moved"] == moving
    assert seen["rates"] == rates
    assert (set(probed) == set(model.state_dict())) == (method == "probe first")
    whole = tuned.operations("resnet18", "everything", data, len(run.history))
    assert compute == whole if method in ("everything", "scratch") else compute != whole
    again, *_ = tuned.train_method("resnet18", method, data, 1e-3, 0)
    assert tl.changed(again, tl.snapshot(model)) == []


def test_a_training_step_costs_three_times_a_forward_pass_but_for_the_first_layers_input(data):
    step, forward, once = tuned._operations_of_an_image("resnet18", "everything", 3)
    assert once == 0
    assert 2.8 < step / forward < 3
    step, forward, once = tuned._operations_of_an_image("resnet18", "frozen", 3)
    assert once > 1000 * forward


def test_the_rate_is_chosen_on_validation_by_other_seeds_and_nothing_is_measured_twice(tmp_path):
    grid, done = Grid(tmp_path / "x.json", "python x.py", {}, ("method", "rate", "seed")), []

    def one(method, rate, seed):
        done.append((method, rate, seed))
        loss = {("a", 1.0): 0.5, ("a", 2.0): 0.4, ("b", 1.0): 0.1, ("b", 2.0): 0.4}[method, rate]
        cell = {"method": method, "rate": rate, "seed": seed, "val": 0.9, "val_loss": loss}
        return cell | ({"test": 1.0 if rate == 1.0 else 0.0} if seed < 100 else {})

    fill = functools.partial(tuned.fill_tuned, grid, [("a",), ("b",)], lambda method: (1.0, 2.0), one, 1)
    fill()
    scored = {job for job in done if job[2] < 100}
    assert scored == {("a", 2.0, seed) for seed in tuned.SEEDS} | {("b", 1.0, seed) for seed in tuned.SEEDS}
    assert len(done) == len(set(done)) == 2 * 2 * 2 + 2 * 5
    fill()
    assert len(done) == 18, "measured again"
    assert Grid(grid.target, "", {"other": 1}, grid.keys).read() == [], "cells of other settings are not mixed in"


@pytest.mark.parametrize("name", ["transfer", "refinements", "shift", "lora"])
def test_the_stored_runs_are_complete_and_followed_the_rule(name):
    grid = importlib.import_module(name).GRID
    runs = grid.read()
    assert len({grid.key(run) for run in runs}) == len(runs) > 40, "settings differ, or a run occurs twice"
    cells = {grid.key(run)[:-2] for run in runs}
    for cell in cells:
        own = [run for run in runs if grid.key(run)[:-2] == cell]
        tuning = [run for run in own if run["seed"] in tuned.TUNING_SEEDS]
        final = [run for run in own if run not in tuning]
        assert {run["seed"] for run in final} == set(tuned.SEEDS)
        assert {run[grid.keys[-2]] for run in final} == {tuned.best_rate(tuning, grid.keys[-2])}
        assert not any(key.startswith(("test", "right")) for run in tuning for key in run)


def test_stored_scores_are_those_of_the_images_that_were_right():
    found = load_results("transfer")
    for name in ("safari", "chest_xray"):
        wanted = {"network": "resnet18", "method": "frozen"}
        mean, low, high = found.gain(name, wanted)
        assert mean == pytest.approx(found.where(data=name, **wanted).query("seed < 100")["test"].mean(), abs=1e-4)
        assert low < mean < high


def test_experiments_find_all_that_was_measured():
    """A grid ignores what was measured with other settings, so a renamed setting would measure all of it again."""
    grids = {name: importlib.import_module(name).grid() for name in ("pneumonia", "language")}
    grids |= {name: importlib.import_module(name).GRID for name in ("hospitals", "recipes")}
    for name, grid in grids.items():
        assert len({grid.key(cell) for cell in grid.read()}) == len(grid.read()) > 10, name
    for name, experiment in claims.EXPERIMENTS.items():
        grid = claims.grid_of(name)
        assert {grid.key(cell) for cell in grid.read()} == set(experiment.jobs), name
