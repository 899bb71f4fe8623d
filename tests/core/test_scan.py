"""Scanning image folders: every file is accounted for, and every doubt is reported."""

import _thread
import hashlib
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from junk import make_classes, make_splits, plant_junk
from PIL import ImageFile
from toy import cases, refused

from tlhelpers.data import scan
from tlhelpers.data.scan import scan_folder
from tlhelpers.errors import DataError


def refusal(root, **options):
    return refused(DataError, ".", scan_folder, root, progress=False, **options)


def counts(report):
    return dict(Counter("/".join(filter(None, (image.split, image.class_name))) for image in report.images))


def link(target, at):
    try:
        at.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this system does not let its user make links")


def test_class_folders(tmp_path):
    report = scan_folder(make_classes(tmp_path / "train", {"dogs": 3, "cats": 2}))  # a split alone is a plain folder
    assert (report.root, report.classes, report.bad, report.notes) == (tmp_path / "train", ("cats", "dogs"), (), ())
    expected = [*(f"cats/00{i}.png" for i in range(2)), *(f"dogs/00{i}.png" for i in range(3))]
    assert [image.key for image in report.images] == expected
    for image in report.images:
        data = (report.root / image.path).read_bytes()
        assert (image.split, image.class_name) == (None, image.path.parts[0])
        assert (image.num_bytes, image.sha256) == (len(data), hashlib.sha256(data).hexdigest())


INNER = "class folders that hold folders named as splits; to count as such, splits must be the outer folders: a."
NOT_USED = "images and folders that are not used, because they are in no class folder"


@cases(
    "folders, expected, note",
    ({"cats": 1, "dogs": 1, "cats/tabby/2021": 2}, {"cats": 3, "dogs": 1}, ""),
    ({"bus": 1, "train": 1}, {"bus": 1, "train": 1}, ""),
    ({"train/a": 1, "train/b": 2}, {"train/a": 1, "train/b": 2}, ""),
    *(({f"{train}/a": 2, f"{train}/b": 1, f"{val}/a": 1, f"{val}/b": 1, f"{test}/a": 1, f"{test}/b": 2},
       {"train/a": 2, "train/b": 1, "val/a": 1, "val/b": 1, "test/a": 1, "test/b": 2}, "")
      for train, val, test in (("Train", "VALID", "Test"), ("training", "validation", "testing"))),
    ({"train/a": 1, "train/b": 1, "extra": 4}, None, "'train' may be a split or a class"),
    ({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1, "extra": 4},
     {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1}, f"{NOT_USED}: extra."),
    ({"train/a": 1, "train/b": 1, "test": 3, "val": 0}, {"train/a": 1, "train/b": 1}, f"{NOT_USED}: val, test."),
    ({"a": 1, "b": 1, ".": 1}, {"a": 1, "b": 1}, f"{NOT_USED}: 000.png."),
    ({"a/train": 1, "a/val": 1, "b": 1}, {"a": 2, "b": 1}, INNER),
    ({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 0}, {"train/a": 1, "train/b": 1, "val/a": 1},
     "'val' has no image of the class: b."),
)  # fmt: skip
def test_arrangements_are_understood_noted_or_refused(tmp_path, folders, expected, note):
    for start, (name, count) in enumerate(folders.items()):
        make_classes(tmp_path, {name: count}, start=100 * start)
    if expected is None:
        assert note in refusal(tmp_path)
    else:
        report = scan_folder(tmp_path)
        assert list(counts(report).items()) == list(expected.items()), "in this order"
        assert bool(note) == bool(report.bad or report.notes) == (f"  note: {note}" in str(report))


def test_texts_beside_the_classes_are_no_matter(tmp_path):
    for name in ("README.txt", "train/labels.csv"):
        (make_classes(tmp_path, {"train/a": 1, "train/b": 1}) / name).write_text("text")
    report = scan_folder(tmp_path)
    assert "not used, in no class folder: README.txt, train/labels.csv" in str(report)
    assert report.bad + report.notes == ()


