"""Engines of TensorRT and TensorRT-RTX, built and run on a device through PyCUDA, against their typed ONNX and PyTorch.

Not yet run on a GPU: see docs/gpu-status.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from conftest import CALIBRATION, SPEC, plant_in_bodies, randomised
from native_build import built_with_cuda
from rc_deploy import checkpoint, gpu, loading, manifest, models
from rc_deploy.check import obstacle
from rc_deploy.checkpoint import Checkpoint
from rc_deploy.engine import BuildOptions, build
from rc_deploy.engine.contained import why_not
from rc_deploy.engine.library import LIBRARIES, Loaded
from rc_deploy.engine.plugins import Plugins
from rc_deploy.engine.runner import EngineRunner, _failed
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.export import export
from rc_deploy.graph import model as onnx_model
from rc_deploy.optional import is_installed, require
from rc_deploy.runners import OnnxRunner
from rc_deploy.specs import BatchRange, Precision
from rc_deploy.validate import ValidateOptions, validate

if TYPE_CHECKING:
    from rc_deploy.verdict import Validation

pytestmark = pytest.mark.skipif(not is_installed("pycuda"), reason="engines run through PyCUDA, which is not installed")

WAYS = [("tensorrt", Plugins.OFF), ("tensorrt", Plugins.REQUIRE), ("tensorrt-rtx", Plugins.OFF)]
NETWORKS = {"gclu": {"activation": "gclu"}, "relu": {}}  # with ReLU, whole tails of residual blocks are plugins
BATCH = BatchRange(2, 8, 64)
OPTIONS = ValidateOptions(data="random:0", limit=250)


@dataclass(frozen=True)
class Case:
    """A network, and the engine that was built of it."""

    reference: Path
    engine: Path


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResCNet-8 with weights as if trained, as a checkpoint with the ONNX file beside it."""
    arguments = {"num_classes": 10, **NETWORKS[request.param]}
    path = tmp_path_factory.mktemp(request.param) / "network.pt"
    made = randomised(models.create("rescnet8", arguments), SPEC.shape)
    checkpoint.save(Checkpoint("rescnet8", arguments, SPEC, made.state_dict()), path)
    export(path, path.with_suffix(".onnx"))
    return path


def options(backend: str, plugins: Plugins, precision: Precision) -> BuildOptions:
    calibration = CALIBRATION if precision.quantised else None
    return BuildOptions(precision, backend=backend, plugins=plugins, batch=(BATCH,), calibration=calibration)


def engine_of(network: Path, backend: str, plugins: Plugins, precision: Precision) -> Path:
    """Build an engine, or skip the test with the reason why there can be none here."""
    if problem := why_not(LIBRARIES[backend]):
        pytest.skip(f"{LIBRARIES[backend].title} builds nothing here: {problem}")
    path = network.with_name(f"{backend}-{plugins}.{precision}.engine")
    if not path.exists():
        with pytest.MonkeyPatch.context() as patch:
            if plugins is not Plugins.OFF:
                patch.setenv("RC_DEPLOY_LIBRARIES", str(built_with_cuda("librc_trt.so").parent))
            build(
                network.with_suffix(".onnx"),
                path,
                options(backend, plugins, precision),
            )
    if problem := obstacle(manifest.read(path)):
        pytest.skip(f"this machine does not run the engine: {problem}")
    return path


@pytest.fixture
def runnable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, network: Path) -> Case:
    """The engine that the test's parameters ask for, and the plugins that it needs in place."""
    given = request.node.callspec.params
    backend, plugins = given["way"]
    if plugins is not Plugins.OFF:
        monkeypatch.setenv("RC_DEPLOY_LIBRARIES", str(built_with_cuda("librc_trt.so").parent))
    return Case(network, engine_of(network, backend, plugins, given["precision"]))


