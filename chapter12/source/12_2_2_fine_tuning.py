# %% [markdown]
# # 12.2.2 Fine-tuning
#
# Frozen features go a long way, but the backbone has never seen a drawing. It was trained on photographs, and some of what it
# learned there does not fit. **Fine-tuning** lets it adapt: some or all of its layers go on learning, gently. How gently, and
# which of them?
#
# **What you will learn**
#
# * the book's few lines that unfreeze the last block and the head, and what they leave out,
# * how large the learning rate may be, and how much of the old task is forgotten,
# * how many layers to train, for how much data and how distant a task,
# * which refinements pay, and how to read a comparison that finds no difference.
#
# **Time:** twenty minutes to read; one or two minutes of computing on 2 CPU cores in the quick profile.

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

# %% tags=["nbval-ignore-output"]
profile = tl.use_profile()
QUICK = profile.name == "quick"
DATA = profile.data
ARCH = "resnet18"  # the book's; the stored measurements are of this network
SIZE = 64 if QUICK else None  # pixels; None is the size the weights were trained on
SEED = profile.seed
print(profile)

# %% [markdown]
# **The quick profile** takes *safari*, drawings on made-up backgrounds, and a ResNet18 that we trained on small photographs, in
# place of photographs and torchvision's weights.
#
# **Stored measurements.** One run proves little, so the comparisons below were made beforehand, with five seeds and images of
# 64 pixels. Each method was trained until its validation accuracy stopped improving, at the best of three or more learning
# rates, chosen for each method on validation images. (The figure of learning rates has a fixed eight epochs.) A *gain* is in
# percentage points; its 95 % interval allows for other seeds and other drawings. If it contains zero, there is **no
# significant difference**: the measurement cannot say which is better.
# <!-- given: the settings in tlcourse/measurements/data -->
#
# ## 1 Which layers move: two lines

# %% tags=["nbval-ignore-output"]
data = tl.load_data(DATA, **({"size": 72} if DATA == "safari" else {}))
model = tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED)
for name, parameter in model.named_parameters():
    parameter.requires_grad = "layer4" in name or "fc" in name

trainable = filter(lambda p: p.requires_grad, model.parameters())
optimizer = torch.optim.Adam(trainable, lr=1e-4)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.blocks(
    {"last block": ["layer4", "head"]},
    title="What these lines train: the last block and the new head",
)

# %% [markdown]
# So the book writes it. Two things are missing. BatchNorm in the frozen blocks still moves
# ([12.2.1](12_2_1_feature_extraction.ipynb)), and the new head gets the same small [learning
# rate](glossary.ipynb#Learning-rate) as layers that are good already. `tl.freeze` and `tl.unfreeze` mend the first:

# %% tags=["nbval-ignore-output"]
tl.unfreeze(tl.freeze(model), last=1)
tl.trainable_table(model)

# %% jupyter={"source_hidden": true}
table = tl.trainable_table(model)
share = table.loc["total", "trainable"] / table.loc["total", "parameters"]
print(f"{share:.0%} of all parameters train")
assert share > 0.5

# %% [markdown]
# "Only the last block" is not a small change: it holds three quarters of the parameters.
# <!-- given: the line above -->
#
# ## 2 How fast: parameter groups and a schedule
#
# An optimizer takes a list of [**groups**](glossary.ipynb#Parameter-group), each with a learning rate of its own. The head is
# new and has far to go; `layer4` is good already and gets a tenth. The book trains with SGD, a momentum of 0.9, and *StepLR*,
# which multiplies all learning rates by `gamma` after every `step_size` epochs:
# <!-- given: the book's settings -->

