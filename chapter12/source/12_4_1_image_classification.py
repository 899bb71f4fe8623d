# %% [markdown]
# # 12.4.1 Image classification
#
# Somebody hands you a folder of images and asks for a classifier. Are there copies of test images in the training set? What
# would the simplest method score? Which classes fail, and why? This page goes from the first look at the data to the report.
#
# **What you will learn**
#
# * how to look for duplicates between training and test set, and what they do to a score,
# * why a baseline comes first, and which,
# * what frozen features reach on the same images, and what fine-tuning would add,
# * the confusion matrix, recall by class with its uncertainty, the most certain mistakes,
# * what a network looked at (Grad-CAM), and how far to trust it,
# * a rare class, and averaging over several views of an image: what helps?
#
# **Time:** twenty-five minutes to read; one or two minutes of computing on 2 CPU cores in the quick profile.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import copy
import io

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
from torchvision.transforms import v2

# %% tags=["nbval-ignore-output"]
import tlcourse as tc
import tlhelpers as tl
from tlcourse.safari.scene import SceneImages

profile = tl.use_profile()
QUICK = profile.name == "quick"
ARCH = profile.arch
SIZE = 128 if QUICK else None  # pixels; None is the size the weights were trained on
SEED = profile.seed  # 0; the environment variable TL_SEED sets another
print(profile)
print(f"network   {ARCH}")

# %% [markdown]
# **The quick profile** takes *safari*: drawings on made-up backgrounds, eight classes, and an EfficientNet-Lite0 with its
# ImageNet weights at 128 pixels. The drawings come in five styles: three for training, a fourth for validation, a fifth for
# the test. Results on drawings say nothing about photographs; the steps are the same. The full profile takes the ten kinds of
# *Flowers102* with the most images.
# <!-- given: settings of the cells below -->
#
# ## 1 Look at the data
#
# Does the label fit? Could you tell the classes apart yourself at this size? Is there anything that gives the class away and
# would be missing later: a watermark, a ruler, the background of one photographer?

# %%
if QUICK:
    data = tl.load_data(
        "safari", size=144, per_class=40, val_per_class=20, test_per_class=30, seed=SEED
    )
else:
    flowers = tl.load_data("flowers102")
    common = list(flowers.test.counts().nlargest(10).index)
    data = tc.select_classes(flowers, common)
data.sizes()

# %% tags=["nbval-ignore-output"]
data.show(24, seed=SEED)

# %% [markdown]
# ## 2 Duplicates and leakage
#
# An image that is in training and in test makes the test an exam with known questions. Copies are seldom exact: saved again as
# JPEG, or a little smaller. A **difference hash** finds those. It shrinks the image to 9×8 grey pixels and compares each
# pixel with its right neighbour: 8×8 comparisons, 64 bits that hardly change when the image is saved again.
# <!-- given: the method's own numbers -->


# %%
def difference_hash(image):
    """64 bits: for each of 8×8 places, whether the right neighbour is brighter."""
    grey = np.asarray(
        image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=int
    )
    return (grey[:, 1:] > grey[:, :-1]).flatten()


def distances(some, others):
    """Bits in which each hash of `some` differs from each of `others`."""
    return (some[:, None, :] != others[None, :, :]).sum(axis=2)


# %%
hashes = {
    part.name: np.stack([difference_hash(part.image(i)) for i in range(len(part))])
    for part in data.splits()
}
NEAR = 4  # bits; a larger number finds more copies, and more images that only look alike
between = distances(hashes["test"], hashes["train"])
print("test images with a near copy in training:", int((between.min(axis=1) <= NEAR).sum()))

# %% [markdown]
# A check that has never found anything proves nothing, so we plant copies: a tenth
# smaller, and saved as a poor JPEG.
# <!-- given: settings of the cell below -->


# %% jupyter={"source_hidden": true}
def saved_again(image):
    """A copy, 10 % smaller and saved as a poor JPEG."""
    file = io.BytesIO()
    small = (round(0.9 * image.width), round(0.9 * image.height))
    image.resize(small).save(file, "JPEG", quality=50)
    return Image.open(file)


