# %% [markdown]
# # Lab 4: from scratch against transfer, fairly
#
# Anybody can make one of two methods look good. Here you compare training from scratch with transfer so that neither is
# favoured.
#
# **What you will learn**
#
# * what must be equal between two training methods, and what must not be,
# * how to count a budget, and how to give each method a learning rate of its own by the same number of tries,
# * how to tell which method is sooner when one of them never arrives,
# * how to compare seed by seed, with an interval,
# * what a results file can say on "with more data the gain shrinks", and what it cannot,
# * what changes when both methods are trained to the end instead of with equal compute,
# * why the best epoch is too good to be true.
#
# **Time:** an hour and a half to two hours for you; the cells themselves take about a minute on 2 CPU cores.
#
# Replace each `...` and run the cell; the check below it says ✓, or ✗ and what to look at. Hints fold out.

# %% tags=["nbval-ignore-output"]
import time

start_of_run = time.perf_counter()

import numpy as np
import pandas as pd
from IPython.display import display

import tlcourse as tc
import tlhelpers as tl
from tlcourse.measurements.comparison import margin_of_error

profile = tl.use_profile("quick")
print(profile)

# %%
lab = tc.Lab("lab4_scratch_vs_transfer")
lab.progress()

# %% [markdown]
# The data are *safari*, emoji on made-up backgrounds in eight classes, at 64 pixels: training images are drawn in three
# styles, validation images in a fourth, test images in a fifth. The network is ResNet18: either with the weights that
# came with the course, which were trained on small photographs, or with random numbers.

# %%
SIZE, PER_CLASS, EPOCHS = 64, 20, 4
data = tl.load_data("safari", size=SIZE, per_class=40)


def images_of(seed):
    """Training images drawn with the seed; validation and test are always the same."""
    drawn = data.train.per_class(PER_CLASS, seed=seed)
    return tl.ImageData(data.name, drawn, data.val, data.test, data.card)


print(images_of(0))

# %% [markdown]
# ## 1 What must be equal
#
# **Difficulty** ●○○ · **10 minutes** · **Why it matters:** a comparison tells you about the one thing that differs. If
# three things differ, it tells you about none.
#
# Below is how we train with transfer: everything trains, and `rates` are the learning rates of the backbone that are
# tried (its new head always has 0.003). Describe training from scratch with the same keys, so that the comparison is
# fair. Which two entries have to be others?
#
# <details><summary>Hint 1</summary>
#
# Begin with a copy: `{**transfer, "key": ...}`. What is the question of this lab? That entry must differ.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A fine-tuned backbone gets small rates, in order to keep what is there. From scratch there is nothing to keep, so other
# rates are good. Fair is not the same rate, but the same number of tries.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Everything is copied but the weights, which are `"none"`, and the rates: as many, reaching higher.
#
# </details>

# %%
transfer = {
    "architecture": "resnet18",
    "weights": "pre-trained",
    "size": SIZE,  # pixels
    "resize": SIZE,  # pixels, before the centre is cut out for scoring
    "images": PER_CLASS * data.num_classes,  # for training, drawn with the seed
    "epochs": EPOCHS,
    "batch_size": 32,
    "augment": True,
    "optimizer": "AdamW",
    "schedule": "cosine",
    "rates": [1e-4, 3e-4, 1e-3],
    "chosen_on": "val",
    "tuning_seed": 100,
    "seeds": [0, 1],
}

# BEGIN ANSWER: scratch
scratch = {**transfer, "weights": "none", "rates": [3e-4, 1e-3, 3e-3]}
# END ANSWER
lab.check("equal", scratch, transfer=transfer)

# %% [markdown]
# ## 2 Count the budget
#
# **Difficulty** ●○○ · **10 minutes** · **Why it matters:** "both for 20 epochs" is fair only if an epoch is as long for
# both.
#
# What training costs is the number of *images seen*: images × epochs. Write a function that gives the number of
# epochs for a number of images and a budget: the whole number that comes nearest to it, and at least one.
#
# With 320 images and a budget of 6400, how many epochs? And with a set that is ten times smaller?
#
# <details><summary>Hint 1</summary>
#
# Solve images × epochs = seen for epochs.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `round` gives the nearest whole number, `//` the one below. What do both give for 20,000 images and a budget of 6400?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Divide, round, and take 1 where 0 comes out.
#
# </details>


