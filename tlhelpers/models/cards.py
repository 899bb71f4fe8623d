"""What a network is: its card, `model.card`, and the preprocessing that its weights expect."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from tlhelpers.errors import ModelError
from tlhelpers.models.families import unwrapped

Transform = Callable[[Image.Image], torch.Tensor]
LONGEST = 16  # times as long as wide: of a longer image only the middle is resized


def _without_ends(image: Any) -> Any:
    """The middle of a very long image: resized whole it could fill the memory, and the crop cuts off its ends."""
    if not isinstance(image, Image.Image) or max(image.size) <= LONGEST * min(image.size):
        return image
    return v2.functional.center_crop(image, [min(side, LONGEST * min(image.size)) for side in image.size[::-1]])


@dataclass(frozen=True)
class Preprocessing:
    """The input that weights were trained on. The defaults are those of torchvision's ImageNet weights."""

    size: int = 224  # side of the square crop that the network sees, in pixels
    resize: int = 256  # shorter side of the image before the crop, in pixels
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of each channel, for values between 0 and 1
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"  # or "bicubic"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists, where they were read from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def at(self, size: int) -> "Preprocessing":
        """The same for another `size` in pixels; resize and crop keep their ratio. ModelError below 32 pixels."""
        if size < 32:
            raise ModelError(f"size {size} px is too small: these networks downsample by 32; use 32 px or more")
        return replace(self, size=size, resize=round(size * self.resize / self.size))

    def evaluation(self) -> Transform:
        """RGB PIL image -> float32 tensor (3, size, size): resize, crop the centre, normalise. Nothing random."""
        return v2.Compose([*self.centre(), *self._to_tensor()])

    def centre(self) -> list[Any]:
        """The transforms that resize an image and crop its centre."""
        resize = v2.Resize(self.resize, interpolation=v2.InterpolationMode(self.interpolation))
        return [_without_ends, resize, v2.CenterCrop(self.size)]

    def training(self, augment: bool = True) -> Transform:
        """As `evaluation()`, but random: a crop of 50 to 100 % of the area, and a flip; not so without `augment`."""
        if not augment:
            return self.evaluation()
        mode = v2.InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(self.size, scale=(0.5, 1.0), interpolation=mode)
        return v2.Compose([crop, v2.RandomHorizontalFlip(), *self._to_tensor()])

    def undo(self, images: torch.Tensor) -> torch.Tensor:
        """Take back the normalisation: (..., 3, height, width) -> the same shape, between 0 and 1, to be shown."""
        mean, std = (torch.tensor(x, device=images.device).view(3, 1, 1) for x in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)

    def _to_tensor(self) -> list[Any]:
        to_float = v2.ToDtype(torch.float32, scale=True)
        return [v2.PILToTensor(), to_float, v2.Normalize(list(self.mean), list(self.std))]


@dataclass(frozen=True)
class ModelCard:
    """What a loaded network is: `model.card`."""

    arch: str  # its row in the table of architectures
    weights: str = "by hand"  # those it was loaded with: "embedded", "imagenet" or "none"
    sentence: str = "A network that was built by hand."  # what those weights are and where they came from
    licence: str = "unknown"  # the terms of the weights
    preprocessing: Preprocessing = Preprocessing()
    classes: tuple[str, ...] = ()  # the names of its outputs; empty if they have none
    details: tuple[tuple[str, str], ...] = ()  # what else is known of its training, as (name, text)

    def __str__(self) -> str:
        outputs = f"{len(self.classes)} classes" if self.classes else "classes not named"
        p = self.preprocessing
        rows = [("input", f"{p.size} px, mean {p.mean}, std {p.std}"), ("outputs", outputs), ("terms", self.licence)]
        rows += list(self.details)
        width = max(len(name) for name, _ in rows) + 2
        lines = [textwrap.fill(f"  {k:{width}}{v}", 100, subsequent_indent=" " * (width + 2)) for k, v in rows]
        return "\n".join([textwrap.fill(self.sentence, 100), *lines])


def get_card(model: nn.Module) -> ModelCard:
    """The card of a network; a ModelError, which says how to give it one, if it has none."""
    if not isinstance(card := getattr(unwrapped(model), "card", None), ModelCard):
        said = f"this {type(model).__name__} has no card that tells its preprocessing. Load it with tl.load_model(...)"
        raise ModelError(f"{said}, or give it one: model.card = tl.ModelCard(arch=..., preprocessing=...)")
    return card
