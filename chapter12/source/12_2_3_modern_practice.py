# %% [markdown]
# # 12.2.3 Modern practice
#
# You can train a head on frozen features, and you can fine-tune. Since about 2018 practitioners have added four habits: train
# the head first and the rest afterwards; average the weights before and after; train two small matrices beside each frozen
# layer; and ask a score which network to take. Each is a few lines. Which of them pay?
#
# **What you will learn**
#
# * how to train the head first and then everything (*linear probe, then fine-tune*),
# * how to average weights, and when that can help,
# * LoRA in twenty lines: fine-tuning with little more than one per cent of the parameters,
# * what three scores say about a network before it is trained,
# * what is different about transformers and about networks that learned without labels.
#
# **Time:** twenty minutes to read; one or two minutes of computing on 2 CPU cores in the quick profile.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import pandas as pd
import torch
from torch import nn

import tlcourse as tc
import tlhelpers as tl
from tlcourse.plots import Box

profile = tl.use_profile()
QUICK = profile.name == "quick"
SIZE = 64 if QUICK else None  # pixels; None is the size the weights were trained on
SEED = profile.seed
print(profile)

# %% [markdown]
# **The quick profile** takes *safari*, drawings on made-up backgrounds, and the ResNet18 that we trained on small
# photographs. A live run shows how a method works, once; the stored measurements compare methods, with five seeds, each at
# its best learning rate on validation images.
# <!-- given: the settings in tlcourse/measurements/data -->
#
# ## 1 Probe first, then fine-tune
#
# The head of a new task begins with random numbers. Train everything at once, and this random head sends large gradients into
# good features. The worry is that they do damage before the head has learned anything. So train the head alone first, and then
# everything:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.blocks(
    {"1. head only": ["head"], "2. everything": tc.plots.BLOCKS},
    title="Probe first: which blocks train in the two steps",
)

# %% tags=["nbval-ignore-output"]
data = tl.load_data(profile.data, **({"size": 72} if QUICK else {}))
model = tl.load_model("resnet18", classes=data.classes, size=SIZE, seed=SEED)

tl.freeze(model)  # 1: the head alone; its features are computed once
probe = tl.fit(model, data, epochs=20, lr=3e-3, augment=False, seed=SEED)
before = tl.snapshot(model)

tl.unfreeze(model)  # 2: everything, at a tenth of the learning rate
tuned = tl.fit(model, data, epochs=3, lr=3e-4, seed=SEED)
tuned.plot()


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def best(run):
    """The validation accuracy of the epoch whose weights were kept."""
    return run.history.loc[run.kept_epoch, "val_accuracy"]


print(
    f"Validation images right: {best(probe):.0%} with the head alone, {best(tuned):.0%} after "
    f"fine-tuning; guessing gives {1 / data.num_classes:.1%}."
)

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "Fine-tuning goes on from where the head alone ended.",
    best(tuned) > best(probe) - 0.02,
)

# %% [markdown]
# Is it better than training everything at once? Kumar et al. (2022) found so where the new images differ from those of the
# training set. We trained on drawings in one style (Fluent), and tested on things that were not among the training drawings, in
# the same style and in three others. The gains over *everything at once*, in points:
# <!-- given: the settings in tlcourse/measurements/data/shift.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
shift = tc.load_results("shift")
STYLES = ("fluent", "openmoji", "noto", "twemoji")
probed = {
    (network, style): shift.against(
        style, "everything", right=f"right_{style}", network=network
    )
    for network in ("resnet18", "efficientnet_lite0")
    for style in STYLES
}
pd.DataFrame({key: tc.in_points(table).iloc[:, 1] for key, table in probed.items()}).T[
    ["frozen", "probe first"]
]

# %% jupyter={"source_hidden": true} tags=["claim-probe-first"]
first = [table.loc["probe first"] for table in probed.values()]
print(
    f"Probe first against everything at once: {min(100 * row.gain for row in first):+.1f} to "
    f"{max(100 * row.gain for row in first):+.1f} points; every interval contains zero."
)
assert all(row.low < 0 < row.high for row in first)

# %% [markdown]
# There is no significant difference on any style, once each method has its own learning rate. A likely reason: a low learning
# rate protects the features as well. Frozen features have the lower mean on every style. Probe first costs seconds, since the
# features are computed once, and it gives you a baseline on the way: that alone is a reason to do it.
#
# ## 2 Average the weights
#
# Fine-tuning gains on the new images, and may lose something general on the way. Wortsman et al. (2022) [average the
# weights](glossary.ipynb#Weight-averaging) before and after it. The average is one expression, `torch.lerp`, and needs a
# trained head on both ends:

