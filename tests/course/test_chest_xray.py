"""The radiographs of Kermany et al., on tiny fakes: divided by patient, as far as file names tell."""

import itertools
import shutil
from collections import Counter

import pytest
from PIL import Image
from toy import cases, refused

import tlhelpers as tl
from tlcourse.data_sets import card_of
from tlcourse.medical.chest_xray import load_chest_xray, patient_of

numbers = itertools.count()  # so that no two fakes are the same file


def radiograph(root, split, name):
    path = root / split / ("NORMAL" if "IM" in name else "PNEUMONIA") / f"{name}.jpeg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (*divmod(next(numbers), 256), 0)).save(path, format="PNG")


def radiographs(root, split, first=1, patients=12):
    """Of each class `patients` patients with two images each, numbered in either way in turn."""
    for number, shot in itertools.product(range(first, first + patients), (1, 2)):
        radiograph(root, split, f"{'NORMAL2-' * (number % 2)}IM-{number:04d}-000{shot}")
        radiograph(root, split, f"person{number}_{'virus' if number % 2 else 'bacteria'}_{2 * number + shot}")


def keys_by_split(data):
    """The keys of every split, after a check that none of them and no patient is in two."""
    for one, other in itertools.combinations(data.splits(), 2):
        assert not set(one.groups) & set(other.groups)
        assert not set(one.keys) & set(other.keys)
    return {split.name: split.keys for split in data.splits()}


@cases(
    "name, patient, numbering",
    ("person1000_bacteria_2931.jpeg", "person1000", "person1000_bacteria"),
    ("train/PNEUMONIA/person2_virus_3_4.jpeg", "person2", "person2_virus"),
    ("IM-0640-0001-0002.jpeg", "IM-0640", "IM-0640"),
    ("NORMAL2-IM-0588-0001.jpeg", "IM-0588", "NORMAL2-IM-0588"),
    ("BACTERIA-1008087-0001.jpeg", "1008087", "BACTERIA-1008087"),
    ("VIRUS-1008087-0002.jpeg", "1008087", "VIRUS-1008087"),
    ("NORMAL-1003233-0001.jpeg", "1003233", "NORMAL-1003233"),
)
def test_file_names_tell_the_patient(name, patient, numbering):
    assert patient_of(name) == (patient, numbering)


@cases("name", "x.jpeg", "IM-.jpeg", "person_virus_1.jpeg", "aug_person1_virus_2.jpeg", "IM-0115")
def test_other_names_tell_none(name):
    refused(tl.DataError, rf"file name {name} does not tell the patient.*load_folder with groups=", patient_of, name)


def test_as_published_the_test_set_is_the_folders_and_its_val_is_not_used(tmp_path, capsys):
    radiographs(tmp_path, "train")
    radiographs(tmp_path, "test", first=14, patients=3)
    radiograph(tmp_path, "test", "person1_bacteria_900")  # train has person1 with a virus: somebody else
    radiograph(tmp_path, "val", "NORMAL2-IM-1427-0001")
    radiograph(tmp_path, "val", "person1946_bacteria_4874")
    data = load_chest_xray(tmp_path, val=0.25)
    assert data.sizes().to_numpy().tolist() == [[18, 6, 6], [18, 6, 7], [36, 12, 13]]
    assert all(key.startswith(f"{name}/"[-6:]) for name in ("train", "test") for key in keys_by_split(data)[name])
    assert "test/person1" in data.test.groups
    assert "person1" in data.train.groups + data.val.groups
    printed = capsys.readouterr().out
    assert "the folder's own 'val' (2 images) is too small, and not used" in printed
    assert "seem to be in" not in printed
    assert (data.train[0][0].mode, data.classes, data.card) == ("RGB", ("NORMAL", "PNEUMONIA"), card_of("chest_xray"))


def test_without_test_both_sets_are_drawn_from_train_by_seed(tmp_path):
    radiographs(tmp_path, "train", patients=20)
    data, again, other = (load_chest_xray(tmp_path, val=0.2, test=0.3, seed=seed) for seed in (0, 0, 1))
    assert data.sizes().loc["total"].tolist() == [40, 16, 24]
    assert keys_by_split(data) == keys_by_split(again) != keys_by_split(other)


