"""Batches of decoded images: bytes that stay on the device and are cropped and flipped there."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from tlhelpers.errors import DataError
from tlhelpers.models.preprocessing import Preprocessing

SMALLEST_CROP = 0.5  # fraction of an image's area, as in `Preprocessing.training`


class Order:
    """Indices of the images of each batch, as from a `DataLoader`: shuffled anew in each pass if there is a seed."""

    def __init__(self, count: int, batch_size: int, seed: int | None = None) -> None:
        self.batch_size, self.generator = batch_size, torch.Generator().manual_seed(seed or 0)
        # BatchNorm cannot normalise a single value, so a last batch of one image (another in each pass) is dropped.
        single = seed is not None and count > batch_size and count % batch_size == 1
        indices: Any = range(count)
        self._batches: DataLoader[torch.Tensor] = DataLoader(
            indices, batch_size, shuffle=seed is not None, drop_last=single, generator=self.generator
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from self._batches  # shuffles at the first batch only: a DataLoader with workers calls iter() twice


class EpochOrder:
    """Shuffled batches of one size, an incomplete last one left out, that depend on seed and epoch alone."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed, self.epoch = count, batch_size, seed, 1

    def __len__(self) -> int:
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[torch.Tensor]:
        order = torch.randperm(self.count, generator=_generator(self.seed, self.epoch))
        return iter(order.split(self.batch_size)[: len(self)])


class PixelBatches:
    """Batches of (images, labels) for `fit`, from decoded images of one size.

    Gives float32 images (batch, 3, size, size), normalised, and labels (batch,). An image's crop depends on the seed,
    the epoch and the image alone, so that neither the order nor an interruption changes it.

    Args:
        pixels: uint8 (images, 3, side, side), on any device; not copied.
        labels: int64 (images,), on the same device.
        preprocessing: gives the normalisation; its size is not used.
        order: the images of each batch.
        crop: smallest area of a random crop, as a fraction; None takes the whole image and flips nothing.
        aspects: (images,), width / height of each image before it was made square.
        sizes: for each epoch, the side in pixels of its images; one number is for all; None leaves them as they are.
        seed: of the crops.
    """

    def __init__(
        self,
        pixels: torch.Tensor,
        labels: torch.Tensor,
        preprocessing: Preprocessing,
        order: Order | EpochOrder,
        *,
        crop: float | None = None,
        aspects: torch.Tensor | None = None,
        sizes: Sequence[int] | int | None = None,
        seed: int = 0,
    ) -> None:
        side = pixels.shape[-1]
        if pixels.dtype != torch.uint8 or pixels.shape != (len(labels), 3, side, side):
            found = f"{pixels.dtype} {tuple(pixels.shape)} and {len(labels)} labels"
            raise DataError(f"PixelBatches needs uint8 images (count, 3, side, side) and as many labels; got {found}")
        self.pixels, self.labels, self.order = pixels, labels, order
        self.crop, self.sizes, self.seed, self.epoch = crop, sizes, seed, 1
        self.aspects = torch.ones(len(labels)) if aspects is None else aspects
        self.batch_size = order.batch_size
        self.generator = getattr(order, "generator", None)  # what a checkpoint has to keep
        moments = torch.tensor([preprocessing.mean, preprocessing.std], device=pixels.device)
        self._mean, self._std = moments.view(2, 3, 1, 1)

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """What follows is epoch number `epoch`, from 1."""
        self.epoch = epoch
        if isinstance(self.order, EpochOrder):
            self.order.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        device = self.labels.device
        draws = torch.rand(5, len(self.labels), generator=_generator(self.seed, self.epoch, stream=1)).to(device)
        aspects = self.aspects.to(device)
        for chosen in batches_on(device, self.order):
            yield self._images(self.pixels[chosen], draws[:, chosen], aspects[chosen]), self.labels[chosen]

    def _images(self, pixels: torch.Tensor, draws: torch.Tensor, aspects: torch.Tensor) -> torch.Tensor:
        # The arithmetic of torchvision's ToDtype and Normalize, so that the numbers are the same bit for bit.
        images = pixels.to(torch.float32).mul_(1 / 255).sub_(self._mean).div_(self._std)
        side = self.sizes[self.epoch - 1] if isinstance(self.sizes, Sequence) else self.sizes or images.shape[-1]
        if self.crop is not None:
            return random_crops(images, self.crop, draws, aspects, side)
        if side != images.shape[-1]:
            images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        return images


def random_crops(
    images: torch.Tensor, smallest: float, draws: torch.Tensor, aspects: torch.Tensor, side: int
) -> torch.Tensor:
    """A random crop of each image, resized to one size, flipped half of the time, in one call for the whole batch.

    As torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`, except that there a crop that does not fit is drawn
    again, and here its longer side is cut.

    Args:
        images: (batch, 3, height, width), float; they may have been squeezed to this shape.
        smallest: smallest area of a crop, as a fraction; the largest is 1.
        draws: (5, batch), uniform between 0 and 1, on the same device.
        aspects: (batch,): width / height of the original images, for crops with an aspect ratio of 3:4 to 4:3.
        side: of the crops in pixels.
    """
    area, ratio, left, top, flip = draws
    area = smallest + (1 - smallest) * area
    ratio = torch.exp((2 * ratio - 1) * math.log(4 / 3)) / aspects
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # An affine map from the output's coordinates, -1 to 1, to the input's.
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = torch.where(flip < 0.5, -width, width)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (1 - width) * (2 * left - 1)
    theta[:, 1, 2] = (1 - height) * (2 * top - 1)
    here = images.shape[-1]
    sampled = side if 1.5 * side > here else here  # shrinking more than that, grid_sample would alias
    grid = functional.affine_grid(theta, [*images.shape[:2], sampled, sampled], align_corners=False)
    crops = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return crops if sampled == side else functional.interpolate(crops, (side, side), mode="bilinear", antialias=True)


def batches_on(device: torch.device, order: Order | EpochOrder) -> Iterator[torch.Tensor]:
    """The batches of an order, sent to the device all at once: a GPU would wait for each one that is sent alone."""
    batches = list(order)
    return iter(torch.cat(batches).to(device).split([len(batch) for batch in batches])) if batches else iter(())


def _generator(seed: int, epoch: int, stream: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 100_003 + epoch) * 2 + stream)
