# %% [markdown]
# # Lab 5: normal or pneumonia on chest X-rays
#
# > *The chapter's exercise 5:* "Fine-tune a pre-trained model to classify chest X-rays as normal or pneumonia; report
# > the accuracy and your observations."
#
# To train such a network takes minutes. What takes thought is the report: how good is it, for whom, and how sure is
# that?
#
# **What you will learn**
#
# * to split by patient, and to compute the numbers of a clinical report,
# * to fine-tune with class weights, and to choose a threshold on the validation set,
# * to evaluate the test set once, and to say what the result means,
# * in the extension: to give an interval by patient, and to expose a shortcut.
#
# **Time:** core 85 minutes, extension 60 minutes; the cells take about a minute on 2 CPU cores.
# <!-- given: sums of the minutes of the exercises -->
#
# Replace each `...` and run the cell. The check below it says ✓, or ✗ and what to look at.

# %% tags=["student"]
STUDENT = ""  # your name or number, if your teacher collects the notebooks

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import numpy as np
import pandas as pd
import torch
from IPython.display import display
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile(precision="fp32")
QUICK = profile.name == "quick"
ARCH = "efficientnet_lite0"
SIZE = 128 if QUICK else 224  # pixels
SEED = profile.seed

# %%
lab = tc.Lab("lab5_xray_pneumonia")
lab.progress()

# %% [markdown]
# The quick profile draws *phantoms*: computed X-ray images of made-up chests. **They are not patients, and no number
# measured on them is a medical result.** In the full profile the images are radiographs of children (Kermany et al.
# 2018): from the folder that the environment variable `TL_DATA` names, or PneumoniaMNIST.

# %% tags=["nbval-ignore-output"]
import os

PHANTOMS = {"size": SIZE, "patients": 250, "prevalence": 0.7, "seed": SEED}
PHANTOMS |= {"val_patients": 1, "test_patients": 1}  # we divide the patients ourselves
if QUICK:
    source = tl.load_data("phantom", **PHANTOMS)
elif os.environ.get("TL_DATA"):
    source = tl.load_data("chest_xray", root=os.environ["TL_DATA"], seed=SEED)
else:
    source = tl.load_data("pneumonia_mnist", size=224)
pool = source.train
labels = pool.labels.numpy()  # 1 is pneumonia
patients = np.array(pool.groups or pool.keys)  # PneumoniaMNIST does not name patients
print(pool, "of", len(set(patients)), "patients")
pool.show(8, seed=SEED)

# %% [markdown]
# ## 1 Split by patient
#
# **Difficulty** ●●○ · **12 minutes** · **3 points** · **Why it matters:** images of one patient resemble each other.
# If a patient is in both training and test set, the test also measures memory.
#
# Divide the images into training, validation and test set, about 60, 20 and 20 % of them. `divide` takes the patient
# and the label of each image and a seed. It returns three arrays of row numbers, that is, positions in `labels`. All
# images of a patient go into one split, and the fraction of pneumonia is similar in each.
# <!-- given: the proportions are chosen for this lab -->
#
# <details><summary>Hint 1</summary>
#
# `StratifiedGroupKFold(5, shuffle=True, random_state=seed)` makes five folds that divide no group.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `split(patients, labels, patients)` (of the first only the length counts; the third are the groups) yields pairs; the
# second of each pair holds a fold's row numbers.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Five folds by patient: three for training (`np.concatenate`), one each for validation and test.
#
# </details>


# %% tags=["answer"]
def divide(patients, labels, seed):
    """Row numbers of the training, validation and test images."""
    # BEGIN ANSWER
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    fifths = [rows for _, rows in folds.split(patients, labels, patients)]
    return np.concatenate(fifths[2:]), fifths[1], fifths[0]
    # END ANSWER


# %% tags=["check"] points=3
lab.check("divide", divide)

# %% [markdown]
# Until yours is right, every fifth patient goes into the validation set and every fifth into the test set.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("divide"):
    parts = divide(patients, labels, SEED)
