"""ONNX models in OpenVINO, on the CPU: the standard operators of their bodies, in another runtime to compare with."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

import onnx.inliner

from rc_deploy.errors import UnsupportedError, reason
from rc_deploy.optional import require
from rc_deploy.runners import default_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto


class OpenVinoRunner:
    """An ONNX model in OpenVINO on the CPU, tuned for the latency of one call and computing in float32.

    On processors that have it OpenVINO would compute in bfloat16 by itself, which is another network.

    Args:
        model: with one input and one output; its `rc` operators run as their bodies.
        threads: for one call; None for every processor this process may use.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """

    def __init__(self, model: ModelProto, threads: int | None = None) -> None:
        self._model = model
        self._threads = threads or default_threads()
        self._library: Any = require("openvino", "Running an ONNX file in OpenVINO")
        version = self._library.__version__.partition("-")[0]
        self.name = f"OpenVINO {version} CPU ({self._threads} threads)"

    def __enter__(self) -> Self:
        """Compile the model. Raises UnsupportedError where OpenVINO refuses it."""
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            core = self._library.Core()
            network = core.read_model(onnx.inliner.inline_local_functions(self._model).SerializeToString())
            self._compiled = core.compile_model(network, "CPU", settings)
        except Exception as error:
            raise UnsupportedError(f"OpenVINO refuses the model: {reason(error)}", "Run it another way.") from error
        self._requests = threading.local()  # a request serves one caller at a time
        return self

    def __exit__(self, *exception: object) -> None:
        """Free it."""
        del self._compiled, self._requests

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, K) of normalised images (N, C, H, W). Raises UnsupportedError."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        try:
            logits: NDArray[np.float32] = self._requests.own.infer([images], share_inputs=True)[0].copy()
        except Exception as error:
            raise UnsupportedError(
                f"OpenVINO cannot run the model on images of shape {images.shape}: {reason(error)}",
                "Run it another way, or give another batch size.",
            ) from error
        return logits

    def run_float64(self, images: NDArray[np.float32]) -> None:
        """Return None: OpenVINO computes in float32 at most."""
