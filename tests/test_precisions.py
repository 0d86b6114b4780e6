"""The typed graphs of every precision: their types, what ONNX Runtime makes of them, and the engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from conftest import CALIBRATION, SPEC
from rc_deploy import assignment, calibration, data, manifest, quantisation
from rc_deploy.assignment import PrecisionOptions, assign
from rc_deploy.engine import BuildOptions, build, library, readback
from rc_deploy.engine.contained import compile_graph
from rc_deploy.engine.settings import Settings
from rc_deploy.errors import BuildError, InputError
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.emulate import emulated
from rc_deploy.graph.layers import layers, statistics
from rc_deploy.graph.opset import raise_opset
from rc_deploy.graph.plan import Plan, planned
from rc_deploy.graph.precision import ONNX_TYPES, require_precision
from rc_deploy.graph.types import types
from rc_deploy.runners import OnnxRunner, onnx_session
from rc_deploy.specs import BatchRange, Calibration, CalibrationMethod, Precision

NARROW = [Precision.FP16, Precision.BF16, Precision.INT8, Precision.FP8]
QUANTISED = [Precision.INT8, Precision.FP8]
TYPE_NAMES = {Precision.FP16: "HALF", Precision.BF16: "BF16", Precision.INT8: "INT8", Precision.FP8: "FP8"}


def options(precision: Precision, **changes: Any) -> BuildOptions:
    calibrated = CALIBRATION if precision.quantised else None
    return replace(BuildOptions(precision, (), calibrated, backend="tensorrt-rtx"), **changes)


@pytest.fixture(scope="module")
def typed_graphs(small_onnx: Path) -> dict[Precision, onnx.ModelProto]:
    model = onnx.load(small_onnx)
    return {precision: assign(model, options(precision), "small").graph for precision in NARROW}


@pytest.mark.parametrize("precision", NARROW)
def test_layers_are_narrow_and_statistics_are_not(
    precision: Precision, typed_graphs: dict[Precision, onnx.ModelProto]
) -> None:
    graph = typed_graphs[precision]
    onnx_model.check(graph, "typed")
    found = types(graph)
    kind = ONNX_TYPES[precision]
    assert {found[value.name] for value in (*graph.graph.input, *graph.graph.output)} == {TensorProto.FLOAT}
    predicting = statistics(graph)
    nodes = [node for node in graph.graph.node if node.name in predicting and node.op_type != "Cast"]
    assert len(nodes) == 12
    computed = {name for node in nodes for name in (*node.input, *node.output)}
    assert {found[name] for name in computed} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert len(layers(graph)) == 10
    narrow = {tensor.name for tensor in graph.graph.initializer if tensor.data_type == kind and len(tensor.dims) > 1}
    assert len(narrow) == 10
    stated = onnx_model.provenance(graph, "typed")
    assert stated.precision is precision
    assert stated.calibration == (CALIBRATION if precision.quantised else None)


@pytest.mark.parametrize("precision", NARROW)
def test_same_inputs_give_the_same_bytes(
    precision: Precision,
    typed_graphs: dict[Precision, onnx.ModelProto],
    small_onnx: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the number of threads and images per run."""
    monkeypatch.setattr(calibration, "default_threads", lambda: 1)
    monkeypatch.setattr(calibration, "_LARGEST_BATCH", 7)
    again = assign(onnx.load(small_onnx), options(precision), "small").graph
    assert again.SerializeToString(deterministic=True) == typed_graphs[precision].SerializeToString(deterministic=True)


def test_onnx_runtime_runs_all_but_bfloat16(typed_graphs: dict[Precision, onnx.ModelProto]) -> None:
    """The note of a bfloat16 artefact says that it was emulated: this is why, and when the note may go."""
    images = data.normalise(data.load("random:3", spec=SPEC).images[:4], SPEC)
    for precision in (Precision.FP16, *QUANTISED):
        with OnnxRunner(typed_graphs[precision], bodies=True) as runner:
            assert np.isfinite(runner.run(images)).all()
    with pytest.raises(InputError, match="Could not find an implementation for Conv"):
        OnnxRunner(typed_graphs[Precision.BF16], bodies=True).__enter__()


