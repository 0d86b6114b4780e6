"""Putting the weights back into an engine that was built without them (`--strip-weights`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rc_deploy.engine.log import shared_logger
from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from rc_deploy.engine.library import Library


def refit(trt: Any, library: Library, engine: Any, graph: bytes) -> None:
    """Give a loaded engine the weights of the graph that it was compiled from.

    Source: https://docs.nvidia.com/deeplearning/tensorrt/11.4.0/inference-library/refitting-engines.html

    Args:
        trt: the module of the library.
        library: that loaded the engine.
        engine: without weights.
        graph: the serialised model that the library's parser was given when the engine was built.

    Raises:
        InputError: the graph lacks weights that the engine needs, or the library takes them for another network's.
    """
    log = shared_logger(trt)
    log.errors.clear()
    refitter = trt.Refitter(engine, log)
    parser = trt.OnnxParserRefitter(refitter, log)
    taken = parser.refit_from_bytes(graph)
    missing = refitter.get_missing_weights()
    if taken and not missing and refitter.refit_cuda_engine():
        return
    said = [parser.get_error(index).desc() for index in range(parser.num_errors)] + log.errors
    lacking = f"{len(missing)} weights are missing, the first being {missing[0]}; " if missing else ""
    raise InputError(
        f"{library.title} could not put the weights back into the engine: {lacking}it said: "
        f"{'; '.join(said) or 'nothing'}.",
        "An engine without weights needs the typed ONNX that it was built with: copy both again, or build it anew.",
    )