# %%
def epochs_for(images, seen):
    """The number of epochs in which about `seen` images are seen."""
    # BEGIN ANSWER
    return max(1, round(seen / images))
    # END ANSWER


lab.check("budget", epochs_for)

# %% [markdown]
# ## 3 Run both
#
# ### 3a Two beginnings
#
# **Difficulty** ●●○ · **15 minutes** · **Why it matters:** a library sets things for you. Whether they are the same for
# both methods, you look up, once, before the long runs.
#
# Write a function that gives the network to train: ResNet18 with a head for our classes, all of it trainable, with the
# pre-trained weights if `start` is `"pre-trained"`, and with random numbers if it is `"scratch"`. The seed decides on
# all random numbers. Both must see images in the same way: look at `model.card.preprocessing` of each.
#
# <details><summary>Hint 1</summary>
#
# `tl.load_model("resnet18", classes=..., size=..., weights=..., seed=...)`, where `weights` is `None` for the
# pre-trained ones and `"none"` for random numbers.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Print both cards' preprocessing. Random weights ask for nothing; `load_model` gives them what the pre-trained ones of
# the same architecture ask for, if you name the same `size`. Neither may freeze anything.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# One call; only the argument `weights` depends on `start`. The seed goes in, and nothing is frozen.
#
# </details>


# %%
def network(start, seed):
    """ResNet18, to be trained from its pre-trained weights or from scratch."""
    # BEGIN ANSWER
    weights = "none" if start == "scratch" else None
    return tl.load_model(
        "resnet18", classes=data.classes, size=SIZE, weights=weights, seed=seed
    )
    # END ANSWER


lab.check("networks", network, classes=data.num_classes, size=SIZE)

# %% [markdown]
# Everything else is settled in one place, so that it cannot differ:


# %%
def one_run(start, seed, rate):
    """Train once; a table with a row for each epoch, as `Run.history`."""
    model = network(start, seed)
    lr = rate
    if start == "pre-trained":
        names = [str(group["name"]) for group in tl.param_groups(model, 1.0)]
        lr = {name: 3e-3 if name == "head" else rate for name in names}
    return tl.fit(
        model,
        images_of(seed),
        epochs=EPOCHS,
        keep="last",
        lr=lr,
        batch_size=32,
        schedule="cosine",
        seed=seed,
    ).history


# %% [markdown]
# ### 3b A learning rate for each method
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** the learning rate that suits one method may ruin the other,
# and a method with more tries has more luck.
#
# The next cell tries every learning rate once, on a seed that is not used again. Its table has the accuracies after the last
# epoch.

# %% tags=["nbval-ignore-output"]
tries = ...
if lab.ready(scratch, network):
    rows = []
    for start, method in (("pre-trained", transfer), ("scratch", scratch)):
        for rate in method["rates"]:
            last = one_run(start, method["tuning_seed"], rate).iloc[-1]
            rows.append((start, rate, last["train_accuracy"], last["val_accuracy"]))
    tries = pd.DataFrame(rows, columns=["start", "rate", "train", "val"])
    display(
        tries.style.format({"rate": "{:g}", "train": "{:.1%}", "val": "{:.1%}"}).hide(
            axis="index"
        )
    )

# %% [markdown]
# Give a dictionary with the rate that you choose for `"pre-trained"` and for `"scratch"`. Compute it from the table, so
# that it stays right when the table changes.
#
# <details><summary>Hint 1</summary>
#
# Of which images is an accuracy to be trusted that is to choose something: those trained on, or others?
#
# </details>
# <details><summary>Hint 2</summary>
#
# With `rows = tries[tries["start"] == start]`, the row of the highest value is `rows["val"].idxmax()`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# For each method the learning rate with the highest validation accuracy among its own tries.
#
# </details>

# %%
# BEGIN ANSWER: chosen
chosen = {}
for start in ("pre-trained", "scratch"):
    rows = tries[tries["start"] == start]
    chosen[start] = float(tries.loc[rows["val"].idxmax(), "rate"])
# END ANSWER

# %% tags=["nbval-ignore-output"]
lab.check("rates", chosen, tries=tries)

