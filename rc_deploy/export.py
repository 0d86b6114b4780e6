"""Export: from a checkpoint to an ONNX file with `rc` operators that is proven to compute the same."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy import __version__, checkpoint, data, models, tolerances
from rc_deploy.artefacts import Kind
from rc_deploy.compare import Comparison, compare
from rc_deploy.condition import condition
from rc_deploy.errors import InputError, ParityError
from rc_deploy.files import digest, require_file, sha256, write_bytes
from rc_deploy.graph import bodies
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.from_torch import DEFAULT_OPSET, onnx_from_module
from rc_deploy.graph.weights import serialised
from rc_deploy.optional import require
from rc_deploy.outputs import require_outputs
from rc_deploy.runners import OnnxRunner, TorchRunner
from rc_deploy.schema import GCLU, RESPONSE_CALIBRATION
from rc_deploy.specs import InputSpec, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto
    from torch import nn

PROOF_IMAGES = 4


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        opset: version of the standard ONNX operators; 18 to 23.
        factory: "module:callable" that builds the network, in place of the registered one.
        static_batch: write this batch size into the graph; None keeps it symbolic.
    """

    opset: int = DEFAULT_OPSET
    factory: str | None = None
    static_batch: int | None = None


@dataclass(frozen=True)
class ExportResult:
    """What was written, and the proof that it is right.

    Attributes:
        path: of the ONNX file.
        sha256: of the ONNX file.
        nodes: operators of the main graph, by name.
        rc_layers: `rc` nodes by operator; equal to the calls that the PyTorch network makes.
        comparison: of one batch with PyTorch.
        tolerance: that it met.
        seconds: that export and proof took.
    """

    path: Path
    sha256: str
    nodes: dict[str, int]
    rc_layers: dict[str, int]
    comparison: Comparison
    tolerance: tolerances.Tolerance
    seconds: float


def export(source: Path, output: Path, options: ExportOptions = ExportOptions()) -> ExportResult:
    """Write the network of a checkpoint as ONNX, after proving that the file computes what PyTorch computes.

    Args:
        source: the checkpoint.
        output: the ONNX file to write; any earlier one stays if anything fails.
        options: how.

    Raises:
        InputError: the checkpoint cannot be used, or its network does not give one logit per class.
        OutputError: `output` cannot be written, is `source`, or is another kind of artefact.
        UnsupportedError: PyTorch cannot export the network, or its architecture is unknown.
        ParityError: the graph misses `rc` layers, keeps BatchNorms, or differs from PyTorch.
    """
    start = time.perf_counter()
    require_outputs([(output, Kind.ONNX)], [source])
    require("onnxscript", "Export")
    source_sha256 = sha256(require_file(source, "checkpoint"))
    saved = checkpoint.load(source)
    network = saved.module(options.factory)
    calls = _rc_calls(network, saved.input)
    model = onnx_from_module(network, saved.input, options.opset, options.static_batch)
    onnx_model.set_provenance(
        model,
        onnx_model.Provenance(
            version=__version__,
            architecture=saved.architecture,
            arguments=saved.arguments,
            input=saved.input,
            precision=Precision.FP32,
            checkpoint_sha256=source_sha256,
        ),
    )
    onnx_model.check(model, "The exported model")
    _check_structure(model, calls)
    comparison, tolerance = _check_parity(model, network, saved.input, options)
    content = serialised(model)
    write_bytes(output, content)
    return ExportResult(
        path=output,
        sha256=digest(content),
        nodes=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        rc_layers=dict(calls),
        comparison=comparison,
        tolerance=tolerance,
        seconds=time.perf_counter() - start,
    )


def _rc_calls(network: nn.Module, spec: InputSpec) -> Counter[str]:
    """Count the calls that one forward pass makes of our modules: a module may be called more than once.

    Raises:
        InputError: the network cannot be run on what its checkpoint says it takes, or gives something else than logits.
    """
    from rc_deploy import nn as rc

    calls: Counter[str] = Counter()
    kinds = {rc.GCLU: GCLU.name, rc.ResponseCalibration: RESPONSE_CALIBRATION.name}
    handles = [
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for module in network.modules()
        for kind, name in kinds.items()
        if isinstance(module, kind)
    ]
    _require_logits(_run_once(network, spec), spec)
    for handle in handles:
        handle.remove()
    return calls


def _run_once(network: nn.Module, spec: InputSpec) -> object:
    """Return what a network gives for one image of zeros."""
    import torch

    images = torch.zeros(1, *spec.shape)
    try:
        with torch.inference_mode():
            return network(images)
    except Exception as error:
        raise InputError(
            f"The network cannot be run on images of shape {tuple(images.shape)}: {models.failure(error)}.",
            "Its forward must take one tensor (N, C, H, W), of the shape that the checkpoint says.",
        ) from error


def _require_logits(output: object, spec: InputSpec) -> None:
    """Require one tensor (1, K), with a logit for each of the K classes that the checkpoint names."""
    from torch import Tensor

    count = len(spec.classes)
    if isinstance(output, Tensor) and output.shape == (1, count):
        return
    found = f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise InputError(
        f"For one image the network gives {found}; it must give one tensor (N, K), here (1, {count}).",
        f"Its checkpoint names {count:,} classes: save one whose input.classes has a name for each logit, or wrap the "
        f"network in a factory that returns its logits alone: --model module:factory.",
    )


def _check_structure(model: ModelProto, calls: Counter[str]) -> None:
    """Require the `rc` nodes that the network's calls ask for, and no BatchNorm left."""
    nodes = Counter(node.op_type for node in bodies.rc_nodes(model))
    if nodes != calls:
        raise ParityError(
            f"The graph holds {dict(nodes)} rc nodes; the network calls {dict(calls)}.",
            "Calls of the operators outside rc_deploy.nn's modules are not counted: use the modules.",
        )
    left = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    if left:
        raise ParityError(
            f"{left} BatchNormalization nodes could not be folded into a convolution.",
            "Each BatchNorm must directly follow a convolution that nothing else uses.",
        )


def _check_parity(
    model: ModelProto, network: nn.Module, spec: InputSpec, options: ExportOptions
) -> tuple[Comparison, tolerances.Tolerance]:
    """Compare one batch of noise with PyTorch. Raises ParityError beyond the derived tolerance."""
    from rc_deploy.nn.roundings import roundings  # imports PyTorch

    noise = data.load("random:0", spec=spec).head(options.static_batch or PROOF_IMAGES)
    images = data.normalise(noise.images, spec)
    with TorchRunner(network) as torch_runner, OnnxRunner(model, bodies=True) as onnx_runner:
        reference = torch_runner.run(images)
        found = onnx_runner.run(images)
        rounded = roundings(network, spec.shape)
        kappa = condition(torch_runner, images, rounded)
        tolerance = tolerances.derive(rounded, Precision.FP32, reference, kappa)
    comparison = compare(reference, found)
    if tolerance.explained > tolerances.LARGEST_EXPLAINED:
        raise InputError(
            f"The network cannot be checked: float32 rounding alone changes its logits by {tolerance.explained:.0%}.",
            "Its weights are at fault, not the export: train it, or look for a layer that overflows or cancels.",
        )
    if not comparison.max_error <= tolerance.maximum:
        raise ParityError(
            f"The exported model differs from PyTorch by {comparison.max_error:.3g}; rounding explains at most "
            f"{tolerance.maximum:.3g}. Nothing was written.",
            "This is a bug in an operator's body or in PyTorch's exporter: please report it with the checkpoint.",
        )
    return comparison, tolerance
