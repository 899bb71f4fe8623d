"""The data sets of the experiments, reduced once to small images, so that every run reads them quickly.

    python experiments/prepared.py [FOLDER]      FOLDER holds hymenoptera/, flowers/, cats_dogs/, chest_xray/

Each image is reduced to a short side of 160 px (JPEG, quality 95), which suffices for networks at 64 and 128 px. The
test set of a data set is fixed; what is left over, the pool, is divided into a training and a validation set by the
seed of a run: four fifths and one fifth, by class, and by patient for the radiographs. Sets that we draw have a fixed
validation set.
"""

import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import numpy as np
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold
from torchvision.transforms import v2

from tlcourse.safari.catalogue import STYLES_OF
from tlcourse.safari.dataset import make_split
from tlhelpers.data.dataset import DataCard, ImageData, ImageSplit
from tlhelpers.progress import tqdm

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "prepared"
SIDE = 160  # pixels
PATIENT = r"(person\d+|IM-\d+)"
PHOTOGRAPHS = {"hymenoptera": (None, 0), "flowers": (50, 100), "cats_dogs": (80, 120)}  # test and pool images a class
XRAY_TEST, XRAY_POOL = 1000, 750  # images, in their natural proportion
CARD = DataCard("prepared", "reduced images of an experiment", "see experiments/prepared.py", "-", "anything else")


def prepare(real: Path | None) -> list[str]:
    """Reduce what is not there yet, and return the names of the data sets that are."""
    makers: dict[str, Callable[[], dict[str, ImageSplit]]] = {"safari": _safari, "shift": _shift, "phantom": _phantom}
    for name in (*PHOTOGRAPHS, "chest_xray"):
        if real is not None and (real / name).is_dir():
            makers[name] = functools.partial(_radiographs if name == "chest_xray" else _photographs, real / name)
    for name, make in makers.items():
        if not (FOLDER / f"{name}.npz").exists():
            _write(name, make())
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def load(name: str, seed: int) -> ImageData:
    """A prepared data set, its pool divided with `seed`; images are decoded once in a process."""
    splits = _splits(name)
    if "val" in splits:
        train, val = splits["train"], splits["val"]
    else:
        train, val = _divided(name, seed)
    return ImageData(name, train, val, splits.get("test"), CARD)


def full_size(name: str, seed: int, real: Path) -> ImageData:
    """The same data set and division with the original images."""
    if name == "safari":
        return tl.load_data("safari", size=224)
    splits = (_radiographs if name == "chest_xray" else _photographs)(real / name)
    return ImageData(name, *_in_five(splits["pool"], seed), splits["test"], CARD)


def split_of(name: str, part: str) -> ImageSplit:
    """A split of a prepared data set by its name in the file."""
    return _splits(name)[part]


@functools.cache
def _divided(name: str, seed: int) -> tuple[ImageSplit, ImageSplit]:
    return _in_five(_splits(name)["pool"], seed)


def _in_five(pool: ImageSplit, seed: int) -> tuple[ImageSplit, ImageSplit]:
    """Four fifths to train on, one to validate."""
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    train, val = next(iter(folds.split(np.zeros(len(pool)), pool.labels.numpy(), pool.groups or pool.keys)))
    divided = pool.select(train), pool.select(val)
    for split, part in zip(divided, ("train", "val"), strict=True):
        split.name = part
    return divided


@functools.cache
def _splits(name: str) -> dict[str, ImageSplit]:
    """The splits of a prepared file."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        stored = dict(file)
    ends = np.cumsum(stored["lengths"])
    files = np.split(stored["bytes"], ends[:-1])
    images = [Image.open(io.BytesIO(data.tobytes())).convert("RGB") for data in files]
    found = {}
    for split in dict.fromkeys(stored["splits"].tolist()):
        rows = np.flatnonzero(stored["splits"] == split)
        found[split] = ImageSplit(
            _Kept([images[i] for i in rows]),
            stored["labels"][rows].tolist(),
            stored["classes"].tolist(),
            keys=stored["keys"][rows].tolist(),
            groups=stored["groups"][rows].tolist(),
            name=split,
        )
    return found


class _Kept:
    """Gives images that are in memory."""

    def __init__(self, images: list[Image.Image]) -> None:
        self.images = images

    def __call__(self, index: int) -> Image.Image:
        return self.images[index]


def _write(name: str, splits: dict[str, ImageSplit]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    shrink, files = v2.Resize(SIDE), []
    for split in splits.values():
        for i in tqdm(range(len(split)), desc=f"reduce {name} {split.name}", leave=False):
            image = split.image(i)
            buffer = io.BytesIO()
            (shrink(image) if min(image.size) > SIDE else image).save(buffer, "jpeg", quality=95)
            files.append(np.frombuffer(buffer.getvalue(), dtype=np.uint8))
    parts = list(splits.items())
    np.savez(
        FOLDER / f"{name}.npz",
        bytes=np.concatenate(files),
        lengths=[len(data) for data in files],
        labels=np.concatenate([split.labels.numpy() for _, split in parts]),
        keys=[key for _, split in parts for key in split.keys],
        groups=[group for _, split in parts for group in (split.groups or split.keys)],
        splits=[part for part, split in parts for _ in range(len(split))],
        classes=list(parts[0][1].classes),
    )


def _safari() -> dict[str, ImageSplit]:
    data = tl.load_data("safari", size=SIDE)
    return {split.name: split for split in data.splits()}


def _shift() -> dict[str, ImageSplit]:
    """Fluent's drawings of some species; other species by the same artists and by three others."""
    fluent = ("fluent-flat", "fluent")
    split = {name: make_split(name, count, styles=fluent, size=SIDE) for name, count in (("train", 40), ("val", 20))}
    tests = {"fluent": fluent, **{style: (style,) for style in STYLES_OF["train"]}}
    return split | {name: make_split("test", 40, styles=styles, size=SIDE) for name, styles in tests.items()}


def _phantom() -> dict[str, ImageSplit]:
    data = tl.load_data("phantom", size=SIDE)
    return {split.name: split for split in data.splits()}


def _photographs(folder: Path) -> dict[str, ImageSplit]:
    """A fixed test set and a pool: hymenoptera's own two splits, or images drawn once."""
    test_count, pool_count = PHOTOGRAPHS[folder.name]
    if test_count is None:
        data = tl.load_folder(folder, verbose=False)
        return {"pool": data.train, "test": data.val}
    data = tl.load_folder(folder, val=0.2, test=test_count / (test_count + pool_count), seed=0, verbose=False)
    return {"pool": _joined(data.train, data.val), "test": data.test}


def _radiographs(folder: Path) -> dict[str, ImageSplit]:
    data = tl.load_folder(folder, val=0.3, test=0.3, seed=0, groups=PATIENT, verbose=False)

    def drawn(split: ImageSplit, count: int) -> ImageSplit:
        return split.select(sorted(np.random.default_rng(0).permutation(len(split))[:count]))

    return {"pool": drawn(data.train, XRAY_POOL), "test": drawn(data.test, XRAY_TEST)}


def _joined(*splits: ImageSplit) -> ImageSplit:
    """One split of several from the same folder."""
    rows = [(split, i) for split in splits for i in range(len(split))]
    images = _Kept([split.image(i) for split, i in rows])
    labels = [int(split.labels[i]) for split, i in rows]
    keys = [split.keys[i] for split, i in rows]
    return ImageSplit(images, labels, splits[0].classes, keys=keys, name="pool")


if __name__ == "__main__":
    print(*prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
