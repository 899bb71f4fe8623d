"""Lab 3's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from lab_answers import prove
from torch import nn

import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs.lab3_resnet34_last_two_blocks import LAST_TWO

proved = functools.partial(prove, "lab3_resnet34_last_two_blocks")


@functools.cache
def _built() -> Any:
    return tl.load_model("resnet34", num_classes=3, weights="none", size=64)


def network() -> Any:
    return copy.deepcopy(_built())


def solved(change: Callable[[Any], Any] = lambda model: None) -> Any:
    model = tl.freeze(network())
    tl.unfreeze_modules(*(model.get_submodule(name) for name in LAST_TWO))
    change(model)
    return model


def trainable(*beginnings: str) -> Any:
    model = network()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(beginnings)
    return model


def test_blocks() -> None:
    right = [f"layer{stage}.{i}" for stage, count in ((1, 3), (2, 4), (3, 6), (4, 3)) for i in range(count)]
    wrongs = {
        "these are the four stages": ["layer1", "layer2", "layer3", "layer4"],
        "these are layers inside of blocks": ["layer1.0.conv1"],
        "not in the order of the forward pass": right[::-1],
        "'layer1.0' is missing; 2 are there": right[-2:],
        "'layer5.0' is no residual block": [*right, "layer5.0"],
        "found int": 16,
    }
    proved("blocks", right, wrongs, model=network())


def test_unfreeze() -> None:
    frozen_below = solved(lambda m: tl.freeze_modules(*(x for x in m.modules() if isinstance(x, nn.BatchNorm2d))))
    for name, parameter in frozen_below.named_parameters():
        parameter.requires_grad = name.startswith((*LAST_TWO, "fc."))
    wrongs = {
        "the head has 1000 outputs": solved(lambda m: setattr(m, "fc", nn.Linear(512, 1000))),
        "everything trains": network(),
        "nothing trains": trainable("nothing"),
        "the head does not train": solved(lambda m: tl.freeze_modules(m.fc)),
        "only the head trains": tl.freeze(network()),
        "all of layer4 trains": tl.unfreeze(tl.freeze(network()), last=1),
        "that unfreezes layer3 and layer4": tl.unfreeze(tl.freeze(network()), last=2),
        "'conv1.weight' trains and should not": trainable("conv1.", *LAST_TWO, "fc."),
        "'layer4.1.bn1.bias' should train and does not": solved(lambda m: tl.freeze_modules(m.layer4[1])),
        "has changed: BatchNorm is not frozen": trainable("layer4.1.", "layer4.2.", "fc."),
        "BatchNorm is frozen in the two blocks too": frozen_below,
        "expected the network, found tuple": (LAST_TWO,),
    }
    proved("unfreeze", solved(), wrongs, classes=3)


def test_the_check_leaves_the_network_as_it_was() -> None:
    model = solved()
    before, modes = tl.snapshot(model), [module.training for module in model.modules()]
    tc.Lab("lab3_resnet34_last_two_blocks").check("unfreeze", model, classes=3)
    assert tl.changed(model, before) == []
    assert [module.training for module in model.modules()] == modes


def moved(model: Any, images: torch.Tensor, train: bool = True) -> list[str]:
    before = tl.snapshot(model)
    if train:
        model.train()
    model(images)
    return tl.changed(model, before)


def test_moves() -> None:
    def parameters_only(model: Any, images: torch.Tensor) -> list[str]:
        before = {name: p.clone() for name, p in model.named_parameters()}
        model.train()(images)
        return [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]

    def always(model: Any, images: torch.Tensor) -> list[str]:
        return [name for name, _ in model.named_buffers()]

    wrongs = {
        "does it call `train()`": functools.partial(moved, train=False),
        "buffers are in `state_dict()`": parameters_only,
        "it names 'bn.running_mean' where nothing changes": always,
        "it should name its three buffers": lambda *given: [name for name in moved(*given) if "mean" in name],
        "found bool": lambda *given: bool(moved(*given)),
    }
    proved("moves", moved, wrongs)


def optimizer(model: Any, head: float, blocks: float, count: int = 3) -> torch.optim.Optimizer:
    groups = [{"params": model.fc.parameters(), "lr": head}]
    groups += [{"params": model.get_submodule(name).parameters(), "lr": blocks} for name in LAST_TWO]
    return torch.optim.AdamW(groups[:count])


def test_rates() -> None:
    model = solved()
    rest = [p for name, p in model.named_parameters() if not name.startswith("fc.")]
    everything = [{"params": model.fc.parameters(), "lr": 1e-2}, {"params": rest, "lr": 1e-3}]
    wrongs = {
        "are the two swapped?": optimizer(model, 1e-3, 1e-2),
        "there is one learning rate for everything, 0.01": optimizer(model, 1e-2, 1e-2),
        "'fc.weight' has the learning rate 0.05, expected 0.01": optimizer(model, 5e-2, 1e-3),
        "'layer4.2.conv1.weight' trains and is not in the optimizer": optimizer(model, 1e-2, 1e-3, count=2),
        "'conv1.weight' is frozen": torch.optim.AdamW(everything),
        "none of this network's parameters": optimizer(solved(), 1e-2, 1e-3),
        "expected an optimizer, found dict": {"head": 1e-2},
    }
    proved("rates", optimizer(model, 1e-2, 1e-3), wrongs, model=model, head_rate=1e-2, block_rate=1e-3)


def test_cosine() -> None:
    def half(share: float) -> float:
        return (1 + math.cos(math.pi * share)) / 2

    wrongs = {
        "it rises from 0 to 1": lambda e, n: 1 - half(e / n),
        "it falls to -1": lambda e, n: math.cos(math.pi * e / n),
        "is the argument pi * epoch / epochs?": lambda e, n: half(2 * e / n),
        "that is a straight line": lambda e, n: 1 - e / n,
        "at epoch 0 the factor should be 1": lambda e, n: half((e + 1) / n),
        "half-way the factor should be one half, found 0.25": lambda e, n: (1 - e / n) ** 2,
        "0.854 at epoch 1 of 4, is too small": lambda e, n: half(e / n) if n == 10 else 0.5,
        "should be a number, found str": lambda e, n: "high",
    }
    proved("cosine", lambda e, n: half(e / n), wrongs)


def test_bytes() -> None:
    values = 512 * 7 * 7
    wrongs = {
        "a float32 has four bytes": values,
        "that would be bf16": 2 * values,
        "these are the pooled features": 4 * 512,
        "that is what layer3 gives": 4 * 256 * 14 * 14,
        "that is the image itself": 4 * 3 * 224 * 224,
        "that counts bits": 8 * 4 * values,
        "too small": 1,
    }
    proved("bytes", 4 * values, wrongs, shape=(512, 7, 7))


METHODS = ("head", "two blocks", "everything")


def results(**change: Any) -> pd.DataFrame:
    rows = [(METHODS[i], seed, 0.5 + 0.01 * seed + 0.02 * i) for i, seed in itertools.product(range(3), range(3))]
    return pd.DataFrame(rows, columns=["method", "seed", "accuracy"]).assign(**change)


def test_compare() -> None:
    right = results()
    wrongs = {
        "the column 'seed' is missing": right.drop(columns="seed"),
        "no row has 'everything' in the column 'method'": right[right["method"] != "everything"],
        "give fractions": results(accuracy=60.0),
        "should hold one number in each row": results(accuracy=float("nan")),
        "is it passed on": results(accuracy=0.5),
        "fewer than 3 seeds": right[right["seed"] < 2],
        "different seeds": results(seed=[0, 1, 2, 0, 1, 2, 3, 4, 5]),
        "a seed appears twice": pd.concat([right, right]),
        "expected a DataFrame, found dict": right.to_dict(),
    }
    proved("compare", right, wrongs, methods=METHODS, seeds=3)


def test_the_blocks_are_resnet34s_last() -> None:
    assert set(LAST_TWO) < {name for name, _ in network().named_modules()}
