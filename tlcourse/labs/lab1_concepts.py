"""The exercises of lab 1: what transfer brings, what freezing means, how much to unfreeze."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import nn

from tlcourse.labs.answers import about, choice, compare, expect, expect_names, text, wrong_any, wrong_if
from tlcourse.labs.lab import Exercise, Wrong


def gain(answer: Any, *, scores: pd.DataFrame, per_class: int) -> str:
    """The mean gain of pre-trained over random features in points; `scores`: start, per_class, seed, accuracy."""
    means = 100 * scores.groupby(["start", "per_class"])["accuracy"].mean()
    gains = means["pre-trained"] - means["random"]
    trained, random, most = means["pre-trained", per_class], means["random", per_class], max(scores["per_class"])
    mistakes = {
        "that is a fraction; the question asks for percentage points, so multiply by 100": (trained - random) / 100,
        "the sign is wrong: pre-trained minus random, not the other way round": random - trained,
        "that is the accuracy with pre-trained features; subtract the one with random features": trained,
        "that is the accuracy with random features; subtract it from the other": random,
        f"that is the gain with {most} images per class; take the rows with {per_class}": gains[most],
        "that is a relative gain in per cent; the question asks for the difference": 100 * (trained / random - 1),
    }
    return f"{compare(answer, trained - random, 'the gain', mistakes, tolerance=0.06):.1f} points"


def spread(answer: Any, *, scores: pd.DataFrame, per_class: int) -> str:
    """The standard deviation over seeds of the difference, pre-trained minus random, seed by seed, in points."""
    rows = 100 * scores[scores["per_class"] == per_class].pivot(index="seed", columns="start", values="accuracy")
    difference = rows["pre-trained"] - rows["random"]
    mistakes = {
        "that divides by n; the standard deviation of a sample divides by n - 1 (`ddof=1`)": difference.std(ddof=0),
        "that is the mean difference; the question asks how much it varies": difference.mean(),
        "that is the spread of one method alone; subtract seed by seed first": rows["pre-trained"].std(),
        "that is a fraction; the question asks for percentage points": difference.std() / 100,
    }
    return f"{compare(answer, difference.std(), 'the standard deviation', mistakes, tolerance=0.006):.2f} points"


why_less_data = choice(
    "C",
    A="A pre-trained network has as many parameters as one from scratch; what differs is their values.",
    B="Its source task has other classes than ours, and it was never shown one of our images.",
    C="The features exist already, so the few images only have to say how to combine them.",
    D="Augmentation was off in both cases here, so it cannot explain the difference.",
)


def counts(frozen: Any, tuned: Any, *, model: nn.Module, block: str) -> str:
    """The number of trainable parameters: with only the head, and with a block besides."""
    tensors = list(model.get_submodule("fc").parameters())
    head, everything = sum(p.numel() for p in tensors), sum(p.numel() for p in model.parameters())
    in_block = sum(p.numel() for p in model.get_submodule(block).parameters())
    mistakes = {
        "that counts tensors; count their single numbers, `parameter.numel()`": len(tensors),
        "that is the whole network; only what has `requires_grad` trains": everything,
        "that counts what is frozen; count what has `requires_grad`": everything - head,
        "the head has a bias too": tensors[0].numel(),
    }
    compare(frozen, head, "the number with a frozen backbone", mistakes)
    mistakes |= {"the head trains as well, besides the block": in_block, "the block trains too": head}
    compare(tuned, head + in_block, f"the number with {block} trainable", mistakes)
    return f"{head:,} and {head + in_block:,} of {everything:,}"


def moved(answer: Any, *, truth: list[str]) -> str:
    """The names of the tensors that training changed."""
    expect_names(answer, "fc.weight")
    extra, missing = sorted(set(answer) - set(truth)), sorted(set(truth) - set(answer))
    wrong_if(not answer, "nothing moved? Take the snapshot before training, compare after it, with the same model")
    statistics = any("running" in name or "num_batches" in name for name in extra)
    wrong_if(statistics, "BatchNorm's statistics are in your list: this model is not frozen by `tl.freeze`")
    wrong_any(zip(extra, missing, strict=False), "'{0[0]}' did not move, and '{0[1]}' did")
    wrong_any(extra, "too many names, '{}' for one: did you compare with another model's snapshot?")
    wrong_any(missing, "'{}' moved too")
    return f"{len(truth)} tensors moved: {', '.join(sorted(truth))}"


what_freezing_means = choice(
    "B",
    A="`eval()` changes how layers compute (BatchNorm, dropout); gradients and updates go on as before.",
    B="Gradients stop at requires_grad, and BatchNorm's running statistics stop only in evaluation mode.",
    C="An optimizer skips parameters without a gradient, but it does not control BatchNorm's statistics.",
    D="A learning rate of 0 stops the parameters. The statistics move on, and gradients are still computed.",
)


def best_depth(answer: Any, *, runs: pd.DataFrame) -> str:
    """For each per_class the value of `method` with the lowest mean `val_loss` over seeds in `runs`."""
    expect(answer, Mapping, "expected a dictionary from images per class to what trains")
    means = runs.groupby(["per_class", "method"])[["val_loss", "test"]].mean()
    counts, depths = sorted(runs["per_class"].unique().tolist()), list(dict.fromkeys(runs["method"]))
    wrong_if(set(answer) != set(counts), f"expected the keys {counts}, found {sorted(map(str, answer))}")
    for count in counts:
        name, loss, test = answer[count], means["val_loss"][count], means["test"][count]
        if name != loss.idxmin():
            single = runs.loc[runs[runs["per_class"] == count]["val_loss"].idxmin(), "method"]
            with about(f"for {count} images"):
                wrong_if(name not in depths, f"'{name}' is not one of {', '.join(depths)}")
                wrong_if(name == loss.idxmax(), "that is the highest mean loss; take idxmin and not idxmax")
                wrong_if(name == single, "that is the luckiest single run; average over seeds first")
                wrong_if(name == test.idxmax(), "that is the best on the test set, which must choose nothing")
                raise Wrong(f"'{name}' has not the lowest mean validation loss over seeds")
    return "; ".join(f"{n}: {answer[n]}, {means['test'][n, answer[n]]:.1%} on the test set" for n in counts)


how_much_to_unfreeze = choice(
    "D",
    A="On safari, flowers, phantom and chest_xray a frozen backbone has a higher validation loss than everything.",
    B="On cats_dogs and hymenoptera a method that trains less has the lower validation loss, and costs less.",
    C="The distance matters, but look at the first table too: only with 40 images is `everything` well below `head`.",
    D="It depends on both; a small grid such as this, judged on validation images, finds out.",
)

in_your_words = text(
    (r"source|pre-?train|imagenet", "the task that the network was trained for first"),
    (r"target|own|new|our", "the task that it is then used for"),
    (r"feature|layer|backbone|represent", "what is carried over from the one to the other"),
    (r"freez|frozen|fine-?tun|head|classifier|extract", "what is trained and what is left as it is"),
    (r"not|unless|fail|differ|far|domain|negative|however|but", "when it helps little"),
)

EXERCISES = (
    Exercise("gain", "1a The gain", gain),
    Exercise("spread", "1b Its spread", spread),
    Exercise("why", "1c Why fewer images are enough", why_less_data),
    Exercise("counts", "2a What trains", counts),
    Exercise("moved", "2b What moved", moved),
    Exercise("freezing", "2c What freezing means", what_freezing_means),
    Exercise("best", "3a The best depth", best_depth),
    Exercise("unfreezing", "3b How much to unfreeze", how_much_to_unfreeze),
    Exercise("text", "4 In your own words", in_your_words),
)
