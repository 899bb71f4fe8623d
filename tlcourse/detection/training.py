"""Training and scoring detectors of torchvision's kind: images and targets in, losses or boxes out."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from torchvision.transforms import v2

from tlcourse.detection.boxes import BoxedSplit, Target, collate_boxes
from tlhelpers.device import current_profile
from tlhelpers.errors import TrainingError
from tlhelpers.models.modes import evaluation_mode
from tlhelpers.pixel_batches import EpochOrder
from tlhelpers.progress import tqdm

TO_FLOAT = v2.ToDtype(torch.float32, scale=True)
AUGMENT = v2.RandomHorizontalFlip(0.5)  # moves the boxes with the image


def train_detector(
    model: nn.Module,
    split: BoxedSplit,
    *,
    steps: int,
    batch_size: int = 8,
    lr: float = 1e-3,
    backbone_lr: float | None = None,
    augment: Any = AUGMENT,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a detector for a number of steps, with AdamW and a learning rate that rises and falls (one cycle).

    Args:
        model: takes images and targets in training mode and returns a dictionary of losses; changed in place. It
            must have a `backbone` if `backbone_lr` is given.
        split: the images, with boxes.
        steps: batches to train on, going through the images as often as that takes.
        batch_size: images in a batch.
        lr: highest learning rate.
        backbone_lr: highest learning rate of what trains in the backbone's body; None takes `lr`.
        augment: a transform of `(image, target)`; None for none.
        seed: of the order, the augmentation, and the detector's own draws. The global generator is not touched.

    Returns:
        a row for each step, a column for each loss, and `loss`, their sum.

    Raises:
        TrainingError: if a loss is no longer a number.
    """
    groups = list(_groups(model, lr, backbone_lr))
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [g["lr"] for g in groups], total_steps=steps)
    device = current_profile().device
    view = split.with_transform(TO_FLOAT if augment is None else v2.Compose([augment, TO_FLOAT]))
    model.to(device).train()
    rows: list[dict[str, float]] = []
    with _seeded(seed):
        for images, targets in tqdm(_batches(view, batch_size, steps, seed), total=steps, unit="step"):
            losses = model([image.to(device) for image in images], _moved(targets, device))
            loss = sum(losses.values())
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"step {len(rows) + 1}: the loss is {float(loss.detach())}. Try a smaller learning rate than "
                    f"{lr:g}, and look whether boxes are left, top, right, bottom in pixels"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            rows.append({name: float(part.detach()) for name, part in losses.items()} | {"loss": float(loss.detach())})
    return pd.DataFrame(rows, index=pd.RangeIndex(1, steps + 1, name="step"))


def detect(model: nn.Module, split: BoxedSplit, *, batch_size: int = 16) -> tuple[list[Target], list[Target]]:
    """What a detector finds on all images of a part, and what is there.

    Args:
        model: given images in evaluation mode, it returns dictionaries with boxes, labels and scores. Every module
            gets its own mode back afterwards.
        split: the images; its own transform is not applied.
        batch_size: images in a batch.

    Returns:
        predictions and truths, each a dictionary for every image, on the CPU.
    """
    device = current_profile().device
    view = split.with_transform(TO_FLOAT)
    found: list[Target] = []
    truths: list[Target] = []
    with evaluation_mode(model.to(device)), torch.inference_mode():
        for first in range(0, len(view), batch_size):
            images, targets = collate_boxes([view[i] for i in range(first, min(first + batch_size, len(view)))])
            answers = model([image.to(device) for image in images])
            found += [{name: part.cpu() for name, part in answer.items()} for answer in answers]
            truths += targets
    return found, truths


def mean_average_precision(
    found: Sequence[Target], truths: Sequence[Target], *, any_class: bool = False
) -> dict[str, float]:
    """COCO's mean average precision, by torchmetrics and pycocotools.

    Args:
        found: predictions, with boxes (left, top, right, bottom), labels and scores.
        truths: targets, with boxes and labels.
        any_class: whether all objects count as one class, so that only where they are found matters.

    Returns:
        `map`, over IoU thresholds from 0.5 to 0.95, `map_50` and `map_75`; each the mean over classes, 0 to 1.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox", backend="pycocotools")
    plain = [{name: torch.as_tensor(part).as_subclass(torch.Tensor) for name, part in t.items()} for t in truths]
    answers = [dict(answer) for answer in found]
    if any_class:
        for each in (*plain, *answers):
            each["labels"] = torch.ones_like(each["labels"])
    metric.update(answers, plain)
    scores = metric.compute()
    return {name: float(scores[name]) for name in ("map", "map_50", "map_75")}


def _groups(model: Any, lr: float, backbone_lr: float | None) -> Iterator[dict[str, Any]]:
    """Parameter groups: the backbone's body with its own rate, and everything else."""
    body = set() if backbone_lr is None else set(model.backbone.body.parameters())
    training = [p for p in model.parameters() if p.requires_grad]
    for params, rate in (
        ([p for p in training if p in body], backbone_lr),
        ([p for p in training if p not in body], lr),
    ):
        if params:
            yield {"params": params, "lr": rate}


def _batches(view: BoxedSplit, size: int, steps: int, seed: int) -> Iterator[tuple[list[Any], list[Target]]]:
    """As many batches as asked for, in a new order for each pass over the images."""
    order = EpochOrder(len(view), min(size, len(view)), seed)

    def passes() -> Iterator[torch.Tensor]:
        for order.epoch in itertools.count(1):
            yield from order

    for indices in itertools.islice(passes(), steps):
        yield collate_boxes([view[i] for i in indices.tolist()])


def _moved(targets: Sequence[Target], device: torch.device) -> list[Target]:
    return [{name: part.to(device) for name, part in target.items()} for target in targets]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draws from torch's global generators follow from the seed in a `with` block, which leaves them as they were."""
    device = current_profile().device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
