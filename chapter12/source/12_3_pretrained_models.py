# %% [markdown]
# # 12.3 Pre-trained models
#
# Which network to start from, what it costs, how to load its weights, how to ask it about an image without spoiling the
# answer, and how to change its last layer.
#
# **What you will learn**
#
# * five families of networks, and what is special about each,
# * what they cost: parameters, multiplications, bytes, time; and why these four do not agree,
# * whether a bigger network is a better one to transfer from,
# * how to load weights with the preprocessing that belongs to them, and eight ways to get it wrong,
# * how to replace the last layer of each family by hand,
# * VGG16, its last layer and the classic training loop with the phases *train* and *val*.
#
# **Time:** about a minute on 2 CPU cores in the quick profile; the last cell prints what it took here.

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

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile(precision="fp32")  # so that two loops agree digit by digit
QUICK = profile.name == "quick"
SEED = profile.seed  # 0; the environment variable TL_SEED sets another
print(profile)

# %% [markdown]
# **What the quick profile puts in place of the real thing.** Torchvision's weights would have to be downloaded, so they
# are described here from the metadata that torchvision carries, and not loaded. Two sources need no download.
# *EfficientNet-Lite0* arrives with a pip package and has real ImageNet weights; it classifies the photographs below.
# *ResNet18*, *ResNet34* and a *VGG16* came with this course, trained by us on small images; they are much weaker than
# torchvision's. Where training needs images, the quick profile takes drawings on made-up backgrounds.
#
# ## 1 Five families
#
# A network for images has two parts. The **backbone** turns an image into a few hundred or thousand numbers, its
# *features*. The **head**, the last linear layer, turns features into one number for each class. The families
# differ in the backbone.
#
# **VGG** (2014) stacks one kind of layer: convolutions of 3×3 pixels, with a pooling after every two or three that
# halves the width and height. Two 3×3 layers in a row see as much of the image as one 5×5 layer, with fewer weights
# and one more non-linearity. Three large linear layers follow.
#
# **ResNet** (2015) adds a *residual connection*: a block computes a change *F(x)*, and its output is *x + F(x)*. If the
# block has nothing to add, it only has to learn zero. Gradients reach the early layers through the sum, so that
# networks of dozens of layers can be trained at all.
#
# **DenseNet** (2016) *concatenates* in place of adding: each layer gets the outputs of all earlier layers of its block,
# and adds a few channels of its own. Features are reused, so it needs few parameters.
#
# **MobileNet** (V3: 2019) splits a convolution in two. A *depthwise* convolution filters each channel by itself; a 1×1
# convolution then mixes channels. Together they are *depthwise separable*. V3 adds *squeeze-and-excitation*: a tiny
# network looks at the mean of each channel and decides how much to turn that channel up or down.
#
# **EfficientNet** (2019) is made of the same parts, and adds a rule for growing: *compound scaling* makes a network
# deeper, wider and its images larger at the same time, in a fixed proportion. B0 is the smallest, B7 the largest.
# EfficientNet-Lite0 is B0 without squeeze-and-excitation, for small devices.
# <!-- given: years and sizes from the papers of the families -->
#
# Is that what is in them? We build one of each and count. (The device `meta` makes tensors that have a shape and no
# numbers, so that even the largest network costs nothing.)


# %%
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
pd.DataFrame({name: anatomy(model) for name, model in built.items()}).T

# %% [markdown]
# VGG16 keeps nine tenths of its parameters in its linear layers, and has no BatchNorm: nothing in it depends on the
# other images of a batch. <!-- given: counted by the cell above, and asserted by the next one -->

# %%
assert anatomy(built["vgg16"])["parameters in linear layers"] > 0.85
assert anatomy(built["vgg16"])["BatchNorms"] == 0
assert all(
    anatomy(built[name])["of them depthwise"] > 10
    for name in ("mobilenet_v3_large", "efficientnet_b0")
)
print(
    "VGG16's parameters are in its linear layers; the two newest families filter depthwise."
)

# %% [markdown]
# What does a depthwise separable convolution save? We count the multiplications (MACs: a multiplication with an
# addition) of one layer with 128 channels, made both ways.

