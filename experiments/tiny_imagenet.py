"""Reading Tiny ImageNet: as it is downloaded, or as zip files; decoded once and kept as bytes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from tlhelpers.progress import tqdm

SIDE = 64  # pixels


@dataclass(frozen=True)
class Pixels:
    """One part: `pixels` uint8 (images, 3, 64, 64), `labels` int64 (images,), `classes` by name, sorted by id."""

    pixels: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]


def load_pixels(folder: Path, part: str, cache: Path) -> Pixels:
    """The images of `part`, "train" or "val", decoded; from `cache` if the same files were decoded before."""
    with contextlib.ExitStack() as archives:
        files = sorted(folder.glob(f"tiny_imagenet_{part}*.zip"))
        opened = [archives.enter_context(zipfile.ZipFile(file)) for file in files]
        entries = list(_from_zips(opened) if files else _from_folder(folder, part))
        if not entries:
            raise SystemExit(f"{folder} holds neither tiny_imagenet_{part}*.zip nor {part}/<class>/images/*.JPEG")
        key = hashlib.sha256("\n".join(f"{entry.wnid} {entry.name}" for entry in entries).encode()).hexdigest()[:12]
        stored = cache / f"{part}_{key}.npy"
        if not stored.exists():
            stored.parent.mkdir(parents=True, exist_ok=True)
            bar = tqdm(entries, desc=f"decoding {part}", unit="image")
            half = stored.with_suffix(".part.npy")
            np.save(half, np.stack([_decoded(entry.read()) for entry in bar]))
            half.replace(stored)
    ids = sorted({entry.wnid for entry in entries})
    labels = torch.tensor([ids.index(entry.wnid) for entry in entries])
    names = _names(folder)
    return Pixels(torch.from_numpy(np.load(stored)), labels, tuple(names.get(wnid, wnid) for wnid in ids))


class _Entry(NamedTuple):
    """An image: its class's WordNet id, a name, and how to read its bytes."""

    wnid: str
    name: str
    read: Callable[[], bytes]


def _from_zips(archives: list[zipfile.ZipFile]) -> Iterator[_Entry]:
    for archive in archives:
        for name in sorted(archive.namelist()):
            wnid, _, rest = name.partition("/")
            if rest:
                yield _Entry(wnid, name, functools.partial(archive.read, name))


def _from_folder(folder: Path, part: str) -> Iterator[_Entry]:
    if part == "train":
        for path in sorted(folder.glob("train/*/images/*.JPEG")):
            yield _Entry(path.parent.parent.name, path.name, path.read_bytes)
    elif (folder / "val" / "val_annotations.txt").exists():
        for line in sorted((folder / "val" / "val_annotations.txt").read_text(encoding="utf8").splitlines()):
            name, wnid, *_ = line.split("\t")
            yield _Entry(wnid, name, (folder / "val" / "images" / name).read_bytes)


def _decoded(content: bytes) -> np.ndarray:
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    if image.shape != (SIDE, SIDE, 3):
        raise SystemExit(f"an image has the shape {image.shape}, expected {(SIDE, SIDE, 3)}: is this Tiny ImageNet?")
    return image.transpose(2, 0, 1)


def _names(folder: Path) -> dict[str, str]:
    """The first English name of each class id."""
    for file in (folder / "words.txt", folder / "tiny_imagenet_classes.tsv"):
        if file.exists():
            rows = (line.split("\t") for line in file.read_text(encoding="utf8").splitlines())
            return {row[0]: row[1].split(",")[0] for row in rows}
    return {}
