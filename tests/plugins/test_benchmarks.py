"""The benchmark that wants a GPU runs from end to end without one, and says that it measured nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from claimed import unfound_figures
from native_build import ROOT


def test_rehearsal_in_onnx_runtime(ort_library: Path, tmp_path: Path) -> None:
    output = tmp_path / "results" / "onnxruntime_gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "onnxruntime_gpu.py"), str(output), "--rehearse"]
    environment = {**os.environ, "RC_DEPLOY_LIBRARIES": str(ort_library.parent)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert found.returncode == 0, found.stderr[-4000:]
    assert "This was a rehearsal on the CPU: none of these figures is a result." in found.stdout
    record = json.loads(output.read_text())
    assert record["rehearsal"] is True
    assert list(record["runs"]) == [f"{kind}, batch {batch}" for kind in ("float32", "float16") for batch in (1, 2)]
    for key, variants in record["runs"].items():
        floor, *calibrated = variants.values()
        assert len(calibrated) == 3
        for mode in ("plain", "cuda_graph"):
            assert floor[mode]["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
            assert all(variant[mode]["milliseconds"]["low"] > 0 for variant in variants.values())
            # One network, whatever runs it.
            logits = [variant[mode]["largest_logit"] for variant in calibrated]
            assert logits == pytest.approx([logits[0]] * 3, rel=1e-5 if "float32" in key else 1e-2)
        bodies, library, fused = (sum(variant["nodes"].values()) for variant in calibrated)
        assert bodies > library > fused
    assert unfound_figures("onnxruntime-speed", record) == []


def test_without_a_cuda_provider_nothing_is_measured(ort_library: Path, tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has a CUDA provider")
    command = [sys.executable, str(ROOT / "benchmarks" / "onnxruntime_gpu.py"), str(tmp_path / "none.json")]
    environment = {**os.environ, "RC_DEPLOY_LIBRARIES": str(ort_library.parent)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert found.returncode == 1
    assert "has no CUDA provider: pip install onnxruntime-gpu" in found.stderr
    assert not list(tmp_path.iterdir())
