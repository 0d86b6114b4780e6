"""Reading ONNX files, and the facts that rc-deploy writes into them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
import onnx.checker
from google.protobuf.message import DecodeError
from onnx import TensorProto

from rc_deploy.artefacts import Kind, kind_of
from rc_deploy.decode import FormError, decode, parse
from rc_deploy.errors import InputError, reason
from rc_deploy.graph.bodies import rc_nodes
from rc_deploy.graph.bounds import require_bounded, require_finite_calls, require_own_weights
from rc_deploy.graph.describe import describe
from rc_deploy.graph.texts import require_texts
from rc_deploy.graph.weights import with_open_weights
from rc_deploy.schema import OPERATORS
from rc_deploy.specs import (  # noqa: TC001 (`decode` reads the annotations of Provenance)
    Calibration,
    InputSpec,
    Precision,
)

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto, ValueInfoProto

_KEY = "rc_deploy"


@dataclass(frozen=True)
class Provenance:
    """What an ONNX file says of itself, as one JSON text in its metadata under the key `rc_deploy`.

    Attributes:
        version: of rc-deploy, that wrote the file.
        architecture: of the network.
        arguments: of its factory.
        input: what it takes, what its outputs mean.
        precision: of weights and activations.
        checkpoint_sha256: of the checkpoint it was exported from.
        kept: names of nodes that stay float32 in a narrower graph.
        calibration: of a quantised graph.
    """

    version: str
    architecture: str
    arguments: dict[str, Any]
    input: InputSpec
    precision: Precision
    checkpoint_sha256: str
    kept: list[str] = field(default_factory=list)
    calibration: Calibration | None = None


def load(path: Path) -> ModelProto:
    """Read and check an ONNX file. Raises InputError as `read`."""
    return read(path)[0]


def read(path: Path) -> tuple[ModelProto, bytes]:
    """Read and check an ONNX file; return its bytes as well, which are hashed where it must be known what was read.

    Raises:
        InputError: missing, empty, not ONNX, damaged, invalid, or with `rc` nodes that have no body.
    """
    kind = kind_of(path)
    if kind is not Kind.ONNX:
        raise InputError(f"{path} is {kind.value}, not an ONNX file.", kind.advice)
    try:
        content = path.read_bytes()
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, OSError) as error:
        raise InputError(
            f"The ONNX file {path} is truncated or corrupt: {reason(error)}.", "Export or copy it again."
        ) from None
    require_texts(model, str(path))
    require_own_weights(model, str(path))
    require_finite_calls(model, str(path))
    check(model, str(path))
    return model, content


def require_classifier(model: ModelProto, spec: InputSpec, name: str) -> None:
    """Require one float32 input (N, C, H, W) of the shape in `spec`, and one float32 output (N, K), K its classes.

    Args:
        model: checked.
        spec: what the model says of its input.
        name: of the model, for the message.

    Raises:
        InputError: the graph has other in- or outputs, or asks for work or memory without bound.
    """
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    found = ([_signature(value) for value in inputs], [_signature(value) for value in model.graph.output])
    sizes = [*(value.type.tensor_type.shape.dim[:1] for value in (*inputs, *model.graph.output))]
    empty = any(dim.HasField("dim_value") and dim.dim_value == 0 for dims in sizes for dim in dims)
    if empty or found != ([("FLOAT", *spec.shape)], [("FLOAT", len(spec.classes))]):
        raise InputError(
            f"{name} has inputs {found[0]} and outputs {found[1]}, batch left out; its metadata ask for one float32 "
            f"image {spec.shape} and {len(spec.classes)} float32 logits.",
            "Export the network with `rc-deploy export`.",
        )
    require_bounded(model, name)


def _signature(value: ValueInfoProto) -> tuple[str | int, ...]:
    """Return a tensor's type and its shape but for the batch; a symbolic size is 0."""
    tensor = value.type.tensor_type
    return TensorProto.DataType.Name(tensor.elem_type), *(dim.dim_value for dim in tensor.shape.dim[1:])


def check(model: ModelProto, name: str) -> None:
    """Run onnx.checker's full check, and require a body for every `rc` node, each of an operator that is known.

    Args:
        model: to check.
        name: of the model, for the message.

    Raises:
        InputError: the model is invalid.
    """
    if not model.graph.node:
        raise InputError(f"{name} holds no operators at all.", "Export or copy it again.")
    unknown = sorted({node.op_type for node in rc_nodes(model)} - set(OPERATORS))
    if unknown:
        raise InputError(
            f"{name} uses {', '.join(f'rc.{operator}' for operator in unknown)}, which this rc-deploy does not know.",
            f"It knows {', '.join(f'rc.{operator}' for operator in OPERATORS)}: install the version that wrote it.",
        )
    bodies = {(function.name, function.overload) for function in model.functions}
    missing = sorted({node.op_type for node in rc_nodes(model) if (node.op_type, node.overload) not in bodies})
    if missing:
        raise InputError(
            f"{name} uses {', '.join(f'rc.{operator}' for operator in missing)} without a function body.",
            "It was stripped by another tool. Export it again: rc-deploy export CHECKPOINT MODEL.onnx",
        )
    try:
        onnx.checker.check_model(with_open_weights(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is not a valid ONNX model: {reason(error)}", "Export or copy it again.") from None


def set_provenance(model: ModelProto, provenance: Provenance) -> None:
    """Write `provenance` into the model's metadata, in place of any that is there, and in words for viewers."""
    document = asdict(provenance)
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key != _KEY}
    onnx.helper.set_model_props(model, {**kept, _KEY: json.dumps(document, sort_keys=True)})
    describe(model, provenance)


def provenance(model: ModelProto, name: str) -> Provenance:
    """Return what the model says of itself. Raises InputError where rc-deploy did not write it."""
    text = next((entry.value for entry in model.metadata_props if entry.key == _KEY), None)
    if text is None:
        raise InputError(
            f"{name} does not say what its inputs and outputs mean: it was not written by rc-deploy.",
            "Export it with rc-deploy, or give a checkpoint as the reference.",
        )
    try:
        return decode(Provenance, parse(text))
    except FormError as error:
        raise InputError(
            f"The metadata of {name} are damaged: {error}.",
            "Export it again: rc-deploy export CHECKPOINT MODEL.onnx",
        ) from None


def weight_bytes(model: ModelProto) -> dict[str, int]:
    """Return the bytes of initializers by ONNX type name, e.g. {"FLOAT16": 931220}."""
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        name = TensorProto.DataType.Name(tensor.data_type)
        sizes[name] = sizes.get(name, 0) + len(onnx.numpy_helper.to_array(tensor).tobytes())
    return sizes
