"""The report's plots of parity: errors against their tolerance, of the logits and of every layer, and the RC layers.

Values that have no place on a logarithmic axis are put at its ends: 0 at the low one, infinity at the high one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy.optional import require
from rc_deploy.report.axes import SMALL, drawable, dressed, limits_of, logarithmic, placed
from rc_deploy.report.svg import NEEDED_BY, Ink, inline, new_figure, settings
from rc_deploy.report.words import count, number, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from matplotlib.axes import Axes

    from rc_deploy.bisection import Bisection
    from rc_deploy.responses import Quantiles, Responses

_DOTS = (4.5, 5.5, 6.5, 8)
# Deviations that differ by more than this factor want a logarithmic axis.
_MANY = 30


@dataclass(frozen=True)
class ErrorRow:
    """One row of `error_chart`.

    Attributes:
        label: above the row.
        quantiles: of the logits' errors, 50, 90, 99 and 100 percent.
        bound: that the largest must stay within.
        step: against the link before, drawn hollow; else against the reference.
    """

    label: str
    quantiles: tuple[float, float, float, float]
    bound: float
    step: bool

    @property
    def ink(self) -> Ink:
        """Colour of its dots."""
        if not self.quantiles[-1] <= self.bound:
            return Ink.FAIL
        return Ink.SERIES_2 if self.step else Ink.SERIES_1


def error_chart(rows: Sequence[ErrorRow], identifier: str) -> Markup:
    """Return, row by row, the quantiles of the logits' errors and the tolerance that they must stay below."""
    limits = limits_of(value for row in rows for value in (*row.quantiles, row.bound))
    with settings():
        figure = new_figure(48 + 34 * len(rows))
        axes = figure.add_subplot()
        axes.set_xlim(*limits)
        axes.set_ylim(len(rows) - 0.45, -0.85)
        logarithmic(axes, "x")
        dressed(axes, "", grid="x")
        axes.set_yticks([])
        for place, row in enumerate(rows):
            _error_row(axes, place, row, limits)
        axes.set_xlabel("absolute error of a logit", color=Ink.SOFT, fontsize=SMALL)
        return inline(figure, identifier, _error_description(rows))


def _error_row(axes: Axes, place: int, row: ErrorRow, limits: tuple[float, float]) -> None:
    dots = [placed(value, limits) for value in row.quantiles]
    bound = placed(row.bound, limits)
    # The label stands on paper of its own, or the grid would run through it.
    label = {"facecolor": Ink.PAPER, "edgecolor": "none", "pad": 1.5}
    text = shorten(row.label, 62)
    axes.text(limits[0] * 1.06, place - 0.45, text, color=Ink.TEXT, va="center", bbox=label, in_layout=False)
    axes.hlines(place, dots[0], dots[-1], color=row.ink, linewidth=1.6)
    if dots[-1] < bound:
        axes.hlines(place, dots[-1], bound, color=Ink.LINE, linewidth=1.2, linestyle=(0, (1, 2)))
    axes.vlines(bound, place - 0.24, place + 0.24, color=Ink.TEXT, linewidth=2)
    inside, edge = (Ink.PAPER, row.ink) if row.step else (row.ink, Ink.PAPER)
    for dot, size in zip(dots, _DOTS, strict=True):
        axes.plot(dot, place, marker="o", markersize=size, color=inside, markeredgecolor=edge, clip_on=False)


def _error_description(rows: Sequence[ErrorRow]) -> str:
    parts = (f"{row.label}: largest error {number(row.quantiles[-1])}, tolerance {number(row.bound)}" for row in rows)
    return f"Errors of the logits against their tolerance. {'; '.join(parts)}."


def layer_chart(found: Bisection, identifier: str) -> Markup:
    """Return the errors of every layer, in the order in which they run, under the tolerance of each."""
    values = [value for layer in found.layers for value in (*layer.error_quantiles, layer.max_error)]
    limits = limits_of([*values, *(layer.tolerance.maximum for layer in found.layers)])
    places = range(len(found.layers))
    with settings():
        figure = new_figure(200)
        axes = figure.add_subplot()
        axes.set_ylim(*limits)
        logarithmic(axes, "y")
        dressed(axes, "absolute error of a value")
        for place, layer in zip(places, found.layers, strict=True):
            low, _, high = (placed(value, limits) for value in layer.error_quantiles)
            ink = Ink.SERIES_1 if layer.within else Ink.FAIL
            axes.vlines(place, low, placed(layer.max_error, limits), color=ink, linewidth=0.8)
            axes.vlines(place, low, high, color=ink, linewidth=2.2)
        bounds = [placed(layer.tolerance.maximum, limits) for layer in found.layers]
        axes.step(places, bounds, where="mid", color=Ink.TEXT, linewidth=1.2)
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(require("matplotlib.ticker", NEEDED_BY).MaxNLocator(6, integer=True))
        axes.set_xlabel("layer, in the order in which they run", color=Ink.SOFT, fontsize=SMALL)
        beyond = sum(not layer.within for layer in found.layers)
        words = f"{count(len(found.layers), 'layer')}, {beyond:,} of them beyond their tolerance."
        return inline(figure, identifier, f"Errors of the layers of {found.artefact}: {words}")


def response_chart(found: Responses, identifier: str) -> Markup:
    """Return mean, deviation and weight by RC layer: median, middle half, and 5 to 95 percent."""
    panels = (
        ("\N{GREEK SMALL LETTER MU}, predicted mean", [layer.mu for layer in found.layers], False),
        ("\N{GREEK SMALL LETTER SIGMA}, predicted standard deviation", [layer.std for layer in found.layers], True),
        ("w, weight of a response", [layer.weight for layer in found.layers], False),
    )
    with settings():
        figure = new_figure(345)
        for index, (title, quantiles, powers) in enumerate(panels):
            axes = figure.add_subplot(3, 1, index + 1)
            _boxes(axes, quantiles, powers)
            dressed(axes, title)
            axes.margins(x=0.04)
            axes.xaxis.set_major_locator(require("matplotlib.ticker", NEEDED_BY).MaxNLocator(8, integer=True))
        axes.set_xlabel("RC layer, in the order of the network", color=Ink.SOFT, fontsize=SMALL)
        words = "predicted mean, standard deviation and weight"
        return inline(figure, identifier, f"The {count(len(found.layers), 'RC layer')} of {found.artefact}: {words}.")


def _boxes(axes: Axes, quantiles: Sequence[Quantiles], powers: bool) -> None:
    rows = [[drawable(value, powers) for value in layer] for layer in quantiles]
    places = range(1, len(rows) + 1)
    low, lower, middle, upper, high = zip(*rows, strict=True)
    axes.vlines(places, low, high, color=Ink.SERIES_1, linewidth=1)
    axes.vlines(places, lower, upper, color=Ink.SERIES_1, linewidth=4)
    axes.plot(places, middle, linestyle="", marker="o", markersize=4.5, color=Ink.PAPER, markeredgecolor=Ink.SERIES_1)
    if powers and max(max(high) / min(low), 1.0) > _MANY:
        logarithmic(axes, "y")