@cases(
    "folders, message",
    ({}, "{root}: it holds no class folders: make one for each class, such as {root}/cats"),
    ({".": 2}, "{root}: it holds images but no class folders"),
    ({"train": 2, "val": 2}, "'train' holds no class folders"),
    ({"cats": 2}, "only one class, 'cats', and needs two or more. Make one folder"),
    ({"pets/train/cats": 1, "pets/val/cats": 1}, "It holds the folders train, val: if those are the splits or "
     "classes, give {root}/pets."),
    ({"val/a": 1, "test/a": 1}, "{root} holds the folders test, val, but no folder 'train' to learn from"),
    ({"train/a": 1, "val/a": 1, "valid/a": 1}, "folders train, val, valid, but two of them name the same split"),
    ({"a": 0, "b": 0}, "no class has any.\n{root}: 0 images in 0 classes\n  note: class folders without a good "
     "image: a, b."),
)  # fmt: skip
def test_folders_that_cannot_be_used(tmp_path, folders, message):
    assert message.format(root=tmp_path.as_posix()) in refusal(make_classes(tmp_path, folders))


def test_no_folder_there(tmp_path):
    root = tmp_path.as_posix()
    message = f"There is no folder {root}/photos/birds. The nearest folder that exists is {root}."
    assert refusal(tmp_path / "photos" / "birds") == message
    (tmp_path / "a.zip").write_bytes(b"x")
    assert refusal(tmp_path / "a.zip").startswith(f"{root}/a.zip is a file")
    assert "unpack" in refusal(tmp_path / "a.zip")
    assert "empty" in refusal(""), "not the working directory"


@pytest.mark.parametrize("base", ["", "train"])
def test_every_bad_file_is_named_and_nothing_else(tmp_path, base):
    make_classes(tmp_path / base, {"cats": 3, "dogs": 2})
    good = scan_folder(tmp_path)
    junk = plant_junk(tmp_path)
    report = scan_folder(tmp_path)
    assert len(junk) >= 20
    assert (report.images, report.classes, bool(report.bad or report.notes)) == (good.images, ("cats", "dogs"), True)
    assert {bad.key for bad in report.bad} == junk.keys()
    assert all(junk[bad.key] in bad.reason for bad in report.bad)
    table = report.table()
    assert list(table.columns) == ["split", "class", "file", "reason"]
    assert table[["split", "class"]].drop_duplicates().to_numpy().tolist() == [[base, "cats"]]
    assert table["file"].tolist() == [bad.key for bad in report.bad]
    text = str(report)
    assert f"5 images in 2 classes{base and ' (train 5)'}\n  left out: {len(junk)} bad files" in text
    assert all(f"    {name}: " in text for name in junk), "the printed report names every one"
    assert "ignored: 7" in text  # five files, two folders


def test_report_lists_fifty_bad_files_and_a_count(tmp_path):
    make_classes(tmp_path, {"cats": 1, "dogs": 1})
    assert scan_folder(tmp_path, on_bad="refuse").table().shape == (0, 4)
    for number in range(60):
        (tmp_path / "cats" / f"bad{number:02}.jpg").write_bytes(b"")
    for text in (refusal(tmp_path, on_bad="refuse"), str(scan_folder(tmp_path))):
        assert "60 bad files" in text
        assert text.count("zero bytes") == 50
        assert "cats/bad49.jpg: zero bytes\n    and 10 more, in the report's .table()" in text
    assert "'skip' or 'refuse', not 'ignore'" in refusal(tmp_path, on_bad="ignore")


