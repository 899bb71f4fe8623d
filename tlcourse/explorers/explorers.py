"""The five explorers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from tlcourse.explorers.shell import Explorer, ImageExplorer
from tlcourse.explorers.views import (
    TRAINS,
    block_layers,
    class_chances,
    depth_view,
    feature_maps_view,
    grad_cam_view,
    map_layers,
    rate_view,
    threshold_view,
)
from tlhelpers.errors import ModelError
from tlhelpers.lr_finder import LRFinderResult
from tlhelpers.models.cards import get_card

CLASSES = 10  # that a reader can choose among: those the network takes to be most likely
_WIDE = ipywidgets.Layout(width="520px", max_width="100%")


def depth(runs: pd.DataFrame, *, trains: str = "layer4", per_class: int = 40, lr: float = 1e-3) -> Explorer:
    """How deep to unfreeze, with how many images, at which learning rate: every combination was measured before.

    Args:
        runs: as for `depth_view`.
        trains: what is shown first, and so the next two.
        per_class: see there.
        lr: see there.
    """

    def buttons(name: str, options: list[tuple[str, object]], value: object, tooltip: str) -> ipywidgets.ToggleButtons:
        layout = ipywidgets.Layout(width="auto")
        chosen = ipywidgets.ToggleButtons(
            options=options, value=value, description=name, tooltips=[tooltip] * len(options), layout=layout
        )
        chosen.style.button_width = "auto"
        return chosen

    parts = [name for name in TRAINS if name in set(runs["trains"])]
    counts, rates = (sorted(float(value) for value in runs[name].unique()) for name in ("per_class", "lr"))
    nearest = min(rates, key=lambda rate: abs(np.log(rate / lr)))
    controls = {
        "trains": buttons("Trained:", [(TRAINS[name], name) for name in parts], trains, "What is not frozen"),
        "per_class": buttons(
            "Images a class:", [(f"{count:g}", int(count)) for count in counts], per_class, "Training images"
        ),
        "lr": buttons(
            "The backbone's learning rate:", [(f"{rate:g}", rate) for rate in rates], nearest, "Size of its steps"
        ),
    }
    return Explorer(functools.partial(depth_view, runs), controls)


def learning_rate(trial: LRFinderResult, *, rate: float | None = None) -> Explorer:
    """Where a learning rate lies on the curve of a trial, and what to expect of it.

    Args:
        trial: as from `find_lr`.
        rate: what is shown first; None takes the trial's suggestion.
    """
    low, high = float(trial.curve["lr"].min()), float(trial.curve["lr"].max())
    slider = ipywidgets.FloatLogSlider(
        value=trial.suggestion if rate is None else rate,
        min=float(np.log10(low)),
        max=float(np.log10(high)) + 0.5,  # a little further than the trial came
        step=0.05,
        description="Learning rate",
        tooltip="The learning rate that is marked on the curve",
        readout_format=".1e",
        continuous_update=False,
        layout=_WIDE,
    )
    return Explorer(functools.partial(rate_view, trial), {"rate": slider})


def threshold(
    probabilities: np.ndarray, labels: np.ndarray, *, classes: Sequence[str], at: float = 0.5, prevalence: float = 0.1
) -> Explorer:
    """From which probability on to call an image the second class, and what that means where it is rare or frequent.

    Args:
        probabilities: as for `threshold_view`, and so the next two.
        labels: see there.
        classes: see there.
        at: the threshold that is shown first.
        prevalence: the share of people with the second class that is assumed first.
    """

    def slider(value: float, low: float, name: str, tooltip: str) -> ipywidgets.FloatSlider:
        return ipywidgets.FloatSlider(
            value=min(max(value, low), 1 - low),
            min=low,
            max=1 - low,
            step=0.01,
            description=name,
            tooltip=tooltip,
            readout_format=".2f",
            continuous_update=False,
            layout=_WIDE,
        )

    controls = {
        "threshold": slider(at, 0.01, "Threshold", f"From this probability on an image is called {classes[1]}"),
        "prevalence": slider(prevalence, 0.01, "Prevalence", f"How many of the people have {classes[1]}, as a share"),
    }
    return Explorer(functools.partial(threshold_view, probabilities, labels, classes=classes), controls)


def feature_maps(model: nn.Module, images: Mapping[str, Image.Image], *, layer: str | None = None) -> ImageExplorer:
    """What any layer of a network makes of any image.

    Args:
        model: a network with a card.
        images: RGB PIL images by name.
        layer: what is shown first, a path; None takes the first layer.
    """
    layers = map_layers(model)
    options = [(f"{path} ({c} maps of {h} × {w})", path) for path, (c, h, w) in layers.items()]
    if layer is not None and layer not in layers:
        raise ModelError(f"'{layer}' is no layer with maps; the first are {', '.join(list(layers)[:6])}")
    choice = ipywidgets.Dropdown(
        options=options,
        value=options[0][1] if layer is None else layer,
        description="Layer",
        tooltip="The layer whose output is shown; the first in the list is the first that the image meets",
        layout=_WIDE,
    )
    return ImageExplorer(functools.partial(feature_maps_view, model), images, {"layer": choice})


def grad_cam(model: nn.Module, images: Mapping[str, Image.Image]) -> ImageExplorer:
    """What in an image speaks for a class, seen at each block of a network.

    Args:
        model: a classifier with a card.
        images: RGB PIL images by name.
    """
    blocks = block_layers(model)
    first = next(iter(images.values()), None)
    target = ipywidgets.Dropdown(
        options=[] if first is None else _likely(model, first),
        description="Class",
        tooltip="The class that the evidence is for; the most likely ones, most likely first",
        layout=_WIDE,
    )
    layer = ipywidgets.Dropdown(
        options=list(blocks.items()),
        value=list(blocks.values())[-1],
        description="Block",
        tooltip="The block at whose end one looks; the last is the usual choice",
        layout=_WIDE,
    )

    def arriving(image: Image.Image) -> None:
        target.options = _likely(model, image)

    view = functools.partial(grad_cam_view, model)
    return ImageExplorer(view, images, {"target": target, "layer": layer}, arriving)


def _likely(model: nn.Module, image: Image.Image) -> list[tuple[str, int]]:
    """The most likely classes of an image with their chances, most likely first."""
    chances, names = class_chances(model, image), get_card(model).classes
    best = np.argsort(-chances)[:CLASSES]
    return [(f"{names[i] if names else f'class {i}'} ({chances[i]:.1%})", int(i)) for i in best]
