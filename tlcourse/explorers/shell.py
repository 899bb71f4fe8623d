"""The widget around a view: controls above, a figure below, and between them a line that says what went wrong."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import ipywidgets
from PIL import Image

from tlhelpers.data.images import BadImageError, open_image
from tlhelpers.errors import DataError, TLError
from tlhelpers.plots import Chart

LOG = logging.getLogger(__name__)
WIDTH = "880px"
READ = "JPEG, PNG, WebP, TIFF or BMP"


class Explorer(ipywidgets.VBox):
    """Controls, and the figure that a view makes of their values; drawn anew whenever one of them changes.

    An error never vanishes: it is said in a line above the figure, and one that is not the reader's is logged too.

    Attributes:
        controls: by the name of the view's argument.
        chart: the figure that is shown.
        message: the line that says what went wrong; empty where all is well.

    Args:
        view: called with the value of every control; gives a figure.
        controls: ipywidgets with a `value`.
        others: widgets that are shown above the controls and are no arguments of the view.
    """

    def __init__(
        self,
        view: Callable[..., Chart],
        controls: Mapping[str, Any],
        others: tuple[Any, ...] = (),
    ) -> None:
        self.view = view
        self.controls = dict(controls)
        self.chart: Chart | None = None
        self._held = False
        self._message = ipywidgets.HTML()
        self._figure = ipywidgets.HTML()
        for control in (*self.controls.values(), *others):
            control.style.description_width = "initial"
        super().__init__(
            [*others, *self.controls.values(), self._message, self._figure],
            layout=ipywidgets.Layout(max_width=WIDTH, overflow="hidden"),
        )
        self.add_class("tl-explorer")
        for control in self.controls.values():
            control.observe(lambda _change: self.redraw(), names="value")
        self.redraw()

    def redraw(self) -> None:
        """Show the figure of the controls' values."""
        if not self._held:
            with self.reporting():
                self._draw()

    def _draw(self) -> None:
        self.chart = self.view(**{name: control.value for name, control in self.controls.items()})
        self._figure.value = as_html(self.chart)

    @property
    def message(self) -> str:
        """What the line above the figure says, as plain text."""
        return html.unescape(self._message.value.partition(">")[2].rpartition("<")[0])

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Turn an error of a `with` block into a sentence that the reader sees."""
        try:
            yield
        except TLError as error:
            self._say(f"{error} The figure is still the one from before.")
        except Exception as error:  # a widget's callback would pass it over in silence
            LOG.exception("an explorer failed")
            kind = type(error).__name__
            self._say(f"This should not have happened: {kind}: {error}. The figure is still the one from before.")
        else:
            self._say("")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let controls change in a `with` block without drawing each time."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _say(self, text: str) -> None:
        self._message.value = f'<p role="alert" style="color: #a33">{html.escape(text)}</p>' if text else ""

    def __repr__(self) -> str:
        """What a page shows that has no kernel."""
        return "Run this cell to use the explorer."


class ImageExplorer(Explorer):
    """An explorer whose view has an argument `image`: one of those given, or one that the reader uploads.

    Attributes:
        images: by name; an upload is added.
        upload: the button.

    Args:
        view: called with `image`, a PIL image, and the value of every control.
        images: RGB PIL images by name; not empty.
        controls: as for `Explorer`.
        arriving: called with an image just before it is first shown, to bring the controls up to date.
    """

    def __init__(
        self,
        view: Callable[..., Chart],
        images: Mapping[str, Image.Image],
        controls: Mapping[str, Any],
        arriving: Callable[[Image.Image], None] | None = None,
    ) -> None:
        if not images:
            raise DataError("an explorer of images needs one image or more; got none")
        self.images = dict(images)
        self.arriving = arriving
        choice = ipywidgets.Dropdown(options=list(self.images), description="Image", tooltip="Which image to show")
        self.choice = choice
        self.upload = ipywidgets.FileUpload(
            accept="image/*",
            description="Upload an image of yours",
            tooltip=f"An image from your computer, {READ}, up to 8 MB; it stays on this machine",
            layout=ipywidgets.Layout(width="270px"),
        )
        super().__init__(
            lambda **state: view(image=self.images[choice.value], **state),
            controls,
            (choice, self.upload),
        )
        choice.observe(lambda _change: self._chosen(), names="value")
        self.upload.observe(lambda _change: self._uploaded(), names="value")

    def _chosen(self) -> None:
        if not self._held:
            with self.reporting():
                self._arrive()

    def _uploaded(self) -> None:
        if not self.upload.value:
            return
        with self.reporting():
            item = self.upload.value[-1]
            name = PurePosixPath(str(item["name"])).name or "upload"
            self.images[name] = open_upload(name, bytes(item["content"]))
            with self.held():
                self.choice.options = list(self.images)
                self.choice.value = name
            self._arrive()

    def _arrive(self) -> None:
        with self.held():
            if self.arriving is not None:
                self.arriving(self.images[self.choice.value])
        self._draw()


def open_upload(name: str, content: bytes) -> Image.Image:
    """An image that a reader uploaded, RGB and upright.

    Args:
        name: of the file, as the browser says.
        content: its bytes.

    Raises:
        BadImageError: saying what is wrong with it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(content)
        try:
            return open_image(path)
        except BadImageError as error:
            message = f"'{name}' cannot be used: {error.reason}. Upload a {READ} file."
            raise BadImageError(message, error.reason) from error


def as_html(chart: Chart) -> str:
    """A figure as an <img> with its text alternative, no wider than the page."""
    buffer = io.BytesIO()
    chart.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img style="max-width: 100%" alt="{html.escape(chart.alt)}" src="data:image/png;base64,{data}">'