planted = [saved_again(data.test.image(i)) for i in range(0, len(data.test), 12)]
copies = distances(np.stack([difference_hash(p) for p in planted]), hashes["test"])
found = int((copies.min(axis=1) <= NEAR).sum())
print(f"{found} of {len(planted)} planted copies found")

# %% jupyter={"source_hidden": true}
assert found >= 0.9 * len(planted)
tc.report_finding(
    "At least nine of ten planted copies are found, and the splits share next to nothing.",
    (between.min(axis=1) <= NEAR).mean() < 0.05,
)

# %% [markdown]
# A hash finds copies of an *image*. It does not find two photographs of the same patient or the same flower bed. If you know
# such groups, keep each in one split. In safari a group is a drawing:

# %% jupyter={"source_hidden": true}
if data.train.groups is not None:
    shared = set(data.train.groups) & set(data.test.groups)
    print("groups (in safari: drawings) in training and in test:", len(shared))
    assert not shared
else:
    print("this data set does not say which images belong together")

# %% [markdown]
# ## 3 Baselines
#
# Compare every score with two that cost nothing: always the most frequent class, and a logistic regression on
# *thumbnails* of 12×12 pixels, with nothing learned about images before. If that does well, colour and rough layout give the
# classes away.
# <!-- given: a setting of the cell below -->


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def thumbnails(split, side=12):
    """Each image as side×side×3 numbers between 0 and 1."""
    small = [
        split.image(i).resize((side, side), Image.Resampling.BOX) for i in range(len(split))
    ]
    return np.stack([np.asarray(p, dtype=float).flatten() / 255 for p in small])


