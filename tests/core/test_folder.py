"""A reader's folder as a data set: parts as they stand or divided, groups whole, nothing lost in silence."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from junk import make_classes, plant_junk
from PIL import Image
from torch.utils.data import DataLoader

from tlhelpers.data.dataset import DataCard, ImageData
from tlhelpers.data.folder import FolderImages, load_folder
from tlhelpers.data.images import BadImageError
from tlhelpers.errors import DataError


def make_parts(root: Path, counts: dict[str, dict[str, int]]) -> Path:
    for start, (part, classes) in enumerate(counts.items()):
        make_classes(root / part, classes, start=1000 * start)
    return root


def keys(data: ImageData) -> list[str]:
    return [key for part in data.splits() for key in part.keys]


def refusal(root: Path, **options: object) -> str:
    with pytest.raises(DataError) as refused:
        load_folder(root, verbose=False, **options)  # type: ignore[arg-type]
    return str(refused.value)


def modes_and_labels(batch: list[tuple[Image.Image, int]]) -> list[tuple[str, int]]:
    return [(image.mode, label) for image, label in batch]


# --- which parts there are ------------------------------------------------------------------------------------


def test_class_folders_are_divided_three_methods(tmp_path: Path) -> None:
    data = load_folder(make_classes(tmp_path / "pets", {"dogs": 40, "cats": 20}))
    assert (data.name, data.classes) == ("pets", ("cats", "dogs"))
    assert data.sizes().loc["dogs"].to_dict() == {"train": 28, "val": 6, "test": 6}
    assert data.sizes().loc["cats"].to_dict() == {"train": 14, "val": 3, "test": 3}
    assert len(set(keys(data))) == len(keys(data)) == 60
    assert "divided at random by images (seed 0), taken from the folder: val 15%, test 15%" in data.card.summary
    assert "/pets" in data.card.source
    assert "unknown" in data.card.licence


def test_every_image_is_what_its_key_and_label_say(tmp_path: Path) -> None:
    data = load_folder(make_classes(tmp_path, {"cats": 8, "dogs": 8}))
    for part in data.splits():
        for i in range(len(part)):
            image, label = part[i]
            assert part.keys[i].split("/")[0] == data.classes[label]
            with Image.open(tmp_path / part.keys[i]) as plain:
                assert np.array_equal(np.asarray(image), np.asarray(plain))


def test_parts_are_used_as_they_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"train": {"a": 5, "b": 4}, "valid": {"a": 12, "b": 11}, "Test": {"a": 2, "b": 3}}
    data = load_folder(make_parts(tmp_path, counts), val=0.9, test=0.9)  # not needed, so not looked at
    assert data.sizes().drop("total").to_dict() == {"train": counts["train"], "val": counts["valid"],
                                                    "test": counts["Test"]}  # fmt: skip
    assert all(key.startswith("valid/") for key in data.val.keys)
    assert data.card.summary == "37 images in 2 classes; the parts are the folder's own"
    assert capsys.readouterr().out == ""


def test_train_and_val_without_test(tmp_path: Path) -> None:
    data = load_folder(make_parts(tmp_path, {"train": {"a": 5, "b": 4}, "val": {"a": 12, "b": 11}}), verbose=False)
    assert data.test is None
    assert data.report is not None
    assert len(data.report.notes) == 1
    assert "no part 'test'" in data.report.notes[0]


def test_train_and_test_without_val(tmp_path: Path) -> None:
    data = load_folder(make_parts(tmp_path, {"train": {"a": 20, "b": 40}, "test": {"a": 2, "b": 3}}), val=0.25)
    assert data.sizes().loc["total"].to_dict() == {"train": 45, "val": 15, "test": 5}
    assert all(key.startswith("train/") for key in (*data.train.keys, *data.val.keys))
    assert data.test is not None
    assert all(key.startswith("test/") for key in data.test.keys)
    assert "taken from its part train: val 25%" in data.card.summary


def test_only_train(tmp_path: Path) -> None:
    data = load_folder(make_parts(tmp_path, {"train": {"a": 20, "b": 40}}), val=0.2, test=0.1)
    assert data.sizes().loc["total"].to_dict() == {"train": 42, "val": 12, "test": 6}


def test_no_test_part_where_none_is_wanted(tmp_path: Path) -> None:
    data = load_folder(make_classes(tmp_path, {"a": 20, "b": 20}), test=0, verbose=False)
    assert data.sizes().loc["total"].to_dict() == {"train": 34, "val": 6}
    assert data.report is not None
    assert "no part is set aside as 'test'" in data.report.notes[0]


@pytest.mark.parametrize("shares", [{"val": 0}, {"val": 1}, {"test": -0.1}, {"val": 0.5, "test": 0.5}, {"val": 15}])
def test_impossible_shares(tmp_path: Path, shares: dict[str, float]) -> None:
    assert "between 0 and 1" in refusal(make_classes(tmp_path, {"a": 20, "b": 20}), **shares)


def test_too_few_images(tmp_path: Path) -> None:
    assert "class 'b' has only 2 images" in refusal(make_classes(tmp_path, {"a": 20, "b": 2}))


def test_class_without_training_images(tmp_path: Path) -> None:
    counts = {"train": {"Cats": 3, "dogs": 3}, "val": {"cats": 12, "dogs": 12}}
    message = refusal(make_parts(tmp_path, counts))
    assert "'train' has no good image of the class cats" in message
    assert "The classes of 'train' are Cats, dogs." in message


def test_train_part_without_any_good_image(tmp_path: Path) -> None:
    make_parts(tmp_path, {"train": {"a": 0, "b": 0}, "val": {"a": 12, "b": 12}})
    assert "'train' has no good image" in refusal(tmp_path)


def test_small_validation_part_is_noted(tmp_path: Path) -> None:
    counts = {"train": {"a": 5, "b": 4}, "val": {"a": 8, "b": 12}, "test": {"a": 2, "b": 3}}
    report = load_folder(make_parts(tmp_path, counts), verbose=False).report
    assert report is not None
    assert len(report.notes) == 1
    assert "fewer than 10 images of a class (a 8)" in report.notes[0]


def test_class_that_a_given_part_lacks(tmp_path: Path) -> None:
    counts = {"train": {"a": 5, "b": 4}, "val": {"a": 12, "b": 12}, "test": {"a": 2}}
    data = load_folder(make_parts(tmp_path, counts), verbose=False)
    assert data.sizes().loc["b", "test"] == 0
    assert data.report is not None
    assert data.report.notes == ("'test' has no image of the class b.",)


# --- repeatable -----------------------------------------------------------------------------------------------


def test_same_seed_same_parts(tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 20, "b": 20})
    first, again, other = (load_folder(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert keys(first) == keys(again)
    assert sorted(keys(first)) == sorted(keys(other))
    assert keys(first) != keys(other)


def test_moving_the_folder_changes_nothing(tmp_path: Path) -> None:
    make_classes(tmp_path / "one", {"a": 20, "b": 20})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert keys(load_folder(tmp_path / "one")) == keys(load_folder(tmp_path / "two"))


# --- groups ---------------------------------------------------------------------------------------------------


def make_patients(root: Path, patients: int = 12, each: int = 3) -> Path:
    """Images named patient_number.png; the first half of the patients in class a, the others in b."""
    make_classes(root, {"a": patients * each // 2, "b": patients * each // 2})
    for name in ("a", "b"):
        for i, path in enumerate(sorted((root / name).iterdir())):
            path.rename(root / name / f"{name}{i // each:02}_{i % each}.png")
    return root


def sides(data: ImageData, pattern: str) -> list[set[str]]:
    found = [re.search(pattern, key) for key in keys(data)]
    assert all(found)
    return [{re.search(pattern, key)[1] for key in part.keys} for part in data.splits()]  # type: ignore[index]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", [r"([ab]\d\d)_", lambda key: key.split("/")[-1][:3]], ids=["pattern", "function"])
def test_groups_stay_in_one_part(tmp_path: Path, seed: int, rule: object) -> None:
    data = load_folder(make_patients(tmp_path), groups=rule, seed=seed)  # type: ignore[arg-type]
    train, val, test = sides(data, r"([ab]\d\d)_")
    assert not train & val
    assert not (train | val) & test
    assert len(train | val | test) == 12
    for part in data.splits():
        assert part.groups == tuple(key.split("/")[-1][:3] for key in part.keys)
        assert part.counts().min() >= 1
    assert "by groups" in data.card.summary


def test_without_groups_there_are_none(tmp_path: Path) -> None:
    data = load_folder(make_patients(tmp_path))
    assert data.train.groups is None


@pytest.mark.parametrize("seed", range(5))
def test_same_file_stays_in_one_part_and_joins_its_groups(tmp_path: Path, seed: int) -> None:
    make_patients(tmp_path, patients=24)
    shutil.copy(tmp_path / "a" / "a00_0.png", tmp_path / "a" / "a01_copy.png")
    shutil.copy(tmp_path / "a" / "a02_0.png", tmp_path / "a" / "a02_same_patient.png")
    for groups in (None, r"([ab]\d\d)_"):
        data = load_folder(tmp_path, groups=groups, seed=seed, verbose=False)
        part_of = {key: part.name for part in data.splits() for key in part.keys}
        assert part_of["a/a00_0.png"] == part_of["a/a01_copy.png"]
        assert part_of["a/a02_0.png"] == part_of["a/a02_same_patient.png"]
        if groups:
            assert part_of["a/a00_1.png"] == part_of["a/a01_1.png"]
            assert {"a00", "a01"} <= {group for part in data.splits() for group in part.groups or ()}


def test_group_in_two_given_parts_is_refused(tmp_path: Path) -> None:
    counts = {"train": {"a": 4, "b": 4}, "val": {"a": 12, "b": 12}, "test": {"a": 2, "b": 2}}
    message = refusal(make_parts(tmp_path, counts), groups=r"(\d+)\.png")
    assert "4 of 12 groups stand in more than one part: '000' (train/a/000.png, val/a/000.png, test/a/000.png)" in (
        message
    )
    data = load_folder(tmp_path, groups=r"\w+/\w+/\d+", verbose=False)  # as the message advises
    assert data.train.groups is not None
    assert data.train.groups[0] == "train/a/000"


def test_group_in_train_and_a_given_test_is_refused_when_val_is_taken_from_train(tmp_path: Path) -> None:
    counts = {"train": {"a": 9, "b": 9}, "test": {"a": 2, "b": 2}}
    assert "2 of 9 groups" in refusal(make_parts(tmp_path, counts), groups=r"(\d+)\.png")


def test_pattern_that_does_not_match(tmp_path: Path) -> None:
    message = refusal(make_classes(tmp_path, {"a": 9, "b": 9}), groups=r"(person\d+)")
    assert "18 of 18 images do not match" in message
    assert "a/000.png" in message


def test_class_with_too_few_groups(tmp_path: Path) -> None:
    assert "class 'a' has only 2 groups" in refusal(make_patients(tmp_path, 4, each=5), groups=r"([ab]\d\d)_")


# --- what the reader is told ----------------------------------------------------------------------------------


def test_junk_is_left_out_and_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_classes(tmp_path, {"cats": 10, "dogs": 10})
    clean = load_folder(tmp_path)
    assert capsys.readouterr().out == ""
    junk = plant_junk(tmp_path)
    data = load_folder(tmp_path)
    out = capsys.readouterr().out
    assert out == f"{data.report}\n"
    assert f"left out: {len(junk)} bad files" in out
    assert keys(data) == keys(clean)
    assert data.report is not None
    assert set(data.report.table()["file"]) == set(junk)
    load_folder(tmp_path, verbose=False)
    assert capsys.readouterr() == ("", "")
    assert f"holds {len(junk)} bad files" in refusal(tmp_path, on_bad="refuse")


def test_name_and_card_of_the_caller(tmp_path: Path) -> None:
    card = DataCard("mine", "summary", "source", "licence", "is not")
    data = load_folder(make_classes(tmp_path, {"a": 9, "b": 9}), name="mine", card=card)
    assert data.name == "mine"
    assert data.card is card


def test_folder_named_by_a_dot_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_classes(tmp_path / "pets", {"a": 9, "b": 9}))
    assert load_folder(".").name == "pets"


# --- after the scan -------------------------------------------------------------------------------------------


def test_images_work_in_worker_processes(tmp_path: Path) -> None:
    data = load_folder(make_classes(tmp_path, {"a": 9, "b": 9}))
    assert isinstance(data.train.load, FolderImages)
    copy = pickle.loads(pickle.dumps(data.train.load))
    assert np.array_equal(np.asarray(copy(3)), np.asarray(data.train.load(3)))
    batches = list(DataLoader(data.train, batch_size=4, num_workers=1, collate_fn=modes_and_labels))
    assert [mode for batch in batches for mode, _ in batch] == ["RGB"] * len(data.train)
    assert [label for batch in batches for _, label in batch] == data.train.labels.tolist()


def test_loader_finds_images_after_the_working_directory_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_classes(tmp_path / "pets", {"a": 9, "b": 9})
    monkeypatch.chdir(tmp_path)
    data = load_folder("pets")
    monkeypatch.chdir("/")
    assert data.train.image(0).size == (16, 12)


@pytest.mark.parametrize("change", ["vanished", "changed", "damaged", "replaced by a folder"])
def test_what_happens_to_files_after_the_scan_is_named(tmp_path: Path, change: str) -> None:
    data = load_folder(make_classes(tmp_path, {"a": 9, "b": 9}))
    path = tmp_path / data.val.keys[0]
    whole = path.read_bytes()
    path.unlink()
    if change == "changed":
        path.write_bytes(whole[:100])
    elif change == "damaged":
        path.write_bytes(b"x" * len(whole))  # of the same size
    elif change == "replaced by a folder":
        path.mkdir()
    with pytest.raises(BadImageError, match=re.escape(path.as_posix())) as refused:
        data.val.image(0)
    words = {"vanished": "is not now", "changed": "has changed", "damaged": "not an image"}
    assert words.get(change, "has changed") in str(refused.value)


# --- real folders ---------------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_hymenoptera(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_folder(real_data / "hymenoptera")
    assert data.sizes().loc["total"].to_dict() == {"train": 244, "val": 153}
    assert data.test is None
    out = capsys.readouterr().out
    assert "train/ants/imageNotFound.gif: a GIF" in out
    assert "no part 'test'" in out


@pytest.mark.real
def test_real_chest_xrays_by_patient(real_data: Path) -> None:
    if not (real_data / "chest_xray").is_dir():
        pytest.skip("TL_REAL_DATA has no folder chest_xray")
    data = load_folder(real_data / "chest_xray", groups=r"(person\d+|IM-\d+)", verbose=False)
    train, val, test = sides(data, r"(person\d+|IM-\d+)")
    assert not train & val
    assert not (train | val) & test
    sizes = data.sizes()
    assert sizes.sum(axis=1)["total"] == 5216
    for name, total in {"NORMAL": 1341, "PNEUMONIA": 3875}.items():
        for part, share in {"train": 0.7, "val": 0.15, "test": 0.15}.items():
            assert abs(sizes.loc[name, part] - share * total) <= 2
