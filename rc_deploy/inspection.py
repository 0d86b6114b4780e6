"""Inspect: what a file of the pipeline holds, as JSON values and as one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rc_deploy import checkpoint, manifest
from rc_deploy.artefacts import Kind, kind_of
from rc_deploy.engine.readback import program_types
from rc_deploy.errors import InputError
from rc_deploy.files import sha256
from rc_deploy.graph import bodies
from rc_deploy.graph import model as onnx_model

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Inspection:
    """What a file holds: a verdict in one line, and details by section."""

    verdict: str
    details: dict[str, Any]


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
    return Inspection(found.verdict, {"file": file, **found.details})


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
    operators = Counter(node.op_type for node in model.graph.node)
    rc_nodes = Counter(node.op_type for node in bodies.rc_nodes(model))
    details: dict[str, Any] = {
        "graph": {"ir_version": model.ir_version, "opsets": opsets, "producer": model.producer_name},
        "inputs": {value.name: _shape(value) for value in model.graph.input},
        "outputs": {value.name: _shape(value) for value in model.graph.output},
        "operators": dict(operators.most_common()),
        "rc layers": dict(rc_nodes),
        "weight bytes": onnx_model.weight_bytes(model),
    }
    try:
        provenance = onnx_model.provenance(model, str(path))
    except InputError as error:
        return Inspection(f"ONNX of {len(model.graph.node)} nodes. {error}", details)
    details["provenance"] = asdict(provenance)
    verdict = f"{provenance.precision} ONNX of {provenance.architecture}: {len(model.graph.node)} nodes, "
    return Inspection(verdict + f"{sum(rc_nodes.values())} of them rc operators with bodies", details)


def _shape(value: Any) -> list[Any]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _engine(path: Path) -> Inspection:
    record = manifest.read(path)
    tensors, weights = program_types(path.read_bytes())
    details = {
        "manifest": asdict(record),
        "types in the engine": {"tensors": tensors, "weight bytes": weights},
    }
    verdict = (
        f"{record.precision['asked']} engine for {record.backend['name']} {record.backend['version']}, compute "
        f"capability {', '.join(record.compute_capabilities)}, batch {record.batch}"
    )
    return Inspection(verdict, details)
