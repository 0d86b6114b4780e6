"""Build: the typed ONNX, the engine that TensorRT-RTX really makes of it, and the proof of its precision."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import TensorProto

from rc_deploy import manifest
from rc_deploy.engine import BuildOptions, build, library, readback
from rc_deploy.engine.contained import compile_graph
from rc_deploy.engine.record import options_as_json
from rc_deploy.engine.settings import Settings
from rc_deploy.errors import BuildError, InputError, MissingDependencyError, OutputError, UnsupportedError
from rc_deploy.export import ExportOptions, export
from rc_deploy.files import sha256
from rc_deploy.gpu import Driver, Gpu
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.inline import inlined
from rc_deploy.graph.plan import Plan
from rc_deploy.graph.precision import typed
from rc_deploy.specs import BatchRange, Precision

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

FP16 = BuildOptions(precision=Precision.FP16, backend="tensorrt-rtx")


def test_typed_onnx_is_half_inside_and_float_outside(small_engine: Path) -> None:
    model = onnx.load(small_engine.with_suffix(".onnx"))
    # Those of the heads that predict statistics stay float32: their sums are float32 by contract.
    statistics = {tensor.name for tensor in model.graph.initializer if ".calibration." in tensor.name}
    weights = {
        tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1 and tensor.name not in statistics
    }
    assert weights == {TensorProto.FLOAT16}
    assert {tensor.data_type for tensor in model.graph.initializer if tensor.name in statistics} == {TensorProto.FLOAT}
    ends = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}
    assert onnx_model.provenance(model, "typed").precision is Precision.FP16
    onnx_model.check(model, "typed")


def test_engine_holds_half_layers_and_weights(small_engine: Path) -> None:
    tensors, weights = readback.program_types(small_engine.read_bytes())
    assert weights["half"] > 8 * weights.get("float", 0)
    assert tensors["half"] > 0


def test_fp32_engine_holds_no_half(small_onnx: Path, tmp_path: Path) -> None:
    result = build(small_onnx, tmp_path / "m.fp32.engine", replace(FP16, precision=Precision.FP32))
    assert set(result.readback.compute_layers) == {"FLOAT"}
    assert "half" not in result.readback.engine_weight_bytes


def test_fp32_engine_cannot_call_itself_fp16(small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap of the field: a conversion that silently does nothing."""
    monkeypatch.setattr("rc_deploy.assignment.typed", lambda model, *_: model)
    with pytest.raises(BuildError, match="The engine is not fp16"):
        build(small_onnx, tmp_path / "m.engine", FP16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "found",
    [
        readback.Readback({"HALF": 9, "FLOAT": 1}, {}, {}, {}),  # one convolution left behind
        readback.Readback({"HALF": 10}, {}, {"float": 9}, {"float": 900, "half": 100}),  # weights widened again
        readback.Readback({}, {}, {}, {}),  # nothing found at all
    ],
)
def test_partial_fp16_is_refused(found: readback.Readback) -> None:
    with pytest.raises(BuildError):
        readback.require_precision(found, Precision.FP16, Plan(10, 0, 1000, 0))


def test_manifest_names_everything(small_engine: Path, small_onnx: Path, small_checkpoint: Path) -> None:
    record = manifest.read(small_engine)
    assert record.engine.sha256 == sha256(small_engine)
    assert record.source == manifest.FileRecord(small_onnx.name, sha256(small_onnx))
    assert record.typed_onnx.sha256 == sha256(small_engine.with_suffix(".onnx"))
    assert record.checkpoint_sha256 == sha256(small_checkpoint)
    assert record.backend["name"] == "tensorrt-rtx"
    assert {"8.0", "8.6", "8.9", "12.0"} <= set(record.compute_capabilities)
    assert record.batch == "1:8:64"
    assert record.precision["asked"] == "fp16"
    assert record.platform == manifest.this_platform()
    assert record.tools["onnx"] == onnx.__version__
    assert record.tools["python"] == platform.python_version()
    assert record.options == {"precision": "fp16", "backend": "tensorrt-rtx", "batch": None} | record.options
    assert record.profiles == [{"input": [[1, 3, 16, 16], [8, 3, 16, 16], [64, 3, 16, 16]]}]
    found = record.precision["found"]
    assert sum(map(len, record.layers.values())) == sum(
        sum(found[layers].values()) for layers in ("compute_layers", "other_layers")
    )
    assert len(record.layers["CONVOLUTION HALF"]) == 9


