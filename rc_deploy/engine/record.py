"""What a build writes into the manifest of what it was asked for."""

from __future__ import annotations

from dataclasses import fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from onnx import ModelProto

    from rc_deploy.specs import BatchRange


def options_as_json(options: DataclassInstance) -> dict[str, Any]:
    """Return options by name as JSON values: what JSON has no form for as its text, files by their names alone."""
    return {field.name: _plain(getattr(options, field.name)) for field in fields(options)}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, PurePath):
        return value.name
    return value if isinstance(value, bool | int | float | None) else str(value)


def profile_shapes(model: ModelProto, batch: BatchRange) -> dict[str, list[list[int]]]:
    """Return each input's smallest, fastest and largest shape."""
    sizes = (batch.minimum, batch.optimum, batch.maximum)
    shapes = {value.name: value.type.tensor_type.shape.dim[1:] for value in model.graph.input}
    return {name: [[size, *(dim.dim_value for dim in dims)] for size in sizes] for name, dims in shapes.items()}
