"""The check of a function that extracts features: a network and images that show what it did with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from tlcourse.labs.lab import Wrong
from tlhelpers.data.dataset import ImageSplit
from tlhelpers.models.cards import ModelCard, set_card
from tlhelpers.models.preprocessing import Preprocessing

IMAGES = 300
LOOK = Preprocessing(size=32, resize=36, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))  # nobody's usual numbers
IMAGENET = Preprocessing()

Array = NDArray[np.floating[Any]]


class _Colours(nn.Module):
    """A network whose features are the mean colours of the left half; it remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.counts: list[int] = []
        self.trained = self.traced = False
        set_card(self, ModelCard("none", "none", "Mean colours.", "-", LOOK))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.counts.append(len(images))
        self.trained |= self.training
        self.traced |= torch.is_grad_enabled()
        return images[..., : images.shape[-1] // 2].mean((2, 3)) + 0 * self.unused


class _Plain:
    """Images of one colour each, black on the right, with a white edge that the crop cuts off."""

    def __call__(self, index: int) -> Image.Image:
        image = Image.new("RGB", (60, 40), (index % 200, (7 * index) % 200, index // 2))
        image.paste((0, 0, 0), (30, 0, 60, 40))  # a mirrored one is not the same
        image.paste((255, 255, 255), (0, 0, 6, 40))
        return image


def extraction(function: Any) -> str:
    """A function (network, split) that gives an array (images, features)."""
    if not callable(function):
        raise Wrong(f"expected a function, found {type(function).__name__}")
    keys = [str(i) for i in range(IMAGES)]
    split = ImageSplit(_Plain(), [i % 2 for i in range(IMAGES)], ("even", "odd"), keys=keys, name="try")
    model = _Colours()
    try:
        first = function(model, split)
    except RuntimeError as error:
        if "requires grad" in str(error):
            raise Wrong(
                "what the network gives still wants gradients, so NumPy refuses it; call the network inside "
                "`with torch.inference_mode():`"
            ) from error
        raise
    if not model.counts:
        raise Wrong("it never calls the network that it is given; does it use one from outside?")
    if model.traced:
        raise Wrong(
            "it keeps what gradients would need, for every image; switch them off with `torch.inference_mode()`"
        )
    if model.trained:
        raise Wrong(
            "it got a network in training mode and left it there; call `eval()` inside, then nobody can forget it"
        )
    if not isinstance(first, np.ndarray):
        raise Wrong(f"expected a NumPy array, found {type(first).__name__}")
    if len(first) != IMAGES:
        less = "is the last, smaller batch lost?" if len(first) < IMAGES else "is a row added twice?"
        raise Wrong(f"{IMAGES} images went in, and {len(first)} rows came out: {less}")
    if first.shape != (IMAGES, 3):
        raise Wrong(f"{IMAGES} images with 3 features should give ({IMAGES}, 3), found {first.shape}")
    if max(model.counts) == IMAGES:
        raise Wrong(f"all {IMAGES} images went through at once; with a large folder memory would run out, use batches")
    images = torch.stack([LOOK.evaluation()(split.image(i)) for i in range(IMAGES)])
    with torch.inference_mode():
        truth = _Colours()(images).numpy().astype(float)
    if not np.allclose(first, truth, atol=1e-4) and np.allclose(_sorted(first), _sorted(truth), atol=1e-4):
        raise Wrong("all rows are there, in another order than the split's: was it shuffled?")
    if not np.allclose(first, function(model, split), atol=1e-4):
        raise Wrong(
            "two calls give different features: is something random in the transform, augmentation for instance?"
        )
    _right_look(first, truth)
    return "the split's order, in batches, and twice the same"


def _sorted(rows: Array) -> Array:
    """By the nearest thousandth, so that rounding does not change the order."""
    return rows[np.lexsort(np.round(rows, 3).T[::-1])]


def _right_look(found: Array, truth: Array) -> None:
    if np.allclose(found, truth, atol=1e-4):
        return
    plain = truth * np.array(LOOK.std) + np.array(LOOK.mean)
    slips = {
        "the images are not normalised; the card's preprocessing does it": plain,
        "values from 0 to 255 went in; the card's preprocessing scales and normalises": 255 * plain,
        "ImageNet's mean and deviation were used, and this network's card states others": (
            (plain - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
        ),
    }
    for said, slip in slips.items():
        if np.allclose(found, slip, atol=0.01 * np.abs(slip).max()):
            raise Wrong(said)
    raise Wrong("the images reach the network otherwise than the card says: is it another resizing or crop?")
