"""Evaluation, prediction and features: right, and without a trace in the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn
from toy import ToyImages, toy_data, toy_network, toy_split

import tlhelpers as tl
from tlhelpers.loop import compute_logits


def test_scores_agree_with_scikit_learn() -> None:
    classes = ("red", "green", "blue")
    split = toy_split(30, "test", 0, classes)
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    result = tl.Evaluation(split, classes, logits)
    truth, predicted = split.labels.numpy(), logits.argmax(1).numpy()
    assert result.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert result.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert result.loss == pytest.approx(metrics.log_loss(truth, logits.double().softmax(1).numpy()), rel=1e-5)
    table = result.per_class()
    assert table["recall"].to_numpy() == pytest.approx(metrics.recall_score(truth, predicted, average=None))
    assert table["precision"].to_numpy() == pytest.approx(metrics.precision_score(truth, predicted, average=None))
    assert result.confusion().loc["red", "blue"] == ((truth == 0) & (predicted == 2)).sum()
    low, high = result.interval
    assert 0 < low < result.accuracy < high < 1


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    split = toy_split(4, "test")
    table = tl.Evaluation(split, split.classes, torch.tensor([[1.0, 0.0]] * 4)).per_class()
    assert table["recall"].tolist() == [1, 0]
    assert np.isnan(table["precision"]["green"])


def test_wilsons_interval_is_the_formula() -> None:
    z, k, n = 1.959963984540054, 145, 153
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert tl.wilson_interval(k, n) == pytest.approx((centre - half, centre + half))
    assert tl.wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_worst_mistakes_come_first_and_are_mistakes() -> None:
    split = toy_split(4, "test")  # labels 0 1 0 1
    table = tl.Evaluation(split, split.classes, torch.tensor([[5.0, 0.0], [9.0, 0.0], [0.0, 1.0], [0.0, 3.0]])).worst()
    assert list(table["index"]) == [1, 2]
    assert list(table["true"]) == ["green", "red"]
    assert list(table["predicted"]) == ["red", "green"]
    assert table["confidence"].is_monotonic_decreasing
    perfect = tl.Evaluation(split, split.classes, torch.eye(2)[split.labels])
    assert perfect.worst().empty
    assert perfect.show_worst().axes, "no mistakes is no reason to fail"


def test_every_mode_is_left_as_it_was() -> None:
    model = toy_network().train()
    model.layer1.eval()
    before = [module.training for module in model.modules()]
    tl.evaluate(model, toy_data().test)
    tl.predict(model, ToyImages(0)(0))
    tl.compute_features(model, toy_data().test)
    assert [module.training for module in model.modules()] == before


def test_features_are_what_the_head_is_given() -> None:
    model, data = toy_network(), toy_data()
    features = tl.compute_features(model, data.test)
    assert features.shape == (len(data.test), model.fc.in_features)
    torch.testing.assert_close(model.fc(features), tl.evaluate(model, data.test).logits, atol=1e-5, rtol=1e-4)
    flipped = data.test.with_transform(lambda image: model.card.preprocessing.evaluation()(image).flip(2))
    assert (tl.compute_features(model, flipped) - features).abs().max() > 1e-3, "a split's own transform is used"
    with pytest.raises(ZeroDivisionError):
        tl.compute_features(model, data.test.with_transform(lambda _: 1 / 0))
    assert not model.fc._forward_pre_hooks, "no hook is left after an error"


def test_predict_takes_files_and_images_and_names_the_bad_one(tmp_path: Path) -> None:
    model, image = toy_network(), ToyImages(0)(0)
    image.save(tmp_path / "one.png")
    table = tl.predict(model, [tmp_path / "one.png", image.convert("L"), image], top=5)
    assert list(table["image"].unique()) == [str(tmp_path / "one.png"), "image 2", "image 3"]
    assert table.groupby("image")["probability"].sum().to_numpy() == pytest.approx([1, 1, 1])
    by_image = {name: rows["probability"].tolist() for name, rows in table.groupby("image")}
    assert by_image[str(tmp_path / "one.png")] == by_image["image 3"]
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(tl.DataError, match=r"bad\.jpg"):
        tl.predict(model, [image, tmp_path / "bad.jpg"])


def test_a_network_with_nan_is_not_scored() -> None:
    model = toy_network()
    nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(tl.DataError, match="8 of 8 images of 'test' are not finite"):
        tl.evaluate(model, toy_data().test)


def test_bf16_is_near_fp32() -> None:
    model, test = toy_network(), toy_data().test
    exact = tl.evaluate(model, test).logits
    tl.use_profile("quick", device="cpu", precision="bf16")
    half = tl.evaluate(model, test).logits
    assert half.dtype == torch.float32
    assert torch.allclose(half, exact, atol=0.03 * float(exact.abs().max()))


def test_logits_leave_inference_mode_behind() -> None:
    logits, _ = compute_logits(toy_network(), [(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))])
    assert not logits.is_inference()
