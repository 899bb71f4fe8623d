# %% [markdown]
# # Glossary
#
# The terms of the chapter in alphabetical order, each with one sentence and the section that explains it. Most terms link
# here where they are defined.
#
# **What you will find:** the field's usual words, so that you can search for more. **Time:** two minutes to leaf through.

# %% [markdown]
# #### Anchor
#
# A box of fixed size, at every position of a feature map, from which a detector starts. →
# [12.4.2](12_4_2_object_detection.ipynb)
#
# #### AUC
#
# Area under the ROC curve: the probability that a random positive image scores higher than a random negative one; 0.5 is
# guessing. → [12.4.3](12_4_3_medical_imaging.ipynb)
#
# #### Augmentation
#
# Random changes of training images, such as crops and flips, anew in every epoch. → [12.2.2](12_2_2_fine_tuning.ipynb)
#
# #### Average precision
#
# The area under the curve of precision against recall, for one class; *mAP* is its mean over classes. →
# [12.4.2](12_4_2_object_detection.ipynb)

# %% [markdown]
# #### Backbone
#
# The layers of a network before its head; for each image they compute its features. → [12.1](12_1_concept.ipynb)
#
# #### Balanced accuracy
#
# The mean of the recalls of all classes, so that a rare class counts as much as a frequent one. →
# [12.4.1](12_4_1_image_classification.ipynb)
#
# #### Baseline
#
# The score of a simple method, which a network has to beat. → [12.4.1](12_4_1_image_classification.ipynb)
#
# #### BatchNorm
#
# A layer that normalises each channel: with the batch's mean and variance in training, with running statistics in evaluation.
# → [12.2.1](12_2_1_feature_extraction.ipynb)

# %% [markdown]
# #### Catastrophic forgetting
#
# Losing the old task by training on a new one. → [12.2.2](12_2_2_fine_tuning.ipynb)
#
# #### Confidence interval
#
# A range computed so that 95 of 100 such ranges would contain the true value, if the experiment were repeated. →
# [12.4.1](12_4_1_image_classification.ipynb)
#
# #### Confusion matrix
#
# A table that counts, for each true class, what was predicted. → [12.4.1](12_4_1_image_classification.ipynb)

# %% [markdown]
# #### Data leakage
#
# Information of the test set that reaches training, such as copies of images or other images of a patient. →
# [12.4.1](12_4_1_image_classification.ipynb)
#
# #### Depthwise separable convolution
#
# A convolution of each channel by itself, then a 1 by 1 convolution that mixes the channels. →
# [12.3](12_3_pretrained_models.ipynb)
#
# #### Discriminative learning rates
#
# Smaller learning rates for earlier blocks. → [12.2.2](12_2_2_fine_tuning.ipynb)
#
# #### Domain shift
#
# Training and use differ in how images are made: another hospital, camera, style. → [12.4.3](12_4_3_medical_imaging.ipynb)
#
# #### Dropout
#
# Setting random features to zero in training. → [12.2.2](12_2_2_fine_tuning.ipynb)

# %% [markdown]
# #### Embedding
#
# The features of a sentence or an image: one vector of numbers. → [12.4.4](12_4_4_language.ipynb)
#
# #### Epoch
#
# One pass over all training images. → [12.1](12_1_concept.ipynb)

# %% [markdown]
# #### Feature extraction
#
# Training a new head on the features of a frozen backbone (linear probing). → [12.2.1](12_2_1_feature_extraction.ipynb)
#
# #### Feature map
#
# The output of one channel of a convolution, an image of where its pattern was found; also *activation map*. →
# [12.1](12_1_concept.ipynb)
#
# #### Features
#
# What the backbone puts out for an image: a vector, 512 numbers in ResNet18. → [12.1](12_1_concept.ipynb)
#
# #### Fine-tuning
#
# Further training of some or all layers of a pre-trained network. → [12.1](12_1_concept.ipynb)
#
# #### Frozen
#
# Not changed by training: parameters get no gradient, BatchNorm's statistics stay. → [12.2.1](12_2_1_feature_extraction.ipynb)

# %% [markdown]
# #### Grad-CAM
#
# A heat map of where an image speaks for a class, from a layer's maps and their gradients. →
# [12.4.1](12_4_1_image_classification.ipynb)
#
# #### Gradual unfreezing
#
# Training the head first, then the last block too, and so on. → [12.2.2](12_2_2_fine_tuning.ipynb)

# %% [markdown]
# #### Head
#
# The last layer or layers, made for one task; in a classifier a linear layer with an output for each class. →
# [12.1](12_1_concept.ipynb)

# %% [markdown]
# #### IoU
#
# Intersection over union (Jaccard index): the area that two boxes share, divided by the area that they cover together. →
# [12.4.2](12_4_2_object_detection.ipynb)

