"""Where the tests find what CMake has built of plugins/; nothing is skipped without the command that builds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("RC_PLUGINS_BUILD", Path(__file__).parents[1] / "build"))


def built(name: str) -> Path:
    """Return the newest file `name` under the build folder, or skip the test."""
    found = sorted(BUILD.rglob(name), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.skip(f"{name} is not built: cmake -S plugins -B build/plugins && cmake --build build/plugins")
    return found[-1]
