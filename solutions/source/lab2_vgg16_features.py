# %% [markdown]
# # Lab 2: VGG16 as a feature extractor
#
# A pre-trained network without its head turns every image into a list of numbers. Computed once, these numbers can be
# classified, compared and drawn in seconds, however large the network is.
#
# **What you will learn**
#
# * how to cut off a head, and what the numbers are that remain,
# * how to extract features from a folder of images once, correctly and in a fixed order,
# * how to train a linear classifier on them with a loop of your own,
# * how to choose a layer and a pooling without deceiving yourself,
# * how to find images that resemble each other, and what a map of features shows,
# * how much every further image brings.
#
# **Time:** one and a half to two hours for you; the cells themselves take about a minute on 2 CPU cores.
#
# Replace each `...` and run the cell; the check below it says ✓, or ✗ and what to look at. Hints fold out.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from sklearn.linear_model import RidgeClassifierCV
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile(precision="fp32")
print(profile)

# %%
lab = tc.Lab("lab2_vgg16_features")
lab.progress()

# %% [markdown]
# ## The images
#
# The quick profile takes *safari*, drawings on made-up backgrounds, at 64 pixels. The training set, the validation set
# and the test set share no drawing.
#
# **For images of your own** change the one line that says `data = `: `data = tl.load_data("path/to/folder")`, where
# the folder has one folder for each class. Begin with a few dozen images of each class; everything below works the
# same.

# %%
SIZE = 64 if profile.name == "quick" else 224  # pixels
data = tl.load_data("safari", size=SIZE, per_class=20, val_per_class=10, test_per_class=20)
print(data)

# %% tags=["nbval-ignore-output"]
display(data.show(16))

# %% [markdown]
# ## The network
#
# VGG16 has thirteen convolutions in five blocks. Each block ends with a pooling. In the quick profile it is the VGG16
# that came with the course, which was trained on small photographs. It has torchvision's convolutions, then the mean
# over positions, and a single linear layer, its *head*. Torchvision's own, in the full profile, has three linear
# layers, and the last is the head. In both it is `classifier[-1]`.

# %%
network = tl.load_model("vgg16", size=SIZE)
print(network.card.sentence)
print(network.avgpool)
print(network.classifier)

# %%
for number, layer in enumerate(network.features):
    print(f"{number:2}  {layer}")

# %% [markdown]
# ## 1 The extractor
#
# **Difficulty** ●○○ · **10 minutes** · **Why it matters:** with its head on, the network tells which of its *old*
# classes an image resembles; what goes into the head is more general.
#
# Load VGG16 once more (`network` stays as it is) and make an `extractor` of it that gives what goes into the head. It
# must be in evaluation mode, and none of its parameters may ask for gradients. Replace the head and build no new
# network around the old one's parts, so that it keeps its `card`, which says how images are to be prepared.
#
# <details><summary>Hint 1</summary>
#
# A layer of a network can be replaced by another one: `extractor.classifier[-1] = ...`. Which layer gives back what it
# is given?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.nn.Identity()`. The rest are two calls: `eval()`, and one that switches off gradients for all parameters.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The head becomes an identity. `eval()` matters although VGG16 has no BatchNorm: there is Dropout before the head.
# `requires_grad_(False)` works on a whole network.
#
# </details>

# %%
# BEGIN ANSWER: extractor
extractor = tl.load_model("vgg16", size=SIZE)
extractor.classifier[-1] = torch.nn.Identity()
extractor.eval()
extractor.requires_grad_(False)
# END ANSWER
lab.check("extractor", extractor, like=network, classes=data.num_classes)

# %% [markdown]
# ## 2 Shapes
#
# **Difficulty** ●○○ · **10 minutes** · **Why it matters:** most errors in a network of one's own are wrong shapes; who
# can predict them finds them.
#
# An image of `SIZE` pixels goes through `features`. Which shape (channels, height, width) does it have at the end of
# `block1`, `block3` and `block5`? Predict first, with the list of layers above and no code. A block ends *with* its
# pooling.
#
# <details><summary>Hint 1</summary>
#
# The convolutions here have a kernel of 3 and a padding of 1: they keep height and width. What do the poolings do?
#
# </details>
# <details><summary>Hint 2</summary>
#
# The channels are those of the block's last convolution, its second number in the list. Height and width are halved once
# for each block so far.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# After block number b the side is `SIZE` divided by 2 to the power of b.
#
# </details>

