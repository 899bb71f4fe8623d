"""The training methods that the section on language compares: they are those of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from tlcourse.language.dataset import Sentences
from tlcourse.language.encoder import SentenceClassifier
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.loop import place, train_epoch
from tlhelpers.models.freezing import freeze_modules, unfreeze_modules
from tlhelpers.training import seeded

STEPS, BATCH = 40, 16


@dataclass(frozen=True)
class Method:
    """What of the encoder trains, and the learning rates (AdamW, one cycle).

    Attributes:
        head: learning rate of the head.
        encoder: learning rate of what trains of the encoder.
        last: how many of its last layers train; None: all of it, the table of tokens included.
    """

    head: float
    encoder: float
    last: int | None


METHODS = {
    "frozen embeddings": Method(1e-2, 0.0, 0),
    "last layer": Method(3e-3, 3e-4, 1),
    "everything": Method(1e-3, 1e-4, None),
}


def train(
    model: SentenceClassifier,
    sentences: Sentences,
    method: str,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH,
    seed: int = 0,
) -> float:
    """Train a classifier of sentences in place; returns the mean training loss over all steps.

    Frozen layers stay in evaluation mode, so their dropout is off, and a wholly frozen encoder runs once.

    Args:
        model: from `load_classifier`.
        sentences: what it learns from; passed over as often as the steps take.
        method: a key of `WAYS`.
        steps: of the optimizer, whatever the number of sentences.
        batch_size: sentences in a step, at most as many as there are.
        seed: of order and dropout; the global generators are left as they were.

    Raises:
        TrainingError: if the way is not known.
    """
    if method not in METHODS:
        raise TrainingError(f"'{method}' is no way of training; expected one of {', '.join(METHODS)}")
    how, settings = METHODS[method], current_profile()
    place(model, settings.device)
    freeze_modules(model.encoder)
    unfreeze_modules(*([model.encoder] if how.last is None else model.layers[len(model.layers) - how.last :]))
    whole = how.last != 0
    inputs = model.tokens(sentences.texts) if whole else model.embed(sentences.texts)
    network: nn.Module = model if whole else model.head
    moving = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": list(model.head.parameters()), "lr": how.head}]
    if moving:
        groups.append({"params": moving, "lr": how.encoder})
    optimizer = AdamW(groups, weight_decay=1e-2, fused=True)
    scheduler = OneCycleLR(optimizer, [group["lr"] for group in groups], total_steps=steps)
    rows = _rows(len(sentences), steps, batch_size, seed)
    batches = [(inputs[some], sentences.labels[some]) for some in rows]
    with seeded(seed, settings.device):
        precision = settings.dtype if whole else torch.float32
        loss, _ = train_epoch(
            network, batches, nn.CrossEntropyLoss(), optimizer, precision=precision, scheduler=scheduler
        )
    model.eval()
    return loss


def _rows(count: int, steps: int, batch_size: int, seed: int) -> list[torch.Tensor]:
    """The numbers of each step's sentences: shuffled passes over all of them, one after the other."""
    generator = np.random.default_rng(seed)
    size = min(batch_size, count)
    passes = -(-steps * size // count)
    order = np.concatenate([generator.permutation(count) for _ in range(passes)])
    return [torch.from_numpy(order[step * size : (step + 1) * size].copy()) for step in range(steps)]


def bag_of_words(sentences: Sentences) -> Any:
    """A classifier that counts words and pairs of words, and knows nothing else: scikit-learn's, fitted.

    Args:
        sentences: what it learns from.

    Returns:
        a pipeline with `predict(texts)` and `score(texts, labels)`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    counts = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    pipeline = make_pipeline(counts, LogisticRegression(C=10.0, max_iter=1000))
    return pipeline.fit(list(sentences.texts), sentences.labels.numpy())
