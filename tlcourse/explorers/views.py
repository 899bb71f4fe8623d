"""What the explorers show: functions from a setting to a figure, without widgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from tlcourse import plots as figures
from tlhelpers import plots
from tlhelpers.errors import DataError, ModelError
from tlhelpers.gradcam import grad_cam
from tlhelpers.loop import device_of
from tlhelpers.lr_finder import TOO_FAR, LRFinderResult
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import family_of
from tlhelpers.models.modes import evaluation_mode

TRAINS = {  # values of the column `trains`, and how they are called
    "head": "the head alone",
    "layer4": "layer4 and the head",
    "layer3": "layer3 and above",
    "everything": "everything",
}
COLUMNS = ("trains", "per_class", "lr", "seed", "val", "train_acc", "test")


def depth_view(runs: pd.DataFrame, *, trains: str, per_class: int, lr: float) -> plots.Chart:
    """The learning curves of one setting over its seeds, and where it stands among all settings.

    Args:
        runs: a row for each run: columns trains, per_class, lr, seed, test (an accuracy), and train_acc and val
            (lists of accuracies by epoch), as in `measured("depth").runs`.
        trains: what was not frozen: "head", "layer4", "layer3" or "everything".
        per_class: training images of each class.
        lr: the backbone's learning rate; the head has one of its own, the same in all runs.

    Raises:
        DataError: if the table lacks a column, or has no such run.
    """
    missing = [name for name in COLUMNS if name not in runs]
    if missing:
        raise DataError(f"the table of runs has no column {', '.join(missing)}; it has {', '.join(runs.columns)}")
    chosen = runs[(runs["trains"] == trains) & (runs["per_class"] == per_class) & np.isclose(runs["lr"], lr)]
    if chosen.empty:
        raise DataError(f"no run with trains={trains!r}, per_class={per_class}, lr={lr:g} was measured")
    curves = {"training": chosen["train_acc"], "validation": chosen["val"]}
    every = np.concatenate([np.concatenate(runs[name].to_list()) for name in ("train_acc", "val")])
    groups = runs.groupby(["trains", "per_class", "lr"])["test"]
    rows = [name for name in TRAINS if name in set(runs["trains"])]
    means, deviations = (
        values.unstack(["per_class", "lr"]).sort_index(axis=1).loc[rows] for values in (groups.mean(), groups.std())
    )
    columns = list(means.columns)
    shown = means.set_axis([f"{rate:g}" for _, rate in columns], axis=1).set_axis([TRAINS[r] for r in rows], axis=0)
    here = next(i for i, (count, rate) in enumerate(columns) if count == per_class and np.isclose(rate, lr))
    test = 100 * chosen["test"]
    return figures.learning_curves(
        {name: np.stack([np.asarray(run) for run in values]) for name, values in curves.items()},
        shown,
        deviations.fillna(0),
        (rows.index(trains), here),
        title=f"Trained: {TRAINS[trains]}; {per_class} images a class; the backbone's learning rate {lr:g}\n"
        f"test accuracy {test.mean():.1f} ± {test.std():.1f} % over {len(test)} seeds",
        ylim=(max(float(every.min()) - 0.03, 0), min(float(every.max()) + 0.03, 1.02)),
        groups=[f"{count} images a class" for count in dict.fromkeys(count for count, _ in columns)],
    )


def rate_view(trial: LRFinderResult, *, rate: float) -> plots.Chart:
    """The curve of a trial of learning rates, a rate marked on it, and in words what to expect there.

    Args:
        trial: as from `find_lr`.
        rate: the learning rate.
    """
    chart = plots.rate_trial(trial.curve, trial.suggestion, trial.highest)
    chart.set_size_inches(8.0, 4.2)
    (axis,) = chart.axes
    axis.axvline(rate, color="black", lw=2.5, label=f"your rate ({rate:.1e})")
    axis.legend(fontsize=8, loc="lower left")
    words = rate_words(trial, rate)
    axis.set_title(words, fontsize=10, wrap=True)
    chart.suptitle(f"Learning rate {rate:.1e}", fontsize=11)
    chart.alt += f" Marked: {rate:.1e}. {words}"
    return chart


def rate_words(trial: LRFinderResult, rate: float) -> str:
    """In words, what to expect of a learning rate after a trial.

    Raises:
        DataError: if the rate is not above 0.
    """
    if not rate > 0:
        raise DataError(f"a learning rate is above 0, not {rate}")
    curve = trial.curve
    if rate > curve["lr"].max() * 1.001:
        grown = curve["smooth"].iloc[-1] > TOO_FAR * curve["smooth"].min()
        return "The trial never came this far" + (": the loss had grown too much. Expect failure." if grown else ".")
    loss = float(np.interp(np.log(rate), np.log(curve["lr"]), curve["smooth"]))
    seen = f"The loss was {loss:.2f} here, {curve['smooth'].iloc[0]:.2f} at the start. "
    if rate > trial.highest:
        return seen + "Past the lowest point: expect a loss that jumps about or grows."
    if rate > trial.suggestion:
        return seen + "Past the steepest fall: fast, but near the edge. A schedule may peak here."
    if rate >= trial.suggestion / 10:
        return seen + "At the steepest fall or a little below: a good place to begin."
    return seen + "Far below the steepest fall: safe, but expect to wait for many epochs."


def threshold_view(
    probabilities: np.ndarray, labels: np.ndarray, *, classes: Sequence[str], threshold: float, prevalence: float
) -> plots.Chart:
    """The scores of two classes with a threshold, its place on the ROC curve, and what it would mean for people.

    Args:
        probabilities: of class 1 for each image, (images,).
        labels: (images,), 0 or 1.
        classes: names of class 0 and class 1.
        threshold: a probability; from it on an image is called class 1.
        prevalence: the share of class 1 among the people for whom the words are.
    """
    odds = np.clip(probabilities, 1e-6, 1 - 1e-6)
    words = threshold_words(probabilities, labels, classes=classes, threshold=threshold, prevalence=prevalence)
    chart = figures.threshold(
        np.log(odds / (1 - odds)), labels, float(np.log(threshold / (1 - threshold))), classes=classes, title=words
    )
    chart.set_size_inches(8.7, 3.8)
    return chart


def threshold_words(
    probabilities: np.ndarray, labels: np.ndarray, *, classes: Sequence[str], threshold: float, prevalence: float
) -> str:
    """What a threshold would mean for 1,000 people, in words; the arguments are those of `threshold_view`.

    Raises:
        DataError: if a class has no image, or threshold or prevalence is not between 0 and 1.
    """
    for name, value in (("threshold", threshold), ("prevalence", prevalence)):
        if not 0 < value < 1:
            raise DataError(f"the {name} is a number between 0 and 1, without the ends; got {value}")
    if set(np.unique(labels)) != {0, 1}:
        raise DataError(f"there must be images of both classes, labelled 0 and 1; found {np.unique(labels).tolist()}")
    called = probabilities >= threshold
    found, alarms = float(called[labels == 1].mean()), float(called[labels == 0].mean())
    ill = round(1000 * prevalence)
    hits, false = round(found * ill), round(alarms * (1000 - ill))
    right = f"{hits / (hits + false):.0%} of the calls are right" if hits + false else "nobody is called"
    return (
        f"'{classes[1]}' from a probability of {threshold:.2f} on: finds {found:.0%} of {classes[1]}, spares "
        f"{1 - alarms:.0%} of {classes[0]}\nOf 1,000 people, {ill} of them ill: {hits} found, {ill - hits} missed, "
        f"{false} false alarms; {right}"
    )


def map_layers(model: nn.Module, size: int | None = None) -> dict[str, tuple[int, int, int]]:
    """The layers of a network that give maps, in the order in which an image passes through them.

    Args:
        model: a network with a card.
        size: side of the image in pixels; None takes the card's.

    Returns:
        {path of the layer: (channels, height, width)}. Layers whose maps are single values are left out.
    """
    side = size or get_card(model).preprocessing.size
    found = _outputs(model, torch.zeros(1, 3, side, side))
    return {name: tuple(maps.shape[1:]) for name, maps in found.items()}  # type: ignore[misc]


def feature_maps_view(model: nn.Module, image: Image.Image, *, layer: str, count: int = 24) -> plots.Chart:
    """An image as a network sees it, and the maps of those channels of a layer that vary most over it.

    Args:
        model: a network with a card, in any mode; it is looked at in evaluation mode.
        image: RGB.
        layer: its path, one of `map_layers`.
        count: how many maps, at most.

    Raises:
        ModelError: if the layer is unknown, or gives no maps.
    """
    pixels, shown = _seen(model, image)
    found = _outputs(model, pixels, layer)
    if layer not in found:
        known = ", ".join(list(map_layers(model))[:6])
        raise ModelError(f"'{layer}' is no layer of this {type(model).__name__} that gives maps; those are {known}, …")
    maps = found[layer][0]
    strongest = maps.flatten(1).std(dim=1).argsort(descending=True)[:count]
    title = f"{layer}: the {len(strongest)} of its {len(maps)} channels that vary most"
    return figures.feature_maps(shown, list(maps[strongest].numpy()), strongest.tolist(), title=title)


def grad_cam_view(
    model: nn.Module, image: Image.Image, *, target: int | None = None, layer: str | None = None
) -> plots.Chart:
    """An image as a network sees it, and what in it speaks for a class, as Grad-CAM says.

    Args:
        model: a classifier with a card that names its classes.
        image: RGB.
        target: number of the class; None takes the predicted one.
        layer: path of a layer with maps; None takes the last one.

    Raises:
        ModelError: if class or layer do not exist.
    """
    pixels, shown = _seen(model, image)
    chances = class_chances(model, image)
    number = int(chances.argmax()) if target is None else target
    heat = grad_cam(model, pixels, layer=layer, target=number)
    names = get_card(model).classes
    name = names[number] if names else f"class {number}"
    title = f"Evidence for '{name}' ({chances[number]:.1%} likely, the network says), at {layer or 'the last layer'}"
    return figures.overlay(shown, heat, title=title)


def class_chances(model: nn.Module, image: Image.Image) -> np.ndarray[Any, Any]:
    """How likely a network takes each class to be, (classes,)."""
    pixels, _ = _seen(model, image)
    with torch.inference_mode(), evaluation_mode(model):
        return model(pixels.to(device_of(model))).softmax(dim=1)[0].float().cpu().numpy()


def block_layers(model: nn.Module) -> dict[str, str]:
    """{block: path of its last layer} for the blocks of a network whose end gives maps."""
    there = map_layers(model)
    ends = {name: paths[-1] for name, paths in family_of(model).blocks(model).items() if paths}
    return {name: path for name, path in ends.items() if path in there}


def _seen(model: nn.Module, image: Image.Image) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """An image as the network gets it, (1, 3, size, size), and as a reader can look at it."""
    look = get_card(model).preprocessing
    pixels = look.evaluation()(image)
    return pixels[None], look.undo(pixels).permute(1, 2, 0).numpy()


def _outputs(model: nn.Module, pixels: torch.Tensor, only: str | None = None) -> dict[str, torch.Tensor]:
    """The maps (1, channels, height, width) that layers give; of a layer that is used several times, the last."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            found[name] = output.detach().float().cpu().clone()  # a copy: a ReLU may work in place on it

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: keep(name, output))
        for name, module in model.named_modules()
        if name and only in (None, name)
    ]
    try:
        with torch.inference_mode(), evaluation_mode(model):
            model(pixels.to(device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    return found
