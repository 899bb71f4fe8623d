"""The checks behind the labs. In a notebook: `lab = tl.Lab("lab2_vgg16_features")`, then `lab.check(...)`."""