# %%
whole = nn.Conv2d(128, 128, kernel_size=3, padding=1, bias=False)
separable = nn.Sequential(
    nn.Conv2d(128, 128, kernel_size=3, padding=1, groups=128, bias=False),  # depthwise
    nn.Conv2d(128, 128, kernel_size=1, bias=False),  # mixes the channels
)

widen = nn.Conv2d(3, 128, kernel_size=1, bias=False)  # makes 128 channels of 3; not counted
macs = [
    tc.count_macs(nn.Sequential(widen, layer), size=28) - tc.count_macs(widen, size=28)
    for layer in (whole, separable)
]
print(f"whole {macs[0]:,}, separable {macs[1]:,}: a ratio of {macs[0] / macs[1]:.1f}")

# %% [markdown]
# ## 2 What they cost
#
# `gmacs` is counted here: PyTorch's `FlopCounterMode` watches one forward pass over an image of 224 px.
# `gmacs_stated`, `file` (megabytes) and `top1` are what torchvision states in the metadata of its weights; `top1` is the
# share of ImageNet's validation images that is classified rightly. EfficientNet-Lite0 and the small VGG16 of this
# course (`vgg16_gap`) are not torchvision's, so it states nothing about them.

# %%
costs = tc.cost_table()
costs.round(3)

# %%
both = costs.dropna()
difference = (both["gmacs"] / both["gmacs_stated"] - 1).abs().max()
assert difference < 0.01
print(f"counted and stated agree for all {len(both)} networks, to within a hundredth")

# %% [markdown]
# (Torchvision calls this number GFLOPs in its documentation. It is multiplications with addition; counted as separate
# operations there are twice as many. Papers use both words for both numbers: ask which, before you compare.)
#
# Now the time. We run one image of 224 px through each network, in **turns**: every round runs each network once, and
# we keep the shortest of the rounds. On a computer that does other things as well, one network timed after another
# would meet other conditions. VGG16 with BatchNorm is left out: its convolutions are VGG16's.

# %% tags=["nbval-ignore-output"]
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
    measured = tc.benchmark_interleaved(methods, rounds=5)
del networks, methods
costs["ms"] = 1000 * measured["best"]
costs["gmacs_per_second"] = costs["gmacs"] / costs["ms"] * 1000
costs.loc[timed, ["parameters", "gmacs", "ms", "gmacs_per_second"]].sort_values("ms").round(
    2
)

# %% tags=["nbval-ignore-output"]
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

# %% [markdown]
# Compare the three panels. A network that is cheap in one is not cheap in another: the order along the axis changes.
# *Parameters* decide how much is downloaded and kept in memory. *Multiplications* decide how much there is to compute.
# Neither decides how long it takes: a depthwise convolution and a concatenation move many numbers for each
# multiplication, and every layer has a price of its own for being called.

# %% tags=["claim-fewer-parameters-faster", "claim-fewer-macs-faster"]
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
# ## 3 Is bigger better?
#
# ### On ImageNet itself
#
# If bigger were better, ordering the networks by size would order them by accuracy. Spearman's rank correlation is 1 if
# two orders are the same, 0 if they have nothing to do with each other.

# %% tags=["claim-bigger-source"]
order = both["parameters"].corr(both["top1"], method="spearman")
print(f"Rank correlation of parameters and accuracy: {order:.2f}.")
assert abs(order) < 0.3
for family, rows in both.groupby("family"):
    if len(rows) > 1:
        by_size = rows.sort_values("parameters")
        assert by_size["top1"].is_monotonic_increasing
        print(f"The larger {family} is the more accurate: {', '.join(by_size.index)}.")

# %% [markdown]
# Between families: no. Within a family, from the smaller to the larger: yes, where the table has several. And the same
# architecture exists with weights that were trained in different ways. The older recipe is called V1, the newer one V2
# (longer training, more augmentation, averaged weights):

# %%
recipes = pd.Series(
    {
        f"{arch} {weights.name}": weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        for arch in ("resnet34", "resnet50", "mobilenet_v3_large")
        for weights in torchvision.models.get_model_weights(arch)
    },
    name="top-1 (%)",
)
recipes

# %% tags=["claim-architecture-decides"]
newer_recipe = recipes["resnet50 IMAGENET1K_V2"] - recipes["resnet50 IMAGENET1K_V1"]
larger_network = recipes["resnet50 IMAGENET1K_V1"] - recipes["resnet34 IMAGENET1K_V1"]
assert newer_recipe > larger_network > 0
print("ResNet50 gained more from a newer recipe than from being larger than ResNet34.")

