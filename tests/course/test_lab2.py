"""Lab 2's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

import copy
import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from lab_answers import copied, outcome, prove
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional
from torchvision.models import vgg
from torchvision.transforms import v2

import tlhelpers as tl

NAME = "lab2_vgg16_features"
proved = partial(prove, NAME)


@copied
def network():
    """A VGG with five blocks, so small that a test can run it; 5 old classes, 8 features."""
    with torch.device("meta"):
        model = vgg.VGG(nn.Sequential())
    torch.manual_seed(0)
    model.features = vgg.make_layers([4, "M", 8, "M", 6, 8, "M", 8, "M", 8, "M"])
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 5))
    model.card = tl.ModelCard("vgg16_gap", "none", "Toy.", "-", tl.Preprocessing(size=32, resize=32))
    return model.eval()


def solved(head=None, change=lambda model: None, like=None):
    model = copy.deepcopy(like or network()).requires_grad_(False)
    model.classifier[-1] = nn.Identity() if head is None else head.requires_grad_(False)
    change(model)
    return model


def test_extractor():
    like = network()
    pooled = nn.Sequential(network().features, nn.AdaptiveAvgPool2d(1), nn.Flatten()).requires_grad_(False).eval()
    wrongs = {
        "one for each class of its old task: the head is still on": network(),
        "one for each of your classes: that is a new head": tl.replace_head(network(), 3),
        "it gives maps (8, 1, 1): pooling and flattening were cut off too": network().features,
        "it gives 12 numbers, and 8 go into the head": solved(nn.Linear(8, 12)),
        "two images should give a tensor (2, 8), and they give (16,)": solved(nn.Flatten(0)),
        "it is in training mode: Dropout": solved(change=lambda model: model.train()),
        "'features.0.weight' still has gradients": solved(change=lambda model: model.requires_grad_(True)),
        "the weights are not the pre-trained ones": solved(change=lambda m: nn.init.normal_(m.features[0].weight)),
        "the output is not the head's input": solved(nn.Softmax(dim=1)),
        "it has lost its `card`": pooled,
        "that is `network` itself": like,
    }
    proved("extractor", solved(), wrongs, like=like, classes=3)


def test_shapes():
    right = {"block1": (4, 16, 16), "block3": (8, 4, 4), "block5": (8, 1, 1)}
    wrongs = {
        "'block3' is missing": {"block1": (4, 16, 16)},
        "channels come before height and width": {**right, "block1": (16, 16, 4)},
        "that is before the pooling at the end": {**right, "block1": (4, 32, 32)},
        "has 4 numbers; give (channels, height, width)": {**right, "block3": (1, 8, 4, 4)},
        "that would be for 224 pixels": {**right, "block3": (8, 28, 28)},
        "height and width are right, the channels are not": {**right, "block3": (6, 4, 4)},
        "how often has 32 been halved by then": {**right, "block5": (8, 3, 3)},
        "in the list of layers": {**right, "block5": (5, 5, 5)},
        "expected three whole numbers": {**right, "block5": 8},
    }
    also = [{**right, "block1": torch.Size([4, 16, 16])}]
    proved("shapes", right, wrongs, also=also, model=network(), size=32)


def extract(model, split, transform=tl.Preprocessing.evaluation, order=range(300), size=64, training=False, grad=False):
    """Features, with the transform that is made from the card's preprocessing."""
    prepare = transform(model.train(training).card.preprocessing)
    with torch.inference_mode(not grad):
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        return torch.cat([model(torch.stack([prepare(split.image(i)) for i in b])).detach() for b in batches]).numpy()


def test_features():
    def prepared(change):
        return partial(extract, transform=change)

    wrongs = {
        "call `eval()` inside": partial(extract, training=True),
        "switch them off": partial(extract, grad=True),
        "still has gradients, so NumPy refuses it": lambda model, _: model.eval()(torch.zeros(1, 3, 32, 32)).numpy(),
        "the images are not normalised": prepared(lambda own: replace(own, mean=(0,) * 3, std=(1,) * 3).evaluation()),
        "from 0 to 255": prepared(lambda own: replace(own, mean=(0,) * 3, std=(1 / 255,) * 3).evaluation()),
        "ImageNet's mean and deviation were used": prepared(lambda own: tl.Preprocessing(32, 36).evaluation()),
        "another resizing or crop": prepared(lambda own: v2.Compose([v2.Resize((32, 32)), own.evaluation()])),
        "two calls give different features": prepared(tl.Preprocessing.training),
        "in another order than the split's": partial(extract, order=range(299, -1, -1)),
        "256 rows came out: is the last, smaller batch lost?": partial(extract, order=range(256)),
        "301 rows came out: is a row added twice?": partial(extract, order=[*range(300), 0]),
        "it never calls the network that it is given": lambda model, split: np.zeros((160, 512)),
        "all 300 images went through at once": partial(extract, size=300),
        "should give (300, 3), found (300,)": lambda *given: extract(*given).ravel()[:300],
    }
    proved("features", extract, wrongs)


