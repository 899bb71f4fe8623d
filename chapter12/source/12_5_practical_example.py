# %% [markdown]
# # 12.5 A worked example
#
# You have a folder of images, one subfolder for each class, and want a classifier by the evening. This page walks the whole
# path once, cleanly: read, prepare, freeze, train, fine-tune, test, use, save. Then it makes nine mistakes that tutorials
# make, each on purpose, and shows what it does and how to repair it.
#
# **What you will learn**
#
# * how to go from a folder of images to a saved model in eight steps,
# * nine common mistakes, what each of them does, and the repair,
# * how to judge the result, and use it on an image of your own.
#
# **Time:** twenty minutes to read; one or two minutes of computing on 2 CPU cores in the quick profile.

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

# %% tags=["nbval-ignore-output"]
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
# **The quick profile.** The book trains a *ResNet18* with ImageNet's weights to tell ants from bees; both would have to be
# downloaded. Here an *EfficientNet-Lite0* stands in, trained on the same 1.28 million photographs, at 128 pixels; and *safari*,
# emoji in five styles on made-up backgrounds: three styles for training, a fourth for validation, a fifth for the test. Results
# on drawings say nothing about photographs.
# <!-- given: the size of ImageNet, and settings of the cells below -->
#
# ## 1 A folder of images
#
#     safari/train/bird/….png
#     safari/train/bug/….png
#     safari/val/bird/….png
#
# We make such a folder first; with a folder of your own you would skip this. *train* is what the network learns from. *val*
# is what **we** learn from: which epoch, which learning rate. *test* is looked at once, at the end.

# %% tags=["nbval-ignore-output"]
original = tl.load_data(
    DATA, **({"size": 144, "per_class": 20} if DATA == "safari" else {})
)


workspace = tempfile.TemporaryDirectory()  # gone when the notebook is closed
folder = tc.export_folder(original, Path(workspace.name) / original.name)
data = tl.load_data(folder)
data.show(16)

# %% [markdown]
# `ImageFolder` from torchvision reads such a folder. The names of the subfolders become the classes, in alphabetical order.

# %%
from torchvision.datasets import ImageFolder

plain_set = ImageFolder(folder / "train")
assert tuple(plain_set.classes) == data.classes
image, label = plain_set[0]
print("an image is", type(image).__name__, image.mode, "and its label is", label)

# %% [markdown]
# ## 2 Prepare the images as the weights expect
#
# The weights were trained on images of a certain size, whose channels were shifted and scaled by a certain mean and standard
# deviation. The weights' card knows them. For [**validation**](glossary.ipynb#Validation-set) nothing may be random. For
# **training**, a random part of the image and its mirror image half of the time (*augmentation*) make overfitting harder.
# Both end with the same normalisation.

# %% tags=["nbval-ignore-output"]
pretrained = tl.load_model(ARCH, size=SIZE)
prep = pretrained.card.preprocessing
print(prep)

# %%
mode = v2.InterpolationMode(prep.interpolation)
to_normalised_tensor = [
    v2.PILToTensor(),
    v2.ToDtype(torch.float32, scale=True),  # 0...255 becomes 0...1
    v2.Normalize(prep.mean, prep.std),
]
crop = v2.RandomResizedCrop(prep.size, scale=(0.5, 1.0), interpolation=mode)
train_transform = v2.Compose([crop, v2.RandomHorizontalFlip(), *to_normalised_tensor])
centre = [v2.Resize(prep.resize, interpolation=mode), v2.CenterCrop(prep.size)]
val_transform = v2.Compose([*centre, *to_normalised_tensor])

