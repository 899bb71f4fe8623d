# %% [markdown]
# # 12.2.1 Feature extraction
#
# You have twenty drawings of each of eight kinds of things. A network that was trained on 1.28 million photographs already
# turns any image into 1,280 useful numbers. Could you leave it as it is, and train a single layer on those numbers? That is
# [**feature extraction**](glossary.ipynb#Feature-extraction). It takes seconds, and it is the first thing to try. It also has
# a trap that most tutorials fall into: a frozen network that moves.
# <!-- given: the size of ImageNet and of the network's head -->
#
# **What you will learn**
#
# * the four steps: load, freeze, replace the head, check,
# * how to compute the features once, and what that saves,
# * why `requires_grad = False` does not freeze BatchNorm, what that does, and how to stop it,
# * what the optimizer does with frozen parameters,
# * how to tell whether a trained head is as good as its features allow.
#
# **Time:** twenty minutes to read; one or two minutes of computing on 2 CPU cores in the quick profile.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import pandas as pd
import torch
from torch import nn
from torch.nn import functional

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile(precision="fp32")  # so that two computations agree digit by digit
QUICK = profile.name == "quick"
DATA = profile.data
ARCH = profile.arch
SIZE = 128 if QUICK else None  # pixels; None is the size the weights were trained on
SEED = profile.seed
print(profile)

# %% [markdown]
# **The quick profile** takes *safari*, drawings on made-up backgrounds, in place of photographs: three styles for training, a
# fourth for validation, a fifth for the test. The network is real: an EfficientNet-Lite0 with its ImageNet weights, at 128
# pixels instead of 224.
# <!-- given: settings of the cells below -->
#
# ## 1 Four steps
#
# **Load** the data and a pre-trained network:

# %% tags=["nbval-ignore-output"]
data = tl.load_data(DATA, **({"size": 144, "per_class": 20} if DATA == "safari" else {}))
pretrained = tl.load_model(ARCH, size=SIZE)
print(data)
print(pretrained.card.sentence)

# %% jupyter={"source_hidden": true}
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
# **Freeze** it. A parameter with `requires_grad = False` gets no gradient, so no optimizer can move it. As the book writes it:

# %%
for parameter in pretrained.parameters():
    parameter.requires_grad = False
print(
    "trainable parameters:",
    sum(p.numel() for p in pretrained.parameters() if p.requires_grad),
)

# %% [markdown]
# **Replace the head**, the last linear layer: it has an output for each class of the *source* task, and those are not ours. A
# new layer is trainable from the start.
#
#     model.fc = nn.Linear(model.fc.in_features, num_classes)                  # a ResNet
#     model.classifier = nn.Linear(model.classifier.in_features, num_classes)  # this EfficientNet
#
# `tl.replace_head` does the same for every family. Freeze first and replace afterwards; in the other order the new head is
# frozen too, and there is nothing to train:

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
# **Check** what trains. Freezing goes wrong without an error message: a network that trains too much also learns, and one that
# trains too little also runs.

# %% tags=["nbval-ignore-output"]
by_hand = tl.replace_head(pretrained, classes=data.classes, seed=SEED).to(profile.device)
tl.trainable_table(by_hand)