def standardised(a, b, mean=None, std=None):
    mean, std = a.mean(0) if mean is None else mean, a.std(0) if std is None else std
    return tuple((values - mean) / np.where(std > 0, std, 1) for values in (a, b))


def test_scale():
    wrongs = {
        "the other set is scaled by itself": lambda a, b: (standardised(a, b)[0], standardised(b, b)[0]),
        "the validation set has leaked": lambda a, b: standardised(a, b, np.r_[a, b].mean(0), np.r_[a, b].std(0)),
        "are those of each image": lambda *sets: [((x.T - x.mean(1)) / x.std(1)).T for x in sets],
        "one mean and one deviation for all": lambda a, b: standardised(a, b, a.mean(), a.std()),
        "nothing is divided": lambda a, b: standardised(a, b, std=np.ones(5)),
        "divides by the variance": lambda a, b: standardised(a, b, std=a.var(0)),
        "has the deviation 0": lambda a, b: ((a - a.mean(0)) / a.std(0), (b - a.mean(0)) / a.std(0)),
        "becomes huge elsewhere": lambda a, b: standardised(a, b, std=a.std(0) + 1e-8),
        "should have mean 0 and deviation 1": lambda a, b: (a, b),
        "it should return two arrays": lambda a, b: standardised(a, b)[0],
        "the training set should have the shape (8, 5)": lambda a, b: (a.T, b),
    }
    also = [
        lambda a, b: standardised(a, b, std=a.std(0, ddof=1)),
        lambda a, b: [StandardScaler().fit(a).transform(values) for values in (a, b)],
    ]
    proved("scale", standardised, wrongs, also=also)


def one_epoch(head, batches, optimizer, gives=lambda t, n, b, last: t / n, **change):
    """One epoch; `gives` makes the result of the sum of losses, the images, the batches, and the last loss."""
    total = last = 0.0
    for features, labels in batches:
        logits = head(features)
        loss = functional.cross_entropy(logits.softmax(1) if change.get("softmax") else logits, labels)
        if change.get("zero", True):
            optimizer.zero_grad()
        (loss * len(labels) if change.get("summed") else loss).backward()
        if change.get("step", True):
            optimizer.step()
        last, total = loss.item(), total + loss.item() * len(labels)
    return gives(total, sum(len(labels) for _, labels in batches), len(batches), last)


def test_epoch():
    def of_each(head, batches, optimizer):
        return [one_epoch(head, [batch], optimizer) for batch in batches]

    wrongs = {
        "that is the mean over batches; the last batch is smaller": lambda *given: np.mean(of_each(*given)),
        "the batches' losses are added up": lambda *given: sum(of_each(*given)),
        "the loss of the last batch alone": partial(one_epoch, gives=lambda t, n, b, last: last),
        "that is the sum over images; divide by their number": partial(one_epoch, gives=lambda t, *_: t),
        "divided by the number of batches": partial(one_epoch, gives=lambda t, n, b, last: t / b),
        "the last, smaller batch is left out": lambda head, b, o: one_epoch(head, b[:-1] or b, o),
        "it was given a softmax": partial(one_epoch, softmax=True),
        "`zero_grad()`": partial(one_epoch, zero=False),
        "the weights did not move": partial(one_epoch, step=False),
        "uses the sum over images": partial(one_epoch, summed=True),
        "not where one step for each batch leads": lambda *given: one_epoch(*given) and one_epoch(*given),
        "take numbers with `.item()`": lambda head, b, _: sum(functional.cross_entropy(head(x), y) for x, y in b),
    }
    proved("epoch", one_epoch, wrongs)


def pooled(maps, how):
    return {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3)), "flatten": maps.flatten(1)}[how]


def test_pool():
    def but(name, change):
        return lambda maps, how: change(maps) if how == name else pooled(maps, how)

    wrongs = {
        "becomes (2, 20): that is taken over channels": but("mean", lambda maps: maps.mean(1).flatten(1)),
        "becomes (2, 4, 5): that is taken over channels": but("mean", lambda maps: maps.mean(1)),
        "height and width must both go": but("mean", lambda maps: maps.mean(2)),
        "one number for everything": but("mean", lambda maps: maps.mean()),
        "`amax` does not": but("max", lambda maps: maps.max(dim=2)),
        "it becomes (2, 3, 1, 1): take the two": but("max", lambda maps: functional.adaptive_max_pool2d(maps, 1)),
        "max: this is the mean": but("max", lambda maps: maps.mean((2, 3))),
        "the shape is right, the numbers are not": but("max", lambda maps: -maps.amax((2, 3))),
        "images were flattened too": but("flatten", lambda maps: maps.flatten()),
        "flatten: (2, 3, 4, 5) should become": but("flatten", lambda maps: maps),
    }
    proved("pool", pooled, wrongs)


