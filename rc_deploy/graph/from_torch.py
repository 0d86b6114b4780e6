"""From a PyTorch network to an ONNX model with `rc` nodes."""

from __future__ import annotations

import logging
import warnings
from ast import literal_eval
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnx

from rc_deploy.errors import UnsupportedError
from rc_deploy.graph import bodies
from rc_deploy.schema import DOMAIN, GCLU, PLUGIN_ATTRIBUTES, RESPONSE_CALIBRATION, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from onnx import ModelProto
    from torch import nn

    from rc_deploy.specs import InputSpec

# Opset 20 and IR 10: read by ONNX Runtime 1.21 and later, TensorRT 10.12 and later, Triton's older ONNX Runtime.
DEFAULT_OPSET = 20
IR_VERSION = 10
INPUT, OUTPUT, BATCH = "input", "logits", "batch"
# Where PyTorch's exporter says which module a node came from, and where rc-deploy keeps it.
_SCOPES = "pkg.torch.onnx.name_scopes"
MODULE_KEY = "rc_deploy.module"


def onnx_from_module(
    network: nn.Module, spec: InputSpec, opset: int = DEFAULT_OPSET, static_batch: int | None = None
) -> ModelProto:
    """Return the ONNX model of a network in evaluation mode, with `rc` nodes, their bodies and BatchNorms folded.

    Args:
        network: takes (N, C, H, W) float32, gives logits (N, K).
        spec: of its input.
        opset: version of the standard ONNX operators.
        static_batch: batch size to write into the graph; None keeps it symbolic.

    Raises:
        UnsupportedError: PyTorch cannot export it.
    """
    import torch

    batch = static_batch or 2  # PyTorch takes sizes 0 and 1 for constants
    example = torch.zeros(batch, *spec.shape)
    dynamic = None if static_batch else ({0: torch.export.Dim(BATCH)},)
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
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
