"""Driving a library: the one file that calls TensorRT or TensorRT-RTX to build. It runs in the worker process.

Every attribute that is touched here stands in `api.ATTRIBUTES`; a test reads this file and holds it to that. Both
libraries are driven as strongly typed ones: the types of the ONNX graph decide. TensorRT 10 has that as a network flag;
TensorRT 11 and TensorRT-RTX know nothing else, and ignore the flag where they still have it.

The types below are TensorRT's; mypy checks them where the stubs are (`make lint`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from rc_deploy.engine.refusal import ParserError, Phase
from rc_deploy.engine.settings import Compiled, OnProgress, Progress

if TYPE_CHECKING:
    import tensorrt as trt

    from rc_deploy.engine.settings import Settings
    from rc_deploy.specs import BatchRange

# Steps are reported at most so often: a parser's or optimiser's can come by the thousand in a second.
REPORT_EVERY = 0.05


class RefusedError(Exception):
    """The library would not have the graph; its log says why, and so do its parser's errors."""

    def __init__(self, phase: Phase, errors: tuple[ParserError, ...] = ()) -> None:
        super().__init__(phase)
        self.phase = phase
        self.errors = errors


class OnMessage(Protocol):
    """Takes what a library logs: severity, e.g. "WARNING", and text."""

    def __call__(self, severity: str, message: str) -> None:
        """Take one message."""


def compile_graph(
    lib: Any,
    settings: Settings,
    on_message: OnMessage,
    on_progress: OnProgress,
    graph: bytes | memoryview,
    cache: bytes | memoryview | None = None,
) -> Compiled:
    """Build an engine from a serialised, fully typed ONNX model without functions.

    Args:
        lib: the module of the library.
        settings: how.
        on_message: called with everything that the library logs.
        on_progress: called with the progress of each of its phases.
        graph: the model.
        cache: the library's own measurements of earlier builds, empty to begin with none; None to keep none.

    Raises:
        RefusedError: it parses or builds nothing.
    """
    start = time.perf_counter()
    log = _logger(lib, on_message)
    builder: trt.Builder = lib.Builder(log)
    network: trt.INetworkDefinition = builder.create_network(_network_flags(lib))
    parser: trt.OnnxParser = lib.OnnxParser(network, log)
    if not parser.parse(graph):
        raise RefusedError("parse", _parser_errors(parser))
    config: trt.IBuilderConfig = builder.create_builder_config()
    for batch in settings.profiles:
        if config.add_optimization_profile(_profile(lib, builder, network, batch)) < 0:
            raise RefusedError("build")
    _set_target(lib, config, settings.compute_capabilities)
    _set_options(lib, config, settings)
    refused = cache is not None and not _give_cache(config, cache)
    config.progress_monitor = _monitor(lib, on_progress)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RefusedError("build")
    seconds = time.perf_counter() - start
    return Compiled(
        engine=memoryview(engine),
        layer_types=_layer_types(network),
        compute_capabilities=list(settings.compute_capabilities),
        warnings=[],
        seconds=seconds,
        timing_cache=b"" if cache is None else _take_cache(config),
        cache_refused=refused,
    )


def _network_flags(lib: Any) -> int:
    if not hasattr(lib.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        return 0
    return 1 << int(lib.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parser_errors(parser: trt.OnnxParser) -> tuple[ParserError, ...]:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return tuple(
        ParserError(error.node_name(), error.node_operator(), error.code().name, error.desc()) for error in errors
    )


def _profile(
    lib: Any, builder: trt.Builder, network: trt.INetworkDefinition, batch: BatchRange
) -> trt.IOptimizationProfile:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        dims = [tensor.shape[axis] for axis in range(len(tensor.shape))]
        sizes = (batch.minimum, batch.optimum, batch.maximum)
        shapes = [lib.Dims([size if dim < 0 else dim for dim in dims]) for size in sizes]
        profile.set_shape(tensor.name, *shapes)
    return profile


def _set_target(lib: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    """Name the GPUs to build for to a library that can build for others than the machine's own."""
    if not hasattr(lib, "ComputeCapability"):
        return
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(lib.ComputeCapability.__members__[f"SM{capability.replace('.', '')}"], index)


def _set_options(lib: Any, config: trt.IBuilderConfig, settings: Settings) -> None:
    config.clear_flag(lib.BuilderFlag.TF32)  # on by default, it would give float32 layers 10 bits in place of 23
    if settings.version_compatible:
        config.set_flag(lib.BuilderFlag.VERSION_COMPATIBLE)
    if settings.strip_weights:
        config.set_flag(lib.BuilderFlag.STRIP_PLAN)
    if settings.refittable:
        config.set_flag(lib.BuilderFlag.REFIT)
    elif settings.strip_weights:  # the same weights are put back: nothing else need be possible
        config.set_flag(lib.BuilderFlag.REFIT_IDENTICAL)
    if settings.plugin_library:
        config.profiling_verbosity = lib.ProfilingVerbosity.DETAILED
    if settings.hardware_compatible:
        config.hardware_compatibility_level = lib.HardwareCompatibilityLevel.AMPERE_PLUS


def _give_cache(config: trt.IBuilderConfig, content: bytes | memoryview) -> bool:
    """Let the library use its earlier measurements; return whether it would. It begins anew where it would not."""
    given = config.create_timing_cache(content)
    taken = given is not None and bool(config.set_timing_cache(given, ignore_mismatch=False))
    if not taken:
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return taken


def _take_cache(config: trt.IBuilderConfig) -> bytes:
    cache: trt.ITimingCache = config.get_timing_cache()
    return bytes(cache.serialize())


def _layer_types(network: trt.INetworkDefinition) -> dict[str, tuple[str, str]]:
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


def _computes_in(layer: trt.ILayer, quantised: dict[str, str]) -> str:
    own = str(layer.get_output(0).dtype.name)
    inputs = [layer.get_input(index) for index in range(min(layer.num_inputs, 2))]
    kinds = {quantised.get(tensor.name) for tensor in inputs if tensor is not None}
    return next(iter(kinds)) or own if len(kinds) == 1 and len(inputs) == 2 else own


def _logger(lib: Any, on_message: OnMessage) -> trt.ILogger:
    class Log(lib.ILogger):  # type: ignore[misc]
        """Hands on everything that the library says."""

        def __init__(self) -> None:
            lib.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            on_message(severity.name, message)

    found: trt.ILogger = Log()
    return found


def _monitor(lib: Any, on_progress: OnProgress) -> trt.IProgressMonitor:
    class Monitor(lib.IProgressMonitor):  # type: ignore[misc]
        """Hands on how far each phase is. It never stops a build: the process is ended for that, at once."""

        def __init__(self) -> None:
            lib.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str | None, int]] = {}
            self.reported = 0.0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.phases[name] = (parent, steps)
            on_progress(Progress(name, parent, 0, steps))

        def step_complete(self, name: str, step: int) -> bool:
            now = time.monotonic()
            if now - self.reported >= REPORT_EVERY:
                self.reported = now
                parent, steps = self.phases[name]
                on_progress(Progress(name, parent, step + 1, steps))
            return True

        def phase_finish(self, name: str) -> None:
            parent, steps = self.phases.pop(name)
            on_progress(Progress(name, parent, steps, steps, finished=True))

    found: trt.IProgressMonitor = Monitor()
    return found
