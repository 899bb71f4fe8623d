# %% [markdown]
# # Lab 3: fine-tune the last two blocks of ResNet34
#
# You have ten drawings of each of eight kinds of things, and a ResNet34 that was trained on photographs. You do not want to
# train all of it. The book asks:
# <!-- given: the settings below -->
#
# > Fine-tune a pre-trained ResNet34 by unfreezing its last two convolutional blocks; use an optimizer and a learning-rate
# > scheduler.
#
# You write every piece yourself: what trains, the optimizer, the schedule and the training loop.
#
# **What you will learn**
#
# * what a block of a ResNet is, and what the word means elsewhere,
# * how to train a chosen part of a network, and how to prove that nothing else changes, BatchNorm included,
# * how to give the head and the blocks different learning rates, and how to write a schedule,
# * how to write a training loop in plain PyTorch,
# * how to compare three methods over seeds, and what to report if the comparison cannot decide.
#
# **Time:** 90 minutes for the core, 10 for the extension. The cells themselves take about a minute on 2 CPU cores.
#
# Replace each `...` and run the cell. The check below it prints ✓, or ✗ and what to look at. Hints fold out.

# %% tags=["student"]
STUDENT = ""  # your name or number, if your teacher collects the notebooks

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import math

import pandas as pd
import torch
from IPython.display import display
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile(precision="fp32")
print(profile)
lab = tc.Lab("lab3_resnet34_last_two_blocks")

# %% [markdown]
# ## The images and the network
#
# The quick profile takes *safari*, drawings on made-up backgrounds. It has a training set and a validation set of 80 images
# each, which share no drawing. Images have 48 pixels a side, so that a network of this size trains in seconds. The
# ResNet34 came with the course; it was trained on small photographs.
# <!-- given: the settings of the next cell -->

# %%
SIZE = 48  # pixels
data = tl.load_data("safari", size=SIZE, per_class=10, val_per_class=10)
network = tl.load_model("resnet34", size=SIZE)
print(data)
print(network.card.sentence)

# %% [markdown]
# ## Blocks

# %% [markdown]
# ### 1 What a block is
#
# **Difficulty** ●○○ · **10 minutes** · **1 point** · **Why it matters:** "the last two blocks" has two meanings; say which one you use.
#
# ResNet34 has four *stages*, `layer1` to `layer4`. A stage is a row of **residual blocks**: two convolutions with BatchNorm,
# and a shortcut around them. In torchvision their class is `BasicBlock`. Many texts, and `tl.unfreeze(last=2)`, call a stage
# a block. In this lab a *block* is a residual block.
#
# Make a list `blocks` of the names of all residual blocks of `network`, in the order of the forward pass.
#
# <details><summary>Hint 1</summary>
#
# `network.named_modules()` gives the name and the module of everything in the network.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `from torchvision.models.resnet import BasicBlock`, and `isinstance`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A list comprehension over `named_modules()` keeps the names of the modules of one class.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: blocks
from torchvision.models.resnet import BasicBlock

blocks = [
    name for name, module in network.named_modules() if isinstance(module, BasicBlock)
]
# END ANSWER

# %% tags=["check"] points=1
lab.check("blocks", blocks, model=network)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.blocks(
    {"two blocks": ["layer4.1", "layer4.2", "head"]},
    names=[
        "stem",
        "layer1",
        "layer2",
        "layer3",
        "layer4.0",
        "layer4.1",
        "layer4.2",
        "head",
    ],
    title="What this lab trains: two residual blocks and the new head; grey is frozen",
)

# %% [markdown]
# ### 2 Unfreeze exactly two
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** one line too many trains a whole stage, and no error tells you.
#
# Make `model`: the pre-trained ResNet34 with a new head for `data.classes`, in which the head, `layer4.1` and `layer4.2` train
# and everything else is frozen. After `model.train()`, BatchNorm should update its running
# statistics in these two blocks and nowhere else.
#
# <details><summary>Hint 1</summary>
#
# `tl.load_model("resnet34", classes=data.classes, size=SIZE)` has a new head. `tl.freeze` freezes all but the head.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `tl.unfreeze(model, last=1)` would unfreeze the whole stage `layer4`. `tl.unfreeze_modules(...)` takes any modules.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Load, freeze, and unfreeze the two modules `model.layer4[1]` and `model.layer4[2]`.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: model
model = tl.freeze(tl.load_model("resnet34", classes=data.classes, size=SIZE))
tl.unfreeze_modules(model.layer4[1], model.layer4[2])
# END ANSWER

