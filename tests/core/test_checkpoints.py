"""Checkpoints: going on equals never having stopped; what does not fit is refused and nothing is lost."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW
from toy import toy_data

import tlhelpers as tl
from tlhelpers import training
from tlhelpers.pixel_batches import EpochOrder, Order, PixelBatches

LOOK = tl.Preprocessing(size=32, resize=32)


def network() -> Any:
    return tl.load_model("resnet18", classes=["red", "green"], weights="none", size=32)


def pixel_batches(batch_size: int = 8, **changes: Any) -> dict[str, PixelBatches]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(24) % 2
    order = EpochOrder(24, batch_size, 0)
    return {
        "train": PixelBatches(pixels, labels, LOOK, order, crop=0.5, **changes),
        "val": PixelBatches(pixels, labels, LOOK, Order(24, 8)),
    }


class Stopped(Exception):
    """The process is gone."""


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """The next call of `fit` ends without a word after so many epochs, as if it had been killed."""
    counted = iter(range(epochs))
    epoch = training.train_epoch

    def counting(*args: Any, **kwargs: Any) -> Any:
        if next(counted, None) is None:
            raise Stopped
        return epoch(*args, **kwargs)

    monkeypatch.setattr(training, "train_epoch", counting)


def own_transform(image: Any) -> torch.Tensor:
    return tl.Preprocessing().at(32).training()(image)


SOURCES: dict[str, dict[str, Any]] = {  # where a network's input comes from, and what of it trains
    "crops of kept images": {},
    "pixels of one's own": {},
    "a transform of one's own": {"augment": own_transform},
    "kept activations": {"frozen": True, "augment": False},
    "kept views": {"frozen": True, "views": 2},
    "last block on kept activations": {"frozen": True, "last": 1, "augment": False},
    "averaged weights": {"step": tl.Step(average=0.8)},
    "pieces and clipping": {"step": tl.Step(pieces=2, clip=1.0)},
}


@pytest.mark.parametrize("schedule", ["cosine", "constant", "one-cycle"])
@pytest.mark.parametrize("optimizer", [AdamW, functools.partial(SGD, momentum=0.9, nesterov=True)])
@pytest.mark.parametrize("source", list(SOURCES))
def test_going_on_equals_never_having_stopped(
    source: str, optimizer: Any, schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(**more: Any) -> tl.Run:
        data = pixel_batches(sizes=[32, 32, 48]) if source.startswith("pixels") else toy_data()
        options = {
            "epochs": 3,
            "batch_size": 8,
            "optimizer": optimizer,
            "schedule": schedule,
            "lr": 1e-2,
            **SOURCES[source],
        }
        model, last = network(), options.pop("last", 0)
        if options.pop("frozen", False):
            tl.unfreeze(tl.freeze(model), last=last)
        return tl.fit(model, data, keep="last", **options, **more)

    whole = train()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            train(checkpoint=tmp_path)
    torch.rand(7)  # the state of the reader's generators must not matter
    resumed = train(checkpoint=tmp_path, resume=True)
    assert tl.changed(resumed.model, whole.model.state_dict()) == []
    same = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"]
    assert resumed.history[same].equals(whole.history[same])
    assert resumed.best_epoch == whole.best_epoch


def test_the_best_epochs_weights_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"epochs": 4, "batch_size": 8, "lr": 1e-2}
    whole = tl.fit(network(), toy_data(), **options)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            tl.fit(network(), toy_data(), checkpoint=tmp_path, **options)
    resumed = tl.fit(network(), toy_data(), checkpoint=tmp_path, resume=True, **options)
    assert resumed.kept_epoch == whole.kept_epoch
    assert tl.changed(resumed.model, whole.model.state_dict()) == []


def test_a_finished_run_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 8, "checkpoint": tmp_path, "resume": True}
    first = tl.fit(network(), toy_data(), **options)
    stop_after(monkeypatch, 0)
    again = tl.fit(network(), toy_data(), **options)
    assert tl.changed(again.model, first.model.state_dict()) == []
    assert again.history.equals(first.history)


def test_without_resume_a_new_run_replaces_the_old(tmp_path: Path) -> None:
    tl.fit(network(), toy_data(), epochs=2, batch_size=8, checkpoint=tmp_path)
    run = tl.fit(network(), toy_data(), epochs=1, batch_size=8, checkpoint=tmp_path)
    assert len(run.history) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.safetensors", "in_use.lock"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, r"epochs was 2 and is now 3"),
        ({"batch_size": 5}, r"batches was 2 and is now 4"),
        ({"lr": 0.5}, r"groups was .*0\.01.* and is now .*0\.5"),
        ({"optimizer": SGD}, r"optimizer was AdamW and is now SGD"),
        ({"keep": "last"}, r"keep was best and is now last"),
        ({"augment": False}, r"images was augment=True, views=None and is now augment=False"),
        ({"views": 1}, r"images was augment=True, views=None and is now augment=True, views=1"),
    ],
)
def test_another_runs_checkpoint_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "batch_size": 10, "lr": 1e-2, "checkpoint": tmp_path}
    tl.fit(network(), toy_data(), **options)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(tl.CheckpointError, match=message):
        tl.fit(network(), toy_data(), **{**options, **change}, resume=True)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_another_network_is_refused(tmp_path: Path) -> None:
    tl.fit(network(), toy_data(), epochs=1, checkpoint=tmp_path)
    other = tl.load_model("resnet34", classes=["red", "green"], weights="none", size=32)
    with pytest.raises(
        tl.CheckpointError, match="belongs to another run: arch was resnet18 and is now resnet34; groups was"
    ):
        tl.fit(other, toy_data(), epochs=1, checkpoint=tmp_path, resume=True)


@pytest.mark.parametrize("damage", ["short", "empty", "flipped", "other"])
def test_a_damaged_checkpoint_is_named_and_left_alone(damage: str, tmp_path: Path) -> None:
    tl.fit(network(), toy_data(), epochs=1, checkpoint=tmp_path)
    path = tmp_path / "last.pt"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[:64] = bytes(64)
    whole = {"short": content[: len(content) // 2], "empty": b"", "flipped": content, "other": content}[damage]
    path.write_bytes(whole)
    if damage == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    before = path.read_bytes()
    with pytest.raises(tl.CheckpointError, match=r"last\.pt (is damaged|was not written by tl\.fit)"):
        tl.fit(network(), toy_data(), epochs=1, checkpoint=tmp_path, resume=True)
    assert path.read_bytes() == before


def test_resume_needs_a_folder() -> None:
    with pytest.raises(tl.TrainingError, match="resume=True needs checkpoint="):
        tl.fit(network(), toy_data(), resume=True)


def test_batches_of_ones_own_need_both_parts() -> None:
    with pytest.raises(tl.TrainingError, match=r"lack \['val'\]"):
        tl.fit(network(), {"train": pixel_batches()["train"]}, epochs=1)
    for schedule in ("cosine", "one-cycle"):
        with pytest.raises(tl.TrainingError, match="the loader of 'train' has no batch"):
            tl.fit(network(), pixel_batches(batch_size=32), epochs=1, schedule=schedule)
        with pytest.raises(tl.TrainingError, match="at least one"):
            tl.fit(network(), pixel_batches(), epochs=0, schedule=schedule)
