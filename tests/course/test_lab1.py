"""Lab 1's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import functools
import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from lab_answers import outcome, prove

import tlcourse as tc
import tlhelpers as tl
from tlcourse.labs import lab1_concepts

proved = functools.partial(prove, "lab1_concepts")
rows = itertools.product(("pre-trained", "random"), (5, 10, 20, 40), range(3))
scores = pd.DataFrame(rows, columns=["start", "per_class", "seed"])
scores["accuracy"] = 0.5 + scores["per_class"] / 500 + np.random.default_rng(0).random(len(scores)) / 30
scores.loc[scores["start"] == "random", "accuracy"] -= 0.2


def test_gain():
    means = 100 * scores.groupby(["start", "per_class"])["accuracy"].mean()
    trained, random, most = means["pre-trained", 10], means["random", 10], -means.unstack(0).diff(axis=1)["random"][40]
    wrongs = {"that is a fraction": (trained - random) / 100, "the sign is wrong": random - trained}
    wrongs |= {"that is the accuracy with pre-trained": trained, "that is the accuracy with random": random}
    wrongs |= {"that is the gain with 40 images": most, "that is a relative gain": 100 * (trained / random - 1)}
    wrongs |= {"the gain is too large": 99.0, "should be one number, found ndarray with several": np.ones(3)}
    wrongs |= {"the gain is nan": float("nan"), "the answer is None": None}
    proved("gain", trained - random, wrongs, scores=scores, per_class=10)


def test_spread():
    table = 100 * scores[scores["per_class"] == 10].pivot(index="seed", columns="start", values="accuracy")
    difference = table["pre-trained"] - table["random"]
    wrongs = {"divides by n;": difference.std(ddof=0), "that is the mean difference": difference.mean()}
    wrongs |= {"the spread of one method": table["pre-trained"].std(), "that is a fraction": difference.std() / 100}
    proved("spread", difference.std(), wrongs, scores=scores, per_class=10)


def count(chosen=lambda p: p.requires_grad, size=lambda p: p.numel()):
    return lambda model: sum(size(p) for p in model.parameters() if chosen(p))


def test_counts():
    frozen, tuned = (tl.load_model("resnet18", classes=("a", "b", "c"), size=64) for _ in range(2))
    given = {"frozen": tl.freeze(frozen), "tuned": tl.freeze(tuned, up_to="layer3")}
    wrongs = {"that counts tensors": count(size=lambda p: 1), "that is the whole network": count(lambda p: True)}
    wrongs |= {"what is frozen": count(lambda p: not p.requires_grad), "frozen is too small": lambda model: 1}
    wrongs |= {"leaves out biases": count(lambda p: p.requires_grad and p.ndim > 1), "returned nothing": {}.get}
    wrongs |= {"the head alone": lambda net: count(lambda p: True)(net.fc), "too large": lambda net: count()(net) + 1}
    proved("counts", count(), wrongs, **given, also=[lambda net: tl.trainable_table(net).loc["total", "trainable"]])


def test_moved():
    model, right = tl.freeze(tl.load_model("resnet18", classes=("a", "b", "c"), size=64)), ["fc.weight", "fc.bias"]
    assert "`frozen` is as it was" in outcome("lab1_concepts", "moved", right, model=model)[1]
    model.fc.load_state_dict({name: torch.ones_like(old) for name, old in model.fc.state_dict().items()})
    wrongs = {"nothing moved?": [], "BatchNorm's statistics are in your list": [*right, "bn1.running_mean"]}
    wrongs |= {"too many names, 'conv1.weight' for one": [*right, "conv1.weight"], "'fc.bias' moved too": ["fc.weight"]}
    wrongs |= {"'banana' did not move, and 'fc.bias' did": ["banana"], "found str": "fc.weight, fc.bias"}
    proved("moved", right, wrongs, model=model, also=[set(right)])


def test_rates(monkeypatch):
    ends = {0.0001: (0.9, 0.5, 0.6), 0.001: (1.0, 0.7, 0.65), 0.01: (0.8, 0.25, 0.2)}  # on train, val and test
    fake = {"load_model": lambda *a, **b: {}, "fit": lambda model, target, epochs, lr: model.update(lr=lr)}
    fake["evaluate"] = lambda model, place: SimpleNamespace(accuracy=ends[model["lr"]][place])
    monkeypatch.setattr(lab1_concepts, "tl", SimpleNamespace(**fake, current_profile=tl.current_profile))
    train, val, test = zip(*ends.values(), strict=True)
    right = pd.DataFrame({"lr": [*ends], "target": val, "source": [0.8 - 50 * lr for lr in ends]})
    wrongs = {"'source' is missing": right[["lr", "target"]], "no row has the": right[:2]}
    wrongs |= {"not per cent": right.assign(target=100 * right["target"]), "found 6": pd.concat([right, right])}
    wrongs |= {"'target' is the same": right.assign(target=0.7), "'source' is the same": right.assign(source=0.8)}
    wrongs |= {"columns are swapped": right.set_axis(["lr", "source", "target"], axis=1), "found float": 0.7}
    wrongs |= {"training images": right.assign(target=train), "test images": right.assign(target=test)}
    wrongs |= {"do you load it inside the loop": right.assign(source=[0.75, 0.6, 0.2])}
    own = {"target": SimpleNamespace(classes="", splits=lambda: range(3))}
    proved("rates", right, wrongs, also=[right[::-1]], **own, source_accuracy=lambda model: 0.8 - 50 * model["lr"])


def test_best():
    losses = {("head", 10): 3 * [0.5], ("all", 10): [0.9, 0.1, 0.9], ("half", 10): 3 * [0.6], ("last", 10): 3 * [0.58]}
    losses |= {("none", 10): [0.99], ("head", 40): 3 * [0.45], ("all", 40): 3 * [0.4]}
    rows = [(*key, seed, loss, key[0] == "last") for key, own in losses.items() for seed, loss in enumerate(own)]
    runs = pd.DataFrame(rows, columns=["method", "per_class", "seed", "val_loss", "test"])
    wrongs = {"luckiest single run": "all", "highest mean loss": "none", "best on the test set": "last"}
    wrongs |= {"for 10 images: not the lowest mean": "half", "'heads' is not one of head, all, half": "heads"}
    wrongs = {said: {10: name, 40: "all"} for said, name in wrongs.items()}
    proved("best", {10: "head", 40: "all"}, wrongs | {"keys [10, 40], found ['10']": {10: "head"}}, runs=runs)


def test_what_the_letters_say_is_measured():
    results = tc.load_results("transfer")
    names = ["flowers", "phantom", "chest_xray", "safari", "cats_dogs", "hymenoptera"]
    gains = [results.against(name, "frozen", network="resnet18").loc["everything"] for name in names]
    assert all(0.07 < row.gain < 0.15 and row.low > 0.03 for row in gains[:3])
    assert 0 < gains[3].low < 0.005
    assert all(row.low < 0 < row.high for row in gains[4:])
    proved("smaller", "C", {f"{letter} is not it. ": letter for letter in "ABD"})


def test_text():
    text = """A network trained on a source task is used for a target task of our own. Its layers learned features that
    are useful there too, so that fewer images are enough. Either the backbone is frozen and a new head is trained, or
    it is fine-tuned at a small learning rate. It helps little when the two domains are far apart."""
    wrongs = {"3 words; write at least": "It reuses features.", "the same few": "transfer " * 50}
    wrongs |= {"about the task that": text.replace("source", "first").replace("trained on", "taught")}
    wrongs |= {"about its advantages": text.replace("fewer images are enough", "it is good"), "found list": [text]}
    wrongs |= {"about when it helps": text[: text.index("It helps")] + "It is a very good idea indeed."}
    proved("text", text, wrongs)
