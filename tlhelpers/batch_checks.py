"""What readers bring is checked here before a network sees it: data, transforms, and batches of their own."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, default_collate

from tlhelpers.data.dataset import ImageData, ImageSplit
from tlhelpers.errors import DataError, ModelError, TLError, TrainingError, describe, quoted
from tlhelpers.loop import WORKER_DIED, device_of, memory_ran_out, seeded
from tlhelpers.models.families import get_head, unwrapped
from tlhelpers.pixel_batches import EpochBatches

TRANSFORM = "the transform (augment=, or the split's own)"


def check_fits(model: nn.Module, split: Any) -> None:
    """Raise a DataError if `split` is none, or a TrainingError if the outputs of a network are not its classes."""
    check_split(split)
    outputs, classes = get_head(model).out_features, split.classes
    if outputs != len(classes):
        shown = f"{len(classes)} classes ({', '.join(classes[:5])}{', …' * (len(classes) > 5)})"
        found = f"the network has {outputs} outputs, but '{split.name}' has {shown}"
        raise TrainingError(f"{found}. Give it a head that fits: tl.replace_head(model, classes=data.classes)")
    _check_classes({"the network": _class_names(model), f"'{split.name}'": classes})


def check_split(split: Any) -> None:
    """Raise a DataError unless `split` is a split of a data set."""
    if not isinstance(split, ImageSplit):
        kind = "a whole data set" if isinstance(split, ImageData) else type(split).__name__
        found = "None, as data without a test set have" if split is None else kind
        raise DataError(f"expected a split of tl.load_data(...), such as data.test or data.val; got {found}")


def _check_classes(known: dict[str, tuple[str, ...]]) -> None:
    """Raise a TrainingError if two that know the names of the classes differ."""
    known = {source: names for source, names in known.items() if names}
    for (first, names), (other, found) in itertools.pairwise(known.items()):
        if found != names:
            said = f"the labels of {first} mean {quoted(names, found)}, but those of {other} {quoted(found, names)}"
            raise TrainingError(f"{said}: in another order or under other names a score would mean nothing")


def _class_names(source: Any) -> tuple[str, ...]:
    """The names of the classes by label, of a network with a card or a loader whose data set has them; or none."""
    if isinstance(source, nn.Module):
        return tuple(getattr(getattr(unwrapped(source), "card", None), "classes", ()))
    data = getattr(source, "dataset", None)
    while isinstance(data, Subset | ConcatDataset):
        data = data.dataset if isinstance(data, Subset) else data.datasets[0]
    names, changed = getattr(data, "classes", None), getattr(data, "target_transform", None) is not None
    return tuple(map(str, names)) if isinstance(names, list | tuple) and not changed else ()


@dataclass(eq=False)
class OwnBatches(EpochBatches):
    """Batches that a reader made, each checked; labels of any whole-number type become int64."""

    order: Any  # the batches
    name: str
    outputs: int | None  # of the network, if they are known
    channels: int  # of the images that it takes

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches = read_batches(self.order, getattr(self.order, "num_workers", 0), f"your batches '{self.name}'")
        for number, batch in enumerate(batches, start=1):
            yield self._checked(batch, f"batch {number} of '{self.name}'")

    def _checked(self, batch: Any, where: str) -> tuple[torch.Tensor, torch.Tensor]:
        parts = list(batch) if isinstance(batch, list | tuple) else [batch]
        if len(parts) != 2 or not all(isinstance(part, torch.Tensor) for part in parts):
            found = ", ".join(map(describe, parts))
            raise TrainingError(f"{where} is ({found}); expected two tensors, images and labels")
        images, labels = parts
        c = self.channels
        if self.outputs and not (images.ndim == 4 and images.shape[1] == c and images.is_floating_point()):
            raise TrainingError(
                f"images of {where} are {describe(images)}; expected floats (batch, {c}, height, width)"
            )
        if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.is_complex():
            raise TrainingError(f"labels of {where} are {describe(labels)}; expected whole numbers ({len(images)},)")
        labels, known = labels.long(), labels[labels != -100]  # the loss leaves out images with the label -100
        on_cpu = labels.device.type == "cpu"  # a GPU would have to be waited for
        if self.outputs and on_cpu and len(wrong := known[(known < 0) | (known >= self.outputs)]):
            raise TrainingError(f"{where} has the label {int(wrong[0])}; the network's are 0 to {self.outputs - 1}")
        return images, labels


def checked_batches(model: nn.Module, train: Any, val: Any) -> tuple[OwnBatches, OwnBatches]:
    """A reader's own batches, with the first one of `val` read now: later, an epoch would be lost."""
    _check_classes({"'train'": _class_names(train), "'val'": _class_names(val), "the network": _class_names(model)})
    outputs = None
    with contextlib.suppress(ModelError):
        outputs = get_head(model).out_features
    channels = next((each.in_channels for each in model.modules() if isinstance(each, nn.Conv2d)), 3)
    first, generator = OwnBatches(val, "val", outputs, channels), getattr(val, "generator", None)
    state = None if generator is None else generator.get_state()
    with seeded(0, device_of(model)):
        next(iter(first), None)
    if generator is not None:
        generator.set_state(state)
    return OwnBatches(train, "train", outputs, channels), first


def read_batches(batches: Iterable[Any], workers: int, what: str) -> Iterator[Any]:
    """The batches of a loader; errors that come from making them are explained."""
    number = 1  # of the batch that is made
    try:
        for batch in batches:
            yield batch
            number += 1
    except Exception as error:
        if memory_ran_out(error):
            raise
        last = (str(error).strip().splitlines() or [""])[-1]  # from a worker it comes with the worker's whole traceback
        if isinstance(error, TLError):
            raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from error
        if workers and number == 1 and "in DataLoader worker process" not in str(error):
            text = f"the processes that read {what} could not begin ({last}). On Windows and macOS a script must do its"
            text += ' work below `if __name__ == "__main__":`, and what it gives them, such as augment=, must be'
            text += " defined in a file, outside of functions and notebooks. Or take workers=0"
            raise TrainingError(text) from error
        if WORKER_DIED in str(error):
            raise
        raise TrainingError(f"batch {number} of {what} could not be made ({type(error).__name__}: {last})") from error


@dataclass(eq=False)
class PreparedImages(Dataset[tuple[torch.Tensor, int]]):
    """A split's images as tensors; what the transform makes of them is checked."""

    split: ImageSplit
    transform: Callable[..., Any]

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, where = self.split.image(index), f"{TRANSFORM} of {self.split.keys[index]}"
        try:
            tensor = self.transform(image)
        except Exception as error:
            raise DataError(f"{where} failed: {type(error).__name__}: {' '.join(str(error).split())}") from error
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or tensor.shape[:-2] != (3,):
            found = f"{where} gave {describe(tensor)}; expected a float tensor (3, size, size), as from"
            raise DataError(f"{found} v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True) and v2.Normalize")
        return tensor, int(self.split.labels[index])


def collate_images(pairs: list[tuple[torch.Tensor, int]]) -> Any:
    """A batch of images and labels; a DataError if the images differ in size."""
    if len(shapes := sorted({tuple(image.shape) for image, _ in pairs})) > 1:
        found = f"{TRANSFORM} gave images of several sizes for one batch, {shapes[0]} and {shapes[-1]}"
        raise DataError(f"{found}: let it crop or resize each to (size, size)")
    return default_collate(pairs)
