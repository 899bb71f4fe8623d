"""The data set `safari`: emoji in five styles on made-up backgrounds, eight classes."""

from tlcourse.cards import card_of
from tlcourse.drawn_images import SPLITS, check_range
from tlcourse.safari.catalogue import CLASSES, SCENERY, SPECIES, STYLES, STYLES_OF, Drawing, drawings, species_of
from tlcourse.safari.scene import SceneImages
from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.errors import DataError

DIVISIONS = ("style", "species", "both")


def load_safari(
    *,
    size: int = 128,
    per_class: int = 40,
    val_per_class: int = 20,
    test_per_class: int = 40,
    by: str = "style",
    seed: int = 0,
    clutter: float = 1.0,
) -> ImageData:
    """Load drawings of eight kinds of things, each in a busy made-up scene.

    The splits share no drawing and no scene. Divided by "style", the default, all 213 species are in each split: a
    network learns from OpenMoji, Noto and Twemoji, is validated on the flat and tested on the shaded drawings of
    Fluent, whose artists it has not met. By "species", all five styles are in each split, and the test set shows
    animals and things that are not in training; by "both", neither. No division was made by looking at scores. `groups`
    names the drawing, or the species if the division is by species: count these, not the images, as independent.

    `size` is the side of the square images in pixels, from 32 to 512; drawings are stored with 160. `per_class`,
    `val_per_class` and `test_per_class` are the numbers of images of each class in the splits; they differ in their
    drawings as long as there are any, 14 or more of each class and style. A smaller number gives a subset, another
    `size` the same scenes in another resolution, and another `seed`, 0 or more, other scenes with the same drawings.
    `clutter` is 0 for plain backgrounds, 1 for the usual, up to 3. Raises DataError if an argument is out of range.
    """
    counts = {"per_class": per_class, "val_per_class": val_per_class, "test_per_class": test_per_class}
    check_range(1, **counts)
    check_range(0, seed=seed)
    if by not in DIVISIONS:
        raise DataError(f"by='{by}' is no division of safari; expected one of {', '.join(DIVISIONS)}")
    train, val, test = (
        make_split(name, count, by=by, seed=seed, size=size, clutter=clutter)
        for name, count in zip(SPLITS, counts.values(), strict=True)
    )
    different = [len(set(split.groups or ())) for split in (train, val, test)]
    subjects = "drawings" if by == "style" else "species"
    what = "eight kinds of things ({} + {} + {} different {})".format(*different, subjects)
    return ImageData("safari", train, val, test, card_of("safari", drawn=what))


def make_split(
    name: str,
    per_class: int,
    *,
    by: str = "style",
    styles: tuple[str, ...] | None = None,
    seed: int = 0,
    size: int = 128,
    clutter: float = 1.0,
) -> ImageSplit:
    """One split of `load_safari`, perhaps in other styles than its own: test animals in the training styles, say."""
    styles = styles or (STYLES if by == "species" else STYLES_OF[name])
    images: list[tuple[Drawing, tuple[int, ...]]] = []
    for label, category in enumerate(CLASSES):
        species = list(SPECIES[category]) if by == "style" else species_of(category, name)
        found = drawings(category, species, styles)
        for i in range(per_class):
            drawing = found[i % len(found)]  # the style is in the seed: two styles never share a scene
            images.append((drawing, (seed, SPLITS.index(name), label, i, STYLES.index(drawing.style))))
    return ImageSplit(
        SceneImages([((d.name,), seeds) for d, seeds in images], size, clutter, SCENERY[name]),
        [seeds[2] for _, seeds in images],
        CLASSES,
        keys=[f"{name}/{CLASSES[s[2]]}/{s[3]:04d}-{d.species}-{d.style}-{d.code}" for d, s in images],
        name=name,
        groups=[d.name if by == "style" else d.species for d, _ in images],
    )
