"""Raising a graph to the opset that a type needs, where only types were added to the operators that it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto
    from onnx.defs import OpSchema

# Opset 21 gave its scale another shape, which a signature does not show.
_CHANGED = {"GroupNormalization"}


def raise_opset(model: ModelProto, needed: int, name: str) -> None:
    """Raise the opset of a model and of its functions to `needed`, in place, where it is lower.

    An operator keeps its meaning if its inputs, outputs and attributes are among those of the newer version, and what
    that adds is types and attributes that may be left out. That is checked for every node.

    Args:
        model: to change.
        needed: version of the standard operators.
        name: of the model, for the message.

    Raises:
        InputError: an operator that was changed between the two versions.
    """
    own = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if own >= needed:
        return
    for node in _nodes(model):
        old, new = (onnx.defs.get_schema(node.op_type, version) for version in (own, needed))
        if node.op_type in _CHANGED or not _extends(new, old):
            raise InputError(
                f"Operator {node.op_type} of {name} is another one in opset {needed}, which this precision needs.",
                f"Export it with that opset: rc-deploy export CHECKPOINT MODEL.onnx --opset {needed}",
            )
    for imports in (model.opset_import, *(function.opset_import for function in model.functions)):
        for entry in imports:
            if entry.domain in ("", "ai.onnx"):
                entry.version = needed


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        yield from (node for node in nodes if node.domain in ("", "ai.onnx"))


def _extends(new: OpSchema, old: OpSchema) -> bool:
    same = all(
        [(value.name, value.option) for value in getattr(new, side)]
        == [(value.name, value.option) for value in getattr(old, side)]
        for side in ("inputs", "outputs")
    )
    added = [attribute for key, attribute in new.attributes.items() if key not in old.attributes]
    return same and old.attributes.keys() <= new.attributes.keys() and not any(item.required for item in added)
