"""What a backbone makes of pictures: the numbers that the head is given."""

from __future__ import annotations

import torch
from torch import nn

from tlhelpers import profile
from tlhelpers.data.image_data import ImageSplit
from tlhelpers.inputs import scoring_batches
from tlhelpers.loop import compute_logits, place
from tlhelpers.models.families import get_head


def compute_features(model: nn.Module, split: ImageSplit, *, batch_size: int = 64) -> torch.Tensor:
    """What the head is given for each picture, on the profile's device and in its precision.

    Args:
        model: a network of a known family; each module's mode is given back as it was.
        split: with a transform it is used as it is; without one, the preprocessing of the model's card is.
        batch_size: pictures at a time.

    Returns:
        float32 (pictures, in_features of the head), on the CPU.

    Raises:
        ModelError: if the network's family is not known.
    """
    settings = profile.current()
    place(model, settings.device)
    given: list[torch.Tensor] = []
    hook = get_head(model).register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().float().cpu()))
    try:
        compute_logits(model, scoring_batches(model, split, batch_size), precision=settings.dtype)
    finally:
        hook.remove()
    return torch.cat(given).clone()