# %% [markdown]
# So "network A is better than network B" often means "A was trained later".
#
# ### On new tasks
#
# Which network should you transfer? `transfer.json` holds trainings that we made beforehand. Each network was fine-tuned
# on five data sets with five seeds, at the best of three learning rates, until validation stopped improving. The course's
# ResNet18, ResNet34 and VGG16 learned from photographs of 64 px, EfficientNet-Lite0 from ImageNet at 224 px; here it gets
# images of 128 px. The table shows the difference to ResNet18, in points, with its 95 % interval.
# <!-- given: the settings in tlcourse/measurements/data/transfer.json -->

# %% tags=["nbval-ignore-output"]
transfer = tc.load_results("transfer")
print(transfer)
NAMES = ["hymenoptera", "cats_dogs", "safari", "flowers", "chest_xray"]
tuned = {
    name: transfer.against(name, "resnet18", by="network", method="everything")
    for name in NAMES
}
pd.DataFrame({name: tc.in_points(table).iloc[:, 1] for name, table in tuned.items()})

# %% tags=["claim-bigger-transfers"]
larger = [table.loc["resnet34"] for table in tuned.values()]
print(
    f"ResNet34 in place of ResNet18: {min(100 * row.gain for row in larger):+.1f} to "
    f"{max(100 * row.gain for row in larger):+.1f} points; every interval contains zero."
)
assert all(row.low < 0 < row.high for row in larger)

# %% tags=["claim-source-accuracy"]
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
# ResNet34 is hardly better than ResNet18 on its source task (45.5 % against 44.9 %), so this is no test of whether
# better networks transfer better. EfficientNet-Lite0 learned from a hundred times as many pixels. It also has another
# architecture and gets larger images, so it is no clean test either. Fine-tuned, it is 10 to 17 points ahead on ants and
# bees, cats and dogs and safari. On flowers it is 5.8 points behind, and on chest X-rays 3.1. A better source model is a
# good first guess and no guarantee.
#
# ### Can you tell before training?
#
# Three scores need only one pass of the training images through each network: the accuracy of the five *nearest
# neighbours* among its features; *LogME* (You et al. 2021), which asks how well a linear model explains the labels; and
# the validation accuracy of a head on frozen features. Do they rank the four networks as fine-tuning does? The rank
# correlation (Kendall's) is 1 for the same order and -1 for the opposite one.
# <!-- given: tlcourse/measurements/data/transfer.json, and the cards of the networks -->

# %% tags=["nbval-ignore-output"]
choosing = (
    tc.load_results("choosing")
    .runs.groupby(["data", "network"])[["neighbours", "logme"]]
    .mean()
)
runs = transfer.scored
frozen = runs[runs["method"] == "frozen"].groupby(["data", "network"])["val"].mean()
scores = choosing.assign(head=frozen)
fine_tuned = (
    runs[runs["method"] == "everything"].groupby(["data", "network"])["test"].mean()
)
agreement = pd.DataFrame(
    {
        name: scores.loc[name].corrwith(fine_tuned.loc[name], method="kendall")
        for name in NAMES
    }
)
agreement.assign(mean=agreement.mean(axis=1)).round(2)

# %% tags=["claim-predictable"]
print("Mean rank correlation:", agreement.mean(axis=1).round(2).to_dict())
assert agreement.mean(axis=1).between(0.1, 0.6).all()

# %% [markdown]
# All three have a mean rank correlation of 0.33, with a 95 % interval that contains zero: four networks and five data
# sets are too few to say more. All three put EfficientNet-Lite0 first on flowers and on chest X-rays, where it is last
# when fine-tuned.
# A score of frozen features says how good *frozen* features are. If you can, fine-tune two networks and compare.
#
# ## 4 Loading weights
#
# In torchvision, weights are a member of an *enumeration*. The member knows all that belongs to the weights. None of
# this needs a download:
# <!-- given: tlcourse/measurements/data/choosing.json and transfer.json -->

# %%
from torchvision.models import ResNet18_Weights, VGG16_Weights

