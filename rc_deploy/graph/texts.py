"""Names and texts of a model: a damaged file may hold some that are not Unicode, which protobuf hands out as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        values = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value  # one, or several
        for inner in values:
            if field.type == field.TYPE_STRING:
                yield field.name, inner
            else:
                yield from _texts(inner)
