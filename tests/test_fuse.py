"""Fusion passes: both graphs compute the same, what does not fit stays, and a wrong rewrite would be seen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper

import reference
from rc_deploy.graph import bodies, fuse
from rc_deploy.graph.layers import statistics
from rc_deploy.graph.model import check, load
from rc_deploy.graph.narrow import narrowed
from rc_deploy.runners import OnnxRunner

if TYPE_CHECKING:
    from pathlib import Path

HEADER = '<ir_version: 10, opset_import: ["": 20, "rc": 1]>\n'
RNG = np.random.default_rng(0)


def rc_model(graph: str) -> onnx.ModelProto:
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(HEADER + graph))
    bodies.attach_bodies(model)
    # Once more: the shapes of what the rc operators make follow from their bodies.
    return onnx.shape_inference.infer_shapes(model)


def run(model: onnx.ModelProto, **feeds: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_whole_network(small_onnx: Path) -> None:
    """Every residual block's end is one node, and the logits stay."""
    model = load(small_onnx)
    fused = fuse.fused(model)
    check(fused, "the fused model")
    before, after = operators(model), operators(fused)
    assert before["ResponseCalibration"] == after["CalibratedTail"] + after["ResponseCalibration"]
    images = RNG.normal(size=(5, 3, 16, 16)).astype(np.float32)
    with OnnxRunner(model, bodies=True) as plain, OnnxRunner(fused, bodies=True) as faster:
        np.testing.assert_allclose(faster.run(images), plain.run(images), rtol=1e-5, atol=1e-5)


NETWORK = """
g (float[N, 4, 5, 6] X, float[N, 4, 5, 6] S) => (float[N, 4, 5, 6] Y)
<float[2, 4] W = {{0.1, -0.4, 0.3, 0.2, 0.5, -0.2, 0.1, 0.6}}, float[2] B = {{0.2, -0.1}},
 float[4, 2] WM = {{0.7, 0.1, -0.3, 0.4, 0.2, 0.9, -0.6, 0.5}}, float[4] BM = {{0.1, 0.2, -0.3, 0.0}},
 float[4, 2] WV = {{-0.5, 0.3, 0.8, 0.1, 0.4, -0.2, 0.6, 0.1}}, float[4] BV = {{0.3, -0.2, 0.1, 0.5}},
 int64[2] axes = {{2, 3}}>
{{
  A = Mul (X, X)
  G = ReduceMean <keepdims = 0> (A, axes)
  H = Gemm <transB = 1> (G, W, B)
  M = Gemm <transB = 1> (H, WM, BM)
  V = Gemm <transB = {transposed}> (H, WV, BV)
  R = rc.ResponseCalibration <epsilon = 0.25> (A, M, V)
  T = Add ({terms})
  Y = {end}
}}
"""


def network(transposed: int = 1, terms: str = "R, S", end: str = "Relu (T)") -> onnx.ModelProto:
    text = NETWORK.format(transposed=transposed, terms=terms, end=end)
    if not transposed:
        text = text.replace("float[4, 2] WV", "float[2, 4] WV")
    return rc_model(text)


def feeds(batch: int = 3) -> dict[str, Any]:
    return {name: RNG.normal(size=(batch, 4, 5, 6)).astype(np.float32) for name in "XS"}


def test_tail_without_biases() -> None:
    """Exporters leave out biases of zeros, as a fresh network's are."""
    text = NETWORK.format(transposed=1, terms="R, S", end="Relu (T)")
    for bias in (", B)", ", BM)", ", BV)"):
        text = text.replace(bias, ")")
    model = rc_model(text)
    fused = fuse.fused(model)
    assert operators(fused) == {"Mul": 1, "CalibratedTail": 1}
    inputs = feeds()
    np.testing.assert_allclose(run(fused, **inputs)[0], run(model, **inputs)[0], rtol=1e-5, atol=1e-6)


def test_bias_of_another_shape_stays() -> None:
    """Gemm broadcasts its bias; the fused operator does not."""
    text = NETWORK.format(transposed=1, terms="R, S", end="Relu (T)")
    model = rc_model(text.replace("float[2] B = {0.2, -0.1}", "float[1] B = {0.2}"))
    assert operators(fuse.fused(model))["CalibratedResidual"] == 1


@pytest.mark.parametrize("output", ["G", "H", "M", "V"])
def test_an_operator_of_another_domain_stays(output: str) -> None:
    """Its name says nothing about what it computes."""
    model = network()
    model.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    (node,) = (node for node in model.graph.node if list(node.output) == [output])
    node.domain = "theirs"
    assert operators(fuse.fused(model))["CalibratedTail"] == 0


@pytest.mark.parametrize("name", ["W", "WM"])
def test_weights_that_are_no_matrix_stay(name: str) -> None:
    """No checker looks at them before a session is made."""
    model = network()
    (weight,) = (initializer for initializer in model.graph.initializer if initializer.name == name)
    weight.dims.append(1)
    assert operators(fuse.fused(model))["CalibratedTail"] == 0


@pytest.mark.parametrize("terms", ["R, S", "S, R"])
def test_tail(terms: str) -> None:
    model = network(terms=terms)
    fused = fuse.fused(model)
    assert operators(fused) == {"Mul": 1, "CalibratedTail": 1}
    assert [function.name for function in fused.functions] == ["CalibratedTail"]
    values = feeds()
    np.testing.assert_allclose(run(fused, **values)[0], run(model, **values)[0], rtol=1e-5, atol=1e-6)
    (node,) = bodies.rc_nodes(fused)
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert attributes == {"epsilon": 0.25, "plugin_namespace": b"rc", "plugin_version": b"1"}