# %% tags=["nbval-ignore-output"]
after, share = tl.snapshot(model), 0.7
average = {
    name: torch.lerp(before[name], after[name], share)
    if after[name].is_floating_point()
    else after[name]
    for name in after
}
model.load_state_dict(average)
averaged = tl.evaluate(model, data.val)
model.load_state_dict(after)
print(
    f"fine-tuned {best(tuned):.1%}, average {averaged.accuracy:.1%} of the validation images"
)

# %% [markdown]
# Measured on the four styles. On the left of each panel are the weights with the head trained alone, on the right the
# fine-tuned ones:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
curves = shift.scored.dropna(subset="curve")
shares = shift.facts["settings"]["shares"]
averages = pd.DataFrame(
    [
        {
            "network": run.network,
            "seed": run.seed,
            "style": style,
            "share": share,
            "test": score,
        }
        for run in curves.itertuples()
        for style in STYLES
        for share, score in zip(shares, run.curve[style], strict=True)
    ]
)
tc.plots.lines(
    averages,
    "share",
    "test",
    "style",
    "network",
    title="Averages of the weights before (0) and after (1) fine-tuning",
    xlabel="share of the fine-tuned weights",
    ylabel="balanced accuracy, unseen things",
)

# %% jupyter={"source_hidden": true} tags=["claim-weight-average"]
wide = averages.groupby(["network", "seed", "share"])["test"].mean().unstack()
lead = 100 * (wide[0.7] - wide[1.0]).groupby("network").agg(["mean", "std"])
print(
    "An average with 0.7 of the fine-tuned weights, against these alone, over the four styles:"
)
print(
    "\n".join(
        f"{name}: {row['mean']:+.1f} ± {row['std']:.1f} points"
        for name, row in lead.iterrows()
    )
)
assert (lead["mean"].abs() < 2).all()

# %% [markdown]
# Over the four styles there is no reliable gain: 1.2 ± 1.1 points for EfficientNet-Lite0, minus 0.5 ± 0.9 for ResNet18 (mean
# ± standard deviation of five seeds). The paper averaged networks that were pre-trained on hundreds of millions of images
# with captions. Such a network has more to lose.
# <!-- given: tlcourse/measurements/data/shift.json -->
#
# ## 3 LoRA: two small matrices beside a frozen layer
#
# Fine-tuning with Adam keeps a gradient and two running averages for each weight, and one full copy of the network for each
# task. [**LoRA**](glossary.ipynb#LoRA) (Hu et al. 2021) leaves a layer's weights frozen and adds a product of two narrow
# layers, which train. Their width, here 4, is the **rank**. The second begins as zeros, so that at first nothing changes:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
FROZEN, TRAINS = "#DDDDDD", tc.plots.METHOD_COLOURS["LoRA"]
tc.plots.flow(
    {
        "": (
            {
                "x": Box("input", 0, 0.75, "none", 0.8),
                "frozen": Box("frozen layer\n64 → 64 channels", 3, 1.5, FROZEN, 2.4, 0.9),
                "down": Box("down\n64 → 4", 2.2, 0, TRAINS, 1.1, 0.8),
                "up": Box("up\n4 → 64", 3.9, 0, TRAINS, 1.1, 0.8),
                "sum": Box("+", 5.8, 0.75, "#F2D0A9", 0.5),
                "y": Box("output", 7.2, 0.75, "none", 0.9),
            },
            [
                ("x", "frozen"),
                ("x", "down"),
                ("down", "up"),
                ("frozen", "sum"),
                ("up", "sum"),
                ("sum", "y"),
            ],
        )
    },
    title="LoRA: grey is frozen, yellow trains",
    height=2.0,
)


# %%
class LoRA(nn.Module):
    """A frozen convolution, and a trainable change of rank `rank`."""

    def __init__(self, frozen, rank=4):
        super().__init__()
        self.frozen = frozen
        channels, kernel = frozen.in_channels, frozen.kernel_size
        window = {"stride": frozen.stride, "padding": frozen.padding}
        self.down = nn.Conv2d(channels, rank, kernel, bias=False, **window)
        self.up = nn.Conv2d(rank, frozen.out_channels, kernel_size=1, bias=False)
        nn.init.zeros_(self.up.weight)  # at first, nothing changes

    def forward(self, x):
        return self.frozen(x) + self.up(self.down(x))


