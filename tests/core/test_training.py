"""`fit` is the plain loop, keeps the best weights, and survives what goes wrong."""

import functools
import itertools
import math
import random
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, StepLR
from torch.utils.data import DataLoader
from toy import EVERY_ARCH, cases, refused, same_weights, toy_data, toy_network, toy_split

import tlhelpers as tl

OPTIONS = {"batch_size": 8, "lr": 0.01}
TRANSFORM = tl.Preprocessing().at(32).training()


def plain_training(model, batches, epochs):
    """Written out, without anything from the package: SGD with momentum, StepLR."""
    model.to(memory_format=torch.channels_last)
    # `fit` takes the fused form of an optimizer, which rounds the last bit otherwise.
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9, fused=True)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    torch.manual_seed(0)
    for _ in range(epochs):
        model.train()
        for images, labels in batches:
            images = images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
    return model.eval()


@pytest.mark.parametrize("arch", EVERY_ARCH)
@pytest.mark.parametrize("last", [0, None], ids=["head", "everything"])
def test_fit_gives_the_weights_of_the_plain_loop(arch, last):
    data, epochs = toy_data(20, 4, 4), 2 if last == 0 else 1  # 20 in batches of 8: the last one is short
    shuffled = {"shuffle": True, "generator": torch.Generator().manual_seed(0)}
    batches = DataLoader(data.train.with_transform(TRANSFORM), 8, **shuffled)
    plain = plain_training(toy_network(arch, last, size=32), batches, epochs)
    step = {"optimizer": functools.partial(SGD, momentum=0.9), "schedule": lambda o: StepLR(o, 1, 0.5)}
    count = {"epochs": epochs, "keep": "last"}
    run = tl.fit(toy_network(arch, last, size=32), data, **count, augment=TRANSFORM, **step, **OPTIONS)
    assert same_weights(run.model, plain)


def test_the_epochs_loss_is_the_mean_over_images_not_over_batches():
    data, model = toy_data(20, 8, 4), toy_network(last=0)
    batches = list(DataLoader(data.train.with_transform(model.card.preprocessing.evaluation()), 16))  # 16 and 4
    with torch.no_grad():
        each = torch.cat([nn.functional.cross_entropy(model(x), y, reduction="none") for x, y in batches])
    loss, accuracy = tl.train_epoch(model, batches, nn.CrossEntropyLoss(), SGD(model.parameters(), lr=0.0))
    assert loss == pytest.approx(float(each.mean()), rel=1e-5)
    halves = (float(each[:16].mean()) + float(each[16:].mean())) / 2
    assert abs(halves - loss) > 1e-4, "this data cannot tell the two means apart"
    assert accuracy == pytest.approx(tl.evaluate(model, data.train).accuracy)


def test_validation_does_not_shift_the_shuffle_or_the_augmentation():
    def sums(size):
        """What of each image training saw, in its order."""
        seen = []

        def record(image):
            seen.append(round(float((view := TRANSFORM(image)).sum()), 3))
            return view

        data = replace(toy_data(12, 2, 2), val=toy_split(size, "val", 1000))
        tl.fit(toy_network(last=0), data, epochs=3, batch_size=4, augment=record)
        return seen

    seen = sums(2)
    assert seen == sums(40)
    assert len({frozenset(seen[i : i + 12]) for i in (0, 12, 24)}) == 3, "two epochs showed the same views"


def test_the_same_seed_gives_the_same_weights_and_global_generators_are_left_alone():
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    runs = [tl.fit(toy_network(), toy_data(12, 4, 4), epochs=1, batch_size=4, seed=seed) for seed in (0, 0, 1)]
    assert same_weights(runs[0].model, runs[1].model)
    assert not same_weights(runs[0].model, runs[2].model)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()


def test_training_never_sees_the_test_set():
    data = toy_data(8, 4, 4)
    data.test.load = lambda index: pytest.fail("training looked at the test set")
    tl.fit(toy_network(last=0), data, epochs=1, batch_size=4)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_of_the_best_or_of_the_last_epoch_are_kept(keep):
    data, model = toy_data(32, 16, 4), toy_network("efficientnet_lite0")
    then = {"schedule": lambda o: LambdaLR(o, lambda epoch: 1.0 if epoch < 2 else 1e4), "augment": False}
    run = tl.fit(model, data, epochs=4, keep=keep, lr=1e-3, batch_size=8, **then)
    assert list(run.history.index) == [1, 2, 3, 4]
    order = run.history.sort_values(["val_accuracy", "val_loss"], ascending=[False, True]).index
    assert run.best_epoch == order[0]
    assert run.kept_epoch == (run.best_epoch if keep == "best" else 4)
    kept, row = tl.evaluate(model, data.val), run.history.loc[run.kept_epoch]
    assert kept.accuracy == pytest.approx(row["val_accuracy"])
    assert kept.loss == pytest.approx(row["val_loss"], rel=1e-4)


