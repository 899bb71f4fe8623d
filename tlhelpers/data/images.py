"""Opening one image, whatever form it comes in: RGB and upright, or an error that says what is wrong with it."""

import contextlib
import importlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from tlhelpers.errors import DataError, describe
from tlhelpers.files import user_path

AnyImage = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | torch.Tensor
ONE_IMAGE = (str, bytes, os.PathLike, Image.Image, np.ndarray, torch.Tensor)  # its types, for `isinstance`
_HEAD = 512  # bytes from the beginning of a file that tell what it is
# How files begin that can be read (the names are Pillow's), and others that are often found among images: as patterns.
_SIGNATURES = json.loads((Path(__file__).parent / "signatures.json").read_text(encoding="utf8"))
_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # an entry of `warnings.filters`


class BadImageError(DataError):
    """A file is not an image that can be used; `reason` says why in a phrase, without the path."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def open_image(source: AnyImage, *, needed: int | None = None) -> Image.Image:
    """Open an image as 8-bit RGB, upright, without metadata.

    Transparent images are laid on white, EXIF rotation is applied, and of an MPO (a phone's burst or stereo pair) the
    first frame is taken. 16-bit grey is rescaled from 0..65535 to 0..255, so 12-bit data come out dark, unless they are
    in a TIFF that says how many bits it has. Colour profiles are not applied.

    Args:
        source: a JPEG, PNG, WebP, TIFF, BMP, PPM, JPEG 2000 or AVIF file, or HEIC where `pillow-heif` is installed; or
            a PIL image; or an array (height, width, channels) or tensor (channels, height, width), of uint8 from 0 to
            255 or floats from 0 to 1, with 1, 3 or 4 channels; a grey one may have no axis of channels.
        needed: shorter side, in pixels, to which you will shrink the image. A JPEG of at least four times that is
            decoded at 1/2, 1/4 or 1/8 of its size, never below twice `needed`. That is quicker and changes the shrunk
            image by at most two grey levels of 255 on average. None decodes at full size.

    A `DataError` names the path and the reason: missing, empty, not an image, truncated, too large
    (`PIL.Image.MAX_IMAGE_PIXELS`), of several frames, a GIF, or of pixels without an agreed range.
    """
    return read_image(source, needed)[0]


def read_image(source: AnyImage, needed: int | None = None) -> tuple[Image.Image, bytes]:
    """The image as `open_image` returns it, and the bytes of its file, if it is in one; raises the same errors."""
    path = None if isinstance(source, Image.Image | np.ndarray | torch.Tensor) else user_path(source)
    kind, data = "PIL" if path is None else "", b""
    try:  # what is raised here has no path yet
        with _pillow_silenced():
            if path is not None:
                data = _read(path)
                kind = _first_match("images", data)
                source = _decode(data, kind, needed)
            return _upright_rgb(source if isinstance(source, Image.Image) else _from_array(source)), data
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        reason = _reason(error, path or Path(), kind)
        cause = error.__cause__ if isinstance(error, BadImageError) else error
        name = "The image" if path is None else f"The image {printable(path)}"
        raise BadImageError(f"{name} cannot be used: {reason}.", reason) from cause


def printable(path: str | os.PathLike[str]) -> str:
    """The path with forward slashes; bytes that are not valid text become escapes."""
    return Path(path).as_posix().encode("utf-8", "backslashreplace").decode("utf-8")


def _reason(error: Exception, path: Path, kind: str) -> str:
    """Why an image cannot be used; `kind` is empty until the file was read."""
    match error:
        case BadImageError():
            return str(error)
        case MemoryError():
            return "too large for the memory that is free"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return f"too large ({error})"
        case FileNotFoundError() if path.is_symlink():
            return "a link whose target is missing"
        case OSError() if not kind and re.match(r"\w{2,}:/", path.as_posix()):
            return "it is an address: download the image, and give the file's path"
        case FileNotFoundError() if set("*?[") & set(path.name):
            return 'there is no such file; the pattern was not expanded, as Path("folder").glob("*.png") would do'
        case OSError() if not kind:
            return f"cannot be read ({error.strerror or error})"
    detail = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # that gives a buffer's address only
    return f"truncated or damaged {kind} file, or of a sort that Pillow cannot read{detail}"


def _first_match(kind: str, data: bytes) -> str:
    """The name of the first pattern that matches the beginning of a file; empty if none does."""
    head = data[:_HEAD].decode("latin-1")  # a character for each byte
    return next((name for name, begin in _SIGNATURES[kind].items() if re.match(begin, head, re.DOTALL | re.ASCII)), "")


def _read(path: Path) -> bytes:
    """The bytes of a file that begins like an image."""
    size = path.stat().st_size
    if not path.is_file():  # a pipe would wait for ever
        raise BadImageError("it is a folder: give the files in it" if path.is_dir() else "it is not a regular file")
    if size == 0:
        raise BadImageError("zero bytes")
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if not _first_match("images", head):  # do not read on: it may be a film of many gigabytes
            raise BadImageError(f"not an image{_first_match('others', head)}")
        return head + file.read()


def _decode(data: bytes, kind: str, needed: int | None) -> Image.Image:
    """The image in the file's own mode, every pixel decoded."""
    if kind == "GIF":
        raise BadImageError("a GIF, often animated; torchvision's ImageFolder leaves GIFs out too: save it as PNG")
    if kind == "HEIF":
        try:
            image = cast(Image.Image, importlib.import_module("pillow_heif").HeifImageFile(io.BytesIO(data)))
        except ImportError as error:
            raise BadImageError("a HEIC/HEIF image: install pillow-heif, or convert it to JPEG") from error
    else:
        Image.init()
        if kind not in Image.OPEN:
            raise BadImageError(f"{kind} is a format that this version of Pillow cannot read: update it")
        image = Image.open(io.BytesIO(data), formats=(kind,))
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise BadImageError(f"too large: {image.width} x {image.height} px, above PIL.Image.MAX_IMAGE_PIXELS")
    if (frames := getattr(image, "n_frames", 1)) > 1 and kind not in ("JPEG", "HEIF"):  # several JPEGs are an MPO
        raise BadImageError(f"{'multi-page' if kind == 'TIFF' else 'animated'}: {frames} frames")
    if needed is not None:
        image.draft(None, (2 * needed, 2 * needed))  # does nothing to other kinds and smaller images
    image.load()
    return image


def _from_array(values: Any) -> Image.Image:
    """An array or tensor of pixels as an image."""
    found = describe(values)
    if isinstance(values, torch.Tensor):
        values = (values.float() if values.is_floating_point() else values).detach().cpu().numpy()
        values = np.moveaxis(values, 0, -1) if values.ndim == 3 else values
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.dtype.kind == "f" and values.size and values.min() >= 0 and values.max() <= 1:
        values = np.rint(values * 255).astype(np.uint8)
    grey_16 = values.ndim == 2 and values.dtype == np.uint16
    if not values.size or not (grey_16 or values.dtype == np.uint8) or values.shape[2:] not in ((), (3,), (4,)):
        expected = "an array (height, width, channels) or tensor (channels, height, width), 1, 3 or 4 channels"
        advice = "uint8 from 0 to 255 or floats from 0 to 1, before any normalisation; several images go into a list"
        raise BadImageError(f"expected {expected}, {advice}; got {found}")
    return Image.fromarray(values)


def _upright_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, turned upright; one channel is turned before it becomes three, which is cheaper."""
    if type(image) is Image.Image and image.mode == "RGB" and not image.info:
        return image  # there is nothing left to do
    if image.mode == "F":
        raise BadImageError("float pixels with no agreed range: rescale them to 8 or 16 bits")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # in these two, Pillow's I holds 16 bits
        raise BadImageError("32-bit or signed integer pixels with no agreed range: rescale them to 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    try:
        if image.getexif().get(0x0112, 1) != 1:
            image = ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # damaged metadata does not spoil a good image
        pass
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)  # Pillow's own conversion would cut values above 255 to white
        highest = (1 << tags.get(258, (16,))[0]) - 1  # BitsPerSample
        if isinstance(transparent := image.info.get("transparency"), int):
            values[values == transparent] = highest
        if tags.get(262) == 0:  # PhotometricInterpretation: white is zero
            values = highest - values
        image = Image.fromarray(((values * 255 + highest // 2) // highest).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")  # a copy even of RGB, so a plain Image and not a reader of a file
    image.info = {}  # or a later exif_transpose would turn it once more
    return image


@contextlib.contextmanager
def _pillow_silenced() -> Iterator[None]:
    """Silence Pillow's warnings; `warnings.catch_warnings` would also undo what another thread did meanwhile."""
    filters = cast("list[Any]", warnings.filters)
    filters.insert(0, _SILENCE)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # somebody emptied the list
            filters.remove(_SILENCE)
