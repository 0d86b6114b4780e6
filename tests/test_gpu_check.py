"""`make gpu-check`: what it records, what it says of what is missing, fails or hangs; a rehearsal is no proof."""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

import evidence
import gpu_check
import native_gpu
from claimed import unfound_figures
from evidence import Circumstances, Part, check, succeeded, summary
from rc_deploy.gpu import Driver
from rc_deploy.tolerances import RC_ARITHMETIC, operator_bound

ROOT = Path(__file__).parents[1]
MACHINE = {"created": "2026-01-02", "load_average": 0.5, "gpus": [{"name": "Some GPU"}], "torch_cuda": "13.0"}
HERE = Circumstances(MACHINE, "5" * 64, "abc", rehearsal=False, environment=dict(os.environ), root=ROOT)
JUNIT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"/><testcase name="c"><skipped message="no such GPU"/></testcase>{}
</testsuite></testsuites>"""


def part(name: str, script: str = "true", *, limit: float = 60, missing: str = "") -> Part:
    return Part(name, f"what {name} proves", ("sh", "-c", script), limit, (lambda: missing,))


def counting(name: str, folder: Path, script: str = "true") -> Part:
    """A part that leaves a line in folder/NAME whenever it runs."""
    return part(name, f"echo >> {shlex.quote(str(folder / name))}; {script}")


def runs(folder: Path) -> dict[str, int]:
    return {path.name: len(path.read_text().splitlines()) for path in folder.iterdir()}


def test_record_says_what_was_found_where_and_with_what(tmp_path: Path) -> None:
    reports = (
        f"pwd; echo '{JUNIT.format('')}' > {{folder}}/tests.xml; echo '{{\"tb_per_s\": 4}}' > {{folder}}/measured.json"
    )
    record = check((part("build"), part("kernels", reports)), HERE, tmp_path, 60)
    assert json.loads((tmp_path / "gpu_check.json").read_text()) == record
    found = record["parts"]["kernels"]
    assert found["status"] == "passed"
    assert found["words"] == "2 tests passed; 1 skipped: no such GPU"
    assert found["tests"] == {"passed": 2, "names": ["a", "b"], "failed": [], "skipped": {"no such GPU": 1}}
    assert found["measured"] == {"tb_per_s": 4}
    assert (found["machine"], found["sources"], found["commit"]) == (MACHINE, "5" * 64, "abc")
    assert found["command"].startswith("sh -c ")
    assert found["rehearsal"] is record["rehearsal"] is False
    words = (tmp_path / "gpu_check.md").read_text()
    assert "2 passed." in words
    assert str(ROOT) not in json.dumps(record)
    assert "| kernels | passed | what kernels proves: 2 tests passed; 1 skipped: no such GPU | Some GPU |" in words
    assert "REHEARSAL" not in words
    assert succeeded(record)


def test_failure_leaves_the_others_running(tmp_path: Path) -> None:
    failing = JUNIT.format('<testcase name="wrong"><failure/></testcase>')
    parts = (
        part("build"),
        part("crash", "echo out of memory; exit 3"),
        part("tests", f"echo '{failing}' > {{folder}}/tests.xml; exit 1"),
        part("last"),
    )
    record = check(parts, HERE, tmp_path, 60)
    assert [found["status"] for found in record["parts"].values()] == ["passed", "failed", "failed", "passed"]
    assert record["parts"]["crash"]["words"] == "exit code 3: out of memory"
    assert record["parts"]["tests"]["words"] == "1 tests failed: wrong"
    assert not succeeded(record)


def test_part_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    figures = "echo '{\"first\": 1}' > {folder}/measured.json"
    hanging = part("hanging", f"{figures}; sleep 60 & echo $! > {shlex.quote(str(child))}; wait", limit=0.5)
    start = time.monotonic()
    record = check((part("build"), hanging, part("last")), HERE, tmp_path, 60)
    assert time.monotonic() - start < 20
    assert record["parts"]["hanging"]["status"] == "stopped"
    assert record["parts"]["hanging"]["words"] == "did not end within 0.5 s and was stopped"
    assert record["parts"]["hanging"]["measured"] == {"first": 1}  # what it had found by then
    assert record["parts"]["last"]["status"] == "passed"
    assert not succeeded(record)
    status = Path(f"/proc/{child.read_text().strip()}/stat")
    # Whoever inherits a killed process may leave it as a zombie.
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_figures_cut_off_are_said_to_be(tmp_path: Path) -> None:
    record = check(
        (part("build"), part("tails", "printf '{\"first' > {folder}/measured.json; exit 1")), HERE, tmp_path, 60
    )
    assert record["parts"]["tails"]["measured"].startswith("cannot be read")
    assert record["parts"]["tails"]["measured"].endswith('{"first')


def test_what_is_missing_is_said_and_no_failure(tmp_path: Path) -> None:
    parts = (part("build"), part("tensorrt", "exit 1", missing="there is no TensorRT: install it"))
    record = check(parts, HERE, tmp_path, 60)
    assert record["parts"]["tensorrt"]["status"] == "absent"
    assert succeeded(record)
    assert "what tensorrt proves: there is no TensorRT: install it" in summary(record)
    # ... but where everything is missing, nothing is proven; nor where every test was skipped.
    assert not succeeded(check((part("build", missing="no nvcc"),), HERE, tmp_path / "nothing", 60))
    none_passed = JUNIT.format("").replace('<testcase name="a"/><testcase name="b"/>', "")
    skipped = f"echo '{none_passed}' > {{folder}}/tests.xml"
    record = check((part("kernels", skipped),), HERE, tmp_path / "skipped", 60)
    assert (record["parts"]["kernels"]["status"], succeeded(record)) == ("absent", False)


def test_what_passed_is_not_run_again(tmp_path: Path) -> None:
    ran, results = tmp_path / "ran", tmp_path / "results"
    ran.mkdir()
    parts = (counting("build", ran), counting("a", ran), counting("b", ran, "exit 1"))
    check(parts, HERE, results, 60)
    check(parts, HERE, results, 60)
    assert runs(ran) == {"build": 2, "a": 1, "b": 2}  # the build for b, which had failed
    mended = (*parts[:2], counting("b", ran))
    check(mended, HERE, results, 60)
    record = check(mended, HERE, results, 60)
    assert runs(ran) == {"build": 3, "a": 1, "b": 3}
    assert succeeded(record)
    later = MACHINE | {"created": "2026-01-03", "load_average": 7.0}
    check(mended, dataclasses.replace(HERE, machine=later, commit="def"), results, 60)
    assert runs(ran)["a"] == 1
    check(mended, HERE, results, 60, again=True)
    assert runs(ran)["a"] == 2
    check(mended, dataclasses.replace(HERE, sources="6" * 64), results, 60)
    assert runs(ran)["a"] == 3
    check(mended, dataclasses.replace(HERE, machine=MACHINE | {"torch_cuda": "13.1"}), results, 60)
    assert runs(ran)["a"] == 4


@pytest.mark.parametrize("earlier", ["", "{", "[]", '{"schema": "another"}'])
def test_record_that_is_none_is_begun_anew(tmp_path: Path, earlier: str) -> None:
    (tmp_path / "gpu_check.json").write_text(earlier)
    assert succeeded(check((part("build"),), HERE, tmp_path, 60))


def test_what_time_does_not_reach_is_left_to_the_next_run(tmp_path: Path) -> None:
    parts = (part("build"), part("slow", "sleep 30", limit=1), part("last"))
    record = check(parts, HERE, tmp_path, 1.5)
    assert record["parts"]["last"]["status"] == "not reached"
    assert "run it again" in record["parts"]["last"]["words"]
    assert not succeeded(record)
    assert check((parts[0], parts[2]), HERE, tmp_path, 60)["parts"]["last"]["status"] == "passed"


def test_rehearsal_cannot_be_mistaken_for_a_proof(tmp_path: Path) -> None:
    rehearsal = dataclasses.replace(HERE, rehearsal=True)
    record = check((part("build"), part("kernels")), rehearsal, tmp_path, 60)
    assert record["rehearsal"] is True
    assert {(found["status"], found["rehearsal"]) for found in record["parts"].values()} == {("rehearsed", True)}
    words = (tmp_path / "gpu_check.md").read_text()
    assert evidence.REHEARSAL in words
    assert "passed" not in words
    # A real run takes nothing over from it.
    assert check((part("build"),), HERE, tmp_path, 60)["parts"]["build"]["status"] == "passed"


def test_rehearsal_goes_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[Any] = []

    def record(*arguments: Any) -> dict[str, Any]:
        called.append(arguments)
        return {"parts": {}}

    monkeypatch.setattr(gpu_check, "check", record)
    monkeypatch.setenv("PATH", os.environ["PATH"])  # is as it was afterwards
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--rehearse", "--only", "tails"])
    assert gpu_check.main() == 1  # nothing was proven
    ((parts, where, results, budget, again),) = called
    assert [part.name for part in parts] == ["build", "tails"]
    assert where.rehearsal
    assert not results.is_relative_to(gpu_check.RESULTS)
    assert (budget, again) == (gpu_check.BUDGET, False)


def test_without_a_gpu_nothing_is_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("rc_deploy.gpu.driver", lambda: Driver(None, (), "no NVIDIA driver is installed"))
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    assert gpu_check.main() == 1
    assert "nothing was run, no NVIDIA driver is installed" in capsys.readouterr().err


def test_every_part_says_what_it_misses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: None)
    monkeypatch.setattr(gpu_check, "_said", lambda *command: None)
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_check, "TREE", tmp_path)
    monkeypatch.setattr(gpu_check, "BUILT", tmp_path / "built")
    (tmp_path / "built").touch()
    parts = gpu_check.parts(rehearse=False)
    assert len({part.name for part in parts}) == len(parts)
    assert gpu_check.BUDGET < 540
    words = {part.name: "; ".join(filter(None, (need() for need in part.needs))) for part in parts}
    assert all(words.values()), words
    for name, word in [
        ("build", "no nvcc: install the CUDA toolkit"),
        ("kernels", "no onnx_ir: install it (onnx-ir), or `make gpu-bundle` brings it in toolkit.tar"),
        ("kernels", "no PyTorch: pip install torch"),
        ("memcheck", "no compute-sanitizer: install the CUDA toolkit"),
        ("tensorrt", "no tensorrt: pip install 'rc-deploy[tensorrt]', or `make gpu-bundle WITH=tensorrt` brings it"),
        ("tensorrt", "librc_trt.so was not built: `make gpu-bundle` brings its headers in headers.tar"),
        ("onnxruntime", "pip install onnxruntime-gpu, or `make gpu-bundle` brings it in onnxruntime-gpu.tar"),
        ("engines", "no pycuda: pip install pycuda, which wants the CUDA toolkit, or `make gpu-bundle` brings it"),
        ("engines", "neither tensorrt nor tensorrt_rtx"),
        ("engines", "`make gpu-bundle WITH=tensorrt-rtx` brings it in tensorrt-rtx.tar"),
        ("host-tests", "GoogleTest was not there: `make gpu-bundle` brings its headers in headers.tar"),
    ]:
        assert word in words[name]


def test_build_that_is_not_complete_counts_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_check, "TREE", tmp_path)
    monkeypatch.setattr(gpu_check, "BUILT", tmp_path / "built")
    need = gpu_check._product("librc_cuda.so", "why")
    (tmp_path / "librc_cuda.so").touch()
    assert need() == "librc_cuda.so was not built: the build did not come to its end"
    (tmp_path / "built").touch()
    assert need() == ""
    (tmp_path / "librc_cuda.so").unlink()
    assert need() == "librc_cuda.so was not built: why"
    assert "rm -f" in gpu_check.parts(rehearse=False)[0].command[-1]


def test_sources_are_told_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "plugins" / "cuda" / "__pycache__").mkdir(parents=True)
    kernel = tmp_path / "plugins" / "cuda" / "gclu.cu"
    kernel.write_text("1")
    first = gpu_check.sources(tmp_path)
    (tmp_path / "plugins" / "cuda" / "__pycache__" / "x.pyc").write_text("1")
    (tmp_path / "README.md").write_text("1")
    assert gpu_check.sources(tmp_path) == first
    kernel.write_text("2")
    second = gpu_check.sources(tmp_path)
    kernel.rename(kernel.with_name("tail.cu"))
    assert len({first, second, gpu_check.sources(tmp_path)}) == 3


def test_networks_are_found_where_rc_deploy_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(gpu_check, "TREE", tmp_path)
    monkeypatch.setattr("importlib.metadata.version", missing)
    (found,) = metadata.distributions(path=[str(gpu_check._entry_points())])
    (networks,) = found.entry_points.select(group="rc_deploy.models")
    assert "rescnet32" in networks.load()


def rehearsed(script: str, output: Path, *options: str) -> dict[str, Any]:
    """What a benchmark writes in a rehearsal, which says that it is one."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), str(output), "--rehearse", *options]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training"), str(ROOT / "tests")]),
    }
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert found.returncode == 0, found.stderr[-4000:]
    record: dict[str, Any] = json.loads(output.read_text())
    assert record["rehearsal"] is True
    assert record["machine"]["gpu"] == "none: a rehearsal on a CPU"
    return record


