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
from torchvision.transforms import v2
from toy import EVERY_ARCH, cases, refused, same_weights, toy_data, toy_network, toy_split

import tlhelpers as tl

OPTIONS = {"batch_size": 8, "lr": 0.01}
TRANSFORM = tl.Preprocessing().at(32).training()


def loaders(data, transform, size=8):
    generator = torch.Generator().manual_seed(0)
    train = DataLoader(data.train.with_transform(transform), size, shuffle=True, generator=generator)
    return {"train": train, "val": DataLoader(data.val.with_transform(transform), size)}


def plain_training(model, batches, epochs, fused=True):
    """Written out, without anything from the package: SGD with momentum, StepLR."""
    model.to(memory_format=torch.channels_last)
    # `fit` takes the fused form of an optimizer, which rounds the last bit otherwise.
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9, fused=fused)
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
    plain = plain_training(toy_network(arch, last, size=32), loaders(data, TRANSFORM)["train"], epochs)
    step = tl.StepOptions(optimizer=functools.partial(SGD, momentum=0.9), schedule=lambda o: StepLR(o, 1, 0.5))
    count = tl.Epochs(epochs, keep="last")
    run = tl.fit(toy_network(arch, last, size=32), data, epochs=count, augment=TRANSFORM, step=step, **OPTIONS)
    assert same_weights(run.model, plain)


def test_train_model_is_the_older_tutorials_loop():
    batches = loaders(toy_data(20, 8, 4), tl.Preprocessing().at(64).evaluation())
    plain = plain_training(toy_network(), batches["train"], epochs=1, fused=False)
    batches["train"].generator.manual_seed(0)
    model = toy_network().to(memory_format=torch.channels_last)
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
    given = (nn.CrossEntropyLoss(), optimizer, StepLR(optimizer, 7))
    assert tl.train_model(model, batches, *given, num_epochs=1) is model
    assert len(model.history) == 1
    assert same_weights(model, plain)
    refused(tl.TrainingError, "'val' has no batch", tl.train_model, model, {"train": batches["train"]}, *given)


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
    step = tl.StepOptions(schedule=lambda o: LambdaLR(o, lambda epoch: 1.0 if epoch < 2 else 1e4))
    run = tl.fit(model, data, epochs=tl.Epochs(4, keep=keep), lr=1e-3, batch_size=8, augment=False, step=step)
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
    model, data, step = toy_network(last=0), toy_data(8, 4, 4), tl.StepOptions(schedule="constant")
    transform = spoiled_at(8 + 6, spoil, model.card.preprocessing.evaluation())  # in the epoch's second batch of 4
    refused(error, message, tl.fit, model, data, epochs=3, batch_size=4, augment=transform, step=step)
    twin = tl.fit(toy_network(last=0), data, epochs=1, batch_size=4, augment=False, step=step).model
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


@cases(
    "change, message",
    (lambda: {"epochs": tl.Epochs(1, keep="worst")}, "expected 'best' or 'last'"),
    (lambda: {"epochs": tl.Epochs(1, patience=0)}, "patience=0 must be at least 1"),
    (lambda: {"augment": False, "cache": 2}, "cache=2 asks for augmented views"),
    (lambda: {"cache": 0}, "cache=0 must be at least 1"),
    (lambda: {"step": tl.StepOptions(accumulation_steps=0)}, "accumulation_steps=0 must be"),
    (lambda: {"step": tl.StepOptions(max_grad_norm=0.0)}, "max_grad_norm=0.0 must be"),
    (lambda: {"step": tl.StepOptions(ema_decay=1.0)}, "ema_decay=1.0 must be"),
)
def test_settings_that_make_no_sense_are_refused(change, message):
    refused(tl.TrainingError, message, lambda: tl.fit(toy_network(), toy_data(8, 4, 4), **change()))