# %% jupyter={"source_hidden": true}
trainable = [name for name, p in by_hand.named_parameters() if p.requires_grad]
head_of = {id(p) for p in tl.get_head(by_hand).parameters()}
assert {id(p) for p in by_hand.parameters() if p.requires_grad} == head_of
print(
    "Trainable are weight and bias of the head, and nothing else:",
    len(trainable),
    "tensors.",
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.blocks(
    {"frozen": ["head"]},
    names=list(tl.trainable_table(by_hand).index[:-1]),
    title="Feature extraction: the backbone is frozen (grey), a new head learns (dashed: random start)",
)

# %% [markdown]
# Of more than three million parameters, about ten thousand train: the weight and bias of the head. (The column *batchnorm*
# already says that something is wrong. We come to it in section 3.)
# <!-- given: the table above -->
#
# ## 2 A head in seconds
#
# `tl.freeze` and `tl.fit` do these steps and the training. Training ends when the validation accuracy has not improved for ten
# epochs. How well will the untouched photograph network do on drawings? Guessing gives one in eight.
# <!-- given: settings of the cell below -->

# %% tags=["nbval-ignore-output"]
model = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
run = tl.fit(model, data, epochs=60, patience=10, lr=3e-3, augment=False, seed=SEED)
print(run)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
accuracy = run.history.loc[run.kept_epoch, "val_accuracy"]
print(
    f"The head is right on {accuracy:.0%} of the validation images; guessing gives {1 / data.num_classes:.0%}."
)

# %% [markdown]
# Read the last note above. The *frozen prefix*, all that lies before the head, "ran once, over every image". A frozen
# backbone computes the same features for an image in every epoch, so they need computing only once. Grey is frozen, blue
# trains:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
TRAINS, Box = tc.plots.METHOD_COLOURS["frozen"], tc.plots.Box
tc.plots.flow(
    {
        "once": (
            {
                "images": Box("images", 0, 0, "none"),
                "backbone": Box("frozen\nbackbone", 1.6, 0, "#DDDDDD", 1.4, 0.9),
                "features": Box("features,\nin memory", 3.5, 0, "#F2D0A9", 1.6, 0.9),
            },
            [("images", "backbone"), ("backbone", "features")],
        ),
        "in every epoch": (
            {
                "features": Box("features,\nin memory", 0, 0, "#F2D0A9", 1.6, 0.9),
                "head": Box("head", 1.9, 0, TRAINS, 1.2, 0.9),
                "loss": Box("logits, loss", 3.7, 0, "none", 1.4),
            },
            [("features", "head"), ("head", "loss")],
        ),
    },
    title="Feature extraction: what is computed once, and what in every epoch",
    height=1.6,
)

# %% [markdown]
# By hand:


# %% jupyter={"source_hidden": true}
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
# The head is then trained on these features alone. Is it the same as training it at the end of the whole network? We train two
# heads from the same start, on the same batches, and compare their weights.


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


# %% jupyter={"source_hidden": true}
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
# And how much time does it save? The two take turns on this machine, and their *ratio* is reported:


# %% jupyter={"source_hidden": true}
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


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
FEW = 64  # images are enough to time an epoch
epochs = tc.benchmark_interleaved(
    {
        "an epoch on cached features": epoch_of(alone, train_features[:FEW]),
        "an epoch through the network": epoch_of(whole, train_images[:FEW]),
        "computing the features": lambda: features_of(train_images[:FEW]),
    },
    rounds=3,
)
through, kept, once = (
    epochs.loc[name, "best"]
    for name in (
        "an epoch through the network",
        "an epoch on cached features",
        "computing the features",
    )
)
print(f"An epoch on cached features is {through / kept:.0f} times as fast.")
for count in (1, 5, 20, 100):
    gain = count * through / (once + count * kept)
    print(f"{count:4} epochs: the whole training is {gain:.1f} times as fast")

# %% jupyter={"source_hidden": true} tags=["claim-features-once"]
tc.report_finding(
    "Epochs on cached features take a small fraction of the time; a single one gains nothing.",
    through / kept > 5,
    20 * through / (once + 20 * kept) > 3,
    through / (once + kept) < 2,
)

# %% [markdown]
# A single epoch gains nothing, since the backbone runs once in any case. Every further one is nearly free. The price is that
# there is **no new augmentation**: the network never sees another crop of an image. `tl.fit(..., cache=4)` is in between. It
# keeps the features of four augmented views of each image, and the epochs take turns with them.
#
# ## 3 BatchNorm moves although it is frozen
#
# A network holds two kinds of tensors. *Parameters* are what the optimizer moves. *Buffers* are other things it remembers, such
# as the running mean and variance of [BatchNorm](glossary.ipynb#BatchNorm). Take the network of section 1, whose parameters
# are frozen, and train its head for one epoch as most tutorials do, with `model.train()`. Which tensors will have changed?

# %%
before = tl.snapshot(by_hand)
optimizer = torch.optim.Adam(tl.get_head(by_hand).parameters(), lr=1e-3)
by_hand.train()  # "training mode on", as every tutorial says
for chosen in shuffled(len(train_images), epochs=1):
    step(by_hand, optimizer, train_images[chosen], train_labels[chosen])
moved = tl.changed(by_hand, before)


# %% jupyter={"source_hidden": true}
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

# %% jupyter={"source_hidden": true} tags=["claim-requires-grad-freezes"]
assert found.get("backbone, parameter", 0) == 0, "a frozen parameter moved"
assert found["head, parameter"] == 2
norms = [m for m in by_hand.modules() if isinstance(m, nn.BatchNorm2d)]
assert found["backbone, running_mean"] == found["backbone, running_var"] == len(norms) > 0
print(
    "No parameter of the backbone moved, and the statistics of all its BatchNorm layers did."
)

# %% [markdown]
# In training mode BatchNorm normalises with the mean and variance of the *batch*, and moves its
# [*running*](glossary.ipynb#Running-statistics) statistics a tenth of the way towards them. `requires_grad` does not reach
# buffers, and no optimizer is needed: a forward pass moves them. After *t* batches only 0.9ᵗ of the original statistics is
# left, after 25 batches 7 %.
# <!-- given: PyTorch's default momentum of 0.1, and a power of 0.9 -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
batch = {
    "x": Box("batch", 0, 0, "none", 0.8),
    "norm": Box("normalise", 3.4, 0, "#BFD7EA", 1.3),
    "out": Box("output", 5, 0, "none", 0.8),
    "running": Box("running mean\nand variance", 3.4, 1.3, "#F2D0A9", 1.6, 0.8),
}
own = {"batch": Box("batch's mean\nand variance", 1.2, 1.3, "#BFD7EA", 1.7, 0.8)}
tc.plots.flow(
    {
        "train(): the batch's own, and the running ones move": (
            batch | own,
            [
                ("x", "norm"),
                ("x", "batch"),
                ("batch", "norm"),
                ("batch", "running"),
                ("norm", "out"),
            ],
        ),
        "eval(): the running ones": (
            batch,
            [("x", "norm"), ("running", "norm"), ("norm", "out")],
        ),
    },
    title="Which statistics BatchNorm uses",
    height=1.9,
)

# %% [markdown]
# What does that do to a network that works? We take the trained network of section 2, learn nothing more, and only pass
# training images through it in training mode. From time to time we look at its answers in evaluation mode.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
LOOKS = (0, 1, 3, 10, 25)  # after so many batches
first_answers, drifting, rows = answers(model), new_copy(model), []
for parameter in drifting.parameters():
    parameter.requires_grad = False  # "frozen"
batches = list(shuffled(len(train_images), epochs=9))[: max(LOOKS)]
for number in range(max(LOOKS) + 1):
    if number in LOOKS:
        now = answers(drifting)
        for what, hit in (
            ("answers changed", now != first_answers),
            ("accuracy", now == val_labels),
        ):
            rows.append(
                {"batches": number, "what": what, "share": float(hit.float().mean())}
            )
    if number < max(LOOKS):
        with torch.no_grad():
            drifting.train()(train_images[batches[number]])
drift = pd.DataFrame(rows)
tc.plots.lines(
    drift,
    "batches",
    "share",
    "what",
    title="A 'frozen' network whose BatchNorm drifts",
    xlabel="batches of 32 passed through in training mode",
    ylabel="share of validation images",
)

# %% jupyter={"source_hidden": true}
wide = drift.pivot(index="batches", columns="what", values="share")
changed, lost = (
    wide["answers changed"].iloc[-1],
    wide["accuracy"].iloc[0] - wide["accuracy"].iloc[-1],
)
assert wide["answers changed"].iloc[0] == 0
tc.report_finding(
    "Without a step of learning many answers have changed, and the accuracy has fallen.",
    changed > 0.25,
    lost > 0.05,
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
before_drift, after_drift = wide["accuracy"].iloc[[0, -1]]
print(
    f"After {max(LOOKS)} batches {changed:.0%} of the answers have changed, "
    f"and the accuracy has fallen from {before_drift:.0%} to {after_drift:.0%}."
)

# %% [markdown]
# The head was trained on features that no longer exist, so it often answers something else, and is wrong more often. Nothing
# was learned; what the network says depends on how many batches went through it.
#
# **The repair:** frozen layers stay in evaluation mode. One call of `eval()` is not enough, since the next `model.train()`
# undoes it. By hand the following loop has to stand after *every* `model.train()`:
#
#     for module in model.modules():
#         if isinstance(module, nn.BatchNorm2d):
#             module.eval()
#
# `tl.freeze` keeps frozen modules in evaluation mode, whoever calls `train()`:

# %%
model.train()
before = tl.snapshot(model)
with torch.no_grad():
    for chosen in shuffled(len(train_images), epochs=1):
        model(train_images[chosen])
print("moved:", tl.changed(model, before))
assert tl.changed(model, before) == []

# %% [markdown]
# > **Careful.** There are two cases. If the statistics move *after* the head was trained, the head no longer fits, as above. If
# > they move *while* it is trained, the head can follow. We measured the second case with the course's ResNet18 at 64 px: a
# > head on 320 images of safari, eight epochs, five seeds. <!-- given: the settings in
# > tlcourse/measurements/data/batchnorm.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
batchnorm = tc.load_results("batchnorm")
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

# %% jupyter={"source_hidden": true} tags=["claim-batchnorm-held"]
wide = 100 * runs.pivot(index=["batch_size", "seed"], columns="method", values="test")
gain = (wide["updated"] - wide["frozen"]).groupby("batch_size").agg(["mean", "std"])
for size, table in by_size.items():
    row = 100 * table.loc["frozen"].astype(float)  # updated statistics have the higher mean
    print(
        f"batches of {size}: updated minus frozen {row.mean_difference:+.1f} points "
        f"({row.low:+.1f} to {row.high:+.1f})"
    )
assert gain.loc[32, "mean"] > 3
assert not by_size[32].loc["frozen", "no_significant_difference"]
assert by_size[4].loc["frozen", "no_significant_difference"]

# %% [markdown]
# With batches of 32 the updated statistics are 4.4 points *better*, probably because they adapt the network to drawings. With
# batches of 4 the interval of the difference contains zero: five seeds cannot tell. So the reason to freeze BatchNorm is not
# accuracy. A frozen backbone stays what it was: its features can be computed once, and it still serves its old task. If you
# let the statistics move, do it on purpose, and train the head with them.
# <!-- given: tlcourse/measurements/data/batchnorm.json -->
#
# ## 4 What the optimizer does with frozen parameters
#
# Textbooks say that `Adam(model.parameters())` wastes memory on frozen layers, or even trains them, and ask for one of these:
#
#     Adam(model.classifier.parameters())
#     Adam(filter(lambda p: p.requires_grad, model.parameters()))
#
# Is that so? For layers that were frozen *before* the optimizer's first step it is not; for layers that were trained first and
# frozen later it is. Adam keeps two numbers for every parameter, its **state**. Here is one step with each, and with two
# methods that freeze nothing:


# %% jupyter={"source_hidden": true}
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

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
steps = tc.benchmark_interleaved(
    {name: lambda pair=pair: step(*pair, *batch) for name, pair in setups.items()}, rounds=3
)
memory.assign(**{"time of a step, ratio": steps["ratio"]}).round(2)

# %% jupyter={"source_hidden": true} tags=["claim-optimizer-memory"]
frozen_rows = memory.loc[[name for name in methods if name.startswith("frozen")]]
assert (frozen_rows.nunique() == 1).all(), "the three choices differ"
assert frozen_rows.iloc[0]["parameter tensors moved"] == 2
print("With frozen layers all three keep the same state and move the same two tensors.")

# %% jupyter={"source_hidden": true}
frozen_times = steps.loc[frozen_rows.index, "ratio"]
tc.report_finding(
    "Their steps take about the same time. Without freezing a step takes longer.",
    frozen_times.between(0.6, 1.6).all(),
    steps.loc["not frozen, the head's", "ratio"] > 1.2 * frozen_times.max(),
)

# %% [markdown]
# With frozen layers the three are the same: an optimizer skips a parameter whose gradient is `None`, and makes its state at the
# first step that uses it. What does cost is the fourth row. The optimizer gets only the head, but nothing is frozen, so
# `backward()` computes the gradients of the whole network. **The optimizer's list decides who moves; `requires_grad` decides
# what is computed.**
#
# The textbooks' warning is true for parameters that were trained *before* they were frozen. They have a left-over gradient, or
# momentum. Below, everything trains for three steps, then the backbone is frozen, and the same optimizer goes on:
# <!-- given: a setting of the cell below -->


# %% jupyter={"source_hidden": true}
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


# %% jupyter={"source_hidden": true}
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

# %% jupyter={"source_hidden": true} tags=["claim-optimizer-trains-frozen"]
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
    "With PyTorch's defaults nothing moves, but Adam keeps its state of the frozen layers.\n"
    "With gradients of zeros Adam, momentum and weight decay go on moving frozen weights."
)

# %% [markdown]
# A gradient of zeros is not the same as none: Adam and momentum go on in their old direction, and weight decay shrinks the
# weights. So **make a new optimizer after freezing or unfreezing**. `tl.fit` does so at each call.
#
# ## 5 Is the head as good as it can be?
#
# A linear head with cross-entropy *is* logistic regression. scikit-learn solves it without learning rate, epochs or seed:
# with a penalty on the weights the problem has one optimum. (`C` is the inverse of the strength of regularisation.) If your
# head stays far behind, its training is at fault, not the features.

# %% tags=["nbval-ignore-output"]
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

check = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
check = check.fit(train_features.cpu(), train_labels.cpu())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
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

# %% jupyter={"source_hidden": true}
accuracies = {name: right / len(val_labels) for name, right in scores.items()}
apart = accuracies["head trained by tl.fit"] - accuracies["logistic regression"]
tc.report_finding(
    "The two are of the same size, and both are far from guessing.",
    abs(apart) < 0.15,
    min(accuracies.values()) > 1.5 / data.num_classes,
)

# %% [markdown]
# The intervals overlap. The head may even be ahead: its best epoch was chosen on these images, and the optimum is one for the
# training loss. Worry only if your head is far *below* the check. Now the [test set](glossary.ipynb#Test-set), once: images
# on which nothing was chosen, by other artists.

# %% tags=["nbval-ignore-output"]
final = data.test if data.test is not None else data.val
result = tl.evaluate(model, final)
print(f"{result}; guessing gives {1 / data.num_classes:.1%}")

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "The head is also far from guessing on images that nothing was chosen on.",
    result.accuracy > 1.5 / data.num_classes,
)

