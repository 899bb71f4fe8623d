# %% [markdown]
# # Lab 4: from scratch or with transfer? A fair comparison
#
# > **The book's exercise.** *Train the same architecture from scratch and with transfer learning on the same data set, and
# > compare training time and accuracy.*
#
# You will do this without favouring either method. The answer is in numbers: seconds, epochs, and an accuracy with its
# interval.
#
# **What you will learn**
#
# * what must be equal between two training methods, and what must not be,
# * how to choose a learning rate for each method by the same rule,
# * how to measure training time, and the time to reach a given accuracy,
# * how to compare accuracies seed by seed, with an interval.
#
# **Time:** 90 minutes for the core and 20 for the extension; the cells take about a minute on 2 CPU cores.
#
# Replace each `...` and run the cell. The check below it says ✓, or ✗ and what to look at. Hints fold out.
# <!-- given: an estimate for somebody who writes this for the first time -->

# %% tags=["student"]
STUDENT = ""  # your name or number, if your teacher collects the notebooks

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
# The data are *safari*: emoji on made-up backgrounds in eight classes, at 64 pixels. Training images are drawn in three
# styles, validation images in a fourth, test images in a fifth. The network is ResNet18, either pre-trained on small
# photographs or with random weights.

# %%
SIZE, PER_CLASS, EPOCHS = 64, 12, 2
data = tl.load_data("safari", size=SIZE, per_class=40)
validation = data.val.per_class(10, seed=0)


def images_of(seed):
    """Training images drawn with the seed; validation and test images are always the same."""
    drawn = data.train.per_class(PER_CLASS, seed=seed)
    return tl.ImageData(data.name, drawn, validation, data.test, data.card)


print(images_of(0))

# %% [markdown]
# ## 1 What must be equal
#
# **Difficulty** ●○○ · **10 minutes** · **2 points** · **Why it matters:** a comparison measures the effect of what
# differs. If three things differ, nobody knows which of them had the effect.
#
# `transfer` describes training with transfer. Everything is trained; `learning_rates` are those that are tried for the
# backbone, while the new head has 0.003. From scratch there is nothing to protect, so there one rate holds for all layers.
# Describe training from scratch in a dictionary `scratch` with the same keys, so that the comparison is fair. Two entries
# have to differ: random weights are called `"none"`, and the learning rates. Try as many, up to a larger one. Do not change
# `transfer`. <!-- given: the rate of the head in the cell one_run -->
#
# <details><summary>Hint 1</summary>
#
# What is the question of this lab? That entry must differ. Begin with a copy. `scratch = transfer` is no copy: it only
# gives the dictionary a second name.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Fine-tuning needs small learning rates, which keep what was learned. From scratch there is nothing to keep. Fair does not
# mean the same learning rates, but as many tries.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A copy with random weights, `"none"`, and three learning rates that reach higher.
#
# </details>

# %%
transfer = {
    "architecture": "resnet18",
    "weights": "pre-trained",
    "size": 64,  # pixels
    "images": 96,  # for training, drawn with the seed
    "epochs": 2,
    "batch_size": 32,
    "augment": True,
    "optimizer": "AdamW",
    "schedule": "cosine",
    "learning_rates": [1e-4, 3e-4, 1e-3],
    "chosen_by": "validation loss",  # the lowest one
    "tuning_seed": 100,
    "seeds": [0, 1],
}

# %% tags=["answer"]
# BEGIN ANSWER: scratch
scratch = {**transfer, "weights": "none", "learning_rates": [3e-4, 1e-3, 3e-3]}
# END ANSWER

# %% tags=["check"] points=2
lab.check("equal", scratch, transfer=transfer)

# %% [markdown]
# ## 2 Two starting points
#
# **Difficulty** ●●○ · **15 minutes** · **3 points** · **Why it matters:** a library sets things for you. Look up once,
# before the long runs, whether they are the same for both methods.
#
# Write a function that returns the network to train: a ResNet18 with a head for `data.classes`, at `SIZE` pixels, all of it
# trainable. If `start` is `"pre-trained"`, it has the pre-trained weights; if it is `"scratch"`, random ones. The seed decides
# on all random numbers. Both must prepare images in the same way: compare `network("scratch", 0).card.preprocessing` with
# that of the other.
#
# <details><summary>Hint 1</summary>
#
# `tl.load_model("resnet18", classes=..., size=..., weights=..., seed=...)` with `weights=None`, the default,
# gives the pre-trained weights. The word `weights="none"` gives random ones.
#
# </details>
# <details><summary>Hint 2</summary>
#
# With the same `size`, a network with random weights gets the preprocessing of the pre-trained one.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# One call for both; only its argument `weights` depends on `start`. The seed is passed on.
#
# </details>


