"""Batches of decoded images: bytes that stay on the device and are cropped and flipped there."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from tlhelpers.errors import DataError, at_least, describe
from tlhelpers.models.cards import Preprocessing

SMALLEST_CROP = 0.5  # fraction of an image's area, as in `Preprocessing.training`


class Order:
    """Indices of the images of each batch, as from a `DataLoader`: shuffled anew in each pass if there is a seed."""

    def __init__(self, count: int, batch_size: int, seed: int | None = None) -> None:
        at_least(1, batch_size=batch_size)
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


class EpochBatches:
    """Batches that depend on an order and on the number of the epoch; a checkpoint keeps the order's `generator`."""

    order: Any  # an `Order`, or batches that somebody else makes
    epoch = 1
    batch_size = property(lambda self: getattr(self.order, "batch_size", None))
    generator = property(lambda self: getattr(self.order, "generator", None))

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> Any:
        """Make what follows epoch number `epoch`, from 1, and return the batches."""
        self.epoch = epoch
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(epoch)
        return self


@dataclass(eq=False)
class PixelBatches(EpochBatches):
    """Batches of (images, labels) for `fit`, from decoded images of one size.

    Gives float32 images (batch, 3, size, size), normalised, and labels (batch,). An image's crop depends on the seed,
    the epoch and the image alone, so that neither the order nor an interruption changes it.
    """

    pixels: torch.Tensor  # uint8 (images, 3, side, side), on any device; not copied
    labels: torch.Tensor  # int64 (images,), on the same device
    preprocessing: Preprocessing  # gives the normalisation; its size is not used
    order: Any  # gives the images of each batch: an `Order`, or another sized iterable of index tensors
    _: KW_ONLY
    crop: float | None = None  # smallest area of a random crop, as a fraction; None: the whole image, never flipped
    aspects: torch.Tensor | None = None  # (images,), width / height of each image before it was made square
    sizes: Sequence[int] | int | None = None  # side in pixels, one or for each epoch; None leaves images as they are
    seed: int = 0  # of the crops

    def __post_init__(self) -> None:
        side, labels = self.pixels.shape[-1], len(self.labels)
        if self.pixels.dtype != torch.uint8 or self.pixels.shape != (labels, 3, side, side):
            found = f"{describe(self.pixels)} and {labels} labels"
            raise DataError(f"PixelBatches needs uint8 images (count, 3, side, side) and as many labels; got {found}")
        moments = torch.tensor([self.preprocessing.mean, self.preprocessing.std], device=self.pixels.device)
        self._mean, self._std = moments.view(2, 3, 1, 1)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        device = self.labels.device
        generator = torch.Generator().manual_seed(((self.seed * 100_003 + self.epoch) * 2 + 1) % 2**63)
        draws = torch.rand(5, len(self.labels), generator=generator).to(device)
        aspects = (torch.ones(len(self.labels)) if self.aspects is None else self.aspects).to(device)
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

    As torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`, which draw a crop that does not fit again; here its
    longer side is cut. `images` are floats (batch, 3, side, side), perhaps squeezed to a square from originals whose
    width / height `aspects` (batch,) gives; a crop takes from `smallest` to 1 of their area, at an aspect ratio of 3:4
    to 4:3, and becomes `side` pixels wide. `draws` (5, batch) are uniform between 0 and 1, on the same device.
    """
    area, ratio, left, top, flip = draws
    area = smallest + (1 - smallest) * area
    ratio = torch.exp((2 * ratio - 1) * math.log(4 / 3)) / aspects
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # An affine map from the output's coordinates, -1 to 1, to the input's.
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = torch.where(flip < 0.5, -width, width), height
    theta[:, 0, 2], theta[:, 1, 2] = (1 - width) * (2 * left - 1), (1 - height) * (2 * top - 1)
    # Shrinking more than this, grid_sample would alias.
    sampled = side if 1.5 * side > images.shape[-1] else images.shape[-1]
    grid = functional.affine_grid(theta, [*images.shape[:2], sampled, sampled], align_corners=False)
    crops = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return crops if sampled == side else functional.interpolate(crops, (side, side), mode="bilinear", antialias=True)


def batches_on(device: torch.device, order: Any) -> Iterator[torch.Tensor]:
    """The batches of an order, sent to the device all at once: a GPU would wait for each one that is sent alone."""
    batches = list(order)
    return iter(torch.cat(batches).to(device).split([len(batch) for batch in batches])) if batches else iter(())
