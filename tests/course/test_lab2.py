"""Lab 2's checks: the solution passes, a blank is not started, plausible wrong answers are told apart."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lab_answers import prove
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional
from torchvision.models import vgg
from torchvision.transforms import v2

import tlcourse as tc
import tlhelpers as tl
from tlhelpers.models.cards import set_card

proved = functools.partial(prove, "lab2_vgg16_features")


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


def solved(head: nn.Module | None = None) -> Any:
    model = network()
    model.classifier[-1] = nn.Identity() if head is None else head
    return model.requires_grad_(False)


def altered(change: Callable[[Any], Any]) -> Any:
    model = solved()
    change(model)
    return model


def test_extractor() -> None:
    def softer(model: Any) -> None:
        model.classifier[-1] = nn.Softmax(dim=1)

    def random(model: Any) -> None:
        nn.init.normal_(model.features[0].weight)

    rebuilt = nn.Sequential(network().features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    wrongs = [
        ((network().requires_grad_(False),), "one for each class of its old task: the head is still on"),
        ((tl.replace_head(network(), 3),), "one for each of your classes: that is a new head"),
        ((network().features,), "it gives maps (8, 1, 1): pooling and flattening were cut off too"),
        ((solved(nn.Linear(8, 12)),), "it gives 12 numbers, and 8 go into the head"),
        ((altered(lambda model: model.train()),), "it is in training mode: Dropout"),
        ((altered(lambda model: model.requires_grad_(True)),), "'features.0.weight' still asks for gradients"),
        ((altered(random),), "the weights are not the pre-trained ones"),
        ((altered(softer),), "other numbers come out than go into the head"),
        ((rebuilt.requires_grad_(False).eval(),), "it has lost its `card`"),
        (("vgg16",), "expected the network, found str"),
    ]
    like = network()
    wrongs.append(((like,), "that is `network` itself"))
    proved("extractor", (solved(),), wrongs, like=like, classes=3)


def test_the_extractor_of_the_lab_is_right() -> None:
    """With the weights of the package; torchvision's own VGG16 has other layers before its head."""
    like = tl.load_model("vgg16", weights="embedded", size=32)
    model = copy.deepcopy(like).requires_grad_(False)
    model.classifier[-1] = nn.Identity()
    lab = tc.Lab("lab2_vgg16_features")
    lab.check("extractor", model, like=like, classes=8)
    assert lab.outcomes["extractor"].said == "an image becomes 512 numbers, always the same ones"


def test_shapes() -> None:
    right = {"block1": (4, 16, 16), "block3": (8, 4, 4), "block5": (8, 1, 1)}

    def but(**changed: Any) -> tuple[dict[str, Any]]:
        return ({**right, **changed},)

    wrongs = [
        (({"block1": (4, 16, 16)},), "'block3' is missing"),
        (but(block1=(16, 16, 4)), "channels come before height and width"),
        (but(block1=(4, 32, 32)), "that is before the pooling which ends the block"),
        (but(block3=(1, 8, 4, 4)), "has 4 numbers; give (channels, height, width)"),
        (but(block3=(8, 28, 28)), "that would be for 224 pixels"),
        (but(block3=(6, 4, 4)), "height and width are right, the channels are not"),
        (but(block5=(8, 3, 3)), "how often has 32 been halved by then"),
        (but(block5=(5, 5, 5)), "go through the list of layers"),
        (but(block5=8), "expected three whole numbers"),
        (([4, 8, 8],), "expected a dictionary"),
    ]
    proved("shapes", (right,), wrongs, model=network(), size=32)
    proved("shapes", (but(block1=torch.Size([4, 16, 16]))[0],), wrongs, model=network(), size=32)


# --- extraction -------------------------------------------------------------------------------------------------


def batches(look: Any, split: Any, size: int = 64, order: Any = None) -> Iterator[torch.Tensor]:
    numbers = list(range(len(split)) if order is None else order)
    for start in range(0, len(numbers), size):
        yield torch.stack([look(split.image(i)) for i in numbers[start : start + size]])


