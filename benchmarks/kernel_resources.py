"""What the compiler gave each CUDA kernel, read from a built library: python benchmarks/kernel_resources.py [--check].

Writes the table of docs/kernels.md from build/plugins/lib/librc_cuda.so, which `make native` builds; with --check it
writes nothing and ends with 1 where the table says something else. Wants cuobjdump, of the CUDA toolkit or of the
package nvidia-cuda-cuobjdump.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import marked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kernels.md"
LIBRARY = ROOT / "build" / "plugins" / "lib" / "librc_cuda.so"
PART = "resources"
COMMAND = "python benchmarks/kernel_resources.py"
TYPES = {"f": "float32", "6__half": "float16", "13__nv_bfloat16": "bfloat16"}
# What stands before and behind the type in a kernel's mangled name, and what it computes.
KERNELS = {
    ("gclu_kernel", "rc_approximation0"): "GCLU",
    ("gclu_kernel", "rc_approximation1"): "GCLU sigmoid",
    ("gclu_kernel", "rc_approximation2"): "GCLU tanh",
    ("calibration_kernel", "Lb0"): "ResponseCalibration",
    ("calibration_kernel", "Lb1ENS_10FromLogVar"): "CalibratedResidual",
    ("tail_kernel", ""): "CalibratedTail",
    ("mean_kernel", ""): "CalibratedTail, means",
    ("coefficients_kernel", ""): "CalibratedTail, coefficients",
    ("calibration_kernel", "Lb1ENS_8Computed"): "CalibratedTail, application",
}
# From here on the runtime itself takes a kilobyte of each block's shared memory, which counts as the kernel's.
FIRST_WITH_RESERVED, RESERVED = 90, 1024


class ResourcesError(RuntimeError):
    """The resources cannot be read; says why and what to do."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on devices of one compute capability.

    Attributes:
        kernel: what it computes, of `KERNELS`.
        type: of its numbers.
        capability: compute capability, times ten.
        registers: of a thread.
        stack: bytes of a thread in local memory. Spilled registers lie there: where it is 0, none are.
        shared: bytes of static shared memory of a block.
        threads: that a block may have at most.
    """

    kernel: str
    type: str
    capability: int
    registers: int
    stack: int
    shared: int
    threads: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", nargs="?", type=Path, default=LIBRARY, help="librc_cuda.so; that of `make native`")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where the table says something else")
    options = parser.parse_args(arguments)
    try:
        found, compiler = read(options.library), toolkit(options.library)
        text = marked.replaced(PAGE.read_text(encoding="utf-8"), PART, table(found, compiler), PAGE.name)
    except (ResourcesError, marked.MarkersError) as error:
        print(f"kernel_resources.py: {error}", file=sys.stderr)
        return 1
    return marked.write({PAGE: text}, options.check, COMMAND)


def read(library: Path) -> list[Resources]:
    """Return what every kernel in a library takes on every compute capability that it has code for.

    Raises:
        ResourcesError: there is no cuobjdump, no library, or nothing that is known in it.
    """
    threads = _most_threads(_dumped("--dump-elf", library))
    found: list[Resources] = []
    capability, name = 0, ""
    for line in _dumped("--dump-resource-usage", library).splitlines():
        if match := re.match(r"arch = sm_(\d+)", line):
            capability = int(match[1])
        elif match := re.match(r"\s*Function (\S+):", line):
            name = match[1]
        elif match := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)", line):
            registers, stack, shared = map(int, match.groups())
            own = shared - (RESERVED if capability >= FIRST_WITH_RESERVED and shared else 0)
            most = threads[capability, name]
            found.append(Resources(*named(name), capability, registers, stack, own, most))
    if not found:
        raise ResourcesError(f"{library} has no CUDA kernels for any device: build it with nvcc, `make native`.")
    return sorted(found, key=_order)


def named(mangled: str) -> tuple[str, str]:
    """Return what a kernel computes and the type of its numbers.

    Raises:
        ResourcesError: a kernel that is not known here.
    """
    for (before, behind), kernel in KERNELS.items():
        for code, type_name in TYPES.items():
            if re.search(rf"{before}I{code}(L\d*|NS_)?{behind}", mangled):
                return kernel, type_name
    raise ResourcesError(
        f"{mangled} is a kernel that `KERNELS` in benchmarks/kernel_resources.py does not name: add it."
    )


def spilling(found: Iterable[Resources]) -> list[Resources]:
    """Return the kernels that keep something in local memory, which is device memory: spilled registers, or arrays."""
    return [one for one in found if one.stack]


def toolkit(library: Path) -> str:
    """Return the version of the CUDA toolkit that a library was compiled with, e.g. "13.0"."""
    versions = sorted(set(re.findall(r"^64-bit ELF:.* toolkit=([\d.]+)", _dumped("--dump-elf", library), re.M)))
    return ", ".join(versions)


def cuobjdump() -> str | None:
    """Return the CUDA toolkit's cuobjdump, else the one that pip installed; None where there is neither."""
    installed = next(Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/cuobjdump"), None)
    found = shutil.which("cuobjdump") or installed
    return str(found) if found else None


def table(found: Iterable[Resources], compiler: str) -> str:
    """Return the table, a row for each kernel and type, and what it was read from."""
    rows: dict[tuple[str, str], list[Resources]] = {}
    for one in found:
        rows.setdefault((one.kernel, one.type), []).append(one)
    capabilities = sorted({one.capability for ones in rows.values() for one in ones})
    headings = ["kernel", "type", "threads", "static shared memory", "stack"]
    headings += [f"registers, {number // 10}.{number % 10}" for number in capabilities]
    cells = []
    for (kernel, type_name), ones in rows.items():
        facts = [_alike(getattr(one, name) for one in ones) for name in ("threads", "shared", "stack")]
        cells.append([kernel, type_name, *facts, *(str(one.registers) for one in ones)])
    return f"Compiled by CUDA {compiler}.\n\n{marked.table(headings, cells)}"


def recorded(page: str) -> tuple[str, list[Resources]]:
    """Return the compiler and the resources that docs/kernels.md states.

    Raises:
        MarkersError: there is no such part.
    """
    part = marked.inside(page, PART, PAGE.name)
    capabilities = [10 * int(major) + int(minor) for major, minor in re.findall(r"registers, (\d+)\.(\d)", part)]
    compiler = re.search(r"Compiled by CUDA ([\d., ]+)\.", part)
    found = [
        Resources(kernel, type_name, capability, int(registers), int(stack), int(shared), int(threads))
        for kernel, type_name, threads, shared, stack, *all_registers in marked.cells(part)
        for capability, registers in zip(capabilities, all_registers, strict=True)
    ]
    return compiler[1] if compiler else "", found


def _order(one: Resources) -> tuple[int, int, int]:
    return list(KERNELS.values()).index(one.kernel), list(TYPES.values()).index(one.type), one.capability


def _alike(values: Iterable[int]) -> str:
    """Return the value of all of them; where they differ, all values, which `recorded` refuses to read."""
    return " or ".join(str(value) for value in sorted(set(values)))


def _most_threads(dump: str) -> dict[tuple[int, str], int]:
    """Return how many threads a block may have, by compute capability and mangled name."""
    found, capability, name, wanted = {}, 0, "", False
    for line in dump.splitlines():
        if match := re.match(r"arch = sm_(\d+)", line):
            capability = int(match[1])
        elif line.startswith(".nv.info."):
            name = line.removeprefix(".nv.info.").strip()
        elif line.strip().startswith("Attribute:"):
            wanted = line.endswith("EIATTR_MAX_THREADS")
        elif wanted and (match := re.match(r"\s*Value:\s*0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+)", line)):
            x, y, z = (int(size, 16) for size in match.groups())
            found[capability, name] = x * y * z
    return found


@cache
def _dumped(option: str, library: Path) -> str:
    tool = cuobjdump()
    if tool is None:
        raise ResourcesError("there is no cuobjdump: pip install nvidia-cuda-cuobjdump, or have the toolkit's in PATH.")
    if not library.is_file():
        raise ResourcesError(f"there is no {library}: build it with `make native`.")
    found = subprocess.run([tool, option, str(library)], capture_output=True, text=True)
    if found.returncode != 0:
        raise ResourcesError(f"cuobjdump cannot read {library}: {found.stderr.strip()}")
    return found.stdout


if __name__ == "__main__":
    sys.exit(main())
