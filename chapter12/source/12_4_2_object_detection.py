# %% [markdown]
# # 12.4.2 Object detection
#
# A city wants to count the vehicles that its cameras see: on roads, on rails, on the water and in the air. A classifier has
# one answer for the whole image. A **detector** answers with a list: a box, a class and a confidence for each object. Its
# largest component is the backbone of a classifier, which can be pre-trained.
#
# **What you will learn**
#
# * which components of a detector arrive trained, and how to replace its head,
# * how to train a detector, and how to look at what it finds,
# * how it is scored: IoU, matching, precision, recall, mean average precision,
# * three mistakes with boxes and labels.
#
# **Time:** twenty minutes to read; one or two minutes of computing on 2 CPU cores in the quick profile.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import pandas as pd
import torch
from torch import nn
from torchvision import ops
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.transforms import v2

import tlcourse as tc
import tlhelpers as tl

# %% tags=["nbval-ignore-output"]
profile = tl.use_profile(precision="fp32")  # in bf16 boxes would be too coarse
QUICK = profile.name == "quick"
SIZE = 96 if QUICK else 320  # pixels
STEPS = 160 if QUICK else 600  # batches
SEED = profile.seed  # 0; the environment variable TL_SEED sets another
print(profile)

# %% [markdown]
# **The images**, in both profiles, are emoji of vehicles on made-up backgrounds: four styles for training, a fifth for the
# test. Results on drawings say nothing about photographs.
# <!-- given: tlcourse/detection/vehicles.py -->
#
# ## 1 Images with boxes

# %%
data = tc.load_vehicles(size=SIZE, seed=SEED)
print("classes:", dict(enumerate(data.classes)))
print("images: ", len(data.train), "for training,", len(data.test), "for testing")

# %% tags=["nbval-ignore-output"]
examples = [data.train[i] for i in range(6)]
tc.plots.boxes(
    [image for image, _ in examples],
    [target for _, target in examples],
    classes=data.classes,
    title="Training images with their true boxes",
)

# %% [markdown]
# The small things on the background are no vehicles and have no box. Most places of an image show no object. They get class
# 0, the **background**, so the classes of objects begin at 1. Each image comes with a **target**:

# %%
image, target = data.train[0]
for name, value in target.items():
    print(f"{name}: {type(value).__name__} {tuple(value.shape)} {value.dtype}")
print("format:", target["boxes"].format.name)

# %% [markdown]
# `XYXY` means the left, top, right and bottom edge in pixels. Other files hold x, y, width and height (`XYWH`). The numbers
# do not say which.
#
# ## 2 What is inside a detector
#
# **Faster R-CNN** (Ren et al. 2015) works in two stages: it proposes places, then it classifies them.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
from itertools import pairwise

from tlcourse.plots import Box

PLACES = {
    "backbone": ("backbone:\nResNet", 1.6, 0),
    "pyramid": ("feature\npyramid", 3.2, 0),
    "proposals": ("region\nproposals", 4.8, 0.75),
    "head": ("box\nhead", 6.4, 0),
    "predictor": ("box\npredictor", 8.0, 0),
}
trained = {
    "with ImageNet's weights (quick profile)": {"backbone"},
    "with COCO's weights (full profile)": {"backbone", "pyramid", "proposals", "head"},
}
boxes, arrows = {}, []
for row, (text, blue) in enumerate(trained.items()):
    y = -2.1 * row
    boxes[f"name {row}"] = Box(text, 1.4, y + 0.8, "none", 4.2)
    boxes[f"image {row}"] = Box("image", 0, y, "none", 0.8)
    for name, (label, x, higher) in PLACES.items():
        colour = "#BFD7EA" if name in blue else "#F2D0A9"
        boxes[f"{name} {row}"] = Box(label, x, y + higher, colour, 1.15, 0.8)
    boxes[f"answer {row}"] = Box("boxes, labels,\nconfidences", 9.8, y, "none", 1.7)
    chain = ["image", "backbone", "pyramid", "proposals", "head", "predictor", "answer"]
    pairs = [*pairwise(chain), ("pyramid", "head")]
    arrows += [(f"{first} {row}", f"{second} {row}") for first, second in pairs]
tc.plots.flow(
    {"Blue arrives trained; orange starts from random weights": (boxes, arrows)},
    title="The components of Faster R-CNN",
    height=3.2,
)

