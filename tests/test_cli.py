"""The command line: it starts at once, validates with exit codes, speaks JSON, and is listed in the README."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from onnx import numpy_helper
from typer.main import get_command

from rc_deploy import __version__, checkpoint
from rc_deploy.cli import main
from rc_deploy.cli.app import application
from rc_deploy.cli.options import number
from rc_deploy.doctor import doctor as diagnose
from rc_deploy.errors import InputError, ParityError, exit_codes, reason
from rc_deploy.files import sha256
from rc_deploy.gpu import Driver, Gpu
from rc_deploy.validate import ValidateOptions, validate
from report_documents import validation, write

Run = Callable[..., subprocess.CompletedProcess[str]]
RunHere = Callable[..., tuple[object, str]]
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
    "scipy",
    "PIL",
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
    for command in (
        "train",
        "plot",
        "results",
        "export",
        "build",
        "validate",
        "bench",
        "report",
        "inspect",
        "check",
        "doctor",
    ):
        assert f"  {command}  " in result.stdout


@pytest.mark.parametrize(
    "arguments", [("build", "--help"), ("build", "--no-such-option"), ("build", "no.onnx"), ("--help",), ("buidl",)]
)
def test_a_command_made_alone_says_what_it_says_among_all(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["rc-deploy", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    alone = said()
    assert "".join(alone[1:])
    monkeypatch.setattr("rc_deploy.cli.app.application", lambda _: application())
    assert said() == alone


def test_version(cli: Run) -> None:
    assert cli("--version").stdout == f"rc-deploy {__version__}\n"


def test_deployment_half_needs_no_torch(small_onnx: Path, tmp_path: Path) -> None:
    """Build, validate, bench and inspect on ONNX files, in a process in which torch cannot be imported."""
    for arguments in (
        ["build", str(small_onnx), "--fp16", "-o", str(tmp_path / "m.engine")],
        ["validate", str(small_onnx), "-r", str(small_onnx), "--data", "random:0"],
        ["validate", str(tmp_path / "m.engine"), "-r", str(small_onnx), "--data", "random:0"],
        ["bench", str(small_onnx), "--batch", "1", "--seconds", "0", "--loads", "2"],
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
        ("sklearn", ("train", "digits", "--run", "{onnx}.run"), "data"),
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


def test_a_wrong_option_is_named_before_a_missing_library(small_onnx: Path, here: RunHere) -> None:
    code, stderr = here("build", small_onnx, "--fp16", "--bf16", "--backend", "tensorrt-rtx")
    assert (code, "exclude each other" in stderr) == (InputError.exit_code, True), stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rc_deploy.engine.library.is_installed", lambda _: False)
        assert here("build", small_onnx, "--fp16", "--bf16", "--backend", "tensorrt-rtx") == (code, stderr)


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
        ("export", small_checkpoint, tmp_path / "exported.onnx"),
        ("build", small_onnx, "--fp16", "-o", tmp_path / "m.engine"),
        ("validate", small_engine, "-r", small_checkpoint, "--data", "random:0"),
        ("bench", small_onnx, "--batch", "1", "--seconds", "0", "--loads", "2"),
        ("inspect", small_checkpoint),
        ("inspect", small_engine),
        ("inspect", small_onnx),
        ("report", tmp_path / "m.engine.json", "-o", tmp_path / "r.html"),
        ("doctor",),
    ):
        result = cli(*arguments, "--json", "-")
        assert result.returncode == 0, result.stderr
        assert isinstance(json.loads(result.stdout), dict), arguments


def test_every_command_has_json() -> None:
    commands = get_command(application()).commands  # type: ignore[attr-defined]
    plots = commands.pop("plot").commands
    toolkit = {"export", "build", "validate", "bench", "report", "inspect", "check", "download", "doctor"}
    assert toolkit | {"train", "results"} == set(commands)
    assert {"curves", "responses"} == set(plots)
    for name, command in (commands | plots).items():
        assert "--json" in {option for parameter in command.params for option in parameter.opts}, name


def test_report_says_as_json_what_it_says_to_people(cli: Run, tmp_path: Path) -> None:
    write(tmp_path, {"v.json": validation()})
    output = tmp_path / "r.html"
    result = cli("report", tmp_path / "v.json", "-o", output, "--json", tmp_path / "summary.json")
    document = json.loads((tmp_path / "summary.json").read_text())
    assert (document["verdict"], document["passed"]) == ("PASS", True)
    assert document["rows"][0]["label"] == "PASS"
    assert document["rows"][0]["value"].split()[0] in result.stdout
    assert (document["output"], document["sha256"]) == (str(output), sha256(output))


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate", "m.onnx", "-r", "c.pt", "--data", "random:0", "--min-agreement", "nan"),
        ("validate", "m.onnx", "-r", "c.pt", "--data", "random:0", "--min-agreement", "101"),
        ("validate", "m.onnx", "-r", "c.pt", "--data", "random:0", "--max-accuracy-drop", "nan"),
        ("validate", "m.onnx", "-r", "c.pt", "--data", "random:0", "--max-accuracy-drop", "101"),
        ("validate", "m.onnx", "-r", "c.pt", "--data", "random:0", "--batch", "65537"),
        ("bench", "m.onnx", "--seconds", "nan"),
        ("bench", "m.onnx", "--seconds", "inf"),
        ("bench", "m.onnx", "--seconds", "-1"),
        ("bench", "m.onnx", "--threads", str((os.cpu_count() or 1) + 1)),
        ("export", "c.pt", "m.onnx", "--static-batch", "65537"),
    ],
)
def test_numbers_without_sense_are_wrong_use(arguments: tuple[str, ...], here: RunHere) -> None:
    code, stderr = here(*arguments)
    assert code == 2, stderr
    assert "Invalid value for '--" in stderr


def test_nan_is_refused_by_name() -> None:
    """Also where the framework's own range lets it pass, as older ones do."""
    with pytest.raises(typer.BadParameter, match="nan is not a number"):
        number(math.nan)
    assert number(99.5) == 99.5
    assert number(None) is None


