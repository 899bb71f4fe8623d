"""Figures. Each function takes data and returns a `Chart`, a matplotlib figure that carries a text alternative."""

from tlhelpers.plots.boxes import boxes, losses, overlap
from tlhelpers.plots.chart import BLUE, GREEN, GREY, ORANGE, Chart, pictures
from tlhelpers.plots.clinical import calibration, worst_errors
from tlhelpers.plots.explain import evidence
from tlhelpers.plots.explorers import feature_maps, learning_curves, overlay
from tlhelpers.plots.heat_map import heat_map
from tlhelpers.plots.intervals import intervals
from tlhelpers.plots.layers import activation_maps, filters
from tlhelpers.plots.measured import lines, ranking
from tlhelpers.plots.medical import outlined, threshold
from tlhelpers.plots.panels import panels
from tlhelpers.plots.point_map import point_map
from tlhelpers.plots.scores import bars, confusion
from tlhelpers.plots.trade import trade_off
from tlhelpers.plots.training import history, rate_trial

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "Chart",
    "activation_maps",
    "bars",
    "boxes",
    "calibration",
    "confusion",
    "evidence",
    "feature_maps",
    "filters",
    "heat_map",
    "history",
    "intervals",
    "learning_curves",
    "lines",
    "losses",
    "outlined",
    "overlap",
    "overlay",
    "panels",
    "pictures",
    "point_map",
    "ranking",
    "rate_trial",
    "threshold",
    "trade_off",
    "worst_errors",
]
