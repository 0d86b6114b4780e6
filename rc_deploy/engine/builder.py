"""Build: from an exported ONNX file to a typed ONNX file, an engine and its manifest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import onnx.inliner

from rc_deploy import __version__, manifest
from rc_deploy.engine.library import OnPhase, choose, compile_graph, version
from rc_deploy.engine.readback import Readback, read_back, require_precision
from rc_deploy.errors import InputError, OutputError
from rc_deploy.files import require_writable, write_bytes
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.precision import typed
from rc_deploy.manifest import FileRecord, Manifest
from rc_deploy.specs import BatchRange, Precision

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto


DEFAULT_BATCH = BatchRange(1, 8, 64)


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Attributes:
        precision: of weights and activations; in- and outputs stay float32.
        backend: "auto", "tensorrt" or "tensorrt-rtx".
        batch: sizes to build for; `DEFAULT_BATCH` for None, or the graph's own where it is fixed.
    """

    precision: Precision = Precision.FP32
    backend: str = "auto"
    batch: BatchRange | None = None


@dataclass(frozen=True)
class BuildResult:
    """What was written: the engine, the typed ONNX it was compiled from, and the manifest."""

    engine: Path
    typed_onnx: Path
    manifest: Manifest
    readback: Readback
    warnings: list[str]


def default_output(source: Path, precision: Precision) -> Path:
    """Return where the engine of `source` goes by default: model.onnx -> model.fp16.engine."""
    return source.with_suffix(f".{precision}.engine")


def build(
    source: Path, output: Path, options: BuildOptions = BuildOptions(), on_phase: OnPhase = lambda _: None
) -> BuildResult:
    """Build an engine.

    Writes `output`, the typed ONNX beside it (same name, suffix .onnx) and the manifest (`output` + .json), all
    only after the build and the reading back of its precision succeeded.

    Args:
        source: ONNX file from `rc-deploy export`.
        output: the engine to write.
        options: how.
        on_phase: called with the name of each phase.

    Raises:
        InputError: `source` cannot be used.
        OutputError: `output` cannot be written.
        MissingDependencyError, UnsupportedError: the backend is not there or cannot build on this machine.
        BuildError: the library refuses the graph, or built another precision than the one asked for.
        KeyboardInterrupt: Ctrl-C.
    """
    typed_path = output.with_suffix(".onnx")
    require_writable(output)
    if typed_path.resolve() in (source.resolve(), output.resolve()):
        raise OutputError(
            f"The typed ONNX written beside the engine would overwrite {typed_path}.",
            f"Choose another name: -o {default_output(source, options.precision)}",
        )
    model = onnx_model.load(source)
    provenance = onnx_model.provenance(model, str(source))
    onnx_model.require_classifier(model, provenance.input, str(source))
    batch = _batch_range(model, options.batch, source)
    library = choose(options.backend)
    on_phase(f"Converting to {options.precision}")
    graph = typed(model, options.precision, str(source))
    content = graph.SerializeToString(deterministic=True)
    onnx_model.check(graph, f"The {options.precision} form of {source}", content)
    # Inlined, because parsers differ in how they treat functions; the inliner makes every name unique.
    flat = onnx.inliner.inline_local_functions(graph).SerializeToString()
    start = time.perf_counter()
    compiled = compile_graph(library, flat, batch, on_phase)
    seconds = time.perf_counter() - start
    found = read_back(compiled)
    require_precision(found, options.precision)

    write_bytes(typed_path, content)
    write_bytes(output, compiled.engine)
    record = Manifest(
        engine=FileRecord.of(output),
        source=FileRecord.of(source),
        typed_onnx=FileRecord.of(typed_path),
        checkpoint_sha256=provenance.checkpoint_sha256,
        backend={"name": library.name, "version": version(library)},
        compute_capabilities=compiled.compute_capabilities,
        batch=str(batch),
        precision={"asked": options.precision.value, "found": found.to_json()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rc_deploy=__version__,
        seconds=round(seconds, 3),
    )
    manifest.write(record, output)
    return BuildResult(output, typed_path, record, found, compiled.warnings)


def _batch_range(model: ModelProto, asked: BatchRange | None, source: Path) -> BatchRange:
    """Return the batch sizes to build for. Raises InputError where `asked` is not the graph's own fixed size."""
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if not fixed:
        return asked or DEFAULT_BATCH
    own = BatchRange(fixed, fixed, fixed)
    if asked not in (None, own):
        raise InputError(
            f"{source} has the fixed batch size {fixed}; it cannot be built for {asked}.",
            "Leave --batch out, or export without --static-batch.",
        )
    return own
