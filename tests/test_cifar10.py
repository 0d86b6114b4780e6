"""The whole pipeline on the real CIFAR-10, through the command line, as the README shows it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def artefacts(cli: Run, cifar10_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResCNet-8 trained for two epochs, exported and built as float16."""
    folder = tmp_path_factory.mktemp("cifar10")
    for arguments in (
        ("train", "cifar10-rescnet8", "--data", cifar10_folder, "--run", folder, "--set", "epochs=2"),
        ("export", folder / "checkpoint.pt", folder / "model.onnx"),
        ("build", folder / "model.onnx", "--fp16", "--backend", "tensorrt-rtx"),
    ):
        result = cli(*arguments, timeout=1500)
        assert result.returncode == 0, result.stderr
    return folder


def validate(cli: Run, artefact: Path, data: Path) -> dict[str, Any]:
    reference = artefact.with_name("checkpoint.pt")
    options = ("--data", "cifar10:test", "--data-dir", data, "--json", "-")
    result = cli("validate", artefact, "--reference", reference, *options)
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


# Training, on two cores, takes minutes.
@pytest.mark.cifar
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "least_agreement"), [("model.onnx", 100.0), ("model.fp16.onnx", 99.8), ("model.fp16.engine", 99.8)]
)
def test_all_test_images_agree(
    name: str, least_agreement: float, artefacts: Path, cli: Run, cifar10_folder: Path
) -> None:
    document = validate(cli, artefacts / name, cifar10_folder)
    (validation,) = document["validations"]
    comparison = validation["comparison"]
    assert comparison["images"] == 10_000
    assert comparison["agreement"] >= least_agreement
    assert document["passed"]
    # Far above chance (10%): what is compared is a trained network.
    assert comparison["reference_accuracy"] > 40
    assert comparison["artefact_accuracy"] == pytest.approx(comparison["reference_accuracy"], abs=0.2)
