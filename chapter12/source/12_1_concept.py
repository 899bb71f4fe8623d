# %% [markdown]
# # 12.1 Why start from somebody else's network?
#
# You have ten drawings each of birds, bugs, mammals and vehicles, an afternoon and a laptop. A network with eleven million
# weights will overfit forty images long before it learns what a wing is. Yet good classifiers are trained on so few images.
# They start from a network that was already trained on many other images.
#
# **What you will learn**
#
# * what *transfer learning*, *backbone*, *head*, *feature extraction* and *fine-tuning* mean,
# * how four ways to train one network compare on the same images,
# * what its layers see, and why a random network is the control that this question needs,
# * where transfer saves data and time, and where it does not help.
#
# **Time:** twenty minutes to read; one to three minutes of computing on 2 CPU cores in the quick profile.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

from dataclasses import replace

import pandas as pd
import torch
from torch import nn

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile()
QUICK = profile.name == "quick"
DATA = profile.data  # a name from tl.data_names(), or the path of a folder of yours
ARCH = "resnet18"  # the book's network
SEED = profile.seed
print(profile)

# %% [markdown]
# **The quick profile** needs no downloads. We trained its ResNet18 on Tiny ImageNet, 80,800 photographs of 64 pixels, so it
# is much weaker than one trained on all of ImageNet. The images of this page are *safari*: emoji on made-up backgrounds,
# three styles for training, a fourth for validation, a fifth for the test. `TL_PROFILE=full` takes ImageNet's weights, and
# photographs of ants and bees.
# <!-- given: the model card, and the data card of safari -->
#
# ## 1 One network, four ways to train it

# %% tags=["nbval-ignore-output"]
data = tl.load_data(DATA, **({"size": 64} if DATA == "safari" else {}))
pair = tc.select_classes(
    data, ["bird", "bug", "mammal", "vehicle"] if DATA == "safari" else data.classes
)
few = replace(pair, train=pair.train.per_class(10, seed=SEED))
few.show(16)

# %% [markdown]
# We train the same ResNet18 four times on these forty images. **From scratch** it starts from random weights. The other
# three start from weights that were learned on photographs, with a new last layer. [**Frozen**](glossary.ipynb#Frozen): only
# the last layer learns. **Last block**: the last of four blocks, with three quarters of the weights, learns as well.
# **Everything**: all layers learn.

# %% tags=["nbval-ignore-output"]
tc.plots.blocks(
    {
        "from scratch": tc.plots.BLOCKS,
        "frozen": ["head"],
        "last block": ["layer4", "head"],
        "everything": tc.plots.BLOCKS,
    },
    title="Coloured blocks learn, grey ones are frozen; a dashed frame is a random start",
)

# %% [markdown]
# `tl.fit` trains whatever is not frozen. Each run goes on until its validation accuracy has not improved for eight epochs,
# and keeps the weights of its best [epoch](glossary.ipynb#Epoch). Guess before you look: how far apart will the four be?
# <!-- given: settings of the cell below -->

