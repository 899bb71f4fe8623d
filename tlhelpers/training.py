"""The training loop: `fit`, `evaluate`, `predict`, and `train_model` as older tutorials write it.

All of them come down to two functions, `train_epoch` and `compute_logits`, which are plain PyTorch: what a
notebook shows first as a bare loop is what runs here. A test compares the weights that both give.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.utils.data import DataLoader

from tlhelpers import profile
from tlhelpers.checkpoints import Checkpoints, Progress, State
from tlhelpers.data.image_data import ImageData, ImageSplit
from tlhelpers.errors import TrainingError
from tlhelpers.metrics import Evaluation
from tlhelpers.models.cards import get_card
from tlhelpers.models.families import get_head
from tlhelpers.models.freezing import param_groups, train_mode
from tlhelpers.progress import tqdm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


@dataclass
class Run:
    """What `fit` gives back.

    Attributes:
        model: the trained network, in evaluation mode, with the weights of `kept_epoch`.
        history: one row for each finished epoch (index from 1); columns train_loss, train_accuracy (measured on
            the way, on augmented pictures, while the weights move), val_loss, val_accuracy, lr (the head's), seconds.
        best_epoch: the epoch with the highest validation accuracy, the lower loss deciding ties.
        kept_epoch: the epoch whose weights the model has: `best_epoch`, or the last one with `keep="last"`.
        stopped: why training ended early; empty if it did not.
    """

    model: nn.Module
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    best_epoch: int = 0
    kept_epoch: int = 0
    stopped: str = ""

    def plot(self) -> Figure:
        """Loss and accuracy by epoch, as a figure."""
        from tlhelpers import plots

        return plots.history(self.history, best_epoch=self.best_epoch)

    def __repr__(self) -> str:
        if self.history.empty:
            return f"Run without a finished epoch. {self.stopped}".strip()
        kept = self.history.loc[self.kept_epoch]
        text = (
            f"Run of {len(self.history)} epochs in {self.history['seconds'].sum():.0f} s; kept epoch "
            f"{self.kept_epoch}: validation accuracy {kept['val_accuracy']:.1%}, loss {kept['val_loss']:.3f}"
        )
        return f"{text}. {self.stopped}".removesuffix(". ")


def fit(
    model: nn.Module,
    data: ImageData | Mapping[str, Any],
    *,
    epochs: int = 5,
    lr: float | dict[str, float] = 1e-3,
    batch_size: int = 32,
    augment: bool | Callable[[Image.Image], torch.Tensor] = True,
    optimizer: Callable[..., Optimizer] = AdamW,
    schedule: str | Callable[[Optimizer], LRScheduler] = "cosine",
    loss: nn.Module | None = None,
    keep: str = "best",
    seed: int = 0,
    workers: int = 0,
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> Run:
    """Train what is trainable of `model` on `data.train`; validate on `data.val` after each epoch.

    Runs on the profile's device and in its precision. The test part is not touched. Ctrl-C ends training early
    and keeps what was reached.

    Args:
        model: a network from `load_model`, its head as wide as the data has classes; changed in place.
        data: from `load_data`; or batches that you make yourself, {"train": ..., "val": ...}, each a `DataLoader` or
            another sized iterable of (images, labels). `augment`, `batch_size` and `workers` are then not used. What
            has a method `set_epoch` is told the number of each epoch, from 1, before it begins.
        epochs: passes over the training part.
        lr: learning rate, or one for each trainable block by name ({"layer4": 1e-4, "head": 1e-3}).
        batch_size: pictures in a step.
        augment: True for the standard training transform, False for none, or a transform of your own from an RGB
            PIL image to a normalised tensor (3, size, size).
        optimizer: makes the optimizer from parameter groups: AdamW, or for example
            `functools.partial(torch.optim.SGD, momentum=0.9)`.
        schedule: "cosine" (to zero over the epochs), "constant", "one-cycle" (Smith and Topin 2018: from lr / 25 up
            to lr over the first 30 % of the steps, then down to nearly zero; PyTorch's `OneCycleLR`), or a function
            from the optimizer to a scheduler. A `OneCycleLR` steps after each batch, all others once an epoch.
        loss: from (logits, labels) to a mean; None is cross-entropy.
        keep: "best" or "last": the epoch whose weights the model has at the end.
        seed: of shuffling, augmentation and dropout. The same seed gives the same weights on the same machine
            (a GPU's own libraries may still differ in the last digits). The global generators are left as they were.
        workers: processes that read pictures; 0 reads them in this one.
        checkpoint: a folder, made if need be, that after every epoch holds all that is needed to go on.
        resume: go on from `checkpoint`, or begin if it has nothing yet. At the end the weights are those that a run
            without interruption gives. `model` and all settings must be the same again.

    Raises:
        CheckpointError: if what `checkpoint` holds is damaged, or belongs to other settings.
        TrainingError: if nothing is trainable, the head does not fit, the loss stops being finite, or memory runs out.
    """
    if keep not in ("best", "last"):
        raise TrainingError(f"keep='{keep}' is not known; expected 'best' or 'last'")
    if resume and checkpoint is None:
        raise TrainingError("resume=True needs checkpoint=, the folder to go on from")
    settings = profile.current()
    if isinstance(data, ImageData):
        _check_fits(model, data.train)
        train = data.train.with_transform(_train_transform(model, augment))
        val = _plain_loader(_seen_by(model, data.val), 2 * batch_size, workers)
        data = {"train": _train_loader(train, batch_size, seed, workers), "val": val}
    _check_run(data, epochs)
    _place(model, settings.device)
    groups = param_groups(model, lr)
    if not groups:
        raise TrainingError("nothing to train: every parameter is frozen. Call tl.unfreeze(model, last=0) for the head")
    steps = optimizer(groups)
    with _seeded(seed, settings.device):
        return _run(
            model,
            data,
            loss if loss is not None else nn.CrossEntropyLoss(),
            steps,
            _scheduler(schedule, steps, epochs, len(data["train"])),
            epochs,
            precision=settings.dtype,
            keep=keep,
            checkpoints=None if checkpoint is None else Checkpoints(Path(checkpoint), resume=resume),
        )


def train_model(
    model: nn.Module,
    dataloaders: Mapping[str, DataLoader[Any]],
    criterion: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    num_epochs: int = 25,
) -> nn.Module:
    """Train as older tutorials do, from the parts that they build by hand, in fp32 on the model's own device.

    Args:
        model: any classifier; changed in place.
        dataloaders: "train" and "val".
        criterion: from (logits, labels) to a mean.
        optimizer: over the parameters that are to move.
        scheduler: steps once an epoch, after the optimizer; `StepLR(optimizer, step_size=7, gamma=0.1)`, say. A
            `OneCycleLR` steps after each batch.
        num_epochs: passes over `dataloaders["train"]`.

    Returns:
        the model with the weights of its best epoch on "val", in evaluation mode; `model.history` is the table
        that `Run.history` describes.

    Raises:
        TrainingError: if a loader is missing or empty, or the loss stops being finite.
    """
    _check_run(dataloaders, num_epochs)
    run = _run(model, dataloaders, criterion, optimizer, scheduler, num_epochs, precision=torch.float32, keep="best")
    model.history = run.history  # type: ignore[assignment]
    return model


def evaluate(model: nn.Module, split: ImageSplit, *, batch_size: int = 64, workers: int = 0) -> Evaluation:
    """Run a network over a part of a data set, on the profile's device and in its precision.

    Args:
        model: a classifier as wide as the split has classes; each module's mode is given back as it was.
        split: with a transform it is used as it is; without one, the preprocessing of the model's card is.
        batch_size: pictures at a time.
        workers: processes that read pictures.

    Raises:
        TrainingError: if the network has another number of outputs than the split has classes.
        DataError: if outputs are not finite.
    """
    _check_fits(model, split)
    settings = profile.current()
    _place(model, settings.device)
    loader = _plain_loader(_seen_by(model, split), batch_size, workers)
    bar = tqdm(loader, desc=f"evaluate {split.name}", leave=False, delay=1)
    logits, _ = compute_logits(model, bar, precision=settings.dtype)
    return Evaluation(split, split.classes, logits)


def predict(
    model: nn.Module, images: str | Path | Image.Image | Sequence[str | Path | Image.Image], *, top: int = 3
) -> pd.DataFrame:
    """What a network sees in pictures: the `top` classes of each, the most probable first.

    Args:
        model: a network with a card, which names the classes and the preprocessing.
        images: a file, a PIL image, or a list of them.
        top: rows for each picture.

    Returns:
        columns image, rank (from 1), class, probability (softmax of the logits: confidence as the network sees it).

    Raises:
        DataError: naming the file that cannot be read.
    """
    from tlhelpers.data.images import open_image

    many = [images] if isinstance(images, str | Path | Image.Image) else list(images)
    card = get_card(model)
    settings = profile.current()
    _place(model, settings.device)
    transform = card.preprocessing.evaluation()
    names = card.classes or tuple(f"class {i}" for i in range(get_head(model).out_features))
    rows = []
    for number, image in enumerate(many):
        picture = image.convert("RGB") if isinstance(image, Image.Image) else open_image(image)
        label = f"image {number + 1}" if isinstance(image, Image.Image) else str(image)
        batch = [(transform(picture).unsqueeze(0), torch.zeros(1, dtype=torch.long))]
        logits, _ = compute_logits(model, batch, precision=settings.dtype)
        best = logits[0].softmax(dim=0).topk(min(top, len(names)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        rows += [(label, rank, names[i], value) for rank, (i, value) in enumerate(pairs, start=1)]
    return pd.DataFrame(rows, columns=["image", "rank", "class", "probability"])


# --- the loop -------------------------------------------------------------------------------------------------


def train_epoch(
    model: nn.Module,
    batches: Batches,
    criterion: nn.Module,
    optimizer: Optimizer,
    *,
    precision: torch.dtype = torch.float32,
    scaler: torch.amp.GradScaler | None = None,
    scheduler: LRScheduler | None = None,
) -> tuple[float, float]:
    """One pass over the training batches; a `scheduler` that is given here steps after each of them.

    Returns:
        loss and accuracy of the epoch: means over pictures, so that a short last batch counts for what it has.
        They are summed on the device and read once; reading them every step would make a GPU wait for it.

    Raises:
        TrainingError: naming the step at which the loss stopped being finite.
    """
    train_mode(model)
    device = _device_of(model)
    losses, sizes, correct = [], [], torch.zeros((), device=device)
    for images, labels in batches:
        images, labels = _to_device(images, device), labels.to(device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with _autocast(device, precision):
            logits = model(images)
            loss = criterion(logits, labels)
        losses.append(loss.detach().float())
        if device.type == "cpu":  # elsewhere looking would make the device wait; there the epoch's end will tell
            _check_finite(losses[-1:], first=len(losses))
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        if scheduler is not None:
            scheduler.step()
        sizes.append(len(labels))
        correct += (logits.detach().argmax(dim=1) == labels).sum()
    _check_finite(losses)
    weights = torch.tensor(sizes, dtype=torch.float32, device=device)
    mean = (torch.stack(losses) * weights).sum() / weights.sum()
    return float(mean), float(correct / weights.sum())


def compute_logits(
    model: nn.Module, batches: Batches, *, precision: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (pictures, classes), float32, and labels (pictures,), both on the CPU; every mode is given back."""
    device = _device_of(model)
    logits, labels = [], []
    with evaluation_mode(model), torch.inference_mode(), _autocast(device, precision):
        for images, targets in batches:
            logits.append(model(_to_device(images, device)).float())
            labels.append(targets)
    # Leaving inference mode behind: a clone is an ordinary tensor, with which autograd can work.
    return torch.cat(logits).cpu().clone(), torch.cat(labels).cpu().clone()


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The whole network in evaluation mode for a `with` block; afterwards each module has its own mode back.

    Giving back only the root's mode would start BatchNorm again that somebody had put to rest.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _run(
    model: nn.Module,
    loaders: Mapping[str, Any],
    criterion: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    epochs: int,
    *,
    precision: torch.dtype,
    keep: str,
    checkpoints: Checkpoints | None = None,
) -> Run:
    """Epochs of training and validation; `model` ends with the weights of the best or of the last."""
    scaler = torch.amp.GradScaler() if precision == torch.float16 else None
    by_step, by_epoch = (scheduler, None) if isinstance(scheduler, OneCycleLR) else (None, scheduler)
    so_far = Progress()
    if checkpoints is not None:
        state = State(model, optimizer, scheduler, scaler, loaders["train"])
        so_far = checkpoints.begin(state, {"epochs": epochs, "batches": len(loaders["train"]), "keep": keep})
    run, rows = Run(model), so_far.rows
    steps = len(loaders["train"])
    with tqdm(total=epochs * steps, initial=len(rows) * steps, desc="train", unit="batch") as bar:
        try:
            for epoch in range(len(rows) + 1, epochs + 1):
                start = time.perf_counter()
                rate = optimizer.param_groups[-1]["lr"]
                bar.set_description(f"epoch {epoch}/{epochs}")
                batches = _advancing(_at_epoch(loaders["train"], epoch), bar)
                trained = train_epoch(
                    model, batches, criterion, optimizer, precision=precision, scaler=scaler, scheduler=by_step
                )
                validated = _score(model, _at_epoch(loaders["val"], epoch), criterion, precision)
                if by_epoch is not None:
                    by_epoch.step()
                rows.append((*trained, *validated, rate, time.perf_counter() - start))
                bar.set_postfix(val_loss=f"{validated[0]:.3f}", val_accuracy=f"{validated[1]:.1%}")
                so_far.note_best(model, epoch, validated)
                if checkpoints is not None:
                    checkpoints.save(state, so_far)
        except KeyboardInterrupt:
            run.stopped = f"Interrupted by hand in epoch {len(rows) + 1}."
        except TrainingError:
            _load_if_any(model, so_far.best_weights)  # the weights of the best epoch stay usable
            raise
        except RuntimeError as error:
            _load_if_any(model, so_far.best_weights)
            raise _explained(error, getattr(loaders["train"], "batch_size", None)) from error
    columns = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    run.history = pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))
    run.best_epoch = so_far.best_epoch
    run.kept_epoch = run.best_epoch if keep == "best" or run.stopped else len(rows)
    if run.kept_epoch == run.best_epoch:
        _load_if_any(model, so_far.best_weights)
    model.eval()
    return run


