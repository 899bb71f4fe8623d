# %% [markdown]
# # Lab 1: the concepts
#
# The book asks four questions about transfer learning. Here you answer each with a small experiment of your own.
#
# **What you will learn**
#
# * how to measure what pre-trained features bring,
# * which numbers of a network freezing keeps as they are,
# * how the learning rate changes the result of fine-tuning.
#
# Background: sections [12.1](../chapter12/12_1_concept.ipynb) and
# [12.2.1](../chapter12/12_2_1_feature_extraction.ipynb).
#
# **Time:** an hour and a quarter for the core, and half an hour for the extension. The cells themselves take less than a
# minute on 2 CPU cores.
#
# **How a lab works.** Replace each `...`, run the cell, then run the check below it. It prints ✓, or ✗ and what to look at;
# ○ means not started, ✎ that your teacher marks this text. Compute numbers in code: one that is typed in fails when the lab
# is marked, since marking changes the data. Try each exercise before you unfold its hints. Hand in this file.

# %% tags=["student"]
STUDENT = ""  # your name or number, if your teacher collects the notebooks

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import copy

import pandas as pd
import torch
from IPython.display import display
from sklearn.linear_model import LogisticRegression

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile("quick", precision="fp32")
print(profile)

# %%
lab = tc.Lab("lab1_concepts")
lab.progress()

# %% [markdown]
# The data set is *safari*: emoji on made-up backgrounds, in eight classes. Training images are drawn in three styles,
# validation images in a fourth and test images in a fifth. The network is ResNet18, pre-trained on 80,800 small
# photographs. It has never seen a drawing.
# <!-- given: the card of the network -->

# %%
SIZE = 64  # pixels
data = tl.load_data("safari", size=SIZE, per_class=40)
print(data)

# %% [markdown]
# ## Why do pre-trained features need fewer images?
#
# We compute the features of every image twice: with the pre-trained ResNet18, and with one whose weights are random.
# Then a linear classifier learns from 5, 10, 20 or 40 images of each class, three times with
# different images. (With 40 all of them are used, so these three runs are the same.)


# %%
def features(model, split):
    """The 512 numbers that go into the head, for every image of a split: (images, 512)."""
    model.fc = torch.nn.Identity()
    transform = model.card.preprocessing.evaluation()
    images = torch.stack([transform(split.image(i)) for i in range(len(split))])
    with torch.inference_mode():
        return torch.cat([model.eval()(batch) for batch in images.split(64)]).numpy()


networks = {"pre-trained": None, "random": "none"}
computed = {
    name: [
        features(tl.load_model("resnet18", weights=weights, size=SIZE), split)
        for split in (data.train, data.val)
    ]
    for name, weights in networks.items()
}
print({name: arrays[0].shape for name, arrays in computed.items()})

# %% tags=["nbval-ignore-output"]
rows = []
for name, (train, val) in computed.items():
    for per_class in (5, 10, 20, 40):
        for seed in range(3):
            chosen = list(data.train.per_class(per_class, seed=seed).rows)
            head = LogisticRegression(C=0.1, max_iter=500)
            head.fit(train[chosen], data.train.labels[chosen])
            rows.append((name, per_class, seed, head.score(val, data.val.labels)))
