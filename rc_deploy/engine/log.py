"""Listening to a library: what it says is kept for our own messages."""

from __future__ import annotations

from functools import cache
from typing import Any


def make_logger(trt: Any) -> Any:
    """Return a logger for a library, with the `errors` and `warnings` that it was told so far."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)

    return Log()


@cache
def shared_logger(trt: Any) -> Any:
    """Return the one logger for everything that runs: a library listens to no second one while it has a first."""
    return make_logger(trt)
