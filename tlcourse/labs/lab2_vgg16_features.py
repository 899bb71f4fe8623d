"""The exercises of lab 2: an extractor, shapes, features once, a classifier, choices, neighbours, a map, a curve."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import nn

from tlcourse.labs.answers import choice, compare
from tlcourse.labs.extracting import extraction
from tlcourse.labs.feature_functions import epoch, flat_map, nearest, pool, scaling
from tlcourse.labs.lab import Exercise, Wrong
from tlhelpers.models.families import get_head

ASKED = ("block1", "block3", "block5")


def extractor(model: Any, *, like: Any, classes: int) -> str:
    """A network that gives what goes into the head, with the pre-trained weights, in evaluation mode, frozen.

    `like` is the network as it was loaded; `classes` is how many the data has.
    """
    if not isinstance(model, nn.Module):
        raise Wrong(f"expected the network, found {type(model).__name__}")
    if model is like:
        raise Wrong("that is `network` itself, changed; it is still needed as it was, so load VGG16 once more")
    size = like.card.preprocessing.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    truth, found = _into_head(like, images), _output(model, images)
    _right_shape(found, truth, old=get_head(like).out_features, classes=classes)
    random_ones = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    if any(module.training for module in model.modules() if isinstance(module, random_ones)):
        raise Wrong("it is in training mode: Dropout strikes out numbers at random, so one image has many features")
    asking = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if asking:
        raise Wrong(f"'{asking[0]}' still asks for gradients; an extractor is never trained, so switch them off")
    first, wanted = next(model.parameters(), None), next(like.parameters())
    if first is None or first.shape != wanted.shape or not torch.equal(first.detach().cpu(), wanted.detach().cpu()):
        raise Wrong("the weights are not the pre-trained ones: are they random, or has something trained them?")
    if not torch.allclose(found, truth, rtol=1e-3, atol=1e-4):
        raise Wrong(
            "the weights are right, and other numbers come out than go into the head: what was put in its place?"
        )
    if not hasattr(model, "card"):
        raise Wrong(
            "it has lost its `card`, which says how images are prepared; replace the head in the loaded network"
        )
    return f"an image becomes {found.shape[1]} numbers, always the same ones"


def _right_shape(found: Any, truth: torch.Tensor, *, old: int, classes: int) -> None:
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"it should give a tensor, and it gives {type(found).__name__}")
    if found.ndim == 4:
        raise Wrong(
            f"it gives maps {tuple(found.shape[1:])}: pooling and flattening were cut off too, cut the head only"
        )
    if found.ndim != 2 or len(found) != len(truth):
        raise Wrong(f"two images should give a tensor (2, {truth.shape[1]}), and they give {tuple(found.shape)}")
    width = found.shape[1]
    if width == truth.shape[1]:
        return
    if width == old:
        raise Wrong(f"it gives {width} numbers, one for each class of its old task: the head is still on")
    if width == classes:
        raise Wrong(f"it gives {width} numbers, one for each of your classes: that is a new head with random weights")
    raise Wrong(f"it gives {width} numbers, and {truth.shape[1]} go into the head: was too much or too little cut off?")


def _into_head(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    given: list[torch.Tensor] = []
    hook = get_head(model).register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().float().cpu()))
    try:
        _output(model, images)
    finally:
        hook.remove()
    return given[0]


def _output(model: nn.Module, images: torch.Tensor) -> Any:
    parameter = next(model.parameters(), None)
    with torch.no_grad():
        found = model(images if parameter is None else images.to(parameter.device))
    return found.float().cpu() if isinstance(found, torch.Tensor) else found


def shapes(answer: Any, *, model: nn.Module, size: int) -> str:
    """A dictionary from three blocks to the shape (channels, height, width) of what they give."""
    if not isinstance(answer, dict):
        raise Wrong(f"expected a dictionary such as {{'block1': (3, 8, 8)}}, found {type(answer).__name__}")
    missing = [name for name in ASKED if name not in answer]
    if missing:
        raise Wrong(f"'{missing[0]}' is missing")
    truth = _block_shapes(model, size)
    for name in ASKED:
        found = answer[name]
        if not isinstance(found, tuple | list | torch.Size) or not all(isinstance(n, int) for n in found):
            raise Wrong(f"{name}: expected three whole numbers (channels, height, width), found {found!r}")
        if tuple(found) != truth[name]:
            raise Wrong(f"{name}: {_shape_slip(tuple(found), truth[name], size)}")
    return "each block halves height and width at its end, and all but the last bring more channels"


def _shape_slip(found: tuple[int, ...], right: tuple[int, int, int], size: int) -> str:
    channels, height, width = right
    if len(found) != 3:
        return f"{found} has {len(found)} numbers; give (channels, height, width) of one image, without the batch"
    if found == (height, width, channels):
        return "in PyTorch channels come before height and width"
    if found == (channels, 2 * height, 2 * width):
        return "that is before the pooling which ends the block"
    if size != 224 and found[0] == channels and found[1] == 224 * height // size:
        return f"that would be for 224 pixels, as in the original article; these images have {size}"
    if found[1:] == (height, width):
        return "height and width are right, the channels are not: which convolution is the block's last?"
    if found[0] == channels:
        return f"the channels are right; height and width are not: how often has {size} been halved by then?"
    return f"{found} is not it; go through the list of layers, convolutions keep height and width, poolings halve them"


def _block_shapes(model: nn.Module, size: int) -> dict[str, tuple[int, int, int]]:
    found: dict[str, tuple[int, int, int]] = {}
    value = torch.zeros(1, 3, size, size, device=next(model.parameters()).device)
    with torch.no_grad():
        for layer in model.get_submodule("features").children():
            value = layer(value)
            if isinstance(layer, nn.MaxPool2d):
                channels, height, width = value.shape[1:]
                found[f"block{len(found) + 1}"] = (channels, height, width)
    return found


def chosen(answer: Any, final: Any, *, table: pd.DataFrame) -> str:
    """A pair (layer, pooling) with the best mean validation accuracy, and the mean test accuracy of that pair.

    `table` has the columns layer, pooling, seed, val, test.
    """
    if isinstance(answer, str) or not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Wrong(f"the choice should be a pair such as ('block3', 'max'), found {type(answer).__name__}")
    pair = tuple(answer)
    means = table.groupby(["layer", "pooling"])[["val", "test"]].mean()
    if pair not in means.index:
        raise Wrong(f"there is no row for {pair}; first the layer, then the pooling")
    val, test = means["val"], means["test"]
    if val[pair] < val.max() - 1e-9:
        single = table.sort_values("val").iloc[-1]
        if test[pair] == test.max():
            raise Wrong("that is the best on the test set; whoever chooses there has no honest number left to report")
        if val[pair] == val.min():
            raise Wrong("that has the worst validation accuracy; take idxmax and not idxmin")
        if pair == (single["layer"], single["pooling"]):
            raise Wrong("that is the luckiest single run; average over seeds first")
        raise Wrong(f"{pair} has not the best mean validation accuracy")
    of_pair = table.loc[(table["layer"] == pair[0]) & (table["pooling"] == pair[1]), "test"]
    slips = {
        100 * float(test[pair]): "the final number is in per cent; give a fraction",
        float(
            val[pair]
        ): "the final number is the validation accuracy, which is too kind since it was used for choosing",
        float(test.max()): "the final number is the best of all test accuracies, not that of your choice",
        float(of_pair.max()): "the final number is that of one seed",
    }
    value = compare(final, float(test[pair]), "the final number", slips)
    return f"{pair[0]}, {pair[1]}: {value:.1%} of the test images, which had no say in it"


reading = choice(
    "C",
    {
        "A": "t-SNE spreads dense groups and draws sparse ones together, so the size of a group says nothing.",
        "B": "Distances between groups are hardly kept, and another seed or perplexity places the groups elsewhere.",
        "C": "t-SNE tries to keep neighbours together, and little else can be read: check the rest in all dimensions.",
        "D": "A map is drawn of images it has seen; how often a classifier is right is measured on new ones.",
    },
)


def curve(table: Any, *, counts: tuple[int, ...], seeds: int) -> str:
    """A table with the columns per_class, seed, accuracy: every count with the same seeds."""
    if not isinstance(table, pd.DataFrame):
        raise Wrong(f"expected a DataFrame, found {type(table).__name__}")
    missing = {"per_class", "seed", "accuracy"} - set(table.columns)
    if missing:
        raise Wrong(f"the column '{sorted(missing)[0]}' is missing")
    absent = [count for count in counts if count not in set(table["per_class"])]
    if absent:
        raise Wrong(f"the number {absent[0]} is missing in the column per_class")
    if not pd.api.types.is_numeric_dtype(table["accuracy"]) or table["accuracy"].isna().any():
        raise Wrong("the accuracies should be numbers, and all be there")
    if (table["accuracy"] > 1).any():
        raise Wrong("some accuracies are above 1: give fractions, not per cent")
    if (table["accuracy"] == 1).all():
        raise Wrong("every accuracy is 1: were the images that it learned from scored, and not the validation set?")
    by_count = {count: sorted(table.loc[table["per_class"] == count, "seed"]) for count in counts}
    if any(len(set(found)) < len(found) for found in by_count.values()):
        raise Wrong("a seed appears twice for the same number of images")
    if min(len(found) for found in by_count.values()) < seeds:
        raise Wrong(f"one number of images has fewer than {seeds} seeds")
    if len({tuple(found) for found in by_count.values()}) > 1:
        raise Wrong("the numbers of images have different seeds; only equal seeds make a fair curve")
    if (table.groupby("seed")["accuracy"].nunique() == 1).all():
        raise Wrong("every number of images gives the same accuracy: are features and labels of the chosen ones used?")
    if (table.groupby("per_class")["accuracy"].nunique() == 1).all():
        raise Wrong("every seed gives the same accuracy: does another seed choose other images?")
    groups = table.groupby("per_class")["accuracy"]
    return ", ".join(
        f"{count}: {100 * groups.mean()[count]:.0f} ± {100 * groups.std()[count]:.0f} %" for count in counts
    )


EXERCISES = (
    Exercise("extractor", "1 The extractor", extractor),
    Exercise("shapes", "2 Shapes", shapes),
    Exercise("features", "3 Extract once", extraction),
    Exercise("scale", "4a Standardise", scaling),
    Exercise("epoch", "4b An epoch", epoch),
    Exercise("pool", "5a Three poolings", pool),
    Exercise("choose", "5b Choose", chosen),
    Exercise("neighbours", "6 Nearest neighbours", nearest),
    Exercise("map", "7a A map", flat_map),
    Exercise("reading", "7b Read it", reading),
    Exercise("curve", "8 How many images", curve),
)
