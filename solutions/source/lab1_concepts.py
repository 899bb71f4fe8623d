# %% [markdown]
# # Lab 1: the concepts
#
# Three questions that every chapter on transfer learning asks, each answered by a small experiment of your own.
#
# **What you will learn**
#
# * how to tell what pre-trained features bring, with several seeds, in numbers of your own,
# * what freezing does to parameters and to BatchNorm, by counting and comparing,
# * how to choose how much of a network to train, from a table of measurements.
#
# **Time:** half an hour to an hour for you; the cells themselves take less than a minute on 2 CPU cores.
#
# **How a lab works.** Replace each `...` and run the cell; the check below it says ✓, or ✗ and what to look at. While a
# `...` stands there, it says ○, and the lab still runs from top to bottom. Hints fold out; try first without them.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

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
# The data are *safari*: emoji on made-up backgrounds, in eight classes. Training images are drawn in three styles,
# validation images in a fourth and test images in a fifth. The network is ResNet18, trained on small photographs. It
# never saw a drawing.

# %%
SIZE = 64  # pixels
data = tl.load_data("safari", size=SIZE, per_class=40)
print(data)

# %% [markdown]
# ## 1 Why do pre-trained features need fewer images?
#
# We compute the features of every image twice: with the pre-trained ResNet18, and with one whose weights are random.
# Then a linear classifier learns from 5, 10, 20 or 40 images of each class, three times with different images.


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
            head = LogisticRegression(C=0.1, max_iter=500).fit(
                train[chosen], data.train.labels[chosen]
            )
            accuracy = head.score(val, data.val.labels)
            rows.append((name, per_class, seed, accuracy))
scores = pd.DataFrame(rows, columns=["start", "per_class", "seed", "accuracy"])
tc.plots.lines(
    scores,
    "per_class",
    "accuracy",
    "start",
    title="A linear classifier on pre-trained and on random features",
    xlabel="training images of each class",
    ylabel="validation accuracy",
    log=True,
)

# %% [markdown]
# ### 1a The gain
#
# **Difficulty** ●○○ · **5 minutes** · **Why it matters:** "it helps" is no result; a number with its unit is.
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
# A mean can be picked by both names: `means["pre-trained", 10]`. To get percentage points, multiply the
# difference of two fractions by 100.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two means over seeds, one for each start, at the same number of images; subtract, multiply by 100.
#
# </details>

# %%
# BEGIN ANSWER: gain
means = scores.groupby(["start", "per_class"])["accuracy"].mean()
gain = 100 * (means["pre-trained", 10] - means["random", 10])
# END ANSWER

# %% tags=["nbval-ignore-output"]
lab.check("gain", gain, scores=scores, per_class=10)

# %% [markdown]
# ### 1b Its spread
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** a difference that is smaller than what the seeds do to it may
# be luck.
#
# Both networks saw the same images for the same seed, so subtract them seed by seed. What is the standard deviation of
# these three differences, in points, with 10 images of each class?
#
# <details><summary>Hint 1</summary>
#
# `pivot(index="seed", columns="start", values="accuracy")` puts the two networks side by side.
#
# </details>
# <details><summary>Hint 2</summary>
#
# pandas' `std()` divides by n - 1, as one does for a sample; NumPy's `std()` divides by n unless told otherwise.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Differences first, deviation second: what both networks have in common for a seed, easy or hard images, drops out.
#
# </details>

# %%
# BEGIN ANSWER: deviation
table = scores[scores["per_class"] == 10].pivot(
    index="seed", columns="start", values="accuracy"
)
deviation = 100 * (table["pre-trained"] - table["random"]).std()
# END ANSWER

# %% tags=["nbval-ignore-output"]
lab.check("spread", deviation, scores=scores, per_class=10)

# %% [markdown]
# ### 1c Why?
#
# **Difficulty** ●○○ · **2 minutes** · **Why it matters:** the reason tells you when to expect the gain.
#
# Why do pre-trained features need fewer images? Answer with a letter, for instance `"A"`.
#
# * **A** A pre-trained network has fewer parameters.
# * **B** It has seen our images before.
# * **C** The features are there already; only how to combine them is left to learn.
# * **D** The images were augmented.
#
# <details><summary>Hint 1</summary>
#
# What had to be learned from our images here: which numbers, and how many?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Both networks have the same architecture, and the same images went into both, without augmentation.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Only the linear classifier was trained, in both cases. What differs is how useful its inputs are.
#
# </details>

