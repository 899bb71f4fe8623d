"""A trained network for other programs: ONNX, int8 and `torch.export` files with labels and preprocessing inside."""

import dataclasses
import functools
import io
import itertools
import json
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from tlhelpers.data.dataset import ImageSplit
from tlhelpers.device import current_profile
from tlhelpers.errors import ModelError, TLError
from tlhelpers.evaluation import Evaluation, evaluate
from tlhelpers.files import atomic_write
from tlhelpers.models.cards import get_card
from tlhelpers.progress import tqdm

ONNX, INT8, PROGRAM = "model.onnx", "model.int8.onnx", "model.pt2"
CALIBRATION = 100  # training images from which the ranges of int8 are taken


class WithPreprocessing(nn.Module):
    """A network that takes an RGB image of any size, uint8 (height, width, 3), and returns probabilities (classes,).

    It resizes, crops and normalises as `Preprocessing.evaluation()` does, but for Pillow's rounding between steps.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network, self.preprocessing = model, (p := get_card(model).preprocessing)
        self.mean, self.std = (255 * torch.tensor(values).view(3, 1, 1) for values in (p.mean, p.std))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The probability of each class."""
        p, (height, width, _) = self.preprocessing, image.shape
        short = torch.sym_min(height, width)  # `min` would compare, and so keep the program to wide or tall images
        sides: Any = p.resize * height // short, p.resize * width // short
        pixels = image.permute(2, 0, 1)[None].float()
        pixels = functional.interpolate(pixels, sides, mode=p.interpolation, antialias=True).round().clamp(0, 255)
        for axis, side in zip((2, 3), sides, strict=True):
            half, odd = (side - p.size) // 2, (side - p.size) % 2  # a half goes to the even side, as by round()
            pixels = pixels.index_select(axis, half + odd * (half % 2) + torch.arange(p.size))
        logits: torch.Tensor = self.network((pixels - self.mean) / self.std)
        return logits.softmax(dim=1)[0]


def export_model(model: nn.Module, folder: Path) -> None:
    """Write `model.onnx` and `model.pt2` (see `torch.export.load`), each with the model's card as JSON inside.

    Raises ModelError if the network has no card, or its classes no names; TLError if a package is missing.
    """
    if not (card := get_card(model)).classes:
        raise ModelError("the outputs have no names: tl.replace_head(model, classes=...) gives a head with names")
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise TLError(f'export needs {", ".join(missing)}: pip install "tlhelpers[export]"')
    import onnx

    facts, side = dataclasses.asdict(card), card.preprocessing.resize
    example, free = torch.zeros(side + 31, side + 64, 3).byte(), dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    network = WithPreprocessing(model.cpu()).eval().requires_grad_(False)
    program, packed = torch.export.export(network, (example,), dynamic_shapes=(free,)), io.BytesIO()
    for node in program.graph.nodes:  # with the author's folders
        node.meta.pop("stack_trace", None)
    torch.export.save(program, packed, extra_files={"card.json": json.dumps(facts)})
    options: Any = {"input_names": ["image"], "output_names": ["probabilities"], "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that of 2.11 warns of itself
        graph = torch.onnx.export(program, (example,), **options).model_proto  # type: ignore[union-attr]
    for node in itertools.chain(*(part.node for part in (graph.graph, *graph.functions))):
        del node.metadata_props[:]
    onnx.helper.set_model_props(graph, {name: json.dumps(value) for name, value in facts.items()})
    for name, data in ((PROGRAM, packed.getvalue()), (ONNX, graph.SerializeToString())):
        with atomic_write(folder / name) as file:
            file.write(data)


def quantize(folder: Path, images: ImageSplit) -> None:
    """Write `model.int8.onnx` from `model.onnx`: weights and activations in 8 bits, their ranges as in these images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static, shape_inference

    class Reader(CalibrationDataReader):
        rows = map(images.image, tqdm(range(len(images)), desc="calibrate int8", unit="image"))
        get_next = staticmethod(functools.partial(next, ({"image": np.asarray(row)} for row in rows), None))

    options: Any = {"op_types_to_quantize": ["Conv", "Gemm", "MatMul"], "per_channel": True}
    options |= {"activation_type": QuantType.QUInt8, "extra_options": {"CalibMovingAverage": True}}  # not of outliers
    with tempfile.TemporaryDirectory() as scratch, atomic_write(folder / INT8) as file:
        path = Path(scratch) / INT8
        shape_inference.quant_pre_process(folder / ONNX, path, skip_symbolic_shape=True)
        quantize_static(path, path, Reader(), reduce_range=True, **options)  # older CPUs sum up in 16 bits
        file.write(path.read_bytes())


def run_onnx(path: Path, split: ImageSplit) -> tuple[Evaluation, float]:
    """The predictions of an ONNX file for every image of a split, and the median milliseconds for one on this CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows, seconds = [], []
    for number in tqdm(range(len(split)), desc=path.name, unit="image"):
        image, start = np.asarray(split.image(number)), time.perf_counter()
        rows.append(torch.from_numpy(session.run(None, {"image": image})[0]))
        seconds.append(time.perf_counter() - start)
    return Evaluation(split, split.classes, torch.stack(rows).clamp(min=1e-30).log()), 1000 * float(np.median(seconds))


def export_and_compare(model: nn.Module, folder: Path, train: ImageSplit, split: ImageSplit) -> pd.DataFrame:
    """Write all three files, and try those in ONNX on the images of a split, beside PyTorch: a row for each.

    Columns: file, MB, correct (with its interval), changed (predictions other than PyTorch's), worse (of these, those
    that were right before), difference (the largest between probabilities, to PyTorch's), ms (for one image).
    """
    (folder / INT8).unlink(missing_ok=True)  # of an earlier export
    export_model(model, folder)
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION]
    quantize(folder, train.select(chosen.tolist()))
    before = evaluate(model, split)
    rows: list[tuple[Any, ...]] = [(f"PyTorch, {current_profile().precision}", np.nan, str(before), 0, 0, 0.0, np.nan)]
    for name in (ONNX, INT8):
        found, milliseconds = run_onnx(folder / name, split)
        changed, gap = found.predictions != before.predictions, (found.probabilities - before.probabilities).abs()
        worse, size = changed & (before.predictions == split.labels), (folder / name).stat().st_size / 1e6
        rows.append((name, size, str(found), int(changed.sum()), int(worse.sum()), float(gap.max()), milliseconds))
    return pd.DataFrame(rows, columns=["file", "MB", "correct", "changed", "worse", "difference", "ms"])
