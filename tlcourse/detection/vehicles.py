"""The detection data set `vehicles`: emoji of vehicles, several to an image, with exact boxes, split by style."""

import numpy as np

from tlcourse.data_sets import card_of
from tlcourse.detection.boxes import BACKGROUND, BoxedData, BoxedSplit
from tlcourse.drawn_images import SPLITS, check_range
from tlcourse.safari.catalogue import SCENERY, STYLES_OF, TABLES, drawings
from tlcourse.safari.scene import SceneImages

# Species of the catalogue. Cable cars are left out: they run both on a rail and through the air.
KINDS = {kind: TABLES[kind].split() for kind in ("road", "rail", "water", "air")}
CLASSES = (BACKGROUND, *KINDS)
# There is no validation set here, so the drawings that `safari` keeps for it serve for training.
DRAWN_FROM = {"train": ("train", "val"), "test": ("test",)}


def drawings_of(kind: str, split: str) -> list[str]:
    """The drawings that show vehicles of a kind in a split."""
    styles = tuple(style for name in DRAWN_FROM[split] for style in STYLES_OF[name])
    return [drawing.name for drawing in drawings("vehicle", KINDS[kind], styles)]


def load_vehicles(*, size: int = 128, train: int = 200, test: int = 100, most: int = 3, seed: int = 0) -> BoxedData:
    """Load scenes with vehicles of four kinds (road, rail, water, air) and their boxes.

    Training shows vehicles in four styles, the test set in a fifth, Fluent's shaded one: they share no drawing. `size`
    and `seed` are those of `load_safari`; `train` and `test` are numbers of images, of which a smaller one gives a
    subset. An image has up to `most` vehicles, all numbers equally often. Raises DataError if a number is out of range.
    """
    check_range(1, train=train, test=test, most=most)
    check_range(0, seed=seed)

    def make_split(split: str, count: int) -> BoxedSplit:
        choices = {label: drawings_of(CLASSES[label], split) for label in range(1, len(CLASSES))}
        scenes, labels = [], []
        for key in ((seed, SPLITS.index(split), i) for i in range(count)):
            rng = np.random.default_rng((*key, 1))  # all kinds, and all drawings of a kind, are equally frequent
            labels.append(rng.integers(1, len(CLASSES), size=rng.integers(1, most + 1)).tolist())
            scenes.append(([str(rng.choice(choices[label])) for label in labels[-1]], key))
        scenery = [drawing for name in DRAWN_FROM[split] for drawing in SCENERY[name]]
        return BoxedSplit(SceneImages(scenes, size, 1.0, scenery).drawn, labels, CLASSES, name=split)

    card = card_of("vehicles", drawn="vehicles of four kinds, with boxes")
    return BoxedData(make_split("train", train), make_split("test", test), CLASSES, card)
