"""What an architecture costs: parameters, multiplications, bytes to download; and what its weights achieved."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tlhelpers.models.families import ARCHS
from tlhelpers.models.loading import build
from tlhelpers.models.modes import evaluation_mode


def count_macs(model: nn.Module, size: int = 224) -> int:
    """Multiplications with addition (MACs) of one forward pass over one image (3, size, size).

    Counted by PyTorch's `FlopCounterMode`, which counts convolutions and matrix products, each MAC as two operations.
    A network on the device `meta` computes shapes only, so that counting costs next to nothing.
    """
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with evaluation_mode(model), torch.no_grad(), counter:
        model(torch.zeros(1, 3, size, size, device=device))
    return counter.get_total_flops() // 2


def cost_table(size: int = 224) -> pd.DataFrame:
    """A row for every architecture of the table; nothing is downloaded, and no weights are made.

    Args:
        size: side of the images in pixels, for `gmacs`.

    Returns:
        columns family; parameters (million); gmacs (counted here, 10⁹); and from the metadata of torchvision's default
        weights, NaN where it has none: gmacs_stated (10⁹, at 224 px), file (MB to download), top1 (share of ImageNet's
        validation images classified rightly).
    """
    rows = {}
    for row in ARCHS.values():
        with torch.device("meta"):
            model = build(row)
        count = sum(math.prod(p.shape) for p in model.parameters())
        counted = (row.family, count / 1e6, count_macs(model, size) / 1e9)
        rows[row.name] = (*counted, *_stated(row.name if row.weights else None))
    columns = ["family", "parameters", "gmacs", "gmacs_stated", "file", "top1"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("arch")


def _stated(name: str | None) -> tuple[float, float, float]:
    if name is None:
        return math.nan, math.nan, math.nan
    import torchvision

    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    return meta["_ops"], meta["_file_size"], meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100
