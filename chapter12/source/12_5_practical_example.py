# %% [markdown]
# # 12.5 A worked example
#
# From a folder of images to a saved model: one complete piece of transfer learning, step by step.
#
# **What you will learn**
#
# * how to read a folder of images and prepare them as the pre-trained weights expect,
# * how to freeze a network, replace its head, train the head, and then fine-tune the last layers,
# * nine mistakes that tutorials make. Each is made here on purpose, a cell shows what it does, and it is repaired,
# * how to judge the result, look at its mistakes, use it on an image of your own, and save it.
#
# **Time:** one or two minutes on 2 CPU cores in the quick profile; the last cell prints what it took here.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile(precision="fp32")  # so that two loops agree digit by digit
QUICK = profile.name == "quick"
DATA = profile.data  # a name from tl.data_names(), or the path of a folder of yours
ARCH = profile.arch
SIZE = 128 if QUICK else None  # pixels; None is the size the weights were trained on
SEED = profile.seed  # 0; the environment variable TL_SEED sets another
EPOCHS = 3
print(profile)
print(f"data      {Path(DATA).name}")
print(f"network   {ARCH}")

# %% [markdown]
# **What the quick profile puts in place of the real thing.** The chapter takes a *ResNet18* that was trained on the 1.28
# million photographs of ImageNet, and teaches it ants and bees. Weights and images would have to be downloaded. The
# quick profile takes an *EfficientNet-Lite0* instead, trained on the same photographs, which came with a pip package; it
# sees images of 128 pixels. In place of ants and bees it takes *safari*, emoji in five styles on made-up backgrounds:
# three styles for training, a fourth for validation, a fifth for the test. They are not photographs, and results on
# them say nothing about photographs. The steps and the code are the same.
# <!-- given: the size of ImageNet, and settings of the cells below -->
#
# ## 1 The data: a folder of images
#
# The most common way to keep a labelled set of images is a folder for each part, and in it a folder for each class:
#
#     safari/train/bird/….png
#     safari/train/bug/….png
#     safari/val/bird/….png
#
# We make such a folder first. With a folder of your own you would skip this step.

# %% tags=["nbval-ignore-output"]
original = tl.load_data(
    DATA, **({"size": 144, "per_class": 20} if DATA == "safari" else {})
)
print(original.card)

# %% tags=["nbval-ignore-output"]
workspace = tempfile.TemporaryDirectory()  # gone when the notebook is closed
folder = tc.export_folder(original, Path(workspace.name) / original.name)
data = tl.load_data(folder)
data.sizes()

# %% tags=["nbval-ignore-output"]
data.show(24)

# %% [markdown]
# The parts have different jobs. *train* is what the network learns from. *val* is what **we** learn from: which epoch,
# which learning rate. *test* is looked at once, at the end.
#
# `ImageFolder` from torchvision reads such a folder. The names of the subfolders become the classes, in alphabetical
# order.

# %%
from torchvision.datasets import ImageFolder

plain_set = ImageFolder(folder / "train")
assert tuple(plain_set.classes) == data.classes
image, label = plain_set[0]
print("an image is", type(image).__name__, image.mode, "and its label is", label)

# %% [markdown]
# `ImageFolder` opens a file only when it is asked for, so a damaged one stops the training in the middle of an epoch.
# `tl.load_data` decodes every file beforehand, lists what is wrong with which, and goes on with the others.
#
# ## 2 Preprocessing
#
# The weights were trained on images of a certain size, whose channels were shifted and scaled by a certain mean and
# standard deviation. New images must be treated in the same way. The weights know how:

# %% tags=["nbval-ignore-output"]
pretrained = tl.load_model(ARCH, size=SIZE)
prep = pretrained.card.preprocessing
print(pretrained.card)

# %% [markdown]
# For **validation** nothing may be random: resize, cut out the centre, normalise. For **training**, a random part of
# the image, and its mirror image half of the time (*augmentation*): the network hardly ever sees exactly the same image
# twice, which makes overfitting harder. Both end with the same normalisation.

