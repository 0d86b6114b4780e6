"""Build, prove and measure everything that wants a GPU: `make gpu-check`, or python benchmarks/gpu_check.py.

Runs with any Python that has PyTorch, on a machine without network. Writes gpu_check.json and its summary gpu_check.md
into benchmarks/results. What passed before on the same sources and the same machine is not run again (--again does);
with --rehearse, everything runs as far as it goes without a GPU, into another folder, and is marked as a rehearsal.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle_groups import SITE, bringing  # noqa: E402

if SITE.is_dir():  # what was brought along comes before what the machine has
    sys.path.insert(0, str(SITE))

from evidence import REHEARSAL, Circumstances, Need, Part, check, succeeded  # noqa: E402
from rc_deploy import gpu, machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
REHEARSAL_RESULTS = ROOT / "build" / "gpu-check-rehearsal"
TREE = ROOT / "build" / "gpu-check"
BUILT = TREE / "built"  # there once the build is complete
THIRD_PARTY = ROOT / "build" / "third_party"
# What results depend on.
SOURCES = (
    *("benchmarks/*.py", "plugins/**/*", "rc_deploy/**/*", "tests/*.py", "tests/gpu/*.py", "training/**/*"),
    "pyproject.toml",
)
BUDGET = 520  # seconds: what a lease of ten minutes leaves beside the copying
REHEARSED_CAPABILITY = "9.0"
PATIENCE = 3  # times as long may a part take in a rehearsal, whose machine may be small and busy
HEADERS = "`make gpu-bundle` brings its headers in headers.tar, `python plugins/headers.py` has them where a network is"


def main() -> int:
    """Run the parts; 0 where something was proven, nothing failed and nothing is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help=f"run without a GPU, into {REHEARSAL_RESULTS.name}")
    parser.add_argument("--again", action="store_true", help="run also what passed before")
    parser.add_argument("--only", metavar="WORD", default="", help="parts with this word in their name (and the build)")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for everything (%(default)s)")
    arguments = parser.parse_args()
    problem = "" if arguments.rehearse else gpu.driver().problem
    if problem:
        print(f"gpu_check.py: nothing was run, {problem}. --rehearse tries everything out.", file=sys.stderr)
        return 1
    os.environ["PATH"] += f"{os.pathsep}/usr/local/cuda/bin"  # where the toolkit lies when nobody has put it in PATH
    chosen = [part for part in parts(arguments.rehearse)[1:] if arguments.only in part.name]
    results = REHEARSAL_RESULTS if arguments.rehearse else RESULTS
    todo = (parts(arguments.rehearse)[0], *chosen)
    if arguments.rehearse:
        print(REHEARSAL)
        todo = tuple(replace(part, limit=PATIENCE * part.limit) for part in todo)
    record = check(todo, circumstances(arguments.rehearse), results, arguments.budget, arguments.again)
    print(f"\n{results / 'gpu_check.md'} says what was found, gpu_check.json beside it has everything.")
    return 0 if succeeded(record) else 1


