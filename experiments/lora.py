"""LoRA on the sentence encoder, against a frozen encoder, its last layer and all of it.

    python experiments/lora.py      measure what is missing and write the results file

Sentences written for the course, as in language.py. A fifth of the training sentences, drawn with the seed, serves for
validation. Each method trains for 120 steps of 16 sentences (AdamW, one cycle) at the best of three learning rates, by
validation loss with two seeds; five other seeds are scored on the test set. `bytes` is what gradients and AdamW's two
moments take, in float32.
"""

import itertools
import math
import sys
import time
from typing import Any

import numpy as np
import torch
from grid import Cell, Grid
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tuned import fill_tuned, options

import tlcourse as tc
import tlhelpers as tl
from tlcourse.language.encoder import SentenceClassifier
from tlcourse.measurements.results import FOLDER, load_results
from tlhelpers.loop import compute_logits, place, seeded, train_epoch
from tlhelpers.models.freezing import freeze_modules, unfreeze_modules

STEPS, BATCH, HEAD, RANK = 120, 16, 10, 8  # the head's learning rate is ten times the encoder's
RATES = {
    "frozen embeddings": (3e-4, 1e-3, 3e-3),
    "last layer": (1e-4, 3e-4, 1e-3),
    "LoRA": (3e-4, 1e-3, 3e-3),
    "everything": (3e-5, 1e-4, 3e-4),
}
SETTINGS = {"steps": STEPS, "batch": BATCH, "rank": RANK, "rates": {name: list(rates) for name, rates in RATES.items()}}
GRID = Grid(FOLDER / "lora.json", "python experiments/lora.py", SETTINGS, ("method", "rate", "seed"))


class LoRA(nn.Module):
    """A frozen linear layer and a trainable change of rank `rank`: (..., in) -> (..., out) (Hu et al. 2021)."""

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


def main() -> int:
    """Measure what is missing; returns the exit code."""
    chosen = options(__doc__)
    tl.use_profile("quick")
    fill_tuned(GRID, [(method,) for method in RATES], lambda method: RATES[method], run, chosen.processes)
    return 0


def run(method: str, rate: float, seed: int) -> Cell:
    """Train once; score on the test set unless the run serves for tuning."""
    reviews, start = tc.language.load_template_reviews(), time.perf_counter()
    order = np.random.default_rng(seed).permutation(len(reviews.train))
    fifth = len(order) // 5
    model = prepared(method, seed)
    trainable = [p for p in model.encoder.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": list(model.head.parameters()), "lr": HEAD * rate}]
    groups += [{"params": trainable, "lr": rate}] if trainable else []
    optimizer = AdamW(groups, weight_decay=1e-2)
    scheduler = OneCycleLR(optimizer, [group["lr"] for group in groups], total_steps=STEPS)
    tokens, labels = model.tokens(reviews.train.texts), reviews.train.labels
    passes = itertools.chain.from_iterable(np.random.default_rng(seed).permutation(order[fifth:]) for _ in range(STEPS))
    rows = torch.tensor(list(itertools.islice(passes, STEPS * BATCH))).split(BATCH)
    profile = tl.current_profile()
    with seeded(seed, profile.device):
        train_epoch(
            model, [(tokens[r], labels[r]) for r in rows], nn.CrossEntropyLoss(), optimizer, scheduler=scheduler
        )
    held = order[:fifth]
    logits, truth = compute_logits(model, [(tokens[held], labels[held])])
    count = sum(p.numel() for group in groups for p in group["params"])
    cell = {"method": method, "rate": rate, "seed": seed, "parameters": count, "bytes": 12 * count}
    cell |= {"val": round(float((logits.argmax(1) == truth).float().mean()), 4)}
    cell |= {"val_loss": round(float(nn.functional.cross_entropy(logits, truth)), 4)}
    if seed < 100:
        right = model.predict(reviews.test.texts).argmax(dim=1) == reviews.test.labels
        turned = right[torch.tensor(reviews.test.turned, dtype=torch.bool)]
        cell |= {"test": round(float(right.float().mean()), 4), "turned": round(float(turned.float().mean()), 4)}
    return cell | {"seconds": round(time.perf_counter() - start, 1)}


def prepared(method: str, seed: int) -> Any:
    """The classifier, with what the method trains."""
    model = tc.language.load_classifier(seed=seed)
    place(model, tl.current_profile().device)
    if method == "LoRA":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return add_lora(model, RANK)
    freeze_modules(model.encoder)
    trains = {"last layer": model.layers[-1:], "everything": [model.encoder]}.get(method, [])
    unfreeze_modules(*trains)
    return model


def table() -> str:
    """For each method what it trains and how it scores, as Markdown."""
    runs = load_results("lora").scored
    lines = [
        "| method | parameters that train | gradients and moments | accuracy, % | turned sentences, % |",
        "|---" * 5 + "|",
    ]
    for method in RATES:
        own = runs[runs["method"] == method]
        counts = f"{own['parameters'].iloc[0]:,}", f"{own['bytes'].iloc[0] / 1e6:.2f} MB"
        scores = (f"{100 * own[name].mean():.1f} ± {100 * own[name].std():.1f}" for name in ("test", "turned"))
        lines.append(f"| {method} | {' | '.join((*counts, *scores))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
