"""Freezing that lasts, and the modes of modules.

`requires_grad = False` does not stop BatchNorm's running statistics, and `eval()` on the frozen part lasts only until
somebody calls `train()` on the network. So a frozen module gets an attribute `train` that hides the method and keeps
it in evaluation mode. Its class stays what it was.
"""

import contextlib
import itertools
import math
import weakref
from collections.abc import Iterator
from numbers import Real
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from tlhelpers.errors import ModelError, closest
from tlhelpers.models.families import get_blocks, get_head


class _StayFrozen:
    """What `train` is for a frozen module: it stays in evaluation mode; unfrozen modules below it follow `mode`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)  # a circle of references would keep dead networks in memory

    def __call__(self, mode: bool = True) -> nn.Module | None:
        if (module := self._module()) is not None:
            module.training = False
            for child in module.children():
                child.train(mode)
        return module

    def __reduce__(self) -> tuple[Any, ...]:  # a copy's belongs to the copied module
        return _StayFrozen, (self._module(),)


def is_frozen(module: nn.Module) -> bool:
    """True if `freeze_modules` froze this module."""
    return isinstance(vars(module).get("train"), _StayFrozen)


def freeze_modules(*modules: nn.Module) -> None:
    """Freeze modules and all below them: parameters, BatchNorm statistics, dropout; for networks of any kind."""
    for module in itertools.chain(*(each.modules() for each in modules)):
        vars(module)["train"] = _StayFrozen(module)
        module.training = False
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimizer would apply what is left of earlier steps once more


def unfreeze_modules(*modules: nn.Module) -> None:
    """Undo `freeze_modules`: all parameters trainable; `train()` and `eval()` set the mode again."""
    for module in itertools.chain(*(each.modules() for each in modules)):
        if is_frozen(module):
            del vars(module)["train"]
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)


def freeze(model: nn.Module, up_to: str | None = None) -> nn.Module:
    """Freeze the backbone up to and including a block; later blocks and the head become trainable.

    `up_to` is a block's name, as `trainable_table` lists them ("layer3"); None freezes the whole backbone. The network
    is changed in place, and returned. A ModelError says that its family or the block is not known.
    """
    blocks = get_blocks(model)
    if up_to is not None and up_to not in blocks:
        raise ModelError(f"block '{up_to}' is not part of this {type(model).__name__}. {closest(up_to, blocks)}")
    frozen = len(blocks) if up_to is None else list(blocks).index(up_to) + 1
    freeze_modules(*itertools.chain(*list(blocks.values())[:frozen]))
    return unfreeze(model, last=len(blocks) - frozen)


def unfreeze(model: nn.Module, last: int | None = None) -> nn.Module:
    """Make the head and the last `last` blocks (None: all) trainable, in place; earlier blocks stay as they are."""
    blocks = get_blocks(model)
    count = len(blocks) if last is None else last
    if count not in range(len(blocks) + 1):
        raise ModelError(f"last={last}, but this {type(model).__name__} has {len(blocks)} blocks: {', '.join(blocks)}")
    unfreeze_modules(get_head(model), *itertools.chain(*list(blocks.values())[len(blocks) - count :]))
    return model


@contextlib.contextmanager
def preserve_modes(model: nn.Module) -> Iterator[None]:
    """Restore each module's mode on exit; `model.train(mode)` would set all of them, a frozen BatchNorm too."""
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


def train_mode(model: nn.Module) -> None:
    """`model.train()`, except that BatchNorm whose parameters have `requires_grad=False` stays in evaluation mode."""
    model.train()
    for module in model.modules():
        if isinstance(module, _NormBase) and {p.requires_grad for p in module.parameters()} == {False}:
            module.eval()


def trainable_table(model: nn.Module) -> pd.DataFrame:
    """What of a network is trainable: a row for each block, the head and the `total`.

    Columns: `parameters`, `trainable` (counts), `batchnorm`: "frozen", "moves" (`train()` updates it) or "-" (none).
    """
    rows = {}
    for name, modules in _blocks_and_head(model).items():
        parameters = [parameter for module in modules for parameter in module.parameters()]
        norms = [is_frozen(norm) for module in modules for norm in module.modules() if isinstance(norm, _NormBase)]
        state = "-" if not norms else "frozen" if all(norms) else "moves"
        rows[name] = sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad), state
    table = pd.DataFrame([*rows.values()], [*rows], ["parameters", "trainable", "batchnorm"]).rename_axis("block")
    table.loc["total"] = [int(table["parameters"].sum()), int(table["trainable"].sum()), ""]
    return table


def _blocks_and_head(model: nn.Module) -> dict[str, list[nn.Module]]:
    return {**get_blocks(model), "head": [get_head(model)]}


def param_groups(model: nn.Module, lr: float | dict[str, float], *, factor: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, one for each block that trains: discriminative learning rates.

    The groups have `params`, `lr` and `name`, first block first. Frozen parameters are in none. `lr` is the learning
    rate of the head, or one for each trainable block by name, the head being "head". With one `lr`, each block's
    learning rate is `factor` times that of the next trainable block; ULMFiT (Howard and Ruder 2018) divides by 2.6, so
    its factor is 0.38. A ModelError says that `lr` does not name the blocks that train, or is no number.
    """
    for value in [factor, *(lr.values() if isinstance(lr, dict) else [lr])]:
        if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise ModelError(f"a learning rate, or its factor, is {value!r}; expected a number, 0 or more")
    groups: list[dict[str, Any]] = []
    for name, modules in _blocks_and_head(model).items():
        if trainable := [p for module in modules for p in module.parameters() if p.requires_grad]:
            groups.append({"params": trainable, "name": name})
    names = [group["name"] for group in groups]
    if isinstance(lr, dict) and (wrong := set(lr) ^ set(names)):
        raise ModelError(
            f"learning rates by block: trainable are {', '.join(names)}, each of which needs one; unknown, frozen or "
            f"missing: {', '.join(sorted(wrong))}. A frozen block must be unfrozen first."
        )
    for depth, group in enumerate(reversed(groups)):
        group["lr"] = lr[group["name"]] if isinstance(lr, dict) else lr * factor**depth
    return groups


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every parameter and buffer of a module by name, to compare with later."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, torch.Tensor]) -> list[str]:
    """Names of the parameters and buffers that differ from a `snapshot`, on whatever devices the two are."""
    return [name for name, tensor in module.state_dict().items() if not torch.equal(tensor.cpu(), before[name].cpu())]