# %%
# BEGIN ANSWER: answer_why
answer_why = "C"
# END ANSWER
lab.check("why", answer_why)

# %% [markdown]
# ## 2 What is the difference between feature extraction and fine-tuning?
#
# ### 2a Count
#
# **Difficulty** ●○○ · **5 minutes** · **Why it matters:** before you train, look at what is going to train.
#
# `frozen` has a frozen backbone; in `tuned` the block `layer4` trains as well. How many single numbers train in each?
#
# <details><summary>Hint 1</summary>
#
# What trains has `requires_grad`; `model.parameters()` has all of it.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A parameter is a tensor of many numbers: `parameter.numel()`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A sum of `numel()` over the parameters with `requires_grad`, once for each network.
#
# </details>

# %%
frozen = tl.freeze(tl.load_model("resnet18", classes=data.classes, size=SIZE))
tuned = tl.freeze(
    tl.load_model("resnet18", classes=data.classes, size=SIZE), up_to="layer3"
)

# BEGIN ANSWER: frozen_count, tuned_count
frozen_count = sum(p.numel() for p in frozen.parameters() if p.requires_grad)
tuned_count = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
# END ANSWER
lab.check("counts", frozen_count, tuned_count, model=frozen, block="layer4")

# %% [markdown]
# ### 2b Compare
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** `requires_grad` says what should stay; only a comparison says
# what did.
#
# Train `frozen` for one epoch with `tl.fit(frozen, data, epochs=1)`, and list the names of all tensors, parameters and
# buffers, that are not what they were.
#
# <details><summary>Hint 1</summary>
#
# `tl.snapshot(model)` copies everything; `tl.changed(model, before)` compares.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Three lines: snapshot, fit, changed. The snapshot must be taken before the training, of the same model.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Only the head's two tensors move. If BatchNorm's running statistics are on your list, the backbone was not frozen.
#
# </details>

# %%
# BEGIN ANSWER: moved
before = tl.snapshot(frozen)
tl.fit(frozen, data, epochs=1)
moved = tl.changed(frozen, before)
# END ANSWER
lab.check("moved", moved, truth=["fc.weight", "fc.bias"])

# %% [markdown]
# ### 2c What freezes everything?
#
# **Difficulty** ●●○ · **5 minutes** · **Why it matters:** most tutorials get this wrong, and nothing warns you.
#
# Which of these leaves every number of the backbone as it is while the model trains?
#
# * **A** `model.eval()`
# * **B** `requires_grad = False` for the parameters, *and* evaluation mode for BatchNorm
# * **C** `requires_grad = False` for the parameters
# * **D** a learning rate of 0 for the backbone
#
# <details><summary>Hint 1</summary>
#
# A network holds two kinds of tensors: parameters, which the optimizer moves, and buffers.
#
# </details>
# <details><summary>Hint 2</summary>
#
# BatchNorm's running mean and variance are buffers. Who moves them, and when?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two things move: parameters, by the optimizer; running statistics, by the forward pass in training mode. Both must be
# stopped.
#
# </details>

# %%
# BEGIN ANSWER: answer_freezing
answer_freezing = "B"
# END ANSWER
lab.check("freezing", answer_freezing)

# %% [markdown]
# ## 3 How much of the network should be trained?
#
# We have measured it for you on safari: what trains, with how many images of each class, five seeds each. Every run
# trained until validation stopped improving, at a learning rate that validation chose on other seeds.

# %%
results = tc.load_results("refinements")
print(results)
runs = results.scored.query("topic == 'depth' and data == 'safari'")
runs = runs[runs["method"] != "scratch"]
runs[["method", "per_class", "seed", "val_loss"]].head(3)

