"""What a machine with a GPU and no network is brought by `make gpu-bundle`: groups of packages, headers and data.

The machine is taken to have PyTorch with its CUDA packages, NumPy, onnx, nvcc and CMake. A package that it has already
is not replaced, so a group may name more than is missing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[1] / "build" / "gpu-bundle"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = BUNDLE / f"site-{PYTHON}"  # packages that were brought along, for this Python alone


@dataclass(frozen=True)
class Group:
    """What is brought together because it is wanted together.

    Attributes:
        name: of its pieces.
        purpose: what it is for.
        wanted_by: parts of `make gpu-check`, or other commands.
        packages: of PyPI, as wheels.
        sources: of PyPI that have no wheels; installing them wants a compiler.
        content: folder of an unpacked bundle that it goes to.
        asked_for: why it is brought only with `--with NAME`; empty where it always is.
    """

    name: str
    purpose: str
    wanted_by: tuple[str, ...]
    packages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    content: str = "wheels"
    asked_for: str = ""


GROUPS = (
    Group(
        "headers",
        "headers of ONNX Runtime and TensorRT, and GoogleTest: librc_ort, librc_trt and the host's tests",
        ("build", "onnxruntime", "onnxruntime-speed", "tensorrt", "host-tests"),
        content="third_party",
    ),
    Group(
        "toolkit",
        "what rc-deploy and its tests import beside PyTorch, NumPy and onnx",
        (
            "kernels",
            "operators",
            "training",
            "training-speed",
            "networks",
            "bench",
            "onnxruntime",
            "tensorrt",
            "engines",
        ),
        (
            *("onnx-ir", "onnxscript", "ml-dtypes", "safetensors", "jinja2", "markupsafe", "scipy", "pillow"),
            *("scikit-learn", "joblib", "threadpoolctl", "narwhals"),
            *("typer", "rich", "shellingham", "annotated-doc", "markdown-it-py", "mdurl", "pygments"),
            *("pytest", "pytest-timeout", "iniconfig", "pluggy", "packaging"),
        ),
    ),
    Group(
        "onnxruntime-gpu",
        "ONNX Runtime with its CUDA provider, in place of the CPU's package",
        ("onnxruntime", "onnxruntime-speed"),
        ("onnxruntime-gpu", "flatbuffers"),
    ),
    Group(
        "pycuda",
        "what engines run through; compiled on the machine against its CUDA toolkit, which takes minutes",
        ("engines",),
        ("pytools", "mako", "platformdirs", "siphash24", "setuptools", "wheel"),
        ("pycuda",),
    ),
    Group(
        "kornia",
        "augmentations on a GPU by another library, to hold rc_training's speed against by hand: no part does it yet",
        (),
        ("kornia", "kornia-rs"),
    ),
    Group(
        "tensorrt",
        "TensorRT's libraries and Python bindings",
        ("tensorrt", "tensorrt-build", "engines"),
        ("tensorrt-cu13", "tensorrt-cu13-bindings", "tensorrt-cu13-libs"),
        asked_for="its libraries are gigabytes",
    ),
    Group(
        "tensorrt-rtx",
        "TensorRT-RTX, which runs on compute capabilities 8.0, 8.6, 8.9, 12.0 and 12.1 only",
        ("engines",),
        ("tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"),
        asked_for="it does not run on every GPU",
    ),
    Group(
        "data",
        "CIFAR-10, from the folder of --data: `make gpu-train DATA=build/gpu-bundle/data`",
        ("make gpu-train",),
        content="data",
    ),
)
# What packages are called where Python imports them, where it is not the same but for hyphens.
IMPORTED = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "tensorrt": "tensorrt-cu13",
    "tensorrt_rtx": "tensorrt-rtx-cu13",
}


def bringing(module: str) -> str:
    """Return the command that brings what Python imports by this name; empty where no group does."""
    package = IMPORTED.get(module, module.replace("_", "-"))
    for group in GROUPS:
        if package in (*group.packages, *group.sources):
            return f"`make gpu-bundle{f' WITH={group.name}' if group.asked_for else ''}` brings it in {group.name}.tar"
    return ""