# %%
train_set = ImageFolder(folder / "train", transform=train_transform)
val_set = ImageFolder(folder / "val", transform=val_transform)
assert torch.equal(val_transform(image), prep.evaluation()(image)), (
    "by hand and by the card: the same"
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
torch.manual_seed(SEED)
views = [val_transform(image), *(train_transform(image) for _ in range(5))]
tl.plots.image_grid(
    [prep.undo(view).permute(1, 2, 0).numpy() for view in views],
    ["validation", *["training"] * 5],
    title="One image, as validation and as training see it",
)

# %% [markdown]
# ## 3 Freeze, and replace the head
#
# The backbone stays as it is, and a new **head** gets an output for each of *our* classes. Written by hand, as in the book (for
# ResNet18 the head is called `fc`):

# %%
model = tl.load_model(ARCH, size=SIZE)
for parameter in model.parameters():
    parameter.requires_grad = False
HEAD = tc.arch_table().loc[ARCH, "head"]  # classifier, or fc
old_head = model.get_submodule(HEAD)
setattr(model, HEAD, nn.Linear(old_head.in_features, data.num_classes))

trainable = [name for name, p in model.named_parameters() if p.requires_grad]
assert trainable == [f"{HEAD}.weight", f"{HEAD}.bias"]
print("trainable parameters:", ", ".join(trainable))

# %% [markdown]
# That is not the whole of freezing: mistake 7 below shows what still moves. `tl.freeze` does it all, and we go on with it.
#
# ## 4 Train the head
#
# A plain loop: the loss of an epoch is the mean over all images, and validation follows each epoch.


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


# %%
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
criterion = nn.CrossEntropyLoss()
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
# `tl.fit` is this loop with what one wants around it: progress, history, the best epoch's weights (here the last one's, as by
# hand), Ctrl-C that loses nothing. We train again from the same seed, with the same transform, and compare every weight.

# %% tags=["nbval-ignore-output"]
model = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
settings = {"epochs": EPOCHS, "keep": "last", "lr": 3e-3, "seed": SEED}
run = tl.fit(model, data, augment=train_transform, **settings)
run.plot()

# %% jupyter={"source_hidden": true}
if profile.device.type == "cpu":
    different = tl.changed(model, tl.snapshot(by_hand))
    print("tensors that differ between the loop by hand and tl.fit:", different)
    assert different == []
else:  # a GPU adds numbers in an order that varies, so the last digits do too
    gap = (tl.get_head(model).weight - tl.get_head(by_hand).weight).abs().max()
    assert gap < 1e-2, f"the two loops differ by {gap}"

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
frozen_score = tl.evaluate(model, data.val)
chance = 1 / data.num_classes
print(f"A trained head on frozen features: {frozen_score}; guessing gives {chance:.1%}.")

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "The head has learned.",
    frozen_score.accuracy > 1.5 * chance,
)

# %% [markdown]
# ## 5 Fine-tune the last layers
#
# The head is now roughly trained. Next, the last layers of the backbone may adapt too. They are good already,
# so they get a **smaller learning rate** than the head: with `factor=0.5` each block gets half of that of the block after it.
# `cache=4` takes four augmented views of each image and runs the layers that are still frozen once over all of them. Training
# ends when validation has not improved for six epochs.
# <!-- given: settings of the cell below -->

# %% tags=["nbval-ignore-output"]
LAST = 1 if ARCH.startswith("resnet") else 2  # layer4; or blocks.6 and conv_head
tl.unfreeze(model, last=LAST)
tl.trainable_table(model)

# %% tags=["nbval-ignore-output"]
learning_rates = {
    group["name"]: group["lr"] for group in tl.param_groups(model, lr=1e-3, factor=0.5)
}
print("learning rates:", learning_rates)
still_frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
before = tl.snapshot(model)
fine_run = tl.fit(model, data, epochs=40, patience=6, lr=learning_rates, cache=4, seed=SEED)
fine_run.plot()

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
kept, last = fine_run.history.loc[fine_run.kept_epoch], fine_run.history.iloc[-1]
print(
    f"Validation is best after epoch {fine_run.kept_epoch}: {kept['val_accuracy']:.0%}. "
    f"Training accuracy goes on to {last['train_accuracy']:.0%},\n"
    f"while validation ends at {last['val_accuracy']:.0%}. The gap is overfitting."
)

