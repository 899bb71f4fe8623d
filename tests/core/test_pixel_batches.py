"""Batches of decoded images: the same numbers as one by one, and crops that are random where they should be."""

import numpy as np
import pytest
import torch
from epoch_order import EpochOrder
from torch.utils.data import DataLoader, TensorDataset
from toy import refused, toy_data

import tlhelpers as tl
from tlhelpers.pixel_batches import Order, PixelBatches, random_crops

PREPROCESSING = tl.Preprocessing(size=32, resize=32)


def noise(order=None, **changes):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    order = order or EpochOrder(24, 8, 0)
    return PixelBatches(pixels, torch.arange(24), PREPROCESSING, order, **{"crop": 0.5, **changes})


def test_pixel_batches_are_the_cards_preprocessing():
    data = toy_data().val
    pixels = torch.stack([torch.from_numpy(np.array(data.image(i))) for i in range(len(data))])
    preprocessing = tl.Preprocessing(size=64, resize=64)
    batches = PixelBatches(pixels.permute(0, 3, 1, 2), data.labels, preprocessing, Order(len(data), 3))
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    expected = torch.stack([preprocessing.evaluation()(data.image(i)) for i in range(len(data))])
    assert torch.equal(images, expected), "not the same numbers bit for bit"
    assert torch.equal(labels, data.labels)
    assert len(batches) == 3


def test_what_crop_an_image_gets_depends_on_seed_epoch_and_image_alone():
    def crops(epoch, order, **options):
        batches = noise(order, **options)
        batches.set_epoch(epoch)
        images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
        return images[labels.argsort()]

    natural, shuffled = crops(2, Order(24, 8)), crops(2, Order(24, 6, seed=3))
    torch.testing.assert_close(natural, shuffled, atol=1e-6, rtol=0)
    for epoch, seed in ((1, 0), (2, 1)):
        assert not torch.allclose(natural, crops(epoch, Order(24, 8), seed=seed), atol=0.1)


def test_every_image_draws_its_own_crop_and_pairs_stay_together():
    pixels = torch.arange(32 * 32).remainder(251).to(torch.uint8).view(1, 1, 32, 32).expand(16, 3, 32, 32)
    ((images, labels),) = PixelBatches(pixels, torch.arange(16), PREPROCESSING, EpochOrder(16, 16, 0), crop=0.3)
    assert len({image.numpy().tobytes() for image in images}) == 16
    assert sorted(labels.tolist()) == list(range(16))


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_crops_have_the_area_the_aspect_and_the_places_that_were_asked_for(aspect):
    """Of an image that was squeezed from `aspect` to a square; its colours tell the place."""
    across = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    images = torch.cat([across, across.transpose(2, 3), across], dim=1).expand(400, 3, 64, 64)
    draws = torch.rand(5, 400, generator=torch.Generator().manual_seed(1))
    crops = random_crops(images, 0.3, draws, torch.full((400,), aspect), side=64)
    left, right, top, bottom = crops[:, 0, 32, 0], crops[:, 0, 32, -1], crops[:, 1, 0, 32], crops[:, 1, -1, 32]
    width, height = (right - left).abs() * 65 / 64, (bottom - top) * 65 / 64
    assert 0.4 < float((left > right).float().mean()) < 0.6, "half of them are mirrored"
    assert 0.27 < float((width * height).min()) < float((width * height).max()) < 1.05
    assert float(top.min()) < 0.02
    assert float(bottom.max()) > 0.98
    ratios = (width * aspect / height)[(width < 0.99) & (height < 0.99)]  # no side was cut to what there is
    assert len(ratios) > 50
    assert 0.73 < float(ratios.min()) < float(ratios.max()) < 1.36


def test_pixels_that_do_not_fit_are_refused():
    for shape, dtype in (((4, 3, 8, 8), torch.float32), ((4, 3, 8, 9), torch.uint8), ((3, 3, 8, 8), torch.uint8)):
        given = torch.zeros(shape, dtype=dtype), torch.zeros(4, dtype=torch.long), PREPROCESSING, Order(4, 2)
        refused(tl.DataError, "PixelBatches needs uint8 images", PixelBatches, *given)


@pytest.mark.parametrize("count", [20, 24, 25])
def test_an_order_is_that_of_a_data_loader_with_the_same_seed(count):
    numbers = TensorDataset(torch.arange(count))
    loader = DataLoader(numbers, 8, shuffle=True, generator=torch.Generator().manual_seed(5), drop_last=count == 25)
    order = Order(count, 8, seed=5)
    assert len(order) == len(loader)
    for _ in range(3):
        assert [batch.tolist() for (batch,) in loader] == [batch.tolist() for batch in order]
    assert torch.cat(list(Order(count, 8))).tolist() == list(range(count))


def test_sizes_by_epoch_and_incomplete_batches():
    batches, shapes = noise(EpochOrder(24, 10, 0), sizes=[16, 32]), []
    for epoch in (1, 2):
        batches.set_epoch(epoch)
        shapes.append([tuple(images.shape) for images, _ in batches])
    assert shapes == [[(10, 3, 16, 16)] * 2, [(10, 3, 32, 32)] * 2]
    assert len(batches) == 2
    assert [len(labels) for _, labels in noise(Order(24, 10))] == [10, 10, 4]
