"""The exercises of lab 3: residual blocks, training two of them, two learning rates, a schedule, a fair comparison."""

import math
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torchvision.models.resnet import BasicBlock

from tlcourse.labs.answers import as_number, choice, compare, expect, expect_names, expect_runs, wrong_any, wrong_if
from tlcourse.labs.lab import Exercise, Wrong
from tlhelpers.models.freezing import changed, freeze_modules, preserve_modes, snapshot

LAST_TWO = ("layer4.1", "layer4.2")


def block_names(answer: Any, *, model: nn.Module) -> str:
    """The names of all residual blocks, in the order of the forward pass."""
    expect_names(answer, "layer1.0")
    right = [name for name, module in model.named_modules() if isinstance(module, BasicBlock)]
    stages = {"layer1", "layer2", "layer3", "layer4"}.issuperset(answer)
    wrong_if(stages, "these are the four stages; each is a row of several residual blocks")
    inside = any("conv" in name or "bn" in name for name in answer)
    wrong_if(inside, "these are layers inside of blocks; look for modules of the class BasicBlock")
    missing = (name for name in right if name not in answer)
    wrong_any(missing, f"'{{}}' is missing; {len(answer)} are there, and the network has more")
    wrong_any((name for name in answer if name not in right), "'{}' is no residual block")
    wrong_if(list(answer) != right, "all blocks are there, but not in the order of the forward pass")
    return f"{len(right)} residual blocks, the last two are {right[-2]} and {right[-1]}"


def two_blocks(model: Any, *, classes: int) -> str:
    """A network of which the head and the last two residual blocks train, and nothing else changes."""
    expect(model, nn.Module, "expected the network")
    outputs = model.get_submodule("fc").out_features
    wrong_if(outputs != classes, f"the head has {outputs} outputs, and there are {classes} classes: is it the old one?")
    names = [name for name, _ in model.named_parameters()]
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {name for name in names if name.startswith((*LAST_TWO, "fc."))}
    wrong_if(len(trains) == len(names), "everything trains; freeze first")
    wrong_if(not trains, "nothing trains: was everything frozen at the end?")
    wrong_if(not any(name.startswith("fc.") for name in trains), "the head does not train; it was frozen with the rest")
    wrong_if(trains == {"fc.weight", "fc.bias"}, "only the head trains; unfreeze the last two blocks")
    if trains > expected:
        whole_stage = all(name.startswith(("layer4", "fc.")) for name in trains)
        wrong_if(whole_stage, "all of layer4 trains; it has three residual blocks, and only the last two should")
        two_stages = any(name.startswith("layer3") for name in trains)
        wrong_if(two_stages, "that unfreezes layer3 and layer4, two stages; here a block is a residual block")
    for odd in sorted(trains ^ expected):
        raise Wrong(f"'{odd}' {'trains and should not' if odd in trains else 'should train and does not'}")
    before, device = snapshot(model), next(model.parameters()).device
    with preserve_modes(model), torch.no_grad():
        model.train()(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device))
    moved = changed(model, before)
    model.load_state_dict(before)
    below = sorted(name for name in moved if not name.startswith(LAST_TWO))
    wrong_any(below, "after `model.train()` and a forward pass '{}' has changed: BatchNorm is not frozen")
    wrong_if(not moved, "BatchNorm is frozen in the two blocks too; what trains should be in training mode")
    return f"{len(expected)} tensors train; below them nothing changes, BatchNorm included"


