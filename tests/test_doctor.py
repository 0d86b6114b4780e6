"""Doctor: which inference libraries and plugins are on a machine, told without loading any."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from rc_deploy import elf, libraries, native
from rc_deploy.doctor import doctor

COMPILER = shutil.which("g++") or shutil.which("c++")


def compiled(path: Path, source: str) -> Path:
    """Compile a small library to `path`."""
    if COMPILER is None:
        pytest.skip("there is no C++ compiler")
    command = [COMPILER, "-shared", "-fPIC", "-std=c++17", "-x", "c++", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    return path


def test_the_libraries_of_this_process_are_found_with_their_versions() -> None:
    found = {item.library: item for item in libraries.find()}
    assert found["TensorRT-RTX"].version == importlib.metadata.version("tensorrt-rtx-cu13")
    assert found["ONNX Runtime"].version == importlib.metadata.version("onnxruntime")
    assert found["ONNX Runtime"].found_by == "Python package"


@pytest.mark.parametrize(
    ("place", "way"),
    [
        ("usr/lib", "/usr/lib"),
        ("usr/lib/x86_64-linux-gnu", "/usr/lib"),
        ("usr/local/lib", "/usr/local"),
        ("usr/local/tensorrt/lib", "/usr/local"),
        ("usr/local/cuda/targets/x86_64-linux/lib", "/usr/local"),
        ("opt/TensorRT-10.13.0.35/lib", "/opt"),
        ("opt/nvidia/TensorRT/targets/lib64", "/opt"),
    ],
)
def test_folders_that_are_searched(place: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "libnvinfer.so.10.13.0").write_bytes(b"no library at all")
    (folder / "libnvinfer.so.10").symlink_to("libnvinfer.so.10.13.0")
    (folder / "libnvinfer.so").symlink_to("libnvinfer.so.10")
    (folder / "libnvinfer_plugin.so.10").write_bytes(b"another library")
    (found,) = libraries.find(tmp_path)
    assert (found.library, found.version, found.found_by) == ("TensorRT", "10.13.0", way)


def test_the_loaders_paths_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    for place in ("first", "opt/ort/lib"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "libonnxruntime.so.1.21.0").write_bytes(b"")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path / 'absent'}::{tmp_path / 'first'}")
    assert [item.found_by for item in libraries.find(tmp_path)] == ["LD_LIBRARY_PATH", "/opt"]


@pytest.mark.parametrize(
    ("name", "symbol", "version"),
    [
        ("libnvinfer.so.10", "tensorrt_version_10_13_0_35", "10.13.0.35"),
        ("libnvinfer.so", "tensorrt_version_8_6_1", "8.6.1"),
        ("libnvinfer.so.10", "other", "10"),
        ("libnvinfer.so", "other", "?"),
    ],
)
def test_versions_are_read_from_symbols(name: str, symbol: str, version: str, tmp_path: Path) -> None:
    path = compiled(tmp_path / name, f'extern "C" int {symbol}; int {symbol} = 1;')
    assert libraries.version(path) == version


@pytest.mark.parametrize(
    ("measures", "builds", "works", "remedy"),
    [
        (True, True, True, ""),
        (False, True, False, "rc-deploy[cpu]"),
        (True, False, False, "see the backends"),
    ],
)
def test_quantised_builds_need_ranges_and_a_backend(
    measures: bool, builds: bool, works: bool, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rc_deploy.doctor.is_installed", lambda name: measures or name != "onnxruntime")
    monkeypatch.setattr("rc_deploy.doctor.why_not", lambda _: "" if builds else "it is broken")
    checks = {check.name: check for check in doctor().checks}
    found = checks["build --int8, --fp8"]
    assert found.works == works
    assert remedy in found.remedy
    assert checks["build --backend tensorrt-rtx"].works == builds, "which is all that the other precisions need"


def test_no_library_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose loading leaves a trace leaves none."""
    witness = tmp_path / "loaded"
    code = f'#include <fstream>\nstatic const bool ran = [] {{ std::ofstream("{witness}") << 1; return true; }}();'
    compiled(tmp_path / "libnvinfer.so.10", code)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv(native.VARIABLE, str(tmp_path))
    shutil.copy(tmp_path / "libnvinfer.so.10", tmp_path / native.TENSORRT_LIBRARY)
    assert any(item.path == str(tmp_path / "libnvinfer.so.10") for item in doctor().libraries)
    assert not witness.exists()
    subprocess.run([sys.executable, "-c", f"import ctypes; ctypes.CDLL('{tmp_path}/libnvinfer.so.10')"], check=True)
    assert witness.exists()


