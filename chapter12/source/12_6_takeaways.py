# %% [markdown]
# # 12.6 What to remember
#
# The exam is tomorrow, or the project starts on Monday. What should you remember of this chapter, and how far can you trust it?
#
# **What you will find**
#
# * the chapter in ten sentences,
# * a **decision guide** on one page,
# * fifteen claims of textbooks, each with what was measured and a verdict,
# * a self-test, with an answer to every choice, right or wrong.
#
# **Time:** a quarter of an hour to read, a few seconds of computing.

# %% tags=["nbval-ignore-output"]
import re
import time

start = time.perf_counter()

import pandas as pd

import tlcourse as tc
from tlcourse.measurements.chapter_claims import CLAIMS
from tlcourse.measurements.claims import table_of_claims
from tlcourse.plots import Box

# %% [markdown]
# ## 1 The chapter in ten sentences
#
# 1. **Transfer learning** reuses the weights that a network learned on a *source task* for a *target task* of your own.
# 2. The **backbone** is kept, the **head** is new.
# 3. **Feature extraction** trains the head only; what the backbone computes for an image can be computed once and stored.
# 4. **Fine-tuning** trains some or all of the backbone too, at a small learning rate.
# 5. **Frozen** means that parameters *and* BatchNorm's statistics stay; check that both are unchanged after training.
# 6. **Preprocessing belongs to the weights**: size, range, mean and standard deviation come from them.
# 7. **Evaluation needs `eval()`**, and a loss is a mean over images, not the last batch's.
# 8. **How much to train** depends on how far the new images are from the source.
# 9. **One run proves little**: compare methods with several seeds, each at its own learning rate.
# 10. **Split by patient or subject**, choose on the validation set, open the test set once, and look at the mistakes.
#
# ## 2 A decision guide
#
# Follow the arrows. Blue trains a head, green everything, orange from scratch; beige is a question, and grey trains nothing:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
HEAD, ALL = tc.plots.METHOD_COLOURS["frozen"], tc.plots.METHOD_COLOURS["everything"]
GREY, ASK = "#DDDDDD", "#F2D0A9"
steps = {
    "look": Box(
        "1. Look: bad files, duplicates,\nclasses; split by subject", 0, 0, GREY, 2.6, 0.8
    ),
    "base": Box(
        "2. Baselines: majority class,\nlinear model on thumbnails",
        3.2,
        0,
        GREY,
        2.6,
        0.8,
    ),
    "head": Box("3. Frozen features,\na head: seconds", 6.4, 0, HEAD, 2.4, 0.8),
    "far": Box("Far from the source,\nas X-rays are?", 3.2, -1.5, ASK, 2.6, 0.8),
    "tune": Box(
        "4. Fine-tune everything:\n5 learning rates,\nstop by validation",
        6.4,
        -1.5,
        ALL,
        2.4,
        1.0,
    ),
    "scratch": Box(
        "5. Train from scratch\nas well, to compare",
        3.2,
        -3,
        tc.plots.METHOD_COLOURS["from scratch"],
        2.4,
        0.8,
    ),
    "pick": Box("6. Keep what is best\non validation images", 0, -1.5, GREY, 2.6, 0.8),
    "test": Box("7. Test set, once:\ninterval, classes, mistakes", 0, -3, GREY, 2.6, 0.8),
    "save": Box(
        "8. Save weights, classes,\npreprocessing together", 0, -4.5, GREY, 2.6, 0.8
    ),
    "yes": Box("yes", 3.4, -2.25, "none", 0.3, 0.3),
    "no": Box("no", 1.6, -1.35, "none", 0.3, 0.3),
}
arrows = [
    ("look", "base"),
    ("base", "head"),
    ("head", "tune"),
    ("tune", "far"),
    ("far", "scratch"),
]
arrows += [("scratch", "pick"), ("far", "pick"), ("pick", "test"), ("test", "save")]
tc.plots.flow({"": (steps, arrows)}, title="From a folder of images to a model", height=4.4)

