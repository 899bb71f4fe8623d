# %% [markdown]
# # 12.7 Explorers: try it yourself
#
# Four things to play with: how deep to unfreeze, what the layers see, which learning rate to take, and what speaks for
# a class. Each begins with a figure; the cell after it puts controls around the same figure. Without a running kernel
# the page shows the figures alone.
#
# **What you will learn**
#
# * how the depth of fine-tuning and the number of images act together,
# * what the layers of a network make of an image, one of yours included,
# * how to read a trial of learning rates,
# * what in an image a network takes as evidence for one class or another.
#
# **Time:** under a minute on 2 CPU cores in the quick profile, and then as long as you like to play.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import skimage.data
from PIL import Image

import tlcourse as tc
import tlhelpers as tl

profile = tl.use_profile()
SEED = profile.seed
print(profile)

# %% [markdown]
# In the quick profile feature maps and heat maps come from an EfficientNet-Lite0 with ImageNet weights, in the full
# profile from the ResNet18 of torchvision. The drawings are emoji in several styles, on made-up backgrounds.
#
# ## 1 How deep, and with how many images?
#
# **Unfreezing deeper** lets more of the network adapt. Does it pay, and how much does it depend on the number of images?
# Two data sets were measured: *flowers* are photographs; *safari* is drawn, trained on three styles of emoji and tested
# on a fifth. Each setting was trained with five seeds until validation stopped improving, at the learning rate that
# validation chose out of three, so the explorer has nothing to compute and answers at once.

# %% tags=["nbval-ignore-output"]
measured = tc.load_results("refinements")
runs = measured.scored.query("topic == 'depth'")
print(measured)

# %%
at_10 = {
    method: {"topic": "depth", "per_class": 10, "method": method}
    for method in ("scratch", "head", "everything")
}
print("10 images a class, points gained (95 % interval):")
for name in ("flowers", "safari"):
    for than, better in (("scratch", "head"), ("head", "everything")):
        gain, low, high = measured.gain(name, at_10[better], at_10[than])
        assert low > 0
        points = f"{100 * gain:.1f} ({100 * low:.1f} to {100 * high:.1f})"
        print(f"  {name}: {better} on {than} {points}")

# %% [markdown]
# Above: training and test accuracy of one method, each seed a dot, the mean a line, the shade one standard deviation.
# The gap between the two lines is overfitting, and on safari the new style as well. Below: the test accuracy of all
# settings; the one shown above has a frame.

# %% tags=["nbval-ignore-output"]
tc.explorers.depth_view(runs, data="flowers", method="layer4", per_class=40)

# %% [markdown]
# Things to find out: Which row has the highest mean in every column? Which rows differ by less than the spread over
# seeds? How does the gap between training and test change with the number of images, for the head alone and for
# everything?

# %% tags=["nbval-ignore-output"]
tc.explorers.depth(runs)

# %% [markdown]
# ## 2 What the layers see
#
# A convolution gives a **feature map** for each of its channels: an image that is bright where the channel's pattern
# was found. Early layers keep the image's outlines. Later ones have fewer positions and more channels, and what makes
# them bright is harder to name.

# %% tags=["nbval-ignore-output"]
model = tl.load_model(profile.arch)
data = tl.load_data("safari", size=128, per_class=1, val_per_class=1, test_per_class=1)
images = {
    "a cat (photograph)": Image.fromarray(skimage.data.chelsea()),
    "an astronaut (photograph)": Image.fromarray(skimage.data.astronaut()),
    "a cup of coffee (photograph)": Image.fromarray(skimage.data.coffee()),
    **{f"{name} (drawing)": data.train.image(i) for i, name in enumerate(data.classes)},
}
layers = tc.explorers.map_layers(model)
print(model.card.sentence)

# %%
first, *_, last = layers.values()
assert last[0] > first[0]
assert last[1] < first[1]
print("The last layer has more channels than the first, and fewer positions.")

# %% tags=["nbval-ignore-output"]
FIRST_LAYER = next(iter(layers))
tc.explorers.feature_maps_view(model, images["a cat (photograph)"], layer=FIRST_LAYER)

# %% [markdown]
# Each map has shades of its own, so brightness cannot be compared between maps. Shown are the channels that vary most
# over this image; another image brings up others. Go through the layers from top to bottom, then take an image of
# your own: it is read by the kernel that runs this notebook, and sent nowhere else.

# %% tags=["nbval-ignore-output"]
tc.explorers.feature_maps(model, images, layer=FIRST_LAYER)

# %% [markdown]
# ## 3 Which learning rate?
#
# A **trial of learning rates** (Smith 2017) trains for a few dozen steps while the rate grows from step to step, and
# watches the loss. Afterwards the weights are put back. A good rate lies where the loss falls fastest, or somewhat
# below; where the loss is lowest, the steps are nearly too large already. <!-- given: source -->

# %% tags=["nbval-ignore-output"]
small = tl.load_data("safari", size=64, per_class=20, val_per_class=5, test_per_class=5)
learner = tl.freeze(tl.load_model("resnet18", classes=small.classes, size=64, seed=SEED))
trial = tl.find_lr(learner, small, seed=SEED)
trial

# %%
assert trial.curve["lr"].min() < trial.suggestion <= trial.highest
print("The loss falls fastest before it is lowest.")

# %% tags=["nbval-ignore-output"]
tc.explorers.rate_view(trial, rate=trial.suggestion)

# %% [markdown]
# The trial is short and has luck in it: another seed moves the curve. Also, what the loss is at a rate depends on all
# steps before. Take the order of magnitude from it, and no more.

# %% tags=["nbval-ignore-output"]
tc.explorers.learning_rate(trial)

# %% [markdown]
# ## 4 What speaks for a class?
#
# **Grad-CAM** adds up the maps of a layer, each weighted by how much the score of the class would rise if that map rose.
# Bright is what speaks for the class. It can be asked about *any* class, also about one that the network does not
# believe in.

# %% tags=["nbval-ignore-output"]
tc.explorers.grad_cam_view(model, images["a cat (photograph)"])

# %% [markdown]
# The heat map says *where* the evidence is, not *what* it is, and it is coarse: at the last block it has few positions
# and is enlarged to the size of the image. Compare two classes on one image, and then the blocks. In early blocks
# the map follows edges and says little about the class.

# %% tags=["nbval-ignore-output"]
tc.explorers.grad_cam(model, images)

# %% [markdown]
# ## Summary
#
# * **Depth:** with each method at its own learning rate and few images, the head alone beat training from scratch, and
#   fine-tuning everything beat the head alone.
# * **Feature maps** show what is left of an image at a layer; deeper means coarser, with more channels.
# * **A trial of learning rates** gives an order of magnitude.
# * **Grad-CAM** shows where the evidence for a class is, coarsely. It is no proof that the network looks at the right
#   thing.
#
# **What to try next**
#
# * Upload an image with two animals in it and ask Grad-CAM about each.
# * Upload a file that is no image, and see what the explorer says.
# * Unfreeze `learner` with `tl.unfreeze(learner, last=2)` and run the trial again. Where has the suggestion gone?

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
