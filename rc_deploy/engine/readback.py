"""Reading back what was built: an engine may only call itself fp16 if its layers and weights are.

Two independent readings, both without a GPU:

- the types of the library's own layers after it parsed the graph, which a strongly typed build obeys;
- the program text that the compiler of TensorRT and TensorRT-RTX leaves in a serialised engine, one record
  `tensor={ ... type=half }` per tensor, with `const_payload_size` for weights.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import BuildError
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from rc_deploy.engine.settings import Compiled
    from rc_deploy.graph.plan import Plan

# Layers that do the arithmetic; the others move, convert or combine tensors, or compute RC in float32 by contract.
COMPUTE_LAYERS = {"CONVOLUTION", "MATRIX_MULTIPLY", "DECONVOLUTION"}
_LAYER_TYPE = {
    Precision.FP32: "FLOAT",
    Precision.FP16: "HALF",
    Precision.BF16: "BF16",
    Precision.INT8: "INT8",
    Precision.FP8: "FP8",
}
_ENGINE_TYPE = {
    Precision.FP32: "float",
    Precision.FP16: "half",
    Precision.BF16: "bf16",
    Precision.INT8: "int8",
    Precision.FP8: "fp8_e4m3",
}
# Of the weights that should be narrow, so much must be found: what a library folds into another constant goes missing.
LEAST_WEIGHT_SHARE = 0.9
# A record ends before the next begins: else a file of beginnings alone would be searched in quadratic time.
_TENSOR = re.compile(rb"tensor=\{ ((?:(?!tensor=\{)[^\n]){0,4000}?) type=(\w{1,40}) \}")
_PAYLOAD = re.compile(rb"const_payload_size=(\d+)")


@dataclass(frozen=True)
class Readback:
    """Types found in a build.

    Attributes:
        compute_layers: convolutions and matrix products by type, e.g. {"HALF": 34}.
        other_layers: all other layers by type.
        engine_tensors: tensors named in the engine's program text by type, e.g. {"half": 152}; empty if it has none.
        engine_weight_bytes: bytes of weights named there by type.
    """

    compute_layers: dict[str, int]
    other_layers: dict[str, int]
    engine_tensors: dict[str, int]
    engine_weight_bytes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    def verdict(self) -> str:
        """Return what was found in one line."""
        total = sum(self.compute_layers.values())
        layers = ", ".join(f"{count}/{total} {kind.lower()}" for kind, count in self.compute_layers.items())
        weights = ", ".join(f"{size:,} B {kind}" for kind, size in self.engine_weight_bytes.items())
        return f"convolutions and matrix products: {layers}; weights in the engine: {weights or 'not readable'}"


def read_back(compiled: Compiled) -> Readback:
    """Read the types that a build holds."""
    compute: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for kind, dtype in compiled.layer_types.values():
        (compute if kind in COMPUTE_LAYERS else other)[dtype] += 1
    tensors, weights = program_types(compiled.engine)
    return Readback(dict(compute), dict(other), tensors, weights)


def layers_by_type(compiled: Compiled) -> dict[str, list[str]]:
    """Return the names of the library's layers by "KIND TYPE", e.g. {"CONVOLUTION HALF": ["3:conv_1"]}."""
    found: dict[str, list[str]] = {}
    for name, (kind, dtype) in compiled.layer_types.items():
        found.setdefault(f"{kind} {dtype}", []).append(name)
    return found


def program_types(engine: bytes | memoryview) -> tuple[dict[str, int], dict[str, int]]:
    """Return tensors, and bytes of weights, by type, from the program text in a serialised engine."""
    tensors: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for record, kind in _TENSOR.findall(engine):
        tensors[kind.decode()] += 1
        if payload := _PAYLOAD.search(record):
            weights[kind.decode()] += int(payload[1])
    return dict(tensors.most_common()), dict(weights.most_common())


def require_precision(found: Readback, asked: Precision, plan: Plan, has_weights: bool = True) -> None:
    """Raise BuildError unless the build holds what was asked for.

    As many convolutions and matrix products as were planned must have the type asked for, no more than were planned may
    be float32, and none may be of another type. Of the bytes of weights that were planned to have the type asked for,
    `LEAST_WEIGHT_SHARE` must be there, where the engine's program text can be read: float32 constants of the library's
    own, scales and literals, which outweigh the weights of a very small network, say nothing; nor does an engine that
    was built without its weights.
    """
    layers = dict(found.compute_layers)
    narrow = layers.pop(_LAYER_TYPE[asked], 0)
    wide = layers.pop(_LAYER_TYPE[Precision.FP32], 0)
    held = found.engine_weight_bytes.get(_ENGINE_TYPE[asked], 0)
    short = has_weights and bool(found.engine_weight_bytes) and held < LEAST_WEIGHT_SHARE * plan.narrow_bytes
    if not narrow or narrow < plan.narrow or wide > plan.wide or layers or short:
        raise BuildError(
            f"The engine is not {asked}: {found.verdict()}; {plan.narrow} layers should be {asked} and "
            f"{plan.wide} float32. Nothing was written.",
            "Build from the float32 file that `rc-deploy export` wrote; its types decide.",
        )