# %% [markdown]
# | if | then |
# |---|---|
# | ten images of each class | everything at a small learning rate was ahead of the head alone; have validation images to stop by |
# | the images are near the source's (ants and bees, cats and dogs) | the head alone may suffice; fine-tune only if it gains on validation |
# | they are farther (flowers, drawings) | fine-tune everything |
# | they are far (X-rays) | fine-tune, and train from scratch for comparison |
# | the score must hold elsewhere | test on images from elsewhere; no result from your own source replaces that |
# | memory or storage is short | LoRA, or a head on stored features |
#
# The first four rows are measured in [12.2.2](12_2_2_fine_tuning.ipynb), the fifth in [12.4.3](12_4_3_medical_imaging.ipynb),
# the last in [12.2.3](12_2_3_modern_practice.ipynb).
#
# ## 3 Fifteen claims, tested
#
# Textbooks say these about transfer learning. *Holds when* comes with its condition. *Not adequately tested here* means that
# the seeds or images do not suffice to tell; it does not mean that the contrary is true. All was measured with the networks
# and data of this course; with others some verdicts may differ.
#
# Where a gain is given in points, it comes from a results file, with its 95 % interval; otherwise the table quotes what the
# cell with the tag `claim-…` printed.
# <!-- given: the usual level of an interval -->

# %% jupyter={"source_hidden": true}
KEY = [
    "less-data",
    "less-time",
    "requires-grad-freezes",
    "features-once",
    "small-rate",
    "few-images-head-only",
    "domain-distance",
    "regularisation",
    "source-accuracy",
    "preprocessing",
    "fine-tuning-pays",
    "leakage",
    "transfer-helps-medical",
    "accuracy-misleads",
    "same-recipe",
]
table = table_of_claims(tuple(claim for claim in CLAIMS if claim.name in KEY))


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def linked(name):
    """A link to a notebook, called by its number: 12.2.1, say."""
    number = ".".join(part for part in name.split("_") if part.isdigit())
    return f'<a href="{name}.ipynb">{number}</a>'


def with_code(sentence):
    """What stands in backticks is shown as code."""
    return re.sub("`(.*?)`", r"<code>\1</code>", sentence)


(
    table.style.format({"tested in": linked, "claim": with_code, "verdict": with_code})
    .hide(axis="index")
    .set_properties(
        **{"text-align": "left", "vertical-align": "top", "white-space": "normal"}
    )
    .set_table_styles([{"selector": "th", "props": [("text-align", "left")]}])
)

# %% [markdown]
# Read the column *measured* before the verdict. The chapter tests more claims than these; the next cell counts them all, and
# checks the verdicts that rest on an interval.

# %% jupyter={"source_hidden": true}
verdicts = pd.Series([claim.verdict for claim in CLAIMS])
print(
    f"{len(CLAIMS)} claims:",
    ", ".join(f"{n} {v}" for v, n in verdicts.value_counts().sort_index().items()),
)
assert len(CLAIMS) >= 20
for claim in CLAIMS:
    if claim.gain:
        said = claim.gain.verdict()
        assert said == ("holds" if claim.verdict == "holds when" else claim.verdict), (
            claim.name
        )

# %% [markdown]
# ## 4 Test yourself
#
# Choose before you unfold. A wrong choice has its answer too. First a figure without its legend: test accuracy on photographs
# of flowers, by the number of training images.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
depth = tc.load_results("refinements").scored.query(
    "topic == 'depth' and data == 'flowers'"
)
LETTERS = {"everything": "A", "head": "B", "scratch": "C"}
tc.plots.lines(
    depth[depth["method"].isin(LETTERS)].assign(line=depth["method"].map(LETTERS)),
    "per_class",
    "test",
    "line",
    title="Which line is the frozen backbone?",
    xlabel="training images of each class",
    ylabel="balanced accuracy, test set",
    log=True,
)