weights = ResNet18_Weights.DEFAULT
print(weights)
print(
    "classes:      ",
    len(weights.meta["categories"]),
    "such as",
    weights.meta["categories"][:2],
)
print(
    "accuracy:     ", weights.meta["_metrics"]["ImageNet-1K"]["acc@1"], "% top-1, as stated"
)
print("preprocessing:", weights.transforms())

# %% [markdown]
# These lines load a network with its weights, and prepare an image as they expect it:
#
#     weights = ResNet18_Weights.DEFAULT            # or resnet18(weights="DEFAULT")
#     model = resnet18(weights=weights).eval()      # downloads once, then reads its cache
#     batch = weights.transforms()(image).unsqueeze(0)
#
# `transforms()` works without the weights. It takes a PIL image, and gives a normalised tensor of the right size:

# %%
cat = Image.fromarray(photographs.chelsea())
prepared = weights.transforms()(cat)
print(cat.size, "becomes", tuple(prepared.shape), prepared.dtype)

# %% [markdown]
# `tl.load_model("resnet18")` does the same, and adds a card with preprocessing and classes, so that the three stay
# together.
#
# ### `pretrained=True`
#
# Older code loads weights with a switch. We stop it just before the download, and look at what it says:

# %%
import contextlib
import warnings
from unittest import mock

from torchvision.models import ResNet50_Weights, resnet50

stopped = mock.patch.object(
    ResNet50_Weights, "get_state_dict", side_effect=InterruptedError
)
with warnings.catch_warnings(record=True) as caught, stopped, torch.device("meta"):
    warnings.simplefilter("always")
    with contextlib.suppress(InterruptedError):
        resnet50(pretrained=True)
for warning in caught:
    print("-", warning.message)

# %% [markdown]
# It is deprecated, and worse: it stands for the **oldest** weights, whose accuracy is in the table of section 3.
# `DEFAULT` is the best that there is; it can change with a new version of torchvision. In work that others are to
# repeat, name the weights: `ResNet50_Weights.IMAGENET1K_V2`.

# %%
assert "IMAGENET1K_V1" in str(caught[-1].message)
assert ResNet50_Weights.DEFAULT is ResNet50_Weights.IMAGENET1K_V2
print("pretrained=True means V1, DEFAULT means V2.")

# %% [markdown]
# ### The trap among VGG16's weights
#
# VGG16 has a second set of weights, `IMAGENET1K_FEATURES`. They come from another program, and hold sound numbers in
# the convolutions only. The linear layers are filled with NaN ("not a number"), so that a network that uses them gives
# NaN for every image. And they expect images in another range:

# %%
for member in VGG16_Weights:
    preset = member.transforms()
    print(member.name)
    print("   accuracy", member.meta["_metrics"]["ImageNet-1K"]["acc@1"], "as stated")
    print(
        "   mean",
        [round(m, 3) for m in preset.mean],
        "std",
        [round(s, 4) for s in preset.std],
    )

# %%
ranges = {
    m.name: float(m.transforms()(cat).abs().max())
    for m in (VGG16_Weights.DEFAULT, VGG16_Weights.IMAGENET1K_FEATURES)
}
print({name: f"largest input {value:.0f}" for name, value in ranges.items()})
assert ranges["IMAGENET1K_FEATURES"] > 20 * ranges["IMAGENET1K_V1"]

# %% [markdown]
# The same image enters one network with numbers of a few units, the other with numbers near a hundred. Whoever
# normalises by hand, "as always", feeds one of them wrongly, and nothing complains. The preprocessing belongs to the
# weights, not to the architecture. <!-- given: printed by the cell above -->
#
# ## 5 Asking a network about an image
#
# These photographs came with scikit-image. The network is EfficientNet-Lite0 with ImageNet's 1000 classes.
# <!-- given: ImageNet has 1000 classes -->

# %%
lite = tl.load_model("efficientnet_lite0").to(profile.device)
photos = {
    name: Image.fromarray(getattr(photographs, name)()).convert("RGB")
    for name in ("chelsea", "coffee", "rocket", "camera")
}
tl.plots.image_grid(
    list(photos.values()), list(photos), title="Photographs that came with scikit-image"
)

# %%
seen = tl.predict(lite, list(photos.values()), top=3)
answers = seen.pivot(index="image", columns="rank", values="class").set_axis(list(photos))
answers

