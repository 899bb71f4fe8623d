"""The claims of the chapter, as textbooks make them, and what this course's measurements say of each."""

from __future__ import annotations

from typing import Any

from tlcourse.measurements.claims import Claim, Gain

HOLDS, WHEN, NOT_SHOWN, NOT = "holds", "holds when", "not shown", "does not hold"


def _transfer(better: str, than: str, data: str, per_class: int | None, network: str = "resnet18") -> Gain:
    where: dict[str, Any] = {"network": network, "data": data, "per_class": per_class}
    return Gain("transfer", "balanced_accuracy", {"method": better}, {"method": than}, where)


def _method(results: str, better: str, than: str, **where: Any) -> Gain:
    return Gain(results, "test", {"method": better}, {"method": than}, where)


CLAIMS = (
    # 12.1
    Claim("early-edges", "Early layers find edges and colours.", HOLDS),
    Claim(
        "late-objects",
        "Single channels of late layers stand for objects.",
        NOT_SHOWN,
        "a channel's strongest images agree on a class hardly more often than a random network's do",
    ),
    Claim(
        "hierarchy",
        "Features become more useful with depth.",
        WHEN,
        "the target resembles the source; the control is a random network",
    ),
    Claim(
        "far-task",
        "A good score of a linear probe shows that features have transferred.",
        NOT,
        "on handwritten digits random features do nearly as well",
    ),
    Claim("fine-tuning-late", "Fine-tuning changes late layers more than early ones.", HOLDS),
    Claim(
        "less-data",
        "Transfer learning needs less data.",
        WHEN,
        "the target resembles the source",
        _transfer("everything", "scratch", "safari", 40),
    ),
    Claim(
        "less-data-xray",
        "Frozen features beat training from scratch where images are few.",
        NOT,
        "on X-rays with 50 of each class scratch is ahead",
        _transfer("frozen", "scratch", "chest_xray", 50),
    ),
    Claim("less-time", "Transfer learning needs less time.", WHEN, "somebody else has paid for the pre-training"),
    Claim(
        "generalisation",
        "A pre-trained network generalises better.",
        HOLDS,
        "",
        Gain("curves", "test", {"start": "pre-trained"}, {"start": "scratch"}, {}),
    ),
    Claim(
        "same-fit",
        "At the same fit to the training images it does better on new ones.",
        WHEN,
        "most training images are known; at a poorer fit the seeds do not agree",
    ),
    # 12.2.1
    Claim(
        "requires-grad-freezes",
        "`requires_grad = False` freezes a layer.",
        NOT,
        "parameters stay, BatchNorm's statistics move",
    ),
    Claim(
        "optimizer-memory",
        "The optimizer must get the head's parameters only, or it wastes memory on frozen ones.",
        NOT,
        "state is made when a gradient first arrives, and frozen parameters get none",
    ),
    Claim(
        "optimizer-trains-frozen",
        "An optimizer with all parameters would train the frozen ones.",
        WHEN,
        "they were trained before and their gradients are kept or set to zero",
    ),
    Claim(
        "features-once", "Computing features once saves time.", WHEN, "there are several epochs, and no augmentation"
    ),
    Claim(
        "batchnorm-held",
        "BatchNorm that is held gives the better head.",
        WHEN,
        "batches are small; with 32 images in a batch nothing is shown",
        _method("batchnorm", "held", "drifting", batch_size=4),
    ),
    # 12.2.2
    Claim(
        "momentum-steplr",
        "SGD with momentum and StepLR is the recipe for fine-tuning.",
        NOT_SHOWN,
        "to be better than AdamW; without momentum, at the same rate, it is worse",
        _method("recipes", "SGD with momentum, StepLR", "AdamW, constant"),
    ),
    Claim(
        "small-rate", "The backbone needs a small learning rate.", WHEN, "not too small: there is a best one between"
    ),
    Claim(
        "forgetting",
        "A small learning rate keeps the old task.",
        NOT,
        "BatchNorm's statistics forget at any rate; with the old ones put back, it is kept",
    ),
    Claim(
        "gradual",
        "Gradual unfreezing beats training everything at once.",
        NOT_SHOWN,
        "at an equal number of epochs",
        _method("stages", "gradual unfreezing", "everything at once"),
    ),
    Claim(
        "discriminative",
        "Smaller learning rates towards the input are better than one for the backbone.",
        NOT,
        "with each block's rate divided by 2.6",
        _method("stages", "discriminative rates", "everything at once"),
    ),
    Claim(
        "regularisation",
        "Augmentation, weight decay, dropout and label smoothing help when images are few.",
        NOT_SHOWN,
        "five seeds cannot tell any of them, or all four, from nothing",
        _method("regularisation", "all four", "nothing"),
    ),
    Claim("more-data-deeper", "The more images, the more layers should train.", WHEN, "taken over all data sets"),
    Claim(
        "few-images-head-only",
        "With few images only the head should train.",
        NOT_SHOWN,
        "training everything was not shown to be worse",
    ),
    Claim(
        "domain-distance",
        "The farther the domain, the more layers should train.",
        NOT,
        "X-rays gain most, but two sets of photographs lie on both sides of the drawings",
    ),
    # 12.3
    Claim("fewer-parameters-faster", "A network with fewer parameters is faster.", NOT),
    Claim("fewer-macs-faster", "Time shrinks as multiplications do.", NOT),
    Claim("bigger-source", "Bigger networks are more accurate.", WHEN, "they are of one family"),
    Claim(
        "architecture-decides", "The architecture decides how accurate a network is.", NOT, "the recipe weighs as much"
    ),
    Claim(
        "bigger-transfers", "A bigger network transfers better.", NOT_SHOWN, "ResNet34 against ResNet18, at 64 pixels"
    ),
    Claim(
        "source-accuracy",
        "The network that is better on ImageNet is the better one to transfer from.",
        WHEN,
        "it gets images of about the size that it was trained on",
    ),
    Claim(
        "preprocessing",
        "With wrong preprocessing the answers are useless.",
        WHEN,
        "it is gross; swapped colours and missing normalisation do little harm to this network",
    ),
    # 12.4
    Claim("baseline", "Frozen features beat a linear model on thumbnails.", HOLDS),
    Claim(
        "fine-tuning-pays",
        "Fine-tuning the last blocks beats frozen features.",
        NOT_SHOWN,
        "with 40 images of each class and so short a training",
        _transfer("last two blocks", "frozen", "safari", 40),
    ),
    Claim("class-ranking", "Recall by class says which classes are easy.", NOT, "with so few images intervals overlap"),
    Claim(
        "class-weights",
        "Class weights make up for a rare class.",
        NOT,
        "they do not replace the images that are missing",
    ),
    Claim("leakage", "Copies of training images in the test set inflate the score.", HOLDS),
    Claim("grad-cam", "Grad-CAM shows whether an answer can be trusted.", NOT),
    Claim("test-time-augmentation", "Averaging over several views improves the answers.", NOT_SHOWN),
    Claim(
        "transfer-helps-medical",
        "Pre-training on photographs helps with medical images.",
        WHEN,
        "the backbone is fine-tuned; with a single network the gain is within its spread",
    ),
    Claim(
        "frozen-suffices-medical",
        "Frozen features suffice for medical images.",
        WHEN,
        "the network was trained on enough photographs: EfficientNet-Lite0 was, the ResNets of this course were not",
    ),
    Claim("accuracy-misleads", "Accuracy is misleading where a class is rare.", HOLDS),
    Claim(
        "split-by-image",
        "Splitting by image and not by patient inflates the score.",
        WHEN,
        "patients are few and have many images",
    ),
    Claim(
        "detection",
        "A pre-trained backbone helps detection too.",
        NOT_SHOWN,
        "after a short training scratch is ahead, after a longer one the seeds do not agree",
    ),
    Claim("same-recipe", "The same recipe works for language.", HOLDS),
    Claim("fine-tuning-beats-frozen", "A fine-tuned encoder beats frozen sentence embeddings.", HOLDS),
    Claim("rare-class", "Accuracy hides that a rare class is never found.", HOLDS),
)
