"""The data set `phantom`: patients kept apart, opacities where the masks say, shortcuts as strong as asked for, and
images that follow the law of Beer and Lambert."""

import copy

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from toy import refused

import tlcourse as tc
import tlhelpers as tl
from tlcourse.phantom import film
from tlcourse.phantom.anatomy import LUNG_BOXES, lung_radius, make_grid, random_chest


def small(**change):
    return tl.load_data("phantom", **{"size": 64, "patients": 6, "val_patients": 4, "test_patients": 4, **change})


def greys(split):
    return np.stack([np.asarray(split.image(i).convert("L"), dtype=int) for i in range(len(split))])


def without_opacities(split):
    """The same chests, poses, noise and letters."""
    view, load = copy.copy(split), split.load
    view.load = type(load)([recipe._replace(subtype="none") for recipe in load.recipes], load.size, load.difficulty)
    return view


def test_images_are_grey_and_patients_share_class_subtype_and_hospital():
    data = small(per_patient=3)
    assert data.classes == ("NORMAL", "PNEUMONIA")
    assert [len(split) for split in data.splits()] == [18, 12, 12]
    image = np.asarray(data.train.image(0))
    assert image.shape == (64, 64, 3)
    assert (image == image[..., :1]).all()
    for split in data.splits():
        table = tc.phantom_table(split)
        assert table["patient"].tolist() == list(split.groups or ())
        assert (table.groupby("patient").size() == 3).all()
        assert (table.groupby("patient")[["label", "subtype", "hospital", "marker"]].nunique() == 1).all(axis=None)


def test_a_patients_images_are_more_alike_than_those_of_others():
    alike = np.corrcoef(greys(small(patients=10).train).reshape(20, -1))
    own = np.array([alike[i, i + 1] for i in range(0, 20, 2)])
    others = np.array([np.delete(alike[i], [i, i + 1]).mean() for i in range(0, 20, 2)])
    assert own.mean() > others.mean() + 0.02


@pytest.mark.parametrize("prevalence", [{"train": 0.0, "test": 0.1}, {"train": 1.0, "val": 0.33}])
def test_prevalence_is_exact_and_half_where_it_is_not_named(prevalence):
    data = small(patients=40, val_patients=20, test_patients=30, prevalence=prevalence)
    for split, patients in zip(data.splits(), (40, 20, 30), strict=True):
        assert int(split.labels.sum()) == 2 * round(prevalence.get(split.name, 0.5) * patients)


@pytest.mark.parametrize("strength", [0.8, 0.0, -1.0])
def test_the_marker_is_as_strong_as_asked_in_each_split(strength):
    for split in small(patients=80, val_patients=40, test_patients=40, marker=strength).splits():
        recipes = split.load.recipes[::2]  # the first image of each patient
        ill, well = ([r.marker for r in recipes if (r.subtype == "none") == healthy] for healthy in (False, True))
        assert np.mean(ill) == pytest.approx((1 + strength) / 2)
        assert np.mean(well) == pytest.approx((1 - strength) / 2)
        assert all((r.hospital == "B") == r.marker for r in recipes)


def test_the_marker_is_bright_in_the_corner_and_changes_nothing_else():
    plain, marked = greys(small(prevalence=1.0).train), greys(small(prevalence=1.0, marker=1.0).train)
    changed = plain != marked
    assert not changed[:, 20:].any()
    assert not changed[:, :, 20:].any()
    for before, after, where in zip(plain, marked, changed, strict=True):
        assert after[where].mean() > before[where].mean() + 20
    table = tc.phantom_table(small().train)
    assert not table["marker"].any()
    assert set(table["hospital"]) == {"A", "B"}


def test_masks_lie_inside_the_lungs_and_only_in_the_ill():
    split = small(size=96, patients=16).train
    masks, lungs = tc.phantom_masks(split), np.stack([split.load.drawn(row).lung for row in split.rows])
    assert (masks.shape, masks.dtype) == ((32, 96, 96), bool)
    assert not (masks & ~lungs).any()
    assert (masks.any(axis=(1, 2)) == (split.labels.numpy() == 1)).all()
    assert ((lungs.mean(axis=(1, 2)) > 0.2) & (lungs.mean(axis=(1, 2)) < 0.5)).all()
    covered = masks.sum(axis=(1, 2)) / lungs.sum(axis=(1, 2))
    assert tc.phantom_table(split)["opacity"].to_numpy() == pytest.approx(covered)


