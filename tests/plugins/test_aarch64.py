"""The CPU kernels, librc_ort and the maths for aarch64, by a cross compiler that pip installs: warnings are errors.

Nothing is linked (that would compile a C++ library first, for minutes) and nothing is run.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from native_build import ROOT, call

pytest.importorskip("ziglang", reason="there is no cross compiler: pip install ziglang")

COMPILER = (sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu.2.28")
ELF_MACHINE = slice(18, 20)  # e_machine, little-endian
AARCH64 = (183).to_bytes(2, "little")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What CMake would run for every source of plugins/ on an aarch64 machine without CUDA."""
    if shutil.which("cmake") is None:
        pytest.skip("there is no cmake: the commands that compile are not known")
    tree = tmp_path_factory.mktemp("aarch64")
    call(sys.executable, ROOT / "plugins" / "headers.py")
    call(
        *("cmake", "-S", ROOT / "plugins", "-B", tree, f"-DCMAKE_CXX_COMPILER={';'.join(COMPILER)}", "-DRC_CUDA=OFF"),
        *("-DRC_WERROR=ON", "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
        # CMake finds out about a compiler without linking either.
        *("-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY", "-DCMAKE_CXX_FLAGS=-c"),
    )
    found: list[dict[str, Any]] = json.loads((tree / "compile_commands.json").read_text())
    return found


def command(entry: dict[str, Any], output: Path, *options: str) -> list[str]:
    """One of the commands with another output and, in place of `-c`, these options."""
    words = [word for word in shlex.split(entry["command"]) if word != "-c"]
    words[words.index("-o") + 1] = str(output)
    return [*words, *(options or ["-c"])]


def compiled(entry: dict[str, Any], output: Path, *options: str) -> bytes:
    """What one of the commands compiles to."""
    call(*command(entry, output, *options))
    return output.read_bytes()


def test_every_source_compiles(commands: list[dict[str, Any]], tmp_path: Path) -> None:
    sources = {Path(entry["file"]) for entry in commands}
    files = {path for part in ("cpu", "onnxruntime") for path in (ROOT / "plugins" / part).glob("*.cpp")}
    assert files - sources == {ROOT / "plugins" / "onnxruntime" / "operators_cuda.cpp"}  # it wants CUDA's headers
    assert sources <= files
    for entry in commands:
        assert {"-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"} <= set(entry["command"].split())
        assert compiled(entry, tmp_path / "object")[ELF_MACHINE] == AARCH64


def test_maths_compiles(tmp_path: Path) -> None:
    warnings = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
    source, include = ROOT / "plugins" / "tests" / "math_abi.cpp", ROOT / "plugins" / "include"
    call(*COMPILER, "-std=c++17", "-O3", *warnings, "-I", include, "-c", source, "-o", tmp_path / "object")
    assert (tmp_path / "object").read_bytes()[ELF_MACHINE] == AARCH64


def test_every_elementwise_loop_is_vector_code(commands: list[dict[str, Any]], tmp_path: Path) -> None:
    """As on x86-64 (test_native.py): three forms of GCLU, and with and without shortcut for two kinds of statistics."""
    (kernels,) = (entry for entry in commands if entry["file"].endswith("cpu/kernels.cpp"))
    # The compiler is handed a `-c` of its driver's, which it does not need here.
    to_assembly = ("-S", "-Wno-unused-command-line-argument")
    vector = re.compile(rb"\bfdiv\s+v\d+\.4s")
    types, forms, calibrations = 3, 3, 2
    loops = types * (forms + 2 * calibrations) - calibrations
    code = compiled(kernels, tmp_path / "assembly", *to_assembly)
    assert len(vector.findall(code)) >= loops
    assert re.search(rb"\bfmla\s+v\d+\.4s", code)
    scalar = compiled(kernels, tmp_path / "scalar", *to_assembly, "-fno-vectorize", "-fno-openmp-simd")
    assert len(vector.findall(scalar)) < loops


def test_warnings_are_errors(commands: list[dict[str, Any]], tmp_path: Path) -> None:
    source = tmp_path / "narrowing.cpp"
    source.write_text("float half(double x);\nfloat half(double x) { return x; }\n")
    words = [str(source) if word == commands[0]["file"] else word for word in command(commands[0], tmp_path / "object")]
    found = subprocess.run(words, capture_output=True, text=True)
    assert found.returncode != 0
    assert "-Wimplicit-float-conversion" in found.stderr
