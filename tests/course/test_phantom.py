"""The data set `phantom`: the same bytes each time, patients kept apart, opacities where the masks say, planted
shortcuts as strong as asked for, and an image that follows the law of Beer and Lambert."""

from __future__ import annotations

import hashlib
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tlcourse as tc
import tlhelpers as tl
from tlcourse.phantom.anatomy import Grid, draw_chest, lung_radius, make_grid
from tlhelpers.data import phantom, phantom_film

SMALL = {"size": 64, "patients": 6, "val_patients": 4, "test_patients": 4}


def small(**change: object) -> tl.ImageData:
    return tl.load_data("phantom", **{**SMALL, **change})


def greys(split: tl.ImageSplit) -> np.ndarray:
    return np.stack([np.asarray(split.image(i).convert("L"), dtype=int) for i in range(len(split))])


def digest(split: tl.ImageSplit, order: list[int] | None = None) -> str:
    pixels = {i: split.image(i).tobytes() for i in order or range(len(split))}
    return hashlib.sha256(b"".join(pixels[i] for i in range(len(split)))).hexdigest()


def test_parts_classes_and_card() -> None:
    data = small(per_patient=3)
    assert data.classes == ("NORMAL", "PNEUMONIA")
    assert [len(part) for part in data.splits()] == [18, 12, 12]
    image = np.asarray(data.train.image(0))
    assert image.shape == (64, 64, 3)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    for word in ("drawings", "No score on them is a medical result"):
        assert word in data.card.is_not


