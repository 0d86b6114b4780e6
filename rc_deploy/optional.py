"""Imports of optional packages, at the moment they are used, with the command that installs what is missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from rc_deploy.errors import MissingDependencyError

# Import name -> (what people call it, the extra that brings it).
EXTRAS = {
    "PIL": ("Pillow", "data"),
    "matplotlib": ("Matplotlib", "report"),
    "onnxruntime": ("ONNX Runtime", "cpu"),
    "onnxscript": ("ONNX Script", "export"),
    "openvino": ("OpenVINO", "openvino"),
    "pycuda": ("PyCUDA", "gpu"),
    "safetensors": ("safetensors", "export"),
    "scipy": ("SciPy", "data"),
    "sklearn": ("scikit-learn", "data"),
    "tensorboard": ("TensorBoard", "train"),
    "tensorrt": ("TensorRT", "tensorrt"),
    "tensorrt_rtx": ("TensorRT-RTX", "rtx"),
    "torch": ("PyTorch", "export"),
}


def is_installed(name: str) -> bool:
    """Return whether top-level package `name` can be found; does not import it.

    A folder of that name without an `__init__.py` is none: `plugins/tensorrt`, say, or type stubs.
    """
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None


def require(module: str, needed_by: str, extra: str | None = None) -> Any:
    """Import and return `module`, a package of `EXTRAS` or a module inside one.

    Args:
        module: dotted import name, e.g. "onnxruntime.transformers.float16".
        needed_by: the command or function that cannot go on without it, for the message.
        extra: that brings it, where that of `EXTRAS` is not the one to name.

    Raises:
        MissingDependencyError: its package is not installed; the message names the extra that brings it.
    """
    package = module.partition(".")[0]
    if not is_installed(package):
        title, usual = EXTRAS[package]
        raise MissingDependencyError(
            f"{needed_by} needs {title}, which is not installed.",
            f"pip install 'rc-deploy[{extra or usual}]'",
        )
    return importlib.import_module(module)