# %% [markdown]
# Is a chosen rate the smallest or the largest that was tried? Then a better one may lie beyond, and a careful comparison
# tries further, for both methods. We go on, since this is a small run; remember it for your conclusion.
#
# ### 3c The runs
#
# **Difficulty** ●○○ · **10 minutes** · **Why it matters:** here it all comes together; a slip here spoils the rest.
#
# Train both methods with the seeds 0 and 1 and the rates that you have chosen. Collect a DataFrame with the columns
# `start`, `seed`, `epoch` (from 1) and `val`, the validation accuracy after that epoch.
#
# <details><summary>Hint 1</summary>
#
# Two loops, over starts and over seeds; `one_run(start, seed, chosen[start])` gives a table whose index is the epoch.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `for epoch, val in history["val_accuracy"].items()` gives pairs. Collect tuples, then `pd.DataFrame(rows,
# columns=...)`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# One row for each epoch of each run, and the same seeds for both methods.
#
# </details>

# %% tags=["nbval-ignore-output"]
# BEGIN ANSWER: live
rows = [
    (start, seed, int(epoch), val)
    for start in ("pre-trained", "scratch")
    for seed in (0, 1)
    for epoch, val in one_run(start, seed, chosen[start])["val_accuracy"].items()
]
live = pd.DataFrame(rows, columns=["start", "seed", "epoch", "val"])
# END ANSWER
lab.check("live", live, seeds=[0, 1], epochs=EPOCHS, tuning_seed=100)

# %% tags=["nbval-ignore-output"]
if lab.ready(live):
    display(
        tc.plots.lines(
            live,
            "epoch",
            "val",
            "start",
            title="Your own runs: two seeds, few epochs",
            xlabel="epochs",
            ylabel="validation accuracy",
        )
    )

# %% [markdown]
# Two seeds show whether the code is right. They do not show how far seeds differ, and so few epochs do not show where a
# network from scratch would arrive. For that the same two methods were run for longer, with 40 drawings of each class
# and five seeds:

# %%
longer = tc.load_results("curves")
runs = longer.runs
print(longer)
print(
    runs.groupby("start")["seed"].nunique().to_dict(),
    "seeds,",
    len(runs["val"].iloc[0]),
    "epochs",
)

# %% [markdown]
# **How the learning rates were chosen there.** As in exercise 1: three tries for each method, each with two seeds that
# were not used again. Each try trained until validation stopped improving, and the lowest mean validation loss was
# taken. Here is what was tried. Look whether a chosen rate lies at the end of its row; keep it in mind for your
# conclusion.

# %% tags=["nbval-ignore-output"]
ended = tc.load_results("transfer")  # trained until validation stopped improving
tuning = ended.where(network="resnet18", data="safari").query("seed >= 100")
tried = tuning.groupby(["method", "rate"])["val_loss"].mean()[["everything", "scratch"]]
display(tried.unstack().style.format("{:.2f}"))

# %% tags=["nbval-ignore-output"]
taken = tried.groupby("method").idxmin().map(lambda pair: pair[1])
taken = taken.rename({"everything": "pre-trained"})
assert (runs["rate"] == runs["start"].map(taken)).all()
print("the learning rates of the longer runs:", taken.to_dict())

# %% [markdown]
# ## 4 Who is sooner?
#
# ### 4a Accuracy at a time
#
# **Difficulty** ●○○ · **5 minutes** · **Why it matters:** off by one epoch is the most frequent slip with curves.
#
# A curve is a list of accuracies, the first after epoch 1. Write a function that gives the accuracy after an epoch, and
# `None` where the curve has no such epoch.
#
# <details><summary>Hint 1</summary>
#
# Epochs are counted from 1, places in a list from 0.
#
# </details>
# <details><summary>Hint 2</summary>
#
# What is `curve[-1]`? And for which epoch would your function ask for it?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# If the epoch is between 1 and the length, the place before it; otherwise `None`.
#
# </details>


# %%
def accuracy_at(curve, epoch):
    """The accuracy after an epoch, counted from 1; None where nothing was measured."""
    # BEGIN ANSWER
    return curve[epoch - 1] if 1 <= epoch <= len(curve) else None
    # END ANSWER


lab.check("at", accuracy_at)

# %% [markdown]
# ### 4b Time to accuracy
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** "three times as fast" is a ratio of two such numbers, and is
# nothing at all if one of them does not exist. <!-- given: a made-up example -->
#
# Write a function that gives the first epoch, counted from 1, at which the accuracy is at or above a mark; `None` if it
# never is.
#
# <details><summary>Hint 1</summary>
#
# `enumerate(curve, start=1)` gives pairs of an epoch and its accuracy.
#
# </details>
# <details><summary>Hint 2</summary>
#
# With NumPy: what does `np.argmax` give for an array in which everything is `False`?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Go through the curve, return the epoch as soon as the mark is reached, and return `None` after the loop.
#
# </details>


