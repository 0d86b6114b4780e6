"""Handling a graph around its weights: they are most of its bytes, and most of what is done to it leaves them alone."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import ModelProto

# Bytes of one value of the types that weights have. Integers of 32 and 64 bits may be sizes, which decide over shapes.
_BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.FLOAT8E4M3FN: 1,
}
_FIELDS = {"name", "dims", "data_type", "raw_data", "doc_string"}
# Smaller ones are copied as fast as they are looked at.
_LARGE = 4096


def without_weights(model: ModelProto) -> ModelProto:
    """Return a copy without the initializers of the main graph."""
    light = onnx.ModelProto()
    _copy_fields(model, light, "graph")
    _copy_fields(model.graph, light.graph, "initializer")
    return light


def with_open_weights(model: ModelProto) -> ModelProto:
    """Return a copy in which large weights are inputs: as good as the model to whoever does not need their values.

    A weight that is unsound in any way stays as it is: whose bytes are not its shape's, whose name is not its own, that
    is said to be something else.
    """
    light = without_weights(model)
    names = Counter(value.name for value in (*light.graph.input, *model.graph.initializer))
    stated = {value.name: value for value in light.graph.value_info}
    for tensor in model.graph.initializer:
        kind = TensorProto.DataType.ValueType(tensor.data_type)
        value = onnx.helper.make_tensor_value_info(tensor.name, kind, tensor.dims)
        agreed = stated.get(tensor.name, value).type == value.type
        if names[tensor.name] == 1 and agreed and _is_large_and_sound(tensor):
            light.graph.input.append(value)
        else:
            light.graph.initializer.append(tensor)
    return light


def _is_large_and_sound(tensor: TensorProto) -> bool:
    fields = {field.name: value for field, value in tensor.ListFields()}
    length = len(fields.get("raw_data", b""))
    size = _BYTES.get(tensor.data_type, 0) * math.prod(tensor.dims)
    return length >= _LARGE and length == size and fields.keys() <= _FIELDS and min(tensor.dims, default=1) > 0


def _copy_fields(source: Message, target: Message, left_out: str) -> None:
    """Copy all fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == left_out:
            continue
        if hasattr(value, "ListFields"):
            getattr(target, field.name).CopyFrom(value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            setattr(target, field.name, value)
