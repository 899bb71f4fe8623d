# %% [markdown]
# # 12.4.2 Object detection
#
# A classifier says *what* is on an image. A detector also says *where*, for every object, and so it must say how many
# there are. Its largest part is a classifier's backbone, and that is what can be pre-trained.
#
# **What you will learn**
#
# * what detection adds to classification: boxes, their overlap (IoU), matching, non-maximum suppression, confidence,
# * how to prepare boxes for torchvision's detectors, and what goes wrong if they do not move with the image,
# * where in a detector the pre-trained backbone sits, and how to replace the heads of Faster R-CNN and SSDlite,
# * how to train a detector and how to score it with mean average precision,
# * whether a pre-trained backbone helps detection too: measured over several seeds.
#
# **Time:** under a minute on 2 CPU cores in the quick profile; the last cell prints what it took here.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import pandas as pd
import torch
from torch import nn
from torchvision import ops
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.ssdlite import SSDLiteClassificationHead
from torchvision.transforms import v2

import tlcourse as tc
import tlhelpers as tl

# in bf16 boxes would be too coarse
profile = tl.use_profile(precision="fp32")
QUICK = profile.name == "quick"
SIZE = 96 if QUICK else 320  # pixels
STEPS = 160 if QUICK else 600  # batches
SEED = profile.seed  # 0; the environment variable TL_SEED sets another
print(profile)

# %% [markdown]
# **What the quick profile puts in place of the real thing.** The full profile takes torchvision's Faster R-CNN with
# weights from *COCO*, a collection of photographs with boxes around objects of 80 kinds, and fine-tunes it. Those
# weights would have to be downloaded. The quick profile builds a small Faster R-CNN from torchvision's own parts on our
# ResNet18, whose backbone we trained on a small excerpt of ImageNet.
#
# In both profiles the images are emoji of vehicles on made-up backgrounds, the test set in a style of its own. They are not photographs, and
# results on them say nothing about photographs. They have one advantage: since we paste the drawings, we know every box
# to the pixel.
# <!-- given: COCO's number of classes, Lin et al. 2014 -->
#
# ## 1 The data: images with boxes

# %% tags=["nbval-ignore-output"]
data = tc.load_vehicles(size=SIZE, seed=SEED)
print(data.card)

# %%
print("classes:", dict(enumerate(data.classes)))
print("images:", len(data.train), "for training,", len(data.test), "for testing")

# %% [markdown]
# Class 0 is the **background**: a detector looks at many places, and most of them show no object. So the classes of the
# objects begin at 1. An image comes with its **target**, a dictionary:

# %%
image, target = data.train[0]
print("image: ", type(image).__name__, image.dtype, tuple(image.shape))
for name, part in target.items():
    print(f"{name}:", type(part).__name__, part.dtype, tuple(part.shape))
print("format:", target["boxes"].format.name)

# %% [markdown]
# The format is `XYXY`: left, top, right and bottom edge in pixels, counted from the upper left corner. Other programs
# and files use x, y, width and height (`XYWH`: COCO's files) or the centre, width and height (`CXCYWH`: YOLO's).
# Nothing in the four numbers says which it is.

# %% tags=["nbval-ignore-output"]
some = [data.train[i] for i in range(8)]
tc.plots.boxes(
    [image for image, _ in some],
    [target for _, target in some],
    classes=data.classes,
    title="Training images with their boxes",
)

# %% [markdown]
# The small things strewn over the background (a clock, a die, a guitar) are no vehicles and have no box. The drawings
# of the test set never occur in training: the detector meets a trolleybus for the first time there.
#
# ## 2 How boxes are compared
#
# ### Intersection over union
#
# When is a box right? It will hardly ever be right to the pixel. The usual measure is the **intersection over union**,
# *IoU*: the area that two boxes share, divided by the area that they cover together. It is 1 if the boxes are the same
# and 0 if they do not touch.