# %% [markdown]
# For comparison, with twice as many training images and five seeds: a ResNet18 reaches 31.9 % from scratch and 53.4 % with
# frozen features. This page's EfficientNet-Lite0 reaches 61.7 % frozen, and 75.1 % when everything is fine-tuned. How to
# fine-tune is the subject of [12.2.2](12_2_2_fine_tuning.ipynb).
# <!-- given: tlcourse/measurements/data/transfer.json -->
#
# ## Check yourself
#
# **1.** In the figure of section 3, which curve would stay flat if the network had been frozen with `tl.freeze`?
#
# <details><summary>Answer</summary>
#
# Both. No statistic moves, so no answer changes, and the accuracy stays where it was.
# </details>
#
# **2.** You freeze the backbone, train the head for 20 epochs on cached features, and want random crops. What do you lose?
#
# <details><summary>Answer</summary>
#
# New crops give new features, so the backbone has to run again in every epoch. With `cache=4` it runs once over four crops of
# each image: a compromise.
# </details>
#
# **3.** A tutorial writes `optimizer = Adam(model.fc.parameters())` and does not freeze. The
# accuracy looks fine. What goes wrong unseen?
#
# <details><summary>Answer</summary>
#
# `backward()` computes and keeps gradients for all layers, so a step takes several times as long. And `model.train()` moves
# BatchNorm's statistics, so the backbone is no longer the one that was loaded.
# </details>
#
# ## Summary
#
# * **Load, freeze, replace the head, check.** Freeze first, then replace.
# * **Features can be computed once**, at the price of augmentation. Then a head takes seconds.
# * **`requires_grad = False` does not freeze BatchNorm.** Keep frozen layers in evaluation mode, through every `train()`.
# * **The optimizer may get all parameters.** After freezing or unfreezing, make a new one.
# * **Logistic regression** on the features gives a trained head a mark to come near.
#
# **What to try next**
#
# * Let the batches of the drift come from `val_images` instead of `train_images`. Does it do less harm there?
# * Train a new head on the features of a *drifted* backbone. Expect it to recover: the features are still useful.
# * `ARCH = "resnet18"` and `SIZE = 64`, whose weights come from few and tiny images: how much worse are its features?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
