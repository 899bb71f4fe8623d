# %% [markdown]
# # 12.2.2 Fine-tuning
#
# In feature extraction the pre-trained layers stay as they are. In fine-tuning some or all of them go on learning. That
# opens many questions: which layers, how fast, in which order, with which optimizer, against how much data. Textbooks
# answer them with rules. Here the rules are measured.
#
# **What you will learn**
#
# * the workflow, and learning rates that differ from layer to layer (*parameter groups*),
# * how large the learning rate may be, and how much of the old task is forgotten,
# * how many layers to unfreeze for how much data, and for how distant a task,
# * whether gradual unfreezing, momentum, schedules, weight decay, dropout and augmentation pay,
# * how to read such measurements without fooling yourself.
#
# **Time:** under a minute on 2 CPU cores in the quick profile; the last cell prints what it took here.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import functools

import pandas as pd
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile()
QUICK = profile.name == "quick"
DATA = profile.data
ARCH = "resnet18"  # the book's; the stored measurements are of this network
SIZE = 64 if QUICK else None  # pixels; None is the size the weights were trained on
SEED = profile.seed
print(profile)

# %% [markdown]
# **What the quick profile puts in place of the real thing:** a ResNet18 that we trained on a small excerpt of ImageNet,
# in place of torchvision's, and *safari*, drawings on made-up backgrounds, in place of photographs.
#
# **What was measured beforehand.** One training run proves little: another seed gives another result. The comparisons
# below were therefore made with five seeds each, on this ResNet18 with images of 64 px, and stored. Each method was
# trained until its validation accuracy stopped improving, at the best of three or six learning rates for *it*, chosen on
# validation images; the test images were scored once. Safari is tested on drawings in a style that is in neither the
# training nor the validation set: 221 drawings. `tc.load_results` reads the stored runs.
#
# In the tables, *gain* is the difference to one method of the table, in percentage points, with a 95 % interval for other
# seeds and other drawings. If the interval contains zero, there is **no significant difference**: the measurement cannot
# say which of the two is better.
#
# ## 1 The workflow
#
# 1. Load the network and give it a new head.
# 2. Choose which blocks train. Freeze the rest, BatchNorm included ([12.2.1](12_2_1_feature_extraction.ipynb)).
# 3. Give each part a learning rate, smaller towards the input.
# 4. Train, and choose the epoch on the validation set.
# 5. Verify that what was to stay frozen did, and score once on the test set.
#
# <!-- given: a setting, not a result -->

# %% tags=["nbval-ignore-output"]
data = tl.load_data(DATA, **({"size": 72} if DATA == "safari" else {}))
model = tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED)
LAST = 1 if ARCH.startswith("resnet") else 2  # layer4; or the last two of many small blocks
tl.freeze(model)
tl.unfreeze(model, last=LAST)
tl.trainable_table(model)

# %% [markdown]
# Look at the counts: the last block of a ResNet holds most of its parameters. "Only the last block" is not a small
# change.

# %%
table = tl.trainable_table(model)
share = table.loc["total", "trainable"] / table.loc["total", "parameters"]
if ARCH == "resnet18":
    assert share > 0.5
print("Trainable is more than half of all parameters:", bool(share > 0.5))

# %% [markdown]
# ## 2 Parameter groups
#
# An optimizer takes a list of groups, each with a learning rate of its own. By hand, for a ResNet:
#
#     optimizer = torch.optim.SGD(
#         [
#             {"params": model.layer4.parameters(), "lr": 1e-3},
#             {"params": model.fc.parameters(), "lr": 1e-2},
#         ],
#         momentum=0.9,
#     )
#
# The head is new and has far to go; the blocks are good already. `tl.param_groups` makes such a list from what is
# trainable. `factor` is from each block to the one before it. Howard and Ruder (2018), who call such rates
# *discriminative*, divide by 2.6. With everything trainable that gives:
#
# <!-- given: Howard and Ruder 2018 -->