@pytest.mark.skipif(os.name != "posix", reason="only POSIX allows names that are no text")
def test_name_that_is_no_text_can_be_printed(tmp_path):
    make_classes(tmp_path, {"cats": 1, "dogs": 1})
    try:
        (tmp_path / "cats" / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
        shutil.copy(tmp_path / "cats" / "000.png", tmp_path / "cats" / os.fsdecode(b"\xfe.png"))
    except OSError:
        pytest.skip("this file system takes only names that are text")
    report = scan_folder(tmp_path)
    assert r"cats/\udcff.jpg" in str(report).encode().decode()
    assert r"cats/\udcfe.png" in [image.key for image in report.images]
    assert report.table().to_csv().encode()


def test_truncated_images_that_pillow_lets_pass_are_noted(tmp_path, monkeypatch):
    make_classes(tmp_path, {"cats": 1, "dogs": 1})
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert any("LOAD_TRUNCATED_IMAGES" in note for note in scan_folder(tmp_path).notes)


@pytest.mark.parametrize("locked", ["dogs/locked", "."])
def test_folder_that_cannot_be_opened(tmp_path, monkeypatch, locked):
    make_classes(tmp_path, {"cats": 1, "dogs": 1, "dogs/locked": 1})
    scandir = os.scandir

    def refuse(path):
        if Path(path) == tmp_path / locked:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reason = "the folder cannot be opened (Permission denied)"
    if locked == ".":
        assert refusal(tmp_path) == f"{tmp_path.as_posix()}: {reason}."
    else:
        assert [(bad.key, bad.reason) for bad in scan_folder(tmp_path).bad] == [(locked, reason)]


@cases(
    "first, second, note",
    ("train/a", "train/b", "in two classes, so one label is wrong"),
    ("train/a", "val/a", "in two splits, so scores on one of them are too good"),
    ("train/a", "train/a", "in its class more than once"),
)
def test_same_file_twice(tmp_path, first, second, note):
    make_splits(tmp_path, {"train": {"a": 2, "b": 2}, "val": {"a": 2, "b": 2}})
    shutil.copy(tmp_path / first / "000.png", tmp_path / second / "copy.png")
    report = scan_folder(tmp_path)
    pair = [f"{first}/000.png", f"{second}/copy.png"]
    assert report.notes == (f"the same file is {note} (1 case), such as: {' = '.join(pair)}.",)


@pytest.mark.parametrize("other", ["Cats", "cats ", "c\u0061\u0301ts"])
def test_classes_that_look_alike(tmp_path, other):
    first = "c\u00e1ts" if "\u0301" in other else "cats"
    make_classes(tmp_path, {first: 1})
    if (tmp_path / other).exists() or (os.name == "nt" and other.endswith(" ")):
        pytest.skip("this file system takes the two names for one")
    make_classes(tmp_path, {other: 1, "dogs": 1})
    names = ", ".join(ascii(name) for name in sorted([first, other]))
    assert scan_folder(tmp_path).notes == (f"classes that differ in capitals or spaces only: {names}.",)


def test_links_that_lead_back_end(tmp_path):
    cats = make_classes(tmp_path, {"cats": 1, "dogs": 1, "cats/deep": 1}) / "cats"
    link(tmp_path, cats / "root")
    link(cats, cats / "deep" / "up")
    link(cats / "self", cats / "self")
    report = scan_folder(tmp_path)
    assert counts(report) == {"cats": 2, "dogs": 1}
    assert any("lead back" in note and "cats/deep/up, cats/root" in note for note in report.notes)
    assert [bad.key for bad in report.bad] == ["cats/self"]


def test_linked_classes_and_files_are_followed(tmp_path):
    make_classes(tmp_path / "elsewhere", {"cats": 2, "one": 1})
    make_classes(tmp_path / "data", {"dogs": 2})
    link(tmp_path / "elsewhere" / "cats", tmp_path / "data" / "cats")
    link(tmp_path / "elsewhere" / "one" / "000.png", tmp_path / "data" / "dogs" / "linked.png")
    report = scan_folder(tmp_path / "data")
    assert counts(report) == {"cats": 2, "dogs": 3}
    assert report.bad + report.notes == ()


@pytest.mark.parametrize("workers", [1, 7])
def test_order_does_not_depend_on_threads_or_listing(tmp_path, monkeypatch, workers):
    plant_junk(make_classes(tmp_path, {"cats": 40, "dogs": 40}))
    first = scan_folder(tmp_path)
    walk = os.walk

    def backwards(top, **options):
        for place, folders, files in walk(top, **options):
            folders.sort(reverse=True)
            yield place, folders, sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    assert scan_folder(tmp_path) == first


def test_interrupt_stops_the_scan_at_once(tmp_path, monkeypatch):
    make_classes(tmp_path, {"cats": 100, "dogs": 100})
    seen, read_image = [], scan.read_image

    def interrupting(path):
        seen.append(path)
        if len(seen) == 10:
            _thread.interrupt_main()
        time.sleep(0.002)
        return read_image(path)

    monkeypatch.setattr(scan, "read_image", interrupting)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        scan_folder(tmp_path)
    assert len(seen) < 100


@pytest.mark.real
@pytest.mark.parametrize("name", ["hymenoptera", "flowers", "cats_dogs"])
def test_real_folders(real_data, name):
    report = scan_folder(real_data / name)
    assert len(report.classes) == (5 if name == "flowers" else 2)
    if name == "hymenoptera":
        assert counts(report) == {"train/ants": 123, "train/bees": 121, "val/ants": 70, "val/bees": 83}
        assert [(bad.key, bad.reason[:5]) for bad in report.bad] == [("train/ants/imageNotFound.gif", "a GIF")]
    else:
        assert not report.bad
