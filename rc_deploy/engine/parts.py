"""How a batch of any size goes through the profiles of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rc_deploy.specs import BatchRange


@dataclass(frozen=True)
class Part:
    """Images `start` to `stop` of a batch, run as `size` images, zeros behind them, in a profile of the engine."""

    start: int
    stop: int
    size: int
    profile: int


def parts(profiles: Sequence[BatchRange], count: int) -> list[Part]:
    """Return how `count` images are run: in as few parts as there can be, each in the profile that fits it best.

    Of the profiles that hold a part's size, that is the one whose optimum is nearest. What no profile holds is filled
    up to the next size that one does.

    Args:
        profiles: the engine's, at least one.
        count: of images, 0 or more.
    """
    most = max(profile.maximum for profile in profiles)
    return [_part(profiles, start, min(start + most, count)) for start in range(0, count, most)]


def _part(profiles: Sequence[BatchRange], start: int, stop: int) -> Part:
    size = min(max(stop - start, profile.minimum) for profile in profiles if profile.maximum >= stop - start)
    fitting = [index for index, profile in enumerate(profiles) if profile.minimum <= size <= profile.maximum]
    return Part(start, stop, size, min(fitting, key=lambda index: (abs(profiles[index].optimum - size), index)))
