"""Finds every inference library on this machine and its version, by names and symbols: none is loaded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rc_deploy import elf

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLES = {"libnvinfer": "TensorRT", "libtensorrt_rtx": "TensorRT-RTX", "libonnxruntime": "ONNX Runtime"}
_NAME = re.compile(rf"({'|'.join(TITLES)})\.so((?:\.\d+)*)")
# Symbols that say the whole version, as `nm -D` would show them.
_SYMBOLS = re.compile(rb"\0(?:tensorrt_version_(\d+(?:_\d+){2,3})|VERS_(\d+\.\d+\.\d+))\0")
_PACKAGES = ("tensorrt*", "onnxruntime*", "nvidia")
_INSIDE = ("", "capi", "lib", "*/lib")
_SYSTEM = ("usr/lib", "usr/lib64", "usr/lib/*-linux-gnu", "lib", "lib64")
_ADDED = ("usr/local/lib", "usr/local/lib64", "usr/local/*/lib*", "usr/local/*/targets/*/lib")
_OPTIONAL = ("opt/*", "opt/*/lib*", "opt/*/*/lib*", "opt/*/*/*/lib*")
_LONGEST_WAIT = 1.0  # seconds, for ldconfig


@dataclass(frozen=True)
class Found:
    """An inference library: what it is, its version as far as it shows, the way by which it was found, and its file."""

    library: str
    version: str
    found_by: str
    path: str


def find(root: Path = Path("/")) -> list[Found]:
    """Return every libnvinfer, libtensorrt_rtx and libonnxruntime, each file once, in the order a loader would look.

    Args:
        root: of the file system whose system folders are searched; Python's packages are those of this process.
    """
    found: dict[Path, Found] = {}
    for way, path in _candidates(root):
        match = _NAME.fullmatch(path.name)
        real = Path(os.path.realpath(path))
        if match and real.is_file() and real not in found:
            found[real] = Found(TITLES[match[1]], version(real), way, str(path))
    return list(found.values())


def version(library: Path) -> str:
    """Return a library's version by its symbols, else as far as its file's name has it; "?" if neither says it."""
    if match := _SYMBOLS.search(elf.section(library, ".dynstr")):
        return (match[1] or match[2]).decode().replace("_", ".")
    named = re.search(r"\.so\.(\d+(?:\.\d+)*)$", library.name)
    return named[1] if named else "?"


def _candidates(root: Path) -> Iterator[tuple[str, Path]]:
    for place in dict.fromkeys(sys.path):
        for package in _PACKAGES:
            yield from _libraries("Python package", Path(place), [f"{package}/{inside}" for inside in _INSIDE])
    for place in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")):
        yield from _libraries("LD_LIBRARY_PATH", Path(place), [""])
    if root == Path("/"):
        yield from (("ldconfig", path) for path in _loader_cache())
    for way, folders in (("/usr/lib", _SYSTEM), ("/usr/local", _ADDED), ("/opt", _OPTIONAL)):
        yield from _libraries(way, root, folders)


def _libraries(way: str, base: Path, folders: tuple[str, ...] | list[str]) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for name in TITLES:
            try:
                yield from ((way, path) for path in sorted(base.glob(f"{folder}/{name}.so*".lstrip("/"))))
            except OSError:
                continue


def _loader_cache() -> Iterator[Path]:
    """Yield the libraries in the cache of the dynamic loader."""
    program = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if program is None:
        return
    try:
        result = subprocess.run([program, "-p"], capture_output=True, text=True, timeout=_LONGEST_WAIT, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from (Path(line.partition(" => ")[2]) for line in result.stdout.splitlines() if " => " in line)
