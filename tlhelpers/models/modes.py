"""Keep the training or evaluation mode of every module of a network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def preserve_modes(model: nn.Module) -> Iterator[None]:
    """Restore the mode of each module on exit; to restore only the root's would wake a frozen BatchNorm."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put the network into evaluation mode; restore the mode of each module on exit."""
    with preserve_modes(model):
        model.eval()
        yield
