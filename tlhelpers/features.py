"""What a backbone makes of images: the numbers that the head is given."""

from __future__ import annotations

import torch
from torch import nn

from tlhelpers.batch_sources import scoring_batches
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.device import current_profile
from tlhelpers.loop import compute_logits, place
from tlhelpers.models.families import get_head


def compute_features(model: nn.Module, split: ImageSplit, *, batch_size: int = 64) -> torch.Tensor:
    """What the head is given for each image, on the profile's device and in its precision.

    Args:
        model: a network of a known family; each module's mode is given back as it was.
        split: with a transform it is used as it is; without one, the preprocessing of the model's card is.
        batch_size: images at a time.

    Returns:
        float32 (images, in_features of the head), on the CPU.

    Raises:
        ModelError: if the network's family is not known.
    """
    settings = current_profile()
    place(model, settings.device)
    given: list[torch.Tensor] = []
    hook = get_head(model).register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().float().cpu()))
    try:
        compute_logits(model, scoring_batches(model, split, batch_size), precision=settings.dtype)
    finally:
        hook.remove()
    return torch.cat(given).clone()
