"""The report's plots: training curves, errors against their tolerance, times and throughput.

Series differ in marker and dash as well as in colour, so that they can be told apart in print and by everyone.
Values that have no place on a logarithmic axis are put at its ends: 0 at the left, infinity at the right.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rc_deploy.optional import require
from rc_deploy.report.svg import FONT_SIZE, NEEDED_BY, SERIES, Ink, inline, new_figure, settings
from rc_deploy.report.words import number, percent, power_of_ten, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup
    from matplotlib.axes import Axes

    from rc_deploy.bench import Timing
    from rc_deploy.report.records import Bench, Training, Validation

# Matplotlib's names of the markers, and the letters that a legend in HTML shows for them.
MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"))
DASHES = ("-", (0, (5, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)), (0, (8, 2)))

_HEIGHT = 200
_MARKER = 6
_SMALL = FONT_SIZE - 1
# Beyond these powers of ten a value is drawn at the end of the axis.
_LOWEST, _HIGHEST = 1e-30, 1e30


def accuracy_chart(training: Training, identifier: str) -> Markup:
    """Return accuracy per epoch, training and test."""
    history = training.metrics.history
    lines = (
        ("test", Ink.SERIES_1, "-", [epoch.test_accuracy for epoch in history]),
        ("training", Ink.SERIES_2, DASHES[1], [epoch.train_accuracy for epoch in history]),
    )
    last = percent(history[-1].test_accuracy) if history else "no"
    return _curves(training, lines, identifier, "accuracy, %", f"Accuracy per epoch, {last} on the test split at last.")


def loss_chart(training: Training, identifier: str) -> Markup:
    """Return the training loss per epoch, on a logarithmic axis."""
    losses = [epoch.loss for epoch in training.metrics.history]
    lines = (("training loss", Ink.SERIES_2, DASHES[1], losses),)
    last = number(losses[-1]) if losses else "none"
    return _curves(training, lines, identifier, "loss", f"Training loss per epoch; the last: {last}.", logarithmic=True)


def _curves(
    training: Training,
    lines: Sequence[tuple[str, Ink, object, list[float]]],
    identifier: str,
    title: str,
    description: str,
    *,
    logarithmic: bool = False,
) -> Markup:
    epochs = [epoch.epoch for epoch in training.metrics.history]
    with settings():
        figure = new_figure(_HEIGHT)
        axes = figure.add_subplot()
        for name, ink, dash, values in lines:
            marker = "o" if len(epochs) == 1 else ""
            axes.plot(
                epochs,
                [_drawable(value, logarithmic) for value in values],
                color=ink,
                linestyle=dash,
                linewidth=1.6,
                marker=marker,
                label=name,
            )
        if logarithmic and any(_drawable(value, logarithmic) > 0 for line in lines for value in line[3]):
            _logarithmic(axes, "y")
        _dressed(axes, title)
        axes.set_xlabel("epoch", color=Ink.SOFT, fontsize=_SMALL)
        axes.xaxis.set_major_locator(
            require("matplotlib.ticker", NEEDED_BY).MaxNLocator(6, steps=(1, 2, 5, 10), integer=True)
        )
        if len(axes.lines) > 1:
            axes.legend(frameon=False, labelcolor=Ink.TEXT, loc="lower right", handlelength=2.8)
        return inline(figure, identifier, description)


def _drawable(value: float, logarithmic: bool) -> float:
    """Return `value`, or a gap in the line where no axis could hold it beside plausible ones."""
    low = _LOWEST if logarithmic else -_HIGHEST
    return value if low < value < _HIGHEST else math.nan


def error_chart(validations: Sequence[Validation], identifier: str) -> Markup:
    """Return, a row per artefact, the quantiles of its logits' errors and the tolerance that they must stay below."""
    low, high = _error_range(validations)
    with settings():
        figure = new_figure(48 + 40 * len(validations))
        axes = figure.add_subplot()
        axes.set_xlim(low, high)
        axes.set_ylim(len(validations) - 0.45, -0.75)
        _logarithmic(axes, "x")
        _dressed(axes, "", grid="x")
        axes.set_yticks([])
        for row, validation in enumerate(validations):
            _error_row(axes, row, validation, (low, high))
        axes.set_xlabel("absolute error of a logit", color=Ink.SOFT, fontsize=_SMALL)
        return inline(figure, identifier, _error_description(validations))


def _error_range(validations: Sequence[Validation]) -> tuple[float, float]:
    values = [value for item in validations for value in (*item.comparison.error_quantiles, item.tolerance.maximum)]
    drawable = [value for value in values if _LOWEST < value < _HIGHEST] or [1.0]
    # Half a decade of room: for the zeros at the left, and for what is beyond the tolerance at the right.
    return min(drawable) / 4, max(drawable) * 4


