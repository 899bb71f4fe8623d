"""Training: `fit`, and `train_model` as older tutorials write it. The loop itself is in `tlhelpers.loop`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from tlhelpers import distributed
from tlhelpers.batch_sources import Augment, Inputs, Wish, prepare
from tlhelpers.checkpoints import Checkpoints, Progress, State
from tlhelpers.data.dataset import ImageData
from tlhelpers.device import current_profile
from tlhelpers.errors import TLError, TrainingError
from tlhelpers.evaluation import check_fits
from tlhelpers.loop import Batches, Step, check_finite, compute_logits, device_of, place, train_epoch
from tlhelpers.models.freezing import param_groups
from tlhelpers.models.modes import evaluation_mode
from tlhelpers.progress import tqdm

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Run:
    """What `fit` gives back.

    Attributes:
        model: the trained network, in evaluation mode, with the weights of `kept_epoch`.
        history: one row for each finished epoch (index from 1); columns train_loss, train_accuracy (measured on
            the way, on augmented images, while the weights move), val_loss, val_accuracy, lr (the head's), seconds.
        best_epoch: the epoch with the highest validation accuracy, the lower loss deciding ties.
        kept_epoch: the epoch whose weights the model has: `best_epoch`, or the last one with `keep="last"`.
        stopped: why training ended early; empty if it did not.
        notes: sentences on how it was done: what was decoded once, which part of the network ran once.
    """

    model: nn.Module
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    best_epoch: int = 0
    kept_epoch: int = 0
    stopped: str = ""
    notes: list[str] = field(default_factory=list)

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
        notes = [textwrap.fill(note, 100) for note in self.notes]
        return "\n".join([f"{text}. {self.stopped}".removesuffix(". "), *notes])


def fit(
    model: nn.Module,
    data: ImageData | Mapping[str, Any],
    *,
    epochs: int = 5,
    lr: float | dict[str, float] = 1e-3,
    batch_size: int = 32,
    augment: Augment = True,
    views: int | None = None,
    optimizer: Callable[..., Optimizer] = AdamW,
    schedule: str | Callable[[Optimizer], LRScheduler] = "cosine",
    loss: nn.Module | None = None,
    step: Step = Step(),  # noqa: B008 (it cannot change)
    keep: str = "best",
    patience: int | None = None,
    seed: int = 0,
    cache: bool | str | Path = True,
    workers: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> Run:
    """Train what is trainable of `model` on `data.train`; validate on `data.val` after each epoch.

    Runs on the profile's device and in its precision. The test set is not touched. Ctrl-C ends training early
    and keeps what was reached. What is frozen below the lowest trainable parameter runs once and not in every epoch,
    wherever that gives the same result; `Run.notes` says what was done. Under `torchrun` the processes share each
    batch between them, and process 0 writes.

    Args:
        model: a network from `load_model`, its head as wide as the data has classes; changed in place.
        data: from `load_data`; or batches that you make yourself, {"train": ..., "val": ...}, each a `DataLoader` or
            another sized iterable of (images, labels). `augment`, `views`, `batch_size`, `cache` and `workers` are
            then not used. What has a method `set_epoch` is told the number of each epoch, from 1, before it begins.
        epochs: passes over the training set.
        lr: learning rate, or one for each trainable block by name ({"layer4": 1e-4, "head": 1e-3}).
        batch_size: images in a step.
        augment: True for random crops and mirroring, False for none, or a transform of your own from an RGB PIL image
            to a normalised tensor (3, size, size), which is called for every image in every epoch.
        views: how many augmented views of each image a frozen part runs over, once; they come in turn. None makes a
            new view in every epoch. Without a frozen part it has no effect.
        optimizer: makes the optimizer from parameter groups: AdamW, or for example
            `functools.partial(torch.optim.SGD, momentum=0.9)`.
        schedule: "cosine" (to zero over the epochs), "constant", "one-cycle" (Smith and Topin 2018: from lr / 25 up
            to lr over the first 30 % of the steps, then down to nearly zero; PyTorch's `OneCycleLR`), or a function
            from the optimizer to a scheduler. A `OneCycleLR` steps after each batch, all others once an epoch.
        loss: from (logits, labels) to a mean; None is cross-entropy.
        step: accumulation, clipping, averaging, mixing and compilation: see `Step`.
        keep: "best" or "last": the epoch whose weights the model has at the end.
        patience: training ends when so many epochs in a row were no better than the best; None goes on.
        seed: of shuffling, augmentation and dropout. The same seed gives the same weights on the same machine
            (a GPU's own libraries may still differ in the last digits). The global generators are left as they were.
        cache: False runs the whole network in every step. A folder keeps activations there for later runs, under a
            key over images, weights and all else that decides them.
        workers: processes that read images which are not kept in memory; None: a few, or none for your own transform.
        checkpoint: a folder, made if need be, that after every epoch holds all that is needed to go on, and the best
            weights as `best.safetensors`.
        resume: go on from `checkpoint`, or begin if it has nothing yet. At the end the weights are those that a run
            without interruption gives. `model` and all settings must be the same again.

    Raises:
        CheckpointError: if what `checkpoint` holds is damaged, belongs to other settings or is in use, or cannot be
            written.
        DataError: naming an image that can no longer be read.
        TrainingError: if nothing is trainable, the head does not fit, the loss stops being finite, or memory runs out.
    """
    if keep not in ("best", "last"):
        raise TrainingError(f"keep='{keep}' is not known; expected 'best' or 'last'")
    if resume and checkpoint is None:
        raise TrainingError("resume=True needs checkpoint=, the folder to go on from")
    _check_epochs(epochs, patience)
    settings = current_profile()
    device = distributed.start(settings.device)
    if isinstance(data, ImageData):
        check_fits(model, data.train)
    else:
        _check_batches(data)
    place(model, device)
    groups = param_groups(model, lr)
    if not groups:
        raise TrainingError("nothing to train: every parameter is frozen. Call tl.unfreeze(model, last=0) for the head")
    moves = made(optimizer, groups, device)
    with seeded(seed, device):
        if isinstance(data, ImageData):
            wish = Wish(epochs, batch_size, augment, views, cache, workers, seed, mixes=step.mix is not None)
            try:
                inputs = prepare(model, data, wish, settings.dtype)
            except KeyboardInterrupt:
                return Run(model.eval(), stopped="Interrupted by hand before the first epoch.")
        else:
            inputs = Inputs(data["train"], data["val"], model, model)
        with contextlib.closing(inputs):
            criterion = loss if loss is not None else nn.CrossEntropyLoss()
            scheduler = _scheduler(schedule, moves, epochs, len(inputs.train))
            folder = None if checkpoint is None else Checkpoints(Path(checkpoint), resume=resume, seed=seed)
            parts = _Parts(model, inputs, criterion, moves, scheduler, settings.dtype, step)
            return _run(parts, epochs, keep=keep, patience=patience, checkpoints=folder)


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
    _check_epochs(num_epochs)
    _check_batches(dataloaders)
    inputs = Inputs(dataloaders["train"], dataloaders["val"], model, model)
    run = _run(_Parts(model, inputs, criterion, optimizer, scheduler), num_epochs)
    model.history = run.history  # type: ignore[assignment]
    return model


# --- epochs -----------------------------------------------------------------------------------------------------


class _Parts:
    """What a training is made of, and what it does in each epoch."""

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        criterion: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        precision: torch.dtype = torch.float32,
        step: Step = Step(),  # noqa: B008 (it cannot change)
    ) -> None:
        self.model, self.inputs, self.criterion, self.optimizer = model, inputs, criterion, optimizer
        self.scheduler, self.precision, self.step = scheduler, precision, step
        self.scaler = torch.amp.GradScaler(device_of(model).type) if precision == torch.float16 else None
        self.average = _averaged(inputs.network, step.average)
        compiled: Any = torch.compile(inputs.network) if step.compile else inputs.network
        self.network = distributed.wrapped(compiled)
        self.seed = torch.initial_seed()

    def state(self) -> State:
        """Everything that changes from step to step."""
        return State(self.model, self.optimizer, self.scheduler, self.scaler, self.average, self.inputs.train)

    def train(self, epoch: int, bar: Any) -> tuple[float, float]:
        """Pass over the training batches; loss and accuracy."""
        distributed.reseed(self.seed, epoch)
        return train_epoch(
            self.network,
            _advancing(_at_epoch(self.inputs.train, epoch), bar),
            self.criterion,
            self.optimizer,
            precision=self.precision,
            scaler=self.scaler,
            scheduler=self.scheduler if isinstance(self.scheduler, OneCycleLR) else None,
            average=self.average,
            step=self.step,
        )

    def validate(self, epoch: int) -> tuple[float, float]:
        """Loss and accuracy on the validation batches."""
        batches, network = _at_epoch(self.inputs.val, epoch), self.inputs.scored
        logits, labels = compute_logits(network, batches, precision=self.precision)
        logits, labels = distributed.gathered(logits), distributed.gathered(labels)
        device = device_of(network)
        with torch.no_grad(), evaluation_mode(self.criterion):
            loss = float(self.criterion(logits.to(device), labels.to(device)))
        check_finite([torch.tensor(loss)], "validation")
        return loss, float((logits.argmax(dim=1) == labels).float().mean())


def _run(
    parts: _Parts,
    epochs: int,
    *,
    keep: str = "best",
    patience: int | None = None,
    checkpoints: Checkpoints | None = None,
) -> Run:
    """Epochs of training and validation; the model ends with the weights of the best or of the last."""
    model, run, so_far, state = parts.model, Run(parts.model, notes=parts.inputs.notes), Progress(), parts.state()
    steps = len(parts.inputs.train)
    with contextlib.ExitStack() as until_the_end:
        if checkpoints is not None:
            until_the_end.enter_context(checkpoints)
            settings = {"epochs": epochs, "batches": steps, "images": parts.inputs.seen, "keep": keep}
            so_far = checkpoints.begin(state, settings)
        done = len(so_far.rows) * steps
        bar = until_the_end.enter_context(tqdm(total=epochs * steps, initial=done, desc="train", unit="batch"))
        try:
            while len(so_far.rows) < epochs and not _waited_enough(so_far, patience):
                _one_epoch(parts, so_far, bar, f"{len(so_far.rows) + 1}/{epochs}", checkpoints)
                if checkpoints is not None:
                    checkpoints.save(state, so_far)
        except KeyboardInterrupt:
            run.stopped = f"Interrupted by hand in epoch {len(so_far.rows) + 1}."
        except TLError:
            _load_if_any(model, so_far.best_weights)  # the weights of the best epoch stay usable
            raise
        except (RuntimeError, MemoryError) as error:
            _load_if_any(model, so_far.best_weights)
            raise _explained(error, getattr(parts.inputs.train, "batch_size", None)) from error
    count = len(so_far.rows)
    if not run.stopped and count < epochs:
        run.stopped = f"Stopped after epoch {count}: none was better than epoch {so_far.best_epoch} since."
    run.history, run.best_epoch = so_far.table(), so_far.best_epoch
    run.kept_epoch = count if keep == "last" and not run.stopped.startswith("Interrupted") else so_far.best_epoch
    if run.kept_epoch == run.best_epoch:
        _load_if_any(model, so_far.best_weights)
    elif parts.average is not None:
        _swap(parts.average, parts.inputs.network)
    model.eval()
    return run


def _one_epoch(parts: _Parts, so_far: Progress, bar: Any, name: str, checkpoints: Checkpoints | None) -> None:
    """Train, validate, keep what was reached."""
    start, epoch = time.perf_counter(), len(so_far.rows) + 1
    rate = parts.optimizer.param_groups[-1]["lr"]
    bar.set_description(f"epoch {name}")
    trained = parts.train(epoch, bar)
    with _in_place(parts.average, parts.inputs.network):
        validated = parts.validate(epoch)
        if so_far.note_best(parts.model, epoch, validated) and checkpoints is not None:
            checkpoints.save_best(parts.model)
    if parts.scheduler is not None and not isinstance(parts.scheduler, OneCycleLR):
        parts.scheduler.step()
    so_far.rows.append((*trained, *validated, rate, time.perf_counter() - start))
    bar.set_postfix(val_loss=f"{validated[0]:.3f}", val_accuracy=f"{validated[1]:.1%}")


def _at_epoch(batches: Any, epoch: int) -> Any:
    if hasattr(batches, "set_epoch"):
        batches.set_epoch(epoch)
    return batches


def _advancing(batches: Batches, bar: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in batches:
        yield batch
        bar.update()


def _waited_enough(so_far: Progress, patience: int | None) -> bool:
    return patience is not None and so_far.best_epoch > 0 and len(so_far.rows) - so_far.best_epoch >= patience


def _load_if_any(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    if state:
        model.load_state_dict(state)
    model.eval()


def _explained(error: Exception, batch_size: int | None) -> Exception:
    """The error itself, or a sentence for the reader where it is known what it means."""
    if "DataLoader worker" in str(error):  # raised wherever this process happens to be
        return TrainingError(
            "one of the processes that read images ended without a word, as one does that is killed because memory "
            "ran out. Take workers=0, or fewer"
        )
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        smaller = max((batch_size or 2) // 2, 1)
        return TrainingError(
            f"memory ran out with {batch_size} images in a batch. Try batch_size={smaller}, or "
            "step=tl.Step(pieces=2), which runs each batch in two halves; or load the model with a smaller size=, or "
            "freeze more of it."
        )
    return error


# --- averaged weights -------------------------------------------------------------------------------------------


def _averaged(network: nn.Module, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


@contextlib.contextmanager
def _in_place(average: AveragedModel | None, network: nn.Module) -> Iterator[None]:
    """The averaged weights stand in the network for a `with` block."""
    if average is None:
        yield
        return
    _swap(average, network)
    try:
        yield
    finally:
        _swap(average, network)


def _swap(average: AveragedModel, network: nn.Module) -> None:
    for own, mean in zip(_tensors(network), _tensors(average.module), strict=True):
        own.data, mean.data = mean.data, own.data


def _tensors(network: nn.Module) -> Iterator[torch.Tensor]:
    yield from network.parameters()
    yield from network.buffers()


# --- settings ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's global generators start from `seed` for a `with` block; afterwards they are as they were."""
    kind = device.type if device.type != "cpu" else "cuda"
    devices = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(devices=devices, device_type=kind):
        torch.manual_seed(seed)
        yield


def _check_epochs(epochs: int, patience: int | None = None) -> None:
    if epochs < 1:
        raise TrainingError(f"epochs={epochs}, but training needs at least one")
    if patience is not None and patience < 1:
        raise TrainingError(f"patience={patience}, but it takes at least one epoch to see no progress")


def _check_batches(batches: Mapping[str, Any]) -> None:
    missing = {"train", "val"} - set(batches)
    if missing:
        raise TrainingError(f"the batches lack {sorted(missing)}; expected the keys 'train' and 'val'")
    for part in ("train", "val"):
        if len(batches[part]) == 0:
            raise TrainingError(f"the loader of '{part}' has no batch")


def made(optimizer: Callable[..., Optimizer], groups: list[dict[str, Any]], device: torch.device) -> Optimizer:
    """The optimizer, in its fused form where there is one: all of a step's arithmetic in one pass over memory."""
    kind, given = (optimizer.func, optimizer.keywords) if isinstance(optimizer, functools.partial) else (optimizer, {})
    fuses = inspect.isclass(kind) and "fused" in inspect.signature(kind).parameters
    if fuses and not {"fused", "foreach", "differentiable"} & set(given) and device.type in ("cpu", "cuda"):
        return optimizer(groups, fused=True)
    return optimizer(groups)


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