# %%
interpolation = v2.InterpolationMode(prep.interpolation)
to_normalised_tensor = [
    v2.PILToTensor(),
    v2.ToDtype(torch.float32, scale=True),  # 0...255 becomes 0...1
    v2.Normalize(prep.mean, prep.std),
]
train_transform = v2.Compose(
    [
        v2.RandomResizedCrop(prep.size, scale=(0.5, 1.0), interpolation=interpolation),
        v2.RandomHorizontalFlip(),
        *to_normalised_tensor,
    ]
)
val_transform = v2.Compose(
    [
        v2.Resize(prep.resize, interpolation=interpolation),
        v2.CenterCrop(prep.size),
        *to_normalised_tensor,
    ]
)
train_set = ImageFolder(folder / "train", transform=train_transform)
val_set = ImageFolder(folder / "val", transform=val_transform)
assert torch.equal(val_transform(image), prep.evaluation()(image)), (
    "by hand and by the card: the same"
)

# %% tags=["nbval-ignore-output"]
torch.manual_seed(SEED)
views = [val_transform(image), *(train_transform(image) for _ in range(5))]
tl.plots.image_grid(
    [prep.undo(view).permute(1, 2, 0).numpy() for view in views],
    ["validation", *["training"] * 5],
    title="One image, as validation and as training see it",
)

# %% [markdown]
# ### Mistake 1: no normalisation in the training transform
#
# It is left out in one of the two transforms, and nothing complains. But the network is then trained on numbers from
# one range and judged on numbers from another.

# %%
# all but the last: Normalize is missing
careless_transform = v2.Compose(train_transform.transforms[:-1])
torch.manual_seed(SEED)
seen_in_training = torch.stack(
    [careless_transform(plain_set[i][0]) for i in range(0, len(plain_set), 8)]
)
seen_in_validation = torch.stack(
    [val_transform(plain_set[i][0]) for i in range(0, len(plain_set), 8)]
)
print("training ever negative:  ", bool((seen_in_training < 0).any()))
print("validation ever negative:", bool((seen_in_validation < 0).any()))

# %% [markdown]
# Does the network notice? We ask the pre-trained network, with the classes that it was trained on, about the same
# images with and without normalisation, and count how often it changes its mind.

# %% tags=["nbval-ignore-output"]
without_last = v2.Compose(val_transform.transforms[:-1])
with torch.inference_mode():
    right = pretrained(seen_in_validation).argmax(1)
    distorted = torch.stack(
        [without_last(plain_set[i][0]) for i in range(0, len(plain_set), 8)]
    )
    wrong = pretrained(distorted).argmax(1)
changed_its_mind = float((right != wrong).float().mean())
print(f"{changed_its_mind:.0%} of {len(right)} images get another class")

# %%
tc.report_finding(
    "More than a tenth of the images get another class.", changed_its_mind > 0.1
)

# %% [markdown]
# **Repair:** both transforms end with the weights' own `Normalize`, as above. Step 6 measures what the mistake does to a
# trained head.
#
# ### Mistake 2: `Resize(224)`, then `CenterCrop(224)`
#
# This looks harmless, but at their usual size most ImageNet weights were judged with `Resize(256)` and then
# `CenterCrop(224)` (for 128 pixels that is 146 and 128), which cuts off the
# border and shows the object larger. `Resize((224, 224))`, with a pair, is worse: it also squeezes a wide image into
# a square.

# %%
from PIL import Image
from skimage.data import chelsea

photo = Image.fromarray(chelsea())
methods = {
    "as the weights expect": v2.Compose([v2.Resize(256), v2.CenterCrop(224)]),
    "Resize(224)": v2.Compose([v2.Resize(224), v2.CenterCrop(224)]),
    "Resize((224, 224))": v2.Resize((224, 224)),
}
tl.plots.image_grid(
    [method(photo) for method in methods.values()],
    list(methods),
    title="The same photograph, prepared in three ways",
    columns=3,
)

