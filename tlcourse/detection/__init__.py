"""Object detection: boxes, a drawn data set, small detectors, mean average precision."""
