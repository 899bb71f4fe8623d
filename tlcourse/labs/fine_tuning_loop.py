"""The checks of a schedule and of a loop that fine-tunes: on networks and optimizers that note how they are used."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from tlcourse.labs.answers import as_number, draws, expect, expect_len, match, torch_draws, wrong_if
from tlhelpers.models.freezing import freeze_modules

TRAIN, VAL = 6, 5  # sides of the images in pixels, by which they are told apart


def cosine(function: Any) -> str:
    """A function (optimizer, epochs) that gives a LambdaLR whose factor falls from 1 to 0 along half a cosine."""
    for epochs in draws().permutation(np.arange(4, 13))[:2].tolist():
        optimizer, found = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2), []
        scheduler = function(optimizer, epochs)
        library = isinstance(scheduler, CosineAnnealingLR)
        wrong_if(library, "that is PyTorch's own schedule; write the factor yourself and give it to `LambdaLR`")
        expect(scheduler, LambdaLR, "it should return a `LambdaLR`")
        foreign = scheduler.optimizer is not optimizer
        wrong_if(foreign, "it changes the learning rates of another optimizer, not of the one that it is given")
        for _ in range(epochs + 1):
            found.append(optimizer.param_groups[0]["lr"] / 0.2)
            optimizer.step()
            scheduler.step()
        share = np.linspace(0, 1, epochs + 1)
        right = (1 + np.cos(np.pi * share)) / 2
        mistakes = {
            "it rises from 0 to 1; the learning rate should fall": 1 - right,
            "it falls to -1: a cosine runs from 1 to -1, so shift and halve it": 2 * right - 1,
            "that is a straight line; a cosine stays high at first and levels off at the end": 1 - share,
            "it falls and rises again: is the argument pi * epoch / epochs?": (1 + np.cos(2 * np.pi * share)) / 2,
            "the learning rate does not change": 0 * share + 1,
            "`LambdaLR` multiplies by what your function returns: return a factor, no learning rate": 0.2 * right,
        }
        place = int(np.argmax(np.abs(found - right) > 1e-6))
        text = f"at epoch {place} of {epochs} the factor should be {right[place]:.3f}, found {found[place]:.3f}"
        match(found, right, mistakes, text)
    return "from 1 down to 0 along half a cosine, by `LambdaLR`"


def practice(seen: list[Any]) -> tuple[Any, ...]:
    """A network with a frozen layer, two loaders, an optimizer and a scheduler; `seen` notes what is done with them."""
    random, count = torch_draws(), 3 * int(draws().integers(3, 6)) + 1  # the last batch has one image
    layers = [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(4, 3)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=random)
    freeze_modules(model[0])
    model.register_forward_pre_hook(lambda m, x: seen.append((x[0].shape[-1], m.training, torch.is_grad_enabled())))
    loaders = []
    for number, side in ((count, TRAIN), (count + 3, VAL)):
        labels = torch.arange(number) % 3
        images = torch.randn(number, 3, side, side, generator=random) + labels[:, None, None, None]
        loaders.append(DataLoader(TensorDataset(images, labels), 3 if side == TRAIN else 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: seen.append("step"))

    def factor(epoch: int) -> float:
        seen.append("move")
        return 0.5**epoch

    scheduler = LambdaLR(optimizer, factor)
    seen.clear()
    return model, *loaders, optimizer, scheduler


def plain(epochs: int, slip: str = "") -> tuple[Any, ...]:
    """What plain PyTorch gives: losses and right images of each batch, by epoch, and the weights; `slip` spoils it."""
    model, train, val, optimizer, scheduler = practice([])
    losses, hits = [], []
    for _ in range(epochs):
        model.train()
        for number, (images, labels) in enumerate(train):
            scores = model(images).softmax(1) if slip == "softmax" else model(images)
            loss = cross_entropy(scores, labels, reduction="sum" if slip == "sum" else "mean")
            if slip != "never" and (slip != "once" or number == 0):
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        model.eval()
        hits += [int((model(images).argmax(1) == labels).sum()) for images, labels in val]
    return np.reshape(losses, (epochs, -1)), np.reshape(hits, (epochs, -1)), weights(model)


def weights(model: nn.Module) -> Any:
    """All parameters of a network in one array."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()


