"""The exercises of lab 3: residual blocks, training two of them, a loop of one's own, a fair comparison."""

import functools
import itertools
import math
from typing import Any
from unittest import mock

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from tlcourse.labs.answers import about, choice, compare, draws, expect, expect_names, expect_runs, wrong_any, wrong_if
from tlcourse.labs.fine_tuning_loop import cosine, loop
from tlcourse.labs.lab import Exercise, Wrong
from tlhelpers.models.freezing import changed, freeze_modules, preserve_modes, snapshot
from tlhelpers.models.loading import load_model

LAST_TWO = ("layer4.1", "layer4.2")
METHODS = {"head": ("fc.",), "two blocks": (*LAST_TWO, "fc."), "everything": ("",)}  # how names of what trains begin


def block_names(answer: Any, *, model: nn.Module) -> str:
    """The names of all residual blocks, in the order of the forward pass."""
    expect_names(answer, "layer1.0")
    right = [name for name, module in model.named_modules() if isinstance(module, BasicBlock)]
    stages = answer and {"layer1", "layer2", "layer3", "layer4"}.issuperset(answer)
    wrong_if(stages, "these are the four stages; each is a row of several residual blocks")
    inside = any("conv" in name or "bn" in name for name in answer)
    wrong_if(inside, "these are layers inside of blocks; look for modules of the class BasicBlock")
    missing = f"'{{}}' is missing; {len(answer)} are there, and the network has more"
    wrong_any((name for name in right if name not in answer), missing)
    wrong_any((name for name in answer if name not in right), "'{}' is no residual block")
    wrong_if(list(answer) != right, "all blocks are there, but not once each in the order of the forward pass")
    return f"{len(right)} residual blocks, the last two are {right[-2]} and {right[-1]}"


@functools.cache
def pretrained() -> dict[str, torch.Tensor]:
    """The pre-trained weights of ResNet34."""
    return dict(load_model("resnet34").state_dict())


def network(model: Any, *, classes: int, method: str = "two blocks", may_differ: Any = METHODS["two blocks"]) -> str:
    """A pre-trained ResNet34 in which exactly what the method says trains; other weights are the pre-trained ones."""
    expect(model, nn.Module, "expected the network")
    outputs = model.get_submodule("fc").out_features
    wrong_if(outputs != classes, f"the head has {outputs} outputs, and there are {classes} classes: is it the old one?")
    own, begin = dict(model.named_parameters()), METHODS[method]
    trains, expected = {n for n in own if own[n].requires_grad}, {n for n in own if n.startswith(begin)}
    if trains != expected:
        wrong_if(len(trains) == len(own), "everything trains; freeze first")
        wrong_if(not trains, "nothing trains: was everything frozen at the end?")
        wrong_if("fc.weight" not in trains, "the head does not train; it was frozen with the rest")
        wrong_if(len(trains) == 2, "only the head trains; unfreeze blocks too")
        stages = "that unfreezes layer3 and layer4, two stages; here a block is a residual block"
        wrong_if("layer3.0.conv1.weight" in trains, stages)
        whole = "all of layer4 trains; it has three residual blocks, and only the last two should"
        wrong_if({"layer4.0.conv1.weight", "layer4.2.conv1.weight"} <= trains, whole)
        odd = min(trains ^ expected)
        raise Wrong(f"'{odd}' {'trains and should not' if odd in trains else 'should train and does not'}")
    old = {name: tensor for name, tensor in own.items() if not name.startswith(may_differ)}
    same = all(name in pretrained() and torch.equal(old[name].cpu(), pretrained()[name]) for name in old)
    wrong_if(not same, 'the backbone is not a pre-trained ResNet34: was it loaded with `weights="none"`, or trained?')
    before, images = snapshot(model), torch.tensor(draws().normal(size=(4, 3, 64, 64)), dtype=torch.float32)
    with preserve_modes(model), torch.no_grad():
        model.train()(images.to(own["fc.bias"].device))
    moved = changed(model, before)
    model.load_state_dict(before)
    drifts = "after `model.train()` and a forward pass '{}' has changed: BatchNorm is not frozen"
    wrong_any((name for name in moved if not name.startswith(begin)), drifts)
    still = any("running" in name and name.startswith(begin) and name not in moved for name in before)
    wrong_if(still, "BatchNorm is frozen in the blocks too; what trains should be in training mode")
    return f"{len(expected)} tensors train; the others do not change, BatchNorm's included"