def parts(rehearse: bool) -> tuple[Part, ...]:
    """Return what there is to do, the build first, then what matters most."""
    kernels = (_product("librc_cuda.so", "the build says why"), _torch_gpu(rehearse))
    tested = tuple(map(_package, ("numpy", "scipy", "onnx", "onnx_ir", "typer", "rich", "pytest", "pytest_timeout")))
    rehearsed = ("--rehearse",) if rehearse else ()
    native, ort = "tests/gpu/test_native_kernels.py", "tests/gpu/test_onnxruntime_cuda.py"
    # A rehearsal's networks run on the CPU provider.
    ort_gpu = (_onnx_runtime_gpu(), _product("librc_ort.so", HEADERS), _torch_gpu(rehearse))
    few = (*rehearsed, "--batch", "1") if rehearse else ()
    speed = ("benchmarks/native_gpu.py", "{folder}/measured.json", *few, "--part")
    networks = ("--networks", "resnet32,rescnet32", "--ways", "eager,graph,bf16+graph", "--device", "cuda")
    tiny = ("--steps", "1", "--rounds", "1", "--batch", "8", "--networks", "rescnet8")
    training = tiny if rehearse else networks
    return (
        _build(),
        Part("kernels", "CUDA kernels against float64", _pytest(native, "not sanitizer"), 100, (*kernels, *tested)),
        Part(
            "operators", "PyTorch's operators and the training loop on CUDA",
            _pytest("tests/gpu/test_operators_cuda.py"), 90, (_torch_gpu(rehearse), *tested),
        ),
        Part(
            "training", "recorded, compiled and bfloat16 training steps beside plain ones",
            _pytest("tests/gpu/test_training_cuda.py"), 150, (_torch_gpu(rehearse), *tested),
        ),
        Part(
            "training-speed", "training steps beside a plain PyTorch loop",
            _python("benchmarks/training_step.py", "--json", "{folder}/measured.json", *training), 100,
            (_torch_gpu(rehearse), *tested, _package("PIL", "pip install pillow")),
        ),
        Part("bandwidth", "bytes a second, beside a copy", _python(*speed, "bandwidth"), 60, kernels),
        Part("tails", "residual tails beside eager and compiled PyTorch", _python(*speed, "tails"), 240, kernels),
        Part("plans", "ways to launch residual tails", _python(*speed, "plans"), 90, kernels),
        Part(
            "networks", "whole networks in PyTorch: eager, CUDA graphs, torch.compile, and what they launch",
            _python("benchmarks/networks_gpu.py", "{folder}/measured.json", *rehearsed), 150,
            (_torch_gpu(rehearse), *tested),
        ),
        Part(
            "bench", "`rc-deploy bench` on CUDA", _pytest("tests/gpu/test_bench_cuda.py"), 90,
            (_torch_gpu(rehearse), *tested),
        ),
        Part("onnxruntime", "the operators in ONNX Runtime on CUDA", _pytest(ort), 90, (_file(ort), *ort_gpu, *tested)),
        Part(
            "onnxruntime-speed", "networks in ONNX Runtime on CUDA",
            _python("benchmarks/onnxruntime_gpu.py", "{folder}/measured.json", *rehearsed), 90,
            (_package("onnxruntime"), *ort_gpu[rehearse:]),
        ),
        *(
            Part(
                tool, f"compute-sanitizer's {tool} finds nothing in the kernels",
                _pytest(native, f"sanitizer and {tool}"), 150, (_tool("compute-sanitizer", TOOLKIT), *kernels, *tested),
            )
            for tool in ("memcheck", "racecheck", "synccheck")
        ),
        Part(
            "tensorrt", "the plugins in TensorRT's engines", _pytest("tests/gpu/test_tensorrt_plugins.py"), 120,
            (
                _package("tensorrt", "pip install 'rc-deploy[tensorrt]'"), _product("librc_trt.so", HEADERS),
                *kernels, *tested,
            ),
        ),
        Part(
            "tensorrt-build", "what TensorRT builds", _pytest("tests/gpu/test_build_tensorrt.py"), 200,
            (_package("tensorrt", "pip install 'rc-deploy[tensorrt]'"), _torch_gpu(rehearse), *tested),
        ),
        Part(
            "engines", "engines of TensorRT and TensorRT-RTX against their typed ONNX, with plugins and with bodies",
            _pytest("tests/gpu/test_engines.py"), 200,
            (
                _package("pycuda", "pip install pycuda, which wants the CUDA toolkit"), _engine_library(),
                _package("onnxruntime"), _torch_gpu(rehearse), *tested,
            ),
        ),
        Part(
            "host-tests", "the GoogleTests, on this machine's processor",
            ("ctest", "--test-dir", str(TREE.relative_to(ROOT)), "--output-on-failure", "--no-tests=error"), 120,
            (_tool("ctest", "install CMake"), _product("test_cpu", f"GoogleTest was not there: {HEADERS}")),
        ),
    )  # fmt: skip


def circumstances(rehearse: bool) -> Circumstances:
    """Return what the parts run under."""
    path = [*map(str, (ROOT, ROOT / "training", ROOT / "tests", ROOT / "benchmarks", SITE, _entry_points()))]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTEST_ADDOPTS": "-W default",  # versions are this machine's own: a warning of theirs is no failure
        "RC_PLUGINS_BUILD": str(TREE),
        "RC_DEPLOY_LIBRARIES": str(TREE / "lib"),
    }
    return Circumstances(facts(), sources(ROOT), commit(), rehearse, environment, ROOT)


def facts() -> dict[str, Any]:
    """Return the machine with everything that a figure depends on; null for what it does not have."""
    script = "import torch; print(torch.version.cuda or '')"
    return machine.facts() | {
        "gpu_driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "nvcc": _found(r"release ([\d.]+)", _said("nvcc", "--version")),
        "torch_cuda": _said(sys.executable, "-c", script),
    }


def sources(root: Path) -> str:
    """Return the SHA-256 of every file that results depend on, names included."""
    digest = hashlib.sha256()
    files = {path for pattern in SOURCES for path in root.glob(pattern) if path.is_file()}
    for path in sorted(files):
        if "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def commit() -> str | None:
    """Return the commit of the sources; None where that is not known."""
    found = _said("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--", *(f":(glob){name}" for name in SOURCES))
    return f"{found}, with changes" if found and changed else found


TOOLKIT = "install the CUDA toolkit and have its bin folder in PATH"


