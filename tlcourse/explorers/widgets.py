"""The three explorers: controls, and below them the figure that a view returns for their values."""

import contextlib
import functools
import html
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from PIL import Image
from torch import nn

from tlcourse.explorers import views
from tlcourse.looking_inside.activations import block_ends
from tlhelpers.data.images import BadImageError, open_image
from tlhelpers.errors import DataError, TLError
from tlhelpers.models.cards import get_card
from tlhelpers.plots import Chart

LOG = logging.getLogger(__name__)
READ = "JPEG, PNG, WebP, TIFF or BMP"


class Explorer(ipywidgets.VBox):
    """Controls by the name of the view's argument, other widgets, a line for errors, and the figure of the view."""

    def __init__(self, view: Callable[..., Chart], controls: Mapping[str, Any], *others: Any) -> None:
        self.controls, self.message = dict(controls), ipywidgets.HTML()
        for control in (*controls.values(), *others):
            control.style.description_width = "initial"
        draw = functools.lru_cache(64)(lambda **values: view(**values).html())

        def show(**values: Any) -> None:
            with self.reporting():
                display(HTML(draw(**values)))

        output = ipywidgets.interactive_output(show, self.controls)
        layout = ipywidgets.Layout(max_width="880px", overflow="hidden")
        super().__init__([*others, *controls.values(), self.message, output], layout=layout)
        self.add_class("tl-explorer")

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Show an error in a `with` block as a sentence; ipywidgets would pass over it in silence."""
        text = ""
        try:
            yield
        except TLError as error:
            text = f"{error} The figure is still the one from before."
        except Exception as error:
            LOG.exception("an explorer failed")
            text = f"This should not have happened: {type(error).__name__}: {error}"
        self.message.value = f'<p role="alert" style="color: #a33">{html.escape(text)}</p>' if text else ""

    def __repr__(self) -> str:
        """What a page without a kernel shows."""
        return "Run this cell to use the explorer."


class ImageExplorer(Explorer):
    """An explorer of one of some images or an upload; `prepare` brings the controls up to date for a new image."""

    def __init__(
        self,
        view: Callable[..., Chart],
        images: Mapping[str, Image.Image],
        controls: Mapping[str, Any],
        prepare: Callable[[Image.Image], None] = lambda _image: None,
    ) -> None:
        if not images:
            raise DataError("an explorer of images needs one image or more; got none")
        self.images = dict(images)
        tooltip = f"An image from your computer, {READ}, up to 8 MB; it stays on this machine"
        self.upload = _control(ipywidgets.FileUpload, "Upload an image of yours", tooltip, "270px", accept="image/*")
        self.choice = _control(ipywidgets.Dropdown, "Image", "Which image to show", options=list(images))

        def chosen(_change: object) -> None:
            with self.reporting():
                prepare(self.images[self.choice.value])

        def uploaded(_change: object) -> None:
            with self.reporting():
                name, image = open_upload(self.upload.value[-1])
                name = f"{name} ({len(self.images)})" if name in self.images else name
                self.images = {name: image, **self.images}
            self.choice.options = list(self.images)  # which chooses the first, if there is a new one

        self.choice.observe(chosen, "value")  # before the observer that draws
        self.upload.observe(uploaded, "value")
        prepare(self.images[self.choice.value])
        controls = {"image": self.choice, **controls}
        super().__init__(lambda image, **values: view(image=self.images[image], **values), controls, self.upload)


def open_upload(file: Mapping[str, Any]) -> tuple[str, Image.Image]:
    """Name and image of an uploaded file."""
    name = Path(str(file["name"])).name or "upload"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(file["content"])
        try:
            return name, open_image(path)
        except BadImageError as error:
            raise DataError(f"'{name}' cannot be used: {error.reason}. Upload a {READ} file.") from error


def depth(runs: pd.DataFrame) -> Explorer:
    """`depth_view` with buttons for every setting that was measured."""
    controls: dict[str, Any] = {}
    for name, description, tooltip in (
        ("data", "Data set:", "Photographs of flowers, or drawings"),
        ("method", "Trained:", "What is not frozen"),
        ("per_class", "Images a class:", "Different training images"),
    ):
        values = sorted(set(runs[name]), key=list(views.METHODS).index if name == "method" else None)
        options = [(views.METHODS.get(value, str(value)), value) for value in values]
        setting = {"options": options, "value": options[len(options) // 2][1], "style": {"button_width": "auto"}}
        controls[name] = _control(ipywidgets.ToggleButtons, description, tooltip, "auto", **setting)
    return Explorer(functools.partial(views.depth_view, runs), controls)


def feature_maps(model: nn.Module, images: Mapping[str, Image.Image], *, layer: str | None = None) -> ImageExplorer:
    """`feature_maps_view` of one of `images` or an upload, and of any layer; `layer`, or the first one, comes first."""
    layers = views.map_layers(model)
    views.check_layer(layer or next(iter(layers)), layers)
    options = [(f"{path} ({c} maps of {h} × {w})", path) for path, (c, h, w) in layers.items()]
    tooltip = "The layer whose output is shown, in the order of the forward pass"
    choice = _control(ipywidgets.Dropdown, "Layer", tooltip, options=options, value=layer or options[0][1])
    return ImageExplorer(functools.partial(views.feature_maps_view, model), images, {"layer": choice})


def grad_cam(model: nn.Module, images: Mapping[str, Image.Image]) -> ImageExplorer:
    """`grad_cam_view` of one of `images` or an upload, for one of its ten most likely classes, at any block."""
    names, layers = get_card(model).classes, views.map_layers(model)
    blocks = [(block, path) for path, block in block_ends(model).items() if path in layers]
    target = _control(ipywidgets.Dropdown, "Class", "The ten most likely classes, the most likely first")
    tooltip = "The block at whose end the maps are taken; the last is the usual choice"
    layer = _control(ipywidgets.Dropdown, "Block", tooltip, options=blocks, value=blocks[-1][1])

    def most_likely(image: Image.Image) -> None:
        chances = views.class_chances(model, image)
        best = np.argsort(-chances)[:10].tolist()
        target.options = [(f"{names[i] if names else f'class {i}'} ({chances[i]:.1%})", i) for i in best]

    view = functools.partial(views.grad_cam_view, model)
    return ImageExplorer(view, images, {"target": target, "layer": layer}, most_likely)


def _control(kind: Any, description: str, tooltip: str, width: str = "520px", **options: Any) -> Any:
    return kind(description=description, tooltip=tooltip, layout={"width": width, "max_width": "100%"}, **options)
