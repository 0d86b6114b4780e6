"""docs/kernels.md predicts from these sources, and its outcomes are those of the records."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import kernel_predictions
import marked
from kernel_predictions import BANDWIDTH, Launch, bandwidth, main
from kernel_resources import PAGE, Resources, recorded
from native_cpu import exported
from outcomes import NOT_RUN, Records
from rc_deploy.graph.fuse import fused

NONE = Records(None, None)


def resources(registers: int, shared: int = 0, threads: int = 256) -> Resources:
    return Resources("GCLU", "float16", 90, registers, 0, shared, threads)


def test_page_says_what_these_sources_predict() -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc, which compiles the plan of whole tails")
    assert main(["--check"]) == 0


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        (Launch(resources(64), 256), (4, "registers")),
        (Launch(resources(57), 256), (4, "registers")),  # given out by the 8
        (Launch(resources(56), 256), (4, "registers")),
        (Launch(resources(48), 256), (5, "registers")),
        (Launch(resources(32), 256), (8, "threads")),
        (Launch(resources(16, shared=40 << 10), 256), (5, "shared memory")),
        (Launch(resources(64), 1024, 200_000), (1, "shared memory")),
        (Launch(resources(16), 32), (32, "blocks")),
    ],
)
def test_blocks_of_a_processor(launch: Launch, expected: tuple[int, str]) -> None:
    assert launch.resident() == expected


def rows(records: Records) -> dict[tuple[str, str], list[str]]:
    stated = {
        (one.kernel, one.type): one for one in recorded(PAGE.read_text(encoding="utf-8"))[1] if one.capability == 90
    }
    found = marked.cells(bandwidth(stated, lambda *_: (1, 1, 512, 66_000, 65_552), records))
    return {(name, type_name): rest for name, type_name, *rest in found}


def test_outcomes_are_those_of_the_records() -> None:
    before = rows(NONE)
    assert {tuple(cells[-2:]) for cells in before.values()} == {(NOT_RUN, NOT_RUN)}
    measured: dict[str, Any] = {"bandwidth": {"float16": {"GCLU": {"median_tb_per_s": 3.7, "share_of_copy": 0.912}}}}
    after = rows(Records({"parts": {"bandwidth": {"measured": measured}}}, None))
    assert after.pop(("GCLU", "float16"))[-2:] == ["0.222 ms", "0.91"]
    del before["GCLU", "float16"]
    assert after == before


def test_times_are_those_of_the_bytes() -> None:
    moved, *times = rows(NONE)["CalibratedResidual", "float16"][:3]
    megabytes = 3 * 2 * 256 * 256 * 56 * 56 / 1e6
    assert moved == f"{megabytes:,.0f} MB"
    assert times == [f"{megabytes * 1e9 / (0.85 * speed):.3f} ms" for speed in BANDWIDTH.values()]


def test_nodes_of_networks_are_those_of_the_page(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    models = {name: exported(name, tmp_path) for name in ("resnet32", "rescnet32")}
    graphs = {
        "ResNet-32": models["resnet32"],
        "ResCNet-32, rc nodes": models["rescnet32"],
        "ResCNet-32, fused tails": fused(models["rescnet32"]),
    }
    for name, model in graphs.items():
        assert f"| {name} | {len(model.graph.node)} |" in text
    kinds = Counter(node.op_type for node in graphs["ResCNet-32, rc nodes"].graph.node)
    # One pooling and one matrix product are the network's own head.
    assert (kinds["ReduceMean"], kinds["Gemm"], kinds["ResponseCalibration"]) == (15 + 1, 45 + 1, 15)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def no_nvcc(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "nvcc")

    monkeypatch.setattr("subprocess.run", no_nvcc)
    assert kernel_predictions.main(["--check"]) == 1
    assert "nvcc" in capsys.readouterr().err
