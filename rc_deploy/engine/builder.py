"""Build: from an exported ONNX file to a typed ONNX file, an engine and its manifest."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rc_deploy import __version__, manifest
from rc_deploy.artefacts import Kind
from rc_deploy.assignment import Assigned, PrecisionOptions, assign
from rc_deploy.engine import plugins
from rc_deploy.engine.choice import compile_chosen
from rc_deploy.engine.compilation import Compilation
from rc_deploy.engine.library import FEATURES, OLDEST_TARGET, choose, require_features, targets, version
from rc_deploy.engine.plugins import Plugins
from rc_deploy.engine.readback import Readback, layers_by_type, read_back, require_precision
from rc_deploy.engine.record import options_as_json, profile_shapes
from rc_deploy.engine.settings import OnPhase, OnProgress, Settings
from rc_deploy.errors import InputError, OutputError
from rc_deploy.files import digest, sha256, write_together
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.plan import planned
from rc_deploy.graph.resolution import ImageSize, resized
from rc_deploy.manifest import FileRecord, Manifest
from rc_deploy.outputs import require_outputs
from rc_deploy.specs import BatchRange, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from rc_deploy.engine.library import Library
    from rc_deploy.graph.plan import Plan
    from rc_deploy.sensitivity import Search

# Compute capability of the first GPUs that have a type.
OLDEST = {Precision.FP8: "8.9"}
DEFAULT_BATCH = BatchRange(1, 8, 64)


@dataclass(frozen=True)
class BuildOptions(PrecisionOptions):
    """How to build; what it says of the precision is that of the typed graph.

    Attributes:
        backend: "auto", "tensorrt" or "tensorrt-rtx".
        plugins: what shall become of `rc` nodes in TensorRT; TensorRT-RTX always runs their bodies.
        batch: ranges of sizes to build for, an optimisation profile each; `DEFAULT_BATCH` where there are none, or the
            graph's own where it is fixed.
        image: size of the images that the engine takes; the graph's own for None.
        timing_cache: file of the library's measurements, to read and to write.
        compute_capabilities: GPUs to build for, e.g. ("8.6", "8.9"); none for all from Ampere on, or the machine's own.
        version_compatible: later versions of the library shall run the engine too.
        hardware_compatible: GPUs of Ampere and later generations shall all run the engine.
        strip_weights: leave the weights out of the engine.
        refittable: let weights be replaced in the finished engine.
    """

    backend: str = "auto"
    plugins: Plugins = Plugins.AUTO
    batch: tuple[BatchRange, ...] = ()
    image: ImageSize | None = None
    timing_cache: Path | None = None
    compute_capabilities: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    refittable: bool = False


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


def default_output(source: Path, precision: Precision) -> Path:
    """Return where the engine of `source` goes by default: model.onnx -> model.fp16.engine."""
    return source.parent / f"{source.stem}.{precision}.engine"


def outputs(engine: Path) -> tuple[Path, Path, Path]:
    """Return the files that a build of `engine` writes, in order: typed ONNX, engine, manifest."""
    return engine.parent / f"{engine.stem}.onnx", engine, manifest.path_for(engine)


def build(
    source: Path,
    output: Path,
    options: BuildOptions = BuildOptions(),
    on_phase: OnPhase = lambda _: None,
    on_progress: OnProgress = lambda _: None,
) -> BuildResult:
    """Build an engine.

    Writes `output`, the typed ONNX beside it (same name, suffix .onnx) and the manifest (`output` + .json), all
    only after the build and the reading back of its precision succeeded, and all or none. Where the library fails, its
    log is written beside them (`output` + .log), and the error names it.

    Args:
        source: ONNX file from `rc-deploy export`.
        output: the engine to write.
        options: how.
        on_phase: called with the name of each phase.
        on_progress: called with the progress of each phase of the library's.

    Raises:
        InputError: `source` cannot be used, or not as asked.
        OutputError: `output` or a file beside it cannot be written, or is no earlier build's to be replaced.
        MissingDependencyError, UnsupportedError: the backend is not there, cannot build on this machine or cannot do
            what was asked.
        BuildError: the library refuses the graph, ended its process, or built another precision than the one asked for.
        KeyboardInterrupt: Ctrl-C.
    """
    typed_path, _, manifest_path = outputs(output)
    cache_path = [(options.timing_cache, Kind.TIMING_CACHE)] if options.timing_cache else []
    require_outputs(
        [(typed_path, Kind.ONNX), (output, Kind.ENGINE), (manifest_path, Kind.MANIFEST), *cache_path],
        [source],
        "The typed ONNX and the manifest lie beside the engine: choose another name for it with -o.",
    )
    model, source_content = onnx_model.read(source)
    provenance = onnx_model.provenance(model, str(source))
    onnx_model.require_classifier(model, provenance.input, str(source))
    profiles = _profiles(model, options.batch, source)
    if options.image:
        model = resized(model, options.image, str(source))
    library = choose(options.backend)
    plugin_library = plugins.find(library, options.plugins)
    settings = _settings(library, options, profiles)
    on_phase(f"Converting to {options.precision}")
    assigned = assign(model, options, str(source), lambda what, done: on_phase(f"{what} ({100 * done:.0f}%)"))
    graph = assigned.graph
    plan = planned(model, options.precision, assigned.kept)
    content = graph.SerializeToString(deterministic=True)
    _require_replaceable(typed_path, content, output)
    onnx_model.check(graph, f"The {options.precision} form of {source}", content)
    compilation = Compilation(library, settings, output, options.timing_cache, on_phase, on_progress)
    compiled, chosen = compile_chosen(
        library, graph, compilation, profiles[0].optimum, options.plugins, plugin_library, on_phase
    )
    found = read_back(compiled)
    require_precision(found, options.precision, plan)

    record = Manifest(
        engine=FileRecord(output.name, digest(compiled.engine)),
        source=FileRecord(source.name, digest(source_content)),
        typed_onnx=FileRecord(typed_path.name, digest(content)),
        checkpoint_sha256=provenance.checkpoint_sha256,
        backend={"name": library.name, "version": version(library)},
        tools=manifest.tools(),
        options=options_as_json(options),
        compute_capabilities=compiled.compute_capabilities,
        platform=manifest.this_platform(),
        batch=",".join(map(str, profiles)),
        profiles=[profile_shapes(model, batch) for batch in profiles],
        precision=_precision(options, assigned, plan, found),
        layers=layers_by_type(compiled),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rc_deploy=__version__,
        seconds=round(compiled.seconds, 3),
        plugins=[FileRecord.of(plugin_library)] if plugin_library and chosen.plugins else [],
        rc_nodes=chosen.to_json(),
    )
    write_together({typed_path: content, output: compiled.engine, manifest_path: manifest.content(record)})
    return BuildResult(output, typed_path, record, found, [*compiled.warnings, *compilation.store()], assigned.search)


def _settings(library: Library, options: BuildOptions, profiles: tuple[BatchRange, ...]) -> Settings:
    """Return what the library is asked for. Raises UnsupportedError or InputError where it cannot do that."""
    require_features(library, [name for name in FEATURES if getattr(options, name)])
    oldest = OLDEST.get(options.precision, OLDEST_TARGET)
    return Settings(
        profiles=profiles,
        compute_capabilities=targets(library, options.compute_capabilities, options.hardware_compatible, oldest),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        strip_weights=options.strip_weights,
        refittable=options.refittable,
    )


def _precision(options: BuildOptions, assigned: Assigned, plan: Plan, found: Readback) -> dict[str, Any]:
    """Return what the manifest says of the precision: asked for, planned, found, and how it came about."""
    record: dict[str, Any] = {
        "asked": options.precision.value,
        "planned": {"narrow": plan.narrow, "wide": plan.wide},
        "found": found.to_json(),
    }
    if assigned.kept:
        record["kept"] = sorted(assigned.kept)
    if options.calibration:
        record["calibration"] = asdict(options.calibration)
    if assigned.search:
        record["search"] = assigned.search.to_json()
    return record


def _require_replaceable(typed_onnx: Path, content: bytes, engine: Path) -> None:
    """Require that the file in the typed ONNX's place is the one of the earlier build of this engine, or the same.

    Nobody named that place, so nobody agreed to lose what lies there. Raises OutputError.
    """
    if not typed_onnx.exists():
        return
    found = sha256(typed_onnx)
    earlier = manifest.typed_onnx_of(engine)
    if found != digest(content) and (earlier is None or found != earlier.sha256):
        raise OutputError(
            f"The typed ONNX written beside the engine would overwrite {typed_onnx}, which no earlier build of "
            f"{engine} wrote.",
            f"Move that file away, or choose another name: -o {shlex.quote(str(engine.with_stem(engine.stem + '-2')))}",
        )


def _profiles(model: ModelProto, asked: tuple[BatchRange, ...], source: Path) -> tuple[BatchRange, ...]:
    """Return the batch sizes to build for, a range per profile.

    Raises:
        InputError: one is not the graph's own fixed size, or is asked for twice.
    """
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if not fixed:
        if len(set(asked)) < len(asked):
            raise InputError(f"--batch asks for {asked[-1]} twice.", "Give each range once.")
        return asked or (DEFAULT_BATCH,)
    own = BatchRange.parse(str(fixed))
    if wrong := [batch for batch in asked if batch != own]:
        raise InputError(
            f"{source} has the fixed batch size {fixed}; it cannot be built for {wrong[0]}.",
            "Leave --batch out, or export without --static-batch.",
        )
    return (own,)
