"""Lab 2's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from lab_answers import outcome, prove
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional
from torchvision.models import vgg
from torchvision.transforms import v2

import tlcourse as tc
import tlhelpers as tl
from tlhelpers.models.cards import set_card

NAME = "lab2_vgg16_features"
proved = functools.partial(prove, NAME)


@functools.cache
def _built() -> Any:
    """A VGG with five blocks, so small that a test can run it; 5 old classes, 8 features."""
    with torch.device("meta"):
        model: Any = vgg.VGG(nn.Sequential())
    torch.manual_seed(0)
    model.features = vgg.make_layers([4, "M", 8, "M", 6, 8, "M", 8, "M", 8, "M"])
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 5))
    set_card(model, tl.ModelCard("vgg16_gap", "none", "Toy.", "-", tl.Preprocessing(size=32, resize=32)))
    return model.eval()


def network() -> Any:
    return copy.deepcopy(_built())


def solved(head: nn.Module | None = None, change: Callable[[Any], Any] = lambda model: None) -> Any:
    model = network().requires_grad_(False)
    model.classifier[-1] = nn.Identity() if head is None else head.requires_grad_(False)
    change(model)
    return model


def test_extractor() -> None:
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
        "expected the network, found str": "vgg16",
        "that is `network` itself": like,
    }
    proved("extractor", solved(), wrongs, like=like, classes=3)


def test_the_extractor_of_the_lab_is_right() -> None:
    """With the weights of the package; torchvision's own VGG16 has other layers before its head."""
    like = tl.load_model("vgg16", weights="embedded", size=32)
    model = copy.deepcopy(like).requires_grad_(False)
    model.classifier[-1] = nn.Identity()
    state, message = outcome(NAME, "extractor", model, like=like, classes=8)
    assert (state, message) == ("right", "an image becomes 512 numbers, always the same ones")


def test_shapes() -> None:
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
        "expected a dictionary": [4, 8, 8],
    }
    proved("shapes", right, wrongs, model=network(), size=32)
    as_size = {**right, "block1": torch.Size([4, 16, 16])}
    assert outcome(NAME, "shapes", as_size, model=network(), size=32)[0] == "right"


def extract(model: Any, split: Any, look: Any = None, order: Any = range(300), size: int = 64, **change: Any) -> Any:
    change.get("mode", nn.Module.eval)(model)
    look = look or model.card.preprocessing.evaluation()
    with change.get("no_gradients", torch.inference_mode)():
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        batches = (torch.stack([look(split.image(i)) for i in part]) for part in parts)
        return torch.cat([model(batch).detach() for batch in batches]).numpy()


def test_features() -> None:
    def but(look: Callable[[Any], Any], **options: Any) -> Callable[..., Any]:
        """Extraction with another preprocessing, made from the card's."""
        return lambda model, split: extract(model, split, look(model.card.preprocessing), **options)

    def plain(*first: Any, scale: bool = True) -> v2.Compose:
        return v2.Compose([*first, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=scale)])

    def to_numpy_too_early(model: Any, split: Any) -> Any:
        look = model.card.preprocessing.evaluation()
        return np.stack([model.eval()(look(split.image(i))[None])[0].numpy() for i in range(len(split))])

    resize = (v2.Resize(36), v2.CenterCrop(32))
    squeezed = plain(v2.Resize((32, 32)))
    wrongs = {
        "call `eval()` inside": functools.partial(extract, mode=nn.Module.train),
        "switch them off": functools.partial(extract, no_gradients=torch.enable_grad),
        "still has gradients, so NumPy refuses it": to_numpy_too_early,
        "the images are not normalised": but(lambda _: plain(*resize)),
        "values from 0 to 255": but(lambda _: plain(*resize, scale=False)),
        "ImageNet's mean and deviation were used": but(lambda _: tl.Preprocessing(size=32, resize=36).evaluation()),
        "another resizing or crop": but(lambda own: v2.Compose([squeezed, v2.Normalize(own.mean, own.std)])),
        "two calls give different features": but(lambda own: own.training()),
        "in another order than the split's": functools.partial(extract, order=range(299, -1, -1)),
        "256 rows came out: is the last, smaller batch lost?": functools.partial(extract, order=range(256)),
        "301 rows came out: is a row added twice?": functools.partial(extract, order=[*range(300), 0]),
        "it never calls the network that it is given": lambda model, split: np.zeros((160, 512)),
        "all 300 images went through at once": functools.partial(extract, size=300),
        "expected a NumPy array, found Tensor": lambda *given: torch.as_tensor(extract(*given)),
        "should give (300, 3), found (300,)": lambda *given: extract(*given).ravel()[:300],
    }
    proved("features", extract, wrongs)