def test_emulation_rounds_as_bfloat16_does(rng: np.random.Generator) -> None:
    """Y = W X + X, by hand: each result rounded once, to nearest even."""
    x, w = (rng.standard_normal((64, 64)).astype(ml_dtypes.bfloat16) for _ in range(2))
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 22]> g (float[64, 64] x) => (float[64, 64] y)'
        "<bfloat16[64, 64] w, bfloat16[64, 64] p, bfloat16[64, 64] n, bfloat16[64, 64] s>"
        "{ n = Cast <to: int = 16> (x) p = MatMul (n, w) s = Add (p, n) y = Cast <to: int = 1> (s) }"
    )
    weight = onnx.helper.make_tensor("w", TensorProto.BFLOAT16, w.shape, w.tobytes(), raw=True)
    model.graph.initializer.append(weight)
    session = onnx_session(emulated(model), threads=1)
    found = session.run(None, {"x": x.astype(np.float32)})[0]
    product = (x.astype(np.float32) @ w.astype(np.float32)).astype(ml_dtypes.bfloat16)
    expected = (product.astype(np.float32) + x.astype(np.float32)).astype(ml_dtypes.bfloat16)
    # Where sums of another order round to another neighbour, and nowhere else, they differ: by one step.
    same = found == expected.astype(np.float32)
    assert same.mean() > 0.99
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=2.0**-7, atol=2.0**-6)
    assert not (found.view(np.uint32) & 0xFFFF).any()


@pytest.mark.parametrize("precision", NARROW)
def test_kept_layers_are_float32(precision: Precision, small_onnx: Path) -> None:
    asked = options(precision, keep_fp32=("stem.*", "classifier"))
    assigned = assign(onnx.load(small_onnx), asked, "small")
    narrow = {
        tensor.name.removesuffix("_quantised")
        for tensor in assigned.graph.graph.initializer
        if tensor.data_type == ONNX_TYPES[precision] and len(tensor.dims) > 1
    }
    assert len(narrow) == 8
    assert not narrow & {"stem.0.weight", "classifier.weight"}
    stated = onnx_model.provenance(assigned.graph, "typed")
    require_precision(assigned.graph, stated, "typed")
    with pytest.raises(InputError, match="but 2 of its tensors are not"):
        require_precision(assigned.graph, replace(stated, kept=[]), "typed")


@pytest.mark.parametrize("precision", NARROW)
def test_engines_hold_what_was_asked_for(precision: Precision, small_onnx: Path, tmp_path: Path) -> None:
    result = build(small_onnx, tmp_path / "m.engine", options(precision, keep_fp32=("stem.*",)))
    assert result.readback.compute_layers == {TYPE_NAMES[precision]: 9, "FLOAT": 10}
    record = manifest.read(result.engine)
    assert record.precision["kept"] == sorted(
        assign(onnx.load(small_onnx), options(precision, keep_fp32=("stem.*",)), "m").kept
    )
    assert ("8.0" in record.compute_capabilities) == (precision is not Precision.FP8)