# %% tags=["nbval-ignore-output"]
lora = tl.load_model("resnet18", classes=data.classes, size=SIZE, seed=SEED)
lora.load_state_dict(before)  # the trained head of section 1
tl.freeze(lora)
torch.manual_seed(SEED)
for block in (lora.layer1, lora.layer2, lora.layer3, lora.layer4):
    for residual in block:
        residual.conv1 = LoRA(residual.conv1)
        residual.conv2 = LoRA(residual.conv2)
adapted = tl.fit(lora, data, epochs=3, lr=3e-3, seed=SEED)

# %% jupyter={"source_hidden": true}
total = sum(p.numel() for p in lora.parameters())
few = sum(p.numel() for p in lora.parameters() if p.requires_grad)
assert few < 0.02 * total
print(f"{few:,} of {total:,} parameters train: {few / total:.1%}.")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tests = data.test if data.test is not None else data.val
scores = {}
for method, trained in {"LoRA": lora, "everything": model}.items():
    scores[method] = tl.evaluate(trained, tests).accuracy
model.load_state_dict(before)
scores = {"head only": tl.evaluate(model, tests).accuracy, **scores}
tc.plots.bars(
    pd.Series(scores),
    title="Test images, one run each",
    xlabel="accuracy",
)

# %% [markdown]
# One run with one seed shows that LoRA learns; how it compares is measured in [12.4.4](12_4_4_language.ipynb), with a
# language model, where LoRA is usual. There LoRA reaches 69.5 % and training everything 73.7 %, and the interval of the
# difference contains zero. Note what LoRA does *not* do: BatchNorm's statistics stay those of the photographs. What that
# costs, one run cannot tell; transformers have no BatchNorm.
# <!-- given: tlcourse/measurements/data/lora.json -->
#
# ## 4 Which network? Scores before training
#
# ResNet18, ResNet34 and VGG16 (64 pixels, the course's weights) or EfficientNet-Lite0 (128 pixels, ImageNet's): can you tell
# before training which will transfer best? Three scores: the accuracy of the five *nearest neighbours* among its features;
# *LogME* (You et al. 2021), which asks how well a linear model explains the labels; and the validation accuracy of a head on
# frozen features. Do they rank the networks as fine-tuning does? Kendall's rank correlation is 1 for the same order, -1 for
# the opposite one:
# <!-- given: the settings in tlcourse/measurements/data/choosing.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
NAMES = ["hymenoptera", "cats_dogs", "safari", "flowers", "chest_xray"]
transfer = tc.load_results("transfer")
choosing = (
    tc.load_results("choosing")
    .runs.groupby(["data", "network"])[["neighbours", "logme"]]
    .mean()
)
runs = transfer.scored
frozen = runs[runs["method"] == "frozen"].groupby(["data", "network"])["val"].mean()
scores = choosing.assign(head=frozen)
fine_tuned = (
    runs[runs["method"] == "everything"].groupby(["data", "network"])["test"].mean()
)
agreement = pd.DataFrame(
    {
        name: scores.loc[name].corrwith(fine_tuned.loc[name], method="kendall")
        for name in NAMES
    }
)
agreement.assign(mean=agreement.mean(axis=1)).round(2)

# %% jupyter={"source_hidden": true} tags=["claim-predictable"]
print("Mean rank correlation:", agreement.mean(axis=1).round(2).to_dict())
assert agreement.mean(axis=1).between(0.1, 0.6).all()

# %% [markdown]
# All three have a mean rank correlation of 0.33, and its 95 % interval contains zero: four networks and five data sets are
# too few to say more. All three put EfficientNet-Lite0 first on all five data sets. Fine-tuned, it is best on three of them,
# and last on flowers and chest X-rays. A score of frozen features says how good *frozen* features are. If you can, fine-tune
# two candidates and compare on validation images.
# <!-- given: tlcourse/measurements/data/choosing.json and transfer.json -->
#
# ## 5 Larger backbones, and learning without labels
#
# Since 2020 *vision transformers* (ViT) cut an image into patches of 16 pixels and treat them as words; *ConvNeXt* (2022) is
# a convolutional network built with their lessons. Both have LayerNorm in place of BatchNorm: there are no running statistics
# that could drift. (*LayerNorm* normalises each image by itself.) `tl.freeze`, `tl.unfreeze` and `tl.trainable_table` work on
# them unchanged. The last LayerNorm counts as a block of its own:
# <!-- given: Dosovitskiy et al. 2020, Liu et al. 2022 -->

