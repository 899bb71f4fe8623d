"""Activations that are kept: the same weights as without them, and never an entry that does not belong."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from toy import ToyImages, toy_data, toy_split

import tlhelpers as tl
from tlhelpers import caching, inputs, training
from tlhelpers.data import pixels
from tlhelpers.models.families import ARCHS

OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 8, "lr": 0.01, "keep": "last", "augment": False}


def network(arch: str = "resnet18", last: int = 0, seed: int = 0) -> Any:
    model = tl.load_model(arch, classes=["red", "green"], weights="none", size=64, seed=seed)
    return tl.unfreeze(tl.freeze(model), last=last) or model


def notes(run: tl.Run) -> str:
    return " ".join(run.notes)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through a frozen part, call by call."""
    calls: list[int] = []
    original = inputs.compute_activations

    def counting(lower: nn.Module, batches: Any, labels: Any, views: int = 1, **more: Any) -> Any:
        calls.append(views * len(labels))
        return original(lower, batches, labels, views, **more)

    monkeypatch.setattr(inputs, "compute_activations", counting)
    return calls


@pytest.mark.parametrize("arch", list(ARCHS))
@pytest.mark.parametrize("last", [0, 1])
def test_the_same_weights_with_and_without(arch: str, last: int, counted: list[int]) -> None:
    models = []
    for cache in (True, False):
        model = tl.load_model(arch, classes=["red", "green"], weights="none", size=64)
        tl.unfreeze(tl.freeze(model), last=last)
        run = tl.fit(model, toy_data(20, 8, 4), cache=cache, optimizer=functools.partial(SGD, momentum=0.9), **OPTIONS)
        models.append((model, run))
    (kept, kept_run), (plain, plain_run) = models
    assert counted == [20, 8]
    assert tl.changed(kept, tl.snapshot(plain)) == []
    assert kept_run.history.drop(columns="seconds").equals(plain_run.history.drop(columns="seconds"))
    assert "ran once" in notes(kept_run)
    assert "ran once" not in notes(plain_run)


def test_near_the_same_weights_in_bf16() -> None:
    tl.use_profile("quick", device="cpu", precision="bf16")
    models = []
    for cache in (True, False):
        model = network(last=1)
        tl.fit(model, toy_data(20, 8, 4), cache=cache, optimizer=SGD, **OPTIONS)
        models.append(model)
    for (name, one), two in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        # bf16 keeps 8 bits of a number; three epochs of small steps stay well inside that
        assert torch.allclose(one, two, atol=1e-2 * float(two.detach().abs().max())), name


def test_views_are_kept_and_come_in_turn(counted: list[int]) -> None:
    fresh, kept, two = network(), network(), network()
    options: dict[str, Any] = {**OPTIONS, "augment": True, "epochs": 4}
    tl.fit(fresh, toy_data(20, 8, 4), **options)
    assert counted == [8], "fresh crops in every epoch: only validation is kept"
    # with as many views as epochs every epoch sees what it would have seen: nothing would be saved, so nothing is kept
    tl.fit(kept, toy_data(20, 8, 4), views=4, **options)
    assert counted == [8, 8]
    assert tl.changed(kept, tl.snapshot(fresh)) == []
    run = tl.fit(two, toy_data(20, 8, 4), views=2, **options)
    assert counted == [8, 8, 40, 8]
    assert "2 augmented views of every image" in notes(run)
    assert tl.changed(two, tl.snapshot(fresh)) != []


