"""Drawing training curves as the paper's Fig. 4: loss and accuracy, or error, by epoch, recipes beside each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy.errors import InputError
from rc_deploy.optional import require
from rc_training.plots.picture import COLOURS, NEEDED_BY, SMALL, SOFT, dress, new_figure, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rc_training.plots.curves import Curve, Group

# What is compared is the test split: it is drawn solid, the training split dashed and thinner.
TEST, TRAINING = "-", (0, (3.5, 1.5))
_WIDTHS = {TEST: 1.1, TRAINING: 0.9}
_LEGEND_LETTERS = 108  # that fit into a line of the legend


def draw(groups: Sequence[Group], *, error: bool) -> Figure:
    """Return a figure of the groups' losses and accuracies; to be called within `picture.settings`.

    Args:
        groups: at most as many as there are colours to tell apart.
        error: show 100% - accuracy, the top-1 error of the paper's figure.

    Raises:
        InputError: more groups than colours.
    """
    if len(groups) > len(COLOURS):
        raise InputError(
            f"These are runs of {len(groups)} recipes; no more than {len(COLOURS)} can be told apart in one picture.",
            "Name fewer runs, and draw the others into a second picture.",
        )
    labels = [_label(group) for group in groups]
    figure = new_figure(2.3 + 0.17 * math.ceil(len(labels) / _columns(labels)))
    losses, accuracies = figure.subplots(1, 2)
    for group, colour in zip(groups, COLOURS, strict=False):
        _plot(losses, group, ("loss", "test_loss"), colour)
        _plot(accuracies, group, ("train_accuracy", "test_accuracy"), colour, error=error)
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch", color=SOFT, fontsize=SMALL)
        axes.xaxis.set_major_locator(
            require("matplotlib.ticker", NEEDED_BY).MaxNLocator(6, steps=(1, 2, 5, 10), integer=True)
        )
        axes.margins(x=0.02)
    dress(losses, "cross entropy, nats (logarithmic)")
    _logarithmic(losses)
    dress(accuracies, "top-1 error, %" if error else "accuracy, %")
    _legends(figure, losses, labels)
    return figure


def _label(group: Group) -> str:
    several = f" (mean and range of {len(group.runs)} seeds)" if len(group.runs) > 1 else ""
    return shorten(group.name) + several


def _plot(axes: Axes, group: Group, quantities: tuple[str, str], colour: str, *, error: bool = False) -> None:
    """Draw the curves of the training and of the test split, each with the range of its runs."""
    for quantity, dash in zip(quantities, (TRAINING, TEST), strict=True):
        curve = group.curves[quantity]
        mean, low, high = shown(curve, error=error)
        marker = "o" if len(group.epochs) == 1 else ""
        axes.plot(
            group.epochs, mean, color=colour, linestyle=dash, linewidth=_WIDTHS[dash], marker=marker, markersize=3
        )
        if len(group.runs) > 1:
            axes.fill_between(group.epochs, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)


def shown(curve: Curve, *, error: bool) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, low and high as they are drawn."""
    if error:
        return 100 - curve.mean, 100 - curve.high, 100 - curve.low
    return curve.mean, curve.low, curve.high


def _logarithmic(axes: Axes) -> None:
    """Make the y axis logarithmic, with ticks at 1, 2 and 5, where there is something to show on one."""
    heights = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    positive = heights[heights > 0]
    if not len(positive):
        return
    axes.set_yscale("log", nonpositive="mask")
    steps = (1.0, 2.0, 5.0) if math.log10(positive.max() / positive.min()) < 2.5 else (1.0,)
    axes.yaxis.set_major_locator(require("matplotlib.ticker", NEEDED_BY).LogLocator(subs=steps, numticks=8))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()


def _columns(labels: Sequence[str]) -> int:
    """Return how many entries of the legend fit beside each other."""
    return max(1, min(len(labels), _LEGEND_LETTERS // (max(map(len, labels)) + 6)))


def _legends(figure: Figure, axes: Axes, labels: Sequence[str]) -> None:
    """Say above the panels which colour is which recipe, and inside the first which dash is which split."""
    line = require("matplotlib.lines", NEEDED_BY).Line2D
    style = {"frameon": False, "handlelength": 2.6, "borderpad": 0.2, "labelspacing": 0.35, "columnspacing": 1.8}
    recipes = [
        line([], [], color=colour, linewidth=2.2, label=label) for label, colour in zip(labels, COLOURS, strict=False)
    ]
    figure.legend(handles=recipes, loc="outside upper left", ncols=_columns(labels), **style)
    splits = [
        line([], [], color=SOFT, linestyle=dash, linewidth=_WIDTHS[dash], label=name)
        for name, dash in (("test", TEST), ("training", TRAINING))
    ]
    axes.legend(handles=splits, loc="upper right", labelcolor=SOFT, fontsize=SMALL, **style)