# %% tags=["check"] points=2
lab.check("unfreeze", model, classes=data.num_classes)

# %% [markdown]
# ### 3 Verify
#
# **Difficulty** ●●● · **10 minutes** · **3 points** · **Why it matters:** this function finds a frequent mistake of fine-tuning in any network.
#
# Write a function that puts a network into training mode, passes images through it once, and returns a list of the
# names of all tensors, parameters and buffers, that have changed. It may leave the network changed. There is no optimizer, so in a frozen network nothing should change. The
# check tries it on networks of its own.
#
# <details><summary>Hint 1</summary>
#
# `state_dict()` holds all parameters and buffers by name.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `state_dict()` gives the network's own tensors: they change with it. So `clone()` each of them before the pass.
# `tl.snapshot(model)` does that, and `tl.changed(model, before)` compares.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Copy everything; `model.train()`; one forward pass; compare name by name with `torch.equal`.
#
# </details>


# %% tags=["answer"]
def moved_by_forward(model, images):
    """Names of the tensors that a forward pass in training mode changes."""
    # BEGIN ANSWER
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    with torch.no_grad():
        model(images)
    after = model.state_dict()
    return [name for name in after if not torch.equal(after[name], before[name])]
    # END ANSWER


# %% tags=["check"] points=3
lab.check("moves", moved_by_forward)

# %% tags=["nbval-ignore-output"]
if lab.ready("unfreeze", "moves"):
    probe = torch.randn(8, 3, SIZE, SIZE)
    by_hand = tl.load_model("resnet34", size=SIZE).requires_grad_(False)
    print(
        f"requires_grad = False alone: {len(moved_by_forward(by_hand, probe))} tensors change"
    )
    before = tl.snapshot(model)
    names = moved_by_forward(model.cpu(), probe)
    print(f"your model: {len(names)} tensors change, all of BatchNorm in")
    print(sorted({name.rpartition(".")[0] for name in names}))
    model.load_state_dict(before)  # undo it

# %% [markdown]
# ## Optimizer, schedule, loop

# %%
HEAD_RATE, BLOCK_RATE = 3e-3, 3e-4

# %% [markdown]
# ### 4 Two learning rates
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** the head starts from random numbers, the blocks from weights that are worth keeping.
#
# Make an `AdamW` named `optimizer` with two parameter groups: the head's parameters with the learning rate `HEAD_RATE`, those
# of the two blocks with `BLOCK_RATE`. Frozen parameters are in neither.
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
# Two dictionaries, one for the head and one for the two blocks, each with its own learning rate.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: optimizer
in_blocks = [*model.layer4[1].parameters(), *model.layer4[2].parameters()]
optimizer = torch.optim.AdamW(
    [
        {"params": model.fc.parameters(), "lr": HEAD_RATE},
        {"params": in_blocks, "lr": BLOCK_RATE},
    ]
)
# END ANSWER

# %% tags=["check"] points=2
lab.check("rates", optimizer, model=model, head_rate=HEAD_RATE, block_rate=BLOCK_RATE)

# %% [markdown]
# ### 5 A schedule
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** large steps at first and small ones at the end; you should be able to write what you use.
#
# *Cosine annealing* multiplies every learning rate by a factor: 1 at epoch 0, 0 at epoch `epochs`, along half a cosine. Write
# the factor as a function of the epoch. `LambdaLR(optimizer, factor)` makes a scheduler of it. Return the scheduler.
#
# <details><summary>Hint 1</summary>
#
# `math.cos(0)` is 1 and `math.cos(math.pi)` is -1. Shift and halve.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Define a function `factor(epoch)` inside of `cosine_schedule`, or use `lambda epoch: ...`. `LambdaLR` multiplies the
# optimizer's learning rates by what it returns.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The argument of the cosine runs from 0 to pi as the epoch runs from 0 to `epochs`.
#
# </details>


