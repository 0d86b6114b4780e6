"""Starting a process whose memory lies at the same addresses each time, so that it does the same each time.

TensorRT-RTX orders some of its own tensors by where they lie in memory: with addresses drawn at random, as Linux does
it against attacks, two builds of one graph number them differently. The worker reads nothing but what its parent gives
it.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASK = 0xFFFFFFFF
_ADDR_NO_RANDOMIZE = 0x0040000  # personality(2)


@contextmanager
def fixed_addresses() -> Iterator[None]:
    """Let processes that this thread starts in the block have fixed addresses.

    Where the system does not allow it, as in containers with Docker's usual restrictions, they have random ones.
    """
    personality = ctypes.CDLL(None).personality
    before = personality(_ASK)
    if before != -1:
        personality(before | _ADDR_NO_RANDOMIZE)
    try:
        yield
    finally:
        if before != -1:
            personality(before)
