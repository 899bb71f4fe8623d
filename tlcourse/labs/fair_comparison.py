"""Lab 4's checks of a fair comparison: settings, starting points, learning rates, runs."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from tlcourse.labs.answers import about, as_number, draws, expect, expect_keys, expect_scores, wrong_any, wrong_if
from tlcourse.labs.lab import Wrong
from tlhelpers.models.loading import load_model

STARTS, CLASSES = ("pre-trained", "scratch"), 8
TRANSFER: dict[str, Any] = {  # as in the notebook, where a learner may have edited it
    **{"architecture": "resnet18", "weights": "pre-trained", "size": 64, "images": 96, "epochs": 2, "batch_size": 32},
    **{"augment": True, "optimizer": "AdamW", "schedule": "cosine", "learning_rates": [1e-4, 3e-4, 1e-3]},
    **{"chosen_by": "validation loss", "tuning_seed": 100, "seeds": [0, 1]},
}
UNFAIR = {  # why a setting must not differ
    "chosen_by": "one rule for both, and never the test set: it would judge what it has chosen",
    "tuning_seed": "learning rates that are chosen on other images have not had the same test",
    "seeds": "other seeds draw other images, and then there is nothing to subtract seed by seed",
    "images": "as many images are seen, but from a set of another size: more different images teach more",
    "architecture": "another network may be better or worse by itself",
    "size": "larger images show more, whatever the weights were",
    "batch_size": "other batches mean another number of steps",
    **dict.fromkeys(("augment", "schedule", "optimizer", "epochs"), "it may help or harm by itself"),
}


def settings(scratch: Any, *, transfer: Mapping[str, Any]) -> str:
    """The settings of training from scratch that make it comparable with transfer."""
    again, key = "Run the cell of `transfer` again, then give `scratch`", "learning_rates"
    alias = "`scratch` is not a copy but an alias, a second name of `transfer`: a change to one changes both."
    wrong_if(scratch is transfer, f"{alias} {again} a dictionary of its own")
    expect_keys(scratch, TRANSFER, "expected a dictionary such as `transfer`")
    changed = [name for name, value in TRANSFER.items() if transfer.get(name) != value]
    shared = key in changed and scratch[key] is transfer.get(key)
    wrong_if(shared, f"both dictionaries hold the same list of learning rates, and it was changed. {again} a new list")
    wrong_any(changed, f"'{{}}' was changed in the given `transfer`. {again} other values, and not `transfer`")
    wrong_any((name for name in scratch if name not in TRANSFER), "'{}' is something that only this method has")
    own, rates, other = scratch["weights"], scratch[key], TRANSFER[key]
    wrong_if(own == TRANSFER["weights"], "both start from the same weights; that is the one thing that should differ")
    wrong_if(own != "none", f"weights: '{own}' is not from scratch; `tl.load_model` calls random numbers 'none'")
    expect(rates, list | tuple, "expected a list of learning rates to try")
    odd = any(not 0 < as_number(rate, "a learning rate") < 1 for rate in rates)
    wrong_if(odd, "learning rates are positive and far below 1")
    wrong_if(len(set(rates)) < len(rates), "the same learning rate twice is one try")
    unequal = len(rates) != len(other)
    wrong_if(unequal, f"one method tries {len(other)}, the other {len(rates)}; the best of more tries is luckier")
    wrong_if(max(rates) <= max(other), "small ones keep what was learned; here is nothing to keep: try larger ones")
    lucky = scratch["tuning_seed"] in scratch["seeds"]
    wrong_if(lucky, "the seed that chose the learning rates is compared too; a run that won a choice was lucky")
    seen, given = (method["images"] * method["epochs"] for method in (scratch, TRANSFER))
    favoured = f"{'scratch' if seen > given else 'transfer'} is favoured"
    wrong_if(seen != given, f"the budgets differ: {seen} images seen from scratch, {given} with transfer; {favoured}")
    for key, reason in UNFAIR.items():
        wrong_if(scratch[key] != TRANSFER[key], f"{key}: {scratch[key]!r} here, {TRANSFER[key]!r} there; {reason}")
    return f"{len(TRANSFER) - 2} settings are equal; the weights differ, and each method has learning rates of its own"


def beginnings(function: Any) -> str:
    """A function (start, seed) that returns networks which differ in their weights only, ready to be trained."""
    first, second = draws().choice(50, 2, replace=False).tolist()
    networks = {(start, seed): function(start, seed) for start in STARTS for seed in (first, second)}
    again = {start: function(start, first) for start in STARTS}
    original = load_model("resnet18", size=TRANSFER["size"])
    learned = {name: tensor for name, tensor in original.state_dict().items() if not name.startswith("fc.")}
    shapes = {name: tensor.shape for name, tensor in learned.items()}
    for (start, _), model in networks.items():
        expect(model, nn.Module, f"for '{start}' it should return a network")
        own = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
        wrong_if(own != shapes, f"'{start}' is no ResNet18; another architecture is another comparison")
        outputs = model.fc.out_features
        wrong_if(outputs != CLASSES, f"the head of '{start}' has {outputs} outputs, and there are {CLASSES} classes")
        frozen = (name for name, parameter in model.named_parameters() if not parameter.requires_grad)
        wrong_any(frozen, f"'{{}}' of '{start}' is frozen; here both methods train everything")
        other = f"'{start}' prepares images differently: {model.card.preprocessing}; give both the same `size`"
        wrong_if(model.card.preprocessing != original.card.preprocessing, other)
    shared = len({id(model) for model in (*networks.values(), *again.values())}) < 6
    wrong_if(shared, "it returns one network several times; a second run would go on where the first one ended")
    states = {start: networks[start, second].state_dict() for start in STARTS}
    kept = {start: [name for name, x in learned.items() if torch.equal(x, states[start][name])] for start in STARTS}
    trained, scratch = ("conv1.weight" in kept[start] for start in STARTS)
    wrong_if(scratch and not trained, "they are swapped: 'scratch' is pre-trained, 'pre-trained' has random numbers")
    wrong_if(scratch, "'scratch' starts from the pre-trained weights: `weights=` of `tl.load_model`")
    wrong_if(not trained, "'pre-trained' starts from random numbers: `weights=` of `tl.load_model`")
    lost = (name for name in learned if name not in kept["pre-trained"])
    wrong_any(lost, "'{}' of 'pre-trained' is not what was learned; was the network initialised again?")
    wrong_any(kept["scratch"], "'{}' of 'scratch' still holds what was learned; from scratch everything is new")
    same = torch.equal(networks["scratch", first].conv1.weight, networks["scratch", second].conv1.weight)
    wrong_if(same, "from scratch every seed starts from the same random numbers: pass the seed on")
    same = torch.equal(networks["pre-trained", first].fc.weight, networks["pre-trained", second].fc.weight)
    wrong_if(same, "the new head of 'pre-trained' is the same for every seed: pass the seed on there too")
    odd = (start for start in STARTS if not torch.equal(again[start].fc.weight, networks[start, first].fc.weight))
    wrong_any(odd, "'{}' with the same seed has another head each time; the seed must decide on all random numbers")
    return "one architecture, the same preprocessing, two starting points; each seed has its own random numbers"


def _lowest(tries: pd.DataFrame) -> dict[str, list[float]]:
    """For each start the learning rates with the lowest validation loss: one, or several that tie."""
    wrong_if(tries.empty, "the table `tries` is empty; exercises 1 and 2 come first")
    best = tries[tries["val_loss"] == tries.groupby("start")["val_loss"].transform("min")]
    return {start: best.loc[best["start"] == start, "learning_rate"].tolist() for start in STARTS}


def rates(answer: Any, *, tries: pd.DataFrame) -> str:
    """For each start the learning rate with the lowest validation loss among its own tries; both may be equal."""
    best, answer = _lowest(tries), answer.to_dict() if isinstance(answer, pd.Series) else answer
    expect(answer, Mapping, "expected a dictionary from the start to its learning rate")
    wrong_if(set(answer) != set(STARTS), f"expected the keys {list(STARTS)}, found {sorted(map(str, answer))}")
    found = {start: as_number(answer[start], f"the learning rate of '{start}'") for start in STARTS}
    missed = [start for start in STARTS if not any(math.isclose(found[start], rate) for rate in best[start])]
    swapped = len(missed) == 2 and all(found[a] in best[b] for a, b in (STARTS, STARTS[::-1]))
    wrong_if(swapped, "the two are swapped: each method has the learning rate that suits the other one")
    one = missed and found["scratch"] == found["pre-trained"] == tries.sort_values("val_loss")["learning_rate"].iloc[0]
    wrong_if(one, "both have the learning rate of the best row of all; look among each method's own rows of `tries`")
    for start in missed:
        own, rate = tries[tries["start"] == start], found[start]
        with about(f"{start}: {rate:g}"):
            if not any(math.isclose(rate, known) for known in own["learning_rate"]):
                wrong_if(rate in tries.index, "that is the number of a row; take its `learning_rate`")
                raise Wrong(f"it was not tried; choose among {', '.join(f'{r:g}' for r in own['learning_rate'])}")
            mistakes = {
                "that has the highest validation accuracy; the rule is the lowest loss": own["val_accuracy"].idxmax(),
                "that is the best on the training images; choose on validation images": own["train_loss"].idxmin(),
                "that is the worst, with the highest validation loss": own["val_loss"].idxmax(),
                "that is the largest one, not the one with the lowest loss": own["learning_rate"].idxmax(),
            }
            wrong_any((text for text, row in mistakes.items() if tries.at[row, "learning_rate"] == rate), "{}")
            raise Wrong("another learning rate has a lower validation loss")
    return ", ".join(f"{start} {found[start]:g}" for start in STARTS)


def live(table: Any, *, tries: pd.DataFrame) -> str:
    """The tables of `one_run` for both methods and the seeds asked for, one below the other."""
    seeds, epochs, tuned = (TRANSFER[key] for key in ("seeds", "epochs", "tuning_seed"))
    wrong_if(isinstance(table, list), "it is a list; `pd.concat` makes one table of a list of tables")
    expect_scores(table, "start", "seed", "learning_rate", "epoch", "seconds", "val_accuracy")
    starts, on = sorted(set(table["start"])), "is `start` passed on to `one_run`?"
    wrong_if(starts != list(STARTS), f"`start` should hold {list(STARTS)}, found {starts}: {on}")
    chose = tuned in set(table["seed"])
    wrong_if(chose, f"seed {tuned} is there, which chose the learning rates; compare on seeds that chose nothing")
    found = {start: sorted(map(int, set(rows["seed"]))) for start, rows in table.groupby("start")}
    wrong_if(any(own != seeds for own in found.values()), f"both methods should have the seeds {seeds}, found {found}")
    wrong_if(table.duplicated(["start", "seed", "epoch"]).any(), "a run is there twice")
    counts = table.groupby(["start", "seed"]).size()
    wrong_if((counts != epochs).any(), f"every run should have {epochs} rows, one an epoch; one has {counts.min()}")
    best = _lowest(tries)
    for start, other in (STARTS, STARTS[::-1]):
        odd = [rate for rate in table.loc[table["start"] == start, "learning_rate"] if rate not in best[start]]
        wrong_if(odd and odd[0] in best[other], f"'{start}' was trained with the learning rate chosen for '{other}'")
        wrong_any(odd, f"'{start}' was trained with the learning rate {{:g}}, which was not chosen")
    wide = table.pivot(index=["start", "epoch"], columns="seed", values="val_accuracy")
    wrong_if((wide.nunique(axis=1) == 1).all(), "every seed gives the same curve: is the seed passed on to `one_run`?")
    wrong_if(wide.loc["pre-trained"].equals(wide.loc["scratch"]), f"both methods give the same rows: {on}")
    return f"{len(counts)} runs of {epochs} epochs, the same seeds for both methods"
