"""Inspect: what a file of the pipeline holds, as JSON values and as one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

from rc_deploy import checkpoint, manifest
from rc_deploy.artefacts import Kind, kind_of
from rc_deploy.decode import clean
from rc_deploy.engine.readback import COMPUTE_LAYERS, program_types
from rc_deploy.errors import InputError
from rc_deploy.files import sha256
from rc_deploy.graph import bodies
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.layers import COMPUTE
from rc_deploy.graph.types import with_types

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import ModelProto, NodeProto, ValueInfoProto

# ONNX and the libraries call types differently; people read one set of names.
_WORDS = {
    "FLOAT": "float",
    "FLOAT16": "half",
    "HALF": "half",
    "BFLOAT16": "bfloat16",
    "BF16": "bfloat16",
    "FLOAT8E4M3FN": "fp8",
}
_UNKNOWN = "?"


@dataclass(frozen=True)
class Inspection:
    """What a file holds: a verdict in one line, details by section, and its layers as rows of one table."""

    verdict: str
    details: dict[str, Any]
    layers: list[dict[str, Any]] = field(default_factory=list)


def inspect(path: Path) -> Inspection:
    """Say what a checkpoint, an ONNX file or an engine holds; runs and loads nothing of it.

    Raises:
        InputError: the file cannot be read.
        MissingDependencyError: a checkpoint, without PyTorch.
    """
    kind = kind_of(path)
    reader = {Kind.CHECKPOINT: _checkpoint, Kind.ONNX: _onnx, Kind.ENGINE: _engine}[kind]
    found = reader(path)
    file = {"path": str(path), "kind": kind.name.lower(), "bytes": path.stat().st_size, "sha256": sha256(path)}
    return Inspection(found.verdict, {"file": file, **found.details}, found.layers)


def _checkpoint(path: Path) -> Inspection:
    saved = checkpoint.load(path)
    count = sum(tensor.numel() for tensor in saved.weights.values())
    metrics = {key: value for key, value in saved.metrics.items() if not isinstance(value, list)}
    details = {
        "network": {"architecture": saved.architecture, **saved.arguments, "values in state dict": count},
        "input": saved.input.to_json(),
        "recipe": saved.recipe,
        "metrics": metrics,
    }
    return Inspection(f"checkpoint: {saved.architecture}, {count:,} values", details)


def _onnx(path: Path) -> Inspection:
    model = onnx_model.load(path)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    layers = onnx_layers(model)
    rc_nodes = Counter(node.op_type for node in bodies.rc_nodes(model))
    producer = f"{model.producer_name} {model.producer_version}".strip()
    details: dict[str, Any] = {
        "graph": {"ir_version": model.ir_version, "opsets": opsets, "producer": producer},
        "inputs": {value.name: _shape(value) for value in model.graph.input},
        "outputs": {value.name: _shape(value) for value in model.graph.output},
        "operators": dict(Counter(layer["operator"] for layer in layers).most_common()),
        "rc layers": dict(rc_nodes),
        "weight bytes": onnx_model.weight_bytes(model),
    }
    shares = f"{_shares(layers, COMPUTE)}; {rc_nodes.total()} rc nodes with bodies"
    try:
        provenance = onnx_model.provenance(model, str(path))
    except InputError as error:
        return Inspection(f"ONNX of {len(layers)} nodes: {shares}. {error}", details, layers)
    details["provenance"] = asdict(provenance)
    return Inspection(f"{provenance.precision} ONNX of {clean(provenance.architecture)}: {shares}", details, layers)


def onnx_layers(model: ModelProto) -> list[dict[str, Any]]:
    """Return a row for each node: name, operator, type and shape of its first output, bytes of weights it brings.

    A weight that several nodes share counts at the first of them. "?" stands for what the file leaves open.
    """
    values = _values(model)
    weights = {tensor.name: len(onnx.numpy_helper.to_array(tensor).tobytes()) for tensor in model.graph.initializer}
    return [_onnx_layer(node, values, weights) for node in model.graph.node]


def _values(model: ModelProto) -> dict[str, ValueInfoProto]:
    """Return what is known of every tensor; inferred where the file itself does not say it."""
    graph = with_types(model).graph
    return {value.name: value for value in (*graph.value_info, *graph.output)}


def _onnx_layer(node: NodeProto, values: Mapping[str, ValueInfoProto], weights: dict[str, int]) -> dict[str, Any]:
    output = values.get(node.output[0]) if node.output else None
    return {
        "name": clean(node.name),
        "operator": clean(f"{node.domain}.{node.op_type}" if node.domain else node.op_type),
        "type": _type(output),
        "shape": _shape(output) if output else _UNKNOWN,
        "weight bytes": sum(weights.pop(name, 0) for name in node.input),
    }


def _type(value: ValueInfoProto | None) -> str:
    kind = value.type.tensor_type.elem_type if value else 0
    names = TensorProto.DataType
    return _word(names.Name(kind)) if kind and kind in names.values() else _UNKNOWN


def _word(name: str) -> str:
    return _WORDS.get(name, clean(name.lower()))


def _shape(value: ValueInfoProto) -> list[Any]:
    return [clean(dim.dim_param) or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _shares(layers: list[dict[str, Any]], compute: set[str]) -> str:
    """Return in words which share of the layers is of which type: those that compute, and all."""
    computing = [layer for layer in layers if layer["operator"] in compute]
    words = f"convolutions and matrix products {_percent(computing)}" if computing else "no convolutions"
    return f"{words}; all layers {_percent(layers)}"


def _percent(layers: list[dict[str, Any]]) -> str:
    counts = Counter(layer["type"] for layer in layers)
    return ", ".join(f"{count / len(layers):.0%} {kind}" for kind, count in counts.most_common())


def _engine(path: Path) -> Inspection:
    record = manifest.read(path)
    tensors, weights = program_types(path.read_bytes())
    layers = engine_layers(record)
    facts = {key: value for key, value in asdict(record).items() if key != "layers"}
    details = {"manifest": facts, "types in the engine": {"tensors": tensors, "weight bytes": weights}}
    made = f"{clean(record.precision['asked'])} engine for {clean(record.backend['name'])}"
    return Inspection(f"{made}: {_shares(layers, COMPUTE_LAYERS)}; {_rc_nodes(path, record, layers)}", details, layers)


def engine_layers(record: manifest.Manifest) -> list[dict[str, Any]]:
    """Return a row for each layer that was read back when the engine was built: name, operator, type, how it runs."""
    rows = []
    for words, names in record.layers.items():
        kind, _, dtype = clean(words).partition(" ")
        runs = "plugin" if kind.startswith("PLUGIN") else "native"
        for label in names:
            place, _, name = clean(label).partition(":")
            rows.append((place, {"name": name, "operator": kind, "type": _word(dtype or _UNKNOWN), "runs": runs}))
    return [row for _, row in sorted(rows, key=lambda item: (len(item[0]), item[0]))]


def _rc_nodes(path: Path, record: manifest.Manifest, layers: list[dict[str, Any]]) -> str:
    """Return in words how many `rc` nodes became plugins, and how many the library's own layers."""
    total = len(list(bodies.rc_nodes(onnx_model.load(path.with_name(record.typed_onnx.name)))))
    plugins = sum(layer["runs"] == "plugin" for layer in layers)
    native = max(total - plugins, 0)
    return ", ".join(f"{count} rc nodes {word}" for count, word in ((plugins, "plugins"), (native, "native")) if count)