def validated(case: Case) -> Validation:
    """Run the engine itself against PyTorch."""
    outcome = validate(case.engine, case.reference, OPTIONS)
    assert isinstance(outcome.artefact.runner, EngineRunner)
    assert outcome.artefact.note == ""
    return outcome


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_engine_computes_what_its_typed_onnx_does(way: object, precision: Precision, runnable: Case) -> None:
    """Against PyTorch within the derived tolerance; so is the typed ONNX, and between them lies at most twice that."""
    outcome = validated(runnable)
    assert outcome.passed, outcome.criteria
    images = np.random.default_rng(0).standard_normal((130, *SPEC.shape)).astype(np.float32)
    found = loading.load(runnable.engine)
    typed = onnx_model.load(runnable.engine.with_suffix(".onnx"))
    with found.runner as engine, OnnxRunner(typed, bodies=True) as onnx:
        expected, logits = onnx.run(images), engine.run(images)
        assert np.abs(logits - expected).max() <= 2 * outcome.tolerance.maximum
        assert np.array_equal(engine.run(images), logits), "two runs differ"
        for count in (0, 1, 2, 3, 64, 65):  # the profile begins at 2 and ends at 64
            part = engine.run(images[:count])
            assert part.shape == (count, 10)
            assert np.abs(part - expected[:count]).max(initial=0) <= 2 * outcome.tolerance.maximum
        with pytest.raises(InputError, match="takes images of shape"):
            engine.run(images[:, :, 1:])


