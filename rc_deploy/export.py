"""Export: from a checkpoint to an ONNX file with `rc` operators that is proven to compute the same."""

from __future__ import annotations

import logging
import time
import warnings
from ast import literal_eval
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from rc_deploy import __version__, checkpoint, data, tolerances
from rc_deploy.compare import Comparison, compare
from rc_deploy.condition import condition
from rc_deploy.errors import ParityError, UnsupportedError
from rc_deploy.files import require_writable, sha256, write_bytes
from rc_deploy.graph import bodies
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.roundings import roundings
from rc_deploy.optional import require
from rc_deploy.runners import OnnxRunner, TorchRunner
from rc_deploy.schema import DOMAIN, GCLU, PLUGIN_ATTRIBUTES, RESPONSE_CALIBRATION, VERSION
from rc_deploy.specs import InputSpec, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from onnx import ModelProto
    from torch import nn

# Opset 20 and IR 10: read by ONNX Runtime 1.21 and later, TensorRT 10.12 and later, Triton's older ONNX Runtime.
DEFAULT_OPSET = 20
IR_VERSION = 10
INPUT, OUTPUT, BATCH = "input", "logits", "batch"
PROOF_IMAGES = 4
_SCOPES = "pkg.torch.onnx.name_scopes"
MODULE_KEY = "rc_deploy.module"


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
        InputError: the checkpoint cannot be used.
        OutputError: `output` cannot be written.
        UnsupportedError: PyTorch cannot export the network, or its architecture is unknown.
        ParityError: the graph misses `rc` layers, keeps BatchNorms, or differs from PyTorch.
    """
    start = time.perf_counter()
    require_writable(output)
    require("onnxscript", "Export")
    saved = checkpoint.load(source)
    network = saved.module(options.factory)
    calls = _rc_calls(network, saved.input)
    model = onnx_from_module(network, saved.input, options)
    onnx_model.set_provenance(
        model,
        onnx_model.Provenance(
            version=__version__,
            architecture=saved.architecture,
            arguments=saved.arguments,
            input=saved.input,
            precision=Precision.FP32,
            checkpoint_sha256=sha256(source),
        ),
    )
    onnx_model.check(model, "The exported model")
    _check_structure(model, calls)
    comparison, tolerance = _check_parity(model, network, saved.input, options)
    write_bytes(output, model.SerializeToString(deterministic=True))
    return ExportResult(
        path=output,
        sha256=sha256(output),
        nodes=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        rc_layers=dict(calls),
        comparison=comparison,
        tolerance=tolerance,
        seconds=time.perf_counter() - start,
    )


def onnx_from_module(network: nn.Module, spec: InputSpec, options: ExportOptions) -> ModelProto:
    """Return the ONNX model of a network in evaluation mode, with `rc` nodes, their bodies and BatchNorms folded.

    Args:
        network: takes (N, C, H, W) float32, gives logits (N, K).
        spec: of its input.
        options: opset and batch size.

    Raises:
        UnsupportedError: PyTorch cannot export it.
    """
    import torch

    batch = options.static_batch or 2  # PyTorch takes sizes 0 and 1 for constants
    example = torch.zeros(batch, *spec.shape)
    dynamic = None if options.static_batch else ({0: torch.export.Dim(BATCH)},)
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=options.opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=dynamic,
                custom_translation_table=_translations(),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UnsupportedError(
            f"PyTorch could not export the network: {reason}",
            "Networks must be traceable by torch.export: no data-dependent control flow in forward().",
        ) from error
    if program is None:
        raise UnsupportedError("PyTorch exported nothing.", "Use a PyTorch release that rc-deploy supports.")
    model: ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "rc-deploy", __version__
    _name_modules(model)
    bodies.attach_bodies(model)
    return model


def _translations() -> dict[Any, Callable[..., Any]]:
    """Return how PyTorch's exporter writes our custom operators.

    It keeps a node only where the translation returns an `Op` call with a schema; a function would be inlined.
    """
    import torch
    from onnxscript import values

    import rc_deploy.nn  # noqa: F401 (registers torch.ops.rc)

    domain = values.Opset(DOMAIN, VERSION)
    gclu = values.Op(domain, GCLU.name, _op_schema(GCLU.name, GCLU.inputs, "approximate"))
    calibration = values.Op(
        domain,
        RESPONSE_CALIBRATION.name,
        _op_schema(RESPONSE_CALIBRATION.name, RESPONSE_CALIBRATION.inputs, "epsilon"),
    )

    def translate_gclu(x: Any, approximate: str = "none") -> Any:
        return gclu(x, approximate=approximate, **PLUGIN_ATTRIBUTES)

    def translate_calibration(a: Any, mu: Any, log_var: Any, epsilon: float = 1e-5) -> Any:
        return calibration(a, mu, log_var, epsilon=epsilon, **PLUGIN_ATTRIBUTES)

    return {
        torch.ops.rc.gclu.default: translate_gclu,
        torch.ops.rc.response_calibration.default: translate_calibration,
    }


def _op_schema(name: str, inputs: tuple[str, ...], attribute: str) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    kinds = {"epsilon": schema.AttrType.FLOAT}
    return schema(
        name,
        DOMAIN,
        VERSION,
        inputs=[schema.FormalParameter(parameter, "T") for parameter in inputs],
        outputs=[schema.FormalParameter("Y", "T")],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "")],
        attributes=[
            schema.Attribute(key, kinds.get(key, schema.AttrType.STRING), "") for key in (attribute, *PLUGIN_ATTRIBUTES)
        ],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what PyTorch's exporter says of packages that it misses and of its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _name_modules(model: ModelProto) -> None:
    """Keep of each node's metadata only the PyTorch module it came from; the rest holds paths of this machine."""
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        path = literal_eval(scopes)
        del node.metadata_props[:]
        node.doc_string = ""
        if len(path) > 1:
            node.metadata_props.add(key=MODULE_KEY, value=path[-2])
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del value.metadata_props[:]
    del graph.metadata_props[:]


def _rc_calls(network: nn.Module, spec: InputSpec) -> Counter[str]:
    """Count the calls that one forward pass makes of our modules: a module may be called more than once."""
    import torch

    from rc_deploy import nn as rc

    calls: Counter[str] = Counter()
    kinds = {rc.GCLU: GCLU.name, rc.ResponseCalibration: RESPONSE_CALIBRATION.name}
    handles = [
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for module in network.modules()
        for kind, name in kinds.items()
        if isinstance(module, kind)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, *spec.shape))
    for handle in handles:
        handle.remove()
    return calls


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
    noise = data.load("random:0", spec=spec).head(options.static_batch or PROOF_IMAGES)
    images = data.normalise(noise.images, spec)
    with TorchRunner(network) as torch_runner, OnnxRunner(model) as onnx_runner:
        reference = torch_runner.run(images)
        found = onnx_runner.run(images)
        rounded = roundings(model)
        tolerance = tolerances.derive(rounded, reference, condition(torch_runner, images, rounded))
    comparison = compare(reference, found)
    if not comparison.max_error <= tolerance.maximum:
        raise ParityError(
            f"The exported model differs from PyTorch by {comparison.max_error:.3g}; rounding explains at most "
            f"{tolerance.maximum:.3g}. Nothing was written.",
            "This is a bug in an operator's body or in PyTorch's exporter: please report it with the checkpoint.",
        )
    return comparison, tolerance
