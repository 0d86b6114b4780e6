"""Benchmarks: what is measured and how it is summarised. Times themselves are never asserted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rc_deploy import bench as bench_module
from rc_deploy.bench import BenchOptions, bench
from rc_deploy.errors import InputError, UnsupportedError


def test_every_artefact_at_every_batch_size(small_checkpoint: Path, small_onnx: Path) -> None:
    options = BenchOptions(batches=(1, 3), seconds=0.1, threads=1)
    outcome = bench([small_checkpoint, small_onnx], options)
    assert [(timing.batch, timing.artefact) for timing in outcome.timings] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    for timing in outcome.timings:
        assert timing.rounds >= bench_module.LEAST_ROUNDS
        assert 0 < timing.fastest <= timing.p50 <= timing.p90 <= timing.p99
        assert timing.images_per_second == pytest.approx(1000 * timing.batch / timing.p50)
    document = json.loads(json.dumps(outcome.to_json()))
    assert "ONNX Runtime" in document["artefacts"][1]["runner"]
    assert "1 threads" in document["artefacts"][1]["runner"]


def test_summary_of_known_times() -> None:
    times = np.array([[0.002, 0.001], [0.004, 0.001], [0.006, 0.002]])
    timing = bench_module._summarise(1, 8, times)
    assert (timing.p50, timing.fastest, timing.rounds) == (1.0, 1.0, 3)
    assert timing.images_per_second == pytest.approx(8000)
    assert timing.ratio == pytest.approx(3.0)  # the rounds' ratios are 2, 4 and 3
    assert timing.ratio_spread == pytest.approx((2.5, 3.5))


class Recorder:
    """Writes down in which order runners are run."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def run(self, images: object) -> object:
        self.log.append(self.name)
        return images


def test_runs_are_interleaved_and_warm_up_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "SETTLE", 0)
    log: list[str] = []
    runners = [Recorder("a", log), Recorder("b", log)]
    times = bench_module._measure(runners, np.zeros((1, 1, 1, 1), np.float32), 0.0)  # type: ignore[arg-type]
    assert log == ["a", "a", "b", "b"] * (len(log) // 4)
    assert len(times) == bench_module.LEAST_ROUNDS < len(log) // 4


def test_engines_are_not_timed_on_a_cpu(small_engine: Path) -> None:
    with pytest.raises(UnsupportedError, match="cannot be timed"):
        bench([small_engine])


def test_artefacts_must_take_the_same_images(small_checkpoint: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from rc_deploy import checkpoint

    saved = checkpoint.load(small_checkpoint)
    checkpoint.save(replace(saved, input=replace(saved.input, shape=(3, 8, 8))), tmp_path / "other.pt")
    with pytest.raises(InputError, match="different shapes"):
        bench([small_checkpoint, tmp_path / "other.pt"])
