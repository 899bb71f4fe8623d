"""The flawed data set has the faults that it promises, and no others."""

from __future__ import annotations

import functools

import numpy as np

import tlcourse as tc
from tlcourse.phantom.flawed_dataset import PLANTED, FlawedDataset


@functools.cache
def flawed(seed: int = 0) -> FlawedDataset:
    return tc.flawed_dataset(size=48, patients=12, seed=seed)


def test_the_faults_are_there() -> None:
    table, images, plain = flawed()
    assert list(table.columns) == ["file", "split", "patient", "label"]
    assert len(table) == len(images) == len(plain) == 2 * (12 + 6 + 6) + PLANTED["copies"]
    assert (table.groupby("patient")["split"].nunique() > 1).sum() == PLANTED["patients"]
    assert table["patient"].nunique() == 12 + 6 + 6 + PLANTED["copies"]
    assert len(images) - len({image.tobytes() for image in images}) == PLANTED["copies"]
    assert [image.size for image in images].count((24, 24)) == PLANTED["odd sizes"]
    assert table["file"].is_unique
    assert set(table["split"]) == {"train", "val", "test"}
    ill = (table["label"] == "PNEUMONIA").groupby(table["split"]).mean()
    assert ill["test"] < ill["train"]


def test_a_copy_has_another_patient_and_split() -> None:
    table, images, _ = flawed()
    content = table.assign(content=[image.tobytes() for image in images])
    for _, same in content[content.duplicated("content", keep=False)].groupby("content"):
        assert set(same["split"]) == {"train", "test"}
        assert same["patient"].nunique() == 2
        assert same["label"].nunique() == 1


def test_plain_images_differ_by_the_letter_only_and_it_goes_with_the_class() -> None:
    table, images, plain = flawed()
    full = [i for i, image in enumerate(images) if image.size == (48, 48)]
    changed = np.stack([np.asarray(images[i]) != np.asarray(plain[i]) for i in full])
    assert not changed[:, 15:, :].any()
    assert not changed[:, :, 15:].any()
    ill, marked = (table["label"] == "PNEUMONIA").to_numpy()[full], changed.any(axis=(1, 2))
    assert marked[ill].mean() > 0.8
    assert marked[~ill].mean() < 0.2


def test_the_seed_decides() -> None:
    assert flawed().table.equals(tc.flawed_dataset(size=48, patients=12).table)
    assert not flawed().table.equals(flawed(seed=1).table)
