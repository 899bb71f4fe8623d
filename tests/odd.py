"""What the rows of tests/data/odd_inputs.tsv may use: small images, folders, networks, loaders and commands.

Each row is an input one step off the marked path: its kind, what is expected, and a Python expression. It is "right" if
the expression is True, and "refused" if it raises a TLError whose sentence has the words after the colon.
"""

# ruff: noqa: F401 (the rows use these)
import contextlib
import copy
import csv
import functools
import io
import json
import os
import pickle
import random
import shlex
import struct
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch.fx.experimental.optimization import fuse as fx_fuse
from torch.optim import lr_scheduler
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import tlcourse as tc
import tlhelpers as tl
from tlcourse.detection.boxes import check_boxes
from tlcourse.detection.training import mean_average_precision
from tlhelpers.__main__ import main
from tlhelpers.checkpoints import CheckpointFolder

ROWS = Path(__file__).parent / "data" / "odd_inputs.tsv"
OUTCOMES = ("right", "refused", "WRONG", "RAW ERROR")
PREP = tl.Preprocessing(size=32, resize=36)
TENSOR = v2.Compose([v2.Resize((32, 32)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])


def rows():
    """The rows as (number, kind, expected, code)."""
    with ROWS.open(encoding="utf8", newline="") as file:
        lines = [line for line in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if line]
    return [(number, *line) for number, line in enumerate(lines, start=1)]


def outcome(code, expected, space):
    """One of `OUTCOMES`, and what happened."""
    try:
        value = eval(code, space)
    except tl.TLError as error:
        words = expected.partition(": ")[2]
        good = expected.startswith("refused") and words.casefold() in str(error).casefold()
        return ("refused" if good else "WRONG"), f"{type(error).__name__}: {error}"
    except Exception as error:  # of Python or PyTorch
        return "RAW ERROR", f"{type(error).__name__}: {error}"
    return ("right" if expected == "right" and value is True else "WRONG"), repr(value)


def opened(path):
    return Image.open(io.BytesIO(Path(path).read_bytes()))


def photo(seed, width=40, height=32, tint=0):
    pixels = np.random.default_rng(seed).integers(0, 120, (height, width, 3), dtype=np.uint8)
    pixels[..., tint] += 100
    return Image.fromarray(pixels)


def twice(*values):
    """Whether all values are equal, and not a generator's accident."""
    return all(value == values[0] for value in values[1:])


class Space(dict):
    """The names that rows use; `home` is an empty folder, which becomes the working and the home folder."""

    def __init__(self, home):
        super().__init__(globals())
        self.home = home
        self |= {name: getattr(self, name) for name in vars(Space) if not name.startswith("_")}
        self.folder("pets", cat=8, dog=8)
        self.folder("birds", owl=8, wren=8)
        self.folder("divided", **{"train/cat": 6, "train/dog": 6, "val/cat": 3, "val/dog": 3})
        tl.save(network(), home / "net.safetensors")
        self |= {"home": home, "data": self.sets(), "net": network, "f": str(home / "pets" / "cat" / "0.png")}

    def folder(self, name, make=photo, **counts):
        """Write a folder of images; the name of a class may be a path."""
        for tint, (place, count) in enumerate(counts.items()):
            (self.home / name / place).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = make(1000 * len(place) + 100 * tint + i, tint=tint % 3)
                image.save(os.fspath(self.home / name / place / f"{i}.png"))
        return str(self.home / name)

    def files(self, name, *paths):
        """Write one image to each path."""
        for i, path in enumerate(paths):
            place = self.home / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            photo(i).save(place)
        return str(self.home / name)

    def saved(self, image, name, **options):
        image.save(self.home / name, **options)
        return str(self.home / name)

    def sets(self, **options):
        return tl.load_data(Path(self.home / "pets"), verbose=False, **options)

    def loader(self, labels=(0, 1, 0, 1), images=None, dtype=torch.int64, **options):
        """A reader's own loader of noise."""
        labels = torch.as_tensor(labels).to(dtype)
        if images is None:
            images = torch.rand(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(1))
        return DataLoader(TensorDataset(images, labels), batch_size=4, **options)

    def fit(self, model=None, data=None, **options):
        """The losses of one short training."""
        model = network() if model is None else model
        data = self["data"] if data is None else data
        options = {"epochs": 1, "batch_size": 4, "augment": False, "cache": False, "lr": 1e-3, **options}
        return tl.fit(model, data, **options).history[["train_loss", "val_loss"]].to_numpy().tolist()

    def cli(self, line, **variables):
        """What a command prints; a TLError with what it complains of if it fails."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, variables), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(shlex.split(line))
            except SystemExit as stop:
                code = stop.code
        if code:
            raise tl.TLError(err.getvalue())
        return out.getvalue()

    def train(self, line, **variables):
        quick = "--weights none --arch mobilenet_v3_small --size 32 --epochs 1 --batch-size 4"
        return self.cli(f"train {line} {quick}", **variables)

    def answers(self, *images, model=None):
        """The probabilities of each image, to five digits."""
        model = network() if model is None else model
        return [[round(p, 5) for p in tl.predict(model, image)["probability"]] for image in images]

    def resumed_equals(self, **options):
        """Whether three epochs of a training give the same as two that were stopped, and resumed for the third."""
        whole, parts = small(), small()
        options |= {"batch_size": 4, "lr": 1e-3}
        tl.fit(whole, self["data"], epochs=3, **options)
        save, saved = CheckpointFolder.save, []

        def save_then_stop(folder, trainer):
            save(folder, trainer)
            saved.append(trainer)
            if len(saved) == 2:
                raise KeyboardInterrupt

        with mock.patch.object(CheckpointFolder, "save", save_then_stop):
            tl.fit(parts, self["data"], epochs=3, checkpoint="stopped", **options)
        parts = small()
        tl.fit(parts, self["data"], epochs=3, checkpoint="stopped", resume=True, **options)
        return tl.changed(parts, tl.snapshot(whole)) == []


@functools.cache
def _network(classes):
    return tl.load_model("resnet18", classes=list(classes), weights="none", size=32)


def small():
    """A new network whose checkpoints are small."""
    return tl.load_model("mobilenet_v3_small", classes=["cat", "dog"], weights="none", size=32)


def network(*classes):
    """A new small network for cats and dogs."""
    return copy.deepcopy(_network(classes or ("cat", "dog")))


def full_disk(action):
    """Do something while no file can be finished."""

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    with mock.patch("os.fsync", fail):
        return action()


def deeplift(method):
    """The cosine between the attributions for a network and for the same one frozen."""
    import captum.attr

    model = nn.Sequential(nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    image, found = torch.randn(1, 48, generator=torch.Generator().manual_seed(0)), []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum's, on hooks
            found.append(getattr(captum.attr, method)(copy.deepcopy(model)).attribute(image, target=1).detach())
        tl.freeze_modules(model)
    return float(torch.cosine_similarity(*(each.flatten() for each in found), dim=0))


def raises(action):
    try:
        action()
    except tl.TLError:
        return True
    return False


def drawn(classes):
    """A confusion matrix over these classes, as bytes; this and other figures are drawn without a warning."""
    split = tl.ImageSplit(photo, [0, 1, 1], classes, keys=["0", "1", "2"], name="val")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sheets = [split.show(2), tl.Evaluation(split, classes, torch.eye(3)[:, :2]).show_worst()]
        assert all(sheet.png() for sheet in sheets)
        return tl.Evaluation(split, classes, torch.eye(3)[:, :2]).plot_confusion().png()


def texts(classes):
    """The texts of the ticks of a confusion matrix."""
    split = tl.ImageSplit(photo, [0, 1], classes, keys=["0", "1"], name="val")
    chart = tl.Evaluation(split, classes, torch.eye(2)).plot_confusion()
    chart.png()
    return chart.axes[0].get_xticklabels()


def tiff(values, bits, white_is_zero):
    """A grey TIFF file of 8, 12 or 16 bits, made by hand."""
    height, width = values.shape
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        packed = [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255]
        data = np.stack(packed, axis=1).astype(np.uint8).tobytes()
    else:
        data = values.astype("<u2" if bits == 16 else "u1").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1 - white_is_zero}
    tags |= {273: 134, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 134 - 14 - len(entries)) + data


def grey_levels(bits, white_is_zero):
    """What a ramp of 256 grey levels becomes."""
    ramp = np.arange(256).reshape(8, 32) * ((1 << bits) - 1) // 255
    path = Path("ramp.tif")
    path.write_bytes(tiff((1 << bits) - 1 - ramp if white_is_zero else ramp, bits, white_is_zero))
    return np.asarray(tl.open_image(path))[..., 0].ravel().tolist()


def fresh_profile(name, value):
    with mock.patch.dict(os.environ, {name: value}):
        return tl.use_profile()


class Silent(nn.Module):
    """A loss that gives nothing back."""

    def forward(self, logits, labels):
        return None


class Remapped(list):
    """The images of a data set, with the labels 0 and 2 for 0 and 1."""

    def __init__(self, dataset):
        super().__init__((image, 2 * label) for image, label in dataset)
        self.dataset = dataset


class Endless(torch.utils.data.IterableDataset):
    """Images without a number."""

    def __iter__(self):
        return iter([(torch.rand(3, 32, 32), 0)])


def refuse(image):
    raise tl.DataError("first line\nsecond line")


def turned(image):
    return TENSOR(image.rotate(random.uniform(-40, 40) + np.random.uniform(-9, 9)))
