"""Function bodies: executed by ONNX Runtime, they equal the float64 reference in every type and at the limits."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import reference
from conftest import plant_in_bodies
from rc_deploy.graph import bodies
from rc_deploy.schema import APPROXIMATIONS, PLUGIN_ATTRIBUTES
from rc_deploy.tolerances import GCLU_ARITHMETIC, RC_ARITHMETIC, operator_bound

TYPES: dict[str, tuple[int, Any]] = {
    "float32": (TensorProto.FLOAT, np.float32),
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}
INF, NAN = np.inf, np.nan
LIMITS = np.array([INF, -INF, NAN, 0.0, 1.0], np.float32)


def float_value(name: str, rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(f"{name}32", TensorProto.FLOAT, [f"{name}{axis}" for axis in range(rank)])


def model_of(nodes: list[onnx.NodeProto], ranks: dict[str, int], elem: int) -> onnx.ModelProto:
    """A model with float32 in- and outputs around `nodes`, which compute X_i -> Y_i in type `elem`."""
    casts_in = [helper.make_node("Cast", [f"{name}32"], [name], to=elem) for name in ranks]
    outputs = [output for node in nodes for output in node.output]
    casts_out = [helper.make_node("Cast", [name], [f"{name}32"], to=TensorProto.FLOAT) for name in outputs]
    graph = helper.make_graph(
        [*casts_in, *nodes, *casts_out],
        "test",
        [float_value(name, rank) for name, rank in ranks.items()],
        [float_value(name, next(iter(ranks.values()))) for name in outputs],
        value_info=[helper.make_tensor_value_info(name, elem, [None] * rank) for name, rank in ranks.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("rc", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    bodies.attach_bodies(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, **inputs: Any) -> list[reference.Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {f"{name}32": np.asarray(value, np.float32) for name, value in inputs.items()}
    return [output.astype(np.float64) for output in session.run(None, feeds)]


def gclu_node(approximate: str, x: str = "X", y: str = "Y") -> onnx.NodeProto:
    return helper.make_node("GCLU", [x], [y], domain="rc", approximate=approximate, **PLUGIN_ATTRIBUTES)


def calibration_node(epsilon: float = 1e-5) -> onnx.NodeProto:
    return helper.make_node(
        "ResponseCalibration", ["A", "Mu", "LogVar"], ["Y"], domain="rc", epsilon=epsilon, **PLUGIN_ATTRIBUTES
    )


def calibration_feeds(rng: np.random.Generator, shape: tuple[int, ...], numpy_type: Any) -> dict[str, Any]:
    feeds = {
        "A": 3 * rng.standard_normal(shape),
        "Mu": rng.standard_normal(shape[:2]),
        "LogVar": rng.uniform(-20, 8, shape[:2]),
    }
    return {name: value.astype(numpy_type).astype(np.float32) for name, value in feeds.items()}


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_gclu_body(dtype: str, approximate: str) -> None:
    elem, numpy_type = TYPES[dtype]
    x = np.linspace(-14, 14, 20_001).astype(numpy_type).astype(np.float64)
    (found,) = run(model_of([gclu_node(approximate)], {"X": 1}, elem), X=x)
    exact = reference.gclu(x, approximate)
    assert np.all(np.abs(found - exact) <= operator_bound(dtype, GCLU_ARITHMETIC, np.abs(x), np.abs(exact)))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 5, 7), (2, 3, 2, 3, 4), (0, 3, 4, 4)])
@pytest.mark.parametrize("dtype", TYPES)
def test_calibration_body(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    elem, numpy_type = TYPES[dtype]
    feeds = calibration_feeds(rng, shape, numpy_type)
    model = model_of([calibration_node()], {"A": len(shape), "Mu": 2, "LogVar": 2}, elem)
    (found,) = run(model, **feeds)
    exact = reference.response_calibration(feeds["A"], feeds["Mu"], feeds["LogVar"])
    bound = operator_bound(dtype, RC_ARITHMETIC, np.abs(feeds["A"].astype(np.float64)), np.abs(exact))
    assert found.shape == shape
    assert np.all(np.abs(found - exact) <= bound)


def test_epsilon_reaches_the_body(rng: np.random.Generator) -> None:
    feeds = calibration_feeds(rng, (2, 3, 5, 7), np.float32)
    model = model_of([calibration_node(0.5)], {"A": 4, "Mu": 2, "LogVar": 2}, TensorProto.FLOAT)
    (found,) = run(model, **feeds)
    exact = reference.response_calibration(feeds["A"], feeds["Mu"], feeds["LogVar"], 0.5)
    np.testing.assert_allclose(found, exact, rtol=RC_ARITHMETIC * 2.0**-24)
    assert not np.allclose(found, reference.response_calibration(feeds["A"], feeds["Mu"], feeds["LogVar"]))


@pytest.mark.parametrize(
    ("operator", "old", "new"),
    [
        ("GCLU", "0.5", "0.51"),
        ("GCLU", "Add (positive, calibration)", "Sub (positive, calibration)"),
        ("ResponseCalibration", "Sub (finite, mu)", "Add (finite, mu)"),
        ("ResponseCalibration", "@epsilon", "1e-6"),
        ("ResponseCalibration", "Mul (wide_log_var, half)", "Identity (wide_log_var)"),
    ],
)
def test_wrong_body_is_caught(operator: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test = test_gclu_body if operator == "GCLU" else test_calibration_body
    arguments = ("float32", "none") if operator == "GCLU" else ("float32", (2, 3, 5, 7), np.random.default_rng(0))
    plant_in_bodies(monkeypatch, old, new)
    with pytest.raises(AssertionError):
        test(*arguments)


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_gclu_limits(dtype: str, approximate: str) -> None:
    (found,) = run(model_of([gclu_node(approximate)], {"X": 1}, TYPES[dtype][0]), X=LIMITS)
    assert found[0] == INF
    assert found[1] == 0
    assert np.isnan(found[2])
    assert found[3] == 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("a", "mu", "log_var", "expected"),
    [
        (INF, 0, 0, INF), (-INF, 0, 0, -INF), (2, 2, -INF, 3), (2, 1, -INF, 2), (2, 1, INF, 3), (2, 6e4, 0, 2),
        (2, INF, 0, 2), (NAN, 0, 0, NAN), (2, NAN, 0, NAN), (2, 0, NAN, NAN), (INF, NAN, 0, NAN),
    ],
)  # fmt: skip
def test_calibration_limits(dtype: str, a: float, mu: float, log_var: float, expected: float) -> None:
    model = model_of([calibration_node()], {"A": 3, "Mu": 2, "LogVar": 2}, TYPES[dtype][0])
    (found,) = run(model, A=[[[a]]], Mu=[[mu]], LogVar=[[log_var]])
    np.testing.assert_array_equal(found, [[[expected]]])


def test_mixed_variants_of_one_operator_share_a_file(rng: np.random.Generator) -> None:
    nodes = [gclu_node("none", "X", "Y"), gclu_node("sigmoid", "X", "Z"), gclu_node("none", "Y", "V")]
    model = model_of(nodes, {"X": 2}, TensorProto.FLOAT)
    assert [function.overload for function in model.functions] == ["none", "sigmoid"]
    x = rng.standard_normal((3, 5))
    y, z, v = run(model, X=x)
    x = x.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(y, reference.gclu(x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(z, reference.gclu(x, "sigmoid"), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(v, reference.gclu(reference.gclu(x)), rtol=1e-6, atol=1e-6)


def test_unknown_operator_is_refused() -> None:
    node = helper.make_node("Gelu", ["X"], ["Y"], domain="rc")
    with pytest.raises(ValueError, match="no operator rc.Gelu"):
        model_of([node], {"X": 2}, TensorProto.FLOAT)