# %% [markdown]
# Chelsea is a cat; which kind, ImageNet's breeds do not say well. For the others there is more than one fair name as
# well. Before measuring, we fix which names we accept:

# %%
FAIR = {
    "chelsea": ("tabby", "tiger cat", "Egyptian cat"),
    "coffee": ("espresso", "cup", "coffee mug"),
    "rocket": ("missile", "projectile", "space shuttle"),
    "camera": ("tripod", "reflex camera"),
}
for name in photos:
    assert answers.loc[name, 1] in FAIR[name]
print("Its first answer is a fair name for all", len(photos), "photographs.")

# %% [markdown]
# ### Eight ways to do it wrong
#
# Each of these is in tutorials. Guess first: which of them ruins the answer, and which does hardly any harm?

# %%
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

# %% [markdown]
# (Blue and red are swapped by OpenCV: `cv2.imread` gives BGR. 0 to 255 is what you get if you make a tensor from a NumPy
# array without scaling.)


# %%
@torch.inference_mode()
def first_answers(model, batch):
    """The name of the class with the highest logit, for each image of a batch."""
    return [model.card.classes[i] for i in model(batch.to(profile.device)).argmax(1)]


forgot_eval = copy.deepcopy(lite).train()  # a copy: in training mode BatchNorm moves
rows = {}
for method, prepare in METHODS.items():
    rows[method] = first_answers(
        lite, torch.stack([prepare(photo) for photo in photos.values()])
    )
right_method = METHODS["as the weights expect"]
rows["eval() forgotten"] = [
    first_answers(forgot_eval, right_method(p)[None])[0] for p in photos.values()
]
pd.DataFrame(rows, index=list(photos)).T

# %% [markdown]
# Look down each column. Some mistakes give nonsense, and one notices. Others give the same answer, or one almost as
# good; with those one does not notice. Four photographs are few, so we take random parts of each, and besides the first
# answer we look at how much probability the fair names get.

# %% tags=["nbval-ignore-output"]
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
fair.loc["eval() forgotten"] = judged(right_method, copy.deepcopy(lite).train(), at_once=1)
tc.plots.bars(
    fair["probability"].sort_values(ascending=False),
    title="What is left of the right answer",
    xlabel="probability of all fair names together, mean",
)

# %% tags=["nbval-ignore-output"]
fair.round(2)

# %% tags=["claim-preprocessing"]
first = fair["first answer is fair"]
assert first["as the weights expect"] > 0.7
assert first[["0 to 255", "eval() forgotten"]].max() < 0.4
mild = ["not normalised", "ResNet's mean and std", "blue and red swapped"]
assert first[mild].min() > first[["0 to 255", "eval() forgotten"]].max() + 0.2
print("Numbers from 0 to 255 and a forgotten eval() ruin the answers.")
print("Wrong normalisation and swapped colours do far less harm here.")

# %% [markdown]
# The network for which normalisation matters little here was trained with a mean of one half and a standard deviation
# of one half, so that leaving it out is a mild shift. With another network it is not mild: section 4 showed one whose
# inputs are dozens of times larger. That a mistake is harmless in one case is no reason to make it.
# <!-- given: mean and std from the card of the weights -->
#
# The eighth mistake raises an error, at least: no batch dimension.

