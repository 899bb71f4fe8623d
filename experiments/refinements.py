"""Refinements of fine-tuning, each tuned like its rival: which layers, how they are unfrozen, what holds them back.

    python experiments/refinements.py [FOLDER]      measure what is missing; FOLDER holds flowers/

All runs train the course's resnet18 at 64 px until validation stops improving (see tuned.py), on safari (tested on a
style that is in neither training nor validation) and on flowers. Topics:

* depth: which blocks train, and from scratch, by the number of different training images of each class.
* refinement: with 20 images of each class, everything trains; six settings are tried for each method: three learning
  rates with two strengths, or six learning rates.
* recipe: optimizers and schedules over 30 epochs on safari; three learning rates each.
"""

import functools
import sys
import time
from typing import Any

from grid import Cell, Grid
from prepared import load, prepare
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import StepLR
from torchvision.transforms import v2
from tuned import RATES, SETTINGS, built, counted, fill_tuned, learning_rates, measured, options, scored, train

import tlhelpers as tl
from tlcourse.measurements.results import FOLDER, in_points, load_results
from tlhelpers.data.dataset import ImageData

DEPTHS = {"head": 0, "layer4": 1, "layer3": 2, "everything": None, "scratch": None}
COUNTS = (10, 20, 40)
EVERYTHING = RATES["everything"]
MORE_RATES = (3e-5, 1e-4, 2e-4, 3e-4, 6e-4, 1e-3)
STRENGTHS: dict[str, tuple[float, ...]] = {
    "plain": (),
    "discriminative rates": (0.38, 0.7),  # factor from each block to the one before it; ULMFiT's is 1 / 2.6 = 0.38
    "gradual unfreezing": (1, 3),  # epochs until the next block is unfrozen
    "dropout": (0.2, 0.5),
    "weight decay": (0.1, 1.0),  # plain has 0.01
    "label smoothing": (0.1, 0.2),
    "strong augmentation": (0.08, 0.25),  # smallest crop, as a fraction of the area; plain has 0.5
    "no augmentation": (),
}
MOMENTUM = functools.partial(SGD, momentum=0.9)
RECIPES: dict[str, dict[str, Any]] = {
    "AdamW, constant": {"schedule": "constant"},
    "AdamW, cosine": {"schedule": "cosine"},
    "AdamW, one cycle": {"schedule": "one-cycle"},
    "SGD with momentum, StepLR": {
        "optimizer": MOMENTUM,
        "schedule": functools.partial(StepLR, step_size=7, gamma=0.1),
    },
    "SGD with momentum, cosine": {"optimizer": MOMENTUM, "schedule": "cosine"},
    "SGD without momentum, StepLR": {
        "optimizer": SGD,
        "schedule": functools.partial(StepLR, step_size=7, gamma=0.1),
    },
}
KEYS = ("topic", "method", "data", "per_class", "setting", "seed")
FACTS = {**SETTINGS, "strengths": {name: list(values) for name, values in STRENGTHS.items()}, "counts": list(COUNTS)}
GRID = Grid(FOLDER / "refinements.json", "python experiments/refinements.py FOLDER", FACTS, KEYS)


def main() -> int:
    """Measure what is missing; returns the exit code."""
    chosen = options(__doc__)
    tl.use_profile("quick")
    names = [name for name in prepare(chosen.real) if name in ("safari", "flowers")]
    GRID.facts["tests"] = {name: counted(load(name, 0)) for name in names}
    cells = [("depth", method, name, count) for name in names for count in COUNTS for method in DEPTHS]
    cells += [("refinement", method, name, 20) for name in names for method in STRENGTHS]
    cells += [("recipe", method, "safari", 40) for method in RECIPES]
    fill_tuned(GRID, cells, settings, run, chosen.processes)
    return 0


def settings(topic: str, method: str, name: str, count: int) -> list[str]:
    """What is tried: a learning rate, or a rate and a strength."""
    if topic == "recipe":
        scale = 30 if "SGD" in method else 1
        return [f"{scale * rate:g}" for rate in EVERYTHING]
    if topic == "depth":
        kind = {"head": "frozen", "scratch": "scratch"}.get(method, "everything")
        return [f"{rate:g}" for rate in RATES[kind]]
    if not STRENGTHS[method]:
        return [f"{rate:g}" for rate in MORE_RATES]
    return [f"{rate:g}, {strength:g}" for rate in EVERYTHING for strength in STRENGTHS[method]]


