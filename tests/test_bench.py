"""Benchmarks: what is measured, in which order and where. Times themselves are never asserted."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import onnx.numpy_helper
import pytest
import torch
from torch import nn

from rc_deploy import checkpoint, loading, tolerances
from rc_deploy.bench import Artefact, BenchOptions, Timing, bench, memory, side_by_side, subjects
from rc_deploy.bench.callers import CALLS_AT_ONCE, Callers
from rc_deploy.bench.processes import ProcessLane
from rc_deploy.bench.statistics import Turn
from rc_deploy.condition import condition
from rc_deploy.decode import decode
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.graph import model as onnx_model
from rc_deploy.nn import GCLU
from rc_deploy.nn.roundings import roundings
from rc_deploy.openvino_runner import OpenVinoRunner
from rc_deploy.runners import TorchRunner
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

in_pytorchs_compiler = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
QUICK = BenchOptions(batches=(1,), seconds=0.0, threads=1, loads=2)


def test_every_artefact_at_every_batch_size(small_checkpoint: Path, small_onnx: Path) -> None:
    names = [str(small_checkpoint), *(f"{small_onnx}@{variant}" for variant in ("kernels", "bodies", "openvino"))]
    outcome = bench(names, replace(QUICK, batches=(1, 3)))
    assert [(timing.batch, timing.artefact) for timing in outcome.timings] == [
        (batch, artefact) for batch in (1, 3) for artefact in range(4)
    ]
    for timing in outcome.timings:
        assert timing.rounds >= 2 * side_by_side.LEAST_ROUNDS
        assert 0 < timing.fastest <= timing.p50 <= timing.p90 <= timing.p95 <= timing.p99
        assert timing.p50_interval[0] <= timing.p50 <= timing.p50_interval[1]
        assert timing.images_per_second == pytest.approx(1000 * timing.batch / timing.p50)
    for startup in outcome.startups:
        assert 0 < startup.load <= 2 * max(startup.first_load, startup.load)
        assert startup.first_run > 0
        assert startup.peak is None  # the process is shared
    document = json.loads(json.dumps(outcome.to_json()))
    assert decode(Timing, document["timings"][0]) == outcome.timings[0]
    assert decode(Artefact, document["artefacts"][3]) == outcome.artefacts[3]
    runners = [artefact["runner"] for artefact in document["artefacts"]]
    for runner, word in zip(runners, ("eager (1 threads)", "librc_ort", "ONNX Runtime", "OpenVINO"), strict=True):
        assert word in runner
    assert "librc_ort" not in runners[2]


IMAGES = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def allowed(small_checkpoint: Path) -> tuple[NDArray[np.float32], float]:
    """The small network's logits in PyTorch, and how far float32 rounding lets another program be from them."""
    expected = loading.load(small_checkpoint, threads=1)
    rounded = expected.roundings()
    with expected.runner as runner:
        kappa = condition(runner, IMAGES, rounded)
        logits = runner.run(IMAGES)
    return logits, tolerances.derive(rounded, Precision.FP32, logits, kappa).maximum


@pytest.mark.parametrize("variant", ["openvino", "bodies", "kernels"])
def test_variants_compute_the_same(variant: str, small_onnx: Path, allowed: tuple[NDArray[np.float32], float]) -> None:
    """They are the same network: what is timed is no other arithmetic, bfloat16 for one."""
    with subjects.load(subjects.Subject(small_onnx, variant), 1, None).runner as runner:
        found = runner.run(IMAGES)
    assert np.abs(found - allowed[0]).max() <= allowed[1]


def test_another_arithmetic_would_be_seen(small_onnx: Path, allowed: tuple[NDArray[np.float32], float]) -> None:
    """Planted: weights rounded to bfloat16, as OpenVINO would by itself on processors that have it."""
    model = onnx_model.load(small_onnx)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            bits = onnx.numpy_helper.to_array(tensor).view(np.uint32) & np.uint32(0xFFFF0000)
            tensor.CopyFrom(onnx.numpy_helper.from_array(bits.view(np.float32), tensor.name))
    with OpenVinoRunner(model, 1) as runner:
        found = runner.run(IMAGES)
    assert np.abs(found - allowed[0]).max() > allowed[1]


