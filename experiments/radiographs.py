"""The radiographs of `pneumonia.py`: how they may look, whose they are, and what a frozen network makes of them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tlcourse as tc
import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tlcourse.looking_inside.activations import block_ends
from tlcourse.medical.chest_xray import patient_of
from tlhelpers.data.images import open_image
from tlhelpers.data.splits import joined_groups
from tlhelpers.files import atomic_write
from tlhelpers.progress import tqdm

KEPT = Path(__file__).resolve().parents[1] / "runs" / "pneumonia"
ARCH = "efficientnet_lite0"
VIEWS = 3  # augmented views of each training image


# --- how a radiograph may look ----------------------------------------------------------------------------------


def plain(image: Image.Image, side: int) -> Image.Image:
    """The whole image, `side` pixels wide and high."""
    return image.resize((side, side), Image.Resampling.BICUBIC)


def mirrored(image: Image.Image, side: int) -> Image.Image:
    """The heart on the other side."""
    return ImageOps.mirror(plain(image, side))


def equalised(image: Image.Image, side: int) -> Image.Image:
    """The whole image after adaptive equalisation (CLAHE, Zuiderveld 1994): another exposure changes less."""
    from skimage.exposure import equalize_adapthist

    grey = np.asarray(plain(image, side).convert("L"))
    return Image.fromarray((255 * equalize_adapthist(grey, clip_limit=0.02)).astype(np.uint8))


def varied(image: Image.Image, side: int) -> Image.Image:
    """Another exposure, contrast and framing, drawn from torch's global generator."""
    u = (2 * torch.rand(7) - 1).tolist()
    small = functional.affine(
        image.convert("L"),
        angle=7 * u[0],
        translate=[round(0.06 * u[1] * image.width), round(0.06 * u[2] * image.height)],
        scale=1.12 ** (1 + 1.5 * u[3]),
        shear=[0.0],
        interpolation=v2.InterpolationMode.BILINEAR,
    )
    grey = np.asarray(plain(small, side), dtype=np.float32) / 255
    grey = grey ** (1.6 ** u[4])
    middle = float(grey.mean())
    grey = (grey - middle) * 1.4 ** u[5] + middle + 0.08 * u[6]
    return Image.fromarray((255 * grey.clip(0, 1)).astype(np.uint8))


# Seven ways in which the radiographs of another hospital may differ, one at a time and all together. None of them is
# among the changes of `varied`, on which networks are trained.


def exposed(image: Image.Image, side: int) -> Image.Image:
    """A steeper tone curve: lungs black, bones white."""
    grey = np.asarray(plain(image, side).convert("L"), dtype=np.float32) / 255
    return Image.fromarray((255 / (1 + np.exp(-7 * (grey - 0.4)))).astype(np.uint8))


def pale(image: Image.Image, side: int) -> Image.Image:
    """Little contrast, as of a film that was exposed too long."""
    grey = np.asarray(plain(image, side).convert("L"), dtype=np.float32)
    return Image.fromarray((90 + 0.5 * grey).astype(np.uint8))


def distant(image: Image.Image, side: int) -> Image.Image:
    """The patient smaller in the frame, as an infant on a film for adults."""
    inner = plain(image, round(0.66 * side)).convert("L")
    film = Image.new("L", (side, side), 8)
    film.paste(inner, (round(0.15 * side), round(0.1 * side)))
    return film