# %%
for model in (lite, tl.load_model("resnet18")):
    try:
        model(METHODS["as the weights expect"](cat).to(profile.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        print(f"{type(model).__name__}: {str(error).splitlines()[0][:88]}")

# %% [markdown]
# **Repair for all eight:** take the preprocessing from the weights, `unsqueeze(0)` a single image, call `eval()`.
# Then test on an image whose answer you know.
#
# ## 6 Changing the last layer by hand
#
# For a new task with other classes the last linear layer is replaced by one with as many outputs as there are classes.
# Its name differs from family to family, and so does its width. The table of this package:

# %%
tc.arch_table()[["head", "features"]]

# %% [markdown]
# By hand, one line for each way of naming it. `in_features` is read from the old layer, and not typed.


# %%
def new_fc(model, classes):  # ResNet
    model.fc = nn.Linear(model.fc.in_features, classes)


def new_classifier(model, classes):  # DenseNet; EfficientNet-Lite0 of timm
    model.classifier = nn.Linear(model.classifier.in_features, classes)


def new_last_of_classifier(model, classes):  # VGG, MobileNet, EfficientNet
    model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, classes)


BY_HAND = {
    "resnet": new_fc,
    "densenet": new_classifier,
    "efficientnet_lite": new_classifier,
    "vgg": new_last_of_classifier,
    "mobilenet_v3": new_last_of_classifier,
    "efficientnet": new_last_of_classifier,
}

# %% [markdown]
# Are these lines right for every network of the table? We change each by hand and once more with `tl.replace_head`,
# compare the names and shapes of all tensors, and see that the new layer is the head that `tl.get_head` finds.

# %%
from tlhelpers.models.families import ARCHS
from tlhelpers.models.loading import build

CLASSES = 5
agree = []
for name, row in ARCHS.items():
    with torch.device("meta"):
        by_hand, by_helper = build(row), build(row)
        BY_HAND[row.family](by_hand, CLASSES)
        tl.replace_head(by_helper, CLASSES)
        shapes = [
            {k: v.shape for k, v in m.state_dict().items()} for m in (by_hand, by_helper)
        ]
        assert shapes[0] == shapes[1], name
        assert tl.get_head(by_hand).out_features == CLASSES, name
        assert by_hand.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, CLASSES), name
    agree.append(name)
print(
    len(agree), "of", len(ARCHS), "architectures: by hand and by tl.replace_head the same"
)

# %% [markdown]
# Two mistakes to know. `model.fc = ...` on a VGG16 raises **no** error: it adds a layer that is never used, and the
# network goes on answering with 1000 classes. And `model.classifier = nn.Linear(...)` on a VGG16 throws away all three
# linear layers; the next call fails, as the widths no longer fit. <!-- given: VGG16 has three linear layers and
# ImageNet 1000 classes -->

# %%
with torch.device("meta"):
    wrong = torchvision.models.vgg16(weights=None).eval()
    wrong.fc = nn.Linear(4096, CLASSES)
    print(
        "with model.fc the output is still", tuple(wrong(torch.zeros(1, 3, 224, 224)).shape)
    )
    wrong.classifier = nn.Linear(4096, CLASSES)
    try:
        wrong(torch.zeros(1, 3, 224, 224))
    except RuntimeError as error:
        print("with model.classifier:", error)

# %% [markdown]
# ## 7 VGG16, `classifier[-1]`, and the classic loop
#
# The example that most tutorials show: cats or dogs, with VGG16, a dictionary of loaders with the phases *train* and
# *val*, and a function `train_model`. The full profile takes the photographs of cats and dogs of Oxford's pets, 224 px
# wide. **The quick profile has no photographs of them: it takes two classes of safari, mammals and birds, drawn, 64 px
# wide,** and this course's VGG16, whose three linear layers are replaced by one. What it says about birds it does not
# say about dogs.
# <!-- given: settings of the cell below -->

# %% tags=["nbval-ignore-output"]
CATS = "Abyssinian Bengal Birman Bombay British_Shorthair Egyptian_Mau Maine_Coon Persian Ragdoll"
CATS += " Russian_Blue Siamese Sphynx"
CAT_BREEDS = {name.replace("_", " ") for name in CATS.split()}
if QUICK:
    pets = tl.load_data("safari", size=72, per_class=32, val_per_class=20, seed=SEED)
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

# %% [markdown]
# The network: all weights frozen, then a new last layer, whose weights train since they are new. VGG16 has no
# BatchNorm, so that `requires_grad = False` is all there is to freezing it. (With BatchNorm it is not: section 12.5
# shows why.)


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
print(model.classifier)
print("trainable:", [name for name, p in model.named_parameters() if p.requires_grad])


# %%
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


def new_optimizer(model):
    optimizer = torch.optim.SGD(model.classifier[-1].parameters(), lr=0.01, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)


# %% [markdown]
# The classic function, written out. In each epoch it goes through both phases; it remembers the weights of the best
# epoch and puts them back at the end.


