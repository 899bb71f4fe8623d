"""Spoil good images in every way there is, and see what becomes of them.

    python experiments/fuzz_images.py [--write]

Some 600 files are made from good ones: cut short, with flipped bits, under wrong extensions, in every mode of Pillow,
with 16 bits, rotated by EXIF, animated, of absurd sizes, empty, with odd names. Each is opened, and must come out with
the right pixels or be refused with a reason; the folder of all of them is then loaded and trained on. A flipped bit in
a format without checksums (JPEG, for instance) can give other pixels that nobody can tell from right ones; these are
counted by themselves. `--write` puts the table into tlcourse/measurements/data/fuzz.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import struct
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TARGET = Path(__file__).resolve().parents[1] / "tlcourse" / "measurements" / "data" / "fuzz.json"
OUTCOMES = ("right pixels", "refused", "other pixels, undetectable", "WRONG", "CRASH")
SECONDS = 10.0  # an answer that takes longer counts as a hang


@dataclass(frozen=True)
class Case:
    """A spoiled file.

    Attributes:
        kind: how it was spoiled.
        name: of the file.
        data: its bytes.
        expected: (height, width, 3) uint8 that must come out if anything does; None: it must be refused.
        checked: whether the format has checksums, so that changed bytes must be noticed.
    """

    kind: str
    name: str
    data: bytes
    expected: np.ndarray[Any, Any] | None
    checked: bool = True


FORMATS: dict[str, tuple[str, dict[str, Any], bool]] = {  # extension: Pillow's name, options, has checksums
    "jpg": ("JPEG", {"quality": 92}, False),
    "png": ("PNG", {}, True),
    "webp": ("WEBP", {"lossless": True}, False),
    "tif": ("TIFF", {}, False),
    "bmp": ("BMP", {}, False),
    "ppm": ("PPM", {}, False),
    "jp2": ("JPEG2000", {}, False),
}
NAMES = [
    *("with space.png", "  leading.png", "trailing .png", "two..dots.png", "UPPER.PNG", "no_extension", "ünïcödé.png"),
    *("日本語.png", "мир.png", "🐝.png", "e\u0301.png", "quote'.png", "semi;colon.png", "amp&.png", "per%20cent.png"),
    *("#hash.png", "(paren).png", "[bracket].png", "{brace}.png", "dollar$HOME.png", "-dash.png", "x" * 200 + ".png"),
]


def photograph(seed: int = 0, size: tuple[int, int] = (90, 70)) -> Image.Image:
    """Smooth colours with some detail, as photographs have them."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.integers(-6, 7, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, extension: str, **more: Any) -> bytes:
    """The image as a file."""
    kind, options, _ = FORMATS[extension]
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **{**options, **more})
    return buffer.getvalue()


