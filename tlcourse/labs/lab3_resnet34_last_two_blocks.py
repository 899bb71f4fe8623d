"""The exercises of lab 3: what a block is, training exactly two of them, two rates, a schedule, a fair comparison."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim import Optimizer
from torchvision.models.resnet import BasicBlock

from tlcourse.labs.answers import as_number, choice, compare
from tlcourse.labs.lab import Exercise, Wrong
from tlhelpers.models.freezing import changed, snapshot

LAST_TWO = ("layer4.1", "layer4.2")


def block_names(answer: Any, *, model: nn.Module) -> str:
    """The paths of all residual blocks, in the order in which an image meets them."""
    right = [name for name, module in model.named_modules() if isinstance(module, BasicBlock)]
    if not isinstance(answer, list | tuple) or not all(isinstance(name, str) for name in answer):
        raise Wrong(f"expected a list of paths such as 'layer1.0', found {type(answer).__name__}")
    found = list(answer)
    if found == right:
        return f"{len(right)} residual blocks, the last two are {right[-2]} and {right[-1]}"
    if set(found) <= {"layer1", "layer2", "layer3", "layer4"}:
        raise Wrong("these are the four stages; each is a row of several residual blocks")
    if any("conv" in name or "bn" in name for name in found):
        raise Wrong("these are layers inside of blocks; look for modules of the class BasicBlock")
    if set(found) == set(right):
        raise Wrong("all blocks are there, in another order than the image meets them")
    missing = [name for name in right if name not in found]
    if missing:
        raise Wrong(f"'{missing[0]}' is missing; {len(found)} are there, and the network has more")
    raise Wrong(f"'{next(name for name in found if name not in right)}' is no residual block")


def two_blocks(model: Any, *, classes: int) -> str:
    """A network of which the head and the last two residual blocks train, and nothing else moves."""
    if not isinstance(model, nn.Module):
        raise Wrong(f"expected the network, found {type(model).__name__}")
    head = model.get_submodule("fc")
    if head.out_features != classes:
        raise Wrong(f"the head has {head.out_features} outputs, and there are {classes} classes: is it the old one?")
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    wanted = {name for name, _ in model.named_parameters() if name.startswith((*LAST_TWO, "fc."))}
    if len(trains) == len(list(model.parameters())):
        raise Wrong("everything trains; freeze first")
    if not trains:
        raise Wrong("nothing trains: was everything frozen at the end?")
    if not any(name.startswith("fc.") for name in trains):
        raise Wrong("the head does not train; it was frozen with the rest")
    if trains == {"fc.weight", "fc.bias"}:
        raise Wrong("only the head trains; unfreeze the last two blocks")
    if trains > wanted and all(name.startswith(("layer4", "fc.")) for name in trains):
        raise Wrong("all of layer4 trains; it has three residual blocks, and only the last two are wanted")
    if trains > wanted and any(name.startswith("layer3") for name in trains):
        raise Wrong("that unfreezes layer3 and layer4, two stages; here a block is a residual block")
    if trains != wanted:
        odd = sorted(trains ^ wanted)[0]
        raise Wrong(f"'{odd}' {'trains and should not' if odd in trains else 'should train and does not'}")
    return _still_below(model, wanted)


def _still_below(model: nn.Module, wanted: set[str]) -> str:
    """BatchNorm below the two blocks must hold still in training mode, that in them must move."""
    before, modes = snapshot(model), {module: module.training for module in model.modules()}
    model.train()
    device = next(model.parameters()).device
    with torch.no_grad():
        model(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device))
    moved = set(changed(model, before))
    model.load_state_dict(before)
    for module, mode in modes.items():
        module.training = mode
    below = [name for name in moved if not name.startswith(LAST_TWO)]
    if below:
        raise Wrong(f"after `model.train()` and a forward pass '{sorted(below)[0]}' has moved: BatchNorm is not frozen")
    if not moved:
        raise Wrong("in the two blocks BatchNorm holds still too; what trains should be in training mode")
    return f"{len(wanted)} tensors train; below them nothing moves, BatchNorm included"


class _Drifts(nn.Module):
    """A network that a tutorial calls frozen."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.bn, self.fc = nn.BatchNorm2d(3), nn.Linear(3, 2)
        for parameter in self.parameters():
            parameter.requires_grad = False
        self.held = frozen
        self.register_buffer("seen", torch.zeros(1))

    def train(self, mode: bool = True) -> _Drifts:
        super().train(mode)
        if self.held:
            self.bn.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(images).mean((2, 3)))


