"""Opening images: every mode becomes pixel-exact RGB, and whatever cannot is refused with its path and a reason."""

import concurrent.futures
import contextlib
import functools
import io
import os
import struct
import sys
import types
import warnings
from pathlib import Path
from unittest import mock

import fuzz_images
import numpy as np
import pytest
from junk import make_classes, noise, plant_junk
from PIL import Image, ImageFile, ImageOps
from toy import cases

from tlhelpers.data.images import BadImageError, open_image, read_image

RED, GREEN, BLUE, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)
RAMP16 = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)  # 257 apart: exactly 0..255 in 8 bits


def pixels(path):
    """The opened image as an array, after checking what holds for every image."""
    image, data = read_image(path)
    assert data == path.read_bytes()
    assert (type(image), image.mode, image.info) == (Image.Image, "RGB", {})
    assert open_image(str(path)).tobytes() == image.tobytes()
    return np.asarray(image)


def refusal(path):
    """The reason for which a file is refused, after checking the sentence."""
    with pytest.raises(BadImageError) as refused:
        open_image(path)
    assert str(refused.value) == f"The image {path.as_posix()} cannot be used: {refused.value.reason}."
    return refused.value.reason


def saved(image, path, **options):
    image.save(path, **options)
    return path


def row(mode, *values):
    """An image one pixel high; a palette holds red, green and blue."""
    image = Image.new(mode, (len(values), 1))
    if mode == "P":
        image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata(values)
    return image


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "bmp", "ppm", "jp2"])
def test_lossless_rgb_is_unchanged_whatever_the_name_says(tmp_path, suffix):
    path = saved(noise(), tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(pixels(path), noise())
    assert open_image(path, needed=8).size == (48, 32), "only a JPEG can be decoded smaller"
    assert np.array_equal(pixels(path.rename(tmp_path / "a.jpg")), noise())


@cases(
    "name, image, options, expected",
    ("1.png", row("1", 0, 255), {}, [BLACK, WHITE]),
    ("cmyk.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), {}, RED),
    ("palette.png", row("P", 0, 1, 2), {}, [RED, GREEN, BLUE]),
    ("palette_index.png", row("P", 0, 1, 2), {"transparency": 1}, [RED, WHITE, BLUE]),
    ("palette_alpha.png", row("P", 0, 1, 2), {"transparency": b"\xff\x00\x80"}, [RED, WHITE, (127, 127, 255)]),
    ("alpha.png", row("RGBA", (*RED, 128), (9, 9, 9, 255), (9, 9, 9, 0)), {}, [(255, 127, 127), [9] * 3, WHITE]),
    ("grey_alpha.png", row("LA", (0, 128), (0, 0)), {}, [[127] * 3, WHITE]),
    ("grey_key.png", row("L", 7, 9), {"transparency": 7}, [WHITE, [9] * 3]),
    ("16_key.png", Image.fromarray(np.uint16([[500, 257 * 9]])), {"transparency": 500}, [WHITE, [9] * 3]),
    ("16_rounded.png", Image.fromarray(np.uint16([[0, 128, 129, 257, 32767, 65406, 65407, 65535]])), {},
     [[value] * 3 for value in (0, 0, 1, 1, 127, 254, 255, 255)]),
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_pixels_are_exact(tmp_path, name, image, options, expected):
    assert (pixels(saved(image, tmp_path / name, **options)) == expected).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jp2", "big.tif", "a.pgm"])
def test_16_bit_ramp_stays_a_ramp(tmp_path, name):
    path, big_endian = tmp_path / name, RAMP16.astype(">u2").tobytes()
    if name == "a.pgm":
        path.write_bytes(b"P5 16 16 65535\n" + big_endian)
    else:
        (Image.frombytes("I;16B", (16, 16), big_endian) if name == "big.tif" else Image.fromarray(RAMP16)).save(path)
    with Image.open(path) as plain:
        assert plain.mode in ("I;16", "I;16B", "I")
    assert np.array_equal(pixels(path), np.stack([np.arange(256).reshape(16, 16)] * 3, axis=-1))


@pytest.mark.parametrize("kind", ["RGB", "L", "MPO"])
def test_jpeg_equals_pillow_and_of_several_frames_it_is_the_first(tmp_path, kind):
    image, frames = noise(64, 64).convert("L" if kind == "L" else "RGB"), [noise(64, 64, seed=1)]
    options = {"format": "MPO", "save_all": True, "append_images": frames} if kind == "MPO" else {}
    path = saved(image, tmp_path / "a.jpg", **options)  # as phones name them
    with Image.open(path) as plain:
        assert (plain.format, getattr(plain, "n_frames", 1)) == (("MPO", 2) if kind == "MPO" else ("JPEG", 1))
    assert np.array_equal(pixels(path), Image.open(saved(image, tmp_path / "alone.jpg")).convert("RGB"))


TURNED = {  # EXIF orientation, by the standard: where the file's first row and first column are seen
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip
STORED = {mode: noise().convert(mode) for mode in ("RGB", "RGBA", "P", "CMYK")} | {
    "I;16": Image.fromarray(RAMP16[:8]),
    "I;16B": Image.frombytes("I;16B", (16, 8), RAMP16[:8].tobytes()),
}


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9, 65535])
@pytest.mark.parametrize("kind", ["RGB.jpg", "CMYK.jpg", "RGB.png", "P.png", "RGBA.png", "I;16.png", "I;16B.tif",
                                  "RGB.tif", "RGB.webp"])  # fmt: skip
def test_exif_orientation(tmp_path, kind, orientation):
    mode, suffix = kind.split(".")
    plain = pixels(saved(STORED[mode], tmp_path / f"plain.{suffix}"))
    path = saved(STORED[mode], tmp_path / f"turned.{suffix}", exif=exif(orientation))
    assert np.array_equal(pixels(path), TURNED.get(orientation, np.array)(plain))
    again = ImageOps.exif_transpose(open_image(path))
    assert np.array_equal(again, pixels(path)), "a second correction must find nothing to do"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damaged_exif_does_not_spoil_an_image(tmp_path, suffix):
    data = exif(6)
    data[0x010F] = "a maker's name that is too long to stand in the entry itself"
    for number, damaged in enumerate([data.tobytes()[:-30], b"Exif\x00\x00nonsense", b"Exif\x00\x00"]):
        assert pixels(saved(noise(), tmp_path / f"{number}.{suffix}", exif=damaged)).shape == (32, 48, 3)


def test_size_is_checked_before_decoding(tmp_path, monkeypatch):
    path = saved(noise(40, 30), tmp_path / "a.png")
    for limit in (40 * 30, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert open_image(path).size == (40, 30)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for limit in (40 * 30 - 1, 500):  # Pillow only warns of the first, and raises at the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert "too large" in refusal(path)


HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(64)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, monkeypatch, brand):
    (tmp_path / "a.jpg").write_bytes(HEIC.replace(b"ftypheic", b"ftyp" + brand))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "install pillow-heif" in refusal(tmp_path / "a.jpg")
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(HeifImageFile=lambda file: noise()))
    assert np.array_equal(pixels(tmp_path / "a.jpg"), noise())


def test_large_file_of_another_kind_is_not_read(tmp_path, monkeypatch):
    class Film(io.BytesIO):
        def read(self, size=-1):
            assert 0 < size < 10_000, "a film of many gigabytes would be read into memory"
            return super().read(size)

    (tmp_path / "film.jpg").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", lambda self, mode: Film(b"\x00\x00\x00\x20ftypisom" + bytes(100_000)))
    assert refusal(tmp_path / "film.jpg") == "not an image"


def test_a_format_that_this_pillow_lacks_is_named(tmp_path, monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    (tmp_path / "a.avif").write_bytes(HEIC.replace(b"heic", b"avif"))
    assert "AVIF is a format that this version of Pillow cannot read: update it" in refusal(tmp_path / "a.avif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "regular" in refusal(tmp_path / "pipe.jpg")


@cases(
    "where, name, error, reason",
    (Path, "open", PermissionError(13, "Permission denied"), "Permission denied"),
    (ImageFile.ImageFile, "load", MemoryError(), "memory"),
    (ImageOps, "exif_transpose", MemoryError(), "memory"),
)
def test_unreadable_or_out_of_memory(tmp_path, monkeypatch, where, name, error, reason):
    path = saved(noise(), tmp_path / "a.png", exif=exif(6))
    monkeypatch.setattr(where, name, mock.Mock(side_effect=error))
    assert reason in refusal(path)


def test_many_threads_leave_the_warning_filters_as_they_were(tmp_path):
    junk = plant_junk(make_classes(tmp_path, {"cats": 4, "dogs": 1}))
    paths = [*(tmp_path / name for name in junk), *(tmp_path / "cats").glob("0*.png")]
    filters, before = warnings.filters, list(warnings.filters)

    def opens(path):
        with contextlib.suppress(BadImageError):
            return bool(open_image(path))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(opens, paths * 30)).count(True) == 4 * 30
    assert warnings.filters is filters
    assert list(filters) == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn_explicit("heard", UserWarning, "Image.py", 1, module="PIL.Image")


@functools.cache
def large_photograph():
    """1600 x 1200, with detail of every size."""
    rng = np.random.default_rng(0)
    values = np.full((1200, 1600, 3), 128.0)
    for step, weight in {300: 60, 60: 40, 12: 25, 3: 15, 1: 8}.items():
        layer = rng.normal(0, 1, (1200 // step, 1600 // step + (1600 % step > 0), 3))
        values += weight * layer.repeat(step, 0).repeat(step, 1)[:, :1600]
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_decoded_smaller_within_the_tolerance(tmp_path, mode):
    path = saved(large_photograph().convert(mode), tmp_path / "large.jpg", quality=92)
    for needed in (64, 100, 224, 280):
        images = open_image(path), open_image(path, needed=needed)
        assert 2 * needed <= min(images[1].size) < 1200
        shrunk = [np.asarray(image.resize((needed, needed)), dtype=float) for image in images]
        assert np.abs(shrunk[0] - shrunk[1]).mean() <= 2.0, "in grey levels"
    assert open_image(path, needed=301).size == (1600, 1200)


@pytest.mark.slow
def test_more_than_500_damaged_files(tmp_path):
    counts, wrong = fuzz_images.fuzz(tmp_path)
    assert sum(sum(row.values()) for row in counts.values()) >= 500
    assert wrong == []
    assert counts["cut short"]["refused"] == sum(counts["cut short"].values())
    assert counts["odd name"]["right pixels"] >= 20
    for kind in ("mode", "16 bits", "EXIF rotation", "wrong extension"):
        assert counts[kind]["right pixels"] == sum(counts[kind].values()), kind
    report = fuzz_images.train_on(tmp_path)
    good = sum(row["right pixels"] + row["other pixels, undetectable"] for row in counts.values())
    assert f"{good} images in 2 classes" in report