# %% [markdown]
# * The **backbone** turns the image into feature maps. The **feature pyramid** makes fine maps for small objects and coarse
#   ones for large objects.
# * The **region proposal network** starts from [*anchors*](glossary.ipynb#Anchor), boxes of fixed sizes at every position. Is
#   there an object, and where are its edges?
# * For each proposal the **box head** turns a piece of the maps into features. The **box predictor** names the class and
#   corrects the box.
#
# ### Replace the predictor
#
# Torchvision's Faster R-CNN comes trained on **COCO**, photographs with boxes around objects of 80 classes. Our four kinds
# are not among them. Only the last component names classes, so only that is replaced:
# <!-- given: COCO's number of classes, Lin et al. 2014 -->

# %%
detector = detection.fasterrcnn_resnet50_fpn(
    weights=None if QUICK else "DEFAULT",  # "DEFAULT" downloads COCO's weights
    weights_backbone=None,
    min_size=SIZE,  # it resizes every image, to 800 pixels by default
)
old = detector.roi_heads.box_predictor
new = FastRCNNPredictor(old.cls_score.in_features, num_classes=len(data.classes))
detector.roi_heads.box_predictor = new
for name, predictor in (("before", old), ("after", new)):
    outputs = predictor.cls_score.out_features, predictor.bbox_pred.out_features
    print(f"{name}: {outputs[0]} classes, {outputs[1]} box corrections")

# %% [markdown]
# `num_classes` counts the background, and each class corrects the box by four numbers. (The 91 include numbers that COCO
# never used.)
# <!-- given: torchvision's documentation -->
#
# COCO's weights would be a download, so the quick profile trains `tc.small_detector`: the same components, but narrower, on
# the course's ResNet18. Only that backbone arrives trained, on a small excerpt of ImageNet.

# %% tags=["nbval-ignore-output"]
model = detector
if QUICK:
    model = tc.small_detector(len(data.classes), size=SIZE, seed=SEED)
total = sum(p.numel() for p in model.parameters())
share = sum(p.numel() for p in model.backbone.body.parameters()) / total
print(f"{total / 1e6:.1f} million parameters; {share:.0%} of them are in the backbone")

# %% [markdown]
# ## 3 Train it
#
# In training mode a detector takes images *and* targets, and returns its losses by name. One step:

# %% tags=["nbval-ignore-output"]
images, targets = tc.collate_boxes([data.train[i] for i in range(8)])
images = [image.to(profile.device) / 255 for image in images]
targets = [{name: v.to(profile.device) for name, v in t.items()} for t in targets]

torch.manual_seed(SEED)
losses = model.to(profile.device).train()(images, targets)
sum(losses.values()).backward()  # then optimizer.step(), as always
model.zero_grad()
print({name: round(float(loss.detach()), 2) for name, loss in losses.items()})

# %% [markdown]
# *objectness* and *rpn_box_reg* come from the proposal network: is there an object, and where? *classifier* and *box_reg*
# come from the box predictor: which class, and where exactly? `tc.train_detector` repeats this step:

# %% tags=["nbval-ignore-output"]
lr, backbone_lr = (1e-3, 3e-4) if QUICK else (3e-4, 1e-4)
history = tc.train_detector(
    model, data.train, steps=STEPS, lr=lr, backbone_lr=backbone_lr, seed=SEED
)
tc.plots.losses(history, title="Training the detector")

# %% [markdown]
# *box reg* rises at first: only proposals on an object count in it, and at the start there are few.
#
# Now the test images, whose style the detector has never seen. Section 4 defines the score, **mAP 50**; it is at most 1.
# <!-- given: the definition -->

# %% tags=["nbval-ignore-output"]
found, truths = tc.detect(model, data.test)
scores = tc.mean_average_precision(found, truths)
print(f"mAP 50 on {len(data.test)} test images: {scores['map_50']:.2f} (perfect: 1)")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.boxes(
    [data.test[i][0] for i in range(6)],
    truths[:6],
    found[:6],
    classes=data.classes,
    title="Test images: the truth, and what was found",
)

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "The loss has fallen by more than a fifth, and mAP 50 is above 0.3.",
    history["loss"].tail(20).mean() < 0.8 * history["loss"].head(20).mean(),
    scores["map_50"] > 0.3,
)

# %% [markdown]
# Compare the solid boxes with the broken ones. What is missed, found where there is nothing, named wrongly, or inexact?
#
# ## 4 When is a box right?
#
# The usual measure is [**intersection over union**](glossary.ipynb#IoU) (IoU): the area that two boxes share, divided by the
# area that they cover together. It is 1 for equal boxes.


