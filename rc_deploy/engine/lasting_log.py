"""A log that outlives the process that writes it: lines go to a file's pages in memory, which the system keeps.

Libraries say tens of thousands of things in a build, and a write to a file for each would take a tenth of its time;
kept in a buffer, the last of them, which say why a process ended, would be lost with it.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_BLOCK = 2**20


class LastingLog:
    """Writes lines to a file of its own, from the beginning.

    Args:
        descriptor: of the file, which is filled up with zero bytes.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = self._size = 0

    def write(self, line: str) -> None:
        """Append a line. Raises OSError where there is no memory left for it."""
        data = line.encode() + b"\n"
        if self._end + len(data) > self._size:
            self._size = (self._end + len(data) + 2 * _BLOCK) // _BLOCK * _BLOCK
            os.ftruncate(self._descriptor, self._size)
            self._pages = mmap.mmap(self._descriptor, self._size)
        self._pages[self._end : self._end + len(data)] = data
        self._end += len(data)


def read(file: BinaryIO) -> str:
    """Return what was written so far, by whatever process."""
    file.seek(0)
    return file.read().rstrip(b"\0").decode(errors="replace")