# %%
def first_epoch_reaching(curve, mark):
    """The first epoch, counted from 1, with at least this accuracy; None if there is none."""
    # BEGIN ANSWER
    for epoch, accuracy in enumerate(curve, start=1):
        if accuracy >= mark:
            return epoch
    return None
    # END ANSWER


lab.check("first", first_epoch_reaching)

# %% [markdown]
# ### 4c Those who never arrive
#
# **Difficulty** ●●● · **15 minutes** · **Why it matters:** leaving out the runs that failed makes the method that
# fails most look best.
#
# A run that has not reached the mark when training ends is *censored*: we know that it takes longer than that, and not
# how long. A mean needs every number, so there is none. A *median* needs only the order, and never comes last. Write a
# function that takes the epochs of an odd number of seeds, `None` or NaN for never, and gives the median, and `None` if
# the median seed never arrived.
#
# <details><summary>Hint 1</summary>
#
# Five seeds: 8, never, 10, never, 9. Put them in order by hand. Which is the third?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `math.inf` is larger than every number: put it in place of never, take the median, and look whether it is finite.
# `pd.isna` knows both None and NaN.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Never becomes infinity, the list is sorted, the middle is taken; an infinite middle becomes `None`.
#
# </details>


# %%
def median_epoch(epochs):
    """The median of epochs, None or NaN for never; None if the median seed never arrived."""
    # BEGIN ANSWER
    middle = np.median([np.inf if pd.isna(epoch) else epoch for epoch in epochs])
    return float(middle) if np.isfinite(middle) else None
    # END ANSWER


lab.check("median", median_epoch)

# %% [markdown]
# With your three functions, here is who is sooner. Look at the last two columns together: how many of the seeds
# arrived, and when the median one did.

# %% tags=["nbval-ignore-output"]
if lab.ready(accuracy_at, first_epoch_reaching, median_epoch):
    rows = []
    for start, group in runs.groupby("start"):
        for mark in (0.25, 0.35, 0.45, 0.55):
            reached = [first_epoch_reaching(curve, mark) for curve in group["val"]]
            middle = median_epoch(reached)
            when = "later, or never" if pd.isna(middle) else f"{middle:g}"
            arrived = sum(not pd.isna(epoch) for epoch in reached)
            rows.append((start, f"{mark:.0%}", f"{arrived} of {len(reached)}", when))
    display(pd.DataFrame(rows, columns=["start", "mark", "arrived", "median epoch"]))
    for epoch in (1, 5, 20):
        shown = {
            start: f"{np.mean([accuracy_at(curve, epoch) for curve in group['val']]):.1%}"
            for start, group in runs.groupby("start")
        }
        print(f"mean accuracy after epoch {epoch}:", shown)

# %% [markdown]
# Two things to keep in mind. A curve jumps, so the *first* time at the mark is partly luck, and more so for the method
# that jumps more. And epochs are only as good as seconds if an epoch takes both methods equally long. Does it?

# %% tags=["nbval-ignore-output"]
print(
    "seconds an epoch took, median:",
    runs.groupby("start")["epoch_seconds"].median().to_dict(),
)

# %% [markdown]
# ## 5 Five seeds
#
# ### 5a A table for a figure
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** a curve without its spread is a curve of luck.
#
# In `runs` the column `val` holds a list for each run. Make a DataFrame `curves` with one row for each epoch of each
# run: `start`, `seed`, `epoch` (from 1), `val`.
#
# <details><summary>Hint 1</summary>
#
# `runs.explode("val")` makes a row of each element of the lists. The epoch is then to be counted within each run.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `groupby(["start", "seed"]).cumcount()` counts within each run, from 0. Or write two loops, with
# `enumerate(run["val"], start=1)`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A row for each epoch, and the seed is kept: the spread is made of the seeds.
#
# </details>

# %%
# BEGIN ANSWER: curves
rows = [
    (run["start"], run["seed"], epoch, val)
    for run in runs.to_dict("records")
    for epoch, val in enumerate(run["val"], start=1)
]
curves = pd.DataFrame(rows, columns=["start", "seed", "epoch", "val"])
# END ANSWER
lab.check("long", curves, runs=runs)