# %% tags=["answer"]
def cosine_schedule(optimizer, epochs):
    """A LambdaLR that lowers all learning rates along half a cosine, to 0 after `epochs` epochs."""

    # BEGIN ANSWER
    def factor(epoch):
        return (1 + math.cos(math.pi * epoch / epochs)) / 2

    return LambdaLR(optimizer, factor)
    # END ANSWER


# %% tags=["check"] points=2
lab.check("cosine", cosine_schedule)

# %% [markdown]
# ### 6 A training loop
#
# **Difficulty** ●●● · **25 minutes** · **4 points** · **Why it matters:** every training library hides this loop; who has written it can read their results.
#
# Write `fine_tune` in plain PyTorch. In each epoch:
#
# 1. Put the network into training mode. (`model.train()` leaves modules that `tl.freeze` froze in evaluation mode.)
# 2. For each training batch: forward pass, `cross_entropy`, clear the gradients, backward pass, one step of the optimizer.
# 3. Step the scheduler **once**, after the optimizer's steps.
# 4. Put the network into evaluation mode, and count, without gradients, the validation images that are classified correctly.
#
# Return a list with a pair `(loss, accuracy)` for each epoch. `loss` is the mean training loss *per image*: the last batch
# may be smaller than the others. `accuracy` is a fraction of the validation images. The check compares your function with
# plain PyTorch, step by step, on a small network.
#
# <details><summary>Hint 1</summary>
#
# Two loops, one inside the other: epochs, and in each epoch batches. `cross_entropy(model(images), labels)` is the mean
# over a batch; `loss.item() * len(labels)` is its sum.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `model.train()` belongs into the loop over epochs, since `model.eval()` comes at its end. `with torch.no_grad():`
# surrounds the loop over `val_loader`. `scores.argmax(1)` is the predicted class.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# In each batch `zero_grad`, `backward`, `step`; add up the loss over images and divide by `len(train_loader.dataset)`;
# then the scheduler; then validation.
#
# </details>


# %% tags=["answer"]
def fine_tune(model, train_loader, val_loader, optimizer, scheduler, epochs):
    """Train; a list of (mean training loss of an image, validation accuracy), one pair an epoch."""
    # BEGIN ANSWER
    history = []
    for _ in range(epochs):
        model.train()
        total, hits = 0.0, 0
        for images, labels in train_loader:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            for images, labels in val_loader:
                hits += (model(images).argmax(1) == labels).sum().item()
        history.append((total / len(train_loader.dataset), hits / len(val_loader.dataset)))
    return history
    # END ANSWER


# %% tags=["check"] points=4
lab.check("loop", fine_tune)

# %% [markdown]
# ### Run it
#
# The images are prepared once, as the network's card says, and kept as tensors. Then your model, optimizer, schedule and loop
# do what the book asks.

# %%
prepare_image = network.card.preprocessing.evaluation()


def loader(split, **options):
    """Batches of prepared images (16, 3, SIZE, SIZE) and labels (16,)."""
    images = torch.stack([prepare_image(split.image(i)) for i in range(len(split))])
    tensors = images.to(profile.device), split.labels.to(profile.device)
    return DataLoader(TensorDataset(*tensors), batch_size=16, **options)


train_loader, val_loader = loader(data.train, shuffle=True), loader(data.val)

# %% tags=["nbval-ignore-output"]
EPOCHS = 5
history = []

if lab.ready("unfreeze", "rates", "cosine", "loop"):
    model.to(profile.device)
    torch.manual_seed(0)
    scheduler = cosine_schedule(optimizer, EPOCHS)
    history = fine_tune(model, train_loader, val_loader, optimizer, scheduler, EPOCHS)
    print(
        f"{history[-1][1]:.0%} of the validation images are right; guessing gives {1 / data.num_classes:.1%}"
    )

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if history:
    alt = "; ".join(
        f"epoch {n}: loss {a:.2f}, accuracy {b:.0%}" for n, (a, b) in enumerate(history, 1)
    )
    chart = tl.plots.Chart(
        f"Training loss and validation accuracy by epoch. {alt}.", figsize=(8, 3)
    )
    names = ("training loss of an image", "validation accuracy")
    for axis, name, values in zip(
        chart.subplots(1, 2), names, zip(*history, strict=True), strict=True
    ):
        axis.plot(
            range(1, EPOCHS + 1), values, "o-", color=tc.plots.METHOD_COLOURS["two blocks"]
        )
        axis.set(
            xlabel="epoch",
            ylabel=name,
            ylim=(0, 1.05 * max(values)),
            xticks=range(1, EPOCHS + 1),
        )
        axis.grid(alpha=0.3)
    axis.axhline(1 / data.num_classes, color="black", ls=":", label="guessing")
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.legend()
    chart.suptitle("Two blocks and the head, your own loop")
    display(chart)

