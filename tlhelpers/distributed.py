"""Training in several processes, as `torchrun` starts them; in a single process nothing here does anything."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def start(device: torch.device) -> torch.device:
    """Join the other processes, if `torchrun` started this one and it has not joined yet; returns its own device."""
    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def reseed(base: int, epoch: int) -> None:
    """Let each process draw its own dropout, from numbers that a resumed run finds again."""
    if world() > 1:
        torch.manual_seed((base * 100_003 + epoch) * world() + rank())


def wrapped(network: nn.Module) -> nn.Module:
    """The network as it must be called in training: its gradients are then the mean over all processes."""
    if world() == 1:
        return network
    device = next(network.parameters()).device
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def gathered(values: torch.Tensor) -> torch.Tensor:
    """The values of all processes, one after the other along the first dimension; they may be of different lengths."""
    if world() == 1:
        return values
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, values.cpu())
    return torch.cat(found)