def test_heads_that_are_no_linears_leave_the_residual() -> None:
    model = network(transposed=0)
    fused = fuse.fused(model)
    expected = {"Mul": 1, "ReduceMean": 1, "Gemm": 3, "CalibratedResidual": 1}
    assert operators(fused) == expected
    values = feeds()
    np.testing.assert_allclose(run(fused, **values)[0], run(model, **values)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "end",
    [
        "Mul (T, T)",  # no ReLU
        "LeakyRelu (T)",
        "Relu (T)\n  Z = Mul (R, R)",  # the calibrated branch is used once more
        "Relu (T)\n  Z = Mul (T, T)",  # ... and the sum
    ],
)
def test_what_does_not_fit_stays(end: str) -> None:
    model = network(end=end)
    if "Z" in end:
        model.graph.output.append(onnx.helper.make_tensor_value_info("Z", 1, ("N", 4, 5, 6)))
    assert operators(fuse.fused(model)) == operators(model)


def test_a_broadcast_shortcut_stays() -> None:
    model = rc_model(
        "g (float[N, 4, 5] A, float[N, 4] M, float[N, 4] V, float[N, 4, 1] S) => (float[N, 4, 5] Y) "
        "{ R = rc.ResponseCalibration (A, M, V)\n T = Add (R, S)\n Y = Relu (T) }"
    )
    assert operators(fuse.fused(model)) == operators(model)


def test_bodies_of_other_operators_stay_byte_for_byte() -> None:
    model = rc_model(
        "g (float[N, 4, 5] A, float[N, 4] M, float[N, 4] V) => (float[N, 4, 5] Y) "
        '<float[N, 4, 5] B> { B = rc.GCLU <approximate = "tanh"> (A)\n R = rc.ResponseCalibration (B, M, V)\n '
        "T = Add (R, A)\n Y = Relu (T) }"
    )
    fused = fuse.fused(model)
    assert operators(fused) == {"GCLU": 1, "CalibratedResidual": 1}
    before, after = (
        {function.name: function.SerializeToString(deterministic=True) for function in each.functions}
        for each in (model, fused)
    )
    assert before["GCLU"] == after["GCLU"]


@pytest.mark.parametrize("swap", ["W2", "B2", "epsilon"])
def test_a_wrong_rewrite_would_be_seen(swap: str) -> None:
    """The comparisons above can fail: heads in the wrong order, or a wrong epsilon, are far beyond their tolerance."""
    model = network()
    wrong = fuse.fused(model)
    (node,) = bodies.rc_nodes(wrong)
    if swap == "epsilon":
        node.attribute[0].f = 1e-5
        assert node.attribute[0].name == "epsilon"
    else:
        name = node.input[{"W2": 4, "B2": 5}[swap]]
        weight = next(tensor for tensor in wrong.graph.initializer if tensor.name == name)
        weight.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(weight), 4, axis=0), name))
    values = feeds()
    assert np.abs(run(wrong, **values)[0] - run(model, **values)[0]).max() > 1e-3


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 7), (2, 5, 3, 4), (0, 5, 3, 4)])
def test_fused_bodies_against_float64(shape: tuple[int, ...]) -> None:
    dims = ", ".join(map(str, shape))
    a, shortcut = (RNG.normal(0, 2, shape).astype(np.float32) for _ in range(2))
    weights = [RNG.normal(0, 0.5, size).astype(np.float32) for size in ((2, 5), (2,), (10, 2), (10,))]
    model = rc_model(
        f"g (float[{dims}] A, float[{dims}] S, float[2, 5] P, float[2] Q, float[10, 2] R, float[10] T) "
        f"=> (float[{dims}] Y) {{ Y = rc.CalibratedTail <epsilon = 0.25> (A, S, P, Q, R, T) }}"
    )
    w1, b1, w2, b2 = (weight.astype(np.float64) for weight in weights)
    pooled = a.astype(np.float64).reshape(*shape[:2], int(np.prod(shape[2:]))).mean(2)
    mu, log_var = np.split((pooled @ w1.T + b1) @ w2.T + b2, 2, axis=1)
    exact = np.maximum(reference.response_calibration(a, mu, log_var, 0.25) + shortcut, 0)
    found = run(model, A=a, S=shortcut, **dict(zip("PQRT", weights, strict=True)))[0]
    np.testing.assert_allclose(found, exact, rtol=2e-6, atol=4e-6)
    given = rc_model(
        f"g (float[{dims}] A, float[{shape[0]}, 5] M, float[{shape[0]}, 5] V, float[{dims}] S) => (float[{dims}] Y) "
        f"{{ Y = rc.CalibratedResidual <epsilon = 0.25> (A, M, V, S) }}"
    )
    statistics = {"M": mu.astype(np.float32), "V": log_var.astype(np.float32)}
    np.testing.assert_allclose(run(given, A=a, S=shortcut, **statistics)[0], exact, rtol=2e-6, atol=4e-6)


def test_tail_of_a_16_bit_graph_fuses() -> None:
    """Its statistics are float32, between casts, which go; what it computes stays, up to float16's roundings."""
    plain = network()
    for index, node in enumerate(plain.graph.node):
        node.name = f"node{index}"
    model = narrowed(plain, onnx.TensorProto.FLOAT16, statistics(plain), "model")
    fused = fuse.fused(model)
    check(fused, "the fused model")
    assert operators(model)["Gemm"] == 3
    assert operators(fused) == {"Mul": 1, "CalibratedTail": 1, "Cast": 3}  # of X, S and Y
    feeds = {name: RNG.normal(size=(3, 4, 5, 6)).astype(np.float32) for name in ("X", "S")}
    (expected,), (found,) = run(plain, **feeds), run(fused, **feeds)
    np.testing.assert_allclose(found, expected, rtol=8 * 2.0**-11, atol=8 * 2.0**-11)