# %% tags=["nbval-ignore-output"]
groups = [
    {"name": "layer4", "params": model.layer4.parameters(), "lr": 1e-3},
    {"name": "head", "params": model.fc.parameters(), "lr": 1e-2},
]
run = tl.fit(
    model,
    data,
    epochs=6,
    lr={group["name"]: group["lr"] for group in groups},
    optimizer=functools.partial(SGD, momentum=0.9),
    schedule=lambda optimizer: StepLR(optimizer, step_size=3, gamma=0.1),
    seed=SEED,
)
run.plot()

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
accuracy, chance = run.history.loc[run.kept_epoch, "val_accuracy"], 1 / data.num_classes
print(
    f"{accuracy:.0%} of the validation images are right after epoch {run.kept_epoch}; guessing gives {chance:.1%}.\n"
    "Six epochs are short: the comparisons below train each method to the end."
)
rates = run.history["lr"].tolist()
assert [round(rate / rates[0], 6) for rate in rates] == [1, 1, 1, 0.1, 0.1, 0.1]

# %% [markdown]
# Other [schedules](glossary.ipynb#Schedule) fall smoothly (*cosine*), or rise first and then fall (*one cycle*). All groups
# change by the same factor:


# %% jupyter={"source_hidden": true}
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
    ylabel="learning rate, relative to its maximum",
    percent=False,
)

# %% [markdown]
# ### How large may the learning rate be?
#
# Before reading on, guess: at which learning rate does fine-tuning become worse than leaving the backbone frozen? The whole
# network was trained for eight epochs, its head at 0.003, its backbone at the learning rates along the axis.
# <!-- given: the settings in tlcourse/measurements/data/rates.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
rates = tc.load_results("rates")
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

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
rate_table = tc.compare_methods(rates.runs, "test", "lr")

# %% jupyter={"source_hidden": true} tags=["claim-small-rate"]
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
# At 0.0003 the network is right on 56 % of the test images, frozen on 49 %. At 0.01 the gain is gone, and at 0.03 it is at 35
# %: such large steps destroy the pre-trained features. Hence the rule: **fine-tune with a small learning rate, and try
# several on validation images.**
# <!-- given: tlcourse/measurements/data/rates.json -->
#
# And the old task? The old head was kept aside and put back on the fine-tuned backbone. This [**catastrophic
# forgetting**](glossary.ipynb#Catastrophic-forgetting) has two causes: the weights, and BatchNorm's running statistics. To
# tell them apart, the photographs are scored a second time with the *old* statistics put back.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
kept = pd.concat(
    [
        tuned[["lr", "seed"]].assign(what=what, share=tuned[column].astype(float))
        for what, column in (
            ("photographs of the old task recognised", "source_accuracy"),
            ("the same, old statistics put back", "source_accuracy_old_statistics"),
        )
    ]
).dropna()
untouched = rates.mean("source_accuracy", lr=0.0)
tc.plots.lines(
    kept,
    "lr",
    "share",
    "what",
    title=f"What the old head still recognises on the fine-tuned backbone (untouched: {untouched:.0%})",
    xlabel="learning rate of the backbone",
    ylabel="share of images",
    log=True,
)

# %% jupyter={"source_hidden": true} tags=["claim-forgetting"]
at_best = rates.mean("source_accuracy", lr=best_rate)
smallest, largest = (tuned["lr"].agg(which) for which in ("min", "max"))
assert at_best < 0.5 * untouched
assert rates.mean("source_accuracy", lr=smallest) < 0.5 * untouched
assert rates.mean("source_accuracy_old_statistics", lr=smallest) > 0.8 * untouched
assert rates.mean("source_accuracy_old_statistics", lr=largest) < 0.2 * untouched
old = {
    lr: [
        rates.mean(column, lr=lr)
        for column in ("source_accuracy", "source_accuracy_old_statistics")
    ]
    for lr in (smallest, best_rate, largest)
}
print(
    f"Photographs of the old task that the old head recognises: {untouched:.0%} untouched."
)
for lr, (now, restored) in old.items():
    print(
        f"Fine-tuned at {lr:g}: {now:.0%}; with the old statistics put back {restored:.0%}."
    )

