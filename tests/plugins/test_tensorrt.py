"""The TensorRT plugin library: what it exports, and TensorRT-RTX's real registry, which needs no GPU.

TensorRT-RTX's parser aborts the process where a plugin of a node's name is registered: everything here runs in a
process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from native_build import built_with_cuda

# The process's standard output is a line of JSON. Plugins are dropped before the library that holds their code.
SCRIPT = """
import json, sys
import numpy as np
import tensorrt_rtx as trt

registry = trt.get_plugin_registry()
handle = registry.load_library(sys.argv[1])
ours = [creator for creator in registry.all_creators if creator.plugin_namespace == "rc"]
creators = {creator.name: [creator.plugin_version, [field.name for field in creator.field_names]] for creator in ours}

def made(name, *fields):
    collection = trt.PluginFieldCollection(list(fields))
    plugin = registry.get_creator(name, "1", "rc").create_plugin("layer", collection, trt.TensorRTPhase.BUILD)
    if plugin is None:
        return None
    return plugin.get_capability_interface(trt.PluginCapabilityType.CORE).plugin_name

def text(value):
    return trt.PluginField("approximate", np.frombuffer(value, np.int8), trt.PluginFieldType.CHAR)

def epsilon(value):
    return trt.PluginField("epsilon", np.array([value], np.float32), trt.PluginFieldType.FLOAT32)

results = {
    "creators": creators,
    "plain": [made(name) for name in creators],
    "forms": [made("GCLU", text(form)) for form in (b"none", b"sigmoid", b"tanh", b"tanh\\0")],
    "epsilon": [made(name, epsilon(1e-3)) for name in creators if name != "GCLU"],
    "refused": [made("GCLU", text(b"exact")), made("CalibratedTail", epsilon(-1e-9))],
}
del ours
registry.deregister_library(handle)
results["left"] = [creator.name for creator in registry.all_creators if creator.plugin_namespace == "rc"]
print(json.dumps(results))
"""

SELF_REGISTRATION = """
import ctypes, json, sys
ctypes.CDLL(sys.argv[1])
import tensorrt_rtx as trt
print(json.dumps([creator.name for creator in trt.get_plugin_registry().all_creators]))
"""


def run(script: str, library: Path, **environment: str) -> tuple[Any, str]:
    """What the script printed as JSON, and its standard error."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX's registry is not here")
    command = [sys.executable, "-c", script, str(library)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout), found.stderr


def test_tensorrt_rtx_registry_loads_creates_and_unloads() -> None:
    found, errors = run(SCRIPT, built_with_cuda("librc_trt.so"))
    calibrating = ["CalibratedResidual", "CalibratedTail", "ResponseCalibration"]
    expected = {"GCLU": ["1", ["approximate"]], **{name: ["1", ["epsilon"]] for name in calibrating}}
    assert found["creators"] == expected
    assert sorted(found["plain"]) == sorted(expected)
    assert found["forms"] == ["GCLU"] * 4
    assert sorted(found["epsilon"]) == calibrating
    assert found["refused"] == [None, None]
    assert "approximate is 'exact'" in errors
    assert "epsilon is -1e-09; it must be positive" in errors
    assert found["left"] == []


def test_does_not_register_itself_with_tensorrt_rtx() -> None:
    libraries = pytest.importorskip("tensorrt_rtx_libs", reason="TensorRT-RTX's library is not here")
    runtime = next(Path(libraries.__file__).parent.glob("libtensorrt_rtx.so*"))
    names, _ = run(SELF_REGISTRATION, built_with_cuda("librc_trt.so"), LD_PRELOAD=str(runtime))
    assert names, "TensorRT-RTX has no plugins of its own any more: this test sees nothing"
    assert not {"GCLU", "ResponseCalibration", "CalibratedResidual", "CalibratedTail"} & set(names)


def test_registers_itself_with_a_tensorrt_that_others_have_loaded_for_themselves() -> None:
    script = (
        "import ctypes, sys\n"
        "tensorrt = ctypes.CDLL(sys.argv[1])\n"
        "before = tensorrt.registered_creators()\n"
        "ours = ctypes.CDLL(sys.argv[2])\n"
        "print(before, tensorrt.registered_creators())\n"
    )
    command = [
        sys.executable,
        "-c",
        script,
        str(built_with_cuda("libnvinfer.so.11")),
        str(built_with_cuda("librc_trt.so")),
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "0 4\n"), found.stderr


def test_a_folder_named_after_tensorrt_rtx_makes_no_tensorrt_rtx(tmp_path: Path) -> None:
    """The program that stands for TensorRT exports its names; here it lies in such a folder."""
    (tmp_path / "env_tensorrt_rtx").mkdir()
    program = shutil.copy(built_with_cuda("rc_trt_tests"), tmp_path / "env_tensorrt_rtx")
    found = subprocess.run([str(program), "--gtest_filter=Loading.*"], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout[-4000:]
    assert "[  PASSED  ] 3 tests" in found.stdout


@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm to list symbols")
@pytest.mark.parametrize(
    ("library", "exported"),
    [
        ("librc_trt.so", {"getCreators", "setLoggerFinder"}),
        (
            "librc_cuda.so",
            {
                "rc_cuda_calibrated_residual",
                "rc_cuda_calibrated_tail",
                "rc_cuda_calibrated_tail_workspace",
                "rc_cuda_gclu",
                "rc_cuda_last_error",
                "rc_cuda_response_calibration",
                "rc_cuda_set_tail_plan",
            },
        ),
    ],
)
def test_exports_only_what_it_means_to(library: str, exported: set[str]) -> None:
    command = ["nm", "-D", "--defined-only", "--format=posix", str(built_with_cuda(library))]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert {line.split()[0] for line in listing.splitlines()} == exported


@pytest.mark.skipif(shutil.which("readelf") is None, reason="there is no readelf to list needed libraries")
def test_needs_neither_tensorrt_nor_cuda_to_load() -> None:
    command = ["readelf", "--dynamic", str(built_with_cuda("librc_trt.so"))]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "NEEDED" in listing
    assert not any(word in listing for word in ("nvinfer", "cudart", "libcuda"))


@pytest.mark.parametrize("program", ["rc_cuda_tests", "rc_cuda_launch_tests", "rc_trt_tests"])
def test_host_programs_pass(program: str) -> None:
    found = subprocess.run([str(built_with_cuda(program))], capture_output=True, text=True, timeout=500)
    assert found.returncode == 0, found.stdout[-4000:]
