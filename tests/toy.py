"""What tests share: rows of cases, refusals, and a data set so small that a test can train on it."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tlhelpers as tl
from tlhelpers import DataCard, ImageData, ImageSplit
from tlhelpers.__main__ import main
from tlhelpers.models.families import ARCHS

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CLASSES = ("red", "green")
# These have a third of a gigabyte of weights or more.
EVERY_ARCH = [pytest.param(name, marks=[pytest.mark.slow] * (name in ("vgg16_bn", "vit_b_16"))) for name in ARCHS]


def cases(names, *rows, **options):
    """`pytest.mark.parametrize`, with a row of values for each case."""
    return pytest.mark.parametrize(names, rows, **options)


every_arch = cases("arch", *ARCHS)


def refused(error, sentence, call, *given, **options):
    """Check that a call raises the error, and that its sentence matches; gives back the sentence."""
    with pytest.raises(error, match=sentence) as caught:
        call(*given, **options)
    found = str(caught.value)
    del caught  # its traceback would keep open what the call had opened
    return found


def run_python(*arguments, **options):
    """What a process of this Python wrote, and how it ended."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)


class Mischief:
    """Code in a pickle: it makes a file `planted`."""

    def __reduce__(self):
        return Path.touch, (Path("planted"),)


@contextlib.contextmanager
def untouched(model):
    """Check that nothing changes the weights, buffers and modes of a network meanwhile, not even an error."""
    before, modes = tl.snapshot(model), [module.training for module in model.modules()]
    try:
        yield
    finally:
        assert tl.changed(model, before) == []
        assert [module.training for module in model.modules()] == modes


class ToyImages:
    """Noise with a tint; `start` keeps the parts apart."""

    def __init__(self, start, classes=2):
        self.start, self.classes = start, classes

    def __call__(self, index):
        noise = np.random.default_rng(self.start + index).integers(0, 120, (64, 64, 3), dtype=np.uint8)
        noise[..., index % self.classes] += 60
        return Image.fromarray(noise)


def toy_split(count, name, start=0, classes=CLASSES):
    keys = [f"{name}/{i}.png" for i in range(count)]
    labels = [i % len(classes) for i in range(count)]
    return ImageSplit(ToyImages(start, len(classes)), labels, classes, keys=keys, name=name)


def toy_data(train=20, val=8, test=8, classes=CLASSES):
    card = DataCard("toy", "noise with a tint", "drawn in this test", "none", "anything real")
    parts = (toy_split(train, "train", 0, classes), toy_split(val, "val", 1000, classes))
    return ImageData("toy", *parts, toy_split(test, "test", 2000, classes), card)


def toy_network(arch="resnet18", last=None, seed=0, size=64):
    """An untrained network for the toy's classes; with `last` only its last blocks and its head can train."""
    model = tl.load_model(arch, classes=CLASSES, weights="none", size=size, seed=seed)
    return model if last is None else tl.unfreeze(tl.freeze(model), last=last)


def same_weights(one, other):
    """Whether two networks have the same parameters and buffers, bit for bit."""
    return tl.changed(one, tl.snapshot(other)) == []


def image_folder(root, count, classes=CLASSES):
    """Write images of two classes in turn, two of each "patient"."""
    for index in range(count):
        place = root / classes[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        ToyImages(0)(index).save(place / f"patient{index // 4}_{index}.png")
    return root


QUICK_TRAINING = ["--weights", "none", "--arch", "resnet18", "--size", "32", "--epochs", "1", "--batch-size", "8"]


def train(folder, *options):
    return main(["train", str(folder), *QUICK_TRAINING, *map(str, options)])