def linear(C):
    """Logistic regression on standardised inputs; a smaller C regularises more."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))


scores = {}  # name -> images of the validation set that are classified rightly
majority = int(data.train.counts().to_numpy().argmax())
scores["always the same class"] = int((data.val.labels == majority).sum())
on_pixels = linear(0.001).fit(thumbnails(data.train), data.train.labels)
guesses = on_pixels.predict(thumbnails(data.val))
scores["thumbnails"] = int((guesses == data.val.labels.numpy()).sum())
count = len(data.val)
print({name: f"{hits / count:.0%}" for name, hits in scores.items()})

# %% [markdown]
# ### A background that gives the class away
#
# Drawn images invite a mistake: image number 7 of a class gets the same random background in training and in test. The drawings
# differ, but the scenes do not, and a network could score well by learning the backgrounds. Below we score *safari* and a
# copy with that mistake. The classifier knows nothing of objects: it names the class of the training image whose thumbnail is
# nearest.
# <!-- given: it numbers an image -->


# %% jupyter={"source_hidden": true}
def with_equal_scenes(split, scenery):
    """The same drawings, but image number i of a class is on the same scene in every split."""
    scenes = [(drawing, (label, i)) for drawing, (_, _, label, i, _) in split.load.scenes]
    equal = copy.copy(split)
    equal.load = SceneImages(scenes, split.load.size, 1.0, scenery)
    return equal


def nearest_score(train, test):
    """Accuracy of the class of the nearest training thumbnail."""
    nearest = KNeighborsClassifier(1).fit(thumbnails(train, 8), train.labels)
    return nearest.score(thumbnails(test, 8), test.labels)


safari = tl.load_data("safari", size=48, per_class=20, test_per_class=20, seed=SEED)
wrong = [
    with_equal_scenes(s, safari.train.load.scenery) for s in (safari.train, safari.test)
]
proper, leaking = nearest_score(safari.train, safari.test), nearest_score(*wrong)
print(
    f"scenes differ between the splits: {proper:.1%}; equal scenes: {leaking:.1%}; chance: 12.5%"
)

# %% jupyter={"source_hidden": true}
tc.report_finding(
    "With equal scenes, thumbnails of 8×8 pixels seem to recognise objects.",
    leaking > 0.5 > 0.3 > proper,
)

# %% [markdown]
# So if a method that cannot know the objects does well, ask what it knows.
#
# ## 4 Frozen features
#
# The cheapest transfer: run the pre-trained backbone once over every image, keep the features, and train a linear classifier on
# them. One number is chosen on the validation set: scikit-learn's `C`, the inverse of the regularisation strength.

# %% tags=["nbval-ignore-output"]
backbone = tl.load_model(ARCH, size=SIZE)
kept = {part.name: tl.compute_features(backbone, part) for part in data.splits()}
labels = {part.name: part.labels for part in data.splits()}
tried = {
    C: linear(C).fit(kept["train"], labels["train"]) for C in (0.0001, 0.001, 0.01, 0.1)
}
on_val = {C: model.score(kept["val"], labels["val"]) for C, model in tried.items()}
C = max(on_val, key=on_val.get)
scores["frozen features"] = round(on_val[C] * len(data.val))
print("validation accuracy by C:", {s: round(v, 3) for s, v in on_val.items()})

# %% [markdown]
# `tl.fit` trains such a head by gradient descent and puts it on the network; Grad-CAM needs that in section 7. The backbone
# runs once, and training ends when validation has not improved for ten epochs.
# <!-- given: a setting of the cell below -->

# %% tags=["nbval-ignore-output"]
model = tl.freeze(tl.load_model(ARCH, classes=data.classes, size=SIZE, seed=SEED))
run = tl.fit(model, data, epochs=60, patience=10, lr=3e-3, augment=False, seed=SEED)
print(run)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
count = len(data.val)
table = pd.DataFrame(
    [(hits / count, *tl.wilson_interval(hits, count)) for hits in scores.values()],
    columns=["value", "low", "high"],
    index=list(scores),
)
tc.plots.intervals(
    table,
    title=f"Three classifiers on the same {count} validation images",
    xlabel="accuracy, with its 95 % interval",
)

# %% jupyter={"source_hidden": true} tags=["claim-baseline"]
tc.report_finding(
    "Frozen features are better than thumbnails, and the intervals do not overlap.",
    scores["frozen features"] > scores["thumbnails"] > scores["always the same class"],
    table.loc["frozen features", "low"] > table.loc["thumbnails", "high"],
)

# %% [markdown]
# `C` was chosen on these images, which flatters the last score a little.
#
# ### What leaked images do
#
# Now we can measure what the copies of section 2 would do. Half of the test images get into the
# training set, mirrored, as an augmented copy might. The other half stays clean. Five times, another half each time:
# <!-- given: settings of the cell below -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
prep = backbone.card.preprocessing
mirrored = v2.Compose([prep.evaluation(), v2.RandomHorizontalFlip(p=1)])
mirrored_test = tl.compute_features(backbone, data.test.with_transform(mirrored))
rows = []
for seed in range(SEED, SEED + 5):
    leaked = np.random.default_rng(seed).random(len(data.test)) < 0.5
    leaky = linear(C).fit(
        torch.cat([kept["train"], mirrored_test[leaked]]),
        torch.cat([labels["train"], labels["test"][leaked]]),
    )
    right = leaky.predict(kept["test"]) == labels["test"].numpy()
    clean = tried[C].predict(kept["test"]) == labels["test"].numpy()
    rows += [
        {
            "seed": seed,
            "images": "leaked",
            "gain": right[leaked].mean() - clean[leaked].mean(),
        },
        {
            "seed": seed,
            "images": "clean",
            "gain": right[~leaked].mean() - clean[~leaked].mean(),
        },
    ]
leak = pd.DataFrame(rows)
tc.plots.ranking(
    leak,
    "gain",
    "images",
    title="Gain in test accuracy when half of the test has leaked into training",
    xlabel="gain (share of images); each dot is a seed",
)

# %% jupyter={"source_hidden": true} tags=["claim-leakage"]
gain = leak.groupby("images")["gain"].mean()
tc.report_finding(
    "Leaked images gain far more than clean ones.",
    gain["leaked"] > 0.1,
    gain["leaked"] > gain["clean"] + 0.1,
)

# %% [markdown]
# The clean images gain as well, because the leaked half adds training images in the test's style, some of them of the same
# drawings. What the leaked images gain beyond that is worth nothing on new ones. (The hash of section 2 would not find these
# mirrored copies.)
#
# ## 5 Would fine-tuning be better?
#
# A fair comparison trains every method until validation stops improving, with several seeds. It was made beforehand on this
# kind of images; intervals allow for other seeds and other drawings. Compare within a network only: size and pre-training
# differ, too. *probe first* trains the head alone, then everything.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
transfer = tc.load_results("transfer")
ways = {
    network: transfer.against("safari", "frozen", network=network)
    for network in ("resnet18", "efficientnet_lite0")
}
shown = {network: tc.in_points(table) for network, table in ways.items()}
pd.concat(shown, axis=1).fillna("not trained")

# %% jupyter={"source_hidden": true} tags=["claim-fine-tuning-pays"]
for network, table in ways.items():
    row = table.loc["everything"]
    print(
        f"{network}: fine-tuned {row.accuracy:.1%}, frozen {table.loc['frozen', 'accuracy']:.1%}, "
        f"{100 * row.gain:+.1f} points ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    )
assert ways["efficientnet_lite0"].loc["everything", "low"] > 0.05

# %% [markdown]
# Fine-tuning everything gains 13.4 points over frozen features with EfficientNet-Lite0. With ResNet18 it gains 4.6, and the
# [interval](glossary.ipynb#Confidence-interval) begins at zero. So for a network that matters you would now fine-tune;
# `python -m tlhelpers train FOLDER` does it in a few minutes. This page goes on with the frozen backbone.
# <!-- given: tlcourse/measurements/data/transfer.json -->
#
# ## 6 The test
#
# We evaluate this network on the test set. (Sections 4, 8 and 9 use the same images to show an effect; in a project you would
# take validation images for that.)

# %% tags=["nbval-ignore-output"]
result = tl.evaluate(model, data.test)
print(repr(result))
result.plot_confusion()

# %% jupyter={"source_hidden": true}
chance = 1 / data.num_classes
assert result.confusion().to_numpy().sum() == len(data.test)
tc.report_finding(
    "Far better than guessing, on images of another style, too.",
    result.interval[0] > 2 * chance,
)

# %% [markdown]
# Look for the darkest field beside the diagonal: which two classes are confused, and is it mutual? **Recall** of a class is
# the proportion of its images that is found. With few images it needs an interval:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
per_class = result.per_class()
found = (per_class["recall"] * per_class["images"]).round().astype(int)
recalls = pd.DataFrame(
    [
        (f / n, *tl.wilson_interval(f, n))
        for f, n in zip(found, per_class["images"], strict=True)
    ],
    columns=["value", "low", "high"],
    index=per_class.index,
).sort_values("value", ascending=False)
tc.plots.intervals(
    recalls,
    title="Recall by class on the test set",
    xlabel="recall, with its 95 % interval",
    line=result.accuracy,
    named="all classes",
)

# %% jupyter={"source_hidden": true} tags=["claim-class-ranking"]
pairs_of_classes = [
    (a, b) for i, a in enumerate(recalls.index) for b in recalls.index[i + 1 :]
]
told_apart = sum(
    recalls.loc[a, "low"] > recalls.loc[b, "high"] for a, b in pairs_of_classes
)
widest = (recalls["high"] - recalls["low"]).max()
tc.report_finding(
    "For most pairs of classes the intervals overlap: no significant difference.",
    told_apart < len(pairs_of_classes) / 2,
    widest > 0.2 or not QUICK,
)

# %% [markdown]
# If two intervals do not overlap, the classes probably differ; if they overlap, this does not settle it. Several images show
# one drawing, so even these intervals are too narrow.
#
# ## 7 The most certain mistakes
#
# They show wrong labels, images that even we cannot name, and sometimes what the network has learned in place of what we
# wanted.

# %% tags=["nbval-ignore-output"]
result.show_worst(8)

# %% [markdown]
# [**Grad-CAM**](glossary.ipynb#Grad-CAM) asks which places of the last convolutional maps speak for a class. Each map is
# weighted by how much the class's logit would rise if the map rose; the weighted maps are added, and what is negative is set
# to zero. Below are four right answers, then four wrong ones. Does the heat lie on the thing, and do the wrong answers differ
# in that?
# <!-- given: settings of the cell below -->


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def evidence(i, **options):
    """The heat map of test image number i, for the class that the network names."""
    return tc.grad_cam(model, prep.evaluation()(data.test.image(i))[None], **options)


def as_seen(i):
    """Test image number i as the network sees it, to be shown."""
    return prep.undo(prep.evaluation()(data.test.image(i))).permute(1, 2, 0).numpy()


certain = result.probabilities.max(dim=1).values
is_right = result.predictions == result.labels
right_ones = certain.masked_fill(~is_right, -1).topk(4).indices.tolist()
wrong_ones = list(result.worst(4)["index"])
names = [data.classes[result.labels[i]] for i in right_ones]
names += [
    f"{data.classes[result.labels[i]]}, called\n{data.classes[result.predictions[i]]}"
    for i in wrong_ones
]
shown = right_ones + wrong_ones
tc.plots.evidence(
    [as_seen(i) for i in shown],
    [evidence(i) for i in shown],
    names,
    title="Evidence for the class named: the most certain right answers, then mistakes",
)

# %% [markdown]
# Heat maps invite stories, and safari lets us check one, since we know the box around each drawing: "where the network is
# wrong it looks elsewhere". For each image we take how much hotter its box is than the image on average. Heat may lie in the
# centre anyway, so the box of another image is the **control**.


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def box_of(i):
    """The drawing's box as the network sees it: left, top, right, bottom in pixels."""
    scale = prep.resize / data.test.image(i).width
    border = (prep.resize - prep.size) / 2  # cut off on each side
    box = data.test.load.boxes(data.test.rows[i])[0]
    return [int(np.clip(v * scale - border, 0, prep.size)) for v in box]


