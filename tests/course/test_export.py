"""Writing a data set out as an image folder."""

from pathlib import Path

from torchvision.datasets import ImageFolder
from toy import refused, toy_data, toy_split

import tlcourse as tc
import tlhelpers as tl
from tlcourse.export import MANIFEST


def test_imagefolder_and_the_package_read_the_same_pixels_classes_and_labels(tmp_path):
    data = toy_data(24, 4, 2)
    folder = tc.export_folder(data, str(tmp_path / "toy"))
    assert folder == tmp_path / "toy"
    for split in data.splits():
        read = ImageFolder(folder / split.name)
        assert read.classes == sorted(data.classes)
        named = zip(read.samples, read, strict=True)
        images = {Path(path).stem: (image.tobytes(), label) for (path, _), (image, label) in named}
        assert len(images) == len(split)
        for i, key in enumerate(split.keys):
            expected = split.image(i).tobytes(), read.class_to_idx[split.classes[int(split.labels[i])]]
            assert images[Path(key).stem] == expected
    paths = [Path(path).relative_to(folder).as_posix() for path, _ in ImageFolder(folder / "train").samples]
    assert list(tl.load_data(folder).train.keys) == paths


def test_a_second_export_writes_nothing_and_a_half_one_is_completed(tmp_path):
    data = toy_data(6, 4, 2)
    folder = tc.export_folder(data, tmp_path / "toy")
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert len(times) == 12 + 1
    lost = folder / "train" / "red" / "0.png"
    lost.unlink()
    for _ in range(2):
        tc.export_folder(data, folder)
        again = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        assert again == {**times, lost: again[lost]}


def test_other_peoples_folders_and_exports_of_other_data_are_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    refused(tl.DataError, "is not empty and was not made by", tc.export_folder, toy_data(), tmp_path / "thesis")
    refused(tl.DataError, "is a file", tc.export_folder, toy_data(), tmp_path / "thesis" / "chapter.tex")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
    folder = tc.export_folder(toy_data(6, 4, 2), tmp_path / "toy")
    before = sorted(folder.rglob("*"))
    refused(tl.DataError, "holds the export of other data", tc.export_folder, toy_data(8, 4, 2), folder)
    assert sorted(folder.rglob("*")) == before
    assert (folder / MANIFEST).exists()


def test_names_that_clash_are_refused_and_those_that_a_disk_would_refuse_made_safe(tmp_path):
    data = toy_data(6, 4, 2)
    data.train.keys = ("a/1.png", "a/2.png", "b/1.png", "a/4.png", "a/5.png", "a/6.png")  # 1 and 1, both red
    refused(tl.DataError, "keys clash", tc.export_folder, data, tmp_path / "toy")
    assert not (tmp_path / "toy").exists(), "nothing is written before"
    data = toy_data(2, 2, 2)
    data.train = toy_split(2, "train")
    data.train.keys = ('what: "is" this?.png', "a b.png")
    names = {path.name for path in tc.export_folder(data, tmp_path / "toy").glob("train/*/*")}
    assert names == {"what___is__this_.png", "a_b.png"}