# %% tags=["nbval-ignore-output"]
RATES = {"from scratch": 1e-3, "frozen": 1e-2, "last block": 3e-4, "everything": 3e-4}
trained, runs = {}, {}
for method, lr in RATES.items():
    weights = "none" if method == "from scratch" else None
    model = tl.load_model(ARCH, classes=few.classes, weights=weights, seed=SEED)
    if method in ("frozen", "last block"):
        tl.unfreeze(tl.freeze(model), last=int(method == "last block"))
    rates = {group["name"]: lr for group in tl.param_groups(model, lr=lr)}
    if method in ("last block", "everything"):
        rates["head"] = 10 * lr  # the head is new and has further to go
    settings = {"epochs": 60, "patience": 8, "batch_size": 16, "schedule": "constant"}
    runs[method] = tl.fit(model, few, lr=rates, cache=4, seed=SEED, **settings)
    trained[method] = model

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
curves = [run.history.reset_index().assign(method=method) for method, run in runs.items()]
tc.plots.lines(
    pd.concat(curves),
    "epoch",
    "val_accuracy",
    by="method",
    title="One network, trained in four ways",
    xlabel="epoch",
    ylabel="images right, validation set",
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
scores = {
    method: tl.evaluate(model, few.test or few.val) for method, model in trained.items()
}
right = {method: score.accuracy for method, score in scores.items()}
print(
    f"Of {len(few.test or few.val)} test images, the network is right on {right['from scratch']:.0%} from scratch,\n"
    f"{right['frozen']:.0%} with a frozen backbone, {right['last block']:.0%} with the last block trained, "
    f"{right['everything']:.0%} with everything trained.\nGuessing gives {1 / few.num_classes:.0%}."
)

# %% [markdown]
# All four have the same architecture. *From scratch* and *everything* train all layers, and differ in their starting
# weights. [**Transfer learning**](glossary.ipynb#Transfer-learning) is this reuse of a network that was trained on one task,
# the [**source task**](glossary.ipynb#Source-task), as the starting point for another, the [**target
# task**](glossary.ipynb#Target-task).
#
# > **Careful.** This is one run of each. With so few test images each figure is uncertain by about 8 points, so the three
# > that start from [pre-trained](glossary.ipynb#Pre-trained) weights show no significant difference. Sections 6 and 7 have
# > five runs, on more images and real photographs.
# <!-- given: the 95 % interval of a proportion of 160 images -->
#
# ## 2 What is it that transfers?
#
# A classifier has two pieces. The [**backbone**](glossary.ipynb#Backbone) turns an image into a list of numbers, its
# [**features**](glossary.ipynb#Features). The [**head**](glossary.ipynb#Head), the last linear layer, turns features into a
# score for each class, the **logits**. In plain PyTorch:

# %%
network = tl.load_model(ARCH)  # with the head of its source task
backbone = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
head = network.fc

to_tensor = network.card.preprocessing.evaluation()
images = torch.stack([to_tensor(data.val.image(i)) for i in range(8)])
with torch.inference_mode():
    features = backbone(images)
    logits = head(features)
    assert torch.allclose(logits, network(images), atol=1e-4)
print("images", tuple(images.shape), "→ features", tuple(features.shape))

# %% [markdown]
# The old head is of no use to us: its classes are not ours. We keep the backbone and put on a new head, as the book writes it:

# %%
for parameter in network.parameters():
    parameter.requires_grad = False  # freeze the parameters ...
network.fc = nn.Linear(network.fc.in_features, few.num_classes)  # ... and add a new head

trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
total = sum(p.numel() for p in network.parameters())
print(f"{trainable:,} of {total:,} parameters will be trained")

# %% [markdown]
# If only the head is trained, that is **feature extraction** ([12.2.1](12_2_1_feature_extraction.ipynb)). If the backbone or a
# part of it is trained further, that is [**fine-tuning**](glossary.ipynb#Fine-tuning) ([12.2.2](12_2_2_fine_tuning.ipynb)).
#
# ## 3 What do the layers see?
#
# Why should features of photographs be of use for drawings? The usual answer is a **feature hierarchy**: early layers find
# edges and colours, which every image has; later layers combine them into textures, parts and objects, which belong more
# and more to the source task.
#
# The first layer's 64 filters can be shown as small colour images, before and after training:
# <!-- given: the architecture of ResNet18 -->

# %% tags=["nbval-ignore-output"]
pretrained, untrained = tl.load_model(ARCH), tl.load_model(ARCH, weights="none", seed=SEED)
tc.plots.filters(
    {
        "pre-trained": pretrained.conv1.weight,
        "random, before any training": untrained.conv1.weight,
    },
    title="The filters of the first layer",
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
oriented = tc.orientation_selectivity(pretrained.conv1.weight.detach().cpu())
by_chance = tc.orientation_selectivity(untrained.conv1.weight.detach().cpu())
print(
    "How much a filter prefers one direction, from 0 to 1, on average: "
    f"{oriented.mean():.2f} pre-trained, {by_chance.mean():.2f} random."
)

# %% jupyter={"source_hidden": true} tags=["claim-early-edges"]
assert oriented.mean() > 2 * by_chance.mean()
print("Filters of the first layer are more than twice as oriented as random ones.")
assert (oriented < 0.3).mean() > 0.1  # spots of colour

# %% [markdown]
# Stripes and borders between light and dark are edge detectors; many others are spots of one colour. For the first layer
# "edges and colours" is right.
#
# Each channel of a layer makes an [**activation map**](glossary.ipynb#Feature-map) of an image: how strongly it responds at
# each place. Follow one image through the network:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
import numpy as np
from PIL import Image

prep = pretrained.card.preprocessing
test_split = data.test if data.test is not None else data.val
test_images = torch.stack([to_tensor(test_split.image(i)) for i in range(len(test_split))])
shown = 2 * len(test_images) // 5
maps = tc.activations(pretrained, test_images[shown : shown + 1])
tc.plots.activation_maps(
    Image.fromarray(
        (prep.undo(test_images[shown]).permute(1, 2, 0).numpy() * 255).astype("uint8")
    ),
    {layer: output[0] for layer, output in maps.items()},
    title="One image by depth: the six channels of each block that vary most",
)

# %% [markdown]
# In the stem one recognises the outlines. From `layer3` on nothing can be recognised any more.
#
# What would a channel respond to most? Start from noise, and change the pixels by gradient ascent so that one channel
# responds more and more strongly. The channels below were drawn at random from the quarter that responds most to our
# test images:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
responses = tc.pooled_features(pretrained, test_images)
draw = np.random.default_rng(SEED)
made, titles = [], []
for layer in ("layer1", "layer2", "layer3", "layer4"):
    strongest = responses[layer].mean(dim=0).argsort(descending=True)
    channels = draw.choice(strongest[: len(strongest) // 4], size=3, replace=False).tolist()
    excited = tc.exciting_images(pretrained, layer, channels, seed=SEED)
    made += [image.permute(1, 2, 0).numpy() for image in excited]
    titles += [f"{layer}, channel {channel}" for channel in channels]
tl.plots.image_grid(made, titles, title="Images made to excite one channel", columns=6)

# %% [markdown]
# Stripes and edges at first; then dots, curves and textures; in the last block larger shapes. We need a measure.
#
# ## 4 Is it the training, or the architecture?
#
# A [**linear probe**](glossary.ipynb#Linear-probe) asks what a block knows. It takes the block's features (here the mean of
# each channel over all positions), trains a linear classifier on them, and reports its accuracy on other images. A linear
# classifier can do well even on random features. So the same probe is made on a network with random weights: **what
# pre-training adds is the difference**.
#
# We probe every block for two tasks: one **near** the source (all eight classes of safari) and one **far** from it
# (handwritten digits: no colour, no texture, no background).

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
from sklearn.datasets import load_digits

PER_CLASS, SEEDS = 40, range(SEED, SEED + 3)
digits = load_digits()


def digit_images(numbers):
    """Digits as RGB images of the size that the network expects."""
    pixels = (digits.images[numbers] * (255 / 16)).astype("uint8")
    return torch.stack(
        [
            to_tensor(Image.fromarray(p).convert("RGB").resize((prep.size, prep.size)))
            for p in pixels
        ]
    )


def probes(seed):
    """Accuracy of a probe on every block, for both tasks and both networks."""
    train = data.train.per_class(PER_CLASS, seed=seed)
    images = torch.stack([to_tensor(train.image(i)) for i in range(len(train))])
    order = np.random.default_rng(seed).permutation(len(digits.target))
    kinds = [order[digits.target[order] == kind] for kind in range(10)]
    first = np.concatenate([kind[:PER_CLASS] for kind in kinds])
    second = np.concatenate([kind[PER_CLASS : 2 * PER_CLASS] for kind in kinds])
    tasks = {
        "near: our images": (images, train.labels, test_images, test_split.labels),
        "far: digits": (
            digit_images(first),
            digits.target[first],
            digit_images(second),
            digits.target[second],
        ),
    }
    networks = {
        "pre-trained": pretrained,
        "random": tl.load_model(ARCH, weights="none", seed=seed),
    }
    for task, (x, y, x_test, y_test) in tasks.items():
        for name, net in networks.items():
            known, asked = tc.pooled_features(net, x), tc.pooled_features(net, x_test)
            for layer in known:
                yield (
                    task,
                    name,
                    seed,
                    layer,
                    tc.linear_probe(known[layer], y, asked[layer], y_test),
                )


columns = ["task", "network", "seed", "layer", "accuracy"]
probed = pd.DataFrame([row for seed in SEEDS for row in probes(seed)], columns=columns)
NEAR, FAR = probed["task"].unique()
tc.plots.lines(
    probed,
    "layer",
    "accuracy",
    by="network",
    panel="task",
    title="Linear probes by depth",
    xlabel="depth",
    ylabel="images right",
    levels={NEAR: 1 / data.num_classes, FAR: 1 / 10},
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
wide = probed.pivot(index=["task", "layer", "seed"], columns="network", values="accuracy")
added = (
    100
    * (wide["pre-trained"] - wide["random"]).groupby(["task", "layer"], sort=False).mean()
)
print(
    f"Near task: pre-training adds {added[NEAR, 'stem']:.0f} points in the stem and "
    f"{added[NEAR, 'layer4']:.0f} in the last block."
)

# %% jupyter={"source_hidden": true} tags=["claim-hierarchy"]
assert added[NEAR, "layer4"] > 15
assert added[NEAR, "layer4"] > added[NEAR, "stem"] + 10
print(
    "Near the source, pre-training adds 10 points more in the last block than in the stem."
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
random_digits = probed.query("task == @FAR and network == 'random' and layer == 'layer4'")
print(
    f"Far task: a random network is right on {random_digits['accuracy'].mean():.0%} of the digits; in the last\n"
    f"block pre-training changes that by {added[FAR, 'layer4']:+.0f} points, in the stem by {added[FAR, 'stem']:+.0f}."
)

# %% jupyter={"source_hidden": true} tags=["claim-far-task"]
if QUICK:
    assert random_digits["accuracy"].mean() > 0.85
    assert abs(added[FAR, "layer4"]) < 6
    assert added[FAR, "stem"] > added[FAR, "layer4"]
    print("Far from it, random features alone are right more than 85 % of the time.")

# %% [markdown]
# Look at the *distance between the two lines*, not at their height. On the near task it is small in the stem and large from
# `layer2` on: there lies what the source task taught and this task can use. On the digits both lines are high, and from
# `layer1` on close together. The accuracy alone looks excellent, and little of it is due to pre-training.
#
# ## 5 What does fine-tuning change?
#
# If early layers are general, fine-tuning should leave them as they are. We compare the features of each block before and
# after *everything* was trained in section 1. **CKA** (Kornblith et al. 2019) is 1 if two sets of features are the same up to
# rotation and scale, and about 0 if they are unrelated.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
others = {"everything": trained["everything"], "random control": untrained}
similar = pd.DataFrame(
    [
        (other, layer, tc.linear_cka(responses[layer], values))
        for other, network in others.items()
        for layer, values in tc.pooled_features(network, test_images).items()
    ],
    columns=["network", "layer", "cka"],
)
tc.plots.lines(
    similar,
    "layer",
    "cka",
    by="network",
    percent=False,
    title="How similar are a block's features to the pre-trained ones?",
    xlabel="depth",
    ylabel="linear CKA (1: the same)",
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
kept = similar[similar["network"] == "everything"].set_index("layer")["cka"]
print(f"CKA before and after: stem {kept['stem']:.2f}, last block {kept['layer4']:.2f}")

# %% jupyter={"source_hidden": true} tags=["claim-fine-tuning-late"]
assert kept["stem"] > 0.9
assert kept["stem"] > kept["layer4"] + 0.05
print(
    "The stem's features stay as they were (CKA above 0.9); the last block's change more."
)

# %% [markdown]
# The stem has hardly changed, the last block most. Read the green line against the grey one: similar inputs alone give a
# CKA of a half in the stem.  Whether freezing early blocks helps, [12.2.2](12_2_2_fine_tuning.ipynb) measures.
#
# ## 6 Less data, less time?
#
# Textbooks promise that transfer needs less data and less time. One run proves little, so we measured them beforehand with
# five seeds, each method trained until validation stopped improving, at a learning rate chosen on validation images. First
# for different numbers of training images:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
refinements = tc.load_results("refinements")
METHODS = {"scratch": "from scratch", "head": "frozen", "everything": "everything"}
depth = refinements.scored[refinements.scored["topic"] == "depth"]
depth = depth.assign(method=depth["method"].map(METHODS)).dropna(subset="method")
tc.plots.lines(
    depth,
    "per_class",
    "test",
    by="method",
    panel="data",
    log=True,
    title="Less data: ResNet18 on drawings and on photographs",
    xlabel="training images of each class",
    ylabel="balanced accuracy, test set",
    levels={"safari": 1 / 8, "flowers": 1 / 5},
)

# %% jupyter={"source_hidden": true} tags=["claim-less-data"]
score = depth.groupby(["data", "per_class", "method"])["test"].mean()
for name in ("safari", "flowers"):
    ten, forty = score[name, 10, "everything"], score[name, 40, "from scratch"]
    print(
        f"{name}: fine-tuned on 10 images of each class {ten:.1%}, from scratch on 40 {forty:.1%}"
    )
    assert ten > forty + 0.05
assert score["safari", 10, "frozen"] > score["safari", 40, "from scratch"] + 0.05

# %% [markdown]
# Ten images with transfer beat forty without, on drawings and on photographs. (*Balanced accuracy* is the mean of the
# classes' accuracies, so that a frequent class counts no more than a rare one.)
#
# And time? Below, all layers are trained for a fixed 25 epochs from both starting points.
# <!-- given: the design of experiments/claims.py -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
stored = tc.load_results("curves").runs.replace(
    {"scratch": "from scratch", "pre-trained": "everything"}
)
by_epoch = stored[["start", "seed", "val"]].explode("val").astype({"val": float})
by_epoch["epoch"] = by_epoch.groupby(["start", "seed"]).cumcount() + 1
tc.plots.lines(
    by_epoch,
    "epoch",
    "val",
    "start",
    title="Less time: ResNet18 on 320 drawings",
    xlabel="epoch",
    ylabel="images right, validation set",
)

# %% jupyter={"source_hidden": true} tags=["claim-less-time"]
by_seed = by_epoch.pivot(index=["seed", "epoch"], columns="start", values="val")
marks = by_seed["from scratch"].groupby("seed").agg(["max", "idxmax"])
reached = by_seed["everything"].ge(by_seed["from scratch"].groupby("seed").transform("max"))
first = reached[reached].reset_index().groupby("seed")["epoch"].min()
slow = marks["idxmax"].str[1]
print(
    f"From scratch the best epoch is number {slow.min()} to {slow.max()}; "
    f"the pre-trained network is as good after {first.min()} to {first.max()} epochs."
)
assert (first <= 0.2 * slow).all()

# %% [markdown]
# An epoch takes equally long for both, so fewer epochs mean less time. The time for pre-training is not counted.
#
# ## 7 Where it wins, and where it does not
#
# The same comparison on six data sets, four of them real images. Accuracy is balanced; differences to training from scratch
# are in percentage points. The 95 % intervals allow for the choice of seeds and of test images. *Independent* counts
# drawings, patients or photographs.
# <!-- given: the usual level of an interval -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
transfer = tc.load_results("transfer")
NAMES = {
    "hymenoptera": "ants and bees",
    "cats_dogs": "cats and dogs",
    "flowers": "flowers",
    "safari": "safari",
    "chest_xray": "chest X-rays",
    "phantom": "drawn X-rays",
}
against = {name: transfer.against(name, "scratch", network="resnet18") for name in NAMES}
rows = {}
for name, title in NAMES.items():
    points = tc.in_points(against[name])
    rows[title] = {
        "from scratch, %": f"{100 * against[name].loc['scratch', 'accuracy']:.1f}",
        "frozen, points": points.loc["frozen"].iloc[1],
        "everything, points": points.loc["everything"].iloc[1],
        "test images": len(transfer.facts["tests"][name]["labels"]),
        "independent": len(set(transfer.facts["tests"][name]["clusters"])),
    }
pd.DataFrame(rows).T

# %% jupyter={"source_hidden": true} tags=["claim-less-data-xray"]
xray = against["chest_xray"]
print(
    f"Chest X-rays: frozen {xray.loc['frozen', 'accuracy']:.1%}, from scratch {xray.loc['scratch', 'accuracy']:.1%}, "
    f"fine-tuned {xray.loc['everything', 'accuracy']:.1%}"
)
assert xray.loc["frozen", "high"] < 0
assert xray.loc["everything", "low"] < 0 < xray.loc["everything", "high"]

# %% [markdown]
# On photographs and drawings of things, fine-tuning gains 14 to 26 points. On chest X-rays a frozen backbone *loses* 7
# points: features of photographs serve worse there than features learned from 600 X-rays. That is **negative transfer**.
# (The best learning rate of the head was the largest tried, and its seeds differ by ten points; a better tuned head might
# lose less.) Fine-tuned, the same network shows no significant difference from training from scratch.
# <!-- given: tlcourse/measurements/data/transfer.json -->
#
# Does a pre-trained network also generalise better? In the runs of 25 epochs:

# %% jupyter={"source_hidden": true} tags=["claim-generalisation"]
ends = stored.assign(gap=stored["train_clean"] - stored["test"])
for name, row in ends.groupby("start")[["train_clean", "test", "gap"]].mean().iterrows():
    print(
        f"{name}: {row['train_clean']:.1%} of the training images, {row['test']:.1%} of the test images, "
        f"gap {100 * row['gap']:.1f} points"
    )
by_start = ends.pivot(index="seed", columns="start", values=["test", "gap"])
lead = by_start.xs("everything", axis=1, level=1) - by_start.xs(
    "from scratch", axis=1, level=1
)
assert (lead["test"] > 0.1).all()
assert (lead["gap"] < -0.1).all()
assert (ends["train_clean"] > 0.93).all()

# %% [markdown]
# Both fit nearly all their training images. With pre-training the gap to the test images is smaller, and still large. It
# contains [overfitting](glossary.ipynb#Overfitting) and the new drawing style.
#
# ## Check yourself
#
# **1.** Look at the probes again. Somebody shows you 97 % on digits with a frozen network, as proof of transfer. What do you
# ask for? <!-- given: a made-up example -->
#
# <details><summary>Answer</summary>
#
# The same probe on a network with random weights. On this far task it does nearly as well, so the accuracy says little about
# pre-training.
# </details>
#
# **2.** Cover the legend of the figure with flowers and safari. Which curve is the frozen backbone?
#
# <details><summary>Answer</summary>
#
# The one in the middle: ahead of training from scratch, since the features are useful from the start; behind fine-tuning,
# since they cannot adapt to the new images.
# </details>
#
# **3.** You have 600 X-rays. A colleague proposes a frozen ImageNet backbone. What does section 7 say?
#
# <details><summary>Answer</summary>
#
# Measure both. On chest X-rays the frozen backbone was worse than training from scratch; fine-tuned, the two showed no
# significant difference.
# </details>
#
# ## Summary
#
# * **Transfer learning** starts from a network that was trained on another task. The **backbone** is kept, the **head** is
#   new. Feature extraction trains the head only; fine-tuning trains the backbone, or a part of it, as well.
# * **Early layers** find edges and colours. Pre-training adds little there and much from `layer2` on, and fine-tuning
#   changes the **later** layers most.
# * **A random network is the control.** Without it, any accuracy looks like transfer.
# * **Less data and less time** hold where the target resembles the source: ten images beat forty. On chest
#   X-rays a frozen backbone lost to training from scratch.
#
# **What to try next**
#
# * Give `per_class` 5 in place of 10, then 40. Where do the four methods come closer together?
# * Give `tc.select_classes` two classes, `["bird", "vehicle"]`. Guessing now gives one half. Which method gains most?
# * Set `DATA` to a folder of your own images. At which depth is the probe best?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