def standardised(a: Any, b: Any, mean: Any = None, std: Any = None) -> Any:
    mean, std = a.mean(0) if mean is None else mean, a.std(0) if std is None else std
    return tuple((values - mean) / np.where(std > 0, std, 1) for values in (a, b))


def test_scale() -> None:
    def by_image(a: Any, b: Any) -> Any:
        return tuple((values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True) for values in (a, b))

    wrongs = {
        "the other set is scaled by itself": lambda a, b: (standardised(a, b)[0], standardised(b, b)[0]),
        "the validation set has leaked": lambda a, b: standardised(a, b, np.r_[a, b].mean(0), np.r_[a, b].std(0)),
        "are those of each image": by_image,
        "one mean and one deviation for all": lambda a, b: standardised(a, b, a.mean(), a.std()),
        "nothing is divided": lambda a, b: standardised(a, b, std=np.ones(5)),
        "divides by the variance": lambda a, b: standardised(a, b, std=a.var(0)),
        "has the deviation 0": lambda a, b: ((a - a.mean(0)) / a.std(0), (b - a.mean(0)) / a.std(0)),
        "becomes huge elsewhere": lambda a, b: standardised(a, b, std=a.std(0) + 1e-8),
        "should have mean 0 and deviation 1": lambda a, b: (a, b),
        "it should return two arrays": lambda a, b: standardised(a, b)[0],
        "the training set should have the shape (8, 5)": lambda a, b: (a.T, b),
    }
    proved("scale", standardised, wrongs)


def test_scale_may_be_done_otherwise() -> None:
    for as_good in (
        lambda a, b: standardised(a, b, std=a.std(0, ddof=1)),
        lambda a, b: [StandardScaler().fit(a).transform(values) for values in (a, b)],
    ):
        assert outcome(NAME, "scale", as_good)[0] == "right"


def one_epoch(head: Any, parts: Any, optimizer: Any, gives: Any = lambda t, n, b, last: t / n, **change: bool) -> Any:
    total = last = 0.0
    for features, labels in parts:
        logits = head(features)
        loss = functional.cross_entropy(logits.softmax(1) if change.get("softmax") else logits, labels)
        if change.get("zero", True):
            optimizer.zero_grad()
        (loss * len(labels) if change.get("summed") else loss).backward()
        if change.get("step", True):
            optimizer.step()
        last, total = loss.item(), total + loss.item() * len(labels)
    return gives(total, sum(len(labels) for _, labels in parts), len(parts), last)


def test_epoch() -> None:
    def but(**change: Any) -> Callable[..., Any]:
        return functools.partial(one_epoch, **change)

    def of_batches(head: Any, parts: Any, optimizer: Any, mean: bool = True) -> float:
        losses = [one_epoch(head, [part], optimizer) for part in parts]
        return sum(losses) / (len(losses) if mean else 1)

    def graph(head: Any, parts: Any, optimizer: Any) -> torch.Tensor:
        return sum((functional.cross_entropy(head(x), y) for x, y in parts), torch.zeros(()))

    def whole_only(head: Any, parts: Any, optimizer: Any) -> float:
        return one_epoch(head, [part for part in parts if len(part[0]) != 2], optimizer)

    def twice(head: Any, parts: Any, optimizer: Any) -> float:
        one_epoch(head, parts, optimizer)
        return one_epoch(head, parts, optimizer)

    wrongs = {
        "that is the mean over batches; the last batch is smaller": of_batches,
        "the batches' losses are added up": functools.partial(of_batches, mean=False),
        "the loss of the last batch alone": but(gives=lambda t, n, b, last: last),
        "that is the sum over images; divide by their number": but(gives=lambda t, *_: t),
        "divided by the number of batches": but(gives=lambda t, n, b, last: t / b),
        "the last, smaller batch is left out": whole_only,
        "it was given a softmax": but(softmax=True),
        "`zero_grad()`": but(zero=False),
        "the weights did not move": but(step=False),
        "uses the sum over images": but(summed=True),
        "not where one step for each batch leads": twice,
        "take numbers with `.item()`": graph,
        "should be a number, found str": lambda *_: "low",
    }
    proved("epoch", one_epoch, wrongs)


