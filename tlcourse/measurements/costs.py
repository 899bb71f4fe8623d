"""What an architecture costs, and what its weights achieved."""

import math

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tlhelpers.models.families import ARCHS, get_blocks, get_head, head_path
from tlhelpers.models.freezing import evaluation_mode
from tlhelpers.models.loading import build


def count_macs(model: nn.Module, size: int = 224) -> int:
    """Multiply-accumulate operations (MACs) of convolutions and matrix products for one image (3, size, size).

    PyTorch's `FlopCounterMode` counts each as two operations. On the device `meta` only shapes are computed.
    """
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with evaluation_mode(model), torch.no_grad(), counter:
        model(torch.zeros(1, 3, size, size, device=device))
    return counter.get_total_flops() // 2


def cost_table(size: int = 224) -> pd.DataFrame:
    """A row for each architecture: family, parameters (millions), gmacs (10⁹ MACs for one image of side `size`).

    The columns gmacs_stated (at 224 px), file (MB to download) and top1 (accuracy on ImageNet's validation set) come
    from the metadata of torchvision's default weights, and are NaN where it has none.
    """
    from torchvision.models import get_model_weights

    rows = {}
    for row in ARCHS.values():
        with torch.device("meta"):
            model = build(row)
        meta = get_model_weights(row.name).DEFAULT.meta if row.weights else {}
        rows[row.name] = {
            "family": row.family,
            "parameters": sum(p.numel() for p in model.parameters()) / 1e6,
            "gmacs": count_macs(model, size) / 1e9,
            "gmacs_stated": meta.get("_ops", math.nan),
            "file": meta.get("_file_size", math.nan),
            "top1": meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100 if meta else math.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arch")


def arch_table() -> pd.DataFrame:
    """The table of architectures: head, its input features, blocks and number of parameters; reads no weights."""
    rows = []
    for row in ARCHS.values():
        with torch.device("meta"):
            model = build(row)
        count = sum(math.prod(p.shape) for p in model.parameters())
        rows.append((row.name, head_path(model), get_head(model).in_features, ", ".join(get_blocks(model)), count))
    return pd.DataFrame(rows, columns=["arch", "head", "features", "blocks", "parameters"]).set_index("arch")
