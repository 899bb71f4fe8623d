"""Using a trained network: `evaluate` it on a split, `predict` single images, compute features; scores and mistakes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from tlhelpers.batch_sources import scoring_batches
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.data.images import open_image
from tlhelpers.device import current_profile
from tlhelpers.errors import DataError, TrainingError
from tlhelpers.loop import compute_logits, place
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import get_head
from tlhelpers.progress import tqdm

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def evaluate(model: nn.Module, split: ImageSplit, *, batch_size: int = 64) -> "Evaluation":
    """Predictions of a network for every image of a split, on the profile's device and in its precision.

    Args:
        model: a classifier as wide as the split has classes; every module keeps its mode.
        split: its own transform is used if it has one, else the preprocessing of the model's card.
        batch_size: images at a time.

    Raises:
        TrainingError: if the network's outputs are not the classes of the split.
        DataError: if outputs are not finite, or naming an image that cannot be read.
    """
    check_fits(model, split)
    profile = current_profile()
    place(model, profile.device)
    batches = tqdm(scoring_batches(model, split, batch_size), desc=f"evaluate {split.name}", leave=False, delay=1)
    logits, _ = compute_logits(model, batches, precision=profile.dtype)
    return Evaluation(split, split.classes, logits)


def predict(
    model: nn.Module, images: str | Path | Image.Image | Sequence[str | Path | Image.Image], *, top: int = 3
) -> pd.DataFrame:
    """The `top` most probable classes of each image.

    The model's card names the classes and the preprocessing; `images` are files or PIL images. Columns: image, rank
    (from 1), class, probability (softmax of the logits). A DataError names the file that cannot be read.
    """
    many = [images] if isinstance(images, str | Path | Image.Image) else list(images)
    card, profile = get_card(model), current_profile()
    place(model, profile.device)
    transform = card.preprocessing.evaluation()
    names = card.classes or tuple(f"class {i}" for i in range(get_head(model).out_features))
    rows = []
    for number, image in enumerate(many, start=1):
        if isinstance(image, Image.Image):
            label, opened = f"image {number}", image.convert("RGB")
        else:
            label, opened = str(image), open_image(image)
        batch = transform(opened)[None], torch.zeros(1)
        logits, _ = compute_logits(model, [batch], precision=profile.dtype)
        best = logits[0].softmax(dim=0).topk(min(top, len(names)))
        for rank, (value, i) in enumerate(zip(*best, strict=True), start=1):
            rows.append((label, rank, names[i], float(value)))
    return pd.DataFrame(rows, columns=["image", "rank", "class", "probability"])


def compute_features(model: nn.Module, split: ImageSplit, *, batch_size: int = 64) -> torch.Tensor:
    """Penultimate-layer features of every image, float32 (images, in_features of the head), on the CPU."""
    profile = current_profile()
    place(model, profile.device)
    features: list[torch.Tensor] = []
    with get_head(model).register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].float().cpu())):
        compute_logits(model, scoring_batches(model, split, batch_size), precision=profile.dtype)
    return torch.cat(features)


def check_fits(model: nn.Module, split: ImageSplit) -> None:
    """Raise a TrainingError if the outputs of a network are not the classes of a split."""
    outputs, classes = get_head(model).out_features, split.classes
    if outputs != len(classes):
        shown = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
        raise TrainingError(
            f"the network has {outputs} outputs, but '{split.name}' has {len(classes)} classes ({shown}). "
            f"Give it a head that fits: tl.replace_head(model, classes=data.classes)"
        )
    named = getattr(getattr(model, "card", None), "classes", ())
    if named and tuple(named) != classes:
        raise TrainingError(
            f"the network's outputs mean {list(named)}, but '{split.name}' has the classes {list(classes)}: "
            "in another order or under other names a score would mean nothing"
        )


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion, as fractions (Wilson 1927; computed by SciPy).

    Unlike the textbook's ±1.96·sqrt(p(1-p)/n) it stays within 0 and 1 and is right for small counts.
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Evaluation:
    """A network's predictions for the images of a split, and their scores."""

    split: ImageSplit
    classes: tuple[str, ...]
    logits: torch.Tensor  # (images, classes), float32 on the CPU, in the order of the split

    def __post_init__(self) -> None:
        if bad := int((~torch.isfinite(self.logits)).any(dim=1).sum()):
            which = f"{bad} of {len(self.logits)} images of '{self.split.name}'"
            raise DataError(
                f"the network's outputs for {which} are not finite: its weights are damaged, or training diverged"
            )

    @property
    def labels(self) -> torch.Tensor:
        """True labels, (images,) int64."""
        return self.split.labels

    @functools.cached_property
    def probabilities(self) -> torch.Tensor:
        """Softmax of the logits, (images, classes); seldom calibrated."""
        return self.logits.softmax(dim=1)

    @property
    def predictions(self) -> torch.Tensor:
        """The class with the largest logit, (images,) int64."""
        return self.logits.argmax(dim=1)

    @property
    def correct(self) -> int:
        """How many images are classified correctly."""
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Fraction of images classified correctly."""
        return self.correct / len(self.labels)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy for images like these (Wilson); it says nothing about other training seeds."""
        return wilson_interval(self.correct, len(self.labels))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have images; always naming one class gives 1 / classes."""
        return float(self.per_class()["recall"].mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(functional.cross_entropy(self.logits, self.labels))

    def confusion(self) -> pd.DataFrame:
        """Counts of images: rows are the true classes, columns the predicted ones."""
        from sklearn.metrics import confusion_matrix

        counts = confusion_matrix(self.labels, self.predictions, labels=range(len(self.classes)))
        table = pd.DataFrame(counts, index=list(self.classes), columns=list(self.classes))
        return table.rename_axis(index="true", columns="predicted")

    def per_class(self) -> pd.DataFrame:
        """For each class: images, precision (NaN if it was never predicted) and recall (NaN if it has no images)."""
        table = self.confusion()
        correct = pd.Series(table.to_numpy().diagonal(), index=table.index)
        precision, recall = correct / table.sum(axis=0).replace(0, float("nan")), correct / table.sum(axis=1)
        return pd.DataFrame({"images": table.sum(axis=1), "precision": precision, "recall": recall})

    def worst(self, count: int = 8) -> pd.DataFrame:
        """The mistakes, most certain first: columns index (into the split), key, true, predicted, confidence."""
        confidence, predictions = self.probabilities.amax(dim=1), self.predictions
        wrong = (predictions != self.labels).nonzero().flatten()
        order = wrong[confidence[wrong].argsort(descending=True, stable=True)][:count].tolist()
        true, predicted = ([self.classes[labels[i]] for i in order] for labels in (self.labels, predictions))
        keys = [self.split.keys[i] for i in order]
        columns = {"index": order, "key": keys, "true": true, "predicted": predicted}
        return pd.DataFrame({**columns, "confidence": confidence[order].tolist()})

    def plot_confusion(self) -> "Figure":
        """The confusion matrix as a figure."""
        from tlhelpers import plots

        return plots.confusion(self.confusion(), title=f"Confusion matrix, {self.split.name}: {self}")

    def show_worst(self, count: int = 8) -> "Figure":
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
