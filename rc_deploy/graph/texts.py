"""Names and texts of a model: a damaged file may hold some that are not Unicode, which protobuf hands out as bytes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message
    from onnx import ModelProto


def require_texts(model: ModelProto, name: str) -> None:
    """Require that every text in a model is Unicode. Raises InputError."""
    for field, text in _texts(model):
        if isinstance(text, bytes):
            raise InputError(
                f"The ONNX file {name} is truncated or corrupt: its {field} {text[:40]!r} is not text.",
                "Export or copy it again.",
            )


def _texts(message: Message) -> Iterator[tuple[str, Any]]:
    """Yield name and value of every field of text in a message and in those inside it."""
    for name, is_text, repeated in _fields(message.DESCRIPTOR):
        if not repeated and not message.HasField(name):
            continue
        value = getattr(message, name)
        for inner in value if repeated else (value,):
            if is_text:
                yield name, inner
            else:
                yield from _texts(inner)


@cache
def _fields(kind: Descriptor) -> list[tuple[str, bool, bool]]:
    """Return name of the fields that are or hold text, whether it is text itself, and whether there may be several.

    Not asked for are the others: a tensor's bytes would be copied.
    """
    return [
        (field.name, field.type == field.TYPE_STRING, not field.has_presence)
        for field in kind.fields
        if field.type in (field.TYPE_STRING, field.TYPE_MESSAGE)
    ]