# %%
from torchvision.models import vit_b_16

with torch.device("meta"):  # shapes without numbers
    vit = vit_b_16(weights=None)  # weights=ViT_B_16_Weights.DEFAULT downloads them
    vit.heads.head = nn.Linear(vit.heads.head.in_features, data.num_classes)
tl.unfreeze(tl.freeze(vit), last=2)
tl.trainable_table(vit).tail(4)

# %% jupyter={"source_hidden": true}
costs = tc.cost_table().loc[["resnet18", "resnet50", "convnext_tiny", "vit_b_16"]]
costs[["parameters", "gmacs", "top1"]].round(2)

# %% [markdown]
# (`parameters` in millions, `gmacs` in 10⁹ multiplications for an image of 224 px, `top1` on ImageNet, as torchvision states
# it.)
#
# The weights of these networks need not come from labels. [**Self-supervised**](glossary.ipynb#Self-supervised-learning)
# networks learn from images alone: that two crops of one image belong together (SimCLR 2020, DINO 2021, DINOv2 2023), or what
# a hidden patch looked like (MAE 2022). Their frozen features are used as those of [12.2.1](12_2_1_feature_extraction.ipynb).
# `timm.create_model("vit_small_patch14_dinov2.lvd142m", pretrained=True, num_classes=0)` downloads one. We have not measured
# them here.
# <!-- given: Chen et al. 2020, Caron et al. 2021, Oquab et al. 2023, He et al. 2022 -->
#
# In the full profile this cell trains a head on frozen features of three networks:

# %% tags=["nbval-ignore-output"]
if not QUICK:
    for name in ("resnet50", "convnext_tiny", "vit_b_16"):
        backbone = tl.freeze(tl.load_model(name, classes=data.classes, seed=SEED))
        print(
            name, f"{best(tl.fit(backbone, data, epochs=20, augment=False, seed=SEED)):.1%}"
        )

# %% [markdown]
# ## 6 Which habits pay?
#
# | habit | what the measurements here say | when to use it |
# |---|---|---|
# | probe first | no significant difference from everything at once | always: it is nearly free, and gives a baseline |
# | average weights | no reliable gain with networks of this size | large pre-trained networks, images from elsewhere |
# | LoRA | in 12.4.4 no significant difference from frozen or everything | large transformers, many tasks, little memory |
# | scores before training | right about the best network on three of five data sets | a first guess; then fine-tune two candidates |
#
# > **Careful.** These are small networks and small data sets. The papers worked with larger networks, pre-trained on far more
# > data. "No significant difference" does not mean that the methods are equal.
#
# ## Check yourself
#
# **1.** In the figure of averages, what does a curve show whose highest point lies between the two ends?
#
# <details><summary>Answer</summary>
#
# The average is better than both networks of which it is made. If the highest point is the right end, averaging loses
# something.
# </details>
#
# **2.** Why does LoRA's second layer begin with zeros, and the first one not?
#
# <details><summary>Answer</summary>
#
# With one of them zero, the product is zero: the network begins as it was. With both zero, both gradients would be zero too,
# and nothing would train.
# </details>
#
# **3.** A colleague averages a ResNet18 fine-tuned from a random head with the network before training. Why does it fail?
#
# <details><summary>Answer</summary>
#
# A fine-tuned head is its random start plus what was learned. The average keeps the start in full and only a part of what was
# learned. Train the head first; then both ends fit the task.
# </details>
#
# ## Summary
#
# * [**Probe first**](glossary.ipynb#Probe-first) is the default: seconds for a baseline, and a head that does not disturb the
#   backbone.
# * **Averaging** costs one line; measure whether it pays.
# * **LoRA** trains little more than one per cent of the parameters, and leaves BatchNorm's statistics as they were.
# * **No score** replaces fine-tuning two candidates.
# * **Transformers** freeze, unfreeze and get heads like any other network.
#
# **What to try next**
#
# * Set `share = 0.3` in section 2, and expect an accuracy between the head's and the fine-tuned network's, or above both.
# * Give LoRA `rank=16`. It trains four times as many parameters; expect little change.
# * Put LoRA on `layer4` only. What does adapting the early layers bring?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
