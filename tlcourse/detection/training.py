"""Trains and scores detectors with torchvision's interface: images and targets in, losses or boxes out."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from torchvision.transforms import v2

from tlcourse.detection.boxes import BoxedSplit, Target, collate_boxes
from tlhelpers.device import current_profile
from tlhelpers.errors import DataError, TrainingError
from tlhelpers.loop import seeded
from tlhelpers.models.freezing import evaluation_mode
from tlhelpers.progress import tqdm

TO_FLOAT = v2.ToDtype(torch.float32, scale=True)
AUGMENT = v2.RandomHorizontalFlip(0.5)  # moves the boxes with the image


def train_detector(
    model: Any,
    split: BoxedSplit,
    *,
    steps: int,
    batch_size: int = 8,
    lr: float = 1e-3,
    backbone_lr: float | None = None,
    augment: Any = AUGMENT,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a detector with AdamW, the one-cycle schedule and gradients clipped to a norm of 5.

    `model` returns a dictionary of losses from images and targets in training mode, and is changed in place by `steps`
    batches of `batch_size` images. `lr` is the highest learning rate, `backbone_lr` that of `model.backbone.body` (None
    takes `lr`). `augment` is a transform of `(image, target)`, or None. `seed` is that of the order, the augmentation
    and the detector's sampling; the global generator does not change.

    The result has a row for each step: each loss, and `loss`, their sum. Raises TrainingError if one is not finite.
    """
    device = current_profile().device
    model.to(device).train()
    body = set() if backbone_lr is None else set(model.backbone.body.parameters())
    trainable = [p for p in model.parameters() if p.requires_grad]
    slow, others = ([p for p in trainable if (p in body) == inside] for inside in (True, False))
    groups = [{"params": slow, "lr": backbone_lr or 0.0}, {"params": others, "lr": lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [backbone_lr or 0.0, lr], total_steps=steps)
    view = split.with_transform(TO_FLOAT if augment is None else v2.Compose([augment, TO_FLOAT]))
    size, epoch = min(batch_size, len(view)), 0
    batches: list[torch.Tensor] = []
    while len(batches) < steps:  # an epoch's incomplete last batch is left out
        epoch += 1
        order = torch.randperm(len(view), generator=torch.Generator().manual_seed((seed * 100_003 + epoch) * 2))
        batches += order.split(size)[: len(view) // size]
    rows: list[dict[str, float]] = []
    with seeded(seed, device):
        for indices in tqdm(batches[:steps], unit="step"):
            images, targets = collate_boxes([view[i] for i in indices.tolist()])
            boxed = [{name: tensor.to(device) for name, tensor in target.items()} for target in targets]
            losses = model([image.to(device) for image in images], boxed)
            loss = sum(losses.values())
            if not torch.isfinite(loss):
                text = f"step {len(rows) + 1}: the loss is {loss.item()}. Try a smaller learning rate than {lr:g}"
                raise TrainingError(f"{text}, and check that boxes are left, top, right, bottom in pixels")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            rows.append({name: float(value.detach()) for name, value in (losses | {"loss": loss}).items()})
    return pd.DataFrame(rows, index=pd.RangeIndex(1, steps + 1, name="step"))


def detect(model: nn.Module, split: BoxedSplit, *, batch_size: int = 16) -> tuple[list[Target], list[Target]]:
    """Predictions and true targets, a dictionary for each image of a split, on the CPU.

    `model` returns dictionaries with boxes, labels and scores in evaluation mode; every module's mode is restored. The
    split's transform is not applied.
    """
    device, view = current_profile().device, split.with_transform(TO_FLOAT)
    predictions: list[Target] = []
    truths: list[Target] = []
    with evaluation_mode(model.to(device)), torch.inference_mode():
        for rows in torch.arange(len(view)).split(batch_size):
            images, targets = collate_boxes([view[i] for i in rows.tolist()])
            outputs = model([image.to(device) for image in images])
            predictions += [{name: tensor.cpu() for name, tensor in output.items()} for output in outputs]
            truths += targets
    return predictions, truths


def mean_average_precision(predictions: Sequence[Target], truths: Sequence[Target]) -> dict[str, float]:
    """COCO's mean average precision (Lin et al. 2014), computed by torchmetrics and pycocotools.

    Predictions have boxes (left, top, right, bottom), labels and scores. The result has `map` (mean over the IoU
    thresholds 0.5, 0.55, ..., 0.95), `map_50` and `map_75`, means over classes; NaN if there is no true object, since
    recall is then undefined. Raises DataError if images have other numbers.
    """
    from torchmetrics.detection import MeanAveragePrecision

    def plain(each: Target) -> Target:
        return {name: torch.as_tensor(value).as_subclass(torch.Tensor) for name, value in each.items()}

    if len(predictions) != len(truths):
        raise DataError(f"predictions of {len(predictions)} images and truths of {len(truths)} do not belong together")
    edges = ([float(b) for t in some for b in torch.as_tensor(t["boxes"]).flatten()] for some in (predictions, truths))
    largest = [max(each, default=math.inf) for each in edges]
    if min(largest) <= 1 < max(largest) < math.inf:
        raise DataError("one of predictions and truths has boxes in pixels, the other in fractions of the image")
    metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox", backend="pycocotools")
    metric.update([plain(each) for each in predictions], [plain(each) for each in truths])
    scores = metric.compute()
    found = {name: float(scores[name]) for name in ("map", "map_50", "map_75")}
    return {name: math.nan if value < 0 else value for name, value in found.items()}  # -1 in COCO's evaluation
