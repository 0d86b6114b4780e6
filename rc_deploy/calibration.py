"""Calibration: measuring on images, by running a float32 graph, which values its layers are fed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy import data
from rc_deploy.errors import InputError
from rc_deploy.graph.layers import layers
from rc_deploy.graph.types import copied, shapes
from rc_deploy.ranges import Histogram
from rc_deploy.runners import default_threads, onnx_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

    from rc_deploy.data import ImageSet
    from rc_deploy.specs import InputSpec

# Which images of a set are taken; the same each time.
SEED = 0
# Values of observed tensors that are in memory at once, 256 MB.
_LARGEST_RUN = 2**26
_LARGEST_BATCH = 64


def choose(source: str, folder: Path | None, spec: InputSpec, images: int) -> ImageSet:
    """Return so many images of a source, chosen at random with a fixed seed.

    Args:
        source: see `rc_deploy.data.load`; of pictures, which are decoded as they are loaded, one of each class in turn.
        folder: where the data sets are; None for RC_DATA.
        spec: of the network to feed.
        images: how many; fewer where there are not so many.

    Raises:
        InputError: as `rc_deploy.data.load`, or there are no images.
    """
    pictures = source.startswith(("imagenet:", "folder:"))
    found = data.load(source, folder, spec, images if pictures else None)
    if not len(found):
        raise InputError(f"{source} holds no images.", "Name a split that has some.")
    order = np.random.default_rng(SEED).permutation(len(found))[:images]
    labels = None if found.labels is None else found.labels[order]
    return type(found)(found.images[order], labels, found.classes)


def observe(
    model: ModelProto,
    images: NDArray[np.uint8],
    spec: InputSpec,
    counting: bool = True,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Histogram]:
    """Return what each tensor that a layer is fed holds, by name.

    Args:
        model: float32; its bodies are run.
        images: (N, C, H, W), N at least 1.
        spec: of the model's input.
        counting: see `Histogram`.
        on_progress: called with images done and images in all.

    Raises:
        InputError: the model cannot be run, a tensor holds values that are no numbers, or too few images for its
            fixed batch.
    """
    fed = model.graph.input[0].name
    tensors = sorted({layer.data for layer in layers(model)})
    inner = [tensor for tensor in tensors if tensor != fed]
    session = onnx_session(_with_outputs(model, inner), default_threads(), as_written=True)
    histograms = {tensor: Histogram(counting) for tensor in tensors}
    done = 0
    for part in _batches(model, images, tensors):
        inputs = data.normalise(part, spec)
        found = dict(zip(inner, session.run(inner, {fed: inputs}), strict=True)) | {fed: inputs}
        for tensor in tensors:
            try:
                histograms[tensor].add(found[tensor])
            except ValueError:
                raise InputError(
                    f"Tensor '{tensor}' of the network holds values that are no numbers on these images.",
                    "Give a network that was trained to the end, and images like those it was trained on.",
                ) from None
        done += len(part)
        on_progress(done, len(images))
    return histograms


def _with_outputs(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """Return the model with these tensors as further outputs."""
    result = copied(model)
    named = {value.name: value for value in result.graph.value_info}
    result.graph.output.extend(named[tensor] for tensor in tensors)
    return result


def _batches(model: ModelProto, images: NDArray[np.uint8], tensors: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
    """Yield the images in batches that the model takes and whose observed tensors fit into memory."""
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if fixed > len(images):
        raise InputError(
            f"The graph has the fixed batch size {fixed}, and there are {len(images)} images.",
            "Give more images, or export without --static-batch.",
        )
    sizes = shapes(model)
    values = sum(math.prod(max(size, 1) for size in sizes[tensor][1:]) for tensor in tensors)
    batch = fixed or max(1, min(_LARGEST_BATCH, _LARGEST_RUN // max(values, 1)))
    for start in range(0, len(images) - (fixed - 1 if fixed else 0), batch):
        yield images[start : start + batch]