def hotter(heat, box):
    """Mean heat in a box over mean heat in the image."""
    x0, y0, x1, y1 = box
    return heat[y0:y1, x0:x1].mean() / heat.mean()


rows = []
for i in range(0, len(data.test), 2) if QUICK else ():
    heat, other = evidence(i), (i + len(data.test) // 2 + 1) % len(data.test)
    if heat.max() > 0:
        answer = "right" if is_right[i] else "wrong"
        for box, place in (("its own", i), ("another's", other)):
            ratio = hotter(heat, box_of(place))
            rows.append({"image": i, "answer": answer, "box": box, "ratio": ratio})
focus = None
if QUICK:
    ratios = pd.DataFrame(rows).pivot(
        index=["image", "answer"], columns="box", values="ratio"
    )
    ratios["difference"] = ratios["its own"] - ratios["another's"]
    focus = ratios.groupby("answer").agg(["count", "mean", "sem"]).round(2)
focus

# %% jupyter={"source_hidden": true} tags=["claim-grad-cam"]
if QUICK:
    mean, error = focus["difference", "mean"], focus["difference", "sem"]
    between = (error["right"] ** 2 + error["wrong"] ** 2) ** 0.5
    assert mean["right"] > 2 * error["right"]
    assert abs(mean["right"] - mean["wrong"]) < 2 * between, (
        "right and wrong answers do not differ significantly"
    )
    print(
        "A right answer's own box is hotter than another's; wrong answers do not differ significantly."
    )

# %% [markdown]
# The heat lies on the drawing more than chance would have it, for right answers and for wrong ones. The two do not differ
# significantly: the story cannot be settled with so few mistakes. A heat map says *where*, not *what*, and not whether the
# answer is right. It is useful for finding a network that looks at something it should not, such as a hospital's marker.
#
# ## 8 A rare class
#
# In most projects some class is rare, and often it is the one that matters. We make one: of one class only four training images
# remain. Every class takes its turn. Three methods train the head: **plain** cross-entropy; **class weights**, by which an
# image of a rare class counts more; a **balanced sampler**, which draws every class equally often. For comparison: a head
# that was given *all images*, and the plain head, *forbidden* to ever name the rare class.
# <!-- given: a setting of the cell below -->

# %% jupyter={"source_hidden": true}
RARE = 4  # training images of the rare class
mean, deviation = kept["train"].mean(0), kept["train"].std(0) + 1e-6
inputs = {name: (values - mean) / deviation for name, values in kept.items()}


def train_head(x, y, method, seed, epochs=20):
    """A linear head, trained with AdamW on kept features."""
    torch.manual_seed(seed)
    head = nn.Linear(x.shape[1], data.num_classes)
    scarcity = 1 / torch.bincount(y, minlength=data.num_classes)
    weights = scarcity / scarcity.mean() if method == "class weights" else None
    criterion = nn.CrossEntropyLoss(weight=weights)
    chosen = TensorDataset(x, y)
    if method == "balanced sampler":
        sampler = WeightedRandomSampler(scarcity[y], num_samples=len(y))
        loader = DataLoader(chosen, batch_size=32, sampler=sampler)
    else:
        loader = DataLoader(chosen, batch_size=32, shuffle=True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(epochs):
        for features, targets in loader:
            optimizer.zero_grad()
            criterion(head(features), targets).backward()
            optimizer.step()
    return head.eval()


# %% jupyter={"source_hidden": true}
def scored(logits, share, rare):
    """Accuracy in a world with these shares of the classes, balanced accuracy, and recall of the rare class."""
    right = (logits.argmax(1) == labels["test"]).float()
    recall = torch.stack(
        [right[labels["test"] == c].mean() for c in range(data.num_classes)]
    )
    return {
        "accuracy": float((share * recall).sum()),
        "balanced accuracy": float(recall.mean()),
        "recall of the rare class": float(recall[rare]),
    }


rows = []
for rare in range(data.num_classes):
    order = torch.randperm(
        len(labels["train"]), generator=torch.Generator().manual_seed(SEED + rare)
    )
    of_rare = [i for i in order.tolist() if labels["train"][i] == rare]
    keep = torch.tensor([i for i in order.tolist() if i not in of_rare[RARE:]])
    x, y = inputs["train"][keep], labels["train"][keep]
    share = torch.bincount(y, minlength=data.num_classes) / len(y)
    for method in ("all images", "plain", "class weights", "balanced sampler"):
        given = (inputs["train"], labels["train"]) if method == "all images" else (x, y)
        head = train_head(*given, method, seed=SEED + rare)
        with torch.no_grad():
            logits = head(inputs["test"])
        rows.append({"method": method, "run": rare, **scored(logits, share, rare)})
        if method == "plain":
            logits[:, rare] = -torch.inf
            rows.append(
                {
                    "method": "plain, rare class forbidden",
                    "run": rare,
                    **scored(logits, share, rare),
                }
            )
imbalance = pd.DataFrame(rows)
print(len(imbalance), "runs")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.ranking(
    imbalance,
    "accuracy",
    "method",
    title="Accuracy where one class is rare",
    xlabel="accuracy at the frequencies of training; each dot is a class made rare",
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.ranking(
    imbalance,
    "recall of the rare class",
    "method",
    title="How many images of the rare class are found",
    xlabel="recall of the rare class; each dot is a class made rare",
)

# %% jupyter={"source_hidden": true} tags=["claim-rare-class", "claim-class-weights"]
measures = ["accuracy", "balanced accuracy", "recall of the rare class"]
wide = imbalance.pivot_table(measures, "run", "method")
lost = wide["accuracy"]["plain"] - wide["accuracy"]["plain, rare class forbidden"]
tc.report_finding(
    "Never naming the rare class costs next to no accuracy.", abs(lost.mean()) < 0.02
)
REMEDIES = ["class weights", "balanced sampler"]
balanced = wide["balanced accuracy"]
gain = balanced[REMEDIES].mean() - balanced["plain"].mean()
recall = wide["recall of the rare class"].mean()
tc.report_finding(
    "Neither class weights nor the sampler replace the images that are missing.",
    (gain.abs() < 0.04).all(),
    recall[REMEDIES].max() < 0.75 * recall["all images"],
)

# %% [markdown]
# The two figures tell different stories. In the first, accuracy in a world in which the class is rare, all methods look
# alike, even the one that never names the rare class. In the second they do not. Class weights and the sampler are often
# recommended as if they repaired the lack of images. Here they do not; what helps is more images of the rare class. And
# accuracy alone must not be reported.
#
# ## 9 Several views of each image
#
# **Test-time augmentation** averages the network's answers over several views of an image, mirrored and cropped. It costs as
# many passes as there are views. Five heads, each trained on three quarters of the training images, with and without it:
# <!-- given: settings of the cell below -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
torch.manual_seed(SEED)
views = [kept["test"], mirrored_test]
views += [
    tl.compute_features(backbone, data.test.with_transform(prep.training()))
    for _ in range(3)
]
views = [(values - mean) / deviation for values in views]
CHOICES = {
    "mirrored too": views[:2],
    "three crops too": [views[0], *views[2:]],
    "all five": views,
}
rows = []
for seed in range(SEED, SEED + 5):
    part = (
        torch.rand(len(labels["train"]), generator=torch.Generator().manual_seed(seed))
        < 0.75
    )
    head = train_head(inputs["train"][part], labels["train"][part], "plain", seed)
    with torch.no_grad():
        said = {
            name: sum(head(v).softmax(1) for v in chosen)
            for name, chosen in CHOICES.items()
        }
        alone = (head(views[0]).argmax(1) == labels["test"]).float().mean()
    for name, sums in said.items():
        better = (sums.argmax(1) == labels["test"]).float().mean() - alone
        rows.append({"views": name, "seed": seed, "gain": float(better)})
averaged = pd.DataFrame(rows)
tc.plots.ranking(
    averaged,
    "gain",
    "views",
    title="Gain in test accuracy from averaging over views",
    xlabel="gain (share of images); each dot is a seed",
)

# %% jupyter={"source_hidden": true} tags=["claim-test-time-augmentation"]
gains = averaged.groupby("views")["gain"].mean()
tc.report_finding(
    "No choice of views gains or loses five points on average.", gains.abs().max() < 0.05
)

# %% [markdown]
# Compare each mean with its price: two, four and five times the computation. One image of 240 is 0.4 points, so gains of half
# a point are not reliable.
# <!-- given: the sentence that the cell prints -->
#
# ## Check yourself
#
# **1.** Your thumbnails score 60 % on a new data set with eight classes. What do you look at first?
# <!-- given: a made-up example -->
#
# <details><summary>Answer</summary>
#
# At the backgrounds, colours and borders: something that is not the object gives the class away.
# </details>
#
# **2.** In the figure of recall by class, name two classes that differ, and two about which you cannot say.
#
# <details><summary>Answer</summary>
#
# Those whose intervals lie apart differ (the first and the last, say). Of neighbours with overlapping intervals you cannot say.
# </details>
#
# ## Summary: a checklist
#
# 1. **Look** at the images, class by class, and at who made the splits.
# 2. [**Duplicates**](glossary.ipynb#Data-leakage): search them between the splits, and test the search with planted copies.
#    Keep subjects together.
# 3. [**Baselines**](glossary.ipynb#Baseline) first: always the same class; a linear model on thumbnails.
# 4. **Frozen features** next: minutes of work, and often most of what there is to gain.
# 5. **Fine-tune**, until validation stops improving, and compare with intervals.
# 6. **Test once.** [Confusion matrix](glossary.ipynb#Confusion-matrix), recall of each class with its interval.
# 7. **Look at the most certain mistakes.** Heat maps help to find what should not matter.
# 8. **A rare class**: report its recall. Get more images before you tune weights.
# 9. **Views at test time** are a small thing. Measure before you pay for them.
#
# **What to try next**
#
# * Set `RARE` to 2 or 16. From which number on do class weights help?
# * Raise `NEAR` until images that are no copies count as copies. What do they have in common?
# * Give `evidence` another layer (`layer="blocks.4"`): finer maps. Does the control change?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
