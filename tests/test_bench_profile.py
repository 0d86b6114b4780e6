"""Profiles: every node is brought back to its layer, and RC and GCLU layers are told from the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch

from rc_deploy import loading, native
from rc_deploy.bench import BenchOptions, bandwidth, bench, profile_onnx
from rc_deploy.bench.profile import OUTSIDE, RUNS, Profile, of_spans
from rc_deploy.bench.profile_torch import Events, watched
from rc_deploy.bench.spans import Span, per_run
from rc_deploy.graph.blocked import fastest
from rc_deploy.graph.model import load
from rc_deploy.runners import TorchRunner

QUICK = BenchOptions(batches=(2,), seconds=0.0, threads=1, loads=2, profile=True)
# Values of one image in the last stage of the small network, whose planes are the smallest.
SMALLEST_PLANES = 64 * 4 * 4
CALIBRATIONS = {f"stages.{stage}.0.calibration" for stage in range(3)}
ACTIVATIONS = {f"stages.{stage}.0.{part}" for stage in range(3) for part in ("branch.2", "activation")} | {"stem.2"}


@pytest.fixture(scope="module")
def profiles(small_checkpoint: Path, small_onnx: Path) -> dict[str, Profile]:
    names = {"eager": f"{small_checkpoint}", "kernels": f"{small_onnx}@kernels", "bodies": f"{small_onnx}@bodies"}
    names["openvino"] = f"{small_onnx}@openvino"
    return dict(zip(names, bench(list(names.values()), QUICK).profiles, strict=True))


@pytest.mark.parametrize("variant", ["eager", "kernels", "bodies"])
def test_layers_bear_the_names_of_modules(variant: str, profiles: dict[str, Profile]) -> None:
    found = profiles[variant]
    kinds = {layer.name: layer.kind for layer in found.layers}
    assert {name for name, kind in kinds.items() if kind == "gclu"} == ACTIVATIONS
    # In a graph the Linears of a calibration are nodes of their own.
    assert {name.rpartition(".calibration")[0] + ".calibration" for name, kind in kinds.items() if kind == "rc"} == (
        CALIBRATIONS
    )
    assert {"classifier", "pool", OUTSIDE} <= set(kinds)
    assert (found.batch, found.runs) == (2, RUNS)


@pytest.mark.parametrize("variant", ["eager", "kernels", "bodies"])
def test_shares_add_up(variant: str, profiles: dict[str, Profile]) -> None:
    found = profiles[variant]
    shares = dict(found.shares)
    for kind in ("rc", "gclu"):
        assert shares[kind] == pytest.approx(sum(layer.share for layer in found.layers if layer.kind == kind))
        assert 0 < shares[kind] < 1
    assert sum(layer.share for layer in found.layers) >= 0.999


@pytest.mark.parametrize("variant", ["eager", "kernels", "bodies"])
def test_layers_move_their_inputs_weights_and_outputs(variant: str, profiles: dict[str, Profile]) -> None:
    found = profiles[variant]
    moved = {layer.name: layer.moved for layer in found.layers}
    batch, channels, classes = 2, 64, 10
    assert moved["classifier"] == 4 * (batch * channels + channels * classes + classes + batch * classes)
    assert moved[OUTSIDE] == 0
    for layer in found.layers:
        assert layer.bandwidth == pytest.approx(1000 * layer.moved / layer.milliseconds) if layer.milliseconds else True
    for name in CALIBRATIONS:  # what comes in and what goes out, at least
        parts = [layer for layer in found.layers if layer.name == name]
        assert parts
        assert sum(part.moved for part in parts) >= 2 * 4 * batch * SMALLEST_PLANES
    assert found.bandwidth > 1e8  # any memory since the 1990s


def test_a_copy_moves_twice_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that takes a second for each copy."""
    seconds = iter(range(1000))
    monkeypatch.setattr("rc_deploy.bench.bandwidth.time.perf_counter", lambda: float(next(seconds)))
    assert bandwidth.of_cpu(threads=2) == 2 * bandwidth._BYTES


