"""Names and paths: what `load_data` makes of them."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
from junk import make_classes
from toy import cases, refused

import tlhelpers as tl
from tlhelpers.data import catalogue
from tlhelpers.data.catalogue import DataSetEntry, load_data

ENTRIES = catalogue._entries()


def load_fake(*, size=64, seed=0):
    """Stands for the loader of a data set "fake"."""
    return size, seed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the image folder `fake`; there is a data set of that name, too."""
    make_classes(tmp_path / "fake", {"cats": 12, "dogs": 12})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "_entries", lambda: {"fake": DataSetEntry("fake", "", "", "", module=__name__)})
    return tmp_path


def test_options_reach_the_loader(folder):
    assert load_data("fake") == (64, 0)
    assert load_data("fake", seed=3, size=32) == (32, 3)


def test_a_name_wins_over_a_folder_unless_it_is_a_path(folder):
    for path in (Path("fake"), "./fake", "fake/", folder / "fake", str(folder / "fake")):
        assert load_data(path, test=0, verbose=False).classes == ("cats", "dogs")
    (folder / "fake").rename(folder / "photos")
    assert load_data("photos", test=0, verbose=False).test is None


@cases(
    "name, message",
    ("safary", r"no data set 'safary', and no folder of that name in {}\. Did you mean 'safari'\? Known: safari, "),
    ("", r"there is no data set ''.*\. Known: safari"),
    ("some/gone", "no folder .*some/gone"),
    (Path("safari"), "no folder .*safari"),
    *((value, f"takes a name or the path of a folder, not {type(value).__name__}")
      for value in (None, 7, ["safari"], b"safari")),
)  # fmt: skip
def test_neither_name_nor_folder(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    refused(tl.DataError, message.format(re.escape(str(Path.cwd()))), load_data, name)


def test_unknown_options_are_named(folder):
    known = r"^data set 'fake' has no option 'sise'. Did you mean 'size'\? Known: size"
    refused(tl.DataError, known, load_data, "fake", sise=3)
    refused(tl.DataError, "^the image folder fake has no option 'root'", load_data, "./fake", root=3)


def test_an_error_inside_a_loader_is_not_taken_for_a_wrong_option(folder, monkeypatch):
    monkeypatch.setitem(globals(), "load_fake", lambda size=64: (_ for _ in ()).throw(TypeError("inside")))
    refused(TypeError, r"^inside$", load_data, "fake", size=1)


def test_the_course_adds_its_data_sets_to_those_of_the_core():
    table = tl.data_names()
    assert table.columns.tolist() == ["name", "what", "profile", "size", "licence"]
    own = ["hymenoptera", "flowers102", "oxford_pets", "pneumonia_mnist"]
    assert table["name"].tolist() == ["safari", "phantom", "chest_xray", *own]
    assert table.loc[table["profile"].str.contains("quick"), "name"].tolist() == ["safari", "phantom"]
    assert (table.map(len) > 0).all(axis=None)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_loader_exists_and_every_option_has_a_default(name):
    loader = getattr(importlib.import_module(ENTRIES[name].module), f"load_{name}")
    assert all(p.default is not p.empty for p in inspect.signature(loader).parameters.values())
    refused(tl.DataError, f"data set '{name}' has no option 'no_such'", load_data, name, no_such=1)


@pytest.mark.parametrize("module", ["catalogue", "dataset", "folder", "images", "layout", "scan", "splits"])
def test_loading_a_drawn_data_set_imports_nothing_heavy(module):
    heavy = {"torchvision", "sklearn", "scipy", "matplotlib", "timm"}
    for node in ast.parse(Path(catalogue.__file__).with_name(f"{module}.py").read_text("utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not heavy & {name.partition(".")[0] for name in names}, f"line {node.lineno}"