# %% tags=["answer"]
def network(start, seed):
    """ResNet18, to be trained from its pre-trained weights or from scratch."""
    # BEGIN ANSWER
    weights = "none" if start == "scratch" else None
    return tl.load_model(
        "resnet18", classes=data.classes, size=SIZE, weights=weights, seed=seed
    )
    # END ANSWER


# %% tags=["check"] points=3
lab.check("networks", network)

# %% [markdown]
# `one_run(start, seed, learning_rate)` (folded) trains your network once with the settings above. It returns a table with a
# row for each epoch: what was trained, losses, accuracies and the seconds of the epoch.


# %% jupyter={"source_hidden": true}
def one_run(start, seed, learning_rate):
    """Train once; a table with a row for each epoch."""
    model = network(start, seed)
    lr = {group["name"]: learning_rate for group in tl.param_groups(model, 1.0)}
    if start == "pre-trained":
        lr["head"] = 3e-3
    fixed = {"batch_size": 32, "schedule": "cosine", "keep": "last"}
    run = tl.fit(model, images_of(seed), epochs=EPOCHS, lr=lr, seed=seed, **fixed)
    labels = {"start": start, "seed": seed, "learning_rate": learning_rate}
    table = run.history.drop(columns="lr").reset_index().assign(**labels)
    return table[[*labels, *table.columns.drop([*labels])]]


# %% [markdown]
# ## 3 A learning rate for each method
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** the learning rate that suits one method may ruin
# the other, and a method with more tries has more chances to be lucky.
#
# The next cell tries each learning rate once, on a seed that is not used again. `tries` holds the last epoch of each run.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tries = pd.DataFrame()
if lab.ready("equal", "networks"):
    methods = {"pre-trained": transfer, "scratch": scratch}
    runs_tried = [
        one_run(start, method["tuning_seed"], lr)
        for start, method in methods.items()
        for lr in method["learning_rates"]
    ]
    tries = pd.concat([run.tail(1) for run in runs_tried], ignore_index=True)
    display(tries.round(4))

# %% [markdown]
# Choose by the rule in `transfer`: the **lowest validation loss** among a method's own tries. The longer runs
# below used the same rule. The result is a dictionary `chosen` with the learning rate for `"pre-trained"` and for
# `"scratch"`. Both may get the same one. Compute it from `tries`, so that it stays right when the table changes.
#
# <details><summary>Hint 1</summary>
#
# `tries[tries["start"] == start]` holds the rows of one method.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `rows["val_loss"].idxmin()` is the label of the row with the lowest loss. Which entry of that row is asked for?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# For each method the learning rate in the row with its lowest validation loss.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: chosen
chosen = {}
for start in ("pre-trained", "scratch"):
    rows = tries[tries["start"] == start]
    chosen[start] = rows.loc[rows["val_loss"].idxmin(), "learning_rate"]
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=2
lab.check("rates", chosen, tries=tries)

# %% [markdown]
# If a chosen learning rate is the smallest or the largest that was tried, a better one may lie beyond. A careful comparison
# then tries further, for both methods. Remember it for your conclusion.
#
# ## 4 Run both
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** this is the book's exercise. A slip here spoils
# everything after it.
#
# Train both methods with the seeds 0 and 1, each with its chosen learning rate. Put the four tables of `one_run` below one
# another, in one DataFrame `live`. Let the methods take turns, so that a slow minute of your computer hits both.
#
# <details><summary>Hint 1</summary>
#
# Two loops, over seeds and over starts. Collect the tables in a list.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `pd.concat(tables, ignore_index=True)` puts tables below one another. Which learning rate belongs to which start?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Append `one_run` for each seed and start, with the chosen learning rate of that start; then concatenate.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: live
tables = []
for seed in (0, 1):
    for start in ("pre-trained", "scratch"):
        tables.append(one_run(start, seed, chosen[start]))
live = pd.concat(tables, ignore_index=True)
# END ANSWER

# %% tags=["check"] points=2
lab.check("live", live, tries=tries)

