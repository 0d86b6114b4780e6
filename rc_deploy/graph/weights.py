"""Handling a graph around its weights: they are most of its bytes, and most of what is done to it leaves them alone."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

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
# The field of each message in which the weights are, down to their bytes.
_HOLDS_WEIGHTS: dict[type[Message], str] = {
    onnx.ModelProto: "graph",
    onnx.GraphProto: "initializer",
    onnx.TensorProto: "raw_data",
}
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


def serialised(model: ModelProto) -> bytes:
    """Return a model as the bytes of a file: what protobuf makes of it, deterministically, in half the time.

    Its own way copies weights four times: into a buffer that doubles whenever it is full, and out of that. Here each is
    copied out of the model and into the file. Fields that `onnx` does not know are left out.
    """
    return b"".join(_pieces(model))


def _pieces(message: Message) -> list[bytes]:
    """Return a message's bytes in pieces, with the weights in it apart."""
    inner_name = _HOLDS_WEIGHTS[type(message)]
    number = message.DESCRIPTOR.fields_by_name[inner_name].number
    before, after, inner = type(message)(), type(message)(), []
    for field, value in message.ListFields():
        if field.number == number:
            inner = list(value) if hasattr(value, "extend") else [value]
        else:
            _set(before if field.number < number else after, field.name, value)
    pieces = [before.SerializeToString(deterministic=True)]
    for value in inner:
        content = [value] if isinstance(value, bytes) else _pieces(value)
        # A tag, the length of what follows, and that.
        # https://protobuf.dev/programming-guides/encoding/#length-types
        pieces += [_varint(number << 3 | 2) + _varint(sum(map(len, content))), *content]
    return [*pieces, after.SerializeToString(deterministic=True)]


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first, the eighth set where more follow."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def _copy_fields(source: Message, target: Message, left_out: str) -> None:
    """Copy all fields of a message but one."""
    for field, value in source.ListFields():
        if field.name != left_out:
            _set(target, field.name, value)


def _set(message: Message, name: str, value: Any) -> None:
    """Copy a value into a field of a message, whatever kind of field it is."""
    if hasattr(value, "ListFields"):
        getattr(message, name).CopyFrom(value)
    elif hasattr(value, "extend"):
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)