def test_networks_rehearse_every_figure(tmp_path: Path) -> None:
    record = rehearsed("networks_gpu.py", tmp_path / "measured.json")
    (found,) = record["networks"].values()
    assert set(found["milliseconds"]) == {
        f"{way}{graph}" for way in ("eager", "compiled") for graph in ("", " in a CUDA graph")
    }
    assert unfound_figures("networks", record) == []
    assert unfound_figures("networks", record | {"networks": {}}) != []


def test_benchmark_rehearses_every_figure(tmp_path: Path) -> None:
    record = rehearsed("native_gpu.py", tmp_path / "measured.json", "--batch", "1")
    for name in ("bandwidth", "tails", "plans"):
        assert unfound_figures(name, record) == []
    assert set(record["bandwidth"]) == {"float32", "float16", "bfloat16"}
    assert len(record["bandwidth"]["float16"]) == 9
    assert set(native_gpu.LARGE_TAILS) < set(record["bandwidth"]["float16"])
    tails = record["tails"]["float16, batch 1"]
    assert set(tails["in_cuda_graphs"]["microseconds"]) == {"fused", "eager", "compiled", "autotuned"}
    assert set(tails["launched_one_by_one"]["microseconds"]) == {"fused", "eager"}
    whole, small = (
        record["plans"]["float16, batch 1, 16x64, hidden 4"],
        record["plans"]["float16, batch 2, 4x64, hidden 1"],
    )
    assert len(whole["microseconds"]) == len(native_gpu.PLANS)
    assert set(whole["microseconds"]) - set(small["microseconds"]) == {
        f"8 blocks of {threads} threads" for threads in (128, 256, 512, 1024)
    }
    assert (
        whole["rules_beside_best"] == whole["microseconds"]["by the rules"] / whole["microseconds"][whole["best"]] >= 1
    )


