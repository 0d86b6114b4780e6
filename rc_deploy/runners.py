"""Runners: one way to run a network, whatever runs it. Each is a context manager that holds its library's state."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, runtime_checkable

import numpy as np
import onnx.inliner

from rc_deploy import native
from rc_deploy.errors import InputError, UnsupportedError, reason
from rc_deploy.optional import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from onnx import ModelProto
    from torch import Tensor, nn


# Batch sizes and networks of one class that torch.compile may keep code for at once; its own limit is 8.
MOST_COMPILED = 128


# ONNX Runtime (1.32 seen) drops a ReLU before a QuantizeLinear of zero point 0 as if all types without a sign bit were
# meant; before float8, which is signed, that changes what the network computes.
WRONG_OPTIMISER = "ReluQuantRewrite"


def default_threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


class Runner(Protocol):
    """Runs a network on batches; takes its resources on enter and frees them on exit.

    Attributes:
        name: what runs, for tables, e.g. "ONNX Runtime 1.32 (2 threads)".
    """

    name: str

    def __enter__(self) -> Self:
        """Load the network."""
        ...

    def __exit__(self, *exception: object) -> None:
        """Free it."""
        ...

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, K) of normalised images (N, C, H, W)."""
        ...

    def run_float64(self, images: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Return the logits computed in float64; None where the library cannot."""
        ...


@dataclass(frozen=True)
class DeviceTime:
    """Milliseconds of one run by the clock of a GPU: images in, the network, logits out."""

    upload: float
    compute: float
    download: float


@runtime_checkable
class DeviceRunner(Protocol):
    """What a runner on a GPU offers besides: where the time of a run went."""

    def device_time(self) -> DeviceTime:
        """Return the parts of the last run, by CUDA events."""
        ...


class TorchRunner:
    """A PyTorch network on the CPU, eager or through torch.compile.

    Args:
        network: in evaluation mode.
        threads: for one operator; None for every processor this process may use.
        compile_network: have torch.compile generate code for it, at the first run of each batch size.
    """

    def __init__(self, network: nn.Module, threads: int | None = None, compile_network: bool = False) -> None:
        self.network = network
        self.compiles = compile_network
        self._threads = threads or default_threads()
        self._torch: Any = require("torch", "Running a checkpoint")
        form = "torch.compile" if compile_network else "eager"
        self.name = f"PyTorch {self._torch.__version__} {form} ({self._threads} threads)"

    def compiled(self) -> TorchRunner:
        """Return a runner of the same network through torch.compile."""
        return TorchRunner(self.network, self._threads, compile_network=True)

    def __enter__(self) -> Self:
        """Set the process's number of threads."""
        self._call = self._compiled() if self.compiles else self.network
        self._threads_before = self._torch.get_num_threads()
        self._torch.set_num_threads(self._threads)
        return self

    def __exit__(self, *exception: object) -> None:
        """Restore it."""
        self._torch.set_num_threads(self._threads_before)

    def _compiled(self) -> Callable[[Tensor], Tensor]:
        """Return what compiles itself at the first run of each batch size: code for one size is what it does best."""
        torch = self._torch
        torch.compiler.reset()  # or code of an earlier load would be found in memory
        # Past this limit it would run eagerly without a word; fullgraph makes an error of that.
        settings = torch._dynamo.config
        settings.recompile_limit = max(settings.recompile_limit, MOST_COMPILED)
        self._code = torch.compile(self.network, dynamic=False, fullgraph=True)
        return self._compile_or_refuse

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, K) of normalised images (N, C, H, W)."""
        with self._torch.inference_mode():
            logits: NDArray[np.float32] = self._call(self._torch.from_numpy(images)).numpy()
        return logits

    def _compile_or_refuse(self, images: Tensor) -> Tensor:
        """Run the compiled network. Raises UnsupportedError where torch.compile fails, e.g. without a C++ compiler."""
        try:
            return cast("Tensor", self._code(images))
        except self._torch._dynamo.exc.TorchDynamoException as error:
            raise UnsupportedError(
                f"torch.compile cannot compile the network: {reason(error)}",
                "It wants a C++ compiler; leave @compile away to run the network eagerly.",
            ) from error

    def run_float64(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits of a copy of the network in float64."""
        network = copy.deepcopy(self.network).double()
        with self._torch.inference_mode():
            logits: NDArray[np.float64] = network(self._torch.from_numpy(images).double()).numpy()
        return logits


