"""Drawn data sets: the same pixels each time, whoever asks in whatever order, with bounded memory."""

import hashlib
import pickle
import random

import numpy as np
import pytest
from PIL import Image
from toy import run_python

import tlhelpers as tl
from tlcourse.safari.scene import render_scene

SMALL = {
    "safari": {"size": 48, "per_class": 3, "val_per_class": 2, "test_per_class": 2},
    "phantom": {"size": 64, "patients": 6, "val_patients": 4, "test_patients": 4},
}


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


def small(name, **change):
    return tl.load_data(name, **{**SMALL[name], **change})


def pixels(split):
    return [split.image(i).tobytes() for i in range(len(split))]


def digest(split):
    return hashlib.sha256(b"".join(pixels(split))).hexdigest()


def test_neither_the_order_of_reading_nor_changes_to_an_image_matter(name):
    split = small(name).train
    for i in random.Random(0).sample(range(len(split)), len(split)):
        split.image(i).paste((1, 2, 3), (0, 0, 20, 20))
    assert pixels(split) == pixels(small(name).train)


def test_another_process_draws_the_same_and_needs_nothing_of_detection():
    code = (
        "import hashlib, sys, tlhelpers as tl\n"
        f"for name, options in {SMALL}.items():\n"
        "    t = tl.load_data(name, **options).train\n"
        "    print(hashlib.sha256(b''.join(t.image(i).tobytes() for i in range(len(t)))).hexdigest())\n"
        "print({'tlcourse.detection', 'torchmetrics.detection', 'pycocotools'} & set(sys.modules))"
    )
    other = run_python("-c", code, check=True, timeout=300)
    assert other.stdout.split() == [*(digest(small(name).train) for name in SMALL), "set()"]


def test_drawing_is_what_it_was_when_the_results_were_measured():
    """Thumbnails, with a tolerance for other machines: a changed order of random numbers changes them entirely."""
    background, _ = render_scene([], seed=(0,), size=64)
    chest = small("phantom").train.image(0)
    for image, expected in (
        (background, [214, 208, 170, 180, 214, 193, 174, 191, 186, 201, 211, 180, 218, 191, 191, 172]),
        (chest, [88, 99, 100, 70, 105, 84, 90, 113, 98, 138, 114, 93, 219, 242, 228, 182]),
    ):
        thumbnail = image.convert("L").resize((4, 4), Image.Resampling.BOX)
        assert np.asarray(thumbnail, dtype=int).ravel().tolist() == pytest.approx(expected, abs=2)


def test_all_images_of_all_splits_and_seeds_differ_and_no_group_is_in_two_splits(name):
    data = [image for seed in (0, 1) for split in small(name, seed=seed).splits() for image in pixels(split)]
    assert len(set(data)) == len(data)
    groups = [set(split.groups or ()) for split in small(name).splits()]
    assert len(set.union(*groups)) == sum(map(len, groups)) > 0


def test_a_smaller_data_set_is_a_subset(name):
    # Who is ill depends on the number of patients.
    option, same = ("per_class", {}) if name == "safari" else ("patients", {"prevalence": 0.0})
    few, many = (small(name, **{option: count}, **same).train for count in (2, 6))
    assert set(pixels(few)) < set(pixels(many))


def test_a_pickled_loader_is_small_and_draws_the_same_within_its_memory(name):
    split = small(name).train
    first = digest(split)
    parcel = pickle.dumps(split)
    assert len(parcel) < 20_000, "the images were pickled, too"
    again = pickle.loads(parcel)
    again.load.capacity = 5
    assert digest(again) == first == digest(again)
    assert len(again.load._cache) == 5
