"""The exercises of lab 2; its checks of functions that the learner writes are in `feature_functions`."""

from typing import Any

import pandas as pd
import torch
from torch import nn

from tlcourse.labs import feature_functions as functions
from tlcourse.labs.answers import about, choice, compare, expect, expect_keys, expect_runs, wrong_any, wrong_if
from tlcourse.labs.lab import Exercise, Wrong
from tlcourse.looking_inside.activations import activations
from tlhelpers.models.families import get_head

ASKED = ("block1", "block3", "block5")


def extractor(model: Any, *, like: Any, classes: int) -> str:
    """A network that returns the input of its head: pre-trained like `like`, in evaluation mode, and frozen."""
    expect(model, nn.Module, "expected the network")
    wrong_if(model is like, "that is `network` itself, changed; it is still needed as it was, so load VGG16 once more")
    size = like.card.preprocessing.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    into_head: list[torch.Tensor] = []
    with get_head(like).register_forward_pre_hook(lambda _, inputs: into_head.append(inputs[0].float().cpu())):
        _output(like, images)
    truth, found = into_head[0], _output(model, images)
    expect(found, torch.Tensor, "its output should be a tensor")
    shape, width = tuple(found.shape), truth.shape[1]
    wrong_if(len(shape) == 4, f"it gives maps {shape[1:]}: pooling and flattening were cut off too, cut the head only")
    wrong_if(shape[:-1] != (2,), f"two images should give a tensor (2, {width}), and they give {shape}")
    if shape[1] != width:
        text, old = f"it gives {shape[1]} numbers,", get_head(like).out_features
        wrong_if(shape[1] == old, f"{text} one for each class of its old task: the head is still on")
        wrong_if(shape[1] == classes, f"{text} one for each of your classes: that is a new head with random weights")
        raise Wrong(f"{text} and {width} go into the head: was too much or too little cut off?")
    random_layers = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    training = any(module.training for module in model.modules() if isinstance(module, random_layers))
    wrong_if(training, "it is in training mode: Dropout sets random numbers to 0, so one image has many features")
    trainable = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    wrong_any(trainable, "'{}' still has gradients; an extractor is never trained, so switch them off")
    weights, expected = (next(iter(network.state_dict().values()), torch.empty(0)).cpu() for network in (model, like))
    changed, other = not torch.equal(weights, expected), not torch.allclose(found, truth, rtol=1e-3, atol=1e-4)
    wrong_if(changed, "the weights are not the pre-trained ones: are they random, or has something trained them?")
    wrong_if(other, "the weights are right, but the output is not the head's input: what was put in its place?")
    bare = "it has lost its `card`, which says how to prepare images; replace the head in the loaded network"
    wrong_if(not hasattr(model, "card"), bare)
    return f"an image becomes {width} numbers, always the same ones"


def _output(model: nn.Module, images: torch.Tensor) -> Any:
    with torch.no_grad():
        found = model(images.to(next(model.parameters(), images).device))
    return found.float().cpu() if isinstance(found, torch.Tensor) else found


def shapes(answer: Any, *, model: nn.Module, size: int) -> str:
    """A dictionary from three blocks to the shape (channels, height, width) of their output."""
    expect_keys(answer, ASKED, "expected a dictionary such as {'block1': (3, 8, 8)}")
    maps = activations(model, torch.zeros(1, 3, size, size))
    for name in ASKED:
        with about(name):
            found = answer[name]
            three = isinstance(found, tuple | list) and all(isinstance(n, int) for n in found)
            wrong_if(not three, f"expected three whole numbers (channels, height, width), found {found!r}")
            right = tuple(maps[name].shape[1:])
            wrong_if(tuple(found) != right, _shape_mistake(tuple(found), right, size))
    return "each block halves height and width at its end, and all but the last bring more channels"


