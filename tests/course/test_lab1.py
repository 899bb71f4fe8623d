"""Lab 1's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from lab_answers import prove

import tlhelpers as tl

proved = functools.partial(prove, "lab1_concepts")
RIGHT_TEXT = (
    "A network trained on a source task is used for a target task of our own. Its layers learned features that are "
    "useful there too. Either the backbone is frozen and a new head is trained, or it is fine-tuned with a small rate. "
    "It helps little when the domains differ a lot, or when there are very many images anyway."
)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [
        (start, count, seed, (0.5 if start == "pre-trained" else 0.3) + 0.002 * count + 0.03 * generator.random())
        for start, count, seed in itertools.product(("pre-trained", "random"), (5, 10, 20, 40), range(3))
    ]
    return pd.DataFrame(rows, columns=["start", "per_class", "seed", "accuracy"])


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return tl.freeze(tl.load_model("resnet18", classes=("a", "b", "c"), size=64))


def test_gain(scores: pd.DataFrame) -> None:
    means = scores.groupby(["start", "per_class"])["accuracy"].mean()
    trained, chance = means["pre-trained", 10], means["random", 10]
    gain = trained - chance
    wrongs = [
        ((gain,), "that is a fraction"),
        ((-100 * gain,), "the sign is wrong"),
        ((100 * trained,), "that is the accuracy with pre-trained features"),
        ((100 * chance,), "that is the accuracy with random features"),
        ((100 * (means["pre-trained", 40] - means["random", 40]),), "that is the gain with 40 images"),
        ((100 * (trained / chance - 1),), "that is a relative gain"),
        ((99.0,), "the gain is too large"),
        (("ten",), "should be a number, found str"),
        ((float("nan"),), "the gain is nan"),
    ]
    proved("gain", (100 * gain,), wrongs, scores=scores, per_class=10)


def test_spread(scores: pd.DataFrame) -> None:
    table = 100 * scores[scores["per_class"] == 10].pivot(index="seed", columns="start", values="accuracy")
    difference = table["pre-trained"] - table["random"]
    wrongs = [
        ((difference.std(ddof=0),), "divides by n;"),
        ((difference.mean(),), "that is the mean difference"),
        ((table["pre-trained"].std(),), "that is the spread of one way alone"),
        ((difference.std() / 100,), "that is a fraction"),
        ((difference,), "should be a number, found Series"),
    ]
    proved("spread", (difference.std(),), wrongs, scores=scores, per_class=10)


def test_choices() -> None:
    for exercise, right in (("why", "C"), ("freezing", "B"), ("unfreezing", "D")):
        others = [((letter,), f"{letter} is not it.") for letter in "ABCD" if letter != right]
        proved(exercise, (right,), [*others, (("E",), "found 'E'"), ((3,), "found int")])
        proved(exercise, (f" {right.lower()}",), [*others, (("",), "found ''")])


def test_counts(model: torch.nn.Module) -> None:
    head, block = 512 * 3 + 3, sum(p.numel() for p in model.get_submodule("layer4").parameters())
    everything = sum(p.numel() for p in model.parameters())
    wrongs = [
        ((2, 62), "that counts tensors"),
        ((everything, everything), "that is the whole network"),
        ((everything - head, head + block), "that counts what is frozen"),
        ((512 * 3, head + block), "the head has a bias too"),
        ((head, block), "the head trains as well"),
        ((head, head), "the block trains too"),
        ((head, 1), "too small"),
    ]
    proved("counts", (head, head + block), wrongs, model=model, block="layer4")


def test_moved() -> None:
    right = ["fc.weight", "fc.bias"]
    wrongs = [
        (([],), "nothing moved?"),
        (([*right, "bn1.running_mean"],), "BatchNorm's statistics are in your list"),
        (([*right, "conv1.weight"],), "too many names, 'conv1.weight' for one"),
        ((["fc.weight"],), "'fc.bias' moved too"),
        ((["conv1.weight"],), "'conv1.weight' did not move"),
        ((2,), "expected a list of names such as 'fc.weight', found int"),
    ]
    proved("moved", (right,), wrongs, truth=right)


def test_best() -> None:
    rows = [("head", 10, 1e-3, s, 0.5) for s in range(3)] + [
        ("all", 10, 1e-3, s, v) for s, v in enumerate((0.1, 0.9, 0.1))
    ]
    rows += [("half", 10, 1e-3, s, 0.45) for s in range(3)] + [("all", 40, 1e-3, s, 0.6) for s in range(3)]
    rows += [("head", 40, 1e-3, s, 0.55) for s in range(3)]
    runs = pd.DataFrame(rows, columns=["trains", "per_class", "lr", "seed", "test"])
    runs = pd.concat([runs, pd.DataFrame([("none", 10, 1e-3, 0, 0.01)], columns=runs.columns)])
    wrongs = [
        (({10: "all", 40: "all"},), "that is the luckiest single run"),
        (({10: "none", 40: "all"},), "that is the worst mean"),
        (({10: "half", 40: "all"},), "'half' has not the best mean"),
        (({10: "heads", 40: "all"},), "'heads' is not one of head, all, half"),
        (({10: "head"},), "expected the keys [10, 40], found ['10']"),
        ((["head", "all"],), "found list"),
    ]
    proved("best", ({10: "head", 40: "all"},), wrongs, runs=runs)


def test_text() -> None:
    without_source = RIGHT_TEXT.replace("source", "first").replace("trained on", "taught")
    without_limits = RIGHT_TEXT[: RIGHT_TEXT.index("It helps")] + "It is always a good idea and works very well indeed."
    wrongs = [
        (("It reuses features.",), "3 words; write at least 40"),
        (("transfer " * 50,), "the same few words"),
        ((without_source,), "it says nothing about the task that"),
        ((without_limits,), "it says nothing about when it helps little"),
        ((5,), "found int"),
    ]
    proved("text", (RIGHT_TEXT,), wrongs)
