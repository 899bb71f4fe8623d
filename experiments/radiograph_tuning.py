"""Fine-tuning on the radiographs of `pneumonia.py`: the last blocks of the network, on varied and mirrored images."""

from __future__ import annotations

import functools

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import numpy as np
import radiographs
import torch
from PIL import Image, ImageOps
from radiographs import ARCH, READINGS, SHIFTS, VIEWS, Films, Pool, preprocessing, varied
from torch import nn

from tlhelpers.data.dataset import DataCard
from tlhelpers.files import atomic_write

LAST, EPOCHS, LR = 3, 5, 3e-4  # blocks that train besides the head; set once, not searched for
WHERE = ("here", *(shift.__name__ for shift in SHIFTS))
CLASSES = ("NORMAL", "PNEUMONIA")
CARD = DataCard("radiographs", "chest radiographs of children", "Kermany et al. 2018", "CC BY 4.0", "a medical device")


def tuned_odds(pool: Pool, parts: tuple[np.ndarray, ...], by: str, seed: int) -> dict[str, np.ndarray]:
    """Log-odds of pneumonia by a network that learned from the training set; computed once, then kept.

    Args:
        pool: the radiographs.
        parts: rows of training, validation and held-out images.
        by: how they were divided; a piece of the name under which the result is kept.
        seed: of the division, shuffling and augmentation.

    Returns:
        for every place an array (images,), NaN where nobody asks: in training, and elsewhere than here for all but
        the held-out images.
    """
    kept = radiographs.KEPT / f"{ARCH}_tuned_{LAST}_{EPOCHS}_{LR}_{by}_{seed}_{pool.stamp}.npy"
    if not kept.exists():
        train, val, held = parts
        model = _tuned(pool, train, val, seed)
        tests = np.arange(pool.trains, len(pool.labels))
        odds = np.full((len(WHERE), len(pool.labels)), np.nan, dtype=np.float32)
        for line, place in enumerate(WHERE):
            rows = np.concatenate([val, held, tests]) if place == "here" else held
            odds[line, rows] = _odds(model, _split(pool, rows, place))
        radiographs.KEPT.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as file:
            np.save(file, odds)
    return dict(zip(WHERE, np.load(kept, allow_pickle=False), strict=True))


def _tuned(pool: Pool, train: np.ndarray, val: np.ndarray, seed: int) -> nn.Module:
    """The network after training; the weights are those of the last epoch, so validation chooses nothing here."""
    model = tl.load_model(ARCH, classes=CLASSES, seed=seed)
    tl.unfreeze(tl.freeze(model), last=LAST)
    rates = {str(group["name"]): LR for group in tl.param_groups(model, 1.0)} | {"head": 3 * LR}
    labels = pool.labels[train]
    weights = torch.tensor([len(labels) / 2 / (labels == label).sum() for label in (0, 1)], dtype=torch.float32)
    tl.fit(
        model,
        tl.ImageData("radiographs", _split(pool, train).with_transform(None), _split(pool, val), None, CARD),
        epochs=EPOCHS,
        keep="last",
        lr=rates,
        augment=_Augmented(),
        optimizer=functools.partial(torch.optim.AdamW, weight_decay=1e-2),
        schedule="one-cycle",
        loss=nn.CrossEntropyLoss(weight=weights.to(tl.current_profile().device)),
        cache=VIEWS,
        seed=seed,
    )
    return model


class _Augmented:
    """A varied view, mirrored half of the time, as the network expects it."""

    def __init__(self) -> None:
        self.side = READINGS["last"].side
        self.transform = preprocessing(self.side).evaluation()

    def __call__(self, image: Image.Image) -> torch.Tensor:
        view = varied(image, self.side)
        if torch.rand(()) < 0.5:
            view = ImageOps.mirror(view)
        ready: torch.Tensor = self.transform(view.convert("RGB"))
        return ready


def _split(pool: Pool, rows: np.ndarray, place: str = "here") -> tl.ImageSplit:
    """Some radiographs as a place delivers them, the whole image, as the network expects it."""
    paths = [pool.paths[row] for row in rows]
    side = READINGS["last"].side
    films = Films(paths, place, "plain", side)
    keys = [f"{place}/{path}" for path in paths]
    split = tl.ImageSplit(films, pool.labels[rows].tolist(), CLASSES, keys=keys, name="radiographs")
    return split.with_transform(preprocessing(side).evaluation())


def _odds(model: nn.Module, split: tl.ImageSplit) -> np.ndarray:
    """The logit of pneumonia minus that of normal, for each image."""
    logits = tl.evaluate(model, split).logits
    log_odds: np.ndarray = (logits[:, 1] - logits[:, 0]).float().numpy()
    return log_odds
