"""Reviews with labels: what the data sets of sentences have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tlhelpers.data.dataset import DataCard
from tlhelpers.errors import DataError

CLASSES = ("negative", "positive")


@dataclass(frozen=True)
class Sentences:
    """A part of a data set.

    Attributes:
        texts: the sentences.
        labels: int64 (sentences,): positions in `CLASSES`.
        turned: whether a sentence's words of praise or blame point away from its label ("not good"); () if unknown.
    """

    texts: tuple[str, ...]
    labels: torch.Tensor
    turned: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels) or (self.turned and len(self.turned) != len(self.texts)):
            raise DataError(f"{len(self.texts)} sentences, {len(self.labels)} labels, {len(self.turned)} flags")

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, count: int | None, *, seed: int) -> Sentences:
        """`count` sentences, as many of each class; None takes all. A smaller count is a subset of a larger one.

        Raises:
            DataError: if there are not so many, or the count is odd.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        if count is None:
            return self.select(order)
        classes = [[i for i in order if self.labels[i] == label] for label in range(len(CLASSES))]
        if count % 2 or count < 2 or any(len(found) < count // 2 for found in classes):
            raise DataError(f"{count} sentences were asked for, half of each class; there are {len(self)}")
        return self.select([i for found in classes for i in found[: count // 2]])

    def select(self, indices: np.ndarray | list[int]) -> Sentences:
        """The sentences at `indices`, in that order."""
        rows = [int(i) for i in indices]
        turned = tuple(self.turned[i] for i in rows) if self.turned else ()
        return Sentences(tuple(self.texts[i] for i in rows), self.labels[rows], turned)


@dataclass(frozen=True)
class Reviews:
    """A data set of sentences.

    Attributes:
        name: what it is called.
        train, val, test: its parts.
        card: source, licence, what the data is not.
    """

    name: str
    train: Sentences
    val: Sentences
    test: Sentences
    card: DataCard