def what_moves(function: Any) -> str:
    """A function (network, images) that names the tensors which a forward pass in training mode moves."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    drifting, held = _Drifts(frozen=False), _Drifts(frozen=True)
    drifting.eval()  # a function that forgets `train()` finds nothing
    before = snapshot(drifting)
    found = function(drifting, images)
    right = {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    if isinstance(found, bool) or not isinstance(found, list | tuple | set):
        raise Wrong(f"it should return names, and it returned {type(found).__name__}")
    if not found and changed(drifting, before) == []:
        raise Wrong("it finds nothing in a network whose BatchNorm drifts: does it call `train()` before the pass?")
    if not found:
        raise Wrong("BatchNorm has moved and it finds nothing: buffers are in `state_dict()`, not among parameters")
    if set(found) != right:
        raise Wrong(f"in a network with one BatchNorm it should name its three buffers, and it names {sorted(found)}")
    if list(function(held, images)):
        raise Wrong("it names tensors also where nothing moves; compare values, not objects")
    return "it finds BatchNorm's buffers where they drift, and nothing where they are held"


def two_rates(optimizer: Any, *, model: nn.Module, head_rate: float, block_rate: float) -> str:
    """An optimizer with one rate for the head and a smaller one for the blocks, and nothing frozen in it."""
    if not isinstance(optimizer, Optimizer):
        raise Wrong(f"expected an optimizer, found {type(optimizer).__name__}")
    rates: dict[int, float] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[id(parameter)] = float(group["lr"])
    if not any(id(parameter) in rates for parameter in model.parameters()):
        raise Wrong("it has none of this network's parameters: was the network made anew after the optimizer?")
    if len(set(rates.values())) == 1 and head_rate != block_rate:
        raise Wrong(f"there is one rate for everything, {next(iter(rates.values())):g}; make two groups")
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            if id(parameter) in rates:
                raise Wrong(f"'{name}' is frozen and in the optimizer; harmless, but leave out what does not train")
            continue
        wanted = head_rate if name.startswith("fc.") else block_rate
        found = rates.get(id(parameter))
        if found is None:
            raise Wrong(f"'{name}' trains and is not in the optimizer, so it would never move")
        if math.isclose(found, wanted):
            continue
        if math.isclose(found, head_rate + block_rate - wanted):
            raise Wrong(f"'{name}' has the rate {found:g}, which is the other group's: are the two rates swapped?")
        raise Wrong(f"'{name}' has the rate {found:g}, expected {wanted:g}")
    return f"{head_rate:g} for the head, {block_rate:g} for the blocks"


def cosine(function: Any) -> str:
    """A function (epoch, epochs) that gives the factor of the rate: 1 at epoch 0, 0 after the last, half a cosine."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")

    def value(epoch: int, epochs: int) -> float:
        return as_number(function(epoch, epochs), f"the factor at epoch {epoch} of {epochs}")

    first, middle, last = value(0, 10), value(5, 10), value(10, 10)
    if math.isclose(first, 0, abs_tol=1e-9) and math.isclose(last, 1, abs_tol=1e-9):
        raise Wrong("it rises from 0 to 1; the rate should fall")
    if math.isclose(last, -1, abs_tol=1e-9):
        raise Wrong("it falls to -1: a cosine runs from 1 to -1, so shift and halve it")
    if not math.isclose(first, 1, abs_tol=1e-9):
        raise Wrong(f"at epoch 0 the factor should be 1, found {first:g}")
    if not math.isclose(last, 0, abs_tol=1e-9):
        raise Wrong(
            f"after the last epoch the factor should be 0, found {last:g}: is the argument pi * epoch / epochs?"
        )
    if not math.isclose(middle, 0.5, abs_tol=1e-9):
        raise Wrong(f"half-way the factor should be one half, found {middle:g}")
    if math.isclose(value(2, 10), 0.8, abs_tol=1e-9):
        raise Wrong("that is a straight line; a cosine stays high at first and levels off at the end")
    for epoch, epochs in ((1, 4), (3, 7), (2, 10)):
        wanted = (1 + math.cos(math.pi * epoch / epochs)) / 2
        if not math.isclose(value(epoch, epochs), wanted, abs_tol=1e-6):
            raise Wrong(f"at epoch {epoch} of {epochs} the factor should be {wanted:.3f}")
    return "from 1 down to 0 along half a cosine"


