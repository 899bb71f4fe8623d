"""Freezing that holds.

`requires_grad = False` stops the optimizer, but not BatchNorm: in training mode it goes on replacing its running
mean and variance by those of the new images, and `eval()` on the frozen part lasts only until somebody calls
`train()` on the whole network. So a frozen module here gets a class of its own, `FrozenBatchNorm2d` for
`BatchNorm2d` and so on, in which `train()` leaves it in evaluation mode. Nothing else about it changes: neither
the names and values in its `state_dict()`, nor what `isinstance` says. `unfreeze` gives the old class back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from tlhelpers.errors import ModelError
from tlhelpers.models.families import closest, get_blocks, get_head


class Frozen:
    """What the class of a frozen module has before its original class: a `train` that changes nothing."""

    def train(self, mode: bool = True) -> Any:
        """Stay in evaluation mode; what was unfrozen below goes where it is told."""
        self.training = False
        for child in self.children():  # type: ignore[attr-defined]  # nn.Module's, the original class below this one
            child.train(mode)
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Classes made at run time have no name to be found by; copies and pickles go through the original class.
        return _new_frozen, (type(self).__mro__[2],), self.__dict__


@functools.cache
def _frozen_class(original: Any) -> Any:
    # torch's tracers treat a class by its module's name ("torch.nn..."), so that stays what it was.
    return type(f"Frozen{original.__name__}", (Frozen, original), {"__module__": original.__module__})


def _new_frozen(original: Any) -> nn.Module:
    frozen = _frozen_class(original)
    return frozen.__new__(frozen)


def freeze_modules(*modules: nn.Module) -> None:
    """Freeze modules and all below them: parameters, BatchNorm statistics, dropout; for networks of any kind.

    Their parameters get no gradient, and one left over from earlier steps is dropped (an optimizer would apply
    it once more). They stay in evaluation mode through any later `train()`.
    """
    for module in _below(modules):
        if not isinstance(module, Frozen):
            original: Any = type(module)
            module.__class__ = _frozen_class(original)
        module.training = False
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
            parameter.grad = None


def unfreeze_modules(*modules: nn.Module) -> None:
    """Undo `freeze_modules`: all parameters trainable, the mode as `train()` and `eval()` say from now on."""
    for module in _below(modules):
        if isinstance(module, Frozen):
            module.__class__ = type(module).__mro__[2]
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)


def _below(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return [inner for module in modules for inner in module.modules()]


def freeze(model: nn.Module, up_to: str | None = None) -> nn.Module:
    """Freeze the backbone up to and including the block `up_to`; what comes after it, and the head, can train.

    Args:
        model: a network of a known family; changed in place.
        up_to: a block's name, as `trainable_table` lists them ("layer3"); None freezes the whole backbone.

    Returns:
        the model.

    Raises:
        ModelError: if the network's family or the block is not known.
    """
    blocks = get_blocks(model)
    names = list(blocks)
    if up_to is not None and up_to not in blocks:
        raise ModelError(f"block '{up_to}' is not part of this {type(model).__name__}. {closest(up_to, names)}")
    last_frozen = len(names) if up_to is None else names.index(up_to) + 1
    unfreeze_modules(get_head(model), *(m for name in names[last_frozen:] for m in blocks[name]))
    freeze_modules(*(m for name in names[:last_frozen] for m in blocks[name]))
    return model


def unfreeze(model: nn.Module, last: int | None = None) -> nn.Module:
    """Make the last `last` blocks and the head trainable; earlier blocks stay as they are.

    Args:
        model: a network of a known family; changed in place.
        last: how many blocks, counted from the head; None means all.

    Raises:
        ModelError: if the network has fewer blocks.
    """
    blocks = get_blocks(model)
    count = len(blocks) if last is None else last
    if not 0 <= count <= len(blocks):
        raise ModelError(f"last={last}, but this {type(model).__name__} has {len(blocks)} blocks: {', '.join(blocks)}")
    chosen = list(blocks.values())[len(blocks) - count :]
    unfreeze_modules(get_head(model), *(module for block in chosen for module in block))
    return model


def train_mode(model: nn.Module) -> None:
    """`model.train()`, but BatchNorm whose parameters were frozen by hand stays in evaluation mode.

    Modules frozen by `freeze` see to it themselves; this is for `requires_grad = False` written out in a loop.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, _NormBase):
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()


def trainable_table(model: nn.Module) -> pd.DataFrame:
    """What of a network is trainable, block by block.

    Returns:
        one row for each block, one for the head and one `total`; columns `parameters` and `trainable` (counts),
        and `batchnorm`: "frozen" (its statistics stay under `train()`), "moves" or "-" where there is none.
    """
    rows = {name: _counts(modules) for name, modules in _parts(model).items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["parameters", "trainable", "batchnorm"])
    table.index.name = "block"
    table.loc["total"] = [int(table["parameters"].sum()), int(table["trainable"].sum()), ""]
    return table


def _parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    return {**get_blocks(model), "head": [get_head(model)]}


def _counts(modules: list[nn.Module]) -> tuple[int, int, str]:
    parameters = [p for module in modules for p in module.parameters()]
    norms = [m for m in _below(modules) if isinstance(m, _NormBase)]
    moving = any(not isinstance(norm, Frozen) for norm in norms)
    state = "-" if not norms else "moves" if moving else "frozen"
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad), state


def param_groups(model: nn.Module, lr: float | dict[str, float], *, factor: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, one for each block that trains; discriminative learning rates.

    Args:
        model: a network of a known family.
        lr: the head's learning rate, or a rate for each trainable block by name, the head being "head".
        factor: with a single `lr`, each block's rate is the one after it times `factor` (ULMFiT, Howard and
            Ruder 2018, divides by 2.6, which is 0.38); 1 gives all the same.

    Returns:
        groups with `params`, `lr` and `name`, first block first. Frozen parameters are in none.

    Raises:
        ModelError: if `lr` names a block that is unknown or frozen, or leaves out one that trains.
    """
    parts = _parts(model)
    groups: list[dict[str, Any]] = []
    for name, modules in parts.items():
        trainable = [p for module in modules for p in module.parameters() if p.requires_grad]
        if trainable:
            groups.append({"params": trainable, "name": name})
    names = [str(group["name"]) for group in groups]
    if isinstance(lr, dict):
        _check_names(set(lr), set(names), set(parts))
    for depth, group in enumerate(reversed(groups)):
        group["lr"] = lr[str(group["name"])] if isinstance(lr, dict) else lr * factor**depth
    return groups


def _check_names(given: set[str], trainable: set[str], known: set[str]) -> None:
    for wrong, what in (
        (given - known, "unknown"),
        (given & known - trainable, "frozen, so a learning rate has no effect on them; unfreeze them first"),
        (trainable - given, "trainable, but have no learning rate; freeze them or name a rate"),
    ):
        if wrong:
            raise ModelError(f"learning rates by block: {', '.join(sorted(wrong))} are {what}")


@torch.no_grad()
def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every parameter and buffer of a module by name, to compare with later."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@torch.no_grad()
def changed(module: nn.Module, before: dict[str, torch.Tensor]) -> list[str]:
    """Names of the parameters and buffers that are no longer what `snapshot` saw; frozen means: none of them."""
    return [name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])]