@pytest.mark.parametrize(("kernels", "readings"), [(1, 3), (3, 4)])
def test_bytes_of_a_tail_are_those_of_its_kernels(monkeypatch: pytest.MonkeyPatch, kernels: int, readings: int) -> None:
    device = native_gpu.StandIn()
    monkeypatch.setattr(device, "launches", lambda work: kernels)
    monkeypatch.setattr(device, "seconds", lambda work: float(device.repeats))
    figures = native_gpu._bandwidth(device, torch.float16)
    for name, (batch, channels, positions, _) in device.tails.items():
        assert figures[name]["kernels"] == kernels
        # Each takes a second: `repeats` of them take as many.
        moved = readings * 2 * batch * channels * positions
        assert (figures[name]["bytes_counted"], figures[name]["median_tb_per_s"]) == (moved, moved / 1e12)


def test_compiled_tail_is_the_eager_one() -> None:
    torch.manual_seed(0)
    a, shortcut = torch.randn(3, 16, 50), torch.randn(3, 16, 50)
    weights = native_gpu._weights(16, 4, torch.float32, native_gpu.StandIn())
    eager, plain = (tail(a, shortcut, *weights) for tail in (native_gpu._eager_tail, native_gpu._plain_tail))
    argument = (a.abs() + shortcut.abs()).double().numpy()
    bound = operator_bound("float32", RC_ARITHMETIC + 2, argument, eager.double().abs().numpy())
    assert ((plain - eager).abs().double().numpy() <= 2 * bound).all()


@pytest.mark.parametrize("clone", ["work", "gpu"])
def test_without_a_gpu_what_needs_one_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clone: str) -> None:
    """... and nothing else, wherever the clone lies: a folder named `gpu` on the way to it is none of the tests'."""
    folder = tmp_path / clone / "tests"
    (folder / "gpu").mkdir(parents=True)
    copied = shutil.copy(ROOT / "tests" / "gpu" / "conftest.py", folder / "gpu")
    hooks = runpy.run_path(str(copied))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    paths = (folder / "test_export.py", folder / "gpu" / "test_native_kernels.py")
    items = [Item(path, []) for path in paths]
    hooks["pytest_collection_modifyitems"](items)
    assert [[mark.name for mark in item.marks] for item in items] == [[], ["skip"]]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    hooks["pytest_collection_modifyitems"](items)
    assert [len(item.marks) for item in items] == [0, 1]


@dataclasses.dataclass
class Item:
    """A test as the hook sees it."""

    path: Path
    marks: list[Any]

    def add_marker(self, mark: Any) -> None:
        self.marks.append(mark)
