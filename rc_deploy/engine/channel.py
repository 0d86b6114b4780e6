"""What goes between two processes of ours: messages over a pipe, a line of JSON each; large things in shared files."""

from __future__ import annotations

import json
import mmap
from itertools import accumulate
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO


def send(pipe: IO[bytes], document: dict[str, Any]) -> None:
    """Write one message. Raises OSError where the other end is gone."""
    pipe.write(json.dumps(document).encode() + b"\n")
    pipe.flush()


def receive(pipe: BinaryIO) -> dict[str, Any] | None:
    """Return the next message; None where the other end closed the pipe, be it in mid-message."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    document: dict[str, Any] = json.loads(line)
    return document


def views(file: BinaryIO, sizes: Sequence[int]) -> list[memoryview]:
    """Return the parts of a file, which lie one after the other in it, without a copy; they outlive the file."""
    if not (total := sum(sizes)):
        return [memoryview(b"") for _ in sizes]
    pages = memoryview(mmap.mmap(file.fileno(), total, access=mmap.ACCESS_READ))
    ends = list(accumulate(sizes))
    return [pages[end - size : end] for end, size in zip(ends, sizes, strict=True)]