else:
    fifth = np.unique(patients, return_inverse=True)[1] % 5
    parts = [
        np.flatnonzero(fifth < 3),
        np.flatnonzero(fifth == 3),
        np.flatnonzero(fifth == 4),
    ]
rows = [np.sort(np.asarray(part)) for part in parts]
data = tl.ImageData(source.name, *(pool.select(part) for part in rows), source.card)
pd.DataFrame(
    [(len(part), len(set(patients[part])), f"{labels[part].mean():.0%}") for part in rows],
    ["training", "validation", "test"],
    ["images", "patients", "pneumonia"],
)

# %% [markdown]
# ## 2 Four numbers
#
# **Difficulty** ●●○ · **10 minutes** · **3 points** · **Why it matters:** where most images show pneumonia, a program
# that always says *pneumonia* has a high accuracy, and is useless.
#
# `numbers` takes scores (the higher, the more ill), labels (1 is ill) and a threshold. It returns a dictionary with
# `"sensitivity"` (the fraction of the ill that is called ill), `"specificity"` (the fraction of the normal that is
# called normal), their mean `"balanced accuracy"`, and `"AUC"`: the probability that a random
# ill image scores higher than a random normal one (guessing gives a half). A score **at** the threshold means ill.
#
# <details><summary>Hint 1</summary>
#
# `called = scores >= threshold`; then take means over `labels == 1` and over `labels == 0`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The AUC needs no threshold: `roc_auc_score(labels, scores)`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two means over two selections, their mean, and a function of scikit-learn that takes scores, not decisions.
#
# </details>


# %% tags=["answer"]
def numbers(scores, labels, threshold):
    """The four numbers, as fractions."""
    # BEGIN ANSWER
    called = scores >= threshold
    sensitivity, specificity = called[labels == 1].mean(), (~called[labels == 0]).mean()
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced accuracy": (sensitivity + specificity) / 2,
        "AUC": roc_auc_score(labels, scores),
    }
    # END ANSWER


# %% tags=["check"] points=3
lab.check("numbers", numbers)

# %% [markdown]
# Two baselines on the validation set: always *pneumonia*, and logistic regression on *thumbnails* of 16 × 16 pixels. A
# network has to beat both.
# <!-- given: the size of a thumbnail -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
from sklearn.linear_model import LogisticRegression

small = [pool.image(i).convert("L").resize((16, 16)) for i in range(len(pool))]
small = np.stack([np.asarray(image, dtype=np.float32).ravel() for image in small]) / 255
simple = LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced")
simple.fit(small[rows[0]], labels[rows[0]])
baselines = {
    "always pneumonia": np.ones(len(data.val)),
    "thumbnails": simple.predict_proba(small[rows[1]])[:, 1],
}
val_labels = data.val.labels.numpy()
if lab.ready("numbers"):
    table = {name: numbers(scores, val_labels, 0.5) for name, scores in baselines.items()}
    display(pd.DataFrame(table).T.round(2))
print(f"Accuracy of always saying pneumonia: {val_labels.mean():.0%}")

# %% [markdown]
# ## 3 Class weights
#
# **Difficulty** ●○○ · **7 minutes** · **2 points** · **Why it matters:** unweighted, the loss favours the frequent
# class.
#
# `class_weights` takes a tensor of labels and returns a float tensor of two weights. With them both classes weigh the
# same in the loss.
#
# <details><summary>Hint 1</summary>
#
# The fewer images a class has, the larger the weight of each.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.bincount(labels)` counts. Weight times count should be equal for both classes.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The number of images, divided by twice the count of the class.
#
# </details>


# %% tags=["answer"]
def class_weights(labels):
    """A weight for each class: a float tensor of two."""
    # BEGIN ANSWER
    counts = torch.bincount(labels, minlength=2)
    return len(labels) / (2 * counts.float())
    # END ANSWER


# %% tags=["check"] points=2
lab.check("weights", class_weights)

