# %% [markdown]
# # 12.2.1 Feature extraction
#
# The pre-trained network stays as it is, and a new last layer learns to read what it says. This is the smallest piece of
# transfer learning, and the one where most can be checked. Here everything is checked.
#
# **What you will learn**
#
# * the four steps: load, freeze, replace the head, *verify*; weights and buffers, before and after,
# * why `requires_grad = False` does not freeze BatchNorm, what that does, and how to stop it,
# * what the optimizer does with frozen parameters: what textbooks say about it, and what is measured,
# * how to compute the features once, and how much time that saves,
# * how to check a trained head against a classifier that needs no learning rate, epochs or seed.
#
# **Time:** one or two minutes on 2 CPU cores in the quick profile; the last cell prints what it took here.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import pandas as pd
import torch
from torch import nn
from torch.nn import functional

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile(precision="fp32")  # so that two ways agree digit by digit
QUICK = profile.name == "quick"
DATA = profile.data
ARCH = profile.arch
SIZE = 128 if QUICK else None  # pixels; None is the size the weights were trained on
SEED = profile.seed
print(profile)

# %% [markdown]
# **What the quick profile puts in place of the real thing:** *safari*, drawings on made-up backgrounds, in place of
# photographs. The network is real: an EfficientNet-Lite0 that was trained on all of ImageNet. It came with a pip package,
# and sees the images at 128 pixels instead of 224, which takes a third of the time.
# <!-- given: settings of the cells below -->
#
# ## 1 Load

# %% tags=["nbval-ignore-output"]
data = tl.load_data(DATA, **({"size": 144, "per_class": 20} if DATA == "safari" else {}))
pretrained = tl.load_model(ARCH, size=SIZE)
print(data)
print(pretrained.card)

# %% [markdown]
# This notebook looks inside the training, so it also wants the images as plain tensors: prepared as the weights
# expect, without augmentation, and no more than 40 training images of each class.

# %%
prepare = pretrained.card.preprocessing.evaluation()


def as_tensors(split):
    """Images (n, 3, size, size) and labels (n,), on the profile's device."""
    images = torch.stack([prepare(split.image(i)) for i in range(len(split))])
    return images.to(profile.device), split.labels.to(profile.device)


train_images, train_labels = as_tensors(data.train.per_class(40, seed=SEED))
val_images, val_labels = as_tensors(data.val)
assert len(train_images) == len(train_labels)
assert train_images.shape[1] == 3


# %% [markdown]
# ## 2 Freeze
#
# A parameter with `requires_grad = False` gets no gradient. In a loop by hand:

# %%
for parameter in pretrained.parameters():
    parameter.requires_grad = False
print(
    "trainable parameters:",
    sum(p.numel() for p in pretrained.parameters() if p.requires_grad),
)

# %% [markdown]
# ## 3 Replace the head
#
# The **head** is the last linear layer. It has one output for each class of the *source* task, so it is of no use for
# ours. A new layer takes its place:
#
#     model.fc = nn.Linear(model.fc.in_features, num_classes)                  # a ResNet
#     model.classifier = nn.Linear(model.classifier.in_features, num_classes)  # this EfficientNet
#
# `tl.replace_head` does the same for every family. A new layer is trainable from the start. So freeze
# *first*, and replace the head *afterwards*. In the other order the new head is frozen too:

# %%
too_late = tl.replace_head(tl.load_model(ARCH, size=SIZE), classes=data.classes)
for parameter in too_late.parameters():
    parameter.requires_grad = False
try:
    functional.cross_entropy(
        too_late(val_images[:2].cpu()), val_labels[:2].cpu()
    ).backward()
except RuntimeError as error:
    print("PyTorch:", str(error).splitlines()[0])
try:
    tl.fit(too_late, data, epochs=1)
except tl.TrainingError as error:
    print("tl.fit: ", error)

# %% [markdown]
# ## 4 Verify
#
# Freezing goes wrong without an error message: a network that trains too much also learns, and one that trains too
# little also runs. So look, twice. First **before** training: list what is trainable.

