"""Images that go away, workers that die, seeds that must hold: each ends in a sentence, and what was reached stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from junk import make_classes
from PIL import Image
from toy import ToyImages, same_weights, toy_data, toy_network

import tlhelpers as tl
from tlhelpers import image_source, trainer

OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 8, "lr": 0.01}
CHANGES: dict[str, Callable[[Path], object]] = {
    "vanished": lambda path: path.unlink(),
    "changed": lambda path: Image.new("RGB", (9, 9)).save(path),
    "spoiled": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are read anew in every epoch, by workers if there are any."""
    monkeypatch.setattr(image_source, "memory_limit", lambda device: 0)


@pytest.mark.parametrize("workers", [None, 0, 2])
@pytest.mark.parametrize("change", list(CHANGES))
def test_an_image_that_goes_away_is_named(
    change: str, workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_classes(tmp_path / "images", {"cats": 14, "dogs": 14})
    data = tl.load_folder(folder, workers=workers, verbose=False)
    path = folder / data.train.keys[3]
    CHANGES[change](path)
    if workers is not None:
        monkeypatch.setattr(image_source, "memory_limit", lambda device: 0)
    model = tl.freeze(tl.load_model("resnet18", classes=("cats", "dogs"), weights="none", size=64))
    before = tl.snapshot(model)
    with pytest.raises(tl.DataError) as caught:
        tl.fit(model, data, **OPTIONS)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    assert "Traceback" not in text
    assert {name.split(".")[0] for name in tl.changed(model, before)} <= {"fc"}


def test_an_image_that_goes_away_in_the_second_epoch_leaves_the_first_ones_weights() -> None:
    class Vanishing(ToyImages):
        calls = 0

        def __call__(self, index: int) -> Image.Image:
            Vanishing.calls += 1
            if Vanishing.calls > 20 + 4:
                raise tl.DataError("The image seven.png was there, and is not now.")
            return super().__call__(index)

    data, model, step = toy_data(20, 8, 4), toy_network(last=0), tl.StepOptions(schedule="constant")
    options = {**OPTIONS, "step": step, "augment": model.card.preprocessing.training()}
    data.train.load = Vanishing(0)
    with pytest.raises(tl.DataError, match=r"seven\.png"):
        tl.fit(model, data, **options)
    plain = tl.fit(toy_network(last=0), toy_data(20, 8, 4), **{**options, "epochs": 1}).model
    assert same_weights(model, plain)
    assert not model.training


class Dying(ToyImages):
    """Ends its process at the fifth image."""

    def __call__(self, index: int) -> Image.Image:
        if index == 4:
            os._exit(9)
        return super().__call__(index)


def test_a_worker_that_dies_is_explained(nothing_fits: None) -> None:
    data = toy_data(20, 8, 4)
    data.train.load, data.train.workers = Dying(0), 2
    with pytest.raises(tl.TrainingError, match=r"one of the processes that read images ended .* with workers=0"):
        tl.fit(toy_network(last=0), data, **OPTIONS)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_numbers_and_epochs_differ(
    workers: int, nothing_fits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[list[float]] = []
    epoch = trainer.train_epoch

    def noting(network: Any, batches: Any, *args: Any, **kwargs: Any) -> Any:
        seen = list(batches)
        sums.append(sorted(float(image.sum()) for images, _ in seen for image in images))
        return epoch(network, seen, *args, **kwargs)

    monkeypatch.setattr(trainer, "train_epoch", noting)
    data = toy_data(12, 4, 4)
    data.train.workers = workers
    one, two = (tl.fit(toy_network(last=0), data, **OPTIONS) for _ in range(2))
    assert same_weights(one.model, two.model)
    assert sums[:3] == sums[3:]
    assert sums[0] != sums[1] != sums[2] != sums[0]