# %% [markdown]
# ## 5 Time and accuracy of your runs
#
# **Difficulty** ●●○ · **10 minutes** · **2 points** · **Why it matters:** two numbers for each method answer the
# question.
#
# From `live`, compute two dictionaries or Series by `start`: `seconds`, the time of a run, and `accuracy`, the validation
# accuracy after the last epoch. Both are means over the seeds.
#
# <details><summary>Hint 1</summary>
#
# A run is one start with one seed. Its time is the sum over its epochs.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `live.groupby(["start", "seed"])["seconds"].sum()` has a number for each run. For the accuracy, keep the rows of the last
# epoch first.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Sums within runs, then means over seeds. The accuracy is a mean over the rows of the last epoch.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: seconds, accuracy
of_runs = live.groupby(["start", "seed"])["seconds"].sum()
seconds = of_runs.groupby("start").mean()
last_epoch = live[live["epoch"] == live["epoch"].max()]
accuracy = last_epoch.groupby("start")["val_accuracy"].mean()
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=2
lab.check("cost", seconds, accuracy, live=live)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("cost"):
    print(
        f"After {EPOCHS} epochs: {accuracy['pre-trained']:.0%} with transfer, "
        f"{accuracy['scratch']:.0%} from scratch; guessing gives {1 / data.num_classes:.0%}."
    )
    print(
        f"A run took {seconds['pre-trained']:.1f} s with transfer, "
        f"{seconds['scratch']:.1f} s from scratch."
    )

# %% [markdown]
# An epoch costs both methods the same: the same network is trained in full on as many images. If the times differ, your
# computer was busy with something else. Transfer saves time in another way: it needs fewer epochs for a given accuracy.
#
# ## Longer runs
#
# Two epochs are too few to see how good training from scratch can get. The same two methods were therefore run for 25 epochs,
# with five seeds and all 40 images of each class: here a seed changes the random numbers, and not the images.
# <!-- given: tlcourse/measurements/data/curves.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
longer = tc.load_results("curves")
runs = longer.runs
print(longer)
curves = runs[["start", "seed", "val"]].explode("val").astype({"val": float})
curves["epoch"] = curves.groupby(["start", "seed"]).cumcount() + 1
chart = tc.plots.lines(
    curves,
    "epoch",
    "val",
    "start",
    title="From scratch and with transfer",
    xlabel="epoch",
    ylabel="validation accuracy",
    levels={"": 1 / data.num_classes},
)
chart.axes[0].set_ylim(0, 0.7)
for band in chart.axes[0].collections:
    band.set_alpha(0.35)
chart

# %% [markdown]
# Each line is a mean over seeds, its band one standard deviation, each dot a run; the dotted line is guessing.
#
# The learning rates were chosen as in exercise 3, by the lowest validation loss of three tries (mean of two seeds that were
# not used again). These are the losses:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
ended = tc.load_results("transfer")  # trained until validation stopped improving
tuning = ended.where(network="resnet18", data="safari").query("seed >= 100")
tried = tuning.groupby(["method", "rate"])["val_loss"].mean()[["everything", "scratch"]]
tried = tried.rename({"everything": "pre-trained"})
display(tried.unstack().style.format("{:.2f}", na_rep="").format_index("{:g}", axis=1))
taken = tried.groupby("method").idxmin().map(lambda pair: pair[1])
assert (runs["rate"] == runs["start"].map(taken)).all()
print("the learning rates of the longer runs:", taken.to_dict())

# %% [markdown]
# ## 6 Time to an accuracy
#
# **Difficulty** ●●○ · **10 minutes** · **3 points** · **Why it matters:** "three times as fast" is a ratio of two such
# times. It means nothing if one of them does not exist. <!-- given: a made-up example -->
#
# A curve is a list of accuracies, the first one after epoch 1. Write a function that returns the first epoch, counted from
# 1, at which the accuracy is at or above a mark, and `None` if it never is.
#
# <details><summary>Hint 1</summary>
#
# `enumerate(curve, start=1)` gives pairs of an epoch and its accuracy.
#
# </details>
# <details><summary>Hint 2</summary>
#
# When do you know that the mark is never reached? Only after the last epoch.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Return the epoch as soon as the mark is reached, and `None` after the loop.
#
# </details>


# %% tags=["answer"]
def first_epoch_reaching(curve, mark):
    """The first epoch, counted from 1, with at least this accuracy; None if there is none."""
    # BEGIN ANSWER
    for epoch, accuracy in enumerate(curve, start=1):
        if accuracy >= mark:
            return epoch
    return None
    # END ANSWER


