"""Opening images: every mode is pixel-exact RGB, and whatever cannot be is refused by name."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import struct
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from junk import make_classes, noise, plant_junk, png
from PIL import Image, ImageFile, ImageOps

from tlhelpers.data import images
from tlhelpers.data.images import BadImageError, inspect_image, open_image
from tlhelpers.errors import DataError

RAMP16 = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)  # 257 apart: exactly 0..255 in 8 bits


def pixels(path: Path) -> np.ndarray:
    """The opened image as an array, after checking what holds for every image."""
    image = open_image(path)
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    assert not image.info
    array = np.asarray(image)
    facts = inspect_image(path)
    assert facts.size == image.size
    assert facts.num_bytes == path.stat().st_size
    return array


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


# --- modes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "jp2"])
def test_rgb_is_unchanged(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(noise(), tmp_path / f"a.{suffix}", **options)
    assert np.array_equal(pixels(path), np.asarray(noise()))


def test_name_does_not_decide_the_kind(tmp_path: Path) -> None:
    data = io.BytesIO()
    noise().save(data, "PNG")
    (tmp_path / "a.jpg").write_bytes(data.getvalue())
    assert np.array_equal(pixels(tmp_path / "a.jpg"), np.asarray(noise()))


def test_jpeg_equals_pillow(tmp_path: Path) -> None:
    path = saved(noise(), tmp_path / "a.jpg")
    with Image.open(path) as plain:
        assert np.array_equal(pixels(path), np.asarray(plain))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, suffix: str) -> None:
    path = saved(noise().convert("L"), tmp_path / f"a.{suffix}")
    with Image.open(path) as plain:
        assert plain.mode == "L"
        assert np.array_equal(pixels(path), np.stack([np.asarray(plain)] * 3, axis=-1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_bit_is_black_and_white(tmp_path: Path, suffix: str) -> None:
    image = Image.new("1", (4, 2), 0)
    image.putpixel((1, 0), 1)
    array = pixels(saved(image, tmp_path / f"a.{suffix}"))
    assert array[0].tolist() == [[0] * 3, [255] * 3, [0] * 3, [0] * 3]
    assert not array[1].any()


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_red_is_red(tmp_path: Path, suffix: str) -> None:
    path = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), tmp_path / f"a.{suffix}")
    assert (pixels(path) == (255, 0, 0)).all()


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    assert pixels(saved(image, tmp_path / "a.png")).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\x80"], ids=["one index", "alpha of each index"])
def test_transparent_palette_is_laid_on_white(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    array = pixels(saved(image, tmp_path / "a.png", transparency=transparency))
    half = [0, 0, 255] if transparency == 1 else [127, 127, 255]
    assert array.tolist() == [[[255, 0, 0], [255, 255, 255], half]]


@pytest.mark.parametrize(
    ("mode", "colour", "wanted"),
    [
        ("RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", (0, 128), (127, 127, 127)),
        ("LA", (0, 0), (255, 255, 255)),
    ],
)
def test_alpha_is_laid_on_white(
    tmp_path: Path, mode: str, colour: tuple[int, ...], wanted: tuple[int, int, int]
) -> None:
    assert (pixels(saved(Image.new(mode, (5, 4), colour), tmp_path / "a.png")) == wanted).all()


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7))])
def test_colour_key_is_transparent(tmp_path: Path, mode: str, key: object) -> None:
    image = Image.new("RGB", (2, 1), (7, 7, 7)).convert(mode)
    image.putpixel((1, 0), 9 if mode == "L" else (9, 9, 9))
    assert pixels(saved(image, tmp_path / "a.png", transparency=key)).tolist() == [[[255] * 3, [9] * 3]]


# --- sixteen bits ---------------------------------------------------------------------------------------------


def big_endian() -> Image.Image:
    return Image.frombytes("I;16B", (16, 16), RAMP16.astype(">u2").tobytes())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jp2", "big.tif", "a.pgm"])
def test_16_bit_ramp_stays_a_ramp(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.pgm":
        path.write_bytes(b"P5 16 16 65535\n" + RAMP16.astype(">u2").tobytes())
    else:
        (big_endian() if name == "big.tif" else Image.fromarray(RAMP16)).save(path)
    with Image.open(path) as plain:
        assert plain.mode in ("I;16", "I;16B", "I")
    array = pixels(path)
    assert np.array_equal(array, np.stack([np.arange(256).reshape(16, 16)] * 3, axis=-1))


def test_16_bits_are_rounded_not_cut(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32767, 65406, 65407, 65535]], dtype=np.uint16)
    path = saved(Image.fromarray(values), tmp_path / "a.png")
    assert pixels(path)[0, :, 0].tolist() == [0, 0, 1, 1, 127, 254, 255, 255]


def test_16_bit_rgb(tmp_path: Path) -> None:
    row = np.array([0, 257 * 100, 65535, 65535, 0, 257 * 7], dtype=">u2")
    (tmp_path / "a.png").write_bytes(png(2, 1, bits=16, colour=2, rows=b"\x00" + row.tobytes()))
    assert pixels(tmp_path / "a.png").tolist() == [[[0, 100, 255], [255, 0, 7]]]


def test_16_bit_colour_key_is_transparent(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.array([[500, 257 * 9]], dtype=np.uint16)), tmp_path / "a.png", transparency=500)
    assert pixels(path).tolist() == [[[255] * 3, [9] * 3]]


# --- orientation ----------------------------------------------------------------------------------------------


def exif(orientation: object) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = Image.new("RGB", (32, 16), "black")  # four corners that tell all eight cases apart
    for colour, corner in {"red": (0, 0), "lime": (16, 0), "blue": (0, 8)}.items():
        stored.paste(colour, (*corner, corner[0] + 16, corner[1] + 8))
    path = saved(stored, tmp_path / f"a.{suffix}", exif=exif(orientation))
    upper_left, upper_right = {  # by the standard: where the 0th row and the 0th column of the file are seen
        1: ("red", "lime"), 2: ("lime", "red"), 3: ("black", "blue"), 4: ("blue", "black"),
        5: ("red", "blue"), 6: ("blue", "red"), 7: ("black", "lime"), 8: ("lime", "black"),
    }[orientation]  # fmt: skip
    array = pixels(path)
    height, width = array.shape[:2]
    assert (width, height) == ((32, 16) if orientation < 5 else (16, 32))
    for seen, (x, y) in {upper_left: (0.25, 0.25), upper_right: (0.75, 0.25)}.items():
        wanted = Image.new("RGB", (1, 1), seen).getpixel((0, 0))
        assert np.abs(array[int(y * height), int(x * width)].astype(int) - wanted).max() < 60, seen
    again = ImageOps.exif_transpose(open_image(path))
    assert np.array_equal(np.asarray(again), array), "a second correction must find nothing to do"


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientation_is_passed_over(tmp_path: Path, orientation: int) -> None:
    assert pixels(saved(noise(), tmp_path / "a.png", exif=exif(orientation))).shape == (32, 48, 3)


def test_damaged_exif_does_not_spoil_a_image(tmp_path: Path) -> None:
    data = exif(6)
    data[0x010F] = "a maker's name that is too long to stand in the entry itself"
    for number, damaged in enumerate([data.tobytes()[:-30], b"Exif\x00\x00nonsense", b"Exif\x00\x00"]):
        for suffix in ("jpg", "png", "webp"):
            assert pixels(saved(noise(), tmp_path / f"{number}.{suffix}", exif=damaged)).shape == (32, 48, 3)
    with (
        pytest.warns(UserWarning, match="EXIF|Truncated"),
        Image.open(tmp_path / "0.jpg") as plain,
    ):  # Pillow alone warns of it
        plain.load()


def test_turned_16_bit_and_palette(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 50, 257 * 100]], dtype=np.uint16)
    path = saved(Image.fromarray(values), tmp_path / "a.png", exif=exif(6))
    assert pixels(path)[:, :, 0].tolist() == [[0], [50], [100]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    path = saved(palette, tmp_path / "b.png", exif=exif(6))
    assert pixels(path).tolist() == [[[255, 0, 0]], [[0, 0, 255]]]


def test_mpo_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [noise(64, 64, seed=i) for i in range(2)]
    path = saved(frames[0], tmp_path / "a.mpo", save_all=True, append_images=frames[1:])
    path = path.rename(tmp_path / "a.jpg")  # as phones name them
    alone = saved(frames[0], tmp_path / "alone.jpg")
    with Image.open(path) as plain:
        assert (plain.format, plain.n_frames) == ("MPO", 2)
    assert np.array_equal(pixels(path), pixels(alone))


# --- refusals -------------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    """The reason for which both functions refuse a file, after checking the sentence."""
    with pytest.raises(BadImageError) as refused:
        open_image(path)
    with pytest.raises(BadImageError) as inspected:
        inspect_image(path)
    assert str(inspected.value) == str(refused.value)
    assert isinstance(refused.value, DataError)
    assert path.as_posix() in str(refused.value)
    assert refused.value.reason in str(refused.value)
    assert path.name not in refused.value.reason
    return refused.value.reason


def test_junk_is_refused_with_its_reason(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 1, "dogs": 1})
    junk = plant_junk(tmp_path)
    assert len(junk) >= 18
    for name, reason in junk.items():
        assert reason in refusal(tmp_path / name), name


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp", "ppm", "jp2"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = saved(noise(100, 80), tmp_path / f"a.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp", "ppm", "jp2"])
def test_nonsense_after_a_good_beginning_is_no_crash(tmp_path: Path, suffix: str) -> None:
    """Whatever the bytes are, the answer is an image or a `BadImageError`."""
    path = saved(noise(), tmp_path / f"a.{suffix}")
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(60):
        bytes_ = whole.copy()
        bytes_[rng.integers(12, min(len(whole), 200), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(bytes_.tobytes())
        with contextlib.suppress(BadImageError):
            assert open_image(path).mode == "RGB"


def test_size_is_checked_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(noise(40, 30), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 30)
    assert open_image(path).size == (40, 30)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for limit in (40 * 30 - 1, 500):  # Pillow only warns of the first, and raises at the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert "too large" in refusal(path)
    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert open_image(path).size == (40, 30)


def test_still_gif_is_refused_too(tmp_path: Path) -> None:
    assert "ImageFolder" in refusal(saved(noise().convert("P"), tmp_path / "a.gif"))


def test_signed_16_bit_has_no_agreed_range(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RAMP16.astype(np.int32)), tmp_path / "a.tif")
    assert "range" in refusal(path)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (bytes(128) + b"DICM" + bytes(50), "DICOM"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"  \n<HTML>", "web page"),
        (b"PK\x03\x04....", "ZIP"),
        (b"P6 of the plan", "damaged"),
        (b"\x00", "not an image"),
    ],
)
def test_what_it_is_instead(tmp_path: Path, data: bytes, word: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    assert word in refusal(tmp_path / "a.jpg")


def test_large_file_of_another_kind_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Film(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 < size < 10_000, "a film of many gigabytes would be read into memory"
            return super().read(size)

    path = tmp_path / "film.jpg"
    path.write_bytes(b"x")
    monkeypatch.setattr(Path, "open", lambda self, mode: Film(b"\x00\x00\x00\x20ftypisom" + bytes(100_000)))
    assert refusal(path) == "not an image"


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
def test_heic_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brand: bytes) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1heic" + bytes(64))
    assert "install pillow-heif" in refusal(tmp_path / "a.heic")


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = types.ModuleType("pillow_heif")
    plugin.HeifImageFile = lambda file: noise()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    (tmp_path / "a.heic").write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(64))
    assert np.array_equal(pixels(tmp_path / "a.heic"), np.asarray(noise()))


def test_avif(tmp_path: Path) -> None:
    Image.init()
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    path = saved(Image.new("RGB", (32, 32), (200, 100, 50)), tmp_path / "a.avif")
    assert np.abs(pixels(path).astype(int) - (200, 100, 50)).max() < 6
    path.write_bytes(path.read_bytes()[:-20])
    assert "truncated or damaged" in refusal(path)


def test_avif_where_pillow_lacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    (tmp_path / "a.avif").write_bytes(struct.pack(">I", 24) + b"ftypavif" + bytes(4) + b"mif1avif" + bytes(64))
    assert "update it" in refusal(tmp_path / "a.avif")


def test_missing_and_folder(tmp_path: Path) -> None:
    assert "vanished" in refusal(tmp_path / "a.jpg")
    assert "folder" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert "regular" in refusal(tmp_path / "a.jpg")


@pytest.mark.parametrize(("error", "word"), [(PermissionError(13, "no"), "permission"), (OSError(5, "I/O"), "I/O")])
def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, word: str) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise error

    path = saved(noise(), tmp_path / "a.png")
    monkeypatch.setattr(Path, "open", refuse)
    assert word in refusal(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_really_unreadable(tmp_path: Path) -> None:
    path = saved(noise(), tmp_path / "a.png")
    path.chmod(0)
    assert "permission" in refusal(path)


def test_out_of_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image) -> None:
        raise MemoryError

    path = saved(noise(), tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert "memory" in refusal(path)


def test_error_survives_the_method_from_a_worker_process(tmp_path: Path) -> None:
    with pytest.raises(BadImageError) as refused:
        open_image(tmp_path / "a.jpg")
    copy = pickle.loads(pickle.dumps(refused.value))
    assert (str(copy), copy.reason) == (str(refused.value), refused.value.reason)
    assert str(type(copy)(str(copy))) == str(copy), "torch rebuilds errors of workers from their message alone"


# --- warnings and threads -------------------------------------------------------------------------------------


def test_many_threads_leave_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    make_classes(tmp_path, {"cats": 4, "dogs": 1})
    paths = [tmp_path / name for name in plant_junk(tmp_path)] + sorted((tmp_path / "cats").glob("0*.png"))
    filters, before = warnings.filters, list(warnings.filters)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for path in paths * 5:
                try:
                    open_image(path)
                except BadImageError:
                    continue
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters is filters
    assert list(filters) == before


def test_filters_that_another_thread_sets_meanwhile_stay() -> None:
    """Which `warnings.catch_warnings` in two threads would not grant."""
    with warnings.catch_warnings():
        with images._pillow_silenced():
            with images._pillow_silenced():
                warnings.filterwarnings("ignore", message="set while an image was being read")
            assert images._SILENCE in warnings.filters, "the end of one reading must not end the other's silence"
        assert images._SILENCE not in warnings.filters
        assert warnings.filters[0][1] == re.compile("set while an image was being read", re.IGNORECASE)


def test_filters_end_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadImageError):
        open_image(tmp_path / "missing.png")
    assert images._SILENCE not in warnings.filters
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn_explicit("heard", UserWarning, "Image.py", 1, module="PIL.Image")


# --- decoding no more than is needed -----------------------------------------------------------------------------


def large_photograph(mode: str) -> Image.Image:
    """1600 x 1200, with detail of every size."""
    rng = np.random.default_rng(0)
    layers = [rng.normal(0, 1, (max(1200 // step, 2), max(1600 // step, 2), 3)) for step in (300, 60, 12, 3, 1)]
    grown = [
        np.stack(
            [np.asarray(Image.fromarray(layer[..., c].astype(np.float32)).resize((1600, 1200))) for c in range(3)], 2
        )
        for layer in layers
    ]
    pixels = 128 + sum(weight * layer for weight, layer in zip((60, 40, 25, 15, 8), grown, strict=True))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("needed", [64, 100, 224, 280])
def test_a_large_jpeg_is_decoded_smaller_within_the_tolerance(tmp_path: Path, mode: str, needed: int) -> None:
    path = tmp_path / "large.jpg"
    large_photograph(mode).save(path, quality=92)
    whole, less = open_image(path), open_image(path, needed=needed)
    assert min(less.size) >= 2 * needed
    assert less.width < whole.width
    shrunk = [np.asarray(image.resize((needed, needed))).astype(int) for image in (whole, less)]
    assert np.abs(shrunk[0] - shrunk[1]).mean() <= 2.0


def test_what_is_not_much_larger_is_decoded_whole(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        large_photograph("RGB").resize((400, 300)).save(tmp_path / name)
        assert open_image(tmp_path / name, needed=76).size == (400, 300)
    large_photograph("RGB").save(tmp_path / "large.png")
    assert open_image(tmp_path / "large.png", needed=64).size == (1600, 1200)


@pytest.mark.real
def test_real_chest_x_rays_decoded_smaller(real_data: Path) -> None:
    paths = sorted((real_data / "chest_xray").rglob("*.jp*g"))[::400]
    assert paths
    for path in paths:
        whole, less = open_image(path), open_image(path, needed=128)
        shrunk = [np.asarray(image.resize((128, 128))).astype(int) for image in (whole, less)]
        assert np.abs(shrunk[0] - shrunk[1]).mean() <= 2.0, path.name