def fat_binary(*codes: tuple[int, int]) -> bytes:
    """A fat binary as nvcc writes it: (kind, compute capability times ten) of each code."""
    entries = b""
    for kind, capability in codes:
        entries += struct.pack("<HHIQ12xI32x", kind, 0x101, 64, 24, capability) + b"\xba" * 24
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def test_device_code_in_fat_binaries() -> None:
    content = fat_binary((2, 80), (2, 90), (1, 120)) + b"\0" * 8 + fat_binary((2, 86))
    assert {(code.compute_capability, code.ptx) for code in elf.device_code(content)} == {
        ("8.0", False), ("9.0", False), ("12.0", True), ("8.6", False)
    }  # fmt: skip
    assert elf.device_code(b"") == set()


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_damaged_fat_binaries(cut: int) -> None:
    content = fat_binary((2, 80), (2, 90))
    elf.device_code(content[:cut])
    elf.device_code(content[:cut] + b"\xff" * 64 + content[cut:])


def test_damaged_libraries(tmp_path: Path) -> None:
    path = compiled(tmp_path / "whole.so", "int x;")
    content = path.read_bytes()
    assert elf.section(path, ".dynstr")
    damaged = tmp_path / "damaged.so"
    for position in range(64):
        for value in (0x00, 0xFF):
            damaged.write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
            elf.section(damaged, ".dynstr")
    for size in range(0, len(content), len(content) // 50):
        damaged.write_bytes(content[:size])
        elf.section(damaged, ".dynstr")
    assert elf.section(tmp_path / "absent.so", ".dynstr") == b""


def test_plugins_say_what_they_were_built_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        'namespace {[[gnu::used]] constexpr char kBuiltFor[] = "rc-deploy built this for TensorRT 10.14";}\n'
        f'__attribute__((section(".nv_fatbin"), used)) static const unsigned char code[] = '
        f"{{{', '.join(str(byte) for byte in fat_binary((2, 80), (2, 120), (2, 90), (1, 120)))}}};"
    )
    compiled(tmp_path / native.TENSORRT_LIBRARY, source)
    monkeypatch.setenv(native.VARIABLE, str(tmp_path))
    checks = {check.name: check for check in doctor().checks}
    plugins = checks["plugins (TensorRT)"]
    assert plugins.works
    assert "for TensorRT 10.14 or later; code for compute capability 8.0, 9.0, 12.0" in plugins.detail
    assert "PTX of 12.0 for later ones" in plugins.detail
    kernels = checks["native kernels (ONNX Runtime)"]
    assert not kernels.works
    assert kernels.remedy


def test_the_libraries_sources_say_it_too() -> None:
    """The words that doctor looks for are those that the compiler writes."""
    plugins = Path(__file__).parents[1] / "plugins"
    for name, runtime in (("onnxruntime", b"ONNX Runtime 1."), ("tensorrt", b"TensorRT ")):
        text = (plugins / name / "library.cpp").read_bytes()
        assert b'"rc-deploy built this for ' + runtime in text


def test_doctor_needs_no_heavy_import() -> None:
    """It shall answer within two seconds: PyTorch alone takes as long."""
    script = "import sys; from rc_deploy.doctor import doctor; doctor(); print('torch' in sys.modules)"
    environment = {**os.environ, "RC_DEPLOY_LIBRARIES": ""}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert result.stdout.strip() == "False", result.stderr