def close(image: Image.Image, side: int) -> Image.Image:
    """The lungs fill the frame, as of an older child: the middle of the image alone."""
    width, height = image.size
    return plain(image.crop((width // 8, height // 12, width - width // 8, height - height // 6)), side)


def soft(image: Image.Image, side: int) -> Image.Image:
    """An old scanner: blurred, noisy, strongly compressed."""
    unit = side / 224  # a letter is as large in a finer image
    grey = np.asarray(plain(image, side).convert("L").filter(ImageFilter.GaussianBlur(1.8 * unit)), dtype=np.float32)
    noise = 6 * np.random.default_rng(int(grey.sum())).standard_normal(grey.shape)
    store = io.BytesIO()
    Image.fromarray((grey + noise).clip(0, 255).astype(np.uint8)).save(store, format="JPEG", quality=30)
    return Image.open(store)


def bordered(image: Image.Image, side: int) -> Image.Image:
    """Dark margins left and right, and the bright edge of a collimator."""
    inner = plain(image, side).convert("L").resize((round(0.82 * side), side))
    film, left = Image.new("L", (side, side), 4), (side - inner.width) // 2
    film.paste(inner, (left, 0))
    ImageDraw.Draw(film).rectangle((left, 0, left + inner.width, side - 1), outline=200)
    return film


def labelled(image: Image.Image, side: int) -> Image.Image:
    """A letter for the side, and the text that a machine prints."""
    film, unit = plain(image, side).convert("L"), side / 224
    draw = ImageDraw.Draw(film)
    draw.text((8 * unit, 12 * unit), "L", fill=255, font_size=24 * unit)
    draw.text((110 * unit, 206 * unit), "AP SUPINE 70 kV", fill=230, font_size=12 * unit)
    return film


def elsewhere(image: Image.Image, side: int) -> Image.Image:
    """Several of these at once.

    A steeper tone curve, film with dark margins left and right, a letter, a softer image, stronger compression.
    """
    grey = np.asarray(plain(image, side).convert("L"), dtype=np.float32) / 255
    unit = side / 224  # a letter is as large in a finer image
    curve = 1 / (1 + np.exp(-7 * (grey - 0.4)))
    inner = Image.fromarray((255 * curve).astype(np.uint8)).resize((round(0.82 * side), side))
    film = Image.new("L", (side, side), 4)
    film.paste(inner, ((side - inner.width) // 2, 0))
    ImageDraw.Draw(film).text((8 * unit, 12 * unit), "L", fill=255, font_size=24 * unit)
    store = io.BytesIO()
    film.filter(ImageFilter.GaussianBlur(unit)).save(store, format="JPEG", quality=35)
    return Image.open(store)


SHIFTS = (exposed, pale, distant, close, soft, bordered, labelled, elsewhere)


def lettered(image: Image.Image, side: int) -> Image.Image:
    """With a letter in the upper right corner: the shortcut that is planted."""
    film, unit = plain(image, side).convert("L"), side / 224
    ImageDraw.Draw(film).text((side - 34 * unit, 10 * unit), "P", fill=255, font_size=26 * unit)
    return film


Change = Callable[[Image.Image, int], Image.Image]
PLACES: dict[str, Change] = {"here": plain, "lettered": lettered, **{shift.__name__: shift for shift in SHIFTS}}
PREPARED: dict[str, Sequence[Change]] = {
    "plain": (plain,),
    "equalised": (equalised,),
    **{f"varied {n}": (varied,) for n in range(VIEWS)},
    **{f"varied, equalised {n}": (varied, equalised) for n in range(VIEWS)},
    "mirrored": (mirrored,),
}


@dataclass(frozen=True)
class Films:
    """Gives radiograph `i` as a place delivers it and a preparation changes it; what is random follows from `i`."""

    paths: Sequence[Path]
    place: str
    prepared: str
    side: int

    def __call__(self, index: int) -> Image.Image:  # noqa: D102
        image = PLACES[self.place](open_image(self.paths[index]).convert("L"), self.side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 * index + list(PREPARED).index(self.prepared))
            for change in PREPARED[self.prepared]:
                image = change(image, self.side)
        return image.convert("RGB")


# --- how a frozen network is read -------------------------------------------------------------------------------


def four_depths(model: nn.Module, split: tl.ImageSplit) -> torch.Tensor:
    """What the last four blocks make of each image: of every channel the mean and the largest value.

    The mean over all positions thins out a small opacity; the largest value keeps it.
    """
    layers = dict(list(block_ends(model).items())[-4:])
    maps = tc.activations(model, torch.stack([split[i][0] for i in range(len(split))]), layers).values()
    return torch.cat([part for each in maps for part in (each.mean((2, 3)), each.amax((2, 3)))], dim=1)


@dataclass(frozen=True)
class Reading:
    """How large the network sees an image, in pixels, and what is kept of what it makes of it."""

    side: int
    read: Callable[[nn.Module, tl.ImageSplit], torch.Tensor]


READINGS = {
    "last": Reading(224, tl.compute_features),  # what the head is given
    "depths": Reading(320, four_depths),
}


@functools.cache
def preprocessing(side: int) -> tl.Preprocessing:
    """The network's own, for the whole image at this size."""
    return dataclasses.replace(tl.load_model(ARCH).card.preprocessing, size=side, resize=side)


# --- the images, their patients and features ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pool:
    """All radiographs: those of `train` first, then those of the test set `test`, if the folder has one."""

    paths: tuple[Path, ...]
    labels: np.ndarray  # 1: pneumonia
    patients: np.ndarray  # patients that share a file are one
    kinds: np.ndarray  # normal, bacteria, virus
    trains: int  # how many are of `train`
    stamp: str  # of the files' contents

    def features(self, place: str, prepared: str, reading: str = "last") -> np.ndarray:
        """What the frozen backbone makes of each radiograph, float32 (images, numbers); computed once, then kept."""
        name = f"{reading}_{place}_{prepared.replace(', ', '_').replace(' ', '_')}"
        kept = KEPT / f"{ARCH}_{name}_{self.stamp}.npy"
        if not kept.exists():
            model, how = tl.load_model(ARCH), READINGS[reading]
            transform = preprocessing(how.side).evaluation()
            keys = [str(path) for path in self.paths]
            films = Films(self.paths, place, prepared, how.side)
            split = tl.ImageSplit(films, self.labels.tolist(), ("NORMAL", "PNEUMONIA"), keys=keys, name="radiographs")
            rows = np.array_split(np.arange(len(split)), max(len(split) // 256, 1))
            parts = [
                how.read(model, split.select(some.tolist()).with_transform(transform))
                for some in tqdm(rows, desc=f"{reading}, {place}, {prepared}")
            ]
            KEPT.mkdir(parents=True, exist_ok=True)
            with atomic_write(kept) as file:
                np.save(file, torch.cat(parts).numpy())
        return np.load(kept, allow_pickle=False)

    @functools.cached_property
    def thumbnails(self) -> np.ndarray:
        """Tiny grey copies, float32 (images, 256)."""
        small = [np.asarray(open_image(path).convert("L").resize((16, 16)), dtype=np.float32) for path in self.paths]
        return np.stack([image.ravel() for image in small]) / 255


def load(folder: Path) -> Pool:
    """The radiographs of a folder."""
    report = tl.load_data("chest_xray", root=folder, verbose=False).report
    trains, tests = ([i for i in report.images if (i.split or "train") == split] for split in ("train", "test"))
    images = [*trains, *tests]
    groups = joined_groups([patient_of(i.path.name)[0] for i in trains], [i.sha256 for i in trains])
    of_test = [f"test/{patient_of(i.path.name)[0]}" for i in tests]
    kinds = [re.search("bacteria|virus", i.path.name, flags=re.IGNORECASE) for i in images]
    return Pool(
        tuple(report.root / i.path for i in images),
        np.array([int(i.class_name == "PNEUMONIA") for i in images]),
        np.array([str(group) for group in (*groups, *of_test)]),
        np.array([kind[0].lower() if kind else "normal" for kind in kinds]),
        len(trains),
        hashlib.sha256("".join(i.sha256 for i in images).encode()).hexdigest()[:12],
    )
