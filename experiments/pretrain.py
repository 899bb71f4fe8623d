"""Pre-train the networks that the package carries, on Tiny ImageNet, and write tlhelpers/weights/.

    python experiments/pretrain.py resnet18 --data FOLDER            train, then write weights and card
    python experiments/pretrain.py resnet34 --data FOLDER            the same; grows out of the resnet18 that is there
    python experiments/pretrain.py vgg16_gap --data FOLDER           the same; grows out of a VGG11, trained first
    python experiments/pretrain.py resnet18 --data FOLDER --score    only measure the weights that are there

FOLDER holds Tiny ImageNet as it is downloaded (train/<class>/images/*.JPEG, val/images, val/val_annotations.txt), or
zip files tiny_imagenet_train_*.zip and tiny_imagenet_val.zip of <class>/<image>. After every epoch
runs/pretrain/<network> holds all that is needed to go on; the same command resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tlhelpers as tl  # first: it settles how OpenMP's threads wait

# isort: split
import torch
from embedded_weights import pack, write_embedded, write_facts
from epoch_order import EpochOrder
from tiny_imagenet import Pixels, load_pixels
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tlhelpers.loop import compute_logits
from tlhelpers.models.weights import read_facts, unpack
from tlhelpers.pixel_batches import Order, PixelBatches

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "pretrain"
PREPROCESSING = tl.Preprocessing(size=64, resize=64)  # ImageNet's mean and standard deviation
BATCH = 128
SOURCE = "Tiny ImageNet (Stanford CS231n; images of ImageNet at 64 px): {train:,} images of {classes} classes"
TERMS = "for teaching and research, as ImageNet's terms ask of its images; whether they bind weights is not settled"
NOT_FOR = (
    "any use outside a course. It has seen few and very small images, so it is far weaker than torchvision's "
    "ImageNet weights, and it says one of its classes of whatever it is shown"
)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: by SGD with Nesterov momentum 0.9 and one cycle of the learning rate.

    Attributes:
        sizes: (epochs, side in pixels), one after the other: small images first, since they cost less.
        lr: the highest learning rate.
        weight_decay: of all weights.
        crop: share of the area that the smallest random crop has.
        seed: of weights, order and augmentation.
    """

    sizes: tuple[tuple[int, int], ...]
    lr: float
    weight_decay: float = 2e-4
    crop: float = 0.35
    seed: int = 0

    @property
    def sides(self) -> list[int]:
        """The side of the images in each epoch."""
        return [side for count, side in self.sizes for _ in range(count)]


RECIPES = {
    "resnet18": Recipe(sizes=((8, 32), (9, 64)), lr=0.2),
    "resnet34": Recipe(sizes=((3, 64),), lr=0.06),
    "vgg11_gap": Recipe(sizes=((4, 32),), lr=0.1),
    "vgg16_start": Recipe(sizes=((1, 32), (1, 48)), lr=0.05),
    "vgg16_gap": Recipe(sizes=((1, 64),), lr=0.05),
}
BEFORE = {"vgg16_gap": ("vgg11_gap", "vgg16_start")}  # what is trained first, in this order


