"""Default recipes side by side: the same backbone, images and minutes, and nothing that the reader has to choose.

    python experiments/recipes.py FOLDER      measure what is missing; FOLDER as for transfer.py; needs fastai

* tlhelpers: `tl.train_within`, which is `tlhelpers train FOLDER`.
* fastai: `vision_learner(...).fine_tune(epochs)` with its defaults and images of 224 px, for as many epochs as fit.
* tutorial: PyTorch's, all layers, SGD at 0.001 with momentum, StepLR, crops and flips, for as many epochs as fit.

All start from EfficientNet-Lite0's ImageNet weights, have one core, and see the same images: 200 to train on, 50 to
validate, as far as there are so many. The test set, 200 images of it at most, is scored once. `seconds` is the time of
training. An epoch of fastai or the tutorial that does not fit is trained nevertheless.
"""

import copy
import dataclasses
import functools
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tlcourse as tc
import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import numpy as np
import torch
from grid import Cell, Grid
from prepared import PHOTOGRAPHS, full_size
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from tuned import counted, options, score_of

from tlcourse.measurements.results import FOLDER, load_results

ARCH, MINUTES, SEEDS, SIDE = "efficientnet_lite0", 2.0, range(3), 224
MOST = {"train": 200, "val": 50, "test": 200}  # images
MOMENTS = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # mean and standard deviation that these weights expect
NAMES = (*PHOTOGRAPHS, "chest_xray", "safari")
KEYS = ("data", "recipe", "seed")
GRID = Grid(FOLDER / "recipes.json", "python experiments/recipes.py FOLDER", {"minutes": MINUTES, **MOST}, KEYS)
SECONDS: list[float] = []  # for each training image, of a frozen epoch of fastai and one of everything
Result = tuple[float, int, list[int]]  # seconds, epochs, predicted classes of the test images


def main() -> int:
    """Measure what is missing; returns the exit code."""
    chosen = options(__doc__)
    tl.use_profile("quick")
    names = [name for name in NAMES if name == "safari" or (chosen.real is not None and (chosen.real / name).is_dir())]
    recipes = [recipe for recipe in RECIPES if recipe != "fastai" or importlib.util.find_spec("fastai")]
    if len(recipes) < len(RECIPES):
        print("fastai is left out; pip install -e '.[bench]' brings it")
    jobs = [(name, recipe, seed) for seed in SEEDS for name in names for recipe in recipes]
    GRID.facts["tests"] = {name: tested(reduced(name, 0, chosen.real)) for name in names}
    GRID.fill(jobs, functools.partial(run, real=chosen.real))
    print(table())
    return 0


def run(name: str, recipe: str, seed: int, *, real: Path) -> Cell:
    """Train by a recipe, and score on the test set once."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = tc.export_folder(reduced(name, seed, real), Path(place) / "images")
        seconds, epochs, found = RECIPES[recipe](folder, seed)
        truth = ImageFolder(folder / "test").targets
    cell = {"data": name, "recipe": recipe, "seed": seed, "seconds": round(seconds, 1), "epochs": epochs}
    return cell | score_of(truth, found)


def reduced(name: str, seed: int, real: Path) -> tl.ImageData:
    """So many images of a data set, the test images in the order in which a folder gives them."""
    data = full_size(name, seed, real)
    parts = {}
    for part, split in zip(MOST, data.splits(), strict=True):
        rows = np.random.default_rng(0).permutation(len(split))[: MOST[part]].tolist()
        parts[part] = split.select(
            sorted(rows, key=lambda i: (split.classes[split.labels[i]], Path(split.keys[i]).stem))
        )
        parts[part].name = part  # the test set of hymenoptera is its "val"
    return dataclasses.replace(data, **parts)


def tested(data: tl.ImageData) -> dict[str, list[int]]:
    """Labels of the test images, by class names in alphabetical order, and numbers of their drawings or patients."""
    facts = counted(data)
    order = sorted(data.classes)
    return {"labels": [order.index(data.classes[i]) for i in facts["labels"]], "clusters": facts["clusters"]}


def ours(folder: Path, seed: int) -> Result:
    """The default of `tlhelpers train`."""
    start = time.perf_counter()
    data = tl.load_data(folder, verbose=False)
    model = tl.load_model(ARCH, classes=data.classes, seed=seed)
    trained = tl.train_within(model, data, MINUTES, seed=seed)
    seconds = time.perf_counter() - start
    assert data.test is not None
    assert [Path(key).name for key in data.test.keys] == [Path(p).name for p, _ in ImageFolder(folder / "test").samples]
    return seconds, len(trained.history), tl.evaluate(model, data.test).predictions.tolist()


def fastai(folder: Path, seed: int) -> Result:
    """Fastai's quick start."""
    from fastai.vision.all import ImageDataLoaders, Normalize, Resize, aug_transforms, set_seed, vision_learner

    def learner() -> Any:
        set_seed(seed)
        batch = [*aug_transforms(), Normalize.from_stats(*MOMENTS)]
        loaders = ImageDataLoaders.from_folder(
            folder, valid="val", item_tfms=Resize(SIDE), batch_tfms=batch, seed=seed, num_workers=0
        )
        made = vision_learner(loaders, "tf_efficientnet_lite0", pretrained=False, normalize=False)
        weights = tl.load_model(ARCH).state_dict()
        body = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")}
        made.model[0].model.load_state_dict(body, strict=False)
        return made

    def tuned(made: Any, epochs: int) -> float:
        start = time.perf_counter()
        with made.no_bar(), made.no_logging():
            made.fine_tune(epochs)
        return time.perf_counter() - start

    made = learner()
    images = len(made.dls.train_ds)
    if not SECONDS:
        SECONDS.append(tuned(learner(), 1) / images)
    first = SECONDS[0] * images  # of which everything takes three quarters
    epochs = max(1, round((60 * MINUTES - first) / (0.75 * first)) + 1)
    seconds = tuned(made, epochs)
    test = ImageFolder(folder / "test")
    logits, _ = made.get_preds(dl=made.dls.test_dl([Path(path) for path, _ in test.samples]))
    return seconds, epochs, logits.argmax(dim=1).tolist()