# %% [markdown]
# **Question 1.** Which line is the frozen backbone?
#
# <details><summary>A, the highest</summary>
#
# No. Here everything was fine-tuned: even with ten images of each class it is ahead (12.2.2). <!-- given:
# tlcourse/measurements/data/refinements.json -->
# </details>
# <details><summary>B, the middle one</summary>
#
# Right. Frozen features beat training from scratch with every number of images shown, and lose to fine-tuning.
# </details>
# <details><summary>C, the lowest</summary>
#
# No. C is training from scratch: it has no pre-trained features.
# </details>
#
# **Question 2.** You set `requires_grad = False` for the whole backbone and call `model.train()` in your loop. What
# still changes in the backbone?
#
# <details><summary>A: nothing</summary>
#
# So most tutorials say. The parameters do stay. But BatchNorm's running mean and variance have moved: the
# forward pass updates them, not the optimizer (12.2.1).
# </details>
# <details><summary>B: BatchNorm's running statistics</summary>
#
# Right. They are buffers, and training mode moves them. Keep frozen layers in evaluation mode, or use `tl.freeze`.
# </details>
# <details><summary>C: weights, through momentum</summary>
#
# Only if they were trained before they were frozen, and their old gradients are kept or set to zero instead of None (12.2.1).
# </details>
#
# **Question 3.** Training accuracy rises, validation accuracy does not. You train the last two blocks on ten images of
# each class. What first?
#
# <details><summary>A: train longer</summary>
#
# The network already overfits its training images. More epochs widen the gap and do not improve the score.
# </details>
# <details><summary>B: stop at the best epoch on validation, and collect more images</summary>
#
# Right. From 10 to 40 images of each class the last two blocks gained 13 points on safari and 8 on flowers, more than any
# regularisation did (12.2.2). <!-- given: tlcourse/measurements/data/refinements.json -->
# </details>
# <details><summary>C: train the head only</summary>
#
# With ten images of each class the head alone was 3.5 points behind the last two blocks on safari, which is not
# significant, and 4.5 on flowers (12.2.2).
# </details>
#
# **Question 4.** Two methods differ by two points in mean; seed by seed the differences are +5, +3 and -2. What do you
# report? <!-- given: a made-up example -->
#
# <details><summary>A: the better mean wins</summary>
#
# With other seeds the order may turn. Compare seed by seed: do the differences have one sign?
# </details>
# <details><summary>B: both means with their spread, and that there is no significant difference</summary>
#
# Right. Measure more seeds if it matters. If you take the cheaper method, say that its cost is the reason.
# </details>
# <details><summary>C: the best seed of each</summary>
#
# The best of several is partly luck, and more so the more seeds there are. It is not what the next run will reach.
# </details>
#
# **Question 5.** Your X-ray classifier reaches a very high AUC on patients that were held out. What can you say of
# another hospital?
#
# <details><summary>A: the same AUC, since the patients are new</summary>
#
# New patients, but the same machine, habits and markers. In 12.4.3 the best method at home fell from 95 % to 58 % balanced
# accuracy in the worst of the imitated hospitals, and its AUC by about four points. <!-- given:
# tlcourse/measurements/data/hospitals.json -->
# </details>
# <details><summary>B: nothing yet</summary>
#
# Right. A network may rely on what goes with a hospital and not with the disease. Measure there.
# </details>
# <details><summary>C: the accuracy will be lower, the AUC the same</summary>
#
# Often the threshold fails first, as in 12.4.3. But the AUC is not safe either: it fell there, too.
# </details>
#
# **Question 6.** Which of these may you do with the test set?
#
# <details><summary>A: choose the epoch on it, if you say so</summary>
#
# Saying so does not undo it: the score of the best epoch is the luckiest of several (12.5, mistake 9).
# </details>
# <details><summary>B: look at its mistakes, and then improve the training</summary>
#
# From then on it is a validation set. Learn from mistakes on the validation set.
# </details>
# <details><summary>C: score it once, at the end</summary>
#
# Right.
# </details>
#
# ## Summary
#
# * The ten sentences are what to remember; the guide is what to do.
# * The table says what textbook sentences are worth here. Most hold *when* something is the case.
# * On your own data, measure: a few seeds, their spread, a comparison.
#
# **What to try next**
#
# * Pick a verdict that surprises you, open its cell, and try to change it with another network or folder.
# * `table_of_claims(CLAIMS)` shows all sentences that the chapter tests.
# * Do the labs.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
