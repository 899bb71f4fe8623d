"""Training a sentence classifier by the methods that serve for images, and a bag of words to compare with."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from tlcourse.language.encoder import SentenceClassifier
from tlcourse.language.reviews import Sentences
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.loop import place, seeded, train_epoch
from tlhelpers.models.freezing import freeze_modules, unfreeze_modules

STEPS, BATCH = 40, 16


class Method(NamedTuple):
    """The trainable part of the encoder, and the learning rates (AdamW, one cycle)."""

    head: float  # learning rate of the head
    encoder: float  # learning rate of the encoder
    last: int | None  # trainable layers, counted from the last; None: the whole encoder, token embeddings included


METHODS = {
    "frozen embeddings": Method(1e-2, 0.0, 0),
    "last layer": Method(3e-3, 3e-4, 1),
    "everything": Method(1e-3, 1e-4, None),
}


def train(model: SentenceClassifier, sentences: Sentences, method: str, *, steps: int = STEPS, seed: int = 0) -> float:
    """Train a sentence classifier in place; returns the mean training loss over all steps, of 16 sentences each.

    A frozen encoder runs once, in evaluation mode; `seed` is that of order and dropout. TrainingError: unknown method.
    """
    if method not in METHODS:
        raise TrainingError(f"'{method}' is not a method; expected one of {', '.join(METHODS)}")
    options, profile = METHODS[method], current_profile()
    place(model, profile.device)
    freeze_modules(model.encoder)
    unfreeze_modules(*([model.encoder] if options.last is None else model.layers[len(model.layers) - options.last :]))
    trainable = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    network: nn.Module = model if trainable else model.head
    inputs = model.tokens(sentences.texts) if trainable else model.embed(sentences.texts)
    dtype = profile.dtype if trainable else torch.float32
    groups = [{"params": model.head.parameters(), "lr": options.head}, {"params": trainable, "lr": options.encoder}]
    optimizer = AdamW(groups, weight_decay=1e-2, fused=True)
    scheduler = OneCycleLR(optimizer, [options.head, options.encoder], total_steps=steps)
    # Shuffled passes over all sentences, one after the other.
    rng, size = np.random.default_rng(seed), min(BATCH, len(sentences))
    order = np.concatenate([rng.permutation(len(sentences)) for _ in range(-(-steps * size // len(sentences)))])
    batches = [(inputs[some], sentences.labels[some]) for some in torch.from_numpy(order[: steps * size]).split(size)]
    with seeded(seed, profile.device):
        loss, _ = train_epoch(network, batches, nn.CrossEntropyLoss(), optimizer, precision=dtype, scheduler=scheduler)
    model.eval()
    return loss


def bag_of_words(sentences: Sentences) -> Any:
    """Logistic regression on tf-idf counts of words and word pairs: a fitted scikit-learn pipeline."""
    counts = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    pipeline = make_pipeline(counts, LogisticRegression(C=10.0, max_iter=1000))
    return pipeline.fit(list(sentences.texts), sentences.labels.numpy())
