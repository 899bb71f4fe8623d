"""The named data sets, on tiny fakes of the files that are downloaded."""

import hashlib
import pickle
import shutil
import socket
import tarfile
from pathlib import Path

import medmnist
import numpy as np
import pytest
import scipy.io
from junk import make_splits
from PIL import Image
from torchvision.datasets import Flowers102, OxfordIIITPet
from toy import refused

import tlhelpers as tl
from tlcourse import named
from tlcourse.data_sets import card_of

FIRST_FILES = {
    "hymenoptera": "hymenoptera_data.zip",
    "flowers102": "102flowers.tgz",
    "oxford_pets": "images.tar.gz",
    "pneumonia_mnist": "pneumoniamnist_224.npz",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    monkeypatch.setenv("TL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was opened"))
    return tmp_path / "home"


@pytest.fixture
def internet(home, tmp_path, monkeypatch):
    """A folder that stands for the network; `named.fetch` copies files from there."""

    def fetch(url, known_hash, *, folder=None, **_):
        target = (folder or home / "downloads") / url.rpartition("/")[2].partition("?")[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(tmp_path / "internet" / target.name, target))

    monkeypatch.setattr(named, "fetch", fetch)
    (tmp_path / "internet").mkdir()
    return tmp_path / "internet"


def write_image(path, number, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), (number, number, number)).save(path, **{"format": "PNG", **options})


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("name", FIRST_FILES)
def test_quick_touches_no_network(home, name):
    refused(tl.DownloadError, rf"^{FIRST_FILES[name]} must be downloaded \([\d.]+ MB\); the quick", tl.load_data, name)
    assert not home.exists()


def test_hymenoptera_is_unpacked_and_its_bad_file_named(internet, tmp_path, capsys):
    root = tmp_path / "made" / "hymenoptera_data"
    make_splits(root, {split: {"ants": 12, "bees": 12} for split in ("train", "val")})
    (root / "train" / "ants" / "imageNotFound.gif").write_bytes(b"GIF89a")
    shutil.make_archive(str(internet / "hymenoptera_data"), "zip", root.parent)
    for _ in range(2):
        data = tl.load_data("hymenoptera")
        assert (data.classes, [len(split) for split in data.splits()]) == (("ants", "bees"), [24, 24])
        assert data.card == card_of("hymenoptera")
        assert "imageNotFound.gif" in capsys.readouterr().out
        (data.report.root / "val" / "bees" / "003.png").unlink()  # it is unpacked again
    shutil.rmtree(internet)
    assert len(tl.load_data("hymenoptera", root=root, verbose=False).val) == 24


@pytest.fixture
def flowers(internet, tmp_path, monkeypatch):
    """Nine images of classes 0, 1 and 101; the lists name them out of order."""
    for i in range(1, 10):
        write_image(tmp_path / "made" / "jpg" / f"image_{i:05d}.jpg", i)
    shutil.make_archive(str(tmp_path / "flowers"), "gztar", tmp_path / "made")
    (tmp_path / "flowers.tar.gz").rename(internet / "102flowers.tgz")
    scipy.io.savemat(internet / "imagelabels.mat", {"labels": [1, 1, 1, 2, 2, 2, 102, 102, 102]})
    scipy.io.savemat(internet / "setid.mat", {"trnid": [7, 1, 4], "valid": [5, 2, 8], "tstid": [9, 3, 6]})
    files = {key: (name, md5(internet / name)) for key, (name, _) in Flowers102._file_dict.items()}
    monkeypatch.setattr(Flowers102, "_file_dict", files)
    return internet


def test_flowers_are_what_torchvision_says(flowers, home):
    data = tl.load_data("flowers102")
    assert (data.num_classes, data.classes[0], data.card) == (102, "pink primrose", card_of("flowers102"))
    assert data.train.keys == ("jpg/image_00007.jpg", "jpg/image_00001.jpg", "jpg/image_00004.jpg")
    for split in pickle.loads(pickle.dumps(data.splits())):
        theirs = Flowers102(home, split=split.name)
        assert [label for _, label in theirs] == split.labels.tolist()
        assert all(np.array_equal(image, other) for (image, _), (other, _) in zip(split, theirs, strict=True))
    shutil.rmtree(flowers)
    shutil.move(home / "flowers-102", home.parent / "elsewhere" / "flowers-102")
    assert len(tl.load_data("flowers102", root=home.parent / "elsewhere").train) == 3


