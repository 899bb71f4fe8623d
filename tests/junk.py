"""Files that a reader's image folder may hold and that are no usable images, one of each kind."""

import contextlib
import io
import struct
import zlib

import numpy as np
from PIL import Image


def noise(width=48, height=32, seed=0):
    """An RGB image that no other seed gives, and that does not compress to nothing."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_classes(root, counts, *, start=0):
    """Write `counts[name]` PNG images, all different, into each folder root/name; gives back `root`."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image = noise(16, 12, seed=start + i + 10_000 * (zlib.crc32(name.encode()) % 1000))
            image.save(root / name / f"{i:03}.png")
    return root


def make_splits(root, counts):
    """The same for each split, such as {"train": {"cats": 2}}; no image is in two of them."""
    for start, (split, classes) in enumerate(counts.items()):
        make_classes(root / split, classes, start=1000 * start)
    return root


def empty_png(width, height):
    """A small PNG that claims a size and holds no pixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def plant_junk(folder):
    """Write one of each kind of junk into an image folder that has class folders (in splits or not).

    The bad files go into the first class folder, of `train` if there is one; beside them lies what must be passed over
    without a word of blame, such as hidden files. Gives back for each bad file its path relative to `folder`, with
    forward slashes, and a word of the reason that must be reported for it.
    """
    base = folder / "train" if (folder / "train").is_dir() else folder
    target = next(path for path in sorted(base.iterdir()) if path.is_dir() and any(path.iterdir()))
    reasons = _bad_files(target)
    with contextlib.suppress(OSError):  # Windows without the right to make links
        (target / "link.jpg").symlink_to(target / "nowhere.jpg")
        reasons["link.jpg"] = "link"
    for name in (".DS_Store", "._000.png", "Thumbs.db", "desktop.ini", ".hidden.jpg"):
        (target / name).write_bytes(b"\x00\x05\x16\x07")
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (base / name).mkdir()
        noise(seed=77).save(base / name / "looks_good.png")
    (base / "no_images").mkdir()
    return {(target / name).relative_to(folder).as_posix(): reason for name, reason in reasons.items()}


def _bad_files(target):
    """Write the bad files; their names and reasons."""
    jpeg, whole, frames = io.BytesIO(), io.BytesIO(), [noise(seed=i) for i in range(3)]
    noise(200, 200).save(jpeg, "JPEG")
    noise(200, 200).save(whole, "PNG")
    contents = {
        "zero.jpg": (b"", "zero bytes"),
        "text.jpg": (b"This is a text, whatever its name says.\n", "not an image"),
        "page.jpg": (b"<!DOCTYPE html>\n<html><body>404</body></html>\n", "web page"),
        "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "LFS"),
        "drawing.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        "paper.jpg": (b"%PDF-1.7 ...", "PDF"),
        "scan.jpg": (bytes(128) + b"DICM" + bytes(50), "DICOM"),
        "archive.jpg": (b"PK\x03\x04....", "ZIP"),
        "plan.jpg": (b"P6 of the plan", "damaged"),
        "labels.csv": (b"file,label\n000.png,cats\n", "not an image"),
        "truncated.jpg": (jpeg.getvalue()[:5000], "truncated"),
        "truncated.png": (whole.getvalue()[:5000], "truncated"),
        "bomb.png": (empty_png(20_000, 20_000), "too large"),
        "phone.heic": (struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic", "HEIF"),
    }
    for name, (data, _) in contents.items():
        (target / name).write_bytes(data)
    reasons = {name: reason for name, (_, reason) in contents.items()}
    several = {"moving.gif": "GIF", "moving.png": "animated", "moving.webp": "animated", "pages.tif": "multi-page"}
    for name in several:
        frames[0].save(target / name, save_all=True, append_images=frames[1:])
    noise(seed=9).convert("P").save(target / "imageNotFound.gif")
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(target / "float.tif")
    Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8)).save(target / "int32.tif")
    return reasons | several | {"imageNotFound.gif": "GIF", "float.tif": "float", "int32.tif": "32-bit"}