# %%
# BEGIN ANSWER: shapes
shapes = {
    "block1": (64, SIZE // 2, SIZE // 2),
    "block3": (256, SIZE // 8, SIZE // 8),
    "block5": (512, SIZE // 32, SIZE // 32),
}
# END ANSWER
lab.check("shapes", shapes, model=network, size=SIZE)

# %% [markdown]
# ## 3 Extract once
#
# **Difficulty** ●●● · **20 minutes** · **Why it matters:** everything below rests on these numbers. If a row belongs to
# another image, or the images are prepared wrongly, nothing complains; the results are only worse.
#
# Write `features(model, split)`. It returns a NumPy array (images, features).
#
# * Row `i` belongs to image `i` of the part, so that `split.labels` fit.
# * The images go through the network in batches, not one by one and not all at once.
# * They are prepared as the network's own card says: `model.card.preprocessing.evaluation()` is a function from a
#   image to a tensor.
# * The function itself puts the network into evaluation mode, and computes no gradients.
# * Two calls give the same.
#
# The check tries it on a network and images of its own.
#
# <details><summary>Hint 1</summary>
#
# `split.image(i)` is image `i`; `torch.stack` makes a batch of tensors. Or let
# `DataLoader(split.with_transform(transform), batch_size=64)` do both; its batches are pairs of images and labels.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Collect the network's output for each batch in a list; `torch.cat` joins them, the smaller last one included. `shuffle`
# and `drop_last` stay off.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# `model.eval()`; inside `with torch.inference_mode():` a loop over a `DataLoader` without shuffling; at the end
# `torch.cat(...).numpy()`.
#
# </details>


# %%
def features(model, split):
    """What a network makes of every image of a part: NumPy array (images, features)."""
    # BEGIN ANSWER
    transform = model.card.preprocessing.evaluation()
    device = next(model.parameters()).device
    model.eval()
    found = []
    with torch.inference_mode():
        for images, _ in DataLoader(split.with_transform(transform), batch_size=64):
            found.append(model(images.to(device)).cpu())
    return torch.cat(found).numpy()
    # END ANSWER


lab.check("features", features)

# %% [markdown]
# Now once for the training set and once for the validation set. The test set has to wait: no choice is made on it.

# %%
train_features = val_features = ...
if lab.ready(extractor, features):
    train_features, val_features = (
        features(extractor, data.train),
        features(extractor, data.val),
    )
    print("training", train_features.shape, "validation", val_features.shape)

# %% [markdown]
# What do they look like? A feature that is 0 in every training image answers to something that does not occur here.

# %% tags=["nbval-ignore-output"]
if lab.ready(train_features):
    dead = (train_features == 0).all(axis=0)
    print(f"{dead.sum()} of {dead.size} features are 0 in every training image")
    spread = train_features.std(axis=0)[~dead]
    print(
        f"the deviations of the others reach from {spread.min():.4f} to {spread.max():.3f}"
    )

# %% [markdown]
# ## 4 A linear classifier
#
# ### 4a Standardise
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** features have very different spreads; without a common scale
# the large ones decide, and one learning rate fits none.
#
# Write `scale(train, other)`: subtract each feature's mean and divide by its standard deviation, over the images of
# the *training* part, in both arrays. Return both, NumPy arrays, in that order. Mind features that are constant in
# training.
#
# <details><summary>Hint 1</summary>
#
# Rows are images, columns are features. `train.mean(axis=...)` should give as many numbers as there are features.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.where(deviation > 0, deviation, 1)`. Adding a tiny number to the deviation is not enough: a feature that was 0 in
# training can be alive in another image, and would then become enormous.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Compute mean and deviation once, from `train`, along axis 0; use them for both.
#
# </details>


# %%
def scale(train, other):
    """Both arrays with the training set's mean and deviation of each feature."""
    # BEGIN ANSWER
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return (train - mean) / deviation, (other - mean) / deviation
    # END ANSWER


lab.check("scale", scale)

# %% [markdown]
# ### 4b An epoch
#
# **Difficulty** ●●○ · **15 minutes** · **Why it matters:** you should be able to write the loop that everything else
# wraps, and the loss that it reports should be the loss.
#
# Write `train_epoch(head, batches, optimizer)`: one pass over `batches`, which are pairs of features and labels, a step
# of the optimizer for each, with cross-entropy. Return the mean loss *of an image* over the epoch, as it was on the
# way, as a Python number. The last batch may be smaller than the others.
#
# <details><summary>Hint 1</summary>
#
# For each batch: logits, loss, `zero_grad`, `backward`, `step`. `torch.nn.functional.cross_entropy(logits, labels)`
# takes logits and gives the batch's mean.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A mean over batches counts the images of a small batch for more than others. Add up `loss.item() * len(labels)`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two running sums, one of losses times images and one of images; return their quotient.
#
# </details>


# %%
def train_epoch(head, batches, optimizer):
    """One pass over the batches; returns the mean loss of an image."""
    # BEGIN ANSWER
    total, count = 0.0, 0
    for inputs, labels in batches:
        loss = torch.nn.functional.cross_entropy(head(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        count += len(labels)
    return total / count
    # END ANSWER


lab.check("epoch", train_epoch)

# %% [markdown]
# With both, a linear layer is trained on the features. No image goes through VGG16 any more. Compare the two losses:
# does that of validation go on falling for as long as that of training?

# %% tags=["nbval-ignore-output"]
if lab.ready(train_features, scale, train_epoch):
    train, val = (
        torch.as_tensor(part, dtype=torch.float32)
        for part in scale(train_features, val_features)
    )
    torch.manual_seed(profile.seed)
    head = torch.nn.Linear(train.shape[1], data.num_classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    batches = DataLoader(
        TensorDataset(train, data.train.labels), batch_size=32, shuffle=True
    )
    rows, begun = [], time.perf_counter()
    for epoch in range(1, 31):
        rows.append(("training, on the way", epoch, train_epoch(head, batches, optimizer)))
        with torch.inference_mode():
            logits = head(val)
        rows.append(
            (
                "validation",
                epoch,
                torch.nn.functional.cross_entropy(logits, data.val.labels).item(),
            )
        )
    right = (logits.argmax(dim=1) == data.val.labels).float().mean()
    print(
        f"{epoch} epochs in {time.perf_counter() - begun:.1f} s; {right:.0%} of the validation images are right"
    )
    history = pd.DataFrame(rows, columns=["part", "epoch", "loss"])
    chart = tc.plots.lines(
        history,
        "epoch",
        "loss",
        "part",
        title="A linear classifier on features",
        xlabel="epoch",
        ylabel="cross-entropy (nats)",
        percent=False,
    )
    display(chart)

# %% [markdown]
# From here on scikit-learn does both steps: `StandardScaler` standardises, and `RidgeClassifierCV` is a linear
# classifier that finds its own strength of regularisation by cross-validation inside the training set. It takes a
# moment, also with many more features than images.


# %%
def accuracy(train, labels, other, other_labels):
    """A linear classifier learns from training features; the share of other images that it gets right."""
    classifier = make_pipeline(
        StandardScaler(), RidgeClassifierCV(alphas=np.logspace(0, 6, 7))
    )
    return classifier.fit(train, labels).score(other, other_labels)


# %% [markdown]
# ## 5 Which layer, which pooling?
#
# A block gives *maps*, (channels, height, width). To become a list of numbers, each map can be reduced to its mean or
# to its maximum, or all its values can be kept. And why the last block?
#
# ### 5a Three poolings
#
# **Difficulty** ●○○ · **10 minutes** · **Why it matters:** the mean says how much of something there is, the maximum
# whether it is anywhere, and only all values say where.
#
# Write `pool(maps, how)`: a tensor (images, channels, height, width) becomes one (images, features), for `how` equal
# to `"mean"`, `"max"` and `"flatten"`.
#
# <details><summary>Hint 1</summary>
#
# Dimensions 0 and 1 are images and channels; height and width are 2 and 3, or -2 and -1.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `mean` takes several dimensions at once. `max` does not and gives places too; `amax` does what is wanted. `flatten` has
# a parameter that says where it begins.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Mean and maximum over dimensions 2 and 3; flatten from dimension 1.
#
# </details>


# %%
def pool(maps, how):
    """(images, channels, height, width) -> (images, features), by "mean", "max" or "flatten"."""
    # BEGIN ANSWER
    if how == "mean":
        return maps.mean(dim=(2, 3))
    if how == "max":
        return maps.amax(dim=(2, 3))
    return maps.flatten(1)
    # END ANSWER


lab.check("pool", pool)

# %% [markdown]
# The maps of three blocks, in one pass for each part. `tc.activations` looks into a network at layers that are named;
# number 16 of `features` is the last layer of block 3.

# %%
LAYERS = {"features.16": "block3", "features.23": "block4", "features.30": "block5"}


def block_maps(split):
    """The maps at the end of three blocks, for every image: {block: (images, channels, height, width)}."""
    transform = network.card.preprocessing.evaluation()
    images = torch.stack([transform(split.image(i)) for i in range(len(split))])
    return tc.activations(network, images, LAYERS)


maps = {part.name: block_maps(part) for part in (data.train, data.val, data.test)}
for block in LAYERS.values():
    print(block, tuple(maps["train"][block].shape))

# %% [markdown]
# Every combination, three times, each time with another 12 of the training images of each class.

# %% tags=["nbval-ignore-output"]
SEEDS = range(3)


def try_out(block, how):
    """Rows (layer, pooling, seed, validation accuracy, test accuracy)."""
    inputs = {part: pool(maps[part][block], how).numpy() for part in maps}
    rows = []
    for seed in SEEDS:
        chosen = list(data.train.per_class(12, seed=seed).rows)
        learn = inputs["train"][chosen], data.train.labels[chosen].numpy()
        val = accuracy(*learn, inputs["val"], data.val.labels.numpy())
        test = accuracy(*learn, inputs["test"], data.test.labels.numpy())
        rows.append((block, how, seed, val, test))
    return rows


scores = ...
if lab.ready(pool):
    methods = [
        (block, how) for block in LAYERS.values() for how in ("mean", "max", "flatten")
    ]
    rows = [row for block, how in methods for row in try_out(block, how)]
    scores = pd.DataFrame(rows, columns=["layer", "pooling", "seed", "val", "test"])
    chart = tc.plots.ranking(
        scores.assign(method=scores["layer"] + ", " + scores["pooling"]),
        "val",
        "method",
        title="Nine kinds of features, three choices of training images",
        xlabel="validation accuracy",
    )
    display(chart)

# %% [markdown]
# ### 5b Choose
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** the best of nine is partly the luckiest of nine. If it is
# chosen on the test set, no honest number is left.
#
# The table `scores` has the columns `layer`, `pooling`, `seed`, `val` and `test`. Set `best` to the pair (layer,
# pooling) with the best mean validation accuracy, and `final` to that pair's mean test accuracy, a fraction.
#
# <details><summary>Hint 1</summary>
#
# `scores.groupby(["layer", "pooling"])[["val", "test"]].mean()` has the nine means of both.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `.idxmax()` of one column gives the pair; `.loc[pair, "test"]` looks up the other column.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Average over seeds, take the maximum of the validation column, and read the test column in that row only.
#
# </details>

# %%
best = final = ...
if lab.ready(scores):
    # BEGIN ANSWER: best, final
    means = scores.groupby(["layer", "pooling"])[["val", "test"]].mean()
    best = means["val"].idxmax()
    final = means.loc[best, "test"]
    # END ANSWER

# %% tags=["nbval-ignore-output"]
lab.check("choose", best, final, table=scores)

# %% [markdown]
# How sure is that choice? Compare the first rows with the spread over seeds, and the order of the two columns with each
# other.

# %% tags=["nbval-ignore-output"]
if lab.ready(scores):
    table = (
        scores.groupby(["layer", "pooling"])[["val", "test"]].agg(["mean", "std"]).round(3)
    )
    display(table.sort_values(("val", "mean"), ascending=False))

# %% [markdown]
# ## 6 Nearest neighbours
#
# **Difficulty** ●●○ · **15 minutes** · **Why it matters:** the quickest way to see what features hold is to ask which
# images they take for alike. No training is needed, nor are labels.
#
# Write `neighbours(features, index, count)`: the indices of the `count` images that are most similar to image
# number `index`, the most similar first, without the image itself. Similarity is the *cosine* of the angle between
# two lists of features: their dot product divided by both lengths.
#
# <details><summary>Hint 1</summary>
#
# Divide every row by its length: `np.linalg.norm(features, axis=1, keepdims=True)`. Then one matrix product gives all
# cosines.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.argsort` sorts upwards. The image itself need not come first, since a folder may hold a copy of it; take its
# index out by hand.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Set the image's own similarity to minus infinity, sort the negative similarities, and take the first `count` indices.
#
# </details>


# %%
def neighbours(features, index, count):
    """Indices of the most similar other images, by cosine similarity, the most similar first."""
    # BEGIN ANSWER
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = unit @ unit[index]
    similarity[index] = -np.inf
    return np.argsort(-similarity)[:count]
    # END ANSWER


lab.check("neighbours", neighbours)

# %% [markdown]
# A row for each of four training images: the image, then its five neighbours. Which of them share the class, which
# the drawing, and which only a background?

# %% tags=["nbval-ignore-output"]
if lab.ready(train_features, neighbours):
    asked = [len(data.train) * step // 4 + 2 for step in range(4)]
    shown = [
        number
        for index in asked
        for number in (index, *neighbours(train_features, index, 5))
    ]
    names = [data.classes[int(data.train.labels[int(number)])] for number in shown]
    chart = tl.plots.image_grid(
        [data.train.image(int(number)) for number in shown],
        [name if place % 6 else f"asked: {name}" for place, name in enumerate(names)],
        title="Nearest neighbours in feature space",
        columns=6,
    )
    display(chart)

# %% [markdown]
# In one number: how often has the nearest neighbour the same class? With eight equal classes, as here, a random image
# has it for about one in eight.

# %% tags=["nbval-ignore-output"]
if lab.ready(train_features, neighbours):
    labels = data.train.labels.numpy()
    nearest = np.array(
        [int(neighbours(train_features, index, 1)[0]) for index in range(len(labels))]
    )
    share = (labels[nearest] == labels).mean()
    print(
        f"the nearest neighbour has the same class for {share:.0%} of the training images"
    )
    if data.train.groups is not None:
        groups = np.array(data.train.groups)
        print(
            f"for {(groups[nearest] == groups).mean():.0%} it shows the same drawing or kind, in another scene"
        )

# %% [markdown]
# ## 7 A map
#
# ### 7a Draw it
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** a map is a model too, and is fitted on something.
#
# Write `flat_map(train, other)`: fit scikit-learn's `PCA` with two components on the training set, and return both
# parts in these two dimensions, (images, 2) each. Then a place on the map means the same for both.
#
# <details><summary>Hint 1</summary>
#
# `from sklearn.decomposition import PCA`, `PCA(n_components=2)`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Models of scikit-learn have `fit` and `transform`. `fit_transform` on the second part would fit again.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# One `fit`, on the training set; two times `transform`.
#
# </details>


# %%
def flat_map(train, other):
    """Both parts in the two dimensions along which the training set differs most."""
    # BEGIN ANSWER
    from sklearn.decomposition import PCA

    pca = PCA(n_components=2).fit(train)
    return pca.transform(train), pca.transform(other)
    # END ANSWER


lab.check("map", flat_map)

# %% tags=["nbval-ignore-output"]
if lab.ready(train_features, scale, flat_map):
    flat_train, flat_val = flat_map(*scale(train_features, val_features))
    chart = tc.plots.point_map(
        {
            "training": (flat_train, data.train.labels),
            "validation": (flat_val, data.val.labels),
        },
        data.classes,
        title="PCA, fitted on the training set",
        xlabel="first component",
        ylabel="second component",
    )
    display(chart)

# %% [markdown]
# PCA is a projection: most of what features hold lies in directions that it leaves out. *t-SNE* bends the space
# instead, so that neighbours stay neighbours as far as possible. It has no `transform`: a new image has no place on a
# finished map. Here are two runs of it on the same features; only the seed differs.

# %% tags=["nbval-ignore-output"]
if lab.ready(train_features, scale):
    standard, _ = scale(train_features, val_features)
    runs = {
        f"seed {seed}": TSNE(init="random", perplexity=20, random_state=seed)
        for seed in (0, 1)
    }
    chart = tc.plots.point_map(
        {
            name: (run.fit_transform(standard), data.train.labels)
            for name, run in runs.items()
        },
        data.classes,
        title="t-SNE of the training set, twice",
    )
    display(chart)

# %% [markdown]
# ### 7b Read it
#
# **Difficulty** ●●○ · **5 minutes** · **Why it matters:** such maps are in many articles, and are read for more than
# they say.
#
# What may be read off a t-SNE map?
#
# * **A** A group that covers more of the map varies more.
# * **B** Two groups that are far apart on the map are more different than two that are close.
# * **C** Images close together on the map were probably close in feature space.
# * **D** Where the classes are apart on the map, a classifier will be right on new images.
#
# <details><summary>Hint 1</summary>
#
# Compare the two runs above: what is the same in both?
#
# </details>
# <details><summary>Hint 2</summary>
#
# t-SNE's aim is to keep neighbours. Sizes and large distances are no part of that aim.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Only what the method tries to keep can be read, and even that with care.
#
# </details>

# %%
# BEGIN ANSWER: answer
answer = "C"
# END ANSWER
lab.check("reading", answer)

# %% [markdown]
# ## 8 How many images are enough?
#
# **Difficulty** ●●● · **20 minutes** · **Why it matters:** "do we need more images?" is the question that every
# project asks, and with features at hand it takes a minute to answer.
#
# Make a DataFrame `curve` with the columns `per_class`, `seed` and `accuracy`: for 2, 4, 8 and 16 training images of
# each class and the seeds 0 to 4, the *validation* accuracy (a fraction) of a linear classifier, by the function
# `accuracy(train, labels, other, other_labels)` from above. Use `train_features` and `val_features`; nothing goes
# through the network.
#
# `data.train.per_class(count, seed=seed).rows` are the numbers of `count` training images of each class.
#
# <details><summary>Hint 1</summary>
#
# Two loops, one over counts and one over seeds, and a list of tuples.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `chosen = list(...)` picks rows of the features *and* of the labels: `train_features[chosen]`,
# `data.train.labels[chosen].numpy()`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# For each count and seed: choose, learn from the chosen rows, score on the whole validation set.
#
# </details>

# %% tags=["nbval-ignore-output"]
COUNTS = (2, 4, 8, 16)

curve = ...
if lab.ready(train_features):
    # BEGIN ANSWER: curve
    rows = []
    for count in COUNTS:
        for seed in range(5):
            chosen = list(data.train.per_class(count, seed=seed).rows)
            learn = train_features[chosen], data.train.labels[chosen].numpy()
            rows.append(
                (count, seed, accuracy(*learn, val_features, data.val.labels.numpy()))
            )
    curve = pd.DataFrame(rows, columns=["per_class", "seed", "accuracy"])
    # END ANSWER
lab.check("curve", curve, counts=COUNTS, seeds=5)

# %% [markdown]
# Is the curve still rising at its end? How wide is the band with few images, and how wide with many? Part of the
# narrowing is not real: five choices of 16 out of 20 images have most of their images in common, so they cannot
# differ much.

# %% tags=["nbval-ignore-output"]
if lab.ready(curve):
    chart = tc.plots.lines(
        curve,
        "per_class",
        "accuracy",
        title="A linear classifier on VGG16's features, five choices of images",
        xlabel="training images of each class",
        ylabel="validation accuracy",
        log=True,
    )
    display(chart)

# %%
lab.progress()

# %% [markdown]
# ## Summary
#
# * The extractor is the network without its head, in evaluation mode, without gradients.
# * Features are computed once: in the order of the images, in batches, prepared as the weights' card says.
# * Whatever is computed *from* data (mean and deviation, a PCA) is computed from the training set.
# * Layer and pooling are chosen on validation images; the test set is read once, for the choice.
# * Neighbours and maps show what features hold; they are no measurement of how good a classifier is.
# * A learning curve over several seeds says whether more images would help, and how sure that is.
#
# **What to try next**
#
# * Take a folder of your own: change the line `data = `.
# * Take ResNet18 instead. What must be changed in exercises 1 and 5, and what not?
# * Join the features of two blocks. Does it help on validation images?
# * Look for the validation image that is furthest from all training images. What is on it?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
