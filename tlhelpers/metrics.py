"""How good a network is on a part of a data set: numbers with their uncertainty, and the mistakes themselves."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch.nn import functional

from tlhelpers.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tlhelpers.data.dataset import ImageSplit


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion, as fractions (Wilson 1927; computed by SciPy).

    Unlike the textbook's ±1.96·sqrt(p(1-p)/n) it keeps within 0 and 1 and is right for small counts.
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Evaluation:
    """What a network says about each image of a part, and what follows from that.

    Attributes:
        split: the images, in the order of the rows below.
        classes: class names.
        logits: (images, classes), float32 on the CPU.
    """

    split: ImageSplit
    classes: tuple[str, ...]
    logits: torch.Tensor

    def __post_init__(self) -> None:
        if not torch.isfinite(self.logits).all():
            bad = int((~torch.isfinite(self.logits)).any(dim=1).sum())
            raise DataError(
                f"the network's outputs for {bad} of {len(self.logits)} images of '{self.split.name}' are "
                "not finite, so they cannot be scored; its weights are damaged, or training diverged"
            )

    @property
    def labels(self) -> torch.Tensor:
        """True labels, (images,) int64."""
        return self.split.labels

    @functools.cached_property
    def probabilities(self) -> torch.Tensor:
        """Softmax of the logits, (images, classes). Confidence as the network sees it; seldom calibrated."""
        return self.logits.softmax(dim=1)

    @property
    def predictions(self) -> torch.Tensor:
        """The class with the largest logit, (images,) int64."""
        return self.logits.argmax(dim=1)

    @property
    def correct(self) -> int:
        """How many images are classified rightly."""
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Fraction of images classified rightly."""
        return self.correct / len(self.labels)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy for images like these (Wilson); says nothing about other training seeds."""
        return wilson_interval(self.correct, len(self.labels))

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the classes of the fraction found (recall); always naming the largest class gives 1/classes."""
        from torchmetrics.functional.classification import multiclass_accuracy

        score = multiclass_accuracy(self.predictions, self.labels, len(self.classes), average="macro")
        return float(score)

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(functional.cross_entropy(self.logits, self.labels))

    def confusion(self) -> pd.DataFrame:
        """Counts of images: rows are the true classes, columns the predicted ones."""
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        counts = multiclass_confusion_matrix(self.predictions, self.labels, len(self.classes))
        table = pd.DataFrame(counts.numpy(), index=list(self.classes), columns=list(self.classes))
        return table.rename_axis(index="true", columns="predicted")

    def per_class(self) -> pd.DataFrame:
        """For each class: images, precision (share of those called so that are) and recall (share that is found)."""
        table = self.confusion()
        found = pd.Series(table.to_numpy().diagonal(), index=table.index)
        called = table.sum(axis=0)
        return pd.DataFrame(
            {
                "images": table.sum(axis=1),
                "precision": found / called.where(called > 0),
                "recall": found / table.sum(axis=1),
            }
        )

    def worst(self, count: int = 8) -> pd.DataFrame:
        """The mistakes of which the network was most certain, most certain first.

        Returns:
            columns index (into the split), key, true, predicted, confidence; fewer rows if there are fewer mistakes.
        """
        confidence = self.probabilities.max(dim=1).values
        wrong = (self.predictions != self.labels).nonzero().flatten()
        order = wrong[confidence[wrong].argsort(descending=True, stable=True)][:count]
        rows = [
            (
                i,
                self.split.keys[i],
                self.classes[self.labels[i]],
                self.classes[self.predictions[i]],
                float(confidence[i]),
            )
            for i in order.tolist()
        ]
        return pd.DataFrame(rows, columns=["index", "key", "true", "predicted", "confidence"])

    def plot_confusion(self) -> Figure:
        """The confusion matrix as a figure."""
        from tlhelpers import plots

        return plots.confusion(self.confusion(), title=f"Confusion matrix, {self.split.name}: {self}")

    def show_worst(self, count: int = 8) -> Figure:
        """The images of `worst`, each with its true and predicted class."""
        from tlhelpers import plots

        table = self.worst(count)
        titles = [f"{row.true}\ncalled {row.predicted} ({row.confidence:.0%})" for row in table.itertuples()]
        images = [self.split.image(i) for i in table["index"]]
        return plots.image_grid(images, titles, title=f"Most certain mistakes, {self.split.name}")

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.accuracy:.1%} of {len(self.labels)} (95 % interval {low:.1%} to {high:.1%})"

    def __repr__(self) -> str:
        return f"Evaluation on '{self.split.name}': {self}"