# %% [markdown]
# #### Label smoothing
#
# Training towards 0.9 for the true class, say, and a little for each other class, in place of 1 and 0. →
# [12.2.2](12_2_2_fine_tuning.ipynb)
#
# #### Learning rate
#
# The factor that scales each step of the optimizer. → [12.2.2](12_2_2_fine_tuning.ipynb)
#
# #### Linear probe
#
# A linear classifier on frozen features, which measures what they know. → [12.1](12_1_concept.ipynb)
#
# #### Logits
#
# A classifier's outputs before `softmax`: one number for each class. → [Start here](00_start_here.ipynb)
#
# #### LoRA
#
# A trainable change, the product of two small matrices, added to the frozen weights of chosen layers. →
# [12.2.3](12_2_3_modern_practice.ipynb)

# %% [markdown]
# #### Negative transfer
#
# A worse result with pre-training than from scratch. → [12.1](12_1_concept.ipynb)
#
# #### Non-maximum suppression
#
# Keeping only the most confident of boxes that overlap. → [12.4.2](12_4_2_object_detection.ipynb)

# %% [markdown]
# #### Overfitting
#
# Fitting the training images without getting better on new ones. → [12.1](12_1_concept.ipynb)

# %% [markdown]
# #### Parameter group
#
# Parameters that share their settings in an optimizer, such as the learning rate. → [12.2.2](12_2_2_fine_tuning.ipynb)
#
# #### Pre-trained
#
# Already trained on another task. → [12.1](12_1_concept.ipynb)
#
# #### Precision
#
# The proportion of what is called positive that really is. → [12.4.3](12_4_3_medical_imaging.ipynb)
#
# #### Preprocessing
#
# Resizing, cropping and normalising an image as the weights expect. → [Start here](00_start_here.ipynb)
#
# #### Prevalence
#
# The proportion of ill among all. → [12.4.3](12_4_3_medical_imaging.ipynb)
#
# #### Probe first
#
# Training the head on frozen features, and then everything (LP-FT). → [12.2.3](12_2_3_modern_practice.ipynb)

# %% [markdown]
# #### Quadratic weighted kappa
#
# Agreement of grades in which a large mistake counts more than a small one. → [12.4.3](12_4_3_medical_imaging.ipynb)

# %% [markdown]
# #### Residual connection
#
# A shortcut (skip connection) that adds a block's input to its output, so that the block learns only a change. →
# [12.3](12_3_pretrained_models.ipynb)
#
# #### Running statistics
#
# The mean and variance that BatchNorm collects in training and uses in evaluation. → [12.2.1](12_2_1_feature_extraction.ipynb)

# %% [markdown]
# #### Schedule
#
# How the learning rate changes during training. → [12.2.2](12_2_2_fine_tuning.ipynb)
#
# #### Self-supervised learning
#
# Pre-training without labels. → [12.2.3](12_2_3_modern_practice.ipynb)
#
# #### Sensitivity
#
# The proportion of the ill that is found; the same as recall. → [12.4.3](12_4_3_medical_imaging.ipynb)
#
# #### Source task
#
# The task on which a network was pre-trained. → [12.1](12_1_concept.ipynb)
#
# #### Specificity
#
# The proportion of the healthy that is called healthy (true-negative rate). → [12.4.3](12_4_3_medical_imaging.ipynb)

# %% [markdown]
# #### Target task
#
# The new task, for which a pre-trained network is reused. → [12.1](12_1_concept.ipynb)
#
# #### Test set
#
# Images that are used once, at the end, and for no choice. → [12.1](12_1_concept.ipynb)
#
# #### Threshold
#
# The score from which on an image is called positive. → [12.4.3](12_4_3_medical_imaging.ipynb)
#
# #### Token
#
# A word or a piece of one, as a number. → [12.4.4](12_4_4_language.ipynb)
#
# #### Transfer learning
#
# Reusing a network trained on one task as the starting point for another. → [12.1](12_1_concept.ipynb)
#
# #### Transformer
#
# A network whose layers use attention: every token, or image patch, takes in information from all others. →
# [12.4.4](12_4_4_language.ipynb)

# %% [markdown]
# #### Validation set
#
# Images for choosing the epoch, the learning rate and the method. → [12.1](12_1_concept.ipynb)

# %% [markdown]
# #### Weight averaging
#
# A mean of the weights before and after fine-tuning (WiSE-FT). → [12.2.3](12_2_3_modern_practice.ipynb)
#
# #### Weight decay
#
# Pulling weights towards zero in every step. → [12.2.2](12_2_2_fine_tuning.ipynb)

# %% [markdown]
# ## Summary
#
# * Every term has one meaning throughout the course.
# * Where other books often use another word, it stands in brackets.
#
# **What to try next:** read the headings only, and say each definition before you look at it.
