"""Writing a data set out as an image folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy import toy_data, toy_split

import tlcourse as tc
import tlhelpers as tl
from tlcourse.export import MANIFEST


def test_imagefolder_reads_the_same_pixels_classes_and_labels(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    data = toy_data(6, 4, 2)
    folder = tc.export_folder(data, tmp_path / "toy")
    for part in data.splits():
        read = ImageFolder(folder / part.name)
        assert read.classes == sorted(data.classes)
        by_name = {Path(path).stem: (np.asarray(Image.open(path)), read.classes[label]) for path, label in read.samples}
        assert len(by_name) == len(part)
        for index, key in enumerate(part.keys):
            pixels, name = by_name[Path(key).stem]
            assert np.array_equal(pixels, np.asarray(part.image(index)))
            assert name == part.classes[int(part.labels[index])]


def test_the_package_reads_it_in_imagefolders_order(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    folder = tc.export_folder(toy_data(24, 4, 2), tmp_path / "toy")
    again = tl.load_data(folder)
    paths = [Path(path).relative_to(folder).as_posix() for path, _ in ImageFolder(folder / "train").samples]
    assert list(again.train.keys) == paths
    assert again.classes == ("green", "red")


def test_a_second_export_writes_nothing_and_a_half_one_is_completed(tmp_path: Path) -> None:
    data = toy_data(6, 4, 2)
    folder = tc.export_folder(data, tmp_path / "toy")
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    lost = sorted(times)[0]
    tc.export_folder(data, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == times
    lost.unlink()
    tc.export_folder(data, folder)
    assert set(folder.rglob("*.png")) == set(times)
    assert {path: path.stat().st_mtime_ns for path in times if path != lost} == {
        path: time for path, time in times.items() if path != lost
    }


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(tl.DataError, match="is not empty and was not made by"):
        tc.export_folder(toy_data(), tmp_path / "thesis")
    with pytest.raises(tl.DataError, match="is a file"):
        tc.export_folder(toy_data(), tmp_path / "thesis" / "chapter.tex")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_the_export_of_other_data_is_not_mixed_in(tmp_path: Path) -> None:
    folder = tc.export_folder(toy_data(6, 4, 2), tmp_path / "toy")
    before = sorted(folder.rglob("*"))
    with pytest.raises(tl.DataError, match="holds the export of other data"):
        tc.export_folder(toy_data(8, 4, 2), folder)
    assert sorted(folder.rglob("*")) == before
    assert (folder / MANIFEST).exists()


def test_clashing_names_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = toy_data(6, 4, 2)
    data.train.keys = ("a/1.png", "a/2.png", "b/1.png", "a/4.png", "a/5.png", "a/6.png")  # 1 and 1, both red
    with pytest.raises(tl.DataError, match="keys clash"):
        tc.export_folder(data, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_names_that_a_disk_would_refuse_are_made_safe(tmp_path: Path) -> None:
    data = toy_data(2, 2, 2)
    data.train = toy_split(2, "train")
    data.train.keys = ('what: "is" this?.png', "a b.png")
    names = {path.name for path in tc.export_folder(data, tmp_path / "toy").glob("train/*/*")}
    assert names == {"what___is__this_.png", "a_b.png"}