# %%
def iou(first, second):
    """Intersection over union of two boxes: left, top, right, bottom."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)  # boxes that do not touch share nothing

    def area(box):
        return (box[2] - box[0]) * (box[3] - box[1])

    return shared / (area(first) + area(second) - shared)


true_box, found_box = (20, 20, 80, 60), (40, 30, 100, 70)
print(f"IoU = {iou(true_box, found_box):.3f}")

# %%
tc.plots.overlap(true_box, found_box, title="Two boxes and what they share")

# %% [markdown]
# Look at the figure: the boxes seem to agree rather well, and yet they share only a third of what they cover. IoU is
# strict. Torchvision's `box_iou` computes it for all pairs of two lists of boxes. Both must agree, on boxes drawn at
# random too:

# %%
generator = torch.Generator().manual_seed(SEED)
corners = torch.rand(2, 50, 2, generator=generator) * 80
sides = torch.rand(2, 50, 2, generator=generator) * 40 + 1
many, others = torch.cat([corners, corners + sides], dim=2)
by_hand = torch.tensor([[iou(a, b) for b in others.tolist()] for a in many.tolist()])
assert torch.allclose(by_hand, ops.box_iou(many, others), atol=1e-5)
assert abs(iou(true_box, found_box) - 1 / 3) < 1e-9
print("By hand and by torchvision: the same for", by_hand.numel(), "pairs of boxes.")

# %% [markdown]
# ### Non-maximum suppression
#
# A detector examines overlapping places, and so it finds the same object several times. **Non-maximum suppression**
# (NMS) keeps the box with the highest **confidence** (its score), drops every box that overlaps it by more than a
# threshold, and goes on with the best of those that are left.


# %%
def suppress(boxes, scores, threshold):
    """Numbers of the boxes that stay, the most confident first."""
    waiting = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [i for i in waiting if iou(boxes[best], boxes[i]) <= threshold]
    return kept


candidates = [(20, 20, 80, 60), (22, 18, 82, 60), (24, 24, 84, 66), (90, 40, 120, 90)]
confidences = [0.80, 0.95, 0.60, 0.70]
kept = suppress(candidates, confidences, threshold=0.5)
print("boxes that stay:", kept)
library = ops.nms(
    torch.tensor(candidates, dtype=torch.float32), torch.tensor(confidences), 0.5
)
assert library.tolist() == kept

# %% [markdown]
# Of the first three, which show one object, the most confident stays. The price: of two objects that really
# overlap by more than the threshold, one is lost. Torchvision's detectors do this for each class by itself, inside the
# model.
#
# ### Matching, precision and recall
#
# To score a detector, its boxes are **matched** with the true ones, the most confident first: each box takes, of the true
# boxes of its class that are not matched yet, the one that it overlaps most, if their IoU reaches a threshold. This is
# COCO's rule. (The older PASCAL VOC looks at the overlap first: a box whose best true box is taken counts as a false
# alarm, even if a second true box would do.) Then
#
# * **precision** is the fraction of the found boxes that were matched,
# * **recall** is the fraction of the true boxes that were matched.
#
# If only confident boxes count, precision usually rises and recall falls. The **average precision** (AP) of a class is
# the area under the curve of precision against recall, over all confidences. The **mean average precision** (mAP) is
# the mean over classes. *mAP 50* asks for an IoU of at least 0.5. COCO's *mAP* is the mean over ten thresholds from 0.5
# to 0.95, so it also rewards exact boxes.
# <!-- given: COCO's definition of mAP -->
#
# We leave the counting to torchmetrics, which calls COCO's own code. First on answers that we know: take the true
# boxes as the detector's answer, and then shift them by a few pixels.

# %% tags=["nbval-ignore-output"]
truths = [target for _, target in data.test]


def shifted(pixels):
    """The truth as if a detector had found it, everything too far to the right."""
    move = torch.tensor([pixels, 0, pixels, 0])
    return [
        {
            "boxes": t["boxes"].as_subclass(torch.Tensor) + move,
            "labels": t["labels"],
            "scores": torch.ones(len(t["labels"])),
        }
        for t in truths
    ]


unit = SIZE // 32
scores = {n * unit: tc.mean_average_precision(shifted(n * unit), truths) for n in range(4)}
assert scores[0]["map"] == scores[0]["map_50"] == 1.0
known = pd.DataFrame(scores).T.rename_axis("shift in pixels")
known.round(2)

# %%
assert known["map"].is_monotonic_decreasing
assert (known["map"].iloc[1:] < known["map_50"].iloc[1:]).all()
print("Exact boxes score 1. The shift costs mAP more than mAP 50.")

# %% [markdown]
# ## 3 Where the pre-trained backbone sits
#
# **Faster R-CNN** works in two stages.
#
# 1. The **backbone**, a classifier without its last layer, turns the image into feature maps. A **feature pyramid**
#    (FPN) brings the maps of several blocks to the same number of channels: fine maps for small objects, coarse ones for
#    large objects.
# 2. The **region proposal network** (RPN) looks at every position of every map and at a few boxes of fixed sizes around
#    it, the *anchors*: is there an object, of whatever class, and how must the box be moved?
# 3. For each proposal a small piece is cut out of the feature maps (*RoI align*). The **box head** and the **box
#    predictor** name its class and correct its box once more.
#
# Only the backbone was pre-trained, for classification; all the rest is new. (In the full profile pyramid, proposals
# and box head come from COCO, and only the predictor is new.)

# %%
if QUICK:
    model = tc.small_detector(len(data.classes), size=SIZE, seed=SEED)
else:  # COCO's detector, with a new predictor: see the next step
    weights = detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT
    model = detection.fasterrcnn_resnet50_fpn(weights=weights, min_size=SIZE)
    model.roi_heads.box_predictor = FastRCNNPredictor(1024, len(data.classes))


def parts_table(model):
    """Parameters of each part of a Faster R-CNN, and how many of them train."""
    parts = {
        "backbone": model.backbone.body,
        "feature pyramid": model.backbone.fpn,
        "region proposals": model.rpn,
        "box head": model.roi_heads.box_head,
        "box predictor": model.roi_heads.box_predictor,
    }
    counts = {
        name: {
            "parameters": sum(p.numel() for p in part.parameters()),
            "trainable": sum(p.numel() for p in part.parameters() if p.requires_grad),
        }
        for name, part in parts.items()
    }
    return pd.DataFrame(counts).T.rename_axis("part")


table = parts_table(model)
table

# %%
share = table.loc["backbone", "parameters"] / table["parameters"].sum()
assert share > 0.5
print("More than half of all parameters are the backbone's, and arrive trained.")

# %% [markdown]
# Not all of the backbone trains: its first layers are frozen, as torchvision does it for a pre-trained backbone. What
# they detect, edges and colours, serves every task.
#
# ### FrozenBatchNorm2d
#
# BatchNorm's running statistics move in training mode, even where nothing is trainable
# ([12.5](12_5_practical_example.ipynb), mistake 7). Detectors are hit harder: their images are large, so a batch
# holds only a few, and statistics of a few images are mostly noise. So torchvision's detectors on a pre-trained
# ResNet replace BatchNorm by `FrozenBatchNorm2d`, in which weight, bias, mean and variance are constants (buffers, no
# parameters). There is nothing left that `train()` could set in motion.

# %%
plain, frozen = nn.BatchNorm2d(4), ops.FrozenBatchNorm2d(4)
for layer in (plain, frozen):
    before = tl.snapshot(layer)
    layer.train()
    layer(torch.full((2, 4, 8, 8), 3.0))
    trained = [name for name, _ in layer.named_parameters()]
    print(
        f"{type(layer).__name__}: parameters {trained}, moved {tl.changed(layer, before)}"
    )

# %%
kinds = {
    type(m).__name__ for m in model.backbone.modules() if "BatchNorm" in type(m).__name__
}
print("the detector's backbone has:", kinds)
assert kinds == {"FrozenBatchNorm2d"}

# %% [markdown]
# This fits only where good statistics came with the weights. A backbone that starts from random numbers needs real
# BatchNorm, and torchvision gives it that.
#
# ## 4 Replace the head
#
# Torchvision's detectors come trained on COCO. To teach one other classes, only the layer that names the classes has to
# be replaced; the box head, the proposals and the pyramid stay and have already learned what an *object* is. Here
# without weights, so that nothing is downloaded: `weights=None` for the detector *and* `weights_backbone=None` for its
# backbone, whose default is a download.

# %%
large = detection.fasterrcnn_resnet50_fpn(
    weights=None,
    weights_backbone=None,
    min_size=160,  # it enlarges images, to 800 pixels by default
)
old = large.roi_heads.box_predictor
print("before:", old.cls_score, "and", old.bbox_pred)
large.roi_heads.box_predictor = FastRCNNPredictor(
    old.cls_score.in_features,
    num_classes=len(data.classes),  # 4 kinds of vehicles and the background
)
new = large.roi_heads.box_predictor
print("after: ", new.cls_score, "and", new.bbox_pred)
assert new.bbox_pred.out_features == 4 * new.cls_score.out_features

# %% [markdown]
# The 91 outputs before are COCO's numbers: 80 classes, the background, and numbers that were given and never used. Four
# box corrections belong to each class, so `bbox_pred` has four times as many outputs.
# <!-- given: torchvision's documentation -->
#
# **SSDlite** works in one stage: at every position of six feature maps it names the class and the box at once. It is
# made for telephones. Its class layers, one for each map, are replaced together, and they need to know their input's
# channels and how many boxes there are at a position:

# %%
light = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
channels = [block[0][0].in_channels for block in light.head.classification_head.module_list]
anchors = light.anchor_generator.num_anchors_per_location()
light.head.classification_head = SSDLiteClassificationHead(
    channels, anchors, len(data.classes), norm_layer=nn.BatchNorm2d
)
print("channels of the maps:", channels)
print("boxes at a position: ", anchors)

# %%
with torch.inference_mode():
    for name, each in (("Faster R-CNN", large), ("SSDlite", light)):
        answer = each.eval()([torch.rand(3, 160, 160)])[0]
        print(name, "answers with", sorted(answer))
        assert answer["labels"].numel() == 0 or answer["labels"].max() < len(data.classes)
del large, light

# %% [markdown]
# In the full profile, start from `detection.ssdlite320_mobilenet_v3_large(weights="DEFAULT")` and replace the same
# layers.
#
# ## 5 Boxes must move with the image
#
# Flip an image and forget its boxes, and every box is wrong. Transforms v2 prevent that: they know `tv_tensors.Image`
# and `tv_tensors.BoundingBoxes`, and move both. They do it only if they *get* both:

# %% tags=["nbval-ignore-output"]
flip = v2.RandomHorizontalFlip(p=1.0)
image, target = data.train[6]
flipped, moved = flip(image, target)  # right: image and target together
stale = target  # wrong: flip(image) alone, the target as it was
tc.plots.boxes(
    [image, flipped, flipped],
    [target, moved, stale],
    classes=data.classes,
    titles=["as it was", "flipped together", "only the image flipped"],
    title="The same flip, done right and done wrong",
)

# %% [markdown]
# In the image on the right the boxes lie where the vehicles were. How bad is that over all training images? For each
# box, we take its IoU with the box that moved.

# %%
overlaps = []
for image, target in data.train:
    _, moved = flip(image, target)
    overlaps.append(ops.box_iou(target["boxes"], moved["boxes"]).diagonal())
    again = flip(*flip(image, target))[1]["boxes"]
    assert torch.equal(again, target["boxes"]), "twice flipped is as it was"
overlaps = torch.cat(overlaps)
wrong = (overlaps < 0.5).float().mean()
assert wrong > 0.5
print("Most boxes overlap what they should frame by less than 0.5.")

# %% [markdown]
# A classifier does not notice this mistake, since a flip leaves its label right. That is how it gets into the code:
# somebody takes over the transforms of a classifier, as `transform=`, which sees the image alone.
#
# Wrap boxes as `tv_tensors.BoundingBoxes`. In a plain tensor, transforms v2 cannot see boxes and leave them where they
# are:

# %%
image, target = data.train[0]
plain_target = {
    "boxes": target["boxes"].as_subclass(torch.Tensor),
    "labels": target["labels"],
}
_, left_alone = flip(image, plain_target)
assert torch.equal(left_alone["boxes"], plain_target["boxes"])
print("boxes in a plain tensor: not moved, and no error")

# %% [markdown]
# ### Labels from 0
#
# For `CrossEntropyLoss` classes begin at 0, so people number their objects from 0. To a detector that says: objects of
# the first class are background. Nothing complains. The detector learns *not* to find them, and could never name them,
# since torchvision's detectors do not return the background.

# %%
images = [image.float() / 255 for image, _ in some]
careless = [{**target, "labels": target["labels"] - 1} for _, target in some]
trial = tc.small_detector(len(data.classes), size=SIZE, seed=SEED)
losses = trial(images, careless)
print("labels from 0:", sorted({int(c) for t in careless for c in t["labels"]}))
print("every loss is a number:", all(bool(torch.isfinite(x)) for x in losses.values()))

# %% [markdown]
# ### Boxes as x, y, width, height
#
# Read as left, top, right and bottom, such a box is often still a box: the wrong one. Torchvision refuses only those
# whose right edge is not to the right of the left one, or whose bottom is not below the top.

# %%
true = torch.cat([t["boxes"].as_subclass(torch.Tensor) for _, t in data.train])
misread = ops.box_convert(true, "xyxy", "xywh")
refused = (misread[:, 2:] <= misread[:, :2]).any(dim=1)
silent = ops.box_iou(misread[~refused], true[~refused]).diagonal()
assert 0.2 < refused.float().mean() < 0.95
assert silent.mean() < 0.6
print("Some boxes are refused with an error. The others are accepted and wrong:")
print("on average they overlap the true box by less than 0.6.")

# %% [markdown]
# **Repair:** `ops.box_convert(boxes, "xywh", "xyxy")`, and look at some images with their boxes before you train. Our
# data set checks what it is given and names the image:

# %%
from tlcourse.detection.boxes import check_boxes

for boxes, labels in (([[60, 70, 30, 20]], [1]), ([[10, 20, 40, 50]], [0])):
    try:
        check_boxes(boxes, labels, (128, 128), len(data.classes), "image 7")
    except tl.DataError as error:
        print(error)

# %% [markdown]
# ## 6 Training
#
# In training mode a detector of torchvision takes images *and* targets, and returns its losses by name. It normalises
# and resizes by itself, so the images are floats between 0 and 1. They come as a list, since they may differ in size
# and in the number of boxes; a `DataLoader` needs a `collate_fn` that does not stack them. One step:

# %% tags=["nbval-ignore-output"]
images, targets = tc.collate_boxes([data.train[i] for i in range(4)])
model.to(profile.device).train()
torch.manual_seed(SEED)
losses = model(
    [image.to(profile.device) / 255 for image in images],
    [{name: part.to(profile.device) for name, part in t.items()} for t in targets],
)
sum(losses.values()).backward()
model.zero_grad()
pd.Series({name: float(loss.detach()) for name, loss in losses.items()}).round(3)

# %% [markdown]
# *objectness* and *rpn_box_reg* are the proposal network's: is there an object, and where? *classifier* and *box_reg*
# are the box predictor's: which class, and where exactly? The classifier's loss of a new predictor is near the
# logarithm of the number of classes, what guessing costs.
#
# `tc.train_detector` repeats the step, with AdamW, a random flip (of image and boxes), a smaller learning rate for the
# backbone, and gradients that are kept from exploding.

# %% tags=["nbval-ignore-output"]
rates = {"lr": 1e-3, "backbone_lr": 3e-4} if QUICK else {"lr": 3e-4, "backbone_lr": 1e-4}
history = tc.train_detector(model, data.train, steps=STEPS, seed=SEED, **rates)
tc.plots.losses(history, title="Training the detector")

# %%
tc.report_finding(
    "The loss has fallen by more than a fifth.",
    history["loss"].tail(20).mean() < 0.8 * history["loss"].head(20).mean(),
)

# %% [markdown]
# ## 7 The result

# %% tags=["nbval-ignore-output"]
found, truths = tc.detect(model, data.test)
result = tc.mean_average_precision(found, truths)
pd.Series(result).round(3)

# %%
nobody = tc.small_detector(len(data.classes), size=SIZE, seed=SEED)
untrained = tc.mean_average_precision(*tc.detect(nobody, data.test))
assert result["map"] < result["map_50"]
tc.report_finding(
    "mAP 50 is above 0.1; with an untrained head it is below.",
    result["map_50"] > 0.1 > untrained["map_50"],
)

# %% [markdown]
# This is one run with one seed. It shows that the detector has learned something; how much luck is in the number,
# section 8 shows.

# %% tags=["nbval-ignore-output"]
tc.plots.boxes(
    [data.test[i][0] for i in range(8)],
    truths[:8],
    found[:8],
    classes=data.classes,
    min_score=0.3,
    title="Test images: the truth, and what was found",
)

# %% [markdown]
# Compare the solid boxes with the broken ones. There are four kinds of mistakes: an object missed, something found
# where there is nothing, a box in the right place with the wrong class, and a class that is right with an inexact box.
#
# ### Confidence is a choice
#
# From which confidence on should a box count? It depends on what a missed object and a false alarm cost. We match by
# COCO's rule, at an IoU of at least 0.5, and count:


# %%
def matched(answer, truth, least):
    """How many boxes were found, are true, and match (IoU 0.5 or more, same class)."""
    sure = answer["scores"] >= least  # already in falling order
    overlaps = ops.box_iou(answer["boxes"][sure], truth["boxes"])
    overlaps[answer["labels"][sure][:, None] != truth["labels"][None]] = 0
    hits = 0
    for row in overlaps:
        if len(row) and row.max() >= 0.5:
            hits += 1
            overlaps[:, row.argmax()] = 0  # a true box is matched once
    return int(sure.sum()), len(truth["labels"]), hits


def trade(least):
    """Precision and recall over the test set."""
    counts = torch.tensor(
        [matched(a, t, least) for a, t in zip(found, truths, strict=True)]
    )
    boxes, objects, hits = counts.sum(dim=0).tolist()
    return {
        "boxes": boxes,
        "precision": hits / max(boxes, 1),
        "recall": hits / objects,
    }


# %% tags=["nbval-ignore-output"]
choices = pd.DataFrame({least: trade(least) for least in (0.1, 0.2, 0.3, 0.5)}).T
choices.rename_axis("least confidence").round(2)

# %%
assert choices["recall"].is_monotonic_decreasing
tc.report_finding(
    "A higher threshold finds fewer objects, and more of what it finds is right.",
    choices["precision"].iloc[2] > choices["precision"].iloc[0],
)

# %% [markdown]
# That was checked for 0.1 and 0.3. Look at the number of boxes before you read the last row: where only a few boxes are
# left, their precision is mostly chance.
#
# ## 8 Does a pre-trained backbone help detection too?
#
# So it is said. A fair test is expensive: from scratch a detector has to be trained until it stops improving, which takes
# far longer than this page has, and we did not make it. He, Girshick and Dollár (2018, *Rethinking ImageNet
# pre-training*) did, on COCO. Detectors from scratch caught up when they were trained long enough, even with a tenth of
# the images; pre-training mainly saved time. With a thousand images they did not catch up.
# <!-- given: He, Girshick and Dollár 2018, arXiv:1811.08883 -->
#
# To try it here: `start="scratch"` and `start="frozen"` in `tc.small_detector` make the two rivals. Give each its own
# learning rate, and enough steps.

# %% [markdown]
# ## Summary
#
# * **A detector answers with boxes, labels and confidences.** IoU compares boxes, NMS removes repetitions, mAP scores
#   the whole, over all confidences.
# * **Most of a detector is a backbone that arrives trained.** Pyramid, proposals and heads are new, unless the detector
#   itself was trained on COCO; then only the layer that names the classes is.
# * **Class 0 is the background**, boxes are left, top, right, bottom, and they move with the image: wrap them in
#   `tv_tensors.BoundingBoxes` and hand image and target to the transform together.
# * **BatchNorm of a pre-trained backbone is frozen** for good; a backbone from scratch needs its own.
#
# **What to try next**
#
# * Set `STEPS` to 300 and look at the test images again. Which mistakes are left?
# * Set `start="frozen"` in `tc.small_detector`. What does the backbone's adaptation bring?
# * `tc.load_vehicles(most=6)`: more vehicles, smaller and overlapping. What does NMS do to them?
# * Plant a mistake: labels from 0, or `augment=None`, and look at the score and at the images.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
