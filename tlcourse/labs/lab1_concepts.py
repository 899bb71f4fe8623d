"""The exercises of lab 1: what transfer brings, what freezing means, how much to unfreeze."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import nn

from tlcourse.labs.answers import as_number, choice, compare, text
from tlcourse.labs.lab import Exercise, Wrong


def gain(answer: Any, *, scores: pd.DataFrame, per_class: int) -> str:
    """The mean gain of pre-trained over random features in points.

    `scores` has the columns start, per_class, seed, accuracy (fractions).
    """
    means = scores.groupby(["start", "per_class"])["accuracy"].mean()
    trained, chance = means["pre-trained", per_class], means["random", per_class]
    largest = max(scores["per_class"])
    slips = {
        trained - chance: "that is a fraction; the question asks for percentage points, so multiply by 100",
        100 * (chance - trained): "the sign is wrong: pre-trained minus random, not the other way round",
        100 * trained: "that is the accuracy with pre-trained features; subtract the one with random features",
        100 * chance: "that is the accuracy with random features; subtract it from the other",
        100 * (means["pre-trained", largest] - means["random", largest]): (
            f"that is the gain with {largest} images of a class; take the rows with {per_class}"
        ),
        100 * (trained / chance - 1): "that is a relative gain in per cent; the question asks for the difference",
    }
    value = compare(answer, 100 * (trained - chance), "the gain", slips, tolerance=0.06)
    return f"{value:.1f} points"


why_less_data = choice(
    "C",
    {
        "A": "A pre-trained network has as many parameters as one from scratch; what differs is their values.",
        "B": "Its source task has other classes than ours, and it was never shown one of our images.",
        "C": "The features exist already, so the few images only have to say how to combine them.",
        "D": "Augmentation was off in both cases here, so it cannot explain the difference.",
    },
)


def counts(frozen: Any, tuned: Any, *, model: nn.Module, block: str) -> str:
    """How many single parameters train: with only the head, and with the block besides."""
    head = sum(p.numel() for p in model.get_submodule("fc").parameters())
    blocks = sum(p.numel() for p in model.get_submodule(block).parameters())
    everything = sum(p.numel() for p in model.parameters())
    tensors = len(list(model.get_submodule("fc").parameters()))
    slips = {
        float(tensors): "that counts tensors; count their single numbers, `parameter.numel()`",
        float(everything): "that is the whole network; only what has `requires_grad` trains",
        float(everything - head): "that counts what is frozen; count what has `requires_grad`",
        float(next(model.get_submodule("fc").parameters()).numel()): "the head has a bias too",
    }
    compare(frozen, head, "the number with a frozen backbone", slips)
    more = {float(blocks): "the head trains as well, besides the block", **slips, float(head): "the block trains too"}
    compare(tuned, head + blocks, f"the number with {block} trainable", more)
    return f"{head:,} and {head + blocks:,} of {everything:,}"


def moved(answer: Any, *, truth: list[str]) -> str:
    """The names of the tensors that training changed."""
    if not isinstance(answer, list | tuple | set) or not all(isinstance(name, str) for name in answer):
        raise Wrong(f"expected a list of names such as 'fc.weight', found {type(answer).__name__}")
    found, right = set(answer), set(truth)
    if found == right:
        return f"{len(right)} tensors moved: {', '.join(sorted(right))}"
    if not found:
        raise Wrong("nothing moved? Take the snapshot before the training and compare after it, of the same model")
    if any("running" in name or "num_batches" in name for name in found - right):
        raise Wrong("BatchNorm's statistics are in your list: this model is not frozen by `tl.freeze`")
    if found > right:
        raise Wrong(
            f"too many names, '{sorted(found - right)[0]}' for one: did you compare with another model's snapshot?"
        )
    if found < right:
        raise Wrong(f"'{sorted(right - found)[0]}' moved too")
    raise Wrong(f"'{sorted(found - right)[0]}' did not move, and '{sorted(right - found)[0]}' did")


what_freezing_means = choice(
    "B",
    {
        "A": "`eval()` changes how layers compute (BatchNorm, dropout); gradients and updates go on as before.",
        "B": "Gradients stop at requires_grad, and BatchNorm's running statistics stop only in evaluation mode.",
        "C": "An optimizer skips parameters without a gradient, but BatchNorm's statistics are none of its business.",
        "D": "A learning rate of 0 stops the parameters. The statistics move on, and gradients are still computed.",
    },
)


def best_depth(answer: Any, *, runs: pd.DataFrame) -> str:
    """For each number of images the depth with the highest mean test score over rates and seeds.

    `runs` has the columns trains, per_class, lr, seed, test.
    """
    if not isinstance(answer, Mapping):
        raise Wrong(f"expected a dictionary from images a class to what trains, found {type(answer).__name__}")
    means = runs.groupby(["per_class", "trains", "lr"])["test"].mean()
    best = {count: means[count].idxmax()[0] for count in sorted(runs["per_class"].unique().tolist())}
    if set(answer) != set(best):
        raise Wrong(f"expected the keys {sorted(best)}, found {sorted(map(str, answer))}")
    singles = {count: rows.sort_values("test")["trains"].iloc[-1] for count, rows in runs.groupby("per_class")}
    worst = {count: means[count].idxmin()[0] for count in best}
    for count, name in answer.items():
        if name == best[count]:
            continue
        if name not in set(runs["trains"]):
            raise Wrong(f"for {count} images: '{name}' is not one of {', '.join(dict.fromkeys(runs['trains']))}")
        if name == worst[count]:
            raise Wrong(f"for {count} images: that is the worst mean; take idxmax and not idxmin")
        if name == singles[count]:
            raise Wrong(f"for {count} images: that is the luckiest single run; average over seeds first")
        raise Wrong(f"for {count} images: '{name}' has not the best mean over seeds, at its best rate")
    return ", ".join(f"{count}: {name}" for count, name in best.items())


how_much_to_unfreeze = choice(
    "D",
    {
        "A": "With hundreds of images of a class a frozen backbone was behind in the table.",
        "B": "With few images, training everything gained less than the seeds differ, at much greater cost.",
        "C": "The distance of the domains matters, but the number of images does as well: look at the table's rows.",
        "D": "It depends on both, and one finds out by a small grid such as this, judged on validation images.",
    },
)


def least_difference(answer: Any, *, scores: pd.DataFrame, per_class: int) -> str:
    """The standard deviation over seeds of the difference, pre-trained minus random, seed by seed, in points."""
    rows = scores[scores["per_class"] == per_class].pivot(index="seed", columns="start", values="accuracy")
    difference = 100 * (rows["pre-trained"] - rows["random"])
    slips = {
        float(difference.std(ddof=0)): "that divides by n; a sample's deviation divides by n - 1 (`ddof=1`)",
        float(difference.mean()): "that is the mean difference; the question asks how much it varies",
        float(100 * rows["pre-trained"].std()): "that is the spread of one way alone; subtract seed by seed first",
        float(difference.std() / 100): "that is a fraction; the question asks for percentage points",
    }
    value = compare(answer, float(difference.std()), "the deviation", slips, tolerance=0.006)
    as_number(answer, "the deviation")
    return f"{value:.2f} points"


in_your_words = text(
    [
        (r"source|pre-?train|imagenet", "the task that the network was trained for first"),
        (r"target|own|new|our", "the task that it is then used for"),
        (r"feature|layer|backbone|represent", "what is carried over from the one to the other"),
        (r"freez|frozen|fine-?tun|head|classifier|extract", "what is trained and what is left as it is"),
        (r"not|unless|fail|differ|far|domain|negative|however|but", "when it helps little"),
    ]
)

EXERCISES = (
    Exercise("gain", "1a The gain", gain),
    Exercise("spread", "1b Its spread", least_difference),
    Exercise("why", "1c Why fewer images are enough", why_less_data),
    Exercise("counts", "2a What trains", counts),
    Exercise("moved", "2b What moved", moved),
    Exercise("freezing", "2c What freezing means", what_freezing_means),
    Exercise("best", "3a The best depth", best_depth),
    Exercise("unfreezing", "3b How much to unfreeze", how_much_to_unfreeze),
    Exercise("text", "4 In your own words", in_your_words),
)
