"""Build: from an exported ONNX file to a typed ONNX file, an engine and its manifest."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import onnx.inliner

from rc_deploy import __version__, manifest
from rc_deploy.artefacts import Kind
from rc_deploy.assignment import Assigned, PrecisionOptions, assign
from rc_deploy.engine.library import OLDEST_TARGET, OnPhase, choose, compile_graph, version
from rc_deploy.engine.readback import Readback, read_back, require_precision
from rc_deploy.errors import InputError, OutputError
from rc_deploy.files import digest, require_file, sha256, write_together
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.plan import planned
from rc_deploy.manifest import FileRecord, Manifest
from rc_deploy.outputs import require_outputs
from rc_deploy.specs import BatchRange, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from rc_deploy.sensitivity import Search

# Compute capability, times ten, of the first GPUs that have a type.
OLDEST = {Precision.FP8: 89}
DEFAULT_BATCH = BatchRange(1, 8, 64)


@dataclass(frozen=True)
class BuildOptions(PrecisionOptions):
    """How to build; what it says of the precision is that of the typed graph.

    Attributes:
        backend: "auto", "tensorrt" or "tensorrt-rtx".
        batch: sizes to build for; `DEFAULT_BATCH` for None, or the graph's own where it is fixed.
    """

    backend: str = "auto"
    batch: BatchRange | None = None


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
    source: Path, output: Path, options: BuildOptions = BuildOptions(), on_phase: OnPhase = lambda _: None
) -> BuildResult:
    """Build an engine.

    Writes `output`, the typed ONNX beside it (same name, suffix .onnx) and the manifest (`output` + .json), all
    only after the build and the reading back of its precision succeeded, and all or none.

    Args:
        source: ONNX file from `rc-deploy export`.
        output: the engine to write.
        options: how.
        on_phase: called with the name of each phase.

    Raises:
        InputError: `source` cannot be used.
        OutputError: `output` or a file beside it cannot be written, or is no earlier build's to be replaced.
        MissingDependencyError, UnsupportedError: the backend is not there or cannot build on this machine.
        BuildError: the library refuses the graph, or built another precision than the one asked for.
        KeyboardInterrupt: Ctrl-C.
    """
    typed_path, _, manifest_path = outputs(output)
    require_outputs(
        [(typed_path, Kind.ONNX), (output, Kind.ENGINE), (manifest_path, Kind.MANIFEST)],
        [source],
        "The typed ONNX and the manifest lie beside the engine: choose another name for it with -o.",
    )
    source_record = FileRecord.of(require_file(source, "file"))
    model = onnx_model.load(source)
    provenance = onnx_model.provenance(model, str(source))
    onnx_model.require_classifier(model, provenance.input, str(source))
    batch = _batch_range(model, options.batch, source)
    library = choose(options.backend)
    on_phase(f"Converting to {options.precision}")
    assigned = assign(model, options, str(source), lambda what, done: on_phase(f"{what} ({100 * done:.0f}%)"))
    graph = assigned.graph
    plan = planned(model, options.precision, assigned.kept)
    content = graph.SerializeToString(deterministic=True)
    _require_replaceable(typed_path, content, output)
    onnx_model.check(graph, f"The {options.precision} form of {source}", content)
    # Inlined, because parsers differ in how they treat functions; the inliner makes every name unique.
    flat = onnx.inliner.inline_local_functions(graph).SerializeToString()
    start = time.perf_counter()
    compiled = compile_graph(library, flat, batch, on_phase, OLDEST.get(options.precision, OLDEST_TARGET))
    seconds = time.perf_counter() - start
    found = read_back(compiled)
    require_precision(found, options.precision, plan)

    record = Manifest(
        engine=FileRecord(output.name, digest(compiled.engine)),
        source=source_record,
        typed_onnx=FileRecord(typed_path.name, digest(content)),
        checkpoint_sha256=provenance.checkpoint_sha256,
        backend={"name": library.name, "version": version(library)},
        compute_capabilities=compiled.compute_capabilities,
        batch=str(batch),
        precision=_precision(options, assigned, found),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rc_deploy=__version__,
        seconds=round(seconds, 3),
    )
    write_together({typed_path: content, output: compiled.engine, manifest_path: manifest.content(record)})
    return BuildResult(output, typed_path, record, found, compiled.warnings, assigned.search)


def _precision(options: BuildOptions, assigned: Assigned, found: Readback) -> dict[str, Any]:
    """Return what the manifest says of the precision: asked for, found, and how it came about."""
    record: dict[str, Any] = {"asked": options.precision.value, "found": found.to_json()}
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


def _batch_range(model: ModelProto, asked: BatchRange | None, source: Path) -> BatchRange:
    """Return the batch sizes to build for. Raises InputError where `asked` is not the graph's own fixed size."""
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if not fixed:
        return asked or DEFAULT_BATCH
    own = BatchRange.parse(str(fixed))
    if asked not in (None, own):
        raise InputError(
            f"{source} has the fixed batch size {fixed}; it cannot be built for {asked}.",
            "Leave --batch out, or export without --static-batch.",
        )
    return own
