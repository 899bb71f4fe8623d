# %% [markdown]
# # 12.6 What to remember
#
# The chapter on a page, a table of what its sentences are worth, and questions to find out what you have kept.
#
# **What you will find**
#
# * the chapter in ten sentences, and a recipe,
# * the **table of claims**: every sentence of the chapter that can be checked, the cell that checks it, what was
#   measured, and the verdict,
# * a self-test, with an answer to every choice, right or wrong.
#
# **Time:** a few seconds of computing; a quarter of an hour to read.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import re

import pandas as pd

from tlcourse.measurements.chapter_claims import CLAIMS
from tlcourse.measurements.claims import table_of_claims

# %% [markdown]
# ## 1 The chapter in ten sentences
#
# 1. **Transfer learning** reuses the weights that a network learned on a *source task* for a *target task* of your own.
# 2. The **backbone** is carried over, the **head** is new.
# 3. **Feature extraction** trains the head only; what the backbone makes of an image can be computed once and kept.
# 4. **Fine-tuning** trains some or all of the backbone too, at a smaller learning rate than the head.
# 5. **Frozen** means that parameters *and* BatchNorm's statistics stay; compare before and after.
# 6. **Preprocessing belongs to the weights**: size, range, mean and standard deviation come from them.
# 7. **Evaluation needs `eval()`**, and a loss is a mean over images, not the last batch's.
# 8. **How much to train** depends on how far the new images are from the source. Frozen features suffice only near it.
# 9. **One run proves little**: compare methods with several seeds, each at a learning rate of its own.
# 10. **Split by what belongs together**, choose on *val*, look at *test* once, and look at the mistakes.
#
# ## 2 A recipe
#
# 1. Look at the data: bad files, duplicates, classes, groups (patients, drawings, scenes). Split by group.
# 2. Score the trivial answers: always the most frequent class; a linear model on thumbnails.
# 3. Take a pre-trained network with *its* preprocessing. Freeze it, put a head on it, train the head.
# 4. Unfreeze the last block, then everything, at a smaller learning rate (three to try). Stop by *val*.
# 5. Keep what is better on *val*. Frozen features suffice only where the images resemble those of the source task.
# 6. Score *test* once: with an interval, for every class, and with the mistakes as images.
# 7. Save weights, classes and preprocessing together.
#
# ## 3 The table of claims
#
# Textbooks say many things about transfer learning. Here is what became of those that can be checked. *Holds when*
# comes with its condition. *Not adequately tested here* means that tuning, the number of seeds or the number of
# independent images do not suffice to tell; it does not mean that the contrary is true. All of it was measured with the
# networks and data of this course. With others some verdicts may differ; the cell that tests each can be run again.
#
# Where a gain is given in points, it comes from a results file, with its 95 % interval. Otherwise the table quotes what
# the cell printed. Cells have the tag `claim-…`.
# <!-- given: the usual level of an interval -->

# %% tags=["nbval-ignore-output"]
table = table_of_claims(CLAIMS)


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

# %%
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
# Choose before you unfold. A wrong choice has its answer too.
#
# **Question 1.** You set `requires_grad = False` for the whole backbone and call `model.train()` in your loop. What
# still changes in the backbone?
#
# <details><summary>A: nothing</summary>
#
# So most tutorials say. Parameters do stay. But compare the buffers before and after: BatchNorm's running mean and
# variance have moved, since they are updated by the forward pass and not by the optimizer (12.2.1).
# </details>
# <details><summary>B: BatchNorm's running statistics</summary>
#
# Right. They are buffers, and training mode moves them. Keep frozen layers in evaluation mode, or use `tl.freeze`.
# </details>
# <details><summary>C: weights, through momentum</summary>
#
# Only if they were trained before they were frozen and their gradients are zeros in place of None (12.2.1). A backbone
# that never trained has no momentum.
# </details>
#
# **Question 2.** Training accuracy rises, validation accuracy does not. You train the last two blocks on ten images of
# each class. What first?
#
# <details><summary>A: train longer</summary>
#
# The network already overfits its training images. More epochs widen the gap and do not improve the score.
# </details>
# <details><summary>B: stop at the best epoch on validation, and collect more images</summary>
#
# Right. From 10 to 40 images of each class fine-tuning gained 12 points on safari and 9 on flowers, more than any
# regularisation did (12.2.2).
# </details>
# <details><summary>C: train the head only</summary>
#
# With ten images of each class the head alone was 3.5 points behind the last two blocks on safari, which is not
# significant, and 4.5 on flowers (12.2.2).
# </details>
#
# **Question 3.** Two ways differ by two points in mean validation accuracy; the seeds scatter by three. What do you
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
# **Question 4.** Your X-ray classifier reaches a very high AUC on patients that were held out. What can you say of
# another hospital?
#
# <details><summary>A: the same AUC, since the patients are new</summary>
#
# New patients, but the same machine, the same habits, the same markers. The official test set of these very data is
# another world already (12.4.3).
# </details>
# <details><summary>B: nothing yet</summary>
#
# Right. A network may rest on what goes with a hospital and not with the disease. Look at heat maps, plant and remove
# markers, and measure there.
# </details>
# <details><summary>C: the accuracy will be lower, the AUC the same</summary>
#
# AUC does not change if only the share of ill patients does. It does change if the images are made otherwise.
# </details>
#
# **Question 5.** Feature extraction with features computed once gives *exactly* the same head as running the whole
# network every epoch, if …
#
# <details><summary>A: … the backbone is frozen, BatchNorm included, and there is no augmentation</summary>
#
# Right. Then every epoch would compute the same numbers. With augmentation each epoch sees other images; a few kept
# views are in between.
# </details>
# <details><summary>B: … the learning rate is small</summary>
#
# The learning rate plays no part: the head sees the same numbers in both cases, or it does not.
# </details>
# <details><summary>C: … never, they only come close</summary>
#
# The package's tests compare the weights bit for bit, for every architecture of the course.
# </details>
#
# **Question 6.** Which of these may you do with the test set?
#
# <details><summary>A: choose the epoch on it, if you say so</summary>
#
# Saying so does not undo it: the score of the best epoch is the luckiest of several throws (12.5, mistake 9).
# </details>
# <details><summary>B: look at its mistakes, and then improve the training</summary>
#
# From then on it is a validation set. Mistakes on *val* are there to be learned from.
# </details>
# <details><summary>C: score it once, at the end</summary>
#
# Right.
# </details>
#
# ## Summary
#
# * The sentences of the first list are what to remember; the recipe is what to do.
# * The table says what they are worth. Most textbook sentences hold *when* something is the case.
# * What you want to know about your data, your data must tell you: a few seeds, the spread, a control.
#
# **What to try next**
#
# * Pick a claim that surprises you, open its cell, and try to break it with another network or folder.
# * Do the labs, and hand the results to somebody who does not believe you.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