def test_each_view_is_the_crop_that_the_epoch_of_its_number_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[torch.Tensor] = []
    epoch = training.train_epoch

    def noting(network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = epoch(network, *args, **kwargs)
        heads.append(tl.get_head(model).weight.detach().clone())
        return result

    monkeypatch.setattr(training, "train_epoch", noting)
    options: dict[str, Any] = {**OPTIONS, "augment": True, "schedule": "constant"}
    for more in ({}, {"views": 2}):
        model = network()
        tl.fit(model, toy_data(20, 8, 4), **options, **more)
    fresh, kept = heads[:3], heads[3:]
    torch.testing.assert_close(kept[1], fresh[1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(kept[2], fresh[2], atol=1e-6, rtol=1e-5), "the third epoch sees the first view again"


def test_a_transform_of_ones_own_can_be_kept_too(counted: list[int]) -> None:
    calls = 0

    def mine(image: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return tl.Preprocessing().at(64).training()(image)

    tl.fit(network(), toy_data(20, 8, 4), **{**OPTIONS, "augment": mine, "epochs": 6}, views=2)
    assert counted == [40, 8]
    assert 40 <= calls <= 48, "one more batch may be read to see how large activations are"


def test_unfreezing_further_moves_the_boundary() -> None:
    model, data = network(last=0), toy_data(20, 8, 4)
    assert "'flatten'" in notes(tl.fit(model, data, **OPTIONS))
    tl.unfreeze(model, last=1)
    assert "'layer3" in notes(tl.fit(model, data, **OPTIONS))
    tl.unfreeze(model)
    assert "ran once" not in notes(tl.fit(model, data, **OPTIONS))


# --- on disk ----------------------------------------------------------------------------------------------------


def test_a_folder_keeps_activations_for_later_runs(tmp_path: Path, counted: list[int]) -> None:
    first, again = network(), network()
    one = tl.fit(first, toy_data(20, 8, 4), cache=tmp_path, **OPTIONS)
    two = tl.fit(again, toy_data(20, 8, 4), cache=str(tmp_path), **OPTIONS)
    assert counted == [20, 8]
    assert "'train' were found in" in notes(two)
    assert "were found in" not in notes(one)
    assert tl.changed(again, tl.snapshot(first)) == []


def other_images() -> tl.ImageData:
    data = toy_data(20, 8, 4)
    data.train = toy_split(20, "train", 1)
    return data


@pytest.mark.parametrize(
    "change",
    [
        lambda: (network(seed=1), toy_data(20, 8, 4), {}),
        lambda: (network(last=1), toy_data(20, 8, 4), {}),
        lambda: (network(), other_images(), {}),
        lambda: (network(), toy_data(20, 8, 4), {"augment": True, "views": 2}),
    ],
    ids=["weights", "boundary", "images", "augmentation"],
)
def test_an_entry_that_does_not_belong_is_not_used(
    change: Callable[[], Any], tmp_path: Path, counted: list[int]
) -> None:
    tl.fit(network(), toy_data(20, 8, 4), cache=tmp_path, **OPTIONS)
    del counted[:]
    model, data, more = change()
    tl.fit(model, data, cache=tmp_path, **{**OPTIONS, **more})
    assert counted[0] == 40 if more else counted[0] == 20


def test_labels_are_read_from_the_data_and_not_from_the_entry(tmp_path: Path, counted: list[int]) -> None:
    swapped = toy_data(20, 8, 4)
    swapped.train.labels = 1 - swapped.train.labels
    fresh, kept = network(), network()
    tl.fit(fresh, swapped, **OPTIONS)
    tl.fit(network(), toy_data(20, 8, 4), cache=tmp_path, **OPTIONS)
    tl.fit(kept, swapped, cache=tmp_path, **OPTIONS)
    assert len(counted) == 4
    assert tl.changed(kept, tl.snapshot(fresh)) == []


@pytest.mark.parametrize("damage", ["short", "flipped", "longer", "card", "no card", "shape"])
def test_a_torn_entry_is_made_again(damage: str, tmp_path: Path, counted: list[int]) -> None:
    whole = network()
    tl.fit(whole, toy_data(20, 8, 4), cache=tmp_path, **OPTIONS)
    for path in tmp_path.glob("*.bin"):
        content = bytearray(path.read_bytes())
        card = path.with_suffix(".json")
        if damage == "short":
            path.write_bytes(content[:-4])
        elif damage == "longer":
            path.write_bytes(content + b"1234")
        elif damage == "flipped":
            content[100] ^= 255
            path.write_bytes(content)
        elif damage == "card":
            card.write_text('{"bytes":')
        elif damage == "shape":
            card.write_text(card.read_text().replace('"shape": [', '"shape": [7, '))
        else:
            card.unlink()
    model = network()
    tl.fit(model, toy_data(20, 8, 4), cache=tmp_path, **OPTIONS)
    assert counted == [20, 8, 20, 8]
    assert tl.changed(model, tl.snapshot(whole)) == []


def test_what_exceeds_the_limit_goes_to_disk_and_is_gone_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(inputs, "MEMORY_LIMIT", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plain, mapped = network(last=1), network(last=1)
    tl.fit(plain, toy_data(20, 8, 4), cache=False, **OPTIONS)
    run = tl.fit(mapped, toy_data(20, 8, 4), **OPTIONS)
    assert "were on disk" in notes(run)
    assert tl.changed(mapped, tl.snapshot(plain)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_what_to_do_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = caching._OnDisk.__enter__

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, content: Any) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            self.file.close()

    def opened(self: Any) -> Any:
        real(self)
        self.file = Full(self.file)
        return self

    monkeypatch.setattr(caching._OnDisk, "__enter__", opened)
    with pytest.raises(tl.TrainingError, match=r"No space left on device; .* GB are free\)\. Make room"):
        tl.fit(network(), toy_data(20, 8, 4), cache=tmp_path, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


# --- images ---------------------------------------------------------------------------------------------------


class Counting(ToyImages):
    """Images that know how often they were looked at."""

    calls = 0

    def __call__(self, index: int) -> Any:
        Counting.calls += 1
        return super().__call__(index)


def test_images_are_decoded_once_in_the_life_of_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "calls", 0)
    data = toy_data(20, 8, 4)
    data.train.load = Counting(0)
    tl.fit(network(), data, **{**OPTIONS, "augment": True})
    tl.fit(network(), data, **{**OPTIONS, "augment": True})
    assert Counting.calls == 20


def test_images_that_do_not_fit_are_read_every_epoch_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, read = network(last=1), network(last=1)
    tl.fit(kept, toy_data(20, 8, 4), **OPTIONS, cache=False)
    monkeypatch.setattr(inputs, "pixel_limit", lambda device: 0)
    for workers in (0, 2):
        run = tl.fit(read, toy_data(20, 8, 4), **OPTIONS, cache=False, workers=workers)
        assert "were read again every epoch" in notes(run)
        assert tl.changed(read, tl.snapshot(kept)) == []
        read = network(last=1)


def test_images_of_any_shape_are_kept_whole() -> None:
    from PIL import Image

    split = toy_split(2, "train")
    split.load = lambda index: Image.new("RGB", (300, 100) if index else (100, 200), (index * 200, 0, 0))
    look = tl.Preprocessing(size=64, resize=64)
    whole = pixels.decode(split, look, whole=True)
    assert whole.bytes.shape == (2, 3, 80, 80)
    assert whole.aspects.tolist() == [0.5, 3.0]
    assert pixels.decode(split, look, whole=True) is whole
    assert pixels.size_in_bytes(split, look, whole=True) == whole.bytes.numel()