# %% tags=["nbval-ignore-output"]
by_hand = tl.replace_head(pretrained, classes=data.classes, seed=SEED).to(profile.device)
tl.trainable_table(by_hand)

# %%
trainable = [name for name, p in by_hand.named_parameters() if p.requires_grad]
head_of = {id(p) for p in tl.get_head(by_hand).parameters()}
assert {id(p) for p in by_hand.parameters() if p.requires_grad} == head_of
print(
    "Trainable are weight and bias of the head, and nothing else:",
    len(trainable),
    "tensors.",
)

# %% [markdown]
# The table's last column already says that something is wrong. We ignore it for a moment, as most tutorials do.
#
# Then **after** training: compare every number with what it was. A network holds two kinds of tensors. *Parameters* are
# what the optimizer moves. *Buffers* are other things it remembers, such as the running averages of BatchNorm. Both are
# in `state_dict()`, and `tl.snapshot` copies it. Here is one epoch of training, written as in most tutorials:


# %%
def shuffled(count, epochs, batch_size=32):
    """Numbers of the images of each batch, in an order that depends on the seed alone."""
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(epochs):
        yield from torch.randperm(count, generator=generator).split(batch_size)


def step(network, optimizer, inputs, labels):
    """One step of training."""
    optimizer.zero_grad()
    functional.cross_entropy(network(inputs), labels).backward()
    optimizer.step()


before = tl.snapshot(by_hand)
optimizer = torch.optim.Adam(tl.get_head(by_hand).parameters(), lr=1e-3)
by_hand.train()  # "training mode on", as every tutorial says
for chosen in shuffled(len(train_images), epochs=1):
    step(by_hand, optimizer, train_images[chosen], train_labels[chosen])
moved = tl.changed(by_hand, before)


# %%
def kinds(network, names):
    """How many tensors of each kind are among the names."""
    parameters = dict(network.named_parameters())
    said = {
        name: ("head, " if id(parameters.get(name)) in head_ids(network) else "backbone, ")
        + ("parameter" if name in parameters else name.rpartition(".")[2])
        for name in names
    }
    return pd.Series(said, dtype=object).value_counts().sort_index().to_dict()


def head_ids(network):
    return {id(p) for p in tl.get_head(network).parameters()}


found = kinds(by_hand, moved)
print(pd.Series(found, name="tensors that moved").to_string())

# %% tags=["claim-requires-grad-freezes"]
assert found.get("backbone, parameter", 0) == 0, "a frozen parameter moved"
assert found["head, parameter"] == 2
norms = [m for m in by_hand.modules() if isinstance(m, nn.BatchNorm2d)]
assert found["backbone, running_mean"] == found["backbone, running_var"] == len(norms) > 0
print(
    "No parameter of the backbone moved, and the statistics of all its BatchNorm layers did."
)

# %% [markdown]
# ## 5 BatchNorm in frozen layers
#
# In training mode BatchNorm normalises with the mean and variance of the *batch*, and at the same time moves its
# *running* mean and variance a tenth of the way towards them. In evaluation mode it normalises with the running ones.
# They are buffers, `requires_grad` does not reach them, and no optimizer is needed to move them: a forward pass does
# it. After $t$ batches, of the statistics that came with the weights there remains $0.9^t$:
#
# <!-- given: PyTorch's default momentum of 0.1 -->

# %%
for batches in (1, 10, 30, 50):
    print(f"after {batches:2} batches there remains {0.9**batches:.1%}")

# %% [markdown]
# What does it do to a network that works? We train a head properly first, with a backbone that does not move. Then
# nothing more is learned: we only pass training images through the network in training mode, and look at the network
# from time to time in evaluation mode.

# %% tags=["nbval-ignore-output"]
model = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
run = tl.fit(model, data, epochs=12, lr=1e-2, augment=False, seed=SEED)
print(run)


# %%
def new_copy(network):
    """The same weights and statistics, everything unfrozen, on the profile's device."""
    twin = tl.load_model(ARCH, classes=data.classes, size=SIZE).to(profile.device)
    twin.load_state_dict(network.state_dict())
    return twin


@torch.no_grad()
def answers(network):
    """The classes that a network gives the validation images, in evaluation mode."""
    network.eval()
    return torch.cat([network(some).argmax(1) for some in val_images.split(64)])


