"""The data set `safari`: its catalogue, its drawings, and boxes that fit."""

import re
import unicodedata

import numpy as np
import pytest
from toy import cases, refused

import tlcourse as tc
import tlhelpers as tl
from tlcourse.drawn_images import SPLITS
from tlcourse.safari import drawing
from tlcourse.safari.catalogue import CLASSES, CODES, SCENERY, SPECIES, STYLES, STYLES_OF, drawings, species_of
from tlcourse.safari.dataset import make_split
from tlcourse.safari.scene import VISIBLE, SceneImages, drawing_layers, render_scene

ALL = [f"{style}/{code}" for style in STYLES for code in CODES]


def small(**change):
    return tl.load_data("safari", **{"size": 48, "per_class": 3, "val_per_class": 2, "test_per_class": 2, **change})


def test_splits_classes_and_sizes():
    data = small()
    assert data.classes == CLASSES
    assert (data.sizes().loc[list(CLASSES)] == [3, 2, 2]).all(axis=None)
    assert (data.train.image(0).mode, data.train.image(0).size) == ("RGB", (48, 48))
    assert tl.load_data("safari").sizes().loc["total"].to_list() == [320, 160, 320]


@cases("styles, apart", (None, "style"), (STYLES[:2], "species"))
def test_no_drawing_style_species_or_scene_is_on_both_sides_of_a_division(styles, apart):
    splits = [make_split(name, count, styles=styles, size=48) for name, count in zip(SPLITS, (60, 30, 30), strict=True)]
    pattern = re.compile(rf"[0-9]{{4}}-(.+)-({'|'.join(STYLES)})-([0-9A-F]+)")
    found = [[pattern.fullmatch(key.rpartition("/")[2]).groups() for key in split.keys] for split in splits]
    sides = {"drawing": found, "group": [split.groups for split in splits]}
    sides |= {side: [[f[i] for f in names] for names in found] for i, side in enumerate(("species", "style"))}
    for side, names in sides.items():
        sets = [set(own) for own in names]
        disjoint = len(set.union(*sets)) == sum(map(len, sets))
        assert disjoint == (side in ("drawing", "group", apart)), side
    seeds = [seeds for split in splits for _, seeds in split.load.scenes]
    assert len(set(seeds)) == len(seeds)


def test_images_differ_in_their_drawings_as_long_as_there_are_any():
    for styles in STYLES_OF.values():
        for name in CLASSES:
            found = drawings(name, list(SPECIES[name]), styles)
            assert len(set(found)) == len(found) == len(styles) * sum(map(len, SPECIES[name].values())) >= 14
            assert {d.style for d in found[: 2 * len(styles)]} == set(styles)
    data = small(per_class=40)
    assert len(set(data.train.groups)) == len(data.train) == 320


def test_a_division_by_species_is_of_fixed_proportions():
    for name in CLASSES:
        counts = [len(species_of(name, split)) for split in SPLITS]
        assert sum(counts) == len(SPECIES[name])
        assert np.allclose(np.array(counts) / sum(counts), (0.6, 0.15, 0.25), atol=0.06), name


@pytest.mark.parametrize("species", ["tiger", "zebra", "owl", "pizza", "castle"])
def test_names_agree_with_unicode(species):
    """A slip in a code point would show another thing; five of them are looked up."""
    codes = next(group[species] for group in SPECIES.values() if species in group)
    assert species.upper() in unicodedata.name(chr(int(codes[0], 16)))


def test_every_name_has_a_drawing_of_its_own_that_fills_its_cell():
    scenery = [name for split in SPLITS for name in SCENERY[split]]
    assert len(set(CODES) | {name.partition("/")[2] for name in scenery}) == len(CODES) + len(scenery)
    arrays = {name: drawing.draw(name, 32) for name in (*ALL, *scenery)}
    assert {max(array.shape[:2]) for array in arrays.values()} == {32}
    assert len({array.tobytes() for array in arrays.values()}) == len(arrays)
    assert all(array[..., 3].max() > 0.9 and array[..., :3].max() <= 1 for array in arrays.values())


@pytest.mark.parametrize("size", [32, 128, 300])
def test_boxes_are_tight_inside_and_scale_with_the_image(size):
    names = ["noto/1F697", "twemoji/1F413"]
    for seed in range(5):
        _, boxes = render_scene(names, seed=(seed,), size=size)
        layout = np.random.default_rng(np.random.SeedSequence((seed,)).spawn(3)[0])
        for layer, box in zip(drawing_layers(names, layout, size), boxes.tolist(), strict=True):
            rows, columns = np.nonzero(layer[..., 3] >= VISIBLE)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        _, large = render_scene(names, seed=(seed,), size=256)
        assert np.abs(boxes / size - large / 256).max() < 3 / 32


def test_even_a_crowd_of_specks_has_boxes_and_no_drawing_has_none():
    crowd = [name for name in ALL if name.startswith("fluent/")][:60] * 3
    _, boxes = render_scene(crowd, seed=(4,), size=32)
    assert len(boxes) == len(crowd)
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 32
    assert render_scene([], seed=(0,), size=32)[1].shape == (0, 4)


@pytest.mark.parametrize(("x", "y"), [(3, 0.5), (-3, 0.5), (0.5, 3), (0.5, -3)])
def test_a_drawing_outside_the_image_changes_nothing(x, y):
    layer = np.zeros((32, 32, 4), dtype=np.float32)
    drawing.stamp(layer, ALL[0], drawing.Place(x, y, 0.4, 0, flip=False))
    assert not layer.any()


def test_clutter_changes_the_background_and_not_the_place_of_the_drawing():
    scenes = [(ALL[:1], (i,)) for i in range(3)]
    plain, busy = (SceneImages(scenes, 48, clutter, SCENERY["train"]) for clutter in (0, 3))
    assert all(
        np.array_equal(plain.boxes(i), busy.boxes(i)) and plain(i).tobytes() != busy(i).tobytes() for i in range(3)
    )
    for clutter in (-1, float("nan")):
        refused(tl.DataError, "clutter must be from 0 to 3", SceneImages, scenes, 48, clutter, ())


def test_missing_or_damaged_sheets_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(drawing, "SHEETS", tmp_path)
    (tmp_path / "noto.webp").write_bytes(b"no image")
    drawing._sheet.cache_clear()
    for style in ("noto", "twemoji"):
        refused(tl.DataError, rf"{style}\.webp.* cannot be read .*reinstall", drawing.draw, f"{style}/1F697", 32)


def test_some_classes_are_numbered_in_the_order_of_their_names():
    data, names = small(), ("vehicle", "bird")
    pair = tc.select_classes(data, names)
    assert pair.classes == names
    for own, part in zip(data.splits(), pair.splits(), strict=True):
        assert [names[y] for y in part.labels] == [n for n in (CLASSES[y] for y in own.labels) if n in names]
    refused(tl.DataError, "'brid' is no class of safari. Did you mean 'bird'?", tc.select_classes, data, ["brid"])
