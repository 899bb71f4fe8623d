"""The course's own figures; `tlhelpers.plots` has the general ones."""

from tlcourse.plots.boxes import boxes as boxes
from tlcourse.plots.boxes import losses as losses
from tlcourse.plots.boxes import overlap as overlap
from tlcourse.plots.colours import METHOD_COLOURS as METHOD_COLOURS
from tlcourse.plots.images import activation_maps as activation_maps
from tlcourse.plots.images import evidence as evidence
from tlcourse.plots.images import filters as filters
from tlcourse.plots.images import outlined as outlined
from tlcourse.plots.probabilities import calibration as calibration
from tlcourse.plots.probabilities import threshold as threshold
from tlcourse.plots.probabilities import worst_errors as worst_errors
from tlcourse.plots.rows import bars as bars
from tlcourse.plots.rows import intervals as intervals
from tlcourse.plots.rows import ranking as ranking
from tlcourse.plots.scatter import point_map as point_map
from tlcourse.plots.scatter import trade_off as trade_off
from tlcourse.plots.seeds import heat_map as heat_map
from tlcourse.plots.seeds import lines as lines
