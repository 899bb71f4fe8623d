"""Lab 2's checks of functions on images and features. Each is tried out on small inputs and compared with mistakes."""

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tlcourse.labs.answers import about, compare, draws, expect, expect_len, is_close, match, wrong_if
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.models.cards import ModelCard, Preprocessing

OWN = Preprocessing(size=32, resize=36, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))  # no network's usual one


def extraction(function: Any) -> str:
    """A function (network, split) that returns an array (images, features)."""
    pixels = draws().integers(0, 256, (count := int(draws().integers(260, 319)), 40, 60, 3), dtype=np.uint8)
    keys, labels = list(map(str, range(count))), [i % 2 for i in range(count)]
    split = ImageSplit(lambda i: Image.fromarray(pixels[i]), labels, ("even", "odd"), keys=keys, name="try")
    calls, model = list[Any](), nn.Sequential(nn.Conv2d(3, 2, 8, 8), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.card = ModelCard("none", "none", "A layer.", "-", OWN)  # type: ignore[assignment]
    model.register_forward_hook(lambda _, x, y: calls.append((len(x[0]), model.training, torch.is_grad_enabled())))
    try:
        found = function(model, split)
    except RuntimeError as error:
        wrong_if("requires grad" in str(error), "the output still has gradients, so NumPy refuses it; switch them off")
        raise
    wrong_if(not calls, "it never calls the network that it is given; does it use one from outside?")
    batch, training, gradients = (max(values) for values in zip(*calls, strict=True))
    wrong_if(gradients, "it keeps what gradients need, for every image: `with torch.inference_mode():` does not")
    wrong_if(training, "the network stays in training mode; call `eval()` inside, then nobody can forget it")
    wrong_if(split.transform, "it changes the split that it is given; `split.with_transform(...)` makes a copy")
    expect(found, np.ndarray, "expected a NumPy array")
    rows = f"{count} images went in, and {len(found)} rows came out:"
    wrong_if(len(found) == count - count % batch != count, f"{rows} is the last, smaller batch lost?")
    wrong_if(len(found) < count, f"{rows} does it keep every batch, and use the split that it is given?")
    wrong_if(len(found) > count, f"{rows} is a row added twice?")
    wrong_if(found.shape != (count, 8), f"{count} images should give ({count}, 8) here, found {found.shape}")
    wrong_if(batch == count, f"all {count} images went through at once; a large folder would not fit in memory")
    wrong_if(batch == 1, "the images went through one by one; batches are much faster on a GPU")

    def prepared(mean: Any, std: Any) -> Any:
        transform = replace(OWN, mean=mean, std=std).evaluation()
        with torch.inference_mode():
            return model(torch.stack([transform(split.image(i)) for i in range(count)])).numpy()

    if not is_close(found, right := prepared(OWN.mean, OWN.std), 1e-4):
        same = is_close(np.sort(found[:, 0]), np.sort(right[:, 0]), 1e-4)
        wrong_if(same, "all rows are there, in another order than the split's: was it shuffled or sorted?")
        again = is_close(found, function(model, split), 1e-4)
        wrong_if(not again, "two calls give different features: is the transform random, as augmentation is?")
        usual = prepared(Preprocessing.mean, Preprocessing.std)
        mistakes = {
            "the images are not normalised; the card's preprocessing does it": prepared([0] * 3, [1] * 3),
            "values from 0 to 255 went in; the card's preprocessing scales them": prepared([0] * 3, [1 / 255] * 3),
            "ImageNet's mean and deviation were used, and this network's card states others": usual,
        }
        unlike = "the images were not prepared as the given network's card says: another card, resizing or crop?"
        match(found, right, mistakes, unlike, 1e-3)
    return "in the split's order, in batches, and the same in two calls"


def scaling(function: Any) -> str:
    """A function (train, other) that standardises both with the training set's mean and deviation of each feature."""
    many, few, width = map(int, draws().integers((7, 4, 5), (12, 7, 8)))
    x, y = draws().normal(3, 2, (many, width)) * range(1, width + 1), draws().normal(5, 3, (few, width))
    x[:, -1] = 0.0  # a feature that is constant in training
    given = x.copy(), y.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = function(*given)
    expect_len(found, 2, "it should return two arrays, training set first")
    ours, theirs = (np.asarray(values, dtype=float) for values in found)
    for name, values, shape in (("training", ours, x.shape), ("other", theirs, y.shape)):
        wrong_if(values.shape != shape, f"the {name} set should have the shape {shape}, and it has {values.shape}")
    changed = not (is_close(given[0], x) and is_close(given[1], y))
    wrong_if(changed, "it changes the arrays that it is given (`-=` and `/=` work in place); make new ones")
    infinite = not np.isfinite(np.r_[ours, theirs]).all()
    wrong_if(infinite, "a feature that is 0 in every training image has the deviation 0, and was divided by it")
    huge, by_image, for_all = abs(theirs[:, -1]).max() > 1e3, ((x.T - x.mean(1)) / x.std(1)).T, (x - x.mean()) / x.std()
    ours, theirs, x, y, by_image, for_all = (values[:, :-1] for values in (ours, theirs, x, y, by_image, for_all))
    both, centred, unbiased = np.concatenate([x, y]), x - x.mean(0), x.std(0, ddof=1)
    leaked = "mean and deviation come from both sets together: the validation set has leaked into training"
    mistakes = {
        leaked: (x - both.mean(0)) / both.std(0),
        "mean and deviation come from the other set; take those of the training set": (x - y.mean(0)) / y.std(0),
        "mean and deviation are those of each image; take them over images, for each feature": by_image,
        "there is one mean and one deviation for all; each feature has its own": for_all,
        "the mean is subtracted, and nothing is divided by the deviation": centred,
        "that divides by the variance; the deviation is its root": centred / x.var(0),
    }
    deviation = unbiased if is_close(ours, centred / unbiased, 1e-3) else x.std(0)  # to divide by n - 1 is as good
    otherwise = "the training set should have mean 0 and deviation 1 in every feature; the other, the same formula"
    match(ours, centred / deviation, mistakes, otherwise, 1e-3)
    own = "the other set is scaled by itself; use the training set's mean and deviation"
    late = "the other set is unchanged: was the training set overwritten before its mean was used again?"
    mistakes = {own: (y - y.mean(0)) / y.std(0), late: y}
    match(theirs, (y - x.mean(0)) / deviation, mistakes, "the other set needs the same formula and numbers", 1e-3)
    wrong_if(huge, "a feature constant in training becomes huge elsewhere: divide by 1 there, not by ~0")
    return "every feature in units of its own spread in training, the constant ones unharmed"


def _epoch(head: Any, batches: Any, optimizer: Any, zero: bool = True, steps: int = 1, **change: Any) -> Any:
    losses = []
    for inputs, labels in batches:
        logits = head(inputs).softmax(1) if change.get("softmax") else head(inputs)
        loss = functional.cross_entropy(logits, labels, reduction=change.get("reduction", "mean"))
        if zero:
            optimizer.zero_grad()
        loss.backward()
        for _ in range(steps):
            optimizer.step()
        losses.append(loss.item())
    return losses


def epoch(function: Any) -> str:
    """A function (head, batches, optimizer) that trains for one epoch and returns the mean loss per image."""
    count = int(draws().integers(9, 12))
    features, labels = torch.tensor(draws().normal(size=(count, 3)), dtype=torch.float32), torch.arange(count) % 2
    features[8:] *= 8  # the last batch is unlike the others
    start, batches = torch.ones(2, 3) / 2 - torch.eye(2, 3), DataLoader(TensorDataset(features, labels), batch_size=4)

    def after(step: Any, batches: Any = batches, **change: Any) -> tuple[Any, Any]:
        (head := nn.Linear(3, 2, bias=False)).load_state_dict({"weight": start})
        found = step(head, batches, torch.optim.SGD(head.parameters(), lr=0.05), **change)
        return head.weight.detach(), found

    (weights, found), (right, (a, b, c)) = after(function), after(_epoch)
    graph = isinstance(found, torch.Tensor) and found.requires_grad
    wrong_if(graph, "it returns a tensor that keeps the graph of the whole epoch alive; take numbers with `.item()`")
    mistakes = {
        "the weights did not move: `backward()` and `step()`": start,
        "gradients of earlier batches are still there at the next step: `zero_grad()`": after(_epoch, zero=False)[0],
        "steps that use the sum over images depend on the batch; use the mean": after(_epoch, reduction="sum")[0],
        "cross-entropy takes logits, and it was given a softmax of them": after(_epoch, softmax=True)[0],
        "the last, smaller batch is left out": after(_epoch, [*batches][:-1])[0],
        "`step()` is called twice for each batch": after(_epoch, steps=2)[0],
    }
    otherwise = "the weights are not where one step of the given optimizer for each batch leads"
    match(weights, right, mistakes, otherwise, 1e-5)
    total, late = 4 * a + 4 * b + (count - 8) * c, functional.cross_entropy(features @ right.T, labels).item()
    mistakes = {
        "that is the mean over batches; the last batch is smaller, so weight each by its images": (a + b + c) / 3,
        "that is the loss of the last batch alone": c,
        "the batches' losses are added up; divide by something": a + b + c,
        "that is the sum over images; divide by their number": total,
        "the sum over images was divided by the number of batches; divide by the number of images": total / 3,
        "that is the loss after the epoch; each batch counts as it was before its step": late,
    }
    compare(found, total / count, "the mean loss", mistakes, tolerance=1e-4)
    return "every image counts once in the loss, and every batch is a step"


def classifier(function: Any) -> str:
    """A function (features, labels, classes, epochs) that trains a new linear layer with `train_epoch`."""
    classes, epochs = map(int, draws().integers((3, 20), (6, 30)))
    labels, seen, entropy = torch.arange(count := 20 * classes) // 20, list[Any](), functional.cross_entropy
    centres = torch.tensor(draws().normal(size=(classes, 200)), dtype=torch.float32)[labels]

    def spy(logits: torch.Tensor, target: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        wrong_if(int(target.max()) >= logits.shape[1], "labels beyond the layer's outputs: are the given ones used?")
        seen.append(target.tolist())
        return entropy(logits, target, *rest, **options)

    with mock.patch.object(functional, "cross_entropy", spy):
        head = function(centres + torch.randn(count, 200) / 2, labels, classes, epochs)
    expect(head, nn.Module, "it should return the trained layer")
    wide = getattr(head, "in_features", 200)
    wrong_if(wide != 200, f"the layer takes {wide} numbers, and here an image has 200: are they the given features?")
    logits = head(centres).detach()
    outputs, order = logits.shape[1], [label for batch in seen for label in batch]
    wrong_if(outputs != classes, f"the layer has {outputs} outputs, and {classes} classes were asked for")
    wrong_if(not seen, "no batch was trained on: does it call `train_epoch`, and is that exercise right?")
    times = f"{len(order)} images went through training, and {epochs} epochs of {count} are {epochs * count}"
    wrong_if(len(order) != epochs * count, f"{times}: is `epochs` used, and `drop_last` off?")
    wrong_if(len(seen) == epochs, "an epoch is a single step here: give the DataLoader a `batch_size`")
    wrong_if(order[:count] == order[count : 2 * count], "every epoch has the images in the same order: `shuffle=True`")
    share = (logits.argmax(1) == labels).float().mean()
    new = f"the layer is right for {share:.0%} of easy training images: is it the one that the optimizer has, and is it"
    wrong_if(share < 0.9, f"{new} made once, before the loop?")
    return "a layer for any number of classes, trained in shuffled batches"


def pool(function: Any) -> str:
    """A function (maps, how) from (images, channels, height, width) to (images, features), in three ways."""
    maps = torch.tensor(draws().normal(size=(2, 3, *draws().integers((4, 7), (7, 10)))))
    expected = {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3)), "flatten": maps.flatten(1)}
    known = {f"this is the {how}": right for how, right in [*expected.items(), ("sum", maps.sum((2, 3)))]}
    for how, right in expected.items():
        with about(how):
            found = function(maps, how)
            pair = isinstance(found, tuple) and len(found)
            wrong_if(pair, f"it gives {pair} things; `max` with one `dim` gives places too, `amax` does not")
            expect(found, torch.Tensor, "expected a tensor")
            text = f"{tuple(maps.shape)} should become {tuple(right.shape)}, and it becomes {tuple(found.shape)}"
            slips = {
                "one number for everything; keep images and channels apart": found.ndim == 0,
                "the shape is right, the numbers are not": found.shape == right.shape,
                f"{text}: take the two dimensions of length 1 away": found.shape[2:] == (1, 1),
                f"{text}: images were flattened too, begin with dimension 1": found.shape == (maps.numel(),),
                f"{text}: that is taken over channels; take it over positions": found.numel() == maps.numel() / 3,
                f"{text}: height and width must both go": found.ndim == 3,
            }
            match(found, right, known, next((slip for slip, so in slips.items() if so), text), 1e-5)
    return "a channel becomes one number by mean or max, and stays all its numbers if flattened"


