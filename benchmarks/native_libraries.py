"""Print what plugins/ builds: size, time to build, exported symbols: python benchmarks/native_libraries.py.

Each library is built in an empty tree of its own by two jobs, so that librc_trt's time holds the kernels' too. Sizes
are those of stripped files, as `pip install` puts them in place.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The library's file and its target in CMake.
LIBRARIES = {"librc_ort.so": "rc_ort", "librc_cuda.so": "rc_cuda_c", "librc_trt.so": "rc_trt"}


def main() -> None:
    """Print a row for each library, then what it exports."""
    symbols = {}
    for name, target in LIBRARIES.items():
        with tempfile.TemporaryDirectory() as temporary:
            tree = Path(temporary)
            configured = _call("cmake", "-S", ROOT / "plugins", "-B", tree)
            if target not in _call("cmake", "--build", tree, "--target", "help"):
                print(f"{name:14} left out; CMake says:\n{configured}")
                continue
            start = time.perf_counter()
            _call("cmake", "--build", tree, "--target", target, "--parallel", "2")
            seconds = time.perf_counter() - start
            library = tree / "lib" / name
            listed = _call("nm", "--dynamic", "--defined-only", "--format=posix", library)
            symbols[name] = [line.split()[0] for line in listed.splitlines()]
            _call("strip", library)
            size = library.stat().st_size
            print(f"{name:14} {size:>9,} bytes   built in {seconds:5.1f} s   {len(symbols[name])} exported", flush=True)
    for name, exported in symbols.items():
        print(f"{name}: {', '.join(exported)}")


def _call(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
