"""Detection: boxes that fit and move with their image, a detector that starts where it says, right scores."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2
from toy import cases, refused

import tlcourse as tc
import tlhelpers as tl
from tlcourse.detection import training
from tlcourse.detection.boxes import BoxedSplit, check_boxes
from tlcourse.detection.vehicles import CLASSES, KINDS, drawings_of
from tlcourse.safari.catalogue import SPECIES


def small(**change):
    return tc.load_vehicles(**{"size": 64, "train": 12, "test": 8, **change})


def same(first, second):
    targets = zip(first[1].values(), second[1].values(), strict=True)
    return torch.equal(first[0], second[0]) and all(torch.equal(a, b) for a, b in targets)


def test_an_image_and_its_target_have_torchvisions_types():
    data = small()
    assert (len(data.train), len(data.test), data.classes) == (12, 8, ("background", "road", "rail", "water", "air"))
    for image, target in data.train:  # ends by itself
        assert (image.shape, image.dtype, target["boxes"].dtype) == ((3, 64, 64), torch.uint8, torch.float32)
        assert (target["boxes"].canvas_size, target["boxes"].format.name) == ((64, 64), "XYXY")
        assert 1 <= len(target["labels"]) == len(target["boxes"]) <= 3
        assert (target["boxes"][:, 2:] - target["boxes"][:, :2] > 6).all(), "a box of nothing"
    refused(IndexError, "'train' has 12 images, and no number 12", data.train.__getitem__, 12)
    assert "CC BY-SA 4.0" in data.card.licence
    assert "photographs" in data.card.is_not


def test_every_vehicle_is_of_one_kind_and_drawn_in_one_split():
    groups = set(SPECIES["vehicle"])
    kinds = [group for kind in KINDS.values() for group in kind]
    assert len(kinds) == len(set(kinds))
    assert groups - set(kinds) == {"cable-car"}
    assert set(kinds) <= groups, "a group without a drawing"
    for kind in KINDS:
        train, test = (set(drawings_of(kind, split)) for split in ("train", "test"))
        assert len(train | test) == len(train) + len(test) > max(len(train), len(test))


def test_the_label_is_that_of_the_drawing_and_all_kinds_occur():
    split = small(test=60).test
    for (characters, _), labels in zip(split.load.__self__.scenes, split.labels, strict=True):
        assert all(c in drawings_of(CLASSES[k], "test") for c, k in zip(characters, labels, strict=True))
    assert {label for labels in split.labels for label in labels} == {1, 2, 3, 4}


def test_the_same_again_in_any_order_after_pickling_and_from_a_larger_set():
    data = small()
    for tensor in (data.train[0][0], *data.train[0][1].values()):
        tensor.zero_()  # changes a copy only
    other = pickle.loads(pickle.dumps(small(train=4).train))
    assert all(same(other[i], data.train[i]) for i in (3, 0))
    assert not any(torch.equal(split[0][0], data.train[0][0]) for split in (small(seed=1).train, data.test))


@pytest.mark.parametrize("change", [{"size": 16}, {"train": 0}, {"most": 0}, {"seed": -1}])
def test_arguments_out_of_range_are_named(change):
    refused(tl.DataError, f"{next(iter(change))} must be .*, not {next(iter(change.values()))}", small, **change)


@cases(
    "boxes, labels, message",
    ([[60, 70, 30, 90]], [1], r"here: the box \[60, 70, 30, 90\] is empty.*x, y, width, height"),
    ([[0, 0, 50, 81]], [1], "leaves the image of 100 x 80 pixels"),
    ([[0, 0, 50, 50]], [0], "label 0; objects have labels from 1 to 4, 0 is the background"),
    ([[0, 0, 50, 50]], [5], "label 5"),
    ([[0, 0, 50, 50]], [], "1 boxes and 0 labels"),
)
def test_wrong_boxes_and_labels_are_named(boxes, labels, message):
    refused(tl.DataError, message, check_boxes, boxes, labels, (100, 80), 5, "here")


def test_a_split_checks_what_it_reads_and_accepts_images_without_objects():
    def load(index):
        return Image.new("RGB", (80, 40)), np.array([[0, 0, 90, 20]] * index)

    split = BoxedSplit(load, [[], [1]], ("background", "thing"), name="odd")
    image, target = split[0]
    assert (image.shape, target["boxes"].shape, target["labels"].shape) == ((3, 40, 80), (0, 4), (0,))
    assert (target["boxes"].canvas_size, target["labels"].dtype) == ((40, 80), torch.int64)
    refused(tl.DataError, "image 1 of 'odd'", split.__getitem__, 1)
    refused(tl.DataError, "class 0 of a detector is 'background'", BoxedSplit, load, [[]], ("thing",), name="odd")


def test_transforms_move_boxes_and_image_together():
    split = small().train
    flipped = split.with_transform(v2.RandomHorizontalFlip(1.0))
    for i in range(3):
        (image, target), (mirrored, moved) = split[i], flipped[i]
        assert torch.equal(mirrored, image.flip(-1))
        left, top, right, bottom = target["boxes"].unbind(1)
        assert torch.equal(moved["boxes"], torch.stack([64 - right, top, 64 - left, bottom], dim=1))


@cases(
    "start, trained",
    ("fine-tuned", {"layer2", "layer3", "layer4"}),
    ("frozen", set()),
    ("scratch", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
)
def test_a_start_decides_what_trains_and_the_batchnorm_and_with_the_seed_the_weights(start, trained):
    model = tc.small_detector(3, size=64, start=start)
    body = model.backbone.body
    assert {name.split(".")[0] for name, p in body.named_parameters() if p.requires_grad} == trained
    known, state = tl.load_model("resnet18").state_dict(), body.state_dict()
    assert len(state) > 60
    assert all(torch.equal(tensor, known[name]) for name, tensor in state.items()) == (start != "scratch")
    assert any(isinstance(m, FrozenBatchNorm2d) for m in body.modules()) == (start != "scratch")
    assert any(isinstance(m, nn.BatchNorm2d) for m in body.modules()) == (start == "scratch")
    again, other = (tl.changed(tc.small_detector(3, size=64, start=start, seed=s), tl.snapshot(model)) for s in (0, 1))
    assert (again, "backbone.body.conv1.weight" in other) == ([], start == "scratch")
    refused(tl.ModelError, "expected one of fine-tuned, frozen, scratch", tc.small_detector, 3, start=start[1:])


def test_it_learns_what_trains_and_the_same_seed_gives_the_same_weights():
    models = [tc.small_detector(5, size=64) for _ in range(2)]
    before, split, states = tl.snapshot(models[0]), small(train=2, most=1).train, torch.get_rng_state()
    options = {"steps": 12, "batch_size": 8, "lr": 2e-3}  # batches of both images
    history, _ = (tc.train_detector(model, split, **options) for model in models)
    assert torch.equal(torch.get_rng_state(), states)
    assert tl.changed(models[1], tl.snapshot(models[0])) == []
    assert list(history.index) == list(range(1, 13))
    assert history["loss"].to_numpy() == pytest.approx(history.drop(columns="loss").sum(axis=1).to_numpy(), rel=1e-4)
    assert history["loss"].iloc[-3:].mean() < 0.8 * history["loss"].iloc[0]
    moved, frozen = tl.changed(models[0], before), ("conv1", "bn1", "layer1")
    assert not [name for name in moved if name.startswith(tuple(f"backbone.body.{part}" for part in frozen))]
    assert not [name for name in moved if "running" in name]
    assert [name for name in moved if name.startswith("backbone.body.layer4")]


def test_the_backbone_can_have_its_own_learning_rate():
    model = tc.small_detector(5, size=64)
    before = tl.snapshot(model)
    tc.train_detector(model, small().train, steps=2, batch_size=1, backbone_lr=0.0)
    moved = tl.changed(model, before)
    assert moved
    assert not [name for name in moved if name.startswith("backbone.body")]


def test_a_loss_that_is_not_finite_stops_the_training():
    model = tc.small_detector(5, size=64)
    nn.init.constant_(model.roi_heads.box_predictor.cls_score.bias, float("nan"))
    with pytest.raises(tl.TrainingError, match=r"step 1: the loss is nan.*smaller learning rate than 0\.01"):
        tc.train_detector(model, small().train, steps=3, batch_size=2, lr=0.01)


def test_detect_answers_for_each_image_and_restores_modes(monkeypatch):
    monkeypatch.setattr(training, "BATCH", 2)
    split, model = small(test=5).test, tc.small_detector(5, size=64).train()
    model.roi_heads.box_head.eval()
    predictions, truths = tc.detect(model, split)
    assert len(predictions) == len(truths) == 5
    assert all(set(each) == {"boxes", "labels", "scores"} for each in predictions)
    assert all(torch.equal(truth["boxes"], split[i][1]["boxes"]) for i, truth in enumerate(truths))
    assert (model.training, model.roi_heads.box_head.training) == (True, False)


def score(boxes, labels, scores, truths=None):
    """Scores for one image, whose truth is `RIGHT` of the classes 1 and 2, or else two boxes of class 1."""
    truth = {"boxes": torch.tensor(truths or RIGHT), "labels": torch.tensor([1, 1] if truths else [1, 2])}
    found = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels, dtype=torch.int64)}
    result = tc.mean_average_precision([found | {"scores": torch.tensor(scores)}], [truth])
    assert found["labels"].tolist() == labels, "labels were changed"
    return result


RIGHT = [[10.0, 10, 50, 50], [60.0, 60, 90, 80]]


def test_mean_average_precision_of_known_predictions():
    assert score(RIGHT, [1, 2], [1.0, 1.0]) == {"map": 1.0, "map_50": 1.0, "map_75": 1.0}
    assert score(RIGHT, [3, 4], [1.0, 1.0])["map_50"] == 0.0
    # The large box, moved by 5 in both directions, has IoU 35² / (2 * 40² - 35²) = 0.62, the small one 375 / 825.
    moved = score([[15.0, 15, 55, 55], [65.0, 65, 95, 85]], [1, 2], [1.0, 1.0])
    assert (moved["map_50"], moved["map_75"]) == (pytest.approx(0.5), 0.0)
    assert score([], [], [])["map"] == 0.0


def test_a_box_is_matched_once_and_a_second_prediction_takes_the_next_best():
    """COCO's rule; by that of Pascal VOC the second of these would be a false positive."""
    assert score([RIGHT[0]] * 2, [1, 1], [0.9, 0.8], [RIGHT[0], [16.0, 10, 56, 50]])["map_50"] == 1.0  # IoU 34 / 46
    assert score([RIGHT[0]] * 2, [1, 1], [0.9, 0.8], RIGHT)["map_50"] == pytest.approx(0.5, abs=0.01)


def test_figures_say_what_they_show():
    image, boxes = torch.zeros(3, 32, 32, dtype=torch.uint8), torch.tensor([[2.0, 2, 20, 20], [5, 5, 9, 9]])
    truth = {"boxes": boxes[:1], "labels": torch.tensor([1])}
    found = {"boxes": boxes, "labels": torch.tensor([2, 1]), "scores": torch.tensor([0.9, 0.2])}
    chart = tc.plots.boxes([image], [truth], [found], classes=CLASSES, title="T")
    assert chart.alt == "T: 1 images with boxes. 1: road; found rail 90%."
    assert len(chart.axes[0].patches) == 2, "the true box and the one that is sure enough"
    assert tc.plots.overlap((0, 0, 4, 4), (2, 2, 6, 6), title="O").alt.startswith("O: two boxes")
