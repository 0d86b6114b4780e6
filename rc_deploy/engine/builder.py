"""Build: from an exported ONNX file to a typed ONNX file, an engine and its manifest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rc_deploy import __version__, manifest
from rc_deploy.artefacts import Kind
from rc_deploy.engine import logs, plugins
from rc_deploy.engine.choice import compile_chosen
from rc_deploy.engine.compilation import Compilation
from rc_deploy.engine.contained import require_loaded
from rc_deploy.engine.library import FEATURES, OLDEST_TARGET, choose, require_features, require_recent, targets
from rc_deploy.engine.options import BuildOptions, outputs
from rc_deploy.engine.process import started
from rc_deploy.engine.readback import Readback, layers_by_type, read_back, require_precision
from rc_deploy.engine.record import options_as_json, profile_shapes
from rc_deploy.engine.settings import OnPhase, OnProgress, Settings
from rc_deploy.engine.source import read_source
from rc_deploy.engine.typed_graph import require_replaceable, typed_graph
from rc_deploy.files import digest, together
from rc_deploy.manifest import FileRecord, Manifest
from rc_deploy.outputs import require_outputs
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from pathlib import Path

    from rc_deploy.engine.library import Library, Loaded
    from rc_deploy.engine.process import WorkerProcess
    from rc_deploy.engine.typed_graph import TypedGraph
    from rc_deploy.sensitivity import Search
    from rc_deploy.specs import BatchRange

# Compute capability of the first GPUs that have a type.
OLDEST = {Precision.FP8: "8.9"}
PLAIN = BuildOptions()


@dataclass(frozen=True)
class BuildResult:
    """What was written: the engine, the typed ONNX it was compiled from, and the manifest.

    `search` is what `max_accuracy_drop` found.
    """

    engine: Path
    typed_onnx: Path
    manifest: Manifest
    readback: Readback
    warnings: list[str]
    search: Search | None = None


def build(
    source: Path,
    output: Path,
    options: BuildOptions = PLAIN,
    on_phase: OnPhase = lambda _: None,
    on_progress: OnProgress = lambda _: None,
    ahead: WorkerProcess | None = None,
) -> BuildResult:
    """Build an engine.

    Writes `output`, the typed ONNX beside it (same name, suffix .onnx) and the manifest (`output` + .json), all
    only after the build and the reading back of its precision succeeded, and all or none. Where the library fails, its
    log is written beside them (`output` + .log), and the error names it.

    Args:
        source: ONNX file from `rc-deploy export`.
        output: the engine to write.
        options: how.
        on_phase: called with the name of each phase of a compilation, and where engines are timed.
        on_progress: called with the progress of calibration and search, and of each phase of the library's.
        ahead: a worker of the backend that was started before, and compiles nothing else; None starts one.

    Raises:
        InputError: `source` cannot be used, or not as asked.
        OutputError: `output` or a file beside it cannot be written, or is no earlier build's to be replaced.
        MissingDependencyError, UnsupportedError: the backend is not there, cannot build on this machine or cannot do
            what was asked.
        BuildError: the library refuses the graph, ended its process, or built another precision than the one asked for.
        KeyboardInterrupt: Ctrl-C.
    """
    _require_outputs(source, output, options)
    # What waits for the disk or lets other threads run goes beside what does not; the library has its own process.
    with ThreadPoolExecutor(1) as beside, together() as files, ExitStack() as stack:
        reading = beside.submit(read_source, source, options)
        library = choose(options.backend)
        worker = ahead or stack.enter_context(started(library))
        given = reading.result()
        loaded = require_loaded(library, worker, logs.place_for(output))
        require_recent(library, loaded.version)
        plugin_library = plugins.find(library, options.plugins)
        settings = _settings(library, loaded, options, given.profiles)
        typed = typed_graph(given, options, on_progress)
        typed_path, _, manifest_path = outputs(output)
        require_replaceable(typed_path, typed, output)
        hashes = beside.submit(lambda: (given.sha256, typed.sha256))
        files.write(typed_path, typed.content)
        compilation = Compilation(library, settings, output, options.timing_cache, on_phase, on_progress, worker)
        compiled, chosen = compile_chosen(
            library, typed, compilation, given.profiles[0].optimum, options.plugins, plugin_library, on_phase
        )
        files.write(output, compiled.engine)
        types = beside.submit(read_back, compiled)
        engine_hash = digest(compiled.engine)
        found = types.result()
        require_precision(found, options.precision, typed.plan, has_weights=not options.strip_weights)
        source_hash, typed_hash = hashes.result()
        record = Manifest(
            engine=FileRecord(output.name, engine_hash),
            source=FileRecord(source.name, source_hash),
            typed_onnx=FileRecord(typed_path.name, typed_hash),
            checkpoint_sha256=given.provenance.checkpoint_sha256,
            backend={"name": library.name, "version": loaded.version},
            tools=manifest.tools(),
            options=options_as_json(options),
            compute_capabilities=compiled.compute_capabilities,
            platform=manifest.this_platform(),
            batch=",".join(map(str, given.profiles)),
            profiles=[profile_shapes(given.model, batch) for batch in given.profiles],
            precision=_precision(options, typed, found),
            layers=layers_by_type(compiled),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            rc_deploy=__version__,
            seconds=round(compiled.seconds, 3),
            plugins=[FileRecord.of(plugin_library)] if plugin_library and chosen.plugins else [],
            rc_nodes=chosen.to_json(),
        )
        files.write(manifest_path, manifest.content(record))
        files.replace()
    warnings = [*compiled.warnings, *compilation.store()]
    return BuildResult(output, typed_path, record, found, warnings, typed.assigned.search)


def _require_outputs(source: Path, output: Path, options: BuildOptions) -> None:
    """Require that everything a build writes may be written. Raises OutputError."""
    typed_path, _, manifest_path = outputs(output)
    written = [(typed_path, Kind.ONNX), (output, Kind.ENGINE), (manifest_path, Kind.MANIFEST)]
    if options.timing_cache:
        written.append((options.timing_cache, Kind.TIMING_CACHE))
    require_outputs(
        written, [source], "The typed ONNX and the manifest lie beside the engine: choose another name for it with -o."
    )


def _settings(library: Library, loaded: Loaded, options: BuildOptions, profiles: tuple[BatchRange, ...]) -> Settings:
    """Return what the library is asked for. Raises UnsupportedError or InputError where it cannot do that."""
    require_features(library, [name for name in FEATURES if getattr(options, name)])
    oldest = OLDEST.get(options.precision, OLDEST_TARGET)
    return Settings(
        profiles=profiles,
        compute_capabilities=targets(
            library, loaded, options.compute_capabilities, options.hardware_compatible, oldest
        ),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        strip_weights=options.strip_weights,
        refittable=options.refittable,
    )


def _precision(options: BuildOptions, typed: TypedGraph, found: Readback) -> dict[str, Any]:
    """Return what the manifest says of the precision: asked for, planned, found, and how it came about."""
    record: dict[str, Any] = {
        "asked": options.precision.value,
        "planned": {"narrow": typed.plan.narrow, "wide": typed.plan.wide},
        "found": found.to_json(),
    }
    if typed.assigned.kept:
        record["kept"] = sorted(typed.assigned.kept)
    if options.calibration:
        record["calibration"] = asdict(options.calibration)
    if typed.assigned.search:
        record["search"] = typed.assigned.search.to_json()
    return record
