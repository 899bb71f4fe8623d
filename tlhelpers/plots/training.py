"""Figures of a training: its history, the trial of learning rates."""

from __future__ import annotations

import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tlhelpers.plots.chart import BLUE, GREEN, GREY, ORANGE, Chart


def history(table: pd.DataFrame, *, best_epoch: int = 0, title: str = "Training history") -> Chart:
    """Loss and accuracy by epoch, training and validation, side by side.

    Args:
        table: as in `Run.history`.
        best_epoch: marked by a vertical line; 0 marks none.
        title: of the whole figure.
    """
    last = table.iloc[-1]
    chart = Chart(
        f"{title}: two line charts over {len(table)} epochs. Training loss ends at {last['train_loss']:.3f}, "
        f"validation loss at {last['val_loss']:.3f}; training accuracy at {last['train_accuracy']:.1%}, "
        f"validation accuracy at {last['val_accuracy']:.1%}.",
        figsize=(9, 3.4),
    )
    left, right = chart.subplots(1, 2)
    for axis, name, unit in ((left, "loss", "cross-entropy (nats)"), (right, "accuracy", "pictures right")):
        for part, colour, marker in (("train", GREY, "o"), ("val", BLUE, "s")):
            label = {"train": "training, measured on the way", "val": "validation"}[part]
            axis.plot(table.index, table[f"{part}_{name}"], color=colour, marker=marker, ms=4, label=label)
        if best_epoch:
            axis.axvline(best_epoch, color=ORANGE, ls=":", label=f"best epoch ({best_epoch})")
        axis.set(title=name.capitalize(), xlabel="epoch", ylabel=unit)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    left.legend(fontsize=8)
    chart.suptitle(title)
    return chart


def rate_trial(curve: pd.DataFrame, suggestion: float, highest: float) -> Chart:
    """Loss against learning rate, as `find_lr` measured it.

    Args:
        curve: columns lr, loss, smooth.
        suggestion: the rate at which the loss falls fastest; marked.
        highest: the rate at which it is lowest; marked.
    """
    title = "Learning rate trial"
    chart = Chart(
        f"{title}: a line chart of the loss over learning rates from {curve['lr'].min():.1e} to "
        f"{curve['lr'].max():.1e}. It falls fastest at {suggestion:.1e} and is lowest at {highest:.1e}.",
        figsize=(6.5, 3.6),
    )
    axis = chart.subplots()
    axis.plot(curve["lr"], curve["loss"], color=GREY, alpha=0.4, label="each step")
    axis.plot(curve["lr"], curve["smooth"], color=BLUE, label="running mean")
    axis.axvline(suggestion, color=GREEN, ls="--", label=f"falls fastest ({suggestion:.1e})")
    axis.axvline(highest, color=ORANGE, ls=":", label=f"lowest ({highest:.1e})")
    low, high = float(curve["smooth"].min()), float(curve["smooth"].iloc[0])
    axis.set(title=title, xlabel="learning rate of the head", ylabel="cross-entropy (nats)", xscale="log")
    axis.set_ylim(max(low - 0.3 * (high - low), 0), high + 0.8 * (high - low) + 0.1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return chart