def test_the_same_bytes_again_in_any_order_and_another_process() -> None:
    first = digest(small().train)
    order = list(range(12))
    random.Random(0).shuffle(order)
    assert digest(small().train, order) == first
    code = (
        "import hashlib, tlhelpers as tl;"
        f"t = tl.load_data('phantom', **{SMALL}).train;"
        "print(hashlib.sha256(b''.join(t.image(i).tobytes() for i in range(len(t)))).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert other.stdout.strip() == first


def test_every_image_differs_and_so_does_every_seed() -> None:
    data = small()
    seen = {part.image(i).tobytes() for part in data.splits() for i in range(len(part))}
    assert len(seen) == 28
    other = small(seed=1)
    assert not seen & {part.image(i).tobytes() for part in other.splits() for i in range(len(part))}


def test_it_neither_uses_nor_touches_the_global_generators() -> None:
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    digest(small(marker=0.5).val)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()


def test_patients_never_cross_parts_and_share_class_and_subtype() -> None:
    data = small(per_patient=3)
    owned = [set(part.groups or ()) for part in data.splits()]
    assert not owned[0] & owned[1] | owned[0] & owned[2] | owned[1] & owned[2]
    for part in data.splits():
        table = tc.phantom_table(part)
        assert table["patient"].tolist() == list(part.groups or ())
        assert (table.groupby("patient").size() == 3).all()
        for column in ("label", "subtype", "hospital", "marker"):
            assert (table.groupby("patient")[column].nunique() == 1).all()


def test_a_patients_images_are_more_alike_than_those_of_others() -> None:
    images = greys(small(patients=10).train).reshape(20, -1)
    alike = np.corrcoef(images)
    own = np.array([alike[i, i + 1] for i in range(0, 20, 2)])
    others = np.array([np.delete(alike[i], [i, i + 1]).mean() for i in range(0, 20, 2)])
    assert own.mean() > others.mean() + 0.02


@pytest.mark.parametrize("prevalence", [0.0, 0.1, 0.5, 1.0])
def test_prevalence_is_exact(prevalence: float) -> None:
    data = small(patients=40, val_patients=20, test_patients=30, prevalence=prevalence)
    for part, patients in zip(data.splits(), (40, 20, 30), strict=True):
        assert int(part.labels.sum()) == 2 * round(prevalence * patients)


def test_prevalence_of_each_part_and_the_same_chests() -> None:
    many, few = small(prevalence=1.0), small(prevalence={"test": 0.0})
    assert [int(part.labels.sum()) for part in few.splits()] == [6, 4, 0]
    assert (greys(tc.phantom_healthy(many.test)) == greys(few.test)).all()


def test_the_marker_is_as_strong_as_asked() -> None:
    strengths = {"train": 0.8, "val": 0.0, "test": -1.0}
    data = small(patients=80, val_patients=40, test_patients=40, marker=strengths)
    for part, strength in zip(data.splits(), strengths.values(), strict=True):
        films = [shot for shot in part.load.films if shot.seed[-1] == 0]  # type: ignore[attr-defined]
        ill = [shot.marker for shot in films if shot.subtype != "none"]
        well = [shot.marker for shot in films if shot.subtype == "none"]
        assert np.mean(ill) == pytest.approx((1 + strength) / 2)
        assert np.mean(well) == pytest.approx((1 - strength) / 2)
        assert all((shot.hospital == "B") == shot.marker for shot in films)


def test_the_marker_is_bright_in_the_corner_and_changes_nothing_else() -> None:
    plain, marked = greys(small(prevalence=1.0).train), greys(small(prevalence=1.0, marker=1.0).train)
    changed = plain != marked
    assert changed.any(axis=(1, 2)).all()
    assert not changed[:, 20:].any()
    assert not changed[:, :, 20:].any()
    for before, after, where in zip(plain, marked, changed, strict=True):
        assert after[where].mean() > before[where].mean() + 20
    table = tc.phantom_table(small().train)
    assert not table["marker"].any()
    assert set(table["hospital"]) == {"A", "B"}


def test_masks_lie_inside_the_lungs_and_only_in_the_ill() -> None:
    split = small(size=96, patients=16).train
    masks, lungs = tc.phantom_masks(split), tc.phantom_masks(split, of="lungs")
    assert masks.shape == (32, 96, 96)
    assert masks.dtype == bool
    assert not (masks & ~lungs).any()
    assert (masks.any(axis=(1, 2)) == (split.labels.numpy() == 1)).all()
    share = lungs.mean(axis=(1, 2))
    assert share.min() > 0.2
    assert share.max() < 0.5


def test_opacities_brighten_what_their_masks_cover_and_little_else() -> None:
    split = small(size=96, patients=16, prevalence=1.0).train
    ill, well = greys(split), greys(tc.phantom_healthy(split))
    masks = tc.phantom_masks(split)
    for before, after, mask in zip(well, ill, masks, strict=True):
        assert (after - before)[mask].mean() > 5
        far = ~mask & ~tl_dilated(mask, 12)
        assert abs((after - before)[far]).mean() < 3


def tl_dilated(mask: np.ndarray, reach: int) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return binary_dilation(mask, iterations=reach)


def test_healthy_images_have_no_opacity_and_the_normal_ones_stay() -> None:
    split = small().train
    healthy = tc.phantom_healthy(split)
    assert not tc.phantom_masks(healthy).any()
    same = (greys(split) == greys(healthy)).all(axis=(1, 2))
    assert (same == (split.labels.numpy() == 0)).all()
    assert torch.equal(healthy.labels, split.labels)
    assert not tc.phantom_masks(split).any(axis=(1, 2))[same].any()


def test_bacterial_patches_are_few_and_dense_viral_ones_many_and_faint() -> None:
    from scipy.ndimage import label

    split = small(size=96, patients=24, prevalence=1.0, per_patient=1).train
    change = greys(split) - greys(tc.phantom_healthy(split))
    masks, subtype = tc.phantom_masks(split), tc.phantom_table(split)["subtype"].to_numpy()
    assert sorted(subtype.tolist()).count("viral") == 12
    count = np.array([label(mask)[1] for mask in masks])
    depth = np.array([one[mask].mean() for one, mask in zip(change, masks, strict=True)])
    assert count[subtype == "viral"].mean() > count[subtype == "bacterial"].mean() + 2
    assert depth[subtype == "bacterial"].mean() > 1.5 * depth[subtype == "viral"].mean()


def test_difficulty_thins_the_fluid_and_leaves_the_chest() -> None:
    easy, hard = (small(prevalence=1.0, difficulty=d).train for d in (0.5, 4))
    assert digest(tc.phantom_healthy(easy)) == digest(tc.phantom_healthy(hard))
    masks = tc.phantom_masks(easy)
    change = [(greys(s) - greys(tc.phantom_healthy(s)))[masks].mean() for s in (easy, hard)]
    assert change[0] > 3 * change[1] > 0


def test_size_draws_the_same_chest_finer() -> None:
    """An image shrunk by half looks like the image drawn at half the size, but for its noise."""
    from PIL import Image

    coarse, fine = greys(small().train), small(size=128).train
    for i, expected in enumerate(coarse):
        shrunk = np.asarray(fine.image(i).convert("L").resize((64, 64), Image.Resampling.BOX), dtype=int)
        assert np.corrcoef(shrunk.ravel(), expected.ravel())[0, 1] > 0.97


# --- physics ----------------------------------------------------------------------------------------------------


def test_beer_and_lambert() -> None:
    """Twice the depth lets the square through; half value layers of soft tissue are those of 60 keV."""
    depth = np.array([[1.0, 2.0, 5.0]])
    zero = np.zeros_like(depth)
    one, two, _ = phantom_film.transmitted(phantom_film.attenuation(depth, zero, zero, zero))[0]
    assert two == pytest.approx(one**2)
    assert np.log(2) / -np.log(one) == pytest.approx(3.2, abs=0.1)  # cm, 0.693 / (0.205 * 1.06)


def test_bone_stops_more_than_soft_tissue_that_more_than_lung_that_more_than_air() -> None:
    ten, two, zero = (np.full((1, 1), depth) for depth in (10.0, 2.0, 0.0))
    bone, soft, lung, air = (
        float(phantom_film.attenuation(ten, *maps)[0, 0])
        for maps in ((zero, zero, two), (zero, zero, zero), (two, zero, zero), (zero, two, zero))
    )
    assert bone > soft > lung > air > 0
    wet = float(phantom_film.attenuation(ten, two, zero, zero, two)[0, 0])
    assert wet == pytest.approx(soft), "a lung full of fluid is soft tissue"


def test_more_attenuation_is_brighter_everywhere() -> None:
    ramp = np.broadcast_to(np.linspace(0.5, 6, 64, dtype=np.float32), (64, 64))
    signal = phantom_film.signal_of(ramp)
    exposure = phantom_film.Exposure(photons=np.inf, brightness=0, contrast=1, seed=0)
    shown = phantom_film.develop(signal, exposure, (0.5, 6.0)).astype(int)
    assert (np.diff(shown, axis=1) >= 0).all()
    assert shown[0, -1] - shown[0, 0] > 60
    lead = np.zeros((64, 64), np.float32)
    lead[3, 3] = 1.0
    assert phantom_film.develop(signal, exposure, (0.5, 6.0), lead=lead)[3, 3] > shown[3, 3]


def test_noise_falls_with_the_root_of_the_dose() -> None:
    """The counts of photons scatter by their root, so their logarithm by one over it."""
    signal = np.full((128, 128), 0.2, np.float32)
    spread = []
    for photons in (500.0, 2000.0):
        exposure = phantom_film.Exposure(photons=photons, brightness=0, contrast=1, seed=3)
        spread.append(phantom_film.develop(signal, exposure, (0.6, 2.6)).astype(float).std())
    assert spread[0] / spread[1] == pytest.approx(2, rel=0.1)
    assert spread[0] == pytest.approx(0.86 * 255 / 2 / np.sqrt(500 * 0.2), rel=0.1)


def test_grid_and_its_inverse_agree() -> None:
    grid = make_grid(32, shift=(0.05, -0.02), turn=0.1, zoom=0.9)
    points = np.column_stack([grid.x.ravel(), grid.y.ravel()])
    line = (np.arange(32) + 0.5) / 32
    expected = np.column_stack([np.tile(line, 32), np.repeat(line, 32)])
    assert np.abs(grid.to_image(points) - expected).max() < 1e-5


def test_lungs_lie_where_the_masks_of_people_have_them() -> None:
    grid = make_grid(128, shift=(0, 0), turn=0, zoom=1)
    chest = draw_chest(np.random.default_rng(0))._replace(width=1.0, height=1.0)
    right, left = (radius < 1 for radius in lung_radius(grid, chest))
    for inside, box in ((right, (0.070, 0.109, 0.453, 0.812)), (left, (0.547, 0.109, 0.922, 0.844))):
        rows, columns = (inside.any(axis=axis).nonzero()[0] / 128 for axis in (1, 0))
        found = columns[0], rows[0], columns[-1], rows[-1]
        assert np.abs(np.array(found) - box).max() < 0.05
    assert isinstance(grid, Grid)


# --- use --------------------------------------------------------------------------------------------------------


def test_some_images_of_a_part_keep_their_masks() -> None:
    split = small(prevalence=1.0).train
    some = split.select([5, 0, 3])
    assert (tc.phantom_masks(some) == tc.phantom_masks(split)[[5, 0, 3]]).all()
    assert tc.phantom_table(some)["key"].tolist() == [split.keys[i] for i in (5, 0, 3)]
    assert (greys(tc.phantom_healthy(some)) == greys(tc.phantom_healthy(split))[[5, 0, 3]]).all()


def test_the_loader_travels_light_and_memory_is_bounded() -> None:
    split = small().train
    first = digest(split)
    parcel = pickle.dumps(split)
    assert len(parcel) < 20_000, "the images travelled along"
    again = pickle.loads(parcel)
    again.load.cache_bytes = 5 * 3 * 64 * 64
    assert digest(again) == first
    assert len(again.load._kept) == 5


def test_the_export_is_read_back_pixel_for_pixel(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    data = small(patients=2)
    read = ImageFolder(tc.export_folder(data, tmp_path / "phantom") / "train")
    assert read.classes == list(data.classes)
    ours = {data.train.image(i).tobytes() for i in range(len(data.train))}
    assert {image.tobytes() for image, _ in read} == ours


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 32}, "from 48 to 512 pixels, not 32"),
        ({"patients": 0}, "at least 1 patient in 'train'"),
        ({"per_patient": 0}, "1 or more"),
        ({"prevalence": 1.5}, "prevalence of 'train' must be from 0 to 1, not 1.5"),
        ({"prevalence": {"tset": 0.5}}, "no part 'tset'"),
        ({"marker": {"test": -2}}, "marker of 'test' must be from -1 to 1, not -2"),
        ({"difficulty": 0}, "from 0.25 to 10"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_arguments_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(tl.DataError, match=message):
        small(**change)


def test_other_images_have_no_masks() -> None:
    safari = tl.load_data("safari", size=32, per_class=1, val_per_class=1, test_per_class=1)
    for function in (tc.phantom_masks, tc.phantom_table, tc.phantom_healthy):
        with pytest.raises(tl.DataError, match="not those of the data set 'phantom'"):
            function(safari.train)
    with pytest.raises(tl.DataError, match="'opacities' and of 'lungs', not of 'heart'"):
        tc.phantom_masks(small().train, of="heart")
    assert phantom.CLASSES == ("NORMAL", "PNEUMONIA")
