"""What the drawn data sets share: noise, turned axes, and images that are drawn when they are first read."""

import math
from typing import Generic, TypeVar

import numpy as np
from PIL import Image

from tlhelpers.errors import DataError

SPLITS = ("train", "val", "test")
CACHE_BYTES = 100_000_000  # memory for the images of one split

T = TypeVar("T")


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """Smooth random field, float32 (size, size), roughly 0 to 1, with about `cells` hills along a side."""
    grid = rng.uniform(size=(cells + 1, cells + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))


def turned(x: np.ndarray, y: np.ndarray, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in axes turned by an angle in radians."""
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


class DrawnImages(Generic[T]):
    """Base of the loaders: draws image `i` at its first use and keeps it while memory lasts.

    `size` is the side in pixels; an image takes three bytes for each. Pickling leaves the kept images behind.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.capacity = CACHE_BYTES // (3 * size**2)  # images
        self._cache: dict[int, T] = {}

    def draw(self, index: int) -> T:
        """Draw image number `index`."""
        raise NotImplementedError

    def drawn(self, index: int) -> T:
        """Image number `index`, kept or drawn; do not change it in place."""
        if index in self._cache:
            return self._cache[index]
        image = self.draw(index)
        if len(self._cache) < self.capacity:
            self._cache[index] = image
        return image

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": {}}


def check_range(low: float, high: float = math.inf, unit: str = "", /, **values: float) -> None:
    """Raise DataError if an argument, given with its name, lies outside `low` to `high`."""
    for name, value in values.items():
        if not low <= value <= high:
            allowed = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}{unit}"
            raise DataError(f"{name} must be {allowed}, not {value}")