def run(topic: str, method: str, name: str, count: int, setting: str, seed: int) -> Cell:
    """Train once; score on the test set unless the run serves for tuning."""
    start, data = time.perf_counter(), load(name, seed)
    data = ImageData(name, data.train.per_class(count, seed=seed), data.val, data.test, data.card)
    rate, *strength = (float(number) for number in setting.split(", "))
    if topic == "depth":
        model, fitted = depth(method, data, rate, seed)
    elif topic == "recipe":
        model, lr = built("resnet18", "everything", rate, data.classes, seed)
        fitted = recipe(model, data, lr, seed, **RECIPES[method])
    else:
        model, fitted = refined(method, data, rate, strength, seed)
    cell = dict(zip(KEYS, (topic, method, name, count, setting, seed), strict=True))
    cell |= {**measured(fitted, data.val, 0.0), "seconds": round(time.perf_counter() - start, 1)}
    assert data.test is not None
    return cell | (scored(model, data.test) if seed < 100 else {})


def depth(trains: str, data: ImageData, rate: float, seed: int) -> tuple[Any, tl.Run]:
    """Train the last blocks."""
    method = {"head": "frozen", "scratch": "scratch"}.get(trains, "everything")
    model, lr = built("resnet18", method, rate, data.classes, seed)
    if trains in ("layer4", "layer3"):
        tl.unfreeze(tl.freeze(model), last=DEPTHS[trains])
        lr = learning_rates(model, method, rate)
    return model, train(model, data, lr, seed, cached=trains in ("head", "layer4", "layer3"))


def recipe(model: Any, data: ImageData, lr: Any, seed: int, **step: Any) -> tl.Run:
    """Train for 30 epochs, as a schedule needs it, and keep the best."""
    return tl.fit(model, data, epochs=30, lr=lr, **step, seed=seed)


def refined(method: str, data: ImageData, rate: float, strength: list[float], seed: int) -> tuple[Any, tl.Run]:
    """Train everything, with a refinement."""
    model, lr = built("resnet18", "everything", rate, data.classes, seed)
    value, step, augment = strength[0] if strength else 0.0, {}, True
    if method == "discriminative rates":
        blocks = list(lr)[:-1]
        lr |= {name: rate * value**i for i, name in enumerate(reversed(blocks))}
    elif method == "dropout":
        model.avgpool = nn.Sequential(model.avgpool, nn.Dropout(value))
    elif method == "weight decay":
        step["optimizer"] = functools.partial(AdamW, weight_decay=value)
    elif method == "label smoothing":
        step["loss"] = nn.CrossEntropyLoss(label_smoothing=value)
    elif method == "strong augmentation":
        augment = strong(model, value)
    elif method == "no augmentation":
        augment = False
    elif method == "gradual unfreezing":
        for last in range(5):  # each stage begins where the one before it ended
            tl.unfreeze(tl.freeze(model), last=last)
            stage = learning_rates(model, "everything", rate)
            tl.fit(model, data, epochs=round(value), keep="last", lr=stage, seed=seed + 1000 * (last + 1))
        tl.unfreeze(model)
    return model, train(model, data, lr, seed, augment=augment, **step)


def strong(model: Any, smallest: float) -> Any:
    """Smaller crops, flips and other colours."""
    card = model.card.preprocessing
    return v2.Compose(
        [
            v2.RandomResizedCrop(card.size, scale=(smallest, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.05),
            *card.evaluation().transforms[-3:],
        ]
    )


def table() -> str:
    """For each topic a row for each method: accuracy and the gain over one of them, as Markdown."""
    results, lines = (
        load_results("refinements"),
        ["| what | data | images a class | method | accuracy, % | gain, points (95 % interval) |"],
    )
    lines.append("|---|---|---|---|---|---|")
    than = {"depth": "head", "refinement": "plain", "recipe": "AdamW, cosine"}
    for (topic, name, count), _ in results.scored.groupby(["topic", "data", "per_class"]):
        rows = in_points(results.against(name, than[topic], topic=topic, per_class=count))
        for method, cells in rows.iterrows():
            lines.append(f"| {topic} | {name} | {count} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
