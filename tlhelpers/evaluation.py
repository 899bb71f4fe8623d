"""Using a trained network: `evaluate` it on a split, `predict` single images, compute features; scores and mistakes."""

import os
from collections.abc import Iterable

import pandas as pd
import torch
from torch import nn
from torch.nn import functional

import tlhelpers
from tlhelpers.batch_checks import check_fits
from tlhelpers.batch_sources import scoring_batches
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.data.images import ONE_IMAGE, AnyImage, open_image
from tlhelpers.device import current_profile
from tlhelpers.errors import DataError, ModelError, at_least
from tlhelpers.loop import compute_logits, place
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import get_head, unwrapped
from tlhelpers.progress import tqdm


def evaluate(model: nn.Module, split: ImageSplit, *, batch_size: int = 64) -> "Evaluation":
    """Predictions of a network for every image of a split, on the profile's device and in its precision.

    The split's own transform is used if it has one, else the preprocessing of the model's card. Every module keeps its
    mode. A TrainingError says that the network's outputs are not the classes of the split; a DataError, that outputs
    are not finite, or which image cannot be read.
    """
    check_fits(model, split)
    profile = current_profile()
    place(model, profile.device)
    batches = tqdm(scoring_batches(model, split, batch_size), desc=f"evaluate {split.name}", leave=False, delay=1)
    logits, _ = compute_logits(model, batches, precision=profile.dtype)
    return Evaluation(split, split.classes, logits)


def predict(model: nn.Module, images: AnyImage | Iterable[AnyImage], *, top: int = 3) -> pd.DataFrame:
    """The `top` most probable classes of each image.

    The model's card names the classes and the preprocessing; `images` are one or several of what `open_image` takes,
    such as files. Columns: image, rank (from 1), class, probability (softmax of the logits). A DataError names the file
    that cannot be read, or says that the outputs are not finite.
    """
    at_least(1, top=top)
    many = images if isinstance(images, Iterable) and not isinstance(images, ONE_IMAGE) else [images]
    card, profile, outputs = get_card(model), current_profile(), get_head(model).out_features
    place(model, profile.device)
    transform = card.preprocessing.evaluation()
    names = card.classes or tuple(f"class {i}" for i in range(outputs))
    if len(names) != outputs:
        raise ModelError(f"the card names {len(names)} classes, but the network has {outputs} outputs")
    rows = []
    for number, image in enumerate(many, start=1):
        label = str(image) if isinstance(image, str | os.PathLike) else f"image {number}"
        batch = transform(open_image(image))[None], torch.zeros(1)
        logits, _ = compute_logits(model, [batch], precision=profile.dtype)
        _check_finite(logits, label)
        best = logits[0].softmax(dim=0).topk(min(top, len(names)))
        for rank, (value, i) in enumerate(zip(*best, strict=True), start=1):
            rows.append((label, rank, names[i], float(value)))
    return pd.DataFrame(rows, columns=["image", "rank", "class", "probability"])


def compute_features(model: nn.Module, split: ImageSplit, *, batch_size: int = 64) -> torch.Tensor:
    """Penultimate-layer features of every image, float32 (images, in_features of the head), on the CPU."""
    profile, model = current_profile(), unwrapped(model)  # a compiled network would not see the hook
    place(model, profile.device)
    features: list[torch.Tensor] = []
    with get_head(model).register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].float().cpu())):
        compute_logits(model, scoring_batches(model, split, batch_size), precision=profile.dtype)
    return torch.cat(features)


def _check_finite(logits: torch.Tensor, which: str) -> None:
    if bad := int((~torch.isfinite(logits)).any(dim=1).sum()):
        which = f"{bad} of {len(logits)} images {which} are not finite"
        raise DataError(f"the network's outputs for {which}: its weights are damaged, or training diverged")


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion, as fractions (Wilson 1927; computed by SciPy).

    Unlike the textbook's ±1.96·sqrt(p(1-p)/n) it stays within 0 and 1 and is right for small counts.
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


class Evaluation:
    """A network's predictions for the images of a split, and their scores."""

    def __init__(self, split: ImageSplit, classes: tuple[str, ...], logits: torch.Tensor) -> None:
        _check_finite(logits, f"of '{split.name}'")
        self.split, self.classes = split, classes
        self.logits = logits  # (images, classes), float32 on the CPU, in the order of the split
        self.probabilities = logits.softmax(dim=1)  # (images, classes); seldom calibrated
        self.predictions = logits.argmax(dim=1)  # the class with the largest logit, (images,) int64
        self.labels = split.labels  # true labels, (images,) int64
        self.correct = int((self.predictions == self.labels).sum())  # how many images are classified correctly
        self.accuracy = self.correct / len(self.labels)  # the fraction of them
        self.loss = float(functional.cross_entropy(logits, self.labels))  # the mean cross-entropy in nats
        # The mean recall over the classes that have images; always naming one class gives 1 / classes.
        self.balanced_accuracy = float(self.per_class()["recall"].mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy for images like these (Wilson); it says nothing about other training seeds."""
        return wilson_interval(self.correct, len(self.labels))

    def confusion(self) -> pd.DataFrame:
        """Counts of images: rows are the true classes, columns the predicted ones."""
        names = list(self.classes)
        counts = torch.bincount(self.labels * len(names) + self.predictions, minlength=len(names) ** 2)
        table = pd.DataFrame(counts.view(len(names), -1).numpy(), index=names, columns=names)
        return table.rename_axis(index="true", columns="predicted")

    def per_class(self) -> pd.DataFrame:
        """For each class: images, precision (NaN if it was never predicted) and recall (NaN if it has no images)."""
        table = self.confusion()
        correct, images, predicted = table.to_numpy().diagonal(), table.sum(axis=1), table.sum(axis=0)
        table = pd.DataFrame({"images": images, "precision": correct / predicted, "recall": correct / images})
        return table.rename_axis("true")

    def worst(self, count: int = 8) -> pd.DataFrame:
        """The mistakes, most certain first: columns index (into the split), key, true, predicted, confidence."""
        at_least(1, count=count)
        true, predicted = ([self.classes[i] for i in labels] for labels in (self.labels, self.predictions))
        columns = {"index": range(len(true)), "key": self.split.keys, "true": true, "predicted": predicted}
        table = pd.DataFrame({**columns, "confidence": self.probabilities.amax(dim=1).tolist()})
        wrong = table[(self.predictions != self.labels).numpy()]
        return wrong.sort_values("confidence", ascending=False, kind="stable", ignore_index=True).head(count)

    def plot_confusion(self) -> "tlhelpers.plots.Chart":
        """The confusion matrix as a figure."""
        return tlhelpers.plots.confusion(self.confusion(), title=f"Confusion matrix, {self.split.name}: {self}")

    def show_worst(self, count: int = 8) -> "tlhelpers.plots.Chart":
        """The images of `worst`, each with its true and predicted class."""
        table = self.worst(count)
        titles = [f"{row.true}\ncalled {row.predicted} ({row.confidence:.0%})" for row in table.itertuples()]
        images = [self.split.image(i) for i in table["index"]]
        return tlhelpers.plots.image_grid(images, titles, title=f"Most certain mistakes, {self.split.name}")

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.accuracy:.1%} of {len(self.labels)} (95 % interval {low:.1%} to {high:.1%})"

    def __repr__(self) -> str:
        return f"Evaluation on '{self.split.name}': {self}"
