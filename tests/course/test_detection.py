"""Detection: boxes that fit and move with their image, a detector that starts where it says, right scores."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2

import tlcourse as tc
import tlhelpers as tl
from tlcourse.detection.boxes import BoxedSplit, check_boxes
from tlcourse.detection.vehicles import CLASSES, KINDS, characters_of
from tlcourse.safari.catalogue import DRAWINGS, PARTS
from tlcourse.safari.scene import VISIBLE, drawing_layers

ROOT = Path(__file__).resolve().parents[2]


def small(**change: Any) -> Any:
    return tc.load_vehicles(**{"size": 64, "train": 12, "test": 8, **change})


def same(first: tuple[Any, Any], second: tuple[Any, Any]) -> bool:
    """Whether two images with targets are the same."""
    targets = zip(first[1].values(), second[1].values(), strict=True)
    return torch.equal(first[0], second[0]) and all(torch.equal(a, b) for a, b in targets)


# --- the data ---------------------------------------------------------------------------------------------------


def test_what_a_image_and_its_target_are() -> None:
    data = small()
    assert (len(data.train), len(data.test), data.classes) == (12, 8, ("background", "road", "rail", "water", "air"))
    for image, target in data.train:
        assert image.shape == (3, 64, 64)
        assert image.dtype == torch.uint8
        assert target["boxes"].dtype == torch.float32
        assert target["boxes"].canvas_size == (64, 64)
        assert target["boxes"].format.name == "XYXY"
        assert 1 <= len(target["labels"]) == len(target["boxes"]) <= 3
        assert set(target["labels"].tolist()) <= {1, 2, 3, 4}
    assert "CC BY-SA 4.0" in data.card.licence
    assert "photographs" in data.card.is_not


@pytest.mark.parametrize("size", [64, 128])
def test_boxes_enclose_what_is_visible_of_each_drawing_and_no_more(size: int) -> None:
    part = small(size=size).train
    for i in range(len(part)):
        characters, labels = part.load.chosen(i)
        layout = np.random.default_rng(np.random.SeedSequence(part.load.scene_seed(i)).spawn(3)[0])
        _, target = part[i]
        assert target["labels"].tolist() == labels
        layers = drawing_layers(characters, layout, size)
        for layer, box in zip(layers, target["boxes"].tolist(), strict=True):
            rows, columns = np.nonzero(layer[..., 3] >= VISIBLE)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert 0 <= box[0] < box[2] <= size
            assert 0 <= box[1] < box[3] <= size
            assert box[2] - box[0] > size / 10, "a box of nothing"


def test_the_label_is_that_of_the_drawing() -> None:
    part = small().test
    for i in range(len(part)):
        for character, label in zip(*part.load.chosen(i), strict=True):
            assert character in characters_of(CLASSES[label], "test")


def test_no_drawing_stands_in_both_parts_and_every_vehicle_is_of_one_kind() -> None:
    groups = {drawing.group for part in PARTS for drawing in DRAWINGS["vehicle"][part]}
    sorted_in = [group for kind in KINDS.values() for group in kind]
    assert len(sorted_in) == len(set(sorted_in))
    assert groups - set(sorted_in) == {"cable-car"}
    assert set(sorted_in) <= groups, "a group that no drawing has"
    for kind in KINDS:
        parts = [set(characters_of(kind, part)) for part in ("train", "test")]
        assert all(parts), f"{kind} has no drawing in one part"
        assert not parts[0] & parts[1]
    shown = {
        part.name: {c for i in range(len(part)) for c in part.load.chosen(i)[0]}
        for part in (small(train=60).train, small(test=60).test)
    }
    assert not shown["train"] & shown["test"]


def test_the_same_again_in_any_order_and_after_a_journey() -> None:
    first, second = small(), small()
    for i in (5, 0, 11):
        assert same(first.train[i], second.train[i])
    again = pickle.loads(pickle.dumps(first.train))
    assert again.load._kept == {}, "the images travelled along"
    assert same(again[3], first.train[3])
    assert same(small(train=4).train[3], first.train[3]), "a smaller set is a subset"
    assert not torch.equal(small(seed=1).train[0][0], first.train[0][0])
    assert not torch.equal(first.test[0][0], first.train[0][0])


def test_a_changed_target_does_not_change_the_next_reading() -> None:
    part = small().train
    before = part[0][1]["boxes"].clone()
    part[0][1]["boxes"].zero_()
    part[0][0].zero_()
    assert torch.equal(part[0][1]["boxes"], before)
    assert part[0][0].any()


def test_it_leaves_the_global_generators_alone() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    small().train[0]
    tc.small_detector(3, size=64)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])


def test_counts_and_ends() -> None:
    data = small()
    counts = data.train.counts()
    assert list(counts) == list(KINDS)
    assert sum(counts.values()) == sum(len(target["labels"]) for _, target in data.train)
    with pytest.raises(IndexError, match="'train' has 12 images, and no number 12"):
        data.train[12]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 16}, "from 32 to 512 pixels"),
        ({"train": 0}, "train must be 1 or more, not 0"),
        ({"most": 0}, "most must be 1 or more"),
        ({"seed": -1}, "0 or more"),
        ({"clutter": 9}, "from 0 to 3"),
    ],
)
def test_arguments_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(tl.DataError, match=message):
        small(**change)


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[60, 70, 30, 90]], [1], r"here: the box \[60, 70, 30, 90\] is empty.*x, y, width, height"),
        ([[10, 10, 20, 10]], [1], "is empty"),
        ([[0, 0, 101, 50]], [1], "leaves the image of 100 x 80 pixels"),
        ([[-1, 0, 10, 50]], [1], "leaves the image"),
        ([[0, 0, 50, 81]], [1], "leaves the image"),
        ([[0, 0, 50, 50]], [0], "label 0; objects have labels from 1 to 4, 0 is the background"),
        ([[0, 0, 50, 50]], [5], "label 5"),
        ([[0, 0, 50, 50]], [], "1 boxes and 0 labels"),
    ],
)
def test_boxes_and_labels_that_are_none(boxes: list[list[int]], labels: list[int], message: str) -> None:
    with pytest.raises(tl.DataError, match=message):
        check_boxes(boxes, labels, (100, 80), 5, "here")


def test_a_part_checks_what_it_reads_and_knows_images_without_objects() -> None:
    def load(index: int) -> tuple[Image.Image, np.ndarray, list[int]]:
        boxes = [] if index == 0 else [[0, 0, 90, 20]]
        return Image.new("RGB", (80, 40)), np.array(boxes), [1] * len(boxes)

    part = BoxedSplit(load, 2, ("background", "thing"), name="odd")
    image, target = part[0]
    assert image.shape == (3, 40, 80)
    assert target["boxes"].shape == (0, 4)
    assert target["boxes"].canvas_size == (40, 80)
    with pytest.raises(tl.DataError, match="image 1 of 'odd'"):
        part[1]
    with pytest.raises(tl.DataError, match="class 0 of a detector is 'background'"):
        BoxedSplit(load, 2, ("thing", "other"), name="odd")


def test_transforms_move_boxes_and_image_together() -> None:
    part = small().train
    flipped = part.with_transform(v2.RandomHorizontalFlip(1.0))
    for i in range(3):
        image, target = part[i]
        mirrored, moved = flipped[i]
        assert torch.equal(mirrored, image.flip(-1))
        left, top, right, bottom = target["boxes"].unbind(1)
        assert torch.equal(moved["boxes"], torch.stack([64 - right, top, 64 - left, bottom], dim=1))
    assert part.transform is None


# --- the detector -----------------------------------------------------------------------------------------------


def trainable(model: nn.Module) -> set[str]:
    names = (name for name, p in model.backbone.body.named_parameters() if p.requires_grad)  # type: ignore[union-attr]
    return {name.split(".")[0] for name in names}


def test_a_pretrained_backbone_has_the_embedded_weights_and_frozen_batchnorm() -> None:
    body = tc.small_detector(3, size=64).backbone.body
    known = tl.load_model("resnet18").state_dict()
    found = body.state_dict()
    assert len(found) > 60
    assert all(torch.equal(tensor, known[name]) for name, tensor in found.items())
    assert any(isinstance(m, FrozenBatchNorm2d) for m in body.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in body.modules())


def test_what_trains_from_which_start() -> None:
    assert trainable(tc.small_detector(3, size=64)) == {"layer2", "layer3", "layer4"}
    assert trainable(tc.small_detector(3, size=64, start="frozen")) == set()
    scratch = tc.small_detector(3, size=64, start="scratch")
    assert trainable(scratch) == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in scratch.modules())
    assert not torch.equal(scratch.backbone.body.conv1.weight, tl.load_model("resnet18").conv1.weight)
    with pytest.raises(tl.ModelError, match="start 'cold' is not known; expected one of fine-tuned, frozen, scratch"):
        tc.small_detector(3, start="cold")


def test_the_seed_decides_the_weights() -> None:
    first = tl.snapshot(tc.small_detector(3, size=64, start="scratch", seed=4))
    assert tl.changed(tc.small_detector(3, size=64, start="scratch", seed=4), first) == []
    assert "backbone.body.conv1.weight" in tl.changed(tc.small_detector(3, size=64, start="scratch", seed=5), first)


def test_it_learns_and_the_same_seed_gives_the_same_weights() -> None:
    part = small(train=2, most=1).train
    snapshots = []
    for _ in range(2):
        model = tc.small_detector(5, size=64)
        before = tl.snapshot(model)
        history = tc.train_detector(model, part, steps=12, batch_size=2, lr=2e-3, augment=None)
        snapshots.append(tl.snapshot(model))
    assert tl.changed(model, snapshots[0]) == []
    assert list(history.index) == list(range(1, 13))
    assert history["loss"].to_numpy() == pytest.approx(history.drop(columns="loss").sum(axis=1).to_numpy(), rel=1e-4)
    assert history["loss"].iloc[-3:].mean() < 0.8 * history["loss"].iloc[0]
    moved = set(tl.changed(model, before))
    assert moved, "nothing was trained"
    still = ("backbone.body.conv1", "backbone.body.bn1", "backbone.body.layer1")
    assert not [name for name in moved if name.startswith(still) or "running" in name]
    assert [name for name in moved if name.startswith("backbone.body.layer4")]


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    model = tc.small_detector(5, size=64)
    nn.init.constant_(model.roi_heads.box_predictor.cls_score.bias, float("nan"))
    with pytest.raises(tl.TrainingError, match=r"step 1: the loss is nan.*smaller learning rate than 0\.01"):
        tc.train_detector(model, small().train, steps=3, batch_size=2, lr=0.01)


def test_detect_gives_an_answer_for_each_image_and_modes_back() -> None:
    part = small(test=5).test
    model = tc.small_detector(5, size=64).train()
    model.roi_heads.box_head.eval()
    found, truths = tc.detect(model, part, batch_size=2)
    assert len(found) == len(truths) == 5
    assert all(set(answer) == {"boxes", "labels", "scores"} for answer in found)
    assert all(torch.equal(t["boxes"], part[i][1]["boxes"]) for i, t in enumerate(truths))
    assert model.training
    assert not model.roi_heads.box_head.training


# --- the score --------------------------------------------------------------------------------------------------


def answers(truths: list[Any], move: float = 0.0, relabel: int = 0) -> list[Any]:
    return [
        {"boxes": t["boxes"] + move, "labels": t["labels"] + relabel, "scores": torch.ones(len(t["labels"]))}
        for t in truths
    ]


def test_mean_average_precision_of_answers_that_are_known() -> None:
    truths = [{"boxes": torch.tensor([[10.0, 10, 50, 50], [60, 60, 90, 80]]), "labels": torch.tensor([1, 2])}]
    assert tc.mean_average_precision(answers(truths), truths) == {"map": 1.0, "map_50": 1.0, "map_75": 1.0}
    assert tc.mean_average_precision(answers(truths, relabel=2), truths)["map_50"] == 0.0
    assert tc.mean_average_precision(answers(truths, relabel=2), truths, any_class=True)["map_50"] == 1.0
    assert truths[0]["labels"].tolist() == [1, 2], "the truth was relabelled"
    # The large box, moved by 5 in both directions, has IoU 35² / (2 * 40² - 35²) = 0.62, the small one 375 / 825.
    moved = tc.mean_average_precision(answers(truths, move=5), truths)
    assert moved["map_50"] == pytest.approx(0.5)
    assert moved["map_75"] == 0.0
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}]
    assert tc.mean_average_precision(nothing, truths)["map"] == 0.0


# --- figures ----------------------------------------------------------------------------------------------------


def test_figures_say_what_they_show() -> None:
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    truth = {"boxes": torch.tensor([[2.0, 2, 20, 20]]), "labels": torch.tensor([1])}
    found = {
        "boxes": torch.tensor([[2.0, 2, 20, 20], [5, 5, 9, 9]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.9, 0.2]),
    }
    chart = tc.plots.boxes([image], [truth], [found], classes=CLASSES, title="T")
    assert chart.alt == "T: 1 images with boxes. 1: road; found rail 90%."
    assert len(chart.axes[0].patches) == 2, "the true box and the one that is sure enough"
    chart = tc.plots.boxes([image] * 2, [truth] * 2, classes=CLASSES, title="T", titles=["a", "b"])
    assert chart.alt == "T: 2 images with boxes. 1: road. 2: road."
    assert tc.plots.overlap((0, 0, 4, 4), (2, 2, 6, 6), title="O").alt.startswith("O: two boxes")
    assert len(tc.plots.overlap((0, 0, 4, 4), (5, 5, 6, 6), title="O").axes[0].patches) == 2, "nothing is shared"


# --- the measurement --------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_cell_and_the_file_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import detection

    for name, value in (("SIDE", 64), ("IMAGES", 4), ("TEST", 2), ("BATCH", 2), ("STEPS", (1,))):
        monkeypatch.setattr(detection, name, value)
    monkeypatch.setattr(detection, "SEEDS", range(2))
    monkeypatch.setattr(detection, "RESULTS", tmp_path)
    detection.measure()
    tries = detection.tuning_grid().read()
    assert sorted((t["start"], t["lr"], t["backbone_lr"]) for t in tries) == sorted(
        (start, *pair) for start, pairs in detection.TRIED.items() for pair in pairs
    )
    cells = detection.grid().read()
    assert [(cell["start"], cell["seed"]) for cell in cells] == [
        (start, seed) for start in sorted(detection.TRIED) for seed in range(2)
    ]
    scores = {"map", "map_50", "map_75", "map_50_any_class"}
    assert set(cells[0]) == {"start", "steps", "seed", "lr", "backbone_lr", "seconds"} | scores
    assert {(cell["lr"], cell["backbone_lr"]) for cell in cells if cell["start"] == "scratch"} == {
        detection.best_rates("scratch")
    }
    assert detection.run("scratch", 1, 1) | {"seconds": 0} == cells[-1] | {"seconds": 0}
    assert all(" ± " in row for row in detection.table().splitlines()[2:])
    monkeypatch.setattr(detection, "run", lambda *_: pytest.fail("measured again"))
    detection.measure()


RESULTS = ROOT / "tlcourse" / "measurements" / "data" / "detection.json"


@pytest.mark.skipif(not RESULTS.exists(), reason="not measured yet")
def test_the_results_are_whole() -> None:
    runs = json.loads(RESULTS.read_text(encoding="utf8"))["runs"]
    starts = {run["start"] for run in runs}
    assert starts == {"fine-tuned", "frozen", "scratch"}
    for steps, start in {(run["steps"], run["start"]) for run in runs}:
        scores = [run["map_50"] for run in runs if (run["steps"], run["start"]) == (steps, start)]
        assert len(scores) >= 3, f"{start}, {steps} steps: {len(scores)} seeds"
        assert all(0 <= score <= 1 for score in scores)