class Clock:
    """A GPU in whose stream every event takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0
        self.cuda = SimpleNamespace(Event=lambda enable_timing: Event(self), synchronize=lambda: None)


class Event:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def record(self) -> None:
        self._clock.now += 1
        self.at = self._clock.now

    def elapsed_time(self, end: Event) -> float:
        return end.at - self.at


def test_events_lie_around_layers() -> None:
    events = Events(Clock())
    for _ in range(2):
        events.enter("outer")
        events.enter("inner")
        events.leave("inner")
        events.leave("outer")
    assert events.seconds() == {"outer": [0.003, 0.003], "inner": [0.001, 0.001]}


def test_hooks_are_gone_afterwards(small_checkpoint: Path) -> None:
    runner = loading.load(small_checkpoint).runner
    assert isinstance(runner, TorchRunner)
    network = runner.network
    with watched(network, Events(Clock())) as moved:
        pass
    network(torch.zeros(1, 3, 16, 16))
    assert moved == {}


def test_what_cannot_be_profiled_says_so(profiles: dict[str, Profile]) -> None:
    assert "OpenVINO" in profiles["openvino"].note
    assert not profiles["openvino"].layers


def test_fused_tails_are_calibrations(small_checkpoint: Path, tmp_path: Path) -> None:
    """With ReLU the whole end of a block becomes one operator, in the layout of the convolutions."""
    from conftest import SPEC, randomised
    from rc_deploy import checkpoint, models
    from rc_deploy.checkpoint import Checkpoint
    from rc_deploy.export import export

    network = randomised(models.create("rescnet8", {"num_classes": 10}), SPEC.shape)
    checkpoint.save(Checkpoint("rescnet8", {"num_classes": 10}, SPEC, network.state_dict()), tmp_path / "relu.pt")
    export(tmp_path / "relu.pt", tmp_path / "relu.onnx")
    library = native.onnx_runtime_library()
    assert library is not None
    model = load(tmp_path / "relu.onnx")
    optimised = fastest(model, library)
    layers = profile_onnx.layers_of(model, optimised)
    tails = [node.name for node in optimised.graph.node if node.op_type == "CalibratedTail"]
    assert {layers[name] for name in tails} == {(name, "rc") for name in CALIBRATIONS}
    assert all(kind == "other" for name, (_, kind) in layers.items() if name not in tails)


def test_a_body_belongs_to_its_layer() -> None:
    """Rules 2 to 4 on a graph written by hand: what no rule reaches has no layer."""
    text = """<ir_version: 10, opset_import: ["": 20, "rc": 1]>
        g (float[N, 8, 4, 4] x) => (float[N, 8, 4, 4] z) {{ {nodes} }}"""
    model = onnx.parser.parse_model(text.format(nodes="y = Conv (x, x) z = rc.GCLU (y)"))
    for node, name in zip(model.graph.node, ("first", "second"), strict=True):
        node.name = f"node_{name}"
        node.metadata_props.add(key="rc_deploy.module", value=name)
    nodes = "b = Conv (x, x) y = Identity (b) e = Erf (y) c = Clip (e) z = Mul (c, y) idle = Abs (x)"
    optimised = onnx.parser.parse_model(text.format(nodes=nodes))
    for node, name in zip(optimised.graph.node, ("y_nchwc", "reorder", "erf", "clip", "mul", "abs"), strict=True):
        node.name = name
    layers = profile_onnx.layers_of(model, optimised)
    assert layers == {
        "y_nchwc": ("first", "other"),
        "reorder": ("first", "other"),
        **dict.fromkeys(("erf", "clip", "mul"), ("second", "gclu")),
    }


def test_spans_are_added_up() -> None:
    spans = [Span("a", "rc", "Mul", 0.001), Span("a", "rc", "Add", 0.002), Span("b", "other", "Conv", 0.004)]
    found = of_spans(0, 1, 0.010, spans)
    assert [(layer.name, layer.operators) for layer in found.layers] == [
        ("a", ("Mul", "Add")),
        ("b", ("Conv",)),
        (OUTSIDE, ()),
    ]
    assert [layer.milliseconds for layer in found.layers] == pytest.approx([3.0, 4.0, 3.0])
    assert dict(found.shares) == {"rc": pytest.approx(0.3), "gclu": 0}


def test_one_disturbed_run_counts_little() -> None:
    assert per_run([1.0, 1.0, 50.0], 3) == 1.0
    assert per_run([1.0, 1.0, 1.0, 1.0], 2) == 2.0  # a layer that runs twice