@in_pytorchs_compiler
def test_compiled_networks_compute_the_same() -> None:
    """Shown on a small one, for compiling takes long; GCLU is one of its layers."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), GCLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    eager = TorchRunner(network, 1)
    rounded = roundings(network, (3, 16, 16))
    with eager, eager.compiled() as compiled:
        logits = eager.run(IMAGES)
        allowed = tolerances.derive(rounded, Precision.FP32, logits, condition(eager, IMAGES, rounded)).maximum
        assert np.abs(compiled.run(IMAGES) - logits).max() <= allowed
    assert "torch.compile" in compiled.name


@in_pytorchs_compiler
def test_a_network_that_cannot_be_compiled_is_no_bug_of_ours(
    small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it timed eagerly in place of that."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", broken)
    with pytest.raises(UnsupportedError, match=r"torch\.compile cannot compile the network: .*no C\+\+ compiler"):
        bench([f"{small_checkpoint}@compile"], QUICK)


class FakeLane:
    """Writes down in which order lanes are run."""

    artefact = Artefact("a", "", "", "onnx", "fp32", "", (1, 1, 1))
    load_seconds = 0.0

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def prepare(self, batch: int) -> float:
        return 0.0

    def turn(self) -> Turn:
        self.log.append(self.name)
        return Turn((1.0,), 1.0)

    def memory(self) -> tuple[None, None]:
        return None, None


def test_lanes_take_turns_in_changing_order_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "SETTLE", 0)
    log: list[str] = []
    lanes = [FakeLane("a", log), FakeLane("b", log)]
    rounds = side_by_side.measure(lanes, 0.0, np.random.default_rng(0))
    pairs = list(zip(log[::2], log[1::2], strict=True))
    assert {tuple(sorted(pair)) for pair in pairs} == {("a", "b")}
    assert set(pairs) == {("a", "b"), ("b", "a")}
    assert len(rounds) == side_by_side.LEAST_ROUNDS == len(pairs) - 2 * side_by_side.WINDOW


class CountingRunner:
    """Counts how many callers are inside at once."""

    name = "counting"

    def __init__(self) -> None:
        self.inside = self.most = self.calls = 0
        self.lock = threading.Lock()

    def run(self, images: Any) -> Any:
        with self.lock:
            self.inside += 1
            self.calls += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.01)
        with self.lock:
            self.inside -= 1
        return images


@pytest.mark.parametrize(("count", "calls"), [(1, 1), (3, CALLS_AT_ONCE)])
def test_callers_run_at_once(count: int, calls: int) -> None:
    runner = CountingRunner()
    with Callers(runner, count) as callers:  # type: ignore[arg-type]
        turn = callers.turn(np.zeros((1, 1, 1, 1), np.float32))
    assert runner.most == count
    assert len(turn.latencies) == count * calls
    assert runner.calls == count * (1 + calls)  # one run of each caller is not counted
    assert max(turn.latencies) <= turn.seconds < sum(turn.latencies) + 1e-9


@pytest.mark.parametrize("variant", ["", "openvino"])
def test_callers_at_once_are_timed(variant: str, small_onnx: Path) -> None:
    outcome = bench([f"{small_onnx}@{variant}".removesuffix("@")], replace(QUICK, concurrency=2))
    assert "2 callers at once" in outcome.method.turn


def test_processes_of_their_own(small_onnx: Path) -> None:
    outcome = bench([str(small_onnx), f"{small_onnx}@bodies"], replace(QUICK, isolate=True))
    assert [artefact.name for artefact in outcome.artefacts] == ["small.onnx", "small.onnx@bodies"]
    here = memory.peak()
    assert here is not None
    for startup in outcome.startups:
        assert startup.peak is not None
        assert startup.memory is not None
        assert 0 < startup.memory < startup.peak < here  # which has PyTorch in it: the peak is not this process's


def test_errors_cross_processes_with_their_class(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a graph")
    with pytest.raises(InputError, match="m.onnx") as caught:
        bench([str(tmp_path / "m.onnx")], replace(QUICK, isolate=True))
    assert caught.value.hint


def test_a_process_that_is_killed_is_named(small_onnx: Path) -> None:
    with ProcessLane(subjects.Subject(small_onnx), QUICK) as lane:
        lane.prepare(1)
        lane._process.kill()
        with pytest.raises(UnsupportedError, match=r"small\.onnx ended with exit code -9"):
            lane.turn()


def test_memory_is_that_of_this_process() -> None:
    before = memory.resident()
    block = np.ones(2**24)
    after, peak = memory.resident(), memory.peak()
    assert before is not None
    assert after is not None
    assert peak is not None
    assert after - before > 0.9 * block.nbytes
    assert peak >= after


def test_engines_are_not_timed_on_a_cpu(small_engine: Path) -> None:
    with pytest.raises(UnsupportedError, match="cannot be timed"):
        bench([str(small_engine)], QUICK)


def test_a_gpu_that_is_not_there_is_named(small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UnsupportedError, match="no CUDA device"):
        bench([f"{small_checkpoint}@cuda"], QUICK)


def test_kernels_that_are_not_there_are_named(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RC_DEPLOY_LIBRARIES", "")
    with pytest.raises(UnsupportedError, match="no librc_ort"):
        bench([f"{small_onnx}@kernels"], QUICK)


def test_variants_are_of_a_kind(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs as kernels, bodies, openvino"):
        subjects.parse(f"{small_onnx}@compile")
    with pytest.raises(InputError, match="runs as eager, compile"):
        subjects.parse(f"{small_checkpoint}@fast")
    with pytest.raises(InputError, match=r"no file at .*none\.onnx"):
        subjects.parse(str(tmp_path / "none.onnx@bodies"))
    named = Path(shutil.copy(small_onnx, tmp_path / "net@bodies"))
    assert subjects.parse(str(named)) == subjects.Subject(named)


def test_artefacts_must_take_the_same_images(small_checkpoint: Path, tmp_path: Path) -> None:
    saved = checkpoint.load(small_checkpoint)
    checkpoint.save(replace(saved, input=replace(saved.input, shape=(3, 8, 8))), tmp_path / "other.pt")
    with pytest.raises(InputError, match="different shapes"):
        bench([str(small_checkpoint), str(tmp_path / "other.pt")], QUICK)