# %% [markdown]
# ## 4 Fine-tune
#
# **Difficulty** ●●● · **18 minutes** · **5 points** · **Why it matters:** the last blocks adapt to X-rays, the earlier
# ones stay as ImageNet trained them.
#
# Load `ARCH` with its pre-trained weights for `data.classes`, at `SIZE` pixels. Freeze it. Unfreeze the last two blocks
# and the head. Train for 8 epochs with `tl.fit`, at a learning rate of 0.001 and with `augment=False`: without
# augmentation the outputs of the frozen blocks are computed once and used in every epoch. Take cross-entropy with your
# class weights. Keep the network as `model`, and what `tl.fit` returns as `run`.
# <!-- given: settings chosen for this lab on validation images -->
#
# <details><summary>Hint 1</summary>
#
# `tl.load_model`, `tl.freeze`, `tl.unfreeze(model, last=...)`: `last` counts blocks, and the head always trains too.
# `tl.trainable_table(model)` shows what trains.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `tl.fit` has an argument `loss`: an `nn.CrossEntropyLoss` whose weights come from the labels of the training set.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Load, freeze, unfreeze, fit: all in one cell, so that running it again begins anew.
#
# </details>

# %% tags=["answer", "nbval-ignore-output"]
# BEGIN ANSWER: model, run
model = tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED)
tl.freeze(model)
tl.unfreeze(model, last=2)
loss = nn.CrossEntropyLoss(weight=class_weights(data.train.labels))
run = tl.fit(model, data, epochs=8, lr=1e-3, augment=False, loss=loss, seed=SEED)
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=5
lab.check("train", model, run, data=data)


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def log_odds(model, split):
    """How strongly each image speaks for pneumonia: second logit minus first, an array."""
    logits = tl.evaluate(model, split).logits.double()
    return (logits[:, 1] - logits[:, 0]).numpy()


val_odds = np.zeros(len(data.val))
if lab.ready("train"):
    val_odds = log_odds(model, data.val)
    print("Log-odds and their probabilities of pneumonia, first three validation images:")
    print(val_odds[:3].round(2), tc.to_probabilities(val_odds[:3]).round(3))
val_scores = tc.to_probabilities(val_odds)
if lab.ready("train", "numbers"):
    table["fine-tuned"] = numbers(val_scores, val_labels, 0.5)
    display(pd.DataFrame(table).T.round(2))
    display(run.plot())

# %% [markdown]
# Compare the two losses in the figure. Where the training loss falls on while the validation loss stays or rises, the network
# overfits. `tl.fit` keeps the epoch with the best validation accuracy. The *log-odds* of an image are the logit of pneumonia
# minus that of normal: above 0 means a probability above a half. `tc.to_probabilities` makes probabilities of them.
#
# ## 5 The threshold
#
# **Difficulty** ●●○ · **10 minutes** · **3 points** · **Why it matters:** a threshold chosen on the test set makes the
# result too good.
#
# Missing a pneumonia is worse than a false alarm. Suppose that nine in ten must be found. `choose_threshold` returns
# the **highest** threshold at which at least this fraction of the ill is found. Then compute `threshold` for a
# sensitivity of 0.9 from `val_scores`, the probabilities of pneumonia of the validation images, and `val_labels`.
# <!-- given: the need is chosen for this lab -->
#
# <details><summary>Hint 1</summary>
#
# Only the scores of the ill matter. Sort them, the highest first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Of `n` ill, `np.ceil(sensitivity * n)` have to be at or above the threshold.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# The k-th highest score of the ill, where k is the number that must be found.
#
# </details>


# %% tags=["answer"]
def choose_threshold(scores, labels, sensitivity):
    """The highest threshold that finds at least this fraction of the ill."""
    # BEGIN ANSWER
    ill = np.sort(scores[labels == 1])[::-1]
    needed = int(np.ceil(round(sensitivity * len(ill), 6)))
    return ill[needed - 1]
    # END ANSWER