scores = pd.DataFrame(rows, columns=["start", "per_class", "seed", "accuracy"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
chart = tc.plots.lines(
    scores,
    "per_class",
    "accuracy",
    "start",
    title=f"A linear classifier on frozen features; guessing: {1 / data.num_classes:.1%}",
    xlabel="training images of each class",
    ylabel="validation accuracy",
    log=True,
)
chart.axes[0].set_ylim(bottom=0)
chart

# %% [markdown]
# ### 1 The gain
#
# **Difficulty** ●○○ · **8 minutes** · **2 points** · **Why it matters:** "it helps" is not a result; a number with its unit
# is.
#
# By how many *percentage points* are pre-trained features better than random ones with 10 images of each class, on
# average over the seeds? Compute it from the table `scores`.
#
# <details><summary>Hint 1</summary>
#
# `scores.groupby(["start", "per_class"])["accuracy"].mean()` has the eight means.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Pick a mean by both names: `means["pre-trained", 10]`. To get percentage points, multiply the difference of two
# fractions by 100.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two means over seeds, one for each start, at the same number of images. Subtract, and multiply by 100.
#
# </details>

# %% tags=["answer"]
# your code here; it defines gain
gain = ...

# %% tags=["check", "nbval-ignore-output"] points=2
lab.check("gain", gain, scores=scores, per_class=10)

# %% [markdown]
# ### 2 Why fewer images are enough
#
# **Difficulty** ●○○ · **3 minutes** · **1 point** · **Why it matters:** the reason tells you when to expect the gain.
#
# Why do pre-trained features need fewer images? Answer with a letter, for instance `"A"`.
#
# * **A** A pre-trained network has fewer parameters, so there is less to learn from our images.
# * **B** It has seen images of our classes before, so few new ones have to be added.
# * **C** The features are there already; only how to combine them is left to learn.
# * **D** The images were augmented, so each one counts as several for the classifier.
#
# <details><summary>Hint 1</summary>
#
# What had to be learned from our images here: which parameters, and how many?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Both networks have the same architecture. The same images went into both, without augmentation.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Only the linear classifier was trained, in both cases. What differs is how useful its inputs are.
#
# </details>

# %% tags=["answer"]
# your code here; it defines answer_why
answer_why = ...

# %% tags=["check"] points=1
lab.check("why", answer_why)

# %% [markdown]
# ## Feature extraction or fine-tuning?
#
# > The book asks: *What is the difference between feature extraction and fine-tuning, and when would you use each?*
#
# `frozen` has a frozen backbone and a new head: feature extraction. In `tuned` the last block, `layer4`, trains as well:
# fine-tuning. The next three exercises show the difference. When to use each is the question of exercise 11.

# %%
frozen = tl.freeze(tl.load_model("resnet18", classes=data.classes, size=SIZE))
tuned = tl.load_model("resnet18", classes=data.classes, size=SIZE)
tl.freeze(tuned, up_to="layer3")
tc.plots.blocks(
    {"frozen": ["head"], "tuned": ["layer4", "head"]},
    title="What trains: feature extraction and fine-tuning of the last block",
)

# %% [markdown]
# ### 3 Count what trains
#
# **Difficulty** ●○○ · **8 minutes** · **2 points** · **Why it matters:** before you train, look at what is going to train.
#
# Write a function that returns the number of trainable parameters of a network. Every single number in a tensor counts.
#
# <details><summary>Hint 1</summary>
#
# What trains has `requires_grad`. `model.parameters()` goes through all parameters.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A parameter is a tensor of many numbers: `parameter.numel()`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A sum of `numel()` over the parameters that have `requires_grad`.
#
# </details>


# %% tags=["answer"]
def count_trainable(model):
    """The number of single numbers that train in `model`."""
    # your code here
    ...


# %% tags=["check"] points=2
lab.check("counts", count_trainable, frozen=frozen, tuned=tuned)

# %% [markdown]
# ### 4 See what moved
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** `requires_grad` says what should stay; only a
# comparison says what did.
#
# Train `frozen` for one epoch with `tl.fit(frozen, data, epochs=1)`. List the names of all tensors, parameters and buffers,
# that have changed.
#
# <details><summary>Hint 1</summary>
#
# `tl.snapshot(model)` copies everything; `tl.changed(model, before)` compares.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Three lines: snapshot, fit, changed. Take the snapshot before the training, of the same model.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Only the head's two tensors move. If BatchNorm's running statistics are on your list, the backbone was not frozen.
#
# </details>

# %% tags=["answer"]
# your code here; it defines moved
moved = ...

# %% tags=["check"] points=2
lab.check("moved", moved, model=frozen)

# %% [markdown]
# ### 5 What freezes everything
#
# **Difficulty** ●●○ · **5 minutes** · **1 point** · **Why it matters:** most tutorials get this wrong, and nothing warns you.
#
# Which of these leaves every number of the backbone as it is while the model trains?
#
# * **A** `model.eval()`, which switches BatchNorm *and* dropout to evaluation mode
# * **B** `requires_grad = False` for the parameters, *and* evaluation mode for BatchNorm
# * **C** `requires_grad = False` for the parameters, *and* an optimizer that knows only the head
# * **D** a learning rate of 0 for the backbone, *and* training mode for BatchNorm
#
# <details><summary>Hint 1</summary>
#
# A network holds two kinds of tensors: parameters, which the optimizer moves, and buffers.
#
# </details>
# <details><summary>Hint 2</summary>
#
# BatchNorm's running mean and variance are buffers. Which pass through the network moves them, and in which mode?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two things move: parameters, by the optimizer, and running statistics, by the forward pass in training mode. Both must be
# stopped.
#
# </details>

# %% tags=["answer"]
# your code here; it defines answer_freezing
answer_freezing = ...

# %% tags=["check"] points=1
lab.check("freezing", answer_freezing)

# %% [markdown]
# ## Why a small learning rate?
#
# > The book asks: *Why is a smaller learning rate used when fine-tuning?*
#
# You will fine-tune the whole network with three learning rates. After each run you measure two things: how well it solves
# the new task, the *target*, and how much of its old task, the *source*, it still knows.
#
# The photographs on which the network was trained do not come with the course. Four of safari's classes stand in for its old
# task: we train a head on them once, with the backbone frozen. After each fine-tuning we put this head back and measure how
# well it still works. The other four classes are the new task.

# %% tags=["nbval-ignore-output"]
source = tc.select_classes(data, ["mammal", "sea", "plant", "vehicle"])
target = tc.select_classes(data, ["bird", "bug", "food", "building"])
source_network = tl.freeze(tl.load_model("resnet18", classes=source.classes, size=SIZE))
tl.fit(source_network, source, epochs=20, lr=1e-2, augment=False)


def source_accuracy(model):
    """The validation accuracy on the source task: the old head on the backbone of `model`."""
    network = copy.deepcopy(source_network)
    weights = model.state_dict().items()
    backbone = {name: tensor for name, tensor in weights if not name.startswith("fc.")}
    network.load_state_dict(backbone, strict=False)
    return tl.evaluate(network, source.val).accuracy


print(f"source task before fine-tuning: {source_accuracy(source_network):.0%}")

# %% [markdown]
# ### 6 Three learning rates
#
# **Difficulty** ●●● · **20 minutes** · **4 points** · **Why it matters:** the learning rate is the setting that decides most
# when you fine-tune.
#
# Make a table `forgetting` with one row for each of the learning rates 0.0001, 0.001 and 0.01. Begin every run with a freshly
# loaded network, `tl.load_model("resnet18", classes=target.classes, size=SIZE)`. Train all of it with
# `tl.fit(model, target, epochs=2, lr=lr)`. The columns are
#
# * `lr`, the learning rate,
# * `target`, the accuracy on `target.val` after training, from `tl.evaluate(model, target.val).accuracy`,
# * `source`, what `source_accuracy(model)` gives after training.
#
# The check repeats one of your runs, so it takes a few seconds.
#
# <details><summary>Hint 1</summary>
#
# A `for` loop over the three learning rates with four steps: load, fit, measure twice, append a row to a list.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `pd.DataFrame(rows, columns=["lr", "target", "source"])` makes the table from a list of tuples.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Load the network *inside* the loop. Otherwise the second run goes on where the first one ended, and you compare six epochs
# with two.
#
# </details>

# %% tags=["answer", "nbval-ignore-output"]
# your code here; it defines forgetting
forgetting = ...

# %% tags=["check", "nbval-ignore-output"] points=4
lab.check("rates", forgetting, target=target, source_accuracy=source_accuracy)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("rates"):
    untouched = source_accuracy(source_network)
    shown = forgetting.rename(
        columns={"target": "new task", "source": f"source task (before: {untouched:.0%})"}
    )
    chart = tc.plots.lines(
        shown.melt("lr", var_name="task", value_name="accuracy"),
        "lr",
        "accuracy",
        "task",
        title=f"After two epochs of fine-tuning; guessing: {1 / target.num_classes:.0%}",
        xlabel="learning rate",
        ylabel="validation accuracy",
        log=True,
    )
    chart.axes[0].set_ylim(bottom=0)
    display(chart)
    stored = tc.load_results("rates")
    kept = [
        stored.mean("source_accuracy_old_statistics", lr=lr) for lr in (0.0, 0.0003, 0.03)
    ]
    print(
        "Measured beforehand on 1,000 photographs of the network's own source task, with "
        f"BatchNorm's old\nstatistics put back: {kept[0]:.0%} right before fine-tuning, "
        f"{kept[1]:.0%} after it at 0.0003, {kept[2]:.0%} after it at 0.03.\n"
        "Section 12.2.2 shows the whole curve."
    )

# %% [markdown]
# ### 7 Why a smaller learning rate
#
# **Difficulty** ●●○ · **5 minutes** · **1 point** · **Why it matters:** the reason tells you what to do when fine-tuning goes
# wrong.
#
# A network that starts from random weights is usually trained with a larger learning rate. Why does fine-tuning need a smaller
# one? Look at your table.
#
# * **A** A training step takes less time at a small learning rate, so more of them are possible.
# * **B** The smaller the learning rate, the better the network solves the new task in the end.
# * **C** The pre-trained weights are useful already; large steps destroy them, and few images cannot replace them.
# * **D** A small learning rate keeps BatchNorm's running statistics as they are, a large one moves them.
#
# <details><summary>Hint 1</summary>
#
# Compare the row of the largest learning rate with guessing one of four classes.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Which row has the highest accuracy on the new task? Is it the one with the smallest learning rate?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# At the largest learning rate both tasks are lost: the features were overwritten before new ones were learned. At the
# smallest one most of the source task is kept, but two epochs are too few to learn the new task well.
#
# </details>

# %% tags=["answer"]
# your code here; it defines answer_smaller
answer_smaller = ...

# %% tags=["check"] points=1
lab.check("smaller", answer_smaller)

# %% [markdown]
# ## What is transfer learning?
#
# > The book asks: *Define transfer learning and describe its advantages.*
#
# ### 8 In your own words
#
# **Difficulty** ●●○ · **15 minutes** · **5 points** · **Why it matters:** if you can explain it, you have understood it.
#
# Answer the book's question, and say when transfer learning helps little. Write 40 to 150 words in whole sentences.
#
# <details><summary>Hint 1</summary>
#
# Say what is carried over, from which task to which, and what is trained.
#
# </details>
# <details><summary>Hint 2</summary>
#
# For the advantages, look at exercises 1 and 2. For when it helps little, think of the X-rays in section 12.1.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Four sentences: what is carried over and why it helps; the two ways to train; two advantages, with a number of your own;
# one case where it helps little, and why.
#
# </details>

# %% tags=["answer"]
# your code here; it defines explanation
explanation = ...

# %% tags=["check"] points=5
lab.check("text", explanation)

# %% [markdown]
# **Rubric.** One point each; four or five are a good answer.
#
# 1. It defines transfer learning: weights learned on a source task are the start for a target task.
# 2. It says why that works: the features are useful for both tasks.
# 3. It tells feature extraction from fine-tuning by what is trained.
# 4. It describes at least two advantages, for example fewer images, less time, higher accuracy.
# 5. It says when transfer learning helps little, and gives a reason.

# %%
lab.progress()

# %% [markdown]
# ## Extension
#
# ### 9 The spread of the gain
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** a difference that is smaller than its spread over
# the seeds may be luck.
#
# For one seed both networks saw the same images, so subtract them seed by seed. What is the sample standard deviation of these
# three differences, in percentage points, with 10 images of each class?
#
# <details><summary>Hint 1</summary>
#
# `pivot(index="seed", columns="start", values="accuracy")` puts the two networks side by side.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The `std()` of pandas divides by n - 1, as one does for a sample. That of NumPy divides by n unless told otherwise.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Differences first, deviation second. Easy or hard images affect both networks, and drop out of the difference.
#
# </details>

# %% tags=["answer"]
# your code here; it defines deviation
deviation = ...

# %% tags=["check", "nbval-ignore-output"] points=2
lab.check("spread", deviation, scores=scores, per_class=10)

# %% [markdown]
# ### How much of the network should be trained?
#
# We have measured this on safari: which blocks train, with how many images of each class, with five seeds each. Every run
# trained until validation stopped improving, at a learning rate that was chosen on validation images with other seeds.
# <!-- given: the settings in tlcourse/measurements/data/refinements.json -->

# %%
results = tc.load_results("refinements")
runs = results.scored.query("topic == 'depth' and data == 'safari'")
runs = runs[runs["method"] != "scratch"]
runs[["method", "per_class", "seed", "val_loss"]].head(3)

# %% [markdown]
# ### 10 The best depth
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** the method with the luckiest run need not be the
# best.
#
# For 10, 20 and 40 images of each class: which `method` has the lowest mean `val_loss` over the seeds? It is the
# cross-entropy on validation images. The methods are `"head"`, `"layer4"`, `"layer3"` (it and all above) and `"everything"`.
# Compute a dictionary such as `{10: "head", 20: "head", 40: "head"}` from `runs`. The test set chooses nothing: the check
# opens it only for what you chose.
#
# <details><summary>Hint 1</summary>
#
# First the means over seeds: `runs.groupby(["per_class", "method"])["val_loss"].mean()`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `means[10]` is what belongs to 10 images; `.idxmin()` gives the name of the lowest.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Average over seeds, then take the minimum for each number of images; not the minimum of single runs.
#
# </details>

# %% tags=["answer"]
# your code here; it defines best
best = ...

# %% tags=["check"] points=2
lab.check("best", best, runs=runs)

# %% [markdown]
# How sure is that? The first table has the same means with their spread over seeds. The second has six data sets: the gain of
# training everything over the frozen backbone, on the test set, which was opened after all choices had been made. An interval
# that contains zero means **no significant difference**: the measurement does not show which method is better.

# %% jupyter={"source_hidden": true}
if lab.ready("best"):
    columns = runs.groupby(["per_class", "method"])["val_loss"].agg(["mean", "std"])
    display(columns.round(2).unstack())
transfer = tc.load_results("transfer")
gains = {
    name: tc.in_points(transfer.against(name, "frozen", network="resnet18")).iloc[:, 1]
    for name in transfer.scored.query("network == 'resnet18'")["data"].unique()
}
print("gain over the frozen backbone, points (95 % interval)")
pd.DataFrame(gains).T[["last block", "everything"]]

# %% [markdown]
# ### 11 How much to unfreeze
#
# **Difficulty** ●●○ · **5 minutes** · **1 point** · **Why it matters:** a rule of thumb is where a search begins, not where it
# ends.
#
# When would you extract features, and when fine-tune? Which sentence follows from the second table? Answer with a letter.
#
# * **A** Freeze the backbone on every data set: it costs the least, and training everything is significantly worse on some.
# * **B** Train everything on every data set: what has more freedom to adapt is more accurate on each of them.
# * **C** Where the interval contains zero, the two are equally good, so the backbone may be frozen without a loss.
# * **D** Begin with training everything, which was nowhere significantly worse; on your own data, compare both by validation.
#
# <details><summary>Hint 1</summary>
#
# Which intervals lie above zero, which contain it, which lie below?
#
# </details>
# <details><summary>Hint 2</summary>
#
# An interval from -7 to +2 allows a loss of seven points. Is that "equally good"?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# *Always* is refuted by one counterexample. An interval that contains zero leaves the question open. You may still freeze
# because it costs less; then say that cost decided.
#
# </details>

# %% tags=["answer"]
# your code here; it defines answer_unfreezing
answer_unfreezing = ...

# %% tags=["check"] points=1
lab.check("unfreezing", answer_unfreezing)

# %%
lab.progress()

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")

# %% [markdown]
# ## Summary
#
# * Pre-trained features need fewer images because only their combination is left to learn. You have measured the gain.
# * Feature extraction trains the head; fine-tuning trains more. Freezing stops parameters *and* running statistics.
# * A large learning rate destroys pre-trained features; a very small one learns too little. Try several on validation images.
# * How much to train depends on the data. The test set chooses nothing.
#
# **What to try next**
#
# * Repeat exercise 1 with `efficientnet_lite0`, whose weights come from ImageNet.
# * Repeat exercise 6 with `seed=1` in both `tl.load_model` and `tl.fit`. Does the order of the learning rates stay?
# * Use a folder of your own: `tl.load_data("path/to/folder")`.
