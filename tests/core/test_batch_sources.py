"""Where batches come from: cached activations, decoded images, or files read anew; all give the same, or a sentence."""

import os
import re

import pytest
import torch
from junk import make_classes
from PIL import Image
from torch.optim import SGD
from toy import EVERY_ARCH, ToyImages, refused, same_weights, toy_data, toy_network, toy_split

import tlhelpers as tl
from tlhelpers import batch_sources, image_source, trainer

OPTIONS = {"epochs": 3, "keep": "last", "batch_size": 8, "lr": 0.01, "augment": False}


def fit(model=None, data=None, **changes):
    run = tl.fit(model or toy_network(last=0), data or toy_data(20, 8, 4), **{**OPTIONS, **changes})
    run.notes = " ".join(run.notes)
    return run


@pytest.fixture
def counted(monkeypatch):
    """How many images went through a frozen prefix, call by call."""
    calls, original = [], batch_sources.cache_activations

    def counting(*args):
        result = original(*args)
        calls.append(len(result.values))
        return result

    monkeypatch.setattr(batch_sources, "cache_activations", counting)
    return calls


@pytest.mark.parametrize("arch", EVERY_ARCH)
@pytest.mark.parametrize("last", [0, 1])
def test_the_weights_are_the_same_with_and_without(arch, last, counted):
    cached, plain = (fit(toy_network(arch, last, size=32), cache=cache, optimizer=SGD) for cache in (True, False))
    assert counted == [20, 8]
    assert same_weights(cached.model, plain.model)
    assert cached.history.drop(columns="seconds").equals(plain.history.drop(columns="seconds"))
    assert ("ran once" in cached.notes, "ran once" in plain.notes) == (True, False)


def test_in_bf16_the_weights_are_nearly_the_same():
    tl.use_profile("quick", device="cpu", precision="bf16")
    cached, plain = (fit(toy_network(last=1), cache=cache, optimizer=SGD) for cache in (True, False))
    for (name, one), two in zip(cached.model.named_parameters(), plain.model.parameters(), strict=True):
        # bf16 keeps 8 bits of a number; three epochs of small steps stay well inside that
        assert torch.allclose(one, two, atol=1e-2 * float(two.detach().abs().max())), name


def test_views_are_cached_and_come_in_turn(counted):
    options = {"augment": True, "epochs": 4, "keep": "last"}
    fresh, four, two = (fit(cache=cache, **options) for cache in (True, 4, 2))
    # Fresh crops in every epoch, and as many views as epochs, are not cached; validation always is.
    assert counted == [8, 8, 40, 8]
    assert same_weights(four.model, fresh.model)
    assert not same_weights(two.model, fresh.model)
    assert "2 augmented views of every image" in two.notes


def test_each_view_is_the_crop_that_the_epoch_of_its_number_makes(counted):
    runs = [fit(augment=True, cache=cache, schedule="constant") for cache in (True, 2)]
    fresh, cached = (run.history["train_loss"].to_numpy() for run in runs)
    assert cached[:2] == pytest.approx(fresh[:2], rel=1e-5)
    assert cached[2] != pytest.approx(fresh[2], rel=1e-3), "the third epoch sees the first view again"
    calls, own = [], tl.Preprocessing().at(64).training()
    fit(augment=lambda image: calls.append(image) or own(image), epochs=6, cache=2)
    assert (counted[3:], len(calls)) == ([40, 8], 40), "a transform of one's own can be cached, too"


def test_what_does_not_fit_into_memory_is_not_cached(monkeypatch):
    cached, limits = fit(), iter([2**30, 2**30, 1000, 1000])  # of the images, which fit, and of the activations
    monkeypatch.setattr(image_source, "memory_limit", lambda device: next(limits))
    plain = fit()
    assert "ran once" not in plain.notes
    assert same_weights(plain.model, cached.model)


CHANGES = {
    "vanished": lambda path: path.unlink(),
    "changed": lambda path: Image.new("RGB", (9, 9)).save(path),
    "spoiled": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.fixture
def nothing_fits(monkeypatch):
    """Images are read anew in every epoch, by workers if there are any."""
    monkeypatch.setattr(image_source, "memory_limit", lambda device: 0)


def test_images_are_decoded_once_in_the_life_of_a_split():
    data, calls = toy_data(20, 8, 4), []
    data.train.load = lambda index: calls.append(index) or ToyImages(0)(index)
    for _ in range(2):
        fit(data=data, augment=True)
    assert sorted(calls) == list(range(20))


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_do_not_fit_are_read_in_every_epoch_and_give_the_same(workers, request):
    decoded, data = fit(toy_network(last=1), cache=False), toy_data(20, 8, 4)
    request.getfixturevalue("nothing_fits")
    data.train.workers = data.val.workers = workers
    read = fit(toy_network(last=1), data, cache=False)
    assert "were read again in every epoch" in read.notes
    assert same_weights(read.model, decoded.model)


def test_images_of_any_shape_are_kept_whole():
    split = toy_split(2, "train")
    split.load = lambda index: Image.new("RGB", (300, 100) if index else (100, 200), (index * 200, 0, 0))
    pixels, aspects = image_source.decode(split, tl.Preprocessing(size=64, resize=64), whole=80)
    assert pixels.shape == (2, 3, 80, 80)
    assert aspects.tolist() == [0.5, 3.0]


@pytest.mark.parametrize("workers", [None, 0, 2])
@pytest.mark.parametrize("change", list(CHANGES))
def test_an_image_that_goes_away_is_named(change, workers, tmp_path, request):
    folder = make_classes(tmp_path / "images", {"red": 14, "green": 14})
    data = tl.load_folder(folder, workers=workers, verbose=False)
    path = folder / data.train.keys[3]
    CHANGES[change](path)
    if workers is not None:
        request.getfixturevalue("nothing_fits")
    model = tl.freeze(tl.load_model("resnet18", classes=("green", "red"), weights="none", size=64))
    before = tl.snapshot(model)
    sentence = refused(tl.DataError, re.escape(path.name), fit, model, data, augment=True)
    assert not re.search(r"\n|Traceback", sentence)
    assert {name.split(".")[0] for name in tl.changed(model, before)} <= {"fc"}


def dying(index):
    """Ends its process at the fifth image."""
    return os._exit(9) if index == 4 else ToyImages(0)(index)


def test_a_worker_that_dies_is_explained(nothing_fits):
    data = toy_data(20, 8, 4)
    data.train.load, data.train.workers = dying, 2
    refused(tl.TrainingError, r"process.* images ended .*with workers=0", fit, data=data, augment=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_numbers_and_epochs_differ(workers, nothing_fits, monkeypatch):
    sums, epoch = [], trainer.train_epoch

    def noting(network, batches, *args, **kwargs):
        seen = list(batches)
        sums.append(sorted(float(image.sum()) for images, _ in seen for image in images))
        return epoch(network, seen, *args, **kwargs)

    monkeypatch.setattr(trainer, "train_epoch", noting)
    data = toy_data(12, 4, 4)
    data.train.workers = workers
    one, two = (fit(data=data, augment=True) for _ in range(2))
    assert same_weights(one.model, two.model)
    assert sums[:3] == sums[3:]
    assert sums[0] != sums[1] != sums[2] != sums[0]
