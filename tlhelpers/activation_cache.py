"""The activation cache: run the frozen prefix once, and train on its outputs instead of on images."""

from collections.abc import Iterator

import torch
from torch import nn

from tlhelpers.image_source import ImageSource, memory_limit
from tlhelpers.loop import autocast, device_of, to_device
from tlhelpers.models.freezing import evaluation_mode
from tlhelpers.pixel_batches import Order, batches_on
from tlhelpers.progress import tqdm


class ActivationBatches:
    """Batches of (activations, labels); `values` is (views * images, features), or (..., height, width, channels)."""

    def __init__(self, values: torch.Tensor, labels: torch.Tensor, order: Order) -> None:
        self.values, self.labels, self.order, self.epoch = values, labels.to(values.device), order, 1
        self.batch_size, self.generator = order.batch_size, order.generator

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """What follows is epoch number `epoch`, from 1; each shows the next view of every image."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        first = (self.epoch - 1) * len(self.labels) % len(self.values)
        for chosen in batches_on(self.values.device, self.order):
            values = self.values[first + chosen]
            yield (values.permute(0, 3, 1, 2) if values.ndim == 4 else values), self.labels[chosen]


def cache_activations(
    prefix: nn.Module, images: ImageSource, order: Order, precision: torch.dtype, views: int = 1
) -> ActivationBatches | None:
    """Run the frozen prefix over every image, `views` times; None if its outputs exceed `memory_limit`."""
    device, labels = device_of(prefix), images.split.labels
    batches = images.batches(Order(len(labels), order.batch_size))
    values, written = torch.empty(0), 0
    bar = tqdm(total=views * len(batches), desc="frozen prefix", unit="batch", leave=False, delay=1)
    with bar, evaluation_mode(prefix), torch.no_grad(), autocast(device, precision):
        for view in range(1, views + 1):
            batches.set_epoch(view)
            for pixels, _ in batches:
                found = prefix(to_device(pixels, device))
                found = found.permute(0, 2, 3, 1) if found.ndim == 4 else found
                if not written:
                    if views * len(labels) * found[0].nbytes > memory_limit(device):
                        return None
                    values = found.new_empty(views * len(labels), *found.shape[1:])
                values[written : written + len(found)] = found
                written += len(found)
                bar.update()
    return ActivationBatches(values, labels, order)