def spoiled_at(number, spoil, transform):
    """A transform that lets `spoil` have what it makes of the image of that number, counted over all epochs."""
    calls = itertools.count(1)
    return lambda image: spoil(transform(image)) if next(calls) == number else transform(image)


@cases(
    "spoil, error, message",
    (lambda view: view * math.nan, tl.TrainingError, r"no longer finite \(step 2 of the epoch\).*learning rate"),
    (mock.Mock(side_effect=tl.DataError("seven.png is gone")), tl.DataError, "seven.png is gone"),
    ids=["NaN", "an image that goes away"],
)
def test_trouble_in_the_second_epoch_leaves_the_weights_of_the_first(spoil, error, message):
    model, data, step = toy_network(last=0), toy_data(8, 4, 4), {"schedule": "constant"}
    transform = spoiled_at(8 + 6, spoil, model.card.preprocessing.evaluation())  # in the epoch's second batch of 4
    refused(error, message, tl.fit, model, data, epochs=3, batch_size=4, augment=transform, **step)
    twin = tl.fit(toy_network(last=0), data, epochs=1, batch_size=4, augment=False, **step).model
    assert same_weights(model, twin)
    assert not model.training


@pytest.mark.parametrize("epochs", [0, 2])
def test_ctrl_c_keeps_what_was_reached(epochs):
    data, model = toy_data(8, 4, 4), toy_network()
    impatient = spoiled_at(8 * epochs + 3, mock.Mock(side_effect=KeyboardInterrupt), TRANSFORM)
    run = tl.fit(model, data, epochs=5, batch_size=4, augment=impatient)
    assert len(run.history) == epochs
    assert f"Interrupted by hand in epoch {epochs + 1}" in repr(run)
    assert run.kept_epoch == run.best_epoch
    if epochs:
        expected = run.history.loc[run.best_epoch, "val_loss"]
        assert tl.evaluate(model, data.val).loss == pytest.approx(expected, rel=1e-4)


def test_running_out_of_memory_says_what_to_change():
    model = toy_network()
    exhausted = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    model.layer4.register_forward_pre_hook(mock.Mock(side_effect=exhausted))
    with pytest.raises(tl.TrainingError, match=r"ran out with 16 images in a batch\. Try batch_size=8"):
        tl.fit(model, toy_data(16, 4, 4), epochs=1, batch_size=16)


def test_a_last_batch_of_one_image_does_not_break_batchnorm():
    model = toy_network("efficientnet_lite0", size=32)
    assert len(tl.fit(model, toy_data(9, 4, 4), epochs=1, batch_size=8).history) == 1


def test_networks_that_do_not_fit_the_data_are_refused():
    data, model = toy_data(8, 4, 4), toy_network()
    with pytest.raises(tl.TrainingError, match=r"1000 outputs, but 'train' has 2 classes \(red, green\)"):
        tl.fit(tl.load_model("efficientnet_lite0"), data)
    for schedule in ("cosine", "one-cycle"):
        with pytest.raises(tl.TrainingError, match="'train' has no batch"):
            tl.fit(model, {"train": [], "val": DataLoader(data.val.with_transform(TRANSFORM))}, schedule=schedule)
    refused(tl.TrainingError, "every parameter is frozen", tl.fit, model.requires_grad_(False), data)


def test_bf16_trains_with_weights_in_fp32():
    tl.use_profile("quick", device="cpu", precision="bf16")
    run = tl.fit(toy_network(last=0), toy_data(12, 4, 4), epochs=1, batch_size=4)
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def test_label_smoothing_changes_the_training():
    step = {"epochs": 2, "keep": "last", "optimizer": SGD, **OPTIONS}
    plain, smooth = {}, {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}
    runs = [tl.fit(toy_network(last=0), toy_data(20, 8, 4), **step, **loss) for loss in (plain, smooth)]
    assert not same_weights(*(run.model for run in runs))


def test_training_ends_when_patience_does():
    ruin = {"schedule": lambda o: LambdaLR(o, lambda epoch: float(epoch < 1))}
    run = tl.fit(toy_network(last=0), toy_data(20, 8, 4), epochs=9, patience=2, **ruin, **OPTIONS)
    assert len(run.history) == run.best_epoch + 2
    assert f"none was better than epoch {run.best_epoch} since" in run.stopped


def test_no_epoch_begins_when_the_time_is_up(tmp_path):
    again = {"epochs": 9, "minutes": 1e-9, "keep": "last", "checkpoint": tmp_path, "resume": True, **OPTIONS}
    runs = [tl.fit(toy_network(last=0), toy_data(20, 8, 4), **again) for _ in range(2)]
    assert [(len(run.history), run.kept_epoch) for run in runs] == [(1, 1), (2, 2)], "each call trains one epoch"
    assert runs[1].stopped == "Stopped after epoch 2: the time was up."
