"""Batches from pictures that were decoded once: bytes that stay on the device, cropped and flipped there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional

from tlhelpers.errors import DataError
from tlhelpers.models.preprocessing import Preprocessing


class PixelBatches:
    """Batches of (images, labels) for `fit`, from pictures of one size.

    Iterating gives float32 images (batch, 3, size, size), normalised, and labels (batch,). With `shuffle` the order
    and the augmentation depend on `seed` and the epoch alone, so that a resumed run sees what an uninterrupted one
    sees. Every picture draws its own crop.

    Args:
        pixels: uint8 (pictures, 3, height, width), square, on any device; not copied.
        labels: int64 (pictures,), on the same device.
        look: gives the normalisation. The pictures are not cropped to its size.
        batch_size: pictures in a batch.
        shuffle: another order in every epoch; an incomplete last batch is then left out.
        crop: share of the area that the smallest random crop has (aspect ratio 3:4 to 4:3, mirrored half of the
            time); None takes the whole picture as it is.
        sizes: for each epoch, the side in pixels to which its pictures are shrunk; None leaves them as they are.
        seed: of order and augmentation.

    Raises:
        DataError: if pixels and labels do not fit together.
    """

    def __init__(
        self,
        pixels: torch.Tensor,
        labels: torch.Tensor,
        look: Preprocessing,
        *,
        batch_size: int,
        shuffle: bool = False,
        crop: float | None = None,
        sizes: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        square = pixels.ndim == 4 and pixels.shape[1] == 3 and pixels.shape[2] == pixels.shape[3]
        if pixels.dtype != torch.uint8 or not square or len(pixels) != len(labels):
            raise DataError(
                "PixelBatches needs uint8 pictures (count, 3, side, side) and as many labels; "
                f"got {pixels.dtype} {tuple(pixels.shape)} and {len(labels)} labels"
            )
        self.pixels, self.labels, self.batch_size, self.shuffle = pixels, labels, batch_size, shuffle
        self.crop, self.sizes, self.seed, self.epoch = crop, sizes, seed, 1
        self._mean = 255 * torch.tensor(look.mean, device=pixels.device).view(3, 1, 1)
        self._std = 255 * torch.tensor(look.std, device=pixels.device).view(3, 1, 1)

    def __len__(self) -> int:
        count = len(self.labels)
        return count // self.batch_size if self.shuffle else -(-count // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """What follows is epoch number `epoch`, from 1."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        count = len(self.labels)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        for number in range(len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size].to(self.labels.device)
            images = (self.pixels[chosen].float() - self._mean) / self._std
            if self.crop is not None:
                images = random_crops(images, self.crop, generator)
            if self.sizes is not None and self.sizes[self.epoch - 1] != images.shape[-1]:
                side = self.sizes[self.epoch - 1]
                images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
            yield images, self.labels[chosen]


def random_crops(images: torch.Tensor, smallest: float, generator: torch.Generator) -> torch.Tensor:
    """A random part of each picture, enlarged to the picture's size, mirrored half of the time.

    As torchvision's `RandomResizedCrop` and `RandomHorizontalFlip` do it one by one (there a crop that does not fit
    is drawn again, here its longer side is cut), but in one call, so that a GPU can do it.

    Args:
        images: (batch, 3, side, side), float.
        smallest: share of the area that a crop has at least; at most it has all of it.
        generator: on the CPU; draws five numbers for each picture.
    """
    count = len(images)
    area, ratio, left, top, mirror = torch.rand(5, count, generator=generator)
    area = smallest + (1 - smallest) * area
    ratio = torch.exp((2 * ratio - 1) * torch.log(torch.tensor(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # An affine map from the output's coordinates, -1 to 1, to the input's.
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.where(mirror < 0.5, -width, width)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (1 - width) * (2 * left - 1)
    theta[:, 1, 2] = (1 - height) * (2 * top - 1)
    grid = functional.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