def _build() -> Part:
    """CMake for this machine's GPUs alone, so that it takes a minute or two."""
    capabilities = {found.compute_capability for found in gpu.driver().gpus} or {REHEARSED_CAPABILITY}
    architectures = ";".join(f"{capability.replace('.', '')}-real" for capability in sorted(capabilities))
    tests = "ON" if (THIRD_PARTY / "googletest" / "CMakeLists.txt").is_file() else "OFF"
    options = f"-DRC_CUDA_ARCHITECTURES='{architectures}' -DRC_BUILD_TESTS={tests}"
    # What an earlier build left is not taken for this one's.
    tree, built = TREE.relative_to(ROOT), BUILT.relative_to(ROOT)
    script = (
        f"rm -f {built} && cmake -S plugins -B {tree} {options} && "
        # librc_cuda.so is for the tests and benchmarks alone: without GoogleTests it is not part of `all`.
        f"cmake --build {tree} --target all rc_cuda_c --parallel {len(os.sched_getaffinity(0))} && touch {built}"
    )
    about = "the native libraries" + ("" if tests == "ON" else f" (no GoogleTests: {HEADERS})")
    needs = (_tool("cmake", "install CMake 3.24 or later"), _tool("g++", "install g++"), _tool("nvcc", TOOLKIT))
    return Part("build", about, ("sh", "-c", script), 180, needs)


def _pytest(path: str, chosen: str = "") -> tuple[str, ...]:
    options = ("-q", "-p", "no:cacheprovider", "--junitxml={folder}/tests.xml")
    return _python("-m", "pytest", *options, *(("-k", chosen) if chosen else ()), path)


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _tool(name: str, brought_by: str) -> Need:
    return lambda: "" if shutil.which(name) else f"there is no {name}: {brought_by}"


def _package(name: str, brought_by: str = "") -> Need:
    usual = brought_by or f"install it ({name.replace('_', '-')})"
    along = bringing(name)
    words = f"this Python has no {name}: {usual}{', or ' if along else ''}{along}"
    return lambda: "" if find_spec(name) else words


def _file(name: str) -> Need:
    return lambda: "" if (ROOT / name).is_file() else f"there is no {name} in these sources"


def _product(name: str, brought_by: str) -> Need:
    def need() -> str:
        if not BUILT.is_file():
            return f"{name} was not built: the build did not come to its end"
        return "" if any(TREE.rglob(name)) else f"{name} was not built: {brought_by}"

    return need


def _torch_gpu(rehearse: bool) -> Need:
    def need() -> str:
        if not find_spec("torch"):
            return "this Python has no PyTorch: pip install torch"
        usable = _said(sys.executable, "-c", "import torch; print(torch.cuda.is_available())")
        return "" if rehearse or usable == "True" else "PyTorch finds no GPU: install its CUDA packages"

    return need


def _onnx_runtime_gpu() -> Need:
    script = "import onnxruntime; print(*onnxruntime.get_available_providers())"

    def need() -> str:
        providers = _said(sys.executable, "-c", script) or "none: it is not installed"
        lacks = f"ONNX Runtime has no CUDA here (its providers: {providers}): pip install onnxruntime-gpu, or "
        lacks += bringing("onnxruntime_gpu")
        return "" if "CUDAExecutionProvider" in providers else lacks

    return need


def _engine_library() -> Need:
    lacks = (
        "this Python has neither tensorrt nor tensorrt_rtx: pip install 'rc-deploy[tensorrt]' or 'rc-deploy[rtx]', or "
    )
    lacks += "; ".join(map(bringing, ("tensorrt", "tensorrt_rtx")))
    return lambda: "" if find_spec("tensorrt") or find_spec("tensorrt_rtx") else lacks


def _entry_points() -> Path:
    """Return a folder that stands for an installed rc-deploy where it is not: Python finds its entry points there."""
    folder = TREE / "site"
    try:
        metadata.version("rc-deploy")
    except metadata.PackageNotFoundError:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        information = folder / f"rc_deploy-{project['version']}.dist-info"
        information.mkdir(parents=True, exist_ok=True)
        text = f"Metadata-Version: 2.1\nName: rc-deploy\nVersion: {project['version']}\n"
        (information / "METADATA").write_text(text, encoding="utf-8")
        groups = [
            "\n".join([f"[{group}]", *(f"{name} = {place}" for name, place in entries.items())])
            for group, entries in project["entry-points"].items()
        ]
        (information / "entry_points.txt").write_text("\n".join(groups) + "\n", encoding="utf-8")
    return folder


@cache
def _said(*command: str) -> str | None:
    """Return what a command prints; None where there is no such command, or it fails."""
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (found.stdout.strip() or None) if found.returncode == 0 else None


def _found(pattern: str, text: str | None) -> str | None:
    match = re.search(pattern, text or "")
    return match[1] if match else None


if __name__ == "__main__":
    sys.exit(main())
