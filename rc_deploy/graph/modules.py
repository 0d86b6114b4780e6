"""The PyTorch modules behind a graph: which tensor holds the output of each, and how to look at those tensors.

`rc-deploy export` keeps of every node the path of the module that it came from; conversion to another precision keeps
it too. A module's output is what the last of its nodes, its submodules' included, makes: all others of them feed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import TensorProto

from rc_deploy.errors import InputError, reason
from rc_deploy.graph.from_torch import MODULE_KEY
from rc_deploy.graph.layers import COMPUTE
from rc_deploy.optional import require
from rc_deploy.runners import default_threads, register
from rc_deploy.schema import CALIBRATED_RESIDUAL, CALIBRATED_TAIL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    Array = NDArray[np.float32]

# Operators into which fusion took the sum and the activation behind the module that they are named after: what they
# make is the output of the block around it.
_REACH_BEYOND = {CALIBRATED_RESIDUAL.name, CALIBRATED_TAIL.name}


def module_outputs(model: ModelProto) -> dict[str, str]:
    """Return the tensor that holds each module's output, by the module's path, in the order of the graph.

    The path of the whole network is "". Of modules that end in one tensor, as a block and its activation do, only the
    innermost is named. Modules that left no node behind, as a folded BatchNorm, are not in it.
    """
    found: dict[str, str] = {}
    hidden: set[str] = set()
    for node in model.graph.node:
        path = next((entry.value for entry in node.metadata_props if entry.key == MODULE_KEY), "")
        if node.op_type in _REACH_BEYOND:
            hidden.add(path)
            path = path.rpartition(".")[0]
        for module in _upwards(path):
            found.pop(module, None)  # to the end of the order
            found[module] = node.output[0]
    depth = {module: len(list(_upwards(module))) for module in found}
    innermost = {found[module]: module for module in sorted(found, key=depth.__getitem__)}
    return {module: tensor for tensor, module in _ordered(model, innermost) if module not in hidden}


def _upwards(path: str) -> Iterator[str]:
    """Yield a module's path and those of the modules around it."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _ordered(model: ModelProto, by_tensor: dict[str, str]) -> Iterator[tuple[str, str]]:
    for node in model.graph.node:
        for tensor in node.output:
            if tensor in by_tensor:
                yield tensor, by_tensor[tensor]


def disturbed_graph(model: ModelProto, size: float, seed: int) -> tuple[ModelProto, dict[str, int]]:
    """Return a float32 model in which everything that a narrow type would round is off by a little.

    Disturbed are the outputs of modules and the weights of convolutions and matrix products, by independent
    relative errors of standard deviation `size`, which `seed` draws.

    Returns:
        The model, and how many outputs and weights were disturbed up to the output of each module, by its path.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    generator = np.random.default_rng(seed)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer if len(tensor.dims) > 1}
    modules = {tensor: module for module, tensor in module_outputs(model).items()}
    nodes: list[NodeProto] = []
    counts: dict[str, int] = {}
    count = 0
    for node in copy.graph.node:
        nodes.append(node)
        if node.op_type in COMPUTE and (weight := weights.pop(node.input[1], None)) is not None:
            values = onnx.numpy_helper.to_array(weight)
            noise = 1 + size * generator.standard_normal(values.shape, np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(values * noise.astype(np.float32), weight.name))
            count += 1
        tensor = node.output[0]
        if tensor in modules:
            node.output[0] = f"{tensor}.exact"
            nodes += _noisy(node.output[0], tensor, size, seed=float(generator.integers(2**24)))
            count += 1
            counts[modules[tensor]] = count
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(ordered)
    return copy, counts


def _noisy(source: str, result: str, size: float, seed: float) -> list[NodeProto]:
    """Return the nodes that multiply a tensor by 1 + `size` times a normal number, another one for every value."""
    noise = f"{result}.noise"
    return [
        onnx.helper.make_node("RandomNormalLike", [source], [noise], mean=1.0, scale=size, seed=seed),
        onnx.helper.make_node("Mul", [source, noise], [result]),
    ]


def layer_outputs(
    model: ModelProto,
    tensors: Sequence[str],
    images: Array,
    threads: int | None = None,
    library: Path | None = None,
) -> list[Array]:
    """Run a model in ONNX Runtime on the CPU and return what these tensors hold, as float32.

    Args:
        model: with one input.
        tensors: of its main graph, of any floating-point type.
        images: normalised images (N, C, H, W); N is the graph's batch where that is fixed.
        threads: for one operator; None for every processor this process may use.
        library: librc_ort, to run its kernels; None runs the bodies.

    Raises:
        InputError: ONNX Runtime refuses the model.
        MissingDependencyError: it is not installed.
    """
    runtime = require("onnxruntime", "Running an ONNX file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.log_severity_level = 3
    if library:
        register(options, library)
    content = exposed(model, tensors).SerializeToString()
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        values: list[Array] = session.run(None, {session.get_inputs()[0].name: images})
    except Exception as error:
        raise InputError(f"ONNX Runtime refuses the model: {reason(error)}", "Export it again.") from error
    return values


def exposed(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """Return a copy of a model whose outputs are these tensors, cast to float32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for index, tensor in enumerate(tensors):
        name = f"rc_deploy.exposed.{index}"
        copy.graph.node.append(_widened(tensor, name))
        copy.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return copy


def _widened(tensor: str, name: str) -> NodeProto:
    return onnx.helper.make_node("Cast", [tensor], [name], name=name, to=TensorProto.FLOAT)