@pytest.mark.parametrize("batch", ["65537", "999999999", "1:8:65537", "9999999999"])
def test_batches_beyond_reason_are_refused(batch: str, small_onnx: Path, tmp_path: Path, here: RunHere) -> None:
    """They crash inference libraries, past any handling of errors."""
    code, stderr = here("build", small_onnx, "--batch", batch, "-o", tmp_path / "m.engine")
    assert code == InputError.exit_code
    assert "65536" in stderr
    code, stderr = here("bench", small_onnx, "--batch", batch.rpartition(":")[2])
    assert code == InputError.exit_code
    assert "65,536" in stderr


def test_batches_beyond_memory_are_refused(small_onnx: Path, monkeypatch: pytest.MonkeyPatch, here: RunHere) -> None:
    monkeypatch.setattr("rc_deploy.bench.side_by_side.LARGEST_INPUT", 10 * 3 * 16 * 16)
    code, stderr = here("bench", small_onnx, "--batch", "1,11", "--seconds", "0")
    assert code == InputError.exit_code
    assert "11 images (3, 16, 16) would take too much memory" in stderr
    assert "at most 10" in stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "cifar10-rescnet8", "--run", "{folder}/run", "-o", "{folder}/new.pt"),
        ("validate", "{onnx}", "-r", "{onnx}", "--data", "cifar10:test"),
    ],
)
def test_the_option_that_a_hint_names_is_there(
    arguments: tuple[str, ...], small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: RunHere
) -> None:
    monkeypatch.delenv("RC_DATA", raising=False)
    filled = [argument.format(onnx=small_onnx, folder=tmp_path) for argument in arguments]
    code, stderr = here(*filled)
    assert code == InputError.exit_code
    assert "pass --data-dir DIR" in stderr
    code, stderr = here(*filled, "--data-dir", tmp_path)
    assert code == InputError.exit_code
    assert f"There is no cifar10 in {tmp_path}" in stderr


