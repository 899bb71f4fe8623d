# %% [markdown]
# # Lab 2: VGG16 as a feature extractor
#
# > **The book's exercise.** "Load a pre-trained VGG16 model, use it as a feature extractor on a custom data set, and train
# > a new classifier on top of it."
#
# You have a folder of a few hundred images and a laptop: too little to train VGG16. Instead, leave the network as it is.
# It turns each image into 512 numbers, its *features*, and you train one linear layer on them. That takes seconds.
#
# **What you will learn**
#
# * how to cut off the head of a network,
# * how to compute features from a folder of images, once and in the right order,
# * how to train a linear classifier on them with a loop of your own,
# * how to read the result: baseline, overfitting, the hardest class.
#
# **Time:** 85 minutes for the core and 40 minutes for the extension. All cells together run for about a minute.
# Background: [section 12.2.1](../chapter12/12_2_1_feature_extraction.ipynb).
# <!-- given: sums of the minutes of the exercises; 512 is the width of VGG16's last block -->
#
# Replace each `...` and run the cell. The check below it says ✓ right, or ✗ and what to look at. Hints fold out.

# %% tags=["student"]
STUDENT = ""  # your name or number, if your teacher collects the notebooks

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from torch.utils.data import DataLoader, TensorDataset

# %% tags=["nbval-ignore-output"]
import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile(precision="fp32")
print(profile)
lab = tc.Lab("lab2_vgg16_features")
lab.progress()

# %% [markdown]
# ## A custom data set
#
# A custom data set is a folder with one folder for each class. It may be divided already:
#
#     my_images/train/bird/….jpg
#     my_images/val/bird/….jpg
#     my_images/test/bird/….jpg
#
# or not: from `my_images/bird/….jpg`, `tl.load_data` draws the three sets at random.
#
# The next cell writes such a folder, with drawings of eight kinds of things. The three sets come from different artists. One
# class has more images than the others, as is common in practice.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
SIZE = 64 if profile.name == "quick" else 224  # pixels
drawings = tl.load_data(
    "safari", size=SIZE, per_class=40, val_per_class=15, test_per_class=18
)


def unequal(split, step):
    """A split without every image number 0, step, 2 * step and so on, except in the first class."""
    return split.select([i for i in range(len(split)) if split.labels[i] == 0 or i % step])


drawings.train = unequal(drawings.train, 2)
drawings.val, drawings.test = unequal(drawings.val, 3), unequal(drawings.test, 3)
workspace = tempfile.TemporaryDirectory()  # gone when the notebook is closed
example = tc.export_folder(drawings, Path(workspace.name) / "things")
print(
    "written:", ", ".join(sorted(path.name for path in example.iterdir() if path.is_dir()))
)

# %% [markdown]
# **For images of your own, change the line that begins with `FOLDER`, and nothing else.** Class names and counts below come
# from the folder. Photographs of any size will do, about thirty of each class. First work through the lab with the given
# folder, so that you know what to expect.

# %% tags=["nbval-ignore-output"]
FOLDER = example  # of your own: FOLDER = Path("path/to/my_images")

data = tl.load_data(FOLDER)
print(data.sizes())
data.show(16)

# %% [markdown]
# ## The network
#
# VGG16 has thirteen convolutions in five blocks. Each block ends with a pooling. In the quick profile, the mean over
# positions and one linear layer follow; in torchvision's VGG16, three linear layers. In both, the last layer,
# `classifier[-1]`, is the **head**. Your own new head is called the classifier in this lab. The network's *card* says what it
# was trained on and how it wants images prepared.

# %%
network = tl.load_model("vgg16", size=SIZE)
print(network.card.sentence)
print(network.avgpool)
print(network.classifier)

