# %% [markdown]
# # Lab 3: fine-tune the last two blocks of ResNet34
#
# A network has many layers, and you decide which of them move. Here exactly two residual blocks and the head do.
#
# **What you will learn**
#
# * what a block of a ResNet is, and what the word means elsewhere,
# * how to train a chosen part of a network, and how to prove that nothing else moves, BatchNorm included,
# * two learning rates, and a schedule, written by hand,
# * where activations can be kept, and how much memory that takes,
# * how to compare three ways fairly, and when a comparison says nothing.
#
# **Time:** an hour to an hour and a half for you; the cells themselves take about a minute on 2 CPU cores.
#
# Replace each `...` and run the cell; the check below it says ✓, or ✗ and what to look at. Hints fold out.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import math

import pandas as pd
import torch
from IPython.display import display

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile()
print(profile)

# %%
lab = tc.Lab("lab3_resnet34_last_two_blocks")
lab.progress()

# %% [markdown]
# The quick profile takes *safari*, drawings on made-up backgrounds, at 64 pixels, and the ResNet34 that came with the
# course, which was trained on small photographs. With `tl.load_data("path/to/folder")` you take images of your own.

# %%
SIZE = 64  # pixels
data = tl.load_data("safari", size=SIZE, per_class=10)
print(data)

# %% [markdown]
# ## 1 What a block is
#
# **Difficulty** ●○○ · **10 minutes** · **Why it matters:** "the last two blocks" means different things to different
# people; say which.
#
# ResNet34 has four *stages*, `layer1` to `layer4`. A stage is a row of *residual blocks*: two convolutions, and a
# shortcut around them. This lab calls residual blocks *blocks*. In torchvision their class is `BasicBlock`. List the
# paths of all of them, in order.
#
# <details><summary>Hint 1</summary>
#
# `model.named_modules()` gives a path and a module for everything in the network.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `from torchvision.models.resnet import BasicBlock`, and `isinstance`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A list comprehension over `named_modules()` that keeps the paths of modules of one class.
#
# </details>

# %%
model = tl.load_model("resnet34", size=SIZE)

# BEGIN ANSWER: blocks
from torchvision.models.resnet import BasicBlock

blocks = [path for path, module in model.named_modules() if isinstance(module, BasicBlock)]
# END ANSWER
lab.check("blocks", blocks, model=model)

# %% [markdown]
# ## 2 Unfreeze exactly two
#
# **Difficulty** ●●○ · **15 minutes** · **Why it matters:** it is one line too much or too little, and no error tells
# you.
#
# Load ResNet34 with a head for our classes, freeze it, and let the head, `layer4.1` and `layer4.2` train. In training
# mode BatchNorm of these two blocks should follow the data, and that of all others should not.
#
# <details><summary>Hint 1</summary>
#
# `tl.load_model("resnet34", classes=data.classes, size=SIZE)` has a new head. `tl.freeze` freezes everything but the
# head.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `tl.unfreeze(model, last=1)` would unfreeze the whole stage `layer4`. `tl.unfreeze_modules(...)` takes any modules.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Freeze, then unfreeze the modules `model.layer4[1]` and `model.layer4[2]`.
#
# </details>

# %%
# BEGIN ANSWER: model
model = tl.freeze(tl.load_model("resnet34", classes=data.classes, size=SIZE))
tl.unfreeze_modules(model.layer4[1], model.layer4[2])
# END ANSWER
lab.check("unfreeze", model, classes=data.num_classes)

# %% [markdown]
# ## 3 Verify
#
# **Difficulty** ●●● · **15 minutes** · **Why it matters:** this function finds the most frequent mistake of fine-tuning
# in anybody's network.
#
# Write a function that puts a network into training mode, passes images through it, and returns the names of all
# tensors, parameters and buffers, that have changed. There is no optimizer, so nothing should have. The check tries it
# on networks of its own.
#
# <details><summary>Hint 1</summary>
#
# What a network holds is in `state_dict()`. Its tensors are the network's own, not copies, so `clone()` them before.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `tl.snapshot` and `tl.changed` do the copying and comparing. What is left is `train()` and one call.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Copy everything; `model.train()`; forward; compare name by name.
#
# </details>


# %%
def moved_by_forward(model, images):
    """Names of the tensors that a forward pass in training mode changes."""
    # BEGIN ANSWER
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    with torch.no_grad():
        model(images)
    return [
        name
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name])
    ]
    # END ANSWER


lab.check("moves", moved_by_forward)

# %% [markdown]
# ## 4 Two learning rates
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** the head begins from random numbers and has far to go; the
# blocks begin from weights that are worth keeping.
#
# Make an `AdamW` with two groups: the head's parameters at `HEAD_RATE`, those of the two blocks at `BLOCK_RATE`, and
# nothing else.
#
# <details><summary>Hint 1</summary>
#
# An optimizer takes a list of dictionaries: `{"params": ..., "lr": ...}`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `model.fc.parameters()` is the head. The rest of what trains has `requires_grad` and a name that does not begin with
# `fc`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two dictionaries, one for the head and one for the two blocks, each with its own rate.
#
# </details>

# %%
HEAD_RATE, BLOCK_RATE = 3e-3, 3e-4

# BEGIN ANSWER: optimizer
optimizer = torch.optim.AdamW(
    [
        {"params": model.fc.parameters(), "lr": HEAD_RATE},
        {
            "params": [*model.layer4[1].parameters(), *model.layer4[2].parameters()],
            "lr": BLOCK_RATE,
        },
    ]
)
# END ANSWER
lab.check("rates", optimizer, model=model, head_rate=HEAD_RATE, block_rate=BLOCK_RATE)

