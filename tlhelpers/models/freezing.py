"""Freezing that lasts, and the modes of modules.

`requires_grad = False` stops the optimizer but not BatchNorm, whose running statistics move in training mode, and
`eval()` on the frozen part lasts only until somebody calls `train()` on the whole network. So a frozen module gets a
class of its own here, `FrozenBatchNorm2d` for `BatchNorm2d`, whose `train()` leaves it in evaluation mode; its
`state_dict()` and what `isinstance` says stay as they were. `unfreeze` gives the old class back.
"""

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from tlhelpers.errors import ModelError, closest
from tlhelpers.models.families import get_blocks, get_head


class Frozen:
    """First base of a frozen module's class, before the original one: its `train` keeps evaluation mode."""

    def train(self, mode: bool = True) -> Any:
        """Stay in evaluation mode; modules below that were unfrozen follow `mode`."""
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

    Gradients left over from earlier steps are dropped, since an optimizer would apply them once more.
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
    """Undo `freeze_modules`: all parameters trainable; `train()` and `eval()` set the mode again."""
    for module in _below(modules):
        if isinstance(module, Frozen):
            module.__class__ = type(module).__mro__[2]
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)


def _below(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return [inner for module in modules for inner in module.modules()]


def freeze(model: nn.Module, up_to: str | None = None) -> nn.Module:
    """Freeze the backbone up to and including a block; later blocks and the head become trainable.

    Args:
        model: a network of a known family; changed in place, and returned.
        up_to: a block's name, as `trainable_table` lists them ("layer3"); None freezes the whole backbone.

    Raises:
        ModelError: if the network's family or the block is not known.
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
    if not 0 <= count <= len(blocks):
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
    for name, modules in _parts(model).items():
        parameters = [parameter for module in modules for parameter in module.parameters()]
        norms = [isinstance(norm, Frozen) for norm in _below(modules) if isinstance(norm, _NormBase)]
        state = "-" if not norms else "frozen" if all(norms) else "moves"
        rows[name] = sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad), state
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["parameters", "trainable", "batchnorm"])
    table.index.name = "block"
    table.loc["total"] = [int(table["parameters"].sum()), int(table["trainable"].sum()), ""]
    return table


def _parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    return {**get_blocks(model), "head": [get_head(model)]}


def param_groups(model: nn.Module, lr: float | dict[str, float], *, factor: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, one for each block that trains: discriminative learning rates.

    The groups have `params`, `lr` and `name`, first block first. Frozen parameters are in none.

    Args:
        model: a network of a known family.
        lr: the head's learning rate; or one for each trainable block by name, the head being "head".
        factor: with one `lr`, each block's learning rate is `factor` times that of the next trainable block; ULMFiT
            (Howard and Ruder 2018) divides by 2.6, so its factor is 0.38.

    Raises:
        ModelError: if `lr` names a block that is unknown or frozen, or leaves out one that trains.
    """
    groups: list[dict[str, Any]] = []
    for name, modules in _parts(model).items():
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
