"""Opening one image from disk: RGB and upright, or an error that says what is wrong with the file."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from tlhelpers.errors import DataError

_HEAD = 512  # bytes that tell what a file is

_SIGNATURES = {  # the kinds that are read, by Pillow's names, and how such files begin
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\x00|MM\x00[*+]",
    "BMP": rb"BM",
    "PPM": rb"P[1-6fF][\s#]",
    "JPEG2000": rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "GIF": rb"GIF8",
    "AVIF": rb"....ftyp(?:avi[fs]|(?:mif1|msf1)....(?:.{4})*?avi[fs])",
    "HEIF": rb"....ftyp(?:hei[cxms]|hev[cxms]|(?:mif1|msf1))",
}
_NOT_IMAGES = {  # what often stands where an image should be, and how it begins
    "a web page, perhaps what a failed download left": rb"(?i:\s*<!doctype html|\s*<html)",
    "a Git LFS pointer: `git lfs pull` fetches the image": rb"version https://git-lfs",
    "a DICOM file: export it as PNG": rb".{128}DICM",
    "an SVG or XML file": rb"\s*<(?:\?xml|svg)",
    "a PDF": rb"%PDF",
    "a ZIP archive": rb"PK\x03\x04",
    "a NumPy array": rb"\x93NUMPY",
}
_UPRIGHT = {  # EXIF orientation -> what turns the stored image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(DataError):
    """A file is not an image that can be used; `reason` says why in a phrase, without the path."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image that was decoded: upright (width, height) in px, and the file's contents."""

    size: tuple[int, int]
    num_bytes: int
    sha256: str


def open_image(path: str | os.PathLike[str], *, needed: int | None = None) -> Image.Image:
    """Open an image as 8-bit RGB, upright, without metadata.

    Transparent images are laid on white; EXIF rotation is applied; of an MPO (a phone's burst or stereo pair)
    the first frame counts. 16-bit grey is rescaled so that 0..65535 becomes 0..255: a 12-bit recording stored in
    16 bits therefore comes out dark, and is better rescaled beforehand. Colour profiles are not applied.

    Args:
        path: a JPEG, PNG, WebP, TIFF, BMP, PPM, JPEG 2000 or AVIF file, or HEIC where `pillow-heif` is installed.
        needed: the side in pixels to which the image will be shrunk, if it will: a JPEG of four times that or more
            is then decoded at a half, a quarter or an eighth of its size, which is quicker, but at no less than twice
            `needed`, so that the shrunk image is the same to within two grey levels on average (of 255).

    Returns:
        An RGB image, which no longer needs the file; of the upright size, unless `needed` says less will do.

    Raises:
        BadImageError: a `DataError` that names the path and the reason: missing, unreadable, empty, not an image,
            truncated, too large (`PIL.Image.MAX_IMAGE_PIXELS`), animated or of several pages, a GIF, or of
            float or 32-bit pixels, for which nobody agreed on a range.
    """
    path = Path(path)
    with _pillow_silenced():
        return _upright_rgb(_decode(_read(path), path, needed), path)


def inspect_image(path: str | os.PathLike[str]) -> ImageFacts:
    """Decode an image fully, as `open_image` does, and tell its size and the SHA-256 of its file.

    Raises:
        BadImageError: as `open_image`.
    """
    path = Path(path)
    data = _read(path)
    with _pillow_silenced():
        size = _upright_rgb(_decode(data, path), path).size
    return ImageFacts(size, len(data), hashlib.sha256(data).hexdigest())


def printable(path: str | os.PathLike[str]) -> str:
    """The path with forward slashes, with bytes that are no valid text written as escapes."""
    return Path(path).as_posix().encode("utf-8", "backslashreplace").decode("utf-8")


def _bad(path: Path, reason: str) -> BadImageError:
    return BadImageError(f"The image {printable(path)} cannot be used: {reason}.", reason)


