"""A small detector on a ResNet: torchvision's own Faster R-CNN, with few and small parts, for small images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from tlhelpers.errors import ModelError
from tlhelpers.models.loading import load_model

STARTS = ("fine-tuned", "frozen", "scratch")
LEVELS = ("layer2", "layer3", "layer4")  # feature maps of 1/8, 1/16 and 1/32 of the image's side
CHANNELS = 64  # of each level of the pyramid; torchvision's large detectors have 256
HIDDEN = 256  # units of the box head; torchvision's have 1024


def small_detector(
    num_classes: int, *, start: str = "fine-tuned", arch: str = "resnet18", size: int = 128, seed: int = 0
) -> FasterRCNN:
    """Faster R-CNN (Ren et al. 2015) on a feature pyramid (Lin et al. 2017) over a ResNet, for images of `size`.

    Args:
        num_classes: how many classes there are, the background (number 0) included.
        start: "fine-tuned": a pre-trained backbone whose stem and first block are frozen, as torchvision does it;
            "frozen": a pre-trained backbone that stays as it is; "scratch": random weights, all of which train.
            A pre-trained backbone's BatchNorm becomes `FrozenBatchNorm2d`; one from scratch has to learn its own.
        arch: "resnet18" or "resnet34".
        size: shorter side, in pixels, to which the detector brings every image.
        seed: of all random weights; the global generator is not touched.

    Returns:
        the detector, on the CPU, in training mode. Given images (a list of float tensors (3, height, width)
        between 0 and 1) and targets, it returns a dictionary of losses; in evaluation mode, given images, a list
        of dictionaries with `boxes`, `labels` and `scores`.

    Raises:
        ModelError: for an unknown start.
    """
    if start not in STARTS:
        raise ModelError(f"start '{start}' is not known; expected one of {', '.join(STARTS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = load_model(arch, weights="none" if start == "scratch" else None)
        look = classifier.card.preprocessing
        model = FasterRCNN(
            pyramid(classifier, start, arch),
            min_size=size,
            max_size=2 * size,
            image_mean=list(look.mean),
            image_std=list(look.std),
            rpn_anchor_generator=AnchorGenerator(
                sizes=tuple((side * size // 128,) for side in (32, 56, 96)), aspect_ratios=((0.5, 1.0, 2.0),) * 3
            ),
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
    return model


def pyramid(classifier: Any, start: str, arch: str) -> BackboneWithFPN:
    """A ResNet's blocks with a feature pyramid: images -> maps "0", "1" and "2", each with 64 channels."""
    # FrozenBatchNorm2d has the same names and numbers as BatchNorm2d, as buffers.
    norm = nn.BatchNorm2d if start == "scratch" else FrozenBatchNorm2d
    body: Any = get_model(arch, weights=None, norm_layer=norm)
    if start != "scratch":
        body.fc = classifier.fc  # of its size, so that everything fits; the detector does not use it
        body.load_state_dict(classifier.state_dict())
        frozen = ("conv1", "layer1") if start == "fine-tuned" else ("conv1", "layer")
        for name, parameter in body.named_parameters():
            parameter.requires_grad = not name.startswith(frozen)
    wide = [body.inplanes // 2 ** (len(LEVELS) - 1 - i) for i in range(len(LEVELS))]
    return BackboneWithFPN(
        body,
        return_layers={layer: str(i) for i, layer in enumerate(LEVELS)},
        in_channels_list=wide,
        out_channels=CHANNELS,
        extra_blocks=NoMore(),
    )


class NoMore(ExtraFPNBlock):
    """In place of the coarser level that torchvision adds to a pyramid: these images are too small for it."""

    def forward(
        self, results: list[torch.Tensor], x: list[torch.Tensor], names: list[str]
    ) -> tuple[list[torch.Tensor], list[str]]:
        """The pyramid as it is."""
        return results, names