# %% jupyter={"source_hidden": true}
moved = set(tl.changed(model, before))
assert moved, "nothing was trained"
assert moved.isdisjoint(still_frozen), "a frozen parameter moved"
print("Parameters that were to stay frozen and moved:", len(moved & set(still_frozen)))

# %% [markdown]
# Did it help? Do not subtract the head's score from this one: the head had three epochs and was not finished. A fair comparison
# trains each method until validation stops improving, with five seeds. It was made beforehand, with this network on these
# drawings:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
transfer = tc.load_results("transfer")
tc.in_points(transfer.against("safari", "frozen", network="efficientnet_lite0"))

# %% [markdown]
# Our training is closest to *last block*, which had twice as many training images here and gains 5.8 points over frozen
# features. *Everything* gains 13.4, and *probe first*, which trains the head until it stops improving and then everything,
# 11.1. On cats and dogs, which are among ImageNet's classes, the frozen backbone has the highest mean.
# <!-- given: tlcourse/measurements/data/transfer.json -->
#
# ## 6 The test, once
#
# *Recall* is the proportion of a class's images that is found, *precision* the proportion of its predictions that is right;
# balanced accuracy is the mean recall of all classes.

# %% tags=["nbval-ignore-output"]
final = data.test if data.test is not None else data.val
result = tl.evaluate(model, final)
print(result, "; guessing gives", f"{chance:.1%}")
print(f"balanced accuracy {result.balanced_accuracy:.1%}")
result.per_class().round(2)

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "On the test set, too, it has learned the classes.",
    result.accuracy > 1.5 * chance,
)
assert result.confusion().to_numpy().sum() == len(final), "every image is counted once"

# %% tags=["nbval-ignore-output"]
result.plot_confusion()

# %% [markdown]
# Rows are what an image shows, columns what the network says. The 320 test images show only 221 drawings, so the true
# uncertainty is larger than the interval. A number tells you *how often* a model is wrong. The mistakes of which it was most
# certain tell you *why*, and sometimes that a label is wrong:
# <!-- given: the data card of safari -->

# %% tags=["nbval-ignore-output"]
result.show_worst(8)

# %% [markdown]
# ## 7 An image of your own
#
# Put the path of an image between the quotation marks. Without one, the first test image is taken.

# %% tags=["nbval-ignore-output"]
MY_IMAGE = ""

mine = tl.open_image(MY_IMAGE) if MY_IMAGE else final.image(0)
seen = tl.predict(model, mine, top=3)
print("truth:", "yours to say" if MY_IMAGE else final.classes[final.labels[0]])
said = ", ".join(f"{row['class']} {row['probability']:.0%}" for _, row in seen.iterrows())
tl.plots.image_grid([mine], [said], title="What the network says", columns=1)

# %% [markdown]
# Every image gets one of the classes, also one that shows none of them.
#
# ## 8 Save and load
#
# What has to be kept is not only the weights: also the architecture, the classes in their order, and the preprocessing.
# `tl.save` writes all of it to one *safetensors* file, which holds numbers and text only. The older `torch.save(model, ...)`
# writes a *pickle*, which can run any code when it is opened.

# %%
# to keep it, name a folder of yours
path = tl.save(model, Path(workspace.name) / "my_model.safetensors")
again = tl.load(path)
assert tl.changed(again, tl.snapshot(model.cpu())) == []
assert again.card.classes == data.classes
print("The loaded network has the same weights and knows its classes.")

# %% [markdown]
# From a terminal, on a folder of yours: `python -m tlhelpers train path/to/folder --out runs/mine`, and then
# `python -m tlhelpers predict runs/mine image.jpg`.
#
# ## Nine mistakes
#
# ### 1 No normalisation in the training transform
#
# `Normalize` is left out of the training transform, and nothing complains. The head is then trained on inputs from 0 to 1, and
# judged on inputs from -1 to 1 (so only the validation images below are ever negative). Does that matter? We ask the
# pre-trained network about the same images with and without normalisation:

