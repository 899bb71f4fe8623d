"""The weights that the package carries: networks trained on small photographs, for use without a network.

Each is two files in `tlhelpers/weights/`: the numbers (safetensors) and a card (JSON) that says what they are. Weight
matrices are kept as int8 with one scale for each output channel, a quarter of their size in float32; all else,
BatchNorm's statistics above all, stays in float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from tlhelpers.errors import WeightsError
from tlhelpers.files import atomic_write, sha256_of

FOLDER = Path(__file__).resolve().parents[1] / "weights"
SCALE = ".scale"  # what the name of a tensor's scales ends with


def read_embedded(arch: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The float32 state of a network and the facts of its card.

    Raises:
        WeightsError: if a file is missing, or is not the one that the card speaks of.
    """
    path, facts = FOLDER / f"{arch}.safetensors", read_facts(arch)
    again = "reinstall the package, or fetch the file again from where you have it (git checkout, for instance)"
    if not path.is_file():
        raise WeightsError(f"the weights of {arch} belong at {path}, and there is no such file; {again}")
    found = sha256_of(path)
    if found != facts["sha256"]:
        raise WeightsError(
            f"the weights file {path} is damaged: {path.stat().st_size:,} bytes with the SHA-256 {found[:8]}…, "
            f"expected {facts['bytes']:,} bytes with {facts['sha256'][:8]}…; {again}"
        )
    try:
        return unpack(safetensors.torch.load_file(path)), facts
    except safetensors.SafetensorError as error:  # the card was made for a broken file
        raise WeightsError(f"the weights file {path} cannot be read: {error}; {again}") from error


def is_embedded(arch: str) -> bool:
    """Whether the package carries weights of the network."""
    return (FOLDER / f"{arch}.json").exists()


def read_facts(arch: str) -> dict[str, Any]:
    """What the card of an embedded network says.

    Raises:
        WeightsError: if it is missing or cannot be read.
    """
    path = FOLDER / f"{arch}.json"
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"the card of {arch}, {path}, cannot be read ({error}); reinstall the package") from error


def write_embedded(arch: str, state: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> Path:
    """Write weights and card; size and hash are added to the facts. Returns the path of the weights."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{arch}.safetensors"
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(pack(state)))
    write_facts(arch, {**facts, "bytes": path.stat().st_size, "sha256": sha256_of(path)})
    return path


def write_facts(arch: str, facts: Mapping[str, Any]) -> None:
    """Write the card alone."""
    with atomic_write(FOLDER / f"{arch}.json") as file:
        file.write((json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode("utf8"))


def pack(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and convolution kernels as int8 and a scale for each output channel; everything else as it is."""
    packed = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.ndim < 2:
            packed[name] = tensor
            continue
        scale = tensor.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / 127
        packed[name] = (tensor / _across(scale, tensor)).round().to(torch.int8)
        packed[name + SCALE] = scale
    return packed


def unpack(packed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `pack` was given, each weight off by at most half of its channel's scale."""
    state = {}
    for name, tensor in packed.items():
        if not name.endswith(SCALE):
            scale = packed.get(name + SCALE)
            state[name] = tensor if scale is None else tensor.float() * _across(scale, tensor)
    return state


def _across(scale: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return scale.view(-1, *[1] * (tensor.ndim - 1))
