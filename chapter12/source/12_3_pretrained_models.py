# %% [markdown]
# # 12.3 Pre-trained models
#
# Torchvision offers dozens of networks with pre-trained weights. You have 200 images, a laptop, and time for one or two of
# them. Which do you take, how do you load it, and how do you check that its input is prepared as its weights expect?
#
# **What you will learn**
#
# * how five families of networks connect their layers,
# * how to load weights together with the preprocessing that belongs to them, and to replace the last layer by hand,
# * which mistakes in the preprocessing ruin the answer, and which pass unnoticed,
# * what a network costs: parameters, multiplications, time,
# * what a larger network, or one that is better on ImageNet, gains on a new task,
# * VGG16 with the classic `train_model`: SGD with momentum, StepLR, the phases *train* and *val*.
#
# **Time:** twenty minutes to read; one or two minutes of computing on 2 CPU cores in the quick profile.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import copy
import functools

import pandas as pd
import torch
import torchvision
from PIL import Image
from skimage import data as photographs
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

# %% tags=["nbval-ignore-output"]
import tlcourse as tc
import tlhelpers as tl
from tlcourse.plots import Box

profile = tl.use_profile(precision="fp32")  # so that two loops agree digit by digit
QUICK = profile.name == "quick"
SEED = profile.seed  # 0; the environment variable TL_SEED sets another
print(profile)

# %% [markdown]
# **The quick profile** downloads nothing. It describes torchvision's weights from their metadata. What it runs is an
# EfficientNet-Lite0 with real ImageNet weights, which arrives with a pip package, and a ResNet18, a ResNet34 and a VGG16 that
# we trained on small photographs; these three are much weaker than torchvision's.
#
# ## 1 Ask a network
#
# Four photographs that come with scikit-image, and a network that knows ImageNet's 1000 classes:
# <!-- given: ImageNet has 1000 classes -->

# %%
lite = tl.load_model("efficientnet_lite0").to(profile.device)
photos = {
    name: Image.fromarray(getattr(photographs, name)()).convert("RGB")
    for name in ("chelsea", "coffee", "rocket", "camera")
}
seen = tl.predict(lite, list(photos.values()), top=3)
answers = seen.pivot(index="image", columns="rank", values="class").set_axis(list(photos))
answers

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tl.plots.image_grid(
    list(photos.values()),
    list(answers[1]),
    title="Four photographs, and the network's first answer",
    columns=4,
)

# %% jupyter={"source_hidden": true}
FAIR = {
    "chelsea": ("tabby", "tiger cat", "Egyptian cat"),
    "coffee": ("espresso", "cup", "coffee mug"),
    "rocket": ("missile", "projectile", "space shuttle"),
    "camera": ("tripod", "reflex camera"),
}
for name in photos:
    assert answers.loc[name, 1] in FAIR[name]
print("All", len(photos), "first answers are on the list of names that we accept.")

# %% [markdown]
# More than one name is fair: for the cat we accept *tabby*, *tiger cat* and *Egyptian cat*. The lists were fixed before
# measuring. Weights come with a **card**, which says what they expect and where they come from. Keep the two together:

# %%
print(lite.card)

