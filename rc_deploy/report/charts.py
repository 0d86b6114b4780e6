"""The report's plots of training and speed.

Series differ in marker and dash as well as in colour, so that they can be told apart in print and by everyone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rc_deploy.optional import require
from rc_deploy.report.axes import SMALL, drawable, dressed, logarithmic
from rc_deploy.report.svg import NEEDED_BY, SERIES, Ink, inline, new_figure, settings
from rc_deploy.report.words import number, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup
    from matplotlib.axes import Axes

    from rc_deploy.bench import Timing
    from rc_deploy.report.records import Bench, Training

# Matplotlib's names of the markers, and the letters that a legend in HTML shows for them.
MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"))
DASHES = ("-", (0, (5, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)), (0, (8, 2)))

_HEIGHT = 200
_MARKER = 6
# An interval that reaches further than this part of the value, or its inverse, would flatten all else.
_LEAST = 1e-3


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
    return _curves(training, lines, identifier, "loss", f"Training loss per epoch; the last: {last}.", powers=True)


def _curves(
    training: Training,
    lines: Sequence[tuple[str, Ink, object, list[float]]],
    identifier: str,
    title: str,
    description: str,
    *,
    powers: bool = False,
) -> Markup:
    epochs = [epoch.epoch for epoch in training.metrics.history]
    with settings():
        figure = new_figure(_HEIGHT)
        axes = figure.add_subplot()
        for name, ink, dash, values in lines:
            marker = "o" if len(epochs) == 1 else ""
            axes.plot(
                epochs,
                [drawable(value, powers) for value in values],
                color=ink,
                linestyle=dash,
                linewidth=1.6,
                marker=marker,
                label=name,
            )
        if powers and any(drawable(value, powers) > 0 for line in lines for value in line[3]):
            logarithmic(axes, "y")
        dressed(axes, title)
        axes.set_xlabel("epoch", color=Ink.SOFT, fontsize=SMALL)
        axes.xaxis.set_major_locator(
            require("matplotlib.ticker", NEEDED_BY).MaxNLocator(6, steps=(1, 2, 5, 10), integer=True)
        )
        if len(axes.lines) > 1:
            axes.legend(frameon=False, labelcolor=Ink.TEXT, loc="lower right", handlelength=2.8)
        return inline(figure, identifier, description)


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
    """Return images per second by batch size, at the median, with the median's confidence interval."""

    def draw(axes: Axes, places: list[float], timings: Sequence[Timing], ink: Ink, marker: str) -> None:
        dash = DASHES[SERIES.index(ink)]
        values = [timing.images_per_second for timing in timings]
        ends = [_throughputs(timing) for timing in timings]
        axes.plot(places, values, color=ink, linestyle=dash, linewidth=1.4)
        axes.vlines(places, [low for low, _ in ends], [high for _, high in ends], color=ink, linewidth=2.6)
        axes.plot(places, values, linestyle="", marker=marker, markersize=_MARKER, color=ink, markeredgecolor=Ink.PAPER)

    return _by_batch(bench, draw, identifier, "images per second", "Images per second by batch size.", spread=0)


def _throughputs(timing: Timing) -> tuple[float, float]:
    """Return the throughput at the ends of the median's interval; only the median itself where that is damaged."""
    ends = sorted(timing.p50 / end if end > 0 else 1.0 for end in timing.p50_interval)
    low, high = (timing.images_per_second * min(max(end, _LEAST), 1 / _LEAST) for end in ends)
    return low, high


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
        logarithmic(axes, "y")
        dressed(axes, title)
        # Batch sizes are chosen in steps of a factor: even steps on the page show them best.
        axes.set_xticks(range(len(batches)), [f"{batch:,}" for batch in batches])
        axes.set_xlim(-0.5, len(batches) - 0.5)
        axes.set_xlabel("batch size", color=Ink.SOFT, fontsize=SMALL)
        return inline(figure, identifier, description)
