"""Checks of functions on features: standardising, an epoch, pooling, neighbours, a map. Each is tried out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from tlcourse.labs.answers import as_number, compare
from tlcourse.labs.lab import Wrong

Array = NDArray[np.floating[Any]]


def scaling(function: Any) -> str:
    """A function (train, other) that standardises both with the training set's mean and deviation of each feature."""
    _callable(function)
    generator = np.random.default_rng(0)
    train, other = generator.normal(3, 2, (8, 5)) * [1, 2, 3, 4, 1], generator.normal(5, 3, (6, 5))
    train[:, 4] = 0.0  # a feature that no training image has
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _pair(function(train.copy(), other.copy()), (train.shape, other.shape))
    mean, deviation = train.mean(0), train.std(0)
    safe = np.where(deviation > 0, deviation, 1)
    usual = [0, 1, 2, 3]
    if any(not np.isfinite(part).all() for part in found):
        raise Wrong("a feature that is 0 in every training image has the deviation 0, and was divided by it")
    for sample in (1.0, np.sqrt(8 / 7)):  # a deviation that divides by n - 1 is as good
        if all(
            np.allclose(part[:, usual], ((given - mean) / (safe * sample))[:, usual], rtol=1e-3, atol=1e-4)
            for part, given in zip(found, (train, other), strict=True)
        ):
            if np.abs(found[1][:, 4]).max() > 1000:
                raise Wrong(
                    "a feature that is constant in training becomes huge elsewhere: divide by 1 there, not by ~0"
                )
            return "every feature in units of its own spread in training, the dead ones unharmed"
    raise Wrong(_scaling_slip(found, train[:, usual], other[:, usual]))


def _scaling_slip(found: tuple[Array, Array], train: Array, other: Array) -> str:
    ours, theirs = found[0][:, :4], found[1][:, :4]
    both = np.concatenate([train, other])
    whole = np.c_[train, np.zeros(len(train))]

    def close(part: Array, wanted: Array) -> bool:
        return bool(np.allclose(part, wanted, rtol=1e-3, atol=1e-4))

    if close(theirs, (other - other.mean(0)) / other.std(0)):
        return "the other part is measured by itself; it must get the training set's mean and deviation"
    if close(ours, (train - both.mean(0)) / both.std(0)):
        return "mean and deviation come from both parts together: the validation set has leaked into training"
    if close(ours, (train - whole.mean(1, keepdims=True)) / whole.std(1, keepdims=True)):
        return "mean and deviation are those of each image; take them over images, for each feature"
    if close(ours, (train - whole.mean()) / whole.std()):
        return "there is one mean and one deviation for everything; each feature has its own"
    if close(ours, train - train.mean(0)):
        return "the mean is subtracted, and nothing is divided by the deviation"
    if close(ours, (train - train.mean(0)) / train.var(0)):
        return "that divides by the variance; the deviation is its root"
    return "the training set should have mean 0 and deviation 1 in every feature, and the other part the same formula"


def epoch(function: Any) -> str:
    """A function (head, batches, optimizer) that trains one epoch and returns the mean loss of an image."""
    _callable(function)
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(10, 3, generator=generator), torch.tensor([0, 1] * 5)
    features[8:] *= 8  # the last batch is unlike the others
    batches = [(features[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)]
    head = _head()
    losses = [float(functional.cross_entropy(head(x), y).detach()) for x, y in batches]
    twice = functional.cross_entropy(head(features).softmax(1), labels)
    mean = (4 * losses[0] + 4 * losses[1] + 2 * losses[2]) / 10
    found = function(head, batches, torch.optim.SGD(head.parameters(), lr=0.0))  # at this rate nothing moves
    if isinstance(found, torch.Tensor) and found.requires_grad:
        raise Wrong("it returns a tensor that keeps the graph of the whole epoch alive; take numbers with `.item()`")
    slips = {
        sum(losses) / 3: "that is the mean over batches; the last batch is smaller, so weight each by its images",
        losses[-1]: "that is the loss of the last batch alone",
        sum(losses): "the batches' losses are added up; divide by something",
        10 * mean: "that is the sum over images; divide by their number",
        10 * mean / 3: "the sum over images was divided by the number of batches; divide by the number of images",
        (4 * losses[0] + 4 * losses[1]) / 8: "the last, smaller batch is left out",
        float(twice.detach()): "cross-entropy takes logits, and it was given a softmax of them",
    }
    compare(found, mean, "the mean loss", slips, tolerance=1e-4)
    _steps(function, features, labels)
    return "every image counts once in the loss, and every batch is a step"


def _head() -> nn.Linear:
    head = nn.Linear(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.5, -0.2, 0.1], [-0.3, 0.4, 0.2]]))
        head.bias.copy_(torch.tensor([0.1, -0.1]))
    return head


