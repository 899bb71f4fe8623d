"""The exercises of lab 1: what transfer brings, what freezing means, learning rates, how much to unfreeze."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from torch import nn

import tlhelpers as tl
from tlcourse.labs.answers import choice, compare, draws, expect, expect_scores, match, text, wrong_any, wrong_if
from tlcourse.labs.lab import Exercise


def gain(answer: Any, *, scores: pd.DataFrame, per_class: int) -> str:
    """The mean gain of pre-trained over random features in points; `scores`: start, per_class, seed, accuracy."""
    means = 100 * scores.groupby(["start", "per_class"])["accuracy"].mean()
    gains = means["pre-trained"] - means["random"]
    trained, random, most = means["pre-trained", per_class], means["random", per_class], max(scores["per_class"])
    mistakes = {"that is a fraction; multiply by 100": (trained - random) / 100, "the sign is wrong": random - trained}
    mistakes |= {"that is the accuracy with pre-trained features; subtract the one with random ones": trained}
    mistakes |= {"that is the accuracy with random features; subtract it from the other": random}
    mistakes |= {f"that is the gain with {most} images per class; take the rows with {per_class}": gains[most]}
    mistakes |= {"that is a relative gain in per cent; give the difference": 100 * (trained / random - 1)}
    return f"{compare(answer, trained - random, 'the gain', mistakes, tolerance=0.06):.1f} points"


def spread(answer: Any, *, scores: pd.DataFrame, per_class: int) -> str:
    """The standard deviation over seeds of the difference, pre-trained minus random, seed by seed, in points."""
    rows = 100 * scores[scores["per_class"] == per_class].pivot(index="seed", columns="start", values="accuracy")
    difference = rows["pre-trained"] - rows["random"]
    mistakes = {"that divides by n; it should be n - 1 (`ddof=1`)": difference.std(ddof=0)}
    mistakes |= {"that is the mean difference": difference.mean(), "that is a fraction": difference.std() / 100}
    mistakes |= {"that is the spread of one method alone; subtract seed by seed first": rows["pre-trained"].std()}
    return f"{compare(answer, difference.std(), 'the standard deviation', mistakes, tolerance=0.006):.2f} points"


def counts(answer: Callable[[nn.Module], Any], *, frozen: nn.Module, tuned: nn.Module) -> str:
    """A function from a network to the number of its trainable parameters."""
    another = tl.load_model("resnet18", num_classes=int(draws().integers(20, 90)), weights="none", size=64)
    tl.freeze(another, up_to="layer2" if draws().random() > 0.5 else "layer1")
    for name, model in {"frozen": frozen, "tuned": tuned, "another network": another}.items():
        trains, whole = [p for p in model.parameters() if p.requires_grad], sum(p.numel() for p in model.parameters())
        right, head = (sum(p.numel() for p in own) for own in (trains, model.get_submodule("fc").parameters()))
        mistakes = {"that is the whole network": whole, "that counts tensors, not their numbers": len(trains)}
        mistakes |= {"that counts what is frozen": whole - right, "that is the head alone; more layers train": head}
        mistakes |= {"that leaves out biases": sum(p.numel() for p in trains if p.ndim > 1)}
        compare(answer(model), right, f"the number for {name}", mistakes)
    return f"{int(answer(frozen)):,} with only the head; {int(answer(tuned)):,} with layer4 as well"


def moved(answer: Any, *, model: Any) -> str:
    """The names of the tensors that training changed in a network with a frozen backbone."""
    expect(answer, list | tuple | set, "expected a list of names such as 'fc.weight'")
    loaded = tl.load_model("resnet18", classes=model.card.classes, size=64)
    truth, found = set(tl.changed(model, tl.snapshot(loaded))), set(map(str, answer))
    wrong_if(not truth, "`frozen` is as it was when it was loaded; train it first")
    wrong_if(not found, "nothing moved? Take the snapshot before training, compare after it, with the same model")
    wrong_if("bn1.running_mean" in found, "BatchNorm's statistics are in your list: the backbone was not frozen")
    extra, missing = sorted(found - truth), sorted(truth - found)
    wrong_any(zip(extra, missing, strict=False), "'{0[0]}' did not move, and '{0[1]}' did")
    wrong_any(extra, "too many names, '{}' for one: did you compare with another model's snapshot?")
    wrong_any(missing, "'{}' moved too")
    return f"{len(truth)} tensors moved: {', '.join(sorted(truth))}"


def rates(answer: Any, *, target: tl.ImageData, source_accuracy: Callable[[nn.Module], float]) -> str:
    """A table (lr, target, source): a run for each learning rate, each from a freshly loaded network."""
    for column in ("target", "source"):
        expect_scores(answer, "lr", column)
    lrs = 1e-4, 1e-3, 1e-2
    wrong_any((lr for lr in lrs if lr not in set(answer["lr"])), "no row has the learning rate {:g}")
    wrong_if(len(answer) != 3, f"expected one row for each of the 3 learning rates, found {len(answer)}")
    equal = [column for column in ("target", "source") if answer[column].nunique() == 1]
    wrong_any(equal, "'{}' is the same in all rows: is `lr` passed on, and do you measure after the training?")
    *_, lr = draws().permutation(lrs)  # 0.001 in the lab; marking repeats the others too
    model = tl.load_model("resnet18", classes=target.classes, size=64)
    tl.fit(model, target, epochs=2, lr=lr)
    (train, val, test), source = (tl.evaluate(model, part).accuracy for part in target.splits()), source_accuracy(model)
    mistakes = {"the columns are swapped": [source, val], "'target' is measured on training images": [train, source]}
    mistakes |= {"'target' is measured on test images; they choose nothing": [test, source]}
    other = f"a fresh network differs at {lr:g}: do you load it inside the loop, pass `lr` on, train for 2 epochs?"
    near = 0.001 if tl.current_profile().device.type == "cpu" else 0.02  # GPUs do not always add in the same order
    match(answer.loc[answer["lr"] == lr, ["target", "source"]].to_numpy()[0], [val, source], mistakes, other, near)
    return "; ".join(f"{row.lr:g}: new task {row.target:.0%}, old task {row.source:.0%}" for row in answer.itertuples())


def best_depth(answer: Any, *, runs: pd.DataFrame) -> str:
    """For each per_class the value of `method` with the lowest mean `val_loss` over seeds in `runs`."""
    expect(answer, Mapping, "expected a dictionary from images per class to what trains")
    means = runs.groupby(["per_class", "method"])[["val_loss", "test"]].mean()
    counts, depths = sorted(runs["per_class"].unique().tolist()), list(dict.fromkeys(runs["method"]))
    wrong_if(set(answer) != set(counts), f"expected the keys {counts}, found {sorted(map(str, answer))}")
    wrong_any((name for name in answer.values() if name not in depths), f"'{{}}' is not one of {', '.join(depths)}")
    for count, name in answer.items():
        loss, single = means["val_loss"][count], runs[runs["per_class"] == count]["val_loss"].idxmin()
        why = {means["test"][count].idxmax(): "that is the best on the test set, which must choose nothing"}
        why |= {runs.loc[single, "method"]: "that is the luckiest single run; average over seeds first"}
        why |= {loss.idxmax(): "that is the highest mean loss; take idxmin and not idxmax"}
        wrong_if(name != loss.idxmin(), f"for {count} images: {why.get(name, 'not the lowest mean loss over seeds')}")
    return "; ".join(f"{n}: {answer[n]}, {means['test'][n, answer[n]]:.1%} on the test set" for n in counts)


EXERCISES = (
    Exercise("gain", "1 The gain", gain, vary=("scores",)),
    Exercise("why", "2 Why fewer images are enough", choice("lab1", "why")),
    Exercise("counts", "3 Count what trains", counts, function=True),
    Exercise("moved", "4 See what moved", moved),
    Exercise("freezing", "5 What freezes everything", choice("lab1", "freezing")),
    Exercise("rates", "6 Three learning rates", rates),
    Exercise("smaller", "7 Why a smaller learning rate", choice("lab1", "smaller")),
    Exercise("text", "8 In your own words", text("lab1", "text"), text=True),
    Exercise("spread", "9 The spread of the gain", spread, extension=True, vary=("scores",)),
    Exercise("best", "10 The best depth", best_depth, extension=True, vary=("runs",)),
    Exercise("unfreezing", "11 How much to unfreeze", choice("lab1", "unfreezing"), extension=True),
)
