"""What the fusion passes share: looking at values of an onnx-ir graph, and putting one `rc` node for several nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from onnx_ir import convenience

from rc_deploy.schema import DEFAULT_EPSILON, DOMAIN, PLUGIN_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the node that alone uses `value`, if it is a standard `op_type`; a graph's output has a further user."""
    if len(value.uses()) != 1 or value.is_graph_output():
        return None
    node = next(iter(value.uses())).node
    return node if (node.domain, node.op_type) == ("", op_type) else None


def same_shape(first: ir.Value | None, second: ir.Value | None) -> bool:
    """Whether both shapes are known and the same, names of symbolic sizes included."""
    if first is None or second is None or first.shape is None or second.shape is None:
        return False
    return list(first.shape) == list(second.shape) and None not in [
        getattr(size, "value", size) for size in first.shape
    ]


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """Return what an initializer holds; None for any other value."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def replace(graph: ir.Graph, nodes: Sequence[ir.Node], operator: str, inputs: Sequence[ir.Value | None]) -> None:
    """Put one `rc` node in the place of `nodes`, the last of which makes its output.

    It takes the name and metadata of the node that calibrates and its epsilon.
    """
    calibration = next(node for node in nodes if node.domain == DOMAIN)
    epsilon = calibration.attributes["epsilon"].value if "epsilon" in calibration.attributes else DEFAULT_EPSILON
    fused = ir.node(
        operator,
        inputs,
        {"epsilon": ir.AttrFloat32("epsilon", epsilon), **PLUGIN_ATTRIBUTES},
        domain=DOMAIN,
        num_outputs=1,
        name=calibration.name,
    )
    fused.metadata_props.update(calibration.metadata_props)
    last = nodes[-1]
    convenience.replace_nodes_and_values(graph, last, list(nodes), [fused], list(last.outputs), list(fused.outputs))
