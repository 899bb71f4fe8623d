# %% [markdown]
# # 12.1 What transfer learning is, and why it works
#
# A network that was trained on one task is a good beginning for another. This notebook says what is carried over, opens
# a network to look for it, and then measures the reasons that are usually given.
#
# **What you will learn**
#
# * the four words: source task, target task, backbone, head,
# * what the layers of a trained network compute: filters, activation maps, the images that a channel answers to,
# * how to measure what pre-training adds at each depth, for a task near to the source and for one far from it,
# * which layers fine-tuning changes,
# * what holds of "less data, less time, better generalisation", and where it does not.
#
# **Time:** about a minute on 2 CPU cores in the quick profile; the last cell prints what it took here.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import PercentFormatter
from PIL import Image

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile()
QUICK = profile.name == "quick"
DATA = profile.data  # a name from tl.data_names(), or the path of a folder of yours
ARCH = "resnet18"  # this notebook names its layers
SEED = profile.seed  # 0; the environment variable TL_SEED sets another
SEEDS = range(SEED, SEED + 3)  # what is measured here is measured three times
print(profile)

# %% [markdown]
# ## 1 Four words
#
# * The **source task** is what the network was trained on before: usually many images, many classes.
# * The **target task** is what you want: other images, other classes, and usually few of them.
# * The **backbone** is everything but the last layer. It turns an image into a list of numbers, its **features**.
# * The **head** is the last layer. It turns features into one score, a *logit*, for each class.
#
# *Transfer learning* keeps the backbone of the source task and puts a new head on it for the target task. In *feature
# extraction* only the head is trained. In *fine-tuning* the backbone, or a part of it, is trained further.
#
# In the quick profile the source task is Tiny ImageNet, photographs of 64 by 64 pixels, and the target task is
# *safari*: drawings on made-up backgrounds. It stands in for real photographs, which would have to be downloaded, and
# the network is much weaker than one trained on all of ImageNet.

# %% tags=["nbval-ignore-output"]
pretrained = tl.load_model(ARCH)
print(pretrained.card)

# %% tags=["nbval-ignore-output"]
sizes = {"size": 64} if DATA == "safari" else {}
data = tl.load_data(DATA, **sizes)
held_out = data.test if data.test is not None else data.val
data.show(16)

# %% [markdown]
# What does the network make of a target image **before** any transfer? It can only answer with classes of its source
# task.

# %% tags=["nbval-ignore-output"]
image = held_out.image(0)
print("The image shows:", held_out.classes[held_out.labels[0]])
answers = tl.predict(pretrained, image, top=5)
tc.plots.bars(
    answers.set_index("class")["probability"],
    title="The source task's classes for a target image",
    xlabel="probability",
)

# %% [markdown]
# Backbone and head are parts of one computation: `logits = head(backbone(image))`. We take a network apart and put it
# together again to see that nothing is missing.

# %% tags=["nbval-ignore-output"]
prep = pretrained.card.preprocessing


def prepared(split):
    """The images of a split as one tensor, as the network expects them."""
    to_tensor = prep.evaluation()
    return torch.stack([to_tensor(split.image(i)) for i in range(len(split))])


test_images = prepared(held_out)
print("(images, channels, height, width):", tuple(test_images.shape))

# %%
plain = tl.load_model(ARCH)  # on the CPU, in fp32
backbone = torch.nn.Sequential(*list(plain.children())[:-1], torch.nn.Flatten())
head = plain.fc
with torch.inference_mode():
    features = backbone(test_images[:8])
    logits = plain(test_images[:8])
    assert torch.allclose(head(features), logits, atol=1e-4)
print("features of 8 images:", tuple(features.shape))
print("head(backbone(images)) is the network's answer.")

# %%
in_all = sum(p.numel() for p in plain.parameters())
new = tl.replace_head(plain, len(data.classes))
in_new = sum(p.numel() for p in tl.get_head(new).parameters())
assert in_new < 0.01 * in_all
print("Of the network that we transfer, less than a hundredth is new: the head.")