# %%
def iou(first, second):
    """Intersection over union of two boxes: left, top, right, bottom."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)  # boxes that do not touch share nothing
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


first_box, second_box = (20, 20, 80, 60), (40, 30, 100, 70)
print(f"IoU = {iou(first_box, second_box):.2f}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
same = ops.box_iou(torch.tensor([first_box]), torch.tensor([second_box])).item()
assert abs(iou(first_box, second_box) - same) < 1e-6
tc.plots.overlap(first_box, second_box, title="Two boxes and what they share")

# %% [markdown]
# Each box shares half of its area with the other, and yet the IoU is only 0.33.
# <!-- given: printed by the cell above -->
#
# ### Several boxes for one object
#
# Neighbouring positions find the same object several times. [**Non-maximum
# suppression**](glossary.ipynb#Non-maximum-suppression) (NMS) keeps the most confident box, drops every box whose IoU with it
# is above a threshold, and goes on with the rest. Torchvision's detectors do this inside. Below, the first two boxes show one
# object:

# %%
candidates = torch.tensor([[20.0, 20, 80, 60], [22, 18, 82, 60], [90, 40, 120, 90]])
confidences = torch.tensor([0.80, 0.95, 0.70])
keep = ops.nms(candidates, confidences, iou_threshold=0.5)
print(
    "confidences of the boxes that stay:", [round(c, 2) for c in confidences[keep].tolist()]
)

# %% [markdown]
# The price: of two *different* objects that overlap as much, one is lost.
#
# ### Matching
#
# To score a detector, its boxes are **matched** with the true ones. COCO's rule: go through the found boxes, the most
# confident first. Each takes, of the true boxes of its class that are still free, the one with the highest IoU, if that
# reaches a threshold such as 0.5. A found box that gets none is a **false alarm**; a true box that nobody takes is
# **missed**. An example:
# <!-- given: COCO's rule -->

# %%
true_boxes = torch.tensor([[20.0, 24, 64, 60], [84, 60, 120, 92]])
found_boxes = torch.tensor([[14.0, 28, 58, 66], [28, 20, 72, 56], [72, 68, 108, 100]])
sure = torch.tensor([0.9, 0.8, 0.6])
pd.DataFrame(
    ops.box_iou(found_boxes, true_boxes).numpy(),
    index=[f"found, {s:.0%} sure" for s in sure],
    columns=["left car", "right car"],
).round(2)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
paper = torch.full((3, 112, 136), 235, dtype=torch.uint8)
tc.plots.boxes(
    [paper, paper],
    [{"boxes": true_boxes, "labels": [1, 1]}, {"boxes": true_boxes, "labels": [2, 3]}],
    [
        {"boxes": found_boxes, "labels": [1, 1, 1], "scores": sure},
        {"boxes": found_boxes, "labels": [4, 5, 5], "scores": sure},
    ],
    classes=["background", "car", "taken", "missed", "match", "false alarm"],
    titles=["what was found", "after matching"],
    title="Two true boxes and three found ones",
    columns=2,
)

# %% [markdown]
# The surest box takes the left car (IoU 0.6). The second overlaps that car by 0.57, but the car is already taken: false
# alarm. The third reaches only 0.33: false alarm, and the right car is missed.
# <!-- given: printed by the cell above -->
#
# * [**Precision**](glossary.ipynb#Precision) is the fraction of the found boxes that were matched: here 1 of 3.
# * **Recall** is the fraction of the true boxes that were matched: here 1 of 2.
#
# ### Which boxes should count?
#
# To count vehicles, you choose the confidence from which on a box counts. On the test images:
# <!-- given: printed by the cells above and below -->


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def matched(answer, truth, least):
    """How many boxes were found, are true, and match (IoU 0.5 or more, same class)."""
    counts = answer["scores"] >= least  # already in falling order
    overlaps = ops.box_iou(answer["boxes"][counts], truth["boxes"])
    overlaps[answer["labels"][counts][:, None] != truth["labels"][None]] = 0
    hits = 0
    for row in overlaps:
        if len(row) and row.max() >= 0.5:
            hits += 1
            overlaps[:, row.argmax()] = 0  # a true box is matched once
    return int(counts.sum()), len(truth["labels"]), hits


def totals(least):
    """Numbers of boxes found, of true boxes, and of matches over the test set."""
    pairs = zip(found, truths, strict=True)
    return torch.tensor([matched(a, t, least) for a, t in pairs]).sum(dim=0).tolist()


rows = []
for least in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
    boxes_found, objects, hits = totals(least)
    for measure, value in (
        ("precision", hits / max(boxes_found, 1)),
        ("recall", hits / objects),
    ):
        rows.append({"least": least, "measure": measure, "value": value})
trade = pd.DataFrame(rows)
tc.plots.lines(
    trade,
    "least",
    "value",
    "measure",
    title="Precision and recall on the test set",
    xlabel="confidence from which on a box counts",
    ylabel="fraction",
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
wide = trade.pivot(index="least", columns="measure", values="value")
for least in (0.1, 0.5):
    counted, objects, _ = totals(least)
    print(
        f"from {least:.0%} on: {counted} vehicles counted, {objects} are there; "
        f"precision {wide.loc[least, 'precision']:.0%}, recall {wide.loc[least, 'recall']:.0%}"
    )
scenes = data.test.load.__self__.scenes
shown = {drawing for drawings, _ in scenes for drawing in drawings}
print(f"(These {objects} are {len(shown)} different drawings, most of them several times.)")

# %% jupyter={"source_hidden": true}
assert wide["recall"].is_monotonic_decreasing
tc.report_finding(
    "A higher threshold finds fewer objects, and more of what it finds is right.",
    wide.loc[0.5, "precision"] > wide.loc[0.1, "precision"],
)

# %% [markdown]
# From 10 % on, the count is far too high. A right count need not mean right boxes: false alarms and missed vehicles can
# cancel. The best threshold depends on what each of them costs.
#
# A score for comparing detectors should not depend on that choice. [**Average precision**](glossary.ipynb#Average-precision)
# of a class is the area under the curve of precision against recall, over all confidences; **mean average precision** (mAP)
# is its mean over classes. *mAP 50* matches at an IoU of at least 0.5. COCO's *mAP* averages over IoU thresholds from 0.5 to
# 0.95, which rewards exact boxes.
# <!-- given: COCO's definition of mAP -->

# %% tags=["nbval-ignore-output"]
print(f"mAP 50: {scores['map_50']:.2f}, mAP: {scores['map']:.2f}")

# %% jupyter={"source_hidden": true}
assert scores["map"] < scores["map_50"]
print("mAP is lower than mAP 50: many boxes are in the right place, but few are exact.")

# %% [markdown]
# > **Careful.** This is one run with one seed, on few drawings: it shows that the method works. In a project, choose the
# > threshold on validation images.
#
# ### BatchNorm in a detector
#
# A batch of large images holds only a few, so its statistics are noisy. Torchvision's pre-trained backbones therefore have
# `FrozenBatchNorm2d`, which `train()` cannot move (see [12.2.1](12_2_1_feature_extraction.ipynb)):

# %%
for layer in (nn.BatchNorm2d(4), ops.FrozenBatchNorm2d(4)):
    before = tl.snapshot(layer)
    layer.train()(torch.full((2, 4, 8, 8), 3.0))
    print(f"{type(layer).__name__} moved {tl.changed(layer, before)}")

# %% jupyter={"source_hidden": true}
kinds = {
    type(m).__name__ for m in model.backbone.modules() if "BatchNorm" in type(m).__name__
}
assert kinds == {"FrozenBatchNorm2d"}

# %% [markdown]
# ## 5 Three mistakes with boxes and labels
#
# ### The image moves, its boxes do not
#
# Transforms v2 move boxes with the image, but only if they *get* both:

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

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pairs = [(t["boxes"], flip(image, t)[1]["boxes"]) for image, t in data.train]
overlaps = torch.cat([ops.box_iou(was, now).diagonal() for was, now in pairs])
wrong = float((overlaps < 0.5).float().mean())
tc.report_finding(
    f"Boxes of the training set whose IoU with the right one is below 0.5: {wrong:.0%}",
    wrong > 0.5,
)

# %% [markdown]
# The mistake comes from classifiers, whose `transform=` sees the image alone. Boxes in a plain tensor are not moved either:

# %%
plain = {"boxes": target["boxes"].as_subclass(torch.Tensor), "labels": target["labels"]}
_, after = flip(image, plain)
print("boxes in a plain tensor moved:", not torch.equal(after["boxes"], plain["boxes"]))

# %% [markdown]
# ### Labels from 0
#
# To a detector, label 0 says: this object is background. It learns *not* to find the first class. Does the loss give it away?

# %% tags=["nbval-ignore-output"]
trial = tc.small_detector(len(data.classes), size=SIZE, seed=SEED)
images = [image / 255 for image, _ in examples]
for name, shift in (("labels from 1", 0), ("labels from 0", 1)):
    labelled = [{**target, "labels": target["labels"] - shift} for _, target in examples]
    torch.manual_seed(SEED)
    loss = sum(trial(images, labelled).values()).detach()
    print(f"{name}: loss {loss:.2f}")

# %% jupyter={"source_hidden": true}
assert 0 in torch.cat([target["labels"] for target in labelled])

# %% [markdown]
# It does not: the losses are nearly equal, and no error is raised.
#
# ### Boxes as x, y, width, height
#
# A file holds x, y, width and height, and nobody converts them. Torchvision refuses such a box only if its edges come out in
# the wrong order:

# %% tags=["nbval-ignore-output"]
true = torch.cat([t["boxes"].as_subclass(torch.Tensor) for _, t in data.train])
misread = ops.box_convert(true, "xyxy", "xywh")  # and then taken for XYXY
refused = (misread[:, 2:] <= misread[:, :2]).any(dim=1)
silent = ops.box_iou(misread[~refused], true[~refused]).diagonal()
print(f"{refused.float().mean():.0%} of the boxes are refused")
print(f"the others are accepted; their mean IoU with the true box is {silent.mean():.2f}")

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "Many boxes are accepted and wrong.",
    0.05 < (~refused).float().mean() < 0.8,
    silent.mean() < 0.6,
)

# %% [markdown]
# Drop the refused boxes, and the others are still wrong. **The repair:** `ops.box_convert(boxes, "xywh", "xyxy")`. Against
# all three mistakes: draw some images with their boxes, as they leave the transforms, before you train.
#
# ## 6 Another detector, and a question
#
# **SSDlite** works in one stage: at every position of six feature maps it names class and box at once. Its class layers, one
# for each map, are replaced together:

# %%
from torchvision.models.detection.ssdlite import SSDLiteClassificationHead

light = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
classifier = light.head.classification_head
channels = [block[0][0].in_channels for block in classifier.module_list]
anchors = light.anchor_generator.num_anchors_per_location()
light.head.classification_head = SSDLiteClassificationHead(
    channels, anchors, len(data.classes), norm_layer=nn.BatchNorm2d
)
print("channels of the maps:", channels)
print("anchors at a position:", anchors)

# %% jupyter={"source_hidden": true}
with torch.inference_mode():
    for each in (detector, light):
        answer = each.cpu().eval()([torch.rand(3, 160, 160)])[0]
        assert set(answer) == {"boxes", "labels", "scores"}
        assert answer["labels"].numel() == 0 or answer["labels"].max() < len(data.classes)

# %% [markdown]
# **Does a pre-trained backbone help detection, too?** A fair test trains a detector from scratch until it stops improving.
# That takes too long for this page, so it is not measured here. He, Girshick and Dollár (2018, *Rethinking ImageNet
# pre-training*) did it on COCO. From scratch, detectors caught up when they trained long enough, even with a tenth of the
# images: pre-training mainly saved time. With a thousand images they did not catch up.
# <!-- given: He, Girshick and Dollár 2018, arXiv:1811.08883 -->
#
# ## Check yourself
#
# **1.** In the matching figure, let the IoU threshold be 0.3 instead of 0.5. What are precision and recall now?
#
# <details><summary>Answer</summary>
#
# The third box now takes the right car (0.33). The second remains a false alarm. Precision is 2 of 3, recall 2 of 2.
# </details>
#
# **2.** Somebody will delete the wrong boxes by hand. Which end of the figure of precision and recall is better?
#
# <details><summary>Answer</summary>
#
# The left, where recall is highest. A false alarm costs a click; a missed vehicle stays missed.
# </details>
#
# <!-- given: the rule of matching applied to the figure -->
#
# ## Summary
#
# * **Most of a detector's parameters** are a backbone that arrives trained.
# * **For new classes replace the predictor**, and count the background.
# * **IoU compares boxes, matching counts hits**, and mAP scores a detector over all confidences.
# * **Boxes move with the image**, and labels begin at 1. No error reminds you.
#
# **What to try next**
#
# * `STEPS = 40`: expect a far lower mAP 50, and hardly a found box in the figure.
# * `tc.load_vehicles(size=SIZE, seed=SEED, most=6)`: more vehicles, which overlap. Expect a lower recall.
# * `tc.small_detector(..., start="scratch")`: expect a lower mAP 50. Why is that no fair comparison?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
