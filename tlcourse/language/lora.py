"""LoRA: low-rank changes of frozen weights (Hu et al. 2021)."""

import math
from typing import Any

import torch
from torch import nn

from tlcourse.language.encoder import SentenceClassifier
from tlhelpers.models.freezing import freeze_modules


class LoRA(nn.Module):
    """A frozen linear layer and a trainable change of rank `rank`: inputs (..., in) -> outputs (..., out)."""

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Parameter(torch.empty(rank, frozen.in_features))
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))  # zeros: at first nothing changes
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The frozen layer's outputs, plus what the two small matrices add."""
        return self.frozen(inputs) + inputs @ self.down.T @ self.up.T


def add_lora(model: SentenceClassifier, rank: int = 8) -> SentenceClassifier:
    """Freeze the encoder, and put LoRA on the queries and values of its attention; changes the model in place."""
    freeze_modules(model.encoder)
    for layer in model.layers:
        attention = layer.get_submodule("attention.self")
        for name in ("query", "value"):
            frozen: Any = attention.get_submodule(name)
            setattr(attention, name, LoRA(frozen, rank))
    return model
