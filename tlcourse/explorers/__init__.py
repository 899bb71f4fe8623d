"""Explorers: widgets around functions that return a figure and work without widgets: `depth` around `depth_view`."""

from tlcourse.explorers.views import depth_view, feature_maps_view, grad_cam_view, map_layers

try:
    import ipywidgets as ipywidgets
except ImportError as error:
    raise ImportError("the explorers need the package ipywidgets: pip install ipywidgets") from error

from tlcourse.explorers.widgets import depth, feature_maps, grad_cam

__all__ = ["depth", "depth_view", "feature_maps", "feature_maps_view", "grad_cam", "grad_cam_view", "map_layers"]
