"""The processes that train one network together; here there is one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together.

    Attributes:
        rank: of this one, from 0. Number 0 writes files and reports.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def wait(self) -> None:
        """Return once every process is here."""


def current() -> Processes:
    """Return the processes that are connected."""
    return Processes()


def local_device(place: torch.device) -> torch.device:
    """Return the device of this process where the run is on `place`."""
    return place


@contextmanager
def connected(_: torch.device) -> Iterator[Processes]:
    """Connect this process with the others, for as long as the context lasts."""
    yield Processes()
