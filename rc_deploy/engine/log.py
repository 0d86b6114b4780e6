"""Listening to a library: what it says is kept for our own messages."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def shared_logger(trt: Any) -> Any:
    """Return the one logger for everything that runs, with the `errors` that it was told so far.

    A library listens to no second one while it has a first.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)

    return Log()