def running_means(network):
    return torch.cat(
        [b for name, b in network.named_buffers() if name.endswith("running_mean")]
    )


# %% tags=["nbval-ignore-output"]
LOOKS = (0, 1, 3, 10, 25)  # after so many batches
at_first, first_answers = running_means(model).clone(), answers(model)
rows = []
for batch_size in (4, 32):
    drifting = new_copy(model)
    for parameter in drifting.parameters():
        parameter.requires_grad = False  # "frozen"
    generator = torch.Generator().manual_seed(SEED)
    for batch in range(max(LOOKS) + 1):
        if batch in LOOKS:
            now = answers(drifting)
            rows.append(
                {
                    "batches": batch,
                    "batches of": f"batches of {batch_size}",
                    "distance": float(
                        (running_means(drifting) - at_first).norm() / at_first.norm()
                    ),
                    "answers changed": float((now != first_answers).float().mean()),
                    "accuracy": float((now == val_labels).float().mean()),
                }
            )
        chosen = torch.randperm(len(train_images), generator=generator)[:batch_size]
        with torch.no_grad():
            drifting.train()(train_images[chosen])
drift = pd.DataFrame(rows)
drift.set_index(["batches of", "batches"]).round(3)

# %% tags=["nbval-ignore-output"]
tc.plots.lines(
    drift,
    "batches",
    "distance",
    "batches of",
    title="How far the running means of a 'frozen' network drift",
    xlabel="batches passed through in training mode",
    ylabel="distance / length at first",
)

# %% tags=["nbval-ignore-output"]
shares = drift.melt(
    ["batches", "batches of"], ["answers changed", "accuracy"], "what", "share"
)
shares["what"] += ", " + shares["batches of"]
tc.plots.lines(
    shares,
    "batches",
    "share",
    "what",
    title="The drifting network's answers",
    xlabel="batches passed through in training mode",
    ylabel="validation images",
)

# %%
start_of, end_of = (drift[drift["batches"] == b] for b in (0, max(LOOKS)))
assert (start_of["distance"] == 0).all()
assert (start_of["answers changed"] == 0).all()
assert (end_of["distance"] > 0).all()
lost = start_of["accuracy"].mean() - end_of["accuracy"].mean()
tc.report_finding(
    "Without a step of learning more than a quarter of all answers have changed,\n"
    "and the accuracy has fallen by more than five points.",
    (end_of["answers changed"] > 0.25).all(),
    lost > 0.05,
)

# %% tags=["nbval-ignore-output"]
print(
    f"Answers changed: {end_of['answers changed'].mean():.0%}; accuracy lost: {100 * lost:.0f} points"
)

# %% [markdown]
# The first figure bends, since less and less of the old statistics is left. The second shows what follows: the head was
# trained on features that no longer exist, so it often answers something else, and after 25 batches it is wrong more often.
# (The distance is small because a few large means make up most of the length.) What the network says depends on how many
# batches went through it, although nothing was learned.
#
# Is drift always bad? No. BatchNorm that adapts to new images can be wanted (Li et al. 2017, *AdaBN*); then the head
# must be trained on the adapted features. What is never wanted is that it happens by accident.
#
# **Repair:** `tl.freeze` keeps frozen modules in evaluation mode through every later `train()`.

# %%
model.train()
before = tl.snapshot(model)
with torch.no_grad():
    for chosen in shuffled(len(train_images), epochs=1):
        model(train_images[chosen])
print("moved:", tl.changed(model, before))
assert tl.changed(model, before) == []

# %% tags=["nbval-ignore-output"]
tl.trainable_table(model)

# %% [markdown]
# By hand the same needs a call after *every* `model.train()`:
#
#     model.train()
#     for module in model.modules():
#         if isinstance(module, nn.BatchNorm2d):
#             module.eval()
#
# ### Does it matter? Measured over seeds
#
# This was measured with the course's ResNet18 at 64 px, whose weights come from tiny photographs. A head was trained on
# 320 images of safari for eight epochs, by a loop that calls `model.train()`: once with BatchNorm's statistics frozen, once
# with statistics that the training images update. Five seeds, with batches of 4 and of 32 images.
# <!-- given: the settings in tlcourse/measurements/data/batchnorm.json -->

