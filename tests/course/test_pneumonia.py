"""`experiments/pneumonia.py`, on drawn chests under published file names: divided by patient, faults found."""

import sys
from dataclasses import replace

import hospitals
import numpy as np
import pneumonia
import pytest
import radiograph_tuning
import radiographs
import torch

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


def test_another_hospital_is_tried_on_some_radiographs_without_the_published_test_set(tool, folder, monkeypatch):
    monkeypatch.setattr(hospitals, "COUNT", 30)
    pool = tool.load(folder)
    some = hospitals.drawn(pool)
    rows = [pool.paths.index(path) for path in some.paths]
    assert len(set(rows)) == some.trains == 30
    assert max(rows) < pool.trains < len(pool.paths)
    assert some.labels.tolist() == pool.labels[rows].tolist()
    assert some.patients.tolist() == pool.patients[rows].tolist()
    assert some.stamp != pool.stamp, "features of other rows must not be taken for theirs"


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(true):
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, 20000)
    labels = (rng.random(20000) < tc.to_probabilities(honest)).astype(int)
    found = pneumonia.fit_temperature(true * honest, labels)
    assert found == pytest.approx(true, rel=0.05)
    assert tc.calibration_error(tc.to_probabilities(true * honest / found), labels) < 0.015