# %% jupyter={"source_hidden": true}
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

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
without_last = v2.Compose(val_transform.transforms[:-1])
with torch.inference_mode():
    right = pretrained(seen_in_validation).argmax(1)
    distorted = torch.stack(
        [without_last(plain_set[i][0]) for i in range(0, len(plain_set), 8)]
    )
    wrong = pretrained(distorted).argmax(1)
changed_its_mind = float((right != wrong).float().mean())
print(f"{changed_its_mind:.0%} of {len(right)} images get another class")

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "More than a tenth of the images get another class.", changed_its_mind > 0.1
)

# %% [markdown]
# What does it cost a head that is trained so?

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
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
# The two intervals overlap, so this run shows no significant cost: one seed and 160 images settle little. **Repair:** both
# transforms end with the weights' own `Normalize`.
# <!-- given: settings of the cells above -->
#
# ### 2 `Resize(224)`, then `CenterCrop(224)`
#
# Most ImageNet weights were judged with `Resize(256)` and then `CenterCrop(224)`, which cuts off the border and shows the
# object larger. `Resize((224, 224))`, with a pair, squeezes a wide image into a square.

# %% jupyter={"source_hidden": true}
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
# **Repair:** take the transform from the weights (`weights.transforms()` in torchvision, `model.card.preprocessing` here).
#
# ### 3 `random_split`, and one transform for both splits
#
# The splits of `random_split` are views of **one** data set, so they share one transform. Then the validation set is augmented
# as well, and its score changes from one call to the next:

# %%
from torch.utils.data import random_split

halves = random_split(train_set, [0.8, 0.2], generator=torch.Generator().manual_seed(SEED))
print("one transform for both:", halves[0].dataset.transform is halves[1].dataset.transform)
torch.manual_seed(SEED)
once, twice = halves[1][0][0], halves[1][0][0]
print("the same validation image, twice the same:", torch.equal(once, twice))

# %% [markdown]
# **Repair:** a data set object for each split, each with its own transform. `tl.load_data(folder)` does so, keeps the classes
# in proportion, and keeps the images of a patient together if you say how to tell.
#
# ### 4 `pretrained=True`
#
# It loads the oldest ImageNet weights without saying so, and is deprecated (here with `False`, so that nothing is downloaded):

# %%
import warnings

from torchvision.models import resnet18

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    resnet18(pretrained=False)
print(str(caught[0].message))

# %% [markdown]
# **Repair:** `resnet18(weights=ResNet18_Weights.IMAGENET1K_V1)` names the weights, which also know their preprocessing and
# classes.
#
# ### 5 An image instead of a batch
#
# A network takes a batch of shape (images, 3, height, width). The first convolution also accepts a single image, so the error
# comes later: in ResNet18 from the BatchNorm behind it, in VGG16 only from the first linear layer:

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
# ### 6 `eval()` forgotten
#
# In training mode BatchNorm normalises with the statistics of the batch, so what the network says about an image depends on the
# images beside it:

# %% jupyter={"source_hidden": true}
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
# **Repair:** `model.eval()` before every prediction and validation. `tl.evaluate` and `tl.predict` do it, and give each
# module its own mode back.
#
# ### 7 "Frozen", but BatchNorm moves
#
# BatchNorm's running mean and variance are *buffers*, not parameters: `requires_grad` does not reach them. We pass a few
# batches through a network that was frozen as in step 3, without any optimizer:

# %% tags=["nbval-ignore-output"]
tutorial = tl.load_model(ARCH, size=SIZE)
for parameter in tutorial.parameters():
    parameter.requires_grad = False
before = tl.snapshot(tutorial)
tutorial.train()  # what the tutorial's loop does
with torch.no_grad():
    for images, _ in train_loader:
        tutorial(images)
