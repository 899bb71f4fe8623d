"""Scanning image folders: every file is accounted for, and every doubt is said."""

from __future__ import annotations

import _thread
import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
from junk import make_classes, noise, plant_junk
from PIL import ImageFile

from tlhelpers.data import scan
from tlhelpers.data.scan import ScanReport, scan_folder
from tlhelpers.errors import DataError


def refusal(root: object, **options: object) -> str:
    with pytest.raises(DataError) as refused:
        scan_folder(root, progress=False, **options)  # type: ignore[arg-type]
    return str(refused.value)


def counts(report: ScanReport) -> dict[str, dict[str, int]]:
    return {part: column.to_dict() for part, column in report.counts().items()}


def link(target: Path, at: Path) -> None:
    try:
        at.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this system does not let its user make links")


# --- layouts --------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    report = scan_folder(make_classes(tmp_path, {"dogs": 3, "cats": 2}))
    assert (report.root, report.layout, report.classes) == (tmp_path, "classes", ("cats", "dogs"))
    assert counts(report) == {"all": {"cats": 2, "dogs": 3}}
    assert [image.key for image in report.images] == [
        "cats/000.png", "cats/001.png", "dogs/000.png", "dogs/001.png", "dogs/002.png",
    ]  # fmt: skip
    assert not report.noteworthy
    for image in report.images:
        data = (tmp_path / image.path).read_bytes()
        assert image.part is None
        assert image.class_name == image.path.parts[0]
        assert (image.size, image.num_bytes) == ((16, 12), len(data))
        assert image.sha256 == hashlib.sha256(data).hexdigest()


def test_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 1, "dogs": 1})
    image = noise(40, 20)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "cats" / "turned.jpg", exif=exif)
    assert {image.path.name: image.size for image in scan_folder(tmp_path).images}["turned.jpg"] == (20, 40)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["train"], ["train"]),
        (["train", "val"], ["train", "val"]),
        (["Train", "VALID", "Test"], ["train", "val", "test"]),
        (["training", "validation", "testing"], ["train", "val", "test"]),
        (["test", "TRAIN"], ["train", "test"]),
    ],
)
def test_parts(tmp_path: Path, names: list[str], parts: list[str]) -> None:
    for start, name in enumerate(names):
        make_classes(tmp_path / name, {"cats": 2, "dogs": 1}, start=100 * start)
    report = scan_folder(tmp_path)
    assert report.layout == "parts"
    assert list(report.parts) == parts
    assert counts(report) == {part: {"cats": 2, "dogs": 1} for part in parts}
    assert not report.noteworthy


def test_a_part_of_a_divided_folder_is_a_plain_class_folder(tmp_path: Path) -> None:
    for start, name in enumerate(["train", "val"]):
        make_classes(tmp_path / name, {"cats": 2, "dogs": 1}, start=100 * start)
    report = scan_folder(tmp_path / "train")
    assert (report.layout, report.parts, len(report.images)) == ("classes", (None,), 3)


def test_deeper_folders_count_for_their_class(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 1, "dogs": 1, "cats/tabby/2021": 2})
    report = scan_folder(tmp_path)
    assert counts(report) == {"all": {"cats": 3, "dogs": 1}}
    assert report.images[1].key == "cats/tabby/2021/000.png"
    assert not report.noteworthy


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    report = scan_folder(make_classes(tmp_path, {"bus": 1, "car": 1, "train": 1}))
    assert (report.layout, report.classes) == ("classes", ("bus", "car", "train"))


def test_train_with_folders_beside_other_classes_is_refused_not_guessed(tmp_path: Path) -> None:
    message = refusal(make_classes(tmp_path, {"bus": 1, "train/steam": 1, "train/diesel": 1}))
    assert "'bus'" in message
    assert "rename it" in message


def test_other_folders_beside_the_parts_are_noted(tmp_path: Path) -> None:
    make_classes(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1, "extra": 4})
    report = scan_folder(tmp_path)
    assert len(report.images) == 4
    assert report.strays == (Path("extra"),)
    assert any("not used: extra" in note for note in report.notes)


def test_part_without_class_folders_is_not_used(tmp_path: Path) -> None:
    make_classes(tmp_path, {"train/a": 1, "train/b": 1, "test": 3})
    (tmp_path / "val").mkdir()
    report = scan_folder(tmp_path)
    assert report.parts == ("train",)
    assert any("without class folders, and so not used: val, test" in note for note in report.notes)
    assert any("3 images in no class folder: test/000.png" in note for note in report.notes)