# %% tags=["nbval-ignore-output"]
whole = tl.load_model(ARCH, classes=data.classes, size=SIZE)  # nothing is frozen
pd.DataFrame(
    {
        "learning rate": {
            g["name"]: g["lr"] for g in tl.param_groups(whole, 1e-2, factor=1 / 2.6)
        },
        "tensors": {g["name"]: len(g["params"]) for g in tl.param_groups(whole, 1e-2)},
    }
)

# %%
groups = tl.param_groups(model, 1e-2, factor=0.1)
in_groups = [id(p) for group in groups for p in group["params"]]
assert len(in_groups) == len(set(in_groups)), "a parameter is in two groups"
assert set(in_groups) == {id(p) for p in model.parameters() if p.requires_grad}
print("Every trainable parameter is in exactly one group, and no frozen one is in any.")

# %% [markdown]
# ## 3 The classic recipe, live
#
# The chapter's classic example trains with *SGD with momentum* and *StepLR*: momentum adds to each step 0.9 of the step
# before, and StepLR multiplies all learning rates by `gamma` after every `step_size` epochs.
#
#     optimizer = optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
#     scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
#     model = train_model(model, criterion, optimizer, scheduler, num_epochs=25)
#
# We take fewer epochs, and the groups from above. A schedule changes all groups by the same factor, so their proportions
# stay. What do the usual schedules look like? (A *one-cycle* schedule steps after each batch.)
#
# <!-- given: the classic example's settings -->