# %% [markdown]
# ## 2 Five families
#
# A network for images has a **backbone**, which turns an image into a few hundred or thousand numbers, its *features*, and a
# **head**, a linear layer that turns features into one number for each class. The families differ in the backbone:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
LAYER, JOIN = "#BFD7EA", "#F2D0A9"
x = Box("x", 0, 0, "none")
first, second = Box("3×3", 0, 1, LAYER), Box("3×3", 0, 2, LAYER)
stack = {"x": x, "a": first, "b": second, "end": Box("pooling", 0, 3, JOIN)}
up = [("x", "a"), ("a", "b"), ("b", "end")]
dense = {
    "x": x,
    **{
        name: Box(f"layer {n}", 0, n, LAYER, 0.8)
        for n, name in enumerate(("a", "b", "end"), 1)
    },
}
separable = {
    "x": x,
    "a": Box("3×3, each\nchannel alone", 0, 1.2, LAYER, 1.5, 0.8),
    "end": Box("1×1, mixes\nchannels", 0, 2.6, LAYER, 1.5, 0.8),
}
inverted = {
    "x": x,
    "a": Box("1×1, widens", 0, 0.8, LAYER, 1.5),
    "b": Box("3×3, alone", 0, 1.6, LAYER, 1.5),
    "c": Box("1×1, narrows", 0, 2.4, LAYER, 1.5),
    "end": Box("+", 0, 3.2, JOIN, 0.5),
}
tc.plots.flow(
    {
        "VGG: stack": (stack, up),
        "ResNet: add": (
            stack | {"end": Box("+", 0, 3, JOIN, 0.5)},
            [*up, ("x", "end", 0.7)],
        ),
        "DenseNet: append": (
            dense,
            [*up, ("x", "b", 0.7), ("x", "end", 0.7), ("a", "end", -0.7)],
        ),
        "MobileNet (V1)": (separable, [("x", "a"), ("a", "end")]),
        "EfficientNet": (
            inverted,
            [("x", "a"), ("a", "b"), ("b", "c"), ("c", "end"), ("x", "end", 0.6)],
        ),
    },
    title="One block of each family (3×3 and 1×1 are sizes of convolutions)",
    height=3.2,
)

# %% [markdown]
# * **VGG** (2014) stacks 3×3 convolutions and halves the width and height after every two or three.
# * [**ResNet**](glossary.ipynb#Residual-connection) (2015) adds: a block computes a change *F(x)* and returns *x + F(x)*.
#   Gradients reach early layers through the sum, so networks of dozens of layers can be trained.
# * **DenseNet** (2016) appends (*concatenates*): each layer gets the outputs of all earlier layers of its block.
# * **MobileNet** (2017) splits a convolution in two. A *depthwise* one filters each channel by itself; a 1×1 convolution
#   mixes the channels. Together they are [*depthwise separable*](glossary.ipynb#Depthwise-separable-convolution).
# * **EfficientNet** (2019), like MobileNet from V2 on, widens, filters depthwise, narrows and adds. *Compound scaling* makes
#   network and images larger in a fixed proportion, from B0 to B7; Lite0 is a B0 for small devices.
# <!-- given: years and sizes from the papers of the families -->
#
# What does splitting save? We count the multiplications of one layer with 128 channels, whole and split:
# <!-- given: set in the cell below -->

# %%
whole = nn.Conv2d(128, 128, kernel_size=3, padding=1, bias=False)
separable = nn.Sequential(
    nn.Conv2d(128, 128, kernel_size=3, padding=1, groups=128, bias=False),  # depthwise
    nn.Conv2d(128, 128, kernel_size=1, bias=False),  # mixes the channels
)

widen = nn.Conv2d(3, 128, kernel_size=1, bias=False)  # 3 channels to 128; not counted
macs = [
    tc.count_macs(nn.Sequential(widen, layer), size=28) - tc.count_macs(widen, size=28)
    for layer in (whole, separable)
]
print(f"3×3: whole {macs[0]:,}, separable {macs[1]:,}: a ratio of {macs[0] / macs[1]:.1f}")


