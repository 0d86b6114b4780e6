"""The native parts: they compile without a warning, pass their GoogleTests, and export what they should."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

from native_build import ROOT, built, built_with_cuda, call
from rc_deploy import native
from rc_deploy.errors import InputError


def test_googletests(build_tree: Path) -> None:
    result = subprocess.run(["ctest", "--test-dir", build_tree, "--output-on-failure"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:]
    assert int(re.findall(r"tests passed, 0 tests failed out of (\d+)", result.stdout)[0]) >= 2


def test_exports_one_symbol(ort_library: Path) -> None:
    listed = subprocess.run(["nm", "-D", "--defined-only", ort_library], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["RegisterCustomOps"]


def test_is_not_linked_to_onnx_runtime(ort_library: Path) -> None:
    listed = subprocess.run(["readelf", "-d", ort_library], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in listed
    assert "onnxruntime" not in listed.replace("librc_ort", "")


def test_cuda_kernels_are_inside_and_ask_for_nothing(ort_library: Path) -> None:
    """Neither CUDA's runtime nor its driver is needed to load the library."""
    built_with_cuda("rc_ort_cuda_tests.flags")
    assert ".nv_fatbin" in call("readelf", "--sections", "--wide", ort_library)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", call("readelf", "-d", ort_library))
    assert needed
    assert not [name for name in needed if "cuda" in name or "nv" in name]


def test_what_is_left_out_without_cuda_is_said(build_tree: Path, tmp_path: Path) -> None:
    said = call("cmake", "-S", ROOT / "plugins", "-B", tmp_path, "-DRC_CUDA=OFF")
    assert re.findall(r"--   (.*librc_ort.*)", said) == [
        "built     librc_ort",
        "left out  librc_ort's CUDA kernels: RC_CUDA is off",
    ]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has several instruction sets")
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_shares_no_function_between_instruction_sets(build_tree: Path, isa: str) -> None:
    """A weak symbol might be kept for every processor from the file that was compiled for the newest."""
    (kernels,) = build_tree.glob(f"cpu/CMakeFiles/rc_cpu_{isa}.dir/kernels.cpp.o")
    listed = subprocess.run(["nm", "--defined-only", kernels], capture_output=True, text=True, check=True).stdout
    shared = [line for line in listed.splitlines() if line.split()[1] not in "tdrbn"]
    assert len(shared) == 1, shared  # the table
    assert "kKernels" in shared[0]


def test_library_is_found(ort_library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(native.VARIABLE, str(ort_library.parent))
    assert native.onnx_runtime_library() == ort_library
    monkeypatch.setenv(native.VARIABLE, "")
    assert native.onnx_runtime_library() is None
    monkeypatch.setenv(native.VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"which has no librc_ort\.so"):
        native.onnx_runtime_library()


def test_library_in_the_package_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An editable install's package has two folders; the build's results are in one of them."""
    monkeypatch.delenv(native.VARIABLE, raising=False)
    sources, results = tmp_path / "sources", tmp_path / "results"
    (results / "lib").mkdir(parents=True)
    monkeypatch.setattr("rc_deploy.__path__", [str(sources), str(results)])
    assert native.onnx_runtime_library() is None
    (results / "lib" / "librc_ort.so").touch()
    assert native.onnx_runtime_library() == (results / "lib" / "librc_ort.so").resolve()


@pytest.mark.timeout(900)
def test_googletests_under_sanitizers() -> None:
    """Everything again under AddressSanitizer and UndefinedBehaviorSanitizer, for every instruction set."""
    tree = built(ROOT / "build" / "plugins-sanitized", "-DRC_SANITIZE=ON", "-DRC_CUDA=OFF")
    test_googletests(tree)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the registers' names are x86-64's")
@pytest.mark.parametrize(("isa", "register"), [("plain", "xmm"), ("avx2", "ymm"), ("avx512", "zmm")])
def test_every_elementwise_loop_is_vector_code(build_tree: Path, isa: str, register: str) -> None:
    """Each divides once per element: three forms of GCLU, and with and without shortcut for two kinds of statistics."""
    (kernels,) = build_tree.glob(f"cpu/CMakeFiles/rc_cpu_{isa}.dir/kernels.cpp.o")
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", kernels], capture_output=True, text=True, check=True)
    types, forms, calibrations = 3, 3, 2
    # Two of the calibrations of float tensors are one: their statistics are float too.
    loops = types * (forms + 2 * calibrations) - calibrations
    assert len(re.findall(rf"\bv?divps\b.*%{register}", code.stdout)) >= loops