def main() -> int:
    """Train or measure one network; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("resnet18", "resnet34", "vgg16_gap"))
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds Tiny ImageNet")
    parser.add_argument("--score", action="store_true", help="measure, and write what was measured into the card")
    options = parser.parse_args()
    val = load_pixels(options.data, "val", RUNS / "data")
    if not options.score:
        _train_and_write(options.network, load_pixels(options.data, "train", RUNS / "data"), val)
    model = tl.load_model(options.network, weights="embedded")
    top1, top5 = accuracies(model, val, model.card.preprocessing.size)
    side = model.card.preprocessing.size
    told = f"top-1 {top1:.2%}, top-5 {top5:.2%} of {len(val.labels):,} validation images at {side} px, fp32"
    print(f"{options.network}: {told}")
    facts = read_facts(options.network)
    facts["top1"], facts["top5"] = top1, top5
    facts["details"]["measured"] = f"{told}; python experiments/pretrain.py {options.network} --data FOLDER --score"
    write_facts(options.network, facts)
    return 0


def accuracies(model: nn.Module, val: Pixels, side: int) -> tuple[float, float]:
    """Share of the validation images whose class is the first, and among the first five, of the network's answers.

    The images are shown at `side` pixels.
    """
    device = tl.use_profile(precision="fp32").device
    order = Order(len(val.labels), 2 * BATCH)
    batches = PixelBatches(val.pixels.to(device), val.labels.to(device), PREPROCESSING, order, sizes=side)
    logits, labels = compute_logits(model.to(device), batches)
    hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    return float(hits[:, 0].float().mean()), float(hits.any(dim=1).float().mean())


def _train_and_write(name: str, data: Pixels, val: Pixels) -> None:
    """Train, fold, compare the rounded weights with the unrounded, write."""
    run = train(name, data, val)
    model = folded(run.model.cpu()) if name == "vgg16_gap" else run.model.cpu()
    side = RECIPES[name].sides[-1]
    exact = accuracies(model, val, side)[0]
    model.load_state_dict(unpack(pack(model.state_dict())))
    loss = exact - accuracies(model, val, side)[0]
    print(f"rounding to int8 takes {loss:.2%} of {exact:.2%}", flush=True)
    write_embedded(name, model.state_dict(), _facts(name, model, run, data, loss))


def train(name: str, data: Pixels, val: Pixels) -> tl.Run:
    """The finished run, resumed where an earlier call was interrupted."""
    recipe = RECIPES[name]
    profile = tl.use_profile()
    print(f"{name}\n{profile}", flush=True)
    images = data.pixels.to(profile.device), data.labels.to(profile.device), PREPROCESSING
    scored = val.pixels.to(profile.device), val.labels.to(profile.device), PREPROCESSING
    sides, order = recipe.sides, EpochOrder(len(data.labels), BATCH, recipe.seed)
    batches = {
        "train": PixelBatches(*images, order, crop=recipe.crop, sizes=sides, seed=recipe.seed),
        "val": PixelBatches(*scored, Order(len(val.labels), 2 * BATCH), sizes=sides),
    }
    momentum = {"momentum": 0.9, "nesterov": True, "weight_decay": recipe.weight_decay}
    run = tl.fit(
        starting(name, data, val),
        batches,
        epochs=len(sides),
        keep="last",
        lr=recipe.lr,
        optimizer=functools.partial(torch.optim.SGD, **momentum),
        schedule="one-cycle",
        seed=recipe.seed,
        checkpoint=RUNS / name,
        resume=True,
    )
    print(run.history.round(4).to_string(), flush=True)
    return run


# --- the networks before and after training ---------------------------------------------------------------------


def starting(name: str, data: Pixels, val: Pixels) -> Any:
    """The network before training; a smaller one that it grows out of is trained first, or comes with the package."""
    seed, count = RECIPES[name].seed, len(data.classes)
    if name.startswith("resnet"):
        model = tl.load_model(name, count, weights="none", seed=seed)
        if name == "resnet34":
            grow_resnet(model, tl.load_model("resnet18", weights="embedded"))
        return model
    if name == "vgg16_gap":
        return train("vgg16_start", data, val).model.cpu()
    model = vgg_with_batchnorm("A" if name == "vgg11_gap" else "D", count, seed)
    if name == "vgg16_start":
        small = train("vgg11_gap", data, val).model.cpu()
        batches = PixelBatches(
            data.pixels, data.labels, PREPROCESSING, EpochOrder(len(data.labels), BATCH, seed), sizes=32
        )
        grow_vgg(model, small, next(iter(batches))[0])
    return model


@torch.no_grad()
def grow_resnet(large: Any, small: Any) -> None:
    """Give a ResNet the weights of one with fewer blocks, so that both compute the same.

    A residual block adds something to its input; the last BatchNorm of the additional blocks starts with the weight
    0, so that they add nothing at first (Goyal et al. 2017 start every block so).
    """
    for part in ("conv1", "bn1", "fc"):
        getattr(large, part).load_state_dict(getattr(small, part).state_dict())
    for part in ("layer1", "layer2", "layer3", "layer4"):
        known = list(getattr(small, part))
        for number, block in enumerate(getattr(large, part)):
            if number < len(known):
                block.load_state_dict(known[number].state_dict())
            else:
                nn.init.zeros_(block.bn2.weight)


def vgg_with_batchnorm(layout: str, count: int, seed: int) -> Any:
    """A VGG with BatchNorm and `count` outputs; layout "A" has 8 convolutions, "D" 13 (Simonyan and Zisserman 2014)."""
    from torchvision.models import vgg

    model = tl.load_model("vgg16_gap", count, weights="none", seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.features = vgg.make_layers(vgg.cfgs[layout], batch_norm=True)
        for conv, _ in itertools.chain.from_iterable(_stages(model)):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return model


@torch.no_grad()
def grow_vgg(large: Any, small: Any, images: torch.Tensor) -> None:
    """Give a VGG the weights of one with fewer convolutions, so that both compute the same.

    An additional convolution starts as the identity (ReLU leaves what an earlier ReLU let pass), and its BatchNorm
    gives back the mean and the spread that it takes away; `images`, a batch, tell what those are. That identity
    layers keep a network's function is from Net2Net (Chen et al. 2016).
    """
    large.classifier.load_state_dict(small.classifier.state_dict())
    fresh = set()
    for mine, theirs in zip(_stages(large), _stages(small), strict=True):
        for (conv, norm), known in itertools.zip_longest(mine, theirs):
            if known is None:
                nn.init.dirac_(conv.weight)
                nn.init.zeros_(conv.bias)
                fresh.add(norm)
            else:
                conv.load_state_dict(known[0].state_dict())
                norm.load_state_dict(known[1].state_dict())
    large.eval()
    for layer in large.features:
        if layer in fresh:
            mean, variance = images.mean((0, 2, 3)), images.var((0, 2, 3), correction=0)
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
            layer.bias.copy_(mean)
            layer.weight.copy_((variance + layer.eps).sqrt())
        images = layer(images)


def _stages(model: Any) -> list[list[tuple[Any, Any]]]:
    """The (convolution, BatchNorm) pairs between one pooling and the next."""
    layers, stages = list(model.features), [[]]
    for layer, after in itertools.pairwise(layers):
        if isinstance(layer, nn.Conv2d):
            stages[-1].append((layer, after))
        elif isinstance(layer, nn.MaxPool2d):
            stages.append([])
    return stages


def folded(model: Any) -> Any:
    """The same network without BatchNorm: in evaluation it is a linear map, which the convolution before it can do."""
    plain = tl.load_model("vgg16_gap", tl.get_head(model).out_features, weights="none")
    layers = [layer for layer in model.eval().features if not isinstance(layer, nn.BatchNorm2d)]
    norms = iter(layer for layer in model.features if isinstance(layer, nn.BatchNorm2d))
    for mine, theirs in zip(plain.features, layers, strict=True):
        if isinstance(theirs, nn.Conv2d):
            mine.load_state_dict(fuse_conv_bn_eval(theirs, next(norms)).state_dict())
    plain.classifier.load_state_dict(model.classifier.state_dict())
    return plain.eval()


def _facts(name: str, model: nn.Module, run: tl.Run, data: Pixels, loss: float) -> dict[str, Any]:
    """The card, but for what is measured on the written file."""
    recipe, profile = RECIPES[name], tl.use_profile()
    source = SOURCE.format(train=len(data.labels), classes=len(data.classes))
    hours = (run.history["seconds"].sum() + sum(map(_seconds, BEFORE.get(name, ())))) / 3600
    where = f"CPU, {os.cpu_count()} cores" if profile.device.type == "cpu" else torch.cuda.get_device_name()
    largest, change = max(recipe.sides), f"{0 - 100 * loss:+.2f} points"
    start = {"resnet34": "; grown out of the embedded resnet18", "vgg16_gap": _before_vgg16()}.get(name, "")
    return {
        "arch": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sentence": f"{name} trained by us on {len(data.labels):,} images of Tiny ImageNet at up to {largest} px, "
        "not on ImageNet itself; it came with this package.",
        "licence": TERMS,
        "preprocessing": dataclasses.asdict(PREPROCESSING.at(recipe.sides[-1])),  # at another size it is much worse
        "classes": list(data.classes),
        "details": {
            "source": source,
            "not for": NOT_FOR,
            "trained": f"{_epochs(name)}, batches of {BATCH}, SGD, weight decay {recipe.weight_decay}, "
            f"{profile.precision}, seed {recipe.seed}{start}",
            "command": f"python experiments/pretrain.py {name} --data FOLDER",
            "took": f"{hours:.1f} hours ({where}; {platform.machine()}, torch {version('torch')})",
            "rounding": f"weights as int8, one scale for each output channel; top-1 changes by {change}",
        },
    }


def _seconds(name: str) -> float:
    """How long a finished run took."""
    kept = torch.load(RUNS / name / "last.pt", map_location="cpu", weights_only=True)
    return sum(row[-1] for row in kept["progress"]["rows"])


def _epochs(name: str) -> str:
    recipe = RECIPES[name]
    sizes = ", then ".join(f"{count} epoch{'s' * (count > 1)} at {side} px" for count, side in recipe.sizes)
    return f"{sizes}, learning rate {recipe.lr} in one cycle"


def _before_vgg16() -> str:
    small, large = map(_epochs, BEFORE["vgg16_gap"])
    return f"; before that as a VGG11: {small}; then grown to a VGG16: {large}; BatchNorm was folded in at the end"


if __name__ == "__main__":
    sys.exit(main())