def bytes_a_image(answer: Any, *, shape: tuple[int, int, int]) -> str:
    """Bytes that the kept activations of one image take, in fp32; `shape` is that of what goes into layer4.1.

    At 224 px; there no slip gives the same number as another.
    """
    channels, height, width = shape
    right = 4 * channels * height * width
    slips = {
        right / 4: "that is the number of values; a float32 has four bytes",
        right / 2: "that would be bf16; the question asks for float32",
        4.0 * channels: "these are the pooled features; the cut is below layer4.1, where there still are maps",
        float(right * 2): "that is what layer3 gives; the cut is behind layer4.0",
        4.0 * 3 * 224 * 224: "that is the image itself, as float32",
        8.0 * right: "that counts bits",
    }
    compare(answer, right, "the number of bytes", slips)
    return f"{channels} x {height} x {width} values of four bytes: {right:,} bytes"


def comparison(table: Any, *, methods: tuple[str, ...], seeds: int) -> str:
    """A table with the columns way, seed, accuracy: every way with the same seeds."""
    if not isinstance(table, pd.DataFrame):
        raise Wrong(f"expected a DataFrame, found {type(table).__name__}")
    missing = {"method", "seed", "accuracy"} - set(table.columns)
    if missing:
        raise Wrong(f"the column '{sorted(missing)[0]}' is missing")
    absent = [method for method in methods if method not in set(table["method"])]
    if absent:
        raise Wrong(f"the way '{absent[0]}' is missing")
    if not pd.api.types.is_numeric_dtype(table["accuracy"]) or table["accuracy"].isna().any():
        raise Wrong("the accuracies should be numbers, and all be there")
    if (table["accuracy"] > 1).any():
        raise Wrong("some accuracies are above 1: give fractions, not per cent")
    by_method = {method: sorted(table.loc[table["method"] == method, "seed"]) for method in methods}
    if any(len(set(found)) < len(found) for found in by_method.values()):
        raise Wrong("a seed appears twice for the same way")
    if min(len(found) for found in by_method.values()) < seeds:
        raise Wrong(f"one way has fewer than {seeds} seeds, so its spread is not known")
    if len({tuple(found) for found in by_method.values()}) > 1:
        raise Wrong("the ways have different seeds; only equal seeds make a fair comparison")
    if (table.groupby("method")["accuracy"].nunique() == 1).all():
        raise Wrong("every seed gives the same accuracy: is the seed passed on to `load_model` and `fit`?")
    means = table.groupby("method")["accuracy"].mean()
    return ", ".join(f"{method} {100 * means[method]:.0f} %" for method in methods)


conclusion: Callable[[Any], str] = choice(
    "B",
    {
        "A": "The highest mean of three seeds is not yet the best way: look at the spread beside it.",
        "B": "Where the differences are within the spread, the table cannot tell the ways apart, so cost decides.",
        "C": "The ways differ in time by more than in accuracy; that is a result too.",
        "D": "Another seed gives another winner; more epochs for one way alone would not be a fair comparison.",
    },
)

EXERCISES = (
    Exercise("blocks", "1 What a block is", block_names),
    Exercise("unfreeze", "2 Unfreeze exactly two", two_blocks),
    Exercise("moves", "3 Verify", what_moves),
    Exercise("rates", "4 Two learning rates", two_rates),
    Exercise("cosine", "5 A schedule", cosine),
    Exercise("bytes", "6 The cached boundary", bytes_a_image),
    Exercise("compare", "7 Compare", comparison),
    Exercise("report_finding", "8 Conclude", conclusion),
)