class OnnxRunner:
    """An ONNX model in ONNX Runtime on the CPU; `rc` operators run in librc_ort where it is found, else as bodies.

    Args:
        model: with one input and one output.
        threads: for one operator; None for every processor this process may use.
        bodies: run the bodies even where the library is: it is they that are to be judged.
        form: makes of the model what is run, when the session is created.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        model: ModelProto,
        threads: int | None = None,
        bodies: bool = False,
        form: Callable[[ModelProto], ModelProto] = lambda model: model,
    ) -> None:
        self.model = model
        self._form = form
        self._trace: Path | None = None
        self._threads = threads or default_threads()
        self._library: Any = require("onnxruntime", "Running an ONNX file")
        self._bodies = bodies
        self._kernels = None if bodies else native.onnx_runtime_library()
        kernels = f", {self._kernels.stem}" if self._kernels else ""
        self.name = f"ONNX Runtime {self._library.__version__} CPU ({self._threads} threads{kernels})"

    def traced(self, folder: Path) -> OnnxRunner:
        """Return a runner of the same model that writes its optimised graph and its profile into a folder.

        Bodies are inlined and their nodes named, as ONNX Runtime would do, but so that both tell the same names.
        """
        runner = copy.copy(self)
        runner._trace = folder
        if not self._kernels:
            runner._form = _inlined
        return runner

    def end_trace(self) -> Path:
        """Return the profile of a traced runner's runs: JSON, in the form of Chrome's traces."""
        return Path(self._session.end_profiling())

    def __enter__(self) -> Self:
        """Create the session. Raises InputError where ONNX Runtime refuses the model, UnsupportedError the library."""
        self._session = onnx_session(
            self._form(self.model), self._threads, self._kernels, as_written=self._bodies, trace=self._trace
        )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise InputError(
                f"The model has inputs {[(value.name, value.type) for value in inputs]} and {len(outputs)} outputs; "
                f"one float32 input and one output are needed.",
                "Export the network with `rc-deploy export`.",
            )
        self._input = inputs[0]
        return self

    def __exit__(self, *exception: object) -> None:
        """Free the session."""
        del self._session

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, K) of normalised images (N, C, H, W).

        A model with a fixed batch size is fed batches of that size, the last one filled up with zeros.
        """
        size = self._input.shape[0]
        if not isinstance(size, int) or size == len(images):
            return self._run(images)
        parts = [self._run(_padded(images[start : start + size], size)) for start in range(0, len(images), size)]
        return np.concatenate(parts)[: len(images)]

    def run_float64(self, images: NDArray[np.float32]) -> None:
        """Return None: ONNX Runtime has no float64 convolution on the CPU."""

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            logits: NDArray[np.float32] = self._session.run(None, {self._input.name: images})[0]
        except Exception as error:
            raise InputError(
                f"ONNX Runtime cannot run the model on images of shape {images.shape}: {reason(error)}",
                "The file's metadata do not fit its graph: export it again.",
            ) from error
        return logits


# Files of a trace.
OPTIMISED, PROFILE = "optimised.onnx", "profile"


def onnx_session(
    model: ModelProto,
    threads: int,
    kernels: Path | None = None,
    as_written: bool = False,
    trace: Path | None = None,
) -> Any:
    """Return an ONNX Runtime session on the CPU.

    Args:
        model: to run.
        threads: for one operator.
        kernels: librc_ort, where `rc` operators shall run in it.
        as_written: dequantise, compute and quantise where the graph says so, in place of integer kernels, which round
            biases as well and, on some processors, saturate sums.
        trace: folder for the optimised graph and a profile.

    Raises:
        InputError: ONNX Runtime refuses the model.
        UnsupportedError: it refuses the library.
    """
    library: Any = require("onnxruntime", "Running an ONNX file")
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Between runs its threads sleep: spinning, they would slow down whatever else runs then.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if trace:
        options.enable_profiling = True
        options.profile_file_prefix = str(trace / PROFILE)
        options.optimized_model_filepath = str(trace / OPTIMISED)
    if kernels:
        register(options, kernels)
    try:
        return library.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[WRONG_OPTIMISER],
        )
    except Exception as error:
        raise InputError(f"ONNX Runtime refuses the model: {reason(error)}", "Export it again.") from error


def register(options: Any, library: Path) -> None:
    """Have sessions of these options take their `rc` kernels from librc_ort. Raises UnsupportedError."""
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:
        raise UnsupportedError(
            f"ONNX Runtime refuses {library}: {error}",
            f"Build it again on this machine; with {native.VARIABLE}= (empty) it is not used.",
        ) from error


def _inlined(model: ModelProto) -> ModelProto:
    flat = onnx.inliner.inline_local_functions(model)
    for index, node in enumerate(flat.graph.node):
        node.name = f"{node.name or node.op_type}.{index}"
    return flat


def _padded(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    missing = size - len(images)
    return np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
