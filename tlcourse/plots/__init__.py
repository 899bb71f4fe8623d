"""The course's own figures; `tlhelpers.plots` has the general ones."""

from tlcourse.plots.diagrams import BLOCKS, Box, blocks, flow
from tlcourse.plots.images import activation_maps, boxes, evidence, filters, losses, outlined, overlap
from tlcourse.plots.probabilities import calibration, threshold, worst_errors
from tlcourse.plots.tables import METHOD_COLOURS, bars, intervals, lines, point_map, ranking, trade_off

__all__ = ["BLOCKS", "METHOD_COLOURS", "Box", "activation_maps", "bars", "blocks", "boxes", "calibration", "evidence"]
__all__ += ["filters", "flow", "intervals", "lines", "losses", "outlined", "overlap", "point_map", "ranking"]
__all__ += ["threshold", "trade_off", "worst_errors"]
