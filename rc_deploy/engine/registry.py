"""Our plugins in TensorRT's registry. Imports next to nothing: the worker process does it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rc_deploy.errors import UnsupportedError
from rc_deploy.schema import DOMAIN

if TYPE_CHECKING:
    from pathlib import Path

    from rc_deploy.engine.library import Library


def load_plugins(trt: Any, library: Library, path: Path) -> None:
    """Register the plugins with a library, once in a process. Raises UnsupportedError where it does not take them."""
    if not library.takes_plugins:
        raise UnsupportedError(f"{library.title} takes no plugins.", "Build with --plugins off.")
    registry = trt.get_plugin_registry()
    if any(creator.plugin_namespace == DOMAIN for creator in registry.all_creators):
        return
    if registry.load_library(str(path)) is None:
        raise UnsupportedError(
            f"{library.title} {trt.__version__} does not load the plugins in {path}.",
            "Build them for this version with `make native`, or build with --plugins off.",
        )