# %% [markdown]
# At the smallest learning rate the weights keep the old task, and only the statistics lose it. At the largest the weights have
# forgotten it. Forgetting matters only if somebody still needs the old task.
#
# `tl.find_lr` narrows the search: it trains for a few steps while the learning rate grows, and watches the loss (Smith 2017).
# Take the learning rate where the loss falls fastest as the upper end, and try it, a third and a tenth of it on validation
# images.

# %% tags=["nbval-ignore-output"]
trial_model = tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED)
tl.unfreeze(tl.freeze(trial_model), last=1)
before = tl.snapshot(trial_model)
trial = tl.find_lr(trial_model, data, lr=1.0, steps=40, augment=False, seed=SEED)
trial.plot()

# %% jupyter={"source_hidden": true}
assert tl.changed(trial_model, before) == []
assert 1e-5 <= trial.suggestion <= trial.highest <= 1
print("Afterwards the weights are as they were.")

# %% [markdown]
# ## 3 How many layers, for how much data?
#
# A common rule says: with few images train only the head, with more unfreeze more layers. Measured on drawings and on
# photographs of flowers:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
refinements = tc.load_results("refinements")
DEPTHS = {
    "head": "head only",
    "layer4": "last block",
    "layer3": "last two blocks",
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

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
at_depth = {
    (name, count): refinements.against(name, "head", topic="depth", per_class=count)
    for name in ("safari", "flowers")
    for count in (10, 20, 40)
}
pd.DataFrame(
    {key: tc.in_points(table).iloc[:, 1].rename(DEPTHS) for key, table in at_depth.items()}
).loc[list(DEPTHS.values())]

# %% jupyter={"source_hidden": true} tags=["claim-few-images-head-only"]
few = {name: at_depth[name, 10].loc["everything"] for name in ("safari", "flowers")}
for name, row in few.items():
    print(
        f"{name}, 10 images of each class: everything {row.accuracy:.1%}, "
        f"{100 * row.gain:+.1f} points over the head ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    )
assert all(row.low > 0 for row in few.values())

# %% jupyter={"source_hidden": true} tags=["claim-more-data-deeper"]
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
# The rule does not hold here. With ten images of each class, training everything beats the head alone by 5.6 points on safari
# and 4.7 on flowers. Whether the lead grows with more images these runs cannot tell. The fear behind the rule is overfitting;
# a small learning rate and stopping by validation work against it.
#
# > **Careful.** Validation had twenty more images of each class. And where everything trains, BatchNorm's statistics adapt too;
# > how much of the lead is theirs, this does not say.
# <!-- given: tlcourse/measurements/data/refinements.json -->
#
# ## 4 How distant is the new task?
#
# Another rule says: the less the new images resemble the old ones, the more layers must train. The *Fréchet distance* compares
# means and covariances of the network's features, between the photographs it learned from and each data set:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
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

# %% jupyter={"source_hidden": true} tags=["claim-domain-distance"]
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
# For this network the rule shows. On the two nearest data sets, ants and bees (*hymenoptera*) and cats and dogs, frozen and
# fine-tuned features do not differ significantly. On the others fine-tuning gains 4.6 points on safari, 9.0 on flowers, 7.2
# on chest X-rays, 14.5 on drawn X-rays (*phantom*). On chest X-rays frozen features are even 7.0 points worse than training
# from scratch: [**negative transfer**](glossary.ipynb#Negative-transfer). Six data sets and one network are few, though: with
# EfficientNet-Lite0 the order is another one.
# <!-- given: tlcourse/measurements/data/transfer.json -->
#
# ## 5 Which refinements pay?
#
# A new head sends large, uninformed gradients into the backbone at first. [*Gradual
# unfreezing*](glossary.ipynb#Gradual-unfreezing) trains the head first, then the last block too, and so on (Howard and Ruder
# 2018). Grey blocks are frozen:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.blocks(
    {
        "epochs 1, 2": ["head"],
        "epochs 3, 4": ["layer4", "head"],
        "epochs 5, 6": ["layer3", "layer4", "head"],
    },
    title="A timetable of gradual unfreezing",
)

# %% tags=["nbval-ignore-output"]
staged = tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED)
for last in (0, 1, 2):  # the head; layer4 too; layer3 too
    tl.unfreeze(tl.freeze(staged), last=last)
    stage = tl.fit(staged, data, epochs=2, lr=3e-4 if last else 3e-3, seed=SEED)
    print(f"head and {last} blocks: {stage.history['val_accuracy'].max():.0%}")

