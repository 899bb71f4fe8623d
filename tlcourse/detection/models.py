"""A small detector for small images: torchvision's Faster R-CNN with few and narrow layers on ResNet18."""

from typing import Any

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from tlhelpers.errors import ModelError
from tlhelpers.models.loading import load_model

STARTS = {"fine-tuned": ("conv1", "layer1"), "frozen": ("conv1", "layer"), "scratch": ()}  # frozen parameters' names
CHANNELS = 64  # of each level of the pyramid; torchvision's large detectors have 256
HIDDEN = 256  # units of the box head; torchvision's have 1024


def small_detector(num_classes: int, *, start: str = "fine-tuned", size: int = 128, seed: int = 0) -> FasterRCNN:
    """Faster R-CNN (Ren et al. 2015) with a feature pyramid (Lin et al. 2017) on ResNet18.

    It is on the CPU, in training mode. From images (a list of float tensors (3, height, width), 0 to 1) and targets it
    computes a dictionary of losses; in evaluation mode, from images, a list of dictionaries with `boxes`, `labels` and
    `scores`. The background is one of the `num_classes`, number 0. `size` is the shorter side, in pixels, to which the
    detector resizes every image; `seed` that of all random weights.

    `start` is "fine-tuned": pre-trained backbone, its stem and first block frozen as in torchvision; "frozen":
    pre-trained backbone, all of it frozen; or "scratch": random weights, all trainable. The BatchNorm of a pre-trained
    backbone is frozen. Raises ModelError for another start.
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