def test_networks_that_do_not_fit_the_data_are_refused():
    data, model = toy_data(8, 4, 4), toy_network()
    with pytest.raises(tl.TrainingError, match=r"1000 outputs, but 'train' has 2 classes \(red, green\)"):
        tl.fit(tl.load_model("efficientnet_lite0"), data)
    for schedule in ("cosine", "one-cycle"):
        with pytest.raises(tl.TrainingError, match="'train' has no batch"):
            tl.fit(model, loaders(data, TRANSFORM) | {"train": []}, epochs=1, step=tl.StepOptions(schedule=schedule))
    refused(tl.TrainingError, "every parameter is frozen", tl.fit, model.requires_grad_(False), data)


def test_bf16_trains_with_weights_in_fp32():
    tl.use_profile("quick", device="cpu", precision="bf16")
    run = tl.fit(toy_network(last=0), toy_data(12, 4, 4), epochs=1, batch_size=4)
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def trained(model=None, epochs=2, augment=True, **step):
    """A trained network, its run as the attribute `run`."""
    model = model or toy_network(last=0)
    options = {"augment": augment, "step": tl.StepOptions(**{"optimizer": SGD, **step}), **OPTIONS}
    model.run = tl.fit(model, toy_data(20, 8, 4), epochs=tl.Epochs(epochs, keep="last"), **options)
    return model


@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_accumulated_gradients_add_up_to_the_batchs(pieces):
    whole, model = trained(), trained(accumulation_steps=pieces)
    torch.testing.assert_close(model.fc.weight, whole.fc.weight, atol=1e-6, rtol=1e-5)
    losses = [network.run.history["train_loss"].to_numpy() for network in (model, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_clipping_shortens_only_gradients_that_are_too_long():
    seen = []

    class Noting(SGD):
        def step(self, closure=None):
            seen.append(torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]]).norm())
            super().step(closure)

    trained(max_grad_norm=1e-4, optimizer=Noting)
    assert max(seen) <= 1.001e-4
    assert same_weights(trained(max_grad_norm=1e4), trained())


def test_averaged_weights_are_those_of_the_formula_and_frozen_ones_stay():
    seen, model = [], toy_network(last=0)
    before = tl.snapshot(model)

    class Noting(SGD):
        def step(self, closure=None):
            super().step(closure)
            seen.append(self.param_groups[-1]["params"][0].detach().clone())

    trained(model, ema_decay=0.5, optimizer=Noting)
    mean = seen[0]
    for weight in seen[1:]:
        mean = 0.5 * mean + 0.5 * weight
    torch.testing.assert_close(model.fc.weight.detach(), mean)
    assert {name.split(".")[0] for name in tl.changed(model, before)} == {"fc"}


def test_averages_with_batchnorm_that_moves_are_the_weights_that_were_validated():
    model = trained(toy_network(), ema_decay=0.9)
    expected = model.run.history["val_loss"].iloc[-1]
    assert tl.evaluate(model, toy_data(20, 8, 4).val).loss == pytest.approx(expected, rel=1e-4)


def test_mixing_and_smoothing_change_the_training_and_follow_the_seed():
    mixed, plain = trained(mixup=v2.MixUp(num_classes=2)), trained()
    assert same_weights(mixed, trained(mixup=v2.MixUp(num_classes=2)))
    assert tl.changed(mixed, tl.snapshot(plain)) == ["fc.weight", "fc.bias"]
    assert tl.changed(trained(loss=nn.CrossEntropyLoss(label_smoothing=0.1)), tl.snapshot(plain))
    kept = trained(mixup=v2.MixUp(num_classes=2), augment=False)
    assert not any("ran once" in note for note in kept.run.notes), "mixing mixes images, not cached activations"


def test_training_ends_when_patience_does():
    ruin = tl.StepOptions(schedule=lambda o: LambdaLR(o, lambda epoch: float(epoch < 1)))
    run = tl.fit(toy_network(last=0), toy_data(20, 8, 4), epochs=tl.Epochs(9, patience=2), step=ruin, **OPTIONS)
    assert len(run.history) == run.best_epoch + 2
    assert f"none was better than epoch {run.best_epoch} since" in run.stopped