# %% jupyter={"source_hidden": true}
def anatomy(model):
    """Counts of what the families differ in."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    in_linear = sum(p.numel() for m in linear for p in m.parameters())
    return {
        "convolutions": len(convolutions),
        "of them 3×3": sum(m.kernel_size == (3, 3) for m in convolutions),
        "of them depthwise": sum(m.groups == m.in_channels > 1 for m in convolutions),
        "BatchNorms": sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()),
        "parameters in linear layers": round(
            in_linear / sum(p.numel() for p in model.parameters()), 2
        ),
    }


ONE_EACH = ("vgg16", "resnet50", "densenet121", "mobilenet_v3_large", "efficientnet_b0")
with torch.device("meta"):
    built = {name: torchvision.models.get_model(name, weights=None) for name in ONE_EACH}
pd.DataFrame.from_dict(
    {name: anatomy(model) for name, model in built.items()}, orient="index"
)

# %% jupyter={"source_hidden": true}
assert anatomy(built["vgg16"])["parameters in linear layers"] > 0.85
assert anatomy(built["vgg16"])["BatchNorms"] == 0
assert all(
    anatomy(built[name])["of them depthwise"] > 10
    for name in ("mobilenet_v3_large", "efficientnet_b0")
)
print(
    "VGG16 keeps nine tenths of its parameters in its linear layers, and has no BatchNorm."
)

# %% [markdown]
# ## 3 Load weights, replace the head
#
# In torchvision, weights are a member of an enumeration. It knows the classes, the preprocessing and the accuracy without a
# download. *Top-1* accuracy (`acc@1`) is the share of images whose first answer is right:

# %%
from torchvision.models import ResNet18_Weights

weights = ResNet18_Weights.DEFAULT
print(len(weights.meta["categories"]), "classes,", weights.meta["_metrics"]["ImageNet-1K"])
print(weights.transforms())
# model = torchvision.models.resnet18(weights=weights)       downloads once
# batch = weights.transforms()(image).unsqueeze(0)

# %% [markdown]
# Older code writes `pretrained=True`. That is deprecated, and loads the *oldest* weights. `DEFAULT` loads the best ones,
# which may change with a new torchvision: in work that others are to repeat, name the version.
#
# For a new task with five classes the last linear layer is replaced. Its name depends on the family; its width is read from
# the old layer:

# %%
CLASSES = 5
resnet = torchvision.models.resnet18(weights=None)  # weights=ResNet18_Weights.DEFAULT
resnet.fc = nn.Linear(resnet.fc.in_features, CLASSES)

mobilenet = torchvision.models.mobilenet_v3_small(
    weights=None
)  # VGG and torchvision's EfficientNet as well
mobilenet.classifier[-1] = nn.Linear(mobilenet.classifier[-1].in_features, CLASSES)

densenet = torchvision.models.densenet121(weights=None)
densenet.classifier = nn.Linear(densenet.classifier.in_features, CLASSES)

tc.arch_table()[["head", "features"]]

# %% jupyter={"source_hidden": true}
from tlhelpers.models.families import ARCHS, FAMILIES
from tlhelpers.models.loading import build

agree = 0
for name, row in ARCHS.items():
    path = FAMILIES[row.family].head.removesuffix("[-1]")
    with torch.device("meta"):
        by_hand, by_helper = build(row), build(row)
        owner, _, layer = path.rpartition(".")
        owner = by_hand.get_submodule(owner)
        if isinstance(part := getattr(owner, layer), nn.Sequential):
            part[-1] = nn.Linear(part[-1].in_features, CLASSES)
        else:
            setattr(owner, layer, nn.Linear(part.in_features, CLASSES))
        tl.replace_head(by_helper, CLASSES)
        shapes = [
            {k: v.shape for k, v in m.state_dict().items()} for m in (by_hand, by_helper)
        ]
        assert shapes[0] == shapes[1], name
        assert by_hand.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, CLASSES), name
    agree += 1
print("tl.replace_head does the same for all", agree, "architectures.")

# %% [markdown]
# (`vgg16_gap` is this course's VGG16 with one linear layer; EfficientNet-Lite0 comes from *timm*.) Take the wrong name, and a
# VGG16 raises **no** error. It gets a layer that is never used, and goes on answering with 1000 classes: <!-- given: ImageNet
# has 1000 classes -->

# %%
with torch.device("meta"):  # shapes without numbers
    wrong = torchvision.models.vgg16(weights=None)
    wrong.fc = nn.Linear(4096, CLASSES)
    print(tuple(wrong(torch.zeros(1, 3, 224, 224)).shape))

# %% [markdown]
# ## 4 Prepare the image as the weights expect
#
# Tutorials get the preprocessing wrong in many ways. Guess first: which of these ruin the answer, and which hardly matter? We
# take six random crops of each photograph, and ask how much probability the fair names get.

# %% jupyter={"source_hidden": true}
cat = photos["chelsea"]
right_method = "as the weights expect"
prep = lite.card.preprocessing
bicubic = v2.InterpolationMode(prep.interpolation)
to_float = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])  # 0 to 1
normalise = v2.Normalize(prep.mean, prep.std)
crop = v2.Compose([v2.Resize(prep.resize, interpolation=bicubic), v2.CenterCrop(prep.size)])

METHODS = {
    "as the weights expect": v2.Compose([crop, to_float, normalise]),
    "not normalised": v2.Compose([crop, to_float]),
    "ResNet's mean and std": v2.Compose(
        [crop, to_float, v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    ),
    "0 to 255": v2.Compose([crop, v2.PILToTensor(), v2.ToDtype(torch.float32), normalise]),
    "blue and red swapped": v2.Compose(
        [crop, to_float, normalise, v2.Lambda(lambda x: x.flip(0))]
    ),
    "squeezed into a square": v2.Compose(
        [v2.Resize((224, 224), interpolation=bicubic), to_float, normalise]
    ),
    "shrunk to 64 px": v2.Compose(
        [v2.Resize((64, 64), interpolation=bicubic), to_float, normalise]
    ),
}
assert torch.equal(METHODS["as the weights expect"](cat), prep.evaluation()(cat))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
torch.manual_seed(SEED)
part = v2.RandomResizedCrop(
    300, scale=(0.7, 1.0), ratio=(1.0, 1.5)
)  # still a photograph, not yet prepared
parts = [(name, part(photo)) for name, photo in photos.items() for _ in range(6)]


@torch.inference_mode()
def judged(prepare, model=lite, at_once=12):
    """Share of the parts whose first answer is fair, and the mean probability of all fair names together."""
    images = torch.stack([prepare(photo) for _, photo in parts]).to(profile.device)
    chances = torch.cat([model(batch).softmax(1) for batch in images.split(at_once)]).cpu()
    accepted = torch.tensor(
        [[c in FAIR[name] for c in model.card.classes] for name, _ in parts]
    )
    first = accepted.gather(1, chances.argmax(1, keepdim=True)).float().mean()
    return {
        "first answer is fair": float(first),
        "probability": float((chances * accepted).sum(1).mean()),
    }


fair = pd.DataFrame({method: judged(prepare) for method, prepare in METHODS.items()}).T
fair.loc["eval() forgotten"] = judged(
    METHODS[right_method], copy.deepcopy(lite).train(), at_once=1
)
tc.plots.bars(
    fair["probability"].sort_values(ascending=False),
    title="The right preprocessing and seven mistakes",
    xlabel="mean probability of the fair names",
)

# %% jupyter={"source_hidden": true} tags=["claim-preprocessing"]
first = fair["first answer is fair"]
assert first["as the weights expect"] > 0.7
assert first[["0 to 255", "eval() forgotten"]].max() < 0.4
mild = ["not normalised", "ResNet's mean and std", "blue and red swapped"]
assert first[mild].min() > first[["0 to 255", "eval() forgotten"]].max() + 0.2
print("Numbers from 0 to 255 and a forgotten eval() ruin the answers.")
print("Wrong normalisation and swapped colours do far less harm here.")

# %% [markdown]
# A missing `/255`, a forgotten `eval()` (asked one image at a time, BatchNorm then normalises with that image's own
# statistics) and an image of 64 pixels ruin the answers: one notices. Missing normalisation and swapped colours pass
# unnoticed with *this* network and these clear photographs; on drawings the same slip changes more
# ([12.5](12_5_practical_example.ipynb)). With other weights it is fatal: VGG16's second set, `IMAGENET1K_FEATURES`, expects
# inputs dozens of times larger.
#
# > **Repair for all:** take the preprocessing from the weights, add the batch dimension with `unsqueeze(0)`, call `eval()`,
# > and test on an image whose answer you know.

# %% jupyter={"source_hidden": true}
from torchvision.models import VGG16_Weights

ranges = {
    m.name: float(m.transforms()(cat).abs().max())
    for m in (VGG16_Weights.DEFAULT, VGG16_Weights.IMAGENET1K_FEATURES)
}
print({name: f"largest input {value:.0f}" for name, value in ranges.items()})
assert ranges["IMAGENET1K_FEATURES"] > 20 * ranges["IMAGENET1K_V1"]
assert torch.equal(METHODS[right_method](cat), prep.evaluation()(cat))

# %% [markdown]
# ## 5 What a network costs
#
# *Parameters* decide how much is downloaded and kept in memory, *multiplications* (MACs, each with an addition; `gmacs` are
# 10⁹ of them) how much there is to compute. Neither alone gives the time. We run one image of 224 px through each network in
# turns, three rounds, and keep the shortest: <!-- given: set in the cells below -->

# %% jupyter={"source_hidden": true}
costs = tc.cost_table()
both = costs.dropna()
assert (both["gmacs"] / both["gmacs_stated"] - 1).abs().max() < 0.01

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
timed = [name for name in both.index if name != "vgg16_bn"]
networks = {
    name: torchvision.models.get_model(name, weights=None).to(
        profile.device
    )  # random weights
    for name in timed
}
image = torch.zeros(1, 3, 224, 224, device=profile.device)
methods = {name: functools.partial(model.eval(), image) for name, model in networks.items()}
with torch.inference_mode():
    measured = tc.benchmark_interleaved(methods, rounds=3)
del networks, methods
costs["ms"] = 1000 * measured["best"]
costs["gmacs_per_second"] = costs["gmacs"] / costs["ms"] * 1000
costs.loc[timed, ["parameters", "gmacs", "ms", "gmacs_per_second"]].sort_values("ms").round(
    2
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tc.plots.trade_off(
    costs.loc[timed],
    {
        "parameters": "parameters (million)",
        "gmacs": "multiplications (10⁹)",
        "ms": "time (ms)",
    },
    "top1",
    by="family",
    title="What accuracy on ImageNet costs, by three measures of cost",
    ylabel="top-1 accuracy on ImageNet",
)

# %% jupyter={"source_hidden": true} tags=["claim-fewer-parameters-faster", "claim-fewer-macs-faster"]
fewer, more = costs.loc["densenet121"], costs.loc["resnet18"]
assert fewer["parameters"] < more["parameters"]
if profile.device.type == "cpu":
    assert fewer["ms"] > more["ms"]
    saved = costs["gmacs"]["resnet18"] / costs["gmacs"]["mobilenet_v3_large"]
    won = costs["ms"]["resnet18"] / costs["ms"]["mobilenet_v3_large"]
    assert won < saved / 1.5
print("DenseNet121 has fewer parameters than ResNet18, and takes longer.")
print("MobileNetV3 saves more multiplications than time.")

# %% [markdown]
# By parameters the order differs: VGG16 has the most, and DenseNet121 has fewer than ResNet18. By multiplications it is
# nearly that of time, but not in proportion: a depthwise convolution moves many numbers for each multiplication. Time the
# networks on *your* machine.
#
# ## 6 Which one transfers best?
#
# **On ImageNet itself**, size says little between families. Spearman's rank correlation is 1 if two orders agree, 0 if
# they have nothing to do with each other:

# %% jupyter={"source_hidden": true} tags=["claim-bigger-source"]
order = both["parameters"].corr(both["top1"], method="spearman")
print(f"Rank correlation of parameters and accuracy: {order:.2f}.")
assert abs(order) < 0.3
for family, rows in both.drop("vgg16_bn").groupby("family"):
    if len(rows) > 1:
        by_size = rows.sort_values("parameters")
        assert by_size["top1"].is_monotonic_increasing
        print(f"The larger {family} is the more accurate: {', '.join(by_size.index)}.")

# %% jupyter={"source_hidden": true}
recipes = pd.Series(
    {
        f"{arch} {weights.name}": weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        for arch in ("resnet34", "resnet50", "mobilenet_v3_large")
        for weights in torchvision.models.get_model_weights(arch)
    },
    name="top-1 (%)",
)

# %% jupyter={"source_hidden": true} tags=["claim-architecture-decides"]
newer_recipe = recipes["resnet50 IMAGENET1K_V2"] - recipes["resnet50 IMAGENET1K_V1"]
larger_network = recipes["resnet50 IMAGENET1K_V1"] - recipes["resnet34 IMAGENET1K_V1"]
assert newer_recipe > larger_network > 0
print(
    f"ResNet50 in place of ResNet34: {larger_network:+.1f} points; "
    f"ResNet50's newer training recipe: {newer_recipe:+.1f} points."
)

# %% [markdown]
# The newer recipe (longer training, more augmentation, averaged weights) gained more than the larger network. "Network A is
# better than network B" often means that A was trained later.
#
# **On new tasks**, each network was fine-tuned beforehand on five data sets with five seeds, at the best of three learning
# rates, until validation stopped improving. The course's ResNets and VGG16 get images of 64 pixels, as in their pre-training;
# EfficientNet-Lite0 gets 128. The table shows the difference to ResNet18 in points, with its 95 % interval.
# <!-- given: the settings in tlcourse/measurements/data/transfer.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
transfer = tc.load_results("transfer")
NAMES = ["hymenoptera", "cats_dogs", "safari", "flowers", "chest_xray"]
tuned = {
    name: transfer.against(name, "resnet18", by="network", method="everything")
    for name in NAMES
}
pd.DataFrame({name: tc.in_points(table).iloc[:, 1] for name, table in tuned.items()})

# %% jupyter={"source_hidden": true} tags=["claim-bigger-transfers"]
larger = [table.loc["resnet34"] for table in tuned.values()]
print(
    f"ResNet34 in place of ResNet18: {min(100 * row.gain for row in larger):+.1f} to "
    f"{max(100 * row.gain for row in larger):+.1f} points; every interval contains zero."
)
assert all(row.low < 0 < row.high for row in larger)

# %% jupyter={"source_hidden": true} tags=["claim-source-accuracy"]
lite = {name: table.loc["efficientnet_lite0"] for name, table in tuned.items()}
print("EfficientNet-Lite0 in place of ResNet18:")
print(
    "ahead: ", {name: f"{100 * row.gain:+.1f}" for name, row in lite.items() if row.low > 0}
)
print(
    "behind:",
    {name: f"{100 * row.gain:+.1f}" for name, row in lite.items() if row.high < 0},
)
assert {name for name, row in lite.items() if row.low > 0} == {
    "hymenoptera",
    "cats_dogs",
    "safari",
}
assert {name for name, row in lite.items() if row.high < 0} == {"flowers", "chest_xray"}

# %% [markdown]
# EfficientNet-Lite0 was pre-trained on far more and larger photographs than the course's networks. Fine-tuned, it is 9.5 to
# 17.1 points ahead of ResNet18 on three data sets, 5.8 behind on flowers and 3.1 on chest X-rays. It also differs in
# architecture and image size, so this is no clean test. Nor is ResNet34: on its source task it is hardly better than ResNet18
# (45.5 % against 44.9 %).
# <!-- given: tlcourse/measurements/data/transfer.json, and the cards of the networks -->
#
# What does accuracy on ImageNet buy? Over sixteen networks it predicted accuracy on new tasks well (Kornblith et al. 2019).
# But it can be bought at the features' expense: label smoothing and similar losses raised it, and the frozen features became
# *worse* for other tasks (Kornblith et al. 2021). <!-- given: Kornblith, Shlens and Le 2019, arXiv:1805.08974; Kornblith et
# al. 2021, arXiv:2010.16402 -->
#
# Can you tell before you train? [12.2.3](12_2_3_modern_practice.ipynb) tries three scores.
#
# ## 7 VGG16, cats and dogs, and the classic loop
#
# The example that most tutorials show: cats or dogs, VGG16, and a function `train_model` with the phases *train* and *val*.
# The full profile takes Oxford's photographs. **The quick profile has none of cats and dogs. It takes drawings of mammals and
# birds**, 64 px wide, and this course's VGG16 with one linear layer. <!-- given: settings of the cell below -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
CATS = "Abyssinian Bengal Birman Bombay British_Shorthair Egyptian_Mau Maine_Coon Persian Ragdoll"
CATS += " Russian_Blue Siamese Sphynx"
CAT_BREEDS = {name.replace("_", " ") for name in CATS.split()}
if QUICK:
    pets = tl.load_data("safari", size=72, per_class=64, val_per_class=20, seed=SEED)
    kinds = {name: name for name in ("mammal", "bird")}
else:
    pets = tl.load_data("oxford_pets")
    kinds = {name: "cat" if name in CAT_BREEDS else "dog" for name in pets.classes}
NAMES = sorted(set(kinds.values()))


class TwoKinds(Dataset):
    """The images of a split that belong to one of two kinds, as (tensor, 0 or 1)."""

    def __init__(self, split, transform):
        self.split, self.transform = split, transform
        self.chosen = [
            i for i, label in enumerate(split.labels) if split.classes[label] in kinds
        ]

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, number):
        i = self.chosen[number]
        kind = kinds[self.split.classes[self.split.labels[i]]]
        return self.transform(self.split.image(i)), NAMES.index(kind)


vgg = tl.load_model("vgg16", size=64 if QUICK else None)
sets = {
    "train": TwoKinds(
        pets.train, vgg.card.preprocessing.training()
    ),  # random crops and mirroring
    "val": TwoKinds(pets.val, vgg.card.preprocessing.evaluation()),  # nothing random
}
print(NAMES, {phase: len(images) for phase, images in sets.items()})


# %%
def new_vgg():
    """VGG16, frozen, with a new head for two kinds."""
    model = copy.deepcopy(vgg)
    for parameter in model.parameters():
        parameter.requires_grad = False
    torch.manual_seed(SEED)
    model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, len(NAMES))
    return model.to(profile.device)


model = new_vgg()
optimizer = torch.optim.SGD(model.classifier[-1].parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1)
print("trainable:", [name for name, p in model.named_parameters() if p.requires_grad])


# %% jupyter={"source_hidden": true}
def new_loaders():
    """The same order of images each time they are made."""
    return {
        phase: DataLoader(
            images,
            batch_size=16,
            shuffle=phase == "train",
            generator=torch.Generator().manual_seed(SEED),
        )
        for phase, images in sets.items()
    }


# %% [markdown]
# VGG16 has no BatchNorm, so `requires_grad = False` is all there is to freezing it. One phase, and the loop over epochs:


# %%
def run_phase(model, loader, criterion, optimizer=None):  # trains if there is an optimizer
    model.train(optimizer is not None)
    sums = torch.zeros(3)  # loss, right answers, images
    for images, labels in loader:
        images, labels = images.to(profile.device), labels.to(profile.device)
        with torch.set_grad_enabled(optimizer is not None):
            logits = model(images)
            loss = criterion(logits, labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        right = (logits.argmax(1) == labels).sum()
        sums += torch.tensor([loss.item() * len(labels), right.item(), len(labels)])
    return (sums[0] / sums[2]).item(), (sums[1] / sums[2]).item()


# %%
def train_model(model, loaders, criterion, optimizer, scheduler, num_epochs):
    best, best_weights = (-1.0, 0.0), None
    for epoch in range(1, num_epochs + 1):
        loss, _ = run_phase(model, loaders["train"], criterion, optimizer)
        val_loss, val_accuracy = run_phase(model, loaders["val"], criterion)
        scheduler.step()
        print(
            f"epoch {epoch}: loss {loss:.3f}, val {val_loss:.3f}, right {val_accuracy:.1%}"
        )
        if (val_accuracy, -val_loss) > best:
            best = (val_accuracy, -val_loss)
            best_weights = copy.deepcopy(model.state_dict())  # not without deepcopy!
    model.load_state_dict(best_weights)
    return model.eval()


# %% tags=["nbval-ignore-output"]
EPOCHS = 4
torch.manual_seed(SEED)
criterion = nn.CrossEntropyLoss()
by_hand = train_model(model, new_loaders(), criterion, optimizer, scheduler, EPOCHS)

# %% [markdown]
# The function takes any network. The book's other example is a ResNet18 whose layers all train, for five epochs:

# %% tags=["nbval-ignore-output"]
resnet = tl.load_model("resnet18", size=64 if QUICK else None)
resnet.fc = nn.Linear(resnet.fc.in_features, len(NAMES))
resnet.to(profile.device)
optimizer = torch.optim.SGD(resnet.parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1)
resnet = train_model(resnet, new_loaders(), criterion, optimizer, scheduler, num_epochs=5)

# %% [markdown]
# Two traps lie in `train_model`. The loss is weighted with the number of images, since the last batch is smaller. And
# `state_dict()` holds no copies: without `deepcopy` the "best" weights go on training, and at the end they are the last ones.
#
# `tl.fit` takes the same loaders, optimizer and scheduler, and trains the same weights. It also stops with an explanation
# when the loss is no longer a number, keeps frozen BatchNorm frozen, and can be interrupted and resumed:

# %% tags=["nbval-ignore-output"]
again = tl.fit(
    new_vgg(),
    new_loaders(),
    epochs=EPOCHS,
    lr=0.01,
    optimizer=functools.partial(torch.optim.SGD, momentum=0.9),
    schedule=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=3),
    seed=SEED,
)
again.plot()

# %% jupyter={"source_hidden": true}
gap = float(
    (tl.get_head(again.model).weight - tl.get_head(by_hand).weight).abs().max().detach()
)
assert gap < 1e-3 * float(tl.get_head(by_hand).weight.abs().max().detach())
print("The two heads have the same weights, apart from rounding.")
layer = nn.Linear(1, 1)
careless, careful = layer.state_dict(), copy.deepcopy(layer.state_dict())
with torch.no_grad():
    layer.weight += 1  # training goes on
assert careless["weight"] == layer.weight != careful["weight"]

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
tested = TwoKinds(pets.test, vgg.card.preprocessing.evaluation())
labels = torch.tensor([label for _, label in tested])
with torch.inference_mode():
    guesses = torch.cat(
        [
            by_hand(images.to(profile.device)).argmax(1).cpu()
            for images, _ in DataLoader(tested, 32)
        ]
    )
right = int((guesses == labels).sum())
low, high = tl.wilson_interval(right, len(labels))
same = labels.bincount().max().item() / len(labels)
print(f"{right / len(labels):.1%} of {len(labels)} (95 % interval {low:.1%} to {high:.1%})")
print(f"always the same kind: {same:.1%}")

# %% jupyter={"source_hidden": true}
losses = again.history["train_loss"]
assert low <= right / len(labels) <= high
tc.report_finding("The training loss fell.", losses.iloc[-1] < losses.iloc[0] - 0.02)

# %% [markdown]
# Sixty-four images of a kind, 64 px wide, are a hard case: look at the interval before you believe the number.
#
# ## Check yourself
#
# **1.** In the three panels of section 5, which network has fewer parameters than ResNet18 and yet takes longer, and why?
#
# <details><summary>Answer</summary>
#
# DenseNet121. It has fewer parameters than ResNet18, but it needs 1.6 times as many multiplications: a convolution uses each
# of its weights at every position of its map. <!-- given: torchvision's metadata -->
# </details>
#
# **2.** You load a VGG16, write `model.fc = nn.Linear(4096, 2)`, train only `model.fc`, and the loss does not fall. Why?
#
# <details><summary>Answer</summary>
#
# VGG16 has no `fc`. The new layer is not part of the forward pass, so it gets no gradient. (If all else is frozen,
# `backward()` stops with an error.) The head is `model.classifier[-1]`.
# </details>
#
# **3.** A network is three points better on ImageNet. Will it be better on your task?
#
# <details><summary>Answer</summary>
#
# Probably, and not surely: ask how it was trained, and on what size of images. Fine-tune both and compare on validation images.
# </details>
#
# ## Summary
#
# * **Families** differ in how they connect layers; each keeps its head under another name.
# * **Weights, preprocessing and classes** belong together: take all three from one object.
# * **Test on an image whose answer you know** before you believe a pipeline.
# * **Cost** is parameters, multiplications and time. Measure the one that limits you.
# * **A larger or better source model** is a good first guess, and no guarantee.
#
# **What to try next**
#
# * Put a photograph of your own into `photos`, with the names that you accept into `FAIR`.
# * Replace StepLR by `torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)`. Expect little difference in so few
#   epochs.
# * Write `careless = model.state_dict()` before training, and compare it with the weights after it.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