def _stored(data: bytes) -> np.ndarray[Any, Any]:
    """The pixels as Pillow reads them, not turned."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def cases() -> Iterator[Case]:
    """All spoiled files."""
    yield from _cut()
    yield from _flipped()
    yield from _misnamed()
    yield from _modes()
    yield from _rotated()
    yield from _refused()


def _cut() -> Iterator[Case]:
    good = photograph()
    for extension, (_, _, checked) in FORMATS.items():
        data = encoded(good, extension)
        for number, share in enumerate(np.linspace(0.005, 0.995, 20)):
            short = data[: int(len(data) * share)]
            yield Case("cut short", f"cut{number}.{extension}", short, None, checked)


def _flipped() -> Iterator[Case]:
    good, rng = photograph(1), np.random.default_rng(1)
    for extension, (_, _, checked) in FORMATS.items():
        data = encoded(good, extension)
        expected = _stored(data)
        for number in range(30):
            spoiled = bytearray(data)
            for _ in range(1 + number % 3):
                spoiled[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            yield Case("flipped bits", f"flip{number}.{extension}", bytes(spoiled), expected, checked)


def _misnamed() -> Iterator[Case]:
    good = photograph(2)
    for extension in FORMATS:
        data = encoded(good, extension)
        for other in (*FORMATS, "JPEG"):
            if other != extension:
                yield Case("wrong extension", f"is_{extension}.{other}", data, _stored(data))
    for name in NAMES:
        yield Case("odd name", name, encoded(good, "png"), np.asarray(good))


def _modes() -> Iterator[Case]:
    good = photograph(3)
    grey = good.convert("L")
    wide = np.asarray(grey).astype(np.uint16) * 257
    three = np.asarray(grey.convert("RGB"))
    for extension in ("png", "tif", "webp", "bmp", "jp2", "ppm"):
        for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
            image = good.convert("LAB") if mode == "LAB" else good.convert(mode)
            try:
                data = encoded(image, extension)
                expected = _stored(data)
            except (OSError, ValueError, KeyError):
                continue  # Pillow does not write, or not read, this mode in this format
            yield Case("mode", f"{mode}.{extension}", data, expected)
    for mode in ("L", "RGB", "CMYK"):
        data = encoded(good.convert(mode), "jpg")
        yield Case("mode", f"{mode}.jpg", data, _stored(data))
    for extension in ("png", "tif", "jp2"):
        yield Case("16 bits", f"wide.{extension}", encoded(Image.fromarray(wide), extension), three)


def _rotated() -> Iterator[Case]:
    image, turn = photograph(4, (90, 70)), Image.Transpose
    for extension in ("jpg", "png", "webp", "tif"):
        for orientation, upright in enumerate(
            [
                *(None, turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM),
                *(turn.TRANSPOSE, turn.ROTATE_270, turn.TRANSVERSE, turn.ROTATE_90),
            ],
            start=1,
        ):
            exif = Image.Exif()
            exif[274] = orientation
            data = encoded(image, extension, exif=exif)
            stored = Image.fromarray(_stored(data))
            turned = extension == "tif"  # Pillow itself turns TIFFs when it reads them
            expected = np.asarray(stored if turned or upright is None else stored.transpose(upright))
            yield Case("EXIF rotation", f"turn{orientation}.{extension}", data, expected)


def _refused() -> Iterator[Case]:
    frames = [photograph(seed, (20, 20)) for seed in range(3)]
    for extension, kind in (("gif", "GIF"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF")):
        buffer = io.BytesIO()
        frames[0].save(buffer, format=kind, save_all=True, append_images=frames[1:])
        yield Case("animated", f"moving.{extension}", buffer.getvalue(), None)
    for side in (20_000, 65_000):
        for colour in (0, 2):
            yield Case("bomb", f"bomb{side}_{colour}.png", _bomb(side, colour), None)
    rng = np.random.default_rng(5)
    heads = b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x00\x00\x00WEBP", b"II*\x00", b"BM"
    for number in range(20):
        data = heads[number % len(heads)] + rng.bytes(3000)
        yield Case("noise", f"noise{number}.jpg", data, None, checked=False)
    for number, data in enumerate((b"", b"\x00", b"\xff", b"\n", b"P6\n", b"GIF89a", b"\xff\xd8\xff", b"II*\x00")):
        yield Case("next to nothing", f"tiny{number}.jpg", data, None)


def _bomb(side: int, colour: int) -> bytes:
    """A PNG of a few bytes that claims to be enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def outcome(case: Case, path: Path) -> str:
    """What became of it: one of OUTCOMES."""
    import tlhelpers as tl

    start = time.perf_counter()
    try:
        pixels = np.asarray(tl.open_image(path))
    except tl.DataError as error:
        said = str(error)
        named = path.name in said or path.name.encode("utf8", "backslashreplace").decode() in said
        refused = "refused" if named else "WRONG"
        return refused if case.expected is None or case.kind == "flipped bits" else "WRONG"
    except Exception:
        return "CRASH"
    if time.perf_counter() - start > SECONDS:
        return "CRASH"
    if case.expected is None:
        return "other pixels, undetectable" if not case.checked else "WRONG"
    if np.array_equal(pixels, case.expected):
        return "right pixels"
    return "other pixels, undetectable" if not case.checked else "WRONG"


def fuzz(folder: Path) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Write every case below `folder`, open it, and count; also says which went wrong."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(OUTCOMES, 0))
    wrong = []
    for number, case in enumerate(cases()):
        place = folder / "train" / f"class{number % 2}" / f"{number:04}"
        place.mkdir(parents=True)
        (place / case.name).write_bytes(case.data)
        result = outcome(case, place / case.name)
        counts[case.kind][result] += 1
        if result in ("WRONG", "CRASH"):
            wrong.append(f"{case.kind}: {case.name}: {result}")
    return dict(counts), wrong


def train_on(folder: Path) -> str:
    """Load the folder of spoiled files and train for an epoch; returns the report's first line without the path."""
    import tlhelpers as tl

    data = tl.load_folder(folder, verbose=False)
    model = tl.freeze(tl.load_model("resnet18", classes=data.classes, size=32))
    tl.fit(model, data, epochs=1)
    return str(data.report).splitlines()[0].rpartition(": ")[2]


def table(
    counts: dict[str, dict[str, int]], kinds: str = "damage", tried: str = "files", outcomes: Sequence[str] = OUTCOMES
) -> str:
    """The counts as Markdown."""
    lines = [f"| {kinds} | {tried} | " + " | ".join(outcomes) + " |", "|---" * (len(outcomes) + 2) + "|"]
    total = dict.fromkeys(outcomes, 0)
    for kind, row in counts.items():
        lines.append(f"| {kind} | {sum(row.values())} | {' | '.join(str(row[name]) for name in outcomes)} |")
        total = {name: total[name] + row[name] for name in outcomes}
    lines.append(f"| all | {sum(total.values())} | {' | '.join(map(str, total.values()))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the test; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        counts, wrong = fuzz(Path(place))
        said = train_on(Path(place))
    print(table(counts))
    print(said)
    print("\n".join(wrong))
    if options.write:
        _write(counts, said)
    return int(bool(wrong))


def _write(counts: dict[str, dict[str, int]], said: str) -> None:
    from tlhelpers.files import atomic_write

    facts = {
        "command": "python experiments/fuzz_images.py --write",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Pillow {version('pillow')}",
        "report": said,
        "counts": counts,
    }
    with atomic_write(TARGET) as file:
        file.write((json.dumps(facts, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
