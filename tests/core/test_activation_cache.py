"""Cached activations give the same weights as none, and images are decoded once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim import SGD
from toy import ToyImages, same_weights, toy_data, toy_network, toy_split

import tlhelpers as tl
from tlhelpers import activation_cache, batch_sources, image_source, trainer
from tlhelpers.models.families import ARCHS

OPTIONS: dict[str, Any] = {"epochs": tl.Epochs(3, keep="last"), "batch_size": 8, "lr": 0.01, "augment": False}


def fit(model: Any = None, data: tl.ImageData | None = None, **changes: Any) -> tl.Run:
    return tl.fit(model or toy_network(last=0), data or toy_data(20, 8, 4), **{**OPTIONS, **changes})


def notes(run: tl.Run) -> str:
    return " ".join(run.notes)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through a frozen prefix, call by call."""
    calls: list[int] = []
    original = batch_sources.cache_activations

    def counting(*args: Any) -> Any:
        result = original(*args)
        calls.append(len(result.values))
        return result

    monkeypatch.setattr(batch_sources, "cache_activations", counting)
    return calls


@pytest.mark.parametrize("arch", list(ARCHS))
@pytest.mark.parametrize("last", [0, 1])
def test_the_weights_are_the_same_with_and_without(arch: str, last: int, counted: list[int]) -> None:
    step = tl.StepOptions(optimizer=SGD)
    cached, plain = (fit(toy_network(arch, last), cache=cache, step=step) for cache in (True, False))
    assert counted == [20, 8]
    assert same_weights(cached.model, plain.model)
    assert cached.history.drop(columns="seconds").equals(plain.history.drop(columns="seconds"))
    assert "ran once" in notes(cached)
    assert "ran once" not in notes(plain)


def test_in_bf16_the_weights_are_nearly_the_same() -> None:
    tl.use_profile("quick", device="cpu", precision="bf16")
    models = [
        fit(toy_network(last=1), cache=cache, step=tl.StepOptions(optimizer=SGD)).model for cache in (True, False)
    ]
    for (name, one), two in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        # bf16 keeps 8 bits of a number; three epochs of small steps stay well inside that
        assert torch.allclose(one, two, atol=1e-2 * float(two.detach().abs().max())), name


def test_views_are_cached_and_come_in_turn(counted: list[int]) -> None:
    options: dict[str, Any] = {"augment": True, "epochs": tl.Epochs(4, keep="last")}
    fresh = fit(**options)
    assert counted == [8], "fresh crops in every epoch: only validation is cached"
    # With as many views as epochs nothing would be saved, so nothing is cached.
    assert same_weights(fit(cache=4, **options).model, fresh.model)
    assert counted == [8, 8]
    two = fit(cache=2, **options)
    assert counted == [8, 8, 40, 8]
    assert "2 augmented views of every image" in notes(two)
    assert not same_weights(two.model, fresh.model)


def test_each_view_is_the_crop_that_the_epoch_of_its_number_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[torch.Tensor] = []
    epoch = trainer.train_epoch

    def noting(network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = epoch(network, *args, **kwargs)
        heads.append(model.fc.weight.detach().clone())
        return result

    monkeypatch.setattr(trainer, "train_epoch", noting)
    for cache in (True, 2):
        model = toy_network(last=0)
        fit(model, augment=True, cache=cache, step=tl.StepOptions(schedule="constant"))
    fresh, cached = heads[:3], heads[3:]
    torch.testing.assert_close(cached[1], fresh[1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(cached[2], fresh[2], atol=1e-6, rtol=1e-5), "the third epoch sees the first view again"


def test_a_transform_of_ones_own_can_be_cached_too(counted: list[int]) -> None:
    calls: list[Image.Image] = []

    def mine(image: Image.Image) -> torch.Tensor:
        calls.append(image)
        return tl.Preprocessing().at(64).training()(image)

    fit(augment=mine, epochs=6, cache=2)
    assert counted == [40, 8]
    assert len(calls) == 40


def test_unfreezing_further_moves_the_boundary() -> None:
    model = toy_network(last=0)
    assert "'flatten'" in notes(fit(model))
    assert "'layer3" in notes(fit(tl.unfreeze(model, last=1)))
    assert "ran once" not in notes(fit(tl.unfreeze(model)))


def test_what_does_not_fit_into_memory_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = fit()
    monkeypatch.setattr(activation_cache, "memory_limit", lambda device: 1000)
    plain = fit()
    assert "ran once" not in notes(plain)
    assert same_weights(plain.model, cached.model)


# --- images -----------------------------------------------------------------------------------------------------


def test_images_are_decoded_once_in_the_life_of_a_split() -> None:
    calls: list[int] = []

    class Counting(ToyImages):
        def __call__(self, index: int) -> Image.Image:
            calls.append(index)
            return super().__call__(index)

    data = toy_data(20, 8, 4)
    data.train.load = Counting(0)
    for _ in range(2):
        fit(data=data, augment=True)
    assert sorted(calls) == list(range(20))


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_do_not_fit_are_read_in_every_epoch_and_give_the_same(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, data = fit(toy_network(last=1), cache=False), toy_data(20, 8, 4)
    monkeypatch.setattr(image_source, "memory_limit", lambda device: 0)
    data.train.workers = data.val.workers = workers
    read = fit(toy_network(last=1), data, cache=False)
    assert "were read again in every epoch" in notes(read)
    assert same_weights(read.model, decoded.model)


def test_images_of_any_shape_are_kept_whole() -> None:
    split = toy_split(2, "train")
    split.load = lambda index: Image.new("RGB", (300, 100) if index else (100, 200), (index * 200, 0, 0))
    pixels, aspects = image_source.decode(split, tl.Preprocessing(size=64, resize=64), whole=80)
    assert pixels.shape == (2, 3, 80, 80)
    assert aspects.tolist() == [0.5, 3.0]
    assert image_source.decode(split, tl.Preprocessing(size=64, resize=64), whole=80)[0] is pixels
