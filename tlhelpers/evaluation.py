"""Scoring and using a trained network: `evaluate` a part of a data set, `predict` single images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import nn

from tlhelpers.batch_sources import scoring_batches
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.loop import compute_logits, place
from tlhelpers.metrics import Evaluation
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import get_head
from tlhelpers.progress import tqdm


def evaluate(model: nn.Module, split: ImageSplit, *, batch_size: int = 64, workers: int | None = None) -> Evaluation:
    """Run a network over a part of a data set, on the profile's device and in its precision.

    Args:
        model: a classifier as wide as the split has classes; each module's mode is given back as it was.
        split: with a transform it is used as it is; without one, the preprocessing of the model's card is.
        batch_size: images at a time.
        workers: processes that read images, where these do not fit into memory; None: a few.

    Raises:
        TrainingError: if the network has another number of outputs than the split has classes.
        DataError: if outputs are not finite.
    """
    check_fits(model, split)
    settings = current_profile()
    place(model, settings.device)
    bar = tqdm(scoring_batches(model, split, batch_size, workers), desc=f"evaluate {split.name}", leave=False, delay=1)
    logits, _ = compute_logits(model, bar, precision=settings.dtype)
    return Evaluation(split, split.classes, logits)


def predict(
    model: nn.Module, images: str | Path | Image.Image | Sequence[str | Path | Image.Image], *, top: int = 3
) -> pd.DataFrame:
    """What a network sees in images: the `top` classes of each, the most probable first.

    Args:
        model: a network with a card, which names the classes and the preprocessing.
        images: a file, a PIL image, or a list of them.
        top: rows for each image.

    Returns:
        columns image, rank (from 1), class, probability (softmax of the logits: confidence as the network sees it).

    Raises:
        DataError: naming the file that cannot be read.
    """
    from tlhelpers.data.images import open_image

    many = [images] if isinstance(images, str | Path | Image.Image) else list(images)
    card = get_card(model)
    settings = current_profile()
    place(model, settings.device)
    transform = card.preprocessing.evaluation()
    names = card.classes or tuple(f"class {i}" for i in range(get_head(model).out_features))
    rows = []
    for number, image in enumerate(many):
        rgb = image.convert("RGB") if isinstance(image, Image.Image) else open_image(image)
        label = f"image {number + 1}" if isinstance(image, Image.Image) else str(image)
        batch = [(transform(rgb).unsqueeze(0), torch.zeros(1, dtype=torch.long))]
        logits, _ = compute_logits(model, batch, precision=settings.dtype)
        best = logits[0].softmax(dim=0).topk(min(top, len(names)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        rows += [(label, rank, names[i], value) for rank, (i, value) in enumerate(pairs, start=1)]
    return pd.DataFrame(rows, columns=["image", "rank", "class", "probability"])


def check_fits(model: nn.Module, split: ImageSplit) -> None:
    """Refuse a network whose outputs are not the classes of a split.

    Raises:
        TrainingError: naming both.
    """
    outputs = get_head(model).out_features
    if outputs != len(split.classes):
        raise TrainingError(
            f"the network has {outputs} outputs, but '{split.name}' has {len(split.classes)} classes "
            f"({', '.join(split.classes[:5])}{', …' if len(split.classes) > 5 else ''}). "
            f"Give it a head that fits: tl.replace_head(model, classes=data.classes)"
        )
    named = getattr(getattr(model, "card", None), "classes", ())
    if named and tuple(named) != tuple(split.classes):
        raise TrainingError(
            f"the network's outputs mean {list(named)}, but '{split.name}' has the classes {list(split.classes)}: "
            "in another order or under other names a score would mean nothing"
        )
