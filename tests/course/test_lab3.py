"""Lab 3's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import copy
import itertools
import math
from functools import partial

import pandas as pd
import torch
from lab_answers import copied, prove
from torch import nn
from toy import untouched

import tlhelpers as tl
from tlcourse.labs.lab3_resnet34_last_two_blocks import LAST_TWO

proved = partial(prove, "lab3_resnet34_last_two_blocks")


@copied
def network():
    return tl.load_model("resnet34", num_classes=3, weights="none", size=64)


def solved(change=lambda model: None):
    model = tl.freeze(network())
    tl.unfreeze_modules(*(model.get_submodule(name) for name in LAST_TWO))
    change(model)
    return model


def trainable(*beginnings, model=None):
    model = model or network()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(beginnings)
    return model


def test_blocks():
    right = [f"layer{stage}.{i}" for stage, count in ((1, 3), (2, 4), (3, 6), (4, 3)) for i in range(count)]
    wrongs = {
        "these are the four stages": ["layer1", "layer2", "layer3", "layer4"],
        "these are layers inside of blocks": ["layer1.0.conv1"],
        "not in the order of the forward pass": right[::-1],
        "'layer1.0' is missing; 2 are there": right[-2:],
        "'layer5.0' is no residual block": [*right, "layer5.0"],
    }
    proved("blocks", right, wrongs, model=network())
    assert tuple(right[-2:]) == LAST_TWO


def test_unfreeze():
    frozen = solved(lambda m: tl.freeze_modules(*(x for x in m.modules() if isinstance(x, nn.BatchNorm2d))))
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
        "has changed: BatchNorm is not frozen": trainable(*LAST_TWO, "fc."),
        "BatchNorm is frozen in the two blocks too": trainable(*LAST_TWO, "fc.", model=frozen),
    }
    model = solved()
    with untouched(model):
        proved("unfreeze", model, wrongs, classes=3)


def moved(model, images, mode=nn.Module.train, tensors=nn.Module.state_dict):
    before = copy.deepcopy(tensors(model))
    mode(model)(images)
    return [name for name, tensor in tensors(model).items() if not torch.equal(tensor, before[name])]


def test_moves():
    wrongs = {
        "does it call `train()`": partial(moved, mode=nn.Module.eval),
        "buffers are in `state_dict()`": partial(moved, tensors=lambda model: dict(model.named_parameters())),
        "it names 'bn.running_mean' where nothing changes": lambda model, _: [n for n, _ in model.named_buffers()],
        "it should name its three buffers": lambda *given: [name for name in moved(*given) if "mean" in name],
    }
    proved("moves", moved, wrongs)


def optimizer(model, head, blocks, count=3):
    groups = [{"params": model.fc.parameters(), "lr": head}]
    groups += [{"params": model.get_submodule(name).parameters(), "lr": blocks} for name in LAST_TWO]
    return torch.optim.AdamW(groups[:count])


def test_rates():
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
    }
    proved("rates", optimizer(model, 1e-2, 1e-3), wrongs, model=model, head_rate=1e-2, block_rate=1e-3)


def half(share):
    return (1 + math.cos(math.pi * share)) / 2


def test_cosine():
    wrongs = {
        "it rises from 0 to 1": lambda e, n: 1 - half(e / n),
        "it falls to -1": lambda e, n: math.cos(math.pi * e / n),
        "is the argument pi * epoch / epochs?": lambda e, n: half(2 * e / n),
        "that is a straight line": lambda e, n: 1 - e / n,
        "at epoch 0 the factor should be 1": lambda e, n: half((e + 1) / n),
        "half-way the factor should be one half, found 0.25": lambda e, n: (1 - e / n) ** 2,
        "0.854 at epoch 1 of 4, is too small": lambda e, n: half(e / n) if n == 10 else 0.5,
    }
    proved("cosine", lambda e, n: half(e / n), wrongs)


def test_bytes():
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


def test_compare():
    methods = ("head", "two blocks", "everything")
    rows = [(methods[i], seed, 0.5 + 0.01 * seed + 0.02 * i) for i, seed in itertools.product(range(3), range(3))]
    right = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
    wrongs = {
        "the column 'seed' is missing": right.drop(columns="seed"),
        "no row has 'everything' in the column 'method'": right[right["method"] != "everything"],
        "give fractions": right.assign(accuracy=60.0),
        "should hold one number in each row": right.assign(accuracy=float("nan")),
        "is it passed on": right.assign(accuracy=0.5),
        "fewer than 3 seeds": right[right["seed"] < 2],
        "different seeds": right.assign(seed=[0, 1, 2, 0, 1, 2, 3, 4, 5]),
        "a seed appears twice": pd.concat([right, right]),
    }
    proved("compare", right, wrongs, methods=methods, seeds=3)
