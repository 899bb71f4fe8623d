"""`experiments/pneumonia.py`, on drawn chests under published file names: divided by patient, faults found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tlcourse as tc
import tlhelpers as tl

ROOT = Path(__file__).resolve().parents[2]
SIDE = 64
METHODS = {
    "frozen": (("last", ("plain",)),),
    "frozen, varied": (("last", ("plain", "varied 0")),),
    "ensemble": (("last", ("plain", "varied 0")), ("last", ("equalised",))),
    "four depths, mirrored": (("depths", ("plain", "mirrored")),),
    "last blocks": (("tuned", ("plain",)),),
    "last blocks and four depths": (("tuned", ("plain",)), ("depths", ("plain", "mirrored"))),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty patients of two images each in `train`, some images in `test`, under the published kind of name."""
    root = tmp_path_factory.mktemp("chest_xray")
    data = tl.load_data("phantom", size=SIDE, patients=50, prevalence=0.5, val_patients=1, test_patients=1)
    patients: list[str] = []
    for i in range(len(data.train)):
        patient, label = data.train.groups[i], int(data.train.labels[i])
        if patient not in patients:
            patients.append(patient)
        number = patients.index(patient) + 1
        part = "train" if number <= 40 else "test"
        kind = ("bacteria", "virus")[number // 2 % 2]
        name = f"person{number}_{kind}_{i}.jpeg" if label else f"IM-{number:04}-{i:04}.jpeg"
        path = root / part / ("NORMAL", "PNEUMONIA")[label] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data.train.image(i).save(path, quality=95)
    return root


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The module, for small images and few ways, and with files of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import pneumonia
    import radiograph_tuning
    import radiographs

    tl.use_profile("quick", precision="fp32", device="cpu")
    for name, value in (("WAYS", METHODS), ("STRENGTHS", (1e-3, 1e-2)), ("SEEDS", range(2))):
        monkeypatch.setattr(pneumonia, name, value)
    monkeypatch.setattr(pneumonia, "TARGET", tmp_path / "pneumonia.json")
    small = {name: replace(reading, side=SIDE) for name, reading in radiographs.READINGS.items()}
    monkeypatch.setattr(radiographs, "READINGS", small)
    statistics = pneumonia.Unlabelled("frozen, varied", statistics=True)
    threshold = pneumonia.Unlabelled("four depths, mirrored", threshold=True)
    monkeypatch.setattr(pneumonia, "OWN", {OWN: statistics, OWN_THRESHOLD: threshold})
    monkeypatch.setattr(radiograph_tuning, "EPOCHS", 1)
    monkeypatch.setattr(radiographs, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(pneumonia, "MEASURED", tuple(m for m in pneumonia.MEASURED if m[0] in (*METHODS, *OTHERS)))
    yield pneumonia
    pneumonia.trained.cache_clear()
    pneumonia.member.cache_clear()


OWN = "frozen, varied, own statistics"
OWN_THRESHOLD = "four depths, varied, own threshold"
OTHERS = ("always pneumonia", "thumbnails", "letter planted", OWN, OWN_THRESHOLD)


def test_one_command_measures_every_method_and_nothing_twice(
    tool: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
        with_letter, gone, reversed_ = (
            of["letter planted", place, seed]["AUC"] for place in ("here", "letter gone", "letter on the normal")
        )
        assert with_letter > gone > reversed_
    assert of["frozen", "test", 0]["images"] == of["thumbnails", "test", 1]["images"] > 0
    monkeypatch.setattr(tool, "run", lambda *_: pytest.fail("measured again"))
    assert tool.main() == 0


def test_fewer_ill_are_two_of_five(tool: Any) -> None:
    rows, labels = np.arange(100, 200), np.array([1] * 70 + [0] * 30)
    chosen = tool.fewer_ill(rows, labels, seed=0)
    assert labels[chosen - 100].mean() == 0.4
    assert len(set(chosen)) == len(chosen)
    assert set(rows[labels == 0]) <= set(chosen)


def test_own_statistics_undo_a_shift_of_all_features(tool: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = tool.load(folder)
    _, _, held = tool.divided(pool, 0)
    judge = tool.trained(pool, OWN, "patient", 0)
    features = type(pool).features
    before = judge("here", held)

    def moved(self: Any, *which: str) -> np.ndarray:
        return 3 + 2 * features(self, *which)

    monkeypatch.setattr(type(pool), "features", moved)
    assert judge("here", held) == pytest.approx(before, abs=1e-3)


def test_the_valley_lies_between_two_hills_wherever_they_lie_and_however_many_are_ill(tool: Any) -> None:
    rng = np.random.default_rng(0)
    for ill, moved in ((700, 0.0), (300, 0.0), (700, 5.0), (300, 5.0)):
        well = rng.normal(-4, 1, 1000 - ill)
        at = tool.valley(np.concatenate([well, rng.normal(4, 1, ill)]) + moved)
        assert at == pytest.approx(moved, abs=0.5)


def test_only_the_last_blocks_train_and_every_place_is_scored_without_the_training_images(
    tool: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import radiograph_tuning

    pool = tool.load(folder)
    train, val, held = parts = tool.divided(pool, 0)
    model = radiograph_tuning._tuned(pool, train, val, 0)
    before = tl.load_model("efficientnet_lite0", classes=radiograph_tuning.CLASSES, seed=0)
    moved = {name.rpartition(".")[0] for name in tl.changed(model, tl.snapshot(before))}
    assert moved
    assert all(name.startswith(("blocks.5", "blocks.6", "conv_head", "bn2", "classifier")) for name in moved)
    odds = tool.tuned_odds(pool, parts, "patient", 0)
    tests = np.arange(pool.trains, len(pool.labels))
    for place, rows in (("here", np.concatenate([val, held, tests])), ("elsewhere", held)):
        assert sorted(np.flatnonzero(~np.isnan(odds[place]))) == sorted(rows)
    monkeypatch.setattr(radiograph_tuning, "_tuned", lambda *_: pytest.fail("trained again"))
    again = tool.tuned_odds(pool, parts, "patient", 0)
    assert np.array_equal(again["here"], odds["here"], equal_nan=True)


def test_an_own_threshold_follows_scores_that_have_moved(tool: Any) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 700])
    odds = np.where(labels, 4, -4) + rng.normal(size=1000)
    kinds = np.repeat("", 1000)
    stays = tool.scored(odds + 6, labels, odds, labels, kinds)
    follows = tool.scored(odds + 6, labels, odds, labels, kinds, tool.valley(odds + 6))
    assert stays["specificity"] < 0.1
    assert follows["balanced accuracy"] > 0.99
    assert follows["AUC"] == stays["AUC"]


def test_without_a_part_test_it_is_left_out(tool: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(folder / "train")
    pool, whole = tool.load(tmp_path), tool.load(folder)
    assert pool.trains == len(pool.labels) == whole.trains < len(whole.labels)
    assert pool.stamp != whole.stamp, "features of other files must not be taken"
    assert (pool.labels == whole.labels[: pool.trains]).all()


def test_no_patient_is_divided_unless_by_image(tool: Any, folder: Path) -> None:
    pool = tool.load(folder)
    for seed in range(2):
        parts = tool.divided(pool, seed)
        sets = [set(pool.patients[rows]) for rows in parts]
        assert sum(map(len, sets)) == len(set.union(*sets))
        assert sorted(np.concatenate(parts)) == list(range(pool.trains)), "the published test set is never divided"
        leaky = [set(pool.patients[rows]) for rows in tool.divided(pool, seed, "image")]
        assert leaky[0] & leaky[2]


def test_features_are_kept_and_follow_from_the_files(
    tool: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = tool.load(folder)
    state = torch.random.get_rng_state()
    first = pool.features("elsewhere", "varied 0")
    assert torch.equal(state, torch.random.get_rng_state())
    next((tmp_path / "kept").iterdir()).unlink()
    assert np.array_equal(first, pool.features("elsewhere", "varied 0")), "the same views again"
    assert not np.array_equal(first, pool.features("elsewhere", "varied 1"))
    monkeypatch.setattr(tl, "compute_features", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(first, pool.features("elsewhere", "varied 0"))


@pytest.mark.parametrize("look", ["plain", "mirrored", "equalised", "varied", "elsewhere", "lettered"])
def test_looks_give_a_grey_image_of_the_size(tool: Any, look: str) -> None:
    ramp = Image.fromarray(np.tile(np.arange(100, dtype=np.uint8), (80, 1)))
    seen = getattr(sys.modules["radiographs"], look)(ramp, SIDE)
    assert (seen.size, seen.mode) == ((SIDE, SIDE), "L")
    assert np.asarray(seen).std() > 1, "an image is left"


def test_four_depths_hold_the_mean_and_the_largest_value_of_every_channel(tool: Any, folder: Path) -> None:
    import radiographs

    model = tl.load_model("efficientnet_lite0")
    split = tl.load_data("phantom", size=SIDE, patients=6).train.select([0, 1, 2])
    split = split.with_transform(model.card.preprocessing.evaluation())
    found = radiographs.four_depths(model, split)
    images = torch.stack([split[i][0] for i in range(3)])
    head_in = tl.compute_features(model, split)  # after the activation that follows the last block
    last = tc.activations(model, images, ["bn2"])["bn2"]
    channels = last.shape[1]
    assert found.shape == (3, 2 * sum(maps.shape[1] for maps in list(tc.activations(model, images).values())[-4:]))
    assert torch.allclose(found[:, -2 * channels : -channels], last.mean((2, 3)), atol=1e-5)
    assert torch.allclose(found[:, -channels:], last.amax((2, 3)), atol=1e-5)
    assert torch.allclose(found[:, -2 * channels : -channels], head_in, atol=1e-4)


def test_equalising_undoes_an_exposure(tool: Any, folder: Path) -> None:
    import radiographs

    with Image.open(next((folder / "train" / "NORMAL").iterdir())) as file:
        image = file.convert("L")
    darker = image.point([round(255 * (i / 255) ** 1.5) for i in range(256)])

    def apart(look: Any) -> float:
        one, other = (np.asarray(look(p, SIDE), dtype=float) for p in (image, darker))
        return float(np.abs(one - other).mean())

    assert apart(radiographs.equalised) < 0.7 * apart(radiographs.plain)


def test_the_threshold_is_where_both_shares_are_alike(tool: Any) -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    at = tool.even_threshold(scores, labels)
    assert (scores[labels == 1] >= at).mean() == (scores[labels == 0] < at).mean() == 0.75