def test_texts_beside_the_classes_are_no_matter(tmp_path: Path) -> None:
    make_classes(tmp_path, {"train/a": 1, "train/b": 1})
    for name in ("README.txt", "train/labels.csv"):
        (tmp_path / name).write_text("text")
    report = scan_folder(tmp_path)
    assert report.strays == (Path("README.txt"), Path("train/labels.csv"))
    assert not report.noteworthy
    assert "README.txt" in str(report)


def test_image_beside_the_classes_is_noted(tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 1, "b": 1})
    noise().save(tmp_path / "loose.png")
    report = scan_folder(tmp_path)
    assert len(report.images) == 2
    assert any("1 image in no class folder: loose.png" in note for note in report.notes)


def test_parts_inside_classes_are_noted(tmp_path: Path) -> None:
    report = scan_folder(make_classes(tmp_path, {"a/train": 1, "a/val": 1, "b": 1}))
    assert counts(report) == {"all": {"a": 2, "b": 1}}
    assert any("stand inside classes (a)" in note for note in report.notes)


# --- errors ---------------------------------------------------------------------------------------------------


def test_missing_folder_names_the_nearest_that_exists(tmp_path: Path) -> None:
    message = refusal(tmp_path / "photos" / "birds")
    assert f"no folder {(tmp_path / 'photos' / 'birds').as_posix()}" in message
    assert message.endswith(f"{tmp_path.as_posix()}.")


@pytest.mark.parametrize(("name", "word"), [("a.zip", "unpack"), ("a.tar.gz", "unpack"), ("a.jpg", "is a file")])
def test_file_instead_of_a_folder(tmp_path: Path, name: str, word: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    message = refusal(tmp_path / name)
    assert word in message
    assert name in message


def test_empty_path_is_not_the_working_directory() -> None:
    assert "empty" in refusal("")


def test_home_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path / "pets", {"cats": 1, "dogs": 1})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert scan_folder("~/pets").root == tmp_path / "pets"
    monkeypatch.chdir(tmp_path / "pets" / "cats")
    assert scan_folder("..").root.samefile(tmp_path / "pets")


def test_empty_folder(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert "no class folders" in message
    assert f"{tmp_path.as_posix()}/cats" in message


def test_images_directly_in_the_folder(tmp_path: Path) -> None:
    message = refusal(make_classes(tmp_path, {"cats": 2}) / "cats")
    assert "holds images but no class folders" in message
    assert "make one folder for each class" in message


def test_images_directly_in_train(tmp_path: Path) -> None:
    message = refusal(make_classes(tmp_path, {"train": 2, "val": 2}))
    assert "train holds no class folders" in message


def test_one_class(tmp_path: Path) -> None:
    message = refusal(make_classes(tmp_path, {"cats": 2}))
    assert "only one class, 'cats'" in message
    assert "Make one folder" in message


def test_wrapping_folder_is_named(tmp_path: Path) -> None:
    message = refusal(make_classes(tmp_path, {"pets/train/cats": 1, "pets/train/dogs": 1, "pets/val/cats": 1}))
    assert f"give {(tmp_path / 'pets').as_posix()}." in message
    assert "'train', 'val'" in message


def test_val_and_test_without_train(tmp_path: Path) -> None:
    message = refusal(make_classes(tmp_path, {"val/a": 1, "val/b": 1, "test/a": 1}))
    assert "'test', 'val'" in message
    assert "no folder 'train'" in message


def test_two_folders_for_one_part(tmp_path: Path) -> None:
    message = refusal(make_classes(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1, "valid/a": 1}))
    assert "'val', 'valid' name the same part" in message


def test_one_class_left_after_the_bad_files(tmp_path: Path) -> None:
    make_classes(tmp_path, {"images": 3, "annotations": 0})
    (tmp_path / "annotations" / "0.xml").write_text("<?xml version='1.0'?>")
    message = refusal(tmp_path)
    assert "only the class 'images' has" in message
    assert "No good image is in annotations." in message
    assert "annotations/0.xml: not an image (an SVG or XML file)" in message


