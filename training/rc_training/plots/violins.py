"""Drawing response values as the paper's Fig. 2 and 5: a violin for each channel, a row for each network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rc_deploy.optional import require
from rc_training.plots.picture import COLOURS, NEEDED_BY, SMALL, SOFT, dress, new_figure, shorten
from rc_training.plots.rows import Calibration, Row, chosen, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


TAIL = 0.01
_TOP, _ROW = 0.3, 1.45  # inches
_BODY, _DASH = 0.88, 0.2  # of the room between two channels: width of a violin, half the width of the dash in it
_POINTS = 120  # of a violin's outline
_PALE = 0.35
_LABELS = 8  # of channels, along the axis


def draw(rows: Sequence[Row], most: int) -> Figure:
    """Return a figure of the rows; to be called within `picture.settings`.

    First comes a row for each network, on one scale; then, for each that calibrates its branch, a row of the
    branch's features before (left half, pale) and after its layer (right half), on one scale as well.

    Args:
        rows: a network each.
        most: channels to draw of each.
    """
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(rows))]
    calibrations = [(item, item.calibration, ink) for item, ink in zip(rows, colours, strict=True) if item.calibration]
    count = len(rows) + len(calibrations)
    figure = new_figure(_TOP + _ROW * count)
    panels = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axes, item, colour in zip(panels, rows, colours, strict=False):
        _violins(axes, item.responses.features, most, colour)
        _titles(axes, item.name, numbers(item.responses.summary))
    for axes, (item, calibration, colour) in zip(panels[len(rows) :], calibrations, strict=True):
        _halves(axes, item.name, calibration, most, colour)
    _one_scale(panels[: len(rows)])
    _one_scale(panels[len(rows) :])
    panels[-1].set_xlabel("channel", color=SOFT, fontsize=SMALL)
    figure.supylabel(f"response value, central {1 - 2 * TAIL:.0%}", color=SOFT, fontsize=SMALL)
    return figure


def _halves(axes: Axes, name: str, calibration: Calibration, most: int, colour: str) -> None:
    """Draw a branch's features before and after its layer as the two halves of each violin."""
    before, after = calibration.before, calibration.after
    _violins(axes, before.features, most, colour, side="low")
    _violins(axes, after.features, most, colour, side="high")
    ratios = (before.summary.discriminability, after.summary.discriminability)
    words = "" if None in ratios else f"discriminability {ratios[0]:.3g} and {ratios[1]:.3g}"
    _titles(axes, f"{name}: the branch before (pale) and after its {calibration.layer}", words)


def _violins(axes: Axes, features: NDArray[np.float64], most: int, colour: str, side: str = "both") -> None:
    """Draw the channels' distributions over the central share of their values, with a dash at the mean of all."""
    which = chosen(features.shape[1], most)
    places = np.arange(len(which))
    parts = axes.violinplot(
        [central(features[:, channel]) for channel in which],
        places,
        widths=_BODY,
        points=_POINTS,
        showextrema=False,
        side=side,  # type: ignore[arg-type]  # one of "both", "low" and "high"
    )
    bodies: list[PolyCollection] = parts["bodies"]  # type: ignore[assignment]
    for body in bodies:
        body.set(facecolor=colour, alpha=_PALE if side == "low" else 1, edgecolor="none")
    if side == "both":
        means = features[:, which].mean(axis=0)
        axes.hlines(means, places - _DASH, places + _DASH, color="white", linewidth=0.8)
    step = max(1, round(len(which) / _LABELS))
    axes.set_xticks(places[::step], [str(channel) for channel in which[::step]])
    axes.set_xlim(-0.8, len(which) - 0.2)
    axes.yaxis.set_major_locator(require("matplotlib.ticker", NEEDED_BY).MaxNLocator(5, steps=(1, 2, 5, 10)))


def central(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values but for the smallest and the largest `TAIL` of them: a few far ones would dwarf the rest."""
    low, high = np.quantile(values, TAIL, method="lower"), np.quantile(values, 1 - TAIL, method="higher")
    return values[(values >= low) & (values <= high)]


def _titles(axes: Axes, left: str, right: str) -> None:
    dress(axes, shorten(left, 80))
    axes.set_title(right, loc="right", fontsize=SMALL, color=SOFT, pad=5)
    # What an activation lets through is above this line.
    axes.axhline(0, color=SOFT, linewidth=0.6, zorder=0.5)


def _one_scale(panels: NDArray[np.object_]) -> None:
    limits = [panel.get_ylim() for panel in panels]
    for panel in panels:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