def test_options_in_a_manifest_are_plain_and_name_no_place() -> None:
    @dataclass(frozen=True)
    class Options:
        precision: Precision
        batch: tuple[BatchRange, ...]
        cache: Path
        refit: bool
        limit: float | None

    found = options_as_json(Options(Precision.FP16, (BatchRange(1, 8, 64),), Path("/somewhere/t.cache"), True, None))
    assert found == {"precision": "fp16", "batch": ["1:8:64"], "cache": "t.cache", "refit": True, "limit": None}
    assert type(found["precision"]) is str


def test_same_input_gives_the_same_typed_onnx(small_onnx: Path, small_engine: Path, tmp_path: Path) -> None:
    build(small_onnx, tmp_path / "again.engine", FP16)
    assert sha256(tmp_path / "again.onnx") == sha256(small_engine.with_suffix(".onnx"))


def test_float32_graph_is_the_file_itself(small_onnx: Path, tmp_path: Path) -> None:
    build(small_onnx, tmp_path / "m.engine", replace(FP16, precision=Precision.FP32))
    assert (tmp_path / "m.onnx").read_bytes() == small_onnx.read_bytes()


def test_weights_pass_around_the_inliner(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    assert model.functions
    flat, expected = inlined(model), onnx.inliner.inline_local_functions(model)
    assert flat.graph.initializer == expected.graph.initializer == model.graph.initializer
    assert [list(node.output) for node in flat.graph.node] == [list(node.output) for node in expected.graph.node]
    assert inlined(flat) is flat


def test_a_build_does_not_wait_for_imports_that_it_has_no_use_for(
    small_onnx: Path, tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """onnx-ir imports SymPy: together half a second, as long as TensorRT-RTX takes for a small network."""
    ran = cli("build", small_onnx, "--fp16", "-o", tmp_path / "m.engine", PYTHONPROFILEIMPORTTIME="1")
    assert ran.returncode == 0, ran.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ran.stderr.splitlines()}
    assert "onnx" in imported  # the library itself is imported by the process that builds
    assert not imported & {"onnx_ir", "sympy", "onnxruntime", "torch", "scipy"}


@pytest.mark.parametrize("spoiled", ["engine", "typed"])
def test_changed_files_are_refused(spoiled: str, small_onnx: Path, tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    build(small_onnx, engine, FP16)
    target = engine if spoiled == "engine" else engine.with_suffix(".onnx")
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    with pytest.raises(InputError, match="SHA-256 differs"):
        manifest.read(engine)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": "other"}', '{"format": "rc-deploy/engine", "format_version": 1}']
)
def test_damaged_manifest_is_refused(text: str, small_engine: Path, tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    engine.write_bytes(small_engine.read_bytes())
    manifest.path_for(engine).write_text(text)
    with pytest.raises(InputError):
        manifest.read(engine)


def test_manifest_cannot_point_outside_its_folder(small_engine: Path, tmp_path: Path) -> None:
    document = json.loads(manifest.path_for(small_engine).read_text())
    document["typed_onnx"]["name"] = str(small_engine.with_suffix(".onnx"))
    engine = tmp_path / small_engine.name
    engine.write_bytes(small_engine.read_bytes())
    manifest.path_for(engine).write_text(json.dumps(document))
    with pytest.raises(InputError, match="is not a file in its folder"):
        manifest.read(engine)
    document["typed_onnx"]["name"] = "absent.onnx"
    manifest.path_for(engine).write_text(json.dumps(document))
    with pytest.raises(InputError, match="is missing"):
        manifest.read(engine)


def test_typed_graph_is_not_converted_again(small_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already is a fp16 graph"):
        build(small_engine.with_suffix(".onnx"), tmp_path / "m.engine", FP16)


def test_source_is_never_overwritten(small_onnx: Path) -> None:
    before = sha256(small_onnx)
    with pytest.raises(OutputError, match="would overwrite"):
        build(small_onnx, small_onnx.with_suffix(".engine"), FP16)
    assert sha256(small_onnx) == before


def test_weights_beyond_half_are_refused(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = 1e6
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    with pytest.raises(InputError, match=r"reaches 1e\+06; float16 ends at 65504"):
        typed(model, Precision.FP16, "model.onnx")


def test_library_refusing_a_graph_is_told_in_its_own_words(small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    model.graph.node.append(onnx.helper.make_node("Det", ["logits"], ["det"], name="determinant"))
    flat = onnx.inliner.inline_local_functions(model).SerializeToString()
    settings = Settings((BatchRange(1, 8, 64),), ("8.6",))
    with pytest.raises(BuildError, match="does not support operator Det .operator Det of node 'determinant'") as caught:
        compile_graph(library.LIBRARIES["tensorrt-rtx"], flat, settings, tmp_path / "m.engine.log")
    assert f"Its whole log is in {tmp_path / 'm.engine.log'}." in str(caught.value)
    log = (tmp_path / "m.engine.log").read_text()
    assert "[VERBOSE] " in log
    assert "[ERROR] " in log
    assert "Det" in log


def test_fixed_batch_is_the_only_one(small_checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "static.onnx"
    export(small_checkpoint, source, ExportOptions(static_batch=3))
    build(source, tmp_path / "m.engine", FP16)
    assert manifest.read(tmp_path / "m.engine").batch == "3:3:3"
    with pytest.raises(InputError, match="fixed batch size 3"):
        build(source, tmp_path / "m.engine", replace(FP16, batch=(BatchRange(1, 8, 64),)))


def test_phases_are_reported(small_onnx: Path, tmp_path: Path) -> None:
    phases: list[str] = []
    build(small_onnx, tmp_path / "m.engine", FP16, phases.append)
    assert "Building engine" in phases


@pytest.mark.parametrize(("text", "expected"), [("4", (4, 4, 4)), ("1:8:64", (1, 8, 64)), ("2:2:2", (2, 2, 2))])
def test_batch_range(text: str, expected: tuple[int, int, int]) -> None:
    found = BatchRange.parse(text)
    assert (found.minimum, found.optimum, found.maximum) == expected


@pytest.mark.parametrize("text", ["", "0", "8:1:64", "1:2", "-1", "a", "1:8:64:9", "1,8,64"])
def test_wrong_batch_range(text: str) -> None:
    with pytest.raises(InputError, match="MIN:OPT:MAX|batch range"):
        BatchRange.parse(text)


class TestChoiceOfLibrary:
    """Which library builds, on machines of other kinds than this one."""

    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> object:
        def pretend(installed: dict[str, str], gpus: tuple[Gpu, ...]) -> None:
            monkeypatch.setattr(library, "is_installed", lambda name: name in installed)
            monkeypatch.setattr("rc_deploy.gpu.driver", lambda: Driver("13.0", gpus, "" if gpus else "there is no GPU"))

        return pretend

    @pytest.mark.parametrize(
        ("installed", "gpus", "expected"),
        [
            ({"tensorrt": "11.0.1", "tensorrt_rtx": "1.7.1"}, (Gpu("H200", "9.0"),), "tensorrt"),
            ({"tensorrt": "11.0.1", "tensorrt_rtx": "1.7.1"}, (), "tensorrt-rtx"),
            ({"tensorrt_rtx": "1.7.1"}, (Gpu("RTX 4090", "8.9"),), "tensorrt-rtx"),
        ],
    )
    def test_auto(self, machine, installed, gpus, expected) -> None:  # type: ignore[no-untyped-def]
        machine(installed, gpus)
        assert library.choose("auto").name == expected

    @pytest.mark.parametrize(
        ("backend", "installed", "error", "message"),
        [
            ("auto", {}, MissingDependencyError, "not installed"),
            ("tensorrt", {"tensorrt": "11.0.0"}, UnsupportedError, "builds only where a GPU is"),
            ("openvino", {}, UnsupportedError, "no backend 'openvino'"),
        ],
    )
    def test_refusals(self, machine, backend, installed, error, message) -> None:  # type: ignore[no-untyped-def]
        machine(installed, ())
        with pytest.raises(error, match=message):
            library.choose(backend)
