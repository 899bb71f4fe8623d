"""Batches from decoded pictures: the same numbers as one by one, and crops that are random where they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from toy import toy_data

import tlhelpers as tl
from tlhelpers.data.batches import PixelBatches, random_crops

LOOK = tl.Preprocessing(size=32, resize=32)


def noise(**changes: Any) -> PixelBatches:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    options = {"batch_size": 8, "shuffle": True, "crop": 0.5, **changes}
    return PixelBatches(pixels, torch.arange(24) % 2, LOOK, **options)


def test_pixel_batches_are_the_cards_preprocessing() -> None:
    data = toy_data().val
    pixels = torch.stack([torch.from_numpy(np.array(data.picture(i))) for i in range(len(data))])
    look = tl.Preprocessing(size=64, resize=64)
    batches = PixelBatches(pixels.permute(0, 3, 1, 2), data.labels, look, batch_size=3)
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    expected = torch.stack([look.evaluation()(data.picture(i)) for i in range(len(data))])
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
    assert torch.equal(labels, data.labels)
    assert len(batches) == 3


def test_epochs_differ_and_each_comes_again() -> None:
    batches = noise()
    seen = []
    for epoch in (1, 2, 1):
        batches.set_epoch(epoch)
        seen.append(torch.cat([images for images, _ in batches]))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    other = noise(seed=1)
    assert not torch.equal(seen[0], torch.cat([images for images, _ in other]))


def test_every_picture_draws_its_own_crop_and_pairs_stay_together() -> None:
    pixels = torch.arange(32 * 32).remainder(251).to(torch.uint8).view(1, 1, 32, 32).expand(16, 3, 32, 32)
    batches = PixelBatches(pixels, torch.arange(16), LOOK, batch_size=16, shuffle=True, crop=0.3)
    images, labels = next(iter(batches))
    assert len({image.numpy().tobytes() for image in images}) == 16
    assert sorted(labels.tolist()) == list(range(16))


def test_the_largest_crop_is_the_picture_or_its_mirror_image() -> None:
    images = torch.rand(8, 3, 16, 16)
    generator = torch.Generator().manual_seed(0)
    crops = random_crops(images, 1.0, generator)
    # An area of 1 leaves the aspect ratio: one side is cut to at least sqrt(3) / 2 of the picture.
    assert crops.shape == images.shape
    assert float(crops.min()) >= float(images.min()) - 1e-6
    assert float(crops.max()) <= float(images.max()) + 1e-6


def test_crops_have_the_area_and_the_places_that_were_asked_for() -> None:
    across = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    down = across.transpose(2, 3)
    images = torch.cat([across, down, across], dim=1).expand(400, 3, 64, 64)
    crops = random_crops(images, 0.3, torch.Generator().manual_seed(1))
    width = (crops[:, 0, 32, -1] - crops[:, 0, 32, 0]).abs() * 65 / 64
    height = (crops[:, 1, -1, 32] - crops[:, 1, 0, 32]) * 65 / 64
    mirrored = crops[:, 0, 32, 0] > crops[:, 0, 32, -1]
    assert 0.4 < float(mirrored.float().mean()) < 0.6
    assert float((width * height).min()) > 0.27
    assert float((width * height).max()) < 1.05
    assert float((width / height).min()) > 0.7
    assert float((width / height).max()) < 1.45
    assert float(crops[:, 1, 0, 32].min()) < 0.02
    assert float(crops[:, 1, -1, 32].max()) > 0.98


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 8, 9, dtype=torch.uint8), torch.zeros(3, 3, 8, 8, dtype=torch.uint8)],
)
def test_pixels_that_do_not_fit_are_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(tl.DataError, match="PixelBatches needs uint8 pictures"):
        PixelBatches(pixels, torch.zeros(4, dtype=torch.long), LOOK, batch_size=2)


def test_sizes_by_epoch_and_incomplete_batches() -> None:
    batches = noise(batch_size=10, sizes=[16, 32])
    shapes = []
    for epoch in (1, 2):
        batches.set_epoch(epoch)
        shapes.append([tuple(images.shape) for images, _ in batches])
    assert shapes == [[(10, 3, 16, 16)] * 2, [(10, 3, 32, 32)] * 2]
    assert len(batches) == 2
    assert [len(labels) for _, labels in noise(batch_size=10, shuffle=False)] == [10, 10, 4]
