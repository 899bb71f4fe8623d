"""Lab 2's checks: the solution passes, a blank is not started, plausible wrong answers are told apart.

The wrong answers that are functions stand in tests/data/wrong_answers, as a learner types them.
"""

import copy
import itertools
from dataclasses import replace
from functools import partial

import notebooks
import numpy as np
import pandas as pd
import pytest
import torch
from lab_answers import copied, outcome, prove
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import vgg
from toy import toy_data

import labs
import tlhelpers as tl

NAME = "lab2_vgg16_features"
proved = partial(prove, NAME)


@copied
def network():
    """A VGG with five blocks, so small that a test can run it; 5 old classes, 8 features."""
    with torch.device("meta"):
        model = vgg.VGG(nn.Sequential())
    torch.manual_seed(0)
    model.features = vgg.make_layers([4, "M", 8, "M", 6, 8, "M", 8, "M", 8, "M"])
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 5))
    model.card = tl.ModelCard("vgg16_gap", "none", "Toy.", "-", tl.Preprocessing(size=32, resize=32))
    return model.eval()


def solved(head=None, change=lambda model: None, like=None):
    model = copy.deepcopy(like or network()).requires_grad_(False)
    model.classifier[-1] = nn.Identity() if head is None else head.requires_grad_(False)
    change(model)
    return model


def larger(model):
    model.card = replace(model.card, preprocessing=tl.Preprocessing())


def test_extractor():
    like = network()
    pooled = nn.Sequential(network().features, nn.AdaptiveAvgPool2d(1), nn.Flatten()).requires_grad_(False).eval()
    (beheaded := copy.deepcopy(like)).classifier[-1] = nn.Identity()
    wrongs = {
        "one for each class of its old task: the head is still on": network(),
        "one for each of your classes: that is a new head": tl.replace_head(network(), 3),
        "it gives maps (8, 1, 1): pooling and flattening were cut off too": network().features,
        "it gives 12 numbers, and 8 go into the head": solved(nn.Linear(8, 12)),
        "two images should give a tensor (2, 8), and they give (16,)": solved(nn.Flatten(0)),
        "it is in training mode: Dropout": solved(change=lambda model: model.train()),
        "'features.0.weight' still has gradients": solved(change=lambda model: model.requires_grad_(True)),
        "the weights are not the pre-trained ones": solved(change=lambda m: nn.init.normal_(m.features[-3].weight)),
        "the output is not the head's input": solved(nn.Softmax(dim=1)),
        "load it with `size=SIZE`": solved(change=larger),
        "it has lost its `card`": pooled,
        "that is `network` itself": like,
    }
    proved("extractor", solved(), wrongs, like=like, classes=3)
    assert "lost its head, too" in outcome(NAME, "extractor", solved(), like=beheaded, classes=3)[1]


def test_shapes():
    right = {"block1": (4, 16, 16), "block3": (8, 4, 4), "block5": (8, 1, 1)}
    wrongs = {
        "'block3' is missing": {"block1": (4, 16, 16)},
        "channels come before height and width": {**right, "block1": (16, 16, 4)},
        "that is before the pooling at the end": {**right, "block1": (4, 32, 32)},
        "has 4 numbers; give (channels, height, width)": {**right, "block3": (1, 8, 4, 4)},
        "that would be for 224 pixels": {**right, "block3": (8, 28, 28)},
        "height and width are right, the channels are not": {**right, "block3": (6, 4, 4)},
        "how often has 32 been halved by then": {**right, "block5": (8, 3, 3)},
        "convolutions keep height and width here": {**right, "block5": (5, 5, 5)},
        "expected three whole numbers": {**right, "block5": 8},
    }
    also = [{**right, "block1": torch.Size([4, 16, 16])}]
    proved("shapes", right, wrongs, also=also, model=network(), size=32)


SOLUTION = {cell.id: cell.source for cell in notebooks.build(labs.ROOT / "solutions" / "source" / f"{NAME}.py").cells}