# %% tags=["check"] points=3
lab.check("first", first_epoch_reaching)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("first"):
    reached = {
        (f"{mark:.0%}", start): [
            first_epoch_reaching(curve, mark) for curve in group["val"]
        ]
        for mark in (0.25, 0.35, 0.45, 0.55)
        for start, group in runs.groupby("start")
    }
    shown = {
        key: ", ".join("never" if pd.isna(epoch) else f"{epoch:g}" for epoch in epochs)
        for key, epochs in reached.items()
    }
    table = pd.Series(shown, name="epoch, seed by seed").rename_axis(["mark", "start"])
    display(table.to_frame())
    each = runs.groupby("start")["epoch_seconds"].median()
    print(
        f"An epoch took {each['pre-trained']:.0f} s with transfer and {each['scratch']:.0f} s from scratch "
        "(medians, on a shared computer)."
    )

# %% [markdown]
# A curve jumps up and down, so the *first* epoch at a mark is partly luck. "Never" means: not within these epochs.
#
# ## 7 Accuracy, seed by seed
#
# **Difficulty** ●●● · **15 minutes** · **4 points** · **Why it matters:** runs with the same seed share their random
# numbers, such as the order of the images, so their difference may vary less than their accuracies.
#
# The column `test` of `runs` is the balanced accuracy on the test images after the last epoch. The test images were
# used for no choice. (*Balanced*: the mean of the recalls of all classes.) In percentage points, compute `mean`, the mean over
# seeds of pre-trained minus scratch, and the ends of its interval: `low` and `high` are `mean` minus and plus
# `margin_of_error(differences, 0.95)`, which is Student's for few numbers. `verdict` is `"ahead"` if the whole interval is
# above 0, `"behind"` if it is below, else `"not shown"`. <!-- given: the usual confidence -->
#
# <details><summary>Hint 1</summary>
#
# `runs.pivot(index="seed", columns="start", values="test")` puts the two methods side by side. Subtract first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `margin_of_error` takes the five differences, as a list or a Series.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Five differences, their mean, and one margin on both sides. If the interval contains zero, it is not shown.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: mean, low, high, verdict
wide = 100 * runs.pivot(index="seed", columns="start", values="test")
difference = wide["pre-trained"] - wide["scratch"]
mean, margin = difference.mean(), margin_of_error(difference, 0.95)
low, high = mean - margin, mean + margin
verdict = "ahead" if low > 0 else "behind" if high < 0 else "not shown"
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=4
lab.check("paired", mean, low, high, verdict, runs=runs)

# %% [markdown]
# This interval covers other seeds: other random numbers and another order of the images. It does not cover other test
# images, other data or another network.
#
# ## 8 Conclude
#
# **Difficulty** ●●○ · **10 minutes** · **5 points** · **Why it matters:** this paragraph is what others will read.
#
# Answer the book's exercise in a paragraph of at least 60 words. How much better was transfer, and how sure is that? What
# did an epoch cost, and how much sooner was an accuracy reached? What was equal, and how were the learning rates chosen?
# What does this comparison not show?
#
# <details><summary>Hint 1</summary>
#
# A number needs its unit, its interval and its condition.
#
# </details>
# <details><summary>Hint 2</summary>
#
# For "sooner", name the mark and say how many seeds reached it.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Difference and interval; times, with the seeds that never arrived; what was fair; limits.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: conclusion
conclusion = """
With the same network, images, number of epochs and augmentation, transfer was ahead of
training from scratch on the test images of safari: the mean difference over five seeds is
more than twenty points, and its whole interval lies above zero. An epoch cost the same
time in both methods, but transfer reached low marks in its first epochs, while most seeds
from scratch never reached the higher ones, so no ratio of times can be given. Each method
had three tries for its learning rate, and the lowest validation loss decided; both choices
lie at an end of those tried, so wider tries might change the gain. This is one small
network on one data set; it does not show what happens elsewhere or with longer training.
"""
# END ANSWER

# %% tags=["check"] points=5
lab.check("text", conclusion)

# %% [markdown]
# **Rubric.** A point for each:
#
# 1. The difference in accuracy has a unit, an interval and the number of seeds.
# 2. Time is told: the cost of an epoch, and a named mark with the seeds that never reached it.
# 3. It says what was equal: architecture, images, epochs, augmentation, number of tries.
# 4. It says how the learning rates were chosen, and whether a chosen one lay at the end of those tried.
# 5. It names at least one thing that was not measured: another network, other data, longer training.

# %%
lab.progress()