# %%
def rates_over(schedule, steps):
    """The learning rates that a schedule gives, from a rate of 1."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


schedules = {
    "StepLR": lambda o: StepLR(o, step_size=7, gamma=0.1),
    "cosine": lambda o: CosineAnnealingLR(o, T_max=25),
    "one cycle": lambda o: OneCycleLR(o, max_lr=1.0, total_steps=25),
}
shapes = pd.DataFrame(
    [
        {"schedule": name, "epoch": epoch, "rate": rate}
        for name, schedule in schedules.items()
        for epoch, rate in enumerate(rates_over(schedule, 25), start=1)
    ]
)
tc.plots.lines(
    shapes,
    "epoch",
    "rate",
    "schedule",
    title="Three schedules over 25 epochs",
    xlabel="epoch",
    ylabel="learning rate / its highest",
    percent=False,
)

# %% tags=["nbval-ignore-output"]
frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
before = tl.snapshot(model)
run = tl.fit(
    model,
    data,
    epochs=6,
    lr={g["name"]: g["lr"] for g in groups},
    optimizer=functools.partial(SGD, momentum=0.9),
    schedule=lambda optimizer: StepLR(optimizer, step_size=3, gamma=0.1),
    seed=SEED,
)
print(run)
run.history.round(4)

# %% tags=["nbval-ignore-output"]
run.plot()

# %%
moved = set(tl.changed(model, before))
assert moved
assert moved.isdisjoint(frozen), "a frozen parameter moved"
rates = run.history["lr"].tolist()
assert [round(rate / rates[0], 6) for rate in rates] == [1, 1, 1, 0.1, 0.1, 0.1]
chance = 1 / data.num_classes
tc.report_finding(
    "It learned, with a tenth of the learning rate from the fourth epoch on, and what was\n"
    "frozen stayed.",
    run.history.loc[run.kept_epoch, "val_accuracy"] > 1.5 * chance,
)

# %% [markdown]
# One run, one seed. It shows that the code works, and not that the recipe is good.
#
# ### The recipe against others
#
# Six recipes, everything trainable, 30 epochs on safari. SGD needs larger learning rates than AdamW, since it does not
# divide a step by the size of its gradients; each recipe has the best of three rates of its own.


# %% tags=["nbval-ignore-output"]
refinements = tc.load_results("refinements")
print(refinements)
recipes = refinements.against("safari", "AdamW, cosine", topic="recipe")
tc.in_points(recipes)

# %% tags=["claim-momentum-steplr"]
classic = recipes.loc["SGD with momentum, StepLR"]
print(
    f"The classic recipe: {classic.accuracy:.1%}, AdamW with a cosine: {recipes.loc['AdamW, cosine'].accuracy:.1%}.\n"
    f"Difference {100 * classic.gain:+.1f} points ({100 * classic.low:+.1f} to {100 * classic.high:+.1f})."
)
assert classic.low < 0 < classic.high
assert recipes["low"].max() < 0 < recipes["high"].min(), (
    "every recipe's interval contains zero"
)

# %% [markdown]
# The classic recipe is 2.4 points behind AdamW with a cosine, and the interval contains zero: no significant difference,
# and so for each of the others. Three rates were too few to settle it, though: every recipe chose the lowest or the
# highest of its three. So these runs do not name a best recipe.
#
# ## 4 A learning rate from a short trial
#
# `tl.find_lr` trains for a few steps with a rate that grows from step to step, and watches the loss (Smith 2017).
# Weights and statistics are given back afterwards. Where the loss falls fastest is a rate to begin with; where it is
# lowest is already too high.
# <!-- given: tlcourse/measurements/data/refinements.json -->

# %% tags=["nbval-ignore-output"]
trial_model = tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED)
tl.freeze(trial_model)
tl.unfreeze(trial_model, last=LAST)
before = tl.snapshot(trial_model)
trials = [
    tl.find_lr(trial_model, data, lr=1.0, steps=40, augment=False, seed=seed)
    for seed in (SEED, SEED + 1)
]
trials[0].plot()

# %% tags=["nbval-ignore-output"]
pd.DataFrame(
    {
        "falls fastest": [t.suggestion for t in trials],
        "is lowest": [t.highest for t in trials],
    },
    index=["one order of the images", "another order"],
)

# %%
assert tl.changed(trial_model, before) == []
assert all(1e-5 <= trial.suggestion <= trial.highest <= 1 for trial in trials)
print(
    "The weights are as they were, and every suggestion lies below the rate of the lowest loss."
)

# %% [markdown]
# Compare the two rows: the same network and the same images, in another order. A trial narrows the search down; it is not
# a measurement. It also speaks for the first steps only: the rate at which a new head learns fastest need not be the
# rate at which a pre-trained backbone ends best. That has to be measured on the validation set.
#
# ## 5 How large a learning rate?
#
# The rule says: small, since large steps destroy what the weights know. The whole network was trained for eight epochs,
# its head at a rate of 0.003, its backbone at the rates along the axis. (A rate of 0 is a frozen backbone: feature
# extraction.)

# %% tags=["nbval-ignore-output"]
rates = tc.load_results("rates")
print(rates)
tuned = rates.runs[rates.runs["lr"] > 0]
tc.plots.lines(
    tuned,
    "lr",
    "test",
    title="The backbone's learning rate and the new task",
    xlabel="learning rate of the backbone",
    ylabel="balanced accuracy, test set",
    log=True,
)

# %% tags=["nbval-ignore-output"]
rate_table = tc.compare_methods(rates.runs, "test", "lr")
rate_table.sort_index().round(3)

# %% [markdown]
# These intervals hold for other seeds, not for other drawings. Which rate should one have taken? The test set must not
# decide that, so the validation set does:

# %% tags=["claim-small-rate"]
on_validation = tuned.assign(score=tuned["val"].str[-1]).groupby("lr")["score"].mean()
best_rate = float(on_validation.idxmax())
tied_rates = sorted(rate_table.index[rate_table["no_significant_difference"]])
worse_rates = sorted(rate_table.index[~rate_table["no_significant_difference"]])
named = [", ".join(f"{r:g}" for r in some) for some in (tied_rates, worse_rates)]
print(f"Best on validation: {best_rate:g}. On the test set:")
print(f"the best, or no significant difference from it: {named[0]}; worse: {named[1]}.")
assert 1e-4 <= best_rate <= 1e-3
assert {1e-2, 3e-2} <= set(worse_rates)
assert 1e-5 in worse_rates

# %% [markdown]
# ### What is forgotten
#
# *Catastrophic forgetting* is the loss of the old task while the new one is learned. It can be measured: the old head
# was kept aside, and put back on the fine-tuned backbone. Does it still give its old answers on safari's test images?
# And does it still recognise the photographs that it was trained for?
#
# Two things can forget: the weights, and BatchNorm's running statistics, which follow the new images at any learning
# rate. To tell them apart the photographs are scored a second time, with the *old* statistics put back as well.

# %% tags=["nbval-ignore-output"]
kept = pd.concat(
    [
        tuned[["lr", "seed"]].assign(what=what, share=tuned[column].astype(float))
        for what, column in (
            ("old answers that are still given", "old_answers_kept"),
            ("photographs of the old task recognised", "source_accuracy"),
            ("the same, old statistics put back", "source_accuracy_old_statistics"),
        )
    ]
).dropna()
tc.plots.lines(
    kept,
    "lr",
    "share",
    "what",
    title="What the old head still knows on the fine-tuned backbone",
    xlabel="learning rate of the backbone",
    ylabel="share of images",
    log=True,
)

# %% tags=["nbval-ignore-output"]
knows = rates.runs.groupby("lr")[
    [
        "test",
        "old_answers_kept",
        "source_accuracy",
        "source_accuracy_old_statistics",
    ]
].mean()
knows.rename(index={0.0: "frozen"}).round(3)

# %% tags=["claim-forgetting"]
untouched = rates.mean("source_accuracy", lr=0.0)
at_best = rates.mean("source_accuracy", lr=best_rate)
smallest, largest = (tuned["lr"].agg(which) for which in ("min", "max"))
assert at_best < 0.5 * untouched
assert rates.mean("source_accuracy", lr=smallest) < 0.5 * untouched
assert rates.mean("source_accuracy_old_statistics", lr=smallest) > 0.8 * untouched
assert rates.mean("source_accuracy_old_statistics", lr=largest) < 0.2 * untouched
print(
    "At the rate that is best for the new task the old head is right about less than half as"
)
print(
    "many photographs as before. At the smallest rate too; but there BatchNorm's statistics"
)
print(
    "have done it, and with the old ones most of the old accuracy comes back. At the largest"
)
print("rate it does not come back: there the weights have forgotten.")

# %% [markdown]
# At a very small rate the weights keep the old task, and only BatchNorm's statistics lose it: as long as BatchNorm is in
# training mode, they move to the new images. This is the drift of 12.2.1 seen from the other side. At the rate that is
# best for the new task a third of the old accuracy is gone even with the old statistics. Whoever needs both tasks may
# try to keep BatchNorm frozen or to keep two sets of statistics; we did not measure that.
#
# Forgetting matters only if somebody still needs the old task. What matters for the new one is the first figure.
#
# ## 6 How many layers, for how much data?
#
# A common rule says: with few images train only the head, with more images unfreeze more layers. Here are four depths,
# training from scratch, and three numbers of different training images per class, on safari and on photographs of flowers:

# %% tags=["nbval-ignore-output"]
DEPTHS = {
    "head": "head only",
    "layer4": "+ last block",
    "layer3": "+ last two blocks",
    "everything": "everything",
    "scratch": "from scratch",
}
depth = refinements.scored[refinements.scored["topic"] == "depth"]
tc.plots.lines(
    depth.assign(trains=depth["method"].map(DEPTHS)),
    "per_class",
    "test",
    "trains",
    "data",
    title="Which layers train, by the number of training images",
    xlabel="different training images of each class",
    ylabel="balanced accuracy, test set",
    log=True,
)

# %% tags=["nbval-ignore-output"]
at_depth = {
    (name, count): refinements.against(name, "head", topic="depth", per_class=count)
    for name in ("safari", "flowers")
    for count in (10, 20, 40)
}
pd.DataFrame(
    {key: tc.in_points(table).iloc[:, 1].rename(DEPTHS) for key, table in at_depth.items()}
).loc[list(DEPTHS.values())]

# %% tags=["claim-few-images-head-only"]
few = {name: at_depth[name, 10].loc["everything"] for name in ("safari", "flowers")}
for name, row in few.items():
    print(
        f"{name}, 10 images of each class: everything {row.accuracy:.1%}, "
        f"{100 * row.gain:+.1f} points over the head ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    )
assert all(row.low > 0 for row in few.values())

# %% tags=["claim-more-data-deeper"]
growth = {
    name: 100 * (at_depth[name, 40].loc["everything"].gain - few[name].gain) for name in few
}
print("Gain of everything over the head, at 40 images minus at 10:")
print({name: f"{points:+.1f} points" for name, points in growth.items()})
for name, row in few.items():
    later = at_depth[name, 40].loc["everything"]
    assert later.low < row.gain < later.high, (
        "the lead at 10 lies in the interval of that at 40"
    )

# %% [markdown]
# The rule does not hold here. With only ten training images of each class, training everything beats the head by 5.6
# points on safari and 4.7 on flowers. Whether the lead grows with more images these runs cannot tell: the intervals of
# the leads are eight points wide. The fear behind the rule is overfitting; a small learning rate and stopping by
# validation work against it.
#
# Two limits. Validation had twenty more images of each class, which chose the rate and the epoch; whoever has only ten
# must do without them. And where everything trains, BatchNorm's statistics adapt to the new images, which alone gained
# 4.4 points in section 12.2.1: how much of the lead is theirs, this comparison does not say. Two things speak for the
# head alone: it takes a tenth to a twentieth of the computation, and section 7 shows data sets on which it is as good.
#
# ## 7 How distant is the new task?
#
# Another rule says: the less the new images resemble those of the source task, the more layers must be trained. How far
# apart two sets of images are can be measured. The *Fréchet distance* compares the means and covariances of the
# network's own features, here between the photographs it learned from and each data set.
# <!-- given: tlcourse/measurements/data/refinements.json and batchnorm.json -->

# %% tags=["nbval-ignore-output"]
transfer = tc.load_results("transfer")
choosing = tc.load_results("choosing").runs
distance = (
    choosing[choosing["network"] == "resnet18"]
    .groupby("data")["distance"]
    .mean()
    .sort_values()
)
compared = {
    name: transfer.against(name, "scratch", network="resnet18").loc[
        ["frozen", "everything"], "gain"
    ]
    for name in distance.index
}
gains = 100 * pd.DataFrame(compared).T
gains.insert(0, "distance", distance)
gains["tuned over frozen"] = gains["everything"] - gains["frozen"]
gains.round(1).rename(
    columns={"frozen": "frozen over scratch", "everything": "fine-tuned over scratch"}
)

# %% tags=["claim-domain-distance"]
rank = gains.corr(method="spearman")["distance"]
print(
    f"Rank correlation of the distance with what frozen features gain over scratch: {rank['frozen']:+.2f}"
)
print(
    f"and with what fine-tuning gains over frozen features: {rank['tuned over frozen']:+.2f}"
)
assert rank["frozen"] < -0.7
assert rank["tuned over frozen"] > 0.7

# %% [markdown]
# For ResNet18 on these six data sets the rule shows. On the two nearest, frozen and fine-tuned features do not differ
# significantly (ants and bees: frozen 2.3 points ahead). On the others fine-tuning gains 4.6 points on safari, 9.0 on
# flowers, 7.2 on chest X-rays and 14.5 on the drawn X-rays of *phantom*. Six data sets and one network are few, though:
# with EfficientNet-Lite0 the order is another one.
#
# On chest X-rays frozen features are even 7.0 points worse than training from scratch (95 % interval 3.8 to 10.6). That
# is **negative transfer**: features of another domain are worse than those learned from scratch on 600 radiographs.
# Fine-tuning repairs it, since the features may change.
#
# ## 8 All at once, or step by step?
#
# A new head starts with random weights. Its first gradients are large and carry no information, and they reach the
# backbone. Three methods reduce that. *Gradual unfreezing* trains the head first, then also the last block, and so on.
# *Discriminative learning rates* are smaller for earlier blocks (both Howard and Ruder 2018). *Probe first* trains the
# head until it stops improving, and then everything (Kumar et al. 2022). The first two, against plain fine-tuning on 20
# images of each class:
# <!-- given: tlcourse/measurements/data/transfer.json -->

# %% tags=["nbval-ignore-output"]
refined = {
    name: refinements.against(name, "plain", topic="refinement")
    for name in ("safari", "flowers")
}
pd.concat({name: tc.in_points(table) for name, table in refined.items()}, axis=1)

# %% tags=["claim-gradual"]
gradual = {name: table.loc["gradual unfreezing"] for name, table in refined.items()}
for name, row in gradual.items():
    print(
        f"{name}: gradual unfreezing {100 * row.gain:+.1f} points ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    )
assert all(row.low < 0 < row.high for row in gradual.values())

# %% tags=["claim-discriminative"]
smaller = {name: table.loc["discriminative rates"] for name, table in refined.items()}
for name, row in smaller.items():
    print(
        f"{name}: discriminative rates {100 * row.gain:+.1f} points ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    )
assert all(row.low < 0 < row.high for row in smaller.values())

# %% [markdown]
# Gradual unfreezing has the best mean on safari, 2.8 points ahead of plain fine-tuning, but the interval just contains
# zero. On flowers it is 0.6 behind. Neither method makes a significant difference here.
#
# Kumar et al. recommend probing first where the images to come differ from those of the training set. We trained on
# Fluent's drawings and tested on species that are not in the training set: by the same artists, and in three other
# styles.
# <!-- given: tlcourse/measurements/data/refinements.json -->

# %% tags=["nbval-ignore-output"]
shift = tc.load_results("shift")
print(shift)
STYLES = ("fluent", "openmoji", "noto", "twemoji")
probed = {
    (network, style): shift.against(
        style, "everything", right=f"right_{style}", network=network
    )
    for network in ("resnet18", "efficientnet_lite0")
    for style in STYLES
}
pd.DataFrame({key: tc.in_points(table).iloc[:, 1] for key, table in probed.items()}).T[
    ["frozen", "probe first"]
]

# %% tags=["claim-probe-first"]
first = [table.loc["probe first"] for table in probed.values()]
print(
    f"Probe first against everything at once: {min(100 * row.gain for row in first):+.1f} to "
    f"{max(100 * row.gain for row in first):+.1f} points; every interval contains zero."
)
assert all(row.low < 0 < row.high for row in first)

# %% [markdown]
# With tuned learning rates there is no significant difference, on other styles either. Frozen features have the lower
# mean on every style, significantly in half of the cases. So damage by fine-tuning was not seen; with intervals of
# about five points either way, some may exist.
#
# ### Averaging the weights before and after
#
# Wortsman et al. (2022) average the weights before and after fine-tuning, number by number. Before: the pre-trained
# backbone with a trained head. After: everything fine-tuned from there (*probe first*). The horizontal axis is the share
# of the fine-tuned weights; for the comparison below we fixed a share of 0.7.

# %% tags=["nbval-ignore-output"]
curves = shift.scored.dropna(subset="curve")
shares = shift.facts["settings"]["shares"]
averages = pd.DataFrame(
    [
        {
            "network": run.network,
            "seed": run.seed,
            "style": style,
            "share": share,
            "test": score,
        }
        for run in curves.itertuples()
        for style in STYLES
        for share, score in zip(shares, run.curve[style], strict=True)
    ]
)
tc.plots.lines(
    averages,
    "share",
    "test",
    "style",
    "network",
    title="Averages of the weights before (0) and after (1) fine-tuning",
    xlabel="share of the fine-tuned weights",
    ylabel="balanced accuracy, unseen species",
)

# %% tags=["claim-weight-average"]
wide = averages.groupby(["network", "seed", "share"])["test"].mean().unstack()
lead = 100 * (wide[0.7] - wide[1.0]).groupby("network").agg(["mean", "std"])
print(
    "An average with 0.7 of the fine-tuned weights, against these alone, over the four styles:"
)
print(
    "\n".join(
        f"{name}: {row['mean']:+.1f} ± {row['std']:.1f} points"
        for name, row in lead.iterrows()
    )
)
assert (lead["mean"].abs() < 2).all()

# %% [markdown]
# Over the four styles the average gains 1.2 ± 1.1 points for EfficientNet-Lite0 and loses 0.5 ± 0.9 for ResNet18: no
# reliable gain. Behind the mean are opposite changes. EfficientNet-Lite0 gains about three points on Noto and OpenMoji,
# and loses as much on Twemoji. Wortsman et al. averaged networks that had been pre-trained on hundreds of millions of
# images.
#
# ## 9 Against overfitting
#
# *Augmentation* shows other crops in every epoch. *Weight decay* pulls weights towards zero. *Dropout* sets random
# features to zero before the head. *Label smoothing* asks for less than full certainty. Plain fine-tuning already has
# mild augmentation and a weight decay of 0.01. Each was tuned with two strengths and three learning rates, plain
# fine-tuning with six learning rates. The table in section 8 has the results.
# <!-- given: tlcourse/measurements/data/shift.json -->

# %% tags=["claim-regularisation"]
REGULARISERS = (
    "dropout",
    "weight decay",
    "label smoothing",
    "strong augmentation",
    "no augmentation",
)
effects = {
    (name, kind): table.loc[kind]
    for name, table in refined.items()
    for kind in REGULARISERS
}
print(
    f"Gains over plain fine-tuning: {min(100 * row.gain for row in effects.values()):+.1f} to "
    f"{max(100 * row.gain for row in effects.values()):+.1f} points; every interval contains zero."
)
assert all(row.low < 0 < row.high for row in effects.values())

# %% [markdown]
# None of them makes a significant difference on 20 images of each class, once the learning rate is tuned and training
# stops by validation. Differences of less than about four points cannot be seen with so few test images and seeds; they
# may exist.
#
# ## 10 A decision guide
#
# | question | what the measurements say |
# |---|---|
# | Which layers? | Everything, at a small learning rate, from ten images of each class on. The head alone where time is short and the domain is near. |
# | A distant domain? | Do not rely on the head alone; compare with fine-tuning and with training from scratch. |
# | Which recipe? | None is shown to be better. Try several learning rates on validation images, more than three. |
# | All at once or step by step? | No significant difference. |
# | Against overfitting? | Stop by validation. More regularisation brought nothing that can be shown. |
# | Other images to come? | No method helped significantly. Measure on such images. |
#
# The guide is for this network and these images. On your data, measure: two or three depths, three learning rates, three
# seeds, chosen on the validation set.
#
# ## 11 The test, once

# %% tags=["nbval-ignore-output"]
final = data.test if data.test is not None else data.val
result = tl.evaluate(model, final)
print(repr(result))

# %%
tc.report_finding(
    "On images that nothing was chosen on: more than one and a half times as often right\n"
    "as guessing.",
    result.accuracy > 1.5 * chance,
)

# %% [markdown]
# ## Summary
#
# * **Workflow:** head, depth, rates, train, verify, test once.
# * **Parameter groups** give the new head a larger learning rate than the old layers. Schedules keep the proportions.
# * **The learning rate first:** find its order of magnitude before you compare anything else.
# * **Forgetting** of the old task can be measured, apart from how well the new one is learned.
# * **Depth:** fine-tuning everything at a tuned learning rate was never significantly worse. On the two nearest data sets
#   methods that train less have the higher mean, by up to 4 points.
# * **Distance:** the farther the domain, the worse are frozen features, down to negative transfer.
# * **No significant difference** between most refinements, once the learning rate is tuned.
#
# **What to try next**
#
# * Repeat the live run with three seeds (`TL_SEED`). Is the spread as large as the differences in the recipes' figure?
# * `tl.unfreeze(model)` and `tl.param_groups(model, 1e-2, factor=0.3)`: train everything with discriminative rates.
# * Choose the rate of section 5 with one seed at a time (`runs[runs["seed"] == 0]`). Is it always the same rate?
# * Set `DATA` to a folder of your own and measure two depths with three seeds.
# <!-- given: tlcourse/measurements/data/transfer.json -->

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
