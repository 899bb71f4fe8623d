"""What a network's weights expect of an image, and the transforms that give it to them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import v2

from tlhelpers.errors import ModelError

Transform = Callable[[Image.Image], torch.Tensor]


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
        resize = v2.Resize(self.resize, interpolation=v2.InterpolationMode(self.interpolation))
        return v2.Compose([resize, v2.CenterCrop(self.size), *self._to_tensor()])

    def training(self, augment: bool = True) -> Transform:
        """RGB PIL image -> float32 tensor (3, size, size): crop and flip at random, normalise.

        The crop has 50 to 100 % of the area; half of the images are mirrored. Without `augment` it is `evaluation()`.
        """
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