# %% [markdown]
# The curve of a run that works falls on the left and rises on the right, to far above guessing. The steps become smaller with
# the schedule, so both curves flatten.
#
# ## A comparison
#
# Is it worth training more than the head, or everything?

# %% [markdown]
# ### 7 Three methods
#
# **Difficulty** ●●○ · **5 minutes** · **2 points** · **Why it matters:** a comparison is fair if the methods differ in what trains and in nothing else.
#
# Write `prepare`. Each call loads a **new** pre-trained ResNet34 for `data.classes`; pass `seed` to `tl.load_model`, which
# draws the head's random numbers with it. What trains depends on `method`: `"head"` only the head, `"two blocks"` the head,
# `layer4.1` and `layer4.2`, `"everything"` all layers. What does not train is frozen, BatchNorm included.
#
# <details><summary>Hint 1</summary>
#
# Start with the two calls of exercise 2. `seed=seed` belongs into one of them.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `tl.unfreeze(model)` without further arguments unfreezes everything.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Load and freeze, then one `if` for each method that trains more than the head; return the network.
#
# </details>


# %% tags=["answer"]
def prepare(method, seed):
    """A new network in which what the method says trains."""
    # BEGIN ANSWER
    model = tl.freeze(tl.load_model("resnet34", classes=data.classes, size=SIZE, seed=seed))
    if method == "two blocks":
        tl.unfreeze_modules(model.layer4[1], model.layer4[2])
    elif method == "everything":
        tl.unfreeze(model)
    return model
    # END ANSWER


# %% tags=["check"] points=2
lab.check("methods", prepare, classes=data.num_classes)

# %% [markdown]
# `train_one` trains one method once, for three epochs, with your functions. All methods have the same epochs, batch order and
# learning rates. Three epochs are short, and nobody tuned the learning rates of each method, so the numbers are an exercise
# in comparing. [12.2.2](../chapter12/12_2_2_fine_tuning.ipynb) compares methods that were trained to the end.
# <!-- given: the next cell -->


# %%
def train_one(method, seed):
    """Validation accuracy of a method after three epochs."""
    if not lab.ready("cosine", "loop", "methods"):
        return math.nan
    network = prepare(method, seed).to(profile.device)
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    head, body = (
        [p for n, p in named if n.startswith("fc.") is own] for own in (True, False)
    )
    groups = [{"params": head, "lr": HEAD_RATE}, {"params": body, "lr": BLOCK_RATE}]
    optimizer = torch.optim.AdamW(groups)
    torch.manual_seed(seed)  # of the order of the batches
    scheduler = cosine_schedule(optimizer, 3)
    return fine_tune(network, train_loader, val_loader, optimizer, scheduler, 3)[-1][1]


# %%
METHODS = ("head", "two blocks", "everything")

# %% [markdown]
# ### 8 Compare
#
# **Difficulty** ●●○ · **5 minutes** · **2 points** · **Why it matters:** one run of each method compares seeds as much as methods.
#
# Train each of `METHODS` with the seeds 0, 1 and 2, by `train_one(method, seed)`. Collect the runs in a DataFrame `results`
# with the columns `method`, `seed` and `accuracy`, a row for each run. This takes half a minute.
#
# <details><summary>Hint 1</summary>
#
# Two loops, one over methods and one over seeds, and a list of tuples.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `pd.DataFrame(rows, columns=["method", "seed", "accuracy"])`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Every method gets the same seeds. Both loop variables are passed on, and both are stored.
#
# </details>

