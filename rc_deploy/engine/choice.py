"""The choice between plugins and bodies: as asked, or by measurement."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy import gpu
from rc_deploy.engine import plugins
from rc_deploy.engine.plugins import Plugins
from rc_deploy.errors import RcDeployError
from rc_deploy.graph.bodies import rc_nodes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import ModelProto

    from rc_deploy.engine.library import Library
    from rc_deploy.engine.runner import EngineRunner
    from rc_deploy.engine.settings import Compiled, OnPhase
    from rc_deploy.engine.typed_graph import TypedGraph
    from rc_deploy.runners import Runner

    Compile = Callable[[bytes, Path | None], Compiled]

WARM_UP, ROUNDS = 20, 100


@dataclass(frozen=True)
class Choice:
    """What became of the `rc` nodes.

    Attributes:
        asked: the policy.
        plugins: how many plugin layers are in the engine, as it says itself; 0 where bodies run.
        why: the choice was made so.
        milliseconds: median time of a run at the optimal batch size, of "plugins" and "bodies"; empty if not measured.
    """

    asked: Plugins
    plugins: int
    why: str
    milliseconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


def compile_chosen(
    library: Library,
    typed: TypedGraph,
    compile_graph: Compile,
    batch: int,
    policy: Plugins,
    path: Path | None,
    on_phase: OnPhase,
) -> tuple[Compiled, Choice]:
    """Build an engine with plugins or with bodies.

    Args:
        library: to build with.
        typed: the graph, with functions.
        compile_graph: makes an engine of a serialised graph, with the plugin library that it needs.
        batch: that plugins and bodies are timed at.
        policy: for `auto`, both are built and timed, and the faster is kept; the first GPU does both.
        path: the plugin library, from `plugins.find`; None builds with bodies.
        on_phase: called with the name of each phase.

    Raises:
        BuildError, UnsupportedError: the library refuses the graph; for `require` also where a node is no plugin.
    """
    graph = typed.graph
    if path is None or not any(rc_nodes(graph)):
        return _with_bodies(typed, compile_graph), Choice(policy, 0, _why_bodies(library, graph, policy))
    if policy is Plugins.REQUIRE:
        compiled, count = _with_plugins(library, graph, compile_graph, path)
        return compiled, Choice(policy, count, "required, and read back from the engine")
    bodies = _with_bodies(typed, compile_graph)
    try:
        compiled, count = _with_plugins(library, graph, compile_graph, path)
    except RcDeployError as error:
        return bodies, Choice(policy, 0, f"plugins cannot be built: {error}")
    on_phase("Timing plugins and bodies")
    shape = tuple(dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim[1:])
    images = np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)
    with _runner(compiled, library, path) as first, _runner(bodies, library) as second:
        times = dict(zip(("plugins", "bodies"), medians([first, second], images), strict=True))
    faster = min(times, key=lambda name: times[name])
    why = f"{faster} are faster on the {gpu.driver().gpus[0].name}, measured at batch {batch}"
    return (
        (compiled, Choice(policy, count, why, times))
        if faster == "plugins"
        else (bodies, Choice(policy, 0, why, times))
    )


def _runner(compiled: Compiled, library: Library, plugin_library: Path | None = None) -> EngineRunner:
    from rc_deploy.engine.runner import EngineRunner  # imports what drives a GPU, which most builds have no use for

    return EngineRunner(bytes(compiled.engine), library, plugin_library, weights=compiled.weights)


def _why_bodies(library: Library, graph: ModelProto, policy: Plugins) -> str:
    if policy is Plugins.OFF:
        return "plugins were turned off"
    if not library.takes_plugins:
        return f"{library.title} takes no plugins"
    return f"{plugins.PLUGIN_LIBRARY} is not there" if any(rc_nodes(graph)) else "the network has no rc nodes"


def _with_bodies(typed: TypedGraph, compile_graph: Compile) -> Compiled:
    form = plugins.compiled_form(typed.graph, with_plugins=False)
    return compile_graph(typed.content if form is typed.graph else form.SerializeToString(), None)


def _with_plugins(library: Library, graph: ModelProto, compile_graph: Compile, path: Path) -> tuple[Compiled, int]:
    """Return an engine, and how many plugin layers it holds: one for each `rc` node. Raises BuildError where not."""
    form = plugins.compiled_form(graph, with_plugins=True)
    compiled = compile_graph(form.SerializeToString(), path)
    with _runner(compiled, library, path) as runner:
        return compiled, plugins.require_plugins(runner.layer_information(), form)


def medians(runners: list[Runner], images: np.ndarray[Any, np.dtype[np.float32]]) -> list[float]:
    """Return the median time of each runner's run, milliseconds; they take turns, warmed up."""
    times = np.array([[_seconds(runner, images) for runner in runners] for _ in range(WARM_UP + ROUNDS)])
    return [round(1000 * float(median), 4) for median in np.median(times[WARM_UP:], axis=0)]


def _seconds(runner: Runner, images: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    start = time.perf_counter()
    runner.run(images)
    return time.perf_counter() - start
