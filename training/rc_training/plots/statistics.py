"""Numbers beside the violins: how each channel's responses are distributed, and how well they tell classes apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Channels:
    """Statistics of the responses of each channel, (C,) float64 each.

    Attributes:
        mean: over the images.
        std: over the images (divided by n).
        skewness: 0 for a Gaussian.
        excess_kurtosis: 0 for a Gaussian.
        discriminability: variance between the classes' means over variance within the classes, both weighted by the
            number of images (Fisher's ratio); None without labels.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    skewness: NDArray[np.float64]
    excess_kurtosis: NDArray[np.float64]
    discriminability: NDArray[np.float64] | None

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {name: None if values is None else values.tolist() for name, values in asdict(self).items()}


@dataclass(frozen=True)
class Summary:
    """All channels together.

    Attributes:
        mean: of all responses.
        std: within a channel, root mean square over the channels.
        std_between_channels: of the channels' means. Its square and that of `std` add up to the variance of all.
        skewness: median over the channels of its absolute value.
        discriminability: median over the channels; None without labels.
    """

    mean: float
    std: float
    std_between_channels: float
    skewness: float
    discriminability: float | None


def of_channels(features: NDArray[np.float64], labels: NDArray[np.int64] | None) -> Channels:
    """Return the statistics of features (N, C) and labels (N,)."""
    mean = features.mean(axis=0)
    # Rounding would leave a constant channel a tiny variance, and ratios without sense.
    centred = np.where(np.ptp(features, axis=0) == 0, 0.0, features - mean)
    variance = np.mean(centred**2, axis=0)
    return Channels(
        mean,
        np.sqrt(variance),
        _ratio(np.mean(centred**3, axis=0), variance**1.5),
        _ratio(np.mean(centred**4, axis=0), variance**2, constant=3.0) - 3,
        None if labels is None else _discriminability(centred, labels),
    )


def summarised(channels: Channels) -> Summary:
    """Return what the channels have in common."""
    ratio = channels.discriminability
    return Summary(
        mean=float(channels.mean.mean()),
        std=float(np.sqrt(np.mean(channels.std**2))),
        std_between_channels=float(channels.mean.std()),
        skewness=float(np.median(np.abs(channels.skewness))),
        discriminability=None if ratio is None else float(np.median(ratio)),
    )


def _discriminability(features: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return between-class over within-class variance of each channel of features (N, C), which have mean 0."""
    between = np.zeros(features.shape[1])
    within = np.zeros(features.shape[1])
    for label in np.unique(labels):
        members = features[labels == label]
        share = len(members) / len(features)
        between += share * members.mean(axis=0) ** 2
        within += share * members.var(axis=0)
    return _ratio(between, within)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64], constant: float = 0.0) -> NDArray[np.float64]:
    """Return above / below; `constant` where both are 0, as for a channel that always says the same."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((above == 0) & (below == 0), constant, above / below)
