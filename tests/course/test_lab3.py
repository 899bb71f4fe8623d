"""Lab 3's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
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


def solved() -> Any:
    model = tl.freeze(network())
    tl.unfreeze_modules(*(model.get_submodule(name) for name in LAST_TWO))
    return model


def altered(change: Callable[[Any], Any]) -> Any:
    model = solved()
    change(model)
    return model


def by_hand(*beginnings: str) -> Any:
    model = network()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(beginnings)
    return model


def test_blocks() -> None:
    model = network()
    right = [f"layer{stage}.{i}" for stage, count in ((1, 3), (2, 4), (3, 6), (4, 3)) for i in range(count)]
    wrongs = [
        ((["layer1", "layer2", "layer3", "layer4"],), "these are the four stages"),
        ((["layer1.0.conv1"],), "these are layers inside of blocks"),
        ((right[::-1],), "in another order"),
        ((right[-2:],), "'layer1.0' is missing; 2 are there"),
        (([*right, "layer5.0"],), "'layer5.0' is no residual block"),
        ((16,), "found int"),
    ]
    proved("blocks", (right,), wrongs, model=model)


def test_unfreeze() -> None:
    wrongs = [
        ((altered(lambda m: setattr(m, "fc", nn.Linear(512, 1000))),), "the head has 1000 outputs"),
        ((network(),), "everything trains"),
        ((by_hand("nothing"),), "nothing trains"),
        ((altered(lambda m: tl.freeze_modules(m.fc)),), "the head does not train"),
        ((tl.freeze(network()),), "only the head trains"),
        ((tl.unfreeze(tl.freeze(network()), last=1),), "all of layer4 trains"),
        ((tl.unfreeze(tl.freeze(network()), last=2),), "that unfreezes layer3 and layer4"),
        ((altered(lambda m: tl.freeze_modules(m.layer4[1])),), "'layer4.1.bn1.bias' should train and does not"),
        ((by_hand("layer4.1.", "layer4.2.", "fc."),), "has moved: BatchNorm is not frozen"),
        ((LAST_TWO,), "expected the network, found tuple"),
    ]
    proved("unfreeze", (solved(),), wrongs, classes=3)


def test_the_check_leaves_the_network_as_it_was() -> None:
    model = solved()
    before, modes = tl.snapshot(model), [module.training for module in model.modules()]
    tc.Lab("lab3_resnet34_last_two_blocks").check("unfreeze", model, classes=3)
    assert tl.changed(model, before) == []
    assert [module.training for module in model.modules()] == modes


def moved(model: Any, images: torch.Tensor) -> list[str]:
    before = tl.snapshot(model)
    model.train()
    model(images)
    return tl.changed(model, before)


def test_moves() -> None:
    def without_train(model: Any, images: torch.Tensor) -> list[str]:
        before = tl.snapshot(model)
        model(images)
        return tl.changed(model, before)

    def parameters_only(model: Any, images: torch.Tensor) -> list[str]:
        before = {name: p.clone() for name, p in model.named_parameters()}
        model.train()(images)
        return [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]

    def all_names(model: Any, images: torch.Tensor) -> list[str]:
        model.train()(images)
        return [name for name in model.state_dict() if (name.startswith("bn.") and "running" in name) or "num" in name]

    def one_kind(model: Any, images: torch.Tensor) -> list[str]:
        return [name for name in moved(model, images) if "mean" in name]

    wrongs = [
        ((without_train,), "does it call `train()`"),
        ((parameters_only,), "buffers are in `state_dict()`"),
        ((all_names,), "also where nothing moves"),
        ((one_kind,), "it should name its three buffers"),
        ((lambda model, images: bool(moved(model, images)),), "it returned bool"),
        ((["bn.running_mean"],), "expected a function, found list"),
    ]
    proved("moves", (moved,), wrongs)


def optimizer(model: Any, head: float, blocks: float, **options: Any) -> torch.optim.Optimizer:
    parts = [{"params": model.fc.parameters(), "lr": head}]
    parts += [{"params": model.get_submodule(name).parameters(), "lr": blocks} for name in LAST_TWO]
    return torch.optim.AdamW(parts[: options.get("count")])


def test_rates() -> None:
    model = solved()
    everything = [{"params": model.fc.parameters(), "lr": 1e-2}]
    rest = [p for name, p in model.named_parameters() if not name.startswith("fc.")]
    wrongs = [
        ((optimizer(model, 1e-3, 1e-2),), "are the two rates swapped?"),
        ((optimizer(model, 1e-2, 1e-2),), "there is one rate for everything, 0.01"),
        ((optimizer(model, 5e-2, 1e-3),), "'fc.weight' has the rate 0.05, expected 0.01"),
        ((optimizer(model, 1e-2, 1e-3, count=2),), "'layer4.2.conv1.weight' trains and is not in the optimizer"),
        ((torch.optim.AdamW([*everything, {"params": rest, "lr": 1e-3}]),), "'conv1.weight' is frozen"),
        ((optimizer(solved(), 1e-2, 1e-3),), "none of this network's parameters"),
        (({"head": 1e-2},), "expected an optimizer, found dict"),
    ]
    proved("rates", (optimizer(model, 1e-2, 1e-3),), wrongs, model=model, head_rate=1e-2, block_rate=1e-3)


def test_cosine() -> None:
    wrongs = [
        ((lambda e, n: (1 - math.cos(math.pi * e / n)) / 2,), "it rises from 0 to 1"),
        ((lambda e, n: math.cos(math.pi * e / n),), "it falls to -1"),
        ((lambda e, n: (1 + math.cos(2 * math.pi * e / n)) / 2,), "is the argument pi * epoch / epochs?"),
        ((lambda e, n: 1 - e / n,), "that is a straight line"),
        ((lambda e, n: (1 + math.cos(math.pi * (e + 1) / n)) / 2,), "at epoch 0 the factor should be 1"),
        ((lambda e, n: (1 - e / n) ** 2,), "half-way the factor should be one half, found 0.25"),
        ((lambda e, n: "high",), "should be a number, found str"),
    ]
    proved("cosine", (lambda e, n: (1 + math.cos(math.pi * e / n)) / 2,), wrongs)


def test_bytes() -> None:
    values = 512 * 7 * 7
    wrongs = [
        ((values,), "a float32 has four bytes"),
        ((2 * values,), "that would be bf16"),
        ((4 * 512,), "these are the pooled features"),
        ((4 * 256 * 14 * 14,), "that is what layer3 gives"),
        ((8 * 4 * values,), "that counts bits"),
        ((1,), "too small"),
    ]
    proved("bytes", (4 * values,), wrongs, shape=(512, 7, 7))


METHODS = ("head", "two blocks", "everything")


def results(**change: Any) -> pd.DataFrame:
    rows = [
        (method, seed, 0.5 + 0.01 * seed + 0.02 * i)
        for (i, method), seed in itertools.product(enumerate(METHODS), range(3))
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "accuracy"]).assign(**change)


def test_compare() -> None:
    right = results()
    wrongs = [
        ((right.drop(columns="seed"),), "the column 'seed' is missing"),
        ((right[right["method"] != "everything"],), "the way 'everything' is missing"),
        ((results(accuracy=60.0),), "give fractions"),
        ((results(accuracy=0.5),), "is the seed passed on"),
        ((right[right["seed"] < 2],), "fewer than 3 seeds"),
        ((results(seed=[0, 1, 2, 0, 1, 2, 3, 4, 5]),), "different seeds"),
        ((pd.concat([right, right]),), "a seed appears twice"),
        ((right.to_dict(),), "expected a DataFrame, found dict"),
    ]
    proved("compare", (right,), wrongs, methods=METHODS, seeds=3)


def test_conclude() -> None:
    proved("report_finding", ("B",), [((letter,), f"{letter} is not it") for letter in "ACD"] + [(("F",), "found 'F'")])


@pytest.mark.parametrize("name", LAST_TWO)
def test_the_blocks_are_resnet34s_last(name: str) -> None:
    assert name in dict(network().named_modules())
