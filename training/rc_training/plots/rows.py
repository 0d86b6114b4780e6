"""What a row of violins shows: a network's responses, each with the numbers that stand beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rc_training.plots.statistics import of_channels, summarised

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rc_training.plots.responses import Responses
    from rc_training.plots.statistics import Channels, Summary


@dataclass(frozen=True)
class View:
    """Features at one place of a network, (N, C), and their statistics."""

    features: NDArray[np.float64]
    channels: Channels
    summary: Summary


@dataclass(frozen=True)
class Calibration:
    """A branch's features before and after the layer of that name."""

    layer: str
    before: View
    after: View


@dataclass(frozen=True)
class Row:
    """A network by name: what enters the last block's activation, and what its calibration did, if it has one."""

    name: str
    responses: View
    calibration: Calibration | None


def row(name: str, found: Responses, labels: NDArray[np.int64] | None) -> Row:
    """Return the row of the network called `name`; `labels` (N,) are the images' classes."""

    def view(features: NDArray[np.float64]) -> View:
        channels = of_channels(features, labels)
        return View(features, channels, summarised(channels))

    if found.calibrated is None:
        return Row(name, view(found.features), None)
    layer, before, after = found.calibrated.layer, found.calibrated.before, found.calibrated.after
    return Row(name, view(found.features), Calibration(layer, view(before), view(after)))


def chosen(channels: int, most: int) -> list[int]:
    """Return which of so many channels are drawn: all of them, or `most`, evenly spaced from the first to the last."""
    if channels <= most:
        return list(range(channels))
    return [round(place) for place in np.linspace(0, channels - 1, most)]


def numbers(summary: Summary) -> str:
    """Return the summary in a few words."""
    words = [f"mean {summary.mean:.3g}", f"standard deviation {summary.std:.3g}"]
    if summary.discriminability is not None:
        words.append(f"discriminability {summary.discriminability:.3g}")
    return ", ".join(words)