def tutorial(folder: Path, seed: int) -> Result:
    """PyTorch's tutorial on transfer learning, its first half; the best epoch on validation is kept."""
    torch.manual_seed(seed)
    to_tensor = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*MOMENTS)]
    crop = v2.Compose([v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), *to_tensor])
    centre = v2.Compose([v2.Resize(256), v2.CenterCrop(SIDE), *to_tensor])
    train, val, test = (ImageFolder(folder / s, crop if s == "train" else centre) for s in ("train", "val", "test"))
    model = tl.load_model(ARCH, classes=train.classes, seed=seed)
    optimizer = SGD(model.parameters(), lr=1e-3, momentum=0.9)
    scheduler, best, epochs, took = StepLR(optimizer, 7, 0.1), (-1.0, model.state_dict()), 0, 0.0
    start = time.perf_counter()
    while time.perf_counter() - start + took < 60 * MINUTES or not epochs:
        begin = time.perf_counter()
        model.train()
        for images, labels in DataLoader(train, batch_size=4, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
        accuracy = sum(a == b for a, b in zip(_predicted(model, val), val.targets, strict=True)) / len(val)
        best = max(best, (accuracy, copy.deepcopy(model.state_dict())), key=lambda each: each[0])
        epochs, took = epochs + 1, time.perf_counter() - begin
    seconds = time.perf_counter() - start
    model.load_state_dict(best[1])
    return seconds, epochs, _predicted(model, test)


def _predicted(model: nn.Module, images: ImageFolder) -> list[int]:
    model.eval()
    with torch.inference_mode():
        return [label for batch, _ in DataLoader(images, 32) for label in model(batch).argmax(1).tolist()]


RECIPES = {"tlhelpers": ours, "fastai": fastai, "tutorial": tutorial}


def table() -> str:
    """Balanced accuracy in per cent, seconds, and the gain of tlhelpers over the others in points, as Markdown."""
    results = load_results("recipes")
    lines = ["| data | recipe | seeds | accuracy | tlhelpers is ahead by | seconds | epochs |", "|---" * 7 + "|"]
    for name in results.facts["tests"]:
        for recipe, row in results.against(name, "tlhelpers", by="recipe").iterrows():
            own = results.where(data=name, recipe=recipe)
            ahead = f"{-100 * row['gain']:+.1f} ({-100 * row['high']:+.1f} to {-100 * row['low']:+.1f})"
            accuracy = f"{100 * row['accuracy']:.1f} ± {100 * row['std']:.1f}"
            cells = (name, recipe, len(own), accuracy, "–" if recipe == "tlhelpers" else ahead)
            lines.append(
                f"| {' | '.join(map(str, cells))} | {own['seconds'].mean():.0f} | {own['epochs'].mean():.0f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
