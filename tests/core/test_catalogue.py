"""Names and paths: what `load_data` makes of them."""

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlhelpers.data import catalogue
from tlhelpers.data.catalogue import Entry, data_names, load_data, register
from tlhelpers.errors import DataError

NAMES = [
    "safari",
    "phantom",
    "hymenoptera",
    "flowers102",
    "oxford_pets",
    "pneumonia_mnist",
    "retina_mnist",
    "chest_xray",
]


@pytest.fixture
def calls(monkeypatch):
    """A data set "fake", whose loader notes its options instead of loading."""
    noted = []

    def load_fake(*, size=64, seed=0):
        noted.append((size, seed))
        return "the data"

    def load_nothing():
        return "nothing"

    monkeypatch.setattr(catalogue, "_entries", dict(catalogue._entries))
    monkeypatch.setitem(globals(), "load_fake", load_fake)
    monkeypatch.setitem(globals(), "load_nothing", load_nothing)
    register(fake_entry("fake"))
    register(fake_entry("nothing", loader=f"{__name__}:load_nothing"))
    return noted


def fake_entry(name, loader=f"{__name__}:load_fake"):
    return Entry(name, "what", "full", "1 MB", "none", loader)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the image folder `photos` and, to confuse, one named `safari`."""
    rng = np.random.default_rng(0)
    for name in ("photos", "safari"):
        for label in ("cats", "dogs"):
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(12):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_reach_the_loader(calls):
    assert load_data("fake") == "the data"
    load_data("fake", seed=3, size=32)
    assert calls == [(64, 0), (32, 3)]


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_path_is_an_image_folder(folder, as_type):
    data = load_data(as_type(folder / "photos"), verbose=False)
    assert data.classes == ("cats", "dogs")
    assert sum(len(part) for part in data.splits()) == 24


def test_a_folder_in_the_working_directory(folder):
    assert load_data("photos", test=0, verbose=False).test is None


def test_a_name_wins_over_a_folder_unless_it_is_a_path(folder, calls):
    register(fake_entry("photos"))
    assert load_data("photos") == "the data"
    for path in (Path("photos"), "./photos", "photos/", folder / "photos", str(folder / "photos")):
        assert load_data(path, verbose=False).classes == ("cats", "dogs")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("safary", r" \(did you mean 'safari'\?\)"),
        ("Safari", r" \(did you mean 'safari'\?\)"),
        ("pneumonia", r" \(did you mean 'pneumonia_mnist'\?\)"),
        ("zebra", ""),
        ("", ""),
    ],
)
def test_neither_name_nor_folder(tmp_path, monkeypatch, name, hint):
    monkeypatch.chdir(tmp_path)
    where = re.escape(str(Path.cwd()))
    match = rf"^there is no data set '{name}' and, in {where}, no folder of that name{hint}; data sets are: safari, "
    with pytest.raises(DataError, match=match):
        load_data(name)


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*gone"):
        load_data(tmp_path / "gone")
    with pytest.raises(DataError, match=r"no folder .*some/gone"):
        load_data("some/gone")
    with pytest.raises(DataError, match=r"no folder .*safari"):
        load_data(tmp_path / "safari")


@pytest.mark.parametrize("value", [None, 7, ["safari"], b"safari"])
def test_neither_text_nor_path(value):
    with pytest.raises(DataError, match=f"takes a name or the path of a folder, not {type(value).__name__}"):
        load_data(value)


def test_unknown_options_are_named(calls, folder):
    expected = r"^data set 'fake' has no option 'sise' \(did you mean 'size'\?\); its options are: size=64, seed=0$"
    with pytest.raises(DataError, match=expected):
        load_data("fake", sise=3)
    with pytest.raises(DataError, match=r"^data set 'nothing' has no option 'size'; it has no options$"):
        load_data("nothing", size=3)
    with pytest.raises(DataError, match=r"^the image folder photos has no option 'vall' \(did you mean 'val'\?\); its"):
        load_data("photos", vall=0.3)
    with pytest.raises(DataError, match=r"has no option 'root'; its options are: groups=None, val="):
        load_data("photos", root="elsewhere")
    assert calls == []


def test_an_error_inside_a_loader_is_not_mistaken_for_a_wrong_option(calls, monkeypatch):
    def load_fake(*, size=64):
        raise TypeError("inside")

    monkeypatch.setitem(globals(), "load_fake", load_fake)
    with pytest.raises(TypeError, match=r"^inside$"):
        load_data("fake", size=1)


def test_registering_twice(calls):
    with pytest.raises(DataError, match=rf"named 'fake' is registered already, by {__name__}:load_fake"):
        register(fake_entry("fake"))


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", ".", "a b", "~"])
def test_a_name_must_not_read_as_a_path(calls, name):
    with pytest.raises(DataError, match="cannot name a data set"):
        register(fake_entry(name))


def test_the_table():
    table = data_names()
    assert table.columns.tolist() == ["name", "what", "profile", "size", "licence"]
    assert table["name"].tolist() == NAMES
    assert table.loc[table["profile"].str.contains("quick"), "name"].tolist() == ["safari", "phantom"]
    assert (table.map(len) > 0).all(axis=None)


@pytest.mark.parametrize("name", NAMES)
def test_every_loader_exists_and_every_option_has_a_default(name):
    loader = catalogue._imported(catalogue._entries[name].loader)
    for parameter in inspect.signature(loader).parameters.values():
        assert parameter.default is not parameter.empty
    with pytest.raises(DataError, match=f"data set '{name}' has no option 'no_such'; its options are: "):
        load_data(name, no_such=1)


def test_the_table_agrees_with_the_cards():
    from tlhelpers.data.named import chest_xray, hymenoptera, medmnist_sets, oxford

    mnist = [medmnist_sets.PNEUMONIA_CARD, medmnist_sets.RETINA_CARD]
    cards = [hymenoptera.CARD, oxford.FLOWERS_CARD, oxford.PETS_CARD, *mnist, chest_xray.CARD]
    assert [card.name for card in cards] == NAMES[2:]
    for card in cards:
        entry = catalogue._entries[card.name]
        assert card.licence.startswith(entry.licence.partition(";")[0])
        assert card.is_not
        assert "https://" in card.source
    sizes = {
        "hymenoptera": hymenoptera.NUM_BYTES,
        "flowers102": sum(size for _, size in oxford.FLOWERS_FILES.values()),
        "oxford_pets": sum(size for _, size in oxford.PETS_FILES.values()),
    }
    for name, size in sizes.items():
        assert catalogue._entries[name].size == f"{size / 1e6:.0f} MB"


def test_safari_by_name():
    data = load_data("safari", size=32, per_class=1, val_per_class=1, test_per_class=1)
    assert data.name == "safari"
    assert [len(part) for part in data.splits()] == [8, 8, 8]


def test_importing_data_modules_imports_nothing_heavy():
    """Read off the source: a new interpreter would need seconds to import torch."""
    heavy = {"torchvision", "sklearn", "medmnist", "scipy", "matplotlib", "timm", "torchmetrics"}
    modules = list(Path(catalogue.__file__).parent.rglob("*.py"))
    assert len(modules) > 10
    for module in modules:
        for node in ast.parse(module.read_text("utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not heavy & {name.partition(".")[0] for name in names}, f"{module}, line {node.lineno}"
