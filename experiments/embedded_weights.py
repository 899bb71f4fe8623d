"""Write the weights that the package carries; `tlhelpers.models.weights` says how they are stored, and reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from tlhelpers.files import atomic_write, sha256_of
from tlhelpers.models import weights


def write_embedded(arch: str, state: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> Path:
    """Write weights and card, with size and hash added to the facts; returns the path of the weights."""
    weights.FOLDER.mkdir(exist_ok=True)
    path = weights.FOLDER / f"{arch}.safetensors"
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(pack(state)))
    write_facts(arch, {**facts, "bytes": path.stat().st_size, "sha256": sha256_of(path)})
    return path


def write_facts(arch: str, facts: Mapping[str, Any]) -> None:
    """Write the card alone."""
    with atomic_write(weights.FOLDER / f"{arch}.json") as file:
        file.write((json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode("utf8"))


def pack(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and convolution kernels as int8 and a scale for each output channel; everything else as it is."""
    packed = {}
    for name, tensor in state.items():
        packed[name] = tensor = tensor.detach().cpu().contiguous()
        if tensor.ndim >= 2:
            scale = tensor.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / 127
            packed[name] = (tensor / scale.view(-1, *[1] * (tensor.ndim - 1))).round().to(torch.int8)
            packed[name + weights.SCALE] = scale
    return packed