def pooled(maps: torch.Tensor, how: str) -> Any:
    return {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3)), "flatten": maps.flatten(1)}[how]


def test_pool() -> None:
    def but(name: str, change: Callable[[torch.Tensor], Any]) -> Callable[..., Any]:
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
        "flatten: expected a tensor, found ndarray": but("flatten", lambda maps: maps.flatten(1).numpy()),
    }
    proved("pool", pooled, wrongs)


def scores() -> pd.DataFrame:
    means = {  # validation, test, spread
        ("block3", "mean"): (0.40, 0.30, 0.01),
        ("block4", "mean"): (0.60, 0.55, 0.01),
        ("block4", "max"): (0.58, 0.65, 0.01),
        ("block5", "mean"): (0.57, 0.50, 0.10),
        ("block5", "max"): (0.45, 0.40, 0.01),
    }
    rows = [
        (*pair, seed, val + spread * (seed - 1), test + 0.5 * spread * (seed - 1))
        for (pair, (val, test, spread)), seed in itertools.product(means.items(), range(3))
    ]
    return pd.DataFrame(rows, columns=["layer", "pooling", "seed", "val", "test"])


def test_choose() -> None:
    right = ("block4", "mean")
    wrongs = {
        "that is the best on the test set": (("block4", "max"), 0.65),
        "that has the worst validation accuracy": (("block3", "mean"), 0.30),
        "that is the luckiest single run": (("block5", "mean"), 0.50),
        "has not the best mean validation accuracy": (("block5", "max"), 0.40),
        "first the layer, then the pooling": (("mean", "block4"), 0.55),
        "should be a pair such as ('block3', 'max'), found str": ("block4", 0.55),
        "in per cent": (right, 55.0),
        "the final number is the validation accuracy": (right, 0.60),
        "the best of all test accuracies": (right, 0.65),
        "that of one seed": (right, 0.555),
        "too small": (right, 0.1),
    }
    proved("choose", (right, 0.55), wrongs, table=scores())
    assert outcome(NAME, "choose", (list(right), np.float64(0.55)), table=scores())[0] == "right"


def cosines(features: Any, index: int) -> Any:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit[index]


def neighbours(features: Any, index: int, count: int, similarity: Any = cosines) -> Any:
    similar = similarity(features, index)
    similar[index] = -np.inf
    return np.argsort(-similar)[:count]


def test_neighbours() -> None:
    def without_exclusion(features: Any, index: int, count: int) -> Any:
        return np.argsort(-cosines(features, index), kind="stable")[1 : count + 1]

    def by(similarity: Callable[[Any, int], Any]) -> Any:
        return functools.partial(neighbours, similarity=similarity)

    wrongs = {
        "the image itself is among its neighbours": without_exclusion,
        "these are the nearest by distance": by(lambda f, i: -np.linalg.norm(f - f[i], axis=1)),
        "these have the largest dot products": by(lambda f, i: f @ f[i]),
        "these are the least similar": by(lambda f, i: -cosines(f, i)),
        "in another order; the most similar comes first": lambda f, i, n: neighbours(f, i, n)[::-1],
        "3 neighbours were asked for, and 6 came": lambda f, i, n: neighbours(f, i, 6),
        "indices are whole": lambda f, i, n: np.sort(cosines(f, i))[-n:],
        "does it use both arguments?": lambda f, i, n: neighbours(f, 2, 3)[:n],
        "expected indices, found dict": lambda f, i, n: {"best": 3},
        "of seven vectors in a plane it names [5, 0, 4]": lambda f, i, n: [5, 0, 4],
    }
    proved("neighbours", neighbours, wrongs)
    assert outcome(NAME, "neighbours", lambda *given: torch.as_tensor(neighbours(*given).copy()))[0] == "right"
    with_itself = outcome(NAME, "neighbours", lambda f, i, n: [i, *neighbours(f, i, n - 1)])
    assert "the image itself" in with_itself[1]


