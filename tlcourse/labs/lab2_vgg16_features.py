"""The exercises of lab 2; its checks of functions that the learner writes are in `feature_functions`."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from tlcourse.labs import feature_functions as functions
from tlcourse.labs.answers import about, choice, compare, expect, expect_keys, wrong_any, wrong_if
from tlcourse.labs.lab import Exercise
from tlcourse.looking_inside.activations import activations


def extractor(model: Any, *, like: Any, classes: int) -> str:
    """A network that returns the input of its head: pre-trained like `like`, in evaluation mode, and frozen."""
    expect(model, nn.Module, "expected the network")
    wrong_if(model is like, "that is `network` itself, changed; it is still needed as it was, so load VGG16 once more")
    head, size, seen = like.classifier[-1], like.card.preprocessing.size, list[torch.Tensor]()
    wrong_if(not isinstance(head, nn.Linear), "`network` lost its head, too: run its cell again, and load VGG16 anew")
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu())):
        found = [each(images.to(next(each.parameters(), images).device)) for each in (like, model)][1]
    expect(found, torch.Tensor, "its output should be a tensor")
    shape, width = tuple(found.shape), seen[0].shape[1]
    wrong_if(len(shape) == 4, f"it gives maps {shape[1:]}: pooling and flattening were cut off too, cut the head only")
    wrong_if(shape[:-1] != (2,), f"two images should give a tensor (2, {width}), and they give {shape}")
    gives, old = f"it gives {shape[1]} numbers,", head.out_features
    wrong_if(shape[1] == old, f"{gives} one for each class of its old task: the head is still on")
    wrong_if(shape[1] == classes, f"{gives} one for each of your classes: that is a new head with random weights")
    wrong_if(shape[1] != width, f"{gives} and {width} go into the head: was too much or too little cut off?")
    training = any(module.training and isinstance(module, nn.Dropout) for module in model.modules())
    wrong_if(training, "it is in training mode: Dropout sets random numbers to 0, so one image has many features")
    trainable = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    wrong_any(trainable, "'{}' still has gradients; an extractor is never trained, so switch them off")
    pairs = zip(model.state_dict().values(), like.state_dict().values(), strict=False)
    changed = any(a.shape == b.shape and not torch.equal(a.cpu(), b.cpu()) for a, b in pairs)
    wrong_if(changed, "the weights are not the pre-trained ones: are they random, or has something trained them?")
    other = not torch.allclose(found.float().cpu(), seen[0], rtol=1e-3, atol=1e-4)
    wrong_if(other, "the weights are right, but the output is not the head's input: what was put in its place?")
    wrong_if(not hasattr(model, "card"), "it has lost its `card`; replace the head inside the loaded network")
    wrong_if(model.card.preprocessing.size != size, f"its card is not for {size} pixels: load it with `size=SIZE`")
    return f"an image becomes {width} numbers, always the same ones"


def shapes(answer: Any, *, model: nn.Module, size: int) -> str:
    """A dictionary from three blocks to the shape (channels, height, width) of their output."""
    asked, maps = ("block1", "block3", "block5"), activations(model, torch.zeros(1, 3, size, size))
    expect_keys(answer, asked, "expected a dictionary such as {'block1': (3, 8, 8)}")
    for name in asked:
        with about(name):
            right, found = tuple(maps[name].shape[1:]), answer[name]
            three = isinstance(found, tuple | list) and all(isinstance(n, int) for n in found)
            wrong_if(not three, f"expected three whole numbers (channels, height, width), found {found!r}")
            wrong_if(len(found) != 3, f"{found} has {len(found)} numbers; give (channels, height, width), no batch")
            (channels, height, width), last = right, "height and width are right, the channels are not"
            mistakes = {
                "in PyTorch channels come before height and width": (height, width, channels),
                "that is before the pooling at the end of the block": (channels, 2 * height, 2 * width),
                f"that would be for 224 pixels; these images have {size}": (channels, *[224 * height // size] * 2),
                f"{last}: which convolution is the block's last?": (found[0], height, width),
                f"the channels are right; how often has {size} been halved by then?": (channels, *found[1:]),
                f"{found} is not it; convolutions keep height and width here, poolings halve them": tuple(found),
            }
            wrong_any((slip for slip, value in mistakes.items() if tuple(found) == value != right), "{}")
    return "each block halves height and width at its end, and all but the last bring more channels"


def read(accuracy: Any, baseline: Any, hardest: Any, *, outputs: pd.DataFrame, data: Any) -> str:
    """What a table of validation outputs says: accuracy, that of the most frequent class, and the worst class."""
    truth, shares = np.array(data.classes)[data.val.labels], data.train.counts() / len(data.train)
    right, named = pd.Series(outputs.idxmax(axis=1).to_numpy() == truth), np.mean(truth == shares.idxmax())
    mistakes = {"that is in per cent; give a fraction": 100 * right.mean(), "that is the error": 1 - right.mean()}
    compare(accuracy, right.mean(), "the accuracy", mistakes)
    mistakes = {
        "that is the share of the training images; the baseline is measured on validation": shares.max(),
        "that is a random guess; the baseline names the most frequent training class": 1 / len(shares),
        "the baseline is in per cent; give a fraction": 100 * named,
    }
    compare(baseline, named, "the baseline", mistakes)
    recall = right.groupby(truth).mean()
    wrong_if(str(hardest) not in recall, f"`hardest` is the name of a class, found {type(hardest).__name__} {hardest}")
    wrong_if(recall[hardest] == recall.max() > recall.min(), f"'{hardest}' is right most often")
    wrong_if(recall[hardest] > recall.min(), f"another class has a smaller share of right images than '{hardest}'")
    return f"{right.mean():.0%} against {named:.0%}; hardest is '{hardest}' with {recall.min():.0%}"


def chosen(answer: Any, final: Any, *, scores: pd.DataFrame) -> str:
    """The pair (layer, pooling) with the best mean `val` over seeds in the table, and the mean `test` of that pair."""
    two = isinstance(answer, tuple | list) and len(answer) == 2
    wrong_if(not two, f"the choice should be a pair such as ('block3', 'max'), found {type(answer).__name__}")
    pair, runs = tuple(answer), scores.set_index(["layer", "pooling"]).sort_index()
    wrong_if(pair not in runs.index, f"there is no row for {pair}; first the layer, then the pooling")
    val, test = (runs.groupby(level=[0, 1])[column].mean() for column in ("val", "test"))
    slips = {
        "that is the best on the test set; after choosing there, no honest number is left to report": test.idxmax(),
        "that has the worst validation accuracy; take idxmax and not idxmin": val.idxmin(),
        "that is the luckiest single run; average over seeds first": runs["val"].idxmax(),
        **{f"that is the best of seed {s} alone; average": own["val"].idxmax() for s, own in runs.groupby("seed")},
        f"{pair} has not the best mean validation accuracy": pair,
    }
    wrong_any((slip for slip, value in slips.items() if pair == value and val[pair] < val.max() - 1e-9), "{}")
    mistakes = {
        "the final number is in per cent; give a fraction": 100 * test[pair],
        "the final number is the validation accuracy, which is too high since it was used for choosing": val[pair],
        "the final number is the best of all test accuracies, not that of your choice": test.max(),
        "the final number is the mean of all test accuracies, not that of your choice": runs["test"].mean(),
        **{f"the final number is that of seed {row.seed} alone": row.test for row in runs.loc[[pair]].itertuples()},
    }
    value = compare(final, test[pair], "the final number", mistakes)
    return f"{pair[0]}, {pair[1]}: {value:.1%} of the test images, which played no part in the choice"


EXERCISES = (
    Exercise("extractor", "1 The extractor", extractor),
    Exercise("shapes", "2 Shapes", shapes),
    Exercise("features", "3 Extract once", functions.extraction, function=True),
    Exercise("scale", "4 Standardise", functions.scaling, function=True),
    Exercise("epoch", "5 An epoch", functions.epoch, function=True),
    Exercise("classifier", "6 The classifier", functions.classifier, function=True),
    Exercise("read", "7 Read the result", read, vary=("outputs",)),
    Exercise("pool", "8 Three poolings", functions.pool, function=True, extension=True),
    Exercise("choose", "9 Choose", chosen, extension=True, vary=("scores",)),
    Exercise("neighbours", "10 Nearest neighbours", functions.nearest, function=True, extension=True),
    Exercise("reading", "11 Read a map", choice("lab2", "reading"), extension=True),
)