# %% [markdown]
# All the rest comes from the source task. Why should it be of use? The usual answer is a **hierarchy of features**:
# early layers find edges and colours, which any image has; later layers combine them to textures, parts and objects,
# which belong more and more to the source task. We look whether one can see that, and then whether one can measure it.
#
# ## 2 The first layer
#
# The first layer of ResNet18 has 64 filters of 7 by 7 pixels with three colours, so its weights can be shown as
# images. (Later layers have 64 channels and more going in, and no such image.) Below them are the filters of the
# same network before any training. Look for stripes, borders between light and dark, and opposed colours.

# %% tags=["nbval-ignore-output"]
untrained = {seed: tl.load_model(ARCH, weights="none", seed=seed) for seed in SEEDS}
tc.plots.filters(
    {
        "pre-trained": pretrained.conv1.weight,
        "random numbers, before any training": untrained[SEED].conv1.weight,
    },
    title="The filters of the first layer",
)

# %% [markdown]
# The network of the quick profile was trained on images of 64 pixels. There a filter of 7 pixels covers a ninth of the
# image's width. The filters that books show come from images of 224 pixels, so do not expect the same ones.
#
# "Looks like edges" is a matter of taste; **orientation** can be measured. A filter for edges answers to stripes of one
# direction and not to others. The *selectivity* below is 0 for a filter that answers to all directions alike and 1 for
# one that knows a single direction. Random filters have some by chance, so they are measured too.

# %% tags=["nbval-ignore-output"]
selectivity = pd.DataFrame(
    {
        "pre-trained": tc.orientation_selectivity(pretrained.conv1.weight.detach().cpu()),
        **{
            f"random, seed {seed}": tc.orientation_selectivity(net.conv1.weight.detach())
            for seed, net in untrained.items()
        },
    }
)
selectivity.describe().loc[["mean", "std", "max"]].round(2)

# %% tags=["claim-early-edges"]
oriented = selectivity["pre-trained"]
by_chance = selectivity.drop(columns="pre-trained").mean().max()
blobs = (oriented < 0.3).mean()
tc.report_finding(
    "Filters of the first layer are more than twice as oriented as random ones.",
    oriented.mean() > 2 * by_chance,
)
tc.report_finding(
    "Not all of them are: more than a tenth hardly prefer a direction.", blobs > 0.1
)

# %% [markdown]
# Look for those without a direction: many are spots of one colour. So for the first layer the phrase is right, if one
# reads it as "edges and colours".
#
# ## 3 Deeper layers: activation maps
#
# Each channel of a layer makes an *activation map* of an image: how strongly it answers at each place. We follow one
# image through the *stem* (the first convolution) and the four blocks of the network. Maps get smaller, since each
# block looks at every second place only. The number of channels grows.

# %%
maps = tc.activations(pretrained, test_images[:1])
if prep.size == 64:
    for layer, output in maps.items():
        print(
            f"{layer:7}{output.shape[1]:4} channels of {output.shape[2]} x {output.shape[3]}"
        )

# %% tags=["nbval-ignore-output"]
seen = Image.fromarray(
    (prep.undo(test_images[0]).permute(1, 2, 0).numpy() * 255).astype("uint8")
)
tc.plots.activation_maps(
    seen,
    {layer: output[0] for layer, output in maps.items()},
    title="One image by depth: the six channels of each layer that vary most",
)

# %% [markdown]
# In the stem one recognises the image; outlines are bright in some channels and surfaces in others. From `layer3` on
# nothing is recognised any more. That alone does not show that the network has understood something: the maps are only
# a few pixels wide, and those of a random network become as small.
#
# How much of the image does one place of a map see? This is its *receptive field*. It follows from kernel sizes and
# strides: each convolution widens it by (kernel - 1) steps of its input.

# %%
CONVOLUTIONS = {  # (kernel, stride) on the way through the main branch of ResNet18
    "stem": [(7, 2)],
    "layer1": [(3, 2), (3, 1), (3, 1), (3, 1), (3, 1)],  # the first is a max-pooling
    "layer2": [(3, 2), (3, 1), (3, 1), (3, 1)],
    "layer3": [(3, 2), (3, 1), (3, 1), (3, 1)],
    "layer4": [(3, 2), (3, 1), (3, 1), (3, 1)],
}
field, step, fields = 1, 1, {}
for layer, convolutions in CONVOLUTIONS.items():
    for kernel, stride in convolutions:
        field += (kernel - 1) * step
        step *= stride
    fields[layer] = field
    print(f"{layer:7} sees {field:3} pixels across")

