"""Running engines of TensorRT and TensorRT-RTX: NumPy in and out, no PyTorch."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import onnx

from rc_deploy import gpu, native
from rc_deploy.engine import plugins
from rc_deploy.engine.device import Device
from rc_deploy.engine.library import LIBRARIES, version
from rc_deploy.engine.log import shared_logger
from rc_deploy.engine.messages import translate
from rc_deploy.engine.parts import parts
from rc_deploy.engine.refit import refit
from rc_deploy.engine.refusal import Failure, Phase
from rc_deploy.engine.registry import load_plugins
from rc_deploy.errors import InputError
from rc_deploy.files import require_writable, write_bytes
from rc_deploy.optional import require
from rc_deploy.specs import BatchRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from rc_deploy.engine.library import Library
    from rc_deploy.engine.parts import Part
    from rc_deploy.errors import RcDeployError
    from rc_deploy.manifest import Manifest


# Environment variable that names the folder for runtime caches, a file for each engine.
RUNTIME_CACHES = "RC_DEPLOY_RUNTIME_CACHES"


def load_engine(
    library: Library, content: bytes, plugin_library: Path | None = None, weights: bytes | None = None
) -> Any:
    """Return the engine that the library makes of its serialised form.

    Args:
        library: that built it, in the same version.
        content: the serialised engine.
        plugin_library: that the engine needs.
        weights: the graph that it was compiled from, where it was built without weights; None where it has them.

    Raises:
        InputError, UnsupportedError: the library refuses it; the message says why.
    """
    trt = require(library.module, "Running an engine")
    if plugin_library:
        load_plugins(trt, library, plugin_library)
    log = shared_logger(trt)
    log.errors.clear()
    try:
        engine = trt.Runtime(log).deserialize_cuda_engine(content)
    except TypeError as error:  # pybind11: a constructor returned nothing, for want of a driver
        raise _failed(library, "load") from error
    if engine is None:
        raise _failed(library, "load")
    if weights is not None:
        refit(trt, library, engine, weights)
    return engine


def _failed(library: Library, phase: Phase) -> RcDeployError:
    errors = shared_logger(require(library.module, "Running an engine")).errors
    return translate(Failure(library.title, version(library), phase, tuple(errors)))


class EngineRunner:
    """An engine on the first GPU.

    Args:
        content: the serialised engine, with one float32 input (N, C, H, W) and one float32 output (N, K).
        library: that built it.
        plugin_library: that it needs; None for none.
        cuda_graph: record the work of each batch size once, and launch that.
        runtime_cache: file that keeps what TensorRT-RTX compiles when it first runs; None to compile in every process.
        weights: the graph that it was compiled from, where it was built without weights.

    Raises:
        MissingDependencyError: the library is not installed.
    """

    def __init__(
        self,
        content: bytes,
        library: Library,
        plugin_library: Path | None = None,
        cuda_graph: bool = False,
        runtime_cache: Path | None = None,
        weights: bytes | None = None,
    ) -> None:
        self._content = content
        self._library = library
        self._plugin_library = plugin_library
        self._cuda_graph = cuda_graph
        self._cache_path = runtime_cache
        self._weights = weights
        self._trt: Any = require(library.module, "Running an engine")
        own = gpu.driver().gpus
        kept = ", runtime cache" if runtime_cache else ""
        self.name = f"{library.title} {version(library)} ({own[0].name if own else 'no GPU'}{kept})"

    def __enter__(self) -> Self:
        """Take the GPU and load the engine.

        Raises:
            UnsupportedError: there is no GPU, or it, its driver or the library's version is not one for this engine.
            InputError: the engine is damaged, has other in- and outputs than those of a classifier, or its weights
                cannot be put back.
            OutputError: the runtime cache could not be written.
        """
        if self._cache_path is not None:
            require_writable(self._cache_path)
        with ExitStack() as stack:
            self._device = stack.enter_context(Device())
            self._engine = load_engine(self._library, self._content, self._plugin_library, self._weights)
            self._find_tensors()
            self._configuration, self._cache = self._runtime_configuration()
            self._contexts: dict[tuple[int, int], Any] = {}
            self._launches: dict[tuple[int, int], Callable[[], None]] = {}
            most = max(profile.maximum for profile in self._profiles)
            self._images = self._device.buffer((most, *self._shape))
            self._logits = self._device.buffer((most, self._classes))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Store the runtime cache, free everything and give the GPU back."""
        with self._stack:
            try:
                if self._cache is not None and self._cache_path is not None:
                    write_bytes(self._cache_path, bytes(self._cache.serialize()))
            finally:
                # The order in which these go counts: contexts before their engine, all before the GPU.
                self._launches.clear()
                self._contexts.clear()
                del self._configuration, self._cache, self._engine, self._images, self._logits

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, K) of normalised images (N, C, H, W), N of any size.

        Raises:
            InputError: the images are not of the engine's shape.
            UnsupportedError: the library or the GPU fails.
        """
        if images.shape[1:] != self._shape:
            raise InputError(
                f"The engine takes images of shape {self._shape}, not {images.shape[1:]}.",
                "Give the data that its network was trained on.",
            )
        logits = np.empty((len(images), self._classes), np.float32)
        for part in parts(self._profiles, len(images)):
            count = part.stop - part.start
            self._images.host[:count] = images[part.start : part.stop]
            self._images.host[count : part.size] = 0
            self._device.upload(self._images, part.size)
            self._execute(part)
            self._device.download(self._logits, part.size)
            self._device.wait()
            logits[part.start : part.stop] = self._logits.host[:count]
        return logits

    def run_float64(self, images: NDArray[np.float32]) -> None:
        """Return None: engines compute in the types that they were built in."""

    def layer_information(self) -> str:
        """Return what the engine says of its layers, as JSON."""
        return plugins.layer_information(self._trt, self._engine)

    def _find_tensors(self) -> None:
        """Find names, shapes and profiles. Raises InputError where they are not those of a classifier."""
        engine, trt = self._engine, self._trt
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        others = [name for name in names if name not in inputs]
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
        floats = all(engine.get_tensor_dtype(name) == trt.DataType.FLOAT for name in names)
        if not floats or [len(shapes[name]) for name in (*inputs, *others)] != [4, 2]:
            raise InputError(
                f"The engine has inputs and outputs {shapes}; one float32 input (N, C, H, W) and one float32 output "
                f"(N, K) are needed.",
                "Build it with rc-deploy from a file that `rc-deploy export` wrote.",
            )
        self._input, self._output = inputs[0], others[0]
        self._shape, self._classes = shapes[self._input][1:], shapes[self._output][1]
        ranges = (engine.get_tensor_profile_shape(self._input, i) for i in range(engine.num_optimization_profiles))
        self._profiles = [BatchRange(*(int(shape[0]) for shape in shapes)) for shapes in ranges]

    def _runtime_configuration(self) -> tuple[Any, Any]:
        """Return how contexts are created, and TensorRT-RTX's cache of kernels; None for what is not wanted."""
        if self._cache_path is None or not hasattr(self._trt, "IRuntimeCache"):
            return None, None
        configuration = self._engine.create_runtime_config()
        cache = configuration.create_runtime_cache()
        if self._cache_path.exists():
            cache.deserialize(self._cache_path.read_bytes())  # one of another version is begun anew by the library
        configuration.set_runtime_cache(cache)
        return configuration, cache

    def _context(self, part: Part) -> Any:
        """Return the context that runs a part, created at first use: one a profile, or a size of a CUDA graph's."""
        key = (part.profile, part.size if self._cuda_graph else 0)
        if key not in self._contexts:
            chosen = [] if self._configuration is None else [self._configuration]
            context = self._engine.create_execution_context(*chosen)
            if context is None or not context.set_optimization_profile_async(part.profile, self._device.stream):
                raise _failed(self._library, "run")
            self._device.wait()
            context.set_tensor_address(self._input, self._images.address)
            context.set_tensor_address(self._output, self._logits.address)
            self._contexts[key] = context
        return self._contexts[key]

    def _execute(self, part: Part) -> None:
        """Put the engine's work for a part into the stream; as a CUDA graph from the second time on, if asked for."""
        if launch := self._launches.get((part.profile, part.size)):
            launch()
            return
        context = self._context(part)
        if not context.set_input_shape(self._input, (part.size, *self._shape)):
            raise _failed(self._library, "run")
        self._enqueue(context)
        if self._cuda_graph:
            self._device.wait()  # the first run may allocate and compile, which cannot be recorded
            self._launches[part.profile, part.size] = self._device.record(lambda: self._enqueue(context))

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._device.stream):
            raise _failed(self._library, "run")


def runner_of(record: Manifest, engine: Path) -> EngineRunner:
    """Return what runs an engine on this machine, of which `check.obstacle` knows nothing against it.

    Where `RUNTIME_CACHES` is set, TensorRT-RTX keeps there what it compiles when the engine first runs.
    """
    paths = [native.library(needed.name) for needed in record.plugins]
    weights = None
    if record.options.get("strip_weights"):
        typed = onnx.load(engine.parent / record.typed_onnx.name)
        weights = plugins.compiled_form(typed, with_plugins=bool(paths)).SerializeToString()
    library = LIBRARIES[record.backend["name"]]
    folder = os.environ.get(RUNTIME_CACHES)
    cache = Path(folder, f"{record.engine.sha256}.runtime-cache") if folder else None
    return EngineRunner(engine.read_bytes(), library, paths[0] if paths else None, runtime_cache=cache, weights=weights)