# %% tags=["nbval-ignore-output"]
if lab.ready(curves):
    display(
        tc.plots.lines(
            curves,
            "epoch",
            "val",
            "start",
            title="From scratch and with transfer, five seeds",
            xlabel="epochs",
            ylabel="validation accuracy",
        )
    )

# %% [markdown]
# The line is the mean over seeds, the band one standard deviation, each dot a run. Do the bands come together within
# these epochs?
#
# ### 5b Seed by seed
#
# **Difficulty** ●●● · **15 minutes** · **Why it matters:** runs with the same seed share what the seed decides, so
# their difference may be steadier than the two.
#
# The column `test` has the balanced accuracy on test images after the last epoch; nothing was chosen by it. In percentage
# points, what is the mean over seeds of pre-trained minus scratch? Between which ends lies Student's t interval (95 %,
# both sides) for this mean? And is pre-trained `"ahead"`, `"behind"`, or is it `"not shown"`? <!-- given: the usual
# confidence -->
#
# <details><summary>Hint 1</summary>
#
# `runs.pivot(index="seed", columns="start", values="test")` puts the two methods side by side. Subtract first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The margin is t × s / √n: s with n - 1, and t from `scipy.stats.t.ppf(0.975, n - 1)`. `margin_of_error(differences,
# 0.95)` of this package computes it.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Five differences, their mean, their margin. If the interval holds zero, the seeds cannot tell.
#
# </details>

# %%
# BEGIN ANSWER: mean, low, high, verdict
wide = 100 * runs.pivot(index="seed", columns="start", values="test")
difference = wide["pre-trained"] - wide["scratch"]
mean, margin = difference.mean(), margin_of_error(difference, 0.95)
low, high = mean - margin, mean + margin
verdict = "ahead" if low > 0 else "behind" if high < 0 else "not shown"
# END ANSWER

# %% tags=["nbval-ignore-output"]
lab.check("paired", mean, low, high, verdict, runs=runs)

# %% [markdown]
# This interval speaks for other seeds: another order of the images, other crops, other random numbers. It does not speak
# for other test images, other data, or another network.
#
# ## 6 With more data
#
# ### 6a The gain by number of images
#
# **Difficulty** ●●○ · **15 minutes** · **Why it matters:** textbooks say that the gain shrinks as data grow. That can be
# looked up.
#
# The table below has what trains (`method`), on two data sets, with 10, 20 and 40 different images of each class and
# five seeds each. For `"safari"` and for `"flowers"` (photographs), and each number of images, what is the mean gain of
# the method `"everything"` over `"scratch"` in `test`, in points? Give a dictionary of dictionaries, or of Series:
# `{"safari": {10: ..., ...}, "flowers": {...}}`.

# %%
sizes = tc.load_results("refinements").scored.query("topic == 'depth'")
sizes[["method", "data", "per_class", "seed", "val", "test"]].head(3)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Choose rows of one data set; then `groupby(["per_class", "method"])`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `.unstack("method")` puts the methods side by side.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Means by number of images and method, one column minus the other, times 100.
#
# </details>

# %%
# BEGIN ANSWER: gains
gains = {}
for name in ("safari", "flowers"):
    rows = sizes[sizes["data"] == name]
    means = rows.groupby(["per_class", "method"])["test"].mean().unstack("method")
    gains[name] = 100 * (means["everything"] - means["scratch"])
# END ANSWER

# %% tags=["nbval-ignore-output"]
lab.check("gains", gains, runs=sizes, names=["safari", "flowers"])

# %% [markdown]
# ### 6b Does it shrink?
#
# **Difficulty** ●●● · **15 minutes** · **Why it matters:** two means always differ. Whether the gain does, the seeds
# say.
#
# For each of the two data sets, compute the *change* of the gain from the fewest to the most images, seed by seed,
# and the t interval (95 %) of its mean. Answer with `"shrinks"`, `"grows"`, or `"not shown"` where the interval holds
# zero: `{"safari": ..., "flowers": ...}`. <!-- given: the usual confidence -->
#
# <details><summary>Hint 1</summary>
#
# For each seed there are four runs: two methods, with the fewest and with the most images. What is this seed's change?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `rows.pivot(index=["per_class", "seed"], columns="method", values="test")`, subtract, `.unstack("seed")`: a row for
# each number of images. The last row minus the first is five changes. `margin_of_error(changes, 0.95)`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A difference of differences, one for each seed. Its sign counts only if its interval leaves zero out.
#
# </details>