def _steps(function: Any, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Two epochs of one batch each: where the weights must be afterwards."""

    def descended(kept: bool = False, scale: float = 1.0) -> torch.Tensor:
        head = _head()
        optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
        for _ in range(2):
            if not kept:
                optimizer.zero_grad()
            (scale * functional.cross_entropy(head(features), labels)).backward()
            optimizer.step()
        return head.weight.detach()

    head = _head()
    start = head.weight.detach().clone()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    for _ in range(2):
        as_number(function(head, [(features, labels)], optimizer), "the mean loss")
    if torch.equal(head.weight, start):
        raise Wrong("the loss is right and the weights did not move: `backward()` and `step()`")
    if torch.allclose(head.weight, descended(), atol=1e-5):
        return
    if torch.allclose(head.weight, descended(kept=True), atol=1e-5):
        raise Wrong("gradients of earlier batches are still there at the next step: `zero_grad()`")
    if torch.allclose(head.weight, descended(scale=len(labels)), atol=1e-5):
        raise Wrong("the step is taken on the sum over images, so its size depends on the batch; use the mean")
    raise Wrong("the loss is right, and the weights are not where one step for each batch leads")


def pool(function: Any) -> str:
    """A function (maps, how) from (images, channels, height, width) to (images, features), in three ways."""
    _callable(function)
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    wanted = {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3)), "flatten": maps.flatten(1)}
    for how, right in wanted.items():
        found = function(maps, how)
        if isinstance(found, tuple):
            raise Wrong(f"{how}: it gives {len(found)} things; `max` with one `dim` gives places too, `amax` does not")
        if not isinstance(found, torch.Tensor):
            raise Wrong(f"{how}: expected a tensor, found {type(found).__name__}")
        if found.shape == right.shape and torch.allclose(found, right, atol=1e-5):
            continue
        raise Wrong(f"{how}: {_pooling_slip(found, right, maps, wanted)}")
    return "a channel becomes one number by mean or max, and stays all its numbers if flattened"


def _pooling_slip(found: torch.Tensor, right: torch.Tensor, maps: torch.Tensor, wanted: dict[str, torch.Tensor]) -> str:
    shape = f"(2, 3, 4, 5) should become {tuple(right.shape)}, and it becomes {tuple(found.shape)}"
    if found.ndim == 0:
        return "one number for everything; keep images and channels apart"
    if found.shape == right.shape:
        for how, other in wanted.items():
            if other.shape == found.shape and torch.allclose(found, other, atol=1e-5):
                return f"this is the {how}"
        return "the shape is right, the numbers are not"
    if found.numel() == right.numel() and found.ndim == 1:
        return f"{shape}: images were flattened too, begin with dimension 1"
    if found.numel() == right.numel() and found.ndim == 4:
        return f"{shape}: take the two dimensions of length 1 away"
    if found.shape[1:] == maps.shape[2:] or (found.ndim == 2 and found.shape == (2, maps[0, 0].numel())):
        return f"{shape}: that is taken over channels; take it over positions"
    if found.ndim == 3:
        return f"{shape}: height and width must both go"
    return shape


def nearest(function: Any) -> str:
    """A function (features, index, count) that gives the indices of the most similar others, by cosine."""
    _callable(function)
    angles, lengths = np.radians([0, 120, 0, 5, 40, 20, 170]), np.array([2, 1, 1, 10, 50, 1, 3])
    features = np.c_[lengths * np.cos(angles), lengths * np.sin(angles)]
    query, count = 2, 3  # number 0 points the same way as number 2, so the image itself need not come first
    right = [0, 3, 5]
    found = _indices(function(features.copy(), query, count))
    distances = np.linalg.norm(features - features[query], axis=1)
    others = [i for i in range(len(features)) if i != query]
    if found == right:
        _other_query(function, features)
        return "the closest in direction, closest first, without the image itself"
    if query in found:
        raise Wrong(
            "the image itself is among its neighbours; it need not come first, a copy may, so exclude its index"
        )
    if len(found) != count:
        raise Wrong(f"{count} neighbours were asked for, and {len(found)} came")
    if found == sorted(others, key=lambda i: distances[i])[:count]:
        raise Wrong("these are the nearest by distance; cosine similarity does not look at lengths")
    if found == sorted(others, key=lambda i: -features[i] @ features[query])[:count]:
        raise Wrong("these have the largest dot products, long vectors win; divide by both lengths")
    if set(found) == set(right):
        raise Wrong("the right ones, in another order; the most similar comes first")
    if found[0] in (1, 6):
        raise Wrong("these are the least similar; a large cosine means alike")
    raise Wrong(f"of seven vectors in a plane it names {found} as the closest in direction to number {query}")


def _indices(found: Any) -> list[int]:
    if not isinstance(found, list | tuple | np.ndarray | torch.Tensor):
        raise Wrong(f"expected indices, found {type(found).__name__}")
    values = np.asarray(found).reshape(-1)
    if not np.issubdtype(values.dtype, np.integer):
        raise Wrong("it gives similarities or other broken numbers; indices are whole: `argsort`")
    return [int(value) for value in values]


def _other_query(function: Any, features: Array) -> None:
    if _indices(function(features, 6, 1)) != [1]:
        raise Wrong("it is right for one image and one count, and wrong for others: does it use both arguments?")


def flat_map(function: Any) -> str:
    """A function (train, other) that gives both in two dimensions, by a PCA that was fitted on the training set."""
    _callable(function)
    generator = np.random.default_rng(0)
    train = generator.normal(size=(30, 5)) * [1, 5, 0.5, 3, 1]
    other = generator.normal(size=(20, 5)) * [6, 1, 1, 1, 4] + [2, 3, 0, 1, 0]
    found = _pair(function(train.copy(), other.copy()), ((30, 2), (20, 2)))
    parts = {"train": train, "other": other, "both": np.concatenate([train, other])}
    axes = {name: np.linalg.svd(part - part.mean(0), full_matrices=False)[2][:2].T for name, part in parts.items()}
    right = [(part - train.mean(0)) @ axes["train"] for part in (train, other)]
    if all(_same_map(a, b) for a, b in zip(found, right, strict=True)):
        return "fitted on the training set, and read for both"
    if _same_map(found[0], right[0]):
        if _same_map(found[1], (other - other.mean(0)) @ axes["other"]):
            raise Wrong(
                "the other part has a map of its own: two fits have different axes, so places cannot be compared"
            )
        if _same_map(found[1], (other - other.mean(0)) @ axes["train"]):
            raise Wrong("the other part is centred by its own mean; the training set's belongs to the map")
        raise Wrong("the training set is right, the other is not: `fit` on the one, `transform` for both")
    if _same_map(found[0], (train - parts["both"].mean(0)) @ axes["both"]):
        raise Wrong("it is fitted on both parts together: what is meant to be new has shaped the map")
    if _same_map(found[0], (train - other.mean(0)) @ axes["other"]):
        raise Wrong("it is fitted on the other part; fit it on the training set")
    if np.allclose(found[0], train[:, :2]):
        raise Wrong("these are the first two features; PCA takes the two directions along which images differ most")
    if _same_map(found[0], right[0] / right[0].std(0, ddof=1)):
        raise Wrong("both axes were stretched to the same spread (whiten); then distances on the map mean nothing")
    raise Wrong("these are not the first two principal components of the training set")


def _same_map(a: Array, b: Array) -> bool:
    """Whether two maps agree, up to the direction of each axis, which is arbitrary."""
    return all(
        np.allclose(a[:, i], b[:, i], atol=1e-3) or np.allclose(a[:, i], -b[:, i], atol=1e-3) for i in range(b.shape[1])
    )


def _pair(found: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[Array, Array]:
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong(f"it should return two arrays, training set first, and it returns {type(found).__name__}")
    parts = tuple(np.asarray(part, dtype=float) for part in found)
    for part, shape, name in zip(parts, shapes, ("training", "other"), strict=True):
        if part.shape != shape:
            raise Wrong(f"the {name} part should have the shape {shape}, and it has {part.shape}")
    return parts[0], parts[1]


def _callable(function: Any) -> None:
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
