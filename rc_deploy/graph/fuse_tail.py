"""Fusion: a CalibratedResidual and the perceptron that predicts its statistics from A become one CalibratedTail.

    g = ReduceMean(A, positions)                                                                             (1)
    h = Gemm(g, W1, B1),  Mu = Gemm(h, W_mu, B_mu),  LogVar = Gemm(h, W_var, B_var)                          (2)
    CalibratedResidual(A, Mu, LogVar, Shortcut)  ->  CalibratedTail(A, Shortcut, W1, B1, W2, B2)             (3)

W2 and B2 are W_mu over W_var and B_mu over B_var. All weights are constants as PyTorch's Linear has them (transB = 1),
and nothing else uses g, h, Mu or LogVar. `fuse_residual` comes before it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rc_deploy.graph.rewrite import constant, only_user, replace
from rc_deploy.schema import CALIBRATED_RESIDUAL, CALIBRATED_TAIL, DOMAIN


def fuse_tail(model: ir.Model) -> int:
    """Rewrite every case of (3) in the main graph, in place; return how many there were."""
    return sum(_fuse(model.graph, node) for node in tuple(model.graph))


def _fuse(graph: ir.Graph, residual: ir.Node) -> bool:
    if (residual.domain, residual.op_type) != (DOMAIN, CALIBRATED_RESIDUAL.name):
        return False
    a, mu, log_var, shortcut = residual.inputs
    mean, variance = _linear(mu), _linear(log_var)
    if mean is None or variance is None or mean.inputs[0] is not variance.inputs[0]:
        return False
    squeeze = _linear(mean.inputs[0], users=2)
    pool = None if squeeze is None or squeeze.inputs[0] is None else squeeze.inputs[0].producer()
    if squeeze is None or pool is None or not _pools(pool, a) or only_user(pool.outputs[0], "Gemm") is None:
        return False
    stacked = [_stacked(graph, mean.inputs[index], variance.inputs[index]) for index in (1, 2)]
    inputs = [a, shortcut, squeeze.inputs[1], squeeze.inputs[2], *stacked]
    replace(graph, [pool, squeeze, mean, variance, residual], CALIBRATED_TAIL.name, inputs)
    return True


def _linear(value: ir.Value | None, users: int = 1) -> ir.Node | None:
    """Return the Gemm that makes `value` as PyTorch's Linear does, from constants, for that many users."""
    node = None if value is None or len(value.uses()) != users else value.producer()
    if node is None or node.op_type != "Gemm" or node.outputs[0].is_graph_output():
        return None
    defaults = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0}
    found = {name: node.attributes[name].value if name in node.attributes else defaults[name] for name in defaults}
    constants = len(node.inputs) == 3 and all(constant(weight) is not None for weight in node.inputs[1:])
    return node if constants and found == {**defaults, "transB": 1} else None


def _pools(node: ir.Node, a: ir.Value | None) -> bool:
    """Whether `node` is the mean of `a` over all its positions, (1)."""
    if node.op_type != "ReduceMean" or node.inputs[0] is not a or a is None or a.shape is None:
        return False
    keeps = "keepdims" not in node.attributes or node.attributes["keepdims"].value != 0
    axes = constant(node.inputs[1]) if len(node.inputs) == 2 else None
    return not keeps and axes is not None and sorted(axes.tolist()) == list(range(2, len(a.shape)))


def _stacked(graph: ir.Graph, first: ir.Value | None, second: ir.Value | None) -> ir.Value:
    """Return a new initializer, the first over the second."""
    upper, lower = constant(first), constant(second)
    assert first is not None and upper is not None and lower is not None  # noqa: PT018, S101 (_linear saw to it)
    name = f"{first.name}.stacked"
    value = ir.Value(name=name, const_value=ir.tensor(np.concatenate([upper, lower]), name=name))
    graph.register_initializer(value)
    return value