# %% tags=["answer", "nbval-ignore-output"]
# BEGIN ANSWER: results
rows = [(method, seed, train_one(method, seed)) for method in METHODS for seed in (0, 1, 2)]
results = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=2
lab.check("compare", results)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("compare"):
    chart = tc.plots.ranking(
        results,
        "accuracy",
        "method",
        title="Three methods, three seeds: mean, standard deviation and runs",
        xlabel="validation accuracy",
    )
    display(chart)
    table = tc.compare_methods(results, "accuracy", "method")
    for name, row in table[1:].iterrows():
        text = (
            "no significant difference"
            if row.no_significant_difference
            else "a significant difference"
        )
        interval = f"{100 * row.low:+.0f} to {100 * row.high:+.0f}"
        print(
            f"{table.index[0]} is {100 * row.mean_difference:.0f} points ahead of {name} (95 % interval {interval}): {text}"
        )

# %% [markdown]
# ### 9 Conclude
#
# **Difficulty** ●○○ · **5 minutes** · **1 point** · **Why it matters:** a comparison that cannot decide is a result, and must be reported as one.
#
# Suppose that the 95 % interval of each difference contains zero. What do you report? Answer with a
# letter, for instance `"A"`.
#
# * **A** The method with the highest mean over the three seeds is the best one, and I name its accuracy.
# * **B** There is no significant difference. I can measure with more seeds, or take the cheapest method and say that cost decided.
# * **C** The three methods are equally accurate: the intervals have shown that there is no difference between them.
# * **D** Nothing yet: I train the method that I expected to win a little longer, until its interval lies above zero.
# <!-- given: the usual confidence -->
#
# <details><summary>Hint 1</summary>
#
# What would the order of the means be with three other seeds?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Zero lies in the interval. Which other differences lie in it, too?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The runs do not rank the methods, and they do not show that they are equal. A choice by cost is a choice by cost.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: answer
answer = "B"
# END ANSWER

# %% tags=["check"] points=1
lab.check("conclude", answer)

# %%
lab.progress()

# %% [markdown]
# ## Extension

# %% [markdown]
# ### 10 The cached boundary
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** what is frozen need not run in every epoch, if its output fits into memory.
#
# Everything below `layer4.1` is frozen. Without augmentation it gives the same result for an image in every epoch, so `tl.fit`
# computes it once and keeps it. Write a function: how many bytes does one image of `side` by `side` pixels take there, as
# float32? Sides are multiples of 32.
#
# <details><summary>Hint 1</summary>
#
# Which shape goes into `layer4.1`? The stem divides height and width by 4, each stage after `layer1` by 2, and `layer4`
# has 512 channels.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Or pass an image of zeros through everything up to `layer4[0]` and look at the result: `numel() * element_size()`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Channels times height times width times four bytes.
#
# </details>


# %% tags=["answer"]
def bytes_per_image(side):
    """Bytes of what goes into `layer4.1`, in float32, for one image of `side` pixels."""
    # BEGIN ANSWER
    lower = torch.nn.Sequential(*list(network.children())[:7], network.layer4[0]).eval()
    with torch.no_grad():
        activation = lower(torch.zeros(1, 3, side, side))
    return activation.numel() * activation.element_size()
    # END ANSWER


# %% tags=["check"] points=2
lab.check("bytes", bytes_per_image)

# %% [markdown]
# Does `tl.fit` find the boundary? Its notes say what it did.

# %% tags=["nbval-ignore-output"]
if lab.ready("methods", "bytes"):
    run = tl.fit(prepare("two blocks", seed=0), data, epochs=2, augment=False)
    print(run)

# %%
lab.progress()

# %% [markdown]
# ## Summary
#
# * A *block* is a residual block here and a stage elsewhere: say which.
# * Freezing chooses what trains. Comparing the tensors before and after proves it, buffers included.
# * The head gets the larger learning rate, the blocks a smaller one; a schedule multiplies both by the same factor.
# * In the loop: `train()` in each epoch, gradients cleared before each backward pass, the scheduler after the optimizer,
#   `eval()` and no gradients for validation.
# * If the interval of a difference contains zero, report "no significant difference". It does not mean "equal".
#
# **What to try next**
#
# * Unfreeze one block after the other, from the last to the first. From where on does it gain nothing more?
# * Call `fine_tune` with a schedule that always returns 1. Expect validation accuracy to vary more in the last epochs.
# * Replace `AdamW` by SGD with momentum. Expect to need much larger learning rates.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