# %% [markdown]
# [*Discriminative learning rates*](glossary.ipynb#Discriminative-learning-rates) are smaller for earlier blocks (the same
# authors). Against overfitting there are [*augmentation*](glossary.ipynb#Augmentation) (other crops in every epoch; *strong*:
# crops from 8 or 25 % of the area), [*weight decay*](glossary.ipynb#Weight-decay) (weights are pulled towards zero, by 0.1 or
# 1), [*dropout*](glossary.ipynb#Dropout) (20 or 50 % of the features are set to zero) and [*label
# smoothing*](glossary.ipynb#Label-smoothing) (the loss asks for 90 or 80 % certainty). Each was tuned like plain fine-tuning,
# on 20 images of each class:
# <!-- given: the settings in tlcourse/measurements/data/refinements.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
refined = {
    name: refinements.against(name, "plain", topic="refinement")
    for name in ("safari", "flowers")
}
pd.concat({name: tc.in_points(table) for name, table in refined.items()}, axis=1)

# %% jupyter={"source_hidden": true} tags=["claim-gradual"]
gradual = {name: table.loc["gradual unfreezing"] for name, table in refined.items()}
for name, row in gradual.items():
    print(
        f"{name}: gradual unfreezing {100 * row.gain:+.1f} points ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    )
assert all(row.low < 0 < row.high for row in gradual.values())

# %% jupyter={"source_hidden": true} tags=["claim-discriminative"]
smaller = {name: table.loc["discriminative rates"] for name, table in refined.items()}
for name, row in smaller.items():
    print(
        f"{name}: discriminative learning rates {100 * row.gain:+.1f} points ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    )
assert all(row.low < 0 < row.high for row in smaller.values())

# %% jupyter={"source_hidden": true} tags=["claim-regularisation"]
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

# %% jupyter={"source_hidden": true} tags=["claim-momentum-steplr"]
recipes = refinements.against("safari", "AdamW, cosine", topic="recipe")
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
# None makes a significant difference, once the learning rate is tuned and training stops by validation. Gradual unfreezing
# comes nearest, 2.8 points ahead on safari. Differences of less than about four points cannot be seen with so few test images
# and seeds; they may exist. The same holds for optimizers and schedules: each recipe chose the lowest or the highest of its
# three learning rates, so these runs do not name a best one.
# <!-- given: tlcourse/measurements/data/refinements.json -->
#
# [12.2.3](12_2_3_modern_practice.ipynb) tries newer habits: training the head first, averaging weights, LoRA.
#
# ## 6 A decision guide
#
# Many or few images, photographs or other images? Textbooks draw this square. Here it is filled with measured test accuracies:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
of_depth = depth.groupby(["data", "per_class", "method"])["test"].mean()
resnet = transfer.scored.query("network == 'resnet18'")
of_data = resnet.groupby(["data", "method"])["test"].mean()
METHODS = {"from scratch": "scratch", "head only": "frozen", "everything": "everything"}


def corner(what, scores, head, x, y):
    """A box with the accuracies of the three methods, in the colour of the best."""
    found = {
        shown: scores[head if name == "frozen" else name] for shown, name in METHODS.items()
    }
    lines = [what, *(f"{shown} {value:.0%}" for shown, value in found.items())]
    colour = tc.plots.METHOD_COLOURS[max(found, key=found.get)]
    return tc.plots.Box("\n".join(lines), x, y, colour, 2.6, 1.2)


corners = {
    "few": tc.plots.Box("10 images of each class", 0, 1, "none", 2.6, 0.4),
    "many": tc.plots.Box("100 to 300 of each class", 3, 1, "none", 2.6, 0.4),
    "near": tc.plots.Box("photographs", -2, 0, "none", 1.2, 0.4),
    "far": tc.plots.Box("other\nimages", -2, -1.5, "none", 1.2, 0.4),
    "a": corner("flowers", of_depth["flowers", 10], "head", 0, 0),
    "b": corner("ants and bees", of_data["hymenoptera"], "frozen", 3, 0),
    "c": corner("drawings (safari)", of_depth["safari", 10], "head", 0, -1.5),
    "d": corner("chest X-rays", of_data["chest_xray"], "frozen", 3, -1.5),
}
tc.plots.flow(
    {"": (corners, [])},
    title="Balanced accuracy, ResNet18, five seeds; the colour is that of the highest",
    height=3.4,
)

# %% [markdown]
# Fine-tuning everything is ahead in three corners. On ants and bees the frozen backbone has the higher mean, without a
# significant difference. On chest X-rays training from scratch is level with fine-tuning: there are enough images, and
# photographs help little.
# <!-- given: tlcourse/measurements/data/transfer.json -->
#
# | question | what the measurements say |
# |---|---|
# | Which layers? | Everything, at a small learning rate, from ten images of each class on. The head alone where time is short and the domain is near. |
# | A distant domain? | Do not rely on the head alone; compare with fine-tuning and with training from scratch. |
# | Which recipe? | None is shown to be better. Try several learning rates on validation images, more than three. |
# | All at once or step by step? | No significant difference. |
# | Against overfitting? | Stop by validation. More regularisation brought nothing that can be shown. |
#
# The guide is for this network and these images. On yours, measure: two or three depths, five learning rates, three seeds, chosen
# on the validation set. If the best learning rate is the lowest or highest you tried, go on in that direction. Then open the test set, once:

# %% tags=["nbval-ignore-output"]
final = data.test if data.test is not None else data.val
result = tl.evaluate(model, final)
print(f"{result}; guessing gives {chance:.1%}")

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "Far from guessing on images that nothing was chosen on, too.",
    result.accuracy > 1.5 * chance,
)

# %% [markdown]
# ## Check yourself
#
# **1.** In the figure of learning rates, why does the curve fall on the right?
#
# <details><summary>Answer</summary>
#
# The large steps destroy the pre-trained features, and training itself goes badly: at 0.03 fewer than half of the training
# images are right after eight epochs.
# </details>
#
# **2.** Look at the old task at the smallest learning rate. Which of the two curves shows what the *weights* have kept?
#
# <details><summary>Answer</summary>
#
# The one with the old statistics put back. It is nearly as high as before, so the loss at this learning rate is BatchNorm's.
# </details>
#
# **3.** Two methods differ by two points, and the interval contains zero. May you take the cheaper one?
#
# <details><summary>Answer</summary>
#
# Yes, because it is cheaper; say so. "No significant difference" is not evidence that the two are equal.
# </details>
#
# ## Summary
#
# * **Unfreeze by name**, give the head a larger learning rate, and keep frozen BatchNorm in evaluation mode.
# * **The learning rate comes first.** Too large a one destroys the features; try several on validation images.
# * **Depth:** training everything at a tuned learning rate was never significantly worse than the head alone.
# * **Distance:** the farther the domain, the worse are frozen features, down to negative transfer.
# * **Refinements** made no significant difference, once learning rate and stopping were right.
#
# **What to try next**
#
# * Repeat the live run with `TL_SEED=1` and `2`. Is the spread as large as the differences in the tables?
# * `tl.unfreeze(model)` and `tl.param_groups(model, 1e-3, factor=0.5)`: train everything, and expect a few points more.
# * Set `"lr"` of `layer4` to `3e-2` in section 2. What happens to the validation accuracy?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