# %%
# BEGIN ANSWER: direction
direction = {}
for name in ("safari", "flowers"):
    rows = sizes[sizes["data"] == name]
    by_method = rows.pivot(index=["per_class", "seed"], columns="method", values="test")
    gain = (
        100 * (by_method["everything"] - by_method["scratch"]).unstack("seed").sort_index()
    )
    change = gain.iloc[-1] - gain.iloc[0]
    clear = abs(change.mean()) > margin_of_error(change, 0.95)
    direction[name] = (
        ("grows" if change.mean() > 0 else "shrinks") if clear else "not shown"
    )
# END ANSWER

# %% tags=["nbval-ignore-output"]
lab.check("growth", direction, runs=sizes, names=["safari", "flowers"])

# %% [markdown]
# ### 6c Equal compute, or trained to the end?
#
# **Difficulty** ●●○ · **5 minutes** · **Why it matters:** before you contradict a textbook, look at what was held equal.
#
# In section 5 both methods trained for equally many epochs on the same images: equal compute. In `ended` every run
# trained until validation stopped improving, and `compute` says what it took, in 10¹² floating-point operations. The
# intervals of these gains count test drawings and patients as well as seeds.

# %%
wide = 100 * runs.pivot(index="seed", columns="start", values="test")
difference = (wide["pre-trained"] - wide["scratch"]).mean()
print(f"safari, equal compute: everything over scratch {difference:+.1f} points")
for name in ("safari", "chest_xray"):
    rows = ended.scored.query("network == 'resnet18' and data == @name")
    means = rows.groupby("method")[["epochs", "compute", "test"]].mean()
    print(f"\n{name}, trained to the end:")
    display(means.loc[["frozen", "everything", "scratch"]].round(3))
    everything, scratch_runs = (
        {"network": "resnet18", "method": method} for method in ("everything", "scratch")
    )
    points, *ends = (100 * x for x in ended.gain(name, everything, scratch_runs))
    print(f"everything over scratch {points:+.1f} points, {ends[0]:+.1f} to {ends[1]:+.1f}")

# %% [markdown]
# What follows?
#
# * **A** On safari scratch is behind only because its training stopped too early.
# * **B** On safari transfer is ahead with equal compute and trained to the end; on the X-rays scratch catches up, and
#   takes more compute.
# * **C** If both had the compute that fine-tuning took, scratch would be ahead on safari.
# * **D** The frozen network takes the least compute, so it is the best choice for both.
#
# <details><summary>Hint 1</summary>
#
# Which method took the most compute, and when did it stop?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Every comparison answers a question. Put these two into words: "With so much compute, ..." and "However long it takes,
# ..."
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# From scratch took more compute than fine-tuning on both data sets, and had stopped improving. Look where it arrived.
#
# </details>

# %%
# BEGIN ANSWER: answer_why
answer_why = "B"
# END ANSWER
lab.check("why", answer_why)

# %% [markdown]
# ## 7 The best epoch
#
# ### 7a Too good to be true
#
# **Difficulty** ●●○ · **10 minutes** · **Why it matters:** "best validation accuracy" is in many papers. It is the
# maximum of many noisy numbers.
#
# From `runs`: by how many points does the highest validation accuracy of a run exceed that of its last epoch, on average
# over seeds? Give a dictionary with a number for `"pre-trained"` and one for `"scratch"`.
#
# <details><summary>Hint 1</summary>
#
# Each run chooses its own best epoch. So what comes first, the maximum or the mean?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.array(rows["val"].tolist())` has a row for each seed and a column for each epoch; `max(axis=1)`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# For each seed the maximum minus the last; then the mean over seeds.
#
# </details>

# %%
# BEGIN ANSWER: optimism
optimism = {}
for start, rows in runs.groupby("start"):
    values = 100 * np.array(rows["val"].tolist())
    optimism[start] = (values.max(axis=1) - values[:, -1]).mean()
# END ANSWER

# %% tags=["nbval-ignore-output"]
lab.check("optimism", optimism, runs=runs)

# %% [markdown]
# This number is never negative, whatever is measured: the last epoch is one of those among which the best was chosen.
# Some of it may be real, if the network gets worse towards the end. Only images that played no part in the choice can
# show how much of it is luck.
#
# ### 7b Validation and test
#
# **Difficulty** ●●○ · **5 minutes** · **Why it matters:** the sign of a difference means nothing before you know what
# differs.
#
# Here are the best and the last epoch on validation images, and the last epoch on test images.

