# %% [markdown]
# # 12.7 Explorers: try it yourself
#
# Three questions, and for each an explorer: controls around a figure. Answer first, then move the controls, then unfold the
# answer. Without a running kernel the page shows the figures alone.
#
# **What you will learn**
#
# * how the depth of fine-tuning and the number of images act together,
# * what the layers of a network make of an image, one of yours included,
# * what in an image a network takes as evidence for one class or another.
#
# **Time:** under a minute of computing on 2 CPU cores, and then as long as you like to play.

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
# In the quick profile feature maps and heat maps come from an EfficientNet-Lite0 with ImageNet weights, in the full profile
# from torchvision's ResNet18. The drawings are emoji in several styles, on made-up backgrounds.
#
# ## 1 How deep, and with how many images?
#
# > **Question.** You have ten images of each class. Which layers would you train? And with forty?
#
# Two data sets were measured: *flowers* are photographs; *safari* is drawn, trained on three styles of emoji, validated on a
# fourth and tested on a fifth. Each setting was trained with five seeds until validation stopped improving, at the learning
# rate that validation chose out of three. The explorer answers at once, since it has nothing to compute.
#
# It shows training and test accuracy of one method: each seed is a dot, the mean a line, the shade one standard deviation.
# The gap between the lines is overfitting; on safari it includes the new style. Broken lines are the test accuracies of the
# other methods; the best at this number of images stands first.
# <!-- given: the settings in tlcourse/measurements/data/refinements.json -->

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
measured = tc.load_results("refinements")
runs = measured.scored.query("topic == 'depth'")
print(measured)

# %% tags=["nbval-ignore-output"]
tc.explorers.depth_view(runs, data="flowers", method="layer4", per_class=40)

# %% tags=["nbval-ignore-output"]
tc.explorers.depth(runs)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Everything, in both cases. Its row has the highest mean in every column of both data sets. Everything and *layer3 and above*
# are often close; the lead over the head alone is significant with ten images, as the next cell prints. (These are test
# accuracies of finished experiments. On your own data, choose with validation images.) The gap between training and test
# shrinks with more images, for the head alone and for everything.
# </details>

# %% jupyter={"source_hidden": true}
at_10 = {
    method: {"topic": "depth", "per_class": 10, "method": method}
    for method in ("scratch", "head", "everything")
}
print("10 images of each class, gain in points (95 % interval):")
for name in ("flowers", "safari"):
    for than, better in (("scratch", "head"), ("head", "everything")):
        gain, low, high = measured.gain(name, at_10[better], at_10[than])
        assert low > 0
        points = f"{100 * gain:.1f} ({100 * low:.1f} to {100 * high:.1f})"
        print(f"  {name}: {better} minus {than} {points}")

# %% [markdown]
# ## 2 What do the layers see?
#
# > **Question.** At which layer can you no longer recognise the cat in the feature maps?
#
# A convolution gives a **feature map** for each of its channels: an image that is bright where the channel's pattern was
# found. Shown are the channels that vary most over this image. Each map has shades of its own, so brightness cannot be
# compared between maps. An image of your own is read by the kernel that runs this notebook, and sent nowhere else.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
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

# %% tags=["nbval-ignore-output"]
FIRST_LAYER = next(iter(layers))
tc.explorers.feature_maps_view(model, images["a cat (photograph)"], layer=FIRST_LAYER)

# %% tags=["nbval-ignore-output"]
tc.explorers.feature_maps(model, images, layer=FIRST_LAYER)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Early layers keep outlines. Later ones have fewer positions and more channels; from the middle of the network on most maps
# show a few bright patches, and what makes them bright is hard to name.
# </details>

# %% jupyter={"source_hidden": true}
first, *_, last = layers.values()
assert last[0] > first[0]
assert last[1] < first[1]
print("The last layer has more channels than the first, and fewer positions.")

# %% [markdown]
# ## 3 What speaks for a class?
#
# > **Question.** The network says "tiger cat". Which part of the image speaks for it? And what speaks for a class that is not
# > there, "fox squirrel" say?
#
# **Grad-CAM** adds up the maps of a layer, each weighted by how much the score of the class would rise if that map rose.
# Bright is what speaks for the class. You can ask about each of the ten most likely classes, also about one with a small
# probability.

# %% tags=["nbval-ignore-output"]
tc.explorers.grad_cam_view(model, images["a cat (photograph)"])

# %% tags=["nbval-ignore-output"]
tc.explorers.grad_cam(model, images)

# %% [markdown]
# <details><summary>Answer</summary>
#
# For "tiger cat" the cheek, the eye beside it and the nose count most. For a class that is not there the map is not empty: it
# shows what resembles it most. The map says *where* the evidence is, not *what* it is. In early blocks it follows edges and
# says little about the class.
# </details>
#
# ## Summary
#
# * **Depth:** with each method at its own learning rate and few images, the head alone beat training from scratch, and
#   fine-tuning everything beat the head alone.
# * **Feature maps** show what is left of an image at a layer: deeper means coarser, with more channels.
# * **Grad-CAM** shows where the evidence for a class is, coarsely. It does not prove that the network looks at the right thing.
#
# **What to try next**
#
# * Upload an image with two animals in it and ask Grad-CAM about each.
# * Upload a file that is no image, and see what the explorer says.

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
