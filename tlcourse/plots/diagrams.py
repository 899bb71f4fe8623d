"""Drawings of ideas: which blocks of a network train, and what flows from where to where."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tlcourse.plots.tables import METHOD_COLOURS
from tlhelpers.plots import GREEN, Chart

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
            face = METHOD_COLOURS.get(method, GREEN) if name in chosen else "#DDDDDD"
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


class Box(NamedTuple):
    """A labelled box of a drawing: its centre, its size, and its colour; "none" draws the label alone."""

    label: str
    x: float
    y: float
    colour: str = "#DDDDDD"
    width: float = 1.0
    height: float = 0.5


def flow(panels: Mapping[str, tuple[Mapping[str, Box], Sequence[Any]]], *, title: str, height: float = 2.6) -> Chart:
    """Boxes and the arrows between them, in a panel for each name.

    A panel is a dictionary of boxes and a list of arrows: the names of two boxes and, if the arrow bends, by how much
    (0.4 bends a quarter turn to the right as it goes, -0.4 to the left). `height` is in inches.
    """
    chart = Chart("", figsize=(7.5, height))
    axes = chart.subplots(1, len(panels), squeeze=False)[0]
    described = []
    for axis, (panel, (boxes, arrows)) in zip(axes, panels.items(), strict=True):
        drawn = {}
        for name, (label, x, y, colour, width, high) in boxes.items():
            style: dict[str, Any] = {
                "boxstyle": "round,pad=0,rounding_size=0.08",
                "fc": colour,
                "visible": colour != "none",
            }
            drawn[name] = FancyBboxPatch((x - width / 2, y - high / 2), width, high, **style)
            axis.add_patch(drawn[name])
            dark = colour != "none" and sum(to_rgb(colour)) < 1.5
            axis.text(x, y, label, ha="center", va="center", size=8, color="white" if dark else "black")
        for begin, end, *bend in arrows:
            options: dict[str, Any] = {"patchA": drawn[begin], "patchB": drawn[end], "shrinkA": 1, "shrinkB": 1}
            options |= {"arrowstyle": "-|>", "connectionstyle": f"arc3,rad={(*bend, 0)[0]}", "mutation_scale": 10}
            options |= {"fc": "black", "clip_on": False, "in_layout": False}
            axis.add_artist(FancyArrowPatch(boxes[begin][1:3], boxes[end][1:3], **options))
        axis.margins(0.35 if any(len(arrow) == 3 for arrow in arrows) else 0.05, 0.05)  # where arrows bend
        axis.autoscale_view()
        axis.set_axis_off()
        axis.set_title(panel, fontsize=9)
        words = {name: " ".join(box.label.split()) for name, box in boxes.items()}
        joined = ", ".join(f"{words[arrow[0]]} to {words[arrow[1]]}" for arrow in arrows)
        described.append(f"{panel}: {'; '.join(words.values())}" + (f". Arrows: {joined}" if joined else ""))
    chart.suptitle(title, fontsize=11)
    chart.alt = f"{title}. {'. '.join(described)}."
    return chart