def what_moves(function: Any) -> str:
    """A function (network, images) that names the tensors which a forward pass in training mode changes."""
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    layers = {"bn": nn.BatchNorm2d(3), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(3, 2)}
    network = nn.Sequential(OrderedDict(layers)).requires_grad_(False).eval()
    before = snapshot(network)
    found = function(network, images)
    expect(found, list | tuple | set, "it should return names")
    if not found:
        passed = changed(network, before)
        wrong_if(passed, "BatchNorm has changed, which it misses: buffers are in `state_dict()`, not in `parameters()`")
        raise Wrong("it finds nothing in a network whose BatchNorm drifts: does it call `train()` before the pass?")
    right = {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    wrong_if(set(found) != right, f"for one BatchNorm it should name its three buffers, and it names {sorted(found)}")
    freeze_modules(network)
    wrong_any(function(network, images), "it names '{}' where nothing changes; compare values, not objects")
    return "it finds BatchNorm's buffers where they drift, and nothing where they are frozen"


def two_rates(optimizer: Any, *, model: nn.Module, head_rate: float, block_rate: float) -> str:
    """An optimizer with one learning rate for the head and a smaller one for the blocks, without frozen parameters."""
    expect(optimizer, Optimizer, "expected an optimizer")
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    foreign = rates.keys().isdisjoint(map(id, model.parameters()))
    wrong_if(foreign, "it has none of this network's parameters: was the network made anew after the optimizer?")
    single = set(rates.values()) if head_rate != block_rate else ()
    wrong_any(single if len(single) == 1 else (), "there is one learning rate for everything, {:g}; make two groups")
    for name, parameter in model.named_parameters():
        found, trains, known = rates.get(id(parameter), 0.0), parameter.requires_grad, id(parameter) in rates
        wrong_if(known and not trains, f"'{name}' is frozen and in the optimizer; harmless, but leave it out")
        wrong_if(trains and not known, f"'{name}' trains and is not in the optimizer, so it would never change")
        right, other = (head_rate, block_rate) if name.startswith("fc.") else (block_rate, head_rate)
        if trains and not math.isclose(found, right):
            rate = f"'{name}' has the learning rate {found:g},"
            wrong_if(math.isclose(found, other), f"{rate} which is the other group's: are the two swapped?")
            raise Wrong(f"{rate} expected {right:g}")
    return f"{head_rate:g} for the head, {block_rate:g} for the blocks"


def cosine(function: Any) -> str:
    """A function (epoch, epochs) that falls from 1 at epoch 0 to 0 after the last, along half a cosine."""

    def value(epoch: int, epochs: int) -> float:
        return as_number(function(epoch, epochs), f"the factor at epoch {epoch} of {epochs}")

    start, middle, end = (round(value(epoch, 10), 9) for epoch in (0, 5, 10))
    wrong_if((start, end) == (0, 1), "it rises from 0 to 1; the learning rate should fall")
    wrong_if(end == -1, "it falls to -1: a cosine runs from 1 to -1, so shift and halve it")
    wrong_if(start != 1, f"at epoch 0 the factor should be 1, found {start:g}")
    last = f"after the last epoch the factor should be 0, found {end:g}"
    wrong_if(end != 0, f"{last}: is the argument pi * epoch / epochs?")
    wrong_if(middle != 0.5, f"half-way the factor should be one half, found {middle:g}")
    line = "that is a straight line; a cosine stays high at first and levels off at the end"
    for epoch, epochs in ((2, 10), (1, 4), (3, 7)):
        right, what = (1 + math.cos(math.pi * epoch / epochs)) / 2, f"at epoch {epoch} of {epochs},"
        compare(value(epoch, epochs), right, f"the factor, {right:.3f} {what}", {line: 1 - epoch / epochs})
    return "from 1 down to 0 along half a cosine"


def bytes_per_image(answer: Any, *, shape: tuple[int, int, int]) -> str:
    """The bytes of one image's cached activations in float32; `shape` is that of layer4.1's input at 224 px."""
    channels, height, width = shape
    right = 4 * channels * height * width
    mistakes = {
        "that is the number of values; a float32 has four bytes": right / 4,
        "that would be bf16; the question asks for float32": right / 2,
        "these are the pooled features; the cut is below layer4.1, where there still are maps": 4 * channels,
        "that is what layer3 gives; the cut is behind layer4.0": 2 * right,
        "that is the image itself, as float32": 4 * 3 * 224 * 224,
        "that counts bits": 8 * right,
    }
    compare(answer, right, "the number of bytes", mistakes)
    return f"{channels} x {height} x {width} values of four bytes: {right:,} bytes"


def comparison(table: Any, *, methods: tuple[str, ...], seeds: int) -> str:
    """A table with the columns method, seed, accuracy: every method with the same seeds."""
    expect_runs(table, "method", methods, seeds, "method")
    groups = table.groupby("method")["accuracy"]
    wrong_if((groups.nunique() == 1).all(), "all seeds give one accuracy: is it passed on to `load_model` and `fit`?")
    return ", ".join(f"{method} {100 * groups.mean()[method]:.0f} %" for method in methods)


conclusion = choice(
    "B",
    A="The highest mean of three seeds is not yet the best method: look at the spread beside it.",
    B="Where the differences are within the spread, the table does not rank the methods, so cost decides.",
    C="The methods differ in time by more than in accuracy; that is a result too.",
    D="Another seed gives another winner; more epochs for one method alone would not be a fair comparison.",
)

EXERCISES = (
    Exercise("blocks", "1 What a block is", block_names),
    Exercise("unfreeze", "2 Unfreeze exactly two", two_blocks),
    Exercise("moves", "3 Verify", what_moves, function=True),
    Exercise("rates", "4 Two learning rates", two_rates),
    Exercise("cosine", "5 A schedule", cosine, function=True),
    Exercise("bytes", "6 The cached boundary", bytes_per_image),
    Exercise("compare", "7 Compare", comparison),
    Exercise("conclude", "8 Conclude", conclusion),
)
