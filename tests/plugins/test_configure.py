"""CMake on machines that lack something: the configuration succeeds, and what is left out is said, with the reason."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from native_build import ROOT, call

pytestmark = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("g++") is None, reason="there is no cmake or no g++"
)
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc to stand in front of")
NO_HEADERS = ("-DRC_ONNXRUNTIME_INCLUDE=OFF", "-DRC_TENSORRT_INCLUDE=OFF")


def configured(tree: Path, *options: str) -> list[str]:
    """Configure plugins/ into `tree`; return the printed parts."""
    return re.findall(r"--   (\w.*)", call("cmake", "-S", ROOT / "plugins", "-B", tree, *options))


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Make a shell script the nvcc that CMake takes."""
    path = folder / "nvcc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CUDACXX", str(path))
    return path


def older(without: str) -> str:
    """The script of an nvcc that does not know architectures, given as a pattern of the shell's."""
    return f"""
case "$*" in
  *--list-gpu-arch*) {shutil.which("nvcc")} "$@" | while read -r name; do
    case $name in *_{without}) ;; *) echo $name ;; esac
  done; exit 0 ;;
  *_{without}*) echo "nvcc fatal   : Unsupported gpu architecture" >&2; exit 1 ;;
esac
exec {shutil.which("nvcc")} "$@" """


def compiled_for(tree: Path) -> set[str]:
    return set(re.findall(r"arch=compute_\d+,code=\[?([^\]\"\\]*)", (tree / "compile_commands.json").read_text()))


@needs_nvcc
def test_architectures_that_nvcc_does_not_know_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest one that it knows gets the PTX."""
    compiler(tmp_path, monkeypatch, older("1[02]0"))
    parts = configured(tmp_path / "tree")
    assert parts[0] == "built     CUDA kernels"
    assert re.fullmatch(r"left out  CUDA kernels for 100, 120: nvcc [\d.]+ does not know them", parts[1])
    assert compiled_for(tmp_path / "tree") == {"sm_80", "sm_86", "sm_89", "compute_90,sm_90"}


@needs_nvcc
def test_architectures_that_nvcc_knows_are_all_compiled_for(tmp_path: Path) -> None:
    parts = configured(tmp_path, "-DRC_CUDA_ARCHITECTURES=80-real;90")
    assert not [part for part in parts if "does not know" in part]
    assert compiled_for(tmp_path) == {"sm_80", "compute_90,sm_90"}


@needs_nvcc
def test_an_nvcc_that_knows_none_leaves_cuda_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = compiler(tmp_path, monkeypatch, older("1[02]0"))
    parts = configured(tmp_path / "tree", "-DRC_CUDA_ARCHITECTURES=100-real;120")
    assert f"left out  CUDA kernels: {nvcc} knows none of the architectures 100-real, 120" in parts


def test_an_nvcc_that_fails_leaves_cuda_out_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = compiler(tmp_path, monkeypatch, 'echo "nvcc fatal: this host compiler\n  is too new" >&2; exit 1')
    parts = configured(tmp_path / "tree")
    assert f"left out  CUDA kernels: {nvcc} does not work: nvcc fatal: this host compiler is too new" in parts
    # Once it works, the same tree takes it.
    monkeypatch.setenv("CUDACXX", shutil.which("nvcc") or str(nvcc))
    assert ("built     CUDA kernels" in configured(tmp_path / "tree")) == (shutil.which("nvcc") is not None)


@needs_nvcc
def test_what_is_not_installed_is_not_compiled(tmp_path: Path) -> None:
    """CUDA kernels, for minutes, that no library which is installed stands on."""
    parts = configured(tmp_path, "-DRC_CUDA_ARCHITECTURES=80-real", *NO_HEADERS)
    assert "built     CUDA kernels" in parts
    call("cmake", "--build", tmp_path)
    assert list((tmp_path / "cuda").rglob("*.o")) == []
    assert "rc_cuda_c" in call("cmake", "--build", tmp_path, "--target", "help")  # who wants it still gets it


@pytest.mark.parametrize("errors", [False, True])
def test_warnings_are_errors_where_that_is_asked_for(errors: bool, tmp_path: Path) -> None:
    """A newer compiler's new warning must not fail a user's `pip install`."""
    configured(tmp_path, *(["-DRC_WERROR=ON"] if errors else []))
    commands = [entry["command"] for entry in json.loads((tmp_path / "compile_commands.json").read_text())]
    assert commands
    assert {"-Werror" in command for command in commands} == {errors}
    kernels = [command for command in commands if "nvcc" in command.split()[0]]
    assert all(("-Werror=all-warnings" in command) == errors for command in kernels)
