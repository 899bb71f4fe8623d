"""The data set `safari`: emoji in five styles on made-up backgrounds, eight classes."""

from tlcourse.data_sets import card_of
from tlcourse.drawn_images import SPLITS, check_range
from tlcourse.safari.catalogue import CLASSES, SCENERY, SPECIES, STYLES, STYLES_OF, Drawing, drawings, species_of
from tlcourse.safari.scene import SceneImages
from tlhelpers.data.dataset import ImageData, ImageSplit


def load_safari(
    *, size: int = 128, per_class: int = 40, val_per_class: int = 20, test_per_class: int = 40, seed: int = 0
) -> ImageData:
    """Load drawings of eight kinds of things, each in a busy made-up scene.

    The splits share no drawing and no scene, but all 213 species: a network learns from OpenMoji, Noto and Twemoji, is
    validated on the flat and tested on the shaded drawings of Fluent, whose artists it has not met. No division was
    made by looking at scores. `groups` names the drawing: count these, not the images, as independent.

    `size` is the side of the square images in pixels, from 32 to 512; drawings are stored with 160. `per_class`,
    `val_per_class` and `test_per_class` are the numbers of images of each class in the splits; they differ in their
    drawings as long as there are any, 14 or more of each class and style. A smaller number gives a subset, another
    `size` the same scenes in another resolution, and another `seed`, 0 or more, other scenes with the same drawings.
    Raises DataError if an argument is out of range.
    """
    counts = {"per_class": per_class, "val_per_class": val_per_class, "test_per_class": test_per_class}
    check_range(1, **counts)
    check_range(0, seed=seed)
    splits = [make_split(name, n, seed=seed, size=size) for name, n in zip(SPLITS, counts.values(), strict=True)]
    different = [len(set(split.groups or ())) for split in splits]
    what = "eight kinds of things ({} + {} + {} different drawings)".format(*different)
    return ImageData("safari", splits[0], splits[1], splits[2], card_of("safari", drawn=what))


def make_split(
    name: str, per_class: int, *, styles: tuple[str, ...] | None = None, seed: int = 0, size: int = 128
) -> ImageSplit:
    """A split of `load_safari`; or in other `styles`, with species, named by `groups`, that no other such split has."""
    images: list[tuple[Drawing, tuple[int, ...]]] = []
    for label, category in enumerate(CLASSES):
        species = species_of(category, name) if styles else list(SPECIES[category])
        found = drawings(category, species, styles or STYLES_OF[name])
        for i in range(per_class):
            drawing = found[i % len(found)]  # the style is in the seed: two styles never share a scene
            images.append((drawing, (seed, SPLITS.index(name), label, i, STYLES.index(drawing.style))))
    return ImageSplit(
        SceneImages([((d.name,), seeds) for d, seeds in images], size, 1.0, SCENERY[name]),
        [seeds[2] for _, seeds in images],
        CLASSES,
        keys=[f"{name}/{CLASSES[s[2]]}/{s[3]:04d}-{d.species}-{d.style}-{d.code}" for d, s in images],
        name=name,
        groups=[d.species if styles else d.name for d, _ in images],
    )
