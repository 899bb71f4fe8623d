"""Explorers: controls to play with in a notebook.

Each is a thin widget around a function that gives a figure for a setting: `depth` around `depth_view`, and so on. The
function works without a kernel's widgets too, so a notebook shows its figure first and the widget after it.
"""

from tlcourse.explorers.views import (
    depth_view,
    feature_maps_view,
    grad_cam_view,
    map_layers,
    rate_view,
    rate_words,
    threshold_view,
    threshold_words,
)

try:
    import ipywidgets as ipywidgets
except ImportError as error:
    raise ImportError("the explorers need the package ipywidgets: pip install ipywidgets") from error

from tlcourse.explorers.explorers import depth, feature_maps, grad_cam, learning_rate, threshold
from tlcourse.explorers.shell import Explorer, ImageExplorer

__all__ = [
    "Explorer",
    "ImageExplorer",
    "depth",
    "depth_view",
    "feature_maps",
    "feature_maps_view",
    "grad_cam",
    "grad_cam_view",
    "learning_rate",
    "map_layers",
    "rate_view",
    "rate_words",
    "threshold",
    "threshold_view",
    "threshold_words",
]