def extract(model: Any, split: Any, look: Any = None, **options: Any) -> Any:
    look = look or model.card.preprocessing.evaluation()
    with torch.inference_mode():
        return torch.cat([model.eval()(batch) for batch in batches(look, split, **options)]).numpy()


def test_features() -> None:
    def training(model: Any, split: Any) -> Any:
        with torch.inference_mode():
            look = model.card.preprocessing.evaluation()
            return torch.cat([model(batch) for batch in batches(look, split)]).numpy()

    def with_gradients(model: Any, split: Any) -> Any:
        look = model.card.preprocessing.evaluation()
        return torch.cat([model.eval()(batch).detach() for batch in batches(look, split)]).numpy()

    def not_normalised(model: Any, split: Any) -> Any:
        look = v2.Compose([v2.Resize(36), v2.CenterCrop(32), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
        return extract(model, split, look)

    def bytes_only(model: Any, split: Any) -> Any:
        look = v2.Compose([v2.Resize(36), v2.CenterCrop(32), v2.PILToTensor(), v2.ToDtype(torch.float32)])
        return extract(model, split, look)

    def imagenet(model: Any, split: Any) -> Any:
        return extract(model, split, tl.Preprocessing(size=32, resize=36).evaluation())

    def squeezed(model: Any, split: Any) -> Any:
        look = model.card.preprocessing
        to_float = v2.ToDtype(torch.float32, scale=True)
        return extract(
            model,
            split,
            v2.Compose([v2.Resize((32, 32)), v2.PILToTensor(), to_float, v2.Normalize(look.mean, look.std)]),
        )

    def augmented(model: Any, split: Any) -> Any:
        return extract(model, split, model.card.preprocessing.training())

    def shuffled(model: Any, split: Any) -> Any:
        return extract(model, split, order=torch.randperm(len(split)).tolist())

    def dropped(model: Any, split: Any) -> Any:
        return extract(model, split, order=range(len(split) // 64 * 64))

    def another(model: Any, split: Any) -> Any:
        return np.zeros((160, 512))

    def to_numpy_too_early(model: Any, split: Any) -> Any:
        look = model.card.preprocessing.evaluation()
        return np.stack([model.eval()(look(split.image(i))[None])[0].numpy() for i in range(len(split))])

    wrongs = [
        ((training,), "call `eval()` inside"),
        ((with_gradients,), "switch them off"),
        ((to_numpy_too_early,), "still wants gradients, so NumPy refuses it"),
        ((not_normalised,), "the images are not normalised"),
        ((bytes_only,), "values from 0 to 255"),
        ((imagenet,), "ImageNet's mean and deviation were used"),
        ((squeezed,), "another resizing or crop"),
        ((augmented,), "two calls give different features"),
        ((shuffled,), "in another order than the split's"),
        ((dropped,), "256 rows came out: is the last, smaller batch lost?"),
        ((another,), "it never calls the network that it is given"),
        ((lambda model, split: extract(model, split, size=300),), "all 300 images went through at once"),
        ((lambda model, split: torch.as_tensor(extract(model, split)),), "expected a NumPy array, found Tensor"),
        ((lambda model, split: extract(model, split).ravel()[:300],), "should give (300, 3), found (300,)"),
        ((np.zeros((3, 3)),), "expected a function, found ndarray"),
    ]
    proved("features", (extract,), wrongs)


# --- a classifier -----------------------------------------------------------------------------------------------


def test_scale() -> None:
    def formula(train: Any, other: Any, **options: Any) -> Any:
        mean, std = options.get("mean", train.mean(0)), options.get("std", train.std(0))
        safe = np.where(std > 0, std, 1)
        return (train - mean) / safe, (other - mean) / safe

    def sample(train: Any, other: Any) -> Any:
        return formula(train, other, std=train.std(0, ddof=1))

    def per_image(train: Any, other: Any) -> Any:
        return tuple((part - part.mean(1, keepdims=True)) / part.std(1, keepdims=True) for part in (train, other))

    def both(train: Any, other: Any) -> Any:
        whole = np.concatenate([train, other])
        return formula(train, other, mean=whole.mean(0), std=whole.std(0))

    wrongs = [
        ((lambda a, b: (formula(a, b)[0], formula(b, b)[0]),), "the other part is measured by itself"),
        ((both,), "the validation set has leaked"),
        ((per_image,), "are those of each image"),
        ((lambda a, b: formula(a, b, mean=a.mean(), std=a.std()),), "one mean and one deviation for everything"),
        ((lambda a, b: formula(a, b, std=np.ones(5)),), "nothing is divided"),
        ((lambda a, b: formula(a, b, std=a.var(0)),), "divides by the variance"),
        ((lambda a, b: ((a - a.mean(0)) / a.std(0), (b - a.mean(0)) / a.std(0)),), "has the deviation 0"),
        ((lambda a, b: formula(a, b, std=a.std(0) + 1e-8),), "becomes huge elsewhere"),
        ((lambda a, b: (a, b),), "should have mean 0 and deviation 1"),
        ((lambda a, b: formula(a, b)[0],), "it should return two arrays"),
        ((lambda a, b: (a.T, b),), "the training set should have the shape (8, 5)"),
        ((5,), "expected a function, found int"),
    ]
    proved("scale", (formula,), wrongs)
    proved("scale", (sample,), wrongs)
    proved("scale", (lambda a, b: (lambda s: (s.transform(a), s.transform(b)))(StandardScaler().fit(a)),), wrongs)


def one_epoch(head: Any, parts: Any, optimizer: Any, **change: Any) -> Any:
    total = count = batches_seen = 0
    last = 0.0
    for features, labels in parts:
        logits = head(features)
        loss = functional.cross_entropy(logits.softmax(1) if change.get("softmax") else logits, labels)
        if change.get("zero", True):
            optimizer.zero_grad()
        (loss * len(labels) if change.get("summed") else loss).backward()
        if change.get("step", True):
            optimizer.step()
        last, total, count = loss.item(), total + loss.item() * len(labels), count + len(labels)
        batches_seen += 1
    return {"mean": total / count, "last": last, "total": total, "by batches": total / batches_seen}[
        change.get("gives", "mean")
    ]


def test_epoch() -> None:
    def changed(**change: Any) -> tuple[Callable[..., Any]]:
        return (functools.partial(one_epoch, **change),)

    def of_batches(head: Any, parts: Any, optimizer: Any, mean: bool = True) -> float:
        losses = [one_epoch(head, [part], optimizer) for part in parts]
        return sum(losses) / (len(losses) if mean else 1)

    def graph(head: Any, parts: Any, optimizer: Any) -> torch.Tensor:
        return sum((functional.cross_entropy(head(x), y) for x, y in parts), torch.zeros(()))

    def whole_only(head: Any, parts: Any, optimizer: Any) -> float:
        return one_epoch(head, [part for part in parts if len(part[0]) != 2], optimizer)

    wrongs = [
        ((of_batches,), "that is the mean over batches; the last batch is smaller"),
        ((functools.partial(of_batches, mean=False),), "the batches' losses are added up"),
        (changed(gives="last"), "the loss of the last batch alone"),
        (changed(gives="total"), "that is the sum over images; divide by their number"),
        (changed(gives="by batches"), "divided by the number of batches"),
        ((whole_only,), "the last, smaller batch is left out"),
        (changed(softmax=True), "it was given a softmax"),
        (changed(zero=False), "`zero_grad()`"),
        (changed(step=False), "the weights did not move"),
        (changed(summed=True), "on the sum over images"),
        ((graph,), "take numbers with `.item()`"),
        ((lambda *_: "low",), "should be a number, found str"),
        ((0.5,), "expected a function, found float"),
    ]
    proved("epoch", (one_epoch,), wrongs)


# --- choices ----------------------------------------------------------------------------------------------------


def pooled(maps: torch.Tensor, how: str) -> Any:
    return {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3)), "flatten": maps.flatten(1)}[how]


def test_pool() -> None:
    def but(name: str, change: Callable[[torch.Tensor], Any]) -> tuple[Callable[..., Any]]:
        return (lambda maps, how: change(maps) if how == name else pooled(maps, how),)

    wrongs = [
        (but("mean", lambda maps: maps.mean(1).flatten(1)), "that is taken over channels"),
        (but("mean", lambda maps: maps.mean(1)), "becomes (2, 4, 5): that is taken over channels"),
        (but("mean", lambda maps: maps.mean(2)), "height and width must both go"),
        (but("mean", lambda maps: maps.mean()), "one number for everything"),
        (but("max", lambda maps: maps.max(dim=2)), "`amax` does not"),
        (but("max", lambda maps: functional.adaptive_max_pool2d(maps, 1)), "take the two dimensions of length 1 away"),
        (but("max", lambda maps: maps.mean((2, 3))), "max: this is the mean"),
        (but("max", lambda maps: -maps.amax((2, 3))), "the shape is right, the numbers are not"),
        (but("flatten", lambda maps: maps.flatten()), "images were flattened too"),
        (but("flatten", lambda maps: maps), "take the two dimensions of length 1 away"),
        (but("flatten", lambda maps: maps.flatten(1).numpy()), "flatten: expected a tensor, found ndarray"),
        (("mean",), "expected a function, found str"),
    ]
    proved("pool", (pooled,), wrongs)


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
    wrongs = [
        ((("block4", "max"), 0.65), "that is the best on the test set"),
        ((("block3", "mean"), 0.30), "that has the worst validation accuracy"),
        ((("block5", "mean"), 0.50), "that is the luckiest single run"),
        ((("block5", "max"), 0.40), "has not the best mean validation accuracy"),
        ((("mean", "block4"), 0.55), "first the layer, then the pooling"),
        (("block4", 0.55), "should be a pair such as ('block3', 'max'), found str"),
        ((right, 55.0), "in per cent"),
        ((right, 0.60), "the final number is the validation accuracy"),
        ((right, 0.65), "the best of all test accuracies"),
        ((right, 0.555), "that of one seed"),
        ((right, 0.1), "too small"),
    ]
    proved("choose", (right, 0.55), wrongs, table=scores())
    proved("choose", (list(right), np.float64(0.55)), wrongs, table=scores())


# --- neighbours, a map ------------------------------------------------------------------------------------------


def cosines(features: Any, index: int) -> Any:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit[index]


def neighbours(features: Any, index: int, count: int) -> Any:
    similar = cosines(features, index)
    similar[index] = -np.inf
    return np.argsort(-similar)[:count]


def test_neighbours() -> None:
    def without_exclusion(features: Any, index: int, count: int) -> Any:
        return np.argsort(-cosines(features, index), kind="stable")[1 : count + 1]

    def first_too(features: Any, index: int, count: int) -> Any:
        return [index, *neighbours(features, index, count - 1)]

    def by_distance(features: Any, index: int, count: int) -> Any:
        distances = np.linalg.norm(features - features[index], axis=1)
        distances[index] = np.inf
        return distances.argsort()[:count]

    def by_product(features: Any, index: int, count: int) -> Any:
        products = features @ features[index]
        products[index] = -np.inf
        return (-products).argsort()[:count]

    def least(features: Any, index: int, count: int) -> Any:
        return cosines(features, index).argsort()[:count]

    wrongs = [
        ((without_exclusion,), "the image itself is among its neighbours"),
        ((by_distance,), "these are the nearest by distance"),
        ((by_product,), "these have the largest dot products"),
        ((least,), "these are the least similar"),
        ((lambda f, i, n: neighbours(f, i, n)[::-1],), "in another order; the most similar comes first"),
        ((lambda f, i, n: neighbours(f, i, 6),), "3 neighbours were asked for, and 6 came"),
        ((lambda f, i, n: np.sort(cosines(f, i))[-n:],), "indices are whole"),
        ((lambda f, i, n: neighbours(f, 2, 3)[:n],), "does it use both arguments?"),
        ((lambda f, i, n: {"best": 3},), "expected indices, found dict"),
        ((lambda f, i, n: [5, 0, 4],), "of seven vectors in a plane it names [5, 0, 4]"),
        (([0, 3, 5],), "expected a function, found list"),
    ]
    proved("neighbours", (neighbours,), wrongs)
    proved(
        "neighbours", (lambda f, i, n: torch.as_tensor(neighbours(f, i, n)),), [*wrongs[1:], ((first_too,), "itself")]
    )


def two(train: Any, other: Any) -> Any:
    pca = PCA(n_components=2).fit(train)
    return pca.transform(train), pca.transform(other)


def test_map() -> None:
    def fitted_on_both(train: Any, other: Any) -> Any:
        pca = PCA(n_components=2).fit(np.concatenate([train, other]))
        return pca.transform(train), pca.transform(other)

    def whitened(train: Any, other: Any) -> Any:
        pca = PCA(n_components=2, whiten=True).fit(train)
        return pca.transform(train), pca.transform(other)

    def own_centre(train: Any, other: Any) -> Any:
        pca = PCA(n_components=2).fit(train)
        return pca.transform(train), (other - other.mean(0)) @ pca.components_.T

    def three(train: Any, other: Any) -> Any:
        pca = PCA(n_components=3).fit(train)
        return pca.transform(train), pca.transform(other)

    wrongs = [
        ((fitted_on_both,), "it is fitted on both parts together"),
        ((lambda a, b: (two(a, a)[0], two(b, b)[0]),), "the other part has a map of its own"),
        ((lambda a, b: tuple(reversed(two(b, a))),), "it is fitted on the other part"),
        ((own_centre,), "centred by its own mean"),
        ((lambda a, b: (two(a, b)[0], b[:, :2]),), "`fit` on the one, `transform` for both"),
        ((whitened,), "(whiten)"),
        ((lambda a, b: (a[:, :2], b[:, :2]),), "these are the first two features"),
        ((three,), "should have the shape (30, 2)"),
        ((lambda a, b: two(a, b)[0],), "it should return two arrays"),
        ((lambda a, b: (a[:, 3:], b[:, 3:]),), "not the first two principal components"),
        ((PCA(2),), "expected a function, found PCA"),
    ]
    proved("map", (two,), wrongs)
    proved("map", (lambda a, b: tuple(-part for part in two(a, b)),), wrongs)


def test_reading() -> None:
    wrongs = [((letter,), f"{letter} is not it.") for letter in "ABD"] + [(("F",), "found 'F'"), ((2,), "found int")]
    proved("reading", ("C",), wrongs)


COUNTS = (2, 4, 8)


def runs(**change: Any) -> pd.DataFrame:
    rows = [(count, seed, 0.3 + 0.02 * count + 0.01 * seed) for count, seed in itertools.product(COUNTS, range(5))]
    return pd.DataFrame(rows, columns=["per_class", "seed", "accuracy"]).assign(**change)


def test_curve() -> None:
    right = runs()
    wrongs = [
        ((right.drop(columns="seed"),), "the column 'seed' is missing"),
        ((right[right["per_class"] != 4],), "the number 4 is missing"),
        ((runs(accuracy=60.0),), "give fractions"),
        ((runs(accuracy=1.0),), "were the images that it learned from scored"),
        ((runs(accuracy="high"),), "should be numbers"),
        ((runs(accuracy=0.3 + 0.01 * right["seed"]),), "every number of images gives the same"),
        ((runs(accuracy=0.3 + 0.01 * right["per_class"]),), "does another seed choose other images?"),
        ((right[right["seed"] < 3],), "fewer than 5 seeds"),
        ((runs(seed=range(15)),), "different seeds"),
        ((pd.concat([right, right]),), "a seed appears twice"),
        ((right.to_dict(),), "expected a DataFrame, found dict"),
    ]
    proved("curve", (right,), wrongs, counts=COUNTS, seeds=5)


# --- its figure -------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("letter", ["c", " C "])
def test_a_letter_may_be_written_otherwise(letter: str) -> None:
    lab = tc.Lab("lab2_vgg16_features")
    lab.check("reading", letter)
    assert lab.outcomes["reading"].state == "right"
