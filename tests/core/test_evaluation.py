"""Evaluation, prediction and features: right, and without a trace in the network."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn
from toy import ToyImages, refused, toy_data, toy_network, toy_split, untouched

import tlhelpers as tl


def test_scores_agree_with_scikit_learn():
    classes = ("red", "green", "blue")
    split = toy_split(30, "test", 0, classes)
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    result, given = tl.Evaluation(split, classes, logits), (split.labels.numpy(), logits.argmax(1).numpy())
    table = result.per_class()
    assert result.accuracy == pytest.approx(metrics.accuracy_score(*given))
    assert result.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(*given))
    assert result.loss == pytest.approx(metrics.log_loss(given[0], logits.double().softmax(1).numpy()), rel=1e-5)
    assert table["recall"].to_numpy() == pytest.approx(metrics.recall_score(*given, average=None))
    assert table["precision"].to_numpy() == pytest.approx(metrics.precision_score(*given, average=None))
    assert np.array_equal(result.confusion(), metrics.confusion_matrix(*given))
    assert result.interval == tl.wilson_interval(int((given[0] == given[1]).sum()), 30)
    assert tl.wilson_interval(145, 153) == pytest.approx((0.90022358, 0.97326995))  # by the formula
    assert tl.wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_worst_mistakes_come_first_and_are_mistakes():
    split = toy_split(4, "test")  # labels 0 1 0 1
    table = tl.Evaluation(split, split.classes, torch.tensor([[5.0, 0.0], [9.0, 0.0], [0.0, 1.0], [0.0, 3.0]])).worst()
    assert table[["index", "true", "predicted"]].to_numpy().tolist() == [[1, "green", "red"], [2, "red", "green"]]
    assert table["confidence"].is_monotonic_decreasing
    scores = tl.Evaluation(split, split.classes, torch.tensor([[1.0, 0.0]] * 4)).per_class()
    assert scores["recall"].tolist() == [1, 0]
    assert np.isnan(scores["precision"]["green"]), "it is never predicted"
    perfect = tl.Evaluation(split, split.classes, torch.eye(2)[split.labels])
    assert perfect.worst().empty
    assert perfect.show_worst().axes, "no mistakes is no reason to fail"


def test_every_mode_is_left_as_it_was():
    model, test = toy_network().train(), toy_data().test
    model.layer1.eval()
    with untouched(model):
        tl.predict(model, ToyImages(0)(0))
        for measure in (tl.evaluate, tl.compute_features):
            measure(model, test)
            spoiled = test.with_transform(lambda _: 1 / 0)
            refused(tl.DataError, r"of test/0.png failed: ZeroDivisionError", measure, model, spoiled)
    assert not model.fc._forward_pre_hooks, "no hook is left after an error"


def test_features_are_what_the_head_is_given():
    model, test = toy_network(), toy_data().test
    features = tl.compute_features(model, test)
    assert features.shape == (len(test), model.fc.in_features)
    torch.testing.assert_close(model.fc(features), tl.evaluate(model, test).logits, atol=1e-5, rtol=1e-4)
    flipped = test.with_transform(lambda image: model.card.preprocessing.evaluation()(image).flip(2))
    assert (tl.compute_features(model, flipped) - features).abs().max() > 1e-3, "a split's own transform is used"


def test_predict_takes_files_and_images_and_names_the_bad_one(tmp_path):
    model, image, path = toy_network(), ToyImages(0)(0), tmp_path / "one.png"
    image.save(path)
    table = tl.predict(model, [path, image.convert("L"), image], top=5)
    found = {name: rows["probability"].tolist() for name, rows in table.groupby("image", sort=False)}
    assert list(found) == [str(path), "image 2", "image 3"]
    assert [sum(probabilities) for probabilities in found.values()] == pytest.approx([1, 1, 1])
    assert found[str(path)] == found["image 3"]
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    refused(tl.DataError, r"bad\.jpg", tl.predict, model, [image, tmp_path / "bad.jpg"])


def test_a_network_with_nan_is_not_scored():
    model = toy_network()
    nn.init.constant_(model.fc.bias, float("nan"))
    refused(tl.DataError, "8 of 8 images of 'test' are not finite", tl.evaluate, model, toy_data().test)


def test_bf16_is_near_fp32():
    model, test = toy_network(), toy_data().test
    exact = tl.evaluate(model, test).logits
    tl.use_profile("quick", device="cpu", precision="bf16")
    half = tl.evaluate(model, test).logits
    assert half.dtype == torch.float32
    assert not half.is_inference(), "autograd could not use it"
    assert torch.allclose(half, exact, atol=0.03 * float(exact.abs().max()))