def _read(path: Path) -> bytes:
    """The bytes of a file that begins like an image."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _bad(path, "it is a folder" if stat.S_ISDIR(found.st_mode) else "it is not a regular file")
        if found.st_size == 0:
            raise _bad(path, "zero bytes")
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if _kind(head) is None:  # do not read on: it may be a film of many gigabytes
                raise _bad(path, _not_an_image(head))
            return head + file.read()
    except FileNotFoundError as error:
        why = "a link whose target is missing" if path.is_symlink() else "vanished, no such file"
        raise _bad(path, why) from error
    except PermissionError as error:
        raise _bad(path, "permission denied: you may not read it") from error
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror or error})") from error


def _kind(head: bytes) -> str | None:
    return next((kind for kind, begin in _SIGNATURES.items() if re.match(begin, head, re.DOTALL)), None)


def _not_an_image(head: bytes) -> str:
    kinds = (kind for kind, begin in _NOT_IMAGES.items() if re.match(begin, head, re.DOTALL))
    kind = next(kinds, None)
    return "not an image" + (f" ({kind})" if kind else "")


def _decode(data: bytes, path: Path, needed: int | None = None) -> Image.Image:
    """The image in the file's own mode, every pixel decoded."""
    kind = _kind(data[:_HEAD]) or ""
    if kind == "GIF":
        raise _bad(path, "a GIF, often animated; torchvision's ImageFolder leaves GIFs out too: save it as PNG")
    try:
        image = _heif(data, path) if kind == "HEIF" else Image.open(io.BytesIO(data), formats=(kind,))
        _refuse_by_header(image, path)
        if needed is not None:
            image.draft(None, (2 * needed, 2 * needed))  # does nothing to what is no JPEG, or not as large
        image.load()
        return image
    except BadImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bad(path, f"too large ({error})") from error
    except MemoryError as error:
        raise _bad(path, "too large for the memory that is free") from error
    except UnidentifiedImageError as error:
        raise _bad(path, f"truncated or damaged {kind} file, or of a sort that Pillow cannot read") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged bytes
        if kind not in Image.OPEN and kind != "HEIF":
            raise _bad(path, f"a {kind} file, which this version of Pillow cannot read: update it") from error
        raise _bad(path, f"truncated or damaged {kind} file ({error})") from error


def _heif(data: bytes, path: Path) -> Image.Image:
    try:
        pillow_heif: ModuleType = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise _bad(path, "a HEIC/HEIF image: install pillow-heif, or convert it to JPEG") from error
    return cast("Image.Image", pillow_heif.HeifImageFile(io.BytesIO(data)))


def _refuse_by_header(image: Image.Image, path: Path) -> None:
    """Refuse what must not, or need not, be decoded."""
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise _bad(path, f"too large: {width} x {height} px, and PIL.Image.MAX_IMAGE_PIXELS is {limit}")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in ("MPO", "HEIF"):
        raise _bad(path, f"{'multi-page' if image.format == 'TIFF' else 'animated'}: {frames} frames")
    if image.mode == "F":
        raise _bad(path, "float pixels with no agreed range: rescale them to 8 or 16 bits")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # in these two, Pillow's I holds 16 bits
        raise _bad(path, "32-bit or signed integer pixels with no agreed range: rescale them to 8 or 16 bits")


def _upright_rgb(image: Image.Image, path: Path) -> Image.Image:
    """8-bit RGB, turned upright; one channel is turned before it becomes three, which is cheaper."""
    mode = image.mode
    try:
        turn = _UPRIGHT.get(_orientation(image))
        if mode == "I" or mode.startswith("I;16"):
            image = _rescaled_16_bit(image)
        if turn is not None:
            image = image.transpose(turn)
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image.convert("RGBA"))
            image = white
        image = image.convert("RGB")  # a copy even of RGB, so a plain Image and not a reader of a file
    except MemoryError as error:
        raise _bad(path, "too large for the memory that is free") from error
    except Exception as error:  # a mode that Pillow can decode but not convert
        raise _bad(path, f"its pixels, of mode {mode}, cannot be made RGB ({error})") from error
    image.info = {}  # or a later exif_transpose would turn it once more
    return image


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata does not spoil a good image
        return 1


def _rescaled_16_bit(image: Image.Image) -> Image.Image:
    """0..65535 to 0..255, rounded; Pillow's own conversion would cut everything above 255 to white."""
    values = np.asarray(image).astype(np.uint32)
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):
        values[values == see_through] = 65535
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


_silence_lock = threading.Lock()
_silence_depth = 0
_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextmanager
def _pillow_silenced() -> Iterator[None]:
    """Keep Pillow's warnings (size, damaged EXIF, palettes) from readers who can do nothing about them.

    `warnings.catch_warnings` would put the whole list of filters back at its end, and undo what another thread
    did meanwhile. This adds one filter while any thread is inside, and takes away that one.
    """
    global _silence_depth
    filters = cast("list[Any]", warnings.filters)
    with _silence_lock:
        _silence_depth += 1
        if _SILENCE not in filters:
            filters.insert(0, _SILENCE)
    try:
        yield
    finally:
        with _silence_lock:
            _silence_depth -= 1
            filters = cast("list[Any]", warnings.filters)
            if _silence_depth == 0 and _SILENCE in filters:
                filters.remove(_SILENCE)