moved = tl.changed(tutorial, before)
print(len(moved), "tensors of the 'frozen' network have moved, for example", moved[0])

# %% jupyter={"source_hidden": true}
kinds = sorted({name.rpartition(".")[2] for name in moved})
print(kinds)
assert kinds == ["num_batches_tracked", "running_mean", "running_var"]

# %% [markdown]
# **Repair:** frozen layers stay in evaluation mode, through every later `train()`. `tl.freeze` sees to it:

# %%
tl.freeze(tutorial)
before = tl.snapshot(tutorial)
tutorial.train()
with torch.no_grad():
    for images, _ in train_loader:
        tutorial(images)
print("moved:", tl.changed(tutorial, before))
assert tl.changed(tutorial, before) == []

# %% [markdown]
# ### 8 "Loss" is the last batch's
#
# A loop often ends with `print(loss.item())`. That is the loss of the last batch. It is noisy, since a batch has few images
# (here 16, the others 36), and it comes at the end of the epoch, when the head is better than it was on average:
# <!-- given: the batch size of the cell below -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
forgetful = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
optimizer = torch.optim.Adam(forgetful.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()
torch.manual_seed(SEED)
rows = []
for epoch in range(2):
    total = 0.0
    for images, labels in DataLoader(train_set, batch_size=36, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(forgetful(images), labels)
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

# %% jupyter={"source_hidden": true}
differences = [
    abs(row["printed: the last batch"] - row["mean over all images"]) for row in rows
]
tc.report_finding("The two numbers differ.", max(differences) > 0.01)

# %% [markdown]
# **Repair:** add up `loss * number of images`, and divide by the number of images at the end.
#
# ### 9 The best epoch's validation score as the result
#
# It is right to keep the weights of the epoch that scored best on *val*. It is wrong to report that same score, since the
# best of several is partly chance. Suppose every epoch were equally good, right on 80 % of all images, and scored on 160
# others:
# <!-- given: a made-up example -->

# %%
import numpy as np

throws = np.random.default_rng(SEED).binomial(160, 0.80, size=(10_000, 10)) / 160
print(f"one epoch, on average:        {throws[:, 0].mean():.1%}")
print(f"the best of 10, on average:   {throws.max(axis=1).mean():.1%}")

# %% [markdown]
# In real training the epochs are scored on the *same* images, so the effect is smaller. **Repair:**
# choose on *val*, report on *test*, and touch *test* once.
#
# ## Check yourself
#
# **1.** Your validation accuracy changes when you evaluate the same model twice. Name two mistakes from the list that can do
# it.
#
# <details><summary>Answer</summary>
#
# Mistake 3 (a random transform on validation images). Mistake 6 too, if the network has dropout, or the images arrive in
# another order, so that BatchNorm sees other batches.
# </details>
#
# **2.** In the curves of step 5, at which epoch would you stop, and which number would you report?
#
# <details><summary>Answer</summary>
#
# At the epoch with the best validation accuracy, which the dotted line marks. The number to report is that of step 6.
# </details>
#
# ## Summary
#
# * **Preprocessing belongs to the weights.** Take it from them, for training and validation alike.
# * **Freezing** is `requires_grad = False` *and* evaluation mode for BatchNorm, through every later `train()`.
# * **The head** is replaced and trained first. Then the last layers may follow, at a smaller learning rate.
# * **The loss of an epoch** is a mean over images. **The result** is measured once, on images on which nothing was chosen.
# * **Look at the mistakes.** They teach more than the accuracy.
#
# **What to try next**
#
# * Set `DATA`, in the cell that prints the profile, to a folder of your own.
# * Unfreeze everything (`tl.unfreeze(model)`) at once, with the head's learning rate, and watch the validation loss.
# * Train from scratch (`tl.load_model(ARCH, classes=data.classes, size=SIZE, weights="none")`) until validation stops
#   improving. Expect less than the frozen features reached.
# * In a terminal: `tlhelpers train FOLDER --out run`, `tlhelpers report run`.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