def _error_row(axes: Axes, row: int, validation: Validation, limits: tuple[float, float]) -> None:
    ink = SERIES[0] if validation.passed else Ink.FAIL
    places = [_placed(value, limits) for value in validation.comparison.error_quantiles]
    bound = _placed(validation.tolerance.maximum, limits)
    name = f"{shorten(validation.artefact.title, 30)}, {shorten(validation.artefact.name, 30)}"
    # The label stands on paper of its own, or the grid would run through it.
    label = {"facecolor": Ink.PAPER, "edgecolor": "none", "pad": 1.5}
    axes.text(limits[0] * 1.06, row - 0.4, name, color=Ink.TEXT, va="center", bbox=label, in_layout=False)
    axes.hlines(row, places[0], places[-1], color=ink, linewidth=1.6)
    if places[-1] < bound:
        axes.hlines(row, places[-1], bound, color=Ink.LINE, linewidth=1.2, linestyle=(0, (1, 2)))
    axes.vlines(bound, row - 0.24, row + 0.24, color=Ink.TEXT, linewidth=2)
    for place, size in zip(places, (4.5, 5.5, 6.5, 8), strict=True):
        axes.plot(place, row, marker="o", markersize=size, color=ink, markeredgecolor=Ink.PAPER, clip_on=False)


def _placed(value: float, limits: tuple[float, float]) -> float:
    """Return where `value` is drawn: not a number is drawn as infinity."""
    return limits[1] if math.isnan(value) else min(max(value, limits[0]), limits[1])


def _error_description(validations: Sequence[Validation]) -> str:
    parts = (
        f"{item.artefact.title}: largest error {number(item.comparison.max_error)}, "
        f"tolerance {number(item.tolerance.maximum)}"
        for item in validations
    )
    return f"Errors of the logits against their tolerance. {'; '.join(parts)}."


def latency_chart(bench: Bench, identifier: str) -> Markup:
    """Return time per run by batch size: median, whiskers to the 90th and 99th percentile."""

    def draw(axes: Axes, places: list[float], timings: Sequence[Timing], ink: Ink, marker: str) -> None:
        p50, p90, p99 = ([getattr(timing, name) for timing in timings] for name in ("p50", "p90", "p99"))
        axes.vlines(places, p50, p99, color=ink, linewidth=1)
        axes.vlines(places, p50, p90, color=ink, linewidth=2.6)
        axes.plot(places, p99, linestyle="", marker="_", markersize=6, color=ink)
        axes.plot(places, p50, linestyle="", marker=marker, markersize=_MARKER, color=ink, markeredgecolor=Ink.PAPER)

    return _by_batch(bench, draw, identifier, "time of one run, ms", "Milliseconds per run by batch size.", spread=0.5)


def throughput_chart(bench: Bench, identifier: str) -> Markup:
    """Return images per second by batch size, at the median."""

    def draw(axes: Axes, places: list[float], timings: Sequence[Timing], ink: Ink, marker: str) -> None:
        dash = DASHES[SERIES.index(ink)]
        values = [timing.images_per_second for timing in timings]
        axes.plot(places, values, color=ink, linestyle=dash, linewidth=1.4)
        axes.plot(places, values, linestyle="", marker=marker, markersize=_MARKER, color=ink, markeredgecolor=Ink.PAPER)

    return _by_batch(bench, draw, identifier, "images per second", "Images per second by batch size.", spread=0)


def _by_batch(
    bench: Bench,
    draw: Callable[[Axes, list[float], Sequence[Timing], Ink, str], None],
    identifier: str,
    title: str,
    description: str,
    *,
    spread: float,
) -> Markup:
    """Draw the artefacts at each batch size, beside each other over `spread` of the room it has."""
    batches = bench.batches
    with settings():
        figure = new_figure(_HEIGHT)
        axes = figure.add_subplot()
        for index in range(len(bench.artefacts)):
            timings = bench.of(index)
            offset = spread * ((index + 0.5) / len(bench.artefacts) - 0.5)
            places = [batches.index(timing.batch) + offset for timing in timings]
            draw(axes, places, timings, SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)][0])
        axes.margins(y=0.1)
        _logarithmic(axes, "y")
        _dressed(axes, title)
        # Batch sizes are chosen in steps of a factor: even steps on the page show them best.
        axes.set_xticks(range(len(batches)), [f"{batch:,}" for batch in batches])
        axes.set_xlim(-0.5, len(batches) - 0.5)
        axes.set_xlabel("batch size", color=Ink.SOFT, fontsize=_SMALL)
        return inline(figure, identifier, description)


def _logarithmic(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with ticks at 1, 2 and 5 where it spans little, and labels in plain text."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    locator = require("matplotlib.ticker", NEEDED_BY).LogLocator(subs=steps, numticks=6 if which == "x" else 8)
    axis.set_major_locator(locator)
    axis.set_major_formatter(lambda value, _: _tick(value))
    axes.minorticks_off()


def _tick(value: float) -> str:
    power = round(math.log10(value)) if value > 0 else 0
    if value > 0 and not -3 <= power <= 5 and math.isclose(value, 10.0**power, rel_tol=1e-6):
        return power_of_ten(power)
    return number(value, 1)


def _dressed(axes: Axes, title: str, grid: str = "y") -> None:
    """Give axes the report's looks: a title in words where an axis label would be turned, a grid, no frame."""
    axes.set_title(title, loc="left", fontsize=FONT_SIZE, color=Ink.TEXT, pad=8)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(Ink.LINE)
    axes.grid(visible=True, axis="x" if grid == "x" else "y", color=Ink.LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=Ink.SOFT, labelsize=_SMALL, color=Ink.LINE)