# %% [markdown]
# ### 3a The best depth
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** the luckiest of many runs is not the best method.
#
# For 10, 20 and 40 images of each class: what should train? Judge each `method` by its mean `val_loss` over the seeds,
# the cross-entropy on validation images: lower is better. Give a dictionary such as
# `{10: "head", 20: "head", 40: "head"}`. Nothing is chosen on the test set: the check opens it only for what you chose.
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

# %%
# BEGIN ANSWER: best
means = runs.groupby(["per_class", "method"])["val_loss"].mean()
best = {count: means[count].idxmin() for count in (10, 20, 40)}
# END ANSWER
lab.check("best", best, runs=runs)

# %% [markdown]
# How sure is that? The first table has the same means and their spread over seeds. The second has the mean validation
# loss of the same network on five other data sets as well.

# %%
display(
    runs.groupby(["per_class", "method"])["val_loss"]
    .agg(["mean", "std"])
    .round(2)
    .unstack()
)
others = tc.load_results("transfer").scored.query("network == 'resnet18'")
depths = ["frozen", "last block", "everything"]
others.groupby(["data", "method"])["val_loss"].mean().round(2).unstack()[depths]

# %% [markdown]
# ### 3b So how much?
#
# **Difficulty** ●●○ · **5 minutes** · **Why it matters:** rules of thumb are where a search begins, not where it ends.
#
# Which sentence follows from the tables?
#
# * **A** Always freeze the backbone: it is safest.
# * **B** Always train everything: it is best.
# * **C** The number of images does not matter, only how far the new images are from the old ones.
# * **D** It depends on the data, and for few images it is uncertain; a small grid, judged on validation images, says more.
#
# <details><summary>Hint 1</summary>
#
# Compare the rows of hymenoptera (ants and bees) and of flowers; and `head` with `everything` for 20 and 40 images.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A sentence with *always* is refuted by one counterexample.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The best depth is not the same for all data sets. On safari everything has the lowest mean in each row; at 10 and 20
# images of each class the difference is within the spread.
#
# </details>

# %%
# BEGIN ANSWER: answer_unfreezing
answer_unfreezing = "D"
# END ANSWER
lab.check("unfreezing", answer_unfreezing)

# %% [markdown]
# ## 4 In your own words
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** who can explain it has understood it.
#
# What is transfer learning, why does it work, what are its two main methods, and when does it help little? Write 40 to 150
# words.
#
# <details><summary>Hint 1</summary>
#
# Say what is carried over, from what to what, and what is trained.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Think of the X-rays in section 12.4, and of a target with very many images.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Features learned on a source task are reused for a target task; either the backbone is frozen and a head trained, or
# some or all of it is trained on; it helps less the further the domains are apart and the more images there are.
#
# </details>

# %%
# BEGIN ANSWER: explanation
explanation = """
Transfer learning takes a network that was trained on a source task with very many
images and uses it for a target task of our own. It works because its layers have
learned features, edges, textures, parts, that are useful for other images too, so that
only a little has to be learned from ours. In feature extraction the backbone is frozen
and a new head is trained. In fine-tuning some or all of the backbone is trained on, with
a small learning rate. It helps little when the new domain is far from the old one, or
when there are so many images that a network learns as much from scratch.
"""
# END ANSWER
lab.check("text", explanation)

# %% [markdown]
# **Rubric.** One point each; four or five are a good answer.
#
# 1. It names a source and a target task, and says that weights, not images, are carried over.
# 2. It says why it works: features that are useful for both.
# 3. It tells feature extraction from fine-tuning by what is trained.
# 4. It mentions a care that must be taken: learning rate, BatchNorm, preprocessing, or an honest comparison.
# 5. It says when to expect little, and gives a reason.

# %%
lab.progress()

# %% [markdown]
# ## Summary
#
# * What pre-trained features bring is a number with a spread, and you have computed both.
# * Freezing means parameters *and* running statistics.
# * How much to train is a question for validation images, asked with several seeds. The test set chooses nothing.
#
# **What to try next**
#
# * Repeat part 1 with `efficientnet_lite0`, whose weights come from ImageNet.
# * Repeat it with a folder of your own: `tl.load_data("path/to/folder")`.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
