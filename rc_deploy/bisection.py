"""Bisection: the first layer of an artefact whose output leaves its tolerance.

Every layer is held against the same layer of the reference, on a few images: the tensors of the artefact's graph are
made outputs, a group at a time, so that memory stays bounded; a checkpoint's modules are looked into with hooks. What
difference is allowed at a layer is derived as it is for the logits, from the reference alone (docs/tolerances.md):
from the roundings up to that layer, and the condition number and the unevenness of errors measured there.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from rc_deploy import tolerances
from rc_deploy.compare import absolute_error
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.graph.emulate import emulated
from rc_deploy.graph.modules import layer_outputs, module_outputs
from rc_deploy.reference_layers import layers_of
from rc_deploy.tolerances import Tolerance  # noqa: TC001 (`decode` reads the annotations of LayerError)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from onnx import ModelProto

    from rc_deploy.loading import Loaded
    from rc_deploy.reference_layers import MeasuredLayer, ReferenceLayers

    Array = NDArray[np.floating[Any]]

# Images that the layers are compared on: the fewer, the less memory; 16 of 32 x 32 give 10^4 values and more per layer.
IMAGES = 16
# Of all values that one group of layers holds at a time: the artefact's, the reference's, and its float64's.
LARGEST_GROUP = 256 * 2**20
_BYTES = 4 + 4 + 8
QUANTILES = (0.5, 0.99, 0.999)


@dataclass(frozen=True)
class LayerError:
    """How far one layer of an artefact is from the reference's.

    Attributes:
        modules: paths of the PyTorch modules that it stands for, in the order in which they run: one, or a convolution
            and the batch norm that export folded into it; "" is the whole network.
        tensor: of the artefact's graph.
        max_error: largest absolute difference.
        mean_error: mean absolute difference.
        error_quantiles: absolute difference not exceeded by 50, 99 and 99.9 percent of the values.
        tolerance: of both.
    """

    modules: tuple[str, ...]
    tensor: str
    max_error: float
    mean_error: float
    error_quantiles: tuple[float, float, float]
    tolerance: Tolerance

    @property
    def name(self) -> str:
        """The modules' paths."""
        return " + ".join(self.modules) or "(the network)"

    @property
    def used(self) -> float:
        """The error in units of its tolerance: the larger of the two ratios."""
        pairs = ((self.max_error, self.tolerance.maximum), (self.mean_error, self.tolerance.mean))
        return max(0.0 if error == 0 else error / bound if bound else math.inf for error, bound in pairs)

    @property
    def within(self) -> bool:
        """Whether both errors are within their tolerance; not where one is not a number."""
        return self.used <= 1


@dataclass(frozen=True)
class Bisection:
    """Every layer of an artefact held against its reference, in the order in which they run."""

    artefact: str
    images: int
    layers: tuple[LayerError, ...]

    @property
    def first(self) -> int | None:
        """Index of the first layer beyond its tolerance; None where there is none."""
        return next((index for index, layer in enumerate(self.layers) if not layer.within), None)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        rows = [{**asdict(layer), "used": layer.used, "within": layer.within} for layer in self.layers]
        return {"artefact": self.artefact, "images": self.images, "first": self.first, "layers": rows}


def bisect(
    artefact: Loaded,
    reference: Loaded,
    images: NDArray[np.float32],
    threads: int | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Bisection:
    """Hold each layer of an artefact against the reference's.

    An engine is looked into through the typed ONNX that it was compiled from, an ONNX file through its bodies.

    Args:
        artefact: an ONNX file or an engine.
        reference: a checkpoint or an ONNX file.
        images: normalised (N, C, H, W); of a graph with a fixed batch, so many are used, repeated if need be.
        threads: for one operator; None for every processor this process may use.
        on_progress: called with layers done and layers in all.

    Raises:
        InputError: the artefact's graph does not say which modules its nodes came from.
        UnsupportedError: the artefact is quantised.
    """
    if artefact.precision.quantised:
        raise UnsupportedError(
            f"The layers of {artefact.path} have no tolerances of their own: {artefact.precision} graphs are proven by "
            "parts, and the criteria name the layer that is wrong.",
            "Validate it, or give the float32 file that it was built from.",
        )
    graph = emulated(artefact.graph())
    images = fitting(images, graph, *([] if reference.network else [reference.graph()]))
    outputs = module_outputs(graph)
    layers = layers_of(reference, outputs.keys(), threads)
    tensors = {module: tensor for module, tensor in outputs.items() if module in layers.roundings}
    if not tensors:
        raise InputError(
            f"The layers of {artefact.path} cannot be told: its nodes do not say which module they came from.",
            "Export it again with this version of rc-deploy, which keeps their names.",
        )
    found: list[LayerError] = []
    for group in groups(tensors, graph, len(images)):
        values = layer_outputs(graph, [tensors[module] for module in group], images, threads)
        expected = layers.measure(group, images)
        for module, value in zip(group, values, strict=True):
            if value.shape == expected[module].values.shape:
                found.append(_judged(module, tensors[module], value, expected[module], layers, artefact))
        on_progress(len(found), len(tensors))
    return Bisection(artefact.path.name, len(images), tuple(found))


def _judged(
    module: str, tensor: str, value: Array, expected: MeasuredLayer, layers: ReferenceLayers, artefact: Loaded
) -> LayerError:
    error = absolute_error(expected.values.astype(np.float64), value.astype(np.float64))
    derived = tolerances.derive(layers.roundings[module], artefact.precision, expected.values, expected.condition)
    return LayerError(
        modules=layers.modules[module],
        tensor=tensor,
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        error_quantiles=tuple(np.quantile(error, QUANTILES, method="lower").tolist()),
        # Rounded weights are the same at every position: at worst all errors of a layer are one Gaussian number.
        tolerance=replace(
            derived,
            maximum=derived.maximum * expected.unevenness,
            mean=derived.mean * math.sqrt(2 * math.log(2 / tolerances.FALSE_ALARM)),
        ),
    )


def fitting(images: NDArray[np.float32], *graphs: ModelProto) -> NDArray[np.float32]:
    """Return as many images as the graphs take at once, where their batch is fixed."""
    sizes = [graph.graph.input[0].type.tensor_type.shape.dim[0] for graph in graphs]
    fixed = [size.dim_value for size in sizes if size.HasField("dim_value")]
    return np.resize(images, (fixed[0], *images.shape[1:])) if fixed else images


def groups(tensors: dict[str, str], graph: ModelProto, images: int) -> Iterator[list[str]]:
    """Yield the keys of `tensors` in order, as many at a time as `LARGEST_GROUP` allows, one at least."""
    inferred = onnx.shape_inference.infer_shapes(graph)
    sizes = {
        value.name: math.prod(max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim[1:])
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    }
    group: list[str] = []
    held = 0
    for module, tensor in tensors.items():
        size = sizes.get(tensor, 1) * images * _BYTES
        if group and held + size > LARGEST_GROUP:
            yield group
            group, held = [], 0
        group.append(module)
        held += size
    if group:
        yield group