# BEGIN ANSWER: threshold
threshold = choose_threshold(val_scores, val_labels, 0.9)
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=3
lab.check(
    "threshold",
    choose_threshold,
    threshold,
    val_scores=val_scores,
    val_labels=val_labels,
    model=model,
    data=data,
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("train", "threshold"):
    at = np.log(threshold / (1 - threshold))  # the figure has log-odds on its axis
    title = "Validation set, with the chosen threshold"
    display(tc.plots.threshold(val_odds, val_labels, at, classes=data.classes, title=title))
    title = "Validation set: the worst errors"
    display(tc.plots.worst_errors(data.val, val_scores, threshold, title=title))

# %% [markdown]
# A higher sensitivity costs specificity. Look at the errors: are the opacities faint, or hidden?
#
# ## 6 The test set, once
#
# **Difficulty** ●●○ · **12 minutes** · **4 points** · **Why it matters:** if you look at the test result, change
# something and look again, you are tuning on the test set.
#
# `tc.ClinicalReport("...")`, with a few words on the model, records every evaluation. Make a `report`. Call its
# `evaluate` **once**, for the test set: log-odds, labels and patients (`data.test.groups`), your `threshold`, and
# `subtypes` as `subgroups`. The given function `log_odds(model, split)` returns log-odds. The bacterial phantoms have
# few dense opacities, the viral ones many faint ones.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if QUICK:
    subtypes = tc.phantom_table(data.test)["subtype"].replace("none", "normal").to_numpy()
else:  # the folder's file names tell bacteria from virus; PneumoniaMNIST does not
    kinds = pd.Series(data.test.keys).str.lower().str.extract("(bacteria|virus)")[0]
    names = [data.classes[label] for label in data.test.labels.tolist()]
    subtypes = kinds.fillna(pd.Series(names)).to_numpy()
print("subtypes:", pd.Series(subtypes).value_counts().to_dict())

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Keep the report, not what `evaluate` returns.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `report.evaluate(log_odds(model, data.test), data.test.labels, ...)`; labels and patients must be the test set's. Leave the
# threshold a probability: the report converts the log-odds itself.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Report and evaluation in one cell: running it again makes a new report.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: report
report = tc.ClinicalReport("EfficientNet-Lite0, last two blocks fine-tuned")
first_look = report.evaluate(
    log_odds(model, data.test),
    data.test.labels,
    data.test.groups or data.test.keys,
    threshold=threshold,
    subgroups=subtypes,
)
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=4
lab.check("report", report, threshold=threshold, model=model, data=data)


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def found_rows(first, subtypes):
    """Of each subgroup the fraction called rightly, with an interval that counts patients."""
    rows = first.table.loc[["AUC", "balanced accuracy", "sensitivity", "specificity"]]
    rows, owners = rows.copy(), np.array(data.test.groups or data.test.keys)
    for name, row in first.subgroups.iterrows():
        value = row["sensitivity"] if row["ill"] else row["specificity"]
        people = len(set(owners[subtypes == name]))
        ends = tl.wilson_interval(round(value * people), people)
        rows.loc[f"{name}: right, {people} patients"] = (value, *ends)
    return rows


if lab.ready("report"):
    print(report)
    found = found_rows(report.evaluations[0], subtypes)
    chart = tc.plots.intervals(
        found,
        title="Test set (dashed: AUC and balanced accuracy of guessing)",
        xlabel="value and 95 % interval by patient",
        line=0.5,
    )
    display(chart)

# %% [markdown]
# Look again without a reason, and the report refuses:

# %%
if lab.ready("report"):
    try:
        report.evaluate([0.0], [1], ["p1"], threshold=0.5)
    except tc.ReportError as error:
        print(error)

# %% [markdown]
# ## 7 Observations
#
# **Difficulty** ●●○ · **16 minutes** · **5 points** · **Why it matters:** this is the exercise's second half. Numbers
# need words.
#
# Write 60 words or more. How good is the network on the test set, and how sure is that? Does it beat the baselines on the
# *validation* set, in the table after exercise 4? Was
# the sensitivity reached that you asked for? For which subgroup does it work worse, and can so few patients show it?
# End with one honest sentence on what this network may be used for.
#
# <details><summary>Hint 1</summary>
#
# Quote numbers with their intervals. Compare on the same split.
#
# </details>
# <details><summary>Hint 2</summary>
#
# If the intervals of two subgroups overlap widely, the test set cannot show a difference.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Number, uncertainty, comparison, weakness, use: a sentence or two for each.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: observations
observations = """
On the test set the AUC is 0.85, with a 95 % interval by patient from 0.75 to 0.93, and the balanced accuracy is 79 %.
On validation the network beats both baselines, always pneumonia and thumbnails. The sensitivity is 84 %, and not the
90 % that was chosen on validation: few ill patients decided the threshold, and the interval contains 90 %. The
specificity is 73 %. The viral subgroup, with faint opacities, is found less often than the bacterial one, but with
fewer than twenty patients each the intervals overlap, so another test set might show no difference. The images are
phantoms from one source: the network may be used to practise such a study, and not for a decision about a patient.
"""
# END ANSWER

# %% tags=["check"] points=5
lab.check("observe", observations)

# %% [markdown]
# **Rubric.** One point each:
#
# 1. Balanced accuracy or AUC, sensitivity and specificity of the test set are quoted rightly.
# 2. Intervals are quoted and used; no difference is claimed that they do not support.
# 3. The network is compared with a baseline on the same split.
# 4. The sensitivity reached is compared with the 90 % asked for, and the difference explained.
# 5. The sentence on use is honest: drawn data, one source, no decision about patients.
#
# <!-- given: the need is that of exercise 5 -->

# %%
lab.progress()

# %% [markdown]
# ## Extension
#
# ### 8 An interval by patient
#
# **Difficulty** ●●● · **22 minutes** · **5 points** · **Why it matters:** two images of one patient are not two
# patients. An interval that counts images is too narrow.
#
# The *bootstrap* draws patients with replacement, as many as there are, takes **all** images of each (twice, if drawn
# twice), and computes the number anew. The middle 95 % of many draws are the interval. `measure(scores, labels)`
# returns the number; draw with `np.random.default_rng(seed)`, `repeats` times.
# <!-- given: the usual level of confidence -->
#
# <details><summary>Hint 1</summary>
#
# `names = np.unique(patients)`; a draw is `rng.choice(names, len(names))`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Its rows: `np.concatenate([np.flatnonzero(patients == name) for name in drawn])`. At the end `np.quantile(values,
# [0.025, 0.975])`.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# A loop over draws: names, rows, measure; then two quantiles.
#
# </details>


# %% tags=["answer"]
def interval(measure, scores, labels, patients, repeats, seed):
    """The ends of the 95 % interval: (low, high)."""
    # BEGIN ANSWER
    rng = np.random.default_rng(seed)
    names, values = np.unique(patients), []
    rows_of = {name: np.flatnonzero(patients == name) for name in names}
    for _ in range(repeats):
        rows = np.concatenate([rows_of[name] for name in rng.choice(names, len(names))])
        values.append(measure(scores[rows], labels[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return low, high
    # END ANSWER


# %% tags=["check"] points=5
lab.check("interval", interval)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("train", "interval"):

    def auc(scores, labels):
        """AUC, a number."""
        return roc_auc_score(labels, scores)

    value, counted = auc(val_odds, val_labels), {}
    for name, owners in {
        "patient": patients[rows[1]],
        "image": np.arange(len(val_odds)),
    }.items():
        low, high = interval(auc, val_odds, val_labels, owners, 300, SEED)
        counted[f"drawn by {name}"] = {"value": value, "low": low, "high": high}
    display(
        tc.plots.intervals(
            pd.DataFrame(counted).T,
            title="Two intervals of one AUC",
            xlabel="AUC, validation set",
            low=0.5,
        )
    )

# %% [markdown]
# ### 9 Does a heat map find the shortcut?
#
# **Difficulty** ●●○ · **20 minutes** · **4 points** · **Why it matters:** a test set with the same shortcut confirms
# the shortcut, and a heat map always looks convincing.
#
# A network takes the easiest way to the label, and that may be the hospital. Suppose that most pneumonias come from a
# hospital that lays a lead letter on the film. A *misled* head is trained with that letter on the phantoms, an *honest*
# one without it, both on frozen features. We score the misled head on held-out patients, with the letter and without it:


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def fit_head(features, labels):
    """The frozen network with a linear head, fitted by logistic regression."""
    x = features.numpy()
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    fitted = LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced")
    fitted.fit((x - mean) / std, labels)
    weight = fitted.coef_[0] / std
    network = tl.load_model(ARCH, classes=pool.classes, size=SIZE)
    with torch.no_grad():
        head = tl.get_head(network)
        head.weight.copy_(torch.tensor(np.stack([-weight, weight]) / 2))
        shift = torch.tensor(fitted.intercept_[0] - weight @ mean)
        head.bias.copy_(torch.stack([-shift, shift]) / 2)
    return network


def head_odds(network, features):
    """Log-odds of pneumonia from features."""
    with torch.inference_mode():
        logits = tl.get_head(network)(features.to(profile.device))
    return (logits[:, 1] - logits[:, 0]).cpu().double().numpy()


from tlhelpers.data.splits import split_indices

clean = pool if QUICK else tl.load_data("phantom", **PHANTOMS).train
lettered = tl.load_data("phantom", marker=0.9, **PHANTOMS).train
known, owners = clean.labels.numpy(), np.array(clean.groups)
learned, held, _ = split_indices(known, (0.3, 0.2, 0.5), groups=owners, seed=SEED)
backbone = tl.load_model(ARCH, size=SIZE)
features = {
    (name, part): tl.compute_features(backbone, split.select(chosen))
    for name, split in {"clean": clean, "lettered": lettered}.items()
    for part, chosen in {"learned": learned, "held": held}.items()
}
honest = fit_head(features["clean", "learned"], known[learned])
misled = fit_head(features["lettered", "learned"], known[learned])
for name in ("lettered", "clean"):
    value = roc_auc_score(known[held], head_odds(misled, features[name, "held"]))
    print(f"misled head, {name} images: AUC {value:.2f}")

# %% [markdown]
# A test set from the same hospital would have shown only the first number. Does a heat map expose the misled head? *Grad-CAM*
# colours the places that raise the score of a class. Compare the two heads on held-out pneumonias that carry the letter:
#
# * **by heat**: in what fraction of the images is the map hottest in the letter's corner?
# * **by removal**: without the letter, what fraction does the head still find (log-odds of 0 or more)?
#
# The next cell makes `maps["honest"]` and `maps["misled"]`, lists of heat maps; `corner`, True in the upper left ninth of an
# image; and `gone["honest"]` and `gone["misled"]`, arrays of log-odds without the letter. Compute the pair
# `apart = (by_heat, by_removal)` of differences, so that a positive number exposes the misled head: by heat, misled minus
# honest; by removal, honest minus misled.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
facts = tc.phantom_table(lettered.select(held))
carries = ((facts["opacity"] > 0) & facts["marker"]).to_numpy()
picked = np.flatnonzero(carries)[:24].tolist()  # heat maps of more would take long
chosen = np.asarray(held)[picked]
prepare = backbone.card.preprocessing.evaluation()
marked = torch.stack([prepare(lettered.image(int(i))) for i in chosen])
corner = np.zeros((SIZE, SIZE), dtype=bool)
corner[: SIZE // 3, : SIZE // 3] = True
maps, there, gone = {}, {}, {}
for name, network in {"honest": honest, "misled": misled}.items():
    network.to(profile.device)
    there[name] = head_odds(network, features["lettered", "held"][picked])
    gone[name] = head_odds(network, features["clean", "held"][picked])
    # The last layer's maps have too few places: one before it is taken.
    maps[name] = [
        tc.grad_cam(network, image[None], layer="blocks.4", target=1) for image in marked
    ]
print(len(chosen), "images of", len(set(owners[chosen])), "patients")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `np.argmax(heat)` is the number of the hottest pixel, and `corner.flat[number]` says whether it lies in the corner.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A head finds an image if its log-odds are 0 or more. What fraction is that?
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Four means of True and False, two differences.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: apart
hits = {
    name: np.mean([corner.flat[np.argmax(heat)] for heat in own])
    for name, own in maps.items()
}
still = {name: np.mean(own >= 0) for name, own in gone.items()}
apart = (hits["misled"] - hits["honest"], still["honest"] - still["misled"])
# END ANSWER

# %% tags=["check", "nbval-ignore-output"] points=4
lab.check("heat", apart, maps=maps, corner=corner, there=there, gone=gone)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if lab.ready("heat"):
    compared = {
        f"{name} head": {
            "found with the letter": np.mean(there[name] >= 0),
        }
        for name in maps
    }
    display(pd.DataFrame(compared).T.map("{:.0%}".format))
    by_heat, by_removal = (100 * value for value in apart)
    print(f"This run, seed {SEED}: the heads are {by_heat:+.0f} points apart by heat,")
    print(f"{by_removal:+.0f} points by removal.")
undone = backbone.card.preprocessing.undo(marked).permute(0, 2, 3, 1).numpy()
tc.plots.evidence(
    [undone[i] for _ in maps for i in range(3)],
    [own[i] for own in maps.values() for i in range(3)],
    [f"{name} head" for name in maps for _ in range(3)],
    title="The same images with the letter, two heads",
    columns=3,
)

# %% [markdown]
# Removal separates the two clearly. How well heat does depends on the seed (`TL_SEED`): the honest head never saw a
# letter in training, so how a bright mark moves its score is arbitrary. A heat map shows what acts on a score, not what
# training relied on. To know that, remove what you suspect, and measure again.
#
# ### 10 The model card
#
# **Difficulty** ●●○ · **18 minutes** · **5 points** · **Why it matters:** numbers travel without their conditions,
# unless somebody writes them down.
#
# A *model card* says what a model is for, what it was made from, and what it cannot do. Write `sections`, a dictionary of
# three texts, `"intended use"`, `"data"` and `"limits"`, of twelve words or more each.
#
# <details><summary>Hint 1</summary>
#
# Use: what for, and what not for. Data: what do the images show, and how were they split?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Limits: another hospital, another prevalence, a shortcut such as the letter.
#
# </details>
# <details><summary>The idea of the answer</summary>
#
# Two sentences each. Promise nothing that the report does not show.
#
# </details>

# %% tags=["answer"]
# BEGIN ANSWER: sections
sections = {
    "intended use": """It is made to teach how a study of radiographs is done and reported. It is not for
        patients: no image of a person may be judged by it.""",
    "data": """The images are phantoms, drawn chests with and without opacities, or in the full profile
        radiographs of children of one hospital. The training, validation and test sets share no patient.""",
    "limits": """It was measured on one source and at one prevalence. In another hospital, or where the
        disease is rare, the threshold would not hold. A head that saw a letter used it as a shortcut.""",
}
# END ANSWER

# %% tags=["check"] points=5
lab.check("card", sections)

# %% [markdown]
# **Rubric.** One point each:
#
# 1. The intended use is named, and a use that is excluded.
# 2. The data are described: source, drawn or real, who is shown.
# 3. The split by patient is stated.
# 4. Other hospitals and other prevalences are named as limits, with what would change.
# 5. Shortcuts are named, and nothing is promised that the report does not show.

# %% tags=["nbval-ignore-output"]
if lab.ready("report", "card"):
    print(report.card(sections))

# %% [markdown]
# **Real radiographs.** [Section 12.4.3](../chapter12/12_4_3_medical_imaging.ipynb) and
# `docs/results.md` have measurements on radiographs of children: several methods, other hospitals,
# a planted letter.

# %%
lab.progress()

# %% [markdown]
# ## Summary
#
# * **Split by patient.**
# * **Report** AUC, balanced accuracy, sensitivity and specificity with intervals by patient, the prevalence, and
#   subgroups.
# * **Choose** the threshold on the validation set; **evaluate** the test set once.
# * **A good AUC can rest on a shortcut.** Remove it and measure again; a heat map does not replace that.
#
# **What to try next**
#
# * Unfreeze three blocks instead of two (slower). Does the validation AUC rise?
# * Plant the letter more weakly (`marker=0.3`). Does the head still use it?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
