"""The loop: the helper is the plain loop, keeps the best weights, and survives what goes wrong."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from toy import ToyImages, toy_data, toy_split

import tlhelpers as tl
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.loop import compute_logits
from tlhelpers.models.families import ARCHS

EVERY_ARCH = pytest.mark.parametrize("arch", list(ARCHS))


def network(arch: str = "resnet18", seed: int = 0) -> nn.Module:
    return tl.load_model(arch, classes=["red", "green"], weights="none", size=64, seed=seed)


def plain_training(
    model: nn.Module,
    data: tl.ImageData,
    transform: Callable[[Image.Image], torch.Tensor],
    epochs: int,
    fused: bool = True,
) -> None:
    """Written out, without anything from the package: SGD with momentum, StepLR, batches of 8."""
    model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(data.train.with_transform(transform), 8, shuffle=True, generator=generator)
    # `fit` takes the fused form of an optimizer, which rounds the last bit otherwise; `fused` is PyTorch's own.
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = SGD(trainable, lr=0.01, momentum=0.9, fused=fused)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    torch.manual_seed(0)
    for _ in range(epochs):
        model.train()
        for images, labels in loader:
            images = images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        scheduler.step()
    model.eval()


@EVERY_ARCH
@pytest.mark.parametrize("part", ["head", "everything"])
def test_the_helper_gives_the_weights_of_the_plain_loop(arch: str, part: str) -> None:
    data = toy_data(20, 4, 4)  # 20 in batches of 8: the last one is short
    plain, helped = network(arch), network(arch)
    if part == "head":
        tl.freeze(plain), tl.freeze(helped)
    transform = plain.card.preprocessing.training()
    epochs = 2 if part == "head" else 1
    plain_training(plain, data, transform, epochs)
    tl.fit(
        helped,
        data,
        epochs=epochs,
        lr=0.01,
        batch_size=8,
        augment=transform,
        optimizer=functools.partial(SGD, momentum=0.9),
        schedule=lambda optimizer: StepLR(optimizer, 1, 0.5),
        keep="last",
    )
    assert tl.changed(helped, tl.snapshot(plain)) == []


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_the_fused_optimizer_is_the_same_but_for_rounding(kind: type[torch.optim.Optimizer]) -> None:
    models = []
    for optimizer in (kind, functools.partial(kind, fused=False)):
        model = tl.freeze(network())
        run = tl.fit(model, toy_data(20, 4, 4), epochs=2, lr=0.01, batch_size=8, optimizer=optimizer, keep="last")
        models.append(run.model)
    torch.testing.assert_close(models[0].fc.weight, models[1].fc.weight, atol=1e-6, rtol=1e-5)


def test_train_model_is_the_older_tutorials_loop() -> None:
    data = toy_data(20, 8, 4)
    plain, helped = network(), network()
    transform = plain.card.preprocessing.evaluation()
    plain_training(plain, data, transform, epochs=1, fused=False)
    loaders = {
        "train": DataLoader(
            data.train.with_transform(transform), 8, shuffle=True, generator=torch.Generator().manual_seed(0)
        ),
        "val": DataLoader(data.val.with_transform(transform), 8),
    }
    helped.to(memory_format=torch.channels_last)
    optimizer = SGD(helped.parameters(), lr=0.01, momentum=0.9)
    result = tl.train_model(
        helped, loaders, nn.CrossEntropyLoss(), optimizer, StepLR(optimizer, step_size=7, gamma=0.1), num_epochs=1
    )
    assert result is helped
    assert len(helped.history) == 1
    assert tl.changed(helped, tl.snapshot(plain)) == []
    with pytest.raises(tl.TrainingError, match=r"lack \['val'\]"):
        tl.train_model(helped, {"train": loaders["train"]}, nn.CrossEntropyLoss(), optimizer)


def test_the_epochs_loss_is_the_mean_over_images_not_over_batches() -> None:
    data = toy_data(20, 8, 4)
    model = tl.freeze(network())
    transform = model.card.preprocessing.evaluation()
    batches = list(DataLoader(data.train.with_transform(transform), 16))  # 16 and 4
    with torch.no_grad():
        each = torch.cat([nn.functional.cross_entropy(model(x), y, reduction="none") for x, y in batches])
    loss, accuracy = tl.train_epoch(model, batches, nn.CrossEntropyLoss(), SGD(model.parameters(), lr=0.0))
    assert loss == pytest.approx(float(each.mean()), rel=1e-5)
    halves = (float(each[:16].mean()) + float(each[16:].mean())) / 2
    assert abs(halves - loss) > 1e-4, "this data cannot tell the two means apart"
    assert accuracy == pytest.approx(tl.evaluate(model, data.train).accuracy)


def test_validation_does_not_shift_the_shuffle_or_the_augmentation() -> None:
    seen: dict[int, list[str]] = {}

    def recorder(size: int) -> Callable[[Image.Image], torch.Tensor]:
        transform = tl.Preprocessing().at(64).training()

        def record(image: Image.Image) -> torch.Tensor:
            view = transform(image)
            seen.setdefault(size, []).append(f"{float(view.sum()):.4f}")
            return view

        return record

    for size in (2, 40):
        data = replace(toy_data(12, 2, 2), val=toy_split(size, "val", 1000))
        tl.fit(tl.freeze(network()), data, epochs=3, batch_size=4, augment=recorder(size))
    assert seen[2] == seen[40]
    epochs = [tuple(seen[2][i : i + 12]) for i in (0, 12, 24)]
    assert len({frozenset(epoch) for epoch in epochs}) == 3, "two epochs showed the same augmented images"


def test_same_seed_same_weights_and_the_readers_generators_are_left_alone() -> None:
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    runs = []
    for seed in (0, 0, 1):
        model = network()
        tl.fit(model, toy_data(12, 4, 4), epochs=1, batch_size=4, seed=seed)
        runs.append(model)
    assert tl.changed(runs[0], tl.snapshot(runs[1])) == []
    assert tl.changed(runs[0], tl.snapshot(runs[2])) != []
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()


def test_worker_processes_give_the_same_weights() -> None:
    models = []
    for workers in (0, 2):
        model = tl.freeze(network())
        tl.fit(model, toy_data(12, 4, 4), epochs=2, batch_size=4, augment=False, workers=workers)
        models.append(model)
    assert tl.changed(models[0], tl.snapshot(models[1])) == []


class Untouchable(ToyImages):
    """Images that nobody may look at."""

    def __call__(self, index: int) -> Image.Image:
        raise AssertionError("training looked at the test set")


def test_training_never_sees_the_test_part() -> None:
    data = toy_data(8, 4, 4)
    locked = ImageSplit(Untouchable(0), [0, 1], data.classes, keys=["a", "b"], name="test")
    tl.fit(tl.freeze(network()), replace(data, test=locked), epochs=1, batch_size=4)


def constant_schedule_that_ruins(epoch: int) -> Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]:
    """A huge learning rate from the epoch after `epoch` on."""
    return lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda e: 1.0 if e < epoch else 1e4)


def test_the_best_epochs_weights_are_kept() -> None:
    data = toy_data(32, 16, 4)
    model = network("efficientnet_lite0")
    schedule = constant_schedule_that_ruins(2)
    run = tl.fit(model, data, epochs=4, lr=1e-3, batch_size=8, augment=False, schedule=schedule)
    assert list(run.history.index) == [1, 2, 3, 4]
    order = run.history.sort_values(["val_accuracy", "val_loss"], ascending=[False, True]).index
    assert run.best_epoch == run.kept_epoch == order[0]
    kept = tl.evaluate(model, data.val)
    assert kept.accuracy == pytest.approx(run.history.loc[run.best_epoch, "val_accuracy"])
    assert kept.loss == pytest.approx(run.history.loc[run.best_epoch, "val_loss"], rel=1e-4)
    again = network("efficientnet_lite0")
    run = tl.fit(again, data, epochs=4, batch_size=8, augment=False, schedule=schedule, keep="last")
    assert run.kept_epoch == 4
    assert tl.evaluate(again, data.val).loss == pytest.approx(run.history.loc[4, "val_loss"], rel=1e-4)


def test_nan_stops_at_once_and_the_best_weights_stay() -> None:
    model = tl.freeze(network())
    look = model.card.preprocessing.evaluation()
    calls = 0

    def poison(image: Image.Image) -> torch.Tensor:
        nonlocal calls
        calls += 1
        view = look(image)
        return view * float("nan") if calls == 8 + 6 else view  # the second epoch's second batch of 4

    data = toy_data(8, 4, 4)
    with pytest.raises(tl.TrainingError, match=r"no longer finite \(step 2 of the epoch\).*learning rate"):
        tl.fit(model, data, epochs=3, batch_size=4, augment=poison, schedule="constant")
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert not model.training
    twin = tl.freeze(network())
    tl.fit(twin, data, epochs=1, batch_size=4, augment=False, schedule="constant")
    assert tl.changed(model, tl.snapshot(twin)) == [], "not the weights of the epoch before the NaN"


def test_a_network_with_nan_is_not_scored() -> None:
    model = network()
    nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(tl.DataError, match="8 of 8 images of 'test' are not finite"):
        tl.evaluate(model, toy_data().test)


def test_ctrl_c_keeps_what_was_reached() -> None:
    calls = 0

    def impatient(image: Image.Image) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 8 * 2 + 3:
            raise KeyboardInterrupt
        return tl.Preprocessing().at(64).evaluation()(image)

    data, model = toy_data(8, 4, 4), network()
    run = tl.fit(model, data, epochs=5, batch_size=4, augment=impatient)
    assert len(run.history) == 2
    assert "Interrupted by hand in epoch 3" in repr(run)
    assert run.kept_epoch == run.best_epoch > 0
    assert tl.evaluate(model, data.val).loss == pytest.approx(run.history.loc[run.best_epoch, "val_loss"], rel=1e-4)


def test_interrupted_before_the_first_epoch_ended() -> None:
    def impatient(image: Image.Image) -> torch.Tensor:
        raise KeyboardInterrupt

    run = tl.fit(network(), toy_data(8, 4, 4), epochs=2, batch_size=4, augment=impatient)
    assert run.history.empty
    assert run.kept_epoch == 0
    assert repr(run) == "Run without a finished epoch. Interrupted by hand in epoch 1."


def test_running_out_of_memory_says_what_to_change() -> None:
    model = network()

    def exhaust(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model.layer4.register_forward_pre_hook(exhaust)
    with pytest.raises(tl.TrainingError, match=r"ran out with 16 images in a batch\. Try batch_size=8"):
        tl.fit(model, toy_data(16, 4, 4), epochs=1, batch_size=16)


def test_a_last_batch_of_one_image_does_not_break_batchnorm() -> None:
    model = tl.load_model("efficientnet_lite0", classes=["red", "green"], weights="none", size=32)
    run = tl.fit(model, toy_data(9, 4, 4), epochs=1, batch_size=8)
    assert len(run.history) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": "worst"}, "expected 'best' or 'last'"),
        ({"schedule": "linear"}, "expected 'cosine', 'constant', 'one-cycle' or a function"),
        ({"epochs": 0}, "at least one"),
    ],
)
def test_settings_that_make_no_sense(change: dict[str, object], message: str) -> None:
    with pytest.raises(tl.TrainingError, match=message):
        tl.fit(network(), toy_data(8, 4, 4), **change)  # type: ignore[arg-type]


def test_networks_that_do_not_fit_the_data() -> None:
    data = toy_data(8, 4, 4)
    with pytest.raises(tl.TrainingError, match=r"1000 outputs, but 'train' has 2 classes \(red, green\)"):
        tl.fit(tl.load_model("efficientnet_lite0"), data)
    swapped = tl.load_model("resnet18", classes=["green", "red"], weights="none", size=64)
    with pytest.raises(tl.TrainingError, match="in another order or under other names"):
        tl.evaluate(swapped, data.test)
    model = network()
    for parameter in model.parameters():
        parameter.requires_grad = False
    with pytest.raises(tl.TrainingError, match="every parameter is frozen"):
        tl.fit(model, data)


# --- what comes out --------------------------------------------------------------------------------------------


def test_evaluation_agrees_with_scikit_learn() -> None:
    from sklearn import metrics

    classes = ("red", "green", "blue")
    split = toy_split(30, "test", 0, classes)
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    result = tl.Evaluation(split, classes, logits)
    truth, said = split.labels.numpy(), logits.argmax(1).numpy()
    assert result.accuracy == pytest.approx(metrics.accuracy_score(truth, said))
    assert result.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    assert np.array_equal(result.confusion(), metrics.confusion_matrix(truth, said))
    assert result.loss == pytest.approx(metrics.log_loss(truth, logits.double().softmax(1).numpy()), rel=1e-5)
    table = result.per_class()
    assert table["recall"].to_numpy() == pytest.approx(metrics.recall_score(truth, said, average=None))
    assert table["precision"].to_numpy() == pytest.approx(metrics.precision_score(truth, said, average=None))
    low, high = result.interval
    assert 0 < low < result.accuracy < high < 1


def test_wilson_against_the_formula() -> None:
    z, k, n = 1.959963984540054, 145, 153
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert tl.wilson_interval(k, n) == pytest.approx((centre - half, centre + half))
    assert tl.wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_worst_mistakes_come_first_and_are_mistakes() -> None:
    split = toy_split(4, "test")  # labels 0 1 0 1
    logits = torch.tensor([[5.0, 0.0], [9.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    table = tl.Evaluation(split, split.classes, logits).worst()
    assert list(table["index"]) == [1, 2]
    assert list(table["true"]) == ["green", "red"]
    assert list(table["predicted"]) == ["red", "green"]
    assert table["confidence"].is_monotonic_decreasing
    perfect = tl.Evaluation(split, split.classes, torch.eye(2)[split.labels])
    assert perfect.worst().empty
    assert perfect.show_worst().axes, "no mistakes is no reason to fail"


def test_evaluate_leaves_every_mode_as_it_was() -> None:
    model = network().train()
    model.layer1.eval()
    before = [module.training for module in model.modules()]
    tl.evaluate(model, toy_data().test)
    tl.predict(model, ToyImages(0)(0))
    assert [module.training for module in model.modules()] == before


def test_predict_takes_files_and_images_and_names_the_bad_one(tmp_path: Path) -> None:
    model = network()
    image = ToyImages(0)(0)
    image.save(tmp_path / "one.png")
    table = tl.predict(model, [tmp_path / "one.png", image.convert("L"), image], top=5)
    assert list(table["image"].unique()) == [str(tmp_path / "one.png"), "image 2", "image 3"]
    assert table.groupby("image")["probability"].sum().to_numpy() == pytest.approx([1, 1, 1])
    first, third = table[table["image"] == str(tmp_path / "one.png")], table[table["image"] == "image 3"]
    assert first["probability"].tolist() == third["probability"].tolist()
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(tl.DataError, match=r"bad\.jpg"):
        tl.predict(model, [image, tmp_path / "bad.jpg"])


def test_bf16_is_near_fp32_and_its_weights_stay_fp32() -> None:
    model, data = network(), toy_data(12, 4, 4)
    exact = tl.evaluate(model, data.test).logits
    tl.use_profile("quick", device="cpu", precision="bf16")
    half = tl.evaluate(model, data.test).logits
    assert half.dtype == torch.float32
    assert torch.allclose(half, exact, atol=0.03 * float(exact.abs().max()))
    run = tl.fit(tl.freeze(model), data, epochs=1, batch_size=4, optimizer=AdamW)
    assert all(p.dtype == torch.float32 for p in run.model.parameters())


def test_logits_leave_inference_mode_behind() -> None:
    model = network()
    logits, _ = compute_logits(model, [(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))])
    assert not logits.is_inference()
