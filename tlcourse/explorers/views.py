"""What the explorers show: functions from a setting to a figure, without widgets."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from tlcourse import plots as figures
from tlcourse.looking_inside.activations import grad_cam, layer_outputs
from tlcourse.plots.tables import colours_of, draw_runs
from tlhelpers.errors import DataError, ModelError
from tlhelpers.loop import device_of
from tlhelpers.models.cards import get_card
from tlhelpers.models.freezing import evaluation_mode
from tlhelpers.plots import Chart

METHODS = {  # values of the column `method`: what trains, and its name in figures
    "head": "the head alone",
    "layer4": "layer4 and the head",
    "layer3": "layer3 and above",
    "everything": "everything",
    "scratch": "from scratch",
}


def depth_view(runs: pd.DataFrame, *, data: str, method: str, per_class: int) -> Chart:
    """Training and test accuracy of a method by the number of images, and the others' test accuracy as broken lines.

    `runs` has the columns data, method (a key of `METHODS`), per_class, setting (the learning rate), train and test. A
    vertical line marks `per_class`. Raises DataError if there is no such run.
    """
    own = runs[runs["data"] == data]
    line = own[own["method"] == method]
    here = line[line["per_class"] == per_class]
    if here.empty:
        raise DataError(f"no run with data={data!r}, method={method!r}, per_class={per_class} was measured")
    chart = Chart("", figsize=(8.8, 5))
    axis = chart.subplots()
    tests = own.groupby(["method", "per_class"])["test"].mean().unstack("per_class").rename(METHODS)
    tests, colours = tests.sort_values(per_class, ascending=False), colours_of(METHODS.values())
    described = [f"{name} {means[per_class]:.0%}" for name, means in tests.iterrows()]
    draw_runs(axis, line, "per_class", "train", "black", "training")
    for (name, means), text in zip(tests.iterrows(), described, strict=True):
        if name == METHODS[method]:
            draw_runs(axis, line, "per_class", "test", colours[name], f"test: {text}")
        else:
            axis.plot(means.index, means, color=colours[str(name)], lw=1, ls="--", label=f"test: {text}")
    axis.axvline(per_class, color="black", ls=":", lw=1)
    axis.set(xlabel="training images of each class", ylabel="accuracy", ylim=(0, 1.02))
    axis.set_xticks(sorted(set(own["per_class"])))
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.grid(alpha=0.3)
    chart.legend(loc="outside lower center", ncols=3, fontsize=8, title=f"At {per_class} images a class")
    test = 100 * here["test"]
    title = f"{data}, trained: {METHODS[method]}; {per_class} images a class; learning rate {here['setting'].iloc[0]}\n"
    title += f"test accuracy {test.mean():.1f} ± {test.std():.1f} % over {len(test)} seeds"
    chart.suptitle(title, fontsize=11)
    chart.alt = f"{title}. Lines against the number of images. Test accuracy at {per_class}: {', '.join(described)}."
    return chart


def map_layers(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """{path: (channels, height, width)} of the layers with maps, in the order of the forward pass; needs a card."""
    side = get_card(model).preprocessing.size
    return {path: tuple(maps.shape) for path, maps in layer_maps(model, torch.zeros(1, 3, side, side)).items()}


def feature_maps_view(model: nn.Module, image: Image.Image, *, layer: str) -> Chart:
    """An RGB image as the network sees it, and the maps of a layer that vary most; a ModelError if it is not known."""
    pixels, shown = _prepare(model, image)
    maps = layer_maps(model, pixels)
    check_layer(layer, maps)
    title = f"{layer}: the {min(26, len(maps[layer]))} of its {len(maps[layer])} channels that vary most"
    return figures.activation_maps(shown, {layer: maps[layer]}, channels=26, columns=9, title=title)


def check_layer(layer: str, known: Iterable[str]) -> None:
    """Raise ModelError if a layer is not one of those with maps."""
    if layer not in (names := list(known)):
        raise ModelError(f"'{layer}' is no layer with maps; the first are {', '.join(names[:6])}")


def grad_cam_view(
    model: nn.Module, image: Image.Image, *, target: int | None = None, layer: str | None = None
) -> Chart:
    """An RGB image as a network with a card sees it, and the evidence in it for a class, by Grad-CAM.

    `target` None is the predicted class, `layer` None the last one. Raises ModelError if class or layer do not exist.
    """
    pixels, shown = _prepare(model, image)
    chances, names = class_chances(model, image), get_card(model).classes
    number = int(chances.argmax()) if target is None else target
    heat = grad_cam(model, pixels, layer=layer, target=number)
    name = f"'{names[number]}'" if names else f"class {number}"
    title = f"Evidence for {name} (probability {chances[number]:.1%}), at {layer or 'the last layer'}"
    return figures.evidence([shown], [heat], ["what the network sees, and the evidence"], title=title, columns=1)


def class_chances(model: nn.Module, image: Image.Image) -> np.ndarray[Any, Any]:
    """The probability of each class, (classes,)."""
    pixels, _ = _prepare(model, image)
    with torch.inference_mode(), evaluation_mode(model):
        return model(pixels.to(device_of(model))).softmax(dim=1)[0].float().cpu().numpy()


def _prepare(model: nn.Module, image: Image.Image) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """An image as the network gets it, (1, 3, size, size), and as a reader can look at it, (size, size, 3)."""
    preprocessing = get_card(model).preprocessing
    pixels = preprocessing.evaluation()(image)
    return pixels[None], preprocessing.undo(pixels).permute(1, 2, 0).numpy()


def layer_maps(model: nn.Module, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The maps (channels, height, width) of all layers for one image; of a layer that is used twice, the last."""
    with torch.inference_mode(), evaluation_mode(model):
        found = layer_outputs(model, pixels.to(device_of(model)), dict(model.named_modules()), copy=True)
    tensors = {path: maps for path, maps in found.items() if isinstance(maps, torch.Tensor) and maps.ndim == 4}
    return {path: maps[0].float().cpu() for path, maps in tensors.items() if maps[0, 0].numel() > 1}