# %% tags=["nbval-ignore-output"]
summary = pd.DataFrame(
    {
        "best epoch, val": runs["val"].map(max).groupby(runs["start"]).mean(),
        "last epoch, val": runs["val"]
        .map(lambda curve: curve[-1])
        .groupby(runs["start"])
        .mean(),
        "last epoch, test": runs.groupby("start")["test"].mean(),
    }
)
display(summary.style.format("{:.1%}"))

# %%
assert (summary["last epoch, test"] < summary["best epoch, val"]).all()
print("For both methods the last epoch on test is below the best epoch on validation.")

# %% [markdown]
# What do you conclude?
#
# * **A** The best epoch made both methods look better by just this difference.
# * **B** The epoch should be chosen on test images, then there is no difference.
# * **C** The two splits are not equally hard, so the difference between them does not measure the optimism of the best
#   epoch.
# * **D** Validation images got into training.
#
# <details><summary>Hint 1</summary>
#
# In safari no drawing of one split appears in another. The documentation of `tl.load_data` says how the splits were
# made.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Suppose the test images were in the hardest style. What would the last epoch have on test, however it was chosen?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two things differ between best-on-validation and last-on-test: the choice, and the images.
#
# </details>

# %%
# BEGIN ANSWER: answer_splits
answer_splits = "C"
# END ANSWER
lab.check("splits", answer_splits)

# %% [markdown]
# ## 8 Conclude
#
# **Difficulty** ●●○ · **15 minutes** · **Why it matters:** this paragraph is what others will read.
#
# In a paragraph: was transfer better here, by how much and how surely; how much sooner; what was equal, and what was
# not; what happens with more data, as far as you know; and what this comparison does not show.
#
# <details><summary>Hint 1</summary>
#
# A number needs its unit, its spread and its condition.
#
# </details>
# <details><summary>Hint 2</summary>
#
# For "sooner": name the mark, and how many seeds reached it.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Result with interval; time with those who never arrived; what was fair; limits.
#
# </details>

# %%
# BEGIN ANSWER: conclusion
conclusion = """
With the same network, the same images and the same number of epochs, transfer was ahead
of training from scratch on the test images of safari: the mean of the differences, seed
by seed, is far above zero, and so is its whole interval. It was sooner as well. Low marks
it reached in its first epochs; for the higher ones the median seed from scratch never
arrived within the run, so a ratio of times cannot be given. Each method had three tries
for its learning rate; both chosen ones lie at an end of those tried, so wider tries might
move the gain a little. Trained to the end, which took scratch more compute, the gain is as
clear on safari, and there is none on the X-rays. From 10 to 40 images of each class it is
not shown to shrink. All this is one small network, and holds for other data only if it is
measured there.
"""
# END ANSWER
lab.check("text", conclusion)

# %% [markdown]
# **Rubric.** Grade yourself, a mark for each:
#
# 1. The difference has a unit, an interval and the number of seeds.
# 2. "Sooner" names a mark, and says what became of seeds that never reached it.
# 3. It says what was equal: architecture, images, budget, augmentation, number of tries.
# 4. It says how the rates were chosen, and whether a chosen one lay at the end of those tried.
# 5. On more data it says no more than the table does. It tells equal compute from training to the end.
# 6. It names at least one thing that was not measured: another network, other data, more images.

# %%
lab.progress()

# %% [markdown]
# ## Summary
#
# * Fair means: one thing differs. The learning rate is each method's own, the number of tries is equal.
# * The budget is images seen. With a smaller set there are more epochs. Trained to the end, each takes what it needs.
# * What a library sets for you belongs on the list too: look at the preprocessing of both networks.
# * A seed that never reached the mark counts, as "later than that". A median copes with it, a mean does not.
# * Differences seed by seed, with an interval. Two means always differ.
# * The accuracy of the best epoch is partly luck. Only images that chose nothing, and are as hard, tell how much.
#
# **What to try next**
#
# * Add a fourth learning rate for both methods, beyond the best one of each. Does the winner change?
# * Train scratch for ten times as many epochs. At which budget does it reach what transfer has after the first epoch?
# * Choose each run's epoch by the mean curve of the other seeds, and compute the optimism with that.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start_of_run:.0f} s.")