# %%
def train_model(model, dataloaders, criterion, optimizer, scheduler, num_epochs):
    best, best_weights = (-1.0, 0.0), None
    for epoch in range(1, num_epochs + 1):
        for phase in ("train", "val"):
            model.train(phase == "train")
            loss_sum, hits, count = 0.0, 0, 0
            for images, labels in dataloaders[phase]:
                images, labels = images.to(profile.device), labels.to(profile.device)
                with torch.set_grad_enabled(phase == "train"):
                    logits = model(images)
                    loss = criterion(logits, labels)
                if phase == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                loss_sum += loss.item() * len(
                    labels
                )  # a mean over images, not over batches
                hits += (logits.argmax(1) == labels).sum().item()
                count += len(labels)
            print(
                f"epoch {epoch} {phase:5} loss {loss_sum / count:.3f} accuracy {hits / count:.1%}"
            )
            if phase == "train":
                scheduler.step()
            elif (hits / count, -loss_sum / count) > best:  # the lower loss decides ties
                best = (hits / count, -loss_sum / count)
                best_weights = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return model.eval()


# %% tags=["nbval-ignore-output"]
EPOCHS = 3
criterion = nn.CrossEntropyLoss()
torch.manual_seed(SEED)
by_hand = train_model(
    model, new_loaders(), criterion, *new_optimizer(model), num_epochs=EPOCHS
)

# %% [markdown]
# `tl.fit` takes the same loaders, optimizer and scheduler, and looks after what the classic function leaves out: it
# stops with an explanation when the loss is no longer a number, keeps frozen BatchNorm still, and gives the history as
# a table. Does it train the same weights?

# %% tags=["nbval-ignore-output"]
again = tl.fit(
    new_vgg(),
    new_loaders(),
    epochs=EPOCHS,
    lr=0.01,
    optimizer=functools.partial(torch.optim.SGD, momentum=0.9),
    schedule=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=7),
    seed=SEED,
)
again.history.round(3)

# %%
gap = float(
    (tl.get_head(again.model).weight - tl.get_head(by_hand).weight).abs().max().detach()
)
assert gap < 1e-3 * float(tl.get_head(by_hand).weight.abs().max().detach())
print("The two heads have the same weights, apart from rounding.")

# %% [markdown]
# ### The best weights that are not
#
# The line with `copy.deepcopy` is often written without it: `best_weights = model.state_dict()`. A state dict does not
# hold copies. It refers to the weights themselves, which go on changing. At the end the "best" weights are the last
# ones:

# %%
layer = nn.Linear(1, 1)
careless, careful = layer.state_dict(), copy.deepcopy(layer.state_dict())
with torch.no_grad():
    layer.weight += 1  # training goes on
print("without a copy:", bool(careless["weight"] == layer.weight), "- it moved along")
print("with a copy:   ", bool(careful["weight"] == layer.weight), "- it is what it was")

# %% [markdown]
# ### The result
#
# The test set, once. In the quick profile it shows mostly the same species as training, by artists whom training never
# met, and there are few images: look at the interval.

# %% tags=["nbval-ignore-output"]
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

# %%
losses = again.history["train_loss"]
assert low <= right / len(labels) <= high
tc.report_finding("The training loss fell.", losses.iloc[-1] < losses.iloc[0] - 0.02)

# %% [markdown]
# Does the interval contain the score of always naming the same kind? Then this run has not shown that the network
# learned anything about drawings by other artists, however the loss fell. More images, larger ones and better weights change that:
# the full profile has all three.
#
# ## Summary
#
# * **Five families** differ in how layers are connected; each keeps its head under another name.
# * **Cost** is four numbers, parameters, multiplications, bytes and time, and none stands for the others. Time your own
#   machine, in turns.
# * **Bigger** is better on ImageNet within a family; between families it says nothing, and the recipe of training can
#   matter more. On new tasks ResNet34, whose weights here are no better on their source, showed no significant
#   difference from ResNet18 on safari.
# * **The size of the images** belongs to the weights as much as mean and standard deviation do.
# * **Weights, preprocessing and classes** belong together: take all three from the same object.
# * **Test on an image whose answer you know** before you believe a pipeline.
#
# **What to try next**
#
# * Put a photograph of your own into `photos`, with names that you accept into `FAIR`.
# * Set `rounds=1` in `tc.benchmark_interleaved`, run the cell several times, and see how much one measurement is worth.
# * Replace StepLR by `torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)` in section 7.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