def nearest(function: Any) -> str:
    """A function (features, index, count) that returns the indices of the most similar others, by cosine."""
    features = draws().normal(size=(12, 3)) * draws().permutation(2.0 ** np.arange(-6, 6))[:, None]
    features[2] = 2 * features[5]  # a copy points the same way, so the image itself need not come first
    unit, given = features / np.linalg.norm(features, axis=1, keepdims=True), features.copy()

    def order(similarity: Any, index: int = 5, count: int = 3) -> list[int]:
        return [int(i) for i in np.argsort(-similarity) if i != index][:count]

    found, right = function(given, 5, 3), order(unit @ unit[5])
    expect(found, list | tuple | np.ndarray | torch.Tensor, "expected indices")
    found = np.asarray(found).reshape(-1)
    wrong_if(found.dtype.kind not in "iu", "it gives similarities; indices are whole numbers: `argsort`")
    wrong_if(not is_close(given, features), "it changes the features that it is given; `/=` works in place")
    wrong_if(5 in found, "the image itself is among its neighbours; a copy may come first, so exclude its index")
    wrong_if(len(found) != 3, f"3 neighbours were asked for, and {len(found)} came")
    near = order(-np.linalg.norm(features - features[5], axis=1))
    mistakes = {
        "these are the nearest by distance; cosine similarity ignores lengths": near,
        "these have the largest dot products, long vectors win; divide by both lengths": order(features @ features[5]),
        "these are the least similar; a large cosine means alike": order(-unit @ unit[5]),
        "the right ones, in another order; the most similar comes first": found if {*found} == {*right} else right,
    }
    match(found, right, mistakes, f"it names {found.tolist()} of 12 vectors as the closest in direction to number 5")
    other = [*map(int, function(given, 7, 1))] != order(unit @ unit[7], 7, 1)
    wrong_if(other, "it is right for one image and count, and wrong for others: does it use both arguments?")
    return "the closest in direction, closest first, without the image itself"
