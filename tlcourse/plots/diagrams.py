"""Drawings of ideas: the blocks of a network, and which of them train."""

from collections.abc import Mapping, Sequence

from matplotlib.patches import FancyBboxPatch

from tlcourse.plots.colours import METHOD_COLOURS
from tlhelpers.plots import GREY, Chart

BLOCKS = ("stem", "layer1", "layer2", "layer3", "layer4", "head")  # of a ResNet


def blocks(trains: Mapping[str, Sequence[str]], *, title: str, names: Sequence[str] = BLOCKS) -> Chart:
    """A strip of the blocks `names` for each method: coloured if they train, grey if they are frozen.

    `trains` holds for each method the blocks that train. A dashed frame marks a random start: that of the head, and
    with the method "from scratch" of all blocks.
    """
    chart = Chart("", figsize=(7.5, 0.4 + 0.6 * len(trains)))
    axis = chart.subplots()
    for row, (method, chosen) in enumerate(trains.items()):
        axis.text(-0.15, -row, method, ha="right", va="center")
        for place, name in enumerate(names):
            face = METHOD_COLOURS.get(method, GREY) if name in chosen else "#DDDDDD"
            line = "--" if name == "head" or method == "from scratch" else "-"
            box = FancyBboxPatch((place, -row - 0.3), 0.86, 0.6, "round,pad=0,rounding_size=0.08", fc=face, ls=line)
            axis.add_patch(box)
            size, text = min(9, 70 / len(names)), "white" if name in chosen else "black"
            axis.text(place + 0.43, -row, name, ha="center", va="center", color=text, size=size)
    axis.set(xlim=(-1.5, len(names)), ylim=(-len(trains) + 0.4, 0.5))
    axis.axis("off")
    chart.suptitle(title, fontsize=11)
    lists = "; ".join(f"{method}: {', '.join(chosen)}" for method, chosen in trains.items())
    chart.alt = f"{title}. A strip of the blocks {', '.join(names)} for each method. Those that train: {lists}."
    return chart
