"""A reader's folder as a data set: splits as they are or divided at random, groups whole, nothing lost in silence."""

import pickle
import re
import shutil

import pytest
from junk import make_classes, make_splits, plant_junk
from PIL import Image
from torch.utils.data import DataLoader
from toy import cases, refused

import tlhelpers as tl
from tlhelpers.data.images import BadImageError

PATIENT = r"([ab]\d\d)_"


def make_patients(root, patients=12, each=3):
    """Images named patient_number.png; the first half of the patients in class a, the others in b."""
    make_classes(root, {"a": patients * each // 2, "b": patients * each // 2})
    for name in ("a", "b"):
        for i, path in enumerate(sorted((root / name).iterdir())):
            path.rename(root / name / f"{name}{i // each:02}_{i % each}.png")
    return root


def keys(data):
    return [key for split in data.splits() for key in split.keys]


def patients(data):
    return [{re.findall(PATIENT, key)[0] for key in split.keys} for split in data.splits()]


def refusal(root, **options):
    return refused(tl.DataError, ".", tl.load_folder, root, verbose=False, **options)


def test_class_folders_are_divided_in_three(tmp_path):
    data = tl.load_folder(make_classes(tmp_path / "pets", {"dogs": 40, "cats": 20}))
    assert (data.name, data.classes) == ("pets", ("cats", "dogs"))
    assert data.sizes().loc["dogs"].to_dict() == {"train": 28, "val": 6, "test": 6}
    assert data.sizes().loc["cats"].to_dict() == {"train": 14, "val": 3, "test": 3}
    assert len(set(keys(data))) == len(keys(data)) == 60
    assert "divided at random by images (seed 0), taken from the folder: val 15%, test 15%" in data.card.summary
    assert all(split.groups is None for split in data.splits())
    for split in data.splits():
        for key, (image, label) in zip(split.keys, split, strict=True):
            assert key.split("/")[0] == data.classes[label]
            with Image.open(tmp_path / "pets" / key) as plain:
                assert image.tobytes() == plain.tobytes()


def test_splits_are_used_as_they_are(tmp_path, capfd):
    counts = {"train": {"a": 5, "b": 4}, "valid": {"a": 12, "b": 11}, "Test": {"a": 2, "b": 3}}
    data = tl.load_folder(make_splits(tmp_path, counts), val=0.9, test=0.9)
    assert list(data.sizes().drop("total").to_dict().values()) == list(counts.values())
    assert all(key.startswith("valid/") for key in data.val.keys)
    assert data.card.summary == "37 images in 2 classes; the splits are the folder's own"
    said = capfd.readouterr()
    assert "note: val=, test= not used" in said.out
    assert said.err == "", "a quick scan shows no progress bar"


NO_TEST = "there is no test set; results on the validation set, used for choices, look better than on new images."
FEW = "fewer than 10 images of a class (a 8)"
LACKS = ("'test' has no image of the class: b.",)


@cases(
    "counts, options, expected, said",
    ({"train": {"a": 5, "b": 4}, "val": {"a": 12, "b": 11}}, {}, {"train": 9, "val": 23}, (NO_TEST,)),
    ({"train": {"a": 20, "b": 40}, "test": {"a": 2}}, {"val": 0.2}, {"train": 48, "val": 12, "test": 2}, LACKS),
    ({"train": {"a": 20, "b": 40}}, {"val": 0.2, "test": 0.1}, {"train": 42, "val": 12, "test": 6}, ()),
    ({".": {"a": 20, "b": 20}}, {"test": 0}, {"train": 34, "val": 6}, (NO_TEST,)),
    ({"train": {"a": 5, "b": 4}, "val": {"a": 8, "b": 12}, "test": {"a": 2}}, {},
     {"train": 9, "val": 20, "test": 2}, (*LACKS, FEW)),
)  # fmt: skip
def test_which_splits_are_taken_from_the_training_set(tmp_path, counts, options, expected, said):
    data = tl.load_folder(make_splits(tmp_path, counts), verbose=False, **options)
    assert {split.name: len(split) for split in data.splits()} == expected
    assert all(text in note for text, note in zip(said, data.report.notes, strict=True)), data.report.notes
    for split in data.splits():
        if "train" in counts:
            assert {key.split("/")[0] for key in split.keys} == {split.name if split.name in counts else "train"}


@cases(
    "counts, options, message",
    *(({".": {"a": 20, "b": 20}}, shares, "between 0 and 1")
      for shares in ({"val": 0}, {"val": 1}, {"test": -0.1}, {"val": 0.5, "test": 0.5}, {"val": 15})),
    ({".": {"a": 20, "b": 2}}, {}, "class 'b' needs at least 3 images"),
    ({"train": {"Cats": 3}, "val": {"cats": 12}}, {},
     "'train' has no good image of the class cats, which another split has. The classes of 'train' are: Cats"),
    ({"train": {"a": 0, "b": 0}, "val": {"a": 12, "b": 12}}, {}, "'train' has no good image"),
)  # fmt: skip
def test_impossible_shares_and_classes_that_cannot_be_learned(tmp_path, counts, options, message):
    assert message in refusal(make_splits(tmp_path, counts), **options)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", [PATIENT, lambda key: key.split("/")[-1][:3]], ids=["pattern", "function"])
def test_groups_stay_in_one_split(tmp_path, seed, rule):
    data = tl.load_folder(make_patients(tmp_path), groups=rule, seed=seed)
    assert sum(map(len, patients(data))) == len(set.union(*patients(data))) == 12
    assert "by groups" in data.card.summary
    for split in data.splits():
        assert split.groups == tuple(key.split("/")[-1][:3] for key in split.keys)
        assert split.counts().min() >= 1


@pytest.mark.parametrize("seed", range(5))
def test_same_file_stays_in_one_split_and_joins_its_groups(tmp_path, seed):
    make_patients(tmp_path, patients=24)
    shutil.copy(tmp_path / "a" / "a00_0.png", tmp_path / "a" / "a01_copy.png")
    for groups, together in ((None, ["0_0", "1_copy"]), (PATIENT, ["0_0", "0_1", "1_copy", "1_1"])):
        data = tl.load_folder(tmp_path, groups=groups, seed=seed, verbose=False)
        split_of = {key: split.name for split in data.splits() for key in split.keys}
        assert len({split_of[f"a/a0{name}.png"] for name in together}) == 1


def test_group_in_two_given_splits_is_refused(tmp_path):
    counts = {"train": {"a": 4, "b": 4}, "test": {"a": 2, "b": 2}}
    message = "2 of 4 groups are in more than one split: '000' (train/a/000.png, test/a/000.png); '001'"
    assert message in refusal(make_splits(tmp_path, counts), groups=r"(\d+)\.png"), "val would be taken from train"
    make_classes(tmp_path / "val", {"a": 12, "b": 12}, start=500)
    message = "4 of 12 groups are in more than one split: '000' (train/a/000.png, val/a/000.png, test/a/000.png)"
    assert message in refusal(tmp_path, groups=r"(\d+)\.png")
    data = tl.load_folder(tmp_path, groups=r"\w+/\w+/\d+", verbose=False)  # as the message advises
    assert data.train.groups is not None
    assert data.train.groups[0] == "train/a/000"


def test_groups_that_do_not_fit_the_folder(tmp_path):
    make_patients(tmp_path, 4, each=5)
    assert "class 'a' needs at least 3 groups" in refusal(tmp_path, groups=PATIENT)
    assert re.search(r"20 of 20 images do not match .*: a/a00_0\.png", refusal(tmp_path, groups=r"(person\d+)"))


def test_junk_is_left_out_and_told_once(tmp_path, capsys):
    make_classes(tmp_path, {"cats": 10, "dogs": 10})
    clean = tl.load_folder(tmp_path)
    assert capsys.readouterr().out == ""
    junk = plant_junk(tmp_path)
    data = tl.load_folder(tmp_path)
    assert keys(data) == keys(clean)
    assert capsys.readouterr().out == f"{data.report}\n"
    assert f"left out: {len(junk)} bad files" in str(data.report)
    tl.load_folder(tmp_path, verbose=False)
    assert capsys.readouterr() == ("", "")
    assert f"{len(junk)} bad files" in refusal(tmp_path, on_bad="refuse")


def test_name_and_card(tmp_path, monkeypatch):
    monkeypatch.chdir(make_classes(tmp_path / "pets", {"a": 9, "b": 9}))
    card = tl.DataCard("mine", "summary", "source", "licence", "is not")
    data = tl.load_folder(".", name="mine", card=card)
    assert (data.name, data.card) == ("mine", card)
    assert tl.load_folder(".").name == "pets"


def test_images_work_in_worker_processes_and_after_the_working_directory_changed(tmp_path, monkeypatch):
    make_classes(tmp_path / "pets", {"a": 9, "b": 9})
    monkeypatch.chdir(tmp_path)
    data = tl.load_folder("pets", workers=1)
    monkeypatch.chdir("/")
    train = pickle.loads(pickle.dumps(data.train))
    batches = DataLoader(train, batch_size=4, num_workers=train.workers, collate_fn=list)
    read = [(image.tobytes(), label) for batch in batches for image, label in batch]
    assert read == [(image.tobytes(), label) for image, label in data.train]


@cases(
    "change, message",
    (lambda path, size: None, "has vanished since"),
    (lambda path, size: path.write_bytes(b"x" * 100), "has changed, from {size} to 100"),
    (lambda path, size: path.write_bytes(b"x" * size), "not an image"),
    ids=["vanished", "changed", "damaged"],
)
def test_what_happens_to_files_after_the_scan_is_named(tmp_path, change, message):
    data = tl.load_folder(make_classes(tmp_path, {"a": 9, "b": 9}))
    path = tmp_path / data.val.keys[0]
    size = path.stat().st_size
    path.unlink()
    change(path, size)
    assert message.format(size=size) in refused(BadImageError, re.escape(path.as_posix()), data.val.image, 0)