def test_no_class_left(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert "no class folder has" in refusal(tmp_path)


def test_on_bad_is_checked(tmp_path: Path) -> None:
    assert "'skip' or 'refuse', not 'ignore'" in refusal(tmp_path, on_bad="ignore")


# --- junk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", "train"])
def test_every_bad_file_is_named_and_nothing_else(tmp_path: Path, base: str) -> None:
    make_classes(tmp_path / base, {"cats": 3, "dogs": 2})
    good = scan_folder(tmp_path)
    junk = plant_junk(tmp_path)
    report = scan_folder(tmp_path)
    assert report.images == good.images
    assert report.classes == ("cats", "dogs")
    reasons = {bad.path.as_posix(): bad.reason for bad in report.bad}
    assert reasons.keys() == junk.keys()
    for name, word in junk.items():
        assert word in reasons[name], name
    assert report.empty_folders == (Path(base, "no_images"),)
    assert report.ignored == 7  # five files, two folders
    assert report.noteworthy


def test_table_and_text(tmp_path: Path) -> None:
    junk = plant_junk(make_classes(tmp_path / "train", {"cats": 3, "dogs": 2}).parent)
    report = scan_folder(tmp_path)
    table = report.table()
    assert list(table.columns) == ["part", "class", "file", "reason"]
    assert set(table["file"]) == set(junk)
    assert set(table["part"]) == {"train"}
    assert set(table["class"]) == {"cats"}
    text = str(report)
    assert "5 images in 2 classes (train 5)" in text
    assert f"left out: {len(junk)} bad files" in text
    assert all(name in text for name in junk), "the printed report names every one"
    assert "no class, for want of good images: train/no_images" in text
    assert "ignored: 7" in text
    for number in range(60):
        (tmp_path / "train" / "cats" / f"zero{number:02}.jpg").write_bytes(b"")
    assert f"and {len(junk) + 10} more, in the report's .table()" in str(scan_folder(tmp_path)), "but no more than 50"


def test_table_of_a_clean_folder_is_empty(tmp_path: Path) -> None:
    table = scan_folder(make_classes(tmp_path, {"cats": 1, "dogs": 1})).table()
    assert table.shape == (0, 4)


def test_refuse_lists_twenty_and_a_count(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 1, "dogs": 1})
    for number in range(25):
        (tmp_path / "cats" / f"bad{number:02}.jpg").write_bytes(b"")
    message = refusal(tmp_path, on_bad="refuse")
    assert "holds 25 bad files" in message
    assert message.count("zero bytes") == 20
    assert "cats/bad19.jpg: zero bytes" in message
    assert message.endswith("and 5 more")


def test_refuse_passes_a_clean_folder(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 1, "dogs": 1})
    assert len(scan_folder(tmp_path, on_bad="refuse").images) == 2


@pytest.mark.skipif(os.name != "posix", reason="only POSIX allows names that are no text")
def test_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
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


def test_truncated_images_that_pillow_lets_pass_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path, {"cats": 1, "dogs": 1})
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert any("LOAD_TRUNCATED_IMAGES" in note for note in scan_folder(tmp_path).notes)


def test_folder_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path, {"cats": 1, "dogs": 1, "dogs/locked": 1})
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = scan_folder(tmp_path)
    assert [(bad.path.as_posix(), bad.reason) for bad in report.bad] == [
        ("dogs/locked", "the folder cannot be opened (Permission denied)")
    ]


# --- duplicates and clashes -----------------------------------------------------------------------------------


def test_same_file_in_two_classes(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 2, "dogs": 2})
    shutil.copy(tmp_path / "cats" / "000.png", tmp_path / "dogs" / "copy.png")
    report = scan_folder(tmp_path)
    assert [[image.key for image in group] for group in report.duplicates] == [["cats/000.png", "dogs/copy.png"]]
    assert report.notes == (
        "the same file stands in two classes, so one label is wrong: 1 case, such as cats/000.png, dogs/copy.png.",
    )


def test_same_file_in_two_parts(tmp_path: Path) -> None:
    make_classes(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 0, "val/b": 0})
    for name in ("a", "b"):
        shutil.copy(tmp_path / "train" / name / "000.png", tmp_path / "val" / name / "other.png")
    report = scan_folder(tmp_path)
    assert len(report.duplicates) == 2
    assert len(report.notes) == 1
    assert "stands in two parts" in report.notes[0]
    assert "2 cases" in report.notes[0]


def test_same_file_twice_in_a_class(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 2, "dogs": 2})
    shutil.copy(tmp_path / "cats" / "000.png", tmp_path / "cats" / "copy.png")
    notes = scan_folder(tmp_path).notes
    assert len(notes) == 1
    assert "more than once in its class: 1 case" in notes[0]