@pytest.mark.parametrize("precision", NARROW)
def test_other_graphs_cannot_call_themselves_so(
    precision: Precision, small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion that does nothing, and one to another precision."""
    for other in {Precision.FP32, *NARROW} - {precision}:
        graph = assign(onnx.load(small_onnx), options(other), "small").graph
        for place in (assignment, quantisation):
            monkeypatch.setattr(place, "typed", lambda *_, graph=graph: graph)
        with pytest.raises(BuildError, match=f"The engine is not {precision}|HW-specific datatypes: fp8"):
            build(small_onnx, tmp_path / "m.engine", options(precision))
        monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} <= {"m.engine.log"}  # of a refusal by the library


@pytest.mark.parametrize("precision", NARROW)
def test_graphs_that_say_another_precision_are_refused(
    precision: Precision, typed_graphs: dict[Precision, onnx.ModelProto]
) -> None:
    graph = typed_graphs[precision]
    for other in {Precision.FP32, *NARROW} - {precision}:
        stated = replace(onnx_model.provenance(graph, "typed"), precision=other)
        with pytest.raises(InputError, match=f"says that it is {other}, but"):
            require_precision(graph, stated, "typed")


@pytest.mark.parametrize(
    ("layers_found", "weights"),
    [
        ({"INT8": 8, "FLOAT": 11}, {"int8": 100}),  # one layer was left behind
        ({"INT8": 9, "FLOAT": 10, "HALF": 1}, {"int8": 100}),
        ({"INT8": 9, "FLOAT": 10}, {"int8": 10, "float": 90}),  # weights were widened again
        ({"FLOAT": 19}, {"int8": 100}),
    ],
)
def test_partial_int8_is_refused(layers_found: dict[str, int], weights: dict[str, int]) -> None:
    plan = Plan(narrow=9, wide=10, narrow_bytes=90, wide_bytes=10)
    readback.require_precision(
        readback.Readback({"INT8": 9, "FLOAT": 10}, {}, {}, {"int8": 90, "float": 10}), Precision.INT8, plan
    )
    own = readback.Readback({"INT8": 9, "FLOAT": 10}, {}, {}, {"int8": 90, "float": 400})  # scales of a tiny network
    readback.require_precision(own, Precision.INT8, plan)
    with pytest.raises(BuildError, match="9 layers should be int8 and 10 float32"):
        readback.require_precision(readback.Readback(layers_found, {}, {}, weights), Precision.INT8, plan)


def test_plan_counts_layers_and_bytes(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    weights = sum(layer.parameters for layer in layers(model))
    heads = 9  # squeeze, mean and log_var of three RC layers, which stay float32
    assert planned(model, Precision.INT8, ()) == Plan(10, heads, weights, 4 * 4032)
    assert planned(model, Precision.BF16, ()).narrow_bytes == 2 * weights
    assert planned(model, Precision.FP32, ()).wide == 0


@pytest.mark.parametrize(
    ("asked", "phrase"),
    [
        (PrecisionOptions(Precision.INT8), "--int8 needs data"),
        (PrecisionOptions(Precision.BF16, (), CALIBRATION), "Nothing is calibrated for bf16"),
        (PrecisionOptions(Precision.FP16, max_accuracy_drop=1.0), "Nothing is calibrated for fp16"),
        (PrecisionOptions(Precision.FP32, ("stem.*",)), "keeps layers out of a narrower type"),
        (PrecisionOptions(Precision.INT8, ("*",), CALIBRATION), "keeps every layer"),
    ],
)
def test_options_that_make_no_sense_are_refused(asked: PrecisionOptions, phrase: str, small_onnx: Path) -> None:
    with pytest.raises(InputError, match=phrase):
        assign(onnx.load(small_onnx), asked, "small")


def test_opset_is_raised_only_where_operators_keep_their_meaning() -> None:
    def graph(text: str) -> onnx.ModelProto:
        return onnx.parser.parse_model(
            f'<ir_version: 10, opset_import: ["" : 18]> g (float[1,4,8] x) => (float y) {{{text}}}'
        )

    model = graph("y = Relu (x)")
    raise_opset(model, 22, "model")
    assert model.opset_import[0].version == 22
    raise_opset(model, 19, "model")
    assert model.opset_import[0].version == 22
    with pytest.raises(InputError, match="Operator GroupNormalization of model is another one"):
        raise_opset(graph("y = GroupNormalization <num_groups = 2> (x, x, x)"), 22, "model")


@pytest.mark.parametrize("method", list(CalibrationMethod))
def test_every_method_gives_a_graph_that_runs(method: CalibrationMethod, small_onnx: Path) -> None:
    asked = options(Precision.INT8, calibration=Calibration("random:1", 64, method))
    graph = assign(onnx.load(small_onnx), asked, "small").graph
    with OnnxRunner(graph, bodies=True) as runner:
        images = data.normalise(data.load("random:3", spec=SPEC).images[:4], SPEC)
        assert np.isfinite(runner.run(images)).all()


def test_command_line_names_what_excludes_what(small_onnx: Path, here: object) -> None:
    for arguments, phrase in (
        (("--int8", "--fp8"), "--int8 and --fp8 exclude each other"),
        (("--int8",), "--int8 needs data to measure ranges on"),
        (("--int8", "--calibration", "random:1", "--calibration-method", "median"), "no calibration method 'median'"),
    ):
        code, message = here("build", small_onnx, *arguments)  # type: ignore[operator]
        assert code == 3
        assert phrase in message


def test_products_of_a_transformer_are_quantised(tmp_path: Path) -> None:
    """A weight is given the rank of the data between its DequantizeLinear and the product: it counts all the same."""
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N, 5, 8] x) => (float[N, 5, 6] y)'
        "<float s = {0.1}, int8 z = {0}> {"
        "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) v = DequantizeLinear (w, s, z) y = MatMul (d, v) }"
    )
    model = onnx.parser.parse_model(text)
    weight = np.arange(48, dtype=np.int8).reshape(8, 6)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    chosen = library.LIBRARIES["tensorrt-rtx"]
    settings = Settings((BatchRange(1, 2, 4),), ("8.6",))
    compiled = compile_graph(chosen, model.SerializeToString(), settings, tmp_path / "log")
    assert readback.read_back(compiled).compute_layers == {"INT8": 1}
