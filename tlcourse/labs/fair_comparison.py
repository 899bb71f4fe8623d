"""Lab 4's checks of what must be equal between two training methods: settings, budget, beginnings, rates, runs."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from tlcourse.labs.answers import about, as_number, expect, expect_keys, expect_scores, wrong_any, wrong_if
from tlcourse.labs.lab import Wrong
from tlhelpers.models.loading import load_model

STARTS = ("pre-trained", "scratch")
UNFAIR = {  # why a setting must not differ
    "chosen_on": "the learning rate would be judged on what it was chosen by",
    "tuning_seed": "learning rates that are chosen on different seeds are perhaps chosen on easier images",
    "seeds": "other seeds mean other images, and nothing that could be subtracted seed by seed",
    "images": "as many images are seen, but of a set of another size: more different ones tell more",
    "architecture": "another network may be better or worse by itself",
    "size": "larger images show more, whatever the weights were",
    "resize": "one method would be scored on whole images, and the other on their centre",
    "batch_size": "other batches mean another number of steps",
    "augment": "augmentation helps by itself",
    "schedule": "a schedule helps by itself",
    "optimizer": "an optimizer may be better by itself",
}


def settings(scratch: Any, *, transfer: Mapping[str, Any]) -> str:
    """The settings of training from scratch that make it comparable with transfer."""
    expect_keys(scratch, transfer, "expected a dictionary such as `transfer`")
    extra = (key for key in scratch if key not in transfer)
    wrong_any(extra, "'{}' is something that only this method has; `transfer` says nothing about it")
    own, other = scratch["weights"], transfer["weights"]
    wrong_if(own == other, "both begin from the same weights; that is the one thing that should differ")
    wrong_if(own != "none", f"weights: '{own}' is not from scratch; `tl.load_model` calls random numbers 'none'")
    with about("rates"):
        own, other = scratch["rates"], transfer["rates"]
        expect(own, list | tuple, "expected a list of learning rates to try")
        wrong_if(len(set(own)) < len(own), "the same rate twice is one try")
        fewer, more = sorted((len(own), len(other)))
        wrong_if(more > fewer, f"one method tries {more} rates, the other {fewer}; the best of more tries is luckier")
        odd = any(not 0 < as_number(rate, "a rate") < 1 for rate in own)
        wrong_if(odd, "learning rates are positive and far below 1")
        small = "these suit fine-tuning, where there is something to keep; from scratch there is nothing to keep:"
        wrong_if(max(own) <= max(other), f"{small} try larger ones as well")
    lucky = "the seed that chose the learning rates is compared too; a run that won a choice was also lucky"
    wrong_if(scratch["tuning_seed"] in scratch["seeds"], lucky)
    own, other = (method["images"] * method["epochs"] for method in (scratch, transfer))
    budgets = f"the budgets differ: {own} images seen from scratch, {other} with transfer;"
    wrong_if(own != other, f"{budgets} {'scratch' if own > other else 'transfer'} is favoured")
    for key in (*UNFAIR, *transfer):
        if key not in ("weights", "rates") and scratch.get(key) != transfer.get(key):
            raise Wrong(f"{key}: {scratch[key]!r} here, {transfer[key]!r} there; {UNFAIR.get(key, 'make it equal')}")
    return f"{len(transfer) - 2} settings are equal; the weights differ, and each method has learning rates of its own"


def epochs_for(function: Any) -> str:
    """A function (images, seen) that returns the whole number of epochs nearest to a budget, and at least one."""

    def epochs(images: int, seen: int) -> float:
        return as_number(function(images, seen), f"the number of epochs for {images} images")

    large, small = epochs(320, 6400), epochs(32, 6400)
    wrong_if(large == 320 * 6400, "it multiplies; images x epochs is the budget, so what is epochs?")
    wrong_if(large == 6400 / 32, "these are steps with batches of 32; an epoch is a pass over all images")
    wrong_if(large == small, "a tenth of the images gets as many epochs, and so sees a tenth of the budget")
    wrong_if(small < large, "fewer images get fewer epochs; they must be seen more often to fill the budget")
    wrong_if((large, small) != (20, 200), f"320 images, 6400 to be seen: {large:g} epochs would see {320 * large:g}")
    wrong_if(epochs(20_000, 6400) == 0, "for a set larger than the budget it gives 0 epochs; then nothing is trained")
    between = epochs(1000, 6400)
    wrong_if(between != int(between), "6.4 epochs? `tl.fit` takes a whole number")
    wrong_if(between == 7, "it rounds 6.4 up; take the nearest whole number")
    wrong_if(epochs(3000, 8000) == 2, "8000 / 3000 is nearer to 3 than to 2: round, do not cut off")
    for images, budget, right in ((1000, 6400, 6), (3000, 8000, 3), (20_000, 6400, 1), (160, 640, 4)):
        found = epochs(images, budget)
        wrong_if(found != right, f"{images} images and a budget of {budget}: found {found:g} epochs")
    kind = type(function(1000, 6400))
    wrong_if(not issubclass(kind, numbers.Integral), f"it returns {kind.__name__}; `tl.fit` takes an int")
    return "a tenth of the images, ten times as many epochs"


def beginnings(function: Any, *, classes: int, size: int) -> str:
    """A function (start, seed) that returns networks which differ in their weights only, ready to be trained."""
    networks = {(start, seed): function(start, seed) for start in STARTS for seed in (0, 1)}
    for (start, _), model in networks.items():
        expect(model, nn.Module, f"for '{start}' it should return a network")
    shared = len({id(model) for model in networks.values()}) < len(networks)
    wrong_if(shared, "it returns one network several times; a second run would go on where the first one ended")
    original = load_model("resnet18", size=size)
    backbone = {name: tensor for name, tensor in original.state_dict().items() if not name.startswith("fc.")}
    for (start, _), model in networks.items():
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
        differs = shapes != {name: tensor.shape for name, tensor in backbone.items()}
        wrong_if(differs, f"'{start}' is no ResNet18; another architecture is another comparison")
        outputs = model.fc.out_features
        wrong_if(outputs != classes, f"the head of '{start}' has {outputs} outputs, and there are {classes} classes")
        frozen = (name for name, parameter in model.named_parameters() if not parameter.requires_grad)
        wrong_any(frozen, f"'{{}}' of '{start}' is frozen; here both methods train everything")
    first = {key: model.conv1.weight for key, model in networks.items()}
    trained, scratch = (all(torch.equal(first[s, seed], original.conv1.weight) for seed in (0, 1)) for s in STARTS)
    wrong_if(scratch and not trained, "they are swapped: 'scratch' is pre-trained, 'pre-trained' has random numbers")
    wrong_if(scratch, "'scratch' begins from the pre-trained weights: `weights=` of `tl.load_model`")
    wrong_if(not trained, "'pre-trained' begins from random numbers: `weights=` of `tl.load_model`")
    own = networks["pre-trained", 0].state_dict()
    odd = (name for name, tensor in backbone.items() if not torch.equal(tensor, own[name]))
    wrong_any(odd, "'{}' of 'pre-trained' is not what was learned; was the network initialised again?")
    same = torch.equal(first["scratch", 0], first["scratch", 1])
    wrong_if(same, "from scratch every seed begins from the same random numbers: pass the seed on")
    same = torch.equal(*(networks["pre-trained", seed].fc.weight for seed in (0, 1)))
    wrong_if(same, "the new head of 'pre-trained' is the same for every seed: pass the seed on there too")
    expected = original.card.preprocessing
    for (start, _), model in networks.items():
        found = model.card.preprocessing
        other = f"'{start}' prepares images differently: {found}, and the weights ask for {expected}."
        wrong_if(found != expected, f"{other} Give both the same `size`")
    return "one architecture, the same preprocessing, two beginnings; and each seed has its own random numbers"


def rates(answer: Any, *, tries: pd.DataFrame) -> str:
    """For each start the rate with the highest validation accuracy; `tries` has columns start, rate, train, val."""
    expect(answer, Mapping, "expected a dictionary from the start to its learning rate")
    wrong_if(set(answer) != set(STARTS), f"expected the keys {list(STARTS)}, found {sorted(map(str, answer))}")
    tables = {start: tries[tries["start"] == start].set_index("rate") for start in STARTS}
    for start, other in zip(STARTS, reversed(STARTS), strict=True):
        val, rate = tables[start]["val"], as_number(answer[start], f"the learning rate of '{start}'")
        tried = next((known for known in val.index if math.isclose(known, rate)), None)
        if tried is None or val[tried] < val.max():
            with about(f"{start}: {rate:g}"):
                for_other = math.isclose(rate, tables[other]["val"].idxmax())
                wrong_if(for_other, "that is the best rate of the other method; choose among this method's own tries")
                wrong_if(tried is None, f"it was not tried; choose among {', '.join(f'{r:g}' for r in val.index)}")
                best, worst, largest = tables[start]["train"].idxmax(), val.idxmin(), max(val.index)
                wrong_if(tried == best, "that is the best on the training images; choose on validation images")
                wrong_if(tried == worst, "that is the worst on validation images; idxmax and not idxmin")
                wrong_if(tried == largest, "that is the largest rate, and not the one with the highest accuracy")
                raise Wrong("another rate has a higher validation accuracy")
    return ", ".join(f"{start} {float(answer[start]):g}" for start in STARTS)


def live(table: Any, *, seeds: Sequence[int], epochs: int, tuning_seed: int) -> str:
    """Curves of both methods: columns start, seed, epoch, val; one row for each epoch of each run."""
    expect_scores(table, "start", "seed", "epoch", "val")
    starts = sorted(map(str, set(table["start"])))
    wrong_if(set(starts) != set(STARTS), f"`start` should hold {list(STARTS)}, found {starts}")
    tuned = f"seed {tuning_seed} is there, on which the rates were chosen; compare on seeds that chose nothing"
    wrong_if(tuning_seed in set(table["seed"]), tuned)
    found = {start: sorted(set(rows["seed"])) for start, rows in table.groupby("start")}
    unequal = any(own != sorted(seeds) for own in found.values())
    wrong_if(unequal, f"both methods should have the seeds {list(seeds)}, found {found}")
    wrong_if(table.duplicated(["start", "seed", "epoch"]).any(), "an epoch appears twice in one run")
    wrong_if(table["epoch"].min() == 0, "epochs are counted from 1: epoch 1 is the result of one pass over the images")
    lengths = table.groupby(["start", "seed"])["epoch"].agg(["size", "max"])
    shortest = f"every run should have the epochs 1 to {epochs}; one has {lengths['size'].min()} rows"
    wrong_if((lengths != epochs).any(axis=None), shortest)
    wide = table.pivot(index=["start", "epoch"], columns="seed", values="val")
    wrong_if((wide.nunique(axis=1) == 1).all(), "every seed gives the same curve: is the seed passed on to `one_run`?")
    same = wide.loc["pre-trained"].equals(wide.loc["scratch"])
    wrong_if(same, "both methods give the same curves: is `start` passed on to `one_run`?")
    return f"{len(lengths)} runs of {epochs} epochs, the same seeds for both methods"