# %% [markdown]
# In an image of 64 pixels, a place in the middle of `layer2` can already see everything. In the 7 pixels of the stem
# there is room for an edge or a spot of colour, and for little else. That early layers find simple things is partly
# built into the architecture, not learned.
#
# ## 4 What a channel answers to
#
# Two ways to ask a channel. **Real images:** order all test images by the channel's strongest answer. **A made
# image:** begin with noise and change the pixels, by gradient ascent, so that the answer grows. Each row below is one
# channel: the made image, then the seven strongest real ones, cut to what the channel can see. The channels are drawn
# at random. Figures in books show chosen ones.


# %% tags=["nbval-ignore-output"]
def patch(image, place, field):
    """The part of an image that a channel sees around `place`, as an array to be shown."""
    height, width = image.shape[1:]
    half = field // 2
    row, column = int(place[0] * height), int(place[1] * width)
    top, left = max(row - half, 0), max(column - half, 0)
    cut = image[:, top : row + half + 1, left : column + half + 1]
    return torch.nn.functional.interpolate(cut[None], 64)[0].permute(1, 2, 0).numpy()


def answered(layer, channels, count=7):
    """For each channel its made image and the real images that it answers to most."""
    shown, titles = [], []
    made = tc.exciting_images(pretrained, layer, channels, seed=SEED)
    values, places = tc.channel_peaks(pretrained, test_images, layer)
    for channel, image in zip(channels, made, strict=True):
        shown.append(image.permute(1, 2, 0).numpy())
        titles.append(f"{layer}, {channel}\nmade")
        for best in values[:, channel].argsort(descending=True)[:count].tolist():
            pixels = prep.undo(test_images[best])
            shown.append(patch(pixels, places[best, channel], fields[layer]))
            titles.append(f"\n{held_out.classes[held_out.labels[best]]}")
    return shown, titles


draw = np.random.default_rng(SEED)
shown, titles = [], []
for layer, count in {"stem": 64, "layer2": 128, "layer4": 512}.items():
    more = answered(layer, draw.choice(count, size=2, replace=False).tolist())
    shown, titles = shown + more[0], titles + more[1]
tl.plots.image_grid(shown, titles, title="What six channels, drawn at random, answer to")

# %% [markdown]
# In the stem the real patches of a row resemble each other: the same border, the same colour. Further up, look first at
# the images and only then at the class names. Can you say what a row has in common? Would the next person say the
# same?
#
# The eye finds patterns in anything, so we count. For every channel we take the ten test images with the largest mean
# answer, and count the share that belongs to their most frequent class. If later channels stood for objects, this
# *agreement* would grow with depth. The same is counted for random networks. Three halves of the test set, drawn with
# three seeds, give the spread.

# %% tags=["nbval-ignore-output"]
of_pretrained = tc.pooled_features(pretrained, test_images)
test_features = {}
for seed in SEEDS:
    test_features["pre-trained", seed] = of_pretrained
    test_features["random", seed] = tc.pooled_features(untrained[seed], test_images)

