"""The checks behind the labs. In a notebook: `lab = tc.Lab("lab2_vgg16_features")`, then `lab.check(...)`."""
