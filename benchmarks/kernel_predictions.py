"""What is expected of every CUDA kernel on an H100 and an H200, written down before it is measured.

    python benchmarks/kernel_predictions.py [--check]

Writes two tables of docs/kernels.md, from the shapes that native_gpu.py measures, the resources that the page states
and the plan of plugins/cuda/tail_plan.h, which nvcc compiles for the host. The last columns of the first are filled in
from benchmarks/results, and read "not yet run" until then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import kernel_resources  # noqa: E402
import marked  # noqa: E402
from kernel_resources import PAGE, Resources  # noqa: E402
from native_gpu import LARGE_TAILS, STAGES, Gpu  # noqa: E402
from outcomes import NOT_RUN, RecordError, Records, figures  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = ROOT / "benchmarks" / "results"
COMMAND = "python benchmarks/kernel_predictions.py"
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# The devices, from NVIDIA's data sheets (SXM): bytes a second, which is all that they differ in here.
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}
CAPABILITY = 90
PROCESSORS, REGISTERS, THREADS, BLOCKS = 132, 65536, 2048, 32  # the latter three of each processor
SHARED, SHARED_OF_BLOCK, SHARED_RESERVED = 228 << 10, 227 << 10, 1 << 10
INSTRUCTIONS = 67e12 / 2  # float32 of all lanes a second: the sheet's 67 TFLOP/s count a multiply-add twice
WANTED = 0.85  # of the bandwidth
LATENCY = 700e-9  # seconds from a load to its data under load: assumed, to be measured
# Bytes that a thread has under way at a time: vectors of 16 bytes, of every tensor read (gclu.h, calibration.h).
IN_FLIGHT = {"GCLU": 64, "GCLU sigmoid": 64, "GCLU tanh": 64, "ResponseCalibration": 32, "CalibratedResidual": 64}
# Floating-point instructions of an element in the code for 9.0, conversions included, counted in its disassembly
# (cuobjdump --dump-sass); it has the arithmetic twice, for whole vectors and for those at an end or at two planes.
ARITHMETIC = {
    "GCLU": {"float32": 40, "float16": 21, "bfloat16": 20},
    "GCLU sigmoid": {"float32": 29, "float16": 11, "bfloat16": 10},
    "GCLU tanh": {"float32": 42, "float16": 13, "bfloat16": 12},
    "ResponseCalibration": {"float32": 29, "float16": 23, "bfloat16": 22},
    "CalibratedResidual": {"float32": 31, "float16": 25, "bfloat16": 23},
}

Plan = tuple[int, ...]  # fused, blocks of a cluster, threads, bytes of shared memory, bytes under way


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched.

    Attributes:
        resources: of the kernel.
        threads: of a block.
        shared: bytes of dynamic shared memory.
    """

    resources: Resources
    threads: int
    shared: int = 0

    def resident(self) -> tuple[int, str]:
        """Return how many blocks a processor holds, and what there are no more for."""
        registers = -(-self.resources.registers // 8) * 8 * self.threads  # given out by the 8
        shared = self.resources.shared + self.shared + SHARED_RESERVED
        limits = {
            "registers": REGISTERS // registers,
            "shared memory": SHARED // shared,
            "threads": THREADS // self.threads,
            "blocks": BLOCKS,
        }
        # Where two are alike the one that no change of the kernel could raise.
        bound = min(reversed(limits), key=lambda name: limits[name])
        return limits[bound], bound


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a table says something else")
    options = parser.parse_args(arguments)
    try:
        records = Records.read(RESULTS)
        text = PAGE.read_text(encoding="utf-8")
        resources = {
            (one.kernel, one.type): one for one in kernel_resources.recorded(text)[1] if one.capability == CAPABILITY
        }
        with tempfile.TemporaryDirectory() as folder:
            plan = planner(Path(folder))
            text = marked.replaced(text, "bandwidth", bandwidth(resources, plan, records), PAGE.name)
            text = marked.replaced(text, "tails", tails(resources, plan), PAGE.name)
    except (RecordError, marked.MarkersError, FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"kernel_predictions.py: {error}", file=sys.stderr)
        return 1
    return marked.write({PAGE: text}, options.check, COMMAND)


def planner(folder: Path) -> Callable[[str, Sequence[int]], Plan]:
    """Compile plan_tail and return a function of a type and (batch, channels, positions, hidden).

    Raises:
        FileNotFoundError: there is no nvcc, which knows where CUDA's headers are.
        subprocess.CalledProcessError: it does not compile.
    """
    program = folder / "tail_plan"
    includes = [f"-I{ROOT / 'plugins' / name}" for name in ("include", "cuda")]
    source = Path(__file__).with_name("tail_plan.cpp")
    subprocess.run(["nvcc", "-std=c++17", *includes, str(source), "-o", str(program)], check=True)  # noqa: S607

    def plan(type_name: str, shape: Sequence[int]) -> Plan:
        words = map(str, (BYTES[type_name], *shape, PROCESSORS, SHARED_OF_BLOCK))
        found = subprocess.run([str(program), *words], check=True, capture_output=True, text=True)
        return tuple(map(int, found.stdout.split()))

    return plan


def bandwidth(
    resources: dict[tuple[str, str], Resources], plan: Callable[[str, Sequence[int]], Plan], records: Records
) -> str:
    """Return the table of what native_gpu.py's part `bandwidth` measures."""
    headings = ["kernel", "type", "bytes", *(f"{name} at {WANTED:.0%}" for name in BANDWIDTH), "arithmetic, at least"]
    headings += ["blocks of a processor", "occupancy", "under way", "measured", "of a copy"]
    rows = []
    for name in ARITHMETIC:
        for type_name, size in BYTES.items():
            elements = Gpu.large[0] * Gpu.large[1] * Gpu.large[2]
            moved = (3 if name == "CalibratedResidual" else 2) * size * elements
            launch = Launch(resources[name, type_name], resources[name, type_name].threads)
            blocks = launch.resident()[0]
            time = _milliseconds(elements * ARITHMETIC[name][type_name] / INSTRUCTIONS)
            under_way = blocks * launch.threads * IN_FLIGHT[name]
            rows.append(_row(name, type_name, moved, time, launch, under_way, records))
    for name, shape in LARGE_TAILS.items():
        for type_name, size in BYTES.items():
            fused, cluster, threads, shared, slices = plan(type_name, shape)
            moved = (3 if fused else 4) * size * shape[0] * shape[1] * shape[2]
            kernel = "CalibratedTail" if fused else "CalibratedTail, application"
            launch = Launch(resources[kernel, type_name], threads or resources[kernel, type_name].threads, shared)
            under_way = launch.resident()[0] * (slices or launch.threads * IN_FLIGHT["CalibratedResidual"])
            words = f"one kernel, {cluster} blocks a sample" if fused else "three kernels"
            rows.append(_row(name, type_name, moved, words, launch, under_way, records))
    return marked.table(headings, rows)


def tails(resources: dict[tuple[str, str], Resources], plan: Callable[[str, Sequence[int]], Plan]) -> str:
    """Return the table of how the tails of ResCNet-32 are launched in float16."""
    headings = ["stage (C, positions, hidden)", "batch", "kernels", "blocks of a sample", "threads", "shared memory"]
    headings += ["blocks in all", "blocks of a processor", "H200, bytes alone"]
    rows = []
    for stage in STAGES:
        for batch in (1, 8, 64):
            fused, cluster, threads, shared, _ = plan("float16", (batch, *stage))
            blocks, bound = Launch(resources["CalibratedTail", "float16"], threads, shared).resident()
            moved = 3 * BYTES["float16"] * batch * stage[0] * stage[1]
            cells = [batch, 1 if fused else 3, cluster, threads, shared, batch * cluster]
            time = f"{1e6 * moved / (WANTED * BANDWIDTH['H200']):.2f} us"
            rows.append([str(stage), *map(str, cells), f"{blocks} ({bound})", time])
    return marked.table(headings, rows)


def _row(
    name: str, type_name: str, moved: int, arithmetic: str, launch: Launch, under_way: int, records: Records
) -> list[str]:
    blocks, bound = launch.resident()
    times = [_milliseconds(moved / (WANTED * speed)) for speed in BANDWIDTH.values()]
    found = (records.gpu_check or {"parts": {}})["parts"].get("bandwidth", {}).get("measured")
    speeds, shares = (
        list(figures(found, ("bandwidth", type_name, name, key))) for key in ("median_tb_per_s", "share_of_copy")
    )
    measured = [
        _milliseconds(moved / (1e12 * speeds[0])) if speeds else NOT_RUN,
        f"{shares[0]:.2f}" if shares else NOT_RUN,
    ]
    occupancy = f"{blocks * launch.threads / THREADS:.0%}"
    facts = [f"{moved / 1e6:,.0f} MB", *times, arithmetic, f"{blocks} ({bound})", occupancy, f"{under_way >> 10} KB"]
    return [name, type_name, *facts, *measured]


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"


if __name__ == "__main__":
    sys.exit(main())