# %% tags=["nbval-ignore-output"]
batchnorm = tc.load_results("batchnorm")
print(batchnorm)
runs = batchnorm.runs
by_size = {
    size: tc.compare_methods(rows, "test", "method")
    for size, rows in runs.groupby("batch_size")
}
tc.plots.ranking(
    runs.assign(setting=runs["method"] + ", batches of " + runs["batch_size"].astype(str)),
    "test",
    "setting",
    title="BatchNorm's statistics while a head is trained",
    xlabel="balanced accuracy on the test set; each dot is a seed",
)

# %% tags=["claim-batchnorm-held"]
wide = 100 * runs.pivot(index=["batch_size", "seed"], columns="method", values="test")
gain = (wide["updated"] - wide["frozen"]).groupby("batch_size").agg(["mean", "std"])
for size, row in gain.iterrows():
    print(
        f"batches of {size}: updated minus frozen {row['mean']:+.1f} ± {row['std']:.1f} points"
    )
assert gain.loc[32, "mean"] > 3
assert not by_size[32].loc["frozen", "no_significant_difference"]
assert by_size[4].loc["frozen", "no_significant_difference"]

# %% [markdown]
# With batches of 32 the updated statistics are 4.4 points *better*, probably because they adapt this network to drawings
# while the head is trained and can follow. With batches of 4 the difference is +1.4 points, and its interval contains zero:
# five seeds cannot tell. So in this experiment freezing did not bring accuracy. The reason to freeze BatchNorm is another: a
# frozen backbone stays what it was, its features can be computed once, and it still serves its old task. If you let the
# statistics move, do it on purpose, and train the head with them.
# <!-- given: tlcourse/measurements/data/batchnorm.json -->
#
# ## 6 What the optimizer does with frozen parameters
#
# Three ways to make the optimizer are in use:
#
#     Adam(model.parameters())
#     Adam(model.classifier.parameters())
#     Adam(filter(lambda p: p.requires_grad, model.parameters()))
#
# Textbooks say that the first *wastes memory* on the frozen layers, or even that it *trains* them, and that the other
# two are therefore needed. Both can be measured. Adam keeps two numbers for every parameter (running means of the
# gradient and of its square): its **state**. We add two ways in which nothing is frozen.
# <!-- given: tlcourse/measurements/data/batchnorm.json -->


# %%
def megabytes(tensors):
    return round(sum(t.numel() * t.element_size() for t in tensors) / 1e6, 2)


def everything(network):
    return network.parameters()


def head_only(network):
    return tl.get_head(network).parameters()


def filtered(network):
    return filter(lambda p: p.requires_grad, network.parameters())


methods = {
    "frozen, all parameters": (True, everything),
    "frozen, the head's": (True, head_only),
    "frozen, filtered": (True, filtered),
    "not frozen, the head's": (False, head_only),
    "not frozen, all parameters": (False, everything),
}
setups, rows = {}, {}
batch = train_images[:8], train_labels[:8]
for name, (frozen, choice) in methods.items():
    network = new_copy(model)
    if frozen:
        tl.freeze(network)
    network.train()
    optimizer = torch.optim.Adam(choice(network), lr=1e-3)
    before = tl.snapshot(network)
    step(network, optimizer, *batch)
    parameters = dict(network.named_parameters())
    state = [t for kept in optimizer.state.values() for t in kept.values()]
    rows[name] = {
        "state, MB": megabytes(state),
        "gradients, MB": megabytes(
            p.grad for p in network.parameters() if p.grad is not None
        ),
        "parameter tensors moved": sum(
            name in parameters for name in tl.changed(network, before)
        ),
    }
    setups[name] = (network, optimizer)
memory = pd.DataFrame(rows).T

# %% tags=["nbval-ignore-output"]
steps = tc.benchmark_interleaved(
    {name: lambda pair=pair: step(*pair, *batch) for name, pair in setups.items()}, rounds=3
)
memory.assign(**{"time of a step, ratio": steps["ratio"]}).round(2)

