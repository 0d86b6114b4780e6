"""Fusion: a CalibratedResidual and the perceptron that predicts its statistics from A become one CalibratedTail.

    g = ReduceMean(A, positions)                                                                             (1)
    h = Gemm(g, W1, B1),  Mu = Gemm(h, W_mu, B_mu),  LogVar = Gemm(h, W_var, B_var)                          (2)
    CalibratedResidual(A, Mu, LogVar, Shortcut)  ->  CalibratedTail(A, Shortcut, W1, B1, W2, B2)             (3)

W2 and B2 are W_mu over W_var and B_mu over B_var. All weights are constants as PyTorch's Linear has them (transB = 1;
a bias of zeros may be left out), and nothing else uses g, h, Mu or LogVar. `fuse_residual` comes before it.

In a 16-bit graph (1) and (2) are float32, between casts of A, Mu and LogVar. The fused operator computes in float32 as
well, from weights in A's type; the casts go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from rc_deploy.graph.rewrite import constant, only_user, replace
from rc_deploy.schema import CALIBRATED_RESIDUAL, CALIBRATED_TAIL, DOMAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fuse_tail(model: ir.Model) -> int:
    """Rewrite every case of (3) in the main graph, in place; return how many there were."""
    return sum(_fuse(model.graph, node) for node in tuple(model.graph))


def _fuse(graph: ir.Graph, residual: ir.Node) -> bool:
    if (residual.domain, residual.op_type) != (DOMAIN, CALIBRATED_RESIDUAL.name):
        return False
    a, mu, log_var, shortcut = residual.inputs
    casts = [cast for cast in (_cast(mu), _cast(log_var)) if cast is not None]
    mean, variance = (_linear(cast.inputs[0]) for cast in casts) if len(casts) == 2 else (_linear(mu), _linear(log_var))
    if mean is None or variance is None or mean.inputs[0] is not variance.inputs[0]:
        return False
    squeeze = _linear(mean.inputs[0], users=2)
    pool = None if squeeze is None or squeeze.inputs[0] is None else squeeze.inputs[0].producer()
    if squeeze is None or pool is None or only_user(pool.outputs[0], "Gemm") is None:
        return False
    widened = _cast(pool.inputs[0]) if casts else None
    if not _pools(pool, a if widened is None else widened.outputs[0]) or (widened and widened.inputs[0] is not a):
        return False
    weights = {
        "W1": _weight(squeeze),
        "B1": _bias(squeeze),
        "W2": np.concatenate([_weight(mean), _weight(variance)]),
        "B2": np.concatenate([_bias(mean), _bias(variance)]),
    }
    narrow = casts[0].outputs[0].dtype if casts else None
    if narrow is not None:
        weights = {name: values.astype(narrow.numpy()) for name, values in weights.items()}
    initializers = [_initializer(graph, f"{residual.outputs[0].name}.{name}", weights[name]) for name in weights]
    nodes = [*([widened] if widened else []), pool, squeeze, mean, variance, *casts, residual]
    replace(graph, nodes, CALIBRATED_TAIL.name, [a, shortcut, *initializers])
    return True


def _cast(value: ir.Value | None) -> ir.Node | None:
    """Return the Cast that makes `value`, for one user."""
    node = None if value is None or len(value.uses()) != 1 else value.producer()
    return node if node is not None and (node.domain, node.op_type) == ("", "Cast") else None


def _linear(value: ir.Value | None, users: int = 1) -> ir.Node | None:
    """Return the Gemm that makes `value` as PyTorch's Linear does, from constants, for that many users."""
    node = None if value is None or len(value.uses()) != users else value.producer()
    if node is None or (node.domain, node.op_type) != ("", "Gemm") or node.outputs[0].is_graph_output():
        return None
    defaults = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0}
    found = {name: node.attributes[name].value if name in node.attributes else defaults[name] for name in defaults}
    weight, *biases = (constant(value) for value in node.inputs[1:])
    if weight is None or weight.ndim != 2:
        return None
    fits = all(bias is not None and bias.shape == weight.shape[:1] for bias in biases)
    return node if fits and found == {**defaults, "transB": 1} else None


def _pools(node: ir.Node, a: ir.Value | None) -> bool:
    """Whether `node` is the mean of `a` over all its positions, (1)."""
    if (node.domain, node.op_type) != ("", "ReduceMean") or node.inputs[0] is not a or a is None or a.shape is None:
        return False
    keeps = "keepdims" not in node.attributes or node.attributes["keepdims"].value != 0
    axes = constant(node.inputs[1]) if len(node.inputs) == 2 else None
    return not keeps and axes is not None and sorted(axes.tolist()) == list(range(2, len(a.shape)))


def _weight(linear: ir.Node) -> NDArray[Any]:
    weight = constant(linear.inputs[1])
    assert weight is not None  # noqa: S101 (_linear saw to it)
    return weight


def _bias(linear: ir.Node) -> NDArray[Any]:
    bias = constant(linear.inputs[2]) if len(linear.inputs) == 3 else None
    weight = _weight(linear)
    return np.zeros(len(weight), weight.dtype) if bias is None else bias


def _initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