# %%
for number, layer in enumerate(network.features):
    print(f"{number:2}  {layer}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
Box = tc.plots.Box
tc.plots.flow(
    {
        "once for each image": (
            {
                "image": Box("image", 0, 0, "none"),
                "blocks": Box("five frozen\nblocks", 1.8, 0, "#DDDDDD", 1.6, 0.9),
                "features": Box("features", 3.8, 0, "#F2D0A9", 1.4, 0.9),
            },
            [("image", "blocks"), ("blocks", "features")],
        ),
        "in every epoch": (
            {
                "features": Box("features", 0, 0, "#F2D0A9", 1.4, 0.9),
                "head": Box(
                    "new\nclassifier", 2, 0, tc.plots.METHOD_COLOURS["frozen"], 1.4, 0.9
                ),
                "loss": Box("logits, loss", 3.8, 0, "none", 1.4),
            },
            [("features", "head"), ("head", "loss")],
        ),
    },
    title="The frozen blocks (grey) run once; only the new classifier (blue) trains",
    height=1.6,
)

# %% [markdown]
# ### 1 The extractor
#
# **Difficulty** ●○○ · **10 minutes** · **2 points** · **Why it matters:** the head answers in the classes of the *old*
# task. What goes into the head is useful for other tasks too.
#
# Load VGG16 once more, with `size=SIZE` (`network` stays as it is), and make an `extractor` of it that returns what goes into
# the head. It must be in evaluation mode, and no parameter may require a gradient. Replace the head inside the loaded
# network, so that it keeps its `card`, which says how to prepare images.
#
# <details><summary>Hint 1</summary>
#
# A layer of a network can be replaced: `extractor.classifier[-1] = ...`. Which layer returns its input unchanged?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.nn.Identity()`. Two more calls are needed: `eval()`, and one that switches off the gradients of all parameters.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The head becomes an identity. `eval()` matters because of the Dropout before the head. `requires_grad_(False)` works on a
# whole network.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: extractor
extractor = tl.load_model("vgg16", size=SIZE)
extractor.classifier[-1] = torch.nn.Identity()
extractor = extractor.eval().requires_grad_(False)
# END ANSWER

# %% tags=["check"] points=2
lab.check("extractor", extractor, like=network, classes=data.num_classes)

# %% [markdown]
# ### 2 Shapes
#
# **Difficulty** ●○○ · **5 minutes** · **1 point** · **Why it matters:** most errors in a network of your own are wrong
# shapes.
#
# An image of `SIZE` pixels goes through `features`. Which shape (channels, height, width) does it have at the end of
# `block1`, `block3` and `block5`? Predict it from the list of layers above, without running the network. A block ends
# *after* its pooling. Write `shapes` as a dictionary such as `{"block1": (3, 8, 8), ...}`.
#
# <details><summary>Hint 1</summary>
#
# The convolutions have a padding of 1 and keep height and width. What do the poolings do?
#
# </details>
# <details><summary>Hint 2</summary>
#
# The channels are the second number of the block's last convolution. Each block halves height and width.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# After block number b, height and width are `SIZE` divided by 2 to the power of b.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: shapes
shapes = {
    "block1": (64, SIZE // 2, SIZE // 2),
    "block3": (256, SIZE // 8, SIZE // 8),
    "block5": (512, SIZE // 32, SIZE // 32),
}
# END ANSWER

# %% tags=["check"] points=1
lab.check("shapes", shapes, model=network, size=SIZE)

# %% [markdown]
# ### 3 Extract once
#
# **Difficulty** ●●● · **20 minutes** · **4 points** · **Why it matters:** if rows are mixed up or images prepared wrongly,
# there is no error message. The results are only worse.
#
# Write `features(model, split)`, which returns a NumPy array (images, features).
#
# * Row `i` belongs to image `i` of the split, so that `split.labels` fit.
# * The images go through the network in batches.
# * They are prepared as the network's own card says: `model.card.preprocessing.evaluation()` is a function from an image
#   to a tensor.
# * The function itself puts the network into evaluation mode, and computes no gradients.
#
# <details><summary>Hint 1</summary>
#
# `DataLoader(split.with_transform(transform), batch_size=64)` prepares the images and makes batches: pairs of images and
# labels.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Collect the network's output for each batch in a list. `torch.cat` joins them. Leave `shuffle` and `drop_last` off.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# `model.eval()`; inside `with torch.inference_mode():` a loop over the `DataLoader`; at the end `torch.cat(...).numpy()`.
#
# </details>


# %% tags=["answer"]
def features(model, split):
    """The features of every image of a split: NumPy array (images, features)."""
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


# %% tags=["check"] points=4
lab.check("features", features)

# %% [markdown]
# Now compute them for the training and the validation set. The test set waits until every choice has been made.

# %% tags=["nbval-ignore-output"]
train_features = val_features = np.zeros((2, 1))
if lab.ready("extractor", "features"):
    begun = time.perf_counter()
    train_features = features(extractor, data.train)
    val_features = features(extractor, data.val)
    print(f"training {train_features.shape}, validation {val_features.shape}")
    print(f"{time.perf_counter() - begun:.1f} s, needed only once")
    spread = train_features.std(axis=0)
    print(f"standard deviations from {spread.min():.4f} to {spread.max():.2f}")

# %% [markdown]
# ### 4 Standardise
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** the features' standard deviations differ greatly.
# Without a common scale a few features decide, and no learning rate fits all.
#
# Write `scale(train, other)`. It subtracts from each feature its mean and divides by its standard deviation, both computed
# from `train`. Return two new arrays in that order. From a feature that is constant in `train`, only subtract the mean: it
# must not become infinite or huge in `other`.
#
# <details><summary>Hint 1</summary>
#
# Rows are images, columns are features. `train.mean(axis=...)` should give one number for each feature.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.where(deviation > 0, deviation, 1)`. Adding a tiny number does not help: where the feature varies in `other`, the
# result becomes huge.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Compute mean and deviation once, from `train`, along axis 0. Use them for both.
#
# </details>


# %% tags=["answer"]
def scale(train, other):
    """Both arrays, standardised with the mean and deviation of each feature in `train`."""
    # BEGIN ANSWER
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return (train - mean) / deviation, (other - mean) / deviation
    # END ANSWER


# %% tags=["check"] points=2
lab.check("scale", scale)

# %% [markdown]
# ### 5 An epoch
#
# **Difficulty** ●●○ · **15 minutes** · **3 points** · **Why it matters:** every training framework wraps this loop.
#
# Write `train_epoch(head, batches, optimizer)`: one pass over `batches`, which are pairs of features and labels. Each batch
# is one step of the optimizer, with cross-entropy. Return the mean loss *per image* before the steps, a Python number. The
# last batch may be smaller than the others.
#
# <details><summary>Hint 1</summary>
#
# For each batch: logits, loss, `zero_grad`, `backward`, `step`. `torch.nn.functional.cross_entropy(logits, labels)` is the
# mean of the batch.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A mean over batches gives the images of a small batch too much weight. Add up `loss.item() * len(labels)`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Keep two running sums: losses times images, and images. Return their quotient.
#
# </details>


# %% tags=["answer"]
def train_epoch(head, batches, optimizer):
    """Train for one pass over the batches; returns the mean loss per image."""
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


# %% tags=["check"] points=3
lab.check("epoch", train_epoch)

# %% [markdown]
# ### 6 The classifier
#
# **Difficulty** ●●○ · **15 minutes** · **3 points** · **Why it matters:** this is the whole training. It does not need VGG16
# any more.
#
# Write `train_classifier(inputs, labels, classes, epochs)`. `inputs` is a tensor (images, features), `labels` a tensor of
# class numbers. Make a new linear layer with `classes` outputs, and train it with your `train_epoch`: AdamW with the
# learning rate 1e-3, batches of 32, shuffled anew in every epoch. Return the layer.
#
# <details><summary>Hint 1</summary>
#
# `torch.nn.Linear` needs the number of features, from `inputs.shape`, and the number of classes.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)`. Make layer, optimizer and batches once, before
# the loop.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Layer, `torch.optim.AdamW(head.parameters(), lr=1e-3)`, `DataLoader`; then `train_epoch`, `epochs` times.
#
# </details>


# %% tags=["answer"]
def train_classifier(inputs, labels, classes, epochs):
    """A new linear layer, trained on features for some epochs."""
    # BEGIN ANSWER
    head = torch.nn.Linear(inputs.shape[1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    batches = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    for _ in range(epochs):
        train_epoch(head, batches, optimizer)
    return head
    # END ANSWER


# %% tags=["check"] points=3
lab.check("classifier", train_classifier)

# %% [markdown]
# How long should it train? We try several numbers of epochs, each from a new start. Before you run the cell: which of the
# two losses will rise again?

# %% tags=["nbval-ignore-output"]
CORE = ("extractor", "features", "scale", "epoch", "classifier")
EPOCHS = (1, 3, 10, 30, 100, 300)
outputs = pd.DataFrame(np.zeros((len(data.val), data.num_classes)), columns=data.classes)
if lab.ready(*CORE):
    train_inputs, val_inputs = map(torch.FloatTensor, scale(train_features, val_features))
    heads, losses = {}, []
    for epochs in EPOCHS:
        torch.manual_seed(profile.seed)
        head = train_classifier(train_inputs, data.train.labels, data.num_classes, epochs)
        heads[epochs] = head.requires_grad_(False)
        for name, inputs, split in (
            ("training", train_inputs, data.train),
            ("validation", val_inputs, data.val),
        ):
            loss = torch.nn.functional.cross_entropy(head(inputs), split.labels)
            losses.append((name, epochs, loss.item()))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready(*CORE):
    table = pd.DataFrame(losses, columns=["set", "epochs", "loss"])
    by_set = table.pivot(index="epochs", columns="set", values="loss")
    best_epochs = int(by_set["validation"].idxmin())
    outputs = pd.DataFrame(heads[best_epochs](val_inputs).numpy(), columns=data.classes)
    chart = tc.plots.lines(
        table,
        "epochs",
        "loss",
        "set",
        title="A linear classifier on VGG16's features",
        xlabel="epochs of training",
        ylabel="cross-entropy (nats)",
        log=True,
        percent=False,
    )
    chart.axes[0].set_ylim(bottom=0)
    display(chart)
    print(
        f"The training loss ends at {by_set['training'].iloc[-1]:.2f}. The validation loss is lowest "
        f"after {best_epochs} epochs ({by_set['validation'].min():.2f}) and ends at "
        f"{by_set['validation'].iloc[-1]:.2f}."
    )

# %% [markdown]
# When the training loss falls and the validation loss rises, the classifier is **overfitting**. We keep the one with the
# lowest validation loss. Its logits for the validation images are in the table `outputs`: a row for each image, a column
# for each class.
#
# ### 7 Read the result
#
# **Difficulty** ●●○ · **10 minutes** · **3 points** · **Why it matters:** an accuracy means little without a baseline, and
# it may hide a class that is almost never right.
#
# Compute from `outputs` and `data`:
#
# * `accuracy`: the fraction of the validation images for which the largest logit is that of the true class.
# * `baseline`: the validation accuracy of always naming the class that is most frequent in the *training* set.
# * `hardest`: the name of the class with the smallest fraction of right validation images.
#
# `data.classes` are the names, `data.val.labels` the class numbers, and `data.train.counts()` counts images.
#
# <details><summary>Hint 1</summary>
#
# `outputs.idxmax(axis=1)` names a class for each image. `np.array(data.classes)[data.val.labels]` are the true names.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The mean of a comparison is a fraction. For a mean in each class, group a Series: `series.groupby(truth).mean()`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The mean of `predicted == truth`; the mean of `truth == data.train.counts().idxmax()`; the first in each class, and its
# `idxmin()`.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: accuracy, baseline, hardest
truth = np.array(data.classes)[data.val.labels]
right = outputs.idxmax(axis=1) == truth
accuracy = right.mean()
baseline = (truth == data.train.counts().idxmax()).mean()
hardest = right.groupby(truth).mean().idxmin()
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=3
lab.check("read", accuracy, baseline, hardest, outputs=outputs, data=data)

# %% [markdown]
# Now the test set, once. All choices have been made, so this is an honest estimate for new images of this kind.

# %% tags=["nbval-ignore-output"]
last = data.val if data.test is None else data.test
if data.test is None:
    print("Your folder has no test set. From here on, 'test' means its validation")
    print("images, and the accuracy is too high: they were used for choices.")
if lab.ready(*CORE, "read"):
    _, test_inputs = scale(train_features, features(extractor, last))
    logits = heads[best_epochs](torch.FloatTensor(test_inputs))
    hits = int((logits.argmax(dim=1) == last.labels).sum())
    low, high = tl.wilson_interval(hits, len(last))
    print(
        f"{last.name} set: {hits} of {len(last)} images are right, {hits / len(last):.0%}"
    )
    print(f"95 % interval {low:.0%} to {high:.0%}; baseline {baseline:.0%} on validation")

# %% [markdown]
# ### Now with images of your own
#
# Change the line `FOLDER = example`, and choose *Run all*. Then ask yourself:
#
# * How far is the accuracy above the baseline? Is the hardest class hard for you, too?
# * Are your images like the photographs that VGG16 was trained on? The nearer they are, the better the features.
# * Are there near-copies, such as frames of one film, in training and test set? Then the accuracy is too high.

# %%
lab.progress()

# %% [markdown]
# ## Extension
#
# Instead of your own loop, the extension uses scikit-learn's `RidgeClassifierCV`. This linear classifier needs no epochs: it
# chooses its regularisation strength by cross-validation inside the training set.


# %%
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def linear_accuracy(train, labels, other, other_labels):
    """Train a linear classifier on features; the fraction of other images that it gets right."""
    ridge = RidgeClassifierCV(alphas=np.logspace(0, 6, 7))
    return (
        make_pipeline(StandardScaler(), ridge).fit(train, labels).score(other, other_labels)
    )


# %% [markdown]
# ### 8 Three poolings
#
# **Difficulty** ●○○ · **10 minutes** · **1 point** · **Why it matters:** a block returns *maps*, (channels, height, width). The
# mean of a map says how much of something there is, the maximum whether it is anywhere. Only all values say where.
#
# Write `pool(maps, how)`: a tensor (images, channels, height, width) becomes one (images, features), for `how` equal to
# `"mean"`, `"max"` and `"flatten"`.
#
# <details><summary>Hint 1</summary>
#
# Height and width are dimensions 2 and 3.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `mean` and `amax` take several dimensions at once; `max` does not. `flatten` has a parameter for where it begins.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Mean and maximum over dimensions 2 and 3; flatten from dimension 1.
#
# </details>


# %% tags=["answer"]
def pool(maps, how):
    """(images, channels, height, width) -> (images, features), by "mean", "max" or "flatten"."""
    # BEGIN ANSWER
    if how == "mean":
        return maps.mean(dim=(2, 3))
    if how == "max":
        return maps.amax(dim=(2, 3))
    return maps.flatten(1)
    # END ANSWER


# %% tags=["check"] points=1
lab.check("pool", pool)

# %% [markdown]
# Is the last block the best, and the mean? We try three blocks and three poolings, each with three random choices of
# training images.
# <!-- given: settings of the cell below -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
LAYERS = {"features.16": "block3", "features.23": "block4", "features.30": "block5"}
POOLINGS = ("mean", "max", "flatten")


def block_maps(split):
    """The maps at the end of three blocks, for every image: {block: (images, channels, height, width)}."""
    transform = network.card.preprocessing.evaluation()
    images = torch.stack([transform(split.image(i)) for i in range(len(split))])
    return tc.activations(network, images, LAYERS)


def try_out(block, how):
    """Rows (layer, pooling, seed, validation accuracy, test accuracy)."""
    train, val, test = (pool(maps[block], how).numpy() for maps in all_maps)
    for seed in range(3):
        rows = list(data.train.per_class(12, seed=seed).rows)
        chosen = train[rows], data.train.labels[rows].numpy()
        scored = linear_accuracy(*chosen, val, data.val.labels.numpy())
        yield block, how, seed, scored, linear_accuracy(*chosen, test, last.labels.numpy())


columns = ["layer", "pooling", "seed", "val", "test"]
scores = pd.DataFrame(columns=columns, dtype=float)
if lab.ready("pool"):
    all_maps = [block_maps(split) for split in (data.train, data.val, last)]
    rows = [r for b in LAYERS.values() for how in POOLINGS for r in try_out(b, how)]
    scores = pd.DataFrame(rows, columns=columns)
    chart = tc.plots.ranking(
        scores.assign(method=scores["layer"] + ", " + scores["pooling"]),
        "val",
        "method",
        title="Nine kinds of features, three choices of training images",
        xlabel="validation accuracy",
    )
    display(chart)

# %% [markdown]
# ### 9 Choose
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** the best of nine results is partly the luckiest. If
# you choose on the test set, it is no estimate for new images any more.
#
# The table `scores` has the columns `layer`, `pooling`, `seed`, `val` and `test`. Set `best` to the pair (layer, pooling)
# with the best mean validation accuracy, and `final` to that pair's mean test accuracy, a fraction. (The core has opened the
# test set already, but nothing was chosen by it.)
#
# <details><summary>Hint 1</summary>
#
# `scores.groupby(["layer", "pooling"])[["val", "test"]].mean()` holds the means of both columns.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `.idxmax()` of a column returns the pair. `.loc[pair, "test"]` looks up the other column.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Average over seeds, find the maximum of `val`, and read `test` in that row only.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: best, final
means = scores.groupby(["layer", "pooling"])[["val", "test"]].mean()
best = means["val"].idxmax()
final = means.loc[best, "test"]
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=2
lab.check("choose", best, final, scores=scores)

# %% [markdown]
# How certain is that choice? Compare the differences between the rows with the standard deviation over seeds.

# %% tags=["nbval-ignore-output"]
if lab.ready("pool"):
    table = scores.groupby(["layer", "pooling"])[["val", "test"]].agg(["mean", "std"])
    display(table.sort_values(("val", "mean"), ascending=False).round(3))

# %% [markdown]
# ### 10 Nearest neighbours
#
# **Difficulty** ●●○ · **15 minutes** · **2 points** · **Why it matters:** which images lie next to each other shows what the
# features hold, without training or labels.
#
# Write `neighbours(vectors, index, count)`: the indices of the `count` images most similar to image number `index`, the
# most similar first, without the image itself. Similarity is the *cosine* of the angle between two rows of `vectors`:
# their dot product divided by both lengths.
#
# <details><summary>Hint 1</summary>
#
# Divide every row by its length, `np.linalg.norm(vectors, axis=1, keepdims=True)`. Then a matrix product gives all cosines.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.argsort` sorts upwards. The image itself need not come first, since a folder may hold a copy of it.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Set the image's own similarity to minus infinity, sort the negative similarities, and return the first `count`.
#
# </details>


# %% tags=["answer"]
def neighbours(vectors, index, count):
    """Indices of the most similar other images, by cosine similarity, the most similar first."""
    # BEGIN ANSWER
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit[index]
    similarity[index] = -np.inf
    return np.argsort(-similarity)[:count]
    # END ANSWER


# %% tags=["check"] points=2
lab.check("neighbours", neighbours)

# %% [markdown]
# Each row shows a training image and its five nearest neighbours. Which share the class, which only the colours?
# <!-- given: a setting of the cell below -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("extractor", "features", "neighbours"):
    labels, count = data.train.labels.numpy(), len(data.train)
    shown = []
    for index in (count // 8, 3 * count // 8, 5 * count // 8, 7 * count // 8):
        shown += [index, *map(int, neighbours(train_features, index, 5))]
    names = [data.classes[labels[number]] for number in shown]
    chart = tl.plots.image_grid(
        [data.train.image(number) for number in shown],
        [name if place % 6 else f"asked: {name}" for place, name in enumerate(names)],
        title="Nearest neighbours in feature space",
        columns=6,
    )
    display(chart)
    nearest = [int(neighbours(train_features, index, 1)[0]) for index in range(count)]
    chance = (data.train.counts() / count).pow(2).sum()
    print(
        f"The nearest neighbour has the same class for {(labels[nearest] == labels).mean():.0%} of the "
        f"training images; two random images have it in {chance:.0%} of all pairs."
    )

# %% [markdown]
# ### 11 Read a map
#
# **Difficulty** ●●○ · **5 minutes** · **1 point** · **Why it matters:** many articles show such maps, and readers see more in
# them than they say.
#
# *t-SNE* draws images as points in the plane, so that neighbours in feature space stay neighbours as far as possible. Here
# are two runs on the same images, of up to four classes. Only the seed differs.
# <!-- given: settings of the cell below -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
from sklearn.manifold import TSNE

if lab.ready("extractor", "features", "scale"):
    few = (data.train.labels < 4).numpy()
    standard = scale(train_features, val_features)[0][few]
    runs = {
        f"seed {seed}": TSNE(
            init="random", perplexity=min(15, few.sum() / 4), random_state=seed
        )
        for seed in (0, 1)
    }
    chart = tc.plots.point_map(
        {
            name: (run.fit_transform(standard), data.train.labels[few])
            for name, run in runs.items()
        },
        data.classes[:4],
        title="t-SNE of training images, twice",
    )
    display(chart)

# %% [markdown]
# What can you read off a t-SNE map? Answer with a letter, for instance `"A"`.
#
# * **A** A group that covers more of the map varies more.
# * **B** Two groups that are far apart on the map differ more than two that are close.
# * **C** Images that are close on the map were probably close in feature space.
# * **D** Where the classes are apart on the map, a classifier will be right on new images.
#
# <details><summary>Hint 1</summary>
#
# Compare the two runs: what is the same in both?
#
# </details>
# <details><summary>Hint 2</summary>
#
# t-SNE tries to keep neighbours together. Sizes and large distances are no part of that aim.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Only what the method tries to keep can be read, and even that with care.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: answer
answer = "C"
# END ANSWER

# %% tags=["check"] points=1
lab.check("reading", answer)

# %%
lab.progress()

# %% [markdown]
# ## Summary
#
# * The extractor is the network without its head, in evaluation mode, without gradients.
# * Features are computed once, in the order of the images, which are prepared as the card says.
# * Mean and deviation come from the training set alone.
# * Compare an accuracy with the baseline, and look at each class.
# * Epochs, layer and pooling are chosen on the validation set. The test set is for the final number.
#
# **What to try next**
#
# * Take a folder of your own: change the line that begins with `FOLDER`.
# * Take ResNet18 instead. What must you change in exercises 1 and 2, and what not?
# * Train with 2, 4, 8 and 16 images of each class, five random choices each: `data.train.per_class(count, seed=seed).rows`. Is
#   the curve still rising?
# * Join the features of two blocks. Does it help on the validation set?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
