"""How every plot of the report looks: axes, ticks, grid, and where values go that no axis has a place for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rc_deploy.optional import require
from rc_deploy.report.svg import FONT_SIZE, NEEDED_BY, Ink
from rc_deploy.report.words import number, power_of_ten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

SMALL = FONT_SIZE - 1
# Beyond these powers of ten a value is drawn at the end of the axis.
LOWEST, HIGHEST = 1e-30, 1e30


def drawable(value: float, logarithmic: bool) -> float:
    """Return `value`, or a gap in the line where no axis could hold it beside plausible ones."""
    low = LOWEST if logarithmic else -HIGHEST
    return value if low < value < HIGHEST else math.nan


def limits_of(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis for these values, with room for what has no place on it."""
    drawn = [value for value in values if LOWEST < value < HIGHEST] or [1.0]
    return min(drawn) / 4, max(drawn) * 4


def placed(value: float, limits: tuple[float, float]) -> float:
    """Return where `value` is drawn: not a number is drawn as infinity."""
    return limits[1] if math.isnan(value) else min(max(value, limits[0]), limits[1])


def logarithmic(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with ticks at 1, 2 and 5 where it spans little, and labels in plain text."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    locator = require("matplotlib.ticker", NEEDED_BY).LogLocator(subs=steps, numticks=6 if which == "x" else 8)
    axis.set_major_locator(locator)
    axis.set_major_formatter(lambda value, _: tick(value))
    axes.minorticks_off()


def tick(value: float) -> str:
    """Return the label of a tick."""
    power = round(math.log10(value)) if value > 0 else 0
    if value > 0 and not -3 <= power <= 5 and math.isclose(value, 10.0**power, rel_tol=1e-6):
        return power_of_ten(power)
    return number(value, 1)


def dressed(axes: Axes, title: str, grid: str = "y") -> None:
    """Give axes the report's looks: a title in words where an axis label would be turned, a grid, no frame."""
    axes.set_title(title, loc="left", fontsize=FONT_SIZE, color=Ink.TEXT, pad=8)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(Ink.LINE)
    axes.grid(visible=True, axis="x" if grid == "x" else "y", color=Ink.LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=Ink.SOFT, labelsize=SMALL, color=Ink.LINE)
