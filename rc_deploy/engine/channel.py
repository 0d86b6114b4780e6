"""Messages between two processes of ours over a pipe: a line of JSON, then the bytes that it announces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import BinaryIO


def send(pipe: BinaryIO, document: dict[str, Any], *blobs: bytes) -> None:
    """Write one message. Raises OSError where the other end is gone."""
    line = json.dumps([document, [len(blob) for blob in blobs]])
    pipe.write(line.encode() + b"\n")
    for blob in blobs:
        pipe.write(blob)
    pipe.flush()


def receive(pipe: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """Return the next message and its bytes; None where the other end closed the pipe, be it in mid-message."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    document, sizes = json.loads(line)
    blobs = [pipe.read(size) for size in sizes]
    complete = [len(blob) for blob in blobs] == sizes
    return (document, blobs) if complete else None
