"""Fixtures: a small network with everything in it, its artefacts, and the folder of the real CIFAR-10."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from rc_deploy import checkpoint, models
from rc_deploy.assignment import PrecisionOptions, assign
from rc_deploy.checkpoint import Checkpoint
from rc_deploy.cli import main
from rc_deploy.engine import BuildOptions, build
from rc_deploy.export import export
from rc_deploy.specs import Calibration, CalibrationMethod, InputSpec, Precision

if TYPE_CHECKING:
    from collections.abc import Callable

CALIBRATION = Calibration("random:1", 200, CalibrationMethod.MINMAX)
# A shell's background job begins by ignoring Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SPEC = InputSpec((3, 16, 16), (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), tuple("abcdefghij"))


def randomised(network: torch.nn.Module, shape: tuple[int, int, int], seed: int = 0) -> torch.nn.Module:
    """Leave no part of a network idle, and give its BatchNorms the statistics of its activations, as training does."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 0.2)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
            module.momentum = None  # the plain mean over all batches seen
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0.0, 0.3 * module.in_features**-0.5)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, 0.0, 0.2)
    with torch.no_grad():
        network.train()(torch.randn(8, *shape))
    return network.eval()


def plant_in_bodies(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Write `new` for `old` into every body of an `rc` operator."""
    parse = onnx.parser.parse_function
    monkeypatch.setattr("onnx.parser.parse_function", lambda text: parse(text.replace(old, new)))


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResCNet-8 with GCLU, so that both of the paper's ideas are in it, with weights as if trained."""
    arguments = {"num_classes": 10, "activation": "gclu"}
    torch.manual_seed(0)  # PyTorch begins with another seed in each process
    network = randomised(models.create("rescnet8", arguments), SPEC.shape)
    path = tmp_path_factory.mktemp("small") / "small.pt"
    checkpoint.save(Checkpoint("rescnet8", arguments, SPEC, network.state_dict()), path)
    return path


@pytest.fixture(scope="session")
def small_onnx(small_checkpoint: Path) -> Path:
    """The small network, exported."""
    path = small_checkpoint.with_suffix(".onnx")
    export(small_checkpoint, path)
    return path


@pytest.fixture(scope="session")
def small_engine(small_onnx: Path) -> Path:
    """The small network, built as fp16 by TensorRT-RTX."""
    path = small_onnx.with_suffix(".fp16.engine")
    build(small_onnx, path, BuildOptions(precision=Precision.FP16, backend="tensorrt-rtx"))
    return path


@pytest.fixture(scope="session")
def small_typed(small_onnx: Path) -> dict[Precision, Path]:
    """The typed graphs of the small network that are proven by parts, without engines."""
    model = onnx.load(small_onnx)
    paths = {}
    for precision in (Precision.BF16, Precision.INT8, Precision.FP8):
        options = PrecisionOptions(precision, (), CALIBRATION if precision.quantised else None)
        paths[precision] = small_onnx.with_suffix(f".typed.{precision}.onnx")
        onnx.save(assign(model, options, "small").graph, paths[precision])
    return paths


@pytest.fixture(scope="session")
def cifar10_folder() -> Path:
    """The folder that RC_DATA names, holding the real CIFAR-10."""
    if "RC_DATA" not in os.environ:
        pytest.skip("wants the real CIFAR-10: unpack its binary version into DIR and run RC_DATA=DIR make test")
    return Path(os.environ["RC_DATA"])


@pytest.fixture(scope="session")
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `rc-deploy` with these arguments as a process of its own."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rc_deploy", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "COLUMNS": "200", **environment},
        )

    return run


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """Run a command in this process: exit code and standard error."""

    def run(*arguments: object) -> tuple[object, str]:
        monkeypatch.setenv("COLUMNS", "400")
        monkeypatch.setattr(sys, "argv", ["rc-deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(0)
