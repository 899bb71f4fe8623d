"""The named data sets, on tiny fakes of the layouts in which they arrive."""

import pickle
import shutil
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tlcourse.medical.chest_xray import load_chest_xray, patient_of
from tlhelpers import device as profile
from tlhelpers.data import download
from tlhelpers.data.named import chest_xray, hymenoptera, medmnist_sets, oxford
from tlhelpers.data.named.hymenoptera import load_hymenoptera
from tlhelpers.data.named.medmnist_sets import load_pneumonia_mnist, load_retina_mnist
from tlhelpers.data.named.oxford import load_flowers102, load_oxford_pets
from tlhelpers.errors import DataError, DownloadError
from tlhelpers.files import digest_of

COLOURS = iter(range(1, 1 << 24))  # so that no two fakes are the same file


def write_image(path, size=(12, 9), colour=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    number = next(COLOURS)
    colour = colour or (number % 256, number // 256 % 256, 128)
    image = Image.new("RGB", size, colour)
    image.putpixel((0, 0), (number % 256, number // 256 % 256, number // 65536))
    image.save(path, **({"format": "PNG"} | options))  # lossless; what a file is, its first bytes say
    return path


def use_profile(monkeypatch, name):
    monkeypatch.setattr(profile, "_current", profile.Profile(name, torch.device("cpu"), "fp32", {}))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("TL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def internet(home, tmp_path, monkeypatch):
    """A folder that stands for the network: `fetch` copies files from there, and notes what it was asked for."""
    folder, asked = tmp_path / "internet", []
    folder.mkdir()

    def fetch(url, *, folder, filename=None, size_hint=None, **sums):
        name = filename or url.rpartition("/")[2]
        asked.append((url, sums, size_hint))
        target = Path(folder) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(tmp_path / "internet" / name, target))

    for module in (hymenoptera, oxford, medmnist_sets):
        monkeypatch.setattr(module, "fetch", fetch)
    return folder, asked


def pack(folder, archive):
    """All of `folder`, itself included, as an archive."""
    paths = [folder, *sorted(folder.rglob("*"))]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in paths:
                file.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, "w:gz") as file:
            for path in paths:
                file.add(path, path.relative_to(folder.parent), recursive=False)
    return archive


LOADERS = {
    "hymenoptera_data.zip": load_hymenoptera,
    "102flowers.tgz": load_flowers102,
    "images.tar.gz": load_oxford_pets,
    "pneumoniamnist_224.npz": load_pneumonia_mnist,
    "retinamnist_224.npz": load_retina_mnist,
}


@pytest.mark.parametrize("first", LOADERS)
def test_quick_touches_no_network(home, monkeypatch, first):
    use_profile(monkeypatch, "quick")
    monkeypatch.setattr(download, "_open", lambda url: pytest.fail(f"asked for {url}"))
    with pytest.raises(DownloadError, match=rf"^{first} must be downloaded \(\d+ MB\); the quick profile never"):
        LOADERS[first]()
    assert not home.exists()


# hymenoptera


@pytest.fixture
def insects(tmp_path):
    root = tmp_path / "made" / "hymenoptera_data"
    for part, count in (("train", 12), ("val", 11)):
        for name in ("ants", "bees"):
            for i in range(count):
                write_image(root / part / name / f"{part}{i}.jpg", format="JPEG")
    write_image(root / "train" / "ants" / "imageNotFound.gif", format="GIF")
    return root


def test_hymenoptera_is_downloaded_checked_and_unpacked(internet, home, insects, capsys):
    folder, asked = internet
    pack(insects, folder / "hymenoptera_data.zip")
    data = load_hymenoptera()
    assert asked == [(hymenoptera.URL, {"sha256": hymenoptera.SHA256}, hymenoptera.NUM_BYTES)]
    assert data.name == "hymenoptera"
    assert data.card is hymenoptera.CARD
    assert data.classes == ("ants", "bees")
    assert [len(part) for part in data.splits()] == [24, 22]
    assert data.test is None
    assert [bad.path.name for bad in data.report.bad] == ["imageNotFound.gif"]
    assert "imageNotFound.gif" in capsys.readouterr().out
    assert data.report.root == (home / "hymenoptera_data").resolve()
    assert len(load_hymenoptera(verbose=False).train) == 24  # what was unpacked is used again
    assert capsys.readouterr().out == ""


def test_hymenoptera_from_a_folder_needs_no_network(internet, insects):
    assert len(load_hymenoptera(root=insects).val) == 22
    assert internet[1] == []


# flowers102


@pytest.fixture
def flowers(internet, tmp_path, monkeypatch):
    """Nine images of classes 0, 1 and 101; the lists name them out of order."""
    import scipy.io
    from torchvision.datasets import Flowers102

    folder, _ = internet
    for i in range(1, 10):
        write_image(tmp_path / "made" / "jpg" / f"image_{i:05d}.jpg", colour=(i, 0, 0))
    pack(tmp_path / "made" / "jpg", folder / "102flowers.tgz")
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": [1, 1, 1, 2, 2, 2, 102, 102, 102]})
    scipy.io.savemat(folder / "setid.mat", {"trnid": [7, 1, 4], "valid": [5, 2, 8], "tstid": [9, 3, 6]})
    names = {key: name for key, (name, _) in Flowers102._file_dict.items()}
    sums = {key: (name, digest_of(folder / name, "md5")) for key, name in names.items()}
    monkeypatch.setattr(Flowers102, "_file_dict", sums)
    return internet


def test_flowers_are_what_the_lists_say(flowers, home):
    data = load_flowers102()
    assert [asked[0].rpartition("/")[2] for asked in flowers[1]] == list(oxford.FLOWERS_FILES)
    assert [asked[1] for asked in flowers[1]] == [{"md5": md5} for md5, _ in oxford.FLOWERS_FILES.values()]
    assert data.num_classes == 102
    assert data.classes[0] == "pink primrose"
    assert data.train.keys == ("jpg/image_00007.jpg", "jpg/image_00001.jpg", "jpg/image_00004.jpg")
    assert data.train.labels.tolist() == [101, 0, 1]
    assert data.val.labels.tolist() == [1, 0, 101]
    assert data.test.labels.tolist() == [101, 0, 1]
    assert data.card is oxford.FLOWERS_CARD
    shown, label = data.train[0]
    assert (shown.mode, shown.getpixel((5, 5)), label) == ("RGB", (7, 0, 0), 101)
    assert pickle.loads(pickle.dumps(data.train))[2][0].getpixel((5, 5)) == (4, 0, 0)


def test_flowers_agree_with_torchvision(flowers, home):
    from torchvision.datasets import Flowers102

    data = load_flowers102()
    for part in data.splits():
        theirs = Flowers102(home, split=part.name)
        assert len(theirs) == len(part)
        for (image, label), (other, other_label) in zip(part, theirs, strict=True):
            assert label == other_label
            assert np.array_equal(image, other)


def test_flowers_from_a_folder_need_no_network(flowers, home):
    load_flowers102()
    before = len(flowers[1])
    moved = home.rename(home.parent / "elsewhere")
    assert len(load_flowers102(root=moved).train) == 3
    assert len(flowers[1]) == before


def test_flowers_that_are_missing(flowers, home, tmp_path):
    load_flowers102()
    lost = home / "flowers-102" / "jpg" / "image_00003.jpg"
    lost.write_bytes(b"")
    with pytest.raises(DataError, match=r"flowers-102: 1 of 3 images are missing or empty, .*image_00003.jpg"):
        load_flowers102(root=home)
    with pytest.raises(DownloadError, match=r"jpg is not as it was unpacked from 102flowers.tgz"):
        load_flowers102()
    with pytest.raises(DataError, match=r"should hold a folder jpg and sound files imagelabels.mat and setid.mat"):
        load_flowers102(root=tmp_path / "nothing")


def test_a_image_that_vanishes_later_is_named(flowers, home):
    data = load_flowers102()
    (home / "flowers-102" / "jpg" / "image_00007.jpg").unlink()
    with pytest.raises(DataError, match=r"the image .*image_00007.jpg cannot be read: "):
        data.train[0]


# oxford_pets


@pytest.fixture
def pets(internet, tmp_path):
    """Two breeds, ten images each for trainval and five for test; one is a GIF named .jpg."""
    folder, _ = internet
    made = tmp_path / "made"
    lists = {"trainval": [], "test": []}
    for label, (breed, species) in enumerate((("Abyssinian", 1), ("american_bulldog", 2)), start=1):
        for i in range(15):
            write_image(made / "images" / f"{breed}_{i}.jpg", format="GIF" if i == 0 else "PNG")
            lists["trainval" if i < 10 else "test"].append(f"{breed}_{i} {label} {species} 1\n")
    (made / "annotations").mkdir()
    for name, lines in lists.items():
        (made / "annotations" / f"{name}.txt").write_text("".join(lines))
    for name in ("images", "annotations"):
        pack(made / name, folder / f"{name}.tar.gz")
    return internet


def test_pets_are_what_the_lists_say(pets):
    data = load_oxford_pets(val=0.2)
    assert [(url, sums) for url, sums, _ in pets[1]] == [
        (oxford.PETS_URL + name, {"md5": md5}) for name, (md5, _) in oxford.PETS_FILES.items()
    ]
    assert data.classes == ("Abyssinian", "American Bulldog")
    assert data.sizes().loc["Abyssinian"].tolist() == [8, 2, 5]
    assert data.sizes().loc["American Bulldog"].tolist() == [8, 2, 5]
    keys = [key for part in data.splits() for key in part.keys]
    assert len(set(keys)) == 30
    assert all("Abyssinian" in key for key, (_, label) in zip(data.train.keys, data.train, strict=True) if label == 0)
    assert data.train[0][0].mode == "RGB"
    assert data.card is oxford.PETS_CARD


def test_pets_agree_with_torchvision(pets, home):
    from torchvision.datasets import OxfordIIITPet

    data = load_oxford_pets()
    theirs = {name: OxfordIIITPet(home, split=name) for name in ("trainval", "test")}
    assert list(data.classes) == theirs["test"].classes
    assert [label for _, label in theirs["test"]] == data.test.labels.tolist()
    for (image, _), (other, _) in zip(data.test, theirs["test"], strict=True):
        assert np.array_equal(image, other)
    ours = Counter(data.train.labels.tolist() + data.val.labels.tolist())
    assert ours == Counter(theirs["trainval"]._labels)  # to read the images would leave the GIFs' files open


def test_pets_are_divided_by_the_seed(pets, home):
    first = load_oxford_pets()
    again, other = load_oxford_pets(root=home, seed=0), load_oxford_pets(root=home, seed=1)
    assert first.val.keys == again.val.keys
    assert first.val.keys != other.val.keys
    assert first.test.keys == other.test.keys
    assert set(first.train.keys) | set(first.val.keys) == set(other.train.keys) | set(other.val.keys)


@pytest.mark.parametrize("val", [0, 1, -0.1, 1.5])
def test_pets_need_a_validation_part(pets, val):
    with pytest.raises(DataError, match=r"fraction|share|part"):
        load_oxford_pets(val=val)


def test_pets_that_are_not_as_they_should_be(pets, home, tmp_path):
    with pytest.raises(DataError, match=r"oxford-iiit-pet should hold the folders images and annotations; there is no"):
        load_oxford_pets(root=tmp_path)
    load_oxford_pets()
    lists = home / "oxford-iiit-pet" / "annotations"
    good = (lists / "test.txt").read_text()
    for bad, match in (
        (good + "Abyssinian_3 one 1 1\n", r"test.txt, line 11: expected 'Breed_number .* found 'Abyssinian_3 one"),
        (good + "\n", r"test.txt, line 11: .* found ''"),
        (good.replace(" 2 ", " 3 "), r"test.txt: the classes should be numbered 1, 2, ... without gaps; found \[0, 2"),
        (good.replace("bulldog", "terrier"), "trainval.txt lists the breeds .* but test.txt"),
        (good.replace("Abyssinian_10 ", "Abyssinian_99 "), r"1 of 10 images are missing .*Abyssinian_99.jpg"),
    ):
        (lists / "test.txt").write_text(bad)
        with pytest.raises(DataError, match=match):
            load_oxford_pets(root=home)
    (lists / "test.txt").unlink()
    with pytest.raises(DataError, match=r"test.txt is missing: it lists the images"):
        load_oxford_pets(root=home)


def test_addresses_and_sums_are_torchvisions():
    from torchvision.datasets import Flowers102, OxfordIIITPet

    assert Flowers102._download_url_prefix == oxford.FLOWERS_URL
    assert set(Flowers102._file_dict.values()) == {(name, md5) for name, (md5, _) in oxford.FLOWERS_FILES.items()}
    ours = tuple((oxford.PETS_URL + name, md5) for name, (md5, _) in oxford.PETS_FILES.items())
    assert ours == OxfordIIITPet._RESOURCES


# pneumonia_mnist, retina_mnist


@pytest.fixture
def mnist(internet, monkeypatch):
    """Six, two and three images at two sizes; image i of each part has the grey value i."""
    import medmnist

    folder, _ = internet
    counts = {"train": 6, "val": 2, "test": 3}
    monkeypatch.setitem(medmnist.INFO, "pneumoniamnist", {**medmnist.INFO["pneumoniamnist"], "n_samples": counts})

    def arrays(size):
        made = {}
        for name, count in counts.items():
            made[f"{name}_images"] = np.arange(count, dtype=np.uint8)[:, None, None].repeat(size, 1).repeat(size, 2)
            made[f"{name}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
        return made

    np.savez_compressed(folder / "pneumoniamnist.npz", **arrays(28))
    np.savez_compressed(folder / "pneumoniamnist_64.npz", **arrays(64))
    return folder, internet[1], arrays


@pytest.mark.parametrize(("size", "suffix"), [(28, ""), (64, "_64")])
def test_pneumonia_mnist(mnist, size, suffix):
    import medmnist

    _, asked, _ = mnist
    data = load_pneumonia_mnist(size=size)
    info = medmnist.INFO["pneumoniamnist"]
    assert asked == [(info[f"url{suffix}"], {"md5": info[f"MD5{suffix}"]}, 11 * size**2)]
    assert data.classes == ("normal", "pneumonia")
    assert data.sizes().to_numpy().tolist() == [[3, 1, 2], [3, 1, 1], [6, 2, 3]]
    shown, label = data.train[3]
    assert (shown.mode, shown.size, shown.getpixel((0, 0)), label) == ("RGB", (size, size), (3, 3, 3), 1)
    assert data.test.keys == ("test/0", "test/1", "test/2")
    assert pickle.loads(pickle.dumps(data.val))[1][0].getpixel((0, 0)) == (1, 1, 1)


def test_retina_mnist_is_coloured_and_its_classes_are_grades(internet, monkeypatch):
    import medmnist

    folder, asked = internet
    counts = {"train": 5, "val": 1, "test": 2}
    info = {**medmnist.INFO["retinamnist"], "n_samples": counts}
    monkeypatch.setitem(medmnist.INFO, "retinamnist", info)
    arrays = {}
    for name, count in counts.items():
        arrays[f"{name}_images"] = np.full((count, 28, 28, 3), (200, 80, 10), dtype=np.uint8)
        arrays[f"{name}_labels"] = np.arange(count, dtype=np.uint8)[:, None]
    np.savez_compressed(folder / "retinamnist.npz", **arrays)
    data = load_retina_mnist(size=28)
    assert asked == [(info["url"], {"md5": info["MD5"]}, 8 * 28**2 * 3)]
    assert data.classes == tuple(f"grade {n}" for n in range(5))
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4]
    assert data.test.image(1).getpixel((3, 3)) == (200, 80, 10)
    np.savez(folder / "retinamnist.npz", **{**arrays, "train_images": arrays["train_images"][..., 0]})
    with pytest.raises(DataError, match=r"train_images should be uint8 \(5, 28, 28, 3\), found uint8 \(5, 28, 28\)"):
        load_retina_mnist(size=28)


def test_pneumonia_mnist_has_its_sizes():
    for size in (0, 32, 225, "224"):
        with pytest.raises(DataError, match=rf"has the sizes 28, 64, 128, 224 px, not {size!r}"):
            load_pneumonia_mnist(size=size)


def test_pneumonia_mnist_without_medmnist(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "medmnist", None)
    with pytest.raises(DataError, match=r'not installed: pip install "tlhelpers\[full\]"'):
        load_pneumonia_mnist()


def test_pneumonia_mnist_from_a_folder(mnist, tmp_path):
    folder, _, _ = mnist
    with pytest.raises(DataError, match=r"has no file pneumoniamnist_128.npz"):
        load_pneumonia_mnist(size=128, root=folder)


def test_pneumonia_mnist_that_is_not_as_described(mnist):
    folder, _, arrays = mnist
    good = arrays(28)
    for change, match in (
        (
            {"train_images": good["train_images"][:5]},
            r"train_images should be uint8 \(6, 28, 28\), found uint8 \(5, 28",
        ),
        ({"val_images": good["val_images"].astype(float)}, r"val_images should be uint8 .* found float64"),
        ({"test_labels": good["test_labels"] + 1}, r"test_labels should be \(3, 1\) with classes 0 to 1"),
        ({"val_labels": good["val_labels"][:, 0]}, r"val_labels should be \(2, 1\) .* found uint8 \(2,\)"),
    ):
        np.savez(folder / "pneumoniamnist.npz", **{**good, **change})
        with pytest.raises(DataError, match=match):
            load_pneumonia_mnist(size=28)
    del good["test_images"]
    np.savez(folder / "pneumoniamnist.npz", **good)
    with pytest.raises(DataError, match=r"test_images should be .* found nothing"):
        load_pneumonia_mnist(size=28)


def test_a_pickle_in_the_file_is_not_run(mnist):
    folder, _, arrays = mnist
    np.savez(folder / "pneumoniamnist.npz", **{**arrays(28), "train_images": np.array([print], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_pneumonia_mnist(size=28)


# chest_xray


@pytest.mark.parametrize(
    ("name", "patient", "numbering"),
    [
        ("person1000_bacteria_2931.jpeg", "person1000", "person1000_bacteria"),
        ("person1000_virus_1681.jpeg", "person1000", "person1000_virus"),
        ("person2_virus_3_4.jpeg", "person2", "person2_virus"),
        ("IM-0115-0001.jpeg", "IM-0115", "IM-0115"),
        ("IM-0640-0001-0002.jpeg", "IM-0640", "IM-0640"),
        ("NORMAL2-IM-0588-0001.jpeg", "IM-0588", "NORMAL2-IM-0588"),
        ("BACTERIA-1008087-0001.jpeg", "1008087", "BACTERIA-1008087"),
        ("VIRUS-1008087-0002.jpeg", "1008087", "VIRUS-1008087"),
        ("NORMAL-1003233-0001.jpeg", "1003233", "NORMAL-1003233"),
    ],
)
def test_file_names_tell_the_patient(name, patient, numbering):
    assert patient_of(name) == (patient, numbering)


@pytest.mark.parametrize("name", ["x.jpeg", "IM-.jpeg", "person_virus_1.jpeg", "aug_person1_virus_2.jpeg", "IM-0115"])
def test_other_names_tell_none(name):
    assert patient_of(name) is None


def radiographs(root, part, *, first=1, patients=12):
    """Of each class `patients` patients with two images each, half of the normal ones in the other numbering."""
    for number in range(first, first + patients):
        for shot in (1, 2):
            prefix = "NORMAL2-" if number % 2 else ""
            write_image(root / part / "NORMAL" / f"{prefix}IM-{number:04d}-000{shot}.jpeg")
            kind = "virus" if number % 2 else "bacteria"
            write_image(root / part / "PNEUMONIA" / f"person{number}_{kind}_{2 * number + shot}.jpeg")


def assert_patients_whole(data):
    groups = [set(part.groups) for part in data.splits()]
    for i, one in enumerate(groups):
        for other in groups[i + 1 :]:
            assert one & other == set()
    keys = [key for part in data.splits() for key in part.keys]
    assert len(keys) == len(set(keys))
    return len(keys)


def test_chest_xray_as_published(tmp_path, capsys):
    """train, a val that is too small, and test with person numbers that train has, too, of the other kind."""
    root = tmp_path / "chest_xray"
    radiographs(root, "train", first=1)
    radiographs(root, "test", first=14, patients=3)
    write_image(root / "test" / "PNEUMONIA" / "person1_bacteria_900.jpeg")  # train has person1 with a virus
    write_image(root / "val" / "NORMAL" / "NORMAL2-IM-1427-0001.jpeg")
    write_image(root / "val" / "PNEUMONIA" / "person1946_bacteria_4874.jpeg")
    data = load_chest_xray(root, val=0.25)
    assert data.classes == ("NORMAL", "PNEUMONIA")
    assert data.sizes().loc["total"].tolist() == [36, 12, 13]
    assert data.sizes()["val"].tolist() == [6, 6, 12]
    assert assert_patients_whole(data) == 61
    assert "test/person1" in data.test.groups
    assert "person1" in set(data.train.groups) | set(data.val.groups)
    assert not any("person1946" in key or "1427" in key for part in data.splits() for key in part.keys)
    said = capsys.readouterr().out
    assert "the folder's own 'val' (2 images) is too small, and not used" in said
    assert "seem to be in" not in said
    assert data.train[0][0].mode == "RGB"
    assert data.card is chest_xray.CARD


def test_chest_xray_without_test(tmp_path):
    radiographs(tmp_path, "train", patients=20)
    data = load_chest_xray(tmp_path, val=0.2, test=0.3)
    assert data.sizes().loc["total"].tolist() == [40, 16, 24]
    assert assert_patients_whole(data) == 80
    assert load_chest_xray(tmp_path, val=0.2, test=0.3).val.keys == data.val.keys
    assert load_chest_xray(tmp_path, val=0.2, test=0.3, seed=1).val.keys != data.val.keys


def test_chest_xray_keeps_doubtful_patients_together(tmp_path):
    """IM-0588 and NORMAL2-IM-0588, person1 with bacteria and with a virus: perhaps one patient, never divided."""
    for number in range(1, 13):
        for prefix in ("", "NORMAL2-"):
            write_image(tmp_path / "train" / "NORMAL" / f"{prefix}IM-{number:04d}-0001.jpeg")
        for kind in ("bacteria", "virus"):
            write_image(tmp_path / "train" / "PNEUMONIA" / f"person{number}_{kind}_{number}.jpeg")
    for seed in range(3):
        data = load_chest_xray(tmp_path, seed=seed)
        assert assert_patients_whole(data) == 48
        assert all(count == 2 for part in data.splits() for count in Counter(part.groups).values())


def test_chest_xray_keeps_equal_files_together(tmp_path):
    radiographs(tmp_path, "train")
    normal = tmp_path / "train" / "NORMAL"
    shutil.copy(normal / "IM-0002-0001.jpeg", normal / "IM-0777-0001.jpeg")
    for seed in range(4):
        data = load_chest_xray(tmp_path, seed=seed, verbose=False)
        where = {key: part.name for part in data.splits() for key in part.keys}
        assert where["train/NORMAL/IM-0777-0001.jpeg"] == where["train/NORMAL/IM-0002-0001.jpeg"]


def test_chest_xray_says_when_train_and_test_share_patients(tmp_path, capsys):
    radiographs(tmp_path, "train", first=1)
    radiographs(tmp_path, "test", first=12, patients=3)  # 12 is in both: IM-0012 and person12_bacteria
    data = load_chest_xray(tmp_path)
    note = "2 patients of 'test' seem to be in 'train', too (IM-0012, person12_bacteria)"
    assert note in capsys.readouterr().out
    assert any(note in line for line in data.report.notes)
    assert len(data.test) == 12  # nothing is dropped
    assert {"IM-0012", "person12"} <= set(data.test.groups)
    assert "test/IM-0013" in data.test.groups


@pytest.mark.parametrize("depth", ["", "chest_xray", "ChestXRay2017"])
def test_chest_xray_one_level_above(tmp_path, depth):
    radiographs(tmp_path / depth, "train")
    (tmp_path / "__MACOSX").mkdir(exist_ok=True)
    assert load_chest_xray(str(tmp_path), verbose=False).report.root == (tmp_path / depth).resolve()


def test_chest_xray_undivided(tmp_path):
    radiographs(tmp_path, "train")
    assert assert_patients_whole(load_chest_xray(tmp_path / "train")) == 48


def test_chest_xray_is_silent_when_asked(tmp_path, capsys):
    radiographs(tmp_path, "train")
    (tmp_path / "train" / "NORMAL" / "IM-0099-0001.jpeg").write_bytes(b"")
    data = load_chest_xray(tmp_path, verbose=False)
    assert capsys.readouterr() == ("", "")
    assert [bad.path.name for bad in data.report.bad] == ["IM-0099-0001.jpeg"]
    with pytest.raises(DataError, match=r"IM-0099-0001\.jpeg"):
        load_chest_xray(tmp_path, on_bad="refuse")


def test_chest_xray_needs_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"not downloaded for you \(1.2 GB\): get it from https://data.mendeley.com"):
        load_chest_xray()
    with pytest.raises(DataError, match="no folder"):
        load_chest_xray(tmp_path / "gone")
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError, match=r"should hold a folder 'train' with NORMAL and PNEUMONIA; it holds holiday"):
        load_chest_xray(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"; .*one, .*two each hold one"):
        load_chest_xray(tmp_path)


def test_chest_xray_with_other_classes(tmp_path):
    radiographs(tmp_path, "train")
    for number in range(3):
        write_image(tmp_path / "train" / "COVID" / f"person{number}_virus_{number}.jpeg")
    with pytest.raises(DataError, match=r"should have the classes \('NORMAL', 'PNEUMONIA'\), but has \('COVID', "):
        load_chest_xray(tmp_path)


def test_chest_xray_with_other_names(tmp_path):
    radiographs(tmp_path, "train")
    write_image(tmp_path / "train" / "NORMAL" / "scan7.jpeg")
    with pytest.raises(
        DataError, match=r"1 file name of 49 do not tell the patient, .*: train/NORMAL/scan7.jpeg\. Keep"
    ):
        load_chest_xray(tmp_path)


@pytest.mark.parametrize("shares", [{"val": 0}, {"val": 1}, {"val": 0.6, "test": 0.5}, {"val": -0.1}])
def test_chest_xray_with_impossible_shares(tmp_path, shares):
    radiographs(tmp_path, "train")
    with pytest.raises(DataError, match=r"fraction|share|part"):
        load_chest_xray(tmp_path, **shares)


# Real images


@pytest.mark.real
def test_real_chest_xray(real_data):
    data = load_chest_xray(real_data / "chest_xray", verbose=False)
    assert assert_patients_whole(data) == 5216
    sizes = data.sizes()
    assert sizes.sum(axis=1).tolist() == [1341, 3875, 5216]
    shares = sizes.loc["total"] / 5216
    assert shares.tolist() == pytest.approx([0.65, 0.15, 0.20], abs=0.005)
    assert (sizes.loc["NORMAL"] / sizes.loc["total"]).tolist() == pytest.approx([1341 / 5216] * 3, abs=0.01)


@pytest.mark.real
def test_real_hymenoptera(real_data):
    data = load_hymenoptera(root=real_data / "hymenoptera", verbose=False)
    assert [len(part) for part in data.splits()] == [244, 153]
    assert [bad.path.name for bad in data.report.bad] == ["imageNotFound.gif"]
