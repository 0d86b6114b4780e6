"""Inlining of bodies, so that every name in the graph stays unique and says which node it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.inliner

from rc_deploy.graph.from_torch import MODULE_KEY
from rc_deploy.graph.weights import with_open_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onnx import FunctionProto, ModelProto, NodeProto


def inlined(model: ModelProto) -> ModelProto:
    """Return `model` without functions: for parsers that treat them differently, or have none of their own.

    A node out of a body is called CALL/NAME after the node that stood for it and the value in the body that it makes,
    e.g. "node_gclu/erf", and keeps that node's PyTorch module. A model that has no functions is returned itself.
    """
    if not model.functions:
        return model
    flat = _inlined_around_weights(model)
    origins = list(_origins(model.graph.node, {_key(function): function for function in model.functions}))
    if len(origins) != len(flat.graph.node):  # a body of other operator versions, which is rewritten on its way
        return flat
    for node, (call, made) in zip(flat.graph.node, origins, strict=True):
        if call:
            node.name = f"{call.name or call.output[0]}/{made}"
            node.metadata_props.extend(entry for entry in call.metadata_props if entry.key == MODULE_KEY)
    return flat


def _inlined_around_weights(model: ModelProto) -> ModelProto:
    """Return `model` with its functions inlined; the weights, most of its bytes, do not pass through onnx's inliner."""
    flat: ModelProto = onnx.inliner.inline_local_functions(with_open_weights(model))
    del flat.graph.input[:], flat.graph.initializer[:]
    flat.graph.input.extend(model.graph.input)
    flat.graph.initializer.extend(model.graph.initializer)
    return flat


def _key(named: FunctionProto) -> tuple[str, str, str]:
    return named.domain, named.name, named.overload


def _origins(
    nodes: Iterable[NodeProto], bodies: dict[tuple[str, str, str], FunctionProto], caller: NodeProto | None = None
) -> Iterator[tuple[NodeProto | None, str]]:
    """Yield, for every node after inlining, the graph's node that called the body it is in, and the value it makes."""
    for node in nodes:
        body = bodies.get((node.domain, node.op_type, node.overload))
        if body:
            yield from _origins(body.node, bodies, caller or node)
        else:
            yield caller, node.output[0]
