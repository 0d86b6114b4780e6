"""The command line: it starts at once, validates with exit codes, speaks JSON, and is listed in the README."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rc_deploy import __version__
from rc_deploy.errors import ParityError, exit_codes

Run = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "numpy",
    "matplotlib",
    "jinja2",
    "sklearn",
    "kornia",
)
README = Path(__file__).parents[1] / "README.md"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "sys.argv = ['rc-deploy', '--help']\n"
        "from rc_deploy.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "LOADED []" in result.stdout
    for command in ("train", "export", "build", "validate", "bench", "report", "inspect", "doctor"):
        assert command in result.stdout


def test_version(cli: Run) -> None:
    assert cli("--version").stdout == f"rc-deploy {__version__}\n"


def test_deployment_half_needs_no_torch(small_onnx: Path, tmp_path: Path) -> None:
    """Build, validate, bench and inspect on ONNX files, in a process in which torch cannot be imported."""
    for arguments in (
        ["build", str(small_onnx), "--fp16", "-o", str(tmp_path / "m.engine")],
        ["validate", str(small_onnx), "-r", str(small_onnx), "--data", "random:0"],
        ["validate", str(tmp_path / "m.engine"), "-r", str(small_onnx), "--data", "random:0"],
        ["bench", str(small_onnx), "--batch", "1", "--seconds", "0.1"],
        ["inspect", str(small_onnx)],
    ):
        script = (
            "import sys\n"
            "sys.modules['torch'] = None\n"
            f"sys.argv = ['rc-deploy', *{arguments!r}]\n"
            "from rc_deploy.cli import main\n"
            "main()\n"
        )
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, (arguments, result.stderr)


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("onnxruntime", ("validate", "{onnx}", "-r", "{onnx}", "--data", "random:0"), "cpu"),
        ("torch", ("inspect", "{checkpoint}"), "export"),
        ("onnxscript", ("export", "{checkpoint}", "out.onnx"), "export"),
        ("tensorrt_rtx", ("build", "{onnx}", "--backend", "tensorrt-rtx", "-o", "{onnx}.engine"), "rtx"),
        ("sklearn", ("train", "digits"), "train"),
        ("kornia", ("train", "digits"), "train"),
        ("torch", ("train", "digits"), "train"),
    ],
)
def test_missing_package_names_its_extra(
    package: str, arguments: tuple[str, ...], extra: str, small_onnx: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    filled = [argument.format(onnx=small_onnx, checkpoint=small_checkpoint) for argument in arguments]
    script = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {package!r} else find(name, *rest)\n"
        f"sys.argv = ['rc-deploy', *{filled!r}]\n"
        "from rc_deploy.cli import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert result.returncode == 5, result.stderr
    assert f"pip install 'rc-deploy[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_validate_exit_code_says_fail(cli: Run, small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = numpy_helper.to_array(tensor) * np.float32(1.01)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    arguments = ("-r", small_checkpoint, "--data", "random:0", "--json", tmp_path / "validation.json")
    result = cli("validate", tmp_path / "wrong.onnx", *arguments)
    assert result.returncode == ParityError.exit_code
    assert "FAIL" in result.stdout
    assert "does not compute what" in result.stderr
    assert json.loads((tmp_path / "validation.json").read_text())["passed"] is False


def test_every_command_speaks_json(
    cli: Run, small_checkpoint: Path, small_onnx: Path, small_engine: Path, tmp_path: Path
) -> None:
    for arguments in (
        ("export", small_checkpoint, tmp_path / "m.onnx"),
        ("build", small_onnx, "--fp16", "-o", tmp_path / "m.engine"),
        ("validate", small_engine, "-r", small_checkpoint, "--data", "random:0"),
        ("bench", small_onnx, "--batch", "1", "--seconds", "0.1"),
        ("inspect", small_checkpoint),
        ("inspect", small_engine),
        ("doctor",),
    ):
        result = cli(*arguments, "--json", "-")
        assert result.returncode == 0, result.stderr
        assert isinstance(json.loads(result.stdout), dict), arguments


def test_inspect_and_doctor_speak_to_people(
    cli: Run, small_checkpoint: Path, small_onnx: Path, small_engine: Path
) -> None:
    assert "checkpoint: rescnet8" in cli("inspect", small_checkpoint).stdout
    assert "fp32 ONNX of rescnet8" in cli("inspect", small_onnx).stdout
    assert "fp16 engine for tensorrt-rtx" in cli("inspect", small_engine).stdout
    doctor = cli("doctor").stdout
    assert "pip install 'rc-deploy[tensorrt]'" in doctor
    assert "libcuda" in doctor or "compute capability" in doctor


def test_bugs_keep_their_traceback() -> None:
    script = (
        "import sys\n"
        "from rc_deploy import inspection\n"
        "def broken(path): raise RuntimeError('a bug')\n"
        "inspection.inspect = broken\n"
        "sys.argv = ['rc-deploy', 'inspect', 'x']\n"
        "from rc_deploy.cli import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "RuntimeError: a bug" in result.stderr


def test_readme_lists_the_exit_codes_of_the_code() -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert {int(code): text for code, text in table.items()} == exit_codes()
