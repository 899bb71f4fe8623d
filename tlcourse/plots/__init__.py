"""The course's own figures; `tlhelpers.plots` has the general ones."""

from tlcourse.plots.boxes import boxes, losses, overlap
from tlcourse.plots.colours import METHOD_COLOURS
from tlcourse.plots.diagrams import BLOCKS, Box, blocks, flow
from tlcourse.plots.images import activation_maps, evidence, filters, outlined
from tlcourse.plots.probabilities import calibration, threshold, worst_errors
from tlcourse.plots.rows import bars, intervals, ranking
from tlcourse.plots.scatter import point_map, trade_off
from tlcourse.plots.seeds import lines

__all__ = ["BLOCKS", "METHOD_COLOURS", "Box", "activation_maps", "bars", "blocks", "boxes", "calibration", "evidence"]
__all__ += [
    "filters",
    "flow",
    "intervals",
    "lines",
    "losses",
    "outlined",
    "overlap",
    "point_map",
    "ranking",
    "threshold",
]
__all__ += ["trade_off", "worst_errors"]
