"""`experiments/pneumonia.py`, on drawn chests under published file names: divided by patient, faults found."""

import sys
from dataclasses import replace

import numpy as np
import pneumonia
import pytest
import radiograph_tuning
import radiographs
import torch
from PIL import Image

import tlcourse as tc
import tlhelpers as tl

SIDE = 64
METHODS = {
    "frozen": (("last", ("plain",)),),
    "frozen, varied": (("last", ("plain", "varied 0")),),
    "ensemble": (("last", ("plain", "varied 0")), ("last", ("equalised",))),
    "four depths, mirrored": (("depths", ("plain", "mirrored")),),
    "last blocks": (("tuned", ("plain",)),),
    "last blocks and four depths": (("tuned", ("plain",)), ("depths", ("plain", "mirrored"))),
}
OWN = "frozen, varied, own statistics"
OWN_THRESHOLD = "four depths, varied, own threshold"
OTHERS = ("always pneumonia", "thumbnails", "letter planted", OWN, OWN_THRESHOLD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty patients of two images each in `train`, some images in `test`, under the published kind of name."""
    root = tmp_path_factory.mktemp("chest_xray")
    images = tl.load_data("phantom", size=SIDE, patients=50, prevalence=0.5, val_patients=1, test_patients=1).train
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(images.groups), start=1)}
    for i, (patient, label) in enumerate(zip(images.groups, images.labels.tolist(), strict=True)):
        number = numbers[patient]
        kind = ("bacteria", "virus")[number // 2 % 2]
        name = f"person{number}_{kind}_{i}.jpeg" if label else f"IM-{number:04}-{i:04}.jpeg"
        path = root / ("train" if number <= 40 else "test") / ("NORMAL", "PNEUMONIA")[label] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images.image(i).save(path, quality=95)
    return root


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The module, for small images and few methods, and with files of its own."""
    own = {
        OWN: pneumonia.Unlabelled("frozen, varied", statistics=True),
        OWN_THRESHOLD: pneumonia.Unlabelled("four depths, mirrored", threshold=True),
    }
    for module, name, value in (
        (pneumonia, "METHODS", METHODS),
        (pneumonia, "OWN", own),
        (pneumonia, "MEASURED", tuple(m for m in pneumonia.MEASURED if m[0] in (*METHODS, *OTHERS))),
        (pneumonia, "STRENGTHS", (1e-3, 1e-2)),
        (pneumonia, "SEEDS", range(2)),
        (pneumonia, "TARGET", tmp_path / "pneumonia.json"),
        (radiographs, "READINGS", {k: replace(v, side=SIDE) for k, v in radiographs.READINGS.items()}),
        (radiographs, "KEPT", tmp_path / "kept"),
        (radiograph_tuning, "EPOCHS", 1),
    ):
        monkeypatch.setattr(module, name, value)
    yield pneumonia
    pneumonia.trained.cache_clear()
    pneumonia.member.cache_clear()


@pytest.mark.slow
def test_one_command_measures_every_method_and_nothing_twice(tool, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pneumonia.py", str(folder)])
    assert tool.main() == 0
    cells = tool.grid().read()
    expected = {(method, by, place) for method, by, places in tool.MEASURED for place in places}
    assert {(c["method"], c["divided_by"], c["place"]) for c in cells} == expected
    assert len(cells) == 2 * len(expected)
    assert "| frozen | patient | test |" in capsys.readouterr().out
    of = {(c["method"], c["place"], c["seed"]): c for c in cells}
    for seed in range(2):
        assert of["always pneumonia", "here", seed]["balanced accuracy"] == 0.5
        assert of["always pneumonia", "here", seed]["sensitivity"] == 1
        assert of["frozen", "here", seed]["AUC"] > 0.6
    # Over both divisions: with 16 held-out images a single one can turn round, and does where bf16 is not used.
    places = ("here", "letter gone", "letter on the normal")
    planted = [np.mean([of["letter planted", place, seed]["AUC"] for seed in range(2)]) for place in places]
    assert planted[0] > planted[1] > planted[2]
    assert of["frozen", "test", 0]["images"] == of["thumbnails", "test", 1]["images"] > 0
    monkeypatch.setattr(tool, "run", lambda *_: pytest.fail("measured again"))
    assert tool.main() == 0


def test_fewer_ill_are_two_of_five(tool):
    rows, labels = np.arange(100, 200), np.array([1] * 70 + [0] * 30)
    chosen = tool.fewer_ill(rows, labels, seed=0)
    assert labels[chosen - 100].mean() == 0.4
    assert len(set(chosen)) == len(chosen)
    assert set(rows[labels == 0]) <= set(chosen)


def test_own_statistics_undo_a_shift_of_all_features(tool, folder, monkeypatch):
    pool = tool.load(folder)
    _, _, held = tool.divided(pool, 0)
    judge, features = tool.trained(pool, OWN, "patient", 0), type(pool).features
    before = judge("here", held)
    monkeypatch.setattr(type(pool), "features", lambda self, *which: 3 + 2 * features(self, *which))
    assert judge("here", held) == pytest.approx(before, abs=1e-3)


@pytest.mark.slow
def test_only_the_last_blocks_train_and_every_place_is_scored_without_the_training_images(tool, folder, monkeypatch):
    pool = tool.load(folder)
    train, val, held = splits = tool.divided(pool, 0)
    model = radiograph_tuning._tuned(pool, train, val, 0)
    before = tl.load_model("efficientnet_lite0", classes=radiograph_tuning.CLASSES, seed=0)
    moved = tl.changed(model, tl.snapshot(before))
    assert moved
    assert all(name.startswith(("blocks.5", "blocks.6", "conv_head", "bn2", "classifier")) for name in moved)
    odds = tool.tuned_odds(pool, splits, "patient", 0)
    tests = np.arange(pool.trains, len(pool.labels))
    for place, rows in (("here", np.concatenate([val, held, tests])), ("elsewhere", held)):
        assert sorted(np.flatnonzero(~np.isnan(odds[place]))) == sorted(rows)
    monkeypatch.setattr(radiograph_tuning, "_tuned", lambda *_: pytest.fail("trained again"))
    assert np.array_equal(tool.tuned_odds(pool, splits, "patient", 0)["here"], odds["here"], equal_nan=True)


@pytest.mark.parametrize("ill", [300, 700])
def test_an_own_threshold_lies_between_the_two_hills_of_scores_that_have_moved(tool, ill):
    labels = np.repeat([0, 1], [1000 - ill, ill])
    odds = np.where(labels, 4, -4) + np.random.default_rng(0).normal(size=1000)
    own = tool.valley(odds + 8)
    assert own == pytest.approx(8, abs=0.5)
    fixed, moved = (tool.scored(odds + 8, labels, odds, labels, np.repeat("", 1000), at) for at in (None, own))
    assert fixed["specificity"] < 0.1
    assert moved["balanced accuracy"] > 0.99
    assert fixed["AUC"] == moved["AUC"]


def test_without_a_test_set_it_is_left_out(tool, folder, tmp_path):
    (tmp_path / "train").symlink_to(folder / "train")
    pool, whole = tool.load(tmp_path), tool.load(folder)
    assert pool.trains == len(pool.labels) == whole.trains < len(whole.labels)
    assert pool.stamp != whole.stamp, "features of other files must not be taken"
    assert (pool.labels == whole.labels[: pool.trains]).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_patient_is_divided_unless_by_image(tool, folder, seed):
    pool = tool.load(folder)
    splits = tool.divided(pool, seed)
    patients = [set(pool.patients[rows]) for rows in splits]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert sorted(np.concatenate(splits)) == list(range(pool.trains)), "the published test set is never divided"
    leaky = [set(pool.patients[rows]) for rows in tool.divided(pool, seed, "image")]
    assert leaky[0] & leaky[2]


def test_features_are_kept_and_follow_from_the_files(tool, folder, tmp_path, monkeypatch):
    pool, state = tool.load(folder), torch.random.get_rng_state()
    first = pool.features("elsewhere", "varied 0")
    assert torch.equal(state, torch.random.get_rng_state())
    next((tmp_path / "kept").iterdir()).unlink()
    assert np.array_equal(first, pool.features("elsewhere", "varied 0")), "the same views again"
    assert not np.array_equal(first, pool.features("elsewhere", "varied 1"))
    monkeypatch.setattr(tl, "compute_features", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(first, pool.features("elsewhere", "varied 0"))


@pytest.mark.parametrize("name", ["plain", "mirrored", "equalised", "varied", "elsewhere", "lettered"])
def test_every_change_gives_a_grey_image_of_the_size(tool, name):
    ramp = Image.fromarray(np.tile(np.arange(100, dtype=np.uint8), (80, 1)))
    image = getattr(sys.modules["radiographs"], name)(ramp, SIDE)
    assert (image.size, image.mode) == ((SIDE, SIDE), "L")
    assert np.asarray(image).std() > 1, "an image is left"


def test_four_depths_hold_the_mean_and_the_largest_value_of_every_channel(tool):
    model = tl.load_model("efficientnet_lite0")
    split = tl.load_data("phantom", size=SIDE, patients=6).train.select([0, 1, 2])
    split = split.with_transform(model.card.preprocessing.evaluation())
    maps = list(tc.activations(model, torch.stack([split[i][0] for i in range(3)])).values())[-4:]
    expected = torch.cat([torch.cat([some.mean((2, 3)), some.amax((2, 3))], dim=1) for some in maps], dim=1)
    assert torch.allclose(radiographs.four_depths(model, split), expected, atol=1e-5)
    assert torch.allclose(maps[-1].mean((2, 3)), tl.compute_features(model, split), atol=1e-4), "the head's features"


def test_the_threshold_is_where_sensitivity_and_specificity_are_alike(tool):
    scores, labels = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9]), np.repeat([0, 1], 4)
    at = tool.even_threshold(scores, labels)
    assert (scores[labels == 1] >= at).mean() == (scores[labels == 0] < at).mean() == 0.75