# %% [markdown]
# **Repair:** take the transform from the weights (`weights.transforms()` in torchvision, `model.card.preprocessing`
# here), and do not type it from memory.
#
# ### Mistake 3: `random_split`, and one transform for both parts
#
# If there is only one folder, many tutorials divide it with `random_split`. Its parts are views of **one** data set,
# and so they share one transform. Then the validation set is augmented as well, and its score changes from one call
# to the next; or the training set is not augmented at all.

# %%
from torch.utils.data import random_split

halves = random_split(train_set, [0.8, 0.2], generator=torch.Generator().manual_seed(SEED))
print("one transform for both:", halves[0].dataset.transform is halves[1].dataset.transform)
torch.manual_seed(SEED)
once, twice = halves[1][0][0], halves[1][0][0]
print("the same validation image, twice the same:", torch.equal(once, twice))

# %% [markdown]
# **Repair:** a data set object for each part, each with its own transform, as above. `tl.load_data(folder)` divides a
# folder without parts in this way, keeps the classes in proportion, and keeps together what belongs together: all
# images of one patient, for instance, if you say how to tell.
#
# ## 3 The pre-trained network
#
# ### Mistake 4: `pretrained=True`
#
# Older tutorials load weights like this (here with `False`, so that nothing is downloaded). Which weights? The argument does
# not say, and it is deprecated:

# %%
import warnings

from torchvision.models import resnet18

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    resnet18(pretrained=False)
print(str(caught[0].message))

# %% [markdown]
# **Repair:** `resnet18(weights=ResNet18_Weights.DEFAULT)` names the weights, and `ResNet18_Weights.DEFAULT` also knows
# their preprocessing, their classes and how good they are. `tl.load_model` prints which weights it took, and checks the
# hash of their file.
#
# ### Mistake 5: an image instead of a batch
#
# A network takes a batch of shape (images, 3, height, width). The first convolution also accepts a single image
# (3, height, width), so the error comes from somewhere else, and its message puzzles people. In ResNet18, BatchNorm
# complains; in VGG16, which has none, it is the first linear layer, many layers later. (The device `meta` computes
# shapes only, so this costs nothing.)

# %%
from torchvision.models import vgg16

with torch.device("meta"):
    for build in (resnet18, vgg16):
        try:
            build(weights=None)(torch.zeros(3, 224, 224))
        except (ValueError, RuntimeError) as error:
            print(f"{build.__name__}: {error}")

# %% [markdown]
# **Repair:** `image.unsqueeze(0)` makes a batch of one.
#
# ### Mistake 6: `eval()` forgotten
#
# In training mode BatchNorm normalises with the statistics of the batch, so what the network says about an image
# depends on the images beside it. (Dropout, in networks that have it, adds chance on top.)