# %% tags=["claim-optimizer-memory"]
frozen_rows = memory.loc[[name for name in methods if name.startswith("frozen")]]
assert (frozen_rows.nunique() == 1).all(), "the three ways differ"
assert frozen_rows.iloc[0]["parameter tensors moved"] == 2
print("With frozen layers the three ways keep the same state and move the same tensors.")

# %%
frozen_times = steps.loc[frozen_rows.index, "ratio"]
tc.report_finding(
    "Their steps take about the same time. Without freezing a step takes longer.",
    frozen_times.between(0.6, 1.6).all(),
    steps.loc["not frozen, the head's", "ratio"] > 1.2 * frozen_times.max(),
)

# %% [markdown]
# So the claim is wrong. Optimizers skip a parameter whose gradient is `None`, and create its state at the first step
# that uses it. What *does* cost is the fourth row, which the textbooks do not warn of: the optimizer gets the head
# only, but nothing is frozen. The weights move as they should, and yet `backward()` computes the gradients of the whole
# network and keeps them. Worse, `optimizer.zero_grad()` clears only the parameters that *it* knows, so the others'
# gradients add up from step to step. **Who moves is decided by the optimizer's list; what is computed is decided by
# `requires_grad`.**
#
# (`filter` gives an iterator, which is empty after its first use. If two optimizers are to get it, make it a list.)
#
# ### Where it becomes true
#
# It becomes true for parameters that were trained *before* they were frozen. They have a gradient left over and a state
# with momentum. Each row below trains everything for a few steps, then freezes the backbone by hand, and goes on with
# the same optimizer. Only *parameters* of the backbone are counted.


# %%
def freeze_by_hand(network):
    for parameter in network.parameters():
        parameter.requires_grad = False
    tl.get_head(network).requires_grad_(True)


def train_then_freeze(make, freeze, to_none=True, clears_first=True):
    """Which of the next steps move the frozen backbone, and the memory kept for it."""
    network = new_copy(model).eval()  # evaluation mode: BatchNorm is another matter
    optimizer = make(network.parameters())
    images, labels = train_images[:2], train_labels[:2]
    for _ in range(3):
        step(network, optimizer, images, labels)
    freeze(network)
    backbone = [p for p in network.parameters() if not p.requires_grad]
    moving = []
    for number in range(1, 5):
        if clears_first or number > 1:
            optimizer.zero_grad(set_to_none=to_none)
        functional.cross_entropy(network(images), labels).backward()
        was = [p.detach().clone() for p in backbone]
        optimizer.step()
        if any(not torch.equal(p, old) for p, old in zip(backbone, was, strict=True)):
            moving.append(number)
    kept = [
        t for p in backbone for t in optimizer.state.get(p, {}).values() if t is not None
    ]
    return {"moves at steps": moving, "state kept, MB": megabytes(kept)}


# %%
from functools import partial

adam, sgd = partial(torch.optim.Adam, lr=1e-4), partial(torch.optim.SGD, lr=1e-4)
momentum = partial(sgd, momentum=0.9)
decay = partial(sgd, weight_decay=0.1)
becomes_true = pd.DataFrame(
    {
        "Adam, as PyTorch does it today": train_then_freeze(adam, freeze_by_hand),
        "Adam, zero_grad(set_to_none=False)": train_then_freeze(
            adam, freeze_by_hand, to_none=False
        ),
        "momentum, set_to_none=False": train_then_freeze(
            momentum, freeze_by_hand, to_none=False
        ),
        "plain SGD, set_to_none=False": train_then_freeze(
            sgd, freeze_by_hand, to_none=False
        ),
        "weight decay, set_to_none=False": train_then_freeze(
            decay, freeze_by_hand, to_none=False
        ),
        "plain SGD, old gradient not cleared": train_then_freeze(
            sgd, freeze_by_hand, clears_first=False
        ),
        "the same with tl.freeze": train_then_freeze(sgd, tl.freeze, clears_first=False),
    }
).T
print(becomes_true.to_string())

