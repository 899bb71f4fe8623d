"""Batches of decoded images: the same numbers as one by one, and crops that are random where they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from toy import toy_data

import tlhelpers as tl
from tlhelpers.pixel_batches import EpochOrder, Order, PixelBatches, random_crops

PREPROCESSING = tl.Preprocessing(size=32, resize=32)


def noise(order: Any = None, **changes: Any) -> PixelBatches:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return PixelBatches(
        pixels, torch.arange(24), PREPROCESSING, order or EpochOrder(24, 8, 0), **{"crop": 0.5, **changes}
    )


def draws(count: int) -> torch.Tensor:
    return torch.rand(5, count, generator=torch.Generator().manual_seed(1))


def test_pixel_batches_are_the_cards_preprocessing() -> None:
    data = toy_data().val
    pixels = torch.stack([torch.from_numpy(np.array(data.image(i))) for i in range(len(data))])
    preprocessing = tl.Preprocessing(size=64, resize=64)
    batches = PixelBatches(pixels.permute(0, 3, 1, 2), data.labels, preprocessing, Order(len(data), 3))
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    expected = torch.stack([preprocessing.evaluation()(data.image(i)) for i in range(len(data))])
    assert torch.equal(images, expected), "not the same numbers bit for bit"
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


def test_every_image_draws_its_own_crop_and_pairs_stay_together() -> None:
    pixels = torch.arange(32 * 32).remainder(251).to(torch.uint8).view(1, 1, 32, 32).expand(16, 3, 32, 32)
    batches = PixelBatches(pixels, torch.arange(16), PREPROCESSING, EpochOrder(16, 16, 0), crop=0.3)
    images, labels = next(iter(batches))
    assert len({image.numpy().tobytes() for image in images}) == 16
    assert sorted(labels.tolist()) == list(range(16))


def test_the_largest_crop_is_the_image_or_its_mirror_image() -> None:
    images = torch.rand(8, 3, 16, 16)
    crops = random_crops(images, 1.0, draws(8), torch.ones(8))
    # An area of 1 leaves the aspect ratio: one side is cut to at least sqrt(3) / 2 of the image.
    assert crops.shape == images.shape
    assert float(crops.min()) >= float(images.min()) - 1e-6
    assert float(crops.max()) <= float(images.max()) + 1e-6


def test_crops_have_the_area_and_the_places_that_were_asked_for() -> None:
    across = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    down = across.transpose(2, 3)
    images = torch.cat([across, down, across], dim=1).expand(400, 3, 64, 64)
    crops = random_crops(images, 0.3, draws(400), torch.ones(400))
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
    with pytest.raises(tl.DataError, match="PixelBatches needs uint8 images"):
        PixelBatches(pixels, torch.zeros(4, dtype=torch.long), PREPROCESSING, Order(4, 2))


def test_crops_of_a_squeezed_image_have_the_aspect_of_the_one_that_was() -> None:
    across = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    images = torch.cat([across, across.transpose(2, 3), across], dim=1).expand(400, 3, 64, 64)
    for aspect in (0.5, 2.0):
        crops = random_crops(images, 0.3, draws(400), torch.full((400,), aspect))
        width = (crops[:, 0, 32, -1] - crops[:, 0, 32, 0]).abs() * 65 / 64 * aspect  # in heights of the real image
        height = (crops[:, 1, -1, 32] - crops[:, 1, 0, 32]) * 65 / 64
        whole = (width > 0.99 * aspect) | (height > 0.99)  # a side was cut to what there is
        ratios = (width / height)[~whole]
        assert len(ratios) > 50
        assert 0.73 < float(ratios.min()) < float(ratios.max()) < 1.36


def test_a_crop_is_that_of_torchvision() -> None:
    """The same box, cut and resized by torchvision, differs by the interpolation only."""
    from torchvision.transforms.v2 import functional as v2

    smooth = v2.resize(torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)), [60, 60]).clamp(0, 1)
    draw = torch.tensor([[0.5], [0.5], [0.25], [0.75], [0.9]])  # area 0.75, aspect 1, not mirrored
    crop = random_crops(smooth, 0.5, draw, torch.ones(1), side=48)
    side = 60 * 0.75**0.5
    left, top = 0.25 * (60 - side), 0.75 * (60 - side)
    expected = v2.resized_crop(smooth, round(top), round(left), round(side), round(side), [48, 48])
    assert float((crop - expected).abs().mean()) < 0.02


def test_what_crop_an_image_gets_depends_on_seed_epoch_and_image_alone() -> None:
    def by_label(batches: PixelBatches) -> torch.Tensor:
        batches.set_epoch(2)
        images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
        return images[labels.argsort()]

    natural, shuffled = by_label(noise(Order(24, 8))), by_label(noise(Order(24, 6, seed=3)))
    torch.testing.assert_close(natural, shuffled, atol=1e-6, rtol=0)
    assert not torch.allclose(natural, by_label(noise(Order(24, 8), seed=1)), atol=0.1)


@pytest.mark.parametrize("count", [20, 24, 25])
def test_an_order_is_that_of_a_data_loader_with_the_same_seed(count: int) -> None:
    numbers = TensorDataset(torch.arange(count))
    loader = DataLoader(numbers, 8, shuffle=True, generator=torch.Generator().manual_seed(5), drop_last=count == 25)
    order = Order(count, 8, seed=5)
    assert len(order) == len(loader)
    for _ in range(3):
        assert [batch.tolist() for (batch,) in loader] == [batch.tolist() for batch in order]
    assert torch.cat(list(Order(count, 8))).tolist() == list(range(count))


def test_sizes_by_epoch_and_incomplete_batches() -> None:
    batches = noise(EpochOrder(24, 10, 0), sizes=[16, 32])
    shapes = []
    for epoch in (1, 2):
        batches.set_epoch(epoch)
        shapes.append([tuple(images.shape) for images, _ in batches])
    assert shapes == [[(10, 3, 16, 16)] * 2, [(10, 3, 32, 32)] * 2]
    assert len(batches) == 2
    assert [len(labels) for _, labels in noise(Order(24, 10))] == [10, 10, 4]