def test_doubtful_patients_and_equal_files_stay_together(tmp_path):
    """IM-0588 and NORMAL2-IM-0588, person1 with bacteria and with a virus: perhaps one patient, never divided."""
    for number, kind in itertools.product(range(1, 13), (0, 1)):
        radiograph(tmp_path, "train", f"{'NORMAL2-' * kind}IM-{number:04d}-0001")
        radiograph(tmp_path, "train", f"person{number}_{('virus', 'bacteria')[kind]}_{number}")
    normal = tmp_path / "train" / "NORMAL"
    shutil.copy(normal / "IM-0002-0001.jpeg", normal / "IM-0777-0001.jpeg")
    for seed in range(4):
        data = load_chest_xray(tmp_path, seed=seed, verbose=False)
        sizes = Counter(group for split in data.splits() for group in split.groups)
        assert set(sizes.values()) == {2, 1}
        assert sizes["IM-0777"] == 1
        same = {"train/NORMAL/IM-0777-0001.jpeg", "train/NORMAL/IM-0002-0001.jpeg"}
        assert sorted(len(same & set(keys)) for keys in keys_by_split(data).values()) == [0, 0, 2]


def test_patients_in_train_and_test_are_named(tmp_path, capsys):
    radiographs(tmp_path, "train")
    radiographs(tmp_path, "test", first=12, patients=3)  # 12 is in both: IM-0012 and person12_bacteria
    data = load_chest_xray(tmp_path)
    note = "2 patients of 'test' seem to be in 'train', too (IM-0012, person12_bacteria)"
    assert note in capsys.readouterr().out
    assert any(note in line for line in data.report.notes)
    assert len(data.test) == 12  # nothing is dropped
    assert {"IM-0012", "person12", "test/IM-0013"} <= set(data.test.groups)


@pytest.mark.parametrize(("place", "root"), [(".", "."), ("ChestXRay2017", "."), (".", "train")])
def test_the_folder_is_found_one_level_down_and_undivided(tmp_path, place, root):
    radiographs(tmp_path / place, "train")
    (tmp_path / "__MACOSX").mkdir()
    data = load_chest_xray(str(tmp_path / root), verbose=False)
    assert sum(map(len, keys_by_split(data).values())) == 48


def test_other_folders_are_refused(tmp_path):
    refused(tl.DataError, r"not downloaded for you \(1.2 GB\): get it from https://data.mendeley.com", load_chest_xray)
    refused(tl.DataError, "no folder", load_chest_xray, tmp_path / "gone")
    (tmp_path / "holiday").mkdir()
    refused(tl.DataError, "folder 'train' with NORMAL and PNEUMONIA; it holds holiday", load_chest_xray, tmp_path)
    radiographs(tmp_path / "one", "train")
    (tmp_path / "two" / "train").mkdir(parents=True)
    refused(tl.DataError, r"; .*one, .*two each hold one", load_chest_xray, tmp_path)
    refused(tl.DataError, r"fraction|share", load_chest_xray, tmp_path / "one", val=0.6, test=0.5)
    (tmp_path / "one" / "train" / "COVID").mkdir()
    shutil.copy(tmp_path / "one/train/NORMAL/IM-0002-0001.jpeg", tmp_path / "one/train/COVID/person1_virus_1.jpeg")
    sentence = r"should have the classes \('NORMAL', 'PNEUMONIA'\), but has \('COVID', "
    refused(tl.DataError, sentence, load_chest_xray, tmp_path / "one")


@pytest.mark.real
def test_real_chest_xray(real_data):
    data = load_chest_xray(real_data / "chest_xray", verbose=False)
    sizes = data.sizes()
    assert sum(map(len, keys_by_split(data).values())) == 5216
    assert sizes.sum(axis=1).tolist() == [1341, 3875, 5216]
    assert (sizes.loc["total"] / 5216).tolist() == pytest.approx([0.65, 0.15, 0.20], abs=0.005)
    assert (sizes.loc["NORMAL"] / sizes.loc["total"]).tolist() == pytest.approx([1341 / 5216] * 3, abs=0.01)
