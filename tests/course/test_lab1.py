"""Lab 1's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import functools
import itertools

import numpy as np
import pandas as pd
import pytest
from lab_answers import prove

import tlhelpers as tl

proved = functools.partial(prove, "lab1_concepts")
TEXT = (
    "A network trained on a source task is used for a target task of our own. Its layers learned features that are "
    "useful there too. Either the backbone is frozen and a new head is trained, or it is fine-tuned with a small rate. "
    "It helps little when the domains differ a lot, or when there are very many images anyway."
)


@pytest.fixture(scope="module")
def scores():
    rows = itertools.product(("pre-trained", "random"), (5, 10, 20, 40), range(3))
    table = pd.DataFrame(rows, columns=["start", "per_class", "seed"])
    noise = 0.03 * np.random.default_rng(0).random(len(table))
    return table.assign(accuracy=0.3 + 0.2 * table["start"].eq("pre-trained") + 0.002 * table["per_class"] + noise)


def test_gain(scores):
    means = 100 * scores.groupby(["start", "per_class"])["accuracy"].mean()
    trained, random = means["pre-trained", 10], means["random", 10]
    gain = trained - random
    wrongs = {
        "that is a fraction": gain / 100,
        "the sign is wrong": -gain,
        "that is the accuracy with pre-trained features": trained,
        "that is the accuracy with random features": random,
        "that is the gain with 40 images": means["pre-trained", 40] - means["random", 40],
        "that is a relative gain": 100 * (trained / random - 1),
        "the gain is too large": 99.0,
        "should be one number, found ndarray with several": np.ones(3),
        "the gain is nan": float("nan"),
    }
    proved("gain", gain, wrongs, scores=scores, per_class=10)


def test_spread(scores):
    table = 100 * scores[scores["per_class"] == 10].pivot(index="seed", columns="start", values="accuracy")
    difference = table["pre-trained"] - table["random"]
    wrongs = {
        "divides by n;": difference.std(ddof=0),
        "that is the mean difference": difference.mean(),
        "that is the spread of one method alone": table["pre-trained"].std(),
        "that is a fraction": difference.std() / 100,
    }
    proved("spread", difference.std(), wrongs, scores=scores, per_class=10)


def test_counts():
    model = tl.freeze(tl.load_model("resnet18", classes=("a", "b", "c"), size=64))
    head, block = 512 * 3 + 3, sum(p.numel() for p in model.get_submodule("layer4").parameters())
    everything = sum(p.numel() for p in model.parameters())
    wrongs = {
        "that counts tensors": (2, 62),
        "that is the whole network": (everything, everything),
        "that counts what is frozen": (everything - head, head + block),
        "the head has a bias too": (512 * 3, head + block),
        "the head trains as well": (head, block),
        "the block trains too": (head, head),
        "too small": (head, 1),
    }
    proved("counts", (head, head + block), wrongs, model=model, block="layer4")


def test_moved():
    right = ["fc.weight", "fc.bias"]
    wrongs = {
        "nothing moved?": [],
        "BatchNorm's statistics are in your list": [*right, "bn1.running_mean"],
        "too many names, 'conv1.weight' for one": [*right, "conv1.weight"],
        "'fc.bias' moved too": ["fc.weight"],
        "'conv1.weight' did not move, and 'fc.bias' did": ["conv1.weight"],
    }
    proved("moved", right, wrongs, truth=right)


def test_best():
    losses = {("head", 10): 3 * [0.5], ("all", 10): [0.9, 0.1, 0.9], ("half", 10): 3 * [0.6], ("last", 10): 3 * [0.58]}
    losses |= {("none", 10): [0.99], ("head", 40): 3 * [0.45], ("all", 40): 3 * [0.4]}
    rows = [(*key, seed, loss, key[0] == "last") for key, losses in losses.items() for seed, loss in enumerate(losses)]
    runs = pd.DataFrame(rows, columns=["method", "per_class", "seed", "val_loss", "test"])
    wrongs = {
        "that is the luckiest single run": {10: "all", 40: "all"},
        "that is the highest mean loss": {10: "none", 40: "all"},
        "that is the best on the test set": {10: "last", 40: "all"},
        "'half' has not the lowest mean": {10: "half", 40: "all"},
        "'heads' is not one of head, all, half": {10: "heads", 40: "all"},
        "expected the keys [10, 40], found ['10']": {10: "head"},
    }
    proved("best", {10: "head", 40: "all"}, wrongs, runs=runs)


def test_text():
    wrongs = {
        "3 words; write at least 40": "It reuses features.",
        "the same few words": "transfer " * 50,
        "it says nothing about the task that": TEXT.replace("source", "first").replace("trained on", "taught"),
        "it says nothing about when it helps little": TEXT[: TEXT.index("It helps")] + "It is a very good idea indeed.",
    }
    proved("text", TEXT, wrongs)