def test_class_missing_from_a_part(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    make_classes(tmp_path / "val", {"a": 1, "c": 1}, start=50)
    assert scan_folder(tmp_path).notes == ("'val' has no image of the class b.",)


@pytest.mark.parametrize("other", ["Cats", "cats ", "c\u0061\u0301ts"])
def test_classes_that_look_alike(tmp_path: Path, other: str) -> None:
    first = "c\u00e1ts" if "\u0301" in other else "cats"
    make_classes(tmp_path, {first: 1})
    if (tmp_path / other).exists() or (os.name == "nt" and other.endswith(" ")):
        pytest.skip("this file system takes the two names for one")
    make_classes(tmp_path, {other: 1, "dogs": 1})
    notes = scan_folder(tmp_path).notes
    assert len(notes) == 1
    assert "differ in capitals or spaces only" in notes[0]


# --- links ----------------------------------------------------------------------------------------------------


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 1, "dogs": 1, "cats/deep": 1})
    link(tmp_path, tmp_path / "cats" / "root")
    link(tmp_path / "cats", tmp_path / "cats" / "deep" / "up")
    link(tmp_path / "cats" / "self", tmp_path / "cats" / "self")
    report = scan_folder(tmp_path)
    assert counts(report) == {"all": {"cats": 2, "dogs": 1}}
    assert any("lead back" in note and "cats/root" in note and "cats/deep/up" in note for note in report.notes)
    assert [bad.path.as_posix() for bad in report.bad] == ["cats/self"]


def test_folders_that_link_to_each_other_are_visited_once(tmp_path: Path) -> None:
    names = [f"class{i}" for i in range(9)]  # followed blindly, these have some 100,000 paths each
    make_classes(tmp_path, dict.fromkeys(names, 1))
    for name in names:
        for other in names:
            if other != name:
                link(tmp_path / other, tmp_path / name / other)
    report = scan_folder(tmp_path)
    assert counts(report) == {"all": dict.fromkeys(names, 9)}


def test_linked_classes_and_files_are_followed(tmp_path: Path) -> None:
    make_classes(tmp_path / "elsewhere", {"cats": 2, "one": 1})
    make_classes(tmp_path / "data", {"dogs": 2})
    link(tmp_path / "elsewhere" / "cats", tmp_path / "data" / "cats")
    link(tmp_path / "elsewhere" / "one" / "000.png", tmp_path / "data" / "dogs" / "linked.png")
    report = scan_folder(tmp_path / "data")
    assert counts(report) == {"all": {"cats": 2, "dogs": 3}}
    assert not report.noteworthy


# --- the scan itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 7])
def test_order_does_not_depend_on_threads_or_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    make_classes(tmp_path, {"cats": 40, "dogs": 40})
    plant_junk(tmp_path)
    first = scan_folder(tmp_path)

    class Backwards:
        def __init__(self, path: Path) -> None:
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *args: object) -> None:
            pass

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Backwards)
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    assert scan_folder(tmp_path) == first


def test_interrupt_stops_the_scan_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path, {"cats": 100, "dogs": 100})
    seen: list[Path] = []
    inspect = scan.inspect_image

    def interrupting(path: Path) -> object:
        seen.append(path)
        if len(seen) == 10:
            _thread.interrupt_main()
        time.sleep(0.002)
        return inspect(path)

    monkeypatch.setattr(scan, "inspect_image", interrupting)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        scan_folder(tmp_path)
    assert len(seen) < 100


def test_thread_that_dies_does_not_hang_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(path: Path) -> None:
        raise SystemExit

    monkeypatch.setattr(scan, "inspect_image", die)
    with pytest.raises(SystemExit):
        scan_folder(make_classes(tmp_path, {"cats": 2, "dogs": 2}))


def test_quick_scan_shows_no_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scan_folder(make_classes(tmp_path, {"cats": 2, "dogs": 2}))
    assert capfd.readouterr() == ("", "")


@pytest.mark.real
def test_real_hymenoptera(real_data: Path) -> None:
    report = scan_folder(real_data / "hymenoptera")
    assert counts(report) == {"train": {"ants": 123, "bees": 121}, "val": {"ants": 70, "bees": 83}}
    assert [(bad.path.as_posix(), "GIF" in bad.reason) for bad in report.bad] == [
        ("train/ants/imageNotFound.gif", True)
    ]


@pytest.mark.real
@pytest.mark.parametrize(("name", "count"), [("flowers", 5), ("cats_dogs", 2)])
def test_other_real_folders_have_no_bad_file(real_data: Path, name: str, count: int) -> None:
    report = scan_folder(real_data / name)
    assert len(report.classes) == count
    assert not report.bad
