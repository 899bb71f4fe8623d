"""The contestants of the benchmark: the same training, written for each library as its own guide writes it.

Each function takes a `Job` and returns the trained network. All start from the same weights, see the same folder of
JPEGs in the same size, and train with SGD, momentum 0.9, at one constant learning rate, in batches of the same size,
scoring the validation images after every epoch. Everything else is what the library does by default.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Job:
    """What is to be trained.

    Attributes:
        folder: holds train/<class>/*.jpg and val/<class>/*.jpg.
        arch: a row of the package's table.
        size: side of the images in pixels.
        epochs, batch_size, lr, seed: of the training.
        trainable: beginnings of the names of the parameters that train; () for all.
        augment: random crops and mirroring, or none.
    """

    folder: Path
    arch: str
    size: int
    epochs: int
    batch_size: int
    lr: float
    seed: int
    trainable: tuple[str, ...]
    augment: bool

    def network(self) -> Any:
        """The network with a new head, frozen in the way of most guides: `requires_grad = False`."""
        import tlhelpers as tl

        classes = sorted(path.name for path in (self.folder / "train").iterdir())
        model = tl.load_model(self.arch, classes=classes, size=self.size, weights="embedded", seed=self.seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not self.trainable or name.startswith(self.trainable)
        return model

    def folders(self) -> tuple[ImageFolder, ImageFolder]:
        """Training and validation images with the transforms of torchvision's guides."""
        to_tensor = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        plain = v2.Compose([v2.Resize(round(self.size * 256 / 224)), v2.CenterCrop(self.size), *to_tensor])
        crop = [v2.RandomResizedCrop(self.size, scale=(0.5, 1.0)), v2.RandomHorizontalFlip()]
        train = v2.Compose([*crop, *to_tensor]) if self.augment else plain
        return ImageFolder(self.folder / "train", train), ImageFolder(self.folder / "val", plain)


def device() -> torch.device:
    """The GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def ours(job: Job, model: Any) -> nn.Module:
    """`tl.fit`."""
    import tlhelpers as tl

    if job.trainable:
        tl.freeze_modules(*(m for m in model.modules() if not any(p.requires_grad for p in m.parameters())))
    # The peers' crop, on which all are scored, and not the one that the weights' card asks for.
    preprocessing = dataclasses.replace(model.card.preprocessing, resize=round(job.size * 256 / 224))
    model.card = dataclasses.replace(model.card, preprocessing=preprocessing)
    data = tl.load_folder(job.folder, verbose=False)
    tl.fit(
        model,
        data,
        epochs=job.epochs,
        keep="last",
        batch_size=job.batch_size,
        lr=job.lr,
        augment=job.augment,
        optimizer=functools.partial(torch.optim.SGD, momentum=0.9),
        schedule="constant",
        seed=job.seed,
    )
    return model


def plain(job: Job, model: Any) -> nn.Module:
    """The loop of most tutorials, this chapter's first one among them: fp32, one process, `item()` in every step."""
    train, val = job.folders()
    loaders = DataLoader(train, job.batch_size, shuffle=True), DataLoader(val, job.batch_size)
    model.to(device())
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], job.lr, momentum=0.9)
    for _ in range(job.epochs):
        model.train()
        total = 0.0
        for images, labels in loaders[0]:
            images, labels = images.to(device()), labels.to(device())
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        model.eval()
        right = 0
        with torch.no_grad():
            for images, labels in loaders[1]:
                right += int((model(images.to(device())).argmax(1).cpu() == labels).sum())
    return model


def torchvision_reference(job: Job, model: Any) -> nn.Module:
    """In the style of torchvision's reference scripts: worker processes, pinned memory, metrics read in every step."""
    train, val = job.folders()
    workers = min(16, os.cpu_count() or 1)
    options = {"num_workers": workers, "pin_memory": torch.cuda.is_available()}
    loaders = DataLoader(train, job.batch_size, shuffle=True, **options), DataLoader(val, job.batch_size, **options)
    model.to(device())
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], job.lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    for _ in range(job.epochs):
        model.train()
        for images, labels in loaders[0]:
            images, labels = images.to(device()), labels.to(device())
            output = model(images)
            loss = criterion(output, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            float(loss), float((output.argmax(1) == labels).float().mean())
        scheduler.step()
        model.eval()
        with torch.inference_mode():
            for images, labels in loaders[1]:
                output = model(images.to(device(), non_blocking=True))
                float(criterion(output, labels.to(device()))), float((output.argmax(1).cpu() == labels).float().mean())
    return model


def fastai(job: Job, model: Any) -> nn.Module:
    """Fastai's Learner."""
    from fastai.data.transforms import get_image_files  # noqa: F401 (fails early where fastai is not complete)
    from fastai.vision.all import (
        CrossEntropyLossFlat,
        ImageDataLoaders,
        Learner,
        Normalize,
        OptimWrapper,
        RandomResizedCrop,
        Resize,
        accuracy,
        aug_transforms,
    )

    if job.augment:
        items = RandomResizedCrop(job.size, min_scale=0.5)
        batches = aug_transforms(max_rotate=0, max_zoom=1, max_warp=0, max_lighting=0)  # mirrors only
    else:
        items, batches = Resize(job.size), []
    loaders = ImageDataLoaders.from_folder(
        job.folder,
        train="train",
        valid="val",
        item_tfms=items,
        batch_tfms=[*batches, Normalize.from_stats(MEAN, STD)],
        bs=job.batch_size,
    )
    optimizer = functools.partial(OptimWrapper, opt=functools.partial(torch.optim.SGD, momentum=0.9))
    learner = Learner(loaders, model, CrossEntropyLossFlat(), optimizer, metrics=accuracy, splitter=_trained_last)
    if job.trainable:
        learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit(job.epochs, job.lr)
    return model


def _trained_last(model: nn.Module) -> list[list[nn.Parameter]]:
    still = [p for p in model.parameters() if not p.requires_grad]
    moving = [p for p in model.parameters() if p.requires_grad]
    return [still, moving] if still else [moving]


def lightning(job: Job, model: Any) -> nn.Module:
    """Lightning's Trainer."""
    import lightning as L

    class Classifier(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.criterion = model, nn.CrossEntropyLoss()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            images, labels = batch
            loss = self.criterion(self.model(images), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            images, labels = batch
            logits = self.model(images)
            self.log("val_loss", self.criterion(logits, labels))
            self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())

        def configure_optimizers(self) -> Any:
            trainable = [p for p in self.model.parameters() if p.requires_grad]
            return torch.optim.SGD(trainable, job.lr, momentum=0.9)

    train, val = job.folders()
    loaders = DataLoader(train, job.batch_size, shuffle=True), DataLoader(val, job.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(max_epochs=job.epochs, default_root_dir=folder, enable_progress_bar=False)
        trainer.fit(Classifier(), *loaders)
    return model


def hugging_face(job: Job, model: Any) -> nn.Module:
    """Hugging Face's Trainer."""
    from transformers import Trainer, TrainingArguments

    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.model(pixel_values)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def collated(rows: list[Any]) -> dict[str, torch.Tensor]:
        images, labels = zip(*rows, strict=True)
        return {"pixel_values": torch.stack(images), "labels": torch.tensor(labels)}

    train, val = job.folders()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, job.lr, momentum=0.9)
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            output_dir=folder,
            num_train_epochs=job.epochs,
            per_device_train_batch_size=job.batch_size,
            per_device_eval_batch_size=job.batch_size,
            eval_strategy="epoch",
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            seed=job.seed,
        )
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
        Trainer(
            WithLoss(),
            options,
            train_dataset=train,
            eval_dataset=val,
            data_collator=collated,
            optimizers=(optimizer, schedule),
            compute_metrics=lambda seen: {"accuracy": float((seen.predictions.argmax(1) == seen.label_ids).mean())},
        ).train()
    return model


CONTESTANTS: dict[str, Callable[[Job, Any], nn.Module]] = {
    "tlhelpers": ours,
    "plain loop": plain,
    "torchvision style": torchvision_reference,
    "fastai": fastai,
    "Lightning": lightning,
    "Hugging Face Trainer": hugging_face,
}
NEEDS = {"fastai": "fastai", "Lightning": "lightning", "Hugging Face Trainer": "transformers"}