# %% [markdown]
# ## 5 A schedule
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** large steps at first, small ones at the end; you should be
# able to write what you use.
#
# Write the factor by which *cosine annealing* multiplies the learning rate: 1 at epoch 0, 0 at epoch `epochs`, along
# half a cosine.
#
# <details><summary>Hint 1</summary>
#
# `math.cos(0)` is 1 and `math.cos(math.pi)` is -1.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Shift the cosine up by 1 and halve it.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The argument runs from 0 to pi as the epoch runs from 0 to `epochs`.
#
# </details>


# %%
def cosine_factor(epoch, epochs):
    """The factor of the learning rate at an epoch."""
    # BEGIN ANSWER
    return (1 + math.cos(math.pi * epoch / epochs)) / 2
    # END ANSWER


lab.check("cosine", cosine_factor)

# %% [markdown]
# With `torch.optim.lr_scheduler.LambdaLR` such a function becomes a scheduler. `tl.fit(..., schedule="cosine")` does the
# same.
#
# ## 6 The cached boundary
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** what is frozen need not run twice, if what comes out of it
# fits somewhere.
#
# Everything below `layer4.1` gives the same result in every epoch, without augmentation, so `tl.fit` computes it once
# and keeps it. For an image of **224** pixels, how many bytes does one image's activation take at this boundary, in
# float32?
#
# <details><summary>Hint 1</summary>
#
# Which shape goes into `layer4.1`? Each stage after the first halves height and width; `layer4` has 512 channels.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Pass an image of zeros through everything up to `layer4[0]` and look at the shape. `numel() * element_size()`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Channels times height times width times four bytes.
#
# </details>

# %%
# BEGIN ANSWER: bytes_per_image
lower = torch.nn.Sequential(*list(model.children())[:7], model.layer4[0]).eval()
with torch.no_grad():
    activation = lower(torch.zeros(1, 3, 224, 224, device=next(model.parameters()).device))
bytes_per_image = activation.numel() * 4
# END ANSWER
lab.check("bytes", bytes_per_image, shape=(512, 7, 7))

# %% [markdown]
# Does `tl.fit` find the boundary? Its notes say what it did.

# %% tags=["nbval-ignore-output"]
if lab.ready(model, optimizer):
    run = tl.fit(model, data, epochs=2, augment=False)
    print(run)

# %% [markdown]
# ## 7 Compare
#
# **Difficulty** ●●● · **20 minutes** · **Why it matters:** one run each compares seeds, not ways.
#
# Train three ways, `"head"`, `"two blocks"` and `"everything"`, each with the seeds 0, 1 and 2, for the same number of
# epochs, and collect a DataFrame with the columns `way`, `seed`, `accuracy` (a fraction, on `data.val`, of the last
# epoch). Use `train_one(way, seed)`.


# %%
def train_one(method, seed):
    """Validation accuracy of the last epoch."""
    model = tl.freeze(tl.load_model("resnet34", classes=data.classes, size=SIZE, seed=seed))
    if method == "two blocks":
        tl.unfreeze_modules(model.layer4[1], model.layer4[2])
    elif method == "everything":
        tl.unfreeze(model)
    names = [group["name"] for group in tl.param_groups(model, 1.0)]
    rates = {name: HEAD_RATE if name == "head" else BLOCK_RATE for name in names}
    run = tl.fit(model, data, epochs=3, keep="last", lr=rates, seed=seed)
    return run.history["val_accuracy"].iloc[-1]


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two loops, one over ways and one over seeds, and a list of tuples.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `pd.DataFrame(rows, columns=["way", "seed", "accuracy"])`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Every way gets the same seeds, so that the ways differ in nothing else.
#
# </details>

# %% tags=["nbval-ignore-output"]
METHODS = ("head", "two blocks", "everything")

# BEGIN ANSWER: results
rows = [(method, seed, train_one(method, seed)) for method in METHODS for seed in range(3)]
results = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
# END ANSWER
lab.check("compare", results, methods=METHODS, seeds=3)

# %% tags=["nbval-ignore-output"]
if lab.ready(results):
    chart = tc.plots.ranking(
        results,
        "accuracy",
        "method",
        title="Three ways, three seeds",
        xlabel="validation accuracy",
    )
    display(chart)

# %% [markdown]
# ## 8 Conclude
#
# **Difficulty** ●○○ · **5 minutes** · **Why it matters:** a table that cannot decide is a result, and must be called
# one.
#
# Suppose the three bars lie within each other's spread. What do you conclude?
#
# * **A** The way with the highest mean is the best.
# * **B** This experiment cannot tell them apart; take the cheapest, or measure with more seeds.
# * **C** The experiment has failed.
# * **D** Train the way that you expected to win a little longer.
#
# <details><summary>Hint 1</summary>
#
# What would the order of the bars be with other seeds?
#
# </details>
# <details><summary>Hint 2</summary>
#
# What else do the ways differ in, apart from accuracy?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A difference within the spread is no difference that you know of. Cost still differs.
#
# </details>

# %%
# BEGIN ANSWER: answer
answer = "B"
# END ANSWER
lab.check("conclude", answer)

# %%
lab.progress()

# %% [markdown]
# ## Summary
#
# * A *block* is a residual block here, a stage elsewhere: say which.
# * What trains is chosen by freezing; that it is so is shown by comparing, buffers included.
# * The head gets the larger learning rate, the blocks a smaller one.
# * Below the lowest trainable layer everything can be kept, at a price in memory that you can compute.
# * Three seeds are the least that shows a spread.
#
# **What to try next**
#
# * Unfreeze one block after the other, from the last to the first. Where does it stop paying?
# * Repeat the comparison with 100 images of each class.
# * Replace `AdamW` by SGD with momentum. Which rates do you need?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
