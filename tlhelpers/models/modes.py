"""Training and evaluation mode of every module of a network, kept and given back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def preserve_modes(model: nn.Module) -> Iterator[None]:
    """Whatever a `with` block does to the modes, each module has its own back afterwards.

    Giving back only the root's mode would start BatchNorm again that somebody had put to rest.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The whole network in evaluation mode for a `with` block; afterwards each module has its own mode back."""
    with preserve_modes(model):
        model.eval()
        yield
