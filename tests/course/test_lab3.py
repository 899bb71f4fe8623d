"""Lab 3's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import math
import re
from functools import partial

import pandas as pd
import torch
from lab_answers import copied, prove
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from toy import ROOT, cases, untouched

import labs
import tlhelpers as tl
from tlcourse.labs.lab3_resnet34_last_two_blocks import LAST_TWO, METHODS

LAB = "lab3_resnet34_last_two_blocks"
proved = partial(prove, LAB)


@copied
def network(**options):
    return tl.load_model("resnet34", num_classes=3, size=64, **options)


def solved(change=lambda model: None, names=LAST_TWO, **options):
    model = tl.freeze(network(**options))
    tl.unfreeze_modules(*map(model.get_submodule, names))
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
        "in the order of the forward pass": right[::-1],
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
        "BatchNorm is frozen in the blocks too": trainable(*LAST_TWO, "fc.", model=frozen),
        "not a pre-trained ResNet34": solved(weights="none"),
    }
    model = solved()
    with untouched(model):
        proved("unfreeze", model, wrongs, classes=3)


def optimizer(model, head, blocks, count=3, kind=torch.optim.AdamW):
    parts = [(model.fc, head), *((model.get_submodule(name), blocks) for name in LAST_TWO)]
    return kind([{"params": part.parameters(), "lr": rate} for part, rate in parts[:count]])


def test_rates():
    model = solved()
    frozen = [*optimizer(model, 1e-2, 1e-3).param_groups, {"params": model.conv1.parameters()}]
    wrongs = {
        "are the two swapped?": optimizer(model, 1e-3, 1e-2),
        "everything has the rate 0.01; make two groups": optimizer(model, 1e-2, 1e-2),
        "'fc.weight' has the learning rate 0.05, expected 0.01": optimizer(model, 5e-2, 1e-3),
        "'layer4.2.conv1.weight' trains and is not in the optimizer": optimizer(model, 1e-2, 1e-3, count=2),
        "'conv1.weight' is frozen": torch.optim.AdamW(frozen),
        "none of this network's parameters": optimizer(solved(), 1e-2, 1e-3),
        "the exercise asks for AdamW, and this is SGD": optimizer(model, 1e-2, 1e-3, kind=torch.optim.SGD),
    }
    proved("rates", optimizer(model, 1e-2, 1e-3), wrongs, model=model, head_rate=1e-2, block_rate=1e-3)


@cases("exercise, name", ("moves", "moved_by_forward"), ("cosine", "cosine_schedule"), ("loop", "fine_tune"))
def test_functions(exercise, name):
    """The answers are those of the solution and of the file of wrong answers."""
    source = (ROOT / "solutions" / "source" / f"{LAB}.py").read_text(encoding="utf8")
    codes = {"": re.search(rf"\ndef {name}.*?# END ANSWER", source, re.DOTALL)[0]}
    codes |= {message: code for other, message, code in labs.wrong_answers(LAB) if other == exercise}
    answers = {}
    for message, code in codes.items():
        space = {"torch": torch, "tl": tl, "math": math, "LambdaLR": LambdaLR, "cross_entropy": cross_entropy}
        exec(code, space)
        answers[message] = space[name]
    proved(exercise, answers.pop(""), answers)


def prepared(method, seed, **options):
    return solved(names={"head": (), "two blocks": LAST_TWO, "everything": ("",)}[method], seed=seed, **options)


def test_methods():
    model = solved()
    wrongs = {
        "for \"head\": 'layer4.1.bn1.bias' trains": lambda _, seed: solved(seed=seed),
        "it gives the same network again": lambda *_: model,
        "the head is the same for another seed": lambda method, _: prepared(method, 0),
        "not a pre-trained ResNet34": partial(prepared, weights="none"),
    }
    proved("methods", prepared, wrongs, classes=3)


def test_bytes():
    pixels = {"four bytes": 0.5, "bf16": 1, "layer3 gives": 4, "the image itself": 12, "bits": 16, "too small": 0.1}
    wrongs = {message: lambda side, share=share: share * side**2 for message, share in pixels.items()}
    proved("bytes", lambda side: 2 * side**2, {**wrongs, "the pooled features": lambda side: 4 * 512})


def test_compare():
    rows = [(m, seed, 0.5 + 0.01 * seed + 0.02 * i) for i, m in enumerate(METHODS) for seed in range(3)]
    right = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
    wrongs = {
        "the column 'seed' is missing": right.drop(columns="seed"),
        "no row has 'everything' in the column 'method'": right[right["method"] != "everything"],
        "give fractions": right.assign(accuracy=60.0),
        "should hold one number in each row": right.assign(accuracy=float("nan")),
        "is `seed` passed on": right.assign(accuracy=0.5),
        "fewer than 3 seeds": right[right["seed"] < 2],
        "different seeds": right.assign(seed=[0, 1, 2, 0, 1, 2, 3, 4, 5]),
        "a seed appears twice": pd.concat([right, right]),
        "is `method` passed on": right.assign(accuracy=0.5 + 0.01 * right["seed"]),
        "the seeds are [5, 6, 7]": right.assign(seed=right["seed"] + 5),
    }
    proved("compare", right, wrongs)