def loop(function: Any) -> str:
    """A function (model, train_loader, val_loader, optimizer, scheduler, epochs) that trains and validates."""
    seen, epochs = list[Any](), int(draws().integers(2, 5))
    model, train, val, optimizer, scheduler = practice(seen)
    start = weights(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, where the scheduler moves first
        history = function(model, train, val, optimizer, scheduler, epochs)
    expect_len(history, epochs, f"for {epochs} epochs it should return a list of {epochs} pairs")
    for pair in history:
        expect_len(pair, 2, "for each epoch there should be a pair (loss, accuracy)")
    steps, batches = seen.count("step"), len(train)
    wrong_if(not steps, "the optimizer makes no step: call `optimizer.step()` after `backward()`")
    times = f"{steps} steps of the optimizer in {epochs} epochs of {batches} batches"
    wrong_if(steps != epochs * batches, f"{times}; expected one step for each batch")
    moves = [seen[:place].count("step") for place, what in enumerate(seen) if what == "move"]
    wrong_if(not moves, "the learning rate never changes: `scheduler.step()` is missing")
    wrong_if(len(moves) == steps, "the scheduler moves with every batch; this schedule counts epochs")
    wrong_if(len(moves) != epochs, f"the scheduler moves {len(moves)} times in {epochs} epochs; expected once in each")
    wrong_if(moves[0] < batches, "the scheduler moves before the optimizer's steps; it belongs after them")
    modes, tests = ([what[1:] for what in seen if what[0] == side] for side in (TRAIN, VAL))
    extra = f"{len(modes)} batches of training images pass, for {steps} steps"
    wrong_if(len(modes) != steps, f"{extra}: is the accuracy measured on training images?")
    wrong_if(not modes[0][0], "the training images pass in evaluation mode: `model.train()` is missing")
    back = "after the first validation it trains in evaluation mode: `model.train()` at the start of each epoch"
    wrong_if(not all(training for training, _ in modes), back)
    times = f"{len(tests)} batches of validation images pass, expected {epochs} epochs of {len(val)}"
    wrong_if(len(tests) != epochs * len(val), f"{times}: validate once after each epoch")
    wrong_if(any(training for training, _ in tests), "it validates in training mode: `model.eval()` is missing")
    wrong_if(any(grad for _, grad in tests), "it validates with gradients: use `torch.no_grad()`")
    wrong_if(seen[0][0] == VAL, "it validates before it trains; the accuracy of an epoch is that after its training")
    wrong_if(model.training, "it leaves the network in training mode; end in evaluation mode")
    moved = model[0].running_mean.any()
    wrong_if(moved, "frozen BatchNorm has moved: `model.train()` leaves it alone, setting its mode by hand does not")
    losses, hits, right = plain(epochs)
    mistakes = {
        "no weight has changed: is `backward()` missing, or are gradients zeroed between it and `step()`?": start,
        "gradients of earlier batches are still there: `optimizer.zero_grad()` is missing": plain(epochs, "never")[2],
        "gradients add up within an epoch: `zero_grad()` before each `backward()`": plain(epochs, "once")[2],
        "`cross_entropy` takes the scores themselves, no softmax of them": plain(epochs, "softmax")[2],
        "steps that use the sum over images depend on the batch; use the mean": plain(epochs, "sum")[2],
    }
    match(weights(model), right, mistakes, "the weights are not where plain PyTorch's steps lead", 1e-5)
    sizes, parts = ([len(labels) for _, labels in loader] for loader in (train, val))
    count, tested, sums, correct = sum(sizes), sum(parts), losses @ sizes, hits.sum(1)
    graph = any(isinstance(loss, torch.Tensor) and loss.requires_grad for loss, _ in history)
    wrong_if(graph, "the loss is a tensor that keeps the graph of every step alive; take its number with `.item()`")
    mistakes = {
        "that loss is the mean over batches; the last one is smaller, so weight each by its images": losses.mean(1),
        "that is the loss of the last batch alone; add up those of all": losses[:, -1],
        "the losses of the batches are added up; the mean loss of an image is asked for": losses.sum(1),
        "that is the sum of the loss over images; divide by their number": sums,
        "the sum of the loss over images is divided by the number of batches": sums / batches,
        "the sum of the loss goes on from epoch to epoch; begin each with 0": sums.cumsum() / count,
    }
    found = [as_number(loss, "the loss") for loss, _ in history]
    match(found, sums / count, mistakes, "the loss is not the mean over the training images of its epoch", 1e-4)
    mistakes = {
        "give the accuracy as a fraction, not in per cent": 100 * correct / tested,
        "that is the number of right images; divide it": correct,
        "that accuracy is the mean over batches; the last one is smaller": (hits / parts).mean(1),
        "the right validation images are divided by the number of training images": correct / count,
        "the right images are counted on from epoch to epoch; begin each with 0": correct.cumsum() / tested,
    }
    found = [as_number(accuracy, "the accuracy") for _, accuracy in history]
    match(found, correct / tested, mistakes, "the accuracy is not the share of right validation images", 1e-4)
    return f"{steps} steps, {epochs} moves of the scheduler, and the same weights as plain PyTorch"
