"""PyTorch networks on a CUDA device as `bench` times them; not yet run, see docs/gpu-status.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rc_deploy import loading, tolerances
from rc_deploy.bench import BenchOptions, bench, subjects
from rc_deploy.bench.clocks import QUERIES
from rc_deploy.condition import condition
from rc_deploy.specs import Precision


@pytest.mark.parametrize("variant", ["cuda", "cuda-graph"])
def test_logits_are_those_of_the_cpu(variant: str, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 proper; a recorded graph gives the logits of the images at hand, not of those it was recorded with."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    expected = loading.load(small_checkpoint)
    roundings = expected.roundings()
    with (
        expected.runner as cpu,
        subjects.load(subjects.Subject(small_checkpoint, variant), None, None).runner as device,
    ):
        for seed in range(2):
            images = np.random.default_rng(seed).normal(size=(4, 3, 16, 16)).astype(np.float32)
            logits = cpu.run(images)
            allowed = tolerances.derive(roundings, Precision.FP32, logits, condition(cpu, images, roundings)).maximum
            assert np.abs(device.run(images) - logits).max() <= allowed


def test_parts_of_a_run_and_clocks_are_recorded(small_checkpoint: Path) -> None:
    options = BenchOptions(batches=(1, 8), seconds=0.0, loads=2)
    outcome = bench([f"{small_checkpoint}@cuda", f"{small_checkpoint}@cuda-graph"], options)
    for timing in outcome.timings:
        assert timing.device is not None
        parts = (timing.device.upload, timing.device.compute, timing.device.download)
        assert min(parts) > 0
        assert sum(parts) <= timing.p99  # the wall clock holds all of them
    assert [set(clocks) for clocks in outcome.gpu_clocks] == [set(QUERIES)] * 2


def test_a_profile_says_what_layers_move(small_checkpoint: Path) -> None:
    options = BenchOptions(batches=(64,), seconds=0.0, loads=2, profile=True)
    eager, recorded = bench([f"{small_checkpoint}@cuda", f"{small_checkpoint}@cuda-graph"], options).profiles
    assert recorded.note
    shares = {layer.name: layer.share for layer in eager.layers}
    assert 0.999 <= sum(shares.values()) <= 1.05  # layers follow each other in one stream, the events between them too
    assert all(layer.moved > 0 and layer.milliseconds > 0 for layer in eager.layers if "outside" not in layer.name)
    assert eager.bandwidth > 1e11  # the slowest GPU that the kernels are compiled for has more
