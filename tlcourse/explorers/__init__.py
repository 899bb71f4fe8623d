"""Explorers: controls to play with in a notebook.

Each is a widget around a function that returns a figure: `depth` around `depth_view`, and so on. The functions work
without widgets too.
"""

from tlcourse.explorers.views import depth_view as depth_view
from tlcourse.explorers.views import feature_maps_view as feature_maps_view
from tlcourse.explorers.views import grad_cam_view as grad_cam_view
from tlcourse.explorers.views import map_layers as map_layers
from tlcourse.explorers.views import rate_view as rate_view
from tlcourse.explorers.views import threshold_view as threshold_view

try:
    import ipywidgets as ipywidgets
except ImportError as error:
    raise ImportError("the explorers need the package ipywidgets: pip install ipywidgets") from error

from tlcourse.explorers.widgets import depth as depth
from tlcourse.explorers.widgets import feature_maps as feature_maps
from tlcourse.explorers.widgets import grad_cam as grad_cam
from tlcourse.explorers.widgets import learning_rate as learning_rate
from tlcourse.explorers.widgets import threshold as threshold
