"""A reader's folder as a data set: splits as they are or divided at random, groups whole, nothing lost in silence."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from junk import make_classes, plant_junk
from PIL import Image
from torch.utils.data import DataLoader

from tlhelpers.data.dataset import DataCard, ImageData
from tlhelpers.data.folder import load_folder
from tlhelpers.data.images import BadImageError
from tlhelpers.errors import DataError

Counts = dict[str, dict[str, int]]
PATIENT = r"([ab]\d\d)_"


def make_splits(root: Path, counts: Counts) -> Path:
    for start, (split, classes) in enumerate(counts.items()):
        make_classes(root / split, classes, start=1000 * start)
    return root


def make_patients(root: Path, patients: int = 12, each: int = 3) -> Path:
    """Images named patient_number.png; the first half of the patients in class a, the others in b."""
    make_classes(root, {"a": patients * each // 2, "b": patients * each // 2})
    for name in ("a", "b"):
        for i, path in enumerate(sorted((root / name).iterdir())):
            path.rename(root / name / f"{name}{i // each:02}_{i % each}.png")
    return root


def keys(data: ImageData) -> list[str]:
    return [key for split in data.splits() for key in split.keys]


def totals(data: ImageData) -> dict[str, int]:
    return {split.name: len(split) for split in data.splits()}


def notes(data: ImageData) -> tuple[str, ...]:
    assert data.report is not None
    return data.report.notes


def patients(data: ImageData, pattern: str = PATIENT) -> list[set[str]]:
    return [{re.findall(pattern, key)[0] for key in split.keys} for split in data.splits()]


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as refused:
        load_folder(root, verbose=False, **options)
    return str(refused.value)


def test_class_folders_are_divided_in_three(tmp_path: Path) -> None:
    data = load_folder(make_classes(tmp_path / "pets", {"dogs": 40, "cats": 20}))
    assert (data.name, data.classes) == ("pets", ("cats", "dogs"))
    assert data.sizes().loc["dogs"].to_dict() == {"train": 28, "val": 6, "test": 6}
    assert data.sizes().loc["cats"].to_dict() == {"train": 14, "val": 3, "test": 3}
    assert len(set(keys(data))) == len(keys(data)) == 60
    assert "divided at random by images (seed 0), taken from the folder: val 15%, test 15%" in data.card.summary
    assert data.card.source.endswith("/pets")
    assert "unknown" in data.card.licence
    assert all(split.groups is None for split in data.splits())
    for split in data.splits():
        for i in range(len(split)):
            image, label = split[i]
            assert split.keys[i].split("/")[0] == data.classes[label]
            with Image.open(tmp_path / "pets" / split.keys[i]) as plain:
                assert np.array_equal(np.asarray(image), np.asarray(plain))


def test_splits_are_used_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    counts = {"train": {"a": 5, "b": 4}, "valid": {"a": 12, "b": 11}, "Test": {"a": 2, "b": 3}}
    data = load_folder(make_splits(tmp_path, counts), val=0.9, test=0.9)  # not needed, so not looked at
    assert list(data.sizes().drop("total").to_dict().values()) == list(counts.values())
    assert all(key.startswith("valid/") for key in data.val.keys)
    assert data.card.summary == "37 images in 2 classes; the splits are the folder's own"
    assert capfd.readouterr() == ("", ""), "nor does a quick scan show a progress bar"


NO_TEST = "there is no test set; results on the validation set, used for choices, look better than on new images."
LACKS = ("'test' has no image of the class: b.",)


@pytest.mark.parametrize(
    ("counts", "options", "expected", "said"),
    [
        ({"train": {"a": 5, "b": 4}, "val": {"a": 12, "b": 11}}, {}, {"train": 9, "val": 23}, (NO_TEST,)),
        ({"train": {"a": 20, "b": 40}, "test": {"a": 2}}, {"val": 0.2}, {"train": 48, "val": 12, "test": 2}, LACKS),
        ({"train": {"a": 20, "b": 40}}, {"val": 0.2, "test": 0.1}, {"train": 42, "val": 12, "test": 6}, ()),
        ({".": {"a": 20, "b": 20}}, {"test": 0}, {"train": 34, "val": 6}, (NO_TEST,)),
        ({"train": {"a": 5, "b": 4}, "val": {"a": 12, "b": 12}, "test": {"a": 2}}, {},
         {"train": 9, "val": 24, "test": 2}, LACKS),
    ],
)  # fmt: skip
def test_which_splits_are_taken_from_the_training_set(
    tmp_path: Path, counts: Counts, options: dict[str, float], expected: dict[str, int], said: tuple[str, ...]
) -> None:
    data = load_folder(make_splits(tmp_path, counts), verbose=False, **options)
    assert totals(data) == expected
    assert notes(data) == said
    for split in data.splits():
        if "train" in counts:
            assert {key.split("/")[0] for key in split.keys} == {split.name if split.name in counts else "train"}


def test_small_validation_set_is_noted(tmp_path: Path) -> None:
    counts = {"train": {"a": 5, "b": 4}, "val": {"a": 8, "b": 12}, "test": {"a": 2, "b": 3}}
    (note,) = notes(load_folder(make_splits(tmp_path, counts), verbose=False))
    assert "fewer than 10 images of a class (a 8)" in note


@pytest.mark.parametrize("shares", [{"val": 0}, {"val": 1}, {"test": -0.1}, {"val": 0.5, "test": 0.5}, {"val": 15}])
def test_impossible_shares(tmp_path: Path, shares: dict[str, float]) -> None:
    assert "between 0 and 1" in refusal(make_classes(tmp_path, {"a": 20, "b": 20}), **shares)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({".": {"a": 20, "b": 2}}, "class 'b' needs at least 3 images"),
        ({"train": {"Cats": 3}, "val": {"cats": 12}},
         "'train' has no good image of the class cats, which another split has. The classes of 'train' are: Cats"),
        ({"train": {"a": 0, "b": 0}, "val": {"a": 12, "b": 12}}, "'train' has no good image"),
    ],
)  # fmt: skip
def test_classes_that_cannot_be_learned(tmp_path: Path, counts: Counts, message: str) -> None:
    assert message in refusal(make_splits(tmp_path, counts))


def test_division_depends_on_the_seed_and_not_on_the_place(tmp_path: Path) -> None:
    make_classes(tmp_path / "one", {"a": 20, "b": 20})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first, moved, other = (
        load_folder(tmp_path / name, seed=seed) for name, seed in (("one", 0), ("two", 0), ("one", 1))
    )
    assert keys(first) == keys(moved) != keys(other)
    assert sorted(keys(first)) == sorted(keys(other))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", [PATIENT, lambda key: key.split("/")[-1][:3]], ids=["pattern", "function"])
def test_groups_stay_in_one_split(tmp_path: Path, seed: int, rule: Any) -> None:
    data = load_folder(make_patients(tmp_path), groups=rule, seed=seed)
    assert sum(map(len, patients(data))) == len(set.union(*patients(data))) == 12
    assert "by groups" in data.card.summary
    for split in data.splits():
        assert split.groups == tuple(key.split("/")[-1][:3] for key in split.keys)
        assert split.counts().min() >= 1


@pytest.mark.parametrize("seed", range(5))
def test_same_file_stays_in_one_split_and_joins_its_groups(tmp_path: Path, seed: int) -> None:
    make_patients(tmp_path, patients=24)
    shutil.copy(tmp_path / "a" / "a00_0.png", tmp_path / "a" / "a01_copy.png")
    for groups in (None, PATIENT):
        data = load_folder(tmp_path, groups=groups, seed=seed, verbose=False)
        split_of = {key: split.name for split in data.splits() for key in split.keys}
        assert split_of["a/a00_0.png"] == split_of["a/a01_copy.png"]
        assert groups is None or split_of["a/a00_1.png"] == split_of["a/a01_1.png"]
        assert groups is None or {"a00", "a01"} <= set.union(*patients(data))


def test_group_in_two_given_splits_is_refused(tmp_path: Path) -> None:
    counts = {"train": {"a": 4, "b": 4}, "test": {"a": 2, "b": 2}}
    message = "2 of 4 groups are in more than one split: '000' (train/a/000.png, test/a/000.png); '001'"
    assert message in refusal(make_splits(tmp_path, counts), groups=r"(\d+)\.png"), "val would be taken from train"
    make_classes(tmp_path / "val", {"a": 12, "b": 12}, start=500)
    message = "4 of 12 groups are in more than one split: '000' (train/a/000.png, val/a/000.png, test/a/000.png)"
    assert message in refusal(tmp_path, groups=r"(\d+)\.png")
    data = load_folder(tmp_path, groups=r"\w+/\w+/\d+", verbose=False)  # as the message advises
    assert data.train.groups is not None
    assert data.train.groups[0] == "train/a/000"


def test_groups_that_do_not_fit_the_folder(tmp_path: Path) -> None:
    make_patients(tmp_path, 4, each=5)
    assert "class 'a' needs at least 3 groups" in refusal(tmp_path, groups=PATIENT)
    assert re.search(r"20 of 20 images do not match .*: a/a00_0\.png", refusal(tmp_path, groups=r"(person\d+)"))


def test_junk_is_left_out_and_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_classes(tmp_path, {"cats": 10, "dogs": 10})
    clean = load_folder(tmp_path)
    assert capsys.readouterr().out == ""
    junk = plant_junk(tmp_path)
    data = load_folder(tmp_path)
    assert keys(data) == keys(clean)
    assert capsys.readouterr().out == f"{data.report}\n"
    assert f"left out: {len(junk)} bad files" in str(data.report)
    load_folder(tmp_path, verbose=False)
    assert capsys.readouterr() == ("", "")
    assert f"{len(junk)} bad files" in refusal(tmp_path, on_bad="refuse")


def test_name_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_classes(tmp_path / "pets", {"a": 9, "b": 9}))
    card = DataCard("mine", "summary", "source", "licence", "is not")
    data = load_folder(".", name="mine", card=card)
    assert (data.name, data.card) == ("mine", card)
    assert load_folder(".").name == "pets"


def test_images_work_in_worker_processes_and_after_the_working_directory_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_classes(tmp_path / "pets", {"a": 9, "b": 9})
    monkeypatch.chdir(tmp_path)
    data = load_folder("pets", workers=1)
    monkeypatch.chdir("/")
    train = pickle.loads(pickle.dumps(data.train))
    batches = DataLoader(train, batch_size=4, num_workers=train.workers, collate_fn=list)
    read = [item for batch in batches for item in batch]
    assert [label for _, label in read] == data.train.labels.tolist()
    for i, (image, _) in enumerate(read):
        assert image.tobytes() == data.train.image(i).tobytes()


@pytest.mark.parametrize("change", ["vanished", "changed", "damaged", "replaced by a folder"])
def test_what_happens_to_files_after_the_scan_is_named(tmp_path: Path, change: str) -> None:
    data = load_folder(make_classes(tmp_path, {"a": 9, "b": 9}))
    path = tmp_path / data.val.keys[0]
    original = path.read_bytes()
    path.unlink()
    if change == "changed":
        path.write_bytes(original[:100])
    elif change == "damaged":
        path.write_bytes(b"x" * len(original))  # of the same size
    elif change == "replaced by a folder":
        path.mkdir()
    with pytest.raises(BadImageError, match=re.escape(path.as_posix())) as refused:
        data.val.image(0)
    words = {"vanished": "has vanished since", "damaged": "not an image"}
    assert words.get(change, f"has changed, from {len(original)} to") in str(refused.value)


@pytest.mark.real
def test_real_hymenoptera(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_folder(real_data / "hymenoptera")
    assert totals(data) == {"train": 244, "val": 153}
    out = capsys.readouterr().out
    assert "train/ants/imageNotFound.gif: a GIF" in out
    assert NO_TEST in out


@pytest.mark.real
def test_real_chest_xrays_by_patient(real_data: Path) -> None:
    if not (real_data / "chest_xray").is_dir():
        pytest.skip("TL_REAL_DATA has no folder chest_xray")
    data = load_folder(real_data / "chest_xray", groups=r"(person\d+|IM-\d+)", verbose=False)
    people = patients(data, r"person\d+|IM-\d+")
    assert sum(map(len, people)) == len(set.union(*people))
    sizes = data.sizes()
    assert sizes.sum(axis=1)["total"] == 5216
    for name, total in {"NORMAL": 1341, "PNEUMONIA": 3875}.items():
        for split, share in {"train": 0.7, "val": 0.15, "test": 0.15}.items():
            assert abs(sizes.loc[name, split] - share * total) <= 2
