"""Changing the size of the images that a graph takes, where its network can take others."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx

from rc_deploy.errors import InputError, UnsupportedError, reason
from rc_deploy.graph import model as onnx_model

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

LARGEST_SIDE = 8192
# A batch that shapes are followed with: no layer has a size of that many, so it cannot be mistaken for one.
_PROBE = 257


@dataclass(frozen=True)
class ImageSize:
    """Height and width of an image, in pixels."""

    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> ImageSize:
        """Return the size written as "HxW", or "N" for a square. Raises InputError."""
        match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
        sides = [int(side or match[1]) for side in match.groups()] if match else [0]
        if min(sides) < 1 or max(sides) > LARGEST_SIDE:
            raise InputError(
                f"'{text}' is not the size of an image.",
                f"Write HEIGHTxWIDTH of 1 to {LARGEST_SIDE} pixels, e.g. --image 224x224, or N for a square.",
            )
        return cls(*sides)

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


def resized(model: ModelProto, size: ImageSize, name: str) -> ModelProto:
    """Return `model` for images of another size; what it says of its input changes with it.

    A network can take them if it ends in a pooling that leaves one value per channel whatever the size, as ResCNet
    does. Whether it does is seen from the shapes of the whole graph: a row of logits per image must come out.

    Args:
        model: an exported model, with input (N, C, H, W).
        size: of the images that it shall take.
        name: of the file it came from, for messages.

    Raises:
        UnsupportedError: the network is made for one size.
        InputError: the model does not say what its input is.
    """
    provenance = onnx_model.provenance(model, name)
    spec = provenance.input
    if (size.height, size.width) == spec.shape[1:]:
        return model
    shape = (spec.shape[0], size.height, size.width)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.value_info[:]  # they are of the old size
    _set_shape(changed.graph.input[0], shape)
    _require_logits(changed, len(spec.classes), f"{name} takes images of {spec.shape[1]}x{spec.shape[2]} only", size)
    inferred = onnx.shape_inference.infer_shapes(changed, data_prop=True)
    onnx_model.set_provenance(inferred, replace(provenance, input=replace(spec, shape=shape)))
    return inferred


def _set_shape(value: ValueInfoProto, shape: tuple[int, ...]) -> None:
    for dim, side in zip(value.type.tensor_type.shape.dim[1:], shape, strict=True):
        dim.dim_value = side


def _require_logits(model: ModelProto, classes: int, problem: str, size: ImageSize) -> None:
    """Follow the shapes of a batch through the graph. Raises UnsupportedError unless (N, classes) comes out."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    fixed = probe.graph.input[0].type.tensor_type.shape.dim[0]
    batch = fixed.dim_value or _PROBE
    fixed.dim_value = batch
    probe.graph.output[0].type.tensor_type.ClearField("shape")
    hint = "Leave --image out, or train and export the network for that size."
    try:
        found = onnx.shape_inference.infer_shapes(probe, strict_mode=True, data_prop=True).graph.output[0]
    except onnx.shape_inference.InferenceError as error:
        raise UnsupportedError(f"{problem}, not of {size}: {reason(error)}", hint) from None
    sizes = tuple(dim.dim_value for dim in found.type.tensor_type.shape.dim)
    if sizes != (batch, classes):
        raise UnsupportedError(
            f"{problem}: of {batch} images of {size} it would make logits of shape {sizes}, not {(batch, classes)}.",
            hint,
        )
