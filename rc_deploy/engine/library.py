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

from rc_deploy import gpu
from rc_deploy.errors import BuildError, MissingDependencyError, UnsupportedError
from rc_deploy.optional import is_installed, require

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """

    name: str
    title: str
    module: str
    minimum: tuple[int, int]
    builds_without_gpu: bool


LIBRARIES = {
    "tensorrt": Library("tensorrt", "TensorRT", "tensorrt", (10, 12), builds_without_gpu=False),
    "tensorrt-rtx": Library("tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", (1, 4), builds_without_gpu=True),
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
        layer_types: of every layer, name -> kind and type, as the library understood the graph.
        compute_capabilities: GPUs it was built for, e.g. ["8.6", "8.9"].
        warnings: what the library warned of.
    """

    engine: bytes
    layer_types: dict[str, tuple[str, str]]
    compute_capabilities: list[str]
    warnings: list[str]


def compile_graph(
    library: Library, graph: bytes, batch: BatchRange, on_phase: OnPhase, oldest: int = OLDEST_TARGET
) -> Compiled:
    """Build an engine from a serialised, fully typed ONNX model without functions.

    Args:
        library: to build with.
        graph: the model.
        batch: sizes of the first dimension of each input, where it is symbolic.
        on_phase: called with the name of each phase of the build.
        oldest: compute capability, times ten, that the graph's types need.

    Raises:
        BuildError: the library refuses the graph; the message holds its own words.
        KeyboardInterrupt: Ctrl-C during the build, which the library was told to stop.
    """
    trt = require(library.module, "Building an engine")
    log = _make_logger(trt)
    builder = trt.Builder(log)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        raise BuildError(
            f"{library.title}'s parser refuses the graph: {_parser_errors(parser) or '; '.join(log.errors)}.",
            "`rc-deploy inspect MODEL.onnx` lists the model's operators; the network must do without that one.",
        )
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, batch))
    capabilities = _target(trt, config, oldest)
    with _interruptible() as stopped:
        config.progress_monitor = _make_monitor(trt, stopped, on_phase)
        engine = builder.build_serialized_network(network, config)
    if stopped.is_set():
        raise KeyboardInterrupt
    if engine is None:
        raise BuildError(
            f"{library.title} built nothing: {'; '.join(log.errors) or 'it gave no reason'}.", "See `rc-deploy doctor`."
        )
    return Compiled(bytes(engine), _layer_types(network), capabilities, log.warnings)


def _parser_errors(parser: Any) -> str:
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    return "; ".join(
        f"operator {error.node_operator()} of node '{error.node_name()}': {error.code().name}, {error.desc()}"
        for error in errors
    )


def _profile(builder: Any, network: Any, batch: BatchRange) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        sizes = (batch.minimum, batch.optimum, batch.maximum)
        shapes = [tuple(size if dim < 0 else dim for dim in tensor.shape) for size in sizes]
        profile.set_shape(tensor.name, *shapes)
    return profile


def _target(trt: Any, config: Any, oldest: int) -> list[str]:
    """Let a library that can build for several GPUs do so, and return for which the engine is built."""
    if not hasattr(trt, "ComputeCapability"):
        return sorted({found.compute_capability for found in gpu.driver().gpus})
    members = trt.ComputeCapability.__members__
    numbers = sorted(int(name[2:]) for name in members if name.startswith("SM") and int(name[2:]) >= oldest)
    config.num_compute_capabilities = len(numbers)
    for index, number in enumerate(numbers):
        config.set_compute_capability(members[f"SM{number}"], index)
    return [f"{number // 10}.{number % 10}" for number in numbers]


def _layer_types(network: Any) -> dict[str, tuple[str, str]]:
    """Return (kind, type) of every layer by name; layers of one name are told apart by their index.

    The type is that of the first output, and of a layer whose operands are all dequantised that of the quantised ones,
    where they are of one type: the library fuses the three. A shuffle between them, which gives a weight the rank of
    the data, moves values only.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    quantised: dict[str, str] = {}
    for layer in layers:
        if layer.type.name == "DEQUANTIZE":
            quantised[layer.get_output(0).name] = layer.get_input(0).dtype.name
        elif layer.type.name == "SHUFFLE" and layer.get_input(0).name in quantised:
            quantised[layer.get_output(0).name] = quantised[layer.get_input(0).name]
    return {
        f"{index}:{layer.name}": (layer.type.name, _computes_in(layer, quantised))
        for index, layer in enumerate(layers)
        if layer.num_outputs
    }


def _computes_in(layer: Any, quantised: dict[str, str]) -> str:
    own = str(layer.get_output(0).dtype.name)
    inputs = [layer.get_input(index) for index in range(min(layer.num_inputs, 2))]
    kinds = {quantised.get(tensor.name) for tensor in inputs if tensor is not None}
    return kinds.pop() or own if len(kinds) == 1 and len(inputs) == 2 else own


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


def _make_logger(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps the library's errors and warnings for our own messages."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)

    return Log()


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