def _shape_mistake(found: tuple[int, ...], right: tuple[int, ...], size: int) -> str:
    channels, height, width = right
    if len(found) != 3:
        return f"{found} has {len(found)} numbers; give (channels, height, width) of one image, without the batch"
    if found == (height, width, channels):
        return "in PyTorch channels come before height and width"
    if found == (channels, 2 * height, 2 * width):
        return "that is before the pooling at the end of the block"
    if size != 224 and found[:2] == (channels, 224 * height // size):
        return f"that would be for 224 pixels, as in the original article; these images have {size}"
    if found[1:] == right[1:]:
        return "height and width are right, the channels are not: which convolution is the block's last?"
    if found[0] == channels:
        return f"the channels are right; height and width are not: how often has {size} been halved by then?"
    return f"{found} is not it; in the list of layers, convolutions keep height and width, poolings halve them"


def chosen(answer: Any, final: Any, *, table: pd.DataFrame) -> str:
    """The pair (layer, pooling) with the best mean `val` over seeds in the table, and the mean `test` of that pair."""
    two = isinstance(answer, tuple | list) and len(answer) == 2
    wrong_if(not two, f"the choice should be a pair such as ('block3', 'max'), found {type(answer).__name__}")
    pair, means = tuple(answer), table.groupby(["layer", "pooling"])[["val", "test"]].mean()
    wrong_if(pair not in means.index, f"there is no row for {pair}; first the layer, then the pooling")
    val, test = means["val"], means["test"]
    if val[pair] < val.max() - 1e-9:
        single = table.sort_values("val").iloc[-1]
        on_test, lucky = test[pair] == test.max(), pair == (single["layer"], single["pooling"])
        wrong_if(on_test, "that is the best on the test set; after choosing there, no honest number is left to report")
        wrong_if(val[pair] == val.min(), "that has the worst validation accuracy; take idxmax and not idxmin")
        wrong_if(lucky, "that is the luckiest single run; average over seeds first")
        raise Wrong(f"{pair} has not the best mean validation accuracy")
    mistakes = {
        "the final number is in per cent; give a fraction": 100 * test[pair],
        "the final number is the validation accuracy, which is too high since it was used for choosing": val[pair],
        "the final number is the best of all test accuracies, not that of your choice": test.max(),
        "the final number is that of one seed": table.groupby(["layer", "pooling"])["test"].max()[pair],
    }
    value = compare(final, test[pair], "the final number", mistakes)
    return f"{pair[0]}, {pair[1]}: {value:.1%} of the test images, which played no part in the choice"


reading = choice(
    "C",
    A="t-SNE spreads dense groups and draws sparse ones together, so the size of a group says nothing.",
    B="Distances between groups are hardly kept, and another seed or perplexity places the groups elsewhere.",
    C="t-SNE tries to keep neighbours together, and little else can be read: check the rest in all dimensions.",
    D="A map is drawn of images it has seen; how often a classifier is right is measured on new ones.",
)


def curve(table: Any, *, counts: tuple[int, ...], seeds: int) -> str:
    """A table with the columns per_class, seed, accuracy: every number of images with the same seeds."""
    expect_runs(table, "per_class", counts, seeds, "number of images")
    wrong_if((table["accuracy"] == 1).all(), "every accuracy is 1: were the training images scored instead?")
    one, other = ((table.groupby(by)["accuracy"].nunique() == 1).all() for by in ("seed", "per_class"))
    wrong_if(one, "every number of images gives the same accuracy: are features and labels of the chosen ones used?")
    wrong_if(other, "every seed gives the same accuracy: does another seed choose other images?")
    groups = 100 * table.groupby("per_class")["accuracy"].agg(["mean", "std"])
    return ", ".join(f"{count}: {groups['mean'][count]:.0f} ± {groups['std'][count]:.0f} %" for count in counts)


EXERCISES = (
    Exercise("extractor", "1 The extractor", extractor),
    Exercise("shapes", "2 Shapes", shapes),
    Exercise("features", "3 Extract once", functions.extraction, function=True),
    Exercise("scale", "4a Standardise", functions.scaling, function=True),
    Exercise("epoch", "4b An epoch", functions.epoch, function=True),
    Exercise("pool", "5a Three poolings", functions.pool, function=True),
    Exercise("choose", "5b Choose", chosen),
    Exercise("neighbours", "6 Nearest neighbours", functions.nearest, function=True),
    Exercise("map", "7a A map", functions.flat_map, function=True),
    Exercise("reading", "7b Read it", reading),
    Exercise("curve", "8 How many images", curve),
)
