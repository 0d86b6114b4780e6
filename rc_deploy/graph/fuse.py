"""Fusion of an exported graph: the residual blocks' ends become single `rc` operators, with bodies of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from rc_deploy.graph.bodies import attach_bodies
from rc_deploy.graph.fuse_residual import fuse_residual
from rc_deploy.graph.fuse_tail import fuse_tail

if TYPE_CHECKING:
    from onnx import ModelProto


def fused(model: ModelProto) -> ModelProto:
    """Return `model` with every fusion made that fits; what does not fit stays as it is. It computes the same."""
    graph = ir.from_proto(model)
    fuse_residual(graph)
    fuse_tail(graph)
    RemoveUnusedNodesPass()(graph)
    result = ir.to_proto(graph)
    attach_bodies(result)
    return result