# %% tags=["claim-optimizer-trains-frozen"]
moves = becomes_true["moves at steps"]
assert moves["Adam, as PyTorch does it today"] == []
assert becomes_true.loc["Adam, as PyTorch does it today", "state kept, MB"] > 10
for method in ("Adam", "momentum", "weight decay"):
    assert moves[
        next(name for name in moves.index if name.startswith(method) and "False" in name)
    ] == [1, 2, 3, 4]
assert moves["plain SGD, set_to_none=False"] == []
assert moves["plain SGD, old gradient not cleared"] == [1]
assert moves["the same with tl.freeze"] == []
print(
    "Memory: kept after train-then-freeze. Movement: only with zeros or old gradients in place of None."
)

# %% [markdown]
# * **Memory** stays: the state of the formerly trained layers is kept as long as the optimizer lives.
# * **A gradient of zeros is not the same as none.** With `set_to_none=False`, which was the default until PyTorch 2.0,
#   Adam and momentum go on in the direction in which they were going, and weight decay shrinks the weights, in every
#   further step.
# * **An old gradient** that nobody cleared moves the weights once more.
#
# Rule: **after freezing or unfreezing, make a new optimizer.** `tl.freeze` also drops left-over gradients, and `tl.fit`
# makes a new optimizer at each call, of exactly what trains.
#
# ## 7 Compute the features once
#
# A frozen backbone computes the same **features** (the numbers that enter the head) for an image in every epoch. So it
# need not run in every epoch. `tl.fit` sees this by itself, where there is no augmentation; its notes say so:
#
# <!-- given: PyTorch's release notes -->

# %% tags=["nbval-ignore-output"]
for note in run.notes:
    print("*", note)

# %% [markdown]
# By hand it takes a few lines: everything but the head is run once, and the head is trained on what came out.

# %%
backbone = tl.freeze(new_copy(model))
head_name = next(name for name, m in backbone.named_modules() if m is tl.get_head(backbone))
parent, _, attribute = head_name.rpartition(".")
setattr(
    backbone.get_submodule(parent), attribute, nn.Identity()
)  # backbone.fc = nn.Identity()


@torch.no_grad()
def features_of(images):
    """(n, 3, size, size) -> (n, features)"""
    return torch.cat([backbone.eval()(some) for some in images.split(32)])


train_features, val_features = features_of(train_images), features_of(val_images)
print("an image has become", train_features.shape[1], "numbers")

# %% [markdown]
# Is it the same? We train two heads from the same beginning, on the same batches: one at the end of the whole network,
# one on the kept features.

# %%
whole = (
    tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
    .to(profile.device)
    .train()
)
alone = nn.Linear(train_features.shape[1], data.num_classes).to(profile.device)
alone.load_state_dict(tl.get_head(whole).state_dict())
optimizers = [
    torch.optim.SGD(tl.get_head(whole).parameters(), lr=0.1),
    torch.optim.SGD(alone.parameters(), lr=0.1),
]
for chosen in shuffled(len(train_images), epochs=1):
    step(whole, optimizers[0], train_images[chosen], train_labels[chosen])
    step(alone, optimizers[1], train_features[chosen], train_labels[chosen])
gap = float((tl.get_head(whole).weight - alone.weight).detach().abs().max())
assert gap < 1e-3 * float(alone.weight.detach().abs().max()), gap
print("The two heads have the same weights, apart from rounding.")

# %% [markdown]
# And how much time does it save? Timings on a shared machine are noisy, so the two ways take turns, the best of several
# rounds counts, and what is reported is their *ratio*, not seconds.


# %%
def epoch_of(network, inputs):
    """One epoch; returns a function without arguments, as `tc.benchmark_interleaved` wants it."""
    optimizer = torch.optim.SGD(
        tl.get_head(network).parameters() if network is whole else network.parameters(),
        lr=0.1,
    )

    def one_epoch():
        for chosen in shuffled(len(inputs), epochs=1):
            step(network, optimizer, inputs[chosen], train_labels[chosen])

    return one_epoch


