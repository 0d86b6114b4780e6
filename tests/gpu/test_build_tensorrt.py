"""Builds by TensorRT itself, through the adapter and its process: caches, compatibility, stripped weights.

Not yet run on a GPU: see docs/gpu-status.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rc_deploy import gpu, manifest
from rc_deploy.engine import BuildOptions, build, timing_cache
from rc_deploy.engine.library import LIBRARIES
from rc_deploy.errors import BuildError
from rc_deploy.specs import BatchRange, Precision

pytest.importorskip("tensorrt", reason="TensorRT is not installed")

FP16 = BuildOptions(precision=Precision.FP16, backend="tensorrt")


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_tensorrt_builds(precision: Precision, small_onnx: Path, tmp_path: Path) -> None:
    batch = (BatchRange(1, 1, 1), BatchRange(2, 8, 16))
    build(small_onnx, tmp_path / "m.engine", replace(FP16, precision=precision, batch=batch))
    record = manifest.read(tmp_path / "m.engine")
    assert record.backend["name"] == "tensorrt"
    assert record.compute_capabilities == [gpu.driver().gpus[0].compute_capability]


def test_a_timing_cache_is_kept_and_a_wrong_one_set_aside(small_onnx: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    options = replace(FP16, timing_cache=cache)
    assert not any("set aside" in warning for warning in build(small_onnx, tmp_path / "m.engine", options).warnings)
    key = timing_cache.Key.here(LIBRARIES["tensorrt"])
    measured, problem = timing_cache.read(cache, key)
    assert measured
    assert problem == ""
    assert not any("set aside" in warning for warning in build(small_onnx, tmp_path / "m.engine", options).warnings)
    for wrong in (b"not a cache", b""):
        # The right key over bytes that the library itself must refuse, or no file of ours at all.
        timing_cache.write(cache, key, wrong) if wrong else cache.write_bytes(b"another's")
        warnings = build(small_onnx, tmp_path / "m.engine", options).warnings
        assert any("it was set aside as" in warning for warning in warnings)
        assert timing_cache.read(cache, key)[0]


@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible", "strip_weights", "refittable"])
def test_what_tensorrt_can_be_asked_for(option: str, small_onnx: Path, tmp_path: Path) -> None:
    plain = build(small_onnx, tmp_path / "plain.engine", FP16).engine.stat().st_size
    made = build(small_onnx, tmp_path / "m.engine", replace(FP16, **{option: True}))  # type: ignore[arg-type]
    if option == "strip_weights":
        assert made.engine.stat().st_size < plain
    if option == "hardware_compatible":
        assert {"8.0", "9.0"} <= set(made.manifest.compute_capabilities)


def test_tensorrt_says_why_it_refuses(small_onnx: Path, tmp_path: Path) -> None:
    huge = replace(FP16, batch=(BatchRange(2**30, 2**30, 2**30),))
    with pytest.raises(BuildError, match="Its whole log is in"):
        build(small_onnx, tmp_path / "m.engine", huge)