# %%
torch.manual_seed(SEED)
batch = torch.stack(
    [val_set[i][0] for i in range(0, len(val_set), max(len(val_set) // 8, 1))]
)
with torch.no_grad():
    for mode in ("train", "eval"):
        scratch = tl.load_model(ARCH, size=SIZE).train(mode == "train")
        alone, in_company = scratch(batch[:2])[0], scratch(batch)[0]
        same = torch.allclose(alone, in_company, atol=1e-3)
        print(f"{mode:5}: the same logits in a batch of 2 and in a larger one: {same}")

# %% [markdown]
# **Repair:** `model.eval()` before every prediction and every validation, and `torch.inference_mode()` to save the
# memory that gradients would need. `tl.evaluate` and `tl.predict` do both and give each module its own mode back
# afterwards.
#
# ## 4 Freeze, and replace the head
#
# **Freezing** means that the weights of the *backbone*, everything but the last layer, stay as they are. They do not
# need gradients:

# %%
model = tl.load_model(ARCH, size=SIZE)
for parameter in model.parameters():
    parameter.requires_grad = False

# %% [markdown]
# The last layer, the **head**, has an output for each class of the *source* task. A new one, with an output for each of
# *our* classes, takes its place. A new layer is trainable from the start. For ResNet18 one writes `model.fc =
# nn.Linear(model.fc.in_features, num_classes)`. The head has another name in every family, and `tc.arch_table()` lists
# them.

# %% tags=["nbval-ignore-output"]
HEAD = tc.arch_table().loc[ARCH, "head"]
old_head = model.get_submodule(HEAD)
torch.manual_seed(SEED)
setattr(model, HEAD, nn.Linear(old_head.in_features, data.num_classes))
print(HEAD, ":", old_head, "->", model.get_submodule(HEAD))

# %%
trainable = [
    name for name, parameter in model.named_parameters() if parameter.requires_grad
]
assert trainable == [f"{HEAD}.weight", f"{HEAD}.bias"]
print("parameters that train:", len(trainable), "tensors, the head's weight and bias")

# %% [markdown]
# ### Mistake 7: "frozen", but BatchNorm moves
#
# Nearly every tutorial stops here and calls `model.train()` in its loop. But BatchNorm keeps running averages of the
# mean and variance of its inputs. They are *buffers*, not parameters: `requires_grad` does not reach them, and in
# training mode every batch moves them towards the new data. Let us watch: we pass a few batches through the network,
# without any optimizer.

# %% tags=["nbval-ignore-output"]
before = tl.snapshot(model)
model.train()  # what the tutorial's loop does
loader = DataLoader(
    train_set, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(SEED)
)
with torch.no_grad():
    for images, _ in loader:
        model(images)
moved = tl.changed(model, before)
print(len(moved), "tensors of the 'frozen' network have moved, for example", moved[0])

# %%
kinds = sorted({name.rpartition(".")[2] for name in moved})
print(kinds)
assert kinds == ["num_batches_tracked", "running_mean", "running_var"]

# %% [markdown]
# **Repair:** frozen layers stay in evaluation mode. A call of `eval()` is not enough, since the next `model.train()`
# would undo it. `tl.freeze` gives every frozen module a `train()` of its own that keeps it in evaluation mode, whoever
# calls it.

# %% tags=["nbval-ignore-output"]
# naming the classes puts a new head on
model = tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED)
tl.freeze(model)
tl.trainable_table(model)

# %%
before = tl.snapshot(model)
model.train()
with torch.no_grad():
    for images, _ in loader:
        model(images)
print("moved:", tl.changed(model, before))
assert tl.changed(model, before) == []

# %% [markdown]
# ### "The optimizer must get only the head's parameters"
#
# Many tutorials say that `Adam(model.parameters())` would train the frozen layers, or waste memory on them. Neither is
# true: PyTorch's optimizers skip a parameter without a gradient, and make their memory for it only when they first use
# it.

# %%
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # everything, frozen or not
before = tl.snapshot(model)
images, labels = next(iter(loader))
nn.functional.cross_entropy(model(images), labels).backward()
optimizer.step()
print("tensors for which the optimizer keeps memory:", len(optimizer.state))
assert set(tl.changed(model, before)) == {f"{HEAD}.weight", f"{HEAD}.bias"}

# %% [markdown]
# It becomes true if you freeze parameters *after* they were trained: momentum that was built up then, or a left-over
# gradient, can still move them. Giving the optimizer just what trains is good style, because it says what you mean.
#
# ## 5 The training loop
#
# ### Mistake 8: "Loss" is the last batch's
#
# This is how the loop is often written. The loss that it prints is that of the last batch, which may be small: here it has
# 16 images, the others 36. It also comes from the end of the epoch, while the mean covers all of it.

# %% tags=["nbval-ignore-output"]
model = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()
torch.manual_seed(SEED)
rows = []
for epoch in range(2):
    total = 0.0
    for images, labels in DataLoader(train_set, batch_size=36, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)  # what the tutorial leaves out
    rows.append(
        {
            "printed: the last batch": loss.item(),
            "mean over all images": total / len(train_set),
        }
    )
pd.DataFrame(rows, index=pd.RangeIndex(1, 3, name="epoch")).round(3)

# %%
differences = [
    abs(row["printed: the last batch"] - row["mean over all images"]) for row in rows
]
tc.report_finding("The two numbers differ.", max(differences) > 0.01)

# %% [markdown]
# **Repair:** add up `loss * number of images` and divide by the number of images at the end.
#
# The loop below does that, and it validates after each epoch. Frozen layers are safe from its `train()`. The shuffle
# has a generator of its own, so that nothing else that draws random numbers changes the order of the images.
# (`channels_last` is another order of the same numbers in memory, in which convolutions are faster; `fused=True` does a
# step's arithmetic in one pass over memory.)


# %%
def train_one_epoch(model, loader, criterion, optimizer):
    """One pass over the training images; returns the mean loss over images."""
    model.train()
    total = 0.0
    for images, labels in loader:
        images, labels = images.to(profile.device), labels.to(profile.device)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


@torch.inference_mode()
def accuracy(model, loader):
    """The fraction of images that are classified rightly."""
    model.eval()
    hits = sum(
        (model(x.to(profile.device)).argmax(1).cpu() == y).sum().item() for x, y in loader
    )
    return hits / len(loader.dataset)


# %% tags=["nbval-ignore-output"]
by_hand = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
by_hand.to(profile.device, memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(tl.get_head(by_hand).parameters(), lr=3e-3, fused=True)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
train_loader = DataLoader(
    train_set, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(SEED)
)
val_loader = DataLoader(val_set, batch_size=64, generator=torch.Generator())
torch.manual_seed(SEED)
for epoch in range(1, EPOCHS + 1):
    mean_loss = train_one_epoch(by_hand, train_loader, criterion, optimizer)
    scheduler.step()
    hits = accuracy(by_hand, val_loader)
    print(f"epoch {epoch}: training loss {mean_loss:.3f}, validation accuracy {hits:.1%}")

# %% [markdown]
# ## 6 The same in one call
#
# `tl.fit` is this loop with what one wants around it: progress, history, the best epoch's weights, Ctrl-C that loses
# nothing, a stop with an explanation when the loss is no longer a number. Is it really the same? We train again from
# the same seed, with the same training transform, and compare every weight.

# %% tags=["nbval-ignore-output"]
model = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
settings = {"epochs": EPOCHS, "keep": "last", "lr": 3e-3, "seed": SEED}
run = tl.fit(model, data, augment=train_transform, **settings)
run.history.round(3)

# %%
if profile.device.type == "cpu":
    different = tl.changed(model, tl.snapshot(by_hand))
    print("tensors that differ between the loop by hand and tl.fit:", different)
    assert different == []
else:  # a GPU adds numbers in an order that varies, so the last digits do too
    gap = (tl.get_head(model).weight - tl.get_head(by_hand).weight).abs().max()
    assert gap < 1e-2, f"the two loops differ by {gap}"

# %% tags=["nbval-ignore-output"]
run.plot()

# %% tags=["nbval-ignore-output"]
frozen_score = tl.evaluate(model, data.val)
chance = 1 / data.num_classes
print(f"a trained head on frozen features: {frozen_score}")
print(f"guessing: {chance:.1%}")

# %%
tc.report_finding(
    "The head has learned: its accuracy is more than one and a half times that of guessing.",
    frozen_score.accuracy > 1.5 * chance,
)

# %% [markdown]
# ### What mistake 1 costs
#
# The same training once more, with the training transform that does not normalise. Before you look: how much worse do
# you expect it to be?

# %% tags=["nbval-ignore-output"]
careless = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
tl.fit(careless, data, augment=careless_transform, **settings)
careless_score = tl.evaluate(careless, data.val)
pd.DataFrame(
    {
        "validation accuracy": [frozen_score.accuracy, careless_score.accuracy],
        "95 % interval": [
            "{:.1%} to {:.1%}".format(*s.interval) for s in (frozen_score, careless_score)
        ],
    },
    index=["normalised", "not normalised in training"],
).round(3)

# %% [markdown]
# Compare the intervals. If they overlap widely, this run shows no cost. It does not show that there is none: one seed and
# 160 images settle little. The mistake is dangerous because nothing warns you, and because what it costs depends on the
# network and the data.
#
# ### Mistake 9: the best epoch's validation score as the result
#
# It is right to keep the weights of the epoch that scored best on *val*. It is wrong to report that same score: the
# luckiest of several throws of the dice is not what the dice are worth. How large is the flattery? Suppose every epoch
# were equally good, right on 80 % of all images, and each were scored on 160 other images. Then a simulation says:
#
# <!-- given: a made-up example -->

# %%
import numpy as np

throws = np.random.default_rng(SEED).binomial(160, 0.80, size=(10_000, 10)) / 160
print(f"one epoch, on average:        {throws[:, 0].mean():.1%}")
print(f"the best of 10, on average:   {throws.max(axis=1).mean():.1%}")

# %% [markdown]
# In real training the epochs are scored on the *same* images, so their luck is shared and the flattery is smaller; it
# does not go away.
#
# **Repair:** choose on *val*, report on *test*, and touch *test* once. That is step 8.
#
# ## 7 Fine-tune the last layers
#
# The head now roughly fits the frozen features. Next, the last layers of the backbone may adapt too. Their weights are already
# good, so they get a **smaller learning rate** than the head: large steps would destroy what they know before the new
# task can tell them what to keep.
#
# This time `tl.fit` gets no transform: it cuts and mirrors the images itself. With `cache=4` it takes four such views of
# each image, and runs the layers that are still frozen once over all of them, so that an epoch only runs the last layers.
# Training ends when the validation accuracy has not improved for six epochs (`patience`).
# <!-- given: settings of the cell below -->

# %% tags=["nbval-ignore-output"]
LAST = 1 if ARCH.startswith("resnet") else 2  # layer4; or blocks.6 and conv_head
tl.unfreeze(model, last=LAST)
tl.trainable_table(model)

# %% tags=["nbval-ignore-output"]
rates = {
    group["name"]: group["lr"] for group in tl.param_groups(model, lr=1e-3, factor=0.5)
}
print("learning rates:", rates)
still_frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
before = tl.snapshot(model)
fine_run = tl.fit(model, data, epochs=40, patience=6, lr=rates, cache=4, seed=SEED)
print(fine_run)

# %%
moved = set(tl.changed(model, before))
assert moved, "nothing was trained"
assert moved.isdisjoint(still_frozen), "a frozen parameter moved"
print("Parameters that were to stay frozen and moved:", len(moved & set(still_frozen)))

# %% tags=["nbval-ignore-output"]
fine_run.plot()

# %% [markdown]
# Did it help? Do not subtract the head's score from this one: the head had three epochs and was not finished. A fair comparison trains each until validation stops improving, at a
# learning rate that validation chose, with five seeds. It was made beforehand, with this network on these drawings:

# %% tags=["nbval-ignore-output"]
transfer = tc.load_results("transfer")
print(transfer)
tc.in_points(transfer.against("safari", "frozen", network="efficientnet_lite0"))

# %% [markdown]
# *last block* is closest to what we did: the same two blocks train there, with 320 training images instead of 160, and
# together with a new head from the start. It gains 5.8 points over a head on frozen features. *everything* gains 13.4,
# and *probe first*, which trains the head until validation stops improving and then everything, 11.1. ± is
# the standard deviation over five seeds; the interval speaks for other seeds and other drawings. For each method the lowest
# of the three learning rates won, so still lower ones might do better.
#
# Which method does best depends on the data: on cats and dogs, which are among ImageNet's classes, the frozen backbone has
# the highest mean. `docs/results.md` has these accuracies for ants and bees, flowers, cats and dogs and X-rays, also for
# other networks and for training from scratch.
# <!-- given: tlcourse/measurements/data/transfer.json, and settings of the cells above -->
#
# ## 8 The test
#
# Now, once, the part that nothing was chosen on. (Some folders have no test set; then the validation set has to do,
# and the number flatters.)

# %% tags=["nbval-ignore-output"]
final = data.test if data.test is not None else data.val
result = tl.evaluate(model, final)
print(repr(result))
print(f"balanced accuracy {result.balanced_accuracy:.1%}")
result.per_class().round(2)

# %%
tc.report_finding(
    "On the test set, too, it is more than one and a half times as often right.",
    result.accuracy > 1.5 * chance,
)
assert result.confusion().to_numpy().sum() == len(final), "every image is counted once"

# %% tags=["nbval-ignore-output"]
result.plot_confusion()

# %% [markdown]
# The test score may lie outside the interval of the validation score. That is no mistake: the interval speaks for more
# images *like these*, and in safari every split shows drawings in other styles. The true uncertainty is larger than the
# interval: the 320 test images show only 221 drawings, and images of one drawing are right or wrong together.
# <!-- given: the data card of safari -->
#
# Rows are what an image shows, columns what the network says; the diagonal is right. A number tells you *how often* a
# model is wrong. The mistakes of which it was most certain tell you *why*, and sometimes that a label is wrong.

# %% tags=["nbval-ignore-output"]
result.show_worst(8)

# %% [markdown]
# ## 9 An image of your own
#
# Put the path of an image between the quotation marks. Without one, the first image of the last part is used.

# %% tags=["nbval-ignore-output"]
MY_IMAGE = ""

mine = tl.open_image(MY_IMAGE) if MY_IMAGE else final.image(0)
seen = tl.predict(model, mine, top=3)
tc.plots.bars(
    seen.set_index("class")["probability"],
    title="What the fine-tuned network sees",
    xlabel="probability",
)

# %% [markdown]
# Every image gets one of the classes, also one that shows none of them.
#
# ## 10 Save and load
#
# What has to be kept is not only the weights: also the architecture, the names of the classes in their order, and the
# preprocessing. `tl.save` writes all of it to one *safetensors* file. Such a file holds numbers and text only. The
# older `torch.save(model, ...)` writes a *pickle*, which can run any code when it is opened; never open one from a
# stranger, and use `torch.load(..., weights_only=True)`.

# %%
# to keep it, name a folder of yours
path = tl.save(model, Path(workspace.name) / "my_model.safetensors")
again = tl.load(path)
assert tl.changed(again, tl.snapshot(model.cpu())) == []
assert again.card.classes == data.classes
print("The loaded network has the same weights and knows its classes.")

# %% tags=["nbval-ignore-output"]
try:
    tl.load(path, classes=("cat", "dog"))
except tl.WeightsError as error:
    print("Refused:", str(error).partition("has the classes ")[2])

# %% [markdown]
# From a terminal, the same on a folder of yours:
#
#     python -m tlhelpers train path/to/folder --unfreeze 2 --out runs/mine
#     python -m tlhelpers predict runs/mine image.jpg
#
# ## Summary
#
# * **Preprocessing belongs to the weights.** Take it from them, for training and validation alike.
# * **Freezing** is `requires_grad = False` *and* evaluation mode for BatchNorm, through every later `train()`.
# * **The head** is replaced; the new one trains first. Then the last layers may follow, at a smaller learning rate.
# * **The loss of an epoch** is a mean over images. **The result** is measured once, on images on which nothing was
#   chosen, and comes with an interval.
# * **Look at the mistakes.** They teach more than the accuracy.
#
# **What to try next**
#
# * Set `DATA` in the first cell to a folder of your own.
# * Unfreeze everything (`tl.unfreeze(model)`) at once, with the head's learning rate, and watch the validation loss.
# * Train from scratch (`weights="none"`) until validation stops improving. How far does it get?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