@pytest.mark.parametrize("precision", [Precision.FP16])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_fault_in_an_engine_is_found(
    way: tuple[str, Plugins], precision: Precision, runnable: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine of a network with other weights, under this network's name."""
    other = tmp_path / "other.pt"
    saved = checkpoint.load(runnable.reference)
    weights = {name: tensor.clone() for name, tensor in saved.weights.items()}
    name = next(name for name in weights if name.endswith("weight") and weights[name].ndim == 4)
    weights[name].flatten()[0] += 1
    checkpoint.save(replace(saved, weights=weights), other)
    export(other, other.with_suffix(".onnx"))
    faulty = engine_of(other, *way, precision)
    assert not validated(Case(runnable.reference, faulty)).passed


@pytest.mark.parametrize("precision", [Precision.FP32])
@pytest.mark.parametrize("way", [("tensorrt", Plugins.OFF), ("tensorrt-rtx", Plugins.OFF)], ids=str)
def test_a_fault_in_a_body_is_found(
    way: tuple[str, Plugins], precision: Precision, runnable: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_in_bodies(monkeypatch, "0.7071067811865476", "0.7171067811865476")
    other = tmp_path / "network.pt"
    other.write_bytes(runnable.reference.read_bytes())
    monkeypatch.setattr("rc_deploy.export._check_parity", lambda *_: (None, None))
    export(other, other.with_suffix(".onnx"))
    assert not validated(Case(runnable.reference, engine_of(other, *way, precision))).passed


@pytest.mark.parametrize("precision", [Precision.FP16])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_cuda_graph_and_runtime_cache_change_nothing(
    way: tuple[str, Plugins], precision: Precision, runnable: Case, tmp_path: Path
) -> None:
    images = np.random.default_rng(1).standard_normal((64, *SPEC.shape)).astype(np.float32)
    library, content = LIBRARIES[way[0]], runnable.engine.read_bytes()
    plugin_library = built_with_cuda("librc_trt.so") if way[1] is Plugins.REQUIRE else None
    cache = tmp_path / "kernels.cache"
    with EngineRunner(content, library, plugin_library) as plain:
        expected = {count: plain.run(images[:count]) for count in (8, 64)}
    for _ in range(2):  # the second time with what the first stored
        with EngineRunner(content, library, plugin_library, cuda_graph=True, runtime_cache=cache) as recorded:
            for count in (8, 64, 8, 64, 8):
                assert np.array_equal(recorded.run(images[:count]), expected[count])
    assert cache.exists() == (way[0] == "tensorrt-rtx")


@pytest.mark.parametrize("precision", [Precision.FP16])
@pytest.mark.parametrize("way", [("tensorrt", Plugins.REQUIRE)], ids=str)
def test_engine_proves_its_plugins(way: object, precision: Precision, runnable: Case) -> None:
    record = manifest.read(runnable.engine)
    assert record.rc_nodes["plugins"] > 0
    assert [item.name for item in record.plugins] == ["librc_trt.so"]
    with loading.load(runnable.engine).runner as runner:
        assert isinstance(runner, EngineRunner)
        kinds = [layer["LayerType"] for layer in json.loads(runner.layer_information())["Layers"]]
    assert sum(kind.startswith("Plugin") for kind in kinds) == record.rc_nodes["plugins"]


def test_auto_keeps_what_is_faster(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RC_DEPLOY_LIBRARIES", str(built_with_cuda("librc_trt.so").parent))
    chosen = manifest.read(engine_of(network, "tensorrt", Plugins.AUTO, Precision.FP16)).rc_nodes
    times = chosen["milliseconds"]
    assert set(times) == {"plugins", "bodies"}
    assert (chosen["plugins"] > 0) == (times["plugins"] < times["bodies"])
    assert "measured at batch 8" in chosen["why"]


@pytest.mark.parametrize("precision", [Precision.FP16])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_engine_without_weights_gets_them_back(
    way: tuple[str, Plugins], precision: Precision, runnable: Case, tmp_path: Path
) -> None:
    source, engine = runnable.reference.with_suffix(".onnx"), tmp_path / "stripped.engine"
    build(source, engine, replace(options(*way, precision), strip_weights=True))
    weights = sum(len(tensor.raw_data) for tensor in onnx_model.load(engine.with_suffix(".onnx")).graph.initializer)
    assert engine.stat().st_size <= runnable.engine.stat().st_size - weights / 2, "the weights are still in it"
    outcome = validated(Case(runnable.reference, engine))
    assert outcome.passed, outcome.criteria


@pytest.mark.parametrize("precision", [Precision.FP32])
@pytest.mark.parametrize("way", [("tensorrt", Plugins.OFF), ("tensorrt-rtx", Plugins.OFF)], ids=str)
def test_damaged_engines_are_refused_in_words(way: tuple[str, Plugins], precision: Precision, runnable: Case) -> None:
    content = bytearray(runnable.engine.read_bytes())
    for damaged in (content[: len(content) // 2], b"\x55" + content[1:], b""):
        with pytest.raises((InputError, UnsupportedError), match="does not load the engine"):
            EngineRunner(bytes(damaged), LIBRARIES[way[0]]).__enter__()


@pytest.mark.parametrize("precision", [Precision.FP16])
@pytest.mark.parametrize("way", [("tensorrt", Plugins.OFF), ("tensorrt-rtx", Plugins.OFF)], ids=str)
def test_a_size_beyond_the_profile_is_named(way: tuple[str, Plugins], precision: Precision, runnable: Case) -> None:
    """The library's own words, which are translated."""
    library = LIBRARIES[way[0]]
    with EngineRunner(runnable.engine.read_bytes(), library) as runner:
        assert runner.run(np.zeros((2, *SPEC.shape), np.float32)).shape == (2, 10)
        context = next(iter(runner._contexts.values()))
        assert not context.set_input_shape(runner._input, (BATCH.maximum + 1, *SPEC.shape))
        assert "profile" in str(_failed(library, "run"))


def test_an_engine_for_another_gpu_is_called_unrunnable_and_is(network: Path, tmp_path: Path) -> None:
    """TensorRT-RTX alone builds for GPUs that are not there."""
    library = LIBRARIES["tensorrt-rtx"]
    own = gpu.driver().gpus[0].compute_capability
    offered = Loaded.of(require(library.module, library.title)).capabilities
    others = [capability for capability in offered if capability.split(".")[0] != own.split(".")[0]]
    engine = tmp_path / "other.engine"
    asked = replace(options(library.name, Plugins.OFF, Precision.FP16), compute_capabilities=(others[-1],))
    build(network.with_suffix(".onnx"), engine, asked)
    assert f"built for compute capability {others[-1]}" in obstacle(manifest.read(engine))
    assert loading.load(engine).note
    with pytest.raises((InputError, UnsupportedError)):
        EngineRunner(engine.read_bytes(), library).__enter__()