def function(code):
    """The function that an answer's code defines, in the names that the notebook has at that place."""
    space = {"np": np, "torch": torch, "tl": tl, "DataLoader": DataLoader, "TensorDataset": TensorDataset}
    (data := toy_data()).train.labels = torch.arange(20) % 8
    space |= {"data": data, "network": network(), "extractor": network(), "train_features": np.zeros((20, 512))}
    exec(SOLUTION["answer-epoch"], space)  # the classifier's answers call it
    before = set(space)
    exec(code, space)
    return next((space[name] for name in reversed(space) if name not in before), space["train_epoch"])


ALSO = {
    "scale": [
        lambda a, b: [(x - a.mean(0)) / (a.std(0, ddof=1) + (a.std(0) == 0)) for x in (a, b)],
        lambda a, b: [StandardScaler().fit(a).transform(x) for x in (a, b)],
    ],
    "neighbours": [lambda *given: torch.as_tensor(function(SOLUTION["answer-neighbours"])(*given).copy())],
}


@pytest.mark.parametrize("exercise", ["features", "scale", "epoch", "classifier", "pool", "neighbours"])
def test_functions(exercise):
    wrongs = [(part, function(code)) for name, part, code in labs.wrong_answers(NAME) if name == exercise]
    for part, wrong in wrongs:
        state, message = outcome(NAME, exercise, wrong)
        assert (state, part in message) == ("wrong", True), message
    few = {part: wrong for part, wrong in reversed(wrongs) if "found" not in part and "returned nothing" not in part}
    proved(exercise, function(SOLUTION[f"answer-{exercise}"]), few, also=ALSO.get(exercise, ()))


def test_read():
    data = toy_data(classes=("ant", "bee", "fly"))
    data.train = data.train.select([*range(20), 1, 1])
    truth = data.val.labels.numpy()
    logits = np.eye(3)[np.r_[truth[:5], (truth[5:] + 1) % 3]] + 0.01 * np.arange(3)
    outputs = pd.DataFrame(logits, columns=data.classes)
    wrongs = {
        "that is in per cent": (62.5, 0.375, "fly"),
        "that is the error": (0.375, 0.375, "fly"),
        "the accuracy is too large": (0.7, 0.375, "fly"),
        "that is the share of the training images": (0.625, 9 / 22, "fly"),
        "that is a random guess": (0.625, 1 / 3, "fly"),
        "the baseline is in per cent": (0.625, 37.5, "fly"),
        "`hardest` is the name of a class, found int 2": (0.625, 0.375, 2),
        "'ant' is right most often": (0.625, 0.375, "ant"),
    }
    proved("read", (0.625, 0.375, "fly"), wrongs, outputs=outputs, data=data)


def test_choose():
    means = {  # validation, test, spread
        ("block3", "mean"): (0.40, 0.30, 0.01),
        ("block4", "mean"): (0.60, 0.55, 0.01),
        ("block4", "max"): (0.58, 0.65, 0.01),
        ("block5", "mean"): (0.57, 0.50, 0.10),
        ("block5", "max"): (0.45, 0.40, 0.01),
        ("block5", "flatten"): (0.59, 0.20, -0.03),
    }
    each = [(pair, *values, seed - 1) for (pair, values), seed in itertools.product(means.items(), range(3))]
    rows = [(*pair, sign + 1, val + s * sign, test + 0.5 * s * sign) for pair, val, test, s, sign in each]
    table = pd.DataFrame(rows, columns=["layer", "pooling", "seed", "val", "test"])
    right = ("block4", "mean")
    wrongs = {
        "that is the best on the test set": (("block4", "max"), 0.65),
        "that has the worst validation accuracy": (("block3", "mean"), 0.30),
        "that is the luckiest single run": (("block5", "mean"), 0.50),
        "that is the best of seed 0 alone": (("block5", "flatten"), 0.20),
        "has not the best mean validation accuracy": (("block5", "max"), 0.40),
        "first the layer, then the pooling": (("mean", "block4"), 0.55),
        "in per cent": (right, 55.0),
        "the final number is the validation accuracy": (right, 0.60),
        "the best of all test accuracies": (right, 0.65),
        "the mean of all test accuracies": (right, table["test"].mean()),
        "that of seed 2 alone": (right, 0.555),
        "too small": (right, 0.1),
    }
    proved("choose", (right, 0.55), wrongs, also=[(list(right), np.float64(0.55))], scores=table)
