"""What machine a result was obtained on: without it no figure means anything."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rc_deploy import __version__, gpu
from rc_deploy.runners import default_threads

PACKAGES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx-cu13", "numpy")


@cache
def cpu_model() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def package_version(name: str) -> str | None:
    """Return the version of an installed distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def facts() -> dict[str, Any]:
    """Return the machine, its load and the versions installed on it, as JSON values."""
    driver = gpu.driver()
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "rc_deploy": __version__,
        "cpu": cpu_model(),
        "usable_cores": default_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "gpus": [vars(found) for found in driver.gpus],
        "cuda_driver": driver.version,
        "packages": {name: found for name in PACKAGES if (found := package_version(name))},
    }
