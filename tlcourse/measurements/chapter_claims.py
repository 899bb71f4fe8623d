"""The claims of the chapter, as textbooks make them, and what this course's measurements say of each."""

from __future__ import annotations

from tlcourse.measurements.claims import Claim, Gain


def _transfer(better: str, than: str, data: str, per_class: int) -> Gain:
    where = {"network": "resnet18", "data": data, "per_class": per_class}
    return Gain("transfer", better, than, where, column="balanced_accuracy")


CLAIMS = (
    # 12.1
    Claim("early-edges", "Early layers find edges and colours.", "holds"),
    Claim(
        "late-objects",
        "Single channels of late layers stand for objects.",
        "not shown: a channel's strongest images agree on a class hardly more often than in a random network",
    ),
    Claim("hierarchy", "Features become more useful with depth.", "holds when: the target resembles the source"),
    Claim(
        "far-task",
        "A good score of a linear probe shows that features have transferred.",
        "does not hold: on handwritten digits random features do nearly as well",
    ),
    Claim("fine-tuning-late", "Fine-tuning changes late layers more than early ones.", "holds"),
    Claim(
        "less-data",
        "Transfer learning needs less data.",
        "holds when: the target resembles the source",
        _transfer("everything", "scratch", "safari", 40),
    ),
    Claim(
        "less-data-xray",
        "Frozen features beat training from scratch where images are few.",
        "does not hold: on X-rays with 50 of each class scratch is ahead",
        _transfer("frozen", "scratch", "chest_xray", 50),
    ),
    Claim("less-time", "Transfer learning needs less time.", "holds when: somebody else has paid for the pre-training"),
    Claim(
        "generalisation",
        "A pre-trained network generalises better.",
        "holds",
        Gain("curves", "pre-trained", "scratch", by="start"),
    ),
    Claim(
        "same-fit",
        "With the same training accuracy it does better on new images.",
        "holds when: training accuracy is high; where it is lower the seeds do not agree",
    ),
    # 12.2.1
    Claim(
        "requires-grad-freezes", "`requires_grad=False` freezes a layer.", "does not hold: BatchNorm's statistics move"
    ),
    Claim(
        "optimizer-memory",
        "The optimizer must get the head's parameters only, or it wastes memory on frozen ones.",
        "does not hold: state is made when a gradient first arrives, and frozen parameters get none",
    ),
    Claim(
        "optimizer-trains-frozen",
        "An optimizer with all parameters would train the frozen ones.",
        "holds when: they were trained before and their gradients are kept or set to zero",
    ),
    Claim(
        "features-once", "Computing features once saves time.", "holds when: there are several epochs, no augmentation"
    ),
    Claim(
        "batchnorm-held",
        "Frozen BatchNorm gives the better head.",
        "holds when: batches are small; with 32 images in a batch nothing is shown",
        Gain("batchnorm", "held", "drifting", {"batch_size": 4}),
    ),
    # 12.2.2
    Claim(
        "momentum-steplr",
        "SGD with momentum and StepLR is the recipe for fine-tuning.",
        "not shown: to be better than AdamW; without momentum, at the same learning rate, it is worse",
        Gain("recipes", "SGD with momentum, StepLR", "AdamW, constant"),
    ),
    Claim("small-rate", "The backbone needs a small learning rate.", "holds when: it is not too small"),
    Claim(
        "forgetting",
        "A small learning rate keeps the old task.",
        "does not hold: BatchNorm's statistics forget at any rate; with the old ones put back, it is kept",
    ),
    Claim(
        "gradual",
        "Gradual unfreezing beats training everything at once.",
        "not shown: at an equal number of epochs",
        Gain("stages", "gradual unfreezing", "everything at once"),
    ),
    Claim(
        "discriminative",
        "Smaller learning rates towards the input are better than one for the backbone.",
        "does not hold: with each block's learning rate divided by 2.6",
        Gain("stages", "discriminative rates", "everything at once"),
    ),
    Claim(
        "regularisation",
        "Augmentation, weight decay, dropout and label smoothing help when images are few.",
        "not shown: with five seeds no significant difference of any of them, or all four, from nothing",
        Gain("regularisation", "all four", "nothing"),
    ),
    Claim("more-data-deeper", "The more images, the more layers should train.", "holds when: taken over all data sets"),
    Claim(
        "few-images-head-only",
        "With few images only the head should train.",
        "not shown: training everything was not shown to be worse",
    ),
    Claim(
        "domain-distance",
        "The farther the domain, the more layers should train.",
        "does not hold: X-rays gain most, but two sets of photographs lie on both sides of the drawings",
    ),
    # 12.3
    Claim("fewer-parameters-faster", "A network with fewer parameters is faster.", "does not hold"),
    Claim("fewer-macs-faster", "Time shrinks as multiplications do.", "does not hold"),
    Claim("bigger-source", "Bigger networks are more accurate.", "holds when: they are of one family"),
    Claim("architecture-decides", "The architecture decides the accuracy.", "does not hold: recipes matter as much"),
    Claim("bigger-transfers", "A bigger network transfers better.", "not shown: ResNet34 against ResNet18, at 64 px"),
    Claim(
        "source-accuracy",
        "The network that is better on ImageNet is the better one to transfer from.",
        "holds when: it gets images of about the size that it was trained on",
    ),
    Claim(
        "preprocessing",
        "With wrong preprocessing the answers are useless.",
        "holds when: it is gross; swapped colours and missing normalisation do little harm to this network",
    ),
    # 12.4
    Claim("baseline", "Frozen features beat a linear model on thumbnails.", "holds"),
    Claim(
        "fine-tuning-pays",
        "Fine-tuning the last blocks beats frozen features.",
        "not shown: with 40 images of each class and so short a training",
        _transfer("last two blocks", "frozen", "safari", 40),
    ),
    Claim("class-ranking", "Recall by class shows which are easy.", "does not hold: with few images intervals overlap"),
    Claim("class-weights", "Class weights make up for a rare class.", "does not hold: they replace no missing images"),
    Claim("leakage", "Copies of training images in the test set inflate the score.", "holds"),
    Claim("grad-cam", "Grad-CAM shows whether an answer can be trusted.", "does not hold"),
    Claim("test-time-augmentation", "Averaging over several views improves the answers.", "not shown"),
    Claim(
        "transfer-helps-medical",
        "Pre-training on photographs helps with medical images.",
        "holds when: the backbone is fine-tuned; with a single network the gain is within its spread",
    ),
    Claim(
        "frozen-suffices-medical",
        "Frozen features suffice for medical images.",
        "holds when: the network saw enough photographs: EfficientNet-Lite0 did, the ResNets of this course did not",
    ),
    Claim("accuracy-misleads", "Accuracy is misleading where a class is rare.", "holds"),
    Claim(
        "split-by-image", "Splitting by image inflates the score.", "holds when: patients are few and have many images"
    ),
    Claim(
        "detection",
        "A pre-trained backbone helps detection too.",
        "not shown: after a short training scratch is ahead, after a longer one the seeds do not agree",
    ),
    Claim("same-recipe", "The same recipe works for language.", "holds"),
    Claim("fine-tuning-beats-frozen", "A fine-tuned encoder beats frozen sentence embeddings.", "holds"),
    Claim("rare-class", "Accuracy hides that a rare class is never found.", "holds"),
)
