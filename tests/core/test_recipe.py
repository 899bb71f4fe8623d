"""The default recipe: it tries more as time allows, keeps what validates best, and never looks at the test set."""

import pytest
from toy import toy_data, toy_network

import tlhelpers as tl
from tlhelpers import recipe
from tlhelpers.__main__ import main

ALL = ["the head", "1 blocks", "everything"]


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(recipe, "MOST", 2)


@pytest.fixture
def tried(monkeypatch):
    """What each call of `fit` may train and how long; its runs get the validation accuracies of the list `scores`."""
    calls, fit = [], recipe.fit

    def noting(model, data, **options):
        table = tl.trainable_table(model)
        run = fit(model, data, **options)
        if len(calls) < len(noting.scores):
            run.history.loc[run.kept_epoch, "val_accuracy"] = noting.scores[len(calls)]
        calls.append((int((table["trainable"] > 0).sum() - 1), options, tl.snapshot(model)))
        return run

    noting.scores = []
    monkeypatch.setattr(recipe, "fit", noting)
    return calls, noting


@pytest.mark.parametrize("best", [0, 1, 2])
def test_it_goes_from_the_head_to_everything_and_keeps_the_best(tried, best):
    calls, noting = tried
    noting.scores = [0.9 if i == best else 0.5 for i in range(3)]
    data, model = toy_data(), toy_network(size=32)
    data.test.load = None  # nobody may ask for a test image
    run = tl.train_within(model, data, minutes=60, seed=3)
    assert [count for count, *_ in calls] == [1, 2, 6]
    assert [options.get("cache") for _, options, _ in calls] == [4, 4, None]
    assert all(options["seed"] == 3 for _, options, _ in calls)
    minutes = [60, *(options["minutes"] for _, options, _ in calls)]
    assert minutes == sorted(minutes, reverse=True), "a step gets what the ones before it have left"
    assert [note.split(":")[0] for note in run.notes] == [f"Trained {name}" for name in ALL]
    assert tl.changed(model, calls[best][2]) == []
    assert run.model is model
    assert not run.stopped


def test_each_step_begins_where_the_one_before_it_ended(tried, monkeypatch):
    calls, _ = tried
    starts, noting = [], recipe.fit

    def watched(model, *args, **options):
        starts.append(tl.snapshot(model))
        return noting(model, *args, **options)

    monkeypatch.setattr(recipe, "fit", watched)
    tl.train_within(toy_network(size=32), toy_data(), minutes=60)
    for (_, _, ended), began in zip(calls, starts[1:], strict=False):
        assert all((ended[name] == began[name]).all() for name in ended)


def test_what_there_is_no_time_for_is_said_and_images_shrink(monkeypatch):
    ticks = iter(range(0, 10**6, 20))
    monkeypatch.setattr(recipe.time, "perf_counter", lambda: next(ticks))
    model = toy_network(size=96)
    run = tl.train_within(model, toy_data(), minutes=2)
    assert run.notes[0] == "Images are 64 px wide in place of 96, since the time is short."
    assert model.card.preprocessing.size == 64
    assert run.notes[-1].startswith("There was no time to train 1 blocks: an epoch takes about")
    assert len(run.notes) == 3


def test_an_interruption_keeps_what_was_reached(monkeypatch):
    fit, calls = recipe.fit, []

    def interrupted(model, data, **options):
        calls.append(options)
        run = fit(model, data, **options)
        run.stopped = "Interrupted by hand in epoch 1." if len(calls) == 2 else run.stopped
        return run

    monkeypatch.setattr(recipe, "fit", interrupted)
    run = tl.train_within(toy_network(size=32), toy_data(), minutes=60)
    assert len(calls) == 2
    assert run.stopped == "Interrupted by hand in epoch 1."
    assert run.kept_epoch


@pytest.mark.parametrize("options", [["--epochs", "2"], ["--unfreeze", "1"], ["--weights", "none"], ["--no-augment"]])
def test_the_command_takes_the_recipe_or_options_of_ones_own(tmp_path, capsys, options):
    assert main(["train", str(tmp_path), "--minutes", "1", *options]) == 1
    assert f"--minutes is for the default recipe, and --{options[0][2:]}" in capsys.readouterr().err.replace(
        "weights none", "weights"
    )


def test_the_command_resumes_only_a_training_of_ones_own(tmp_path, capsys):
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "out"), "--resume"]) == 1
    assert "--resume goes on with a training of your own" in capsys.readouterr().err
