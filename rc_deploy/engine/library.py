"""TensorRT and TensorRT-RTX behind one adapter: what differs between them stands in `LIBRARIES`, nowhere else.

Both are driven as strongly typed libraries: the types of the ONNX graph decide. TensorRT 10 has that as a network
flag; TensorRT 11 and TensorRT-RTX know nothing else, and ignore the flag where they still have it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from rc_deploy import gpu
from rc_deploy.engine import plugins
from rc_deploy.engine.log import make_logger
from rc_deploy.engine.messages import Failure, ParserError, Phase, translate
from rc_deploy.errors import MissingDependencyError, RcDeployError, UnsupportedError
from rc_deploy.optional import is_installed, require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rc_deploy.specs import BatchRange

OnPhase = Callable[[str], None]


@dataclass(frozen=True)
class Library:
    """One inference library.

    Attributes:
        name: as `--backend` takes it.
        title: as people call it.
        module: its Python package.
        minimum: oldest version that rc-deploy drives.
        builds_without_gpu: it compiles for GPUs that are not there.
        takes_plugins: its parser makes plugins of nodes; where not, it aborts the process if one is registered.
    """

    name: str
    title: str
    module: str
    minimum: tuple[int, int]
    builds_without_gpu: bool
    takes_plugins: bool


LIBRARIES = {
    "tensorrt": Library("tensorrt", "TensorRT", "tensorrt", (10, 12), builds_without_gpu=False, takes_plugins=True),
    "tensorrt-rtx": Library(
        "tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", (1, 4), builds_without_gpu=True, takes_plugins=False
    ),
}
# Ampere and later. Older GPUs are left out: they would enlarge the engine by half.
OLDEST_TARGET = 80


def choose(backend: str) -> Library:
    """Return the library to build with: the one named, or for "auto" TensorRT with a GPU, else TensorRT-RTX.

    Raises:
        MissingDependencyError: it is not installed.
        UnsupportedError: unknown name, or it cannot build on this machine.
    """
    if backend == "auto":
        native = is_installed("tensorrt") and bool(gpu.driver().gpus)
        backend = "tensorrt" if native else "tensorrt-rtx"
    if backend not in LIBRARIES:
        raise UnsupportedError(f"There is no backend '{backend}'.", f"Choose auto, {' or '.join(LIBRARIES)}.")
    library = LIBRARIES[backend]
    if problem := why_not(library):
        if not is_installed(library.module):
            raise MissingDependencyError(f"Building needs {library.title}: {problem}.", _installation(library))
        raise UnsupportedError(f"{library.title} cannot build here: {problem}.", "See `rc-deploy doctor`.")
    return library


def why_not(library: Library) -> str:
    """Return why `library` cannot build on this machine, in words; empty if it can."""
    if not is_installed(library.module):
        return "it is not installed"
    found = version(library)
    if tuple(int(part) for part in found.split(".")[:2]) < library.minimum:
        return f"version {found} is installed, {'.'.join(map(str, library.minimum))} or later is needed"
    if not library.builds_without_gpu and not gpu.driver().gpus:
        return f"it builds only where a GPU is, and {gpu.driver().problem}"
    return ""


def version(library: Library) -> str:
    """Return the installed version, e.g. "1.7.1.116"."""
    return str(require(library.module, library.title).__version__)


def _installation(library: Library) -> str:
    return f"pip install 'rc-deploy[{ {'tensorrt': 'tensorrt', 'tensorrt_rtx': 'rtx'}[library.module] }]'"


@dataclass(frozen=True)
class Compiled:
    """What a library made of a graph.

    Attributes:
        engine: the serialised engine.
        layer_types: type of every layer's first output as the library understood the graph: name -> type name.
        compute_capabilities: GPUs it was built for, e.g. ["8.6", "8.9"].
        warnings: what the library warned of.
    """

    engine: bytes
    layer_types: dict[str, tuple[str, str]]
    compute_capabilities: list[str]
    warnings: list[str]


def compile_graph(
    library: Library, graph: bytes, batch: BatchRange, on_phase: OnPhase, plugin_library: Path | None = None
) -> Compiled:
    """Build an engine from a serialised, fully typed ONNX model without functions.

    Args:
        library: to build with.
        graph: the model.
        batch: sizes of the first dimension of each input, where it is symbolic.
        on_phase: called with the name of each phase of the build.
        plugin_library: of the plugins in the graph; the engine then tells the types of its layers.

    Raises:
        BuildError, UnsupportedError: the library refuses the graph, see `messages`.
        KeyboardInterrupt: Ctrl-C during the build, which the library was told to stop.
    """
    trt = require(library.module, "Building an engine")
    log = make_logger(trt)
    if plugin_library:
        plugins.load(trt, library, plugin_library)
    builder = trt.Builder(log)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        raise _refusal(library, "parse", graph, log, _parser_errors(parser))
    config = builder.create_builder_config()
    if plugin_library:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.add_optimization_profile(_profile(builder, network, batch))
    capabilities = _target(trt, config)
    with _interruptible() as stopped:
        config.progress_monitor = _make_monitor(trt, stopped, on_phase)
        engine = builder.build_serialized_network(network, config)
    if stopped.is_set():
        raise KeyboardInterrupt
    if engine is None:
        raise _refusal(library, "build", graph, log)
    return Compiled(bytes(engine), _layer_types(network), capabilities, log.warnings)


def _refusal(
    library: Library, phase: Phase, graph: bytes, log: Any, parser_errors: tuple[ParserError, ...] = ()
) -> RcDeployError:
    said = (*log.errors, *(warning for warning in log.warnings if "memory" in warning))
    failure = Failure(library.title, version(library), phase, said, parser_errors)
    return translate(failure, onnx.load_model_from_string(graph))


def _parser_errors(parser: Any) -> tuple[ParserError, ...]:
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    return tuple(
        ParserError(error.node_name(), error.node_operator(), error.code().name, error.desc()) for error in errors
    )


def _profile(builder: Any, network: Any, batch: BatchRange) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        sizes = (batch.minimum, batch.optimum, batch.maximum)
        shapes = [tuple(size if dim < 0 else dim for dim in tensor.shape) for size in sizes]
        profile.set_shape(tensor.name, *shapes)
    return profile


def _target(trt: Any, config: Any) -> list[str]:
    """Let a library that can build for several GPUs do so, and return for which the engine is built."""
    if not hasattr(trt, "ComputeCapability"):
        return sorted({found.compute_capability for found in gpu.driver().gpus})
    members = trt.ComputeCapability.__members__
    numbers = sorted(int(name[2:]) for name in members if name.startswith("SM") and int(name[2:]) >= OLDEST_TARGET)
    config.num_compute_capabilities = len(numbers)
    for index, number in enumerate(numbers):
        config.set_compute_capability(members[f"SM{number}"], index)
    return [f"{number // 10}.{number % 10}" for number in numbers]


def _layer_types(network: Any) -> dict[str, tuple[str, str]]:
    """Return (kind, type) of every layer by name; layers of one name are told apart by their index."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return {
        f"{index}:{layer.name}": (layer.type.name, layer.get_output(0).dtype.name)
        for index, layer in enumerate(layers)
        if layer.num_outputs
    }


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets, in place of an exception that the library's C++ would swallow."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _make_monitor(trt: Any, stopped: threading.Event, on_phase: OnPhase) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Reports phases, and stops the build once Ctrl-C was pressed."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, _parent: str | None, _steps: int) -> None:
            on_phase(name)

        def step_complete(self, _name: str, _step: int) -> bool:
            return not stopped.is_set()

        def phase_finish(self, name: str) -> None:
            pass

    return Monitor()