def _at_epoch(batches: Any, epoch: int) -> Any:
    if hasattr(batches, "set_epoch"):
        batches.set_epoch(epoch)
    return batches


def _advancing(batches: Batches, bar: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in batches:
        yield batch
        bar.update()


def _score(model: nn.Module, batches: Batches, criterion: nn.Module, precision: torch.dtype) -> tuple[float, float]:
    logits, labels = compute_logits(model, batches, precision=precision)
    device = _device_of(model)
    with torch.no_grad(), evaluation_mode(criterion):
        loss = float(criterion(logits.to(device), labels.to(device)))
    _check_finite([torch.tensor(loss)], "validation")
    return loss, float((logits.argmax(dim=1) == labels).float().mean())


def _load_if_any(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    if state:
        model.load_state_dict(state)
    model.eval()


def _check_finite(losses: Sequence[torch.Tensor], where: str = "step {} of the epoch", first: int = 1) -> None:
    if not losses:
        raise TrainingError("there was no training batch: the loader is empty")
    finite = torch.isfinite(torch.stack(list(losses)))
    if not finite.all():
        place = where.format(int((~finite).nonzero()[0]) + first)
        raise TrainingError(
            f"the loss is no longer finite ({place}), so training stopped; the weights of the best finished epoch, "
            "if there is one, are in the model. Usual causes: a learning rate that is too large (try a tenth), or "
            "pictures without normalisation."
        )


def _explained(error: RuntimeError, batch_size: int | None) -> RuntimeError:
    if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
        smaller = max((batch_size or 2) // 2, 1)
        return TrainingError(
            f"memory ran out with {batch_size} pictures in a batch. Try batch_size={smaller}, or load the model "
            "with a smaller size=, or freeze more of it."
        )
    return error


# --- what it runs on --------------------------------------------------------------------------------------------


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _place(model: nn.Module, device: torch.device) -> None:
    """To the device, and there in the memory order in which convolutions are fastest; values do not change."""
    model.to(device)
    if device.type != "mps":
        model.to(memory_format=torch.channels_last)


def _to_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    order = torch.contiguous_format if device.type == "mps" else torch.channels_last
    return images.to(device, non_blocking=True, memory_format=order)


def _autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=precision)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's global generators start from `seed` for a `with` block; afterwards they are as they were."""
    kind = device.type if device.type != "cpu" else "cuda"
    devices = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(devices=devices, device_type=kind):
        torch.manual_seed(seed)
        yield


# --- what it reads ----------------------------------------------------------------------------------------------


def _check_run(loaders: Mapping[str, Any], epochs: int) -> None:
    if epochs < 1:
        raise TrainingError(f"epochs={epochs}, but training needs at least one")
    missing = {"train", "val"} - set(loaders)
    if missing:
        raise TrainingError(f"the batches lack {sorted(missing)}; expected the keys 'train' and 'val'")
    for part in ("train", "val"):
        if len(loaders[part]) == 0:
            raise TrainingError(f"the loader of '{part}' has no batch")


def _check_fits(model: nn.Module, split: ImageSplit) -> None:
    outputs = get_head(model).out_features
    if outputs != len(split.classes):
        raise TrainingError(
            f"the network has {outputs} outputs, but '{split.name}' has {len(split.classes)} classes "
            f"({', '.join(split.classes[:5])}{', …' if len(split.classes) > 5 else ''}). "
            f"Give it a head that fits: tl.replace_head(model, classes=data.classes)"
        )
    named = getattr(getattr(model, "card", None), "classes", ())
    if named and tuple(named) != tuple(split.classes):
        raise TrainingError(
            f"the network's outputs mean {list(named)}, but '{split.name}' has the classes {list(split.classes)}: "
            "in another order or under other names a score would mean nothing"
        )


def _train_transform(model: nn.Module, augment: bool | Callable[[Image.Image], torch.Tensor]) -> Any:
    return augment if callable(augment) else get_card(model).preprocessing.training(augment)


def _seen_by(model: nn.Module, split: ImageSplit) -> ImageSplit:
    if split.transform is not None:
        return split
    return split.with_transform(get_card(model).preprocessing.evaluation())


def _train_loader(split: ImageSplit, batch_size: int, seed: int, workers: int) -> DataLoader[Any]:
    # BatchNorm cannot normalise one value by itself, so a last batch of a single picture is left out; which
    # picture that is changes with every shuffle.
    alone = len(split) > batch_size and len(split) % batch_size == 1
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        split,
        batch_size,
        shuffle=True,
        generator=generator,
        drop_last=alone,
        num_workers=workers,
        **_pinned(),
    )


def _plain_loader(split: ImageSplit, batch_size: int, workers: int) -> DataLoader[Any]:
    # A generator of its own: without one each pass would draw a number from the global generator, and shift the
    # augmentation of the next epoch.
    return DataLoader(split, batch_size, generator=torch.Generator(), num_workers=workers, **_pinned())


def _pinned() -> dict[str, Any]:
    return {"pin_memory": profile.current().device.type == "cuda"}


def _scheduler(
    schedule: str | Callable[[Optimizer], LRScheduler], optimizer: Optimizer, epochs: int, steps: int
) -> LRScheduler:
    if callable(schedule):
        return schedule(optimizer)
    if schedule == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, highest, total_steps=epochs * steps, cycle_momentum=False)
    if schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=epochs)
    if schedule == "constant":
        return ConstantLR(optimizer, factor=1.0, total_iters=0)
    raise TrainingError(f"schedule '{schedule}' is not known; expected 'cosine', 'constant', 'one-cycle' or a function")


__all__ = [
    "Run",
    "compute_logits",
    "evaluate",
    "evaluation_mode",
    "fit",
    "predict",
    "train_epoch",
    "train_model",
]