def test_choose():
    means = {  # validation, test, spread
        ("block3", "mean"): (0.40, 0.30, 0.01),
        ("block4", "mean"): (0.60, 0.55, 0.01),
        ("block4", "max"): (0.58, 0.65, 0.01),
        ("block5", "mean"): (0.57, 0.50, 0.10),
        ("block5", "max"): (0.45, 0.40, 0.01),
    }
    each = [(pair, *values, seed - 1) for (pair, values), seed in itertools.product(means.items(), range(3))]
    rows = [(*pair, sign + 1, val + s * sign, test + 0.5 * s * sign) for pair, val, test, s, sign in each]
    table = pd.DataFrame(rows, columns=["layer", "pooling", "seed", "val", "test"])
    right = ("block4", "mean")
    wrongs = {
        "that is the best on the test set": (("block4", "max"), 0.65),
        "that has the worst validation accuracy": (("block3", "mean"), 0.30),
        "that is the luckiest single run": (("block5", "mean"), 0.50),
        "has not the best mean validation accuracy": (("block5", "max"), 0.40),
        "first the layer, then the pooling": (("mean", "block4"), 0.55),
        "in per cent": (right, 55.0),
        "the final number is the validation accuracy": (right, 0.60),
        "the best of all test accuracies": (right, 0.65),
        "that of one seed": (right, 0.555),
        "too small": (right, 0.1),
    }
    proved("choose", (right, 0.55), wrongs, also=[(list(right), np.float64(0.55))], table=table)


def cosines(features, index):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit[index]


def neighbours(features, index, count, by=cosines):
    similar = by(features, index)
    similar[index] = -np.inf
    return np.argsort(-similar)[:count]


def test_neighbours():
    wrongs = {
        "the image itself is among its neighbours": lambda f, i, n: (-cosines(f, i)).argsort(kind="stable")[1 : n + 1],
        "these are the nearest by distance": partial(neighbours, by=lambda f, i: -np.linalg.norm(f - f[i], axis=1)),
        "these have the largest dot products": partial(neighbours, by=lambda f, i: f @ f[i]),
        "these are the least similar": partial(neighbours, by=lambda f, i: -cosines(f, i)),
        "in another order; the most similar comes first": lambda f, i, n: neighbours(f, i, n)[::-1],
        "3 neighbours were asked for, and 6 came": lambda f, i, n: neighbours(f, i, 6),
        "indices are whole": lambda f, i, n: np.sort(cosines(f, i))[-n:],
        "does it use both arguments?": lambda f, i, n: neighbours(f, 2, 3)[:n],
        "of seven vectors in a plane it names [5, 0, 4]": lambda f, i, n: [5, 0, 4],
    }
    proved("neighbours", neighbours, wrongs, also=[lambda *given: torch.as_tensor(neighbours(*given).copy())])
    with_itself = outcome(NAME, "neighbours", lambda f, i, n: [i, *neighbours(f, i, n - 1)])
    assert "the image itself" in with_itself[1]


def pca(a, b, fit_on=lambda a, b: a, **options):
    fitted = PCA(**{"n_components": 2, **options}).fit(fit_on(a, b))
    return fitted.transform(a), fitted.transform(b)


def test_map():
    wrongs = {
        "it is fitted on both sets together": partial(pca, fit_on=lambda a, b: np.r_[a, b]),
        "the other set has a map of its own": lambda a, b: (pca(a, a)[0], pca(b, b)[0]),
        "it is fitted on the other set": partial(pca, fit_on=lambda a, b: b),
        "centred by its own mean": lambda a, b: (pca(a, b)[0], pca(a, b - b.mean(0) + a.mean(0))[1]),
        "`fit` on the one, `transform` for both": lambda a, b: (pca(a, b)[0], b[:, :2]),
        "(whiten)": partial(pca, whiten=True),
        "these are the first two features": lambda a, b: (a[:, :2], b[:, :2]),
        "should have the shape (30, 2)": partial(pca, n_components=3),
        "not the first two principal components": lambda a, b: (a[:, 3:], b[:, 3:]),
    }
    proved("map", pca, wrongs, also=[lambda a, b: tuple(-points for points in pca(a, b))])


def test_curve():
    """What any table of runs can have wrong, lab 3's test shows: one such fault here proves that it is looked for."""
    rows = [(count, seed, 0.3 + 0.02 * count + 0.01 * seed) for count in (2, 4, 8) for seed in range(5)]
    right = pd.DataFrame(rows, columns=["per_class", "seed", "accuracy"])
    wrongs = {
        "no row has 4": right[right["per_class"] != 4],
        "were the training images scored": right.assign(accuracy=1.0),
        "every number of images gives the same": right.assign(accuracy=0.3 + 0.01 * right["seed"]),
        "does another seed choose other images?": right.assign(accuracy=0.3 + 0.01 * right["per_class"]),
        "fewer than 5 seeds": right[right["seed"] < 3],
    }
    proved("curve", right, wrongs, counts=(2, 4, 8), seeds=5)
