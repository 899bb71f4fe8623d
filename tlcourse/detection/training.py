"""A small detector; training and scores of all that have torchvision's interface."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.transforms import v2

from tlcourse.detection.boxes import BoxedSplit, Target, collate_boxes
from tlhelpers.device import current_profile
from tlhelpers.errors import DataError, ModelError, TrainingError
from tlhelpers.loop import seeded
from tlhelpers.models.freezing import evaluation_mode
from tlhelpers.models.loading import load_model
from tlhelpers.progress import tqdm

STARTS = {"fine-tuned": ("conv1", "layer1"), "frozen": ("conv1", "layer"), "scratch": ()}  # frozen parameters' names
CHANNELS = 64  # of each level of the pyramid; torchvision's large detectors have 256
HIDDEN = 256  # units of the box head; torchvision's have 1024
TO_FLOAT = v2.ToDtype(torch.float32, scale=True)
AUGMENT = v2.Compose([v2.RandomHorizontalFlip(0.5), TO_FLOAT])  # moves the boxes with the image
BATCH = 16  # images that `detect` takes at a time


def small_detector(num_classes: int, *, start: str = "fine-tuned", size: int = 128, seed: int = 0) -> FasterRCNN:
    """Faster R-CNN (Ren et al. 2015) with a feature pyramid (Lin et al. 2017) on ResNet18.

    It is on the CPU, in training mode, with torchvision's interface: images are float tensors (3, height, width), 0 to
    1. The background is one of the `num_classes`, number 0. `size` is the shorter side, in pixels, to which the
    detector resizes every image; `seed` that of all random weights.

    `start` is "fine-tuned": pre-trained backbone, its stem and first block frozen as in torchvision; "frozen": all of
    it frozen; or "scratch": random weights, all trainable. Pre-trained BatchNorm is frozen. A ModelError says
    that the start is unknown.
    """
    if start not in STARTS:
        raise ModelError(f"start '{start}' is not known; expected one of {', '.join(STARTS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = load_model("resnet18", weights="none" if start == "scratch" else None)
        preprocessing = classifier.card.preprocessing
        sides = tuple((side * size // 128,) for side in (32, 56, 96))
        return FasterRCNN(
            _backbone(classifier, start),
            min_size=size,
            max_size=2 * size,
            image_mean=list(preprocessing.mean),
            image_std=list(preprocessing.std),
            rpn_anchor_generator=AnchorGenerator(sides, aspect_ratios=((0.5, 1.0, 2.0),) * 3),
            rpn_pre_nms_top_n_train=200,
            rpn_post_nms_top_n_train=100,
            rpn_pre_nms_top_n_test=100,
            rpn_post_nms_top_n_test=50,
            rpn_batch_size_per_image=64,
            box_roi_pool=MultiScaleRoIAlign(featmap_names=["0", "1", "2"], output_size=5, sampling_ratio=2),
            box_head=TwoMLPHead(CHANNELS * 5**2, HIDDEN),
            box_predictor=FastRCNNPredictor(HIDDEN, num_classes),
            box_batch_size_per_image=64,
            box_detections_per_img=20,
        )


def _backbone(classifier: Any, start: str) -> BackboneWithFPN:
    """ResNet18 with a feature pyramid: maps "0", "1" and "2" of 1/8, 1/16 and 1/32 of the image's side."""
    # FrozenBatchNorm2d has the parameters and buffers of BatchNorm2d, all as buffers.
    body: Any = resnet18(norm_layer=nn.BatchNorm2d if start == "scratch" else FrozenBatchNorm2d)
    if start != "scratch":
        body.fc = classifier.fc  # only so that the state fits; the detector does not use it
        body.load_state_dict(classifier.state_dict())
        for name, parameter in body.named_parameters():
            parameter.requires_grad = not name.startswith(STARTS[start])
    backbone = BackboneWithFPN(
        body,
        return_layers={"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels_list=[128, 256, 512],
        out_channels=CHANNELS,
    )
    backbone.fpn.extra_blocks = None  # these images are too small for the coarser level that torchvision adds
    return backbone


def train_detector(
    model: Any,
    split: BoxedSplit,
    *,
    steps: int,
    batch_size: int = 8,
    lr: float = 1e-3,
    backbone_lr: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a detector with AdamW, the one-cycle schedule, gradients clipped to a norm of 5, and mirrored images.

    `model` returns a dictionary of losses from images and targets in training mode, and is changed in place by `steps`
    batches of `batch_size` images. `lr` is the highest learning rate, `backbone_lr` that of `model.backbone.body` (None
    takes `lr`). `seed` is that of the order, the mirroring and the detector's sampling; the global generator does not
    change. The result has a row for each step: each loss, and `loss`, their sum. Raises TrainingError if one is not
    finite.
    """
    device = current_profile().device
    model.to(device).train()
    body = set() if backbone_lr is None else set(model.backbone.body.parameters())
    trainable = [p for p in model.parameters() if p.requires_grad]
    slow, others = ([p for p in trainable if (p in body) == inside] for inside in (True, False))
    groups = [{"params": slow, "lr": backbone_lr or 0.0}, {"params": others, "lr": lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [backbone_lr or 0.0, lr], total_steps=steps)
    view = split.with_transform(AUGMENT)
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


def detect(model: nn.Module, split: BoxedSplit) -> tuple[list[Target], list[Target]]:
    """Predictions and true targets, a dictionary for each image of a split, on the CPU; modes are restored."""
    device, view = current_profile().device, split.with_transform(TO_FLOAT)
    predictions: list[Target] = []
    truths: list[Target] = []
    with evaluation_mode(model.to(device)), torch.inference_mode():
        for rows in torch.arange(len(view)).split(BATCH):
            images, targets = collate_boxes([view[i] for i in rows.tolist()])
            outputs = model([image.to(device) for image in images])
            predictions += [{name: tensor.cpu() for name, tensor in output.items()} for output in outputs]
            truths += targets
    return predictions, truths


def mean_average_precision(predictions: Sequence[Target], truths: Sequence[Target]) -> dict[str, float]:
    """COCO's mean average precision (Lin et al. 2014), computed by torchmetrics and pycocotools.

    Predictions have boxes (left, top, right, bottom), labels and scores. The result has the means over classes `map`
    (over the IoU thresholds 0.5, 0.55, ..., 0.95), `map_50` and `map_75`; NaN if there is no true object, since recall
    is then undefined. Raises DataError if the two differ in their numbers of images, or one has no pixels.
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
