"""The course's own figures; `tlhelpers.plots` has the general ones."""

from tlcourse.plots.boxes import boxes, losses, overlap
from tlcourse.plots.colours import METHOD_COLOURS
from tlcourse.plots.images import activation_maps, evidence, filters, outlined
from tlcourse.plots.probabilities import calibration, threshold, worst_errors
from tlcourse.plots.rows import bars, intervals, ranking
from tlcourse.plots.scatter import point_map, trade_off
from tlcourse.plots.seeds import lines

__all__ = ["METHOD_COLOURS", "activation_maps", "bars", "boxes", "calibration", "evidence", "filters", "intervals"]
__all__ += ["lines", "losses", "outlined", "overlap", "point_map", "ranking", "threshold", "trade_off", "worst_errors"]
