"""The course's own figures; `tlhelpers.plots` has the general ones."""

from tlcourse.plots.boxes import boxes, losses, overlap
from tlcourse.plots.calibration import calibration, worst_errors
from tlcourse.plots.evidence import evidence
from tlcourse.plots.explorers import feature_maps, learning_curves, overlay
from tlcourse.plots.heat_map import heat_map
from tlcourse.plots.intervals import bars, intervals
from tlcourse.plots.layers import activation_maps, filters
from tlcourse.plots.medical import outlined, threshold
from tlcourse.plots.over_seeds import lines, ranking
from tlcourse.plots.panels import panels
from tlcourse.plots.point_map import point_map
from tlcourse.plots.trade_off import trade_off

__all__ = [
    "activation_maps",
    "bars",
    "boxes",
    "calibration",
    "evidence",
    "feature_maps",
    "filters",
    "heat_map",
    "intervals",
    "learning_curves",
    "lines",
    "losses",
    "outlined",
    "overlap",
    "overlay",
    "panels",
    "point_map",
    "ranking",
    "threshold",
    "trade_off",
    "worst_errors",
]
