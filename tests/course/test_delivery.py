"""The delivery has the faults that it is said to have, and no others."""

from __future__ import annotations

import functools

import numpy as np

import tlcourse as tc
from tlcourse.phantom.flawed_dataset import PLANTED, FlawedDataset


@functools.cache
def delivered(seed: int = 0) -> FlawedDataset:
    return tc.flawed_dataset(size=48, patients=12, seed=seed)


def test_faults_are_there() -> None:
    table, images, plain = delivered()
    assert list(table.columns) == ["file", "part", "patient", "label"]
    assert len(table) == len(images) == len(plain) == 2 * (12 + 6 + 6) + PLANTED["copies"]
    both = table.groupby("patient")["part"].nunique()
    assert (both > 1).sum() == PLANTED["patients"]
    assert table["patient"].nunique() == 12 + 6 + 6 + PLANTED["copies"]
    content = [image.tobytes() for image in images]
    assert len(content) - len(set(content)) == PLANTED["copies"]
    assert [image.size for image in images].count((24, 24)) in range(2, 2 + PLANTED["copies"])
    assert table["file"].is_unique
    assert set(table["part"]) == {"train", "val", "test"}


def test_a_copy_has_another_patient_and_part() -> None:
    table, images, _ = delivered()
    content = table.assign(content=[image.tobytes() for image in images])
    for _, same in content[content.duplicated("content", keep=False)].groupby("content"):
        assert set(same["part"]) == {"train", "test"}
        assert same["patient"].nunique() == 2
        assert same["label"].nunique() == 1


def test_plain_images_differ_by_the_letter_only() -> None:
    table, images, plain = delivered()
    whole = [i for i, image in enumerate(images) if image.size == (48, 48)]
    changed = np.stack([np.asarray(images[i], float) != np.asarray(plain[i], float) for i in whole])
    assert not changed[:, 15:, :].any()
    assert not changed[:, :, 15:].any()
    ill = (table["label"] == "PNEUMONIA").to_numpy()[whole]
    marked = changed.any(axis=(1, 2))
    assert marked[ill].mean() > 0.8
    assert marked[~ill].mean() < 0.2


def test_the_seed_decides() -> None:
    assert delivered().table.equals(tc.flawed_dataset(size=48, patients=12).table)
    assert not delivered().table.equals(tc.flawed_dataset(size=48, patients=12, seed=1).table)
