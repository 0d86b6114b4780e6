"""Fusion: a calibrated branch, the shortcut and the ReLU after them become one CalibratedResidual.

    ReLU(ResponseCalibration(A, Mu, LogVar) + Shortcut)  ->  CalibratedResidual(A, Mu, LogVar, Shortcut)      (1)

in either order of the sum's terms; where Shortcut has A's shape, and nothing else uses what lies in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rc_deploy.graph.rewrite import only_user, replace, same_shape
from rc_deploy.schema import CALIBRATED_RESIDUAL, DOMAIN, RESPONSE_CALIBRATION

if TYPE_CHECKING:
    import onnx_ir as ir


def fuse_residual(model: ir.Model) -> int:
    """Rewrite every case of (1) in the main graph, in place; return how many there were."""
    return sum(_fuse(model.graph, node) for node in tuple(model.graph))


def _fuse(graph: ir.Graph, calibration: ir.Node) -> bool:
    if (calibration.domain, calibration.op_type) != (DOMAIN, RESPONSE_CALIBRATION.name):
        return False
    add = only_user(calibration.outputs[0], "Add")
    relu = add and only_user(add.outputs[0], "Relu")
    if add is None or relu is None:
        return False
    shortcut = next((value for value in add.inputs if value is not calibration.outputs[0]), None)
    if not same_shape(calibration.inputs[0], shortcut):
        return False
    replace(graph, [calibration, add, relu], CALIBRATED_RESIDUAL.name, [*calibration.inputs, shortcut])
    return True