# %% tags=["nbval-ignore-output"]
FEW = 64  # images are enough to time an epoch
epochs = tc.benchmark_interleaved(
    {
        "an epoch on kept features": epoch_of(alone, train_features[:FEW]),
        "an epoch through the network": epoch_of(whole, train_images[:FEW]),
        "computing the features": lambda: features_of(train_images[:FEW]),
    },
    rounds=3,
)
print(epochs["ratio"].round(1).to_string())
through, kept, once = (
    epochs.loc[name, "best"]
    for name in (
        "an epoch through the network",
        "an epoch on kept features",
        "computing the features",
    )
)
for count in (1, 5, 20, 100):
    gain = count * through / (once + count * kept)
    print(f"{count:4} epochs: the whole training is {gain:.1f} times as fast")

# %% tags=["claim-features-once"]
tc.report_finding(
    "An epoch on kept features takes less than a fifth of the time; a single epoch gains\n"
    "next to nothing.",
    through / kept > 5,
    20 * through / (once + 20 * kept) > 3,
    through / (once + kept) < 2,
)

# %% [markdown]
# The saving has a price: there is **no new augmentation**. The network never sees another crop or mirror image of an
# image. `tl.fit(..., cache=4)` is in between: it keeps the features of four augmented views of each
# image, and the epochs take turns with them.
#
# ## 8 A sanity check: logistic regression
#
# A linear head with cross-entropy *is* logistic regression. scikit-learn solves it without learning rate, epochs or
# seed: with a penalty on the weights the problem has one optimum, and the solver finds it. If a head that you trained stays far behind, the training
# is at fault (learning rate, too few epochs, preprocessing), not the features. There are more features than images
# here, so the weights are held small (`C=0.01` is a strong penalty).

# %% tags=["nbval-ignore-output"]
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

check = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
check.fit(train_features.cpu(), train_labels.cpu())
hits = int((check.predict(val_features.cpu()) == val_labels.cpu().numpy()).sum())
scores = {
    "head trained by tl.fit": tl.evaluate(model, data.val).correct,
    "logistic regression": hits,
}
pd.DataFrame(
    {
        name: {
            "validation accuracy": f"{right / len(val_labels):.1%}",
            "95 % interval": "{:.1%} to {:.1%}".format(
                *tl.wilson_interval(right, len(val_labels))
            ),
        }
        for name, right in scores.items()
    }
).T

# %%
accuracies = {name: right / len(val_labels) for name, right in scores.items()}
apart = accuracies["head trained by tl.fit"] - accuracies["logistic regression"]
tc.report_finding(
    "The two agree within fifteen points, and both are far from guessing.",
    abs(apart) < 0.15,
    min(accuracies.values()) > 1.5 / data.num_classes,
)

# %% [markdown]
# The head's epoch was chosen on these same validation images, which flatters it a little. The regression has no epoch to
# choose, and its penalty was fixed beforehand.
#
# ## 9 The test, once

# %% tags=["nbval-ignore-output"]
final = data.test if data.test is not None else data.val
result = tl.evaluate(model, final)
print(repr(result))

# %%
tc.report_finding(
    "On images that nothing was chosen on: more than one and a half times as often right\n"
    "as guessing.",
    result.accuracy > 1.5 / data.num_classes,
)

# %% [markdown]
# ## Summary
#
# * **Load, freeze, replace the head, verify.** Freeze first, then replace. List what is trainable before, and compare
#   weights *and buffers* after.
# * **`requires_grad = False` does not freeze BatchNorm.** Keep frozen layers in evaluation mode, through every
#   `train()`.
# * **The optimizer may get all parameters**: those that never had a gradient take no memory and do not move. After
#   train-then-freeze make a new optimizer.
# * **What costs is `backward()`** through layers that are not frozen, whatever list the optimizer has.
# * **Features can be computed once**, at the price of augmentation.
# * **Logistic regression** on the features gives a trained head a mark to come near.
#
# **What to try next**
#
# * Let the batches come from `val_images` instead of `train_images`. Does the drift do less harm there?
# * Train a new head on the features of a *drifted* backbone. Does it recover?
# * `tl.fit(model, data, cache=4)`: does augmentation help a linear head?
# * `ARCH = "resnet18"` and `SIZE = 64`, whose weights come from few and tiny images: how much worse are its features?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