def test_opacities_brighten_what_their_masks_cover_and_little_else():
    split = small(size=96, patients=16, prevalence=1.0).train
    for change, mask in zip(greys(split) - greys(without_opacities(split)), tc.phantom_masks(split), strict=True):
        assert change[mask].mean() > 5
        assert abs(change[~ndimage.binary_dilation(mask, iterations=12)]).mean() < 3


def test_prevalence_adds_opacities_and_nothing_else():
    split, normal = small().train, small(prevalence=0.0).train
    assert not tc.phantom_masks(normal).any()
    assert (greys(without_opacities(split)) == greys(normal)).all()
    same = (greys(split) == greys(normal)).all(axis=(1, 2))
    assert (same == (split.labels.numpy() == 0)).all()


def test_bacterial_patches_are_few_and_dense_viral_ones_many_and_faint():
    split = small(size=96, patients=24, prevalence=1.0, per_patient=1).train
    change = greys(split) - greys(without_opacities(split))
    masks, viral = tc.phantom_masks(split), (tc.phantom_table(split)["subtype"] == "viral").to_numpy()
    assert viral.sum() == 12
    count = np.array([ndimage.label(mask)[1] for mask in masks])
    depth = np.array([one[mask].mean() for one, mask in zip(change, masks, strict=True)])
    assert count[viral].mean() > count[~viral].mean() + 2
    assert depth[~viral].mean() > 1.5 * depth[viral].mean()


def test_difficulty_thins_the_fluid_and_leaves_the_chest():
    easy, hard = (small(prevalence=1.0, difficulty=d).train for d in (0.5, 4))
    chest, masks = greys(without_opacities(easy)), tc.phantom_masks(easy)
    assert (chest == greys(without_opacities(hard))).all()
    change = [(greys(split) - chest)[masks].mean() for split in (easy, hard)]
    assert change[0] > 3 * change[1] > 0


def test_another_size_draws_the_same_chest_finer():
    """An image shrunk by half looks like the image drawn at half the size, but for its noise."""
    coarse, fine = greys(small().train), small(size=128).train
    for i, expected in enumerate(coarse):
        shrunk = np.asarray(fine.image(i).convert("L").resize((64, 64), Image.Resampling.BOX))
        assert np.corrcoef(shrunk.ravel(), expected.ravel())[0, 1] > 0.97


def test_selected_images_keep_their_masks_and_rows():
    split, rows = small(prevalence=1.0).train, [5, 0, 3]
    some = split.select(rows)
    assert (tc.phantom_masks(some) == tc.phantom_masks(split)[rows]).all()
    assert tc.phantom_table(some)["key"].tolist() == [split.keys[i] for i in rows]


def test_other_images_have_no_masks():
    safari = tl.load_data("safari", size=32, per_class=1, val_per_class=1, test_per_class=1)
    for function in (tc.phantom_masks, tc.phantom_table):
        refused(tl.DataError, "not those of the data set 'phantom'", function, safari.train)


def test_beer_and_lambert():
    """Twice the depth lets the square through; the half value layer of soft tissue is that of 60 keV."""
    depth, zero = np.array([[1.0, 2.0]]), np.zeros((1, 2))
    one, two = np.exp(-film.attenuation(depth, zero, zero, zero, zero))[0]
    assert two == pytest.approx(one**2)
    assert np.log(2) / -np.log(one) == pytest.approx(3.2, abs=0.1)  # cm, 0.693 / (0.205 * 1.06)


def test_noise_falls_with_the_root_of_the_dose():
    """Counts of photons have the standard deviation of their root, so their logarithm has one over it."""
    signal = np.full((128, 128), 0.2, np.float32)
    for photons in (500.0, 2000.0):
        grey = film.develop(signal, (0.6, 2.6), photons=photons, brightness=0, contrast=1, seed=3)
        noise = grey.astype(float).std()
        assert noise == pytest.approx(0.86 * 255 / 2 / np.sqrt(photons * 0.2), rel=0.1)


def test_lungs_lie_where_the_masks_of_people_have_them():
    grid = make_grid(128, shift=(0, 0), turn=0, zoom=1)
    chest = random_chest(np.random.default_rng(0))._replace(width=1.0, height=1.0)
    for radius, box in zip(lung_radius(grid.x, grid.y, chest), LUNG_BOXES, strict=True):
        rows, columns = ((radius < 1).any(axis=axis).nonzero()[0] / 128 for axis in (1, 0))
        assert (columns[0], rows[0], columns[-1], rows[-1]) == pytest.approx(box, abs=0.05)