# %% [markdown]
# ## Extension
#
# ### 9 Seeds that never arrive
#
# **Difficulty** ●●● · **15 minutes** · **3 points** · **Why it matters:** leaving out the runs that never arrived favours
# the method that fails most often.
#
# A run that has not reached the mark when training ends is *censored*: nobody knows how much longer it takes. A mean needs
# every number. A *median* needs only their order, in which never comes last. Write a function that takes the epochs of an
# odd number of seeds, `None` or NaN for never. It returns their median, or `None` if the median seed never arrived.
#
# <details><summary>Hint 1</summary>
#
# Five seeds: 8, never, 10, never, 9. Put them in order by hand. Which is the third?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Put `np.inf`, which is larger than every number, in place of never. `pd.isna` is true for None and for NaN.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Never becomes infinity; an infinite median becomes `None`.
#
# </details>


# %% tags=["answer"]
def median_epoch(epochs):
    """The median of epochs, None or NaN for never; None if the median seed never arrived."""
    # BEGIN ANSWER
    middle = np.median([np.inf if pd.isna(epoch) else epoch for epoch in epochs])
    return float(middle) if np.isfinite(middle) else None
    # END ANSWER


# %% tags=["check"] points=3
lab.check("median", median_epoch)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("first", "median"):
    rows = []
    for (mark, start), epochs in reached.items():
        middle = median_epoch(epochs)
        arrived = f"{sum(not pd.isna(epoch) for epoch in epochs)} of {len(epochs)}"
        when = "later, or never" if pd.isna(middle) else f"{middle:g}"
        rows.append((mark, start, arrived, when))
    display(pd.DataFrame(rows, columns=["mark", "start", "arrived", "median epoch"]))

# %% [markdown]
# ### 10 Equal compute, or trained to the end?
#
# **Difficulty** ●●○ · **5 minutes** · **1 point** · **Why it matters:** the answer depends on what was kept equal.
#
# In exercises 6 and 7 both methods had equal compute. The table `ended` holds other runs, each trained until validation
# stopped improving: *frozen* (only the head), *everything* (fine-tuned in full) and *scratch*, on safari and on chest X-rays.
# `compute` is in 10¹² floating-point operations. These intervals are for other seeds and other test images.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("paired"):
    print(f"safari, equal compute: everything over scratch {mean:+.1f} points")
for name in ("safari", "chest_xray"):
    rows = ended.scored.query("network == 'resnet18' and data == @name")
    means = rows.groupby("method")[["epochs", "compute", "test"]].mean()
    print(f"\n{name}, trained to the end:")
    display(means.loc[["frozen", "everything", "scratch"]].round(3))
    pair = ({"network": "resnet18", "method": kind} for kind in ("everything", "scratch"))
    points, *ends = (100 * x for x in ended.gain(name, *pair))
    print(f"everything over scratch {points:+.1f} points, {ends[0]:+.1f} to {ends[1]:+.1f}")

# %% [markdown]
# Which one statement do the tables support? Answer with a letter, for instance `"A"`.
#
# * **A** On safari scratch is behind only because its training stopped too early.
# * **B** On safari transfer is ahead with equal compute and trained to the end; on the X-rays scratch catches up, and
#   takes more compute.
# * **C** Stopped after as much compute as fine-tuning took, scratch would be ahead on safari.
# * **D** The frozen network takes the least compute, so it is the best choice for both.
#
# <details><summary>Hint 1</summary>
#
# Which method took the most compute, and when did it stop?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Compare both at equal compute, then at the end of training. Is the winner the same on safari? And on the X-rays?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Training from scratch took more compute on both data sets, and had stopped improving. Look where it arrived.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: answer_why
answer_why = "B"
# END ANSWER

# %% tags=["check"] points=1
lab.check("why", answer_why)

# %%
lab.progress()

# %% [markdown]
# ## Summary
#
# * In a fair comparison one thing differs. Each method has its own learning rate, chosen by the same rule from equally many.
# * An epoch costs both methods the same time. Transfer is faster because it needs fewer epochs for the same accuracy.
# * Seeds that never reach a mark must be counted, not left out.
# * Compare seed by seed and report an interval. Two means always differ.
#
# **What to try next**
#
# * "With more data the gain shrinks": take `tc.load_results("refinements").scored` and compute the change of the gain from the
#   fewest to the most images, seed by seed, with its interval.
# * How much higher is the accuracy of each run's best epoch than of its last? And on the mean curve over seeds? Why less?
# * Add a fourth learning rate for both methods, beyond the best one of each. Does the winner change?
# * Train scratch for ten times as many epochs. When does it reach the accuracy that transfer has after one epoch?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start_of_run:.0f} s.")
