"""Fixtures: the native parts as they are built here."""

from __future__ import annotations

from pathlib import Path

import pytest

from native_build import tree


@pytest.fixture(scope="session")
def build_tree() -> Path:
    """The tree of `make native`, brought up to date."""
    return tree()


@pytest.fixture(scope="session")
def ort_library(build_tree: Path) -> Path:
    """librc_ort, built from these sources."""
    return build_tree / "lib" / "librc_ort.so"
