"""What of running engines needs no GPU: how batches are split, and what is said where an engine cannot be run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rc_deploy import gpu, loading, manifest
from rc_deploy.check import require_runnable
from rc_deploy.engine import runner
from rc_deploy.engine.device import Device
from rc_deploy.engine.library import LIBRARIES
from rc_deploy.engine.parts import Part, parts
from rc_deploy.engine.runner import EngineRunner
from rc_deploy.errors import InputError, OutputError, RcDeployError, UnsupportedError
from rc_deploy.files import sha256
from rc_deploy.gpu import Driver, Gpu
from rc_deploy.specs import BatchRange

if TYPE_CHECKING:
    import numpy as np

ONE, MANY = BatchRange(1, 1, 1), BatchRange(4, 8, 64)
RTX = LIBRARIES["tensorrt-rtx"]


@pytest.mark.parametrize(
    ("profiles", "count", "expected"),
    [
        ([ONE, MANY], 0, []),
        ([ONE, MANY], 1, [Part(0, 1, 1, 0)]),
        ([ONE, MANY], 2, [Part(0, 2, 4, 1)]),  # no profile holds 2
        ([ONE, MANY], 64, [Part(0, 64, 64, 1)]),
        ([ONE, MANY], 130, [Part(0, 64, 64, 1), Part(64, 128, 64, 1), Part(128, 130, 4, 1)]),
        ([MANY, ONE], 65, [Part(0, 64, 64, 0), Part(64, 65, 1, 1)]),
        ([BatchRange(1, 64, 64), BatchRange(1, 2, 64)], 3, [Part(0, 3, 3, 1)]),  # the nearest optimum
        ([BatchRange(3, 3, 3)], 4, [Part(0, 3, 3, 0), Part(3, 4, 3, 0)]),
    ],
)
def test_parts(profiles: list[BatchRange], count: int, expected: list[Part]) -> None:
    assert parts(profiles, count) == expected


def test_parts_hold_every_image_once_and_fit(rng: np.random.Generator) -> None:
    for _ in range(300):
        profiles = [BatchRange(*sorted(rng.integers(1, 20, 3).tolist())) for _ in range(rng.integers(1, 4))]
        count = int(rng.integers(0, 60))
        found = parts(profiles, count)
        assert [image for part in found for image in range(part.start, part.stop)] == list(range(count))
        for part in found:
            profile = profiles[part.profile]
            assert part.stop - part.start <= part.size
            assert profile.minimum <= part.size <= profile.maximum


def on_machine(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu) -> None:
    monkeypatch.setattr(gpu, "driver", lambda: Driver("13.0", gpus, "" if gpus else "the NVIDIA driver finds no GPU"))
    monkeypatch.setattr("rc_deploy.check.is_installed", lambda _: True)


def test_loading_takes_the_engine_where_it_runs(small_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, Gpu("RTX 4090", "8.9"))
    found = loading.load(small_engine)
    assert isinstance(found.runner, EngineRunner)
    assert found.note == ""
    assert found.runner.name.startswith("TensorRT-RTX 1.")
    assert found.runner.name.endswith("(RTX 4090)")
    on_machine(monkeypatch, Gpu("H200", "9.0"))
    found = loading.load(small_engine)
    assert not isinstance(found.runner, EngineRunner)
    assert "NOT run: GPU: built for compute capability" in found.note


def copied(engine: Path, folder: Path) -> Path:
    """Return a copy of an engine with the files beside it."""
    for file in (engine, engine.with_suffix(".onnx"), manifest.path_for(engine)):
        shutil.copy(file, folder)
    return folder / engine.name


def test_loading_refuses_an_engine_of_another_hash(
    small_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_machine(monkeypatch, Gpu("RTX 4090", "8.9"))
    engine = copied(small_engine, tmp_path)
    assert isinstance(loading.load(engine).runner, EngineRunner)
    content = bytearray(engine.read_bytes())
    content[-1] ^= 1
    engine.write_bytes(content)
    with pytest.raises(InputError, match="SHA-256 differs"):
        loading.load(engine)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("backend", {"name": "tensorrt-rtx", "version": "1.0.0"}, "library: built with TensorRT-RTX 1.0.0"),
        ("platform", "win32-AMD64", "platform: built on win32-AMD64"),
        ("plugins", [{"name": "librc_trt.so", "sha256": "0" * 64}], "plugin librc_trt.so: "),
    ],
)
def test_loading_never_runs_an_engine_that_does_not_fit(
    key: str, value: object, reason: str, small_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs in its place is the typed ONNX, and it is said why; `require_runnable` refuses for the same reason."""
    on_machine(monkeypatch, Gpu("RTX 4090", "8.9"))
    engine = copied(small_engine, tmp_path)
    place = manifest.path_for(engine)
    place.write_text(json.dumps({**json.loads(place.read_text()), key: value}))
    found = loading.load(engine)
    assert not isinstance(found.runner, EngineRunner)
    assert f"NOT run: {reason}" in found.note
    with pytest.raises(UnsupportedError, match=re.escape(reason)):
        require_runnable(engine)


@pytest.mark.skipif(bool(gpu.driver().gpus), reason="says what is said without a GPU")
def test_without_a_gpu(small_engine: Path) -> None:
    """The real thing, on a machine without a driver."""
    with pytest.raises(UnsupportedError, match="Engines run on a GPU, and"):
        EngineRunner(small_engine.read_bytes(), RTX).__enter__()
    with pytest.raises(UnsupportedError), Device():
        pass
    with pytest.raises(RcDeployError, match="error 35"):
        runner.load_engine(RTX, small_engine.read_bytes())


def test_the_runtime_cache_lies_in_the_folder_that_is_named(
    small_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = manifest.read(small_engine)
    monkeypatch.delenv(runner.RUNTIME_CACHES, raising=False)
    assert "runtime cache" not in runner.runner_of(record, small_engine).name
    monkeypatch.setenv(runner.RUNTIME_CACHES, str(tmp_path))
    kept = runner.runner_of(record, small_engine)
    assert kept._cache_path == tmp_path / f"{sha256(small_engine)}.runtime-cache"
    assert kept.name.endswith(", runtime cache)"), "a first run that compiles nothing says so"
    monkeypatch.setenv(runner.RUNTIME_CACHES, str(tmp_path / "missing"))
    with pytest.raises(OutputError, match="runtime-cache could not be written"):
        runner.runner_of(record, small_engine).__enter__()
    assert list(tmp_path.iterdir()) == []


# Everything of a library that the runner touches, by class. TensorRT 10.13's stubs have all of it but what concerns
# the runtime cache, which is TensorRT-RTX's alone and asked for only there.
TOUCHED = {
    "Runtime": ["deserialize_cuda_engine"],
    "ICudaEngine": [
        "create_engine_inspector",
        "create_execution_context",
        "create_runtime_config",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "get_tensor_shape",
        "num_io_tensors",
        "num_optimization_profiles",
    ],
    "IExecutionContext": [
        "execute_async_v3",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    ],
    "EngineInspector": ["get_engine_information"],
    "IRuntimeConfig": ["create_runtime_cache", "set_runtime_cache"],
    "IRuntimeCache": ["deserialize", "serialize"],
    "LayerInformationFormat": ["JSON"],
    "TensorIOMode": ["INPUT"],
    "ProfilingVerbosity": ["DETAILED"],
    "IPluginRegistry": ["all_creators", "load_library"],
}


@pytest.mark.parametrize("kind", TOUCHED)
def test_tensorrt_rtx_has_what_is_touched(kind: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    assert [name for name in TOUCHED[kind] if not hasattr(getattr(trt, kind), name)] == []
