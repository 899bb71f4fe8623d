"""Checks of what must be equal between two training methods: settings, budget, beginnings, rates, runs."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from tlcourse.labs.answers import as_number
from tlcourse.labs.lab import Wrong
from tlhelpers.models.loading import load_model

STARTS = ("pre-trained", "scratch")
UNFAIR = {  # what is lost if a setting differs
    "architecture": "another network may be better or worse by itself",
    "size": "larger images show more, whatever the weights were",
    "resize": "one way would be scored on whole images, and the other on their centre",
    "batch_size": "other batches mean another number of steps",
    "augment": "augmentation helps by itself",
    "schedule": "a schedule helps by itself",
    "optimizer": "an optimizer may be better by itself",
}


def settings(scratch: Any, *, transfer: Mapping[str, Any]) -> str:
    """The description of training from scratch that makes it comparable with that of transfer."""
    if not isinstance(scratch, Mapping):
        raise Wrong(f"expected a dictionary such as `transfer`, found {type(scratch).__name__}")
    absent = [key for key in transfer if key not in scratch]
    if absent:
        raise Wrong(f"'{absent[0]}' is missing; what is not written down was perhaps not equal")
    odd = [key for key in scratch if key not in transfer]
    if odd:
        raise Wrong(f"'{odd[0]}' is something that only this way has; `transfer` says nothing about it")
    if scratch["weights"] == transfer["weights"]:
        raise Wrong("both begin from the same weights; that is the one thing that is to differ")
    if scratch["weights"] != "none":
        raise Wrong(f"weights: '{scratch['weights']}' is not from scratch; `tl.load_model` calls random numbers 'none'")
    _tries(scratch["rates"], transfer["rates"])
    if scratch["chosen_on"] != transfer["chosen_on"]:
        raise Wrong(f"the rate is chosen on '{scratch['chosen_on']}' and would be judged on what it was chosen by")
    if scratch["tuning_seed"] in scratch["seeds"]:
        raise Wrong("the seed on which rates are chosen is compared too; a run that won a choice was lucky as well")
    if scratch["tuning_seed"] != transfer["tuning_seed"]:
        raise Wrong("the rates of the two ways are chosen on different seeds, so perhaps on easier images")
    if list(scratch["seeds"]) != list(transfer["seeds"]):
        raise Wrong("other seeds mean other images, and nothing that could be subtracted seed by seed")
    _budget(scratch, transfer)
    for key in transfer:
        if key not in ("weights", "rates") and scratch[key] != transfer[key]:
            raise Wrong(f"{key}: {scratch[key]!r} here, {transfer[key]!r} there. {UNFAIR.get(key, 'make it equal')}")
    return f"{len(transfer) - 2} settings are equal; the weights differ, and each way has rates of its own to try"


def _tries(own: Any, other: Sequence[float]) -> None:
    if not isinstance(own, list | tuple):
        raise Wrong(f"rates: expected a list of learning rates to try, found {type(own).__name__}")
    if len(set(own)) < len(own):
        raise Wrong("rates: the same rate twice is one try")
    if len(own) != len(other):
        more, fewer = max(len(own), len(other)), min(len(own), len(other))
        raise Wrong(f"one way tries {more} rates, the other {fewer}; the best of more tries is luckier")
    if any(not 0 < as_number(rate, "a rate") < 1 for rate in own):
        raise Wrong("rates: learning rates for AdamW are positive and far below 1")
    if max(own) <= max(other):
        raise Wrong(
            "rates: all are as small as a backbone's in fine-tuning, which has something to keep. From scratch there "
            "is nothing to keep: try larger ones as well"
        )


def _budget(scratch: Mapping[str, Any], transfer: Mapping[str, Any]) -> None:
    own, other = (method["images"] * method["epochs"] for method in (scratch, transfer))
    if own != other:
        more = "scratch" if own > other else "transfer"
        raise Wrong(f"the budgets differ: {own} images seen from scratch, {other} with transfer; {more} is favoured")
    if scratch["images"] != transfer["images"]:
        raise Wrong("as many images are seen, but of a set of another size: more different ones tell more")


def epochs_for(function: Any) -> str:
    """A function (images, seen) that gives the whole number of epochs nearest to a budget, and at least one."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")

    def epochs(images: int, seen: int) -> float:
        return as_number(function(images, seen), f"the number of epochs for {images} images")

    large, small = epochs(320, 6400), epochs(32, 6400)
    if large == 320 * 6400:
        raise Wrong("it multiplies; images x epochs is the budget, so what is epochs?")
    if large == 6400 / 32:
        raise Wrong("these are steps with batches of 32; an epoch is a pass over all images")
    if large == small:
        raise Wrong("a tenth of the images gets as many epochs, and so sees a tenth of the budget")
    if small < large:
        raise Wrong("fewer images get fewer epochs; they must be seen more often to fill the budget")
    if (large, small) != (20, 200):
        raise Wrong(f"320 images, of which 6400 are to be seen: {large:g} epochs would see {320 * large:g}")
    if epochs(20_000, 6400) == 0:
        raise Wrong("for a set that is larger than the budget it gives 0 epochs; without an epoch nothing is trained")
    if epochs(1000, 6400) != int(epochs(1000, 6400)):
        raise Wrong("6.4 epochs? `tl.fit` takes a whole number")
    if epochs(1000, 6400) == 7:
        raise Wrong("it rounds 6.4 up; take the nearest whole number")
    if epochs(3000, 8000) == 2:
        raise Wrong("8000 / 3000 is nearer to 3 than to 2: round, do not cut off")
    for images, seen, right in ((1000, 6400, 6), (3000, 8000, 3), (20_000, 6400, 1), (160, 640, 4)):
        if epochs(images, seen) != right:
            raise Wrong(f"{images} images and a budget of {seen}: found {epochs(images, seen):g} epochs")
    if not isinstance(function(1000, 6400), numbers.Integral):
        raise Wrong(f"it returns {type(function(1000, 6400)).__name__}; `tl.fit` takes an int")
    return "a tenth of the images, ten times as many epochs"


