"""An order of images that depends on seed and epoch alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass
class EpochOrder:
    """Shuffled batches of one size, for `PixelBatches`; an incomplete last one is left out."""

    count: int  # images
    batch_size: int
    seed: int
    epoch: int = 1

    def __len__(self) -> int:
        return self.count // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """What follows is epoch number `epoch`, from 1."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed((self.seed * 100_003 + self.epoch) * 2)
        return iter(torch.randperm(self.count, generator=generator).split(self.batch_size)[: len(self)])
