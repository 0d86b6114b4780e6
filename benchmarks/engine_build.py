"""Time builds through rc-deploy beside the library's bare API: python benchmarks/engine_build.py MODEL.onnx ...

Each build is a process of its own, timed from its start to its exit, so both columns hold the start of Python, its
imports and the engine on disk; the two kinds take turns. The same library is asked for the same: GPUs, profile and no
TF32. The bare API is given the typed ONNX that rc-deploy made before, functions inlined, so that it has nothing to
convert: what rc-deploy takes longer is everything that it does besides. For int8 and fp8 that would be the calibration,
which nobody gets around: there, the bare API's process first has ONNX Runtime's `quantize_static` quantise the float32
graph, with the same images, decoded and normalised before. `over` is the median of the differences of two
builds side by side. Most of a build is the library's own parsing and compiling, which is the same in both and takes
longer or shorter by chance, by a second where it takes four: both kinds state it (`library`, the bare API's first), and
`own` is the median difference of what remains, rc-deploy's own part, which the bound is held against. `cpu` is by how
much more processor time it takes, the worker process included. Python may keep its compiled modules, as it does where
packages are installed. A precision that wants data:
--with int8="--calibration cifar10:train".
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnx.inliner

from rc_deploy import calibration, data, machine
from rc_deploy.engine.library import LIBRARIES
from rc_deploy.graph import model as onnx_model
from rc_deploy.specs import Precision

# The bound on what rc-deploy may take longer: the larger of a share and of a time.
SHARE, SECONDS = 0.10, 1.0
# What anybody would write: parse, one profile, build, write. Arguments: module, ONNX, engine, MIN, OPT, MAX, targets.
BARE = """
import importlib, sys, time
trt = importlib.import_module(sys.argv[1])
source, target, targets = sys.argv[2], sys.argv[3], sys.argv[7].split(",")
with open(source, "rb") as file:
    graph = file.read()
start = time.perf_counter()
log = trt.Logger(trt.Logger.WARNING)
builder = trt.Builder(log)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, log)
assert parser.parse(graph)
config = builder.create_builder_config()
config.clear_flag(trt.BuilderFlag.TF32)
profile = builder.create_optimization_profile()
tensor = network.get_input(0)
profile.set_shape(tensor.name, *[(int(size), *tensor.shape[1:]) for size in sys.argv[4:7]])
config.add_optimization_profile(profile)
if hasattr(trt, "ComputeCapability"):
    config.num_compute_capabilities = len(targets)
    for index, name in enumerate(targets):
        config.set_compute_capability(getattr(trt.ComputeCapability, "SM" + name.replace(".", "")), index)
engine = builder.build_serialized_network(network, config)
print(time.perf_counter() - start)
with open(target, "wb") as file:
    file.write(engine)
"""
# And before that, for a quantised engine. Further arguments: float32 ONNX, images as an array, type. The graph goes
# where BARE reads it. float8 has no minimum and maximum there, and biases stay float32, as TensorRT wants them.
QUANTISE = """
import sys
import numpy, onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
_, _, quantised, *_, source, images, kind = sys.argv
images, name = numpy.load(images), onnx.load(source).graph.input[0].name
class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{name: images[start : start + 64]} for start in range(0, len(images), 64)])
    def get_next(self):
        return next(self.batches, None)
