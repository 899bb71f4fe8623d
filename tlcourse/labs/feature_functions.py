"""Lab 2's checks of functions on images and features. Each is tried out on small inputs and compared with mistakes."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from tlcourse.labs.answers import about, compare, expect, expect_len, is_close, match, reject, wrong_if
from tlcourse.labs.lab import Wrong
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.models.cards import ModelCard, Preprocessing

IMAGES = 300
PREPROCESSING = Preprocessing(size=32, resize=36, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))  # no network's usual one
IMAGENET = Preprocessing()


class _MeanColours(nn.Module):
    """A network whose features are the mean colours of the left half; it records how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.calls: list[tuple[int, bool, bool]] = []  # images, whether it was training, whether gradients were on
        self.card: Any = ModelCard("none", "none", "Mean colours.", "-", PREPROCESSING)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append((len(images), self.training, torch.is_grad_enabled()))
        return images[..., : images.shape[-1] // 2].mean((2, 3)) + 0 * self.unused


def _coloured(index: int) -> Image.Image:
    """An image of one colour, black on the right, so that mirroring shows, with a white edge that the crop removes."""
    image = Image.new("RGB", (60, 40), (index % 200, (7 * index) % 200, index // 2))
    image.paste((0, 0, 0), (30, 0, 60, 40))
    image.paste((255, 255, 255), (0, 0, 6, 40))
    return image


def extraction(function: Any) -> str:
    """A function (network, split) that returns an array (images, features)."""
    keys = [str(i) for i in range(IMAGES)]
    split = ImageSplit(_coloured, [i % 2 for i in range(IMAGES)], ("even", "odd"), keys=keys, name="try")
    model, off = _MeanColours(), "`with torch.inference_mode():`"
    try:
        found = function(model, split)
    except RuntimeError as error:
        text = "the network's output still has gradients, so NumPy refuses it; call the network inside"
        wrong_if("requires grad" in str(error), f"{text} {off}")
        raise
    wrong_if(not model.calls, "it never calls the network that it is given; does it use one from outside?")
    batches, training, gradients = (max(values) for values in zip(*model.calls, strict=True))
    wrong_if(gradients, f"it keeps what gradients would need, for every image; switch them off with {off}")
    wrong_if(training, "the network stays in training mode; call `eval()` inside, then nobody can forget it")
    expect(found, np.ndarray, "expected a NumPy array")
    rows, shape = f"{IMAGES} images went in, and {len(found)} rows came out:", (IMAGES, 3)
    wrong_if(len(found) < IMAGES, f"{rows} is the last, smaller batch lost?")
    wrong_if(len(found) > IMAGES, f"{rows} is a row added twice?")
    wrong_if(found.shape != shape, f"{IMAGES} images with 3 features should give {shape}, found {found.shape}")
    at_once = f"all {IMAGES} images went through at once; a large folder would not fit in memory, use batches"
    wrong_if(batches == IMAGES, at_once)
    _right_features(found, function(model, split), split)
    return "the split's order, in batches, and twice the same"


def _right_features(found: Any, again: Any, split: ImageSplit) -> None:
    with torch.inference_mode():
        images = torch.stack([PREPROCESSING.evaluation()(image) for image in map(split.image, range(IMAGES))])
        right = _MeanColours()(images).numpy()
    order = [np.lexsort(np.round(rows, 3).T) for rows in (found, right)]  # rounding errors must not change it
    shuffled = not is_close(found, right, 1e-4) and is_close(found[order[0]], right[order[1]], 1e-4)
    wrong_if(shuffled, "all rows are there, in another order than the split's: was it shuffled?")
    match(found, again, {}, "two calls give different features: is the transform random, as augmentation is?", 1e-4)
    plain = right * np.array(PREPROCESSING.std) + np.array(PREPROCESSING.mean)
    from_imagenet = found * np.array(IMAGENET.std) + np.array(IMAGENET.mean)
    prepared = {
        "the images are not normalised; the card's preprocessing does it": found,
        "values from 0 to 255 went in; the card's preprocessing scales and normalises": found / 255,
        "ImageNet's mean and deviation were used, and this network's card states others": from_imagenet,
    }
    reject(plain, prepared, 0.008)
    match(found, right, {}, "the images were not prepared as the card says: is it another resizing or crop?", 1e-4)


def scaling(function: Any) -> str:
    """A function (train, other) that standardises both with the training set's mean and deviation of each feature."""
    generator = np.random.default_rng(0)
    train, other = generator.normal(3, 2, (8, 5)) * [1, 2, 3, 4, 1], generator.normal(5, 3, (6, 5))
    train[:, 4] = 0.0  # a feature that is constant in training
    with np.errstate(divide="ignore", invalid="ignore"):
        ours, theirs = _pair(function(train.copy(), other.copy()), (train.shape, other.shape))
    infinite = not np.isfinite(np.concatenate([ours, theirs])).all()
    wrong_if(infinite, "a feature that is 0 in every training image has the deviation 0, and was divided by it")
    huge = np.abs(theirs[:, 4]).max() > 1000
    ours, theirs, x, y = (values[:, :4] for values in (ours, theirs, train, other))
    for deviation in (x.std(0), x.std(0, ddof=1)):  # to divide by n - 1 is as good
        if is_close(ours, (x - x.mean(0)) / deviation, 1e-3) and is_close(theirs, (y - x.mean(0)) / deviation, 1e-3):
            wrong_if(huge, "a feature constant in training becomes huge elsewhere: divide by 1 there, not by ~0")
            return "every feature in units of its own spread in training, the constant ones unharmed"
    own = (y - y.mean(0)) / y.std(0)
    reject(theirs, {"the other set is scaled by itself; use the training set's mean and deviation": own}, 1e-3)
    both, by_image = np.concatenate([x, y]), (x - train.mean(1, keepdims=True)) / train.std(1, keepdims=True)
    leaked = (x - both.mean(0)) / both.std(0)
    mistakes = {
        "mean and deviation come from both sets together: the validation set has leaked into training": leaked,
        "mean and deviation are those of each image; take them over images, for each feature": by_image,
        "there is one mean and one deviation for all; each feature has its own": (x - train.mean()) / train.std(),
        "the mean is subtracted, and nothing is divided by the deviation": x - x.mean(0),
        "that divides by the variance; the deviation is its root": (x - x.mean(0)) / x.var(0),
    }
    reject(ours, mistakes, 1e-3)
    raise Wrong("the training set should have mean 0 and deviation 1 in every feature; the other, the same formula")


def epoch(function: Any) -> str:
    """A function (head, batches, optimizer) that trains for one epoch and returns the mean loss per image."""
    features, labels = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 5)
    features[8:] *= 8  # the last batch is unlike the others
    batches = [(features[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)]
    head = _head()
    a, b, c = (functional.cross_entropy(head(x), y).item() for x, y in batches)
    total = 4 * a + 4 * b + 2 * c
    found = function(head, batches, torch.optim.SGD(head.parameters(), lr=0.0))  # at this rate nothing moves
    graph = isinstance(found, torch.Tensor) and found.requires_grad
    wrong_if(graph, "it returns a tensor that keeps the graph of the whole epoch alive; take numbers with `.item()`")
    twice = functional.cross_entropy(head(features).softmax(1), labels).item()
    mistakes = {
        "that is the mean over batches; the last batch is smaller, so weight each by its images": (a + b + c) / 3,
        "that is the loss of the last batch alone": c,
        "the batches' losses are added up; divide by something": a + b + c,
        "that is the sum over images; divide by their number": total,
        "the sum over images was divided by the number of batches; divide by the number of images": total / 3,
        "the last, smaller batch is left out": (a + b) / 2,
        "cross-entropy takes logits, and it was given a softmax of them": twice,
    }
    compare(found, total / 10, "the mean loss", mistakes, tolerance=1e-4)
    _right_steps(function, features, labels)
    return "every image counts once in the loss, and every batch is a step"


def _head() -> nn.Linear:
    head = nn.Linear(3, 2)
    weight = torch.tensor([[0.5, -0.2, 0.1], [-0.3, 0.4, 0.2]])
    head.load_state_dict({"weight": weight, "bias": torch.tensor([0.1, -0.1])})
    return head


def _right_steps(function: Any, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Check the weights after two epochs of one batch each."""

    def after(step: Any, **change: Any) -> torch.Tensor:
        head = _head()
        optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
        for _ in range(2):
            step(head, [(features, labels)], optimizer, **change)
        return head.weight.detach()

    def right(head: Any, batches: Any, optimizer: Any, zero: bool = True, scale: int = 1) -> None:
        if zero:
            optimizer.zero_grad()
        (scale * functional.cross_entropy(head(features), labels)).backward()
        optimizer.step()

    mistakes = {
        "the loss is right and the weights did not move: `backward()` and `step()`": _head().weight.detach(),
        "gradients of earlier batches are still there at the next step: `zero_grad()`": after(right, zero=False),
        "the step uses the sum over images, so its size depends on the batch; use the mean": after(right, scale=10),
    }
    otherwise = "the loss is right, and the weights are not where one step for each batch leads"
    match(after(function), after(right), mistakes, otherwise, 1e-5)


def pool(function: Any) -> str:
    """A function (maps, how) from (images, channels, height, width) to (images, features), in three ways."""
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3)), "flatten": maps.flatten(1)}
    known = {f"this is the {how}": right for how, right in expected.items()}
    for how, right in expected.items():
        with about(how):
            found = function(maps, how)
            pair = isinstance(found, tuple) and len(found)
            wrong_if(pair, f"it gives {pair} things; `max` with one `dim` gives places too, `amax` does not")
            expect(found, torch.Tensor, "expected a tensor")
            match(found, right, known, _pooling_mistake(found, right), 1e-5)
    return "a channel becomes one number by mean or max, and stays all its numbers if flattened"


def _pooling_mistake(found: torch.Tensor, right: torch.Tensor) -> str:
    shape = f"(2, 3, 4, 5) should become {tuple(right.shape)}, and it becomes {tuple(found.shape)}"
    if found.ndim == 0:
        return "one number for everything; keep images and channels apart"
    if found.shape == right.shape:
        return "the shape is right, the numbers are not"
    if found.numel() == right.numel() and found.ndim == 1:
        return f"{shape}: images were flattened too, begin with dimension 1"
    if found.numel() == right.numel() and found.ndim == 4:
        return f"{shape}: take the two dimensions of length 1 away"
    if found.shape[1:] in ((4, 5), (20,)):
        return f"{shape}: that is taken over channels; take it over positions"
    return f"{shape}: height and width must both go" if found.ndim == 3 else shape


def nearest(function: Any) -> str:
    """A function (features, index, count) that returns the indices of the most similar others, by cosine."""
    angles, lengths = np.radians([0, 120, 0, 5, 40, 20, 170]), np.array([2, 1, 1, 10, 50, 1, 3])
    features = np.c_[lengths * np.cos(angles), lengths * np.sin(angles)]
    query, right = 2, [0, 3, 5]  # number 0 points the same way as number 2, so the image itself need not come first
    found = _indices(function(features.copy(), query, 3))
    wrong_if(query in found, "the image itself is among its neighbours; a copy may come first, so exclude its index")
    wrong_if(len(found) != 3, f"3 neighbours were asked for, and {len(found)} came")
    if found != right:
        product = -features @ features[query]
        distance = np.linalg.norm(features - features[query], axis=1)
        product[query] = distance[query] = np.inf
        orders = {
            "these are the nearest by distance; cosine similarity ignores lengths": distance.argsort()[:3],
            "these have the largest dot products, long vectors win; divide by both lengths": product.argsort()[:3],
        }
        reject(found, orders)
        wrong_if(set(found) == set(right), "the right ones, in another order; the most similar comes first")
        wrong_if(found[0] in (1, 6), "these are the least similar; a large cosine means alike")
        raise Wrong(f"of seven vectors in a plane it names {found} as the closest in direction to number {query}")
    other = _indices(function(features, 6, 1)) != [1]
    wrong_if(other, "it is right for one image and count, and wrong for others: does it use both arguments?")
    return "the closest in direction, closest first, without the image itself"


def _indices(found: Any) -> list[int]:
    expect(found, list | tuple | np.ndarray | torch.Tensor, "expected indices")
    values = np.asarray(found).reshape(-1)
    whole = values.dtype.kind in "iu"
    wrong_if(not whole, "it gives similarities or other fractions; indices are whole numbers: `argsort`")
    return list(map(int, values))


def flat_map(function: Any) -> str:
    """A function (train, other) that maps both to two dimensions, by a PCA fitted on the training set."""
    generator = np.random.default_rng(0)
    train = generator.normal(size=(30, 5)) * [1, 5, 0.5, 3, 1]
    other = generator.normal(size=(20, 5)) * [6, 1, 1, 1, 4] + [2, 3, 0, 1, 0]
    ours, theirs = map(_signed, _pair(function(train.copy(), other.copy()), ((30, 2), (20, 2))))

    def pca(values: Any, fitted: Any, centre: Any) -> Any:
        axes = np.linalg.svd(fitted - fitted.mean(0), full_matrices=False)[2][:2].T
        return _signed((values - centre.mean(0)) @ axes)

    right, both = pca(train, train, train), np.concatenate([train, other])
    mistakes = {
        "it is fitted on both sets together: what should be new has shaped the map": pca(train, both, both),
        "it is fitted on the other set; fit it on the training set": pca(train, other, other),
        "these are the first two features; PCA takes the two directions of largest variance": _signed(train[:, :2]),
        "both axes have the same spread (whiten); then distances on the map mean nothing": right / right.std(0, ddof=1),
    }
    match(ours, right, mistakes, "these are not the first two principal components of the training set", 1e-3)
    own = "the other set has a map of its own: two fits have different axes, so places cannot be compared"
    centre = "the other set is centred by its own mean; the training set's belongs to the map"
    mistakes = {own: pca(other, other, other), centre: pca(other, train, other)}
    otherwise = "the training set is right, the other is not: `fit` on the one, `transform` for both"
    match(theirs, pca(other, train, train), mistakes, otherwise, 1e-3)
    return "fitted on the training set, and applied to both"


def _signed(points: Any) -> Any:
    """The points with each axis turned so that its largest number is positive; an axis may point either way."""
    return points * np.sign(points[np.abs(points).argmax(0), np.arange(points.shape[1])])


def _pair(found: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> Any:
    expect_len(found, 2, "it should return two arrays, training set first")
    arrays = [np.asarray(values, dtype=float) for values in found]
    for values, shape, name in zip(arrays, shapes, ("training", "other"), strict=True):
        wrong_if(values.shape != shape, f"the {name} set should have the shape {shape}, and it has {values.shape}")
    return arrays