def test_engine_alone_asks_for_its_manifest(small_engine: Path, tmp_path: Path, here: RunHere) -> None:
    engine = shutil.copy(small_engine, tmp_path / "m.engine")
    code, stderr = here("inspect", engine)
    assert code == InputError.exit_code
    assert f"The engine {engine} has no manifest: there is no {engine}.json." in stderr
    assert "that `rc-deploy build` wrote beside it" in stderr


def test_next_command_can_be_pasted(cli: Run, small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    for arguments, index in (
        (("export", small_checkpoint, tmp_path / "it's a model.onnx"), 2),
        (("build", small_onnx, "-o", tmp_path / ("a b" * 60 + ".engine")), 2),
    ):
        result = cli(*arguments)
        line = next(line for line in result.stdout.splitlines() if line.startswith("next: "))
        assert shlex.split(line.removeprefix("next: "))[index] == str(arguments[-1])


def test_reasons_of_libraries_are_one_line_without_their_stack() -> None:
    try:
        torch.zeros(-1)
    except RuntimeError as error:
        raised = f"{error}\nException raised from check_size_nonnegative at EmptyTensor.cpp:24\nframe #0: c10::Error"
        assert reason(RuntimeError(raised)) == str(error).splitlines()[0]
    assert reason(RuntimeError("one\n  two\nStacktrace:\n at x.cc")) == "one two"
    assert reason(MemoryError()) == "MemoryError"
    assert len(reason(ValueError("x" * 10_000))) == 301


def test_hostile_arguments_show_no_stack(small_checkpoint: Path) -> None:
    with pytest.raises(InputError) as caught:
        replace(checkpoint.load(small_checkpoint), arguments={"num_classes": -1}).module()
    assert "\n" not in str(caught.value)
    assert "frame #" not in str(caught.value)


def test_networks_that_differ_are_told_apart_shortly(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    saved = checkpoint.load(small_checkpoint)

    reference = tmp_path / "other.pt"
    for changes, words in (
        ({"classes": tuple(f"class {index}" for index in range(1000))}, "belong together: classes: 10, not 1,000."),
        ({"classes": ("z" * 500, *saved.input.classes[1:])}, f"classes[0] is 'a', not '{'z' * 39}."),
        ({"mean": (0.5, 0.4, 0.31)}, "belong together: mean[2] is 0.3, not 0.31."),
        ({"shape": (3, 8, 8)}, "belong together: images are (3, 16, 16), not (3, 8, 8)."),
    ):
        checkpoint.save(replace(saved, input=replace(saved.input, **changes)), reference)
        with pytest.raises(InputError) as caught:
            validate(small_onnx, reference, ValidateOptions("random:0"))
        assert words in str(caught.value)
        assert len(str(caught.value)) < 600


def test_doctor_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rc_deploy.doctor.driver", lambda: Driver("13.0", (Gpu("RTX 4090", "8.9"),)))
    monkeypatch.setattr("rc_deploy.doctor.why_not", lambda _: "it is not installed")
    for pycuda in (True, False):
        installed = {"pycuda": pycuda}
        monkeypatch.setattr("rc_deploy.doctor.is_installed", lambda name, known=installed: known.get(name, True))
        checks = {check.name: check for check in diagnose().checks}
        assert checks["run engines on a GPU"].works == pycuda
        assert "RTX 4090" in checks["run engines on a GPU"].detail
    assert "PyCUDA is missing" in checks["run engines on a GPU"].detail
    assert checks["run engines on a GPU"].remedy == "pip install 'rc-deploy[gpu]'"
    assert not checks["build --int8, --fp8"].works
    assert checks["build --int8, --fp8"].detail == "no backend builds here"
    assert checks["build --int8, --fp8"].remedy


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