types = {"int8": (QuantType.QInt8, CalibrationMethod.MinMax)}
types["fp8"] = (QuantType.QFLOAT8E4M3FN, CalibrationMethod.Distribution)
kind, method = types[kind]
more = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True}
quantize_static(
    source, quantised, Reader(), per_channel=True, activation_type=kind, weight_type=kind,
    calibrate_method=method, op_types_to_quantize=["Conv", "Gemm", "MatMul"], extra_options=more,
)
"""


@dataclass(frozen=True)
class Row:
    """What building one model in one precision took: medians of seconds, and bytes of the engines.

    `_library` is the library's part of the seconds, of rc-deploy as the manifest states it, and `_cpu` processor time.
    `over` is the median of what rc-deploy took longer than the build by the bare API just before it, `own` of the same
    without the library's part in either.
    """

    model: str
    precision: str
    bare_seconds: float
    rc_deploy_seconds: float
    bare_library: float
    rc_deploy_library: float
    bare_cpu: float
    rc_deploy_cpu: float
    over: float
    own: float
    bare_bytes: int
    rc_deploy_bytes: int
    runs: int

    @property
    def holds(self) -> bool:
        """Whether rc-deploy takes at most `SHARE` or `SECONDS` longer."""
        return self.own <= max(SHARE * self.bare_seconds, SECONDS)


def main() -> int:
    """Print the table; exit code 1 where a bound is broken or a build failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--precision", nargs="+", choices=[str(kind) for kind in Precision], default=["fp32", "fp16"])
    parser.add_argument("--with", dest="options", action="append", default=[], metavar="PRECISION=OPTIONS")
    parser.add_argument("--backend", choices=LIBRARIES, default="tensorrt-rtx")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    options = {name: shlex.split(text) for name, _, text in (entry.partition("=") for entry in given.options)}
    rows, failed = [], False
    heads = {"bare API": 10, "rc-deploy": 11, "library": 16, "over": 8, "own": 8, "cpu": 8}
    heads |= {"bare bytes": 13, "bytes": 13}
    print(f"{'model':24}{'type':>6}" + "".join(f"{head:>{width}}" for head, width in heads.items()))
    for model in given.models:
        for precision in given.precision:
            row = _row(model, precision, options.get(precision, []), given.backend, given.runs)
            failed |= row is None or not row.holds
            if row is not None:
                rows.append(row)
                _print(row)
    if given.json:
        document = {"machine": machine.facts(), "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return int(failed)


def _row(model: Path, precision: str, options: list[str], backend: str, runs: int) -> Row | None:
    with tempfile.TemporaryDirectory() as folder:
        engine, bare, flat = (Path(folder, name) for name in ("m.engine", "bare.engine", "flat.onnx"))
        command = [sys.executable, "-m", "rc_deploy", "build", str(model), f"--{precision}", "--backend", backend]
        command += ["-o", str(engine), *options]
        first = subprocess.run(command, capture_output=True, text=True)
        if first.returncode:
            print(f"{model.name:24}{precision:>6}  not built: {' '.join(first.stderr.split())[:200]}")
            return None
        record = json.loads(Path(folder, "m.engine.json").read_text(encoding="utf-8"))
        onnx.save(onnx.inliner.inline_local_functions(onnx.load(engine.with_suffix(".onnx"))), flat)
        sizes = record["batch"].split(":")
        targets = ",".join(record["compute_capabilities"])
        plain = [sys.executable, "-c", BARE, LIBRARIES[backend].module, str(flat), str(bare), *sizes, targets]
        _timed(plain)
        sizes_in_bytes = bare.stat().st_size, engine.stat().st_size  # of engines of one graph
        if calibrated := record["precision"].get("calibration"):
            plain = [*plain[:2], QUANTISE + BARE, *plain[3:], *_to_quantise(model, calibrated, Path(folder)), precision]
        taken: list[tuple[float, ...]] = []
        for _ in range(runs):
            seconds, cpu, said = _timed(plain)
            our_seconds, our_cpu, _ = _timed(command)
            library = float(said.split()[-1])
            our_library = json.loads(Path(folder, "m.engine.json").read_text(encoding="utf-8"))["seconds"]
            over = our_seconds - seconds
            own = over - (our_library - library)
            taken.append((seconds, our_seconds, library, our_library, cpu, our_cpu, over, own))
        medians = [round(median(values), 3) for values in zip(*taken, strict=True)]
    return Row(model.name, precision, *(*medians, *sizes_in_bytes, runs))


def _to_quantise(model: Path, calibrated: dict[str, Any], folder: Path) -> tuple[str, str]:
    """Write a float32 graph without functions, and the images that rc-deploy calibrates on, normalised."""
    graph, images = folder / "float32.onnx", folder / "images.npy"
    read, _ = onnx_model.read(model)
    spec = onnx_model.provenance(read, str(model)).input
    chosen = calibration.choose(calibrated["data"], None, spec, calibrated["images"])
    np.save(images, data.normalise(chosen.images, spec))
    onnx.save(onnx.inliner.inline_local_functions(read), graph)
    return str(graph), str(images)


def _timed(command: list[str]) -> tuple[float, float, str]:
    """Return seconds on the clock and of processors that a process and those it started took, and what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = os.times(), time.perf_counter()
    printed = subprocess.run(command, capture_output=True, check=True, env=environment, text=True).stdout
    seconds, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used, printed


def _print(row: Row) -> None:
    more = row.rc_deploy_cpu - row.bare_cpu
    print(
        f"{row.model:24}{row.precision:>6}{row.bare_seconds:8.2f} s{row.rc_deploy_seconds:9.2f} s"
        f"{row.bare_library:7.2f}, {row.rc_deploy_library:.2f} s{row.over:+6.2f} s{row.own:+6.2f} s{more:+6.2f} s"
        f"{row.bare_bytes:13,}{row.rc_deploy_bytes:13,}"
        + ("" if row.holds else f"  more than {SHARE:.0%} and {SECONDS:g} s"),
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