def what_moves(function: Any) -> str:
    """A function (network, images) that names the tensors which a forward pass in training mode changes."""
    images = torch.tensor(draws().normal(size=(4, 3, 8, 8)), dtype=torch.float32)
    layers = [*[nn.Identity()] * (place := int(draws().integers(10))), nn.BatchNorm2d(3)]
    network = nn.Sequential(*layers).requires_grad_(False).eval()
    before = snapshot(network)
    with mock.patch.object(nn.Module, "state_dict", autospec=True, side_effect=nn.Module.state_dict) as asked:
        found = function(network, images)
    expect(found, list | tuple | set, "it should return names")
    if not found:
        wrong_if(not changed(network, before), "it finds nothing where BatchNorm drifts: does it call `train()`?")
        wrong_if(asked.called, "`state_dict()` gives the network's own tensors; clone them before the pass")
        raise Wrong("BatchNorm has changed, which it misses: buffers are in `state_dict()`, not in `parameters()`")
    right = {f"{place}.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    wrong_if({*found} != right, f"for one BatchNorm it should name its three buffers, and it names {sorted(found)}")
    freeze_modules(network)
    wrong_any(function(network, images), "it names '{}' where nothing changes; compare values, not objects")
    return "it finds BatchNorm's buffers where they drift, and nothing where they are frozen"


def two_rates(optimizer: Any, *, model: Any, head_rate: float, block_rate: float) -> str:
    """An AdamW with one learning rate for the head and a smaller one for the blocks, without frozen parameters."""
    expect(optimizer, torch.optim.Optimizer, "expected an optimizer")
    kind = type(optimizer).__name__
    wrong_if(not isinstance(optimizer, torch.optim.AdamW), f"the exercise asks for AdamW, and this is {kind}")
    expect(model, nn.Module, "exercise 2 comes first: `model` should be its network")
    rates = {id(p): float(g.get("initial_lr", g["lr"])) for g in optimizer.param_groups for p in g["params"]}
    foreign = rates.keys().isdisjoint(map(id, model.parameters()))
    wrong_if(foreign, "it has none of this network's parameters: was the network made anew after the optimizer?")
    wrong_any(rates.values() if len({*rates.values()}) == 1 else (), "everything has the rate {:g}; make two groups")
    for name, parameter in model.named_parameters():
        found, trains, known = rates.get(id(parameter), 0.0), parameter.requires_grad, id(parameter) in rates
        wrong_if(known and not trains, f"'{name}' is frozen and in the optimizer; harmless, but leave it out")
        wrong_if(trains and not known, f"'{name}' trains and is not in the optimizer, so it would never change")
        right, other = (head_rate, block_rate) if name.startswith("fc.") else (block_rate, head_rate)
        rate = f"'{name}' has the learning rate {found:g}"
        wrong_if(trains and found == other, f"{rate}, which is the other group's: are the two swapped?")
        wrong_if(trains and not math.isclose(found, right), f"{rate}, expected {right:g}")
    return f"{head_rate:g} for the head, {block_rate:g} for the blocks"


def methods(function: Any, *, classes: int) -> str:
    """A function (method, seed) that loads a new network, in which what the method says trains."""
    seed = int(draws().integers(3, 1000))
    made = [function(*given) for given in [*((method, seed) for method in METHODS), ("head", seed + 1)]]
    for model in made:
        expect(model, nn.Module, "it should return the network")
    wrong_if(len({*map(id, made)}) < 4, "it gives the same network again, with what it has learned; load a new one")
    for method, model in zip(METHODS, made, strict=False):
        with about(f'for "{method}"'):
            network(model, classes=classes, method=method, may_differ=("fc.",))
    same = torch.equal(made[0].fc.weight, made[3].fc.weight)
    wrong_if(same, "the head is the same for another seed: is it passed on?")
    return "what trains follows the method, the random numbers of the head follow the seed"


def bytes_per_image(function: Any) -> str:
    """A function (side of the image in pixels) that gives the bytes of what goes into layer4.1, in float32."""
    for side in (224, 32 * int(draws().integers(2, 6))):
        right = 4 * 512 * (side // 32) ** 2
        mistakes = {
            "that is the number of values; a float32 has four bytes": right / 4,
            "that would be bf16; the question asks for float32": right / 2,
            "these are the pooled features; the cut is below layer4.1, where there still are maps": 4 * 512,
            "that is what layer3 gives; the cut is behind layer4.0": 2 * right,
            "that is the image itself, as float32": 4 * 3 * side * side,
            "that counts bits": 8 * right,
        }
        compare(function(side), right, f"the number of bytes at {side} px", mistakes)
    return f"512 x 7 x 7 values of four bytes at 224 px: {4 * 512 * 7 * 7:,} bytes"


def comparison(table: Any) -> str:
    """A table with the columns method, seed, accuracy: every method with the seeds 0, 1 and 2."""
    expect_runs(table, "method", METHODS, 3, "method")
    wrong_if({*table["seed"]} != {0, 1, 2}, f"the seeds are {sorted({*table['seed']})}; the exercise asks for 0, 1, 2")
    runs = table.pivot(index="seed", columns="method", values="accuracy")[[*METHODS]]
    wrong_if((runs.nunique() == 1).all(), "all seeds give one accuracy: is `seed` passed on to `train_one`?")
    equal = any(runs[one].equals(runs[other]) for one, other in itertools.combinations(METHODS, 2))
    wrong_if(equal, "two methods have the same accuracy at every seed: is `method` passed on to `train_one`?")
    return ", ".join(f"{method} {mean:.0%}" for method, mean in runs.mean().items())


EXERCISES = (
    Exercise("blocks", "1 What a block is", block_names),
    Exercise("unfreeze", "2 Unfreeze exactly two", network),
    Exercise("moves", "3 Verify", what_moves, function=True),
    Exercise("rates", "4 Two learning rates", two_rates),
    Exercise("cosine", "5 A schedule", cosine, function=True),
    Exercise("loop", "6 A training loop", loop, function=True),
    Exercise("methods", "7 Three methods", methods, function=True),
    Exercise("compare", "8 Compare", comparison),
    Exercise("conclude", "9 Conclude", choice("lab3", "conclude")),
    Exercise("bytes", "10 The cached boundary", bytes_per_image, function=True, extension=True),
)