def pca(a: Any, b: Any, fit_on: Any = lambda a, b: a, **options: Any) -> Any:
    fitted = PCA(**{"n_components": 2, **options}).fit(fit_on(a, b))
    return fitted.transform(a), fitted.transform(b)


def test_map() -> None:
    def own_centre(a: Any, b: Any) -> Any:
        return pca(a, b)[0], pca(a, b - b.mean(0) + a.mean(0))[1]

    wrongs = {
        "it is fitted on both sets together": functools.partial(pca, fit_on=lambda a, b: np.r_[a, b]),
        "the other set has a map of its own": lambda a, b: (pca(a, a)[0], pca(b, b)[0]),
        "it is fitted on the other set": functools.partial(pca, fit_on=lambda a, b: b),
        "centred by its own mean": own_centre,
        "`fit` on the one, `transform` for both": lambda a, b: (pca(a, b)[0], b[:, :2]),
        "(whiten)": functools.partial(pca, whiten=True),
        "these are the first two features": lambda a, b: (a[:, :2], b[:, :2]),
        "should have the shape (30, 2)": functools.partial(pca, n_components=3),
        "it should return two arrays": lambda a, b: pca(a, b)[0],
        "not the first two principal components": lambda a, b: (a[:, 3:], b[:, 3:]),
    }
    proved("map", pca, wrongs)
    assert outcome(NAME, "map", lambda a, b: tuple(-points for points in pca(a, b)))[0] == "right"


COUNTS = (2, 4, 8)


def runs(**change: Any) -> pd.DataFrame:
    rows = [(count, seed, 0.3 + 0.02 * count + 0.01 * seed) for count, seed in itertools.product(COUNTS, range(5))]
    return pd.DataFrame(rows, columns=["per_class", "seed", "accuracy"]).assign(**change)


def test_curve() -> None:
    right = runs()
    wrongs = {
        "the column 'seed' is missing": right.drop(columns="seed"),
        "no row has 4": right[right["per_class"] != 4],
        "give fractions": runs(accuracy=60.0),
        "were the training images scored": runs(accuracy=1.0),
        "should hold one number in each row": runs(accuracy="high"),
        "every number of images gives the same": runs(accuracy=0.3 + 0.01 * right["seed"]),
        "does another seed choose other images?": runs(accuracy=0.3 + 0.01 * right["per_class"]),
        "fewer than 5 seeds": right[right["seed"] < 3],
        "different seeds": runs(seed=range(15)),
        "a seed appears twice": pd.concat([right, right]),
        "expected a DataFrame, found dict": right.to_dict(),
    }
    proved("curve", right, wrongs, counts=COUNTS, seeds=5)


def test_point_map() -> None:
    points = np.arange(20.0).reshape(10, 2)
    labels, classes = np.arange(10), [str(number) for number in range(10)]
    chart = tc.plots.point_map({"a": (points, labels), "b": (points[:4], labels[:4])}, classes, title="T", xlabel="x")
    assert chart.alt.startswith("T: 2 scatter charts, a with 10 points, b with 4 points, coloured by the classes 0, 1")
    drawn = chart.axes[0].lines
    assert sum(len(line.get_xdata()) for line in drawn) == 10
    styles = {(line.get_color(), line.get_marker()) for line in drawn}
    assert len(styles) == 10, "each class must be told from the others"
    assert chart.axes[0].get_xlabel() == "x"
    assert chart.axes[0].get_xlim() == chart.axes[1].get_xlim(), "a place must mean the same in both"
    assert list(tc.plots.point_map({"a": (points, labels)}, classes, title="T").axes[0].get_xticks()) == []
