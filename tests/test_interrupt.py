"""Ctrl-C at any moment: one line, exit code 130, no traceback, whatever is being imported or run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

# What a module does in which Ctrl-C arrives while it is imported; NumPy and others make an ImportError of it.
PLAIN = "os.kill(os.getpid(), signal.SIGINT); time.sleep(30)"
TURNED = """
    try:
        os.kill(os.getpid(), signal.SIGINT); time.sleep(30)
    except BaseException as error:
        raise ImportError("the C extensions failed to load") from error
"""


def run(folder: Path, module: str, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with `module` replaced by one in which Ctrl-C arrives."""
    (folder / f"{module}.py").write_text("import os, signal, time\n" + textwrap.dedent(body))
    return subprocess.run(
        [sys.executable, "-m", "rc_deploy", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


def assert_interrupted(returncode: int | None, stderr: str) -> None:
    assert returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.strip().splitlines()[-1] == "Interrupted. Each output file is as it was, or complete."


@pytest.mark.parametrize("body", [PLAIN, TURNED], ids=["plain", "turned"])
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ("--help",)),
        ("rich", ("doctor",)),
        ("onnx", ("inspect", "x.onnx")),
        ("numpy", ("validate", "x.onnx", "-r", "x.onnx", "--data", "random:0")),
        ("torch", ("train", "digits", "-o", "x.pt")),
    ],
)
def test_while_modules_are_imported(module: str, body: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = run(tmp_path, module, body, *arguments)
    assert_interrupted(result.returncode, result.stderr)


def test_from_the_outside(tmp_path: Path) -> None:
    """A signal from another process, at the first sign of life of ours."""
    (tmp_path / "typer.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(30)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "rc_deploy", "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert_interrupted(process.returncode, stderr)


def test_while_a_command_runs(tmp_path: Path) -> None:
    """Where the framework, without us, would say `Aborted!` and nothing else."""
    script = (
        "import os, signal, sys, time\n"
        "from rc_deploy import doctor\n"
        "def slow():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(30)\n"
        "doctor.doctor = slow\n"
        "sys.argv = ['rc-deploy', 'doctor']\n"
        "from rc_deploy.cli import main\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert_interrupted(result.returncode, result.stderr)
    assert "Aborted" not in result.stderr


def test_where_it_is_ignored_it_stays_ignored(tmp_path: Path) -> None:
    """A shell's background job."""
    (tmp_path / "typer.py").write_text(
        "import os, signal, sys\nos.kill(os.getpid(), signal.SIGINT)\nprint('unharmed')\nsys.exit(0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "rc_deploy", "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert (result.returncode, result.stdout) == (0, "unharmed\n"), result.stderr


def test_the_entry_point_imports_next_to_nothing() -> None:
    """What is imported before the boundary is in place is where Ctrl-C still gives Python's own traceback."""
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from rc_deploy.cli import main\n"
        "print(*sorted(name for name in set(sys.modules) - before if name.partition('.')[0] != 'rc_deploy'))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('rc_deploy')))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    foreign, ours = (line.split() for line in result.stdout.splitlines())
    assert ours == ["rc_deploy", "rc_deploy.cli", "rc_deploy.cli.boundary", "rc_deploy.errors"]
    assert not {name.partition(".")[0] for name in foreign} - sys.stdlib_module_names