rows = []
for (network, seed), layers in test_features.items():
    order = np.random.default_rng(seed).permutation(len(test_images))
    half = order[: len(order) // 2]
    labels = held_out.labels[half].numpy()
    shuffled = np.random.default_rng(seed).permutation(labels)
    for layer, values in layers.items():
        shares = tc.class_agreement(values[half], labels)
        rows.append((network, seed, layer, np.nanmean(shares)))
        if network == "pre-trained":
            luck = np.nanmean(tc.class_agreement(values[half], shuffled))
            rows.append(("labels shuffled", seed, layer, luck))
agreement = pd.DataFrame(rows, columns=["network", "seed", "layer", "agreement"])
agreement["images"] = "the ten strongest images of a channel"
tc.plots.lines(
    agreement,
    "layer",
    "agreement",
    by="network",
    panel="images",
    title="Do a channel's strongest images show the same class?",
    xlabel="depth",
    ylabel="share of the commonest class",
)

# %% tags=["claim-late-objects"]
by_depth = agreement.groupby(["network", "layer"])["agreement"].mean()
gain_over_random = by_depth["pre-trained"] - by_depth["random"]
growth = by_depth["pre-trained", "layer4"] - by_depth["pre-trained", "stem"]
if QUICK:
    assert growth < 0.1
    assert gain_over_random["layer4"] < 0.1
    print("The agreement does not grow with depth by a tenth,")
    print("and in the last block it is not a tenth above that of random networks.")

# %% [markdown]
# **From what can one read that "early layers learn edges, later layers objects", and from what not?**
#
# * It *can* be read off from the first layer's filters, where weights are images, and it holds when compared with
#   random filters.
# * It *cannot* be read off from maps that become small and abstract: architecture does that, without any training.
# * It *cannot* be read off from the strongest images of channels. On our drawings they agree on a class more often
#   than luck would have it, but about as often in a random network. A likely reason: images of one class share
#   colours and contrast, and any filter answers to those. Rows from a larger network and photographs may look better;
#   they need the same control.
# * A *made* image shows what drives a channel hardest, which may be far from anything in a photograph.
# * None of this asks what a layer is **good for**. A class may be spread over many channels, and no single one stands
#   for it. So we now ask all channels of a layer together.
#
# ## 5 A linear probe at every depth
#
# A **linear probe** takes the features of a layer, here the mean of each channel over all positions, and trains a linear
# classifier on them for some task. Its accuracy on other images says how well the task can be solved with what the
# layer offers, *linearly*. We probe every layer for two tasks:
#
# * **near** to the source: the objects of our target task,
# * **far** from it: handwritten digits (scikit-learn's, 8 by 8 pixels, enlarged). They have no colour, no texture, no
#   background, and no photograph of the source task looks like them.
#
# A probe's accuracy alone says nothing about *pre-training*: the classifier learns too, and even random features are
# features. So each probe is made on a random network as well. **What pre-training adds is the difference.** Each is
# measured with three seeds: other training images, other digits, another random network.

# %%
from sklearn.datasets import load_digits

PER_CLASS = 40
digits = load_digits()


def digit_images(numbers):
    """Digits as RGB images of the size that the network expects, prepared like all others."""
    to_tensor = prep.evaluation()
    pixels = (digits.images[numbers] * (255 / 16)).astype("uint8")
    large = [
        Image.fromarray(p).convert("RGB").resize((prep.size, prep.size)) for p in pixels
    ]
    return torch.stack([to_tensor(image) for image in large])


def drawn_digits(seed):
    """Numbers of `PER_CLASS` digits of each kind to train on, and as many others to test on."""
    order = np.random.default_rng(seed).permutation(len(digits.target))
    kinds = [order[digits.target[order] == kind] for kind in range(10)]
    train = np.concatenate([kind[:PER_CLASS] for kind in kinds])
    return train, np.concatenate([kind[PER_CLASS : 2 * PER_CLASS] for kind in kinds])


print(digits.images.shape, "digits, classes:", len(digits.target_names))

# %% tags=["nbval-ignore-output"]
tl.plots.image_grid(
    [prep.undo(image).permute(1, 2, 0).numpy() for image in digit_images(range(8))],
    title="The far task: handwritten digits, enlarged",
)


# %% tags=["nbval-ignore-output"]
def probes(seed):
    """Accuracy of a probe on every layer, for both tasks and both networks."""
    few = data.train.per_class(PER_CLASS, seed=seed)
    images, (first, second) = prepared(few), drawn_digits(seed)
    first_images, second_images = digit_images(first), digit_images(second)
    for name, network in {"pre-trained": pretrained, "random": untrained[seed]}.items():
        near = tc.pooled_features(network, images), few.labels
        near_test = test_features[name, seed], held_out.labels
        far = tc.pooled_features(network, first_images), digits.target[first]
        far_test = tc.pooled_features(network, second_images), digits.target[second]
        for task, (x, y), (x_test, y_test) in (
            (f"near: {data.name}", near, near_test),
            ("far: digits", far, far_test),
        ):
            for layer in x:
                right = tc.linear_probe(x[layer], y, x_test[layer], y_test)
                yield task, name, seed, layer, right


probed = pd.DataFrame(
    [row for seed in SEEDS for row in probes(seed)],
    columns=["task", "network", "seed", "layer", "accuracy"],
)
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

# %% [markdown]
# Look at the *distance between the two lines* in each panel, not at their height. The table has it in percentage
# points, mean ± standard deviation over the seeds.

# %% tags=["nbval-ignore-output"]
wide = probed.pivot(index=["task", "layer", "seed"], columns="network", values="accuracy")
added = (wide["pre-trained"] - wide["random"]).groupby(["task", "layer"], sort=False)
gain = added.mean()
(100 * gain).map("{:+.1f}".format).str.cat(
    (100 * added.std()).map(" ± {:.1f}".format)
).unstack(0).loc[list(maps)]

# %% tags=["claim-hierarchy"]
tc.report_finding(
    "Near task: pre-training adds more than 15 points in the last block,\n"
    "and at least 10 points more there than in the stem.",
    gain[NEAR, "layer4"] > 0.15,
    gain[NEAR, "layer4"] > gain[NEAR, "stem"] + 0.1,
)
if QUICK:
    near = probed[probed["task"] == NEAR].groupby(["network", "layer"])["accuracy"].mean()
    assert near["pre-trained", "layer3"] > near["pre-trained", "stem"] + 0.1
    assert near["random", "layer4"] < near["random", "stem"]
    print("With depth the pre-trained features get better, up to layer3 at least;")
    print("those of random networks get worse.")

# %% tags=["claim-far-task"]
if QUICK:
    random_digits = probed.query(
        "task == @FAR and network == 'random' and layer == 'layer4'"
    )
    assert random_digits["accuracy"].mean() > 0.85
    assert abs(gain[FAR, "layer4"]) < 0.06
    assert gain[FAR, "stem"] > gain[FAR, "layer4"]
    print("Far task: random features alone are right more than 85 % of the time,")
    print("and in the last block pre-training changes that by less than 6 points.")
    print("In the stem it adds more than in the last block.")

# %% [markdown]
# So there *is* a hierarchy, and it shows in what layers are good for:
#
# * On the near task the pre-trained features get better with depth, while those of a random network get worse. What the
#   source task has taught, and this task can use, is in the later layers.
# * On the far task both do well and the gap is small. The accuracy alone would look like a triumph of transfer; the
#   control says that little of it is due to pre-training. What it does add, it adds early.
# * Which depth is best is not always the last.

# %% tags=["nbval-ignore-output"]
best = (
    probed.query("network == 'pre-trained'")
    .groupby(["task", "layer"], sort=False)["accuracy"]
    .mean()
    .unstack()
)
print("The best depth for a probe on pre-trained features:")
print(best.idxmax(axis=1).to_string())

# %% [markdown]
# Three limits of these probes. The number of features differs between layers, so that a line's slope mixes depth and
# number; the gap between the lines does not, since both networks have the same number at the same depth. The mean over
# positions throws away *where* something is. And three seeds are few: read differences of a few points as a tie.
#
# ## 6 What fine-tuning changes
#
# If early layers are general, then fine-tuning should leave them much as they were. We fine-tune the whole network for
# a few epochs, all layers of the backbone with the same learning rate, and compare each layer's features of the test
# images before and after. The measure is linear **CKA** (*centred kernel alignment*, Kornblith et al. 2019). It asks
# whether the same images lie close to each other. It is 1 if features are the same up to rotation, scale and shift,
# and about 0 if they have nothing in common. As a lower mark we compare the pre-trained network with a random one.

# %% tags=["nbval-ignore-output"]
rows = []
for seed in SEEDS:
    tuned = tl.load_model(ARCH, classes=data.classes, seed=seed)
    rates = {g["name"]: 3e-4 for g in tl.param_groups(tuned, lr=1.0)} | {"head": 3e-3}
    few = replace(data, train=data.train.per_class(PER_CLASS, seed=seed))
    tl.fit(tuned, few, epochs=3, keep="last", lr=rates, seed=seed)
    after = tc.pooled_features(tuned, test_images)
    for layer, values in after.items():
        before = test_features["pre-trained", seed][layer]
        other = test_features["random", seed][layer]
        rows.append(
            ("before and after fine-tuning", seed, layer, tc.linear_cka(before, values))
        )
        rows.append(("pre-trained and random", seed, layer, tc.linear_cka(before, other)))
similar = pd.DataFrame(rows, columns=["compared", "seed", "layer", "cka"])
similar["task"] = f"features of {len(test_images)} test images"
tc.plots.lines(
    similar,
    "layer",
    "cka",
    by="compared",
    panel="task",
    percent=False,
    title="How alike are the features of a layer?",
    xlabel="depth",
    ylabel="linear CKA (1: the same)",
)

# %% tags=["claim-fine-tuning-late"]
kept = similar[similar["compared"].str.startswith("before")].pivot(
    index="seed", columns="layer", values="cka"
)
tc.report_finding(
    "With every seed, the stem's features stay as they were (CKA above 0.9),\n"
    "and those of the last block change more.",
    (kept["stem"] > 0.9).all(),
    (kept["stem"] > kept["layer4"] + 0.05).all(),
)

# %% [markdown]
# This is what the hierarchy leads one to expect, and a reason to freeze early layers or give them a smaller learning rate. It
# does not prove that they *need not* change: changes add up on the way, so a later layer's features differ also because
# its input does, and in a few epochs nothing moves far. What is compared is the mean over positions.
#
# ## 7 The promises, measured
#
# Textbooks name three advantages. We measured them with more runs than fit into a notebook; the results are stored in
# `tlcourse/measurements/data`, each with the command that makes it.
#
# ### Less data
#
# > With transfer learning, a few images of each class are enough.
#
# ResNet18 with images of 64 px, on safari and on photographs of flowers, with 10, 20 and 40 different training images
# of each class. Each run trains until its validation accuracy stops improving, at the best of three learning rates for
# its method. Dots are five seeds. The score is *balanced accuracy*, the mean of the classes' accuracies, so that a
# frequent class counts no more than a rare one.

# %% tags=["nbval-ignore-output"]
refinements = tc.load_results("refinements")
print(refinements)
METHODS = {"head": "frozen", "everything": "fine-tuned", "scratch": "from scratch"}
runs = refinements.scored[refinements.scored["topic"] == "depth"]
runs = runs.assign(network=runs["method"].map(METHODS)).dropna(subset="network")
tc.plots.lines(
    runs,
    "per_class",
    "test",
    by="network",
    panel="data",
    log=True,
    title="Less data? ResNet18 on drawings and on photographs",
    xlabel="different training images of each class (logarithmic)",
    ylabel="balanced accuracy on the test set",
    levels={"safari": 1 / 8, "flowers": 1 / 5},
)

# %% tags=["claim-less-data"]
score = runs.groupby(["data", "per_class", "network"])["test"].mean()
for name in ("safari", "flowers"):
    print(
        f"{name}: fine-tuned on 10 images of each class {score[name, 10, 'fine-tuned']:.1%}, "
        f"from scratch on 40 {score[name, 40, 'from scratch']:.1%}"
    )
    assert score[name, 10, "fine-tuned"] > score[name, 40, "from scratch"] + 0.05
assert score["safari", 10, "frozen"] > score["safari", 40, "from scratch"] + 0.05

# %% [markdown]
# Ten training images with transfer beat forty without: 45.9 % against 31.9 % on safari, 56.6 % against 49.6 % on
# flowers. The frozen backbone alone is ahead on safari; on flowers its lead of 2.2 points is not significant. All methods
# had twenty more images of each class for validation, which chose learning rate and epoch: whoever has only ten must do
# without them.
#
# How does it look on other images? Here each method has all training images of six data sets. *phantom* are X-rays that
# we draw; ants and bees, cats and dogs, flowers and chest X-rays are real. Differences are in percentage points, with
# 95 % intervals for other seeds and other test images (drawings, patients).
# <!-- given: tlcourse/measurements/data/refinements.json -->

# %% tags=["nbval-ignore-output"]
transfer = tc.load_results("transfer")
print(transfer)
NAMES = {
    "hymenoptera": "ants and bees",
    "cats_dogs": "cats and dogs",
    "flowers": "flowers",
    "safari": "safari",
    "chest_xray": "chest X-rays",
    "phantom": "drawn X-rays",
}
against = {name: transfer.against(name, "scratch", network="resnet18") for name in NAMES}
pd.DataFrame(
    {
        title: {
            "from scratch, %": f"{100 * against[name].loc['scratch', 'accuracy']:.1f}",
            **{
                f"{METHODS.get(method, method)} over scratch": tc.in_points(against[name])
                .loc[method]
                .iloc[1]
                for method in ("frozen", "everything")
            },
        }
        for name, title in NAMES.items()
    }
).T

# %% tags=["claim-less-data-xray"]
xray = against["chest_xray"]
print(
    f"Chest X-rays: frozen {xray.loc['frozen', 'accuracy']:.1%}, from scratch {xray.loc['scratch', 'accuracy']:.1%}, "
    f"fine-tuned {xray.loc['everything', 'accuracy']:.1%}"
)
assert xray.loc["frozen", "high"] < 0
assert xray.loc["everything", "low"] < 0 < xray.loc["everything", "high"]

# %% [markdown]
# On the first four data sets transfer gains 14 to 26 points by fine-tuning, 11 to 22 with a frozen backbone. On chest
# X-rays the frozen backbone *loses* 7 points: features of photographs are worse there than features learned from 600
# X-rays. That is called **negative transfer**. Fine-tuned, the same network does not differ significantly from one that
# was trained from scratch.
#
# So *less data* holds where the target resembles the source.
#
# ### Less time
#
# > A pre-trained network reaches the same accuracy in a fraction of the time.
#
# ResNet18 on safari, 40 images of each class, all layers trained for 25 epochs, five seeds, each start at its own best
# learning rate.
# <!-- given: the design of the experiment -->

# %% tags=["nbval-ignore-output"]
curves = tc.load_results("curves")
print(curves)
by_epoch = pd.concat(
    [
        pd.DataFrame(
            {
                "start": run.start,
                "seed": run.seed,
                "epoch": range(1, len(run.val) + 1),
                "training": run.train_acc,
                "validation": run.val,
            }
        )
        for run in curves.runs.itertuples()
    ]
)
tc.plots.lines(
    by_epoch,
    "epoch",
    "validation",
    "start",
    title="Less time? ResNet18 on safari",
    xlabel="epoch",
    ylabel="images right, validation set",
)

# %% [markdown]
# How long does the pre-trained network need for what the other reaches in all its epochs? The mark is the best validation
# accuracy of the run from scratch with the same seed.


# %% tags=["nbval-ignore-output"]
def epochs_to(mark, accuracies):
    """The first epoch, from 1, with at least this accuracy; NaN if there is none."""
    reached = np.flatnonzero(np.asarray(accuracies) >= mark)
    return reached[0] + 1 if len(reached) else np.nan


by_seed = curves.runs.pivot(index="seed", columns="start", values="val")
speed = pd.DataFrame(
    {
        "best from scratch": by_seed["scratch"].map(max),
        "in epoch": [epochs_to(max(val), val) for val in by_seed["scratch"]],
        "pre-trained reaches it in epoch": [
            epochs_to(max(row["scratch"]), row["pre-trained"])
            for _, row in by_seed.iterrows()
        ],
    }
)
speed.round(2)

# %% tags=["claim-less-time"]
needed, took = speed["pre-trained reaches it in epoch"], speed["in epoch"]
print(
    f"From scratch the best epoch is number {took.min()} to {took.max()}; "
    f"the pre-trained network is as good after {needed.min()} to {needed.max()} epochs."
)
assert (4 * needed <= took).all()

# %% [markdown]
# *Less time* holds for the one who transfers. The hours of pre-training are not in the account; somebody has spent them,
# once. An epoch takes as long for both, since it is the same network: what is saved are epochs.
#
# ### Better generalisation
#
# > A pre-trained network generalises better.
#
# This can mean three things, and they need not agree: the score on new images is higher; the gap between training
# images and new ones is smaller; or, at the same accuracy in training, it does better on new images.

# %% tags=["nbval-ignore-output"]
ends = curves.runs.assign(gap=curves.runs["train_clean"] - curves.runs["test"])
spread = ends.groupby("start")[["train_clean", "test", "gap"]].agg(["mean", "std"])
pd.DataFrame(
    {
        name: [
            f"{100 * mean:.1f} ± {100 * std:.1f}"
            for mean, std in spread[column].itertuples(index=False)
        ]
        for column, name in {
            "train_clean": "training images, % right",
            "test": "test, balanced accuracy in %",
            "gap": "gap, points",
        }.items()
    },
    index=spread.index,
)

# %% tags=["claim-generalisation"]
test = ends.pivot(index="seed", columns="start", values="test")
gap = ends.pivot(index="seed", columns="start", values="gap")
fit = ends.pivot(index="seed", columns="start", values="train_clean")
assert (test["pre-trained"] > test["scratch"] + 0.1).all()
assert (gap["pre-trained"] < gap["scratch"] - 0.1).all()
assert (fit > 0.93).all(axis=None)
means = ends.groupby("start")[["train_clean", "test"]].mean()
for start_of, row in means.iterrows():
    print(
        f"{start_of}: {row['train_clean']:.1%} of the training images, {row['test']:.1%} of the test images"
    )

# %% [markdown]
# Both fit nearly all training images. The pre-trained network is right on 56.0 % of the test images, the one from scratch
# on 31.4 %. The gap to the training images stays large for both: pre-training does not cure overfitting to a few hundred
# images.
#
# The third reading: for each run, training accuracy against validation accuracy, epoch by epoch. A curve that lies
# higher has more to show on new images for the same fit to the training images. (Training accuracy is measured on
# the way, on augmented images, alike for both.)
# <!-- given: tlcourse/measurements/data/curves.json -->

# %% tags=["nbval-ignore-output"]
chart = tl.plots.Chart(
    "Validation accuracy against training accuracy, epoch by epoch: for both starts, five runs each.",
    figsize=(6, 3.8),
)
axis = chart.subplots()
for (name, runs_of), colour in zip(
    by_epoch.groupby("start"), (tl.plots.BLUE, tl.plots.ORANGE), strict=True
):
    for seed, run in runs_of.groupby("seed"):
        label = name if seed == runs_of["seed"].min() else None
        axis.plot(
            run["training"], run["validation"], ".-", color=colour, alpha=0.6, label=label
        )
axis.set(
    title="The same fit in training, and what it is worth",
    xlabel="training images right, on the way",
    ylabel="validation images right",
)
for side in (axis.xaxis, axis.yaxis):
    side.set_major_formatter(PercentFormatter(1.0, decimals=0))
axis.grid(alpha=0.3)
axis.legend()
chart


# %% tags=["claim-same-fit"]
def at_same_fit(mark):
    """Validation accuracy at the first epoch with this accuracy in training, by seed and start."""
    reached = by_epoch[by_epoch["training"] >= mark].groupby(["seed", "start"])
    return reached["validation"].first().unstack()


same_fit = pd.concat(
    {mark: at_same_fit(mark) for mark in (0.5, 0.7, 0.8)}, names=["training"]
)
lead = 100 * (same_fit["pre-trained"] - same_fit["scratch"])
for mark, points in lead.groupby("training").mean().items():
    print(
        f"At {mark:.0%} training accuracy the pre-trained network is {points:.1f} points ahead in validation."
    )
assert (lead > 10).all()

# %% [markdown]
# ## Summary
#
# * **Backbone** and **head**: what is carried over, and what is new. Almost all of the network is carried over.
# * **"Early layers learn edges"** holds for the first layer, measured against random filters. **"Later layers learn
#   objects"** cannot be seen in single channels; it shows when all channels of a layer are asked together.
# * **A random network is the control.** On a near task pre-training adds most in the late layers. On handwritten digits,
#   random features do almost as well.
# * **Fine-tuning** changes late layers more than early ones.
# * **Less data** holds where the target resembles the source: ten images with transfer beat forty without. On
#   X-rays ResNet18's frozen features lose to training from scratch. **Less time** holds in epochs, if somebody else has paid for the pre-training. **Better
#   generalisation** held on safari, and still both networks overfit.
#
# **What to try next**
#
# * Set `layer` to `layer1` and `layer3` in step 4, or draw other channels. Write down what you see *before* you look at
#   the class names.
# * Probe a third task of your own: set `DATA` to a folder. Where do you expect the best depth?
# * Give the random network a BatchNorm that has seen data (`train()` and a pass without gradients). Does it get better?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
