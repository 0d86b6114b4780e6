"""The engine stage: from an exported ONNX file to an engine of an inference library, and proof of its precision.

What it offers is imported when it is asked for: the worker process, a module of this package, must start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rc_deploy.engine.builder import BuildResult, build
    from rc_deploy.engine.options import BuildOptions

__all__ = ["BuildOptions", "BuildResult", "build"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("rc_deploy.engine.builder"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