def test_flowers_that_are_missing_are_named(flowers, home, tmp_path):
    data = tl.load_data("flowers102")
    images = home / "flowers-102" / "jpg"
    (images / "image_00003.jpg").write_bytes(b"")
    with pytest.raises(tl.DataError, match=r"flowers-102: 1 of 3 images are missing or empty, .*image_00003.jpg"):
        tl.load_data("flowers102")
    shutil.rmtree(images)
    with pytest.raises(tl.DataError, match=r"the image .*image_00007.jpg cannot be read: "):
        data.train[0]
    assert len(tl.load_data("flowers102").train) == 3  # unpacked again
    with pytest.raises(tl.DataError, match=r"nothing.*flowers-102 is not a copy of flowers-102; torchvision says"):
        tl.load_data("flowers102", root=tmp_path / "nothing")


@pytest.fixture
def pets(internet, tmp_path, monkeypatch):
    """Two breeds, ten images each for trainval and five for test; two are GIFs named .jpg."""
    made, lists = tmp_path / "made", {"trainval": "", "test": ""}
    for label, breed in enumerate(("Abyssinian", "american_bulldog"), start=1):
        for i in range(15):
            write_image(made / "images" / f"{breed}_{i}.jpg", 20 * label + i, format="PNG" if i else "GIF")
            lists["trainval" if i < 10 else "test"] += f"{breed}_{i} {label} 1 1\n"
    (made / "annotations").mkdir()
    for name, text in lists.items():
        (made / "annotations" / f"{name}.txt").write_text(text)
    resources = []
    for url, _ in OxfordIIITPet._RESOURCES:
        archive = internet / url.rpartition("/")[2]
        with tarfile.open(archive, "w:gz") as file:
            file.add(made / archive.name.removesuffix(".tar.gz"), archive.name.removesuffix(".tar.gz"))
        resources.append((url, md5(archive)))
    monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", resources)
    return internet


def test_pets_are_complete_what_the_lists_say_and_divided_by_the_seed(pets, home):
    data, other = tl.load_data("oxford_pets", val=0.2), tl.load_data("oxford_pets", val=0.2, seed=1)
    assert (data.classes, data.card) == (("Abyssinian", "American Bulldog"), card_of("oxford_pets"))
    assert data.sizes().loc[list(data.classes)].to_numpy().tolist() == [[8, 2, 5]] * 2
    keys = [key for split in data.splits() for key in split.keys]
    assert len(set(keys)) == 30
    for split in data.splits():
        for key, (image, label) in zip(split.keys, split, strict=True):
            number = int(key.rpartition("_")[2].removesuffix(".jpg"))
            assert image.getpixel((0, 0)) == (20 * (label + 1) + number,) * 3
    assert data.test.keys == other.test.keys
    assert data.val.keys != other.val.keys
    assert sorted(data.train.keys + data.val.keys) == sorted(other.train.keys + other.val.keys)
    refused(tl.DataError, r"fraction|share", tl.load_data, "oxford_pets", val=0)
    (home / "oxford-iiit-pet" / "annotations" / "test.txt").unlink()
    with pytest.raises(tl.DataError, match=r"oxford-iiit-pet is incomplete \(.*test.txt'\); delete it and load again"):
        tl.load_data("oxford_pets")


@pytest.mark.parametrize(("size", "suffix"), [(28, ""), (64, "_64")])
def test_medmnist_has_sizes_splits_and_named_classes(internet, monkeypatch, size, suffix):
    arrays = {}
    for split, count in {"train": 6, "val": 2, "test": 3}.items():
        arrays[f"{split}_images"] = np.full((count, size, size), 7, dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    np.savez_compressed(internet / f"pneumoniamnist{suffix}.npz", **arrays)
    monkeypatch.setitem(medmnist.INFO["pneumoniamnist"], "n_samples", {"train": 6, "val": 2, "test": 3})
    data = tl.load_data("pneumonia_mnist", size=size)
    assert (data.classes, [len(split) for split in data.splits()]) == (("normal", "pneumonia"), [6, 2, 3])
    image, label = pickle.loads(pickle.dumps(data.train))[1]
    assert (image.mode, image.size, image.getpixel((0, 0)), label) == ("RGB", (size, size), (7, 7, 7), 1)
    assert data.test.keys == ("test/0", "test/1", "test/2")
    np.savez(internet / f"pneumoniamnist{suffix}.npz", **{**arrays, "val_labels": np.array([print], dtype=object)})
    refused(ValueError, "allow_pickle=False", tl.load_data, "pneumonia_mnist", size=size)  # a pickle is not run


def test_medmnist_says_what_is_wrong(tmp_path, monkeypatch):
    refused(tl.DataError, r"the sizes \[28, 64, 128, 224\] px, not 32", tl.load_data, "pneumonia_mnist", size=32)
    absent = "there is no file .*pneumoniamnist_128.npz"
    refused(tl.DataError, absent, tl.load_data, "pneumonia_mnist", size=128, root=tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "medmnist", None)
    refused(tl.DataError, r'package medmnist: pip install "tlhelpers\[full\]"', tl.load_data, "pneumonia_mnist")