def beginnings(function: Any, *, classes: int, size: int) -> str:
    """A function (start, seed) that gives networks which differ in their weights only, ready to be trained."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    made = {(start, seed): function(start, seed) for start in STARTS for seed in (0, 1)}
    for (start, _), model in made.items():
        if not isinstance(model, nn.Module):
            raise Wrong(f"it should return a network, and for '{start}' it returned {type(model).__name__}")
    if len({id(model) for model in made.values()}) < len(made):
        raise Wrong("it returns one network several times; a second run would go on where the first one ended")
    original = load_model("resnet18", size=size)
    for (start, _), model in made.items():
        _same_network(start, model, original, classes)
    _weights(made, original)
    look = original.card.preprocessing
    for (start, _), model in made.items():
        seen = model.card.preprocessing
        if seen != look:
            raise Wrong(
                f"'{start}' sees images in another way: {seen}, and the weights ask for {look}. Give both the same "
                "`size`"
            )
    return "one architecture, one way of seeing images, two beginnings; and each seed has its own random numbers"


def _same_network(start: str, model: Any, original: Any, classes: int) -> None:
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in one.state_dict().items() if not name.startswith("fc.")}
        for one in (model, original)
    ]
    if shapes[0] != shapes[1]:
        raise Wrong(f"'{start}' is no ResNet18; another architecture is another comparison")
    if model.fc.out_features != classes:
        raise Wrong(f"the head of '{start}' has {model.fc.out_features} outputs, and there are {classes} classes")
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise Wrong(f"'{frozen[0]}' of '{start}' is frozen; here both ways train everything")


def _weights(made: Mapping[tuple[str, int], Any], original: Any) -> None:
    learned = {
        start: all(torch.equal(made[start, seed].conv1.weight, original.conv1.weight) for seed in (0, 1))
        for start in STARTS
    }
    if learned["scratch"] and not learned["pre-trained"]:
        raise Wrong("the two are swapped: 'scratch' has what was learned, and 'pre-trained' random numbers")
    if learned["scratch"]:
        raise Wrong("'scratch' begins from the pre-trained weights: `weights=` of `tl.load_model`")
    if not learned["pre-trained"]:
        raise Wrong("'pre-trained' begins from random numbers: `weights=` of `tl.load_model`")
    own = made["pre-trained", 0].state_dict()
    for name, tensor in original.state_dict().items():
        if not name.startswith("fc.") and not torch.equal(tensor, own[name]):
            raise Wrong(f"'{name}' of 'pre-trained' is not what was learned; was the network initialised again?")
    first, second = (made["scratch", seed] for seed in (0, 1))
    if torch.equal(first.conv1.weight, second.conv1.weight):
        raise Wrong("from scratch every seed begins from the same random numbers: pass the seed on")
    first, second = (made["pre-trained", seed] for seed in (0, 1))
    if torch.equal(first.fc.weight, second.fc.weight):
        raise Wrong("the new head of 'pre-trained' is the same for every seed: pass the seed on there too")


def rates(answer: Any, *, tries: pd.DataFrame) -> str:
    """For each way the rate with the highest validation accuracy; `tries` has columns start, rate, train, val."""
    if not isinstance(answer, Mapping):
        raise Wrong(f"expected a dictionary from the way to its rate, found {type(answer).__name__}")
    if set(answer) != set(STARTS):
        raise Wrong(f"expected the keys {list(STARTS)}, found {sorted(map(str, answer))}")
    tables = {start: tries[tries["start"] == start].set_index("rate") for start in STARTS}
    for start, other in zip(STARTS, reversed(STARTS), strict=True):
        table, rate = tables[start], as_number(answer[start], f"the rate of '{start}'")
        near = [tried for tried in table.index if math.isclose(tried, rate)]
        if near and table.loc[near[0], "val"] == table["val"].max():
            continue
        if math.isclose(rate, tables[other]["val"].idxmax()):
            raise Wrong(f"{start}: {rate:g} is the best rate of the other way; choose among this way's own tries")
        if not near:
            raise Wrong(f"{start}: {rate:g} was not tried; choose among {', '.join(f'{r:g}' for r in table.index)}")
        if near[0] == table["train"].idxmax():
            raise Wrong(f"{start}: {rate:g} is the best on the training images; choose on validation images")
        if near[0] == table["val"].idxmin():
            raise Wrong(f"{start}: {rate:g} is the worst on validation images; idxmax and not idxmin")
        if near[0] == max(table.index):
            raise Wrong(f"{start}: {rate:g} is the largest rate, and not the one with the highest accuracy")
        raise Wrong(f"{start}: another rate has a higher validation accuracy than {rate:g}")
    return ", ".join(f"{start} {float(answer[start]):g}" for start in STARTS)


def live(table: Any, *, seeds: Sequence[int], epochs: int, tuning_seed: int) -> str:
    """Curves of both ways: columns start, seed, epoch, val; one row for each epoch of each run."""
    if not isinstance(table, pd.DataFrame):
        raise Wrong(f"expected a DataFrame, found {type(table).__name__}")
    absent = [name for name in ("start", "seed", "epoch", "val") if name not in table.columns]
    if absent:
        raise Wrong(f"the column '{absent[0]}' is missing")
    if set(table["start"]) != set(STARTS):
        raise Wrong(f"`start` should hold {list(STARTS)}, found {sorted(map(str, set(table['start'])))}")
    if not pd.api.types.is_numeric_dtype(table["val"]) or table["val"].isna().any():
        raise Wrong("`val` should hold one number in each row: a row for each epoch of each run")
    if (table["val"] > 1).any():
        raise Wrong("some accuracies are above 1: give fractions, not per cent")
    if tuning_seed in set(table["seed"]):
        raise Wrong(f"seed {tuning_seed} is there, on which the rates were chosen; compare on seeds that chose nothing")
    found = {start: sorted(set(rows["seed"])) for start, rows in table.groupby("start")}
    if any(seen != sorted(seeds) for seen in found.values()):
        raise Wrong(f"both ways should have the seeds {list(seeds)}, found {found}")
    if table.duplicated(["start", "seed", "epoch"]).any():
        raise Wrong("an epoch appears twice in one run")
    if table["epoch"].min() == 0:
        raise Wrong("epochs are counted from 1: epoch 1 is what one pass over the images has led to")
    lengths = table.groupby(["start", "seed"])["epoch"].agg(["size", "max"])
    if not (lengths == epochs).all().all():
        raise Wrong(f"every run should have the epochs 1 to {epochs}; one has {lengths['size'].min()} rows")
    wide = table.pivot(index=["start", "epoch"], columns="seed", values="val")
    if (wide.nunique(axis=1) == 1).all():
        raise Wrong("every seed gives the same curve: is the seed passed on to `one_run`?")
    sides = [rows.sort_values(["seed", "epoch"])["val"].tolist() for _, rows in table.groupby("start")]
    if sides[0] == sides[1]:
        raise Wrong("both ways give the same curves: is `start` passed on to `one_run`?")
    return f"{len(lengths)} runs of {epochs} epochs, the same seeds for both ways"
