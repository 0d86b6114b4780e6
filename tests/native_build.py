"""Compiles plugins/ for the tests that want it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def call(*command: str | Path) -> str:
    """Run a command; where it fails, fail the test with what it printed."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{(result.stdout + result.stderr)[-6000:]}", pytrace=False)
    return result.stdout


def built(tree: Path, *options: str) -> Path:
    """Compile plugins/ with its tests into `tree`, as `make native` does.

    No compiler and no CMake is a reason to skip; headers that cannot be had, or a source that does not compile, is not.
    """
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}: the native parts were not compiled")
    call(sys.executable, ROOT / "plugins" / "headers.py")
    call("cmake", "-S", ROOT / "plugins", "-B", tree, "-DRC_BUILD_TESTS=ON", "-DRC_WERROR=ON", *options)
    call("cmake", "--build", tree, "--parallel", "2")
    return tree


@cache
def tree() -> Path:
    """Return the tree of `make native`, brought up to date; RC_PLUGINS_BUILD names one that was built elsewhere.

    Of several pytest processes one builds it, and the others wait.
    """
    if "RC_PLUGINS_BUILD" in os.environ:
        return Path(os.environ["RC_PLUGINS_BUILD"])
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "plugins.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return built(ROOT / "build" / "plugins")


def built_with_cuda(name: str) -> Path:
    """Return file `name` of the tree; without a CUDA compiler, which alone leaves it out, skip the test."""
    if "RC_PLUGINS_BUILD" not in os.environ and shutil.which("nvcc") is None:
        pytest.skip(f"there is no nvcc: {name} was not compiled")
    (found,) = tree().rglob(name)
    return found


def passes(check: Callable[[Any], None], subject: object) -> bool:
    """Whether a check, which fails with AssertionError, holds for a mutant."""
    try:
        check(subject)
    except AssertionError:
        return False
    return True
